/* SPDX-License-Identifier: MIT */
/*
 * Lookups without vector registers, and the choice between the sets.
 */
#define LOOKUP        asp_lookup_portable
#define LOOKUP_NAME   "portable"
#define LOOKUP_TARGET /* whatever the build is for */
#define LOOKUP_WIDTH  16

#include "tree/search.h"
#define count_below  asp_count_below
#define inner_gap    asp_inner_gap
#define inner_offers asp_inner_offers
#define leaf_offers  asp_leaf_offers

typedef uint64_t asp_bound;

static inline asp_bound spread(uint64_t bound)
{
	return bound;
}

#include "read/lookup_body.h"

/* Fastest first. */
static const struct asp_lookup *const sets[] = {
#ifdef ASP_LOOKUP_X86
	&asp_lookup_avx512,
	&asp_lookup_avx2,
#endif
#ifdef ASP_LOOKUP_NEON
	&asp_lookup_neon,
#endif
	&asp_lookup_portable,
};

static bool cpu_has(const struct asp_lookup *set)
{
#ifdef ASP_LOOKUP_X86
	/* The compiler's run time asks CPUID once, and whether the system saves the registers. */
	if (set == &asp_lookup_avx512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("popcnt");
	if (set == &asp_lookup_avx2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#endif
	return set;
}

const struct asp_lookup *asp_lookup_best(void)
{
#ifndef ASP_TSAN /* which sees no access of more than 16 bytes */
	for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		if (cpu_has(sets[i]))
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
		if (same(sets[i]->name, name) && cpu_has(sets[i]))
			return sets[i];
	}
	return NULL;
}
