/* SPDX-License-Identifier: MIT */
/*
 * What a hostile reading of the library found: one test for each rule that was broken.
 *
 * The backend is one of our own, whose callbacks each test chooses.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "conformance/support.h"

#ifdef ASPACE_FANOUT
#define FANOUT4 1
#else
#define FANOUT4 0
#endif

static struct aspace *space;
static struct aspace_backend_ops ops;
static struct aspace_backend backend;
static int user;

/* Some callbacks run on the library's helper thread. */
static _Atomic unsigned maps, unmaps, protects, clones, releases, off_granule, refusals_left;

/* ---- Callbacks to choose from ------------------------------------------- */

static enum aspace_status accept_map(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	maps++;
	return ASPACE_OK;
}

static enum aspace_status accept_unmap(struct aspace_backend *of,
				       const struct aspace_change *change)
{
	(void)of;
	(void)change;
	unmaps++;
	if (!refusals_left)
		return ASPACE_OK;
	refusals_left--;
	return ASPACE_NO_MEMORY;
}

static enum aspace_status accept_protect(struct aspace_backend *of,
					 const struct aspace_change *change)
{
	(void)of;
	(void)change;
	protects++;
	return ASPACE_OK;
}

static enum aspace_status clone_same(struct aspace_backend *of, void *object, void **copy)
{
	(void)of;
	clones++;
	*copy = object;
	return ASPACE_OK;
}

static void count_release(struct aspace_backend *of, void *object)
{
	(void)of;
	(void)object;
	releases++;
}

/* ---- Set up -------------------------------------------------------------- */

static int reset(void **state)
{
	(void)state;
	space = NULL;
	maps = unmaps = protects = clones = releases = off_granule = refusals_left = 0;
	ops = (struct aspace_backend_ops){.size = sizeof(ops),
					  .map = accept_map,
					  .unmap = accept_unmap,
					  .protect = accept_protect};
	backend = (struct aspace_backend){.ops = &ops, .flags_mask = 7};
	return 0;
}

static void open_space(struct aspace_options options)
{
	options.size = sizeof(options);
	assert_ok(aspace_create(&options, &space));
}

static void close_space(void)
{
	assert_ok(aspace_destroy(space, 0));
}

static void put(uint64_t start, uint64_t end, uint64_t flags, void *object)
{
	assert_ok(aspace_map(space, range(start, end), flags, &backend, object, 0));
}

/* ---- What operations reserve --------------------------------------------- */

static void merging_at_commit_is_reserved_for(void **state)
{
	enum { AREAS = 300 };
	struct aspace_txn *txn;

	(void)state;
	ops.clone = clone_same;
	ops.release = count_release;
	open_space((struct aspace_options){0});
	for (uint64_t i = 0; i < AREAS; i++) {
		put(i * 100, i * 100 + 20, 1, &user);
		put(i * 100 + 20, i * 100 + 40, 2, &user);
		put(i * 100 + 40, i * 100 + 60, 1, &user);
	}
	assert_ok(aspace_txn_begin(space, 0, &txn));
	for (uint64_t i = 0; i < AREAS; i++)
		assert_ok(aspace_txn_protect(txn, range(i * 100 + 20, i * 100 + 40), 1, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_int_equal(aspace_count(space), AREAS);
	assert_ok(aspace_validate(space, NULL, 0));
	assert_ok(aspace_quiesce(space, 0));
	assert_int_equal(releases, 2 * AREAS + clones);
	close_space();
}

static uint64_t sparseness;

/* One area in `sparseness` gets the flags of its neighbours, if they touch it. */
static bool flip_few(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	if (area->start.value / 20 % sparseness != 3)
		return false;
	*flags = 3 - area->flags;
	return true;
}

/* The sizes are those at which too little was reserved. */
static void protect_few(uint64_t length)
{
	const uint64_t areas = FANOUT4 ? 2000 : 80000, step = FANOUT4 ? 8 : 37;

	open_space((struct aspace_options){0});
	for (uint64_t i = areas; i-- > 0;) /* downward: nodes are left half full */
		put(i * 20, i * 20 + length, 1 + (i & 1), NULL);
	for (sparseness = FANOUT4 ? 8 : 200; sparseness < areas / 100; sparseness += step) {
		assert_ok(aspace_quiesce(space, 0)); /* the pool is the same each time */
		assert_ok(aspace_protect_with(space, range(0, areas * 20), flip_few, NULL, 0));
		assert_ok(aspace_validate(space, NULL, 0));
	}
	close_space();
}

static void a_sparse_protect_is_reserved_for(void **state)
{
	(void)state;
	protect_few(10);
}

static void a_sparse_protect_that_merges_is_reserved_for(void **state)
{
	(void)state;
	protect_few(20);
}

/* ---- User objects --------------------------------------------------------- */

static enum aspace_status refuse(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ASPACE_NO_MEMORY;
}

static void a_clone_without_release_is_fine(void **state)
{
	(void)state;
	ops.clone = clone_same;
	ops.protect = refuse;
	open_space((struct aspace_options){0});
	put(0, 300, 1, &user);
	assert_status(ASPACE_NO_MEMORY, aspace_protect(space, range(100, 200), 3, 0));
	assert_true(clones > 0);
	assert_ok(aspace_quiesce(space, 0));
	close_space();
}

static enum aspace_status clone_busy(struct aspace_backend *of, void *object, void **copy)
{
	(void)of;
	(void)object;
	(void)copy;
	clones++;
	return ASPACE_BUSY;
}

/* ASPACE_BUSY of planning makes a map wait for what is leaving; that of a backend does not. */
static void a_busy_clone_is_asked_once(void **state)
{
	(void)state;
	ops.clone = clone_busy;
	open_space((struct aspace_options){0});
	put(0, 300, 1, &user);
	assert_status(ASPACE_BUSY, aspace_unmap(space, range(100, 200), 0));
	assert_int_equal(clones, 1);
	assert_int_equal(aspace_count(space), 1);
	close_space();
}

static void a_snapshot_keeps_an_object_whose_unmap_was_refused(void **state)
{
	struct aspace_snapshot older, newer;
	struct aspace_view section, view;
	struct aspace_area area;

	(void)state;
	ops.release = count_release;
	open_space((struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	put(0, 300, 1, &user);
	assert_ok(aspace_snapshot_take(space, &older));
	aspace_read_begin(space, &section); /* keeps the backend's unmap off */
	refusals_left = 1;
	assert_ok(aspace_unmap(space, range(0, 300), 0));
	assert_ok(aspace_snapshot_take(space, &newer));
	aspace_read_end(&section);
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(space, 0));
	assert_int_equal(aspace_count(space), 1);
	assert_ok(aspace_unmap(space, range(0, 300), 0));
	assert_ok(aspace_quiesce(space, 0));
	assert_int_equal(aspace_count(space), 0);

	aspace_snapshot_view(&older, &view);
	assert_ok(aspace_view_find(&view, at(5), &area));
	assert_ptr_equal(area.user, &user);
	assert_int_equal(releases, 0);
	aspace_snapshot_release(&newer);
	aspace_snapshot_release(&older);
	close_space();
	assert_int_equal(releases, 1);
}

static enum aspace_status refuse_the_third(struct aspace_backend *of,
					   const struct aspace_change *change)
{
	(void)of;
	if (change->undo)
		return ASPACE_BAD_STATE;
	return ++protects == 3 ? ASPACE_NO_MEMORY : ASPACE_OK;
}

static bool always_merge(struct aspace_backend *of, const struct aspace_area *left,
			 const struct aspace_area *right)
{
	(void)of;
	(void)left;
	(void)right;
	return true;
}

static bool flags_by_place(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	*flags = 2 + area->start.value / 10;
	return true;
}

static void bad_state_keeps_user_objects_apart(void **state)
{
	static const uint64_t flags_after[] = {2, 3, 1};
	static int objects[3];
	struct aspace_area area;

	(void)state;
	ops.protect = refuse_the_third;
	ops.can_merge = always_merge;
	ops.clone = clone_same;
	ops.release = count_release;
	open_space((struct aspace_options){0});
	put(0, 10, 1, &objects[0]);
	put(10, 20, 2, &objects[1]);
	put(20, 30, 1, &objects[2]);
	assert_status(ASPACE_BAD_STATE,
		      aspace_protect_with(space, range(0, 30), flags_by_place, NULL, 0));
	for (uint64_t i = 0; i < 3; i++) {
		assert_ok(aspace_find(space, at(i * 10), &area));
		assert_int_equal(area.start.value, i * 10);
		assert_int_equal(area.end.value, i * 10 + 10);
		assert_int_equal(area.flags, flags_after[i]);
		assert_ptr_equal(area.user, &objects[i]);
	}
	assert_ok(aspace_quiesce(space, 0));
	assert_int_equal(releases, clones);
	close_space();
	assert_int_equal(releases, 3 + clones);
}

/* Maps as many times as it was told. */
static unsigned maps_left;

static void release_and_map(struct aspace_backend *of, void *object)
{
	releases++;
	if (maps_left && maps_left--)
		(void)aspace_map(space, range(100, 110), 1, of, object, 0);
}

static void destroy_unmaps_what_callbacks_map(void **state)
{
	(void)state;
	ops.release = release_and_map;
	maps_left = 20;
	open_space((struct aspace_options){0});
	put(0, 10, 1, &user);
	close_space();
	assert_int_equal(maps, 21);
	assert_int_equal(unmaps, 21);
	assert_int_equal(releases, 21);
}

/* ---- What backends are asked ---------------------------------------------- */

static enum aspace_status check_granule(struct aspace_backend *of,
					const struct aspace_change *change)
{
	uint64_t granule = of->granule ? of->granule : 1;

	if (!aspace_is_aligned(change->range.start.value | change->range.end.value, granule))
		off_granule++;
	return ASPACE_OK;
}

static void changes_of_a_transaction_keep_to_the_granule(void **state)
{
	struct aspace_backend coarse;
	struct aspace_txn *txn;

	(void)state;
	ops.map = ops.unmap = ops.protect = check_granule;
	coarse = backend;
	coarse.granule = 0x4000;
	open_space((struct aspace_options){.granule = 0x1000});
	assert_ok(aspace_map(space, range(0, 0x4000), 1, &coarse, NULL, 0));
	assert_ok(aspace_txn_begin(space, 0, &txn));
	assert_ok(aspace_txn_unmap(txn, range(0, 0x4000), 0));
	assert_ok(aspace_txn_map(txn, range(0x1000, 0x2000), 1, &backend, NULL, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_int_equal(off_granule, 0);
	assert_int_equal(aspace_count(space), 1);
	close_space();
	assert_int_equal(off_granule, 0);
}

static enum aspace_status accept_fault(struct aspace_backend *of, const struct aspace_area *area,
				       struct aspace_vaddr address, unsigned access)
{
	(void)of;
	(void)area;
	(void)address;
	(void)access;
	return ASPACE_OK;
}

static void a_leaving_area_can_still_be_populated(void **state)
{
	struct aspace_view view;

	(void)state;
	ops.fault = accept_fault;
	open_space((struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	put(0, 10, 1, NULL);
	aspace_read_begin(space, &view);
	assert_ok(aspace_view_find(&view, at(5), NULL));
	assert_ok(aspace_unmap(space, range(0, 10), 0));
	assert_ok(aspace_fault(space, at(5), ASPACE_ACCESS_READ, 0));
	aspace_read_end(&view);
	assert_ok(aspace_quiesce(space, 0));
	assert_status(ASPACE_NOT_MAPPED, aspace_fault(space, at(5), ASPACE_ACCESS_READ, 0));
	close_space();
}

/* ---- Waiting and memory --------------------------------------------------- */

static void polling_quiesce_answers_ok_when_idle(void **state)
{
	(void)state;
	open_space((struct aspace_options){0});
	assert_ok(aspace_quiesce(space, 0));
	for (unsigned i = 0; i < 100; i++)
		assert_ok(aspace_quiesce(space, ASPACE_NOWAIT));
	close_space();
}

static enum aspace_status destroyed_in_the_end(enum aspace_status status)
{
	for (; status == ASPACE_BUSY; status = aspace_destroy(space, ASPACE_NOWAIT))
		sched_yield();
	return status;
}

/* The helper, asked about the same grace period, may be looking after the space at that moment: then it is
 * asked again. That is rare, and where destroy found something else on its way, it would be the rule. */
static void after_clear_and_quiesce_destroy_need_not_wait(void **state)
{
	enum { ROUNDS = 40 };
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		enum aspace_status status;

		open_space((struct aspace_options){.mode = i % 2 ? ASPACE_GRACE_UNMAP : 0});
		put(0, 10, 1, NULL);
		assert_ok(aspace_clear(space, 0));
		assert_ok(aspace_quiesce(space, 0));
		status = aspace_destroy(space, ASPACE_NOWAIT);
		refused += status != ASPACE_OK;
		assert_ok(destroyed_in_the_end(status));
	}
	assert_in_range(refused, 0, ROUNDS / 4);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void release_under_mutex(struct aspace_backend *of, void *object)
{
	(void)of;
	(void)object;
	pthread_mutex_lock(&mutex);
	releases++;
	pthread_mutex_unlock(&mutex);
}

/* Where the rule is broken, this one waits for ever. */
static void a_writer_at_the_bound_does_not_wait_for_callbacks(void **state)
{
	enum { ROUNDS = 10, UPDATES = 300 };

	(void)state;
	ops.release = release_under_mutex;
	open_space((struct aspace_options){.garbage_max = 0x10000});
	for (unsigned round = 0; round < ROUNDS; round++) {
		pthread_mutex_lock(&mutex);
		for (unsigned i = 0; i < UPDATES; i++) {
			put(0, 10, 1, &user);
			assert_ok(aspace_unmap(space, range(0, 10), 0));
		}
		pthread_mutex_unlock(&mutex);
	}
	close_space();
	assert_int_equal(releases, ROUNDS * UPDATES);
}

/* Four blocks of the pool's, and no more. */
static size_t bytes_used;

static void *alloc_few(void *ctx, size_t size)
{
	void *block;

	(void)ctx;
	if (bytes_used + size > 4 * 0x10000 || posix_memalign(&block, 4096, size) != 0)
		return NULL;
	bytes_used += size;
	return memset(block, 0, size);
}

static void free_few(void *ctx, void *block, size_t size)
{
	(void)ctx;
	bytes_used -= size;
	free(block);
}

static void garbage_comes_back_when_memory_runs_out(void **state)
{
	static const struct aspace_page_ops pages = {alloc_few, free_few};
	enum aspace_status status;

	(void)state;
	open_space((struct aspace_options){.pages = &pages});
	put(0, 10, 1, NULL);
	for (uint64_t i = 0; i < 1000; i++) {
		/* The helper's grace period brings it; nobody else asks for one. If it did not,
		 * this would not end. */
		while ((status = aspace_protect(space, range(0, 10), 2 - (i & 1), 0)) ==
		       ASPACE_NO_MEMORY)
			sched_yield();
		assert_ok(status);
	}
	close_space();
	assert_int_equal(bytes_used, 0);
}

/* A search for the end of the 64-bit space, by an unmap of what ends there, just after an edit
 * that made the last search void. */
static void a_leaving_area_ends_at_the_top(void **state)
{
	enum { AREAS = 40 };
	const uint64_t top = UINT64_MAX;
	struct aspace_txn *txn;

	(void)state;
	open_space((struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	for (uint64_t areas = 1; areas <= AREAS; areas++) {
		uint64_t first = top - 16 * areas;

		assert_ok(aspace_txn_begin(space, 0, &txn));
		for (uint64_t i = 0; i < areas; i++) {
			uint64_t start = first + 16 * i, end = i + 1 == areas ? top : start + 8;

			assert_ok(aspace_txn_map(txn, range(start, end), 1, &backend, NULL, 0));
		}
		assert_ok(aspace_txn_unmap(txn, range(top - 16, top), 0));
		assert_ok(aspace_txn_commit(txn));
		assert_int_equal(aspace_count(space), areas - 1);
		assert_ok(aspace_validate(space, NULL, 0));
		for (uint64_t i = 0; i + 1 < areas; i++)
			assert_ok(aspace_find(space, at(first + 16 * i), NULL));
		assert_ok(aspace_clear(space, 0));
		assert_ok(aspace_quiesce(space, 0));
	}
	close_space();
}

/* Releases run outside the lock and may call the library. A map onto leaving areas waits for
 * these alone, not for who runs releases: so a release may do that, too. */
static enum aspace_status mapped_on_leaving;

static void map_onto_leaving(struct aspace_backend *of, void *object)
{
	(void)object;
	releases++;
	if (releases > 1)
		return;
	assert_ok(aspace_map(space, range(1000, 1100), 1, of, NULL, 0));
	assert_ok(aspace_unmap(space, range(1000, 1100), 0));
	mapped_on_leaving = aspace_map(space, range(1000, 1100), 1, of, NULL, 0);
	assert_ok(aspace_map(space, range(2000, 2100), 1, of, NULL, 0));
}

static void a_release_may_map_onto_leaving_areas(void **state)
{
	(void)state;
	ops.release = map_onto_leaving;
	open_space((struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	put(0, 10, 1, &user);
	assert_ok(aspace_unmap(space, range(0, 10), 0));
	assert_ok(aspace_quiesce(space, 0));
	assert_int_equal(releases, 1);
	assert_status(ASPACE_OK, mapped_on_leaving);
	assert_int_equal(aspace_count(space), 2);
	close_space();
}

/* The last of many unmaps is refused, and so is every second map that would undo the
 * others: the plan took a few nodes out of the middle, the truth touches every leaf. */
enum { TRUTHS = 4000 };

static enum aspace_status refuse_last_unmap(struct aspace_backend *of,
					    const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ++unmaps == TRUTHS ? ASPACE_NO_MEMORY : ASPACE_OK;
}

static enum aspace_status refuse_every_second_undo(struct aspace_backend *of,
						   const struct aspace_change *change)
{
	(void)of;
	return change->undo && maps++ % 2 ? ASPACE_NO_MEMORY : ASPACE_OK;
}

static void the_truth_about_many_changes_is_reserved_for(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	ops.map = refuse_every_second_undo;
	ops.unmap = refuse_last_unmap;
	backend.remap_restores = true;
	open_space((struct aspace_options){0});
	assert_ok(aspace_txn_begin(space, 0, &txn));
	for (uint64_t i = 0; i < TRUTHS; i++)
		assert_ok(aspace_txn_map(txn, range(16 * i, 16 * i + 8), 1, &backend, NULL, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_ok(aspace_quiesce(space, 0));

	assert_status(ASPACE_BAD_STATE, aspace_unmap(space, range(0, 16 * TRUTHS), 0));
	assert_int_equal(unmaps, TRUTHS);
	assert_int_equal(maps, TRUTHS - 1);
	/* Undone from the first on: the first is back, the second is not. */
	assert_int_equal(aspace_count(space), TRUTHS / 2 + 1);
	for (uint64_t i = 0; i + 1 < TRUTHS; i++)
		assert_status(i % 2 ? ASPACE_NOT_MAPPED : ASPACE_OK,
			      aspace_find(space, at(16 * i), NULL));
	assert_ok(aspace_validate(space, NULL, 0));
	close_space();
}

static bool no_pages;

static void *alloc_while_allowed(void *ctx, size_t size)
{
	void *block;

	(void)ctx;
	if (no_pages || posix_memalign(&block, 4096, size) != 0)
		return NULL;
	return memset(block, 0, size);
}

static void free_block(void *ctx, void *block, size_t size)
{
	(void)ctx;
	(void)size;
	free(block);
}

/* Memory runs out for good, since snapshots hold what others retire, while an area is
 * leaving: it leaves all the same. */
static void a_leaving_area_needs_no_new_memory(void **state)
{
	static const struct aspace_page_ops pages = {alloc_while_allowed, free_block};
	enum { MOST = 4000 };
	static struct aspace_snapshot snapshot[MOST];
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct aspace_view view;
	enum aspace_status status;
	unsigned taken = 0;

	(void)state;
	no_pages = false;
	open_space((struct aspace_options){.mode = ASPACE_GRACE_UNMAP, .pages = &pages});
	put(0, 8, 1, NULL);
	put(16, 24, 1, NULL);
	assert_ok(aspace_unmap(space, range(16, 24), 0));
	assert_ok(aspace_quiesce(space, 0));
	no_pages = true;

	aspace_read_begin(space, &view);
	assert_ok(aspace_snapshot_take(space, &snapshot[taken++]));
	assert_ok(aspace_unmap(space, range(0, 8), 0));
	do {
		assert_true(taken < MOST);
		assert_ok(aspace_snapshot_take(space, &snapshot[taken++]));
		status = aspace_map(space, range(16 * taken, 16 * taken + 8), 1, &backend, NULL, 0);
	} while (status == ASPACE_OK);
	assert_status(ASPACE_NO_MEMORY, status);
	aspace_read_end(&view);

	while ((status = aspace_quiesce(space, ASPACE_NOWAIT)) == ASPACE_BUSY)
		sched_yield();
	assert_ok(status);
	assert_int_equal(unmaps, 2);
	assert_ok(aspace_stats(space, &stats, 0));
	assert_int_equal(stats.leaving, 0);

	no_pages = false;
	while (taken)
		aspace_snapshot_release(&snapshot[--taken]);
	close_space();
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(merging_at_commit_is_reserved_for),
		TEST(a_sparse_protect_is_reserved_for),
		TEST(a_sparse_protect_that_merges_is_reserved_for),
		TEST(a_clone_without_release_is_fine),
		TEST(a_busy_clone_is_asked_once),
		TEST(a_snapshot_keeps_an_object_whose_unmap_was_refused),
		TEST(bad_state_keeps_user_objects_apart),
		TEST(destroy_unmaps_what_callbacks_map),
		TEST(changes_of_a_transaction_keep_to_the_granule),
		TEST(a_leaving_area_can_still_be_populated),
		TEST(polling_quiesce_answers_ok_when_idle),
		TEST(after_clear_and_quiesce_destroy_need_not_wait),
		TEST(a_writer_at_the_bound_does_not_wait_for_callbacks),
		TEST(garbage_comes_back_when_memory_runs_out),
		TEST(a_leaving_area_ends_at_the_top),
		TEST(a_release_may_map_onto_leaving_areas),
		TEST(the_truth_about_many_changes_is_reserved_for),
		TEST(a_leaving_area_needs_no_new_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
