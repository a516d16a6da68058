/* SPDX-License-Identifier: MIT */
/*
 * Lookups by AVX-512: eight keys a register, unsigned comparison, the answer as bits.
 */
#include "lookup.h"

#ifdef ASP_LOOKUP_X86
#include <immintrin.h>

#define LOOKUP        asp_lookup_avx512
#define LOOKUP_NAME   "avx512"
#define LOOKUP_TARGET __attribute__((target("avx512f,popcnt")))
#define LOOKUP_WIDTH  64

/* Two counts side by side rather than one of the joined masks: it is the shorter way. */
LOOKUP_TARGET static inline unsigned count_le(const uint64_t *key, unsigned total, uint64_t address)
{
	__m512i a = _mm512_set1_epi64((long long)address);
	__mmask8 low = _mm512_cmple_epu64_mask(_mm512_load_si512(key), a);
	/* What is not a key is the head of the node, in the same line. */
	__mmask8 high = _mm512_mask_cmple_epu64_mask((__mmask8)((1u << (total - 8)) - 1),
						     _mm512_load_si512(key + 8), a);

	return (unsigned)__builtin_popcount(_mm512_kunpackb(high, low));
}

LOOKUP_TARGET static inline unsigned not_less(const uint64_t *value, uint64_t least)
{
	__m512i l = _mm512_set1_epi64((long long)least);
	__mmask8 low = _mm512_cmpge_epu64_mask(_mm512_load_si512(value), l);
	__mmask8 high = _mm512_cmpge_epu64_mask(_mm512_load_si512(value + 8), l);

	return low | (unsigned)high << 8;
}

/* Of `above`, one more word is read than is compared: it is of the same node. */
LOOKUP_TARGET static inline unsigned differ_by(const uint64_t *above, const uint64_t *below,
					       uint64_t least)
{
	__m512i l = _mm512_set1_epi64((long long)least);
	__m512i low = _mm512_sub_epi64(_mm512_loadu_si512(above), _mm512_load_si512(below));
	__m512i high =
		_mm512_sub_epi64(_mm512_loadu_si512(above + 8), _mm512_load_si512(below + 8));

	return _mm512_cmpge_epu64_mask(low, l) | (unsigned)_mm512_cmpge_epu64_mask(high, l) << 8;
}

/* Of `first`, one more word is read than is compared, as above. */
LOOKUP_TARGET static uint64_t inner_gap(const struct asp_node *node)
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

#include "lookup_body.h"
#endif
