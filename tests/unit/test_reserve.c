/* SPDX-License-Identifier: MIT */
/*
 * What operations on many areas obtain from the page operations: at most what the tree before
 * has, twice what the result has, and a constant; where an operation is many changes, a note
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

#include "space.h"

#define AREAS 100000u
/* Each of three pools grows by blocks of 4 MiB at most, where less would do. */
#define CONSTANT ((size_t)12 << 20)

static size_t got, peak;

static void *pages_alloc(void *ctx, size_t size)
{
	void *block = aligned_alloc(4096, size);

	(void)ctx;
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
	return aspace_range_of(start_of(0), start_of(AREAS));
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
	for (uint64_t i = 0; i < AREAS; i++) {
		uint64_t at = start_of(i * stride % AREAS);

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
	return aspace_unmap(space, aspace_range_of(start_of(1), start_of(AREAS - 1)), 0);
}

static enum aspace_status do_clear(void)
{
	return aspace_clear(space, 0);
}

static enum aspace_status do_replace(void)
{
	return aspace_map(space, aspace_range_of(start_of(3) + 0x800, start_of(AREAS - 3) + 0x800),
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
	size_t bound = before + 2 * live() + CONSTANT;

	if (notes)
		bound += AREAS * sizeof(struct asp_action);
	/* A record for each reference, and for each area that may leave; what is held back stays
	 * so until the operation has made it needless. And what becomes of references, which is
	 * noted until the commit. */
	if (objects || mode)
		bound += 2 * AREAS * sizeof(struct aspace_record);
	if (objects)
		bound += (mode ? 2 : 1) * AREAS * sizeof(struct aspace_record);
	if (mode) /* a copy of the tree is held back */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_areas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
