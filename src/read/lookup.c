/* SPDX-License-Identifier: MIT */
/*
 * Lookups without vector registers, and the choice between the sets.
 */
#include "read/lookup.h"

#include "tree/vector/portable.h"

#include "read/lookup_body.h"

/* Fastest first. */
static const struct asp_lookup *const sets[] = {
#ifdef ASP_VECTOR_X86
	&asp_lookup_avx512,
	&asp_lookup_avx2,
#endif
#ifdef ASP_VECTOR_NEON
	&asp_lookup_neon,
#endif
	&asp_lookup_portable,
};

const struct asp_lookup *asp_lookup_best(void)
{
#ifndef ASP_TSAN /* which sees no access of more than 16 bytes */
	for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		if (asp_vector_runs(sets[i]->vector))
			return sets[i];
	}
#endif
	return &asp_lookup_portable;
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

const struct asp_lookup *asp_lookup_named(const char *name)
{
	for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		if (same(sets[i]->vector->name, name) && asp_vector_runs(sets[i]->vector))
			return sets[i];
	}
	return NULL;
}
