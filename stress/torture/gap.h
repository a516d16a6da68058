/* SPDX-License-Identifier: MIT */
/*
 * Gap searches by looking at everything: which answer is right.
 *
 * Addresses are offsets, as everywhere here, but alignment is of addresses: `origin` is
 * the address of offset 0.
 */
#ifndef TORTURE_GAP_H
#define TORTURE_GAP_H

#include "log.h"

#define GAP_NONE UINT64_MAX

/* The tile that holds an offset. */
typedef const struct tile *gap_tile_fn(void *ctx, uint64_t at);

/* The start of what `wish` asks for in a space of [0, size), or GAP_NONE. */
uint64_t gap_answer(const struct wish *wish, uint64_t origin, uint64_t size, gap_tile_fn *tile_at,
		    void *ctx);

#endif
