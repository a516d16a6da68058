/* SPDX-License-Identifier: MIT */
/*
 * The summary, for people and for programs.
 */
#ifndef TORTURE_REPORT_H
#define TORTURE_REPORT_H

#include <stdio.h>

#include "run.h"

void report_text(FILE *out, const struct options *options, const struct results *results);
/* One object, without a newline behind it. */
void report_json(FILE *out, const struct options *options, const struct results *results);

#endif
