/* SPDX-License-Identifier: MIT */
/*
 * Searches by Advanced SIMD (vector.h): two keys a register; a comparison answers with minus one
 * for each that is met, and minus ones are added up.
 */
#ifndef ASPACE_TREE_VECTOR_NEON_H
#define ASPACE_TREE_VECTOR_NEON_H

#include <arm_neon.h>

#include "tree/search.h"

#define VECTOR        neon
#define VECTOR_TARGET /* every CPU that this build is for has it */
#define VECTOR_WIDTH  16

typedef uint64x2_t asp_bound;

static inline asp_bound spread(uint64_t bound)
{
	return vdupq_n_u64(bound);
}

static inline size_t count_below(const uint64_t *key, unsigned total, asp_bound bound)
{
	uint64x2_t even = vdupq_n_u64(0), odd = even;

	/* Two sums, so that one addition need not wait for another. */
	for (unsigned i = 0; i + 2 < total; i += 4) {
		even = vaddq_u64(even, vcltq_u64(vld1q_u64(key + i), bound));
		odd = vaddq_u64(odd, vcltq_u64(vld1q_u64(key + i + 2), bound));
	}
	if (total % 4)
		even = vaddq_u64(even, vcltq_u64(vld1q_u64(key + total - 2), bound));
	return (size_t)(0 - vaddvq_u64(vaddq_u64(even, odd)));
}

static inline struct asp_offers inner_offers(const struct asp_node *node, uint64_t need)
{
	static const uint64_t bit[ASP_INNER_MAX] = {
		1u << 0, 1u << 1, 1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,
		1u << 8, 1u << 9, 1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15,
	};
	const uint64_t *first = node->inner.first + 1, *last = node->inner.last;
	uint64x2_t n = vdupq_n_u64(need), inside = vdupq_n_u64(0), after = inside;

	/* Of `first`, one more word is read than is compared: it is of the same node. */
	for (unsigned i = 0; i < ASP_INNER_MAX; i += 2) {
		uint64x2_t b = vld1q_u64(bit + i);
		uint64x2_t between = vsubq_u64(vld1q_u64(first + i), vld1q_u64(last + i));

		inside = vorrq_u64(inside,
				   vandq_u64(vcgeq_u64(vld1q_u64(node->inner.gap + i), n), b));
		after = vorrq_u64(after, vandq_u64(vcgeq_u64(between, n), b));
	}
	return asp_offers_of((unsigned)vaddvq_u64(inside), (unsigned)vaddvq_u64(after),
			     node->count);
}

#define inner_gap   asp_inner_gap
#define leaf_offers asp_leaf_offers

#include "tree/vector/common.h"

#endif
