/* SPDX-License-Identifier: MIT */
#include "tree/vector/vector.h"

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
