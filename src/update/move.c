/* SPDX-License-Identifier: MIT */
/*
 * Planning: move and resize.
 */
#include "update/pending.h"
#include "update/pieces.h"
#include "update/plan.h"
#include "update/references.h"
#include "update/reserve.h"

enum aspace_status asp_plan_move(struct asp_plan *plan, struct aspace_range from,
				 struct aspace_vaddr to)
{
	struct aspace *space = plan->space;
	uint64_t size = from.end.value - from.start.value;
	struct aspace_range dest = {to, {to.value + size}};
	struct asp_pieces pieces;
	struct asp_obstacles obstacles;
	struct asp_action *action;
	enum aspace_status status;
	size_t count = 0;

	if (!asp_range_usable(space, from, space->granule) || to.value + size < to.value ||
	    !asp_range_usable(space, dest, space->granule) ||
	    (dest.start.value < from.end.value && from.start.value < dest.end.value))
		return ASPACE_INVALID_PARAM;
	if (space->mode & ASPACE_GRACE_UNMAP)
		return ASPACE_NOT_SUPPORTED;
	asp_begin_pieces(&pieces, from);
	while (asp_next_piece(plan, &pieces)) {
		uint64_t granule = pieces.area.backend->granule;

		if (!asp_piece_on_granule(&pieces) ||
		    (granule && (to.value - from.start.value) & (granule - 1)))
			return ASPACE_INVALID_PARAM;
		if (!asp_op(pieces.area.backend, move))
			return ASPACE_NOT_SUPPORTED;
		count++;
	}
	if (pieces.hole)
		return ASPACE_NOT_MAPPED;
	asp_look_for_obstacles(plan, dest.start.value, dest.end.value, NULL, &obstacles);
	if (obstacles.count)
		return ASPACE_ALREADY_EXISTS;

	/* The moved area gets a reference of its own. */
	if (!asp_reserve_move(plan, count))
		return ASPACE_NO_MEMORY;
	asp_begin_pieces(&pieces, from);
	while (asp_next_piece(plan, &pieces)) {
		unsigned clones = asp_extra_pieces(&pieces) == 2 ? 2 : 1;

		for (unsigned i = 0; i < clones; i++) {
			status = asp_clone_ahead(plan, pieces.area.backend, pieces.area.user);
			if (status != ASPACE_OK)
				return status;
		}
		action = asp_plan_action(plan, ASP_PHASE_MOVE, pieces.area.backend,
					 ASPACE_CHANGE_MOVE, pieces.from, pieces.to);
		action->change.destination.value = to.value + (pieces.from - from.start.value);
		action->change.old_flags = action->change.new_flags = pieces.area.flags;
		action->change.user = pieces.area.user;
	}
	for (action = plan->actions[ASP_PHASE_MOVE].head; action; action = action->next)
		asp_plan_carry(plan, &action->change);
	asp_plan_merge(plan, to.value, dest.end.value);
	return ASPACE_OK;
}

enum aspace_status asp_plan_resize(struct asp_plan *plan, struct aspace_vaddr start, uint64_t size,
				   unsigned how)
{
	struct aspace *space = plan->space;
	struct asp_cursor cursor;
	struct aspace_area area;
	struct asp_obstacles obstacles;
	struct asp_action *action;
	uint64_t end = start.value + size;

	if (!asp_range_usable(space, aspace_range_of(start.value, end), space->granule))
		return ASPACE_INVALID_PARAM;
	if (!asp_edit_seek(&plan->edit, &cursor, start.value) ||
	    asp_cursor_start(&cursor) != start.value)
		return ASPACE_NOT_MAPPED;
	area = asp_cursor_area(&cursor);
	if (area.flags & ASP_FLAG_LEAVING)
		return ASPACE_NOT_MAPPED;
	if (end <= area.end.value)
		return end == area.end.value
			       ? ASPACE_OK
			       : asp_plan_unmap(plan, aspace_range_of(end, area.end.value), how);
	if (area.backend->granule && end & (area.backend->granule - 1))
		return ASPACE_INVALID_PARAM;
	asp_look_for_obstacles(plan, area.end.value, end, area.backend, &obstacles);
	if (obstacles.count)
		return ASPACE_ALREADY_EXISTS;
	if (obstacles.leaving || asp_meets_pending(plan, &area)) {
		plan->leaving_in_way = true;
		plan->at_bound = false;
		return ASPACE_BUSY;
	}

	if (!asp_reserve_place(plan, 0))
		return ASPACE_NO_MEMORY;
	action = asp_plan_action(plan, ASP_PHASE_MAP, area.backend, ASPACE_CHANGE_MAP,
				 area.end.value, end);
	action->change.new_flags = area.flags;
	action->change.user = area.user;
	asp_edit_update(&plan->edit, start.value, end, area.flags, area.user);
	asp_plan_merge(plan, end, end);
	return ASPACE_OK;
}
