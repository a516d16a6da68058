/* SPDX-License-Identifier: MIT */
/*
 * Lookups by Advanced SIMD: two keys a register; a comparison answers with minus one for
 * each that is met, and minus ones are added up.
 */
#include "lookup.h"

#ifdef ASP_LOOKUP_NEON
#include <arm_neon.h>

#define LOOKUP        asp_lookup_neon
#define LOOKUP_NAME   "neon"
#define LOOKUP_TARGET /* every CPU that this build is for has it */

static inline unsigned count_le(const uint64_t *key, unsigned total, uint64_t address)
{
	uint64x2_t a = vdupq_n_u64(address);
	uint64x2_t even = vdupq_n_u64(0), odd = even;

	/* Two sums, so that one addition need not wait for another. */
	for (unsigned i = 0; i + 2 < total; i += 4) {
		even = vaddq_u64(even, vcleq_u64(vld1q_u64(key + i), a));
		odd = vaddq_u64(odd, vcleq_u64(vld1q_u64(key + i + 2), a));
	}
	if (total % 4)
		even = vaddq_u64(even, vcleq_u64(vld1q_u64(key + total - 2), a));
	return (unsigned)(0 - vaddvq_u64(vaddq_u64(even, odd)));
}

#include "lookup_body.h"
#endif
