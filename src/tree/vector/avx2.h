/* SPDX-License-Identifier: MIT */
/*
 * Searches by AVX2 (vector.h): four keys a register.
 *
 * Comparisons are signed here, so both sides are moved by 2^63. A comparison answers with
 * 64 bits of ones or zeros, of which 16 are enough: sixteen answers, blended, are one register,
 * whose bytes are counted. Blending mixes up the order, of which a count knows nothing.
 */
#ifndef ASPACE_TREE_VECTOR_AVX2_H
#define ASPACE_TREE_VECTOR_AVX2_H

#include <immintrin.h>

#include "tree/search.h"

#define VECTOR        avx2
#define VECTOR_TARGET __attribute__((target("avx2,popcnt")))
#define VECTOR_WIDTH  32

VECTOR_TARGET static inline __m256i load(const uint64_t *four)
{
	return _mm256_loadu_si256((const __m256i *)(const void *)four);
}

typedef __m256i asp_bound;

VECTOR_TARGET static inline asp_bound spread(uint64_t bound)
{
	return _mm256_set1_epi64x((long long)(bound ^ UINT64_C(1) << 63));
}

VECTOR_TARGET static inline __m256i four_below(const uint64_t *key, asp_bound bound)
{
	__m256i k = _mm256_load_si256((const __m256i *)(const void *)key);

	return _mm256_cmpgt_epi64(bound, _mm256_xor_si256(k, _mm256_set1_epi64x(INT64_MIN)));
}

VECTOR_TARGET static inline size_t count_below(const uint64_t *key, unsigned total, asp_bound bound)
{
	__m256i c0 = four_below(key, bound), c1 = four_below(key + 4, bound);
	__m256i c2 = four_below(key + 8, bound), c3 = four_below(key + 12, bound);
	__m256i mixed;

	/* What is not a key is the head of the node, in the same line. */
	if (total == 14)
		c3 = _mm256_and_si256(c3, _mm256_set_epi64x(0, 0, -1, -1));
	mixed = _mm256_blend_epi16(_mm256_blend_epi32(c0, c1, 0xaa),
				   _mm256_blend_epi32(c2, c3, 0xaa), 0xaa);
	return (size_t)__builtin_popcount((unsigned)_mm256_movemask_epi8(mixed)) / 2;
}

/* Sixteen comparisons, packed to 16 bits each; their order is 0 1 4 5 8 9 12 13 in the lower
 * half, and 2 3 6 7 10 11 14 15. */
VECTOR_TARGET static inline __m256i pack(const __m256i c[4])
{
	return _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
}

/* Of `first`, one more word is read than is compared: it is of the same node. */
VECTOR_TARGET static inline struct asp_offers inner_offers(const struct asp_node *node,
							   uint64_t need)
{
	const uint64_t *first = node->inner.first + 1, *last = node->inner.last;
	__m256i bias = _mm256_set1_epi64x(INT64_MIN);
	__m256i n = _mm256_xor_si256(_mm256_set1_epi64x((long long)need), bias);
	/* Pairs of bytes in ascending order, once each half is of one kind. */
	const __m256i order =
		_mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15, 0, 1, 8, 9,
				 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
	__m256i inside[4], after[4], packed;
	unsigned less;

#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++) {
		__m256i between = _mm256_sub_epi64(load(first + 4 * i), load(last + 4 * i));

		inside[i] = _mm256_cmpgt_epi64(
			n, _mm256_xor_si256(load(node->inner.gap + 4 * i), bias));
		after[i] = _mm256_cmpgt_epi64(n, _mm256_xor_si256(between, bias));
	}
	packed = _mm256_packs_epi16(pack(inside), pack(after));
	packed = _mm256_shuffle_epi8(_mm256_permute4x64_epi64(packed, 0xd8), order);
	less = (unsigned)_mm256_movemask_epi8(packed);
	return asp_offers_of(~less & 0xffff, ~less >> 16, node->count);
}

/* The stretches after four areas: each load has the end of one where it belongs. */
VECTOR_TARGET static inline __m256i four_stretches(const struct asp_node *leaf, unsigned from)
{
	const uint64_t *end = &leaf->leaf.slot[from].end;
	const size_t slot = sizeof(struct asp_slot) / sizeof(*end);
	__m256i a = _mm256_blend_epi32(load(end), load(end + slot - 1), 0x0c);
	__m256i b = _mm256_blend_epi32(load(end + 2 * slot - 2), load(end + 3 * slot - 3), 0xc0);

	return _mm256_sub_epi64(load(&leaf->leaf.start[from + 1]), _mm256_blend_epi32(a, b, 0xf0));
}

VECTOR_TARGET static inline unsigned leaf_offers(const struct asp_node *leaf, uint64_t need)
{
	__m256i bias = _mm256_set1_epi64x(INT64_MIN);
	__m256i n = _mm256_xor_si256(_mm256_set1_epi64x((long long)need), bias);
	unsigned less = 0;

	for (unsigned i = 0; i < 12; i += 4) {
		__m256i c = _mm256_cmpgt_epi64(n, _mm256_xor_si256(four_stretches(leaf, i), bias));

		less |= (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(c)) << i;
	}
	less |= (unsigned)(leaf->leaf.start[13] - leaf->leaf.slot[12].end < need) << 12;
	return asp_offers_of(0, ~less, leaf->count).after;
}

VECTOR_TARGET static inline __m256i greater_of(__m256i a, __m256i b)
{
	return _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b));
}

/* Of `first`, one more word is read than is compared, as above. */
VECTOR_TARGET static inline uint64_t inner_gap(const struct asp_node *node)
{
	const uint64_t *used = asp_used_mask(node->count), *last = node->inner.last;
	__m256i bias = _mm256_set1_epi64x(INT64_MIN), greatest = bias;
	uint64_t four[4];

	for (unsigned i = 0; i < ASP_INNER_MAX; i += 4) {
		__m256i inside = _mm256_and_si256(load(node->inner.gap + i), load(used + i));
		__m256i between = _mm256_and_si256(
			_mm256_sub_epi64(load(node->inner.first + i + 1), load(last + i)),
			load(used + i + 1));

		greatest = greater_of(greatest, _mm256_xor_si256(inside, bias));
		greatest = greater_of(greatest, _mm256_xor_si256(between, bias));
	}
	_mm256_storeu_si256((__m256i *)(void *)four, _mm256_xor_si256(greatest, bias));
	return asp_greater(asp_greater(four[0], four[1]), asp_greater(four[2], four[3]));
}

#include "tree/vector/common.h"

#endif
