/* SPDX-License-Identifier: MIT */
/*
 * Transactions: one publication, and of each backend only what the difference asks for.
 */
#include "conformance/support.h"

static struct world w;
static struct aspace_txn *txn;
static uint64_t calls[ASPACE_MOCK_CALLS];

static int open_world(void **state)
{
	(void)state;
	world_open(&w, &(struct world_options){.log_capacity = 64});
	assert_ok(map(&w, 0, 100, 1, NULL));
	assert_ok(map(&w, 200, 300, 2, NULL));
	assert_ok(aspace_map(w.space, range(400, 500), 3, w.other_backend, NULL, 0));
	aspace_mock_log_clear(w.mock);
	for (unsigned c = 0; c < ASPACE_MOCK_CALLS; c++)
		calls[c] = aspace_mock_calls(w.mock, (enum aspace_mock_call)c);
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	return 0;
}

#define BEFORE "0-64:1 c8-12c:2 190-1f4:3/b"

static int close_world(void **state)
{
	(void)state;
	world_close(&w);
	return 0;
}

static unsigned called(enum aspace_mock_call call)
{
	return (unsigned)(aspace_mock_calls(w.mock, call) - calls[call]);
}

/* Exactly this one change, prepared. */
static void assert_one_change(enum aspace_mock_call call, uint64_t start, uint64_t end,
			      uint64_t old_flags, uint64_t new_flags)
{
	struct aspace_mock_entry entry;

	assert_int_equal(called(ASPACE_MOCK_ANY), 2);
	assert_int_equal(called(ASPACE_MOCK_PREPARE), 1);
	assert_int_equal(called(ASPACE_MOCK_FLUSH), 1);
	assert_true(aspace_mock_log_get(w.mock, 1, &entry));
	assert_int_equal(entry.call, call);
	assert_int_equal(entry.range.start.value, start);
	assert_int_equal(entry.range.end.value, end);
	assert_int_equal(entry.old_flags, old_flags);
	assert_int_equal(entry.new_flags, new_flags);
}

static void readers_see_nothing_before_the_commit_and_all_after_it(void **state)
{
	struct aspace_view view;
	struct aspace_area area;
	struct aspace_gap gap = {.size = 10, .hint = {100}};
	struct aspace_vaddr start;
	uint64_t version;

	(void)state;
	aspace_read_begin(w.space, &view);
	version = view.version;
	assert_ok(aspace_txn_unmap(txn, range(0, 50), 0));
	assert_ok(aspace_txn_map(txn, range(100, 120), 7, w.backend, NULL, 0));
	assert_ok(aspace_txn_protect(txn, range(450, 460), 4, 0));
	/* In private: */
	assert_status(ASPACE_NOT_MAPPED, aspace_txn_find(txn, at(10), NULL));
	assert_ok(aspace_txn_find(txn, at(110), &area));
	assert_int_equal(area.flags, 7);
	assert_ok(aspace_txn_find_free(txn, &gap, &start));
	assert_int_equal(start.value, 120);
	/* In public: */
	assert_ok(aspace_find(w.space, at(10), &area));
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(110), NULL));
	assert_ok(aspace_find(w.space, at(455), &area));
	assert_int_equal(area.flags, 3);
	assert_int_equal(called(ASPACE_MOCK_ANY), 0);

	assert_ok(aspace_txn_commit(txn));
	assert_view(&w, &view, BEFORE);
	aspace_read_end(&view);
	assert_areas(&w, "32-64:1 64-78:7 c8-12c:2 190-1c2:3/b 1c2-1cc:4/b 1cc-1f4:3/b");
	assert_int_equal(stats_of(&w).version, version + 1);
}

static void map_and_unmap_cost_no_backend_call(void **state)
{
	(void)state;
	assert_ok(aspace_txn_map(txn, range(100, 150), 5, w.backend, NULL, 0));
	assert_ok(aspace_txn_unmap(txn, range(100, 150), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_int_equal(called(ASPACE_MOCK_ANY), 0);
	assert_areas(&w, BEFORE);
}

static void unmap_and_map_is_one_replace(void **state)
{
	(void)state;
	assert_ok(aspace_txn_unmap(txn, range(200, 300), 0));
	assert_ok(aspace_txn_map(txn, range(200, 300), 5, w.backend, NULL, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_one_change(ASPACE_MOCK_REPLACE, 200, 300, 0, 5);
	assert_areas(&w, "0-64:1 c8-12c:5 190-1f4:3/b");
}

static void protect_twice_is_one_protect(void **state)
{
	(void)state;
	assert_ok(aspace_txn_protect(txn, range(0, 100), 4, 0));
	assert_ok(aspace_txn_protect(txn, range(0, 100), 6, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_one_change(ASPACE_MOCK_PROTECT, 0, 100, 1, 6);
	assert_areas(&w, "0-64:6 c8-12c:2 190-1f4:3/b");
}

static void protect_there_and_back_costs_no_backend_call(void **state)
{
	(void)state;
	assert_ok(aspace_txn_protect(txn, range(20, 30), 4, 0));
	assert_ok(aspace_txn_protect(txn, range(0, 100), 1, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_int_equal(called(ASPACE_MOCK_ANY), 0);
	assert_areas(&w, BEFORE);
}

static void map_and_protect_is_one_map(void **state)
{
	(void)state;
	assert_ok(aspace_txn_map(txn, range(100, 200), 5, w.backend, NULL, 0));
	assert_ok(aspace_txn_protect(txn, range(100, 200), 6, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_one_change(ASPACE_MOCK_MAP, 100, 200, 0, 6);
	assert_areas(&w, "0-64:1 64-c8:6 c8-12c:2 190-1f4:3/b");
}

static void protect_and_unmap_is_one_unmap(void **state)
{
	(void)state;
	assert_ok(aspace_txn_protect(txn, range(200, 300), 5, 0));
	assert_ok(aspace_txn_unmap(txn, range(200, 300), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_one_change(ASPACE_MOCK_UNMAP, 200, 300, 2, 0);
	assert_areas(&w, "0-64:1 190-1f4:3/b");
}

/* Two ranges that only meet: the second is all of an area, but not of one that the backend
 * knows. */
static void an_area_unmapped_in_halves_is_one_unmap(void **state)
{
	(void)state;
	assert_ok(aspace_txn_unmap(txn, range(0, 50), 0));
	assert_ok(aspace_txn_unmap(txn, range(50, 100), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_one_change(ASPACE_MOCK_UNMAP, 0, 100, 1, 0);
	assert_areas(&w, "c8-12c:2 190-1f4:3/b");
}

static void equal_neighbours_merge_at_the_commit(void **state)
{
	(void)state;
	for (uint64_t a = 100; a < 200; a += 10)
		assert_ok(aspace_txn_map(txn, range(a, a + 10), 1, w.backend, NULL, 0));
	assert_ok(aspace_txn_protect(txn, range(200, 300), 1, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_areas(&w, "0-12c:1 190-1f4:3/b");
}

static void a_failed_operation_leaves_the_transaction_usable(void **state)
{
	struct aspace_gap gap = {.size = 1000, .limits = range(0, 500)};
	struct aspace_vaddr start;

	(void)state;
	assert_ok(aspace_txn_unmap(txn, range(40, 60), 0));
	assert_status(ASPACE_ALREADY_EXISTS,
		      aspace_txn_map(txn, range(50, 70), 5, w.backend, NULL, 0));
	assert_status(ASPACE_NOT_MAPPED, aspace_txn_unmap(txn, range(0, 100), ASPACE_STRICT));
	assert_status(ASPACE_NOT_MAPPED, aspace_txn_protect(txn, range(0, 100), 7, ASPACE_STRICT));
	assert_status(ASPACE_INVALID_PARAM, aspace_txn_unmap(txn, range(60, 40), 0));
	assert_status(ASPACE_NO_SPACE,
		      aspace_txn_map_anywhere(txn, &gap, 1, w.backend, NULL, 0, &start));
	assert_ok(aspace_txn_map(txn, range(40, 60), 5, w.backend, NULL, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_areas(&w, "0-28:1 28-3c:5 3c-64:1 c8-12c:2 190-1f4:3/b");
}

static void abort_forgets_everything(void **state)
{
	uint64_t version;

	(void)state;
	assert_ok(aspace_txn_unmap(txn, range(0, 300), 0));
	assert_ok(aspace_txn_map(txn, range(50, 250), 5, w.other_backend, NULL, 0));
	assert_ok(aspace_txn_protect(txn, range(0, 500), 6, 0));
	aspace_txn_abort(txn);
	version = stats_of(&w).version;
	assert_int_equal(called(ASPACE_MOCK_ANY), 0);
	assert_areas(&w, BEFORE);
	/* An empty one publishes nothing either. */
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_commit(txn));
	assert_int_equal(stats_of(&w).version, version);
}

static void a_commit_that_is_refused_changes_nothing(void **state)
{
	(void)state;
	assert_ok(aspace_mock_inject(w.other, ASPACE_MOCK_PROTECT, 1, false, ASPACE_NO_MEMORY));
	assert_ok(aspace_txn_map(txn, range(100, 150), 5, w.backend, NULL, 0));
	assert_ok(aspace_txn_protect(txn, range(0, 500), 6, 0));
	assert_status(ASPACE_NO_MEMORY, aspace_txn_commit(txn));
	assert_areas(&w, BEFORE);
}

/* What can be refused and taken back comes before what loses contents. */
static void contents_are_lost_last(void **state)
{
	static const enum aspace_mock_call order[] = {ASPACE_MOCK_MAP, ASPACE_MOCK_PROTECT,
						      ASPACE_MOCK_REPLACE, ASPACE_MOCK_UNMAP};
	unsigned seen = 0;

	(void)state;
	assert_ok(aspace_txn_unmap(txn, range(0, 10), 0));
	assert_ok(aspace_txn_map(txn, range(20, 30), 7, w.backend, NULL, ASPACE_REPLACE));
	assert_ok(aspace_txn_protect(txn, range(200, 210), 5, 0));
	assert_ok(aspace_txn_map(txn, range(120, 130), 7, w.backend, NULL, 0));
	assert_ok(aspace_txn_commit(txn));
	for (uint64_t i = 0; i < aspace_mock_log_count(w.mock); i++) {
		struct aspace_mock_entry entry;

		assert_true(aspace_mock_log_get(w.mock, i, &entry));
		if (i < 4)
			assert_int_equal(entry.call, ASPACE_MOCK_PREPARE);
		else if (i < 8)
			assert_int_equal(entry.call, order[seen++]);
		else
			assert_int_equal(entry.call, ASPACE_MOCK_FLUSH);
	}
	assert_int_equal(seen, 4);
}

static void map_anywhere_sees_what_the_transaction_has_done(void **state)
{
	struct aspace_gap gap = {.size = 100};
	struct aspace_vaddr first, second;

	(void)state;
	assert_ok(aspace_txn_map_anywhere(txn, &gap, 5, w.backend, NULL, 0, &first));
	assert_ok(aspace_txn_map_anywhere(txn, &gap, 6, w.backend, NULL, 0, &second));
	assert_int_equal(first.value, 100);
	assert_int_equal(second.value, 300);
	assert_ok(aspace_txn_commit(txn));
	assert_areas(&w, "0-64:1 64-c8:5 c8-12c:2 12c-190:6 190-1f4:3/b");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(readers_see_nothing_before_the_commit_and_all_after_it),
		TEST(map_and_unmap_cost_no_backend_call),
		TEST(unmap_and_map_is_one_replace),
		TEST(protect_twice_is_one_protect),
		TEST(protect_there_and_back_costs_no_backend_call),
		TEST(map_and_protect_is_one_map),
		TEST(protect_and_unmap_is_one_unmap),
		TEST(an_area_unmapped_in_halves_is_one_unmap),
		TEST(equal_neighbours_merge_at_the_commit),
		TEST(a_failed_operation_leaves_the_transaction_usable),
		TEST(abort_forgets_everything),
		TEST(a_commit_that_is_refused_changes_nothing),
		TEST(contents_are_lost_last),
		TEST(map_anywhere_sees_what_the_transaction_has_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
