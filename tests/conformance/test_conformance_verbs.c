/* SPDX-License-Identifier: MIT */
/*
 * Modes, merging, the borders of a space, move, resize, map_anywhere, views and
 * iterators, dumps, figures, destroy.
 */
#include <aspace/backend/null.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conformance/support.h"

/* ---- Strictness -------------------------------------------------------- */

static void holes_are_passed_over_by_default(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 10, 20, 1, NULL));
	assert_ok(map(&w, 30, 40, 1, NULL));
	assert_ok(protect(&w, 0, 35, 2));
	assert_areas(&w, "a-14:2 1e-23:2 23-28:1");
	assert_ok(unmap(&w, 15, 100));
	assert_areas(&w, "a-f:2");
	assert_ok(unmap(&w, 100, 200));
	world_close(&w);
}

static void strict_calls_refuse_holes_and_change_nothing(void **state)
{
	static const uint64_t ranges[][2] = {{5, 15},  {15, 25}, {15, 35},
					     {30, 45}, {0, 5},   {20, 30}};
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 10, 20, 1, NULL));
	assert_ok(map(&w, 30, 40, 1, NULL));
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct aspace_range r = range(ranges[i][0], ranges[i][1]);

		assert_status(ASPACE_NOT_MAPPED, aspace_unmap(w.space, r, ASPACE_STRICT));
		assert_status(ASPACE_NOT_MAPPED, aspace_protect(w.space, r, 2, ASPACE_STRICT));
		assert_areas(&w, "a-14:1 1e-28:1");
	}
	assert_ok(aspace_protect(w.space, range(12, 20), 2, ASPACE_STRICT));
	assert_ok(map(&w, 20, 30, 3, NULL));
	assert_ok(aspace_unmap(w.space, range(11, 39), ASPACE_STRICT));
	assert_areas(&w, "a-b:1 27-28:1");
	world_close(&w);
}

static void an_always_strict_space_needs_no_flag(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.space.mode = ASPACE_ALWAYS_STRICT});
	assert_ok(map(&w, 10, 20, 1, NULL));
	assert_ok(map(&w, 30, 40, 1, NULL));
	assert_status(ASPACE_NOT_MAPPED, unmap(&w, 10, 40));
	assert_status(ASPACE_NOT_MAPPED, protect(&w, 5, 20, 2));
	assert_areas(&w, "a-14:1 1e-28:1");
	assert_ok(protect(&w, 12, 14, 2));
	assert_ok(unmap(&w, 12, 14));
	assert_ok(protect(&w, 13, 13, 2));
	/* clear means everything, holes or not. */
	assert_ok(aspace_clear(w.space, 0));
	assert_areas(&w, "");
	world_close(&w);
}

/* ---- Merging ----------------------------------------------------------- */

static void a_never_merging_space_keeps_neighbours_apart(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.space.mode = ASPACE_NEVER_MERGE});
	assert_ok(map(&w, 0, 10, 1, NULL));
	assert_ok(map(&w, 10, 20, 1, NULL));
	assert_ok(protect(&w, 4, 6, 2));
	assert_ok(protect(&w, 4, 6, 1));
	assert_areas(&w, "0-4:1 4-6:1 6-a:1 a-14:1");
	world_close(&w);
}

static void a_backend_decides_with_can_merge(void **state)
{
	static const struct {
		unsigned mode;
		const char *want;
	} cases[] = {
		{0, "0-a:1 a-14:1"}, /* different user pointers */
		{ASPACE_MOCK_MERGE_ALWAYS, "0-14:1"},
		{ASPACE_MOCK_MERGE_NEVER, "0-a:1 a-14:1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int one, two;
		struct world w;

		world_open(&w, &(struct world_options){.mock_mode = cases[i].mode});
		assert_ok(map(&w, 0, 10, 1, &one));
		assert_ok(map(&w, 10, 20, 1, &two));
		assert_areas(&w, cases[i].want);
		world_close(&w);
	}
}

static void areas_with_different_flags_users_or_backends_stay_apart(void **state)
{
	int one;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 0, 10, 1, NULL));
	assert_ok(map(&w, 10, 20, 2, NULL));
	assert_ok(map(&w, 20, 30, 2, &one));
	assert_ok(aspace_map(w.space, range(30, 40), 2, w.other_backend, &one, 0));
	assert_areas(&w, "0-a:1 a-14:2 14-1e:2 1e-28:2/b");
	world_close(&w);
}

/* ---- Borders ----------------------------------------------------------- */

static void the_last_byte_of_64_bits_is_in_no_area(void **state)
{
	struct aspace_area area;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_int_equal(aspace_limits(w.space).start.value, 0);
	assert_int_equal(aspace_limits(w.space).end.value, UINT64_MAX);
	assert_ok(map(&w, UINT64_MAX - 0x10, UINT64_MAX, 1, NULL));
	assert_ok(aspace_find(w.space, at(UINT64_MAX - 1), &area));
	assert_int_equal(area.end.value, UINT64_MAX);
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(UINT64_MAX), &area));
	/* Its range would wrap. */
	assert_status(ASPACE_INVALID_PARAM, map(&w, UINT64_MAX, 0, 1, NULL));
	assert_ok(unmap(&w, UINT64_MAX - 4, UINT64_MAX));
	assert_areas(&w, "ffffffffffffffef-fffffffffffffffb:1");
	world_close(&w);
}

static void with_pages_neither_is_the_last_page(void **state)
{
	uint64_t top = ~UINT64_C(0xfff);
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.space.granule = 0x1000, .granule = 0x1000});
	assert_int_equal(aspace_granule(w.space), 0x1000);
	assert_int_equal(aspace_limits(w.space).end.value, top);
	assert_ok(map(&w, top - 0x1000, top, 1, NULL));
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(top), NULL));
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(UINT64_MAX), NULL));
	world_close(&w);
}

static void areas_lie_within_the_limits(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.space.limits = range(100, 200)});
	assert_status(ASPACE_INVALID_PARAM, map(&w, 99, 110, 1, NULL));
	assert_status(ASPACE_INVALID_PARAM, map(&w, 190, 201, 1, NULL));
	assert_ok(map(&w, 100, 200, 1, NULL));
	assert_status(ASPACE_INVALID_PARAM, unmap(&w, 99, 200));
	assert_status(ASPACE_INVALID_PARAM, protect(&w, 100, 201, 2));
	assert_areas(&w, "64-c8:1");
	world_close(&w);
}

static void addresses_lie_on_the_granules_of_space_and_backend(void **state)
{
	struct aspace_mock *coarse;
	struct aspace_mock_options options = {.size = sizeof(options), .granule = 0x1000};
	struct aspace_backend *backend;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.space.granule = 0x10, .granule = 0x10});
	assert_ok(aspace_mock_create(&options, &coarse));
	backend = aspace_mock_backend(coarse);
	assert_status(ASPACE_INVALID_PARAM, map(&w, 0x8, 0x20, 1, NULL));
	assert_status(ASPACE_INVALID_PARAM, map(&w, 0x10, 0x28, 1, NULL));
	assert_ok(map(&w, 0x10, 0x20, 1, NULL));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_map(w.space, range(0x1000, 0x1800), 1, backend, NULL, 0));
	assert_ok(aspace_map(w.space, range(0x1000, 0x4000), 1, backend, NULL, 0));
	/* An operation that would cut an area off its backend's granule. */
	assert_status(ASPACE_INVALID_PARAM, unmap(&w, 0x1000, 0x1010));
	assert_status(ASPACE_INVALID_PARAM, unmap(&w, 0x10, 0x1010));
	assert_status(ASPACE_INVALID_PARAM, protect(&w, 0x1010, 0x2000, 2));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_map(w.space, range(0x20, 0x1010), 1, w.backend, NULL, ASPACE_REPLACE));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_move(w.space, range(0x1000, 0x2000), at(0x8010), 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_resize(w.space, at(0x1000), 0x3010, 0));
	assert_int_equal(aspace_count(w.space), 2);
	assert_ok(aspace_validate(w.space, NULL, 0));
	assert_ok(unmap(&w, 0x10, 0x2000));
	assert_ok(aspace_clear(w.space, 0));
	aspace_mock_destroy(coarse);
	world_close(&w);
}

/* ---- Move and resize --------------------------------------------------- */

static void move_carries_everything_in_one_publication(void **state)
{
	uint64_t version;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 0, 10, 1, NULL));
	assert_ok(map(&w, 10, 20, 2, NULL));
	assert_ok(aspace_map(w.space, range(20, 30), 3, w.other_backend, NULL, 0));
	version = stats_of(&w).version;
	assert_ok(aspace_move(w.space, range(5, 25), at(100), 0));
	assert_int_equal(stats_of(&w).version, version + 1);
	assert_areas(&w, "0-5:1 19-1e:3/b 64-69:1 69-73:2 73-78:3/b");
	/* And merges where it arrives. */
	assert_ok(aspace_move(w.space, range(100, 105), at(5), 0));
	assert_areas(&w, "0-a:1 19-1e:3/b 69-73:2 73-78:3/b");
	world_close(&w);
}

static void move_refuses_what_it_cannot_carry(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.other_mode = ASPACE_MOCK_NO_MOVE});
	assert_ok(map(&w, 0, 10, 1, NULL));
	assert_ok(map(&w, 50, 60, 1, NULL));
	assert_ok(aspace_map(w.space, range(20, 30), 3, w.other_backend, NULL, 0));
	assert_status(ASPACE_NOT_MAPPED, aspace_move(w.space, range(0, 11), at(100), 0));
	assert_status(ASPACE_NOT_MAPPED, aspace_move(w.space, range(200, 210), at(100), 0));
	assert_status(ASPACE_ALREADY_EXISTS, aspace_move(w.space, range(0, 10), at(45), 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_move(w.space, range(0, 10), at(9), 0));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_move(w.space, range(0, 10), at(UINT64_MAX - 5), 0));
	assert_status(ASPACE_NOT_SUPPORTED, aspace_move(w.space, range(20, 30), at(100), 0));
	assert_areas(&w, "0-a:1 14-1e:3/b 32-3c:1");
	world_close(&w);
}

static void resize_grows_into_free_room_and_unmaps_the_tail(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 10, 20, 1, NULL));
	assert_ok(map(&w, 40, 50, 1, NULL));
	assert_ok(map(&w, 60, 70, 2, NULL));
	assert_ok(aspace_resize(w.space, at(10), 25, 0));
	assert_areas(&w, "a-23:1 28-32:1 3c-46:2");
	assert_ok(aspace_resize(w.space, at(10), 25, 0));
	assert_ok(aspace_resize(w.space, at(10), 5, 0));
	assert_areas(&w, "a-f:1 28-32:1 3c-46:2");
	/* Up to an equal neighbour: one area. */
	assert_ok(aspace_resize(w.space, at(10), 30, 0));
	assert_areas(&w, "a-32:1 3c-46:2");
	assert_status(ASPACE_ALREADY_EXISTS, aspace_resize(w.space, at(10), 51, 0));
	assert_status(ASPACE_NOT_MAPPED, aspace_resize(w.space, at(11), 5, 0));
	assert_status(ASPACE_NOT_MAPPED, aspace_resize(w.space, at(55), 5, 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_resize(w.space, at(10), 0, 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_resize(w.space, at(10), UINT64_MAX, 0));
	assert_areas(&w, "a-32:1 3c-46:2");
	world_close(&w);
}

/* ---- map_anywhere ------------------------------------------------------ */

static uint64_t place(struct world *w, struct aspace_gap gap)
{
	struct aspace_vaddr start = {UINT64_MAX};
	struct aspace_area area;

	assert_ok(aspace_map_anywhere(w->space, &gap, 1, w->backend, w, 0, &start));
	assert_ok(aspace_find(w->space, start, &area));
	assert_int_equal(area.flags, 1);
	assert_ptr_equal(area.user, w);
	assert_ok(
		aspace_unmap(w->space, range(start.value, start.value + gap.size), ASPACE_STRICT));
	return start.value;
}

static void map_anywhere_obeys_every_option(void **state)
{
	struct aspace_gap none = {.size = 101, .limits = range(300, 400)};
	struct aspace_vaddr start = {77};
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.space.limits = range(100, 1000)});
	assert_ok(map(&w, 100, 110, 2, NULL));
	assert_ok(map(&w, 130, 200, 2, NULL));
	assert_ok(map(&w, 250, 900, 2, NULL));
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10}), 110);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 21}), 200);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10, .align = 16}), 112);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10, .hint = {115}}), 115);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10, .hint = {125}}), 200);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10, .guard = 3}), 113);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 18, .guard = 3}), 203);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10, .limits = range(105, 950)}),
			 110);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10, .downward = true}), 990);
	assert_int_equal(
		place(&w, (struct aspace_gap){.size = 10, .downward = true, .hint = {950}}), 940);
	assert_int_equal(
		place(&w, (struct aspace_gap){.size = 10, .downward = true, .hint = {905}}), 240);
	assert_int_equal(
		place(&w,
		      (struct aspace_gap){.size = 10, .downward = true, .guard = 5, .hint = {260}}),
		235);
	assert_int_equal(place(&w, (struct aspace_gap){.size = 10, .hint = {995}, .wrap = true}),
			 110);
	assert_int_equal(place(&w,
			       (struct aspace_gap){
				       .size = 50, .downward = true, .hint = {140}, .wrap = true}),
			 950);
	assert_status(ASPACE_NO_SPACE,
		      aspace_map_anywhere(w.space, &none, 1, w.backend, NULL, 0, &start));
	assert_int_equal(start.value, 77);
	none = (struct aspace_gap){.size = 10};
	assert_status(ASPACE_INVALID_PARAM, aspace_map_anywhere(w.space, &none, 1, w.backend, NULL,
								ASPACE_REPLACE, &start));
	assert_areas(&w, "64-6e:2 82-c8:2 fa-384:2");
	world_close(&w);
}

/* ---- Questions ---------------------------------------------------------- */

static void is_all_of_a_range_mapped_and_how(void **state)
{
	static const struct {
		uint64_t lo, hi;
		uint64_t mask, flags, reached;
		enum aspace_status status;
	} asked[] = {
		{10, 30, 0, 0, 30, ASPACE_OK},
		{10, 31, 0, 0, 30, ASPACE_NOT_MAPPED},
		{9, 30, 0, 0, 9, ASPACE_NOT_MAPPED},
		{15, 25, 1, 1, 25, ASPACE_OK},
		{15, 25, 3, 1, 20, ASPACE_ACCESS_DENIED},
		{15, 25, 4, 4, 15, ASPACE_ACCESS_DENIED},
		{15, 50, 1, 1, 30, ASPACE_NOT_MAPPED},
		/* The library's own bits do not count; bits outside of the mask neither. */
		{15, 20, ASPACE_FLAGS_RESERVED | 1, ASPACE_FLAGS_RESERVED | 3, 20, ASPACE_OK},
		{35, 35, 1, 0, 35, ASPACE_OK},
		{90, 100, 0, 0, 90, ASPACE_NOT_MAPPED},
	};
	struct aspace_match match;
	struct aspace_vaddr reached;
	struct aspace_view view;
	struct aspace_txn *txn;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 10, 20, 1, NULL));
	assert_ok(map(&w, 20, 30, 3, NULL));
	assert_ok(map(&w, 40, 60, 1, NULL));
	aspace_read_begin(w.space, &view);
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++) {
		struct aspace_range asks = range(asked[i].lo, asked[i].hi);

		match = (struct aspace_match){.mask = asked[i].mask, .flags = asked[i].flags};
		reached = at(0);
		assert_status(asked[i].status, aspace_check_range(w.space, asks, &match, &reached));
		assert_int_equal(reached.value, asked[i].reached);
		reached = at(0);
		assert_status(asked[i].status,
			      aspace_view_check_range(&view, asks, &match, &reached));
		assert_int_equal(reached.value, asked[i].reached);
		reached = at(0);
		assert_status(asked[i].status, aspace_txn_check_range(txn, asks, &match, &reached));
		assert_int_equal(reached.value, asked[i].reached);
		assert_status(asked[i].status, aspace_check_range(w.space, asks, &match, NULL));
	}
	aspace_txn_abort(txn);
	reached = at(7);
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_check_range(w.space, range(20, 10), NULL, &reached));
	assert_int_equal(reached.value, 7);
	match = (struct aspace_match){.backend = aspace_null_backend()};
	assert_status(ASPACE_ACCESS_DENIED,
		      aspace_check_range(w.space, range(10, 20), &match, NULL));
	assert_ok(unmap(&w, 12, 13));
	assert_status(ASPACE_NOT_MAPPED, aspace_check_range(w.space, range(10, 20), NULL, NULL));
	assert_ok(aspace_view_check_range(&view, range(10, 20), NULL, NULL));
	aspace_read_end(&view);
	world_close(&w);
}

static void assert_bytes(struct world *w, uint64_t bytes)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	assert_int_equal(aspace_bytes(w->space), bytes);
	assert_int_equal(aspace_bytes_in(w->space, aspace_limits(w->space), NULL), bytes);
	assert_ok(aspace_stats(w->space, &stats, 0));
	assert_int_equal(stats.bytes_areas, bytes);
}

static void how_many_bytes_are_mapped(void **state)
{
	struct aspace_match writable = {.mask = 2, .flags = 2};
	struct aspace_view view;
	struct aspace_txn *txn;
	struct world w;
	uint64_t bytes = 7;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_bytes(&w, 0);
	assert_ok(map(&w, 10, 20, 1, NULL));
	assert_ok(map(&w, 20, 30, 3, NULL));
	assert_bytes(&w, 20);
	assert_int_equal(aspace_bytes_in(w.space, range(15, 22), NULL), 7);
	assert_int_equal(aspace_bytes_in(w.space, range(15, 22), &writable), 2);
	assert_int_equal(aspace_bytes_in(w.space, range(22, 15), NULL), 0);
	aspace_read_begin(w.space, &view);
	assert_ok(protect(&w, 12, 14, 3));
	assert_bytes(&w, 20);
	assert_ok(unmap(&w, 11, 13));
	assert_bytes(&w, 18);
	assert_ok(aspace_resize(w.space, at(10), 2 - 1, 0));
	assert_ok(aspace_resize(w.space, at(20), 20, 0));
	assert_bytes(&w, 28);
	assert_ok(aspace_map(w.space, range(5, 35), 1, w.backend, NULL, ASPACE_REPLACE));
	assert_bytes(&w, 35);
	assert_int_equal(aspace_view_bytes_in(&view, range(0, 100), NULL), 20);
	assert_int_equal(aspace_view_bytes_in(&view, range(0, 100), &writable), 10);
	aspace_read_end(&view);

	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_unmap(txn, range(5, 15), 0));
	assert_ok(aspace_txn_map(txn, range(50, 51), 2, w.backend, NULL, 0));
	assert_ok(aspace_txn_bytes(txn, &bytes));
	assert_int_equal(bytes, 26);
	assert_ok(aspace_txn_bytes_in(txn, range(0, 100), &writable, &bytes));
	assert_int_equal(bytes, 6);
	assert_int_equal(aspace_bytes(w.space), 35);
	assert_ok(aspace_txn_commit(txn));
	assert_bytes(&w, 26);
	assert_ok(aspace_clear(w.space, 0));
	assert_bytes(&w, 0);
	world_close(&w);
}

/* ---- Views and iterators ----------------------------------------------- */

static void a_view_is_one_version(void **state)
{
	struct aspace_gap gap = {.size = 5, .hint = {10}};
	struct aspace_view view, inner;
	struct aspace_vaddr start;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 10, 20, 1, NULL));
	aspace_read_begin(w.space, &view);
	assert_ok(unmap(&w, 10, 20));
	assert_ok(map(&w, 30, 40, 2, NULL));
	aspace_read_begin(w.space, &inner);
	assert_int_equal(inner.version, view.version + 2);
	assert_view(&w, &inner, "1e-28:2");
	assert_view(&w, &view, "a-14:1");
	assert_ok(aspace_view_find(&view, at(15), NULL));
	assert_status(ASPACE_NOT_MAPPED, aspace_view_find(&inner, at(15), NULL));
	assert_true(aspace_view_overlaps(&view, range(19, 25)));
	assert_false(aspace_view_overlaps(&view, range(20, 40)));
	assert_false(aspace_view_overlaps(&view, range(19, 19)));
	assert_ok(aspace_view_find_free(&view, &gap, &start));
	assert_int_equal(start.value, 20);
	assert_ok(aspace_view_find_free(&inner, &gap, &start));
	assert_int_equal(start.value, 10);
	aspace_read_end(&inner);
	assert_view(&w, &view, "a-14:1");
	aspace_read_end(&view);
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(15), NULL));
	assert_true(aspace_overlaps(w.space, range(0, 31)));
	world_close(&w);
}

static void iterators_go_both_ways_and_stay_at_the_ends(void **state)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	for (uint64_t i = 0; i < 100; i++)
		assert_ok(map(&w, i * 10, i * 10 + 5, i, NULL));
	aspace_read_begin(w.space, &view);
	aspace_iter_begin(&view, at(502), &iter);
	for (uint64_t i = 50; i < 100; i++) {
		assert_true(aspace_iter_next(&iter, &area));
		assert_int_equal(area.start.value, i * 10);
	}
	assert_false(aspace_iter_next(&iter, &area));
	assert_false(aspace_iter_next(&iter, &area));
	for (uint64_t i = 99; i-- > 0;) {
		assert_true(aspace_iter_prev(&iter, &area));
		assert_int_equal(area.start.value, i * 10);
	}
	assert_false(aspace_iter_prev(&iter, &area));
	assert_true(aspace_iter_next(&iter, &area));
	assert_int_equal(area.start.value, 10);

	/* Where to begin: upward, what ends above; downward, what starts below. */
	aspace_iter_begin(&view, at(505), &iter);
	assert_true(aspace_iter_next(&iter, &area));
	assert_int_equal(area.start.value, 510);
	aspace_iter_begin(&view, at(500), &iter);
	assert_true(aspace_iter_prev(&iter, &area));
	assert_int_equal(area.start.value, 490);
	aspace_iter_begin(&view, at(501), &iter);
	assert_true(aspace_iter_prev(&iter, &area));
	assert_int_equal(area.start.value, 500);
	aspace_iter_begin(&view, at(UINT64_MAX), &iter);
	assert_false(aspace_iter_next(&iter, &area));
	aspace_read_end(&view);
	world_close(&w);
}

/* ---- Dumps and figures ------------------------------------------------- */

struct text {
	char bytes[65536];
	size_t length;
};

static bool append(void *ctx, const char *bytes, size_t length)
{
	struct text *text = ctx;

	if (text->length + length >= sizeof(text->bytes))
		return false;
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = '\0';
	return true;
}

static bool stop(void *ctx, const char *bytes, size_t length)
{
	(void)ctx;
	(void)bytes;
	(void)length;
	return false;
}

static void fill(struct world *w)
{
	for (uint64_t i = 0; i < 40; i++)
		assert_ok(map(w, i * 0x2000, i * 0x2000 + 0x1000, i % 8, w + i));
	assert_ok(map(w, UINT64_MAX - 16, UINT64_MAX, 5, NULL));
}

static void the_maps_text_reads_back_as_the_areas(void **state)
{
	static struct text text;
	const char *line;
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	struct world w;

	(void)state;
	text.length = 0;
	world_open(&w, &(struct world_options){0});
	fill(&w);
	assert_ok(aspace_dump(w.space, ASPACE_DUMP_MAPS, append, &text));
	line = text.bytes;
	aspace_read_begin(w.space, &view);
	aspace_iter_begin(&view, at(0), &iter);
	while (aspace_iter_next(&iter, &area)) {
		unsigned long long start, end, flags, backend, user;
		int length = 0;

		assert_int_equal(sscanf(line, "%llx-%llx flags=%llx backend=%llx user=%llx%n",
					&start, &end, &flags, &backend, &user, &length),
				 5);
		assert_int_equal(start, area.start.value);
		assert_int_equal(end, area.end.value);
		assert_int_equal(flags, area.flags);
		assert_int_equal(backend, (uintptr_t)area.backend);
		assert_int_equal(user, (uintptr_t)area.user);
		assert_int_equal(line[length], '\n');
		line += length + 1;
	}
	aspace_read_end(&view);
	assert_int_equal(*line, '\0');
	assert_status(ASPACE_BAD_STATE, aspace_dump(w.space, ASPACE_DUMP_MAPS, stop, NULL));
	assert_status(ASPACE_BAD_STATE, aspace_dump(w.space, ASPACE_DUMP_DOT, stop, NULL));
	world_close(&w);
}

static void the_graph_satisfies_graphviz(void **state)
{
	static struct text text;
	char path[] = "/tmp/aspace-dot-XXXXXX", command[128];
	unsigned nodes = 0;
	struct world w;
	int fd;

	(void)state;
	text.length = 0;
	world_open(&w, &(struct world_options){0});
	fill(&w);
	assert_ok(aspace_dump(w.space, ASPACE_DUMP_DOT, append, &text));
	for (const char *at_node = text.bytes; (at_node = strstr(at_node, "[label=")) != NULL;
	     at_node++)
		nodes++;
	assert_int_equal(nodes, stats_of(&w).nodes);
	world_close(&w);

	if (system("command -v dot >/dev/null 2>&1") != 0) {
		print_message("dot is not installed: its opinion was not asked\n");
		skip();
	}
	fd = mkstemp(path);
	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, text.bytes, text.length), (ssize_t)text.length);
	close(fd);
	snprintf(command, sizeof(command), "dot -Tplain %s >/dev/null", path);
	assert_int_equal(system(command), 0);
	unlink(path);
}

static void figures_say_what_is_there(void **state)
{
	struct aspace_stats empty, full, retired;
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	empty = stats_of(&w);
	assert_int_equal(empty.areas, 0);
	assert_int_equal(empty.height, 1);
	assert_int_equal(empty.nodes, 1);
	assert_int_equal(empty.version, 1);
	assert_int_equal(empty.snapshots, 0);
	fill(&w);
	assert_ok(aspace_quiesce(w.space, 0));
	full = stats_of(&w);
	assert_int_equal(full.areas, 41);
	assert_int_equal(full.areas, aspace_count(w.space));
	assert_int_equal(full.version, 42);
	assert_int_equal(full.height, 2);
	assert_in_range(full.nodes, 4, 10);
	assert_int_equal(full.bytes_live, full.nodes * empty.bytes_live);
	assert_int_equal(full.bytes_retired, 0);
	assert_int_equal(full.bytes_snapshots, 0);
	assert_true(full.bytes_retired_max > 0);
	assert_true(full.grace_periods > empty.grace_periods);
	assert_true(full.bytes_mapped >= full.bytes_live + full.bytes_pooled);

	aspace_read_begin(w.space, &view);
	assert_ok(unmap(&w, 0, 1));
	retired = stats_of(&w);
	assert_int_equal(retired.bytes_retired, 2 * empty.bytes_live);
	aspace_read_end(&view);
	assert_ok(aspace_snapshot_take(w.space, &snapshot));
	assert_ok(unmap(&w, 1, 2));
	assert_ok(aspace_quiesce(w.space, 0));
	assert_int_equal(stats_of(&w).snapshots, 1);
	assert_int_equal(stats_of(&w).bytes_snapshots, 2 * empty.bytes_live);
	assert_int_equal(stats_of(&w).bytes_retired, 0);
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_clear(w.space, 0));
	assert_ok(aspace_quiesce(w.space, 0));
	aspace_trim(w.space, 0);
	assert_int_equal(stats_of(&w).nodes, 1);
	assert_int_equal(stats_of(&w).bytes_snapshots, 0);
	assert_true(stats_of(&w).bytes_mapped <= full.bytes_mapped);
	world_close(&w);
}

static void every_status_has_a_name(void **state)
{
	(void)state;
	assert_string_equal(aspace_status_string(ASPACE_OK), "ASPACE_OK");
	assert_string_equal(aspace_status_string(ASPACE_ACCESS_DENIED), "ASPACE_ACCESS_DENIED");
	assert_string_equal(aspace_status_string((enum aspace_status)99), "ASPACE_STATUS_UNKNOWN");
	assert_string_equal(aspace_status_string((enum aspace_status) - 1),
			    "ASPACE_STATUS_UNKNOWN");
	for (unsigned a = ASPACE_OK; a <= ASPACE_ACCESS_DENIED; a++) {
		for (unsigned b = a + 1; b <= ASPACE_ACCESS_DENIED + 1; b++)
			assert_string_not_equal(aspace_status_string((enum aspace_status)a),
						aspace_status_string((enum aspace_status)b));
	}
}

/* ---- Fault ------------------------------------------------------------- */

static void fault_asks_the_backend_of_the_area(void **state)
{
	struct world w;

	(void)state;
	world_open(&w,
		   &(struct world_options){.mock_mode = ASPACE_MOCK_LAZY | ASPACE_MOCK_CHECK_ACCESS,
					   .other_mode = ASPACE_MOCK_NO_FAULT});
	assert_ok(map(&w, 0, 10, ASPACE_ACCESS_READ, NULL));
	assert_ok(aspace_map(w.space, range(20, 30), 1, w.other_backend, NULL, 0));
	assert_false(aspace_mock_populated(w.mock, at(5)));
	assert_status(ASPACE_ACCESS_DENIED, aspace_fault(w.space, at(5), ASPACE_ACCESS_WRITE, 0));
	assert_ok(aspace_fault(w.space, at(5), ASPACE_ACCESS_READ, 0));
	assert_true(aspace_mock_populated(w.mock, at(5)));
	assert_status(ASPACE_NOT_MAPPED, aspace_fault(w.space, at(15), ASPACE_ACCESS_READ, 0));
	assert_status(ASPACE_NOT_SUPPORTED, aspace_fault(w.space, at(25), ASPACE_ACCESS_READ, 0));
	world_close(&w);
}

/* ---- Destroy ----------------------------------------------------------- */

static void destroy_is_busy_with_a_snapshot_or_a_transaction(void **state)
{
	struct aspace_snapshot snapshot;
	struct aspace_txn *txn;
	struct aspace_view view;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){0});
	assert_ok(map(&w, 0, 10, 1, NULL));
	assert_ok(aspace_snapshot_take(w.space, &snapshot));
	assert_status(ASPACE_BUSY, aspace_destroy(w.space, 0));
	assert_areas(&w, "0-a:1");
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_status(ASPACE_BUSY, aspace_destroy(w.space, 0));
	aspace_txn_abort(txn);
	assert_areas(&w, "0-a:1");
	aspace_read_begin(w.space, &view);
	assert_status(ASPACE_BUSY, aspace_destroy(w.space, 0));
	aspace_read_end(&view);
	assert_areas(&w, "0-a:1");
	world_close(&w);
}

static void destroy_without_waiting_takes_only_an_idle_space(void **state)
{
	struct aspace *space;
	enum aspace_status status;

	(void)state;
	assert_ok(aspace_create(NULL, &space));
	assert_ok(aspace_map(space, range(0, 10), 1, aspace_null_backend(), NULL, 0));
	assert_status(ASPACE_BUSY, aspace_destroy(space, ASPACE_NOWAIT));
	assert_int_equal(aspace_count(space), 1);
	assert_ok(aspace_clear(space, 0));
	/* Empty, but the nodes of earlier versions wait for readers. */
	assert_status(ASPACE_BUSY, aspace_destroy(space, ASPACE_NOWAIT));
	assert_ok(aspace_quiesce(space, 0));
	/* The helper may be looking after the space just then. */
	while ((status = aspace_destroy(space, ASPACE_NOWAIT)) == ASPACE_BUSY)
		sched_yield();
	assert_ok(status);
}

static void destroy_that_is_refused_leaves_the_space_alive(void **state)
{
	struct world w;

	(void)state;
	for (unsigned mode = 0; mode <= ASPACE_GRACE_UNMAP; mode += ASPACE_GRACE_UNMAP) {
		world_open(&w, &(struct world_options){.space.mode = mode});
		assert_ok(map(&w, 0, 10, 1, NULL));
		assert_ok(aspace_map(w.space, range(10, 20), 1, w.other_backend, NULL, 0));
		assert_ok(
			aspace_mock_inject(w.other, ASPACE_MOCK_UNMAP, 1, true, ASPACE_NO_MEMORY));
		assert_status(ASPACE_BAD_STATE, aspace_destroy(w.space, 0));
		assert_areas(&w, "a-14:1/b");
		assert_ok(map(&w, 30, 40, 1, NULL));
		aspace_mock_heal(w.other);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_are_passed_over_by_default),
		cmocka_unit_test(strict_calls_refuse_holes_and_change_nothing),
		cmocka_unit_test(an_always_strict_space_needs_no_flag),
		cmocka_unit_test(a_never_merging_space_keeps_neighbours_apart),
		cmocka_unit_test(a_backend_decides_with_can_merge),
		cmocka_unit_test(areas_with_different_flags_users_or_backends_stay_apart),
		cmocka_unit_test(the_last_byte_of_64_bits_is_in_no_area),
		cmocka_unit_test(with_pages_neither_is_the_last_page),
		cmocka_unit_test(areas_lie_within_the_limits),
		cmocka_unit_test(addresses_lie_on_the_granules_of_space_and_backend),
		cmocka_unit_test(move_carries_everything_in_one_publication),
		cmocka_unit_test(move_refuses_what_it_cannot_carry),
		cmocka_unit_test(resize_grows_into_free_room_and_unmaps_the_tail),
		cmocka_unit_test(map_anywhere_obeys_every_option),
		cmocka_unit_test(is_all_of_a_range_mapped_and_how),
		cmocka_unit_test(how_many_bytes_are_mapped),
		cmocka_unit_test(a_view_is_one_version),
		cmocka_unit_test(iterators_go_both_ways_and_stay_at_the_ends),
		cmocka_unit_test(the_maps_text_reads_back_as_the_areas),
		cmocka_unit_test(the_graph_satisfies_graphviz),
		cmocka_unit_test(figures_say_what_is_there),
		cmocka_unit_test(every_status_has_a_name),
		cmocka_unit_test(fault_asks_the_backend_of_the_area),
		cmocka_unit_test(destroy_is_busy_with_a_snapshot_or_a_transaction),
		cmocka_unit_test(destroy_without_waiting_takes_only_an_idle_space),
		cmocka_unit_test(destroy_that_is_refused_leaves_the_space_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
