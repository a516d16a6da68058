/* SPDX-License-Identifier: MIT */
/*
 * User objects, whose references are counted; and snapshots, which hold exactly the
 * nodes and the objects of their version.
 */
#include <stdio.h>

#include "conformance/support.h"

static void open_objects(struct world *w, unsigned space_mode, unsigned mock_mode)
{
	world_open(w, &(struct world_options){.space.mode = space_mode,
					      .mock_mode = ASPACE_MOCK_OBJECTS | mock_mode});
}

static struct aspace_mock_object *map_object(struct world *w, uint64_t start, uint64_t end)
{
	struct aspace_mock_object *user = object(w);

	assert_ok(map(w, start, end, 1, user));
	return user;
}

#define assert_dead(object)  assert_int_equal(aspace_mock_object_id(object), 0)
#define assert_alive(object) assert_int_not_equal(aspace_mock_object_id(object), 0)

/* ---- References -------------------------------------------------------- */

static void each_area_owns_one_reference(void **state)
{
	struct aspace_mock_object *user;
	struct world w;

	(void)state;
	open_objects(&w, 0, 0);
	user = map_object(&w, 0, 100);
	assert_references(user, 1);
	assert_ok(unmap(&w, 40, 60)); /* two areas */
	assert_references(user, 2);
	assert_ok(protect(&w, 10, 20, 2)); /* four */
	assert_references(user, 4);
	assert_ok(protect(&w, 10, 20, 1)); /* merged: two */
	assert_ok(aspace_quiesce(w.space, 0));
	assert_references(user, 2);
	assert_ok(unmap(&w, 0, 10)); /* cut at an end: the same two */
	assert_ok(unmap(&w, 90, 100));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_references(user, 2);
	assert_ok(aspace_move(w.space, range(10, 20), at(200), 0)); /* three */
	assert_ok(aspace_quiesce(w.space, 0));
	assert_references(user, 3);
	assert_ok(aspace_resize(w.space, at(200), 50, 0));
	assert_references(user, 3);
	assert_ok(aspace_map(w.space, range(22, 30), 3, w.backend, NULL, ASPACE_REPLACE));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_areas(&w, "14-16:1 16-1e:3 1e-28:1 3c-5a:1 c8-fa:1");
	assert_references(user, 4);
	assert_ok(aspace_clear(w.space, 0));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_dead(user);
	world_close(&w);
}

static void a_merge_keeps_the_left_reference(void **state)
{
	struct aspace_mock_object *left, *right;
	struct aspace_area area;
	struct world w;

	(void)state;
	open_objects(&w, 0, ASPACE_MOCK_MERGE_ALWAYS);
	left = map_object(&w, 0, 10);
	right = map_object(&w, 10, 20);
	assert_areas(&w, "0-14:1");
	assert_ok(aspace_quiesce(w.space, 0));
	assert_ok(aspace_find(w.space, at(15), &area));
	assert_ptr_equal(area.user, left);
	assert_references(left, 1);
	assert_dead(right);
	world_close(&w);
}

/* A deferred unmap that is refused brings its area back, which merges with its neighbour and
 * so gives up a reference: quiesce waits for that, too. */
static void quiesce_waits_for_what_a_refusal_releases(void **state)
{
	struct aspace_mock_object *user;
	struct aspace_view view;
	struct world w;

	(void)state;
	open_objects(&w, ASPACE_GRACE_UNMAP, 0);
	user = map_object(&w, 0, 10);
	for (int round = 0; round < 2000; round++) {
		aspace_read_begin(w.space, &view); /* nothing is unmapped yet */
		assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_UNMAP, 1, false, ASPACE_BUSY));
		assert_ok(unmap(&w, 0, 5));
		assert_references(user, 2);
		aspace_read_end(&view);
		assert_status(ASPACE_BAD_STATE, aspace_quiesce(w.space, 0));
		assert_areas(&w, "0-a:1");
		assert_references(user, 1);
	}
	world_close(&w);
}

/* What an operation has changed at the end of a leaf does not keep the next one of the
 * transaction from seeing the leaf behind. Wherever leaves end, one round comes there. */
static void operations_see_beyond_what_the_one_before_did(void **state)
{
	struct aspace_mock_object *user[60];
	const uint64_t n = sizeof(user) / sizeof(user[0]);
	struct aspace_txn *txn;
	struct world w;

	(void)state;
	for (uint64_t i = 1; i + 1 < n; i++) {
		open_objects(&w, 0, 0);
		for (uint64_t j = 0; j < n; j++)
			user[j] = map_object(&w, 20 * j, 20 * j + 10);
		assert_ok(aspace_txn_begin(w.space, 0, &txn));
		assert_ok(aspace_txn_unmap(txn, range(20 * i, 20 * i + 10), 0));
		assert_ok(aspace_txn_unmap(txn, range(20 * (i - 1), 20 * (i + 1) + 10), 0));
		assert_ok(aspace_txn_commit(txn));
		assert_ok(aspace_quiesce(w.space, 0));
		for (uint64_t j = i - 1; j <= i + 1; j++)
			assert_dead(user[j]);
		assert_ok(aspace_clear(w.space, 0));
		world_close(&w);
	}
}

static void on_failure_the_caller_still_owns_the_object(void **state)
{
	struct aspace_mock_object *user;
	struct aspace_txn *txn;
	struct world w;

	(void)state;
	open_objects(&w, 0, 0);
	map_object(&w, 0, 10);
	user = object(&w);
	assert_status(ASPACE_ALREADY_EXISTS, map(&w, 5, 15, 1, user));
	assert_status(ASPACE_INVALID_PARAM, map(&w, 15, 15, 1, user));
	assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_MAP, 1, false, ASPACE_NO_MEMORY));
	assert_status(ASPACE_NO_MEMORY, map(&w, 10, 15, 1, user));
	assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_CLONE, 1, false, ASPACE_NO_MEMORY));
	assert_status(ASPACE_NO_MEMORY,
		      aspace_map(w.space, range(2, 4), 1, w.backend, user, ASPACE_REPLACE));

	/* In a transaction: abort, and a commit that fails. */
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_map(txn, range(20, 40), 1, w.backend, user, 0));
	assert_ok(aspace_txn_unmap(txn, range(25, 30), 0));
	assert_ok(aspace_txn_protect(txn, range(2, 4), 2, 0));
	aspace_txn_abort(txn);
	assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_MAP, 2, false, ASPACE_NO_MEMORY));
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_map(txn, range(20, 40), 1, w.backend, user, 0));
	assert_ok(aspace_txn_unmap(txn, range(25, 30), 0));
	assert_status(ASPACE_NO_MEMORY, aspace_txn_commit(txn));

	assert_ok(aspace_quiesce(w.space, 0));
	assert_references(user, 1);
	assert_int_equal(aspace_mock_references(w.mock), 2);
	assert_areas(&w, "0-a:1");
	aspace_mock_object_put(w.mock, user);
	world_close(&w);
}

static void a_transaction_balances_what_it_cuts_and_maps(void **state)
{
	struct aspace_mock_object *old, *new, *gone;
	struct aspace_txn *txn;
	struct world w;

	(void)state;
	open_objects(&w, 0, 0);
	old = map_object(&w, 0, 100);
	new = object(&w);
	gone = object(&w);
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_map(txn, range(20, 40), 2, w.backend, new, ASPACE_REPLACE));
	assert_ok(aspace_txn_unmap(txn, range(25, 30), 0));
	assert_ok(aspace_txn_protect(txn, range(50, 60), 2, 0));
	assert_ok(aspace_txn_protect(txn, range(50, 60), 1, 0));
	assert_ok(aspace_txn_map(txn, range(200, 300), 2, w.backend, gone, 0));
	assert_ok(aspace_txn_unmap(txn, range(200, 300), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_areas(&w, "0-14:1 14-19:2 1e-28:2 28-64:1");
	assert_ok(aspace_quiesce(w.space, 0));
	assert_references(old, 2);
	assert_references(new, 2);
	assert_dead(gone);
	world_close(&w);
}

/* ---- When references are released -------------------------------------- */

static void no_reader_loses_the_object_that_it_found(void **state)
{
	struct aspace_mock_object *user;
	struct aspace_view view;
	struct aspace_area area;
	struct world w;

	(void)state;
	open_objects(&w, 0, 0);
	user = map_object(&w, 0, 10);
	aspace_read_begin(w.space, &view);
	assert_ok(aspace_view_find(&view, at(5), &area));
	assert_ok(unmap(&w, 0, 10));
	assert_status(ASPACE_BUSY, aspace_quiesce(w.space, 0));
	assert_alive(user);
	assert_int_equal(stats_of(&w).releases_pending, 1);
	aspace_read_end(&view);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_dead(user);
	world_close(&w);
}

/* ---- Snapshots --------------------------------------------------------- */

static void a_snapshot_holds_its_version(void **state)
{
	struct aspace_mock_object *shown, *later;
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	struct aspace_area area;
	struct world w;

	(void)state;
	open_objects(&w, 0, 0);
	shown = map_object(&w, 0, 100);
	assert_ok(aspace_snapshot_take(w.space, &snapshot));
	assert_ok(protect(&w, 40, 60, 2));
	assert_ok(unmap(&w, 0, 100));
	later = map_object(&w, 50, 150);
	assert_ok(unmap(&w, 50, 150));
	assert_ok(aspace_quiesce(w.space, 0));
	/* Its own object, and no other; never the memory. */
	assert_alive(shown);
	assert_dead(later);
	assert_int_equal(aspace_mock_pages(w.mock), 0);
	aspace_snapshot_view(&snapshot, &view);
	assert_int_equal(view.version, snapshot.version);
	assert_view(&w, &view, "0-64:1");
	assert_ok(aspace_view_find(&view, at(50), &area));
	assert_ptr_equal(area.user, shown);
	assert_ok(aspace_validate(w.space, NULL, 0));
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_dead(shown);
	world_close(&w);
}

/* In a space of one leaf, each version is one node. */
static void snapshots_hold_exactly_the_nodes_of_their_versions(void **state)
{
	struct aspace_snapshot snapshot[3];
	struct world w;
	uint64_t node;

	(void)state;
	world_open(&w, &(struct world_options){0});
	node = stats_of(&w).bytes_live;
	for (unsigned i = 0; i < 3; i++) {
		for (uint64_t a = 0; a < 4; a++)
			assert_ok(map(&w, 100 * i + 10 * a, 100 * i + 10 * a + 5, 1, NULL));
		assert_ok(aspace_snapshot_take(w.space, &snapshot[i]));
	}
	for (uint64_t a = 0; a < 4; a++)
		assert_ok(map(&w, 300 + 10 * a, 300 + 10 * a + 5, 1, NULL));
	assert_ok(aspace_clear(w.space, 0));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_int_equal(stats_of(&w).bytes_snapshots, 3 * node);
	assert_int_equal(stats_of(&w).bytes_retired, 0);
	for (unsigned i = 0; i < 3; i++) {
		aspace_snapshot_release(&snapshot[(i + 1) % 3]);
		assert_ok(aspace_quiesce(w.space, 0));
		assert_int_equal(stats_of(&w).bytes_snapshots, (2 - i) * node);
		assert_int_equal(stats_of(&w).snapshots, 2 - i);
		assert_ok(aspace_validate(w.space, NULL, 0));
	}
	world_close(&w);
}

/* Four versions; object i is shown by snapshots i and later until all is unmapped. Every
 * order of release: an object lives exactly as long as a snapshot that shows it. */
static void snapshots_may_go_in_any_order(void **state)
{
	enum { N = 4 };
	unsigned orders = 0;

	(void)state;
	for (unsigned code = 0; code < N * N * N * N; code++) {
		unsigned order[N] = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 & 3};
		struct aspace_mock_object *user[N];
		struct aspace_snapshot snapshot[N];
		unsigned open = 0;
		struct world w;

		for (unsigned i = 0; i < N; i++)
			open |= 1u << order[i];
		if (open != (1u << N) - 1)
			continue; /* not a permutation */
		orders++;
		open_objects(&w, 0, 0);
		for (unsigned i = 0; i < N; i++) {
			user[i] = map_object(&w, 100 * i, 100 * i + 50);
			assert_ok(aspace_snapshot_take(w.space, &snapshot[i]));
			assert_ok(protect(&w, 100 * i + 10, 100 * i + 20, 2 + i));
			if (i >= 2) /* gone before the next snapshot */
				assert_ok(unmap(&w, 100 * (i - 2), 100 * (i - 2) + 50));
		}
		assert_ok(aspace_clear(w.space, 0));
		assert_ok(aspace_quiesce(w.space, 0));
		for (unsigned i = 0; i < N; i++) {
			static const char *const want[N] = {
				"0-32:1",
				"0-a:1 a-14:2 14-32:1 64-96:1",
				"0-a:1 a-14:2 14-32:1 64-6e:1 6e-78:3 78-96:1 c8-fa:1",
				("64-6e:1 6e-78:3 78-96:1 c8-d2:1 d2-dc:4 dc-fa:1 "
				 "12c-15e:1"),
			};

			for (unsigned o = 0; o < N; o++) {
				/* Shown from its own snapshot on, two of them, or three. */
				unsigned last = o + 2 < N ? o + 2 : N - 1;
				bool shown = false;

				for (unsigned s = o; s <= last; s++)
					shown |= (open >> s & 1) != 0;
				assert_int_equal(aspace_mock_object_id(user[o]) != 0, shown);
			}
			for (unsigned s = 0; s < N; s++) {
				struct aspace_view view;

				if (!(open >> s & 1))
					continue;
				aspace_snapshot_view(&snapshot[s], &view);
				assert_view(&w, &view, want[s]);
			}
			open &= ~(1u << order[i]);
			aspace_snapshot_release(&snapshot[order[i]]);
			assert_ok(aspace_quiesce(w.space, 0));
			assert_ok(aspace_validate(w.space, NULL, 0));
		}
		for (unsigned i = 0; i < N; i++)
			assert_dead(user[i]);
		world_close(&w);
	}
	assert_int_equal(orders, 24);
}

static void snapshots_stop_at_the_cap(void **state)
{
	struct aspace_snapshot snapshot[64];
	unsigned taken = 0;
	struct world w;
	uint64_t node;

	(void)state;
	world_open(&w, &(struct world_options){.space.snapshot_max = 4096});
	node = stats_of(&w).bytes_live;
	while (taken < 64 && aspace_snapshot_take(w.space, &snapshot[taken]) == ASPACE_OK) {
		assert_ok(map(&w, 10 * taken, 10 * taken + 5, taken & 3, NULL));
		taken++;
		assert_ok(aspace_quiesce(w.space, 0));
	}
	assert_in_range(stats_of(&w).bytes_snapshots, 4096, 4096 + 2 * node);
	assert_int_equal(stats_of(&w).snapshots, taken);
	assert_status(ASPACE_NO_MEMORY, aspace_snapshot_take(w.space, &snapshot[taken]));
	/* Releasing what was not taken does nothing. */
	aspace_snapshot_release(&snapshot[taken]);
	assert_ok(aspace_validate(w.space, NULL, 0));
	assert_int_equal(stats_of(&w).snapshots, taken);
	/* Writers go on, and with one gone there is room again. */
	assert_ok(map(&w, 10000, 10010, 1, NULL));
	aspace_snapshot_release(&snapshot[0]);
	aspace_snapshot_release(&snapshot[1]);
	aspace_snapshot_release(&snapshot[1]);
	assert_int_equal(stats_of(&w).snapshots, taken - 2);
	assert_ok(aspace_snapshot_take(w.space, &snapshot[0]));
	aspace_snapshot_release(&snapshot[0]);
	for (unsigned i = 2; i < taken; i++)
		aspace_snapshot_release(&snapshot[i]);
	world_close(&w);
}

static void what_a_snapshot_lets_go_of_counts_as_retired(void **state)
{
	struct aspace_snapshot snapshot;
	struct aspace_stats before, after;
	struct aspace_txn *txn;
	struct aspace_view view;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	/* In one version: it retires next to nothing. */
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	for (uint64_t i = 0; i < 1000; i++)
		assert_ok(aspace_txn_map(txn, range(10 * i, 10 * i + 5), 1, w.backend, NULL, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_ok(aspace_snapshot_take(w.space, &snapshot));
	for (uint64_t i = 0; i < 1000; i += 7) {
		assert_ok(protect(&w, 10 * i, 10 * i + 5, 2));
		assert_ok(aspace_quiesce(w.space, 0));
	}
	before = stats_of(&w);
	assert_int_equal(before.bytes_retired, 0);
	assert_true(before.bytes_retired_max < before.bytes_snapshots);
	aspace_read_begin(w.space, &view);
	aspace_snapshot_release(&snapshot);
	after = stats_of(&w);
	assert_int_equal(after.bytes_snapshots, 0);
	assert_int_equal(after.bytes_retired, before.bytes_snapshots);
	assert_true(after.bytes_retired_max >= after.bytes_retired);
	assert_ok(map(&w, 20000, 20001, 1, NULL)); /* takes them over */
	assert_true(stats_of(&w).bytes_retired_max >= stats_of(&w).bytes_retired);
	aspace_read_end(&view);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_true(stats_of(&w).bytes_retired_max >= after.bytes_retired);
	world_close(&w);
}

/* An area may grow, by resize or by a merge, and then lose the part that the snapshot
 * shows, before it goes. */
static void a_snapshot_holds_the_object_of_an_area_that_wandered(void **state)
{
	(void)state;
	for (unsigned by_merge = 0; by_merge < 2; by_merge++) {
		struct aspace_mock_object *user;
		struct aspace_snapshot snapshot;
		struct world w;

		open_objects(&w, 0, ASPACE_MOCK_MERGE_ALWAYS);
		user = map_object(&w, 0, 10);
		assert_ok(aspace_snapshot_take(w.space, &snapshot));
		if (by_merge)
			map_object(&w, 10, 20);
		else
			assert_ok(aspace_resize(w.space, at(0), 20, 0));
		assert_ok(unmap(&w, 0, 10));
		assert_ok(unmap(&w, 10, 20));
		assert_ok(aspace_quiesce(w.space, 0));
		assert_alive(user);
		aspace_snapshot_release(&snapshot);
		assert_ok(aspace_quiesce(w.space, 0));
		assert_dead(user);
		world_close(&w);
	}
}

static void a_snapshot_holds_the_object_of_an_area_that_moved(void **state)
{
	struct aspace_mock_object *user;
	struct aspace_snapshot before, after;
	struct world w;

	(void)state;
	open_objects(&w, 0, 0);
	user = map_object(&w, 0, 10);
	assert_ok(aspace_snapshot_take(w.space, &before));
	assert_ok(aspace_move(w.space, range(0, 10), at(100), 0));
	assert_ok(aspace_snapshot_take(w.space, &after));
	assert_ok(unmap(&w, 100, 110));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_references(user, 2);
	aspace_snapshot_release(&before);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_references(user, 1);
	aspace_snapshot_release(&after);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_dead(user);
	world_close(&w);
}

/* In a grace-unmap space the memory goes after the grace period, the object stays. */
static void a_snapshot_of_a_grace_space_holds_objects_not_memory(void **state)
{
	struct aspace_mock_object *user;
	struct aspace_snapshot snapshot;
	struct world w;

	(void)state;
	open_objects(&w, ASPACE_GRACE_UNMAP, 0);
	user = map_object(&w, 0, 10);
	assert_ok(aspace_snapshot_take(w.space, &snapshot));
	assert_ok(unmap(&w, 0, 10));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_int_equal(aspace_mock_pages(w.mock), 0);
	assert_references(user, 1);
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_dead(user);
	world_close(&w);
}

/* ---- A backend of our own, whose release calls the library ------------- */

static struct {
	struct aspace_backend_ops ops;
	struct aspace_backend backend;
	struct aspace *space;
	unsigned released;
	enum aspace_status quiesce, destroy, map, unmap, find;
} caller;

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static void release_and_call(struct aspace_backend *backend, void *user)
{
	(void)user;
	caller.released++;
	caller.quiesce = aspace_quiesce(caller.space, 0);
	caller.destroy = aspace_destroy(caller.space, 0);
	caller.map = aspace_map(caller.space, range(100, 110), 0, backend, NULL, 0);
	caller.find = aspace_find(caller.space, at(105), NULL);
	caller.unmap = aspace_unmap(caller.space, range(100, 110), 0);
}

static void release_may_call_the_library(void **state)
{
	int user;

	(void)state;
	caller.ops = (struct aspace_backend_ops){.size = sizeof(caller.ops),
						 .map = accept,
						 .unmap = accept,
						 .protect = accept,
						 .release = release_and_call};
	caller.backend = (struct aspace_backend){.ops = &caller.ops};
	assert_ok(aspace_create(NULL, &caller.space));
	assert_ok(aspace_map(caller.space, range(0, 10), 0, &caller.backend, &user, 0));
	assert_ok(aspace_unmap(caller.space, range(0, 10), 0));
	assert_ok(aspace_quiesce(caller.space, 0));
	assert_int_equal(caller.released, 1);
	assert_int_equal(caller.quiesce, ASPACE_DEADLOCK);
	assert_int_equal(caller.destroy, ASPACE_DEADLOCK);
	assert_int_equal(caller.map, ASPACE_OK);
	assert_int_equal(caller.find, ASPACE_OK);
	assert_int_equal(caller.unmap, ASPACE_OK);
	assert_ok(aspace_destroy(caller.space, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_area_owns_one_reference),
		cmocka_unit_test(a_merge_keeps_the_left_reference),
		cmocka_unit_test(quiesce_waits_for_what_a_refusal_releases),
		cmocka_unit_test(operations_see_beyond_what_the_one_before_did),
		cmocka_unit_test(on_failure_the_caller_still_owns_the_object),
		cmocka_unit_test(a_transaction_balances_what_it_cuts_and_maps),
		cmocka_unit_test(no_reader_loses_the_object_that_it_found),
		cmocka_unit_test(release_may_call_the_library),
		cmocka_unit_test(a_snapshot_holds_its_version),
		cmocka_unit_test(snapshots_hold_exactly_the_nodes_of_their_versions),
		cmocka_unit_test(snapshots_may_go_in_any_order),
		cmocka_unit_test(snapshots_stop_at_the_cap),
		cmocka_unit_test(what_a_snapshot_lets_go_of_counts_as_retired),
		cmocka_unit_test(a_snapshot_holds_the_object_of_an_area_that_wandered),
		cmocka_unit_test(a_snapshot_holds_the_object_of_an_area_that_moved),
		cmocka_unit_test(a_snapshot_of_a_grace_space_holds_objects_not_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
