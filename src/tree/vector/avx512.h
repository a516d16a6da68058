/* SPDX-License-Identifier: MIT */
/*
 * Searches by AVX-512 (vector.h): eight keys a register, unsigned comparison, the answer as bits.
 */
#ifndef ASPACE_TREE_VECTOR_AVX512_H
#define ASPACE_TREE_VECTOR_AVX512_H

#include <immintrin.h>

#include "tree/search.h"

#define VECTOR        avx512
#define VECTOR_TARGET __attribute__((target("avx512f,popcnt")))
#define VECTOR_WIDTH  64

typedef __m512i asp_bound;

/* Of the registers that SSE does not know there is nothing to be cleaned up at the end of a
 * lookup: see vzeroupper. The compiler would take another. */
VECTOR_TARGET static inline asp_bound spread(uint64_t bound)
{
	register __m512i all __asm__("zmm16");

	__asm__("vpbroadcastq %1, %0" : "=v"(all) : "r"(bound));
	return all;
}

/* Keys are loaded by the comparison itself. */
VECTOR_TARGET static inline size_t count_below(const uint64_t *key, unsigned total, asp_bound bound)
{
	const __m512i *keys = (const __m512i *)(const void *)key;
	__mmask8 low = _mm512_cmpgt_epu64_mask(bound, keys[0]);
	/* What is not a key is the head of the node, in the same line. */
	__mmask8 high = total == 16 ? _mm512_cmpgt_epu64_mask(bound, keys[1])
				    : _mm512_mask_cmpgt_epu64_mask(
					      (__mmask8)((1u << (total - 8)) - 1), bound, keys[1]);
	unsigned bits;

	/* By hand: the compiler counts 16 bits more dearly than 32. */
	__asm__("kmovw %1, %0" : "=r"(bits) : "k"(_mm512_kunpackb(high, low)));
	return (size_t)__builtin_popcount(bits);
}

VECTOR_TARGET static inline struct asp_offers inner_offers(const struct asp_node *node,
							   uint64_t need)
{
	const uint64_t *first = node->inner.first, *last = node->inner.last;
	const uint64_t *gap = node->inner.gap;
	__m512i n = _mm512_set1_epi64((long long)need);
	/* Shifted here, because loads that reach into the next line are slower. */
	__m512i f0 = _mm512_load_si512(first), f1 = _mm512_load_si512(first + 8);
	__m512i low = _mm512_sub_epi64(_mm512_alignr_epi64(f1, f0, 1), _mm512_load_si512(last));
	__m512i high =
		_mm512_sub_epi64(_mm512_alignr_epi64(f1, f1, 1), _mm512_load_si512(last + 8));
	__mmask16 inside = _mm512_kunpackb(_mm512_cmpge_epu64_mask(_mm512_load_si512(gap + 8), n),
					   _mm512_cmpge_epu64_mask(_mm512_load_si512(gap), n));
	__mmask16 after =
		_mm512_kunpackb(_mm512_cmpge_epu64_mask(high, n), _mm512_cmpge_epu64_mask(low, n));

	return asp_offers_of(inside, after, node->count);
}

/* The stretches after eight areas. */
VECTOR_TARGET static inline unsigned eight_offers(const struct asp_node *leaf, unsigned from,
						  __m512i need)
{
	const struct asp_slot *slot = &leaf->leaf.slot[from];
	const __m512i low = _mm512_setr_epi64(0, 4, 8, 12, 0, 0, 0, 0);
	const __m512i high = _mm512_setr_epi64(0, 0, 0, 0, 0, 4, 8, 12);
	__m512i a = _mm512_permutex2var_epi64(_mm512_loadu_si512(slot), low,
					      _mm512_loadu_si512(slot + 2));
	__m512i b = _mm512_permutex2var_epi64(_mm512_loadu_si512(slot + 4), high,
					      _mm512_loadu_si512(slot + 6));
	__m512i end = _mm512_mask_blend_epi64(0xf0, a, b);
	__m512i start = _mm512_loadu_si512(&leaf->leaf.start[from + 1]);

	return _mm512_cmpge_epu64_mask(_mm512_sub_epi64(start, end), need);
}

/* There are thirteen: three are looked at twice. */
VECTOR_TARGET static inline unsigned leaf_offers(const struct asp_node *leaf, uint64_t need)
{
	__m512i n = _mm512_set1_epi64((long long)need);
	unsigned after = eight_offers(leaf, 0, n) | eight_offers(leaf, 5, n) << 5;

	return asp_offers_of(0, after, leaf->count).after;
}

/* Of `first`, one more word is read than is compared: it is of the same node. */
VECTOR_TARGET static inline uint64_t inner_gap(const struct asp_node *node)
{
	unsigned used = (1u << node->count) - 1, pairs = used >> 1;
	const uint64_t *first = node->inner.first, *last = node->inner.last;
	const uint64_t *gap = node->inner.gap;
	__m512i inside = _mm512_max_epu64(_mm512_maskz_load_epi64((__mmask8)used, gap),
					  _mm512_maskz_load_epi64((__mmask8)(used >> 8), gap + 8));
	__m512i low = _mm512_maskz_sub_epi64((__mmask8)pairs, _mm512_loadu_si512(first + 1),
					     _mm512_load_si512(last));
	__m512i high = _mm512_maskz_sub_epi64((__mmask8)(pairs >> 8), _mm512_loadu_si512(first + 9),
					      _mm512_load_si512(last + 8));

	return _mm512_reduce_max_epu64(_mm512_max_epu64(inside, _mm512_max_epu64(low, high)));
}

#include "tree/vector/common.h"

#endif
