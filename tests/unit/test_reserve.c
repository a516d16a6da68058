/* SPDX-License-Identifier: MIT */
/*
 * What operations on many areas obtain from the page operations: at most twice what the tree before
 * and the result have, and a constant; where an operation is many changes, a note
 * for each. And what trimming keeps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "space/space.h"
#include "update/reserve.h"

/* Each of three pools grows by blocks of 4 MiB at most, where less would do. */
#define CONSTANT ((size_t)12 << 20)
/* Fewer where each of them takes long. */
static unsigned areas = 100000;

static size_t got, peak;
static _Atomic bool refuse_pages; /* the helper may ask, too */

static void *pages_alloc(void *ctx, size_t size)
{
	void *block;

	(void)ctx;
	if (refuse_pages)
		return NULL;
	block = aligned_alloc(4096, size);
	assert_non_null(block);
	got += size;
	if (peak < got)
		peak = got;
	return block;
}

static void pages_free(void *ctx, void *block, size_t size)
{
	(void)ctx;
	got -= size;
	free(block);
}

static const struct aspace_page_ops page_ops = {pages_alloc, pages_free};

static struct aspace *space;
static unsigned clones;

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static enum aspace_status clone_it(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	clones++;
	*copy = user;
	return ASPACE_OK;
}

static void release_it(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
}

static const struct aspace_backend_ops plain_ops = {
	.size = sizeof(plain_ops),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.move = accept,
};
static const struct aspace_backend_ops object_ops = {
	.size = sizeof(object_ops),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.move = accept,
	.clone = clone_it,
	.release = release_it,
};
static struct aspace_backend backends[] = {
	{.ops = &plain_ops, .flags_mask = 7},
	{.ops = &object_ops, .flags_mask = 7},
};

static uint64_t start_of(uint64_t i)
{
	return 0x1000 + i * 0x2000;
}

static struct aspace_range all(void)
{
	return aspace_range_of(start_of(0), start_of(areas));
}

static uint64_t live(void)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	assert_int_equal(aspace_stats(space, &stats, 0), ASPACE_OK);
	return stats.bytes_live;
}

static void fill(struct aspace_backend *backend, unsigned stride)
{
	static int object;
	struct aspace_txn *txn;

	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	for (uint64_t i = 0; i < areas; i++) {
		uint64_t at = start_of(i * stride % areas);

		assert_int_equal(aspace_txn_map(txn, aspace_range_of(at, at + 0x1000), 1, backend,
						&object, 0),
				 ASPACE_OK);
	}
	assert_int_equal(aspace_txn_commit(txn), ASPACE_OK);
}

static enum aspace_status do_protect(void)
{
	return aspace_protect(space, all(), 2, 0);
}

static enum aspace_status do_unmap(void)
{
	return aspace_unmap(space, aspace_range_of(start_of(1), start_of(areas - 1)), 0);
}

static enum aspace_status do_clear(void)
{
	return aspace_clear(space, 0);
}

static enum aspace_status do_replace(void)
{
	return aspace_map(space, aspace_range_of(start_of(3) + 0x800, start_of(areas - 3) + 0x800),
			  1, aspace_null_backend(), NULL, ASPACE_REPLACE);
}

static enum aspace_status do_protect_in_txn(void)
{
	struct aspace_txn *txn;

	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	assert_int_equal(aspace_txn_protect(txn, all(), 2, 0), ASPACE_OK);
	return aspace_txn_commit(txn);
}

static enum aspace_status do_unmap_in_txn(void)
{
	struct aspace_txn *txn;

	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	assert_int_equal(aspace_txn_unmap(txn, all(), 0), ASPACE_OK);
	return aspace_txn_commit(txn);
}

static const struct {
	const char *name;
	enum aspace_status (*run)(void);
	bool notes; /* one for each area */
	bool in_grace_space;
} operations[] = {
	{"protect", do_protect, true, true},
	{"unmap", do_unmap, false, true},
	{"clear", do_clear, false, true},
	{"replace", do_replace, false, false},
	{"protect in a transaction", do_protect_in_txn, true, true},
	{"unmap in a transaction", do_unmap_in_txn, true, true},
};

static void expect_fit(const char *name, unsigned mode, uint64_t before, bool notes, bool objects)
{
	/* A copy of the tree is held back, before and after. */
	size_t bound = 2 * (before + live()) + CONSTANT;

	if (notes)
		bound += areas * sizeof(struct asp_action);
	/* A record for each reference, and for each area that may leave; what is held back stays
	 * so until the operation has made it needless. And what becomes of references, which is
	 * noted until the commit. */
	if (objects || mode)
		bound += 2 * areas * sizeof(struct aspace_record);
	if (objects)
		bound += (mode ? 2 : 1) * areas * sizeof(struct aspace_record);
	if (mode) /* another one */
		bound += before + live();
	printf("%s, mode %u%s: %zu KiB of at most %zu\n", name, mode,
	       objects ? ", with objects" : "", peak >> 10, bound >> 10);
	assert_in_range(peak, 0, bound);
}

static void many_areas(void **state)
{
	static const unsigned modes[] = {0, ASPACE_GRACE_UNMAP};
	static const unsigned strides[] = {1, 7919};

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		unsigned mode = modes[i & 1], objects = i >> 1 & 1, stride = strides[i >> 2];
		struct aspace_options options = {
			.size = sizeof(options),
			.mode = mode,
			.pages = &page_ops,
			.garbage_max = (size_t)1 << 32,
		};

		for (unsigned n = 0; n < sizeof(operations) / sizeof(operations[0]); n++) {
			uint64_t before;

			if (mode && !operations[n].in_grace_space)
				continue;
			peak = 0;
			assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
			fill(&backends[objects], stride);
			if (!n)
				expect_fit("maps in a transaction", mode, 0, true, objects);
			assert_int_equal(aspace_trim(space, 0), ASPACE_OK);
			peak = got;
			before = live();
			assert_int_equal(operations[n].run(), ASPACE_OK);
			expect_fit(operations[n].name, mode, before, operations[n].notes, objects);
			assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
			assert_int_equal(got, 0);
		}
	}
}

/* ---- Beside what is there already -------------------------------------------- */

/* In the builds for tests the pools trap where more is taken than was reserved. */

enum { LEAVES = 200 };

#define MUCH ((size_t)1 << 32) /* garbage */

static struct aspace_range nth(uint64_t i)
{
	return aspace_range_of(start_of(i), start_of(i) + 0x1000);
}

static void open_space(unsigned mode, size_t garbage_max)
{
	struct aspace_options options = {
		.size = sizeof(options),
		.mode = mode,
		.pages = &page_ops,
		.garbage_max = garbage_max,
	};

	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
}

static void map_one(uint64_t i, uint64_t flags)
{
	assert_int_equal(aspace_map(space, nth(i), flags, &backends[0], NULL, 0), ASPACE_OK);
}

static void close_space(void)
{
	refuse_pages = false;
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	assert_int_equal(got, 0);
}

/* Of each leaf all areas but one are leaving: a copy of the leaf for one area. */
static void one_among_leaving(void **state)
{
	const struct aspace_range range = {nth(0).start, nth((uint64_t)LEAVES * ASP_LEAF_MAX).end};
	struct aspace_view view;
	struct aspace_txn *txn;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		open_space(ASPACE_GRACE_UNMAP, MUCH);
		for (unsigned n = 0; n < LEAVES * ASP_LEAF_MAX; n++)
			map_one(n, 1);
		aspace_read_begin(space, &view); /* nothing leaves while this lasts */
		for (unsigned n = 0; n < LEAVES * ASP_LEAF_MAX; n++) {
			if (n % ASP_LEAF_MAX)
				assert_int_equal(aspace_unmap(space, nth(n), 0), ASPACE_OK);
		}
		assert_int_equal(aspace_count(space), LEAVES);
		if (i == 0) {
			refuse_pages = true;
			assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
		} else if (i == 1) {
			assert_int_equal(aspace_unmap(space, range, 0), ASPACE_OK);
		} else {
			assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
			assert_int_equal(aspace_txn_unmap(txn, range, 0), ASPACE_OK);
			assert_int_equal(aspace_txn_commit(txn), ASPACE_OK);
		}
		assert_int_equal(aspace_count(space), 0);
		aspace_read_end(&view);
		close_space();
	}
}

/* A transaction owns all leaves, and has filled them; what leaves is then cut as the base has it, which
 * splits every one of them. */
static void full_private_leaves(void **state)
{
	enum { APART = 2 * ASP_LEAF_MAX, MERGED = 3 };
	struct aspace_range range = {nth(0).start, nth((uint64_t)LEAVES * APART).end};
	struct aspace_txn *txn;
	uint64_t at;

	(void)state;
	open_space(ASPACE_GRACE_UNMAP, MUCH);
	for (unsigned i = 0; i < LEAVES; i++) {
		for (unsigned n = 0; n < ASP_LEAF_MAX; n++) {
			at = n < MERGED ? start_of(i * APART) + n * 0x800 : start_of(i * APART + n);
			assert_int_equal(aspace_map(space, aspace_range_of(at, at + 0x800),
						    n < MERGED ? n + 1 : 1, &backends[0], NULL, 0),
					 ASPACE_OK);
		}
	}
	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	for (unsigned i = 0; i < LEAVES; i++) {
		at = start_of(i * APART);
		assert_int_equal(
			aspace_txn_protect(txn, aspace_range_of(at, at + MERGED * 0x800), 1, 0),
			ASPACE_OK);
		for (unsigned n = 1; n < MERGED; n++) {
			at = start_of(i * APART + MERGED + n) + 0x1000;
			assert_int_equal(aspace_txn_map(txn, aspace_range_of(at, at + 0x800), 1,
							&backends[0], NULL, 0),
					 ASPACE_OK);
		}
	}
	assert_int_equal(aspace_txn_unmap(txn, range, 0), ASPACE_OK);
	assert_int_equal(aspace_txn_commit(txn), ASPACE_OK);
	close_space();
}

/* A transaction reckons with several operations at once; snapshots may come in between. */
static void snapshot_within_a_transaction(void **state)
{
	struct aspace_snapshot snapshot;
	struct aspace_txn *txn;

	(void)state;
	open_space(0, MUCH);
	for (unsigned n = 0; n < LEAVES * ASP_LEAF_MAX; n++)
		map_one(n, 1);
	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	for (unsigned n = 0; n < 3; n++) {
		if (n == 1)
			assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_OK);
		assert_int_equal(aspace_txn_map(txn, nth(LEAVES * ASP_LEAF_MAX + n), 1,
						&backends[0], NULL, 0),
				 ASPACE_OK);
	}
	assert_int_equal(aspace_txn_commit(txn), ASPACE_OK);
	assert_in_range(space->nodes.held, space->node_count, SIZE_MAX);
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	aspace_snapshot_release(&snapshot);
	close_space();
}

/* A space with many areas, and no more memory but what is held back: `beside` snapshots, or not. */
static void open_tight(unsigned mode, bool beside)
{
	open_space(mode, MUCH);
	for (unsigned i = 0; i < LEAVES * ASP_LEAF_MAX; i++)
		map_one(i, 1);
	assert_int_equal(aspace_trim(space, 0), ASPACE_OK);
	refuse_pages = true;
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	asp_hold_back(space, asp_tree_height(asp_root(space)), space->node_count,
		      aspace_count(space));
	if (!beside)
		assert_true(asp_uncover(space));
	space->nodes.hidden = space->nodes.available - space->nodes.held;
}

/* An area of each leaf goes, and each leaf is copied for it. */
static void unmap_in_each_leaf(void)
{
	for (unsigned n = 0; n < LEAVES; n++)
		assert_int_equal(aspace_unmap(space, nth((uint64_t)n * ASP_LEAF_MAX), 0),
				 ASPACE_OK);
}

static void expect_not_held_back(void)
{
	struct aspace_violation violation;

	assert_int_equal(aspace_validate(space, &violation, 0), ASPACE_BAD_STATE);
	assert_int_equal(violation.invariant, 309);
}

/* Where what giving back takes beside it is not held back, there is no snapshot. */
static void late_snapshot(void **state)
{
	static const unsigned modes[] = {0, ASPACE_GRACE_UNMAP};
	struct aspace_snapshot snapshot, later;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		open_tight(modes[i / 2], i % 2);
		if (i % 2) {
			/* A second one needs what the first keeps once more. */
			assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_OK);
			unmap_in_each_leaf();
			/* The helper, too, says what is covered. */
			assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
			assert_int_equal(aspace_snapshot_take(space, &later), ASPACE_NO_MEMORY);
			space->covered = true; /* H2 */
			expect_not_held_back();
			space->covered = false;
		} else {
			space->covered = true; /* H1 */
			assert_int_equal(aspace_snapshot_take(space, &later), ASPACE_OK);
			space->covered = false;
			expect_not_held_back();
			aspace_snapshot_release(&later);
			assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_NO_MEMORY);
			assert_int_equal(aspace_map(space, nth(LEAVES * ASP_LEAF_MAX), 1,
						    &backends[0], NULL, 0),
					 ASPACE_NO_MEMORY);
			unmap_in_each_leaf();
		}
		assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
		assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
		assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
		aspace_snapshot_release(&snapshot);
		space->nodes.hidden = 0;
		close_space();
	}
}

/* When there is memory again, so are snapshots, whether somebody writes meanwhile or not. */
static void snapshots_come_back(void **state)
{
	struct aspace_snapshot snapshot;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		open_tight(0, false);
		assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_NO_MEMORY);
		refuse_pages = false;
		if (i)
			map_one(LEAVES * ASP_LEAF_MAX, 1);
		assert_int_equal(space->covered, i);
		assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_OK);
		aspace_snapshot_release(&snapshot);
		space->nodes.hidden = 0;
		close_space();
	}
}

/* A writer is at work, so that a snapshot cannot see to it itself. */
static void no_snapshot_under_the_lock(void **state)
{
	struct aspace_snapshot snapshot;
	struct aspace_txn *txn;

	(void)state;
	open_tight(0, false);
	refuse_pages = false;
	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_NO_MEMORY);
	aspace_txn_abort(txn);
	assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_OK);
	aspace_snapshot_release(&snapshot);
	space->nodes.hidden = 0;
	close_space();
}

/* The first user object that the space would have counted is refused for want of memory: what was
 * held back before did not reckon with references, and need not. */
static void first_object_is_refused(void **state)
{
	unsigned refusals = 0;
	int object;

	(void)state;
	/* A block has room for about 1,000 records, and little garbage needs no second one. */
	for (unsigned count = 950; count < 1050; count++) {
		open_space(0, 1 << 16);
		for (unsigned n = 0; n < count; n++)
			assert_int_equal(aspace_map(space, nth(n), 1, &backends[1], NULL, 0),
					 ASPACE_OK);
		assert_int_equal(aspace_trim(space, 0), ASPACE_OK);
		refuse_pages = true;
		if (aspace_map(space, nth(count), 1, &backends[1], &object, 0) != ASPACE_OK) {
			refusals++;
			assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
		}
		close_space();
	}
	assert_in_range(refusals, 1, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_among_leaving),
		cmocka_unit_test(full_private_leaves),
		cmocka_unit_test(snapshot_within_a_transaction),
		cmocka_unit_test(late_snapshot),
		cmocka_unit_test(snapshots_come_back),
		cmocka_unit_test(no_snapshot_under_the_lock),
		cmocka_unit_test(first_object_is_refused),
		cmocka_unit_test(many_areas),
	};

	if (getenv("ASPACE_EMULATED"))
		areas = 20000;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
