/* SPDX-License-Identifier: MIT */
/*
 * What operations may not do, counted: a lookup stores nothing in the space, no operation passes
 * over all snapshots, and a grace period is asked for when a batch is full.
 *
 * Who touches what is told by pages that cannot be written, or not even be read: a handler of
 * SIGSEGV counts, and opens the page.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "space/space.h"

#define PAGE  UINT64_C(0x1000)
#define AREAS 3000u

static char *watched, *watched_end;
static unsigned touched; /* pages, since watch() */

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	char *at = info->si_addr, *page;

	(void)context;
	if (at < watched || at >= watched_end) {
		signal(number, SIG_DFL); /* a fault of somebody else's: it comes again */
		return;
	}
	touched++;
	page = at - (uintptr_t)at % page_size();
	mprotect(page, page_size(), PROT_READ | PROT_WRITE);
}

static void watch(int protection)
{
	touched = 0;
	assert_int_equal(mprotect(watched, (size_t)(watched_end - watched), protection), 0);
}

/* How much was touched; nothing is watched any more. */
static unsigned unwatch(void)
{
	assert_int_equal(mprotect(watched, (size_t)(watched_end - watched), PROT_READ | PROT_WRITE),
			 0);
	return touched;
}

static struct sigaction before;

static void skip_under_valgrind(void)
{
#ifdef ASPACE_VALGRIND
	/* Which has not all registers right when a handler comes back to an instruction. */
	printf("skipped: no pages that cannot be touched under valgrind\n");
	skip();
#endif
}

/* In the test itself: cmocka has a handler of its own around it. */
static void open_region(size_t size)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	watched = memory;
	watched_end = watched + size;
	sigemptyset(&action.sa_mask);
	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
}

static void close_region(void)
{
	assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
	munmap(watched, (size_t)(watched_end - watched));
}

static struct aspace_range area_of(uint64_t i)
{
	return aspace_range_of(2 * i * PAGE, (2 * i + 1) * PAGE);
}

static void map_area(struct aspace *space, uint64_t i)
{
	assert_int_equal(aspace_map(space, area_of(i), 1, aspace_null_backend(), NULL, 0),
			 ASPACE_OK);
}

static void unmap_area(struct aspace *space, uint64_t i)
{
	assert_int_equal(aspace_unmap(space, area_of(i), 0), ASPACE_OK);
}

static bool print_nothing(void *ctx, const char *text, size_t length)
{
	(void)ctx, (void)text, (void)length;
	return true;
}

/* The helper has signals blocked, so it would die of what is watched: it is kept in a callback of
 * another space, and whoever waits for readers does everything himself. */
static sem_t inside, go_on;
static struct aspace *other;

static void stay(struct aspace_backend *backend, void *user)
{
	(void)backend, (void)user;
	sem_post(&inside);
	while (sem_wait(&go_on))
		;
}

static void keep_the_helper(void)
{
	static struct aspace_backend_ops ops;
	static struct aspace_backend backend;
	int user;

	backend = *aspace_null_backend();
	memcpy(&ops, backend.ops,
	       backend.ops->size < sizeof(ops) ? backend.ops->size : sizeof(ops));
	ops.size = sizeof(ops);
	ops.release = stay;
	backend.ops = &ops;
	sem_init(&inside, 0, 0);
	sem_init(&go_on, 0, 0);
	assert_int_equal(aspace_create(NULL, &other), ASPACE_OK);
	assert_int_equal(aspace_map(other, area_of(0), 1, &backend, &user, 0), ASPACE_OK);
	assert_int_equal(aspace_unmap(other, area_of(0), 0), ASPACE_OK);
	while (sem_wait(&inside))
		;
}

static void let_the_helper_go(void)
{
	sem_post(&go_on);
	assert_int_equal(aspace_destroy(other, 0), ASPACE_OK);
}

/* ---- Readers ---------------------------------------------------------------- */

static char *taken; /* of the region, up to here */
/* What alloc has given, and free has not had back yet; what was wrong with a call. */
static struct {
	char *block;
	size_t size;
} blocks[64];
static unsigned odd_sizes, odd_blocks;

static void *take_pages(void *ctx, size_t size)
{
	char *memory = taken;
	unsigned at = 0;

	(void)ctx;
	odd_sizes += size & 0xffff || !size;
	if (size > (size_t)(watched_end - taken))
		return NULL;
	while (at < 64 && blocks[at].block)
		at++;
	if (at == 64)
		return NULL;
	blocks[at].block = memory;
	blocks[at].size = size;
	taken += size;
	return memory;
}

static void leave_pages(void *ctx, void *block, size_t size)
{
	unsigned at = 0;

	(void)ctx;
	while (at < 64 && (blocks[at].block != block || blocks[at].size != size))
		at++;
	if (at == 64)
		odd_blocks++;
	else
		blocks[at].block = NULL;
}

static void read_in_every_way(struct aspace *space)
{
	struct aspace_gap up = {.size = PAGE}, down = {.size = PAGE, .downward = true},
			  hinted = {.size = PAGE, .hint = {AREAS * PAGE}};
	struct aspace_vaddr at[40], start;
	struct aspace_area areas[40];
	struct aspace_view view;
	struct aspace_iter iter;

	for (unsigned i = 0; i < 40; i++) {
		at[i].value = (uint64_t)i * 61 * PAGE;
		for (unsigned again = 0; again < 3; again++) /* the last hit, too */
			aspace_find(space, at[i], &areas[i]);
		aspace_find(space, at[i], NULL);
	}
	assert_int_equal(aspace_find_many(space, at, 40, areas), 20);
	assert_true(aspace_overlaps(space, area_of(5)));
	assert_int_equal(aspace_count(space), AREAS);
	assert_int_equal(aspace_granule(space), PAGE);
	assert_true(aspace_limits(space).end.value > 0);
	assert_int_equal(aspace_find_free(space, &up, &start), ASPACE_OK);
	assert_int_equal(aspace_find_free(space, &down, &start), ASPACE_OK);
	assert_int_equal(aspace_find_free(space, &hinted, &start), ASPACE_OK);
	aspace_read_begin(space, &view);
	assert_int_equal(aspace_view_find(&view, at[0], areas), ASPACE_OK);
	assert_int_equal(aspace_view_find_many(&view, at, 40, areas), 20);
	assert_true(aspace_view_overlaps(&view, area_of(5)));
	assert_int_equal(aspace_view_find_free(&view, &up, &start), ASPACE_OK);
	aspace_iter_begin(&view, at[1], &iter);
	for (unsigned i = 0; i < 40; i++)
		assert_true(aspace_iter_next(&iter, areas));
	assert_true(aspace_iter_prev(&iter, areas));
	aspace_read_end(&view);
	assert_int_equal(aspace_dump(space, ASPACE_DUMP_MAPS, print_nothing, NULL), ASPACE_OK);
}

/* All memory of a space comes from the page operations, the space itself included. */
static void readers_store_nothing_in_the_space(void **state)
{
	struct aspace_page_ops pages = {take_pages, leave_pages};
	struct aspace_options options = {.size = sizeof(options), .granule = PAGE, .pages = &pages};
	struct aspace_stats stats = {.size = sizeof(stats)};
	unsigned stores;
	struct aspace *space;

	(void)state;
	skip_under_valgrind();
	open_region((size_t)64 << 20);
	keep_the_helper();
	taken = watched + (-(uintptr_t)watched & 0xffff);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	for (uint64_t i = 0; i < AREAS; i++)
		map_area(space, i);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	read_in_every_way(space);

	watch(PROT_READ);
	read_in_every_way(space);
	stores = unwatch();
	printf("%u pages stored to\n", stores);
	assert_int_equal(stores, 0);

	/* The control: who takes the writer lock stores. */
	watch(PROT_READ);
	assert_int_equal(aspace_stats(space, &stats, 0), ASPACE_OK);
	assert_true(unwatch() > 0);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);

	/* Whole blocks come back, all of them, each of a size that was promised. */
	for (unsigned i = 0; i < 64; i++)
		assert_null(blocks[i].block);
	assert_int_equal(odd_sizes, 0);
	assert_int_equal(odd_blocks, 0);
	let_the_helper_go();
	close_region();
}

/* ---- Snapshots -------------------------------------------------------------- */

#define SNAPSHOTS 4000u
#define ROUNDS    4u

static struct aspace_snapshot *snapshot_of(unsigned i)
{
	return (struct aspace_snapshot *)(void *)(watched + i * page_size());
}

/* How many snapshots does it look at? */
static unsigned looks(struct aspace *space, unsigned released)
{
	struct aspace_snapshot *extra = snapshot_of(SNAPSHOTS);
	struct aspace_stats stats = {.size = sizeof(stats)};

	watch(PROT_NONE);
	map_area(space, AREAS);
	unmap_area(space, AREAS);
	assert_int_equal(aspace_snapshot_take(space, extra), ASPACE_OK);
	aspace_snapshot_release(extra);
	aspace_snapshot_release(snapshot_of(released));
	/* What was held goes to an older one, or is free. */
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_int_equal(aspace_stats(space, &stats, 0), ASPACE_OK);
	assert_int_equal(aspace_trim(space, 0), ASPACE_OK);
	return unwatch();
}

/* Each snapshot lies in a page of its own, and holds nodes that others do not show. Those that
 * are released lie in the middle, far from the newest and the oldest. */
static void no_operation_passes_over_all_snapshots(void **state)
{
	struct aspace_options options = {.size = sizeof(options), .granule = PAGE};
	struct aspace *space;
	unsigned most = 0;

	(void)state;
	skip_under_valgrind();
	open_region((SNAPSHOTS + 1) * page_size());
	keep_the_helper();
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	for (uint64_t i = 0; i < AREAS; i++)
		map_area(space, i);
	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		assert_int_equal(aspace_snapshot_take(space, snapshot_of(i)), ASPACE_OK);
		unmap_area(space, i % AREAS);
		map_area(space, i % AREAS);
	}
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned count = looks(space, SNAPSHOTS / 2 + 7 * i);

		assert_true(count > 0);
		most = most < count ? count : most;
	}
	printf("%u of %u snapshots looked at, at most\n", most, SNAPSHOTS);
	/* A path of the tree, 2 log n on average, and twice as much with negligible odds, for each
	 * of a few searches. */
	assert_in_range(most, 1, 8 * 48);
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	for (unsigned i = 0; i < SNAPSHOTS; i++)
		aspace_snapshot_release(snapshot_of(i));
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	let_the_helper_go();
	close_region();
}

/* ---- Batches ---------------------------------------------------------------- */

/* While a section is open the first batch stays what it was when it became full. */
static void expect_batch(size_t garbage_max, size_t bytes)
{
	struct aspace_options options = {
		.size = sizeof(options), .granule = PAGE, .garbage_max = garbage_max};
	size_t nodes = bytes / sizeof(struct asp_node);
	struct aspace_view view;
	struct aspace *space;

	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	for (uint64_t i = 0; i < AREAS; i++)
		map_area(space, i);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_null(space->waiting.head);
	aspace_read_begin(space, &view);
	for (uint64_t i = 0; !space->waiting.head; i++) {
		assert_in_range(space->retired.count, 0, nodes + 8);
		unmap_area(space, i % AREAS);
		map_area(space, i % AREAS);
	}
	printf("garbage_max %zu: a batch of %zu nodes, %zu bytes\n", garbage_max,
	       space->waiting.count, space->waiting.count * sizeof(struct asp_node));
	/* One operation goes beyond it, by a path and its neighbours. */
	assert_in_range(space->waiting.count, nodes, nodes + 8);
	aspace_read_end(&view);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
}

static void a_batch_is_two_megabytes_or_a_quarter_of_the_bound(void **state)
{
	(void)state;
	expect_batch(0, (size_t)2 << 20);
	expect_batch((size_t)64 << 20, (size_t)2 << 20);
	expect_batch((size_t)1 << 20, (size_t)256 << 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_store_nothing_in_the_space),
		cmocka_unit_test(no_operation_passes_over_all_snapshots),
		cmocka_unit_test(a_batch_is_two_megabytes_or_a_quarter_of_the_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
