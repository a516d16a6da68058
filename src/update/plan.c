/* SPDX-License-Identifier: MIT */
/*
 * A plan's life: what an operation does to the tree, and what it asks of backends.
 *
 * Each asp_plan_*() (one a file: map.c, unmap.c, protect.c, move.c) works in three steps:
 * look (check everything that can be refused, count what is touched), reserve (nodes, records,
 * actions, cloned references), edit (the private tree; cannot fail). Nobody but this thread sees
 * the result until asp_commit().
 */
#include "update/plan.h"

void asp_plan_begin(struct aspace *space)
{
	struct asp_plan *plan = &space->plan;
	struct asp_node *base = atomic_load_explicit(&space->root, memory_order_relaxed);

	/* Relaxed: the writer reads back what a writer before it stored, under the lock. */
	plan->space = space;
	plan->base = base;
	plan->busy = plan->leaving_in_way = plan->all_spent = plan->pinned = plan->held_off = false;
	plan->action_count = plan->insertions = plan->borders = 0;
	plan->sweep.end.value = 0;
	plan->held_for = 0;
	asp_edit_begin(&plan->edit, &space->vector->edit, &space->nodes, &space->records, base,
		       base->birth + 1);
}

void asp_put_records(struct aspace *space, struct aspace_record_list *list)
{
	struct aspace_record *record;

	while ((record = asp_list_pop(list)) != NULL)
		asp_pool_put(&space->records, record, sizeof(*record));
}

/* Actions and touched ranges are of one pool, for the one becomes the other. */
_Static_assert(offsetof(struct asp_touched, action) == 0, "where it lies");

static inline void *get_block(struct asp_plan *plan)
{
	return asp_pool_get(&plan->space->actions, sizeof(struct asp_touched));
}

static inline void put_block(struct asp_plan *plan, void *block)
{
	asp_pool_put(&plan->space->actions, block, sizeof(struct asp_touched));
}

static inline void put_action(struct asp_plan *plan, struct asp_action *action)
{
	if (action != &plan->first)
		put_block(plan, action);
}

void asp_plan_put_action(struct asp_plan *plan, struct asp_action *action)
{
	put_action(plan, action);
}

static __attribute__((noinline)) void put_list(struct asp_plan *plan, struct asp_actions *list)
{
	struct asp_action *action;

	while ((action = list->head) != NULL) {
		list->head = action->next;
		put_action(plan, action);
	}
	list->tail = NULL;
}

static __attribute__((noinline)) void put_touched(struct asp_plan *plan)
{
	struct asp_touched *touched;

	while ((touched = plan->touched) != NULL) {
		plan->touched = touched->next;
		put_block(plan, touched);
	}
	plan->touched_last = NULL;
}

static inline void put_actions(struct asp_plan *plan)
{
	/* Mostly there is one, and that is no pool's. */
	if (plan->action_count == 1) {
		struct asp_actions *only = &plan->actions[__builtin_ctz(plan->phases)];

		if (only->head == &plan->first) {
			only->head = only->tail = NULL;
			plan->phases = 0;
		}
	}
	for (; plan->phases; plan->phases &= plan->phases - 1)
		put_list(plan, &plan->actions[__builtin_ctz(plan->phases)]);
	plan->action_count = plan->insertions = 0;
}

void asp_plan_put_actions(struct asp_plan *plan)
{
	put_actions(plan);
}

void asp_plan_clean_up(struct asp_plan *plan)
{
	struct aspace *space = plan->space;

	put_actions(plan);
	if (plan->references.head || plan->leaving.head) {
		asp_put_records(space, &plan->references);
		asp_put_records(space, &plan->leaving);
		plan->leaving_bytes = 0;
	}
	plan->born = 0;
	if (plan->clones_used.head || plan->clones_spare.head) {
		asp_put_records(space, &plan->clones_used);
		asp_reclaim_add_unseen(space, &plan->clones_spare);
	}
	if (!plan->open)
		return;
	put_touched(plan);
	plan->open = false;
	atomic_store_explicit(&space->txn_open, false, memory_order_relaxed);
}

void asp_plan_drop(struct asp_plan *plan)
{
	asp_edit_discard(&plan->edit);
	asp_list_splice(&plan->clones_spare, &plan->clones_used);
	asp_plan_clean_up(plan);
}

/* ---- Actions --------------------------------------------------------------- */

static inline void fill_action(struct asp_action *action, struct aspace_backend *backend,
			       enum aspace_change_kind kind, uint64_t lo, uint64_t hi)
{
	/* One by one: compilers clear a structure of this size by slow means. */
	action->backend = backend;
	action->done = false;
	action->change.kind = kind;
	action->change.undo = false;
	action->change.range = aspace_range_of(lo, hi);
	action->change.destination.value = action->change.old_flags = action->change.new_flags = 0;
	action->change.user = NULL;
	action->change.borders = action->change.cuts = 0;
}

void asp_plan_add(struct asp_plan *plan, enum asp_phase phase, struct asp_action *action)
{
	enum aspace_change_kind kind = action->change.kind;

	asp_actions_push(&plan->actions[phase], action);
	plan->phases |= 1u << phase;
	plan->action_count++;
	if (kind != ASPACE_CHANGE_UNMAP && kind != ASPACE_CHANGE_PROTECT)
		plan->insertions++;
}

struct asp_action *asp_plan_action(struct asp_plan *plan, enum asp_phase phase,
				   struct aspace_backend *backend, enum aspace_change_kind kind,
				   uint64_t lo, uint64_t hi)
{
	struct asp_action *action = &plan->first;

	if (plan->action_count)
		action = get_block(plan);
	fill_action(action, backend, kind, lo, hi);
	asp_plan_add(plan, phase, action);
	return action;
}

struct asp_touched *asp_plan_touch(struct asp_plan *plan, struct aspace_backend *backend,
				   enum aspace_change_kind kind, struct aspace_range range)
{
	struct asp_touched *touched = get_block(plan);

	fill_action(&touched->action, backend, kind, range.start.value, range.end.value);
	touched->alone = touched->touches = false;
	touched->next = NULL;
	if (plan->touched_last)
		plan->touched_last->next = touched;
	else
		plan->touched = touched;
	plan->touched_last = touched;
	return touched;
}
