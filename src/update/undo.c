/* SPDX-License-Identifier: MIT */
/*
 * Taking back the changes of a commit that was refused.
 *
 * Invariants:
 *  1. The last phase is undone first: a map onto what was unmapped goes before that is mapped again.
 *  2. Nothing is mapped again where something stands: no address is held twice.
 *  3. In the end an action is `done` if it stands. What stands of a sweep the truth has been told.
 */
#include "update/changes.h"
#include "update/truth.h"

/* The change that takes this one back; false if none does. */
static bool inverse(const struct asp_action *action, struct aspace_change *change)
{
	*change = action->change;
	change->undo = true;
	change->old_flags = action->change.new_flags;
	change->new_flags = action->change.old_flags;
	switch (action->change.kind) {
	case ASPACE_CHANGE_MAP:
		change->kind = ASPACE_CHANGE_UNMAP;
		return true;
	case ASPACE_CHANGE_UNMAP:
		change->kind = ASPACE_CHANGE_MAP;
		return action->backend->remap_restores;
	case ASPACE_CHANGE_PROTECT:
		return true;
	case ASPACE_CHANGE_REPLACE:
		return false;
	case ASPACE_CHANGE_MOVE:
		change->destination = action->change.range.start;
		change->range.start = action->change.destination;
		change->range.end.value =
			action->change.destination.value +
			(action->change.range.end.value - action->change.range.start.value);
		return true;
	}
	return false;
}

/* Maps again what has been swept, and tells which of it could not be. Is anything left? Where
 * there is no memory to tell that, it goes downward, and not beyond the first that cannot be
 * mapped: then all that is left is one range. */
static bool unsweep(struct asp_plan *plan)
{
	uint64_t lo = plan->sweep.start.value;
	bool any, more = plan->sweep.end.value && plan->swept > lo;
	struct asp_action action;
	struct aspace_change change;
	struct asp_cursor cursor;

	if (!more)
		return false;
	asp_truth_begin(plan);
	any = asp_truth_can_tell_any(plan, aspace_count(plan->space));
	more = any ? asp_cursor_seek(&cursor, plan->base, lo)
		   : asp_cursor_seek_below(&cursor, plan->base, plan->swept);
	while (more && asp_sweep_at(plan, &cursor, &action) &&
	       action.change.range.start.value < plan->swept) {
		if (!inverse(&action, &change) || asp_change_call(&action, &change) != ASPACE_OK) {
			uint64_t from = any ? action.change.range.start.value : lo;

			asp_plan_cut(plan, from, action.change.range.end.value);
			if (!any)
				break;
		}
		more = any ? asp_cursor_next(&cursor) : asp_cursor_prev(&cursor);
	}
	return plan->edit.root != plan->base;
}

/* Is something mapped, for good, where the action has unmapped? Were that mapped again,
 * perhaps by another backend, one address would be held twice, which no tree can say. */
static bool is_taken(const struct asp_plan *plan, const struct asp_action *action)
{
	const struct aspace_range *range = &action->change.range;

	if (action->change.kind != ASPACE_CHANGE_UNMAP)
		return false;
	for (struct asp_action *map = plan->actions[ASP_PHASE_REMAP].head; map; map = map->next) {
		if (map->done && map->change.range.start.value < range->end.value &&
		    range->start.value < map->change.range.end.value)
			return true;
	}
	return false;
}

size_t asp_undo(struct asp_plan *plan)
{
	struct asp_action *action;
	struct aspace_change change;
	size_t standing = 0;

	for (unsigned phase = ASP_PHASES; phase-- > 0;) {
		for (action = plan->actions[phase].head; action; action = action->next) {
			if (!action->done)
				continue;
			if (inverse(action, &change) && !(standing && is_taken(plan, action)) &&
			    asp_change_call(action, &change) == ASPACE_OK)
				action->done = false;
			else
				standing++;
		}
	}
	return standing + unsweep(plan);
}
