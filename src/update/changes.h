/* SPDX-License-Identifier: MIT */
/*
 * The changes of a commit, one after the other: its actions and its sweep. For commit.c, undo.c and truth.c.
 */
#ifndef ASPACE_UPDATE_CHANGES_H
#define ASPACE_UPDATE_CHANGES_H

#include "update/plan.h"

/* Asks the backend for the change: the one of the action, or its inverse. */
static inline enum aspace_status asp_change_call(struct asp_action *action,
						 const struct aspace_change *change)
{
	struct aspace_backend *backend = action->backend;
	const struct aspace_backend_ops *ops = backend->ops;

	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
		return ops->map(backend, change);
	case ASPACE_CHANGE_UNMAP:
		return ops->unmap(backend, change);
	case ASPACE_CHANGE_PROTECT:
		return ops->protect(backend, change);
	case ASPACE_CHANGE_REPLACE:
		return ops->replace(backend, change);
	case ASPACE_CHANGE_MOVE:
		return ops->move(backend, change);
	}
	return ASPACE_NOT_SUPPORTED;
}

/* The actions of all phases, one after the other. */
static inline struct asp_action *asp_next_action(struct asp_plan *plan, struct asp_action *action,
						 unsigned *phase)
{
	unsigned rest;

	if (action) {
		if (action->next)
			return action->next;
		(*phase)++;
	}
	rest = plan->phases >> *phase;
	if (!rest)
		return NULL;
	*phase += (unsigned)__builtin_ctz(rest);
	return plan->actions[*phase].head;
}

#define asp_for_each_action(plan, action, phase)                                                   \
	for (phase = 0, action = asp_next_action(plan, NULL, &phase); action;                      \
	     action = asp_next_action(plan, action, &phase))

/* What is to be unmapped of the area at the cursor; false: none of it. */
static inline bool asp_sweep_at(const struct asp_plan *plan, const struct asp_cursor *cursor,
				struct asp_action *action)
{
	uint64_t lo = plan->sweep.start.value, hi = plan->sweep.end.value;
	struct aspace_area area = asp_cursor_area(cursor);

	if (area.start.value >= hi || area.end.value <= lo)
		return false;
	*action = (struct asp_action){
		.backend = area.backend,
		.change =
			{
				.kind = ASPACE_CHANGE_UNMAP,
				.range = aspace_range_of(area.start.value > lo ? area.start.value
									       : lo,
							 area.end.value < hi ? area.end.value : hi),
				.old_flags = area.flags,
				.user = area.user,
				.cuts = (area.start.value < lo) + (area.end.value > hi),
			},
	};
	return true;
}

/* What the sweep unmaps, upward, each in an action of its own, `action`. */
#define asp_for_each_swept(plan, cursor, action)                                                   \
	for (bool more_ = plan->sweep.end.value &&                                                 \
			  asp_cursor_seek(&cursor, plan->base, plan->sweep.start.value);           \
	     more_ && asp_sweep_at(plan, &cursor, &action); more_ = asp_cursor_next(&cursor))

/* ---- undo.c ---------------------------------------------------------------- */

/* Takes back what was done. 0: nothing stands. What stands of a sweep has been put into the truth
 * (truth.h); actions say it themselves. */
size_t asp_undo(struct asp_plan *plan);

#endif
