/* SPDX-License-Identifier: MIT */
/*
 * W1: who waits, who is told ASPACE_BUSY or ASPACE_DEADLOCK instead; and the grace-unmap
 * space, where ranges are leaving for a while.
 *
 * A backend of our own lets its callbacks be met: its map() runs a function of the test.
 */
#include <pthread.h>

#include "conformance/support.h"

static struct world w;

/* ---- A backend whose map() calls the test ------------------------------ */

static void (*in_map)(void);
static struct aspace_backend_ops own_ops;
static struct aspace_backend own;

static enum aspace_status own_map(struct aspace_backend *backend,
				  const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	if (in_map)
		in_map();
	return ASPACE_OK;
}

static enum aspace_status own_accept(struct aspace_backend *backend,
				     const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

/* ---- A place to meet for two threads ----------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int stage;

static void reach(int wanted)
{
	pthread_mutex_lock(&mutex);
	stage = wanted;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static void wait_for(int wanted)
{
	pthread_mutex_lock(&mutex);
	while (stage < wanted)
		pthread_cond_wait(&changed, &mutex);
	pthread_mutex_unlock(&mutex);
}

static bool has_reached(int wanted)
{
	bool reached;

	pthread_mutex_lock(&mutex);
	reached = stage >= wanted;
	pthread_mutex_unlock(&mutex);
	return reached;
}

static pthread_t start(void *(*function)(void *))
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, function, NULL), 0);
	return thread;
}

static void join(pthread_t thread)
{
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* ---- Set up ------------------------------------------------------------ */

static struct {
	unsigned calls;
	struct aspace_area area;
	enum aspace_status status;
	enum aspace_status found, updated;
} refusal;

static void refused(void *ctx, struct aspace *space, const struct aspace_area *area,
		    enum aspace_status status)
{
	struct aspace_area found;

	assert_ptr_equal(ctx, &refusal);
	refusal.calls++;
	refusal.area = *area;
	refusal.status = status;
	refusal.found = aspace_find(space, area->start, &found);
	refusal.updated = aspace_unmap(space, range(0, 1), 0);
}

/* A wait has lasted a millisecond: somebody does wait. Lets the reader go. */
static unsigned stalls;

static void stalled(void *ctx, struct aspace *space, uint64_t waited_ms)
{
	(void)ctx;
	(void)space;
	assert_true(waited_ms >= 1);
	stalls++;
	reach(2);
}

static void open_waiting(unsigned mode, size_t garbage_max)
{
	stage = 0;
	stalls = 0;
	in_map = NULL;
	memset(&refusal, 0, sizeof(refusal));
	own_ops = (struct aspace_backend_ops){.size = sizeof(own_ops),
					      .map = own_map,
					      .unmap = own_accept,
					      .protect = own_accept};
	own = (struct aspace_backend){.ops = &own_ops};
	world_open(&w, &(struct world_options){.space = {.mode = mode,
							 .garbage_max = garbage_max,
							 .stall_ms = 1,
							 .stalled = stalled,
							 .refused = refused,
							 .ctx = &refusal}});
	assert_ok(map(&w, 0, 100, 1, NULL));
}

static int open_plain(void **state)
{
	(void)state;
	open_waiting(0, 0);
	return 0;
}

static int open_grace(void **state)
{
	(void)state;
	open_waiting(ASPACE_GRACE_UNMAP, 0);
	return 0;
}

/* One byte: the bound is reached by the first update under a reader. */
static int open_bounded(void **state)
{
	(void)state;
	open_waiting(0, 1);
	return 0;
}

static int close_world(void **state)
{
	(void)state;
	world_close(&w);
	return 0;
}

/* ---- Every call that may wait ------------------------------------------ */

static void assert_every_update(enum aspace_status want, unsigned how)
{
	struct aspace_gap gap = {.size = 10};
	struct aspace_vaddr at_start;
	struct aspace_txn *txn;

	assert_status(want, aspace_map(w.space, range(500, 510), 1, w.backend, NULL, how));
	assert_status(want, aspace_map_anywhere(w.space, &gap, 1, w.backend, NULL, how, &at_start));
	assert_status(want, aspace_unmap(w.space, range(0, 100), how));
	assert_status(want, aspace_protect(w.space, range(0, 100), 2, how));
	assert_status(want, aspace_clear(w.space, how));
	assert_status(want, aspace_move(w.space, range(0, 10), at(500), how));
	assert_status(want, aspace_resize(w.space, at(0), 50, how));
	assert_status(want, aspace_txn_begin(w.space, how, &txn));
}

static void assert_reads_work(void)
{
	struct aspace_gap gap = {.size = 10};
	struct aspace_vaddr found;
	struct aspace_area area;

	assert_ok(aspace_find(w.space, at(50), &area));
	assert_int_equal(area.flags, 1);
	assert_true(aspace_overlaps(w.space, range(0, 10)));
	assert_ok(aspace_find_free(w.space, &gap, &found));
}

/* Where the calling thread is at work it is told so; elsewhere the fault goes through. */
static enum aspace_status want_of_fault;

static void update_beneath(void)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	assert_every_update(ASPACE_DEADLOCK, 0);
	assert_every_update(ASPACE_DEADLOCK, ASPACE_NOWAIT);
	assert_status(ASPACE_DEADLOCK, aspace_quiesce(w.space, 0));
	assert_status(want_of_fault, aspace_fault(w.space, at(50), ASPACE_ACCESS_READ, 0));
	assert_status(ASPACE_DEADLOCK, aspace_stats(w.space, &stats, 0));
	assert_status(ASPACE_DEADLOCK, aspace_validate(w.space, NULL, 0));
	assert_reads_work();
	/* The old version: what is being mapped is not there yet. */
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(1000), NULL));
}

static void update_and_destroy_beneath(void)
{
	update_beneath();
	assert_status(ASPACE_DEADLOCK, aspace_destroy(w.space, 0));
	reach(1);
}

static void a_backend_may_read_but_not_update(void **state)
{
	(void)state;
	in_map = update_and_destroy_beneath;
	assert_ok(aspace_map(w.space, range(1000, 1010), 0, &own, NULL, 0));
	assert_int_equal(stage, 1);
	assert_int_equal(aspace_count(w.space), 2);
	assert_ok(aspace_unmap(w.space, range(1000, 1010), 0));
	assert_areas(&w, "0-64:1");
}

static bool update_while_deciding(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	(void)area;
	(void)flags;
	update_beneath();
	reach(1);
	return false;
}

static void a_protect_callback_may_read_but_not_update(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	want_of_fault = ASPACE_DEADLOCK;
	assert_ok(aspace_protect_with(w.space, range(0, 100), update_while_deciding, NULL, 0));
	want_of_fault = ASPACE_OK;
	assert_int_equal(stage, 1);
	stage = 0;
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_protect_with(txn, range(0, 100), update_while_deciding, NULL, 0));
	assert_int_equal(stage, 1);
	aspace_txn_abort(txn);
	assert_areas(&w, "0-64:1");
}

static struct aspace_txn *open_txn;

static void go_on_with_the_transaction(void)
{
	assert_status(ASPACE_DEADLOCK, aspace_txn_unmap(open_txn, range(0, 100), 0));
	assert_status(ASPACE_DEADLOCK, aspace_txn_commit(open_txn));
	aspace_txn_abort(open_txn);
	reach(1);
}

static void a_backend_may_not_touch_the_transaction_above_it(void **state)
{
	(void)state;
	in_map = go_on_with_the_transaction;
	assert_ok(aspace_txn_begin(w.space, 0, &open_txn));
	assert_ok(aspace_txn_map(open_txn, range(1000, 1010), 0, &own, NULL, 0));
	assert_ok(aspace_txn_commit(open_txn));
	assert_int_equal(stage, 1);
	assert_ok(aspace_unmap(w.space, range(1000, 1010), 0));
	assert_areas(&w, "0-64:1");
}

static void go_back_to_the_transaction(void)
{
	assert_status(ASPACE_DEADLOCK,
		      aspace_txn_map(open_txn, range(2000, 2010), 0, &own, NULL, 0));
	assert_status(ASPACE_DEADLOCK, aspace_txn_commit(open_txn));
	reach(1);
}

/* The writer lock is its own again: the transaction is not. */
static void a_backend_may_not_go_back_to_a_transaction(void **state)
{
	(void)state;
	assert_ok(aspace_txn_begin(w.space, 0, &open_txn));
	assert_ok(aspace_txn_commit(open_txn));
	in_map = go_back_to_the_transaction;
	assert_ok(aspace_map(w.space, range(1000, 1010), 0, &own, NULL, 0));
	assert_int_equal(stage, 1);
	assert_ok(aspace_unmap(w.space, range(1000, 1010), 0));
	assert_areas(&w, "0-64:1");
}

static bool destroy_while_deciding(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	(void)area;
	(void)flags;
	assert_status(ASPACE_DEADLOCK, aspace_destroy(w.space, 0));
	reach(1);
	return false;
}

static void beneath_a_transaction_the_space_cannot_be_destroyed(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_protect_with(txn, range(0, 100), destroy_while_deciding, NULL, 0));
	assert_int_equal(stage, 1);
	assert_status(ASPACE_BUSY, aspace_destroy(w.space, 0));
	aspace_txn_abort(txn);
	assert_areas(&w, "0-64:1");
}

static void beside_an_open_transaction_of_its_own_a_thread_may_only_read(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	update_beneath();
	aspace_txn_abort(txn);
	assert_areas(&w, "0-64:1");
}

static void *touch_a_foreign_transaction(void *ignored)
{
	assert_status(ASPACE_DEADLOCK, aspace_txn_unmap(open_txn, range(0, 100), 0));
	assert_status(ASPACE_DEADLOCK, aspace_txn_find(open_txn, at(0), NULL));
	assert_status(ASPACE_DEADLOCK, aspace_txn_commit(open_txn));
	aspace_txn_abort(open_txn);
	assert_every_update(ASPACE_BUSY, ASPACE_NOWAIT);
	return ignored;
}

static void a_transaction_belongs_to_its_thread(void **state)
{
	(void)state;
	assert_ok(aspace_txn_begin(w.space, 0, &open_txn));
	assert_ok(aspace_txn_protect(open_txn, range(0, 100), 2, 0));
	join(start(touch_a_foreign_transaction));
	assert_ok(aspace_txn_commit(open_txn));
	assert_areas(&w, "0-64:2");
}

/* ---- The lock is somebody else's --------------------------------------- */

static void hold_the_lock(void)
{
	reach(1);
	wait_for(2);
}

static void *map_slowly(void *ignored)
{
	assert_ok(aspace_map(w.space, range(1000, 1010), 0, &own, NULL, 0));
	return ignored;
}

static void with_nowait_a_held_lock_is_busy(void **state)
{
	struct aspace_stats stats = {.size = sizeof(stats)};
	pthread_t holder;

	(void)state;
	in_map = hold_the_lock;
	holder = start(map_slowly);
	wait_for(1);
	assert_every_update(ASPACE_BUSY, ASPACE_NOWAIT);
	assert_status(ASPACE_BUSY, aspace_quiesce(w.space, ASPACE_NOWAIT));
	assert_ok(aspace_fault(w.space, at(50), 1, ASPACE_NOWAIT)); /* takes no lock */
	assert_status(ASPACE_BUSY, aspace_stats(w.space, &stats, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_validate(w.space, NULL, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_trim(w.space, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_destroy(w.space, ASPACE_NOWAIT));
	assert_reads_work();
	reach(2);
	join(holder);
	assert_ok(aspace_unmap(w.space, range(1000, 1010), 0));
	assert_areas(&w, "0-64:1");
}

static struct aspace *contended;

static void *hold_a_transaction(void *ignored)
{
	struct aspace_txn *txn;

	wait_for(2);
	assert_ok(aspace_txn_begin(contended, 0, &txn));
	reach(3);
	wait_for(4);
	aspace_txn_abort(txn);
	return ignored;
}

static enum aspace_status own_clone(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	*copy = user;
	return ASPACE_OK;
}

/* Keeps the helper thread until the test is over. */
static void release_slowly(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	if (!has_reached(1))
		reach(1);
	wait_for(4);
}

/* No lock is held in it: somebody else may take it. */
static void release_to_another(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	reach(2);
	wait_for(3);
}

static struct aspace *space_with_object(struct aspace_backend *backend)
{
	struct aspace *space;

	assert_ok(aspace_create(NULL, &space));
	assert_ok(aspace_map(space, range(0, 10), 0, backend, backend, 0));
	return space;
}

/* Whoever waits turns grace periods over, while the helper is in a callback. */
static void turn_over(void)
{
	assert_ok(map(&w, 2000, 2010, 0, NULL));
	assert_ok(unmap(&w, 2000, 2010));
	assert_ok(aspace_quiesce(w.space, 0));
}

/* The helper is busy with another space, so that it is quiesce that runs the callback of this
 * one, and comes back to a lock that is taken. */
static void quiesce_may_lose_the_lock_beneath_it(void **state)
{
	struct aspace_backend_ops slow_ops, other_ops;
	struct aspace_backend slow, other;
	struct aspace *before, *after;
	struct aspace_view view;
	pthread_t holder;

	(void)state;
	own_ops.clone = own_clone;
	slow_ops = other_ops = own_ops;
	slow_ops.release = release_slowly;
	other_ops.release = release_to_another;
	slow = other = own;
	slow.ops = &slow_ops;
	other.ops = &other_ops;
	/* Whichever order the helper takes them in. */
	before = space_with_object(&slow);
	contended = space_with_object(&other);
	after = space_with_object(&slow);
	aspace_read_begin(contended, &view);
	assert_ok(aspace_clear(before, 0));
	assert_ok(aspace_clear(contended, 0));
	assert_ok(aspace_clear(after, 0));
	holder = start(hold_a_transaction);
	aspace_read_end(&view);
	wait_for(1);
	/* The helper may have begun a grace period between two of the above. */
	while (aspace_quiesce(contended, ASPACE_NOWAIT) == ASPACE_BUSY && !has_reached(3))
		turn_over();
	assert_true(has_reached(3));
	assert_status(ASPACE_BUSY, aspace_quiesce(contended, ASPACE_NOWAIT));
	reach(4);
	join(holder);
	assert_ok(aspace_destroy(before, 0));
	assert_ok(aspace_destroy(contended, 0));
	assert_ok(aspace_destroy(after, 0));
}

/* ---- Grace-unmap spaces ------------------------------------------------ */

static void what_is_leaving_is_not_found_but_in_the_way(void **state)
{
	struct aspace_gap gap = {.size = 10};
	struct aspace_view before, after;
	struct aspace_vaddr found;
	struct aspace_txn *txn;
	struct aspace_iter iter;

	(void)state;
	aspace_read_begin(w.space, &before);
	assert_ok(unmap(&w, 20, 60));
	aspace_read_begin(w.space, &after);
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(30), NULL));
	assert_view(&w, &before, "0-64:1");
	assert_view(&w, &after, "0-14:1 3c-64:1");
	aspace_iter_begin(&after, at(100), &iter);
	assert_true(aspace_iter_prev(&iter, NULL));
	assert_true(aspace_iter_prev(&iter, NULL));
	assert_false(aspace_iter_prev(&iter, NULL));
	assert_int_equal(aspace_count(w.space), 2);
	assert_int_equal(stats_of(&w).leaving, 1);
	/* Memory is there for as long as the section. */
	assert_true(aspace_mock_query(w.mock, at(30), NULL));
	assert_int_equal(aspace_mock_calls(w.mock, ASPACE_MOCK_UNMAP), 0);

	assert_true(aspace_overlaps(w.space, range(30, 40)));
	assert_ok(aspace_find_free(w.space, &gap, &found));
	assert_int_equal(found.value, 100);
	/* Only a wait could make room: not in a section, not with NOWAIT, not in a
	 * transaction. */
	assert_status(ASPACE_BUSY, map(&w, 30, 40, 2, NULL));
	assert_status(ASPACE_BUSY,
		      aspace_map(w.space, range(30, 40), 2, w.backend, NULL, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_resize(w.space, at(0), 30, 0));
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_status(ASPACE_BUSY, aspace_txn_map(txn, range(30, 40), 2, w.backend, NULL, 0));
	aspace_txn_abort(txn);
	assert_status(ASPACE_BUSY, aspace_quiesce(w.space, 0));
	assert_status(ASPACE_BUSY, aspace_quiesce(w.space, ASPACE_NOWAIT));
	/* It has been unmapped: again is nothing to do, or a hole. */
	assert_ok(unmap(&w, 20, 60));
	assert_status(ASPACE_NOT_MAPPED, aspace_unmap(w.space, range(20, 60), ASPACE_STRICT));
	assert_ok(protect(&w, 20, 60, 7));
	aspace_read_end(&after);
	aspace_read_end(&before);

	assert_ok(aspace_quiesce(w.space, 0));
	assert_areas(&w, "0-14:1 3c-64:1");
	assert_int_equal(stats_of(&w).leaving, 0);
	assert_ok(map(&w, 30, 40, 2, NULL));
	assert_areas(&w, "0-14:1 1e-28:2 3c-64:1");
}

static void *read_until_told(void *ignored)
{
	struct aspace_view view;

	aspace_read_begin(w.space, &view);
	reach(1);
	wait_for(2);
	aspace_read_end(&view);
	return ignored;
}

/* The reader goes only when the stall hook has told that somebody waits for it. */
static void a_map_onto_a_leaving_range_waits_for_readers(void **state)
{
	pthread_t reader = start(read_until_told);

	(void)state;
	wait_for(1);
	assert_ok(unmap(&w, 20, 60));
	assert_status(ASPACE_BUSY,
		      aspace_map(w.space, range(30, 40), 2, w.backend, NULL, ASPACE_NOWAIT));
	assert_int_equal(stalls, 0);
	assert_ok(map(&w, 30, 40, 2, NULL));
	assert_true(stalls >= 1);
	join(reader);
	assert_areas(&w, "0-14:1 1e-28:2 3c-64:1");
}

static void quiesce_waits_for_readers(void **state)
{
	pthread_t reader = start(read_until_told);

	(void)state;
	wait_for(1);
	assert_ok(unmap(&w, 20, 60));
	assert_status(ASPACE_BUSY, aspace_quiesce(w.space, ASPACE_NOWAIT));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_true(stalls >= 1);
	assert_int_equal(stats_of(&w).leaving, 0);
	join(reader);
}

static void a_refused_deferred_unmap_shows_the_area_again(void **state)
{
	struct aspace_view view;

	(void)state;
	aspace_read_begin(w.space, &view);
	assert_ok(unmap(&w, 20, 60));
	assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_UNMAP, 1, false, ASPACE_ACCESS_DENIED));
	aspace_read_end(&view);
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(w.space, 0));
	/* Whole again, merged with what had stayed. */
	assert_areas(&w, "0-64:1");
	assert_int_equal(stats_of(&w).leaving, 0);
	assert_int_equal(refusal.calls, 1);
	assert_int_equal(refusal.area.start.value, 20);
	assert_int_equal(refusal.area.end.value, 60);
	assert_int_equal(refusal.area.flags, 1);
	assert_ptr_equal(refusal.area.backend, w.backend);
	assert_int_equal(refusal.status, ASPACE_ACCESS_DENIED);
	assert_int_equal(refusal.found, ASPACE_OK);
	assert_int_equal(refusal.updated, ASPACE_DEADLOCK);
	/* Said once. */
	assert_ok(aspace_quiesce(w.space, 0));
	assert_ok(unmap(&w, 20, 60));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_areas(&w, "0-14:1 3c-64:1");
}

/* A map that waited and met a refusal: the area is back, in the way; quiesce still says so. */
static void a_refusal_met_by_a_map_is_still_told_by_quiesce(void **state)
{
	struct aspace_view view;

	(void)state;
	aspace_read_begin(w.space, &view);
	assert_ok(unmap(&w, 20, 60));
	assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_UNMAP, 1, false, ASPACE_ACCESS_DENIED));
	aspace_read_end(&view);
	assert_status(ASPACE_ALREADY_EXISTS, map(&w, 30, 40, 2, NULL));
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(w.space, 0));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_areas(&w, "0-64:1");
}

static void replace_and_move_are_not_for_grace_spaces(void **state)
{
	(void)state;
	assert_status(ASPACE_NOT_SUPPORTED,
		      aspace_map(w.space, range(20, 40), 2, w.backend, NULL, ASPACE_REPLACE));
	assert_status(ASPACE_NOT_SUPPORTED, aspace_move(w.space, range(0, 10), at(500), 0));
	assert_areas(&w, "0-64:1");
}

/* Mapped and unmapped in one transaction: nobody has seen it, nobody waits for it. */
static void what_a_transaction_maps_and_unmaps_never_leaves(void **state)
{
	struct aspace_view view;
	struct aspace_txn *txn;

	(void)state;
	aspace_read_begin(w.space, &view);
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_map(txn, range(200, 300), 2, w.backend, NULL, 0));
	assert_ok(aspace_txn_unmap(txn, range(200, 250), 0));
	assert_ok(aspace_txn_unmap(txn, range(50, 100), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_int_equal(stats_of(&w).leaving, 1);
	assert_ok(map(&w, 200, 220, 3, NULL));
	aspace_read_end(&view);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_areas(&w, "0-32:1 c8-dc:3 fa-12c:2");
}

/* ---- The bound on garbage ---------------------------------------------- */

/* Inside a section a writer goes on while it need not wait, and is then told. */
static void at_the_bound_an_update_in_a_section_is_busy(void **state)
{
	struct aspace_view view;

	(void)state;
	assert_ok(aspace_quiesce(w.space, 0));
	aspace_read_begin(w.space, &view);
	assert_ok(protect(&w, 0, 100, 2));
	assert_status(ASPACE_BUSY, protect(&w, 0, 100, 3));
	assert_every_update(ASPACE_BUSY, 0);
	aspace_read_end(&view);
	assert_areas(&w, "0-64:2");
	assert_ok(protect(&w, 0, 100, 3));
	assert_areas(&w, "0-64:3");
}

static void at_the_bound_a_writer_waits_for_readers(void **state)
{
	pthread_t reader;

	(void)state;
	assert_ok(aspace_quiesce(w.space, 0));
	stage = 0; /* that may have taken its time, too */
	stalls = 0;
	reader = start(read_until_told);
	wait_for(1);
	assert_ok(protect(&w, 0, 100, 2));
	assert_every_update(ASPACE_BUSY, ASPACE_NOWAIT);
	assert_int_equal(stalls, 0);
	assert_ok(protect(&w, 0, 100, 3));
	assert_true(stalls >= 1);
	join(reader);
	assert_areas(&w, "0-64:3");
}

/* ---- The end ------------------------------------------------------------- */

static bool refusing;

static enum aspace_status own_unmap(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return refusing ? ASPACE_NO_MEMORY : ASPACE_OK;
}

/* More areas than are unmapped at once: some are refused while others have not left yet. */
static void a_space_stays_whose_backend_refuses(void **state)
{
	enum { AREAS = 2000 };

	(void)state;
	own_ops.unmap = own_unmap;
	refusing = true;
	for (unsigned i = 0; i < AREAS; i++)
		assert_ok(aspace_map(w.space, range(1000 + 2 * i, 1001 + 2 * i), 0, &own, NULL, 0));
	for (unsigned i = 0; i < 20; i++) {
		assert_status(ASPACE_BAD_STATE, aspace_destroy(w.space, 0));
		assert_int_equal(aspace_count(w.space), AREAS);
	}
	refusing = false;
	assert_ok(aspace_unmap(w.space, range(1000, 1000 + 2 * AREAS), 0));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_ok(map(&w, 0, 100, 1, NULL));
}

/* The hooks of fork hold all locks: whoever was turned away meanwhile is called again. */
static void after_a_fork_reclamation_goes_on(void **state)
{
	struct aspace_snapshot snapshot;
	struct aspace_stats stats;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		assert_ok(aspace_snapshot_take(w.space, &snapshot));
		assert_ok(protect(&w, 0, 100, 2 + i % 2));
		assert_ok(aspace_quiesce(w.space, 0));
		assert_int_not_equal(stats_of(&w).bytes_snapshots, 0);
		aspace_snapshot_release(&snapshot);
		aspace_before_fork();
		aspace_after_fork_parent();
		assert_ok(aspace_quiesce(w.space, 0));
		stats = stats_of(&w);
		assert_int_equal(stats.bytes_snapshots, 0);
		assert_int_equal(stats.bytes_retired, 0);
	}
}

static unsigned links;

/* Another area with an object, which goes at once: more to wait for. */
static void release_and_go_on(struct aspace_backend *backend, void *user)
{
	struct aspace *space = user;

	if (!links)
		return;
	links--;
	assert_ok(aspace_map(space, range(0, 10), 0, backend, links % 2 ? space : NULL, 0));
	assert_ok(aspace_clear(space, 0));
}

static void destroy_waits_for_what_releases_leave_behind(void **state)
{
	struct aspace *space;

	(void)state;
	own_ops.clone = own_clone;
	own_ops.release = release_and_go_on;
	for (unsigned i = 1; i < 8; i++) {
		links = i;
		assert_ok(aspace_create(NULL, &space));
		assert_ok(aspace_map(space, range(0, 10), 0, &own, space, 0));
		assert_ok(aspace_destroy(space, 0));
	}
}

#define TEST(name, open) cmocka_unit_test_setup_teardown(name, open, close_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_backend_may_read_but_not_update, open_plain),
		TEST(a_protect_callback_may_read_but_not_update, open_plain),
		TEST(a_backend_may_not_touch_the_transaction_above_it, open_plain),
		TEST(a_backend_may_not_go_back_to_a_transaction, open_plain),
		TEST(beneath_a_transaction_the_space_cannot_be_destroyed, open_plain),
		TEST(beside_an_open_transaction_of_its_own_a_thread_may_only_read, open_plain),
		TEST(a_transaction_belongs_to_its_thread, open_plain),
		TEST(with_nowait_a_held_lock_is_busy, open_plain),
		TEST(quiesce_may_lose_the_lock_beneath_it, open_plain),
		TEST(what_is_leaving_is_not_found_but_in_the_way, open_grace),
		TEST(a_map_onto_a_leaving_range_waits_for_readers, open_grace),
		TEST(quiesce_waits_for_readers, open_grace),
		TEST(a_refused_deferred_unmap_shows_the_area_again, open_grace),
		TEST(a_refusal_met_by_a_map_is_still_told_by_quiesce, open_grace),
		TEST(replace_and_move_are_not_for_grace_spaces, open_grace),
		TEST(what_a_transaction_maps_and_unmaps_never_leaves, open_grace),
		TEST(at_the_bound_an_update_in_a_section_is_busy, open_bounded),
		TEST(at_the_bound_a_writer_waits_for_readers, open_bounded),
		TEST(a_space_stays_whose_backend_refuses, open_grace),
		TEST(after_a_fork_reclamation_goes_on, open_plain),
		TEST(destroy_waits_for_what_releases_leave_behind, open_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
