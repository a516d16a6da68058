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
static void settle_references(struct asp_plan *plan, bool any_snapshot)
{
	struct aspace *space = plan->space;
	struct aspace_record_list gone = {0};
	struct aspace_record *record;

	while ((record = asp_list_pop(&plan->references)) != NULL) {
		switch (record->event) {
		case ASP_REFERENCE_BORN:
			if (any_snapshot)
				asp_births_add(space, record, record->address, plan->edit.version);
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
	plan->references = gone;
}

/* The one store. Release: whoever reads this root (acquire, asp_root()) sees every
 * node below it as it was filled in. Weaker, and a reader could meet a node whose
 * keys it sees and whose children it does not. */
static void store_root(struct asp_plan *plan)
{
	atomic_store_explicit(&plan->space->root, plan->edit.root, memory_order_release);
}

/* With births: no snapshot of the version before is taken between the store and the look. */
static void store_root_with_births(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	bool any;
	uint64_t oldest;

	asp_lock_acquire(&space->snap_lock);
	store_root(plan);
	any = space->oldest;
	oldest = any ? space->oldest->version : UINT64_MAX;
	asp_lock_release(&space->snap_lock);
	asp_births_forget(space, oldest, FORGOTTEN_AT_ONCE * plan->born);
	settle_references(plan, any);
}

void asp_publish(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(&space->bytes, memory_order_relaxed);

	atomic_store_explicit(&space->areas, areas + (uint64_t)plan->edit.areas,
			      memory_order_relaxed);
	atomic_store_explicit(&space->bytes, bytes + plan->edit.bytes, memory_order_relaxed);
	if (__builtin_expect(plan->leaving.head != NULL, 0))
		asp_pending_begin(plan);
	space->node_count += (uint64_t)plan->edit.node_count;
	asp_edit_tell(&plan->edit);
	asp_edit_freeze(&plan->edit);

	/* Before the root: while the old number is read, the old version is the newest. */
	atomic_store_explicit(&space->version, plan->edit.version, memory_order_relaxed);
	if (plan->born) {
		store_root_with_births(plan);
	} else {
		store_root(plan);
		if (plan->references.head)
			settle_references(plan, false);
	}
	asp_reclaim_add(space, &plan->edit.retired, &plan->references, &plan->leaving);
	asp_plan_clean_up(plan);
}
