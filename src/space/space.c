/* SPDX-License-Identifier: MIT */
/*
 * A space as a whole: create, destroy, statistics, validation, fork.
 */
#include "tree/nodes.h"
#include "options.h"
#include "read/lookup.h"
#include "reclaim/calls.h"
#include "space/halt.h"
#include "space/space.h"
#include "update/pins.h"
#include "update/reserve.h"
#include "update/plan.h"
#include "update/pieces.h"
#include "update/births.h"
#include "update/pending.h"

/* The structure lies in a block of the page operations, whose sizes are multiples of
 * this. */
#define SPACE_BYTES ((size_t)64 << 10)

_Static_assert(sizeof(struct aspace) <= SPACE_BYTES, "a space fits into its block");

static const struct aspace_page_ops default_pages = {asp_pages_alloc, asp_pages_free};

/* What is leaving, where the options do not say. An unmap of a page retires a node at least, so the
 * default of garbage_max, 29,127 nodes, comes first where areas are pages: these are 114 MiB. */
#define LEAVING_MAX ((size_t)128 << 20)

/* ---- Create --------------------------------------------------------------- */

static enum aspace_status check_options(struct aspace_options *options)
{
	uint64_t granule = options->granule ? options->granule : 1;
	uint64_t lo = options->limits.start.value, hi = options->limits.end.value;

	if (granule & (granule - 1))
		return ASPACE_INVALID_PARAM;
	if (!lo && !hi)
		hi = UINT64_MAX & ~(granule - 1);
	if (lo >= hi || (lo | hi) & (granule - 1))
		return ASPACE_INVALID_PARAM;
	if (options->mode &
	    ~(unsigned)(ASPACE_GRACE_UNMAP | ASPACE_ALWAYS_STRICT | ASPACE_NEVER_MERGE))
		return ASPACE_INVALID_PARAM;
	if (options->pages && (!options->pages->alloc || !options->pages->free))
		return ASPACE_INVALID_PARAM;
	options->granule = granule;
	options->limits = aspace_range_of(lo, hi);
	if (!options->garbage_max)
		options->garbage_max = (size_t)16 << 20;
	if (!options->leaving_max)
		options->leaving_max = LEAVING_MAX;
	if (!options->stall_ms)
		options->stall_ms = 1000;
	if (!options->pages)
		options->pages = &default_pages;
	return ASPACE_OK;
}

static void begin_fork(struct asp_grace_client *client);
static bool halt(struct asp_grace_client *client, uint64_t deadline);
static void resume(struct asp_grace_client *client);
static void before_fork(struct asp_grace_client *client);
static void after_fork(struct asp_grace_client *client, bool child);

static bool make_first_version(struct aspace *space)
{
	struct asp_node *root;

	/* Promises of the pools are for one edit at a time; this is none. */
	if (!asp_pool_reserve(&space->nodes, 1))
		return false;
	root = asp_nodes_get(&space->nodes);
	asp_node_init_leaf(root, 1);
	asp_freeze(root, sizeof(*root));
	space->node_count = 1;
	atomic_init(&space->version, 1);
	atomic_init(&space->root, root);
	asp_hold_back(space, 1, 1, 0);
	return asp_make_room(space, &(struct asp_edit_need){0});
}

static void free_all(struct aspace *space)
{
	const struct aspace_page_ops *pages = space->options.pages;
	void *ctx = space->options.pages_ctx;

	asp_pool_destroy(&space->nodes);
	asp_pool_destroy(&space->records);
	asp_pool_destroy(&space->actions);
	pages->free(ctx, space, SPACE_BYTES);
}

/* Relaxed: the numbers need only differ. */
static uint64_t next_id(void)
{
	static _Atomic uint64_t last;

	return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

enum aspace_status aspace_create(const struct aspace_options *given, struct aspace **out)
{
	struct aspace_options options = {0};
	struct aspace *space;
	enum aspace_status status;
	uint64_t number;

	if (!out || (given && !asp_copy_options(&options, sizeof(options), given,
						offsetof(struct aspace_options, limits))))
		return ASPACE_INVALID_PARAM;
	status = check_options(&options);
	if (status != ASPACE_OK)
		return status;

	space = options.pages->alloc(options.pages_ctx, SPACE_BYTES);
	if (!space)
		return ASPACE_NO_MEMORY;
	number = next_id();
	*space = (struct aspace){
		.lo = options.limits.start.value,
		.hi = options.limits.end.value,
		.granule = options.granule,
		.mode = options.mode,
		.id = number,
		.options = options,
		.client =
			{
				.work = asp_reclaim_work,
				.begin_fork = begin_fork,
				.halt = halt,
				.resume = resume,
				.before_fork = before_fork,
				.after_fork = after_fork,
			},
	};
	asp_lock_init(&space->lock);
	asp_lock_set_rank(&space->lock, ASP_LOCK_WRITER, number);
	asp_lock_init(&space->snap_lock);
	asp_lock_set_rank(&space->snap_lock, ASP_LOCK_SNAPSHOTS, number);
	asp_lock_init(&space->pins.lock);
	asp_lock_set_rank(&space->pins.lock, ASP_LOCK_PINS, number);
	asp_pool_init(&space->nodes, sizeof(struct asp_node), options.pages, options.pages_ctx);
	asp_pool_init(&space->records, sizeof(struct aspace_record), options.pages,
		      options.pages_ctx);
	space->nodes.records = &space->records;
	asp_pool_init(&space->actions, sizeof(struct asp_action), options.pages, options.pages_ctx);
	if (!make_first_version(space)) {
		free_all(space);
		return ASPACE_NO_MEMORY;
	}
	status = asp_grace_attach(options.flavour, &space->client, &space->grace);
	if (status != ASPACE_OK) {
		free_all(space);
		return status;
	}
	asp_use_lookup(space, asp_lookup_best());
	*out = space;
	return ASPACE_OK;
}

/* ---- Destroy -------------------------------------------------------------- */

/* The range of the next `most` areas that are not leaving; false if there are none. */
static bool next_areas(struct aspace *space, unsigned most, struct aspace_range *range)
{
	struct asp_cursor cursor;
	unsigned count = 0;

	for (bool more = asp_cursor_seek(&cursor, asp_root(space), 0); more && count < most;
	     more = asp_cursor_next(&cursor)) {
		struct aspace_area area = asp_cursor_area(&cursor);

		if (area.flags & ASP_FLAG_LEAVING)
			continue;
		if (!count++)
			range->start = area.start;
		range->end = area.end;
	}
	return count > 0;
}

/* Unmaps a few areas at a time: the little memory that each step takes comes back
 * from the one before. */
static enum aspace_status unmap_all(struct aspace *space)
{
	bool grace = space->mode & ASPACE_GRACE_UNMAP;
	unsigned most = 256;

	for (;;) {
		enum aspace_status status = asp_writer_enter(space, 0);
		struct asp_pin place;
		struct aspace_range range;
		bool may_go_on;
		uint64_t stamp;

		if (status != ASPACE_OK)
			return status;
		asp_pins_say(space, grace ? ASP_CHANGES_NOTHING : aspace_limits(space));
		/* A refused area is back: it would be found, and leave, for ever. Others may still
		 * be leaving. (One that has kept its flags only will leave.) */
		if (space->unmap_refused) {
			asp_writer_leave(space);
			return asp_quiesce(space, 0);
		}
		if (!next_areas(space, most, &range)) {
			space->refused = false; /* nothing is pending any more */
			asp_writer_leave(space);
			return ASPACE_OK;
		}
		asp_txn_begin(space);
		status = asp_plan_unmap(&space->txn, range, ASP_HOW_LENIENT);
		if (status == ASPACE_OK)
			status = asp_commit(&space->txn);
		else
			asp_txn_drop(&space->txn);
		stamp = status == ASPACE_NO_MEMORY ? asp_reclaim_hurry(space) : 0;
		if (space->txn.pinned) {
			asp_pins_queue(space, &place);
			asp_writer_leave(space);
			may_go_on = asp_pins_wait(space, &place);
			asp_pins_drop(space, &place);
			if (!may_go_on)
				return ASPACE_BUSY;
			continue;
		}
		if (status == ASPACE_BUSY && space->txn.leaving_in_way) {
			if (!asp_wait_for_leaving(space, 0))
				return ASPACE_BUSY;
			continue;
		}
		asp_writer_leave(space);
		if (status == ASPACE_OK)
			continue;
		if (status != ASPACE_NO_MEMORY || (most == 1 && !stamp))
			return status;
		most = 1;
		if (stamp && !asp_wait_for_readers(space, stamp))
			return ASPACE_BUSY;
	}
}

/* Those of before: what came back then is an area like any other. */
static enum aspace_status forget_refusals(struct aspace *space)
{
	enum aspace_status status = asp_writer_enter_now(space, 0);

	if (status == ASPACE_OK) {
		space->refused = space->unmap_refused = false;
		asp_writer_leave(space);
	}
	return status;
}

static bool has_snapshots(struct aspace *space)
{
	bool any;

	asp_lock_acquire(&space->snap_lock);
	any = space->snapshot_count != 0;
	asp_lock_release(&space->snap_lock);
	return any;
}

/* Is there nothing to unmap, to release or to wait for? */
static enum aspace_status check_idle(struct aspace *space)
{
	enum aspace_status status = asp_writer_enter_now(space, ASPACE_NOWAIT);
	bool idle;

	if (status != ASPACE_OK)
		return status;
	asp_reclaim_nodes(space);
	idle = !asp_root(space)->count && !space->leaving.head && !space->deferred.head &&
	       !space->pins.leaving.head && !space->pins.deferred.head && !space->retired.head &&
	       !space->waiting.head && !asp_calls_pending(&space->calls);
	asp_writer_leave(space);
	return idle ? ASPACE_OK : ASPACE_BUSY;
}

/* Unmap, release and wait. */
static enum aspace_status make_idle(struct aspace *space)
{
	enum aspace_status status;

	/* Again while release callbacks map something. */
	do {
		status = forget_refusals(space);
		if (status == ASPACE_OK)
			status = unmap_all(space);
		if (status == ASPACE_OK)
			status = asp_quiesce(space, 0);
	} while (status == ASPACE_OK && check_idle(space) != ASPACE_OK);
	return status;
}

/* Is nobody at work on the space, in it, or beneath us? */
static enum aspace_status check_unused(struct aspace *space)
{
	if ((asp_is_owner(space) && (!space->txn.open || space->txn.busy || space->pins.forking)) ||
	    asp_pins_mine(space))
		return ASPACE_DEADLOCK;
	if (atomic_load_explicit(&space->txn_open, memory_order_relaxed))
		return ASPACE_BUSY;
	if (asp_calls_is_runner(&space->calls) ||
	    atomic_load_explicit(&space->stalled_hooks, memory_order_relaxed))
		return ASPACE_DEADLOCK;
	return asp_is_waited_for(space) || has_snapshots(space) ? ASPACE_BUSY : ASPACE_OK;
}

enum aspace_status aspace_destroy(struct aspace *space, unsigned how)
{
	enum aspace_status status;

	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = check_unused(space);
	if (status != ASPACE_OK)
		return status;
	status = how & ASPACE_NOWAIT ? check_idle(space) : make_idle(space);
	/* Callbacks have run, and may have taken a snapshot, or left something else open. Now that
	 * the space is idle there are none that could do so later. */
	if (status == ASPACE_OK)
		status = check_unused(space);
	else if (status == ASPACE_DEADLOCK)
		status = ASPACE_BUSY; /* beside a transaction that one of them left to us */
	if (status != ASPACE_OK)
		return status;
	asp_grace_detach(space->grace, &space->client);
	free_all(space);
	return ASPACE_OK;
}

/* ---- Figures -------------------------------------------------------------- */

enum aspace_status aspace_trim(struct aspace *space, unsigned how)
{
	enum aspace_status status;
	uint64_t oldest;

	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	asp_reclaim_nodes(space);
	asp_lock_acquire(&space->snap_lock);
	oldest = space->oldest ? space->oldest->version : UINT64_MAX;
	asp_lock_release(&space->snap_lock);
	asp_births_forget(space, oldest, SIZE_MAX);
	asp_hold_back(space, asp_tree_height(asp_root(space)), space->node_count,
		      aspace_count(space));
	asp_nodes_unpack(&space->nodes);
	asp_pool_trim(&space->nodes);
	asp_pool_trim(&space->records);
	asp_pool_trim(&space->actions);
	asp_writer_leave(space);
	return ASPACE_OK;
}

static uint64_t pooled(const struct asp_pool *pool)
{
	return pool->available * pool->object_size;
}

enum aspace_status aspace_stats(struct aspace *space, struct aspace_stats *given, unsigned how)
{
	struct aspace_stats stats;
	enum aspace_status status;
	uint64_t pending;

	if (!given || given->size < offsetof(struct aspace_stats, leaving) ||
	    given->size > ASP_STRUCT_BYTES_MAX || how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	/* Relaxed: it changes under the writer lock. */
	pending = atomic_load_explicit(&space->pending.count, memory_order_relaxed);
	stats = (struct aspace_stats){
		.size = given->size,
		.areas = aspace_count(space),
		.leaving = space->leaving.count + space->pins.leaving.count - pending,
		.pending = pending,
		.bytes_leaving = space->leaving_bytes,
		.bytes_leaving_max = space->leaving_bytes_max,
		.height = asp_tree_height(asp_root(space)),
		.nodes = space->node_count,
		.bytes_live = space->node_count * sizeof(struct asp_node),
		.bytes_retired = asp_retired_bytes(space),
		.bytes_pooled =
			pooled(&space->nodes) + pooled(&space->records) + pooled(&space->actions),
		.bytes_mapped = space->nodes.bytes_mapped + space->records.bytes_mapped +
				space->actions.bytes_mapped + SPACE_BYTES,
		.version = asp_root(space)->birth,
		.grace_periods = asp_grace_count(space->grace),
		.releases_pending = space->deferred.count + space->pins.deferred.count +
				    asp_calls_pending(&space->calls),
		.releases_due = asp_calls_pending(&space->calls),
		.late_max = space->late.max,
	};
	asp_lock_acquire(&space->snap_lock);
	stats.bytes_retired += space->freed_nodes.count * sizeof(struct asp_node);
	stats.bytes_snapshots = space->snapshot_nodes * sizeof(struct asp_node);
	stats.snapshots = space->snapshot_count;
	asp_lock_release(&space->snap_lock);
	/* What a snapshot has just let go of has not been noted yet. */
	asp_note_retired(space, stats.bytes_retired);
	stats.bytes_retired_max = space->retired_max;
	asp_writer_leave(space);
	/* A caller that knows more fields than we do gets zeroes for them; one that knows
	 * fewer, those. */
	__builtin_memset(given, 0, given->size);
	__builtin_memcpy(given, &stats, stats.size < sizeof(stats) ? stats.size : sizeof(stats));
	return ASPACE_OK;
}

/* ---- Validation ----------------------------------------------------------- */

/* Numbers of aspace_violation: T1.. are 101.., P1.. 201.., S1.. 301... */
enum { TREE = 100, POOL = 200, SPACE = 300 };

static bool backend_holds(const struct aspace *space, struct aspace_area area,
			  struct asp_tree_census *census)
{
	struct aspace_backend *backend = area.backend;
	struct aspace_vaddr at = area.start;

	area = asp_public_area(area);
	area.flags = asp_held_flags(space, area.start.value, area.flags);
	if (!asp_op(backend, check_area) ||
	    backend->ops->check_area(backend, &area, &at, &census->what) == ASPACE_OK)
		return true;
	census->at = at.value;
	return false;
}

static unsigned check_areas(struct aspace *space, const struct asp_node *root,
			    struct asp_tree_census *census)
{
	struct asp_cursor cursor;
	struct aspace_area area, before = {0};

	for (bool more = asp_cursor_seek(&cursor, root, 0); more; more = asp_cursor_next(&cursor)) {
		uint64_t granule = space->granule;

		area = asp_cursor_area(&cursor);
		census->at = area.start.value;
		if (granule < area.backend->granule)
			granule = area.backend->granule;
		census->what = "an area is outside the limits or off its granule";
		if (!asp_range_usable(space, (struct aspace_range){area.start, area.end}, granule))
			return SPACE + 4;
		census->what = "an area has flags that its backend does not declare";
		if (area.flags & ~area.backend->flags_mask & ~ASP_FLAG_LEAVING)
			return SPACE + 4;
		census->what = "equal neighbours have not been merged";
		if (before.backend && asp_mergeable(space, &before, &area))
			return SPACE + 5;
		census->what = "a backend does not hold what an area says";
		if (!backend_holds(space, area, census))
			return SPACE + 7;
		before = area;
	}
	return 0;
}

/* What the list of leaving areas says. */
struct late_areas {
	uint64_t leaving, pending;
	uint64_t sum;   /* of the starts of leaving areas */
	uint64_t bytes; /* of memory that leaves */
};

/* Is the area there that the record is about, and as the record says? (Q1 and Q4, for a pending one.) */
static bool check_late(struct aspace *space, const struct asp_node *root,
		       const struct aspace_record *record, struct late_areas *late)
{
	uint64_t start = asp_late_start(record);
	int at;
	const struct asp_node *leaf = asp_tree_find(root, start, &at);
	const struct asp_slot *slot;

	if (!leaf || leaf->leaf.start[at] != start)
		return false;
	slot = &leaf->leaf.slot[at];
	if (!record->pending || record->drops)
		late->bytes += slot->end - start;
	if (!record->pending) {
		late->leaving++;
		late->sum += start;
		return slot->flags & ASP_FLAG_LEAVING;
	}
	late->pending++;
	return !(slot->flags & ASPACE_FLAGS_RESERVED) &&
	       asp_notes_in_place(space->pending.root, record);
}

static unsigned check_deferred(struct aspace *space, const struct asp_node *root,
			       struct asp_tree_census *census)
{
	/* Those of pins are changed under the writer lock only, too, which we have. */
	const struct aspace_record_list *references[] = {&space->deferred, &space->pins.deferred};
	const struct aspace_record_list *areas[] = {&space->leaving, &space->pins.leaving};
	struct aspace_record *record;
	struct late_areas late = {0};
	uint64_t count = 0;

	for (unsigned i = 0; i < 2; i++) {
		for (record = references[i]->head; record; record = record->next)
			count++;
		for (record = areas[i]->head; record; record = record->next) {
			census->at = asp_late_start(record);
			census->what = "a leaving record is for no leaving or pending area";
			if (!check_late(space, root, record, &late))
				return SPACE + 3;
		}
	}
	census->what = "deferred records are not what was counted";
	if (count != space->deferred.count + space->pins.deferred.count)
		return SPACE + 3;
	/* Not two records for one area and none for another, either. */
	census->what = "leaving areas and their records differ";
	if (late.leaving != census->leaving || late.sum != census->leaving_sum ||
	    late.leaving + late.pending != space->leaving.count + space->pins.leaving.count ||
	    late.pending != atomic_load_explicit(&space->pending.count, memory_order_relaxed) ||
	    late.bytes != space->leaving_bytes)
		return SPACE + 3;
	return 0;
}

/* How many records a list of nodes has; SIZE_MAX if its count of nodes is wrong. */
static size_t records_of(const struct aspace_record_list *list)
{
	size_t records = 0, nodes = 0;

	for (const struct aspace_record *record = list->head; record; record = record->next) {
		records++;
		nodes += record->nodes;
	}
	return nodes == list->count ? records : SIZE_MAX;
}

/* Under both locks. */
static unsigned check_counts(struct aspace *space, struct asp_tree_census *census)
{
	struct aspace_snapshot *snapshot;
	uint64_t held = 0, records = 0, version = 0;

	census->what = "snapshots are not in order";
	if (!asp_snapshots_in_order(space))
		return SPACE + 6;
	for (snapshot = space->oldest; snapshot; snapshot = snapshot->newer) {
		if (snapshot->version < version)
			return SPACE + 6;
		version = snapshot->version;
		if (version > atomic_load_explicit(&space->version, memory_order_relaxed))
			return SPACE + 6;
		held += snapshot->nodes.count;
		records += records_of(&snapshot->nodes) + snapshot->objects.count;
	}
	census->what = "areas, nodes or records are not what was counted";
	if (census->areas != aspace_count(space) || census->nodes != space->node_count ||
	    held != space->snapshot_nodes)
		return SPACE + 2;
	held += space->retired.count + space->waiting.count + space->freed_nodes.count;
	if (asp_pool_in_use(&space->nodes) != census->nodes + held)
		return SPACE + 2;
	records += records_of(&space->retired) + records_of(&space->waiting) +
		   records_of(&space->freed_nodes);
	for (const struct aspace_record *ready = space->nodes.ready; ready; ready = ready->next)
		records++;
	if (asp_pool_in_use(&space->records) !=
	    records + space->freed_objects.count + space->leaving.count + space->deferred.count +
		    space->pins.leaving.count + space->pins.deferred.count + space->births.count)
		return SPACE + 2;
	census->what = "a birth is noted where no reference is, or out of order";
	return asp_births_valid(space, &census->at) ? 0 : SPACE + 8;
}

/* How many nodes of the list no snapshot shows. */
static uint64_t count_unpinned(const struct aspace *space, const struct aspace_record_list *list)
{
	uint64_t count = 0;

	for (const struct aspace_record *record = list->head; record; record = record->next) {
		const struct aspace_snapshot *holder =
			asp_snapshot_before(space, NULL, record->retired);

		for (size_t i = 0; i < record->nodes; i++)
			count += !holder || record->node[i]->birth > holder->version;
	}
	return count;
}

/* How many nodes of the tree are not younger than the version. */
static uint64_t count_older(const struct asp_node *node, uint64_t version)
{
	uint64_t count = node->birth <= version;

	for (unsigned i = 0; node->level && i < node->count; i++)
		count += count_older(node->inner.child[i], version);
	return count;
}

/* Under both locks. (Of records, which several things have in common, the tests see it.) */
static unsigned check_held_back(struct aspace *space, struct asp_tree_census *census)
{
	const struct asp_node *root = asp_root(space);
	uint64_t nodes = space->nodes.available, beside = 0;

#ifdef ASPACE_TESTING
	nodes -= space->nodes.hidden;
#endif
	nodes += count_unpinned(space, &space->retired) + count_unpinned(space, &space->waiting) +
		 count_unpinned(space, &space->freed_nodes);
	asp_hold_back(space, asp_tree_height(root), space->node_count, aspace_count(space));
	if (space->covered)
		beside = space->copy;
	else if (space->newest)
		beside = count_older(root, space->newest->version);
	census->what = "unmapping everything takes more than is held back";
	return nodes < space->nodes.held - space->copy + beside ? SPACE + 9 : 0;
}

static unsigned check_pools(struct aspace *space, struct asp_tree_census *census)
{
	unsigned bad = asp_pool_validate(&space->nodes);

	if (!bad)
		bad = asp_pool_validate(&space->records);
	if (!bad)
		bad = asp_pool_validate(&space->actions);
	census->what = "a pool's free list is damaged";
	return bad ? POOL + bad : 0;
}

static unsigned check_all(struct aspace *space, struct asp_tree_census *census)
{
	const struct asp_node *root = asp_root(space);
	unsigned bad = asp_tree_validate(root, census);

	if (bad)
		return TREE + bad;
	bad = check_pools(space, census);
	if (bad)
		return bad;
	census->what = "the newest version has another number, or an action is left";
	if (root->birth != atomic_load_explicit(&space->version, memory_order_relaxed) ||
	    asp_pool_in_use(&space->actions))
		return SPACE + 1;
	bad = check_deferred(space, root, census);
	if (!bad) {
		asp_lock_acquire(&space->snap_lock);
		bad = check_counts(space, census);
		if (!bad)
			bad = check_held_back(space, census);
		asp_lock_release(&space->snap_lock);
	}
	if (!bad) {
		const char *what = asp_pins_check(space, &census->at);

		if (what) {
			census->what = what;
			return SPACE + 10;
		}
		bad = check_areas(space, root, census);
	}
	return bad;
}

enum aspace_status aspace_validate(struct aspace *space, struct aspace_violation *violation,
				   unsigned how)
{
	struct asp_tree_census census;
	enum aspace_status status;
	unsigned bad;

	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	bad = check_all(space, &census);
	asp_writer_leave(space);
	if (!bad)
		return ASPACE_OK;
	if (violation)
		*violation = (struct aspace_violation){bad, {census.at}, census.what};
	return ASPACE_BAD_STATE;
}

enum aspace_status aspace_dump(struct aspace *space, enum aspace_dump_format format,
			       aspace_write_fn *write, void *ctx)
{
	struct aspace_view view;
	bool complete;

	if (!write || (format != ASPACE_DUMP_MAPS && format != ASPACE_DUMP_DOT))
		return ASPACE_INVALID_PARAM;
	aspace_read_begin(space, &view);
	complete = format == ASPACE_DUMP_MAPS ? asp_tree_dump_maps(view.root, write, ctx)
					      : asp_tree_dump_dot(view.root, write, ctx);
	aspace_read_end(&view);
	return complete ? ASPACE_OK : ASPACE_BAD_STATE;
}

/* ---- fork ----------------------------------------------------------------- */

static void begin_fork(struct asp_grace_client *client)
{
	asp_pins_begin_fork(asp_space_of(client));
}

static bool halt(struct asp_grace_client *client, uint64_t deadline)
{
	return asp_halt(asp_space_of(client), deadline);
}

static void resume(struct asp_grace_client *client)
{
	asp_resume(asp_space_of(client));
}

/* Until the fork is over, what the thread would write is refused, as in a callback. */
static void before_fork(struct asp_grace_client *client)
{
	struct aspace *space = asp_space_of(client);

	asp_halt_enter(space);
	asp_lock_acquire(&space->snap_lock);
	asp_pins_before_fork(space);
}

/* Threads that are gone have left these as they were. */
static void mend_in_child(struct aspace *space)
{
	asp_lock_forget_waiters(&space->snap_lock);
	asp_lock_forget_waiters(&space->lock);
	atomic_store_explicit(&space->stalled_hooks, 0, memory_order_relaxed);
	/* Callbacks that another thread was running have gone with it; we could not
	 * wait for it, because it may have been waiting for a grace period. */
	asp_calls_after_fork(&space->calls);
}

static void after_fork(struct asp_grace_client *client, bool child)
{
	struct aspace *space = asp_space_of(client);
	/* Whatever is on the lists, a grace period or a look from now. */
	bool waits = space->leaving.head || space->deferred.head || space->pins.leaving.head ||
		     space->pins.deferred.head; /* in the child its pin has gone */

	asp_pins_after_fork(space, child);
	if (child)
		mend_in_child(space);
	asp_lock_release(&space->snap_lock);
	asp_halt_leave(space, child);
	/* The helper may have found the lock taken, and gone. */
	if (waits || atomic_load(&space->freed_any) || asp_calls_pending(&space->calls))
		asp_grace_request(space->grace, client, 1);
}

void aspace_before_fork(void)
{
	asp_grace_before_fork();
}

void aspace_after_fork_parent(void)
{
	asp_grace_after_fork_parent();
}

void aspace_after_fork_child(void)
{
	asp_grace_after_fork_child();
}

enum aspace_status aspace_install_fork_hooks(void)
{
	return asp_grace_install_fork_hooks();
}
