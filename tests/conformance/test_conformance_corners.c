/* SPDX-License-Identifier: MIT */
/*
 * Corners of the contract that no other test asked about, as the coverage of branches
 * showed: arguments that are refused for the second of two reasons, and a writer that gives up
 * at each of its calls.
 */
#include "support.h"

#include <aspace/backend/null.h>

/* ---- aspace_dump, stopped --------------------------------------------------------- */

struct reluctant {
	size_t allowed, calls;
};

static bool write_some(void *ctx, const char *text, size_t length)
{
	struct reluctant *reluctant = ctx;

	(void)text;
	(void)length;
	return reluctant->calls++ < reluctant->allowed;
}

static void a_dump_stops_at_any_call(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.granule = 1});
	for (uint64_t i = 0; i < 60; i++) /* more than one level */
		assert_ok(map(&w, i * 4, i * 4 + 2, 0, NULL));
	for (int format = ASPACE_DUMP_MAPS; format <= ASPACE_DUMP_DOT; format++) {
		struct reluctant all = {.allowed = SIZE_MAX};

		assert_ok(aspace_dump(w.space, (enum aspace_dump_format)format, write_some, &all));
		assert_true(all.calls > 1);
		for (size_t k = 0; k < all.calls; k++) {
			struct reluctant some = {.allowed = k};

			assert_status(ASPACE_BAD_STATE,
				      aspace_dump(w.space, (enum aspace_dump_format)format,
						  write_some, &some));
			assert_int_equal(some.calls, k + 1); /* not asked again */
		}
	}
	world_close(&w);
}

/* ---- Gaps ------------------------------------------------------------------------- */

static void odd_gaps(void **state)
{
	struct world_options pages = {.space = {.granule = 16}, .granule = 16};
	struct aspace_gap gap = {.size = 16, .reserved = {0, 1}};
	struct aspace_vaddr start;
	struct world w;

	(void)state;
	world_open(&w, &pages);
	assert_ok(map(&w, 0, 16, 0, NULL));
	assert_ok(map(&w, 64, 80, 0, NULL));
	assert_status(ASPACE_INVALID_PARAM, aspace_find_free(w.space, &gap, &start));
	gap.reserved[0] = 1;
	gap.reserved[1] = 0;
	assert_status(ASPACE_INVALID_PARAM, aspace_find_free(w.space, &gap, &start));
	gap.reserved[0] = 0;
	/* An alignment below the granule is the granule's. */
	gap.align = 4;
	assert_ok(aspace_find_free(w.space, &gap, &start));
	assert_int_equal(start.value, 16);
	gap.align = 0;
	assert_status(
		ASPACE_INVALID_PARAM,
		aspace_find_free(w.space, &(struct aspace_gap){.size = 16, .align = 48}, &start));
	/* Twice the guard, and twice the guard with the size, do not fit into 64 bits: no gap
	 * between two areas can do, but the open end above can. */
	gap.guard = UINT64_C(1) << 63;
	assert_ok(aspace_find_free(w.space, &gap, &start));
	assert_int_equal(start.value, 80 + gap.guard);
	gap.guard = (UINT64_C(1) << 63) - 16;
	gap.size = 64;
	assert_ok(aspace_find_free(w.space, &gap, &start));
	assert_int_equal(start.value, 80 + gap.guard);
	gap.downward = true;
	assert_ok(aspace_find_free(w.space, &gap, &start));
	assert_int_equal(start.value, UINT64_MAX - 15 - gap.size);
	/* The only aligned start lies below the range, or the search is too short for one. */
	gap = (struct aspace_gap){
		.size = 16,
		.align = 64,
		.limits = range(16, 48),
		.downward = true,
	};
	assert_status(ASPACE_NO_SPACE, aspace_find_free(w.space, &gap, &start));
	world_close(&w);
}

/* Up to half of the address space; what cannot be there wraps around nowhere. */
static void the_greatest_granules(void **state)
{
	(void)state;
	for (unsigned bits = 59; bits < 64; bits++) {
		const uint64_t g = UINT64_C(1) << bits, top = UINT64_MAX & ~(g - 1);
		struct aspace_options o = {.size = sizeof(o), .granule = g};
		struct aspace_backend *backend = aspace_null_backend();
		struct aspace_gap gap = {.size = g}, twice = {.size = g, .align = g, .guard = g};
		struct aspace_violation violation;
		struct aspace_vaddr start;
		struct aspace *space;
		uint64_t count = 0;

		assert_ok(aspace_create(&o, &space));
		assert_true(aspace_limits(space).end.value == top);
		assert_true(aspace_granule(space) == g);
		/* Never a start that a whole area does not fit behind. */
		while (aspace_map_anywhere(space, &gap, count, backend, NULL, 0, &start) ==
		       ASPACE_OK) {
			assert_true(start.value == count * g);
			assert_int_equal(aspace_validate(space, &violation, 0), ASPACE_OK);
			count++;
		}
		assert_true(count == top / g);
		assert_status(ASPACE_NO_SPACE, aspace_find_free(space, &gap, &start));
		gap.downward = twice.downward = true;
		assert_status(ASPACE_NO_SPACE, aspace_find_free(space, &gap, &start));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_map(space, range(top, UINT64_MAX), 0, backend, NULL, 0));
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_map(space, range(g / 2, g), 0, backend, NULL, 0));
		assert_ok(aspace_unmap(space, range(top - g, top), 0));
		assert_status(count > 1 ? ASPACE_NO_SPACE : ASPACE_OK,
			      aspace_find_free(space, &twice, &start));
		assert_ok(aspace_find_free(space, &gap, &start));
		assert_true(start.value == top - g);
		if (count > 1) {
			assert_ok(aspace_move(space, range(0, g), at(top - g), 0));
			assert_ok(aspace_find_free(space, &gap, &start));
			assert_true(start.value == 0);
			assert_ok(aspace_protect(space, range(top - g, top), 3, 0));
		}
		assert_int_equal(aspace_validate(space, &violation, 0), ASPACE_OK);
		assert_ok(aspace_clear(space, 0));
		assert_ok(aspace_destroy(space, 0));
	}
}

static void a_coarse_backend_decides_the_granule(void **state)
{
	struct world_options options = {.granule = 16};
	struct aspace_gap gap = {.size = 32, .hint = at(3)};
	struct aspace_vaddr start;
	struct world w;

	(void)state;
	/* The space has bytes, the backend has sixteens. */
	options.space.granule = 1;
	world_open(&w, &options);
	assert_ok(aspace_map_anywhere(w.space, &gap, 0, w.backend, NULL, 0, &start));
	assert_int_equal(start.value, 16);
	assert_areas(&w, "10-30:0");
	gap.size = 8;
	assert_status(ASPACE_INVALID_PARAM,
		      aspace_map_anywhere(w.space, &gap, 0, w.backend, NULL, 0, &start));
	/* Half a sixteen cannot be moved, nor anything by half of one. */
	assert_status(ASPACE_INVALID_PARAM, aspace_move(w.space, range(16, 40), at(160), 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_move(w.space, range(24, 48), at(160), 0));
	assert_status(ASPACE_INVALID_PARAM, aspace_move(w.space, range(16, 32), at(168), 0));
	assert_areas(&w, "10-30:0");
	assert_ok(aspace_move(w.space, range(16, 32), at(160), 0));
	assert_areas(&w, "20-30:0 a0-b0:0");
	world_close(&w);
}

/* ---- Many backends in one operation ------------------------------------------------ */

enum {
	BACKENDS = 20,
};

static unsigned flushes[BACKENDS];
static struct aspace_backend many[BACKENDS];

static void count_flush(struct aspace_backend *backend)
{
	flushes[backend - many]++;
}

/* Each is told at least once that the batch has ended, however many there are. */
static void every_backend_is_flushed(void **state)
{
	struct aspace_backend_ops ops = *aspace_null_backend()->ops;
	struct aspace_txn *txn;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.granule = 1});
	ops.flush = count_flush;
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	for (unsigned i = 0; i < 2 * BACKENDS; i++) {
		many[i / 2] = *aspace_null_backend();
		many[i / 2].ops = &ops;
		assert_ok(aspace_txn_map(txn, range(UINT64_C(10) * i, UINT64_C(10) * i + 1), 0,
					 &many[i / 2], NULL, 0));
	}
	assert_ok(aspace_txn_commit(txn));
	for (unsigned i = 0; i < BACKENDS; i++)
		assert_true(flushes[i] >= 1);
	/* As long as they can all be remembered, just once. */
	assert_int_equal(flushes[0], 1);
	assert_ok(aspace_clear(w.space, 0));
	world_close(&w);
}

/* What the unmaps said last, by the tens of their start: at how many ends there will be an area,
 * and at how many the area goes on. */
static struct {
	unsigned borders, cuts;
} told[41];

static enum aspace_status note_ends(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	(void)backend;
	if (change->kind == ASPACE_CHANGE_UNMAP) {
		told[change->range.start.value / 10].borders = change->borders;
		told[change->range.start.value / 10].cuts = change->cuts;
	}
	return ASPACE_OK;
}

#define expect_told(ten, wanted_borders, wanted_cuts)                                              \
	do {                                                                                       \
		assert_int_equal(told[ten].borders, wanted_borders);                               \
		assert_int_equal(told[ten].cuts, wanted_cuts);                                     \
	} while (0)

static void open_noting(struct world *w, struct aspace_backend_ops *ops,
			struct aspace_backend *backend, unsigned mode)
{
	*ops = *aspace_null_backend()->ops;
	*backend = *aspace_null_backend();
	world_open(w, &(struct world_options){.granule = 1, .space = {.mode = mode}});
	ops->prepare = note_ends;
	backend->ops = ops;
	for (uint64_t i = 0; i < 40; i++)
		assert_ok(
			aspace_map(w->space, range(10 * i, 10 * i + 10), i & 1, backend, NULL, 0));
}

/* Wherever in a leaf, or in two, they lie. */
static void an_unmap_counts_borders_and_cuts(void **state)
{
	struct aspace_backend_ops ops;
	struct aspace_backend backend;
	const unsigned n = 40;
	struct aspace_txn *txn;
	struct world w;

	(void)state;
	open_noting(&w, &ops, &backend, 0);
	for (uint64_t i = 0; i + 1 < n; i++) {
		assert_ok(aspace_unmap(w.space, range(10 * i, 10 * i + 20), 0));
		expect_told(i, i > 0, 0);
		expect_told(i + 1, i + 2 < n, 0);
		for (uint64_t j = i; j < i + 2; j++)
			assert_ok(aspace_map(w.space, range(10 * j, 10 * j + 10), j & 1, &backend,
					     NULL, 0));
	}
	/* One alone: all of an area, its start, its end, its midst. */
	assert_ok(aspace_unmap(w.space, range(50, 60), 0));
	expect_told(5, 2, 0);
	assert_ok(aspace_unmap(w.space, range(60, 63), 0));
	expect_told(6, 1, 1);
	assert_ok(aspace_unmap(w.space, range(107, 110), 0));
	expect_told(10, 2, 1);
	assert_ok(aspace_unmap(w.space, range(153, 156), 0));
	expect_told(15, 2, 2);
	/* Of several, in a transaction, where one area is unmapped by two operations. */
	assert_ok(aspace_unmap(w.space, range(205, 228), 0));
	expect_told(20, 1, 1);
	expect_told(21, 0, 0);
	expect_told(22, 1, 1);
	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	assert_ok(aspace_txn_unmap(txn, range(300, 304), 0));
	assert_ok(aspace_txn_unmap(txn, range(304, 310), 0));
	assert_ok(aspace_txn_unmap(txn, range(330, 340), 0));
	assert_ok(aspace_txn_unmap(txn, range(362, 368), 0));
	assert_ok(aspace_txn_commit(txn));
	expect_told(30, 2, 0);
	expect_told(33, 2, 0);
	expect_told(36, 2, 2);
	assert_ok(aspace_clear(w.space, 0));
	expect_told(1, 0, 0);
	world_close(&w);
}

/* After a grace period, what is left is not what was there when the call came. */
static void a_deferred_unmap_counts_borders_and_cuts(void **state)
{
	struct aspace_backend_ops ops;
	struct aspace_backend backend;
	struct world w;

	(void)state;
	open_noting(&w, &ops, &backend, ASPACE_GRACE_UNMAP);
	assert_ok(aspace_unmap(w.space, range(0, 10), 0));
	assert_ok(aspace_unmap(w.space, range(50, 60), 0));
	assert_ok(aspace_unmap(w.space, range(103, 106), 0));
	assert_ok(aspace_quiesce(w.space, 0));
	expect_told(0, 1, 0);
	expect_told(5, 2, 0);
	expect_told(10, 2, 0); /* by now an area of its own */
	world_close(&w);
}

/* ---- Arguments -------------------------------------------------------------------- */

static void incomplete_backends(void **state)
{
	const struct aspace_backend_ops *whole = aspace_null_backend()->ops;
	struct aspace_backend_ops ops[4] = {*whole, *whole, *whole, *whole};
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.granule = 1});
	ops[0].size--;
	ops[1].map = NULL;
	ops[2].unmap = NULL;
	ops[3].protect = NULL;
	for (int i = 0; i < 4; i++) {
		struct aspace_backend backend = {.ops = &ops[i]};

		assert_status(ASPACE_INVALID_PARAM,
			      aspace_map(w.space, range(0, 1), 0, &backend, NULL, 0));
	}
	world_close(&w);
}

static void nothing_to_put_the_answer_in(void **state)
{
	struct aspace_txn *txn;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.granule = 1});
	assert_status(ASPACE_INVALID_PARAM, aspace_snapshot_take(w.space, NULL));
	assert_status(ASPACE_INVALID_PARAM, aspace_txn_begin(w.space, 0, NULL));
	assert_status(ASPACE_INVALID_PARAM, aspace_txn_begin(w.space, 1u << 20, &txn));
	/* Neither holds the lock now. */
	assert_ok(map(&w, 0, 1, 0, NULL));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dump_stops_at_any_call),
		cmocka_unit_test(odd_gaps),
		cmocka_unit_test(the_greatest_granules),
		cmocka_unit_test(a_coarse_backend_decides_the_granule),
		cmocka_unit_test(every_backend_is_flushed),
		cmocka_unit_test(an_unmap_counts_borders_and_cuts),
		cmocka_unit_test(a_deferred_unmap_counts_borders_and_cuts),
		cmocka_unit_test(incomplete_backends),
		cmocka_unit_test(nothing_to_put_the_answer_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
