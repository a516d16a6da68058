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

#include "lookup_body.h"
#endif
