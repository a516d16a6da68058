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

static void plan_unmap_action(struct aspace_txn *txn, const struct asp_pieces *pieces)
{
	struct asp_action *action = asp_plan_action(txn, ASP_PHASE_UNMAP, pieces->area.backend,
						    ASPACE_CHANGE_UNMAP, pieces->from, pieces->to);

	action->change.old_flags = pieces->area.flags & ~ASPACE_FLAGS_RESERVED;
	action->change.user = pieces->area.user;
	action->change.cuts = asp_extra_pieces(pieces);
}

/* Where what nobody knows ends, if the piece begins with that. */
static uint64_t end_of_unknown(const struct aspace_txn *txn, const struct asp_pieces *pieces)
{
	struct asp_cursor cursor;
	uint64_t start = pieces->to;

	if (!txn->open)
		return pieces->from;
	if (asp_cursor_seek(&cursor, txn->base, pieces->from) && asp_cursor_start(&cursor) < start)
		start = asp_cursor_start(&cursor);
	return start > pieces->from ? start : pieces->from;
}

/* How many parts the piece has, and how many references more than one its area will need when
 * each is an area of its own, or gone. */
static size_t count_parts(const struct aspace_txn *txn, const struct asp_pieces *pieces,
			  size_t *clones)
{
	size_t parts = 0, left = asp_extra_pieces(pieces);
	uint64_t start, flags;

	for (uint64_t hi = pieces->to; hi > pieces->from; hi = start, parts++)
		left += asp_last_part(txn, pieces, pieces->from, hi, &start, &flags);
	*clones = left ? left - 1 : 0;
	return parts;
}

static void plan_leaving_part(struct aspace_txn *txn, uint64_t lo, uint64_t hi, uint64_t flags)
{
	struct aspace_record *record = asp_pool_get(&txn->space->records, sizeof(*record));

	record->address = lo;
	record->pending = false;
	txn->leaving_bytes += hi - lo;
	record->retired = txn->edit.stamp;
	asp_list_push(&txn->leaving, record);
	asp_plan_set_flags(txn, lo, hi, flags | ASP_FLAG_LEAVING);
}

/* Marks a piece leaving. Its memory is touched only after a grace period; what this
 * transaction has mapped itself nobody has seen: it just goes. */
static void plan_leaving(struct aspace_txn *txn, const struct asp_pieces *pieces)
{
	uint64_t lo = pieces->from, hi = pieces->to, start, flags;

	/* From the last part to the first, so that the area keeps its own reference and all
	 * others are cloned from that; but what begins it and just goes hands it on. */
	if (lo == pieces->area.start.value) {
		lo = end_of_unknown(txn, pieces);
		if (lo > pieces->from)
			asp_plan_cut(txn, pieces->from, lo);
	}
	for (; hi > lo; hi = start) {
		if (asp_last_part(txn, pieces, lo, hi, &start, &flags))
			plan_leaving_part(txn, start, hi, flags);
		else
			asp_plan_cut(txn, start, hi);
	}
}

/* ---- The operation --------------------------------------------------------- */

enum aspace_status asp_plan_unmap(struct aspace_txn *txn, struct aspace_range range, unsigned how)
{
	struct aspace *space = txn->space;
	bool grace = space->mode & ASPACE_GRACE_UNMAP;
	struct asp_pieces pieces;
	size_t count = 0, parts = 0;
	size_t clones;
	enum aspace_status status;
	unsigned cuts = 0;
	bool whole, pending = false;

	if (!asp_range_usable(space, range, space->granule))
		return ASPACE_INVALID_PARAM;
	for (asp_begin_pieces(&pieces, range); asp_next_piece(txn, &pieces); count++) {
		if (!asp_piece_on_granule(&pieces))
			return ASPACE_INVALID_PARAM;
		if (grace) {
			parts += count_parts(txn, &pieces, &clones);
			pending |= asp_meets_pending(txn, &pieces.area);
		}
		cuts += asp_extra_pieces(&pieces);
	}
	if (pieces.hole && asp_is_strict(space, how))
		return ASPACE_NOT_MAPPED;
	if (!count)
		return ASPACE_OK;
	if (pending || (grace && asp_leaving_is_full(txn)))
		return ASPACE_BUSY;

	if (!(cuts || txn->open ? asp_reserve_cut(txn, count, parts)
				: asp_reserve_giving_back(txn, count, grace)))
		return ASPACE_NO_MEMORY;
	/* Mostly there is one, which need not be looked for again, and all of it goes. */
	whole = !grace && pieces.area.start.value == range.start.value &&
		pieces.area.end.value == range.end.value;
	if (count > 1) {
		asp_begin_pieces(&pieces, range);
		asp_next_piece(txn, &pieces);
	}
	do {
		/* A cut in the middle leaves two; a leaving piece is always one more. */
		if (grace)
			count_parts(txn, &pieces, &clones);
		else
			clones = asp_extra_pieces(&pieces) == 2;
		for (; clones > 0; clones--) {
			status = asp_clone_ahead(txn, pieces.area.backend, pieces.area.user);
			if (status != ASPACE_OK)
				return status;
		}
	} while (count > 1 && asp_next_piece(txn, &pieces));
	if (!txn->open && !grace) {
		if (count == 1)
			plan_unmap_action(txn, &pieces);
		else
			asp_plan_sweep(txn, range.start.value, range.end.value);
	}

	if (grace) {
		asp_begin_pieces(&pieces, range);
		while (asp_next_piece(txn, &pieces)) {
			plan_leaving(txn, &pieces);
			asp_restart_pieces(&pieces);
		}
	} else if (whole) {
		asp_give_up_reference(txn, &pieces.area);
		asp_edit_remove_area(&txn->edit, pieces.from);
	} else {
		asp_plan_cut(txn, range.start.value, range.end.value);
	}
	/* Nothing to merge: what is left has the neighbours that it had, or none. */
	if (txn->open) {
		struct asp_action *action =
			asp_plan_touch(txn, pieces.area.backend, ASPACE_CHANGE_UNMAP, range);

		action->change.old_flags = pieces.area.flags;
		action->change.user = pieces.area.user;
		action->alone = whole;
	}
	return ASPACE_OK;
}
