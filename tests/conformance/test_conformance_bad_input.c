/* SPDX-License-Identifier: MIT */
/*
 * W6: bad input gets a status, changes nothing and never aborts.
 */
#include "conformance/support.h"

#include <limits.h>

static struct world w;
static struct aspace_backend_ops no_map, small_table;
static struct aspace_backend without_ops, without_map, small, odd_granule, reserved_flags;

#define GRANULE  UINT64_C(0x1000)
#define LOW      UINT64_C(0x10000)
#define HIGH     UINT64_C(0x100000)
#define FLAGS    UINT64_C(0xff)
#define CONTENTS "20000-30000:1 40000-50000:2"

static bool keep(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	(void)area;
	(void)flags;
	return false;
}

static bool undeclared(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	(void)area;
	*flags = 0x100;
	return true;
}

static bool take_nothing(void *ctx, const char *text, size_t length)
{
	(void)ctx;
	(void)text;
	(void)length;
	fail_msg("nothing was to be written");
	return false;
}

static void *no_pages(void *ctx, size_t size)
{
	(void)ctx;
	(void)size;
	return NULL;
}

static int open_world(void **state)
{
	(void)state;
	world_open(&w, &(struct world_options){.space.granule = GRANULE,
					       .space.limits = range(LOW, HIGH),
					       .granule = GRANULE,
					       .flags_mask = FLAGS});
	assert_ok(map(&w, 0x20000, 0x30000, 1, NULL));
	assert_ok(map(&w, 0x40000, 0x50000, 2, NULL));
	no_map = small_table = *w.backend->ops;
	no_map.map = NULL;
	small_table.size = 8;
	without_ops = without_map = small = odd_granule = reserved_flags = *w.backend;
	without_ops.ops = NULL;
	without_map.ops = &no_map;
	small.ops = &small_table;
	odd_granule.granule = 3;
	reserved_flags.flags_mask = ASPACE_FLAGS_RESERVED;
	return 0;
}

static int close_world(void **state)
{
	(void)state;
	current_case = NULL;
	world_close(&w);
	return 0;
}

/* ---- Ranges ------------------------------------------------------------ */

static const struct {
	const char *what;
	struct aspace_range range;
} bad_ranges[] = {
	{"empty", {{0x20000}, {0x20000}}},
	{"empty at the bottom of all", {{0}, {0}}},
	{"wrapping", {{0x30000}, {0x20000}}},
	{"wrapping around the top", {{UINT64_MAX - 0xfff}, {0x1000}}},
	{"misaligned start", {{0x20001}, {0x30000}}},
	{"misaligned end", {{0x20000}, {0x2ffff}}},
	{"below the limits", {{0xf000}, {0x30000}}},
	{"above the limits", {{0x20000}, {0x101000}}},
	{"far above the limits", {{UINT64_MAX - 0x1fff}, {UINT64_MAX - 0xfff}}},
	{"everything", {{0}, {UINT64_MAX}}},
};

static void a_bad_range_is_refused_by_every_verb(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	for (size_t i = 0; i < sizeof(bad_ranges) / sizeof(bad_ranges[0]); i++) {
		struct aspace_range r = bad_ranges[i].range;
		/* Protect of size 0 is nothing to do. */
		enum aspace_status protect =
			r.start.value == r.end.value ? ASPACE_OK : ASPACE_INVALID_PARAM;

		current_case = bad_ranges[i].what;
		assert_status(ASPACE_INVALID_PARAM, aspace_map(w.space, r, 1, w.backend, NULL, 0));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_map(w.space, r, 1, w.backend, NULL, ASPACE_REPLACE));
		assert_status(ASPACE_INVALID_PARAM, aspace_unmap(w.space, r, 0));
		assert_status(ASPACE_INVALID_PARAM, aspace_unmap(w.space, r, ASPACE_STRICT));
		assert_status(protect, aspace_protect(w.space, r, 2, 0));
		assert_status(protect, aspace_protect_with(w.space, r, keep, NULL, 0));
		assert_status(ASPACE_INVALID_PARAM, aspace_move(w.space, r, at(0x60000), 0));

		assert_ok(aspace_txn_begin(w.space, 0, &txn));
		assert_status(ASPACE_INVALID_PARAM, aspace_txn_map(txn, r, 1, w.backend, NULL, 0));
		assert_status(ASPACE_INVALID_PARAM, aspace_txn_unmap(txn, r, 0));
		assert_status(protect, aspace_txn_protect(txn, r, 2, 0));
		assert_status(protect, aspace_txn_protect_with(txn, r, keep, NULL, 0));
		assert_ok(aspace_txn_commit(txn));
		assert_areas(&w, CONTENTS);
	}
	/* Questions have no status: a range that cannot be meets nothing. */
	assert_false(aspace_overlaps(w.space, range(0x30000, 0x20000)));
	assert_false(aspace_overlaps(w.space, range(0x20000, 0x20000)));
	assert_true(aspace_overlaps(w.space, range(0x20001, 0x20002)));
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(UINT64_MAX), NULL));
	assert_status(ASPACE_NOT_MAPPED, aspace_find(w.space, at(0), NULL));
}

static void bad_destinations_and_sizes_are_refused(void **state)
{
	struct aspace_range from = range(0x20000, 0x30000);
	static const uint64_t destinations[] = {0x20000, 0x2f000, 0x11000,    0x60001,
						0,       0xf8000, UINT64_MAX, UINT64_MAX - 0xfff};
	static const uint64_t sizes[] = {0, 1, 0x10001, 0xf0000, UINT64_MAX, UINT64_MAX - 0x1ffff};

	(void)state;
	for (size_t i = 0; i < sizeof(destinations) / sizeof(destinations[0]); i++)
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_move(w.space, from, at(destinations[i]), 0));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_resize(w.space, at(0x20000), sizes[i], 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_resize(w.space, at(0x20001), 0x1000, 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_resize(w.space, at(0), 0x1000, 0));
	assert_areas(&w, CONTENTS);
}

/* ---- Flags, backends, how ---------------------------------------------- */

static void undeclared_flags_are_refused(void **state)
{
	static const uint64_t bad[] = {0x100, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 62,
				       UINT64_C(1) << 56};
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr start;
	struct aspace_txn *txn;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_status(ASPACE_INVALID_PARAM, map(&w, 0x60000, 0x61000, bad[i], NULL));
		assert_status(ASPACE_INVALID_PARAM, protect(&w, 0x20000, 0x30000, bad[i]));
		assert_status(
			ASPACE_INVALID_PARAM,
			aspace_map_anywhere(w.space, &gap, bad[i], w.backend, NULL, 0, &start));
		assert_ok(aspace_txn_begin(w.space, 0, &txn));
		assert_status(ASPACE_INVALID_PARAM, aspace_txn_map(txn, range(0x60000, 0x61000),
								   bad[i], w.backend, NULL, 0));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_txn_protect(txn, range(0x20000, 0x30000), bad[i], 0));
		aspace_txn_abort(txn);
		assert_areas(&w, CONTENTS);
	}
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_protect_with(w.space, range(0x20000, 0x50000), undeclared, NULL, 0));
	assert_areas(&w, CONTENTS);
}

static void unusable_backends_are_refused(void **state)
{
	struct aspace_backend *bad[] = {NULL,   &without_ops, &without_map,
					&small, &odd_granule, &reserved_flags};
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr start;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_map(w.space, range(0x60000, 0x61000), 0, bad[i], NULL, 0));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_map_anywhere(w.space, &gap, 0, bad[i], NULL, 0, &start));
		assert_areas(&w, CONTENTS);
	}
}

static void unknown_bits_of_how_are_refused(void **state)
{
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr start;
	struct aspace_range r = range(0x20000, 0x30000);
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct aspace_txn *txn;

	(void)state;
	for (unsigned how = 8; how; how <<= 1) {
		assert_status(ASPACE_INVALID_PARAM, aspace_destroy(w.space, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_trim(w.space, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_stats(w.space, &stats, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_validate(w.space, NULL, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_fault(w.space, r.start, 1, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_map(w.space, range(0x60000, 0x61000), 1,
							       w.backend, NULL, how));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_map_anywhere(w.space, &gap, 1, w.backend, NULL, how, &start));
		assert_status(ASPACE_INVALID_PARAM, aspace_unmap(w.space, r, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_protect(w.space, r, 3, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_clear(w.space, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_move(w.space, r, at(0x60000), how));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_resize(w.space, at(0x20000), 0x1000, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_quiesce(w.space, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_txn_begin(w.space, how, &txn));
		assert_ok(aspace_txn_begin(w.space, 0, &txn));
		assert_status(ASPACE_INVALID_PARAM, aspace_txn_map(txn, range(0x60000, 0x61000), 1,
								   w.backend, NULL, how));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_txn_map_anywhere(txn, &gap, 1, w.backend, NULL, how, &start));
		assert_status(ASPACE_INVALID_PARAM, aspace_txn_unmap(txn, r, how));
		assert_status(ASPACE_INVALID_PARAM, aspace_txn_protect(txn, r, 3, how));
		assert_ok(aspace_txn_commit(txn));
		assert_areas(&w, CONTENTS);
	}
}

static void bad_accesses_are_refused(void **state)
{
	const unsigned bad[] = {0, 8, 9, 15, 16, 1u << 31, UINT_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_status(ASPACE_INVALID_PARAM, aspace_fault(w.space, at(0x20000), bad[i], 0));
		/* Before it is asked what is mapped there. */
		assert_status(ASPACE_INVALID_PARAM, aspace_fault(w.space, at(0x60000), bad[i], 0));
	}
	/* All others get as far as that. */
	for (unsigned access = 1; access <= 7; access++) {
		assert_ok(aspace_fault(w.space, at(0x20000), access, 0));
		assert_status(ASPACE_NOT_MAPPED, aspace_fault(w.space, at(0x60000), access, 0));
	}
	assert_areas(&w, CONTENTS);
}

/* ---- Gaps -------------------------------------------------------------- */

static void bad_gaps_are_refused(void **state)
{
	static const struct {
		const char *what;
		enum aspace_status status;
		struct aspace_gap gap;
	} bad[] = {
		{"no size", ASPACE_INVALID_PARAM, {.size = 0}},
		{"size off the granule", ASPACE_INVALID_PARAM, {.size = 0x1001}},
		{"alignment 3", ASPACE_INVALID_PARAM, {.size = 0x1000, .align = 3}},
		{"alignment 0x3000", ASPACE_INVALID_PARAM, {.size = 0x1000, .align = 0x3000}},
		{"alignment of all bits",
		 ASPACE_INVALID_PARAM,
		 {.size = 0x1000, .align = UINT64_MAX}},
		{"limits turned round",
		 ASPACE_INVALID_PARAM,
		 {.size = 0x1000, .limits = {{0x60000}, {0x50000}}}},
		{"empty limits",
		 ASPACE_INVALID_PARAM,
		 {.size = 0x1000, .limits = {{0x60000}, {0x60000}}}},
		{"limits outside the space",
		 ASPACE_NO_SPACE,
		 {.size = 0x1000, .limits = {{0x1000}, {0x8000}}}},
		{"limits above the space",
		 ASPACE_NO_SPACE,
		 {.size = 0x1000, .limits = {{0x200000}, {0x300000}}}},
		{"too large", ASPACE_NO_SPACE, {.size = 0x100000}},
		{"much too large", ASPACE_NO_SPACE, {.size = ~UINT64_C(0xfff)}},
		{"alignment beyond the limits",
		 ASPACE_NO_SPACE,
		 {.size = 0x1000, .align = UINT64_C(1) << 40}},
		{"something in the room to grow",
		 ASPACE_INVALID_PARAM,
		 {.size = 0x1000, .reserved = {0, 1}}},
		{"limits smaller than the size",
		 ASPACE_NO_SPACE,
		 {.size = 0x2000, .limits = {{0x60000}, {0x61000}}}},
	};
	struct aspace_vaddr start = {99};
	struct aspace_view view;
	struct aspace_txn *txn;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (unsigned flip = 0; flip < 4; flip++) {
			struct aspace_gap gap = bad[i].gap;

			gap.downward = flip & 1;
			gap.wrap = flip & 2;
			current_case = bad[i].what;
			assert_status(bad[i].status, aspace_find_free(w.space, &gap, &start));
			assert_status(
				bad[i].status,
				aspace_map_anywhere(w.space, &gap, 1, w.backend, NULL, 0, &start));
			aspace_read_begin(w.space, &view);
			assert_status(bad[i].status, aspace_view_find_free(&view, &gap, &start));
			aspace_read_end(&view);
			assert_ok(aspace_txn_begin(w.space, 0, &txn));
			assert_status(bad[i].status, aspace_txn_find_free(txn, &gap, &start));
			assert_status(
				bad[i].status,
				aspace_txn_map_anywhere(txn, &gap, 1, w.backend, NULL, 0, &start));
			aspace_txn_abort(txn);
		}
	}
	assert_int_equal(start.value, 99);
	assert_areas(&w, CONTENTS);
}

static void missing_arguments_are_refused(void **state)
{
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr start;

	(void)state;
	assert_status(ASPACE_INVALID_PARAM, aspace_find_free(w.space, NULL, &start));
	assert_status(ASPACE_INVALID_PARAM, aspace_find_free(w.space, &gap, NULL));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_map_anywhere(w.space, &gap, 1, w.backend, NULL, 0, NULL));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_map_anywhere(w.space, NULL, 1, w.backend, NULL, 0, &start));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_map_anywhere(w.space, &gap, 1, NULL, NULL, 0, &start));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_protect_with(w.space, range(0x20000, 0x30000), NULL, NULL, 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_stats(w.space, NULL, 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_dump(w.space, ASPACE_DUMP_MAPS, NULL, NULL));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_dump(w.space, (enum aspace_dump_format)99, take_nothing, NULL));
	assert_status(ASPACE_INVALID_PARAM, aspace_create(NULL, NULL));
	assert_status(ASPACE_INVALID_PARAM, aspace_stats(w.space, &stats, 1u << 20));
	stats.size = SIZE_MAX;
	assert_status(ASPACE_INVALID_PARAM, aspace_stats(w.space, &stats, 0));
	assert_areas(&w, CONTENTS);
}

/* ---- Options ----------------------------------------------------------- */

static void bad_options_are_refused(void **state)
{
	static const struct aspace_page_ops nothing = {.alloc = NULL, .free = NULL};
	static const struct aspace_page_ops no_free = {.alloc = no_pages, .free = NULL};
	const size_t size = sizeof(struct aspace_options);
	const struct aspace_options bad[] = {
		{.size = 0},
		{.size = 1},
		{.size = SIZE_MAX},
		{.size = size, .granule = 3},
		{.size = size, .granule = (UINT64_C(1) << 63) + 1},
		{.size = size, .limits = range(10, 10)},
		{.size = size, .limits = range(20, 10)},
		{.size = size, .limits = range(10, 0x10000), .granule = 0x1000},
		{.size = size, .limits = range(0x1000, 0x10001), .granule = 0x1000},
		{.size = size, .mode = 8}, /* reserved */
		{.size = size, .mode = 16},
		{.size = size, .mode = UINT32_MAX},
		{.size = size, .pages = &nothing},
		{.size = size, .pages = &no_free},
	};
	struct aspace_stats stats = {.size = 1};
	struct aspace *space = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_status(ASPACE_INVALID_PARAM, aspace_create(&bad[i], &space));
	assert_null(space);
	assert_status(ASPACE_INVALID_PARAM, aspace_stats(w.space, &stats, 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_dump(w.space, ASPACE_DUMP_MAPS, NULL, NULL));
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_dump(w.space, (enum aspace_dump_format)7, NULL, NULL));
	assert_areas(&w, CONTENTS);
}

/* Structures of an older and of a newer library, for as long as they say what we know. */
static void option_structs_may_be_shorter_or_longer(void **state)
{
	struct {
		struct aspace_options known;
		uint64_t unknown;
	} options = {.known = {.size = sizeof(options), .granule = 16}};
	struct aspace *space = NULL;

	(void)state;
	assert_ok(aspace_create(&options.known, &space));
	assert_int_equal(aspace_granule(space), 16);
	assert_ok(aspace_destroy(space, 0));
	options.unknown = 1;
	assert_status(ASPACE_INVALID_PARAM, aspace_create(&options.known, &space));
	options.known.size = offsetof(struct aspace_options, limits);
	options.known.granule = 3; /* beyond the end */
	assert_ok(aspace_create(&options.known, &space));
	assert_int_equal(aspace_granule(space), 1);
	assert_ok(aspace_destroy(space, 0));
}

/* A transaction belongs to the thread and to the time between begin and commit. */
static void a_transaction_that_is_over_is_refused(void **state)
{
	struct aspace_vaddr start;
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_txn *txn;

	(void)state;
	for (unsigned abort = 0; abort < 2; abort++) {
		assert_ok(aspace_txn_begin(w.space, 0, &txn));
		if (abort)
			aspace_txn_abort(txn);
		else
			assert_ok(aspace_txn_commit(txn));
		assert_status(ASPACE_DEADLOCK,
			      aspace_txn_map(txn, range(0x60000, 0x61000), 1, w.backend, NULL, 0));
		assert_status(ASPACE_DEADLOCK, aspace_txn_unmap(txn, range(0x20000, 0x30000), 0));
		assert_status(ASPACE_DEADLOCK, aspace_txn_find(txn, at(0x20000), NULL));
		assert_status(ASPACE_DEADLOCK, aspace_txn_find_free(txn, &gap, &start));
		assert_status(ASPACE_DEADLOCK, aspace_txn_commit(txn));
		aspace_txn_abort(txn);
		assert_areas(&w, CONTENTS);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_bad_range_is_refused_by_every_verb),
		TEST(bad_destinations_and_sizes_are_refused),
		TEST(undeclared_flags_are_refused),
		TEST(unusable_backends_are_refused),
		TEST(unknown_bits_of_how_are_refused),
		TEST(bad_accesses_are_refused),
		TEST(bad_gaps_are_refused),
		TEST(missing_arguments_are_refused),
		TEST(bad_options_are_refused),
		TEST(option_structs_may_be_shorter_or_longer),
		TEST(a_transaction_that_is_over_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
