/* SPDX-License-Identifier: MIT */
/*
 * Lookups without vector registers, and the choice between the sets.
 */
#include "read/lookup.h"

#include "tree/vector/portable.h"

#include "read/lookup_body.h"

const struct asp_lookup_set *const asp_lookup_sets[] = {
#ifdef ASP_VECTOR_X86
	&asp_lookup_set_avx512,   &asp_lookup_set_avx2,
#endif
#ifdef ASP_VECTOR_NEON
	&asp_lookup_set_neon,
#endif
	&asp_lookup_set_portable, NULL,
};

const struct asp_lookup_set *asp_lookup_set_best(void)
{
#ifndef ASP_TSAN /* which sees no access of more than 16 bytes */
	for (unsigned i = 0; asp_lookup_sets[i]; i++) {
		if (asp_vector_runs(asp_lookup_sets[i]->vector))
			return asp_lookup_sets[i];
	}
#endif
	return &asp_lookup_set_portable;
}
