/* SPDX-License-Identifier: MIT */
/*
 * Planning: protect.
 *
 * In a grace-unmap space what takes something away is left for later (pending.c).
 */
#include "update/pending.h"
#include "update/pieces.h"
#include "update/pins.h"
#include "update/plan.h"
#include "update/references.h"
#include "update/reserve.h"

bool asp_same_flags(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)area;
	*flags = *(const uint64_t *)ctx;
	return true;
}

/* Would memory leave, where there is more leaving than is to be? */
static bool is_too_much(struct asp_plan *plan, const struct aspace_area *area, uint64_t flags)
{
	const struct aspace *space = plan->space;
	uint64_t meanwhile;

	return __builtin_expect(space->leaving_bytes > space->options.leaving_max, 0) &&
	       asp_loses(space, area->backend, area->flags, flags, &meanwhile) &
		       ASPACE_LOSES_CONTENTS &&
	       asp_leaving_is_full(plan);
}

/* Asks the callback about every piece, and notes those that change as actions.
 * `clones`: references that will be needed. */
static enum aspace_status decide_pieces(struct asp_plan *plan, struct aspace_range range,
					aspace_protect_fn *decide, void *ctx, size_t *count)
{
	struct asp_pieces pieces;

	asp_begin_pieces(&pieces, range);
	while (asp_next_piece(plan, &pieces)) {
		struct aspace_area seen = asp_public_area(pieces.area);
		uint64_t flags = seen.flags;
		struct asp_action *action;

		seen.start.value = pieces.from;
		seen.end.value = pieces.to;
		if (!decide(ctx, &seen, &flags) || flags == seen.flags)
			continue;
		if (flags & ~seen.backend->flags_mask || !asp_piece_on_granule(&pieces))
			return ASPACE_INVALID_PARAM;
		if (asp_meets_pending(plan, &pieces.area) || is_too_much(plan, &seen, flags))
			return ASPACE_BUSY;
		if (plan->action_count && !asp_pool_reserve(&plan->space->actions, 1))
			return ASPACE_NO_MEMORY;
		action = asp_plan_action(plan, ASP_PHASE_PROTECT, seen.backend,
					 ASPACE_CHANGE_PROTECT, pieces.from, pieces.to);
		action->change.old_flags = seen.flags;
		action->change.new_flags = flags;
		action->change.user = seen.user;
		(*count)++;
	}
	return ASPACE_OK;
}

/* How many parts are there in the piece, each of which may be pending or not? */
static size_t count_parts(const struct asp_plan *plan, const struct asp_pieces *pieces)
{
	uint64_t start, flags;
	size_t parts = 0;

	for (uint64_t hi = pieces->to; hi > pieces->from; hi = start, parts++)
		asp_last_part(plan, pieces, pieces->from, hi, &start, &flags);
	return parts;
}

/* In all that is going to change. 0 where nothing is left for later. */
static size_t count_all_parts(struct asp_plan *plan)
{
	size_t parts = 0;

	if (!(plan->space->mode & ASPACE_GRACE_UNMAP))
		return 0;
	for (struct asp_action *action = plan->actions[ASP_PHASE_PROTECT].head; action;
	     action = action->next) {
		struct asp_pieces pieces;

		asp_begin_pieces(&pieces, action->change.range);
		if (asp_next_piece(plan, &pieces))
			parts += count_parts(plan, &pieces);
	}
	return parts;
}

/* References for the pieces that the noted changes make. */
static enum aspace_status clone_for_pieces(struct asp_plan *plan, bool grace)
{
	for (struct asp_action *action = plan->actions[ASP_PHASE_PROTECT].head; action;
	     action = action->next) {
		struct asp_pieces pieces;
		size_t clones;

		asp_begin_pieces(&pieces, action->change.range);
		if (!asp_next_piece(plan, &pieces))
			break; /* never: each was one piece when it was noted */
		clones = asp_extra_pieces(&pieces);
		if (grace)
			clones += count_parts(plan, &pieces) - 1;
		for (; clones > 0; clones--) {
			enum aspace_status status =
				asp_clone_ahead(plan, pieces.area.backend, pieces.area.user);

			if (status != ASPACE_OK)
				return status;
		}
	}
	return ASPACE_OK;
}

static void set_all(struct asp_plan *plan)
{
	for (struct asp_action *action = plan->actions[ASP_PHASE_PROTECT].head; action;
	     action = action->next)
		asp_plan_set_flags(plan, action->change.range.start.value,
				   action->change.range.end.value, action->change.new_flags);
}

/* Of one change: what is lost by it is left for later, and the change is what is not. */
static void set_for_later(struct asp_plan *plan, struct asp_action *action)
{
	struct aspace_change *change = &action->change;
	uint64_t lo = change->range.start.value, meanwhile, flags = change->new_flags;
	unsigned loses =
		asp_loses(plan->space, action->backend, change->old_flags, flags, &meanwhile);

	if (loses) {
		asp_pending_note(plan, change->range, meanwhile, loses);
		change->new_flags = meanwhile;
		flags |= ASP_FLAG_PENDING;
	}
	asp_plan_set_flags(plan, lo, change->range.end.value, flags);
}

/* The same in an open transaction, where nobody asks a backend yet: the parts that have lost
 * something, by what they are in the base, are marked. From the last to the first, so that the
 * area keeps its own reference and all others are cloned from that. */
static void mark_for_later(struct asp_plan *plan, const struct asp_action *action)
{
	uint64_t lo = action->change.range.start.value, hi = action->change.range.end.value;
	uint64_t start, held, meanwhile;
	struct asp_pieces pieces;

	asp_begin_pieces(&pieces, action->change.range);
	if (!asp_next_piece(plan, &pieces))
		return; /* never */
	for (; hi > lo; hi = start) {
		uint64_t flags = action->change.new_flags;

		if (asp_last_part(plan, &pieces, lo, hi, &start, &held) &&
		    asp_loses(plan->space, action->backend, held, flags, &meanwhile))
			flags |= ASP_FLAG_PENDING;
		asp_plan_set_flags(plan, start, hi, flags);
	}
}

static __attribute__((noinline)) void set_all_with_grace(struct asp_plan *plan)
{
	struct asp_action *action = plan->actions[ASP_PHASE_PROTECT].head, *next;

	for (struct asp_action *open = plan->open ? action : NULL; open; open = open->next)
		mark_for_later(plan, open);
	if (plan->open)
		return;
	/* The actions that are still to be made are listed once more. */
	plan->actions[ASP_PHASE_PROTECT] = (struct asp_actions){0};
	plan->phases = 0;
	plan->action_count = 0;
	for (; action; action = next) {
		next = action->next;
		set_for_later(plan, action);
		if (action->change.new_flags != action->change.old_flags)
			asp_plan_add(plan, ASP_PHASE_PROTECT, action);
		else
			asp_plan_put_action(plan, action);
	}
}

enum aspace_status asp_plan_protect(struct asp_plan *plan, struct aspace_range range,
				    aspace_protect_fn *decide, void *ctx, unsigned how)
{
	struct aspace *space = plan->space;
	bool grace = space->mode & ASPACE_GRACE_UNMAP;
	enum aspace_status status;
	size_t count = 0;

	if (!decide)
		return ASPACE_INVALID_PARAM;
	if (range.start.value == range.end.value)
		return ASPACE_OK;
	if (!asp_range_usable(space, range, space->granule))
		return ASPACE_INVALID_PARAM;
	if (asp_is_strict(space, how) && asp_has_holes(plan, range))
		return ASPACE_NOT_MAPPED;

	/* Else it would be decided once more, if somebody is in the way. */
	if (decide != asp_same_flags && !asp_pins_clear(plan))
		return ASPACE_BUSY;
	status = decide_pieces(plan, range, decide, ctx, &count);
	if (status == ASPACE_OK && count) {
		status = asp_reserve_scattered(plan, count, count_all_parts(plan)) &&
					 (!plan->open || asp_pool_reserve(&space->actions, 1))
				 ? clone_for_pieces(plan, grace)
				 : ASPACE_NO_MEMORY;
		if (status == ASPACE_OK) {
			if (grace)
				set_all_with_grace(plan);
			else
				set_all(plan);
			asp_plan_merge(plan, range.start.value, range.end.value);
			if (plan->open)
				asp_plan_touch(plan, NULL, ASPACE_CHANGE_PROTECT, range);
		}
	}
	/* An open transaction works its actions out anew at commit. */
	if (plan->open)
		asp_plan_put_actions(plan);
	return status;
}
