/* SPDX-License-Identifier: MIT */
/*
 * The operations that are made to fail: each with what is there before it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fault/world.h"

/* ---- Setups ------------------------------------------------------------ */

static void nothing(struct world *w)
{
	(void)w;
}

static void give_one(struct world *w)
{
	give(w, A);
}

static void two_neighbours(struct world *w)
{
	put(w, A, 0, 4, 1);
	put(w, A, 8, 12, 1);
	give(w, A);
}

static void one_area(struct world *w)
{
	put(w, A, 0, 12, 1);
	give(w, A);
}

/* Both mocks, neighbours and holes. */
static void mixed_areas(struct world *w)
{
	put(w, A, 0, 4, 1);
	put(w, A, 4, 8, 2);
	put(w, B, 8, 10, 1);
	put(w, B, 12, 16, 3);
	put(w, A, 16, 20, 1);
	give(w, A);
}

static void areas_of_one_mock(struct world *w)
{
	put(w, A, 0, 4, 1);
	put(w, A, 4, 8, 2);
	put(w, A, 10, 12, 1);
	give(w, A);
}

static void twelve_areas(struct world *w)
{
	for (unsigned i = 0; i < 12; i++)
		put(w, i % MOCKS, 2 * i, 2 * i + 1, 1 + i % 3);
}

/* More than the slack of a reservation. */
static void hundred_areas(struct world *w)
{
	for (unsigned i = 0; i < 100; i++)
		put(w, A, 2 * i, 2 * i + 1, 1 + i % 2);
}

static void under_a_snapshot(struct world *w)
{
	mixed_areas(w);
	assert_int_equal(aspace_snapshot_take(w->space, &w->snapshot), ASPACE_OK);
	w->has_snapshot = true;
}

/* The open section keeps the deferred part back until run(). */
static void leaving_areas(struct world *w)
{
	mixed_areas(w);
	aspace_read_begin(w->space, &w->view);
	w->in_section = true;
	assert_int_equal(aspace_unmap(w->space, pages_between(2, 14), 0), ASPACE_OK);
}

/* So are protects that take something away. */
static void pending_areas(struct world *w)
{
	mixed_areas(w);
	aspace_read_begin(w->space, &w->view);
	w->in_section = true;
	assert_int_equal(aspace_protect(w->space, pages_between(2, 14), 0, 0), ASPACE_OK);
}

static void lazy_area(struct world *w)
{
	put(w, A, 0, 4, 3);
}

/* ---- Single operations ------------------------------------------------- */

static enum aspace_status map_at(struct world *w, uint64_t from, uint64_t to, uint64_t flags,
				 unsigned how)
{
	enum aspace_status status = aspace_map(w->space, pages_between(from, to), flags,
					       backend_of(w, A), given(w, 0), how);

	if (status == ASPACE_OK)
		w->held[w->given[0]]--;
	return status;
}

static enum aspace_status map_free(struct world *w)
{
	return map_at(w, 4, 8, 2, 0);
}

static enum aspace_status map_between_equals(struct world *w)
{
	return map_at(w, 4, 8, 1, 0);
}

static enum aspace_status replace_middle(struct world *w)
{
	return map_at(w, 4, 8, 2, ASPACE_REPLACE);
}

static enum aspace_status replace_several(struct world *w)
{
	return map_at(w, 2, 18, 5, ASPACE_REPLACE);
}

static enum aspace_status map_anywhere(struct world *w)
{
	struct aspace_gap gap = {.size = 0x2000, .align = 0x2000, .hint = {page(0)}};
	struct aspace_vaddr start;
	enum aspace_status status =
		aspace_map_anywhere(w->space, &gap, 1, backend_of(w, A), given(w, 0), 0, &start);

	if (status == ASPACE_OK)
		w->held[w->given[0]]--;
	return status;
}

static enum aspace_status unmap_one(struct world *w)
{
	return aspace_unmap(w->space, pages_between(0, 12), ASPACE_STRICT);
}

static enum aspace_status unmap_middle(struct world *w)
{
	return aspace_unmap(w->space, pages_between(4, 8), 0);
}

static enum aspace_status unmap_bottom(struct world *w)
{
	return aspace_unmap(w->space, pages_between(0, 4), 0);
}

static enum aspace_status unmap_several(struct world *w)
{
	return aspace_unmap(w->space, pages_between(2, 18), 0);
}

static enum aspace_status unmap_twelve(struct world *w)
{
	return aspace_unmap(w->space, pages_between(0, 24), 0);
}

static enum aspace_status unmap_hundred(struct world *w)
{
	return aspace_unmap(w->space, pages_between(0, 200), 0);
}

static enum aspace_status clear(struct world *w)
{
	return aspace_clear(w->space, 0);
}

static enum aspace_status protect_one(struct world *w)
{
	return aspace_protect(w->space, pages_between(0, 12), 6, ASPACE_STRICT);
}

static enum aspace_status protect_middle(struct world *w)
{
	return aspace_protect(w->space, pages_between(4, 8), 6, 0);
}

static enum aspace_status protect_several(struct world *w)
{
	return aspace_protect(w->space, pages_between(2, 18), 6, 0);
}

static enum aspace_status protect_to_none(struct world *w)
{
	return aspace_protect(w->space, pages_between(2, 18), 0, 0);
}

static enum aspace_status protect_twelve(struct world *w)
{
	return aspace_protect(w->space, pages_between(0, 24), 2, 0);
}

/* Leaves areas with flags 2 as they are, keeps the upper bits of the others. */
static bool decide(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	if (area->flags == 2)
		return false;
	*flags = (area->flags & ~UINT64_C(1)) | 4;
	return true;
}

static enum aspace_status protect_by_callback(struct world *w)
{
	return aspace_protect_with(w->space, pages_between(2, 18), decide, NULL, 0);
}

static enum aspace_status move_one(struct world *w)
{
	return aspace_move(w->space, pages_between(0, 12), (struct aspace_vaddr){page(40)}, 0);
}

static enum aspace_status move_middle(struct world *w)
{
	return aspace_move(w->space, pages_between(4, 8), (struct aspace_vaddr){page(40)}, 0);
}

static enum aspace_status move_bottom(struct world *w)
{
	return aspace_move(w->space, pages_between(0, 4), (struct aspace_vaddr){page(40)}, 0);
}

/* Pages 0 to 10: two areas of A and one of B. */
static enum aspace_status move_several(struct world *w)
{
	return aspace_move(w->space, pages_between(2, 10), (struct aspace_vaddr){page(40)}, 0);
}

static enum aspace_status resize_up(struct world *w)
{
	return aspace_resize(w->space, (struct aspace_vaddr){page(0)}, 0x7000, 0);
}

static enum aspace_status resize_up_to_neighbour(struct world *w)
{
	return aspace_resize(w->space, (struct aspace_vaddr){page(0)}, 0x8000, 0);
}

static enum aspace_status resize_down(struct world *w)
{
	return aspace_resize(w->space, (struct aspace_vaddr){page(0)}, 0x3000, 0);
}

static enum aspace_status populate(struct world *w)
{
	return aspace_fault(w->space, (struct aspace_vaddr){page(1)}, ASPACE_ACCESS_READ, 0);
}

/* Two areas of one backend and two of the other, the outer ones in part. */
static enum aspace_status advise_several(struct world *w)
{
	return aspace_advise(w->space, pages_between(2, 14), ASPACE_ADVICE_POPULATE_READ, 0);
}

static enum aspace_status drop_several(struct world *w)
{
	return aspace_advise(w->space, pages_between(2, 14), ASPACE_ADVICE_DROP, 0);
}

static enum aspace_status unmap_and_let_go(struct world *w)
{
	enum aspace_status status = unmap_several(w);

	if (status == ASPACE_OK && w->has_snapshot) {
		aspace_snapshot_release(&w->snapshot);
		w->has_snapshot = false;
	}
	return status;
}

static enum aspace_status take_and_release_snapshots(struct world *w)
{
	struct aspace_snapshot a, b;
	enum aspace_status status = aspace_snapshot_take(w->space, &a);

	if (status != ASPACE_OK)
		return status;
	assert_int_equal(aspace_snapshot_take(w->space, &b), ASPACE_OK);
	aspace_snapshot_release(&a);
	aspace_snapshot_release(&b);
	return ASPACE_OK;
}

static enum aspace_status run_deferred(struct world *w)
{
	if (w->in_section) {
		aspace_read_end(&w->view);
		w->in_section = false;
	} else {
		/* Again: what was refused has come back. */
		assert_int_equal(aspace_unmap(w->space, pages_between(2, 14), 0), ASPACE_OK);
	}
	return aspace_quiesce(w->space, 0);
}

static enum aspace_status run_pending(struct world *w)
{
	if (w->in_section) {
		aspace_read_end(&w->view);
		w->in_section = false;
	} else {
		/* Again: what was refused has its flags still. */
		assert_int_equal(aspace_protect(w->space, pages_between(2, 14), 0, 0), ASPACE_OK);
	}
	return aspace_quiesce(w->space, 0);
}

/* Waits for what is pending, then takes all of it away. */
static enum aspace_status unmap_pending(struct world *w)
{
	enum aspace_status status;

	if (w->in_section) {
		aspace_read_end(&w->view);
		w->in_section = false;
	}
	status = unmap_several(w);
	return status == ASPACE_OK ? aspace_quiesce(w->space, 0) : status;
}

/* Waits for what is leaving, then maps over it. */
static enum aspace_status map_onto_leaving(struct world *w)
{
	if (w->in_section) {
		aspace_read_end(&w->view);
		w->in_section = false;
	}
	return map_at(w, 2, 14, 5, 0);
}

/* ---- Transactions ------------------------------------------------------ */

/* One operation of a transaction: where it fails, once more if the test says so. */
#define STEP(call)                                                                                 \
	do {                                                                                       \
		enum aspace_status step_ = (call);                                                 \
                                                                                                   \
		if (step_ != ASPACE_OK && w->retry_inside) {                                       \
			w->retried++;                                                              \
			step_ = (call);                                                            \
		}                                                                                  \
		if (step_ != ASPACE_OK) {                                                          \
			aspace_txn_abort(txn);                                                     \
			return step_;                                                              \
		}                                                                                  \
	} while (0)

static enum aspace_status commit(struct world *w, struct aspace_txn *txn, unsigned handed_over)
{
	enum aspace_status status = aspace_txn_commit(txn);

	if (status == ASPACE_OK) {
		for (unsigned i = 0; i < handed_over; i++)
			w->held[w->given[i]]--;
	}
	return status;
}

static struct aspace_txn *begin(struct world *w)
{
	struct aspace_txn *txn;

	assert_int_equal(aspace_txn_begin(w->space, 0, &txn), ASPACE_OK);
	return txn;
}

static enum aspace_status txn_map_and_unmap(struct world *w)
{
	struct aspace_txn *txn = begin(w);

	STEP(aspace_txn_map(txn, pages_between(20, 28), 1, backend_of(w, A), given(w, 0), 0));
	STEP(aspace_txn_unmap(txn, pages_between(20, 28), 0));
	return commit(w, txn, 1);
}

static enum aspace_status txn_unmap_and_map(struct world *w)
{
	struct aspace_txn *txn = begin(w);

	STEP(aspace_txn_unmap(txn, pages_between(0, 12), 0));
	STEP(aspace_txn_map(txn, pages_between(0, 12), 2, backend_of(w, A), given(w, 0), 0));
	return commit(w, txn, 1);
}

static enum aspace_status txn_protect_twice(struct world *w)
{
	struct aspace_txn *txn = begin(w);

	STEP(aspace_txn_protect(txn, pages_between(2, 18), 4, 0));
	STEP(aspace_txn_protect(txn, pages_between(6, 14), 6, 0));
	return commit(w, txn, 0);
}

static void for_everything(struct world *w)
{
	mixed_areas(w);
	give(w, B);
	give(w, A);
	give(w, B);
	give(w, B);
}

/* A bit of everything, over both backends: all phases of a commit. */
static enum aspace_status txn_everything(struct world *w)
{
	struct aspace_gap gap = {.size = 0x3000, .hint = {page(100)}};
	struct aspace_txn *txn = begin(w);
	struct aspace_vaddr start;

	STEP(aspace_txn_map(txn, pages_between(30, 34), 1, backend_of(w, A), given(w, 0), 0));
	STEP(aspace_txn_protect(txn, pages_between(0, 2), 4, 0));
	STEP(aspace_txn_map(txn, pages_between(5, 7), 3, backend_of(w, B), given(w, 1),
			    ASPACE_REPLACE));
	STEP(aspace_txn_map(txn, pages_between(17, 18), 3, backend_of(w, A), given(w, 2),
			    ASPACE_REPLACE));
	STEP(aspace_txn_unmap(txn, pages_between(9, 13), 0));
	STEP(aspace_txn_map(txn, pages_between(14, 15), 1, backend_of(w, B), given(w, 4),
			    ASPACE_REPLACE));
	STEP(aspace_txn_map_anywhere(txn, &gap, 2, backend_of(w, B), given(w, 3), 0, &start));
	STEP(aspace_txn_protect_with(txn, pages_between(0, 40), decide, NULL, 0));
	return commit(w, txn, 5);
}

static enum aspace_status txn_abort(struct world *w)
{
	struct aspace_txn *txn = begin(w);

	STEP(aspace_txn_unmap(txn, pages_between(4, 8), 0));
	STEP(aspace_txn_map(txn, pages_between(4, 6), 2, backend_of(w, A), given(w, 0), 0));
	STEP(aspace_txn_protect(txn, pages_between(0, 12), 6, 0));
	aspace_txn_abort(txn);
	return ASPACE_OK;
}

static enum aspace_status txn_in_grace_space(struct world *w)
{
	struct aspace_txn *txn = begin(w);

	STEP(aspace_txn_map(txn, pages_between(30, 34), 1, backend_of(w, A), given(w, 0), 0));
	STEP(aspace_txn_unmap(txn, pages_between(2, 14), 0));
	STEP(aspace_txn_unmap(txn, pages_between(31, 32), 0));
	STEP(aspace_txn_protect(txn, pages_between(0, 40), 6, 0));
	return commit(w, txn, 1);
}

/* There and back, what is new and what is old in one area, and what then leaves. */
static enum aspace_status txn_of_losses(struct world *w)
{
	struct aspace_txn *txn = begin(w);

	STEP(aspace_txn_map(txn, pages_between(20, 24), 1, backend_of(w, A), given(w, 0), 0));
	STEP(aspace_txn_protect(txn, pages_between(2, 22), 6, 0));
	STEP(aspace_txn_protect(txn, pages_between(5, 6), 0, 0));
	STEP(aspace_txn_unmap(txn, pages_between(13, 14), 0));
	STEP(aspace_txn_protect(txn, pages_between(17, 18), 1, 0));
	return commit(w, txn, 1);
}

/* ---- The list ---------------------------------------------------------- */

#define RESTORES ASPACE_MOCK_REMAP_RESTORES
#define CHECKED  ASPACE_MOCK_CHECK_ORDER
#define PLAIN    (ASPACE_MOCK_NO_PREPARE | ASPACE_MOCK_NO_FLUSH)
#define MERGES   (ASPACE_MOCK_MERGE_ALWAYS | CHECKED)
#define LOSES    (CHECKED | ASPACE_MOCK_LOSES)
#define ALL_LOSE (MERGES | ASPACE_MOCK_LOSES)
#define NO_REPL  (ASPACE_MOCK_NO_REPLACE | CHECKED)
#define GRACE    ASPACE_GRACE_UNMAP

const struct operation operations[] = {
	{"map", 0, 0, {CHECKED, CHECKED}, give_one, map_free},
	{"map, backend without prepare", 0, 0, {PLAIN, PLAIN}, give_one, map_free},
	{"map that merges on both sides",
	 0,
	 0,
	 {MERGES, MERGES},
	 two_neighbours,
	 map_between_equals},
	{"map, replacing the middle of an area",
	 0,
	 0,
	 {CHECKED, CHECKED},
	 one_area,
	 replace_middle},
	{"map, replacing areas of its backend",
	 0,
	 0,
	 {CHECKED, CHECKED},
	 areas_of_one_mock,
	 replace_several},
	{"map, replacing without replace",
	 CAN_STAND | REPEATS,
	 0,
	 {NO_REPL, NO_REPL},
	 areas_of_one_mock,
	 replace_several},
	{"map, replacing without replace, restoring",
	 0,
	 0,
	 {NO_REPL | RESTORES, NO_REPL | RESTORES},
	 areas_of_one_mock,
	 replace_several},
	{"map, replacing areas of two backends",
	 CAN_STAND | REPEATS,
	 0,
	 {CHECKED, CHECKED},
	 mixed_areas,
	 replace_several},
	{"map, replacing, one of two restores",
	 CAN_STAND | REPEATS,
	 0,
	 {CHECKED, CHECKED | RESTORES},
	 mixed_areas,
	 replace_several},
	{"map, replacing, both restore",
	 0,
	 0,
	 {CHECKED | RESTORES, CHECKED | RESTORES},
	 mixed_areas,
	 replace_several},
	{"map anywhere", 0, 0, {CHECKED, CHECKED}, one_area, map_anywhere},
	{"unmap of one area", GIVES_BACK, 0, {CHECKED, CHECKED}, one_area, unmap_one},
	{"unmap of the middle", 0, 0, {CHECKED, CHECKED}, one_area, unmap_middle},
	{"unmap of the bottom", 0, 0, {CHECKED, CHECKED}, one_area, unmap_bottom},
	{"unmap of several",
	 CAN_STAND | REPEATS,
	 0,
	 {CHECKED, CHECKED},
	 mixed_areas,
	 unmap_several},
	{"unmap of several, restoring",
	 0,
	 0,
	 {CHECKED | RESTORES, CHECKED | RESTORES},
	 mixed_areas,
	 unmap_several},
	{"unmap of several, one restores",
	 CAN_STAND | REPEATS,
	 0,
	 {CHECKED | RESTORES, CHECKED},
	 mixed_areas,
	 unmap_several},
	{"unmap of twelve",
	 CAN_STAND | REPEATS | GIVES_BACK,
	 0,
	 {CHECKED, CHECKED},
	 twelve_areas,
	 unmap_twelve},
	{"unmap of a hundred",
	 CAN_STAND | REPEATS | GIVES_BACK,
	 0,
	 {CHECKED, CHECKED},
	 hundred_areas,
	 unmap_hundred},
	{"unmap of several under a snapshot",
	 CAN_STAND | REPEATS,
	 0,
	 {CHECKED, CHECKED},
	 under_a_snapshot,
	 unmap_and_let_go},
	{"clear", CAN_STAND | REPEATS | GIVES_BACK, 0, {CHECKED, CHECKED}, nothing, clear},
	{"protect of one area", 0, 0, {CHECKED, CHECKED}, one_area, protect_one},
	{"protect of the middle", 0, 0, {CHECKED, CHECKED}, one_area, protect_middle},
	{"protect of several", REPEATS, 0, {CHECKED, CHECKED}, mixed_areas, protect_several},
	{"protect of several, merging", REPEATS, 0, {MERGES, MERGES}, mixed_areas, protect_several},
	{"protect of twelve", REPEATS, 0, {CHECKED, CHECKED}, twelve_areas, protect_twelve},
	{"protect by callback", REPEATS, 0, {CHECKED, CHECKED}, mixed_areas, protect_by_callback},
	{"move of one area", 0, 0, {CHECKED, CHECKED}, one_area, move_one},
	{"move of the middle", 0, 0, {CHECKED, CHECKED}, one_area, move_middle},
	{"move of the bottom", 0, 0, {CHECKED, CHECKED}, one_area, move_bottom},
	{"move of several", 0, 0, {CHECKED, CHECKED}, mixed_areas, move_several},
	{"resize up", 0, 0, {CHECKED, CHECKED}, two_neighbours, resize_up},
	{"resize up to an equal neighbour",
	 0,
	 0,
	 {MERGES, MERGES},
	 two_neighbours,
	 resize_up_to_neighbour},
	{"resize down", 0, 0, {CHECKED, CHECKED}, two_neighbours, resize_down},
	{"fault", 0, 0, {ASPACE_MOCK_LAZY, 0}, lazy_area, populate},
	{"advice", 0, 0, {CHECKED | ASPACE_MOCK_LAZY, CHECKED}, mixed_areas, advise_several},
	{"advice: drop", 0, 0, {CHECKED | ASPACE_MOCK_LAZY, CHECKED}, mixed_areas, drop_several},
	{"snapshots", CANNOT_FAIL, 0, {0, 0}, mixed_areas, take_and_release_snapshots},
	{"transaction: map and unmap", IS_TXN, 0, {CHECKED, CHECKED}, one_area, txn_map_and_unmap},
	{"transaction: unmap and map", IS_TXN, 0, {CHECKED, CHECKED}, one_area, txn_unmap_and_map},
	{"transaction: protect twice",
	 IS_TXN | REPEATS,
	 0,
	 {CHECKED, CHECKED},
	 mixed_areas,
	 txn_protect_twice},
	{"transaction: everything",
	 IS_TXN | CAN_STAND,
	 0,
	 {CHECKED, CHECKED},
	 for_everything,
	 txn_everything},
	{"transaction: everything, restoring",
	 IS_TXN | CAN_STAND,
	 0,
	 {CHECKED | RESTORES, CHECKED | RESTORES},
	 for_everything,
	 txn_everything},
	{"transaction: everything, no replace, restoring",
	 IS_TXN,
	 0,
	 {NO_REPL | RESTORES, NO_REPL | RESTORES},
	 for_everything,
	 txn_everything},
	{"transaction: everything, merging",
	 IS_TXN | CAN_STAND,
	 0,
	 {MERGES, MERGES},
	 for_everything,
	 txn_everything},
	{"transaction: abort", IS_TXN, 0, {CHECKED, CHECKED}, one_area, txn_abort},
	{"grace space: unmap of the middle", 0, GRACE, {CHECKED, CHECKED}, one_area, unmap_middle},
	{"grace space: unmap of several", 0, GRACE, {CHECKED, CHECKED}, mixed_areas, unmap_several},
	{"grace space: clear", GIVES_BACK, GRACE, {CHECKED, CHECKED}, nothing, clear},
	{"grace space: transaction",
	 IS_TXN,
	 GRACE,
	 {CHECKED, CHECKED},
	 mixed_areas,
	 txn_in_grace_space},
	{"grace space: protect to none",
	 REPEATS,
	 GRACE,
	 {LOSES, LOSES},
	 mixed_areas,
	 protect_to_none},
	{"grace space: protect, merging",
	 REPEATS,
	 GRACE,
	 {ALL_LOSE, ALL_LOSE},
	 mixed_areas,
	 protect_to_none},
	{"grace space: protect gives and takes",
	 REPEATS,
	 GRACE,
	 {LOSES, LOSES},
	 mixed_areas,
	 protect_several},
	{"grace space: transaction of losses",
	 IS_TXN,
	 GRACE,
	 {LOSES, LOSES},
	 mixed_areas,
	 txn_of_losses},
	{"grace space: transaction of losses, merging",
	 IS_TXN,
	 GRACE,
	 {ALL_LOSE, ALL_LOSE},
	 mixed_areas,
	 txn_of_losses},
	{"grace space: deferred protect",
	 DEFERRED | UNSETTLED | CAN_STAND | REPEATS,
	 GRACE,
	 {LOSES, LOSES},
	 pending_areas,
	 run_pending},
	{"grace space: unmap of what is pending",
	 DEFERRED | UNSETTLED | CAN_STAND,
	 GRACE,
	 {LOSES, LOSES},
	 pending_areas,
	 unmap_pending},
	{"grace space: deferred unmap",
	 DEFERRED | UNSETTLED | CAN_STAND | REPEATS,
	 GRACE,
	 {CHECKED, CHECKED},
	 leaving_areas,
	 run_deferred},
	{"grace space: map onto leaving",
	 DEFERRED | UNSETTLED | CAN_STAND,
	 GRACE,
	 {CHECKED, CHECKED},
	 leaving_areas,
	 map_onto_leaving},
};

const size_t operation_count = sizeof(operations) / sizeof(operations[0]);
