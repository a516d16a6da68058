/* SPDX-License-Identifier: MIT */
/*
 * The summary, for people and for programs.
 */
#ifndef TORTURE_REPORT_H
#define TORTURE_REPORT_H

#include <stdio.h>

#include "run.h"

void report_text(FILE *out, const struct options *options, const struct results *results);
/* Of several scenarios together. */
struct totals {
	uint64_t scenarios, lookups, answers, operations, versions;
	double seconds;
};

void report_add(struct totals *totals, const struct results *results);
void report_totals(FILE *out, const struct totals *totals);
/* One object, without a newline behind it. */
void report_json(FILE *out, const struct options *options, const struct results *results);

#endif
