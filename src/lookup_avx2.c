/* SPDX-License-Identifier: MIT */
/*
 * Lookups by AVX2: four keys a register.
 *
 * Comparisons are signed here, so both sides are moved by 2^63. A comparison answers with
 * 64 bits of ones or zeros; sixteen of them, packed to bytes twice over, are one register,
 * whose bits are counted. Packing mixes up the order, of which a count knows nothing.
 */
#include "lookup.h"

#ifdef ASP_LOOKUP_X86
#include <immintrin.h>

#include "tree/search.h"

#define LOOKUP        asp_lookup_avx2
#define LOOKUP_NAME   "avx2"
#define LOOKUP_TARGET __attribute__((target("avx2,popcnt")))
#define LOOKUP_WIDTH  32

LOOKUP_TARGET static inline __m256i load(const uint64_t *four)
{
	return _mm256_loadu_si256((const __m256i *)(const void *)four);
}

LOOKUP_TARGET static inline __m256i keys_above(const uint64_t *key, __m256i bias, __m256i a)
{
	__m256i k = _mm256_load_si256((const __m256i *)(const void *)key);

	return _mm256_cmpgt_epi64(_mm256_xor_si256(k, bias), a);
}

LOOKUP_TARGET static inline unsigned count_le(const uint64_t *key, unsigned total, uint64_t address)
{
	__m256i bias = _mm256_set1_epi64x(INT64_MIN);
	__m256i a = _mm256_xor_si256(_mm256_set1_epi64x((long long)address), bias);
	__m256i c0 = keys_above(key, bias, a), c1 = keys_above(key + 4, bias, a);
	__m256i c2 = keys_above(key + 8, bias, a), c3 = keys_above(key + 12, bias, a);
	__m256i packed;

	/* What is not a key is the head of the node, in the same line. */
	if (total == 14)
		c3 = _mm256_and_si256(c3, _mm256_set_epi64x(0, 0, -1, -1));
	packed = _mm256_packs_epi16(_mm256_packs_epi32(c0, c1), _mm256_packs_epi32(c2, c3));
	return total - (unsigned)__builtin_popcount((unsigned)_mm256_movemask_epi8(packed)) / 2;
}

/* Of four values that have been moved by 2^63, as `least` has: which are less? */
LOOKUP_TARGET static inline unsigned less(__m256i value, __m256i least)
{
	__m256i below = _mm256_cmpgt_epi64(least, value);

	return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(below));
}

LOOKUP_TARGET static inline unsigned not_less(const uint64_t *value, uint64_t least)
{
	__m256i bias = _mm256_set1_epi64x(INT64_MIN);
	__m256i l = _mm256_xor_si256(_mm256_set1_epi64x((long long)least), bias);
	unsigned bits = 0;

	for (unsigned i = 0; i < ASP_INNER_MAX; i += 4) {
		__m256i v = _mm256_load_si256((const __m256i *)(const void *)(value + i));

		bits |= less(_mm256_xor_si256(v, bias), l) << i;
	}
	return ~bits & 0xffff;
}

/* Of `above`, one more word is read than is compared: it is of the same node. */
LOOKUP_TARGET static inline unsigned differ_by(const uint64_t *above, const uint64_t *below,
					       uint64_t least)
{
	__m256i bias = _mm256_set1_epi64x(INT64_MIN);
	__m256i l = _mm256_xor_si256(_mm256_set1_epi64x((long long)least), bias);
	unsigned bits = 0;

	for (unsigned i = 0; i < ASP_INNER_MAX; i += 4) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(above + i));
		__m256i b = _mm256_load_si256((const __m256i *)(const void *)(below + i));

		bits |= less(_mm256_xor_si256(_mm256_sub_epi64(a, b), bias), l) << i;
	}
	return ~bits & 0xffff;
}

LOOKUP_TARGET static inline __m256i greater_of(__m256i a, __m256i b)
{
	return _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b));
}

/* Of `first`, one more word is read than is compared, as above. */
LOOKUP_TARGET static uint64_t inner_gap(const struct asp_node *node)
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

#include "lookup_body.h"
#endif
