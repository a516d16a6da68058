/* SPDX-License-Identifier: MIT */
/*
 * Everything that was ever true of one image: for each address and each time,
 * which area, or which hole, holds it. Time t is after the first t steps; time 0
 * is before the first.
 *
 * It is made from the steps before the replay begins and never changes during it,
 * so that any thread may check any answer with plain reads. Areas and holes are
 * as long as they can be: equal neighbours are one, as the library promises.
 *
 * A *tile* is a rectangle, addresses [start, end) and times [from, until); tiles
 * cover the plane without overlap. The tile of a point is found through a
 * segment tree over the addresses where tiles begin: each tile is listed at the
 * O(log n) nodes that make up its range, in the order of time; a point lies
 * under O(log n) nodes. That bounds the memory at O(tiles * log n) even where
 * many small areas come and go together.
 */
#ifndef REPLAY_HISTORY_H
#define REPLAY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "areas.h"
#include "layout.h"
#include "plan.h"

/* A protection that is none: nothing is mapped. */
#define HOLE UINT32_MAX

struct tile {
	uint64_t start, end;
	uint32_t protection; /* or HOLE */
	uint32_t from, until;
};

struct history {
	uint64_t size;  /* addresses are [0, size) */
	uint32_t times; /* times are [0, times] */
	struct tile *tiles;
	size_t tiles_count, tiles_capacity;
	uint64_t *cuts; /* sorted; [cuts[i], cuts[i + 1]) is elementary */
	size_t cuts_count, cuts_capacity;
	uint32_t *nodes;               /* node n lists entries [nodes[n], nodes[n + 1]) */
	uint32_t *entries;             /* tile numbers */
	size_t most_areas, last_areas; /* at any time; before the END step */
};

/* `steps` are those of one image, in places (see layout.h), BEGIN first; `initial`
 * as well. END is no step of the history: it ends before. */
void history_make(struct history *history, uint64_t size, const struct areas *initial,
		  const struct step *steps, size_t count);
void history_free(struct history *history);

/* The tile that holds `address` < size at `time` <= times. */
const struct tile *history_at(const struct history *history, uint64_t address, uint32_t time);

/* Was, at any time in [first, last], `address` in exactly [start, end) with
 * `protection`? Was it in a hole? */
bool history_was_area(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last, uint64_t start, uint64_t end, uint32_t protection);
bool history_was_hole(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last);

/* The lowest, or highest, start of `length` free bytes in [from, limit) at `time`;
 * UINT64_MAX if there is none. */
uint64_t history_gap(const struct history *history, uint32_t time, uint64_t from, uint64_t limit,
		     uint64_t length, bool highest);

#endif
