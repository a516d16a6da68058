/* SPDX-License-Identifier: MIT */
/*
 * A space's life: create and destroy.
 */
#include "tree/nodes.h"
#include "options.h"
#include "read/lookup.h"
#include "reclaim/calls.h"
#include "update/line.h"
#include "update/pins.h"
#include "update/reserve.h"
#include "update/plan.h"

_Static_assert(sizeof(struct aspace) <= ASP_SPACE_BYTES, "a space fits into its block");

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
	pages->free(ctx, space, ASP_SPACE_BYTES);
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

	space = options.pages->alloc(options.pages_ctx, ASP_SPACE_BYTES);
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
				.begin_fork = asp_space_begin_fork,
				.halt = asp_space_halt,
				.resume = asp_space_resume,
				.before_fork = asp_space_before_fork,
				.after_fork = asp_space_after_fork,
			},
	};
	asp_lock_init(&space->lock);
	asp_lock_set_rank(&space->lock, ASP_LOCK_WRITER, number);
	space->lock.line = asp_stand_in_line;
	asp_lock_init(&space->snap_lock);
	asp_lock_set_rank(&space->snap_lock, ASP_LOCK_SNAPSHOTS, number);
	asp_mutex_init(&space->pins.lock, ASP_LOCK_PINS, number);
	asp_line_init(space);
	asp_pool_init(&space->nodes, sizeof(struct asp_node), options.pages, options.pages_ctx);
	asp_pool_init(&space->records, sizeof(struct aspace_record), options.pages,
		      options.pages_ctx);
	space->nodes.records = &space->records;
	asp_pool_init(&space->actions, sizeof(struct asp_touched), options.pages,
		      options.pages_ctx);
	if (!make_first_version(space)) {
		free_all(space);
		return ASPACE_NO_MEMORY;
	}
	status = asp_grace_attach(options.flavour, &space->client, &space->grace);
	if (status != ASPACE_OK) {
		free_all(space);
		return status;
	}
	asp_use_lookup_set(space, asp_lookup_set_best());
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
	unsigned most = 256;

	for (;;) {
		enum aspace_status status = asp_writer_enter(space, 0);
		struct aspace_range range;
		uint64_t stamp;

		if (status != ASPACE_OK)
			return status;
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
		if (!asp_unmap_entered(space, range, &status))
			return ASPACE_BUSY;
		if (status == ASPACE_BUSY && space->plan.leaving_in_way) {
			if (!asp_wait_for_leaving(space, 0, NULL))
				return ASPACE_BUSY;
			continue;
		}
		stamp = status == ASPACE_NO_MEMORY ? asp_reclaim_hurry(space) : 0;
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
	if ((asp_is_owner(space) &&
	     (!space->plan.open || space->plan.busy || asp_is_forking(space))) ||
	    asp_pins_mine(space) || asp_stall_is_beneath(space, false))
		return ASPACE_DEADLOCK;
	if (atomic_load_explicit(&space->txn_open, memory_order_relaxed))
		return ASPACE_BUSY;
	if (asp_calls_is_runner(&space->calls))
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
