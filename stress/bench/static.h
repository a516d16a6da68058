/* SPDX-License-Identifier: MIT */
/* What the peers have in common that are built once and never change. */
#ifndef BENCH_STATIC_H
#define BENCH_STATIC_H

#include <stdlib.h>

static struct peer *peer_make(void)
{
	static struct peer peer;

	return &peer;
}

/* The answer where `below` areas start at or before the address. */
static inline bool answer(const struct peer *peer, size_t below, uint64_t address,
			  struct area *area)
{
	if (!below || address >= peer->area[below - 1].end)
		return false;
	*area = peer->area[below - 1];
	return true;
}

#endif
