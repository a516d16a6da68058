/* SPDX-License-Identifier: MIT */
/* A floor: a sorted array that never changes, searched without a branch. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>

#include "bench/area.h"

#define PEER_NAME "sorted"
#define PEER_STATIC

struct peer {
	const struct area *area;
	uint64_t *start;
	size_t count;
};

#include "bench/static.h"

static inline bool peer_find(struct peer *peer, uint64_t address, struct area *area)
{
	const uint64_t *base = peer->start;
	size_t left = peer->count;

	while (left > 1) {
		size_t half = left / 2;

		base += (base[half] <= address) * half;
		left -= half;
	}
	return answer(peer, (size_t)(base - peer->start) + (*base <= address), address, area);
}

static void peer_build(struct peer *peer, const struct area *area, size_t count)
{
	peer->area = area;
	peer->count = count;
	peer->start = calloc(count, sizeof(*peer->start));
	for (size_t i = 0; peer->start && i < count; i++)
		peer->start[i] = area[i].start;
}

static void peer_free(struct peer *peer)
{
	free(peer->start);
}

#include "bench/workload.h"
