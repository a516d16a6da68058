/* SPDX-License-Identifier: MIT */
/*
 * What has left the newest version, until it can be given back.
 *
 * Nodes: `retired` collects them; a batch at a time becomes `waiting`, with
 * the stamp of a grace period; when that has elapsed, the next writer puts them
 * back into the pool, while they are still in its cache. Two lists are enough: a
 * later batch can only be ready after an earlier one.
 *
 * References to user objects, and leaving areas, wait on `deferred` in the order
 * in which they were retired. They are run by the flavour's helper thread or by
 * whoever calls quiesce, one thread at a time (`runner`), so that the counter
 * deferred_out says how far the list has been run.
 *
 * Snapshots: a thing of versions [birth, retired) is held while a snapshot of one
 * of these versions is open. It is kept on the list of the newest such snapshot;
 * when that goes, what it kept is retired once more: it waits for another grace
 * period (a reader may have found it in the snapshot) and then goes to the next
 * older snapshot that shows it, or is free.
 */
#include "tree/nodes.h"
#include "space/space.h"
#include "update/reserve.h"
#include "update/pins.h"
#include "update/plan.h"
#include "update/births.h"

/* Nodes per grace period, in bytes. Fewer: more grace periods, each of which wakes the helper
 * and interrupts the CPUs of readers and of the writer; more: nodes come back when they have
 * left even the last of the caches. But not more than a quarter of what may be garbage: the
 * next batch grows while this one waits. */
#define BYTES_PER_GRACE ((uint64_t)2 << 20)

static bool batch_is_full(const struct aspace *space)
{
	uint64_t quarter = space->options.garbage_max / 4;

	return space->retired.count * sizeof(struct asp_node) >
	       (quarter < BYTES_PER_GRACE ? quarter : BYTES_PER_GRACE);
}

/* Records looked at under one hold of snap_lock. */
#define RECORDS_AT_ONCE 2048

/* Callbacks run between two looks at the lock. */
#define CALLS_AT_ONCE 32

/* ---- Snapshots' claims ---------------------------------------------------- */

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

/* What released snapshots held, retired once more. */
static void take_freed(struct aspace *space)
{
	struct aspace_record_list objects;
	struct aspace_record *record;
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
	for (record = objects.head; record; record = record->next)
		record->stamp = stamp;
	space->deferred_in += (uint32_t)objects.count;
	asp_list_splice(&space->deferred, &objects);
	asp_grace_request(space->grace, &space->client, stamp);
}

/* ---- Nodes ---------------------------------------------------------------- */

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

static void recycle(struct aspace *space)
{
	struct aspace_snapshot *holder = NULL;
	struct aspace_record *record;
	size_t left = RECORDS_AT_ONCE;

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
	if (space->waiting.head && asp_grace_elapsed(space->grace, space->stamp))
		recycle(space);
	if (!space->waiting.head && batch_is_full(space))
		asp_reclaim_request(space);
}

/* ---- Deferred: references and leaving areas ------------------------------- */

static void defer(struct aspace *space, struct aspace_record_list *list, uint64_t stamp,
		  bool leaving)
{
	struct aspace_record *record;

	for (record = list->head; record; record = record->next) {
		record->stamp = stamp;
		record->leaving = leaving;
	}
	space->deferred_in += (uint32_t)list->count;
	if (leaving)
		space->leaving_count += list->count;
	asp_list_splice(&space->deferred, list);
}

void asp_reclaim_add(struct aspace *space, struct aspace_record_list *nodes,
		     struct aspace_record_list *references, struct aspace_record_list *leaving)
{
	uint64_t stamp;

	space->retired_in += nodes->count;
	asp_list_splice(&space->retired, nodes);
	asp_note_retired(space, asp_retired_bytes(space));
	if (!references->head && !leaving->head)
		return;
	/* Leaving areas first: they are what somebody may come to wait for. */
	stamp = asp_grace_stamp(space->grace);
	defer(space, leaving, stamp, true);
	defer(space, references, stamp, false);
	asp_grace_request(space->grace, &space->client, stamp);
}

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
	defer(space, &unseen, 1, false);
	asp_grace_request(space->grace, &space->client, 1);
}

bool asp_deferred_done(struct aspace *space, uint32_t in)
{
	uint32_t out = atomic_load_explicit(&space->deferred_out, memory_order_acquire);

	return (int32_t)(out - in) >= 0;
}

static bool due(struct aspace *space)
{
	return space->deferred.head && asp_grace_elapsed(space->grace, space->deferred.head->stamp);
}

/* Asks the backend of one leaving area to unmap it, and plans the outcome. */
static enum aspace_status unmap_leaving(struct aspace *space, struct aspace_record *record,
					struct aspace_area *refused)
{
	struct aspace_txn *txn = &space->txn;
	const struct aspace_backend_ops *ops;
	enum aspace_status status = ASPACE_OK;
	struct asp_cursor cursor;
	struct aspace_area area;
	struct aspace_change change;

	asp_edit_seek(&txn->edit, &cursor, record->address);
	area = asp_public_area(asp_cursor_area(&cursor));
	ops = area.backend->ops;
	change = (struct aspace_change){
		.kind = ASPACE_CHANGE_UNMAP,
		.range = {area.start, area.end},
		.old_flags = area.flags,
		.user = area.user,
	};
	if (asp_op(area.backend, prepare)) {
		change.borders =
			asp_count_borders(&txn->edit, change.range, change.range.end.value);
		status = ops->prepare(area.backend, &change);
	}
	if (status == ASPACE_OK)
		status = ops->unmap(area.backend, &change);
	if (asp_op(area.backend, flush))
		ops->flush(area.backend);

	space->leaving_count--;
	if (status == ASPACE_OK) {
		asp_edit_remove_area(&txn->edit, area.start.value);
		record->leaving = false;
		record->backend = area.backend;
		record->user = area.user;
		record->birth = asp_births_take(space, area.start.value);
		return ASPACE_OK;
	}
	asp_edit_update(&txn->edit, area.start.value, area.end.value, area.flags, area.user);
	asp_plan_merge(txn, area.start.value, area.end.value);
	record->user = NULL;
	space->refused = true;
	*refused = area;
	return status;
}

/* Holds off who would be at work in the leaving area. If somebody is, the record waits for that
 * pin, and nobody else does. */
static bool claim_leaving(struct aspace *space, struct aspace_record *record, struct asp_pin *claim)
{
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(&space->txn.edit, &cursor, record->address);
	area = asp_cursor_area(&cursor);
	return asp_pins_claim(space, claim, (struct aspace_range){area.start, area.end}, record);
}

/* The leaving areas that have come due, at most `most`, in one version. Answers how
 * many; their references go to `ready`. */
static uint32_t unmap_leaving_areas(struct aspace *space, struct aspace_record_list *ready,
				    uint32_t most)
{
	struct aspace_txn *txn = &space->txn;
	struct {
		struct aspace_area area;
		enum aspace_status status;
	} refused[CALLS_AT_ONCE];
	struct asp_edit_need need = {.records = 2};
	struct asp_pin claim[CALLS_AT_ONCE];
	uint32_t count = 0, refusals = 0;

	/* What is held back is enough for one area; it comes back with the next grace period. */
	asp_txn_begin(space);
	need.nodes = asp_nodes_for_place(asp_tree_height(txn->base));
	while (count < most && due(space) && space->deferred.head->leaving &&
	       asp_reserve_or_spend(txn, &need)) {
		struct aspace_record *record = asp_list_pop(&space->deferred);

		if (!claim_leaving(space, record, &claim[count]))
			continue;
		refused[refusals].status = unmap_leaving(space, record, &refused[refusals].area);
		refusals += refused[refusals].status != ASPACE_OK;
		count++;
		if (record->user && asp_op(record->backend, release))
			asp_list_push(ready, record);
		else
			asp_pool_put(&space->records, record, sizeof(*record));
	}
	if (count)
		asp_publish(txn);
	else
		asp_txn_drop(txn);
	for (uint32_t i = 0; i < count; i++)
		asp_pins_drop(space, &claim[i]);
	for (uint32_t i = 0; i < refusals && space->options.refused; i++)
		space->options.refused(space->options.ctx, space, &refused[i].area,
				       refused[i].status);
	return count;
}

struct call {
	struct aspace_backend *backend;
	void *user;
};

/* Takes what has come due off the list, at most CALLS_AT_ONCE; `calls` gets the
 * releases to be run without the lock. Answers how many things it took. */
static uint32_t collect(struct aspace *space, struct call *calls, unsigned *call_count)
{
	struct aspace_record_list ready = {0};
	struct aspace_snapshot *holder = NULL, *keeper;
	struct aspace_record *record;
	uint32_t count = 0;

	while (count < CALLS_AT_ONCE && due(space)) {
		struct aspace_record *head = space->deferred.head;

		if (head->leaving) {
			count += unmap_leaving_areas(space, &ready, CALLS_AT_ONCE - count);
			if (space->deferred.head == head)
				break; /* no memory: again after a grace period */
		} else {
			asp_list_push(&ready, asp_list_pop(&space->deferred));
			count++;
		}
	}

	*call_count = 0;
	asp_lock_acquire(&space->snap_lock);
	asp_births_forget(space, space->oldest ? space->oldest->version : UINT64_MAX,
			  CALLS_AT_ONCE);
	while ((record = asp_list_pop(&ready)) != NULL) {
		holder = asp_snapshot_before(space, holder, record->retired);
		keeper = holder_of_object(space, holder, record);
		if (keeper) {
			asp_list_push(&keeper->objects, record);
			continue;
		}
		if (asp_pins_keep(space, record)) {
			space->deferred_in++; /* it comes once more */
			continue;
		}
		calls[(*call_count)++] = (struct call){record->backend, record->user};
		asp_pool_put(&space->records, record, sizeof(*record));
	}
	asp_lock_release(&space->snap_lock);
	return count;
}

/* Runs what has come due. Called and answered with the lock held, unless it answers
 * false: then it was asked not to wait for the lock, and has lost it. */
static bool run_due(struct aspace *space, bool wait)
{
	struct call calls[CALLS_AT_ONCE];
	uint32_t count;
	unsigned call_count;
	bool locked = true;

	if (atomic_load_explicit(&space->runner, memory_order_relaxed))
		return true; /* that thread goes on until nothing is due */
	atomic_store_explicit(&space->runner, asp_thread_self(), memory_order_relaxed);
	asp_pins_resume(space);
	do {
		asp_reclaim_nodes(space);
		count = collect(space, calls, &call_count);
		if (call_count) {
			asp_writer_leave(space);
			for (unsigned i = 0; i < call_count; i++)
				calls[i].backend->ops->release(calls[i].backend, calls[i].user);
			locked = asp_writer_enter_now(space, wait ? 0 : ASPACE_NOWAIT) == ASPACE_OK;
		}
		/* Sequentially consistent: see asp_writer_leave(). */
		if (!locked || !count)
			atomic_store(&space->runner, 0);
		if (count) {
			/* Pairs with the acquire in asp_deferred_done(). */
			atomic_fetch_add_explicit(&space->deferred_out, count,
						  memory_order_release);
			asp_wake_all(&space->deferred_out);
		}
	} while (locked && count);

	if (!locked) {
		asp_grace_request(space->grace, &space->client, 1);
	} else if (space->deferred.head) {
		uint64_t stamp = space->deferred.head->stamp;

		/* Due, but there was no memory for it: when some has come back. */
		if (due(space)) {
			asp_reclaim_hurry(space);
			stamp = asp_grace_stamp(space->grace);
		}
		asp_grace_request(space->grace, &space->client, stamp);
	}
	return locked;
}

void asp_reclaim_work(struct asp_grace_client *client)
{
	struct aspace *space = asp_space_of(client);

	/* If the lock is taken, its holder will ask for us again as it leaves. */
	if (asp_writer_enter_now(space, ASPACE_NOWAIT) != ASPACE_OK)
		return;
	if (run_due(space, false))
		asp_writer_leave(space);
}

/* The stamp to wait for until more of the deferred things up to `target` can be run; 0 if
 * another thread is running them. Under the lock. */
static uint64_t next_stamp(struct aspace *space, uint32_t target)
{
	if (asp_deferred_done(space, target) || !space->deferred.head)
		return 0;
	if (!due(space))
		return space->deferred.head->stamp;
	asp_reclaim_hurry(space); /* due, but it could not be run: no memory */
	return asp_grace_stamp(space->grace);
}

/* Leaves the lock, waits, and comes back. */
static enum aspace_status wait_and_return(struct aspace *space, uint64_t stamp, unsigned how)
{
	uint32_t seen = atomic_load_explicit(&space->deferred_out, memory_order_relaxed);

	asp_writer_leave(space);
	if ((how & ASPACE_NOWAIT) || asp_is_waited_for(space))
		return ASPACE_BUSY;
	if (!stamp)
		asp_wait(&space->deferred_out, seen, 10);
	else if (!asp_wait_for_readers(space, stamp))
		return ASPACE_BUSY;
	return asp_writer_enter_now(space, 0);
}

enum aspace_status asp_quiesce(struct aspace *space, unsigned how)
{
	enum aspace_status status;
	bool waited_for = asp_is_waited_for(space), again;
	uint32_t target;
	uint64_t nodes;

	if (atomic_load_explicit(&space->runner, memory_order_relaxed) == asp_thread_self())
		return ASPACE_DEADLOCK; /* a release callback of this space is beneath us */
	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	asp_reclaim_nodes(space);

	/* First what was deferred; then the references that it gave up, where an unmap was
	 * refused and its area has merged; then the nodes, which all that may have added to. */
	again = space->leaving_count;
	for (target = space->deferred_in;;) {
		uint64_t stamp;

		/* Callbacks never run in a reader, nor under the lock of another space. */
		if (!waited_for && !run_due(space, !(how & ASPACE_NOWAIT)))
			return ASPACE_BUSY;
		if (asp_deferred_done(space, target) && again) {
			again = false;
			target = space->deferred_in;
		}
		if (asp_deferred_done(space, target) && !space->pins.postponed.head)
			break;
		stamp = next_stamp(space, target);
		if (stamp)
			asp_grace_request(space->grace, &space->client, stamp);
		status = wait_and_return(space, stamp, how);
		if (status != ASPACE_OK)
			return status;
	}
	for (nodes = space->retired_in; space->retired_out < nodes; asp_reclaim_nodes(space)) {
		status = wait_and_return(space, asp_reclaim_request(space), how);
		if (status != ASPACE_OK)
			return status;
	}
	status = space->refused ? ASPACE_BAD_STATE : ASPACE_OK;
	space->refused = false;
	asp_writer_leave(space);
	return status;
}

enum aspace_status aspace_quiesce(struct aspace *space, unsigned how)
{
	/* No thread is made with a lock held. */
	if (!(how & ASPACE_NOWAIT) && !asp_is_waited_for(space))
		asp_grace_want_helper(space->grace);
	return asp_quiesce(space, how);
}
