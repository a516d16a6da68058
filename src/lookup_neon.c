/* SPDX-License-Identifier: MIT */
/*
 * Lookups by Advanced SIMD: two keys a register; a comparison answers with minus one for
 * each that is met, and minus ones are added up.
 */
#include "lookup.h"

#ifdef ASP_LOOKUP_NEON
#include <arm_neon.h>

#include "tree/search.h"

#define LOOKUP        asp_lookup_neon
#define LOOKUP_NAME   "neon"
#define LOOKUP_TARGET /* every CPU that this build is for has it */
#define LOOKUP_WIDTH  16

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

static inline unsigned not_less(const uint64_t *value, uint64_t least)
{
	static const uint64_t bit[ASP_INNER_MAX] = {
		1u << 0, 1u << 1, 1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,
		1u << 8, 1u << 9, 1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15,
	};
	uint64x2_t l = vdupq_n_u64(least), bits = vdupq_n_u64(0);

	for (unsigned i = 0; i < ASP_INNER_MAX; i += 2)
		bits = vorrq_u64(bits,
				 vandq_u64(vcgeq_u64(vld1q_u64(value + i), l), vld1q_u64(bit + i)));
	return (unsigned)vaddvq_u64(bits);
}

static inline unsigned differ_by(const uint64_t *above, const uint64_t *below, uint64_t least)
{
	uint64_t between[ASP_INNER_MAX];

	for (unsigned i = 0; i < ASP_INNER_MAX; i += 2)
		vst1q_u64(between + i, vsubq_u64(vld1q_u64(above + i), vld1q_u64(below + i)));
	return not_less(between, least);
}

#define inner_gap asp_inner_gap

#include "lookup_body.h"
#endif
