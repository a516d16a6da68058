/* SPDX-License-Identifier: MIT */
#include "tree/vector/vector.h"

static const struct asp_vector *const vectors[] = {
#ifdef ASP_VECTOR_X86
	&asp_vector_avx512,
	&asp_vector_avx2,
#endif
#ifdef ASP_VECTOR_NEON
	&asp_vector_neon,
#endif
	&asp_vector_portable,
};

const struct asp_vector *asp_vector_at(unsigned at)
{
	return at < sizeof(vectors) / sizeof(vectors[0]) ? vectors[at] : NULL;
}

bool asp_vector_runs(const struct asp_vector *vector)
{
#ifdef ASP_VECTOR_X86
	/* The compiler's run time asks CPUID once, and whether the system saves the registers. */
	if (vector == &asp_vector_avx512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("popcnt");
	if (vector == &asp_vector_avx2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#endif
	return vector;
}
