/* SPDX-License-Identifier: MIT */
/* A floor: a static search tree of 16 keys a node without pointers (the S+ tree of
 * Slotin, "Algorithms for Modern Hardware"), searched with AVX-512 or AVX2 where the CPU
 * has them. It answers what this library's tree can hope for at best. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>

#include "bench/area.h"

#define PEER_NAME "stree"
#define PEER_STATIC
#define KEYS       16u
#define LEVELS_MAX 12

struct peer {
	const struct area *area;
	/* level[0]: all starts; above, the first key of each child but the first. */
	uint64_t *level[LEVELS_MAX];
	unsigned levels;
};

#include "bench/static.h"

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f,popcnt"))) static inline unsigned below512(const uint64_t *key,
									  uint64_t address)
{
	__m512i a = _mm512_set1_epi64((long long)address);
	unsigned low = _mm512_cmple_epu64_mask(_mm512_load_si512(key), a);
	unsigned high = _mm512_cmple_epu64_mask(_mm512_load_si512(key + 8), a);

	return (unsigned)__builtin_popcount(low | high << 8);
}

/* Addresses here are below 2^63, so that a signed comparison will do. */
__attribute__((target("avx2,popcnt"))) static inline unsigned below256(const uint64_t *key,
								       uint64_t address)
{
	__m256i a = _mm256_set1_epi64x((long long)address);
	unsigned above = 0;

	for (unsigned i = 0; i < KEYS; i += 4) {
		__m256i k = _mm256_load_si256((const __m256i *)(key + i));

		above |= (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(k, a)))
			 << i;
	}
	return KEYS - (unsigned)__builtin_popcount(above);
}
#endif

static inline unsigned below64(const uint64_t *key, uint64_t address)
{
	unsigned count = 0;

	for (unsigned i = 0; i < KEYS; i++)
		count += key[i] <= address;
	return count;
}

#define DESCEND(below)                                                                             \
	size_t at = 0;                                                                             \
                                                                                                   \
	for (unsigned h = peer->levels - 1; h; h--)                                                \
		at = at * (KEYS + 1) + below(peer->level[h] + at * KEYS, address);                 \
	return answer(peer, at * KEYS + below(peer->level[0] + at * KEYS, address), address, area)

#if defined(__x86_64__)
__attribute__((target("avx512f,popcnt"))) static bool find512(struct peer *peer, uint64_t address,
							      struct area *area)
{
	DESCEND(below512);
}

__attribute__((target("avx2,popcnt"))) static bool find256(struct peer *peer, uint64_t address,
							   struct area *area)
{
	DESCEND(below256);
}
#endif

static bool find64(struct peer *peer, uint64_t address, struct area *area)
{
	DESCEND(below64);
}

static bool (*find)(struct peer *, uint64_t, struct area *) = find64;

static inline bool peer_find(struct peer *peer, uint64_t address, struct area *area)
{
	return find(peer, address, area);
}

static uint64_t *make_level(size_t nodes)
{
	uint64_t *level = aligned_alloc(64, nodes * KEYS * sizeof(*level));

	if (!level)
		abort();
	/* No address is above the padding. */
	for (size_t i = 0; i < nodes * KEYS; i++)
		level[i] = INT64_MAX;
	return level;
}

static void peer_build(struct peer *peer, const struct area *area, size_t count)
{
	size_t nodes = (count + KEYS - 1) / KEYS, leaves = nodes, reach = 1;

	peer->area = area;
	peer->level[0] = make_level(nodes);
	for (size_t i = 0; i < count; i++)
		peer->level[0][i] = area[i].start;
	/* reach: how many leaves lie below one child of the level. */
	for (peer->levels = 1; nodes > 1; peer->levels++, reach *= KEYS + 1) {
		uint64_t *level;

		nodes = (nodes + KEYS) / (KEYS + 1);
		level = peer->level[peer->levels] = make_level(nodes);
		for (size_t i = 0; i < nodes; i++) {
			for (size_t k = 0; k < KEYS; k++) {
				size_t leaf = (i * (KEYS + 1) + k + 1) * reach;

				if (leaf < leaves)
					level[i * KEYS + k] = peer->level[0][leaf * KEYS];
			}
		}
	}
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f"))
		find = find512;
	else if (__builtin_cpu_supports("avx2"))
		find = find256;
#endif
}

static void peer_free(struct peer *peer)
{
	while (peer->levels)
		free(peer->level[--peer->levels]);
}

#include "bench/workload.h"
