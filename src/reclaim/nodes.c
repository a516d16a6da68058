/* SPDX-License-Identifier: MIT */
/*
 * Nodes that have left the newest version.
 *
 * `retired` collects them; a batch at a time becomes `waiting`, with the stamp of a grace period; when
 * that has elapsed, the next writer puts them back into the pool, while they are still in its cache.
 * Two lists are enough: a later batch can only be ready after an earlier one.
 *
 * Snapshots: a thing of versions [birth, retired) is held while a snapshot of one
 * of these versions is open. It is kept on the list of the newest such snapshot;
 * when that goes, what it kept is retired once more: it waits for another grace
 * period (a reader may have found it in the snapshot) and then goes to the next
 * older snapshot that shows it, or is free. (So do references; references.c.)
 *
 * Invariants (that no node is lost is S2):
 *  1. All that is `waiting` had left before `stamp` was taken, and keeps that stamp until it goes.
 *  2. A node goes back to the pool only when that grace period has elapsed, and if no snapshot shows it.
 *  3. retired_in - retired_out is how many nodes are `retired` or `waiting`.
 */
#include "reclaim/deferred.h"
#include "tree/nodes.h"

/* Nodes per grace period, in bytes. Fewer: more grace periods, each of which wakes the driver
 * and interrupts the CPUs of readers and of the writer; more: nodes come back when they have
 * left even the last of the caches. But not more than a quarter of what may be garbage: the
 * next batch grows while this one waits. */
#define BYTES_PER_GRACE ((uint64_t)2 << 20)

/* Records looked at under one hold of snap_lock. */
#define RECORDS_AT_ONCE 2048

static bool batch_is_full(const struct aspace *space)
{
	uint64_t quarter = space->options.garbage_max / 4;

	return space->retired.count * sizeof(struct asp_node) >
	       (quarter < BYTES_PER_GRACE ? quarter : BYTES_PER_GRACE);
}

/* What released snapshots held, retired once more. */
static void take_freed(struct aspace *space)
{
	struct aspace_record_list objects;
	uint64_t stamp;

	if (!atomic_load_explicit(&space->freed_any, memory_order_relaxed))
		return;
	asp_lock_acquire(&space->snap_lock);
	space->retired_in += space->freed_nodes.count;
	asp_list_splice(&space->retired, &space->freed_nodes);
	asp_note_retired(space, asp_retired_bytes(space));
	objects = space->freed_objects;
	space->freed_objects = (struct aspace_record_list){0};
	atomic_store_explicit(&space->freed_any, false, memory_order_relaxed);
	asp_lock_release(&space->snap_lock);

	if (!objects.head)
		return;
	stamp = asp_grace_stamp(space->grace);
	asp_list_stamp(&objects, stamp);
	asp_list_splice(&space->deferred, &objects);
	asp_note_waiting(space);
	asp_grace_request(space->grace, &space->client, stamp);
}

/* Leaves in the record what the snapshot holds. */
static void free_unless_held(struct aspace *space, struct aspace_record *record,
			     const struct aspace_snapshot *holder)
{
	size_t kept = 0;

	for (size_t i = 0; i < record->nodes; i++) {
		struct asp_node *node = record->node[i];

		if (holder && node->birth <= holder->version)
			record->node[kept++] = node;
		else
			asp_nodes_put(&space->nodes, node);
	}
	record->nodes = kept;
}

/* The snapshot holds the nodes of the record; in as few records as there can be, so that holding
 * takes no more records than retiring did. That `retired` may be another's does no harm: no
 * snapshot lies between the holder and either. */
static void hold(struct aspace *space, struct aspace_snapshot *holder, struct aspace_record *record)
{
	struct aspace_record *tail = holder->nodes.tail;

	space->snapshot_nodes += record->nodes;
	while (tail && tail->nodes < ASP_RECORD_NODES && record->nodes) {
		tail->node[tail->nodes++] = record->node[--record->nodes];
		holder->nodes.count++;
	}
	if (record->nodes)
		asp_list_push_nodes(&holder->nodes, record);
	else
		asp_pool_put(&space->records, record, sizeof(*record));
}

/* Of the hold of the writer lock; the next is greater by one. */
static uint32_t ticket_of(struct aspace *space)
{
	/* Relaxed: our own. */
	return atomic_load_explicit(&space->lock.serving, memory_order_relaxed);
}

static void recycle(struct aspace *space)
{
	struct aspace_snapshot *holder = NULL;
	struct aspace_record *record;
	size_t left = RECORDS_AT_ONCE;
	uint32_t late;

	/* If the last look was in this hold, none has been between. */
	late = ticket_of(space) - space->nodes_seen;
	asp_note_late(&space->latest.nodes, late ? late - 1 : 0);
	/* A snapshot that holds one of these nodes was listed inside a read section
	 * that began before the node was retired, so the grace period has made it
	 * visible; one that is being taken right now holds none of them. */
	asp_lock_acquire(&space->snap_lock);
	if (!space->oldest) {
		space->retired_out += space->waiting.count;
		asp_nodes_put_all(&space->nodes, &space->waiting);
	}
	while ((record = asp_list_pop_nodes(&space->waiting)) != NULL) {
		space->retired_out += record->nodes;
		holder = asp_snapshot_before(space, holder, record->retired);
		free_unless_held(space, record, holder);
		if (record->nodes)
			hold(space, holder, record);
		else
			asp_pool_put(&space->records, record, sizeof(*record));
		if (!--left) {
			/* After a great removal there are many: let others at the lock. */
			asp_lock_release(&space->snap_lock);
			left = RECORDS_AT_ONCE;
			holder = NULL;
			asp_lock_acquire(&space->snap_lock);
		}
	}
	asp_lock_release(&space->snap_lock);
}

/* What waits already keeps its stamp: with a new one at each request it could wait for
 * ever. */
uint64_t asp_reclaim_request(struct aspace *space)
{
	if (!space->waiting.head) {
		asp_list_splice(&space->waiting, &space->retired);
		space->stamp = asp_grace_stamp(space->grace);
		/* By the next hold of the lock it may be over. */
		space->nodes_seen = ticket_of(space);
	}
	asp_grace_request(space->grace, NULL, space->stamp);
	return space->stamp;
}

uint64_t asp_reclaim_hurry(struct aspace *space)
{
	return space->waiting.head || space->retired.head ? asp_reclaim_request(space) : 0;
}

void asp_reclaim_nodes(struct aspace *space)
{
	take_freed(space);
	if (space->waiting.head) {
		if (asp_grace_elapsed(space->grace, space->stamp))
			recycle(space);
		else
			space->nodes_seen = ticket_of(space);
	}
	if (!space->waiting.head && batch_is_full(space))
		asp_reclaim_request(space);
}
