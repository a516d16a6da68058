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

/* At how many ends there will be an area, by the start of what is unmapped. */
static unsigned borders[41];

static enum aspace_status note_borders(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	(void)backend;
	if (change->kind == ASPACE_CHANGE_UNMAP)
		borders[change->range.start.value / 10] = change->borders;
	return ASPACE_OK;
}

/* Wherever in a leaf, or in two, they lie. */
static void an_unmap_of_several_areas_counts_borders(void **state)
{
	struct aspace_backend_ops ops = *aspace_null_backend()->ops;
	struct aspace_backend backend = *aspace_null_backend();
	const unsigned n = 40;
	struct world w;

	(void)state;
	world_open(&w, &(struct world_options){.granule = 1});
	ops.prepare = note_borders;
	backend.ops = &ops;
	for (uint64_t i = 0; i < n; i++)
		assert_ok(
			aspace_map(w.space, range(10 * i, 10 * i + 10), i & 1, &backend, NULL, 0));
	for (uint64_t i = 0; i + 1 < n; i++) {
		assert_ok(aspace_unmap(w.space, range(10 * i, 10 * i + 20), 0));
		assert_int_equal(borders[i], i > 0);
		assert_int_equal(borders[i + 1], i + 2 < n);
		for (uint64_t j = i; j < i + 2; j++)
			assert_ok(aspace_map(w.space, range(10 * j, 10 * j + 10), j & 1, &backend,
					     NULL, 0));
	}
	assert_ok(aspace_clear(w.space, 0));
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
		cmocka_unit_test(a_coarse_backend_decides_the_granule),
		cmocka_unit_test(every_backend_is_flushed),
		cmocka_unit_test(an_unmap_of_several_areas_counts_borders),
		cmocka_unit_test(incomplete_backends),
		cmocka_unit_test(nothing_to_put_the_answer_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
