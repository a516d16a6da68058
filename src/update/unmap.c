/* SPDX-License-Identifier: MIT */
/*
 * Planning: unmap.
 *
 * A piece that is to leave is one part to its backend. Not so in an open transaction: what
 * lies there now may be several areas of the base, which the backend still holds with their
 * own flags, and what the transaction has mapped itself, of which nobody knows. (Nothing is
 * mapped over anything in a grace-unmap space: what the base holds there is what it held.)
 */
#include "update/pending.h"
#include "update/pieces.h"
#include "update/plan.h"
#include "update/references.h"
#include "update/reserve.h"

static void plan_unmap_action(struct asp_plan *plan, const struct asp_pieces *pieces)
{
	struct asp_action *action = asp_plan_action(plan, ASP_PHASE_UNMAP, pieces->area.backend,
						    ASPACE_CHANGE_UNMAP, pieces->from, pieces->to);

	action->change.old_flags = pieces->area.flags & ~ASPACE_FLAGS_RESERVED;
	action->change.user = pieces->area.user;
	action->change.cuts = asp_extra_pieces(pieces);
}

/* Where what nobody knows ends, if the piece begins with that. */
static uint64_t end_of_unknown(const struct asp_plan *plan, const struct asp_pieces *pieces)
{
	struct asp_cursor cursor;
	uint64_t start = pieces->to;

	if (!plan->open)
		return pieces->from;
	if (asp_cursor_seek(&cursor, plan->base, pieces->from) && asp_cursor_start(&cursor) < start)
		start = asp_cursor_start(&cursor);
	return start > pieces->from ? start : pieces->from;
}

/* How many parts the piece has, and how many references more than one its area will need when
 * each is an area of its own, or gone. */
static size_t count_parts(const struct asp_plan *plan, const struct asp_pieces *pieces,
			  size_t *clones)
{
	size_t parts = 0, left = asp_extra_pieces(pieces);
	uint64_t start, flags;

	for (uint64_t hi = pieces->to; hi > pieces->from; hi = start, parts++)
		left += asp_last_part(plan, pieces, pieces->from, hi, &start, &flags);
	*clones = left ? left - 1 : 0;
	return parts;
}

static void plan_leaving_part(struct asp_plan *plan, uint64_t lo, uint64_t hi, uint64_t flags)
{
	struct aspace_record *record = asp_pool_get(&plan->space->records, sizeof(*record));

	record->address = lo;
	record->pending = false;
	plan->leaving_bytes += hi - lo;
	record->retired = plan->edit.version;
	asp_list_push(&plan->leaving, record);
	asp_plan_set_flags(plan, lo, hi, flags | ASP_FLAG_LEAVING);
}

/* Marks a piece leaving. Its memory is touched only after a grace period; what this
 * transaction has mapped itself nobody has seen: it just goes. */
static void plan_leaving(struct asp_plan *plan, const struct asp_pieces *pieces)
{
	uint64_t lo = pieces->from, hi = pieces->to, start, flags;

	/* From the last part to the first, so that the area keeps its own reference and all
	 * others are cloned from that; but what begins it and just goes hands it on. */
	if (lo == pieces->area.start.value) {
		lo = end_of_unknown(plan, pieces);
		if (lo > pieces->from)
			asp_plan_cut(plan, pieces->from, lo);
	}
	for (; hi > lo; hi = start) {
		if (asp_last_part(plan, pieces, lo, hi, &start, &flags))
			plan_leaving_part(plan, start, hi, flags);
		else
			asp_plan_cut(plan, start, hi);
	}
}

/* ---- The operation --------------------------------------------------------- */

enum aspace_status asp_plan_unmap(struct asp_plan *plan, struct aspace_range range, unsigned how)
{
	struct aspace *space = plan->space;
	bool grace = space->mode & ASPACE_GRACE_UNMAP;
	struct asp_pieces pieces;
	size_t count = 0, parts = 0;
	size_t clones;
	enum aspace_status status;
	unsigned cuts = 0;
	bool whole, pending = false;

	if (!asp_range_usable(space, range, space->granule))
		return ASPACE_INVALID_PARAM;
	for (asp_begin_pieces(&pieces, range); asp_next_piece(plan, &pieces); count++) {
		if (!asp_piece_on_granule(&pieces))
			return ASPACE_INVALID_PARAM;
		if (grace) {
			parts += count_parts(plan, &pieces, &clones);
			pending |= asp_meets_pending(plan, &pieces.area);
		}
		cuts += asp_extra_pieces(&pieces);
	}
	if (pieces.hole && asp_is_strict(space, how))
		return ASPACE_NOT_MAPPED;
	if (!count)
		return ASPACE_OK;
	if (pending || (grace && asp_leaving_is_full(plan)))
		return ASPACE_BUSY;

	if (!(cuts || plan->open ? asp_reserve_cut(plan, count, parts)
				 : asp_reserve_giving_back(plan, count, grace)))
		return ASPACE_NO_MEMORY;
	/* Mostly there is one, which need not be looked for again, and all of it goes. */
	whole = !grace && pieces.area.start.value == range.start.value &&
		pieces.area.end.value == range.end.value;
	if (count > 1) {
		asp_begin_pieces(&pieces, range);
		asp_next_piece(plan, &pieces);
	}
	do {
		/* A cut in the middle leaves two; a leaving piece is always one more. */
		if (grace)
			count_parts(plan, &pieces, &clones);
		else
			clones = asp_extra_pieces(&pieces) == 2;
		for (; clones > 0; clones--) {
			status = asp_clone_ahead(plan, pieces.area.backend, pieces.area.user);
			if (status != ASPACE_OK)
				return status;
		}
	} while (count > 1 && asp_next_piece(plan, &pieces));
	if (!plan->open && !grace) {
		if (count == 1)
			plan_unmap_action(plan, &pieces);
		else
			asp_plan_sweep(plan, range.start.value, range.end.value);
	}

	if (grace) {
		asp_begin_pieces(&pieces, range);
		while (asp_next_piece(plan, &pieces)) {
			plan_leaving(plan, &pieces);
			asp_restart_pieces(&pieces);
		}
	} else if (whole) {
		asp_give_up_reference(plan, &pieces.area);
		asp_edit_remove_area(&plan->edit, pieces.from);
	} else {
		asp_plan_cut(plan, range.start.value, range.end.value);
	}
	/* Nothing to merge: what is left has the neighbours that it had, or none. */
	if (plan->open) {
		struct asp_touched *touched =
			asp_plan_touch(plan, pieces.area.backend, ASPACE_CHANGE_UNMAP, range);

		touched->action.change.old_flags = pieces.area.flags;
		touched->action.change.user = pieces.area.user;
		touched->alone = whole;
	}
	return ASPACE_OK;
}
