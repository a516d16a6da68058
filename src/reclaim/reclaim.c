/* SPDX-License-Identifier: MIT */
/*
 * What has left the newest version, until it can be given back.
 *
 * Nodes: `retired` collects them; a batch at a time becomes `waiting`, with
 * the stamp of a grace period; when that has elapsed, the next writer puts them
 * back into the pool, while they are still in its cache. Two lists are enough: a
 * later batch can only be ready after an earlier one.
 *
 * Leaving areas wait on `leaving`, references to user objects on `deferred`, in the order in
 * which they were retired. Whoever becomes the writer takes a share of what has come due, of
 * bounded size, before it does anything else; where nobody comes, the flavour's helper does, who
 * only tries the lock. References then go to the ring (calls.h), and are released with no lock
 * held. So nothing that is due waits for the lock to be free, and the helper waits for no lock.
 *
 * Snapshots: a thing of versions [birth, retired) is held while a snapshot of one
 * of these versions is open. It is kept on the list of the newest such snapshot;
 * when that goes, what it kept is retired once more: it waits for another grace
 * period (a reader may have found it in the snapshot) and then goes to the next
 * older snapshot that shows it, or is free.
 */
#include "reclaim/calls.h"
#include "tree/nodes.h"
#include "space/space.h"
#include "update/reserve.h"
#include "update/pins.h"
#include "update/plan.h"
#include "update/births.h"
#include "update/pending.h"

/* Nodes per grace period, in bytes. Fewer: more grace periods, each of which wakes the driver
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

/* Leaving areas, and references, that are taken off their lists under one hold of the lock. An
 * operation retires a few of either for each area that it, or one before it, has made: a share is
 * more than that, so that what is due gets less with each operation. */
#define SHARE 32

/* Releases that the helper runs for one space before it looks after the next. */
#define CALLS_AT_ONCE 64

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

static void stamp_all(struct aspace_record_list *list, uint64_t stamp)
{
	for (struct aspace_record *record = list->head; record; record = record->next)
		record->stamp = stamp;
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
	stamp_all(&objects, stamp);
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

/* ---- Leaving areas and references ----------------------------------------- */

void asp_reclaim_add(struct aspace *space, struct aspace_record_list *nodes,
		     struct aspace_record_list *references, struct aspace_record_list *leaving)
{
	uint64_t stamp;

	space->retired_in += nodes->count;
	asp_list_splice(&space->retired, nodes);
	asp_note_retired(space, asp_retired_bytes(space));
	if (!references->head && !leaving->head)
		return;
	stamp = asp_grace_stamp(space->grace);
	stamp_all(leaving, stamp);
	asp_list_splice(&space->leaving, leaving);
	stamp_all(references, stamp);
	asp_list_splice(&space->deferred, references);
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
	stamp_all(&unseen, 1);
	asp_list_splice(&unseen, &space->deferred);
	space->deferred = unseen;
	asp_grace_request(space->grace, &space->client, 1);
}

/* Does it hold anything that had left when stamps were at most `stamp`? */
static bool holds(const struct aspace_record_list *list, uint64_t stamp)
{
	return list->head && list->head->stamp <= stamp;
}

/* The same of a list in no order. */
static bool holds_any(const struct aspace_record_list *list, uint64_t stamp)
{
	for (const struct aspace_record *record = list->head; record; record = record->next) {
		if (record->stamp <= stamp)
			return true;
	}
	return false;
}

static bool due(struct aspace *space, const struct aspace_record_list *list)
{
	return list->head && asp_grace_elapsed(space->grace, list->head->stamp);
}

/* Asks the backend of one leaving area to unmap it, and plans the outcome: the area, gone or back. */
static enum aspace_status unmap_leaving(struct aspace *space, struct aspace_record *record,
					struct aspace_area *outcome)
{
	struct asp_plan *plan = &space->plan;
	const struct aspace_backend_ops *ops;
	enum aspace_status status = ASPACE_OK;
	struct asp_cursor cursor;
	struct aspace_area area;
	struct aspace_change change;

	asp_edit_seek(&plan->edit, &cursor, record->address);
	area = asp_public_area(asp_cursor_area(&cursor));
	*outcome = area;
	ops = area.backend->ops;
	change = (struct aspace_change){
		.kind = ASPACE_CHANGE_UNMAP,
		.range = {area.start, area.end},
		.old_flags = area.flags,
		.user = area.user,
	};
	if (asp_op(area.backend, prepare)) {
		change.borders =
			asp_count_borders(&plan->edit, change.range, change.range.end.value);
		status = ops->prepare(area.backend, &change);
	}
	if (status == ASPACE_OK)
		status = ops->unmap(area.backend, &change);
	if (asp_op(area.backend, flush))
		ops->flush(area.backend);

	if (status == ASPACE_OK) {
		asp_edit_remove_area(&plan->edit, area.start.value);
		record->backend = area.backend;
		record->user = area.user;
		record->birth = asp_births_take(space, area.start.value);
		return ASPACE_OK;
	}
	asp_edit_update(&plan->edit, area.start.value, area.end.value, area.flags, area.user);
	asp_plan_merge(plan, area.start.value, area.end.value);
	record->user = NULL;
	space->refused = space->unmap_refused = true;
	return status;
}

/* Asks the backend of one pending area for what the area shows; if it is refused, the area shows
 * what the backend holds. */
static enum aspace_status protect_pending(struct aspace *space, struct aspace_record *record,
					  struct aspace_area *outcome)
{
	struct asp_plan *plan = &space->plan;
	const struct aspace_backend_ops *ops;
	enum aspace_status status = ASPACE_OK;
	struct aspace_change change;
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(&plan->edit, &cursor, record->start);
	area = asp_cursor_area(&cursor);
	ops = area.backend->ops;
	change = (struct aspace_change){
		.kind = ASPACE_CHANGE_PROTECT,
		.range = {area.start, area.end},
		.old_flags = record->held_flags,
		.new_flags = area.flags,
		.user = area.user,
	};
	if (asp_op(area.backend, prepare))
		status = ops->prepare(area.backend, &change);
	if (status == ASPACE_OK)
		status = ops->protect(area.backend, &change);
	if (asp_op(area.backend, flush))
		ops->flush(area.backend);

	asp_pending_end(space, record);
	if (status != ASPACE_OK) {
		area.flags = record->held_flags;
		asp_edit_update(&plan->edit, area.start.value, area.end.value, area.flags,
				area.user);
		space->refused = true;
	}
	*outcome = area;
	asp_plan_merge(plan, area.start.value, area.end.value);
	return status;
}

/* Of a leaving or pending area. Its record goes, or is one of a reference that has `gone`. */
static enum aspace_status change_late(struct aspace *space, struct aspace_record *record,
				      struct aspace_record_list *gone, struct aspace_area *outcome)
{
	bool pending = record->pending, drops = !pending || record->drops;
	enum aspace_status status = pending ? protect_pending(space, record, outcome)
					    : unmap_leaving(space, record, outcome);

	if (drops)
		space->leaving_bytes -= outcome->end.value - outcome->start.value;
	if (!pending && record->user && asp_op(record->backend, release))
		asp_list_push(gone, record);
	else
		asp_pool_put(&space->records, record, sizeof(*record));
	return status;
}

/* Nothing of what is due could be done for want of memory: when some has come back. */
static void wait_for_memory(struct aspace *space)
{
	asp_reclaim_hurry(space);
	space->lacking = asp_grace_stamp(space->grace);
	asp_grace_request(space->grace, &space->client, space->lacking);
}

/* Holds off who would be at work in the leaving or pending area. If somebody is, the record waits
 * for that pin, and nobody else does. */
static bool claim_leaving(struct aspace *space, struct aspace_record *record, struct asp_pin *claim)
{
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(&space->plan.edit, &cursor, asp_late_start(record));
	area = asp_cursor_area(&cursor);
	return asp_pins_claim(space, claim, (struct aspace_range){area.start, area.end}, record);
}

/* The leaving and pending areas that have come due, at most SHARE, in one version. The references of those
 * that leave are the next to be released: so many. */
static uint32_t change_late_areas(struct aspace *space)
{
	struct asp_plan *plan = &space->plan;
	struct aspace_record_list gone = {0};
	struct {
		struct aspace_area area;
		enum aspace_status status;
	} refused[SHARE];
	struct asp_edit_need need = {.records = 2};
	struct asp_pin claim[SHARE];
	uint32_t tried = 0, count = 0, refusals = 0, references;

	/* What is held back is enough for one area; it comes back with the next grace period. */
	asp_plan_begin(space);
	need.nodes = asp_nodes_for_place(asp_tree_height(plan->base));
	for (; tried < SHARE && due(space, &space->leaving) && asp_reserve_or_spend(plan, &need);
	     tried++) {
		struct aspace_record *record = asp_list_pop(&space->leaving);

		if (!claim_leaving(space, record, &claim[count]))
			continue;
		refused[refusals].status =
			change_late(space, record, &gone, &refused[refusals].area);
		refusals += refused[refusals].status != ASPACE_OK;
		count++;
	}
	space->lacking = 0;
	if (plan->edit.root != plan->base) /* a pending area may show all already */
		asp_publish(plan);
	else
		asp_plan_drop(plan);
	if (!tried)
		wait_for_memory(space);
	for (uint32_t i = 0; i < count; i++)
		asp_pins_drop(space, &claim[i]);
	/* They waited as long as their areas, and pass what has not found room: so that no stamp on the list is
	 * lower than one before it, theirs is the lowest. It has elapsed, too. */
	if (gone.head && space->deferred.head && space->deferred.head->stamp < gone.head->stamp)
		stamp_all(&gone, space->deferred.head->stamp);
	references = (uint32_t)gone.count;
	asp_list_splice(&gone, &space->deferred);
	space->deferred = gone;
	for (uint32_t i = 0; i < refusals && space->options.refused; i++)
		space->options.refused(space->options.ctx, space, &refused[i].area,
				       refused[i].status);
	return references;
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
		asp_calls_put(&space->calls, record->backend, record->user);
		asp_pool_put(&space->records, record, sizeof(*record));
	}
	return holder;
}

/* The references that have come due, at most so many. False: so many as there was room for. */
static bool hand_over_references(struct aspace *space, uint32_t left)
{
	struct aspace_snapshot *holder = NULL;
	uint32_t in = atomic_load_explicit(&space->calls.in, memory_order_relaxed);
	bool room = true;

	asp_lock_acquire(&space->snap_lock);
	asp_births_forget(space, space->oldest ? space->oldest->version : UINT64_MAX, SHARE);
	for (; room && left && due(space, &space->deferred); left--) {
		room = asp_calls_room(&space->calls) || !asp_calls_clog(&space->calls);
		if (room)
			holder = hand_over(space, holder, asp_list_pop(&space->deferred));
	}
	asp_lock_release(&space->snap_lock);
	if (in != atomic_load_explicit(&space->calls.in, memory_order_relaxed))
		asp_grace_request(space->grace, &space->client, 1);
	return room;
}

/* What has been taken off its list is no longer late; see struct aspace_stats. */
static void note_late(struct aspace *space)
{
	struct asp_late *late = &space->late;

	if (!due(space, &space->leaving) && !due(space, &space->deferred)) {
		late->now = late->before = 0;
		return;
	}
	late->now++;
	if (late->max < late->before + late->now)
		late->max = late->before + late->now;
	if (!holds(&space->leaving, late->stamp) && !holds(&space->deferred, late->stamp)) {
		late->before = late->now;
		late->now = 0;
		late->stamp = asp_grace_count(space->grace) + 1;
	}
}

bool asp_reclaim_any_due(struct aspace *space)
{
	return due(space, &space->leaving) || due(space, &space->deferred) ||
	       atomic_load_explicit(&space->pins.resumable, memory_order_relaxed);
}

bool asp_reclaim_share(struct aspace *space)
{
	bool any = false, room = true;
	uint32_t references = SHARE;

	asp_pins_resume(space);
	if (due(space, &space->leaving)) {
		/* They come first, and must not keep the others from their turn. */
		references += change_late_areas(space);
		any = true;
	}
	if (due(space, &space->deferred)) {
		room = hand_over_references(space, references);
		any = true;
	}
	if (any)
		note_late(space);
	return room;
}

void asp_reclaim_work(struct asp_grace_client *client)
{
	struct aspace *space = asp_space_of(client);

	/* If the lock is taken, its holder will ask for us again as it leaves, or who comes next
	 * takes a share itself. */
	if (asp_writer_enter_now(space, ASPACE_NOWAIT) == ASPACE_OK) {
		asp_reclaim_nodes(space);
		asp_reclaim_share(space);
		asp_writer_leave(space);
	}
	if (!asp_calls_run(space, CALLS_AT_ONCE))
		asp_grace_request(space->grace, client, 1);
}

/* ---- Waiting for it -------------------------------------------------------- */

uint64_t asp_reclaim_leaving_stamp(struct aspace *space)
{
	if (!space->leaving.head)
		return 1;
	return space->lacking ? space->lacking : space->leaving.head->stamp;
}

/* Runs what has been handed over by now; no lock held. True: the thread may wait for others then. Callbacks
 * never run in a reader, nor under the lock of another space; but one may leave it so. */
static bool run_pending(struct aspace *space)
{
	uint32_t pending = asp_calls_pending(&space->calls);

	if (asp_is_waited_for(space))
		return false;
	if (pending && !asp_calls_run(space, pending))
		asp_grace_request(space->grace, &space->client, 1);
	return !asp_is_waited_for(space);
}

/* What to wait for without the lock. */
struct wait {
	uint64_t stamp;          /* readers; or, if 0, */
	const uint32_t *resumed; /* a pin, or, if NULL, room for references */
};

static bool is_over(struct aspace *space, const struct wait *wait)
{
	if (wait->stamp)
		return asp_grace_elapsed(space->grace, wait->stamp);
	return !wait->resumed && !asp_calls_clogged(&space->calls);
}

static bool await(struct aspace *space, const struct wait *wait)
{
	if (wait->stamp)
		return asp_wait_for_readers(space, wait->stamp);
	return wait->resumed ? asp_pins_await(space, *wait->resumed) : asp_calls_await_room(space);
}

/* Leaves the lock, lets run what has been handed over, waits, and comes back. */
static enum aspace_status step(struct aspace *space, struct wait wait, unsigned how)
{
	bool may_wait;

	asp_writer_leave(space);
	may_wait = run_pending(space) && !(how & ASPACE_NOWAIT);
	if (!is_over(space, &wait) && (!may_wait || !await(space, &wait)))
		return ASPACE_BUSY;
	return asp_writer_enter_now(space, how);
}

/* Until nothing is on the list, or postponed, that was when this began. Under the lock, which is
 * lost where it answers another status than ASPACE_OK. */
static enum aspace_status drain(struct aspace *space, const struct aspace_record_list *list,
				const struct aspace_record_list *postponed, unsigned how)
{
	uint64_t stamp = asp_grace_stamp(space->grace);
	enum aspace_status status;

	do {
		uint32_t resumed;
		struct wait wait = {0};

		asp_reclaim_share(space);
		resumed = space->pins.resumed;
		if (!holds(list, stamp)) {
			if (!holds_any(postponed, stamp))
				return ASPACE_OK;
			wait.resumed = &resumed;
		} else if (list == &space->leaving) {
			wait.stamp = asp_reclaim_leaving_stamp(space);
		} else if (!asp_calls_clogged(&space->calls)) {
			wait.stamp = list->head->stamp;
		}
		status = step(space, wait, how);
	} while (status == ASPACE_OK);
	return status;
}

/* What has been handed over by now. The lock as above. */
static enum aspace_status finish_calls(struct aspace *space, unsigned how)
{
	uint32_t target = atomic_load_explicit(&space->calls.in, memory_order_relaxed);
	bool may_wait;

	if (!asp_calls_pending(&space->calls))
		return ASPACE_OK;
	asp_writer_leave(space);
	may_wait = run_pending(space) && !(how & ASPACE_NOWAIT);
	if (!asp_calls_returned(&space->calls, target) &&
	    (!may_wait || !asp_calls_await(space, target)))
		return ASPACE_BUSY;
	return asp_writer_enter_now(space, how);
}

enum aspace_status asp_quiesce(struct aspace *space, unsigned how)
{
	enum aspace_status status;
	uint64_t nodes;

	if (asp_calls_is_runner(&space->calls))
		return ASPACE_DEADLOCK; /* a release callback of this space is beneath us */
	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	asp_reclaim_nodes(space);
	/* First the areas; then the references, to which those may have added; then the nodes, to
	 * which either may. */
	status = drain(space, &space->leaving, &space->pins.leaving, how);
	if (status == ASPACE_OK)
		status = drain(space, &space->deferred, &space->pins.deferred, how);
	if (status == ASPACE_OK)
		status = finish_calls(space, how);
	if (status != ASPACE_OK)
		return status;
	for (nodes = space->retired_in; space->retired_out < nodes; asp_reclaim_nodes(space)) {
		status = step(space, (struct wait){.stamp = asp_reclaim_request(space)}, how);
		if (status != ASPACE_OK)
			return status;
	}
	status = space->refused ? ASPACE_BAD_STATE : ASPACE_OK;
	space->refused = space->unmap_refused = false;
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
