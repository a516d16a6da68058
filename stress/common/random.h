/* SPDX-License-Identifier: MIT */
/*
 * xorshift64*: a generator for each thread.
 */
#ifndef STRESS_RANDOM_H
#define STRESS_RANDOM_H

#include <stdint.h>

/* A state, never 0, that is far from those of neighbouring seeds and numbers. */
static inline uint64_t random_seeded(uint64_t seed, uint64_t number)
{
	return ((seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + number) | 1;
}

static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
