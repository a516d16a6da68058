/* SPDX-License-Identifier: MIT */
/*
 * Lookups without vector registers, and the choice between the sets.
 */
#include "read/lookup.h"

#include "tree/vector/portable.h"

#include "read/lookup_body.h"

const struct asp_lookup *const asp_lookups[] = {
#ifdef ASP_VECTOR_X86
	&asp_lookup_avx512,   &asp_lookup_avx2,
#endif
#ifdef ASP_VECTOR_NEON
	&asp_lookup_neon,
#endif
	&asp_lookup_portable, NULL,
};

const struct asp_lookup *asp_lookup_best(void)
{
#ifndef ASP_TSAN /* which sees no access of more than 16 bytes */
	for (unsigned i = 0; asp_lookups[i]; i++) {
		if (asp_vector_runs(asp_lookups[i]->vector))
			return asp_lookups[i];
	}
#endif
	return &asp_lookup_portable;
}
