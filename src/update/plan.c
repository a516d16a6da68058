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

void asp_txn_begin(struct aspace *space)
{
	struct aspace_txn *txn = &space->txn;
	struct asp_node *base = atomic_load_explicit(&space->root, memory_order_relaxed);

	/* Relaxed: the writer reads back what a writer before it stored, under the lock. */
	txn->space = space;
	txn->base = base;
	txn->busy = txn->leaving_in_way = txn->all_spent = txn->pinned = txn->held_off = false;
	txn->action_count = txn->insertions = txn->borders = 0;
	txn->sweep.end.value = 0;
	txn->held_for = 0;
	asp_edit_begin(&txn->edit, &space->vector->edit, &space->nodes, &space->records, base,
		       base->birth + 1);
}

void asp_put_records(struct aspace *space, struct aspace_record_list *list)
{
	struct aspace_record *record;

	while ((record = asp_list_pop(list)) != NULL)
		asp_pool_put(&space->records, record, sizeof(*record));
}

static void put_list(struct aspace_txn *txn, struct asp_actions *list)
{
	struct asp_action *action;

	while ((action = list->head) != NULL) {
		list->head = action->next;
		if (action != &txn->first)
			asp_pool_put(&txn->space->actions, action, sizeof(*action));
	}
	list->tail = NULL;
}

void asp_plan_put_actions(struct aspace_txn *txn)
{
	for (; txn->phases; txn->phases &= txn->phases - 1)
		put_list(txn, &txn->actions[__builtin_ctz(txn->phases)]);
	txn->action_count = txn->insertions = 0;
}

void asp_plan_clean_up(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;

	asp_plan_put_actions(txn);
	if (txn->references.head || txn->leaving.head) {
		asp_put_records(space, &txn->references);
		asp_put_records(space, &txn->leaving);
		txn->leaving_bytes = 0;
	}
	txn->born = 0;
	if (txn->clones_used.head || txn->clones_spare.head) {
		asp_put_records(space, &txn->clones_used);
		asp_reclaim_add_unseen(space, &txn->clones_spare);
	}
	if (!txn->open)
		return;
	put_list(txn, &txn->touched);
	txn->open = false;
	atomic_store_explicit(&space->txn_open, false, memory_order_relaxed);
}

void asp_txn_drop(struct aspace_txn *txn)
{
	asp_edit_discard(&txn->edit);
	asp_list_splice(&txn->clones_spare, &txn->clones_used);
	asp_plan_clean_up(txn);
}

/* ---- Actions --------------------------------------------------------------- */

static inline void fill_action(struct asp_action *action, struct aspace_backend *backend,
			       enum aspace_change_kind kind, uint64_t lo, uint64_t hi)
{
	/* One by one: compilers clear a structure of this size by slow means. */
	action->backend = backend;
	action->done = action->touches = action->alone = false;
	action->change.kind = kind;
	action->change.undo = false;
	action->change.range = aspace_range_of(lo, hi);
	action->change.destination.value = action->change.old_flags = action->change.new_flags = 0;
	action->change.user = NULL;
	action->change.borders = action->change.cuts = 0;
}

void asp_plan_add(struct aspace_txn *txn, enum asp_phase phase, struct asp_action *action)
{
	enum aspace_change_kind kind = action->change.kind;

	asp_actions_push(&txn->actions[phase], action);
	txn->phases |= 1u << phase;
	txn->action_count++;
	if (kind != ASPACE_CHANGE_UNMAP && kind != ASPACE_CHANGE_PROTECT)
		txn->insertions++;
}

struct asp_action *asp_plan_action(struct aspace_txn *txn, enum asp_phase phase,
				   struct aspace_backend *backend, enum aspace_change_kind kind,
				   uint64_t lo, uint64_t hi)
{
	struct asp_action *action = &txn->first;

	if (txn->action_count)
		action = asp_pool_get(&txn->space->actions, sizeof(*action));
	fill_action(action, backend, kind, lo, hi);
	asp_plan_add(txn, phase, action);
	return action;
}

struct asp_action *asp_plan_touch(struct aspace_txn *txn, struct aspace_backend *backend,
				  enum aspace_change_kind kind, struct aspace_range range)
{
	struct asp_action *action = asp_pool_get(&txn->space->actions, sizeof(*action));

	fill_action(action, backend, kind, range.start.value, range.end.value);
	asp_actions_push(&txn->touched, action);
	return action;
}
