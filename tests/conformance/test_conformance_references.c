/* SPDX-License-Identifier: MIT */
/*
 * References to user objects: a snapshot holds exactly those of its version, wherever their
 * areas have gone since and whatever has come in their place; and whose object stays where
 * areas merge. The backend has `release`, and each mix of the rest. (The random model counts
 * references, too; here are the cases by name.)
 */
#include "conformance/support.h"

static struct aspace *space;
static struct aspace_backend_ops ops;
static struct aspace_backend backend;
static char left_object, object_shown, other_object;

/* Of the object that the snapshot shows. */
static _Atomic long given, clones, releases;

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ASPACE_OK;
}

static enum aspace_status clone(struct aspace_backend *of, void *user, void **copy)
{
	(void)of;
	clones += user == &object_shown;
	*copy = user;
	return ASPACE_OK;
}

static void release(struct aspace_backend *of, void *user)
{
	(void)of;
	releases += user == &object_shown;
}

static bool always(struct aspace_backend *of, const struct aspace_area *left,
		   const struct aspace_area *right)
{
	(void)of;
	(void)left;
	(void)right;
	return true;
}

static void open_space(bool clones_too, bool merges_all)
{
	ops = (struct aspace_backend_ops){
		.size = sizeof(ops),
		.map = accept,
		.unmap = accept,
		.protect = accept,
		.move = accept,
		.clone = clones_too ? clone : NULL,
		.release = release,
		.can_merge = merges_all ? always : NULL,
	};
	backend = (struct aspace_backend){.ops = &ops, .flags_mask = 7};
	given = clones = releases = 0;
	assert_ok(aspace_create(NULL, &space));
}

static void put(uint64_t start, uint64_t end, uint64_t flags, void *user, unsigned how)
{
	given += user == &object_shown;
	assert_ok(aspace_map(space, range(start, end), flags, &backend, user, how));
}

static void take(uint64_t start, uint64_t end)
{
	assert_ok(aspace_unmap(space, range(start, end), 0));
}

/* ---- Ways away from where a snapshot shows the object ------------------------ */

/* The snapshot shows it in [10, 20). Each leaves nothing of it in the newest version. */

static void whole(void)
{
	take(10, 20);
}

static void grown_and_beheaded(void)
{
	assert_ok(aspace_resize(space, at(10), 30, 0));
	take(10, 20);
	take(20, 40);
}

static void wandered_far(void)
{
	for (uint64_t start = 10; start < 500; start += 10) {
		assert_ok(aspace_resize(space, at(start), 20, 0));
		take(start, start + 10);
	}
	take(500, 510);
}

static void merged_and_beheaded_by_a_map(void)
{
	put(20, 40, 1, &object_shown, 0);
	put(5, 20, 2, NULL, ASPACE_REPLACE);
	take(0, 100);
}

static void beheaded_by_protect(void)
{
	assert_ok(aspace_resize(space, at(10), 30, 0));
	assert_ok(aspace_protect(space, range(10, 20), 2, 0));
	take(10, 20);
	take(20, 40);
}

static void moved_head_first(void)
{
	assert_ok(aspace_resize(space, at(10), 30, 0));
	assert_ok(aspace_move(space, range(10, 20), at(100), 0));
	take(20, 40);
	take(100, 110);
}

static void swallowed_by_its_left_neighbour(void)
{
	put(0, 10, 1, &object_shown, 0);
	take(0, 15);
	take(15, 20);
}

static void all_in_one_transaction(void)
{
	struct aspace_txn *txn;

	given++;
	assert_ok(aspace_txn_begin(space, 0, &txn));
	assert_ok(aspace_txn_map(txn, range(20, 30), 1, &backend, &object_shown, 0));
	assert_ok(aspace_txn_unmap(txn, range(10, 20), 0));
	assert_ok(aspace_txn_unmap(txn, range(25, 30), 0));
	assert_ok(aspace_txn_commit(txn));
	take(20, 25);
}

/* Not the snapshot's, though it lies where that one was. */
static void another_reference_in_its_place(void)
{
	for (int i = 0; i < 3; i++) {
		take(10, 20);
		put(10, 20, 1, &object_shown, 0);
	}
	take(10, 20);
}

static void another_one_by_replacing(void)
{
	for (int i = 0; i < 3; i++)
		put(10, 20, 1, &object_shown, ASPACE_REPLACE);
	take(10, 20);
}

/* The other one comes to the place when the shown one lives on elsewhere. */
static void two_that_wandered(void)
{
	assert_ok(aspace_resize(space, at(10), 30, 0));
	take(10, 20);
	put(10, 20, 2, &object_shown, 0);
	take(10, 20);
	take(20, 40);
}

static const struct {
	const char *name;
	void (*go)(void);
	long copies; /* where pointers are copied, for want of a clone */
} ways[] = {
#define WAY(way, copies)                                                                           \
	{                                                                                          \
#way, way, copies                                                                  \
	}
	WAY(whole, 0),
	WAY(grown_and_beheaded, 0),
	WAY(wandered_far, 0),
	WAY(merged_and_beheaded_by_a_map, 0),
	WAY(beheaded_by_protect, 1),
	WAY(moved_head_first, 1),
	WAY(swallowed_by_its_left_neighbour, 0),
	WAY(all_in_one_transaction, 0),
	WAY(another_reference_in_its_place, 0),
	WAY(another_one_by_replacing, 0),
	WAY(two_that_wandered, 0),
};

/* `before`: snapshots of before the object came; `more`: later ones that show it, too. */
static void go_one_way(size_t way, bool clones_too, bool merges_all, bool before, bool more)
{
	struct aspace_snapshot snapshot, earlier, later;
	struct aspace_view view;
	struct aspace_area area;
	long copies = clones_too ? 0 : ways[way].copies;

	current_case = ways[way].name;
	open_space(clones_too, merges_all);
	if (before)
		assert_ok(aspace_snapshot_take(space, &earlier));
	put(10, 20, 1, &object_shown, 0);
	assert_ok(aspace_snapshot_take(space, &snapshot));
	if (more) {
		put(1000, 1010, 1, NULL, 0);
		assert_ok(aspace_snapshot_take(space, &later));
	}
	ways[way].go();
	assert_ok(aspace_quiesce(space, 0));
	assert_ok(aspace_validate(space, NULL, 0));
	/* One is left: the one that is shown. */
	assert_int_equal(given + clones + copies - releases, 1);
	aspace_snapshot_view(&snapshot, &view);
	assert_ok(aspace_view_find(&view, at(15), &area));
	assert_ptr_equal(area.user, &object_shown);
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_quiesce(space, 0));
	assert_int_equal(given + clones + copies - releases, more);
	if (more) {
		aspace_snapshot_release(&later);
		assert_ok(aspace_quiesce(space, 0));
	}
	assert_int_equal(given + clones + copies - releases, 0);
	if (before)
		aspace_snapshot_release(&earlier);
	assert_ok(aspace_destroy(space, 0));
	assert_int_equal(given + clones + copies - releases, 0);
}

static void a_snapshot_holds_its_own_reference(void **state)
{
	(void)state;
	for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
		for (unsigned mix = 0; mix < 16; mix++)
			go_one_way(way, mix & 1, mix & 2, mix & 4, mix & 8);
	}
	current_case = NULL;
}

/* A snapshot that a callback takes, in the middle of the map that brings the object. */
static struct aspace_snapshot taken_in_map;

static enum aspace_status map_and_take(struct aspace_backend *of,
				       const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return aspace_snapshot_take(space, &taken_in_map);
}

static void a_snapshot_of_the_version_before_does_not_hold_it(void **state)
{
	(void)state;
	open_space(true, false);
	ops.map = map_and_take;
	put(10, 20, 1, &object_shown, 0);
	ops.map = accept;
	take(10, 20);
	assert_ok(aspace_quiesce(space, 0));
	assert_int_equal(releases, 1);
	aspace_snapshot_release(&taken_in_map);
	assert_ok(aspace_destroy(space, 0));
}

/* A refused unmap brings the area back. The snapshot has it leaving, which shows it to nobody. */
static unsigned refusals_left;

static enum aspace_status refuse_or_accept(struct aspace_backend *of,
					   const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return refusals_left && refusals_left-- ? ASPACE_ACCESS_DENIED : ASPACE_OK;
}

static void a_snapshot_does_not_hold_what_is_leaving_in_it(void **state)
{
	struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_GRACE_UNMAP};
	struct aspace_snapshot snapshot, older;
	struct aspace_view section;

	(void)state;
	for (unsigned before = 0; before < 2; before++) {
		open_space(true, false);
		assert_ok(aspace_destroy(space, 0));
		assert_ok(aspace_create(&options, &space));
		ops.unmap = refuse_or_accept;
		put(10, 20, 1, &object_shown, 0);
		if (before)
			assert_ok(aspace_snapshot_take(space, &older));
		aspace_read_begin(space, &section); /* keeps the backend's unmap off */
		refusals_left = 1;
		take(10, 20);
		assert_ok(aspace_snapshot_take(space, &snapshot));
		aspace_read_end(&section);
		assert_status(ASPACE_BAD_STATE, aspace_quiesce(space, 0));
		take(10, 20);
		assert_ok(aspace_quiesce(space, 0));
		assert_int_equal(releases, !before);
		if (before)
			aspace_snapshot_release(&older);
		assert_ok(aspace_quiesce(space, 0));
		assert_int_equal(releases, 1);
		aspace_snapshot_release(&snapshot);
		assert_ok(aspace_destroy(space, 0));
	}
}

/* ---- Whose object stays ------------------------------------------------------- */

/* Each with two areas, [0, 10) flags 1 and [10, 20) flags 2, outside a transaction and in one. */
struct step {
	enum { END, MAP, UNMAP, PROTECT } what;
	uint64_t lo, hi, flags;
	void *user;
};

static const struct step sequences[][5] = {
	{{PROTECT, 10, 20, 1, NULL}, {UNMAP, 0, 10, 0, NULL}},
	{{PROTECT, 0, 10, 2, NULL}, {UNMAP, 0, 10, 0, NULL}},
	{{PROTECT, 10, 20, 1, NULL}, {PROTECT, 10, 20, 2, NULL}},
	{{PROTECT, 10, 20, 1, NULL}, {PROTECT, 0, 5, 2, NULL}, {UNMAP, 5, 12, 0, NULL}},
	{{MAP, 20, 30, 2, &other_object}, {UNMAP, 10, 20, 0, NULL}},
	{{MAP, 20, 30, 2, &other_object}, {MAP, 10, 20, 3, NULL}, {PROTECT, 0, 30, 1, NULL}},
	{{MAP, 20, 30, 3, &other_object}, {PROTECT, 10, 30, 1, NULL}, {UNMAP, 0, 20, 0, NULL}},
	{{MAP, 5, 15, 1, &other_object}, {UNMAP, 0, 5, 0, NULL}, {PROTECT, 5, 20, 3, NULL}},
	{{UNMAP, 0, 10, 0, NULL}, {MAP, 0, 10, 2, &other_object}, {UNMAP, 0, 5, 0, NULL}},
	{{MAP, 20, 30, 2, &other_object}, {MAP, 30, 40, 2, NULL}, {UNMAP, 10, 32, 0, NULL}},
};

static void do_step(struct aspace_txn *txn, const struct step *step)
{
	struct aspace_range at = range(step->lo, step->hi);

	switch (step->what) {
	case MAP:
		assert_ok(txn ? aspace_txn_map(txn, at, step->flags, &backend, step->user,
					       ASPACE_REPLACE)
			      : aspace_map(space, at, step->flags, &backend, step->user,
					   ASPACE_REPLACE));
		break;
	case UNMAP:
		assert_ok(txn ? aspace_txn_unmap(txn, at, 0) : aspace_unmap(space, at, 0));
		break;
	case PROTECT:
		assert_ok(txn ? aspace_txn_protect(txn, at, step->flags, 0)
			      : aspace_protect(space, at, step->flags, 0));
		break;
	case END:
		break;
	}
}

/* What lies at each address, in the transaction or outside. */
static void look(struct aspace_txn *txn, struct aspace_area *areas)
{
	for (uint64_t i = 0; i < 50; i++) {
		areas[i] = (struct aspace_area){.flags = 0};
		(void)(txn ? aspace_txn_find(txn, at(i), &areas[i])
			   : aspace_find(space, at(i), &areas[i]));
	}
}

static void a_transaction_leaves_what_single_calls_leave(void **state)
{
	struct aspace_area single[5][50], inside[50];

	(void)state;
	for (size_t i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++) {
		for (unsigned mix = 0; mix < 4; mix++) {
			struct aspace_txn *txn;

			for (unsigned in_txn = 0; in_txn < 2; in_txn++) {
				open_space(mix & 1, mix & 2);
				put(0, 10, 1, &left_object, 0);
				put(10, 20, 2, &object_shown, 0);
				txn = NULL;
				if (in_txn)
					assert_ok(aspace_txn_begin(space, 0, &txn));
				for (unsigned n = 0; n < 5; n++) {
					do_step(txn, &sequences[i][n]);
					look(txn, in_txn ? inside : single[n]);
					if (in_txn)
						assert_memory_equal(inside, single[n],
								    sizeof(inside));
				}
				if (in_txn) {
					assert_ok(aspace_txn_commit(txn));
					look(NULL, inside);
					assert_memory_equal(inside, single[4], sizeof(inside));
				}
				assert_ok(aspace_validate(space, NULL, 0));
				assert_ok(aspace_destroy(space, 0));
			}
		}
	}
}

/* protect_with is asked about the areas that there are. */
static bool note_areas(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)flags;
	++*(unsigned *)ctx;
	assert_int_equal(area->start.value, 0);
	assert_int_equal(area->end.value, 20);
	assert_ptr_equal(area->user, &left_object);
	return false;
}

static void in_a_transaction_merged_areas_are_one(void **state)
{
	struct aspace_txn *txn;
	unsigned asked = 0;

	(void)state;
	open_space(false, true);
	put(0, 10, 1, &left_object, 0);
	put(10, 20, 2, &object_shown, 0);
	assert_ok(aspace_txn_begin(space, 0, &txn));
	assert_ok(aspace_txn_protect(txn, range(10, 20), 1, 0));
	assert_ok(aspace_txn_protect_with(txn, range(0, 100), note_areas, &asked, 0));
	assert_int_equal(asked, 1);
	assert_ok(aspace_txn_commit(txn));
	assert_int_equal(aspace_count(space), 1);
	assert_ok(aspace_destroy(space, 0));
	assert_int_equal(releases, 1);
}

/* ---- In a grace-unmap space: what a backend holds is what it is told to unmap ------- */

static uint64_t held[50];

static enum aspace_status hold(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	for (uint64_t i = change->range.start.value; i < change->range.end.value; i++) {
		assert_int_equal(held[i],
				 change->kind == ASPACE_CHANGE_MAP ? 0 : change->old_flags);
		held[i] = change->kind == ASPACE_CHANGE_UNMAP ? 0 : change->new_flags;
	}
	return ASPACE_OK;
}

static void what_merged_in_a_transaction_leaves_in_parts(void **state)
{
	struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_GRACE_UNMAP};

	(void)state;
	for (unsigned mix = 0; mix < 2 * 41 * 41; mix++) {
		uint64_t lo = mix / 2 % 41, hi = mix / 82;
		struct aspace_snapshot snapshot;
		struct aspace_txn *txn;

		if (lo >= hi)
			continue;
		open_space(mix & 1, true);
		assert_ok(aspace_destroy(space, 0));
		assert_ok(aspace_create(&options, &space));
		ops.map = ops.unmap = ops.protect = hold;
		put(0, 10, 1, &object_shown, 0);
		put(10, 20, 2, &object_shown, 0);
		put(30, 40, 3, &object_shown, 0);
		assert_ok(aspace_snapshot_take(space, &snapshot));
		assert_ok(aspace_txn_begin(space, 0, &txn));
		assert_ok(aspace_txn_map(txn, range(20, 30), 3, &backend, NULL, 0));
		assert_ok(aspace_txn_protect(txn, range(0, 40), 3, 0));
		assert_ok(aspace_txn_unmap(txn, range(lo, hi), 0));
		assert_ok(aspace_txn_commit(txn));
		assert_ok(aspace_quiesce(space, 0));
		assert_ok(aspace_validate(space, NULL, 0));
		for (uint64_t i = 0; i < 50; i++)
			assert_int_equal(held[i], i >= 40 || (lo <= i && i < hi) ? 0 : 3);
		assert_true(given + clones - releases >= 3 || !(mix & 1));
		aspace_snapshot_release(&snapshot);
		assert_ok(aspace_destroy(space, 0));
		assert_true(given + clones - releases == 0 || !(mix & 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_snapshot_holds_its_own_reference),
		cmocka_unit_test(a_snapshot_of_the_version_before_does_not_hold_it),
		cmocka_unit_test(a_snapshot_does_not_hold_what_is_leaving_in_it),
		cmocka_unit_test(a_transaction_leaves_what_single_calls_leave),
		cmocka_unit_test(in_a_transaction_merged_areas_are_one),
		cmocka_unit_test(what_merged_in_a_transaction_leaves_in_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
