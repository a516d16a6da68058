/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* program_invocation_short_name */
#include "arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool argument_bad(const char *option, const char *value, const char *wanted)
{
	fprintf(stderr, "%s: --%s=%s: %s\n", program_invocation_short_name, option, value, wanted);
	return false;
}

bool argument_number(const char *option, const char *text, uint64_t least, uint64_t most,
		     uint64_t *out)
{
	char wanted[80], *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	if (!errno && *text >= '0' && *text <= '9' && !*end && *out >= least && *out <= most)
		return true;
	snprintf(wanted, sizeof(wanted), "not a number from %llu to %llu",
		 (unsigned long long)least, (unsigned long long)most);
	return argument_bad(option, text, wanted);
}

bool argument_seconds(const char *option, const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	if (end != text && !*end && *out >= 0 && *out <= 1e6)
		return true;
	return argument_bad(option, text, "not a time in seconds");
}

bool argument_word(const char *option, const char *text, const char *const *words, int count,
		   int *out)
{
	for (*out = 0; *out < count; ++*out) {
		if (*words[*out] && !strcmp(text, words[*out]))
			return true;
	}
	return argument_bad(option, text, "unknown; see --help");
}
