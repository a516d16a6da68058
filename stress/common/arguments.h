/* SPDX-License-Identifier: MIT */
/*
 * Reading the values of options. False: it was said on the standard error what is wrong.
 */
#ifndef STRESS_ARGUMENTS_H
#define STRESS_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

/* Say that --option=value is not what was wanted; answers false. */
bool argument_bad(const char *option, const char *value, const char *wanted);
bool argument_number(const char *option, const char *text, uint64_t least, uint64_t most,
		     uint64_t *out);
bool argument_seconds(const char *option, const char *text, double *out);
/* The index of `text` in `words`; empty words do not count. */
bool argument_word(const char *option, const char *text, const char *const *words, int count,
		   int *out);

#endif
