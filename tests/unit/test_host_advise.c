/* SPDX-License-Identifier: MIT */
/*
 * The host's advice: what reaches the kernel, in which ranges, what it does there, and what its
 * refusals become. madvise() is replaced by the linker: the calls are noted and passed on, unless a test
 * has them refused.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <aspace/aspace.h>
#include <aspace/backend/host.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define R      ASPACE_HOST_READ
#define W      ASPACE_HOST_WRITE
#define RW     (R | W)
#define WINDOW (UINT64_C(256) << 20)
#define CHUNK  (UINT64_C(16) << 20)

/* As Linux has them; <sys/mman.h> may be older. */
enum {
	COLD = 20,
	PAGEOUT = 21,
	POPULATE_READ = 22,
	POPULATE_WRITE = 23,
	DONTNEED_LOCKED = 24,
	COLLAPSE = 25,
};

static uint64_t page;
static struct aspace_host *host;
static struct aspace *space;
static struct aspace_backend *backend;
static uint64_t base;
static bool emulated;

/* ---- madvise() -------------------------------------------------------------- */

static struct {
	struct {
		uint64_t start, size;
		int advice;
	} calls[64];
	unsigned count;
	int error;      /* refuse with this, */
	unsigned after; /* after so many calls */
	bool no_effect; /* do not ask the kernel */
} kernel;

/* NOLINTNEXTLINE(bugprone-reserved-identifier): the linker's name */
int __real_madvise(void *start, size_t size, int advice);
/* NOLINTNEXTLINE(bugprone-reserved-identifier) */
int __wrap_madvise(void *start, size_t size, int advice);

/* NOLINTNEXTLINE(bugprone-reserved-identifier) */
int __wrap_madvise(void *start, size_t size, int advice)
{
	if (kernel.count < 64) {
		kernel.calls[kernel.count].start = (uint64_t)(uintptr_t)start;
		kernel.calls[kernel.count].size = size;
		kernel.calls[kernel.count].advice = advice;
	}
	kernel.count++;
	if (kernel.error && kernel.count > kernel.after) {
		errno = kernel.error;
		return -1;
	}
	return kernel.no_effect ? 0 : __real_madvise(start, size, advice);
}

/* ---- A space ------------------------------------------------------------------ */

static int open_host(void **state)
{
	const struct aspace_host_options options = {.size = sizeof(options), .window = WINDOW};
	struct aspace_options space_options = {.size = sizeof(space_options)};

	(void)state;
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	emulated = getenv("ASPACE_EMULATED");
	assert_int_equal(aspace_host_create(&options, &host), ASPACE_OK);
	space_options.limits = aspace_host_window(host);
	space_options.granule = page;
	assert_int_equal(aspace_create(&space_options, &space), ASPACE_OK);
	backend = aspace_host_backend(host);
	/* On a chunk, so that what chunks are is plain. */
	base = (space_options.limits.start.value + CHUNK - 1) & ~(CHUNK - 1);
	memset(&kernel, 0, sizeof(kernel));
	return 0;
}

static int close_host(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	aspace_host_destroy(host);
	return 0;
}

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(base + first * page, base + end * page);
}

static void map(uint64_t first, uint64_t end, uint64_t flags)
{
	assert_int_equal(aspace_map(space, pages(first, end), flags, backend, NULL, 0), ASPACE_OK);
	memset(&kernel, 0, sizeof(kernel));
}

static enum aspace_status advise(uint64_t first, uint64_t end, enum aspace_advice advice)
{
	errno = EXDEV;
	enum aspace_status status = aspace_advise(space, pages(first, end), advice, 0);

	assert_int_equal(errno, EXDEV);
	return status;
}

static unsigned char *byte(uint64_t number)
{
	return (unsigned char *)(uintptr_t)(base + number * page);
}

static void fill(uint64_t first, uint64_t end, unsigned char value)
{
	for (uint64_t i = first; i < end; i++)
		memset(byte(i), value, page);
}

static bool is_resident(uint64_t number)
{
	unsigned char here = 0;

	assert_int_equal(mincore(byte(number), page, &here), 0);
	return here & 1;
}

static void assert_call(unsigned which, uint64_t first, uint64_t end, int advice)
{
	assert_true(which < kernel.count);
	assert_int_equal(kernel.calls[which].start, base + first * page);
	assert_int_equal(kernel.calls[which].size, (end - first) * page);
	assert_int_equal(kernel.calls[which].advice, advice);
}

/* Is this one of the VmFlags of the mapping that the page is in? */
static bool has_flag(uint64_t number, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long long lo, hi;
	bool inside = false, has = false;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx-%llx ", &lo, &hi) == 2)
			inside = lo <= base + number * page && base + number * page < hi;
		if (inside && !strncmp(line, "VmFlags:", 8))
			has = strstr(line, flag);
	}
	fclose(file);
	return has;
}

/* ---- Tests --------------------------------------------------------------------- */

static const struct {
	enum aspace_advice advice;
	int asked;
	const char *flag; /* of the mapping, afterwards */
	bool clears;      /* not there, afterwards */
	bool by_page;
} all[] = {
	{ASPACE_ADVICE_POPULATE_READ, POPULATE_READ, NULL, false, true},
	{ASPACE_ADVICE_POPULATE_WRITE, POPULATE_WRITE, NULL, false, true},
	{ASPACE_ADVICE_WILL_NEED, MADV_WILLNEED, NULL, false, true},
	{ASPACE_ADVICE_COLD, COLD, NULL, false, true},
	{ASPACE_ADVICE_PAGE_OUT, PAGEOUT, NULL, false, true},
	{ASPACE_ADVICE_FREE, MADV_FREE, NULL, false, true},
	{ASPACE_ADVICE_DROP, MADV_DONTNEED, NULL, false, true},
	{ASPACE_ADVICE_HUGE, MADV_HUGEPAGE, " hg", false, false},
	{ASPACE_ADVICE_NO_HUGE, MADV_NOHUGEPAGE, " nh", false, false},
	{ASPACE_ADVICE_COLLAPSE, COLLAPSE, NULL, false, true},
	{ASPACE_ADVICE_NO_DUMP, MADV_DONTDUMP, " dd", false, false},
	{ASPACE_ADVICE_DUMP, MADV_DODUMP, " dd", true, false},
	{ASPACE_ADVICE_MERGE, MADV_MERGEABLE, " mg", false, false},
	{ASPACE_ADVICE_NO_MERGE, MADV_UNMERGEABLE, " mg", true, false},
	{ASPACE_ADVICE_WIPE_ON_FORK, MADV_WIPEONFORK, " wf", false, false},
	{ASPACE_ADVICE_KEEP_ON_FORK, MADV_KEEPONFORK, " wf", true, false},
	{ASPACE_ADVICE_RANDOM, MADV_RANDOM, " rr", false, false},
	{ASPACE_ADVICE_SEQUENTIAL, MADV_SEQUENTIAL, " sr", false, false},
	{ASPACE_ADVICE_NORMAL, MADV_NORMAL, " sr", true, false},
};
#define ALL (sizeof(all) / sizeof(all[0]))

static void each_is_what_linux_calls_it(void **state)
{
	(void)state;
	assert_int_equal(ALL, ASPACE_ADVICE_NORMAL);
	map(0, 8, RW);
	kernel.no_effect = true;
	for (unsigned i = 0; i < ALL; i++) {
		kernel.count = 0;
		assert_int_equal(advise(2, 5, all[i].advice), ASPACE_OK);
		assert_int_equal(kernel.count, 1);
		assert_call(0, 2, 5, all[i].asked);
	}
}

/* Through the kernel: its mapping says it, and neighbours do not. Whatever a kernel lacks is
 * "not supported". */
static void the_kernel_does_it_in_the_range_alone(void **state)
{
	unsigned seen = 0;

	(void)state;
	map(0, 4, RW);
	map(4, 8, R);
	map(8, 12, RW);
	fill(0, 4, 1);
	fill(8, 12, 2);
	for (unsigned i = 0; i < ALL; i++) {
		enum aspace_status status = advise(9, 11, all[i].advice);

		if (all[i].advice == ASPACE_ADVICE_COLLAPSE)
			continue; /* two pages are no huge one */
		if (status != ASPACE_OK) {
			assert_int_equal(status, ASPACE_NOT_SUPPORTED);
			print_message("this kernel cannot do advice %d\n", all[i].advice);
		} else if (all[i].flag && !emulated) {
			assert_int_equal(has_flag(9, all[i].flag), !all[i].clears);
			assert_int_equal(has_flag(10, all[i].flag), !all[i].clears);
			assert_false(has_flag(8, all[i].flag));
			assert_false(has_flag(11, all[i].flag));
			seen++;
		}
	}
	for (uint64_t i = 0; i < 12; i++)
		assert_int_equal(*byte(i), i < 4 ? 1 : i == 8 || i == 11 ? 2 : 0);
	if (emulated)
		print_message("skipped: what the kernel has noted: the emulator hides it\n");
	else
		assert_true(seen >= 8);
	/* It goes with the area. */
	assert_int_equal(advise(9, 11, ASPACE_ADVICE_NO_DUMP), ASPACE_OK);
	assert_int_equal(aspace_unmap(space, pages(8, 12), 0), ASPACE_OK);
	map(8, 12, RW);
	assert_false(has_flag(9, " dd"));
}

static void dropped_contents_are_gone_and_the_others_stay(void **state)
{
	(void)state;
	map(0, 8, RW);
	fill(0, 8, 7);
	assert_int_equal(advise(2, 5, ASPACE_ADVICE_DROP), ASPACE_OK);
	for (uint64_t i = 2; i < 5 && !emulated; i++)
		assert_false(is_resident(i));
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(*byte(i), i < 2 || i >= 5 ? 7 : 0);
	*byte(3) = 1; /* it is still mapped */
	assert_int_equal(advise(0, 8, ASPACE_ADVICE_FREE), ASPACE_OK);
	for (uint64_t i = 0; i < 8; i++)
		assert_true(*byte(i) == 0 || *byte(i) == (i < 2 || i >= 5 ? 7 : i == 3));
	*byte(4) = 9;
	assert_int_equal(*byte(4), 9);
	/* Of an area without access, too; and it is not accessible afterwards. */
	fill(0, 8, 7);
	assert_int_equal(aspace_protect(space, pages(0, 4), 0, 0), ASPACE_OK);
	assert_int_equal(advise(0, 4, ASPACE_ADVICE_DROP), ASPACE_OK);
	assert_int_equal(aspace_protect(space, pages(0, 4), RW, 0), ASPACE_OK);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(*byte(i), i < 4 ? 0 : 7);
}

/* Sanitizers do not let mlock() through. */
static void locked_memory_is_dropped_as_well(void **state)
{
	(void)state;
	map(0, 8, RW);
	fill(0, 8, 7);
	if (emulated || syscall(SYS_mlock, byte(2), 4 * page)) {
		print_message("skipped: memory cannot be locked here\n");
		skip();
	}
	if (advise(0, 8, ASPACE_ADVICE_DROP) != ASPACE_OK) {
		print_message("skipped: before Linux 5.18 locked memory is not dropped\n");
		skip();
	}
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(*byte(i), 0);
	assert_int_equal(advise(0, 8, ASPACE_ADVICE_FREE), ASPACE_NOT_SUPPORTED);
	assert_int_equal(syscall(SYS_munlock, byte(2), 4 * page), 0);
}

static void populating_needs_access_and_keeps_contents(void **state)
{
	static const struct {
		uint64_t flags;
		enum aspace_status reading, writing;
	} cases[] = {
		{RW, ASPACE_OK, ASPACE_OK},
		{R, ASPACE_OK, ASPACE_ACCESS_DENIED},
		{W, ASPACE_ACCESS_DENIED, ASPACE_OK},
		{0, ASPACE_ACCESS_DENIED, ASPACE_ACCESS_DENIED},
		{ASPACE_HOST_EXECUTE, ASPACE_ACCESS_DENIED, ASPACE_ACCESS_DENIED},
		{ASPACE_HOST_GUARD, ASPACE_ACCESS_DENIED, ASPACE_ACCESS_DENIED},
		{ASPACE_HOST_DECOMMITTED, ASPACE_ACCESS_DENIED, ASPACE_ACCESS_DENIED},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		map(0, 4, cases[i].flags);
		assert_int_equal(advise(0, 4, ASPACE_ADVICE_POPULATE_READ), cases[i].reading);
		assert_int_equal(advise(0, 4, ASPACE_ADVICE_POPULATE_WRITE), cases[i].writing);
		if (cases[i].reading != ASPACE_OK && cases[i].writing != ASPACE_OK)
			assert_int_equal(kernel.count, 0);
		assert_int_equal(aspace_unmap(space, pages(0, 4), 0), ASPACE_OK);
	}
	map(0, 8, RW);
	*byte(3) = 5;
	assert_int_equal(advise(2, 6, ASPACE_ADVICE_POPULATE_WRITE), ASPACE_OK);
	if (emulated) {
		print_message("skipped: what is populated: the emulator does not do it\n");
	} else {
		for (uint64_t i = 0; i < 8; i++)
			assert_int_equal(is_resident(i), i >= 2 && i < 6);
	}
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(*byte(i), i == 3 ? 5 : 0);
}

static void a_forked_child_finds_it_empty(void **state)
{
	int status;
	pid_t child;

	(void)state;
	map(0, 4, RW);
	fill(0, 4, 7);
	if (emulated || advise(1, 2, ASPACE_ADVICE_WIPE_ON_FORK) != ASPACE_OK) {
		print_message("skipped: no MADV_WIPEONFORK here\n");
		skip();
	}
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(*byte(0) != 7 || *byte(1) != 0 || *byte(2) != 7);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(*byte(1), 7);
}

static void refusals_have_their_status(void **state)
{
	static const struct {
		int error;
		enum aspace_status status;
	} cases[] = {
		{EAGAIN, ASPACE_NO_MEMORY},     {ENOMEM, ASPACE_NO_MEMORY},
		{EBUSY, ASPACE_NO_MEMORY},      {EFAULT, ASPACE_NO_MEMORY},
		{EINVAL, ASPACE_NOT_SUPPORTED}, {ENOSYS, ASPACE_NOT_SUPPORTED},
		{EPERM, ASPACE_NOT_SUPPORTED},  {EACCES, ASPACE_NOT_SUPPORTED},
		{EIO, ASPACE_NOT_SUPPORTED},
	};

	(void)state;
	map(0, 8, RW);
	fill(0, 8, 7);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned k = 0; k < ALL; k++) {
			kernel.error = cases[i].error;
			assert_int_equal(advise(0, 8, all[k].advice), cases[i].status);
			kernel.error = 0;
		}
	}
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(*byte(i), 7);
}

/* What goes over the pages is given chunk by chunk; what is noted with the mapping at once. */
static void long_ranges_go_in_chunks(void **state)
{
	const uint64_t chunk = CHUNK / page;
	struct aspace_vaddr reached;

	(void)state;
	map(0, 8 * chunk, RW);
	kernel.no_effect = true;
	for (unsigned i = 0; i < ALL; i++) {
		kernel.count = 0;
		assert_int_equal(advise(1, 3 * chunk + 2, all[i].advice), ASPACE_OK);
		if (!all[i].by_page) {
			assert_int_equal(kernel.count, 1);
			assert_call(0, 1, 3 * chunk + 2, all[i].asked);
			continue;
		}
		assert_int_equal(kernel.count, 4);
		assert_call(0, 1, chunk, all[i].asked);
		assert_call(1, chunk, 2 * chunk, all[i].asked);
		assert_call(2, 2 * chunk, 3 * chunk, all[i].asked);
		assert_call(3, 3 * chunk, 3 * chunk + 2, all[i].asked);
	}
	kernel.count = 0;
	kernel.after = 2;
	kernel.error = EAGAIN;
	assert_int_equal(aspace_advise_part(space, pages(1, 3 * chunk),
					    ASPACE_ADVICE_POPULATE_WRITE, 0, &reached),
			 ASPACE_NO_MEMORY);
	assert_int_equal(reached.value, base + 2 * chunk * page);
	memset(&kernel, 0, sizeof(kernel));
}

/* Through the table: nothing outside of the window, or of the area, is touched. */
static void what_reaches_out_is_refused(void **state)
{
	struct aspace_range window = aspace_host_window(host);
	struct aspace_area area = {
		.start = window.start, .end = window.end, .flags = RW, .backend = backend};
	const uint64_t a = window.start.value, b = window.end.value;
	const struct aspace_range bad[] = {
		aspace_range_of(a - page, a + page),
		aspace_range_of(b - page, b + page),
		aspace_range_of(a + 1, a + page),
		aspace_range_of(a, a + page - 1),
		aspace_range_of(a, a),
		aspace_range_of(a + page, a),
		aspace_range_of(0, page),
		aspace_range_of(b, b + page),
	};
	struct aspace_vaddr reached = {5};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
			backend->ops->advise(backend, &area, bad[i], ASPACE_ADVICE_DROP, &reached),
			ASPACE_INVALID_PARAM);
	area.start.value += page;
	assert_int_equal(backend->ops->advise(backend, &area, aspace_range_of(a, a + 2 * page),
					      ASPACE_ADVICE_DROP, &reached),
			 ASPACE_INVALID_PARAM);
	area.end.value = a + 2 * page;
	assert_int_equal(backend->ops->advise(backend, &area,
					      aspace_range_of(a + page, a + 3 * page),
					      ASPACE_ADVICE_DROP, &reached),
			 ASPACE_INVALID_PARAM);
	/* Of a later version. */
	assert_int_equal(
		backend->ops->advise(backend, &area, aspace_range_of(a + page, a + 2 * page),
				     (enum aspace_advice)(ASPACE_ADVICE_NORMAL + 1), &reached),
		ASPACE_NOT_SUPPORTED);
	assert_int_equal(reached.value, 5);
	assert_int_equal(kernel.count, 0);
}

int main(void)
{
#define of_host(test) cmocka_unit_test_setup_teardown(test, open_host, close_host)
	const struct CMUnitTest tests[] = {
		of_host(each_is_what_linux_calls_it),
		of_host(the_kernel_does_it_in_the_range_alone),
		of_host(dropped_contents_are_gone_and_the_others_stay),
		of_host(locked_memory_is_dropped_as_well),
		of_host(populating_needs_access_and_keeps_contents),
		of_host(a_forked_child_finds_it_empty),
		of_host(refusals_have_their_status),
		of_host(long_ranges_go_in_chunks),
		of_host(what_reaches_out_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
