/* SPDX-License-Identifier: MIT */
/*
 * What plans do to the private tree: areas are cut, get other flags, move, and merge. Nothing
 * here can fail; references go along.
 */
#include "update/pending.h"
#include "update/plan.h"
#include "update/references.h"

/* A piece with a reference of its own. */
static void insert_piece(struct asp_plan *plan, const struct aspace_area *of, uint64_t lo,
			 uint64_t hi, uint64_t flags, void *user)
{
	struct aspace_area piece = {
		.start = {lo},
		.end = {hi},
		.flags = flags,
		.backend = of->backend,
		.user = user,
	};

	asp_edit_insert(&plan->edit, &piece);
	asp_note_birth(plan, &piece);
}

void asp_plan_cut(struct asp_plan *plan, uint64_t lo, uint64_t hi)
{
	struct asp_edit *edit = &plan->edit;
	struct asp_cursor cursor;
	struct aspace_area area = {.flags = 0};
	bool more = asp_edit_seek(edit, &cursor, lo), out = false, any = false;

	/* The area that reaches in from below keeps its reference. */
	if (more && asp_cursor_start(&cursor) < lo) {
		area = asp_cursor_area(&cursor);
		asp_edit_update(edit, area.start.value, lo, area.flags, area.user);
		if (area.end.value > hi) {
			insert_piece(plan, &area, hi, area.end.value, area.flags,
				     asp_take_clone(plan, area.backend, area.user));
			return;
		}
		more = asp_edit_seek(edit, &cursor, lo);
	}
	/* The others lose theirs, but for one that reaches out above. */
	for (; more && asp_cursor_start(&cursor) < hi; more = asp_edit_next(edit, &cursor)) {
		any = true;
		area = asp_cursor_area(&cursor);
		out = area.end.value > hi;
		if (out)
			break;
		asp_give_up_reference(plan, &area);
		if (area.end.value == hi)
			break;
	}
	if (any)
		asp_edit_remove(edit, lo, hi);
	if (out) {
		asp_note_move(plan, &area, hi);
		area.start.value = hi;
		asp_edit_insert(edit, &area);
	}
}

void asp_plan_set_flags(struct asp_plan *plan, uint64_t lo, uint64_t hi, uint64_t flags)
{
	struct asp_edit *edit = &plan->edit;
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(edit, &cursor, lo);
	area = asp_cursor_area(&cursor);
	if (area.start.value < lo) {
		asp_edit_update(edit, area.start.value, lo, area.flags, area.user);
		insert_piece(plan, &area, lo, hi, flags,
			     asp_take_clone(plan, area.backend, area.user));
	} else {
		asp_edit_update(edit, lo, hi, flags, area.user);
	}
	if (hi < area.end.value)
		insert_piece(plan, &area, hi, area.end.value, area.flags,
			     asp_take_clone(plan, area.backend, area.user));
}

void asp_plan_carry(struct asp_plan *plan, const struct aspace_change *move)
{
	uint64_t lo = move->range.start.value, hi = move->range.end.value;
	struct asp_cursor cursor;
	struct aspace_area area;
	void *user;

	asp_edit_seek(&plan->edit, &cursor, lo);
	area = asp_cursor_area(&cursor);
	user = asp_take_clone(plan, area.backend, area.user);
	asp_plan_cut(plan, lo, hi);
	insert_piece(plan, &area, move->destination.value, move->destination.value + (hi - lo),
		     area.flags, user);
}

bool asp_mergeable(const struct aspace *space, const struct aspace_area *left,
		   const struct aspace_area *right)
{
	struct aspace_area public_left, public_right;

	if (left->end.value != right->start.value || left->flags != right->flags ||
	    left->backend != right->backend ||
	    left->flags & (ASP_FLAG_LEAVING | ASP_FLAG_PENDING) ||
	    space->mode & ASPACE_NEVER_MERGE || asp_is_pending(space, left->start.value) ||
	    asp_is_pending(space, right->start.value))
		return false;
	if (!asp_op(left->backend, can_merge))
		return left->user == right->user;
	public_left = asp_public_area(*left);
	public_right = asp_public_area(*right);
	return left->backend->ops->can_merge(left->backend, &public_left, &public_right);
}

void asp_plan_merge(struct asp_plan *plan, uint64_t lo, uint64_t hi)
{
	struct asp_edit *edit = &plan->edit;
	struct asp_cursor cursor;
	struct aspace_area left, right;
	uint64_t at = lo;

	while (asp_edit_seek(edit, &cursor, at)) {
		if (asp_cursor_start(&cursor) < at && !asp_edit_next(edit, &cursor))
			return;
		right = asp_cursor_area(&cursor);
		if (right.start.value > hi)
			return;
		at = right.end.value;
		if (!asp_edit_prev(edit, &cursor))
			continue;
		left = asp_cursor_area(&cursor);
		if (!asp_mergeable(plan->space, &left, &right))
			continue;
		asp_give_up_reference(plan, &right);
		asp_edit_remove_area(edit, right.start.value);
		asp_edit_update(edit, left.start.value, right.end.value, left.flags, left.user);
	}
}

unsigned asp_count_borders(struct asp_edit *edit, struct aspace_range range, uint64_t from)
{
	uint64_t lo = range.start.value;
	struct asp_cursor cursor;
	bool below, above;

	below = lo && asp_edit_seek(edit, &cursor, lo - 1) && asp_cursor_start(&cursor) < lo;
	above = asp_edit_seek(edit, &cursor, from) &&
		(asp_cursor_start(&cursor) >= from || asp_edit_next(edit, &cursor)) &&
		asp_cursor_start(&cursor) <= range.end.value;
	return (unsigned)below + above;
}
