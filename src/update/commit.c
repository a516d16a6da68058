/* SPDX-License-Identifier: MIT */
/*
 * Commit: from a plan to a version.
 *
 *   settle      an open transaction works out what it asks of backends (txn.c)
 *   reserve     what telling the truth would take, should undo fail (truth.c)
 *   hold off    who is at work in what is going to change (claims.c), or wait for them
 *   prepare     every change, before the first one is made
 *   change      phase by phase (enum asp_phase): what can be refused and taken back
 *               first, what loses contents last
 *   flush       the backends
 *   publish     one store
 *
 * If a change is refused, those before it are undone (undo.c). If one of these cannot be
 * undone, the plan is dropped and a tree is built and published that says what
 * backends hold: the version before, plus the changes that stand (truth.c).
 *
 * Invariants:
 *  1. Nothing after `prepare` depends on an allocation.
 *  2. No backend is asked to change anything before all have been prepared; whoever was asked for
 *     anything is flushed before a version says so.
 */
#include "update/changes.h"
#include "update/pins.h"
#include "update/truth.h"

static inline enum aspace_status prepare_change(struct asp_plan *plan, struct asp_action *action)
{
	const struct aspace_backend_ops *ops = action->backend->ops;

	if (!asp_op(action->backend, prepare))
		return ASPACE_OK;
	if (action->change.kind == ASPACE_CHANGE_UNMAP)
		action->change.borders = asp_count_borders(&plan->edit, action->change.range,
							   action->change.range.start.value);
	return ops->prepare(action->backend, &action->change);
}

static enum aspace_status prepare(struct asp_plan *plan)
{
	struct asp_action *action, swept;
	enum aspace_status status;
	struct asp_cursor cursor;
	unsigned phase;

	asp_for_each_swept(plan, cursor, swept)
	{
		status = prepare_change(plan, &swept);
		if (status != ASPACE_OK)
			return status;
	}
	asp_for_each_action(plan, action, phase)
	{
		status = prepare_change(plan, action);
		if (status != ASPACE_OK)
			return status;
	}
	return ASPACE_OK;
}

static enum aspace_status make_changes(struct asp_plan *plan)
{
	struct asp_action *action, swept;
	enum aspace_status status;
	struct asp_cursor cursor;
	unsigned phase;

	asp_for_each_swept(plan, cursor, swept)
	{
		status = asp_change_call(&swept, &swept.change);
		if (status != ASPACE_OK)
			return status;
		plan->swept = swept.change.range.end.value;
	}
	asp_for_each_action(plan, action, phase)
	{
		status = asp_change_call(action, &action->change);
		if (status != ASPACE_OK)
			return status;
		action->done = true;
	}
	return ASPACE_OK;
}

/* Every backend of the operation once; one that comes up again after eight others
 * may be told again. */
struct flushed {
	struct aspace_backend *told[8];
	unsigned count;
};

static inline void flush_backend(struct flushed *flushed, struct aspace_backend *backend)
{
	unsigned i = 0;

	if (!asp_op(backend, flush))
		return;
	while (i < flushed->count && flushed->told[i] != backend)
		i++;
	if (i < flushed->count)
		return;
	backend->ops->flush(backend);
	if (flushed->count < sizeof(flushed->told) / sizeof(flushed->told[0]))
		flushed->told[flushed->count++] = backend;
	else
		flushed->told[0] = backend;
}

static void flush(struct asp_plan *plan)
{
	struct flushed flushed = {.count = 0};
	struct asp_action *action, swept;
	struct asp_cursor cursor;
	unsigned phase;

	asp_for_each_swept(plan, cursor, swept) flush_backend(&flushed, swept.backend);
	asp_for_each_action(plan, action, phase) flush_backend(&flushed, action->backend);
}

/* Prepares all, then makes them; `standing`: how many could not be taken back. */
static __attribute__((noinline)) enum aspace_status make_all_changes(struct asp_plan *plan,
								     size_t *standing)
{
	enum aspace_status status = prepare(plan);

	if (status == ASPACE_OK) {
		status = make_changes(plan);
		if (status != ASPACE_OK)
			*standing = asp_undo(plan);
	}
	flush(plan);
	return status;
}

/* Where there is no other. If it is refused, nothing stands. */
static enum aspace_status make_only_change(struct asp_plan *plan, struct asp_action *action)
{
	const struct aspace_backend_ops *ops = action->backend->ops;
	enum aspace_status status = prepare_change(plan, action);

	if (status == ASPACE_OK)
		status = asp_change_call(action, &action->change);
	if (asp_op(action->backend, flush))
		ops->flush(action->backend);
	return status;
}

/* Can the plan be committed? False: it has been dropped, and *status says why it need not be. */
static inline bool is_to_be_made(struct asp_plan *plan, enum aspace_status *status)
{
	if (plan->action_count > 1 && !asp_truth_provide(plan)) {
		*status = ASPACE_NO_MEMORY;
	} else if (plan->edit.root == plan->base) { /* nothing to do */
		*status = ASPACE_OK;
	} else {
		return true;
	}
	asp_plan_drop(plan);
	return false;
}

/* `claim`: of an open transaction, else NULL. */
static __attribute__((noinline)) enum aspace_status change_and_publish(struct asp_plan *plan,
								       struct asp_pin *claim)
{
	enum aspace_status status;
	size_t standing = 0;

	if (plan->action_count == 1 && !plan->sweep.end.value)
		status = make_only_change(plan, plan->actions[__builtin_ctz(plan->phases)].head);
	else
		status = make_all_changes(plan, &standing);
	if (claim)
		asp_pins_close(plan->space, claim);
	if (standing) {
		asp_truth_tell(plan);
		return ASPACE_BAD_STATE;
	}
	if (status == ASPACE_OK)
		asp_publish(plan);
	else
		asp_plan_drop(plan);
	return status;
}

/* Is a backend asked for anything? What waits for a grace period holds nobody off until then. */
static bool asks_backends(const struct asp_plan *plan)
{
	return plan->phases || plan->sweep.end.value;
}

enum aspace_status asp_commit(struct asp_plan *plan)
{
	enum aspace_status status;

	if (!is_to_be_made(plan, &status))
		return status;
	if (__builtin_expect(asp_pins_any(plan->space), 0) && asks_backends(plan) &&
	    !asp_pins_hold_off(plan)) {
		asp_plan_drop(plan);
		return ASPACE_BUSY;
	}
	return change_and_publish(plan, NULL);
}

enum aspace_status asp_commit_open(struct asp_plan *plan)
{
	enum aspace_status status = asp_plan_settle(plan);
	struct aspace *space = plan->space;
	struct asp_pin claim;

	if (status != ASPACE_OK) {
		asp_plan_drop(plan);
		return status;
	}
	if (!is_to_be_made(plan, &status))
		return status;
	if (!asp_pins_claim_plan(plan, &claim)) {
		asp_plan_drop(plan);
		return ASPACE_BUSY;
	}
	status = change_and_publish(plan, &claim);
	asp_pins_drop(space, &claim);
	return status;
}
