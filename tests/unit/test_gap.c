/* SPDX-License-Identifier: MIT */
/*
 * Gap searches by every set of functions that this CPU can run, against the areas themselves:
 * at the borders of nodes, across several levels, in trees of each height. Built with the real
 * fan-out and with 4, where trees are tall.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "read/lookup_named.h"
#include "space/space.h"

static const char *const names[] = {"portable", "avx2", "avx512", "neon"};

#define NAMES (sizeof(names) / sizeof(names[0]))

static struct aspace_range *area; /* ascending */
static size_t areas;

static uint64_t draw(uint64_t below)
{
	static uint64_t state = 1;

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (state >> 33) % below;
}

static struct aspace *make_space(size_t room)
{
	struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_NEVER_MERGE};
	struct aspace *space;

	areas = 0;
	area = calloc(room + 1, sizeof(*area));
	assert_non_null(area);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	return space;
}

static void end_space(struct aspace *space)
{
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	free(area);
}

static void map(struct aspace *space, struct aspace_range range)
{
	assert_int_equal(aspace_map(space, range, 0, aspace_null_backend(), NULL, 0), ASPACE_OK);
}

static void add(struct aspace *space, uint64_t start, uint64_t end)
{
	area[areas] = aspace_range_of(start, end);
	map(space, area[areas++]);
}

static unsigned top_level(struct aspace *space)
{
	return asp_root(space)->level;
}

/* ---- What is right -------------------------------------------------------- */

/* In [from, to), between areas that are there or not. */
static bool fits(const struct aspace_gap *gap, uint64_t from, uint64_t to, uint64_t lo, uint64_t hi,
		 uint64_t *answer)
{
	uint64_t align = gap->align ? gap->align : 1, low, high;

	from = from < lo ? lo : from;
	to = to > hi ? hi : to;
	if (to <= from || to - from < gap->size)
		return false;
	low = from % align ? from - from % align + align : from;
	high = to - gap->size - (to - gap->size) % align;
	if (low < from || high < low)
		return false;
	*answer = gap->downward ? high : low;
	return true;
}

/* Stretch i is the one before area i. */
static bool fits_before(const struct aspace_gap *gap, size_t i, uint64_t lo, uint64_t hi,
			uint64_t *answer)
{
	uint64_t from = 0, to = UINT64_MAX;

	if (i) {
		from = area[i - 1].end.value + gap->guard;
		if (from < gap->guard)
			return false;
	}
	if (i < areas) {
		if (area[i].start.value < gap->guard)
			return false;
		to = area[i].start.value - gap->guard;
	}
	return fits(gap, from, to, lo, hi, answer);
}

static bool fits_within(const struct aspace_gap *gap, uint64_t lo, uint64_t hi, uint64_t *answer)
{
	for (size_t i = 0; lo < hi && i <= areas; i++) {
		if (fits_before(gap, gap->downward ? areas - i : i, lo, hi, answer))
			return true;
	}
	return false;
}

static bool right_answer(const struct aspace_gap *gap, uint64_t *answer)
{
	uint64_t lo = gap->limits.start.value, hi = gap->limits.end.value, hint = gap->hint.value;

	if (!hi)
		hi = UINT64_MAX;
	if (gap->downward ? fits_within(gap, lo, hint && hint < hi ? hint : hi, answer)
			  : fits_within(gap, hint > lo ? hint : lo, hi, answer))
		return true;
	return gap->wrap && fits_within(gap, lo, hi, answer);
}

static enum aspace_status search(struct aspace *space, const struct aspace_gap *gap,
				 uint64_t *answer)
{
	struct aspace_vaddr start = {0}, again = {0};
	enum aspace_status status = aspace_find_free(space, gap, &start);
	struct aspace_view view;

	aspace_read_begin(space, &view);
	assert_int_equal(aspace_view_find_free(&view, gap, &again), status);
	assert_int_equal(start.value, again.value);
	aspace_read_end(&view);
	*answer = start.value;
	return status;
}

static void check(struct aspace *space, const struct aspace_gap *gap)
{
	uint64_t want = 0, got;
	enum aspace_status status = right_answer(gap, &want) ? ASPACE_OK : ASPACE_NO_SPACE;

	assert_int_equal(search(space, gap, &got), status);
	assert_int_equal(got, want);
}

/* ---- Anything ------------------------------------------------------------- */

static uint64_t draw_place(void)
{
	const struct aspace_range *range;

	switch (areas ? draw(8) : draw(2)) {
	case 0:
		return draw(100);
	case 1:
		return UINT64_MAX - draw(100);
	case 2:
		range = &area[draw(2) ? 0 : areas - 1];
		break;
	default:
		range = &area[draw(areas)];
		break;
	}
	return (draw(2) ? range->start.value : range->end.value) + draw(5) - 2;
}

static struct aspace_gap draw_gap(void)
{
	static const uint64_t guards[] = {UINT64_C(1) << 40, UINT64_C(1) << 63, UINT64_MAX};
	struct aspace_gap gap = {.size = 1 + draw(40), .downward = draw(2), .wrap = !draw(3)};
	uint64_t a = draw_place(), b = draw_place();

	if (draw(2))
		gap.hint.value = draw_place();
	if (!draw(3) && a != b)
		gap.limits = a < b ? aspace_range_of(a, b) : aspace_range_of(b, a);
	if (!draw(3))
		gap.align = UINT64_C(1) << draw(draw(8) ? 8 : 64);
	if (!draw(3))
		gap.guard = draw(draw(4) ? 4 : 20);
	if (!draw(50))
		gap.guard = guards[draw(3)];
	if (!draw(20))
		gap.size = UINT64_C(1) << (30 + draw(34));
	return gap;
}

/* Areas from the bottom, or up to the very top; or from the bottom with a hole in the middle
 * that reaches over 2^63, where signed comparisons go wrong. */
static void fill(struct aspace *space, size_t count, unsigned where)
{
	uint64_t at = where == 1 ? UINT64_MAX - 64 * count : 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t size = 1 + draw(32);

		if (where == 1 && i + 1 == count)
			at = UINT64_MAX - size;
		if (where == 2 && i == count / 2)
			at += UINT64_C(1) << 63;
		add(space, at, at + size);
		at += size + draw(draw(4) ? 10 : 31);
	}
}

static void test_anything(void **state)
{
	static const size_t counts[] = {0, 1, 2, 3, 4, 5, 13, 14, 15, 16, 17, 60, 300, 2000};
	unsigned tried = 0;

	(void)state;
	for (size_t i = 0; i < 3 * sizeof(counts) / sizeof(counts[0]); i++) {
		size_t count = counts[i / 3];
		struct aspace *space = make_space(count);

		fill(space, count, i % 3);
		for (size_t n = 0; n < NAMES; n++) {
			const struct asp_lookup_set *set = asp_lookup_set_named(names[n]);

			if (!set)
				continue;
			tried++;
			asp_use_lookup_set(space, set);
			for (unsigned query = 0; query < 1500; query++) {
				struct aspace_gap gap = draw_gap();

				check(space, &gap);
			}
		}
		end_space(space);
	}
	assert_true(tried > 0);
}

/* ---- One place only ------------------------------------------------------- */

/* Where the only place is, and how far from it a search begins: in the leaf, in the next,
 * some levels up, at an end. */
struct only {
	struct aspace_range limits; /* the first area to the last: no open ends */
	uint64_t size, align;
	uint64_t right;
};

static void check_up(struct aspace *space, const struct only *only, uint64_t hint)
{
	struct aspace_gap gap = {.size = only->size, .align = only->align, .limits = only->limits};
	uint64_t got;

	gap.hint.value = hint;
	if (hint > only->right) {
		assert_int_equal(search(space, &gap, &got), ASPACE_NO_SPACE);
		gap.wrap = true;
	}
	assert_int_equal(search(space, &gap, &got), ASPACE_OK);
	assert_int_equal(got, only->right);
	/* The same, but it ends one byte before the place does. */
	gap.limits.end.value = only->right + only->size - 1;
	assert_int_equal(search(space, &gap, &got), ASPACE_NO_SPACE);
}

static void check_down(struct aspace *space, const struct only *only, uint64_t hint)
{
	struct aspace_gap gap = {
		.size = only->size, .align = only->align, .limits = only->limits, .downward = true};
	uint64_t got;

	gap.hint.value = hint;
	if (hint < only->right + only->size) {
		assert_int_equal(search(space, &gap, &got), ASPACE_NO_SPACE);
		gap.wrap = true;
	}
	assert_int_equal(search(space, &gap, &got), ASPACE_OK);
	assert_int_equal(got, only->right);
	gap.limits.start.value = only->right + 1;
	assert_int_equal(search(space, &gap, &got), ASPACE_NO_SPACE);
}

static void check_only(struct aspace *space, const struct only *only, size_t p)
{
	for (size_t far = 0; far < 2 * areas; far = 2 * far + 1) {
		const struct aspace_range *left = &area[far < p ? p - far : 0];
		const struct aspace_range *right = &area[p + far < areas ? p + far : areas - 1];

		check_up(space, only, left->start.value + draw(2));
		check_up(space, only, right->end.value - draw(2));
		check_down(space, only, right->end.value - draw(2));
		check_down(space, only, left->start.value + draw(2));
	}
}

/* For each area, or one in `step`: without it there is room, and nowhere else. Areas take up
 * `used` of 64 bytes; the searches are for `size`, `align`. */
static void try_each(size_t count, size_t step, uint64_t used, uint64_t size, uint64_t align)
{
	struct aspace *space = make_space(count);

	for (size_t i = 0; i < count; i++)
		add(space, 64 * (i + 1), 64 * (i + 1) + used);
	printf("%zu areas: root at level %u\n", count, top_level(space));
	for (size_t n = 0; n < NAMES; n++) {
		const struct asp_lookup_set *set = asp_lookup_set_named(names[n]);

		if (!set)
			continue;
		asp_use_lookup_set(space, set);
		for (size_t p = 1; p + 1 < count; p += step) {
			struct only only = {.size = size, .align = align};

			only.limits =
				aspace_range_of(area[0].start.value, area[count - 1].end.value);
			only.right = align ? area[p].start.value : area[p - 1].end.value;
			assert_int_equal(aspace_unmap(space, area[p], 0), ASPACE_OK);
			check_only(space, &only, p);
			map(space, area[p]);
		}
	}
	end_space(space);
}

static void test_one_place(void **state)
{
	(void)state;
	for (size_t count = 3; count < 70; count++)
		try_each(count, 1, 40, 64 + 24, 0);
	try_each(500, 1, 40, 64 + 24, 0);
	try_each(5000, 37, 40, 64 + 24, 0);
}

/* Every stretch is long enough, and none but one holds an aligned start. */
static void test_one_aligned(void **state)
{
	(void)state;
	try_each(20, 1, 40, 20, 64);
	try_each(500, 7, 40, 20, 64);
}

/* So tall that nodes are fetched ahead. */
static void test_tall(void **state)
{
	(void)state;
	try_each(60000, 4999, 40, 64 + 24, 0);
}

/* What a search remembers is of no use to the next: another space, lower, with fewer children,
 * and the other direction. */
static void test_other_space(void **state)
{
	struct aspace *space[2];
	struct aspace_range *kept[2];
	const size_t count[2] = {2000, 30};

	(void)state;
	for (unsigned s = 0; s < 2; s++) {
		space[s] = make_space(count[s]);
		fill(space[s], count[s], 0);
		kept[s] = area;
	}
	for (size_t n = 0; n < NAMES; n++) {
		const struct asp_lookup_set *set = asp_lookup_set_named(names[n]);

		if (!set)
			continue;
		for (unsigned query = 0; query < 2000; query++) {
			unsigned s = (unsigned)draw(2);
			struct aspace_gap gap = {.size = 1 + draw(30), .downward = draw(2)};

			area = kept[s];
			areas = count[s];
			gap.limits =
				aspace_range_of(area[0].start.value, area[areas - 1].end.value);
			asp_use_lookup_set(space[s], set);
			check(space[s], &gap);
		}
	}
	for (unsigned s = 0; s < 2; s++) {
		area = kept[s];
		end_space(space[s]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_anything),    cmocka_unit_test(test_one_place),
		cmocka_unit_test(test_one_aligned), cmocka_unit_test(test_tall),
		cmocka_unit_test(test_other_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
