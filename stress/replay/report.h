/* SPDX-License-Identifier: MIT */
/*
 * The summary, for people and for programs.
 */
#ifndef REPLAY_REPORT_H
#define REPLAY_REPORT_H

#include <stdio.h>

#include "run.h"
#include "timing.h"
#include "trace.h"

void report_text(FILE *out, const struct options *options, const char *name,
		 const struct trace *trace, const struct stage *stage,
		 const struct results *results);
/* One object, without a newline behind it. */
void report_json(FILE *out, const struct options *options, const char *name,
		 const struct trace *trace, const struct stage *stage,
		 const struct results *results);

/* The same of --time. */
void report_timing_text(FILE *out, const char *name, const struct timing *timing);
void report_timing_json(FILE *out, const char *name, const struct timing *timing);

#endif
