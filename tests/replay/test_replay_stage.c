/* SPDX-License-Identifier: MIT */
/*
 * Windows and histories: what relocation keeps, and that a history says what
 * replaying the steps says, at every time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "look.h"
#include "stage.h"

static void clusters_keep_their_shape(void **state)
{
	static const struct {
		uint64_t start, end;
	} ranges[] = {
		{0x5500000ef000, 0x5500000f0000}, /* a page, alone */
		{0x560012345000, 0x560012366000},
		{0x560012367000, 0x560012368000}, /* one page further */
		{0x560012400000, 0x560013400000},
		{0x7f0000000000, 0x7f0040000000}, /* 1 GiB */
		{0x7f0041000000, 0x7f0041001000}, /* 16 MiB further: kept */
		{0x7f0042002000, 0x7f0042003000}, /* a little more: shrunk */
		{0xffffffffff000000, 0xffffffffff001000},
	};
	struct areas ever = {.at = NULL};
	struct layout layout;

	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		areas_map(&ever, ranges[i].start, ranges[i].end, 0);
	layout_make(&layout, &ever);
	assert_int_equal(layout.size % LAYOUT_ALIGN, 0);
	/* 1 GiB, seven gaps and margins: not 128 TiB. */
	assert_true(layout.size < (UINT64_C(1) << 30) + (UINT64_C(100) << 20));
	for (size_t i = 0; i < ever.at_count; i++) {
		uint64_t start = layout_place(&layout, ranges[i].start);
		uint64_t end = layout_place(&layout, ranges[i].end);
		uint64_t inside = ranges[i].start + (ranges[i].end - ranges[i].start) / 2;

		assert_int_equal(end - start, ranges[i].end - ranges[i].start);
		assert_int_equal(start % LAYOUT_ALIGN, ranges[i].start % LAYOUT_ALIGN);
		assert_int_equal(layout_place(&layout, inside) - start, inside - ranges[i].start);
		assert_true(end < layout.size);
		if (!i)
			continue;
		assert_true(start > layout_place(&layout, ranges[i - 1].end));
	}
	assert_int_equal(layout_place(&layout, 0x560012367000) -
				 layout_place(&layout, 0x560012366000),
			 0x1000);
	assert_int_equal(layout_place(&layout, 0x7f0041000000) -
				 layout_place(&layout, 0x7f0040000000),
			 UINT64_C(16) << 20);
	assert_true(layout_place(&layout, 0x7f0042002000) - layout_place(&layout, 0x7f0041001000) <
		    UINT64_C(16) << 20);
	/* Beyond the ends, and in a shrunk gap: still in order. */
	assert_int_equal(layout_place(&layout, 0), 0);
	assert_int_equal(layout_place(&layout, UINT64_MAX), layout.size);
	assert_int_equal(layout_place(&layout, 0x600000000000),
			 layout_place(&layout, 0x7f0000000000));
	assert_int_equal(layout_place(&layout, 0x5500000f0000 + 4096),
			 layout_place(&layout, 0x5500000f0000) + 4096);
	layout_free(&layout);

	areas_map(&ever, 0x1000, UINT64_C(1) << 60, 0);
	layout_make(&layout, &ever);
	assert_int_equal(layout.size, 0); /* no window is that large */
	layout_free(&layout);
	areas_free(&ever);
}

enum {
	PAGES = 64,
	STEPS = 300,
};

static void check_time(const struct history *history, const struct areas *areas, uint32_t time)
{
	for (uint64_t at = 0; at < PAGES; at++) {
		const struct tile *tile = history_at(history, at, time);
		const struct area *area = areas_find(areas, at);

		assert_non_null(tile);
		assert_true(tile->from <= time && time < tile->until);
		if (area) {
			assert_int_equal(tile->start, area->start);
			assert_int_equal(tile->end, area->end);
			assert_int_equal(tile->value, area->protection);
		} else {
			assert_int_equal(tile->value, HOLE);
			assert_true(!tile->start || areas_find(areas, tile->start - 1));
			assert_true(tile->end == PAGES || areas_find(areas, tile->end));
		}
	}
}

static void check_gaps(const struct history *history, const struct areas *areas, uint32_t time,
		       uint64_t *random)
{
	uint64_t from = random_next(random) % PAGES, limit = random_next(random) % (PAGES + 1);
	uint64_t length = 1 + random_next(random) % 8, lowest = UINT64_MAX, highest = UINT64_MAX;

	for (uint64_t at = from; at + length <= limit; at++) {
		if (areas_overlap(areas, at, at + length))
			continue;
		lowest = at < lowest ? at : lowest;
		highest = at;
	}
	assert_int_equal(history_gap(history, time, from, limit, length, false), lowest);
	assert_int_equal(history_gap(history, time, from, limit, length, true), highest);
}

static struct step random_step(const struct areas *areas, uint64_t *random)
{
	uint64_t a = random_next(random) % PAGES, b = random_next(random) % PAGES;
	struct step step = {
		.kind = STEP_MAP,
		.start = a < b ? a : b,
		.end = (a < b ? b : a) + 1,
		.protection = random_next(random) & 7,
	};
	const struct area *area = areas_find(areas, step.start);
	uint64_t length;

	switch (random_next(random) % 6) {
	case 0:
	case 1:
		step.kind = STEP_UNMAP;
		break;
	case 2:
		step.kind = STEP_PROTECT;
		break;
	case 3:
		/* From an area to a hole that is no part of it. */
		if (!area)
			break;
		length = area->end - step.start;
		for (uint64_t to = 0; to + length <= PAGES; to++) {
			if (areas_overlap(areas, to, to + length))
				continue;
			step.kind = STEP_MOVE;
			step.end = step.start + length;
			step.to = to;
			break;
		}
		break;
	case 4:
		if (!area || areas_find(areas, area->end) || area->end == PAGES)
			break;
		step.kind = STEP_RESIZE;
		step.start = area->start;
		step.end = area->end;
		step.to = (random_next(random) & 1) || area->end - area->start == 1 ? area->end + 1
										    : area->end - 1;
		step.protection = area->protection;
		break;
	default:
		break;
	}
	return step;
}

static void histories_are_exact(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct areas initial = {.at = NULL}, areas = {.at = NULL};
		struct step steps[STEPS] = {{.kind = STEP_BEGIN}};
		struct history history;
		uint64_t random = seed;
		size_t most = 0, most_made;

		areas_map(&initial, 3, 9, 1);
		areas_map(&initial, 20, 21, 2);
		areas_copy(&areas, &initial);
		for (size_t i = 1; i < STEPS; i++) {
			steps[i] = random_step(&areas, &random);
			step_apply(&steps[i], &areas);
		}
		most_made = past_make(&history, PAGES, &initial, steps, STEPS);
		assert_int_equal(history.times, STEPS);

		areas.at_count = 0;
		check_time(&history, &areas, 0);
		areas_copy(&areas, &initial);
		for (uint32_t i = 1; i <= STEPS; i++) {
			if (i > 1)
				step_apply(&steps[i - 1], &areas);
			check_time(&history, &areas, i);
			check_gaps(&history, &areas, i, &random);
			most = areas.at_count > most ? areas.at_count : most;
		}
		assert_int_equal(most_made, most);
		assert_int_equal(history.areas, areas.at_count);
		history_free(&history);
		areas_free(&areas);
		areas_free(&initial);
	}
}

static void intervals_are_searched(void **state)
{
	struct areas initial = {.at = NULL};
	struct step steps[] = {
		{.kind = STEP_BEGIN},
		{.kind = STEP_MAP, .start = 10, .end = 20, .protection = 1},    /* time 2 */
		{.kind = STEP_PROTECT, .start = 0, .end = 15, .protection = 2}, /* 3 */
		{.kind = STEP_UNMAP, .start = 12, .end = 18},                   /* 4 */
		{.kind = STEP_MAP, .start = 0, .end = 1, .protection = 1},      /* 5: elsewhere */
		{.kind = STEP_END},
	};
	struct history history;

	(void)state;
	past_make(&history, 30, &initial, steps, 6);
	assert_int_equal(history.times, 5);
	assert_true(history_was_area(&history, 13, 2, 2, 10, 20, 1));
	assert_true(history_was_area(&history, 13, 0, 5, 10, 20, 1));
	assert_true(history_was_area(&history, 13, 2, 3, 10, 15, 2));
	assert_false(history_was_area(&history, 13, 2, 2, 10, 15, 2));
	assert_false(history_was_area(&history, 13, 3, 5, 10, 20, 1));
	assert_false(history_was_area(&history, 13, 0, 5, 10, 20, 2));
	assert_false(history_was_area(&history, 13, 0, 5, 11, 20, 1));
	assert_true(history_was_hole(&history, 13, 0, 1));
	assert_false(history_was_hole(&history, 13, 2, 3));
	assert_true(history_was_hole(&history, 13, 2, 4));
	assert_true(history_was_area(&history, 11, 4, 5, 10, 12, 2));
	assert_true(history_was_area(&history, 0, 5, 5, 0, 1, 1));
	history_free(&history);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clusters_keep_their_shape),
		cmocka_unit_test(histories_are_exact),
		cmocka_unit_test(intervals_are_searched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
