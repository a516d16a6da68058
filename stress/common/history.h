/* SPDX-License-Identifier: MIT */
/*
 * Everything that was ever true of one address space: for each address and each time,
 * which area, or which hole, holds it. Time 0 is the beginning; each history_tick() makes
 * the next.
 *
 * It is made in the order of time, then indexed, and constant from there on, so that any
 * thread may check any answer with plain reads. Areas and holes are as long as they can
 * be: equal neighbours are one, as the library promises; but for areas where `apart` says
 * that the library does not.
 *
 * A *tile* is a rectangle, addresses [start, end) and times [from, until); tiles
 * cover the plane without overlap. The tile of a point is found through a
 * segment tree over the addresses where tiles begin: each tile is listed at the
 * O(log n) nodes that make up its range, in the order of time; a point lies
 * under O(log n) nodes. That bounds the memory at O(tiles * log n) even where
 * many small areas come and go together.
 */
#ifndef STRESS_HISTORY_H
#define STRESS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A value that is none: nothing is mapped. */
#define HOLE UINT64_MAX
/* Values with this bit are of areas that are on their way out: not to be found, but their
 * range is not free. (A hole is not to be found either.) */
#define LEAVING (UINT64_C(1) << 63)
/* Other values with this bit are of areas that stay as they are, beside equal neighbours too. (Protections,
 * and what else may be a value, are below it.) */
#define PENDING (UINT64_C(1) << 62)

struct tile {
	uint64_t start, end;
	uint64_t value; /* or HOLE */
	uint32_t from, until;
};

struct history {
	uint64_t size;  /* addresses are [0, size) */
	uint32_t times; /* times are [0, times] */
	struct tile *tiles;
	size_t tiles_count, tiles_capacity;
	/* The tiles that are still open (until is not known), in the order of addresses:
	 * the state at the time that has been reached. */
	struct tile *open;
	size_t open_count, open_capacity;
	uint64_t *cuts; /* sorted; [cuts[i], cuts[i + 1]) is elementary */
	size_t cuts_count, cuts_capacity;
	uint32_t *nodes;   /* node n lists entries [nodes[n], nodes[n + 1]) */
	uint32_t *entries; /* tile numbers */
	size_t areas;      /* at the time that has been reached; without what is leaving */
	/* Set before anything else is: areas stay as they were made. Giving one the value
	 * that it has is no change. */
	bool apart;
};

/* ---- Making ----------------------------------------------------------------- */

/* At time 0, all of [0, size) is a hole. */
void history_begin(struct history *history, uint64_t size);
/* What follows is of the next time. */
void history_tick(struct history *history);
/* From now on, [start, end) is like `value`. */
void history_set(struct history *history, uint64_t start, uint64_t end, uint64_t value);
/* The tile that holds `address` now; valid until the next history_set(). */
const struct tile *history_now(const struct history *history, uint64_t address);
/* Nothing more will happen: make the index. */
void history_end(struct history *history);
/* Begin another history, with the state that this one has ended with. */
void history_again(struct history *history);
void history_free(struct history *history);

/* ---- Asking, after history_end() ---------------------------------------------- */

/* The tile that holds `address` < size at `time` <= times. */
const struct tile *history_at(const struct history *history, uint64_t address, uint32_t time);

/* Was, at any time in [first, last], `address` in exactly [start, end) with
 * `value`? Was it in a hole? */
bool history_was_area(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last, uint64_t start, uint64_t end, uint64_t value);
bool history_was_hole(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last);

/* The lowest, or highest, start of `length` free bytes in [from, limit) at `time`;
 * UINT64_MAX if there is none. */
uint64_t history_gap(const struct history *history, uint32_t time, uint64_t from, uint64_t limit,
		     uint64_t length, bool highest);

#endif
