/* SPDX-License-Identifier: MIT */
/*
 * What the four tests of the Rust crate memory_set expect, with addresses to the byte;
 * and one test for each defect of that crate.
 */
#include <stdio.h>

#include "conformance/support.h"

#define END UINT64_C(0x10000)

static void open_bytes(struct world *w)
{
	world_open(w, &(struct world_options){0});
}

/* [0, 0x1000), [0x2000, 0x3000), ... */
static void map_every_other(struct world *w, uint64_t first, uint64_t flags)
{
	for (uint64_t start = first; start < END; start += 0x2000)
		assert_ok(map(w, start, start + 0x1000, flags, NULL));
}

static void assert_bytes(struct world *w, uint64_t start, uint64_t end, uint64_t want)
{
	for (uint64_t a = start; a < end; a++) {
		uint64_t flags = 0;

		aspace_mock_query(w->mock, at(a), &flags);
		assert_int_equal(flags, want);
	}
}

/* ---- The crate's tests ------------------------------------------------- */

static void crate_map_and_unmap(void **state)
{
	struct aspace_area area;
	struct world w;

	(void)state;
	open_bytes(&w);
	map_every_other(&w, 0, 1);
	map_every_other(&w, 0x1000, 2);
	assert_int_equal(aspace_count(w.space), 16);
	for (uint64_t start = 0; start < END; start += 0x1000)
		assert_bytes(&w, start, start + 0x1000, start & 0x1000 ? 2 : 1);

	assert_ok(aspace_find(w.space, at(0x4100), &area));
	assert_int_equal(area.start.value, 0x4000);
	assert_int_equal(area.end.value, 0x5000);
	assert_int_equal(area.flags, 1);

	/* What is mapped is in the way, unless it is to be replaced. */
	assert_status(ASPACE_ALREADY_EXISTS, map(&w, 0x4000, 0x8000, 3, NULL));
	assert_int_equal(aspace_count(w.space), 16);
	assert_ok(aspace_map(w.space, range(0x4000, 0x8000), 3, w.backend, NULL, ASPACE_REPLACE));
	assert_int_equal(aspace_count(w.space), 13);
	assert_ok(aspace_find(w.space, at(0x4100), &area));
	assert_int_equal(area.start.value, 0x4000);
	assert_int_equal(area.end.value, 0x8000);
	assert_int_equal(area.flags, 3);
	assert_bytes(&w, 0x4000, 0x8000, 3);

	assert_ok(unmap(&w, 0x4000, 0xc000));
	assert_int_equal(aspace_count(w.space), 8);
	assert_ok(unmap(&w, 0, 2 * END));
	assert_areas(&w, "");
	world_close(&w);
}

static void crate_unmap_splits(void **state)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	unsigned shapes[3] = {0};
	struct world w;

	(void)state;
	open_bytes(&w);
	map_every_other(&w, 0, 1);
	/* Cut at both ends. */
	for (uint64_t start = 0; start < END; start += 0x2000)
		assert_ok(unmap(&w, start + 0xc00, start + 0x2400));
	assert_areas(&w, "0-c00:1 2400-2c00:1 4400-4c00:1 6400-6c00:1 8400-8c00:1 a400-ac00:1 "
			 "c400-cc00:1 e400-ec00:1");
	/* Cut in two. */
	for (uint64_t start = 0; start < END; start += 0x2000)
		assert_ok(unmap(&w, start + 0x800, start + 0x900));
	assert_int_equal(aspace_count(w.space), 16);
	aspace_read_begin(w.space, &view);
	aspace_iter_begin(&view, at(0), &iter);
	while (aspace_iter_next(&iter, &area)) {
		uint64_t offset = area.start.value & 0xfff;
		uint64_t size = area.end.value - area.start.value;

		if (offset == 0)
			assert_int_equal(size, 0x800);
		else if (offset == 0x400)
			assert_int_equal(size, 0x400);
		else
			assert_int_equal(size, 0x300);
		shapes[offset == 0 ? 0 : offset == 0x400 ? 1 : 2]++;
		assert_bytes(&w, area.start.value, area.end.value, 1);
	}
	aspace_read_end(&view);
	assert_int_equal(shapes[0], 1);
	assert_int_equal(shapes[1], 7);
	assert_int_equal(shapes[2], 8);
	assert_ok(unmap(&w, 0, END));
	assert_areas(&w, "");
	world_close(&w);
}

/* Sets the low three bits and keeps the others; nothing to do where they are set. */
static bool set_low_bits(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	uint64_t low = *(const uint64_t *)ctx & 7;

	if ((area->flags & 7) == low)
		return false;
	*flags = (area->flags & ~UINT64_C(7)) | low;
	return true;
}

static void protect_all(struct world *w, uint64_t offset, uint64_t size, uint64_t flags)
{
	for (uint64_t start = 0; start < END; start += 0x2000)
		assert_ok(aspace_protect_with(w->space,
					      range(start + offset, start + offset + size),
					      set_low_bits, &flags, 0));
}

static void crate_protect_keeps_bits_and_skips(void **state)
{
	uint64_t version;
	struct world w;

	(void)state;
	open_bytes(&w);
	map_every_other(&w, 0, 7);
	protect_all(&w, 0xc00, 0x1800, 1);
	assert_int_equal(aspace_count(w.space), 23);
	assert_areas(&w, "0-c00:7 c00-1000:1 2000-2400:1 2400-2c00:7 2c00-3000:1 4000-4400:1 "
			 "4400-4c00:7 4c00-5000:1 6000-6400:1 6400-6c00:7 6c00-7000:1 "
			 "8000-8400:1 8400-8c00:7 8c00-9000:1 a000-a400:1 a400-ac00:7 "
			 "ac00-b000:1 c000-c400:1 c400-cc00:7 cc00-d000:1 e000-e400:1 "
			 "e400-ec00:7 ec00-f000:1");
	protect_all(&w, 0x800, 0x100, 0x13);
	assert_int_equal(aspace_count(w.space), 39);
	assert_bytes(&w, 0x400, 0x800, 7);
	assert_bytes(&w, 0x800, 0x900, 3);
	assert_bytes(&w, 0xe900, 0xec00, 7);
	/* All of it is so already: not even a version. */
	version = stats_of(&w).version;
	protect_all(&w, 0x880, 0x80, 3);
	assert_int_equal(aspace_count(w.space), 39);
	assert_int_equal(stats_of(&w).version, version);
	assert_ok(unmap(&w, 0, END));
	assert_areas(&w, "");

	assert_ok(map(&w, 0, 0x1000, 0xf7, NULL));
	protect_all(&w, 0, 0x800, 1);
	assert_areas(&w, "0-800:f1 800-1000:f7");
	world_close(&w);
}

static enum aspace_status find_free(struct world *w, uint64_t hint, uint64_t size, uint64_t align,
				    uint64_t *start)
{
	struct aspace_gap gap = {
		.size = size, .align = align, .hint = {hint}, .limits = range(0, END)};
	struct aspace_vaddr found = {UINT64_C(0xdead)};
	enum aspace_status status = aspace_find_free(w->space, &gap, &found);

	*start = found.value;
	return status;
}

static void crate_find_free_searches_upward_from_the_hint(void **state)
{
	static const struct {
		uint64_t hint, size, align, want;
	} cases[] = {
		{0, 0x1000, 1, 0x1000},           {0x800, 0x800, 0x800, 0x1000},
		{0x1800, 0x800, 0x800, 0x1800},   {0x1800, 0x1000, 0x1000, 0x3000},
		{0x2000, 0x1000, 0x1000, 0x3000}, {0xf000, 0x1000, 0x1000, 0xf000},
	};
	struct world w;
	uint64_t start;

	(void)state;
	open_bytes(&w);
	map_every_other(&w, 0, 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_ok(find_free(&w, cases[i].hint, cases[i].size, cases[i].align, &start));
		assert_int_equal(start, cases[i].want);
	}
	assert_status(ASPACE_NO_SPACE, find_free(&w, 0xf001, 0x1000, 0x1000, &start));
	assert_int_equal(start, 0xdead);
	world_close(&w);
}

/* ---- Defects: find_free ------------------------------------------------ */

#define TINY 48

/* A search by looking at every address. */
static bool brute_force(const bool *mapped, const struct aspace_gap *gap, uint64_t lo, uint64_t hi,
			uint64_t *start)
{
	bool found = false;

	for (uint64_t s = lo; s + gap->size <= hi; s++) {
		bool fits = !(s & (gap->align - 1));

		for (uint64_t a = s < gap->guard ? 0 : s - gap->guard;
		     fits && a < s + gap->size + gap->guard && a < TINY; a++)
			fits = !mapped[a];
		if (!fits)
			continue;
		*start = s;
		found = true;
		if (!gap->downward)
			return true;
	}
	return found;
}

static bool expect_gap(const bool *mapped, const struct aspace_gap *gap, uint64_t *start)
{
	uint64_t lo = gap->limits.start.value, hi = gap->limits.end.value, hint = gap->hint.value;
	uint64_t from = lo, to = hi;

	if (!lo && !hi)
		hi = to = TINY;
	if (gap->downward && hint && hint < to)
		to = hint;
	if (!gap->downward && hint > from)
		from = hint;
	if (brute_force(mapped, gap, from, to, start))
		return true;
	return gap->wrap && brute_force(mapped, gap, lo, hi, start);
}

static void try_gap(struct world *w, const bool *mapped, const struct aspace_gap *gap)
{
	struct aspace_vaddr found = {0};
	uint64_t want = 0;
	bool any = expect_gap(mapped, gap, &want);
	enum aspace_status status = aspace_find_free(w->space, gap, &found);

	if (status == (any ? ASPACE_OK : ASPACE_NO_SPACE) && found.value == want)
		return;
	fail_msg("size %u align %u hint %u limits %u-%u guard %u %s%s: %s %u, not %u",
		 (unsigned)gap->size, (unsigned)gap->align, (unsigned)gap->hint.value,
		 (unsigned)gap->limits.start.value, (unsigned)gap->limits.end.value,
		 (unsigned)gap->guard, gap->downward ? "down" : "up", gap->wrap ? " wrap" : "",
		 aspace_status_string(status), (unsigned)found.value, (unsigned)want);
}

/* Every limit, hint, size, alignment and guard of a tiny space, against brute force. */
static void find_free_honours_both_limits_and_never_returns_mapped_memory(void **state)
{
	static const uint64_t areas[][2] = {{3, 5},   {6, 7},   {11, 16}, {16, 17},
					    {20, 21}, {22, 23}, {24, 32}, {40, 41}};
	static const uint64_t sizes[] = {1, 2, 4, 7, 16}, guards[] = {0, 1, 3};
	bool mapped[TINY] = {false};
	unsigned long tried = 0;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.space.limits = range(0, TINY)});
	for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
		assert_ok(map(&w, areas[i][0], areas[i][1], i, NULL));
		for (uint64_t a = areas[i][0]; a < areas[i][1]; a++)
			mapped[a] = true;
	}
	for (uint64_t lo = 0; lo < TINY; lo += 2) {
		for (uint64_t hi = lo + 1; hi <= TINY; hi += 3) {
			for (uint64_t hint = 0; hint <= TINY; hint += 5) {
				for (unsigned i = 0; i < 5 * 3 * 4 * 4; i++) {
					struct aspace_gap gap = {
						.size = sizes[i % 5],
						.align = UINT64_C(1) << 2 * (i / 15 % 4),
						.hint = {hint},
						.limits = range(lo, hi),
						.guard = guards[i / 5 % 3],
						.downward = i / 60 & 1,
						.wrap = i / 60 & 2,
					};

					try_gap(&w, mapped, &gap);
					tried++;
				}
			}
		}
	}
	print_message("%lu searches\n", tried);
	world_close(&w);
}

/* In the crate, rounding the end of an area up could step over the beginning of the next. */
static void find_free_does_not_round_up_into_the_next_area(void **state)
{
	struct world w;
	uint64_t start;

	(void)state;
	open_bytes(&w);
	assert_ok(map(&w, 0, 0x1100, 1, NULL));
	assert_ok(map(&w, 0x1800, 0x2100, 1, NULL));
	assert_ok(find_free(&w, 0, 0x400, 0x1000, &start));
	assert_int_equal(start, 0x3000);
	assert_ok(find_free(&w, 0x1100, 0x700, 1, &start));
	assert_int_equal(start, 0x1100);
	world_close(&w);
}

static void find_free_never_wraps_around(void **state)
{
	static const struct aspace_gap cases[] = {
		{.size = 0x2000, .hint = {UINT64_MAX - 0x1000}},
		{.size = UINT64_MAX},
		{.size = UINT64_MAX - 0x2000, .hint = {0x3000}},
		{.size = 0x1000, .align = UINT64_C(1) << 63, .hint = {(UINT64_C(1) << 63) + 1}},
		{.size = 0x1000, .guard = UINT64_MAX},
		{.size = 0x1000, .guard = UINT64_C(1) << 63},
		{.size = 0x1000, .align = 0x1000, .hint = {UINT64_MAX}},
		{.size = 0x1000, .limits = {{UINT64_MAX - 0xfff}, {UINT64_MAX}}},
		{.size = 0x1000, .hint = {1}, .downward = true},
		{.size = UINT64_MAX, .guard = UINT64_MAX, .downward = true, .wrap = true},
	};
	struct aspace_gap gap = {.size = 0xfff, .align = 1, .hint = {UINT64_MAX - 0xfff}};
	struct aspace_vaddr start = {7};
	struct world w;

	(void)state;
	open_bytes(&w);
	assert_ok(map(&w, 0x1000, 0x2000, 1, NULL));
	assert_ok(map(&w, UINT64_MAX - 0x2000, UINT64_MAX - 0x1000, 1, NULL));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned wrap = 0; wrap < 2; wrap++) {
			struct aspace_gap one = cases[i];
			enum aspace_status status;

			one.wrap = wrap && one.size > 0x2000;
			status = aspace_find_free(w.space, &one, &start);
			if (status != ASPACE_NO_SPACE)
				fail_msg("case %u: %s at %#llx", (unsigned)i,
					 aspace_status_string(status),
					 (unsigned long long)start.value);
		}
	}
	assert_int_equal(start.value, 7);
	/* What does fit below the top is found. */
	assert_ok(aspace_find_free(w.space, &gap, &start));
	assert_int_equal(start.value, UINT64_MAX - 0xfff);
	world_close(&w);
}

/* ---- Defects: refusals ------------------------------------------------- */

static void protect_of_size_0_changes_nothing(void **state)
{
	uint64_t version;
	struct world w;

	(void)state;
	open_bytes(&w);
	assert_ok(map(&w, 0x1000, 0x2000, 1, NULL));
	version = stats_of(&w).version;
	for (uint64_t a = 0xfff; a <= 0x2001; a += a == 0x1001 ? 0xffe : 1)
		assert_ok(protect(&w, a, a, 2));
	assert_ok(aspace_protect(w.space, range(0x1800, 0x1800), 2, ASPACE_STRICT));
	assert_areas(&w, "1000-2000:1");
	assert_int_equal(stats_of(&w).version, version);
	assert_int_equal(aspace_mock_calls(w.mock, ASPACE_MOCK_PROTECT), 0);
	world_close(&w);
}

static void a_refusal_of_protect_is_reported_and_the_flags_stay(void **state)
{
	struct world w;

	(void)state;
	open_bytes(&w);
	assert_ok(map(&w, 0, 0x1000, 1, NULL));
	assert_ok(map(&w, 0x1000, 0x2000, 2, NULL));
	assert_ok(map(&w, 0x3000, 0x4000, 3, NULL));
	for (unsigned nth = 1; nth <= 3; nth++) {
		assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_PROTECT, nth, false,
					     ASPACE_ACCESS_DENIED));
		assert_status(ASPACE_ACCESS_DENIED, protect(&w, 0x800, 0x3800, 4));
		assert_areas(&w, "0-1000:1 1000-2000:2 3000-4000:3");
	}
	assert_ok(protect(&w, 0x800, 0x3800, 4));
	assert_areas(&w, "0-800:1 800-2000:4 3000-3800:4 3800-4000:3");
	world_close(&w);
}

static void a_replace_that_fails_leaves_the_old_areas(void **state)
{
	static const struct {
		unsigned mode;
		enum aspace_mock_call call;
		unsigned nth;
	} cases[] = {
		{0, ASPACE_MOCK_REPLACE, 1},
		{0, ASPACE_MOCK_PREPARE, 1},
		{ASPACE_MOCK_NO_REPLACE, ASPACE_MOCK_UNMAP, 1},
		{ASPACE_MOCK_NO_REPLACE, ASPACE_MOCK_PREPARE, 3},
		{ASPACE_MOCK_NO_REPLACE | ASPACE_MOCK_REMAP_RESTORES, ASPACE_MOCK_UNMAP, 2},
		{ASPACE_MOCK_NO_REPLACE | ASPACE_MOCK_REMAP_RESTORES, ASPACE_MOCK_MAP, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world w;

		world_open(&w, &(struct world_options){.mock_mode = cases[i].mode});
		assert_ok(map(&w, 0, 0x1000, 1, NULL));
		assert_ok(map(&w, 0x1000, 0x2000, 2, NULL));
		assert_ok(aspace_mock_inject(w.mock, cases[i].call, cases[i].nth, false,
					     ASPACE_NO_MEMORY));
		assert_status(ASPACE_NO_MEMORY, aspace_map(w.space, range(0x800, 0x1800), 3,
							   w.backend, NULL, ASPACE_REPLACE));
		assert_areas(&w, "0-1000:1 1000-2000:2");
		assert_ok(aspace_map(w.space, range(0x800, 0x1800), 3, w.backend, NULL,
				     ASPACE_REPLACE));
		assert_areas(&w, "0-800:1 800-1800:3 1800-2000:2");
		world_close(&w);
	}
}

static void unmap_forgets_no_area_whose_backend_fails(void **state)
{
	struct world w;

	(void)state;
	open_bytes(&w);
	for (uint64_t start = 0; start < 0x5000; start += 0x1000)
		assert_ok(map(&w, start, start + 0x1000, start >> 12, NULL));

	/* Nothing done yet: nothing changes. */
	assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_UNMAP, 1, false, ASPACE_NO_MEMORY));
	assert_status(ASPACE_NO_MEMORY, unmap(&w, 0, 0x5000));
	assert_areas(&w, "0-1000:0 1000-2000:1 2000-3000:2 3000-4000:3 4000-5000:4");
	/* Half way, and contents are lost: what is still there stays. */
	assert_ok(aspace_mock_inject(w.mock, ASPACE_MOCK_UNMAP, 3, true, ASPACE_NO_MEMORY));
	assert_status(ASPACE_BAD_STATE, unmap(&w, 0x800, 0x5000));
	assert_areas(&w, "0-800:0 2000-3000:2 3000-4000:3 4000-5000:4");
	assert_status(ASPACE_NO_MEMORY, unmap(&w, 0x2000, 0x2800));
	assert_status(ASPACE_NO_MEMORY, aspace_clear(w.space, 0));
	assert_areas(&w, "0-800:0 2000-3000:2 3000-4000:3 4000-5000:4");
	aspace_mock_heal(w.mock);
	assert_ok(unmap(&w, 0, 0x5000));
	assert_areas(&w, "");
	world_close(&w);
}

/* ---- Defects: merging and cost ----------------------------------------- */

static void equal_neighbours_merge_where_the_backend_allows_it(void **state)
{
	struct world w;

	(void)state;
	open_bytes(&w);
	assert_ok(map(&w, 0x1000, 0x2000, 1, NULL));
	assert_ok(map(&w, 0x3000, 0x4000, 1, NULL));
	assert_ok(map(&w, 0x2000, 0x3000, 1, NULL));
	assert_areas(&w, "1000-4000:1");
	assert_ok(protect(&w, 0x2000, 0x3000, 2));
	assert_areas(&w, "1000-2000:1 2000-3000:2 3000-4000:1");
	assert_ok(protect(&w, 0x2000, 0x3000, 1));
	assert_areas(&w, "1000-4000:1");
	assert_ok(aspace_map(w.space, range(0x4000, 0x5000), 1, w.other_backend, NULL, 0));
	assert_areas(&w, "1000-4000:1 4000-5000:1/b");
	world_close(&w);
}

struct count {
	unsigned calls;
};

static bool count_calls(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	struct count *count = ctx;

	(void)flags;
	(void)area;
	count->calls++;
	return false;
}

/* Measured in what the structure does: nodes that an operation retires (a section keeps
 * them from being recycled), calls of backends and callbacks, levels of the tree. */
static void nothing_but_a_full_iteration_depends_on_the_number_of_areas(void **state)
{
	enum { AREAS = 20000 };
	uint64_t middle = UINT64_C(0x2000) * (AREAS / 2), node, calls;
	struct aspace_stats before, after;
	struct count count = {0};
	struct aspace_view view;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.granule = 0x1000});
	for (uint64_t i = 0; i < AREAS; i++)
		assert_ok(map(&w, i * 0x2000, i * 0x2000 + 0x1000, 1, NULL));
	assert_ok(aspace_quiesce(w.space, 0));
	before = stats_of(&w);
	node = before.bytes_live / before.nodes;
	/* 14 areas a leaf and 16 children; at least 5 of each: 5^7 > 20000. */
	assert_in_range(before.height, 4, 7);

	aspace_read_begin(w.space, &view);
	calls = aspace_mock_calls(w.mock, ASPACE_MOCK_ANY);
	assert_ok(map(&w, middle + 0x1000, middle + 0x2000, 2, NULL));
	assert_ok(protect(&w, middle, middle + 0x1000, 3));
	assert_ok(aspace_protect_with(w.space, range(middle, middle + 0x3000), count_calls, &count,
				      0));
	assert_ok(aspace_map(w.space, range(middle, middle + 0x1000), 4, w.backend, NULL,
			     ASPACE_REPLACE));
	assert_ok(unmap(&w, middle, middle + 0x2000));
	after = stats_of(&w);
	/* Four versions, each of one path, its neighbours at most. */
	assert_int_equal(after.version, before.version + 4);
	assert_in_range(after.bytes_retired - before.bytes_retired, 1,
			4 * 3 * before.height * node);
	/* prepare and change: map, protect, replace, and unmap of two. */
	assert_int_equal(aspace_mock_calls(w.mock, ASPACE_MOCK_ANY) - calls, 2 + 2 + 2 + 4);
	assert_int_equal(count.calls, 3);
	aspace_read_end(&view);
	print_message("height %u; four updates retire %u nodes of %u\n", (unsigned)before.height,
		      (unsigned)((after.bytes_retired - before.bytes_retired) / node),
		      (unsigned)before.nodes);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crate_map_and_unmap),
		cmocka_unit_test(crate_unmap_splits),
		cmocka_unit_test(crate_protect_keeps_bits_and_skips),
		cmocka_unit_test(crate_find_free_searches_upward_from_the_hint),
		cmocka_unit_test(find_free_honours_both_limits_and_never_returns_mapped_memory),
		cmocka_unit_test(find_free_does_not_round_up_into_the_next_area),
		cmocka_unit_test(find_free_never_wraps_around),
		cmocka_unit_test(protect_of_size_0_changes_nothing),
		cmocka_unit_test(a_refusal_of_protect_is_reported_and_the_flags_stay),
		cmocka_unit_test(a_replace_that_fails_leaves_the_old_areas),
		cmocka_unit_test(unmap_forgets_no_area_whose_backend_fails),
		cmocka_unit_test(equal_neighbours_merge_where_the_backend_allows_it),
		cmocka_unit_test(nothing_but_a_full_iteration_depends_on_the_number_of_areas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
