/* SPDX-License-Identifier: MIT */
/*
 * aspace_frozen: a published node cannot be written until it is used again. Every node of a
 * version, of a snapshot and of what waits for readers is written to, and each of these writes
 * must end in SIGSEGV; those to nodes in the making must not.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "space/space.h"

#define AREAS 2000u /* three levels */
#define PAGE  UINT64_C(0x1000)

static struct aspace *space;

/* ---- A write that may fail ------------------------------------------------ */

static sigjmp_buf out;
static volatile uintptr_t fault_at;

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	fault_at = (uintptr_t)info->si_addr;
	siglongjmp(out, 1);
}

/* Writes what is there already. */
static bool can_write(const struct asp_node *node)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
	volatile uint32_t *word = (volatile uint32_t *)(uintptr_t)&node->unused;
	volatile bool written = false;

	sigaction(SIGSEGV, &action, &old);
	if (!sigsetjmp(out, 1)) {
		*word = *word;
		written = true;
	} else {
		assert_int_equal(fault_at, (uintptr_t)word);
	}
	sigaction(SIGSEGV, &old, NULL);
	return written;
}

/* ---- Nodes ---------------------------------------------------------------- */

static const struct asp_node *nodes[4096];
static size_t count;

static void note_nodes(const struct asp_node *node)
{
	assert_in_range(count, 0, sizeof(nodes) / sizeof(nodes[0]) - 1);
	nodes[count++] = node;
	for (unsigned i = 0; node->level && i < node->count; i++)
		note_nodes(node->inner.child[i]);
}

static const struct asp_node *newest(void)
{
	return atomic_load_explicit(&space->root, memory_order_acquire);
}

/* Of the tree: how many nodes are as young as its root, and how many can be written. */
static void look(const struct asp_node *root, size_t *young, size_t *writable)
{
	count = *young = *writable = 0;
	note_nodes(root);
	for (size_t i = 0; i < count; i++) {
		*young += nodes[i]->birth == root->birth;
		*writable += can_write(nodes[i]);
	}
}

static void expect_frozen(const struct asp_node *root)
{
	size_t young, writable;

	look(root, &young, &writable);
	assert_int_equal(writable, 0);
	assert_true(young > 0);
}

static struct aspace_range pages(uint64_t first, uint64_t number)
{
	return aspace_range_of((first + 1) * PAGE, (first + 1 + number) * PAGE);
}

static void map(uint64_t first)
{
	assert_int_equal(aspace_map(space, pages(first, 1), 0, aspace_null_backend(), NULL, 0),
			 ASPACE_OK);
}

static int make(void **state)
{
	struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_NEVER_MERGE};

	(void)state;
	if (aspace_create(&options, &space) != ASPACE_OK)
		return -1;
	for (uint64_t i = 0; i < AREAS; i++)
		map(2 * i);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	return aspace_destroy(space, 0) == ASPACE_OK ? 0 : -1;
}

/* ---- The tests ------------------------------------------------------------ */

static void the_first_version(void **state)
{
	struct aspace *other;

	(void)state;
	assert_int_equal(aspace_create(NULL, &other), ASPACE_OK);
	assert_false(can_write(asp_root(other)));
	assert_int_equal(aspace_destroy(other, 0), ASPACE_OK);
}

static void every_node_of_a_version(void **state)
{
	(void)state;
	assert_true(newest()->level >= 2);
	expect_frozen(newest());
	assert_int_equal(aspace_protect(space, pages(0, 2 * AREAS), 1, 0), ASPACE_OK);
	expect_frozen(newest());
	assert_int_equal(aspace_unmap(space, pages(AREAS, AREAS / 2), 0), ASPACE_OK);
	expect_frozen(newest());
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
}

/* Nodes in the making can be written, and no others; when they are published, none can. */
static void a_transaction(void **state)
{
	struct aspace_txn *txn;
	const struct asp_node *root;
	size_t young, writable;

	(void)state;
	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	for (uint64_t i = 0; i < 100; i++) {
		assert_int_equal(aspace_txn_unmap(txn, pages(38 * i, 1), 0), ASPACE_OK);
		assert_int_equal(aspace_txn_map(txn, pages(38 * i + 1, 1), 0, aspace_null_backend(),
						NULL, 0),
				 ASPACE_OK);
	}
	root = ((struct asp_plan *)(void *)txn)->edit.root;
	look(root, &young, &writable);
	assert_in_range(young, 50, count - 1);
	assert_int_equal(young, writable);
	expect_frozen(newest());
	assert_int_equal(aspace_txn_commit(txn), ASPACE_OK);
	assert_ptr_equal(newest(), root);
	expect_frozen(root);
}

/* What an update has replaced stays frozen while a reader may be there, and on until it is used
 * again. */
static void what_waits_for_readers(void **state)
{
	const struct asp_node *old[64], *root;
	struct aspace_view view;
	size_t kept, reused = 0, young, writable;
	struct aspace_txn *txn;

	(void)state;
	aspace_read_begin(space, &view);
	root = newest();
	for (kept = 0; kept < 32; kept++) {
		old[kept] = newest();
		map(2 * kept + 1);
	}
	expect_frozen(root);
	for (size_t i = 0; i < kept; i++)
		assert_false(can_write(old[i]));
	aspace_read_end(&view);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	for (size_t i = 0; i < kept; i++)
		assert_false(can_write(old[i]));

	/* Now they are used, if not at once: while a reader is there nothing else comes back. And the
	 * transaction has some that can be written. */
	aspace_read_begin(space, &view);
	for (uint64_t round = 1; !reused; round++) {
		assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
		for (uint64_t i = 0; i < AREAS; i++)
			assert_int_equal(aspace_txn_protect(txn, pages(2 * i, 1), round, 0),
					 ASPACE_OK);
		look(((struct asp_plan *)(void *)txn)->edit.root, &young, &writable);
		assert_int_equal(young, writable);
		for (size_t i = 0; i < kept; i++)
			reused += can_write(old[i]);
		if (reused)
			aspace_txn_abort(txn);
		else
			assert_int_equal(aspace_txn_commit(txn), ASPACE_OK);
		expect_frozen(newest());
	}
	assert_in_range(reused, 1, kept);
	aspace_read_end(&view);
}

static void a_snapshot(void **state)
{
	struct aspace_snapshot snapshot;
	const struct asp_node *root;

	(void)state;
	assert_int_equal(aspace_snapshot_take(space, &snapshot), ASPACE_OK);
	root = newest();
	for (uint64_t i = 0; i < AREAS; i += 7)
		assert_int_equal(aspace_unmap(space, pages(2 * i, 1), 0), ASPACE_OK);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	map(0);
	expect_frozen(root);
	expect_frozen(newest());
	aspace_snapshot_release(&snapshot);
	expect_frozen(newest());
}

/* ---- Pages of the program's own ------------------------------------------- */

static void *take_pages(void *ctx, size_t size)
{
	++*(unsigned *)ctx;
	return memset(aligned_alloc(4096, size), 0, size);
}

/* They come back as pages that can be written. */
static void give_pages(void *ctx, void *block, size_t size)
{
	--*(unsigned *)ctx;
	memset(block, 0x55, size);
	__asm__ volatile("" : : "r"(block) : "memory"); /* or it would not be written */
	free(block);
}

static void pages_come_back(void **state)
{
	static const struct aspace_page_ops ops = {take_pages, give_pages};
	unsigned blocks = 0, most;
	struct aspace_options options = {.size = sizeof(options),
					 .pages = &ops,
					 .pages_ctx = &blocks,
					 .mode = ASPACE_NEVER_MERGE};
	struct aspace *before = space;

	(void)state;
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	for (uint64_t i = 0; i < AREAS; i++)
		map(i);
	expect_frozen(newest());
	most = blocks;
	assert_int_equal(aspace_unmap(space, pages(0, AREAS), 0), ASPACE_OK);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_int_equal(aspace_trim(space, 0), ASPACE_OK);
	assert_true(blocks < most);
	expect_frozen(newest());
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	assert_int_equal(blocks, 0);
	space = before;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_version),
		cmocka_unit_test_setup_teardown(every_node_of_a_version, make, unmake),
		cmocka_unit_test_setup_teardown(a_transaction, make, unmake),
		cmocka_unit_test_setup_teardown(what_waits_for_readers, make, unmake),
		cmocka_unit_test_setup_teardown(a_snapshot, make, unmake),
		cmocka_unit_test(pages_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
