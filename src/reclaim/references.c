/* SPDX-License-Identifier: MIT */
/*
 * References whose grace period is over: to the newest snapshot that shows them, to a pin that keeps
 * them, or to the ring (calls.h), from which they are released with no lock held.
 *
 * Invariants:
 *  1. A reference is in one of these places or on `deferred`, and gets to the ring once.
 *  2. It gets there only when its grace period has elapsed, no snapshot shows it, and no pin is at
 *     work in an area with its object that was so when it was first its turn (N8).
 */
#include "reclaim/calls.h"
#include "reclaim/deferred.h"
#include "update/births.h"
#include "update/pins.h"

void asp_reclaim_add_unseen(struct aspace *space, struct aspace_record_list *references)
{
	struct aspace_record_list unseen = {0};
	struct aspace_record *record;

	while ((record = asp_list_pop(references)) != NULL) {
		if (!asp_op(record->backend, release)) {
			asp_pool_put(&space->records, record, sizeof(*record));
			continue;
		}
		record->retired = record->birth = 0; /* no snapshot is older */
		asp_list_push(&unseen, record);
	}
	if (!unseen.head)
		return;
	asp_list_stamp(&unseen, 1);
	asp_list_splice(&unseen, &space->deferred);
	space->deferred = unseen;
	asp_grace_request(space->grace, &space->client, 1);
}

/* Is the area of a reference that the snapshot shows leaving there? In a grace-unmap space an
 * area keeps its start. */
static bool is_leaving_in(const struct aspace_snapshot *snapshot,
			  const struct aspace_record *record)
{
	int at;
	const struct asp_node *leaf = asp_tree_find(snapshot->root, record->address, &at);

	return leaf && leaf->leaf.slot[at].flags & ASP_FLAG_LEAVING;
}

/* The newest snapshot at or before `snapshot` that shows the reference that the record is
 * about, or NULL. One that has the area leaving does not show it, but an older one may: a
 * refused unmap has brought the area back. */
static struct aspace_snapshot *holder_of_object(const struct aspace *space,
						struct aspace_snapshot *snapshot,
						const struct aspace_record *record)
{
	for (; snapshot && snapshot->version >= record->birth; snapshot = snapshot->older) {
		if (!(space->mode & ASPACE_GRACE_UNMAP) || !is_leaving_in(snapshot, record))
			return snapshot;
	}
	return NULL;
}

/* Under snap_lock too. To the newest snapshot that shows it, to a pin that keeps it, or to the
 * ring. */
static struct aspace_snapshot *hand_over(struct aspace *space, struct aspace_snapshot *holder,
					 struct aspace_record *record)
{
	struct aspace_snapshot *keeper;

	holder = asp_snapshot_before(space, holder, record->retired);
	keeper = holder_of_object(space, holder, record);
	if (keeper) {
		asp_list_push(&keeper->objects, record);
	} else if (!asp_pins_keep(space, record)) {
		asp_note_late(&space->latest.releases, asp_late_of(&space->late_references));
		asp_calls_put(&space->calls, record->backend, record->user);
		asp_pool_put(&space->records, record, sizeof(*record));
	}
	return holder;
}

bool asp_reclaim_references(struct aspace *space, uint32_t left)
{
	struct aspace_snapshot *holder = NULL;
	uint32_t in = atomic_load_explicit(&space->calls.in, memory_order_relaxed);
	bool room = true;

	asp_lock_acquire(&space->snap_lock);
	asp_births_forget(space, space->oldest ? space->oldest->version : UINT64_MAX, ASP_SHARE);
	for (; room && left && asp_is_due(space, &space->deferred); left--) {
		room = asp_calls_room(&space->calls) || !asp_calls_clog(&space->calls);
		if (room)
			holder = hand_over(space, holder, asp_list_pop(&space->deferred));
	}
	asp_lock_release(&space->snap_lock);
	if (in != atomic_load_explicit(&space->calls.in, memory_order_relaxed))
		asp_grace_request(space->grace, &space->client, 1);
	return room;
}
