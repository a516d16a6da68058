/* SPDX-License-Identifier: MIT */
/*
 * What lies in a range.
 */
#include "update/pieces.h"

bool asp_range_usable(const struct aspace *space, struct aspace_range range, uint64_t granule)
{
	uint64_t lo = range.start.value, hi = range.end.value;

	return lo < hi && lo >= space->lo && hi <= space->hi && !((lo | hi) & (granule - 1));
}

bool asp_last_part(const struct asp_plan *plan, const struct asp_pieces *pieces, uint64_t lo,
		   uint64_t hi, uint64_t *start, uint64_t *flags)
{
	struct asp_cursor cursor;
	uint64_t end;

	*start = lo;
	*flags = pieces->area.flags;
	if (!plan->open)
		return true;
	if (!asp_cursor_seek_below(&cursor, plan->base, hi))
		return false;
	end = asp_cursor_slot(&cursor)->end;
	if (end < hi) {
		*start = end > lo ? end : lo;
		return false;
	}
	*start = asp_cursor_start(&cursor) > lo ? asp_cursor_start(&cursor) : lo;
	*flags = asp_cursor_slot(&cursor)->flags;
	return true;
}

bool asp_has_holes(struct asp_plan *plan, struct aspace_range range)
{
	struct asp_pieces pieces;

	asp_begin_pieces(&pieces, range);
	while (asp_next_piece(plan, &pieces))
		;
	return pieces.hole;
}

void asp_look_for_obstacles(struct asp_plan *plan, uint64_t lo, uint64_t hi,
			    const struct aspace_backend *backend, struct asp_obstacles *found)
{
	struct asp_cursor cursor;
	bool more = asp_edit_seek(&plan->edit, &cursor, lo);

	found->count = 0;
	found->leaving = found->foreign = found->cut = false;
	found->touches = lo && asp_edit_end_below(&plan->edit) == lo;
	for (; more && asp_cursor_start(&cursor) < hi; more = asp_edit_next(&plan->edit, &cursor)) {
		const struct asp_slot *slot = asp_cursor_slot(&cursor);

		if (slot->flags & ASP_FLAG_LEAVING) {
			if (!found->leaving)
				plan->way = aspace_range_of(asp_cursor_start(&cursor), hi);
			found->leaving = true;
			continue;
		}
		found->count++;
		found->foreign |= slot->backend != backend;
		if (slot->end > hi) {
			found->cut = true;
			found->cut_area = asp_cursor_area(&cursor);
		}
	}
	found->touches |= more && asp_cursor_start(&cursor) == hi;
}
