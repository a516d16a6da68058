/* SPDX-License-Identifier: MIT */
/*
 * The host backend where the kernel refuses: every mmap, mprotect, mremap and munmap of
 * an operation fails once, then pairs of them do. The linker puts our own in their place.
 *
 * A refused mprotect has changed the first half of its range, as the kernel's does where
 * the range is several mappings. A refused mmap may have unmapped its range, as kernels
 * before 6.12 do. After each run the window is compared page by page, protections from
 * /proc/self/maps and contents from /proc/self/mem, with what it was before (status not
 * ASPACE_OK) or with what it is after an undisturbed run.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <aspace/aspace.h>
#include <aspace/backend/host.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../stress/common/sanitizers.h"
#include "host_maps.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* The sanitizers' run time maps memory of its own at any time: in a hole of ours, say. */
#define HOLES (!SANITIZED)

#define R  ASPACE_HOST_READ
#define W  ASPACE_HOST_WRITE
#define RW (R | W)

/* Of the window. */
#define PAGES 64
/* Of one operation, at most; enough for every mprotect of a whole ballast. */
#define CALLS_MAX 100

static uint64_t page;
static struct aspace_host *host;
static struct aspace *space;
static struct aspace_range window;

/* ---- The kernel, refusing ---------------------------------------------- */

static struct {
	bool counting;
	unsigned calls;
	unsigned first, second; /* from 1; 0: none */
	unsigned refused;
	bool hole; /* a refused mmap leaves one */
	/* What mremap has put outside the window and not yet taken from there. */
	const void *between;
} kernel;

static bool in_window(const void *address)
{
	return (uintptr_t)address >= window.start.value && (uintptr_t)address < window.end.value;
}

static bool refuse(void)
{
	if (!kernel.counting)
		return false;
	kernel.calls++;
	if (kernel.calls != kernel.first && kernel.calls != kernel.second)
		return false;
	kernel.refused++;
	return true;
}

void *__real_mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset);
int __real_mprotect(void *address, size_t size, int prot);
int __wrap_mprotect(void *address, size_t size, int prot);
void *__real_mremap(void *address, size_t size, size_t new_size, int flags, ...);
void *__wrap_mremap(void *address, size_t size, size_t new_size, int flags, ...);
int __real_munmap(void *address, size_t size);
int __wrap_munmap(void *address, size_t size);

void *__wrap_mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset)
{
	if (!refuse())
		return __real_mmap(address, size, prot, flags, fd, offset);
	if (kernel.hole && (flags & MAP_FIXED) && in_window(address))
		__real_munmap(address, size);
	errno = ENOMEM;
	return MAP_FAILED;
}

int __wrap_mprotect(void *address, size_t size, int prot)
{
	if (!refuse())
		return __real_mprotect(address, size, prot);
	/* Only the first: else it might do the very work that it refuses, the undo's. */
	if (size > page && kernel.refused == 1)
		__real_mprotect(address, size / 2 / page * page, prot);
	errno = ENOMEM;
	return -1;
}

void *__wrap_mremap(void *address, size_t size, size_t new_size, int flags, ...)
{
	void *target = NULL, *p;
	va_list args;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(args, flags);
		target = va_arg(args, void *);
		va_end(args);
	}
	if (refuse()) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	p = __real_mremap(address, size, new_size, flags, target);
	if (kernel.counting && p != MAP_FAILED) {
		if (address == kernel.between)
			kernel.between = NULL;
		if (flags & MREMAP_DONTUNMAP) {
			assert_null(kernel.between);
			kernel.between = p;
		}
	}
	return p;
}

int __wrap_munmap(void *address, size_t size)
{
	if (!refuse())
		return __real_munmap(address, size);
	errno = ENOMEM;
	return -1;
}

/* ---- Pictures of the window -------------------------------------------- */

struct picture {
	char what[PAGES][4]; /* "rwx", or "fre" */
	unsigned char byte[PAGES];
	unsigned mappings;
};

static void read_contents(struct picture *picture)
{
	int fd = open("/proc/self/mem", O_RDONLY);

	assert_true(fd >= 0);
	for (uint64_t n = 0; n < PAGES; n++) {
		/* Protections do not count here. Free addresses are empty. */
		assert_int_equal(
			pread(fd, &picture->byte[n], 1, (off_t)(window.start.value + n * page)), 1);
	}
	close(fd);
}

static void take_picture(struct picture *picture)
{
	static char text[8 << 20];
	const char *cursor = text;
	struct host_mapping mapping;
	uint64_t covered = 0;

	assert_true(host_maps_read(HOST_MAPS_OFTEN, text, sizeof(text)));
	memset(picture, 0, sizeof(*picture));
	while (host_maps_next(&cursor, window.start.value, window.end.value, &mapping)) {
		picture->mappings++;
		for (uint64_t at = mapping.start; at < mapping.end; at += page, covered++)
			memcpy(picture->what[(at - window.start.value) / page], mapping.what, 3);
	}
	assert_int_equal(covered, PAGES); /* no hole, ever */
	read_contents(picture);
}

static void expect_same(const struct picture *want, const struct picture *got, const char *name,
			const char *when)
{
	for (unsigned n = 0; n < PAGES; n++) {
		if (strcmp(want->what[n], got->what[n]) || want->byte[n] != got->byte[n])
			fail_msg(
				"%s, calls %u and %u refused%s: page %u is %s with %u, not %s with "
				"%u as %s",
				name, kernel.first, kernel.second,
				kernel.hole ? " with a hole" : "", n, got->what[n], got->byte[n],
				want->what[n], want->byte[n], when);
	}
}

/* ---- A window with something in it ------------------------------------- */

static struct aspace_range pages(uint64_t from, uint64_t to)
{
	return aspace_range_of(window.start.value + from * page, window.start.value + to * page);
}

static enum aspace_status map(uint64_t from, uint64_t to, uint64_t flags, unsigned how)
{
	return aspace_map(space, pages(from, to), flags, aspace_host_backend(host), NULL, how);
}

static enum aspace_status protect(uint64_t from, uint64_t to, uint64_t flags)
{
	return aspace_protect(space, pages(from, to), flags, 0);
}

static void fill(uint64_t from, uint64_t to)
{
	for (uint64_t n = from; n < to; n++)
		*(volatile unsigned char *)(uintptr_t)(window.start.value + n * page) =
			(unsigned char)(100 + n);
}

/* Touched before what is between them is mapped: the kernel keeps them apart. */
static void map_in_parts(uint64_t from, uint64_t to)
{
	uint64_t third = (to - from) / 3;

	for (uint64_t n = from; n < to; n += third) {
		assert_int_equal(map(n, n + third - 2, RW, 0), ASPACE_OK);
		fill(n, n + third - 2);
	}
	for (uint64_t n = from; n < to; n += third)
		assert_int_equal(map(n + third - 2, n + third, RW, 0), ASPACE_OK);
	fill(from, to);
}

static void *pages_alloc(void *ctx, size_t size)
{
	void *block = aligned_alloc(4096, size);

	(void)ctx;
	if (block)
		memset(block, 0, size);
	return block;
}

static void pages_free(void *ctx, void *block, size_t size)
{
	(void)ctx;
	(void)size;
	free(block);
}

/*
 *     8 ....... 23     26 .. 30     32 ...... 36     40 ..... 64
 *     rw, one area,    r--,         decommitted      free
 *     three mappings   filled
 */
static void open_world(void)
{
	static const struct aspace_page_ops page_ops = {pages_alloc, pages_free};
	const struct aspace_host_options o = {.size = sizeof(o), .window = PAGES * page};
	struct aspace_options options = {
		.size = sizeof(options), .granule = page, .pages = &page_ops};
	struct aspace_view view;
	struct aspace_area area;
	struct picture picture;

	memset(&kernel, 0, sizeof(kernel));
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	window = options.limits = aspace_host_window(host);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	map_in_parts(8, 23);
	assert_int_equal(map(26, 30, RW, 0), ASPACE_OK);
	fill(26, 30);
	assert_int_equal(protect(26, 30, R), ASPACE_OK);
	assert_int_equal(map(32, 36, ASPACE_HOST_DECOMMITTED, 0), ASPACE_OK);
	/* The helper thread has begun: its stack and so on will not turn up in a hole. */
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);

	aspace_read_begin(space, &view);
	assert_int_equal(aspace_view_find(&view, pages(8, 9).start, &area), ASPACE_OK);
	aspace_read_end(&view);
	assert_int_equal(area.end.value, pages(8, 23).end.value);
	take_picture(&picture);
	/* Four free ranges, three areas, of which one is three or more mappings. */
	assert_in_range(picture.mappings, 4 + 2 + 3, 64);
}

static void close_world(void)
{
	kernel.counting = false;
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	aspace_host_destroy(host);
}

/* ---- Operations -------------------------------------------------------- */

static enum aspace_status run_map(void)
{
	return map(44, 50, RW, 0);
}

static enum aspace_status run_unmap(void)
{
	return aspace_unmap(space, pages(10, 21), 0);
}

static enum aspace_status run_unmap_several(void)
{
	return aspace_unmap(space, pages(9, 34), 0);
}

static enum aspace_status run_protect(void)
{
	return protect(8, 23, R);
}

static enum aspace_status run_protect_several(void)
{
	return protect(10, 30, 0);
}

static enum aspace_status run_replace(void)
{
	return map(10, 34, R, ASPACE_REPLACE);
}

/* For two of them, the ballast grows beforehand. */
static enum aspace_status run_replace_two(void)
{
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(space, 0, &txn);

	if (status == ASPACE_OK)
		status = aspace_txn_map(txn, pages(10, 12), R, aspace_host_backend(host), NULL,
					ASPACE_REPLACE);
	if (status == ASPACE_OK)
		status = aspace_txn_map(txn, pages(27, 29), RW, aspace_host_backend(host), NULL,
					ASPACE_REPLACE);
	return aspace_txn_commit(txn);
}

static enum aspace_status run_move(void)
{
	return aspace_move(space, pages(8, 23), pages(44, 45).start, 0);
}

static enum aspace_status run_move_part(void)
{
	return aspace_move(space, pages(10, 22), pages(48, 49).start, 0);
}

static enum aspace_status run_commit(void)
{
	return protect(32, 36, RW);
}

static enum aspace_status run_decommit(void)
{
	return protect(8, 23, ASPACE_HOST_DECOMMITTED);
}

static enum aspace_status run_txn(void)
{
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(space, 0, &txn);

	if (status == ASPACE_OK)
		status = aspace_txn_map(txn, pages(50, 52), RW, aspace_host_backend(host), NULL, 0);
	if (status == ASPACE_OK)
		status = aspace_txn_protect(txn, pages(26, 36), ASPACE_HOST_DECOMMITTED, 0);
	if (status == ASPACE_OK)
		status = aspace_txn_protect(txn, pages(9, 20), R, 0);
	if (status == ASPACE_OK)
		status = aspace_txn_unmap(txn, pages(12, 15), 0);
	return aspace_txn_commit(txn);
}

static const struct operation {
	const char *name;
	enum aspace_status (*run)(void);
	/* On the ballast, or in place: no two refusals end it. */
	bool persistent;
	/* What is refused half way goes back, on the ballast if that is refused too. */
	bool goes_back;
} operations[] = {
	{.name = "map", .run = run_map},
	{.name = "unmap", .run = run_unmap, .persistent = true},
	{.name = "unmap of several areas", .run = run_unmap_several, .persistent = true},
	{.name = "protect", .run = run_protect, .goes_back = true},
	{.name = "protect of several areas", .run = run_protect_several, .goes_back = true},
	{.name = "replace", .run = run_replace},
	{.name = "replace of two areas", .run = run_replace_two},
	{.name = "move", .run = run_move},
	{.name = "move of a part", .run = run_move_part},
	{.name = "commit", .run = run_commit, .goes_back = true},
	{.name = "decommit", .run = run_decommit, .goes_back = true},
	{.name = "transaction", .run = run_txn},
};

/* ---- Runs -------------------------------------------------------------- */

struct tally {
	unsigned points, refused, pairs, bad[2]; /* without and with a hole */
};

static enum aspace_status run_with(const struct operation *operation, unsigned first,
				   unsigned second, bool hole)
{
	enum aspace_status status;

	kernel.calls = kernel.refused = 0;
	kernel.between = NULL;
	kernel.first = first;
	kernel.second = second;
	kernel.hole = hole;
	kernel.counting = true;
	errno = 4711;
	status = operation->run();
	assert_int_equal(errno, 4711);
	kernel.counting = false;
	return status;
}

/* One world, in which calls are refused. False: there were none such. */
static bool try_one(const struct operation *operation, const struct picture *after, unsigned first,
		    unsigned second, bool hole, struct tally *tally)
{
	struct aspace_violation violation;
	struct picture before, now;
	enum aspace_status status;
	const void *between;
	unsigned refused;

	open_world();
	take_picture(&before);
	status = run_with(operation, first, second, hole);
	refused = kernel.refused;
	between = kernel.between;
	take_picture(&now);
	if (aspace_validate(space, &violation, 0) != ASPACE_OK)
		fail_msg("%s: %s", operation->name, violation.what);
	if (status == ASPACE_BAD_STATE) {
		/* It takes two, with nothing between them but the end of the ballast. The
		 * window is whole, and can be cleared. */
		if (refused < 2 || second > first + 2)
			fail_msg("%s, calls %u and %u refused%s: ASPACE_BAD_STATE", operation->name,
				 first, second, hole ? " with a hole" : "");
		tally->bad[hole]++;
	} else {
		expect_same(status == ASPACE_OK ? after : &before, &now, operation->name,
			    status == ASPACE_OK ? "after it" : "before");
		if (between)
			fail_msg("%s, calls %u and %u refused: something is left behind",
				 operation->name, first, second);
		if (status != ASPACE_OK) {
			assert_int_equal(status, ASPACE_NO_MEMORY);
			tally->refused++;
			assert_int_equal(run_with(operation, 0, 0, false), ASPACE_OK);
			take_picture(&now);
			expect_same(after, &now, operation->name, "after it, the second time");
		}
	}
	close_world();
	return second ? refused == 2 : refused == 1;
}

static void refuse_everything(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		const struct operation *operation = &operations[i];
		struct tally tally = {0};
		struct picture after;
		unsigned calls;

		open_world();
		assert_int_equal(run_with(operation, 0, 0, false), ASPACE_OK);
		calls = kernel.calls;
		take_picture(&after);
		close_world();
		for (unsigned hole = 0; hole <= HOLES; hole++) {
			unsigned k = 1;

			while (try_one(operation, &after, k, 0, hole, &tally))
				k++;
			/* All those of an undisturbed run, at least. */
			assert_in_range(k - 1, calls, CALLS_MAX);
			tally.points += k - 1;
			for (unsigned first = 1; first < k; first++) {
				unsigned second = first + 1;

				while (try_one(operation, &after, first, second, hole, &tally))
					second++;
				tally.pairs += second - first - 1;
			}
		}
		print_message(
			"%-26s %2u calls; %3u points, %3u pairs; %3u refused, %u and %u bad\n",
			operation->name, calls, tally.points, tally.pairs, tally.refused,
			tally.bad[0], tally.bad[1]);
		if (operation->goes_back)
			assert_int_equal(tally.bad[0] + tally.bad[1], 0);
		assert_in_range(tally.points, 1, 10000);
		assert_in_range(tally.pairs, HOLES, 10000); /* one call alone makes no pair */
		assert_in_range(tally.refused, !operation->persistent,
				operation->persistent ? 0 : 10000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuse_everything),
	};

	if (getenv("ASPACE_EMULATED")) {
		puts("skipped: the emulator is a kernel of its own kind");
		return 77;
	}
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
