/* SPDX-License-Identifier: MIT */
/*
 * What lies in a range: the parts of areas, one after the other, and what is in the way of an
 * area to come. On the way of every operation, hence here.
 */
#ifndef ASPACE_UPDATE_PIECES_H
#define ASPACE_UPDATE_PIECES_H

#include "space/space.h"

/* The parts of areas inside a range, in order. Leaving areas are holes here. */
struct asp_pieces {
	struct asp_cursor cursor;
	uint64_t lo, hi; /* what is left of the range */
	bool started;
	bool hole;               /* a hole has been passed */
	struct aspace_area area; /* the whole area of the piece, own flag bits included */
	uint64_t from, to;       /* the piece */
};

/* Sets what must be set, and no more: this is on the way of every operation. */
static inline void asp_begin_pieces(struct asp_pieces *pieces, struct aspace_range range)
{
	pieces->lo = range.start.value;
	pieces->hi = range.end.value;
	pieces->started = pieces->hole = false;
}

/* False: there is no more, and the piece is what it was. */
static inline bool asp_next_piece(struct asp_plan *plan, struct asp_pieces *pieces)
{
	if (pieces->started && pieces->lo >= pieces->hi)
		return false;
	for (;;) {
		bool found = pieces->started
				     ? asp_edit_next(&plan->edit, &pieces->cursor)
				     : asp_edit_seek(&plan->edit, &pieces->cursor, pieces->lo);

		pieces->started = true;
		if (!found || asp_cursor_start(&pieces->cursor) >= pieces->hi) {
			pieces->hole |= pieces->lo < pieces->hi;
			return false;
		}
		if (!(asp_cursor_slot(&pieces->cursor)->flags & ASP_FLAG_LEAVING))
			break;
	}
	pieces->area = asp_cursor_area(&pieces->cursor);
	pieces->from =
		pieces->area.start.value > pieces->lo ? pieces->area.start.value : pieces->lo;
	pieces->to = pieces->area.end.value < pieces->hi ? pieces->area.end.value : pieces->hi;
	pieces->hole |= pieces->from > pieces->lo;
	pieces->lo = pieces->to;
	return true;
}

/* An edit has moved things: find the place again. */
static inline void asp_restart_pieces(struct asp_pieces *pieces)
{
	pieces->started = false;
}

/* How many pieces more than one the area falls into if [from, to) becomes different
 * from the rest of it. */
static inline unsigned asp_extra_pieces(const struct asp_pieces *pieces)
{
	return (pieces->from > pieces->area.start.value) + (pieces->to < pieces->area.end.value);
}

static inline bool asp_piece_on_granule(const struct asp_pieces *pieces)
{
	uint64_t granule = pieces->area.backend->granule;

	return !granule || !((pieces->from | pieces->to) & (granule - 1));
}

/* In an open transaction a piece may be several parts to its backend, with flags of their own,
 * and what the transaction has mapped itself: the last part of [lo, hi), which lies in the piece, where it
 * starts, and the flags that the backend holds; false if it knows nothing of it. */
bool asp_last_part(const struct asp_plan *plan, const struct asp_pieces *pieces, uint64_t lo,
		   uint64_t hi, uint64_t *start, uint64_t *flags);

bool asp_range_usable(const struct aspace *space, struct aspace_range range, uint64_t granule);
bool asp_has_holes(struct asp_plan *plan, struct aspace_range range);

/* What is in the way of a map. */
struct asp_obstacles {
	size_t count;
	bool leaving;
	bool foreign; /* not all of them are the new area's backend's */
	bool cut;     /* one area reaches out above */
	bool touches; /* an area ends or starts at the border: perhaps to be merged */
	struct aspace_area cut_area;
};

void asp_look_for_obstacles(struct asp_plan *plan, uint64_t lo, uint64_t hi,
			    const struct aspace_backend *backend, struct asp_obstacles *found);

#endif
