/* SPDX-License-Identifier: MIT */
/*
 * Publication: the one store.
 */
#include "update/plan.h"
#include "update/births.h"
#include "update/pending.h"

/* How many notes of births go, for each that comes. */
#define FORGOTTEN_AT_ONCE 2

/* The version has been published. What is born in it is noted if a snapshot is open, all of
 * which are older; what is gone stays on the list, with its birth. */
static void settle_references(struct aspace_txn *txn, bool any_snapshot)
{
	struct aspace *space = txn->space;
	struct aspace_record_list gone = {0};
	struct aspace_record *record;

	while ((record = asp_list_pop(&txn->references)) != NULL) {
		switch (record->event) {
		case ASP_REFERENCE_BORN:
			if (any_snapshot)
				asp_births_add(space, record, record->address, txn->edit.stamp);
			else
				asp_pool_put(&space->records, record, sizeof(*record));
			break;
		case ASP_REFERENCE_MOVED:
			asp_births_move(space, record->address, record->to);
			asp_pool_put(&space->records, record, sizeof(*record));
			break;
		case ASP_REFERENCE_GONE:
			record->birth = asp_births_take(space, record->address);
			asp_list_push(&gone, record);
			break;
		}
	}
	txn->references = gone;
}

/* The one store. Release: whoever reads this root (acquire, asp_root()) sees every
 * node below it as it was filled in. Weaker, and a reader could meet a node whose
 * keys it sees and whose children it does not. */
static void store_root(struct aspace_txn *txn)
{
	atomic_store_explicit(&txn->space->root, txn->edit.root, memory_order_release);
}

/* With births: no snapshot of the version before is taken between the store and the look. */
static void store_root_with_births(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;
	bool any;
	uint64_t oldest;

	asp_lock_acquire(&space->snap_lock);
	store_root(txn);
	any = space->oldest;
	oldest = any ? space->oldest->version : UINT64_MAX;
	asp_lock_release(&space->snap_lock);
	asp_births_forget(space, oldest, FORGOTTEN_AT_ONCE * txn->born);
	settle_references(txn, any);
}

void asp_publish(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);

	atomic_store_explicit(&space->areas, areas + (uint64_t)txn->edit.areas,
			      memory_order_relaxed);
	if (__builtin_expect(txn->leaving.head != NULL, 0))
		asp_pending_begin(txn);
	space->node_count += (uint64_t)txn->edit.node_count;
	asp_edit_tell(&txn->edit);
	asp_edit_freeze(&txn->edit);

	/* Before the root: while the old number is read, the old version is the newest. */
	atomic_store_explicit(&space->version, txn->edit.stamp, memory_order_relaxed);
	if (txn->born) {
		store_root_with_births(txn);
	} else {
		store_root(txn);
		if (txn->references.head)
			settle_references(txn, false);
	}
	asp_reclaim_add(space, &txn->edit.retired, &txn->references, &txn->leaving);
	asp_plan_clean_up(txn);
}
