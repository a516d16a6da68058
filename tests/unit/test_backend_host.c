/* SPDX-License-Identifier: MIT */
/*
 * The host backend through its vtable, against what the kernel says in /proc/self/maps.
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "../../stress/common/sanitizers.h"
#include "host_maps.h"

#ifndef __NR_mseal
#define __NR_mseal 462 /* everywhere but on Alpha */
#endif

#define R        ASPACE_HOST_READ
#define W        ASPACE_HOST_WRITE
#define RW       (R | W)
#define MAPS_MAX (UINT64_C(64) << 20)

/* SANITIZED: the run time maps memory of its own at any time, and dies at the limit. */

static uint64_t page;
static char *maps; /* MAPS_MAX bytes, mapped once, before anything is compared */

/* ---- The kernel's view ------------------------------------------------------------- */

static void read_maps(void)
{
	assert_true(host_maps_read("/proc/self/maps", maps, MAPS_MAX));
}

/* The window as the kernel has it, one letter-triple a run: "fre 16 rw- 2 ...", in pages;
 * answers how many mappings that is. */
static unsigned view(struct aspace_host *host, char *text, size_t size)
{
	struct aspace_range window = aspace_host_window(host);
	uint64_t at = window.start.value, run = 0;
	struct host_mapping mapping;
	const char *cursor = maps;
	char what[4] = "";
	unsigned mappings = 0;
	size_t used = 0;

	assert_true(host_maps_read("/proc/self/smaps", maps, MAPS_MAX));
	text[0] = '\0';
	while (host_maps_next(&cursor, window.start.value, window.end.value, &mapping)) {
		mappings++;
		assert_int_equal(mapping.start, at); /* no hole, ever */
		at = mapping.end;
		if (run && strcmp(what, mapping.what)) {
			used += (size_t)snprintf(text + used, size - used, "%s %llu ", what,
						 (unsigned long long)(run / page));
			run = 0;
		}
		strcpy(what, mapping.what);
		run += mapping.end - mapping.start;
		assert_true(used + 40 < size);
	}
	assert_int_equal(at, window.end.value);
	snprintf(text + used, size - used, "%s %llu", what, (unsigned long long)(run / page));
	return mappings;
}

/* With free addresses shown as inaccessible areas, "---", and neighbours joined. */
static void forget_free(const char *from, char *to, size_t size)
{
	char what[4], last[4] = "";
	unsigned long long pages, run = 0;
	size_t used = 0;
	int length;

	for (; sscanf(from, "%3s %llu %n", what, &pages, &length) == 2; from += length) {
		if (!strcmp(what, "fre"))
			strcpy(what, "---");
		if (run && strcmp(what, last)) {
			used += (size_t)snprintf(to + used, size - used, "%s %llu ", last, run);
			run = 0;
		}
		strcpy(last, what);
		run += pages;
	}
	snprintf(to + used, size - used, "%s %llu", last, run);
}

static void expect_view(struct aspace_host *host, const char *expected)
{
	char seen[1000], wanted[1000];

	view(host, seen, sizeof(seen));
	snprintf(wanted, sizeof(wanted), "%s", expected);
	if (!host_maps_tell_free()) {
		forget_free(expected, wanted, sizeof(wanted));
		char all[1000];

		view(host, all, sizeof(all));
		forget_free(all, seen, sizeof(seen));
	}
	assert_string_equal(seen, wanted);
}

#define assert_view(host, expected) expect_view(host, expected)

static uint64_t count_mappings(void)
{
	uint64_t lines = 0;

	read_maps();
	for (char *p = maps; *p; p++)
		lines += *p == '\n';
	return lines;
}

/* Memory that any byte of may be read only if it is there: through the kernel. */
static bool readable(const void *p)
{
	int pipe_[2];
	bool can;

	assert_int_equal(pipe(pipe_), 0);
	can = write(pipe_[1], p, 1) == 1;
	assert_true(can || errno == EFAULT);
	close(pipe_[0]);
	close(pipe_[1]);
	return can;
}

/* ---- Calls ----------------------------------------------------------------------------- */

static struct aspace_host *make(uint64_t pages)
{
	const struct aspace_host_options o = {.size = sizeof(o), .window = pages * page};
	struct aspace_host *host = NULL;

	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	return host;
}

static char *at(struct aspace_host *host, uint64_t n)
{
	return (char *)(uintptr_t)(aspace_host_window(host).start.value + n * page);
}

static struct aspace_change change_of(struct aspace_host *host, enum aspace_change_kind kind,
				      uint64_t first, uint64_t pages, uint64_t old_flags,
				      uint64_t new_flags)
{
	uint64_t start = aspace_host_window(host).start.value + first * page;

	return (struct aspace_change){
		.kind = kind,
		.range = aspace_range_of(start, start + pages * page),
		.old_flags = old_flags,
		.new_flags = new_flags,
	};
}

static enum aspace_status apply(struct aspace_host *host, const struct aspace_change *change)
{
	struct aspace_backend *backend = aspace_host_backend(host);
	enum aspace_status status = ASPACE_NOT_SUPPORTED;

	errno = 4711;
	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
		status = backend->ops->map(backend, change);
		break;
	case ASPACE_CHANGE_UNMAP:
		status = backend->ops->unmap(backend, change);
		break;
	case ASPACE_CHANGE_PROTECT:
		status = backend->ops->protect(backend, change);
		break;
	case ASPACE_CHANGE_REPLACE:
		status = backend->ops->replace(backend, change);
		break;
	case ASPACE_CHANGE_MOVE:
		status = backend->ops->move(backend, change);
		break;
	}
	assert_int_equal(errno, 4711);
	return status;
}

static enum aspace_status prepare(struct aspace_host *host, const struct aspace_change *change)
{
	struct aspace_backend *backend = aspace_host_backend(host);

	return backend->ops->prepare(backend, change);
}

static void flush(struct aspace_host *host)
{
	struct aspace_backend *backend = aspace_host_backend(host);

	backend->ops->flush(backend);
}

/* A whole operation of one change. */
static enum aspace_status operate(struct aspace_host *host, const struct aspace_change *change)
{
	enum aspace_status status = prepare(host, change);

	if (status == ASPACE_OK)
		status = apply(host, change);
	flush(host);
	return status;
}

static enum aspace_status map(struct aspace_host *h, uint64_t first, uint64_t n, uint64_t flags)
{
	struct aspace_change c = change_of(h, ASPACE_CHANGE_MAP, first, n, 0, flags);

	return operate(h, &c);
}

static enum aspace_status unmap(struct aspace_host *h, uint64_t first, uint64_t n, uint64_t flags)
{
	struct aspace_change c = change_of(h, ASPACE_CHANGE_UNMAP, first, n, flags, 0);

	return operate(h, &c);
}

static enum aspace_status protect(struct aspace_host *h, uint64_t first, uint64_t n,
				  uint64_t old_flags, uint64_t new_flags)
{
	struct aspace_change c =
		change_of(h, ASPACE_CHANGE_PROTECT, first, n, old_flags, new_flags);

	return operate(h, &c);
}

static enum aspace_status replace(struct aspace_host *h, uint64_t first, uint64_t n, uint64_t flags)
{
	struct aspace_change c = change_of(h, ASPACE_CHANGE_REPLACE, first, n, 0, flags);

	return operate(h, &c);
}

static enum aspace_status move(struct aspace_host *h, uint64_t first, uint64_t n, uint64_t to,
			       uint64_t flags)
{
	struct aspace_change c = change_of(h, ASPACE_CHANGE_MOVE, first, n, flags, 0);

	c.destination.value = (uintptr_t)at(h, to);
	return operate(h, &c);
}

/* ---- Life ---------------------------------------------------------------------------------- */

static void test_create(void **state)
{
	struct aspace_host_options o = {.size = sizeof(o)};
	struct aspace_host *host = NULL, *other = NULL;
	struct aspace_range window;

	(void)state;
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_INVALID_PARAM);
	o.window = page + 1;
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_INVALID_PARAM);
	o.window = 16 * page;
	o.address = aspace_va(1);
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_INVALID_PARAM);
	o.address = aspace_va(0 - page);
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_INVALID_PARAM);
	o.address = aspace_va(0);
	o.size = sizeof(o.size);
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_INVALID_PARAM);
	o.size = sizeof(o);
	assert_int_equal(aspace_host_create(NULL, &host), ASPACE_INVALID_PARAM);
	assert_int_equal(aspace_host_create(&o, NULL), ASPACE_INVALID_PARAM);
	assert_null(host);
	aspace_host_destroy(NULL);

	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	window = aspace_host_window(host);
	assert_int_equal(window.end.value - window.start.value, 16 * page);
	assert_int_equal(aspace_host_backend(host)->granule, page);
	assert_false(aspace_host_backend(host)->remap_restores);
	assert_false(aspace_host_marks_free(host));
	assert_int_equal(aspace_host_fd(host), -1);
	assert_view(host, "fre 16");

	/* The address is taken, even by its last page. */
	o.address = window.start;
	assert_int_equal(aspace_host_create(&o, &other), ASPACE_ALREADY_EXISTS);
	o.address.value += 15 * page;
	assert_int_equal(aspace_host_create(&o, &other), ASPACE_ALREADY_EXISTS);
	assert_null(other);
	assert_view(host, "fre 16");
	aspace_host_destroy(host);

	/* And now it is free again. */
	o.address = window.start;
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	assert_int_equal(aspace_host_window(host).start.value, window.start.value);
	aspace_host_destroy(host);
}

/* Of a caller that knows less than we do, or more and means nothing by it. */
static void test_options_of_other_sizes(void **state)
{
	struct {
		struct aspace_host_options known;
		uint64_t more;
	} longer = {.known = {.size = sizeof(longer), .window = 16 * page}};
	struct aspace_host *host = NULL;

	(void)state;
	longer.more = 1;
	assert_int_equal(aspace_host_create(&longer.known, &host), ASPACE_INVALID_PARAM);
	longer.more = 0;
	assert_int_equal(aspace_host_create(&longer.known, &host), ASPACE_OK);
	aspace_host_destroy(host);
	longer.known.address = aspace_va(1);
	longer.known.size = offsetof(struct aspace_host_options, address);
	assert_int_equal(aspace_host_create(&longer.known, &host), ASPACE_OK);
	assert_view(host, "fre 16");
	aspace_host_destroy(host);
}

static int next_fd(void)
{
	int fd = dup(0);

	assert_true(fd >= 0);
	close(fd);
	return fd;
}

static void test_leaves_nothing(void **state)
{
	struct host_mapping mapping;
	struct aspace_host *host;
	struct aspace_range window;
	const char *cursor = maps;
	uint64_t before;
	int fd_before;

	(void)state;
	aspace_host_destroy(make(64)); /* whatever happens only once has happened */
	before = count_mappings();
	fd_before = next_fd();
	host = make(64);
	window = aspace_host_window(host);
	assert_int_equal(map(host, 0, 3, RW), ASPACE_OK);
	assert_int_equal(map(host, 10, 3, 0), ASPACE_OK);
	assert_int_equal(map(host, 63, 1, R), ASPACE_OK);
	assert_true(count_mappings() > before);
	assert_int_equal(next_fd(), fd_before); /* none, ever */
	aspace_host_destroy(host);
	read_maps();
	/* An emulator's own mappings come and go with what it translates. */
	if (!SANITIZED && !getenv("ASPACE_EMULATED"))
		assert_int_equal(count_mappings(), before);
	assert_false(host_maps_next(&cursor, window.start.value, window.end.value, &mapping));
	assert_int_equal(next_fd(), fd_before);
}

/* ---- Changes -------------------------------------------------------------------------------- */

/* valgrind and qemu-user are kernels of their own kind. */
static void skip_if_emulated(const char *why)
{
	if (getenv("ASPACE_EMULATED")) {
		print_message("skipped: the emulator %s\n", why);
		skip();
	}
}

static void test_protections(void **state)
{
	struct aspace_host *h = make(32);

	(void)state;
	skip_if_emulated("objects to system calls that probe inaccessible memory");
	assert_int_equal(map(h, 1, 4, RW), ASPACE_OK);
	assert_int_equal(map(h, 5, 4, R), ASPACE_OK);
	assert_int_equal(map(h, 10, 2, 0), ASPACE_OK);
	assert_int_equal(map(h, 12, 2, ASPACE_HOST_GUARD), ASPACE_OK);
	assert_int_equal(map(h, 20, 12, R | ASPACE_HOST_EXECUTE), ASPACE_OK);
	assert_view(h, "fre 1 rw- 4 r-- 4 fre 1 --- 4 fre 6 r-x 12");
	assert_int_equal(protect(h, 2, 2, RW, R), ASPACE_OK);
	assert_int_equal(protect(h, 10, 2, 0, RW), ASPACE_OK);
	assert_view(h, "fre 1 rw- 1 r-- 2 rw- 1 r-- 4 fre 1 rw- 2 --- 2 fre 6 r-x 12");
	at(h, 10)[0] = 1;
	assert_false(readable(at(h, 12)));
	assert_false(readable(at(h, 0)));
	assert_int_equal(unmap(h, 3, 1, R), ASPACE_OK);
	assert_view(h, "fre 1 rw- 1 r-- 1 fre 1 rw- 1 r-- 4 fre 1 rw- 2 --- 2 fre 6 r-x 12");
	assert_int_equal(replace(h, 0, 21, RW), ASPACE_OK);
	assert_view(h, "rw- 21 r-x 11");
	assert_int_equal(at(h, 10)[0], 0); /* afresh */
	assert_int_equal(unmap(h, 0, 21, RW), ASPACE_OK);
	assert_int_equal(unmap(h, 21, 11, R | ASPACE_HOST_EXECUTE), ASPACE_OK);
	assert_view(h, "fre 32");
	/* One mapping again: the reservation's neighbours merge. */
	for (uint64_t n = 0; n < 32; n += 2)
		assert_int_equal(map(h, n, 1, RW), ASPACE_OK);
	for (uint64_t n = 0; n < 32; n += 2)
		assert_int_equal(unmap(h, n, 1, RW), ASPACE_OK);
	{
		char text[1000];

		assert_int_equal(view(h, text, sizeof(text)), 1);
	}
	aspace_host_destroy(h);
}

static void test_refusals(void **state)
{
	struct aspace_host *h = make(16);
	struct aspace_backend *backend = aspace_host_backend(h);
	char *neighbour =
		mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct aspace_change c;
	const uint64_t bad[] = {64, ASPACE_HOST_GUARD | R, ASPACE_HOST_DECOMMITTED | W,
				ASPACE_HOST_GUARD | ASPACE_HOST_DECOMMITTED, UINT64_C(1) << 56};

	(void)state;
	*neighbour = 42;
	assert_int_equal(map(h, 0, 17, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(map(h, 16, 1, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(map(h, UINT64_MAX, 2, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(map(h, 3, 0, RW), ASPACE_INVALID_PARAM);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(map(h, 0, 1, bad[i]), ASPACE_INVALID_PARAM);
	assert_int_equal(map(h, 0, 4, RW), ASPACE_OK);
	assert_int_equal(protect(h, 0, 4, RW, ASPACE_HOST_GUARD | W), ASPACE_INVALID_PARAM);
	assert_int_equal(move(h, 0, 4, 13, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(move(h, 0, 4, 3, RW), ASPACE_INVALID_PARAM);

	/* Straight to each change, without the prepare that refused above; whatever is there. */
	for (enum aspace_change_kind kind = ASPACE_CHANGE_MAP; kind <= ASPACE_CHANGE_MOVE; kind++) {
		c = change_of(h, kind, 0, 1, RW, R);
		c.range = aspace_range_of((uintptr_t)neighbour, (uintptr_t)neighbour + page);
		c.destination.value = (uintptr_t)at(h, 8);
		assert_int_equal(apply(h, &c), ASPACE_INVALID_PARAM);
		c = change_of(h, kind, 0, 1, RW, R);
		c.range.start.value++;
		assert_int_equal(apply(h, &c), ASPACE_INVALID_PARAM);
	}
	c = change_of(h, ASPACE_CHANGE_MOVE, 0, 1, RW, 0);
	c.destination.value = (uintptr_t)neighbour;
	assert_int_equal(apply(h, &c), ASPACE_INVALID_PARAM);
	assert_int_equal(backend->ops->map(backend, &c), ASPACE_INVALID_PARAM); /* a MOVE */
	*neighbour += 1;
	assert_int_equal(*neighbour, 43);
	munmap(neighbour, page);
	assert_view(h, "rw- 4 fre 12");
	aspace_host_destroy(h);
}

static void test_decommit(void **state)
{
	struct aspace_host *h = make(16);
	struct aspace_change c =
		change_of(h, ASPACE_CHANGE_PROTECT, 0, 4, RW, ASPACE_HOST_DECOMMITTED);

	(void)state;
	assert_int_equal(map(h, 0, 4, RW), ASPACE_OK);
	strcpy(at(h, 1), "contents");
	/* Reserved keeps contents, decommitted does not. */
	assert_int_equal(protect(h, 0, 4, RW, 0), ASPACE_OK);
	assert_false(readable(at(h, 1)));
	assert_int_equal(protect(h, 0, 4, 0, RW), ASPACE_OK);
	assert_string_equal(at(h, 1), "contents");

	/* Undone before the flush: nothing is lost, not at the flush either. */
	assert_int_equal(prepare(h, &c), ASPACE_OK);
	assert_int_equal(apply(h, &c), ASPACE_OK);
	assert_view(h, "--- 4 fre 12");
	c.undo = true;
	c.old_flags = ASPACE_HOST_DECOMMITTED;
	c.new_flags = RW;
	assert_int_equal(apply(h, &c), ASPACE_OK);
	flush(h);
	assert_string_equal(at(h, 1), "contents");

	assert_int_equal(protect(h, 0, 4, RW, ASPACE_HOST_DECOMMITTED), ASPACE_OK);
	assert_view(h, "--- 4 fre 12");
	assert_int_equal(protect(h, 0, 4, ASPACE_HOST_DECOMMITTED, RW), ASPACE_OK);
	assert_string_equal(at(h, 1), "");

	/* Decommitted and committed again in one batch: empty, and what comes then stays. */
	strcpy(at(h, 1), "contents");
	c = change_of(h, ASPACE_CHANGE_PROTECT, 0, 4, RW, ASPACE_HOST_DECOMMITTED);
	assert_int_equal(apply(h, &c), ASPACE_OK);
	c = change_of(h, ASPACE_CHANGE_PROTECT, 1, 2, ASPACE_HOST_DECOMMITTED, RW);
	assert_int_equal(apply(h, &c), ASPACE_OK);
	assert_string_equal(at(h, 1), "");
	strcpy(at(h, 1), "later");
	flush(h);
	assert_string_equal(at(h, 1), "later");
	aspace_host_destroy(h);
}

/* A transaction only asks for what is different in the end. */
static void test_decommit_and_back(void **state)
{
	struct aspace_options options = {.size = sizeof(options), .granule = page};
	struct aspace_host *h = make(16);
	struct aspace_range area = change_of(h, ASPACE_CHANGE_MAP, 0, 4, 0, 0).range;
	struct aspace_range rest = change_of(h, ASPACE_CHANGE_MAP, 1, 3, 0, 0).range;
	struct aspace *space;
	struct aspace_txn *txn;

	(void)state;
	options.limits = aspace_host_window(h);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	assert_int_equal(aspace_map(space, area, RW, aspace_host_backend(h), NULL, 0), ASPACE_OK);
	strcpy(at(h, 0), "goes");
	strcpy(at(h, 1), "contents");
	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	assert_int_equal(aspace_txn_protect(txn, area, ASPACE_HOST_DECOMMITTED, 0), ASPACE_OK);
	assert_int_equal(aspace_txn_protect(txn, rest, RW, 0), ASPACE_OK);
	assert_int_equal(aspace_txn_commit(txn), ASPACE_OK);
	assert_string_equal(at(h, 1), "contents");
	assert_false(readable(at(h, 0)));
	/* In two operations it does not. */
	assert_int_equal(aspace_protect(space, area, ASPACE_HOST_DECOMMITTED, 0), ASPACE_OK);
	assert_int_equal(aspace_protect(space, area, RW, 0), ASPACE_OK);
	assert_string_equal(at(h, 0), "");
	assert_string_equal(at(h, 1), "");
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	aspace_host_destroy(h);
}

/* In a grace-unmap space readers keep what an area loses by a protect, as long as their section. */
static void test_losses_wait_for_readers(void **state)
{
	static const uint64_t less[] = {
		ASPACE_HOST_READ,
		0,
		ASPACE_HOST_DECOMMITTED,
		ASPACE_HOST_GUARD,
		ASPACE_HOST_READ | ASPACE_HOST_EXECUTE,
	};
	struct aspace_options options = {
		.size = sizeof(options), .granule = page, .mode = ASPACE_GRACE_UNMAP};
	struct aspace_host *h = make(16);
	struct aspace_range area = change_of(h, ASPACE_CHANGE_MAP, 0, 4, 0, 0).range;
	struct aspace_view view;
	struct aspace_area found;
	struct aspace *space;

	(void)state;
	options.limits = aspace_host_window(h);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	for (size_t i = 0; i < sizeof(less) / sizeof(less[0]); i++) {
		assert_int_equal(aspace_map(space, area, RW, aspace_host_backend(h), NULL, 0),
				 ASPACE_OK);
		strcpy(at(h, 1), "contents");
		aspace_read_begin(space, &view);
		assert_int_equal(aspace_protect(space, area, less[i], 0), ASPACE_OK);
		assert_int_equal(aspace_find(space, area.start, &found), ASPACE_OK);
		assert_int_equal(found.flags, less[i]);
		assert_int_equal(aspace_view_find(&view, area.start, &found), ASPACE_OK);
		assert_int_equal(found.flags, RW);
		assert_string_equal(at(h, 1), "contents");
		strcpy(at(h, 1), "changed");
		strcpy(at(h, 3), "populated late");
		aspace_read_end(&view);
		assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
		assert_int_equal(readable(at(h, 1)), (less[i] & ASPACE_HOST_READ) != 0);
		assert_int_equal(aspace_protect(space, area, RW, 0), ASPACE_OK);
		assert_string_equal(at(h, 1), less[i] == ASPACE_HOST_DECOMMITTED ? "" : "changed");
		assert_int_equal(aspace_unmap(space, area, 0), ASPACE_OK);
	}
	/* What takes nothing, and what gives, is there at once. */
	assert_int_equal(
		aspace_map(space, area, ASPACE_HOST_DECOMMITTED, aspace_host_backend(h), NULL, 0),
		ASPACE_OK);
	aspace_read_begin(space, &view);
	assert_int_equal(aspace_protect(space, area, RW, 0), ASPACE_OK);
	strcpy(at(h, 1), "contents");
	assert_int_equal(aspace_protect(space, area, RW | ASPACE_HOST_HUGEPAGE, 0), ASPACE_OK);
	assert_int_equal(aspace_protect(space, area, RW | ASPACE_HOST_EXECUTE, 0), ASPACE_OK);
	assert_int_equal(aspace_protect(space, area, ASPACE_HOST_READ, 0), ASPACE_OK);
	aspace_read_end(&view);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	aspace_host_destroy(h);
}

/* More waiting effects than one page of bookkeeping holds; every second one is undone. */
static void test_many_decommits(void **state)
{
	enum { AREAS = 1000 };
	struct aspace_host *h = make(2 * AREAS);
	struct aspace_change c;

	(void)state;
	for (uint64_t n = 0; n < AREAS; n++) {
		assert_int_equal(map(h, 2 * n, 1, RW), ASPACE_OK);
		*at(h, 2 * n) = 1;
	}
	for (uint64_t n = 0; n < AREAS; n++) {
		c = change_of(h, ASPACE_CHANGE_PROTECT, 2 * n, 1, RW,
			      ASPACE_HOST_DECOMMITTED | ASPACE_HOST_HUGEPAGE);
		assert_int_equal(prepare(h, &c), ASPACE_OK);
	}
	for (uint64_t n = 0; n < AREAS; n++) {
		c = change_of(h, ASPACE_CHANGE_PROTECT, 2 * n, 1, RW,
			      ASPACE_HOST_DECOMMITTED | ASPACE_HOST_HUGEPAGE);
		assert_int_equal(apply(h, &c), ASPACE_OK);
	}
	for (uint64_t n = AREAS; n-- > 0;) {
		if (n % 2)
			continue;
		c = change_of(h, ASPACE_CHANGE_PROTECT, 2 * n, 1,
			      ASPACE_HOST_DECOMMITTED | ASPACE_HOST_HUGEPAGE, RW);
		c.undo = true;
		assert_int_equal(apply(h, &c), ASPACE_OK);
	}
	flush(h);
	for (uint64_t n = 0; n < AREAS; n++) {
		if (n % 2)
			assert_int_equal(protect(h, 2 * n, 1,
						 ASPACE_HOST_DECOMMITTED | ASPACE_HOST_HUGEPAGE,
						 RW),
					 ASPACE_OK);
		assert_int_equal(*at(h, 2 * n), n % 2 == 0);
	}
	aspace_host_destroy(h);
}

static void test_move(void **state)
{
	struct aspace_host *h = make(64);

	(void)state;
	skip_if_emulated("has no MREMAP_DONTUNMAP");
	assert_int_equal(map(h, 0, 8, RW), ASPACE_OK);
	strcpy(at(h, 2), "two");
	strcpy(at(h, 5), "five");
	assert_int_equal(move(h, 0, 8, 20, RW), ASPACE_OK);
	assert_view(h, "fre 20 rw- 8 fre 36");
	assert_string_equal(at(h, 22), "two");
	assert_string_equal(at(h, 25), "five");
	assert_string_equal(at(h, 20), "");
	/* A part, while inaccessible, and never touched pages with it. */
	assert_int_equal(protect(h, 20, 8, RW, 0), ASPACE_OK);
	assert_int_equal(move(h, 24, 4, 60, 0), ASPACE_OK);
	assert_view(h, "fre 20 --- 4 fre 36 --- 4");
	assert_int_equal(protect(h, 60, 4, 0, R), ASPACE_OK);
	assert_string_equal(at(h, 61), "five");
	assert_int_equal(unmap(h, 60, 4, R), ASPACE_OK);
	assert_int_equal(unmap(h, 20, 4, 0), ASPACE_OK);
	assert_view(h, "fre 64");
	aspace_host_destroy(h);
}

/* One area to the library, several mappings to the kernel: neighbours touched apart. */
static void test_move_several_mappings(void **state)
{
	struct aspace_host *h = make(64);
	struct aspace_range area = aspace_range_of((uintptr_t)at(h, 3), (uintptr_t)at(h, 15));
	const uint64_t sizes[] = {1, 3, 5, 2, 1};
	uint64_t n = 3, mappings = 0;
	struct host_mapping line;
	const char *cursor = maps;

	(void)state;
	skip_if_emulated("has no MREMAP_DONTUNMAP");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		/* Touched while alone: an anon_vma of its own, which keeps mappings apart. */
		assert_int_equal(map(h, 40, sizes[i], RW), ASPACE_OK);
		for (uint64_t k = 0; k < sizes[i]; k++)
			*at(h, 40 + k) = (char)(n + k);
		assert_int_equal(move(h, 40, sizes[i], n, RW), ASPACE_OK);
		n += sizes[i];
	}
	assert_view(h, "fre 3 rw- 12 fre 49");
	read_maps();
	while (host_maps_next(&cursor, area.start.value, area.end.value, &line))
		mappings++;
	assert_true(mappings >= 4); /* else this tests nothing */

	assert_int_equal(move(h, 3, 12, 30, RW), ASPACE_OK);
	assert_view(h, "fre 30 rw- 12 fre 22");
	for (uint64_t k = 3; k < 15; k++)
		assert_int_equal(*at(h, 27 + k), k);
	/* The other way, cut from the middle. */
	assert_int_equal(move(h, 32, 9, 0, RW), ASPACE_OK);
	assert_view(h, "rw- 9 fre 21 rw- 2 fre 9 rw- 1 fre 22");
	for (uint64_t k = 5; k < 14; k++)
		assert_int_equal(*at(h, k - 5), k);
	aspace_host_destroy(h);
}

static void test_hugepage(void **state)
{
	const uint64_t size = (UINT64_C(4) << 20) / page;
	struct aspace_host *h = make(2 * size);

	(void)state;
	assert_int_equal(map(h, 0, size, RW | ASPACE_HOST_HUGEPAGE), ASPACE_OK);
	*at(h, size - 1) = 1;
	assert_int_equal(protect(h, 0, size, RW | ASPACE_HOST_HUGEPAGE, RW), ASPACE_OK);
	assert_int_equal(protect(h, 0, size, RW, R | ASPACE_HOST_HUGEPAGE), ASPACE_OK);
	assert_int_equal(*at(h, size - 1), 1);
	assert_int_equal(map(h, size, 1, ASPACE_HOST_GUARD | ASPACE_HOST_HUGEPAGE), ASPACE_OK);
	assert_int_equal(unmap(h, 0, size, R | ASPACE_HOST_HUGEPAGE), ASPACE_OK);
	aspace_host_destroy(h);
}

static void test_fault(void **state)
{
	struct aspace_host *h = make(16);
	struct aspace_backend *b = aspace_host_backend(h);
	struct aspace_area area = {
		.start = {(uintptr_t)at(h, 0)},
		.end = {(uintptr_t)at(h, 4)},
		.flags = RW,
		.backend = b,
	};
	unsigned char resident[4];

	(void)state;
	skip_if_emulated("does not populate pages one by one");
	assert_int_equal(map(h, 0, 4, RW), ASPACE_OK);
	errno = 4711;
	assert_int_equal(
		b->ops->fault(b, &area, aspace_va((uintptr_t)at(h, 2) + 9), ASPACE_ACCESS_WRITE),
		ASPACE_OK);
	assert_int_equal(errno, 4711);
	assert_int_equal(mincore(at(h, 0), 4 * page, resident), 0);
	assert_int_equal(resident[0] & 1, 0);
	assert_int_equal(resident[2] & 1, 1);
	assert_int_equal(b->ops->fault(b, &area, area.start, ASPACE_ACCESS_EXECUTE),
			 ASPACE_ACCESS_DENIED);
	assert_int_equal(b->ops->fault(b, &area, area.end, ASPACE_ACCESS_READ),
			 ASPACE_INVALID_PARAM);
	area.flags = ASPACE_HOST_GUARD;
	assert_int_equal(b->ops->fault(b, &area, area.start, 0), ASPACE_ACCESS_DENIED);
	aspace_host_destroy(h);
}

/* ---- What else a program may do to itself --------------------------------------------- */

/* In a child, which ends with 0 or the line that found something wrong. */
#define child_expects(condition)                                                                   \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                    \
			end_child(1);                                                              \
		}                                                                                  \
	} while (0)

static void in_child(void (*run)(void))
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		run();
		end_child(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static bool shows_a_file(struct aspace_host *h)
{
	struct aspace_range window = aspace_host_window(h);
	const char *cursor = maps, *line = maps;
	struct host_mapping mapping;
	bool file = false;

	child_expects(host_maps_read("/proc/self/maps", maps, MAPS_MAX));
	for (; host_maps_next(&cursor, window.start.value, window.end.value, &mapping);
	     line = cursor) {
		/* The last line that was passed is the mapping's. */
		for (const char *next; (next = strchr(line, '\n') + 1) < cursor; line = next)
			;
		file |= memchr(line, '/', (size_t)(cursor - line)) != NULL;
	}
	return file;
}

/* As a daemon does; and then its first socket and file have the lowest numbers. */
static void close_everything(void)
{
	struct aspace_host *h = make(16);
	int fd;

	child_expects(map(h, 0, 16, RW) == ASPACE_OK);
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	child_expects(unmap(h, 0, 1, RW) == ASPACE_OK);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	child_expects(fd == 3 && unmap(h, 1, 1, RW) == ASPACE_OK);
	close(fd);
	fd = open("/proc/self/exe", O_RDONLY);
	child_expects(fd == 3 && unmap(h, 2, 1, RW) == ASPACE_OK);
	child_expects(move(h, 4, 2, 0, RW) == ASPACE_OK && replace(h, 1, 5, R) == ASPACE_OK);
	child_expects(!shows_a_file(h));
	aspace_host_destroy(h);
	child_expects(fcntl(fd, F_GETFD) >= 0);
}

static void test_no_descriptor(void **state)
{
	(void)state;
	skip_if_emulated("has no MREMAP_DONTUNMAP");
	in_child(close_everything);
}

static void lock_future_memory(void)
{
	const struct rlimit limit = {page, page};

	/* Root may lock what it likes. */
	child_expects(geteuid() || !setuid(65534));
	child_expects(!setrlimit(RLIMIT_MEMLOCK, &limit));
	child_expects(!mlockall(MCL_FUTURE));
}

static void create_while_locked(void)
{
	struct aspace_host_options o = {.size = sizeof(o), .window = 1024 * page};
	struct aspace_host *h;

	lock_future_memory();
	child_expects(aspace_host_create(&o, &h) == ASPACE_NO_MEMORY);
	o.address = aspace_va(UINT64_C(1) << 46);
	child_expects(aspace_host_create(&o, &h) == ASPACE_NO_MEMORY);
}

static bool is_resident(char *p)
{
	unsigned char resident = 0;

	child_expects(!mincore(p, page, &resident));
	return resident & 1;
}

/* Whole areas, parts, and all: nothing that gives back is refused where the kernel refuses
 * every mmap(), even one that replaces. */
static void give_back_without_mmap(struct aspace_host *h)
{
	struct aspace_change c = change_of(h, ASPACE_CHANGE_UNMAP, 30, 1, RW, 0);
	const void *refused = mmap(NULL, 64 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	child_expects(refused == MAP_FAILED); /* else this tests nothing */
	child_expects(map(h, 62, 2, RW) == ASPACE_NO_MEMORY);
	child_expects(is_resident(at(h, 0)) && unmap(h, 0, 30, RW) == ASPACE_OK);
	child_expects(unmap(h, 31, 1, RW) == ASPACE_OK);
	child_expects(!readable(at(h, 0)) && !readable(at(h, 31)) && readable(at(h, 30)));
	child_expects(operate(h, &c) == ASPACE_OK);
	child_expects(unmap(h, 32, 8, RW) == ASPACE_OK && !readable(at(h, 39)));
	for (uint64_t n = 0; n < 40; n++)
		child_expects(!is_resident(at(h, n)));
}

static void heal(struct aspace_host *h)
{
	char text[1000];

	child_expects(map(h, 5, 1, RW) == ASPACE_OK && at(h, 5)[0] == 0);
	child_expects(unmap(h, 5, 1, RW) == ASPACE_OK);
	/* The kernel has cut where it then refused. */
	child_expects(map(h, 62, 2, RW) == ASPACE_OK && unmap(h, 62, 2, RW) == ASPACE_OK);
	child_expects(view(h, text, sizeof(text)) == 1);
}

static struct aspace_host *make_and_fill(void)
{
	struct aspace_host *h = make(64);

	child_expects(map(h, 0, 40, RW) == ASPACE_OK);
	memset(at(h, 0), 'a', 40 * page);
	return h;
}

static void give_back_while_locked(void)
{
	struct aspace_host *h = make_and_fill();

	lock_future_memory();
	give_back_without_mmap(h);
	child_expects(!munlockall());
	heal(h);
	aspace_host_destroy(h);
}

/* Below what there is: RLIMIT_AS. */
static void give_back_without_address_space(void)
{
	struct aspace_host *h = make_and_fill();
	struct rlimit limit, low;

	child_expects(!getrlimit(RLIMIT_AS, &limit));
	low = limit;
	low.rlim_cur = page;
	child_expects(!setrlimit(RLIMIT_AS, &low));
	give_back_without_mmap(h);
	child_expects(!setrlimit(RLIMIT_AS, &limit));
	heal(h);
	aspace_host_destroy(h);
}

/* What has come to lie where a scar was is not healed away: by a move, by a map. */
static void cover_scars(void)
{
	struct aspace_host *h = make_and_fill();
	struct rlimit limit, low;
	struct aspace_change c;

	child_expects(!getrlimit(RLIMIT_AS, &limit));
	low = limit;
	low.rlim_cur = page;
	child_expects(!setrlimit(RLIMIT_AS, &low));
	child_expects(unmap(h, 0, 10, RW) == ASPACE_OK); /* the scar */
	child_expects(!setrlimit(RLIMIT_AS, &limit));
	c = change_of(h, ASPACE_CHANGE_MOVE, 20, 2, RW, 0);
	c.destination.value = (uintptr_t)at(h, 4);
	child_expects(apply(h, &c) == ASPACE_OK);
	c = change_of(h, ASPACE_CHANGE_MAP, 8, 1, 0, RW);
	child_expects(apply(h, &c) == ASPACE_OK);
	*at(h, 8) = 'b';
	flush(h);
	child_expects(*at(h, 4) == 'a' && *at(h, 5) == 'a' && *at(h, 8) == 'b');
	child_expects(!readable(at(h, 3)) && !readable(at(h, 6)) && !readable(at(h, 9)));
	child_expects(unmap(h, 4, 2, RW) == ASPACE_OK && unmap(h, 8, 1, RW) == ASPACE_OK);
	child_expects(unmap(h, 10, 10, RW) == ASPACE_OK && unmap(h, 22, 18, RW) == ASPACE_OK);
	heal(h);
	aspace_host_destroy(h);
}

static void test_no_mmap(void **state)
{
	(void)state;
	skip_if_emulated("has limits of its own");
	if (SANITIZED) {
		print_message("skipped: a sanitizer needs memory\n");
		skip();
	}
	in_child(create_while_locked);
	in_child(give_back_while_locked);
	in_child(give_back_without_address_space);
	in_child(cover_scars);
}

/* Sealed by the program: not ours to unmap, and nothing has changed. */
static void seal(void)
{
	struct aspace_host *h = make_and_fill();

	if (syscall(__NR_mseal, at(h, 7), page, 0UL)) {
		child_expects(errno == ENOSYS || errno == EPERM);
		fputs("skipped: the kernel cannot seal\n", stderr);
		return;
	}
	child_expects(unmap(h, 0, 40, RW) == ASPACE_NOT_SUPPORTED);
	child_expects(protect(h, 0, 40, RW, R) == ASPACE_NOT_SUPPORTED);
	child_expects(replace(h, 0, 40, R) == ASPACE_NOT_SUPPORTED);
	for (uint64_t n = 0; n < 40; n++) {
		child_expects(*at(h, n) == 'a');
		if (n != 7)
			*at(h, n) = 'a';
	}
	child_expects(unmap(h, 0, 7, RW) == ASPACE_OK && unmap(h, 8, 32, RW) == ASPACE_OK);
}

static void test_sealed(void **state)
{
	(void)state;
	skip_if_emulated("cannot seal");
	in_child(seal);
}
/* ---- The mapping limit ----------------------------------------------------------------------- */

static uint64_t mapping_limit(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	unsigned long long limit = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &limit), 1);
	fclose(f);
	return limit;
}

/* Map every second page behind @first, without prepare, until the kernel refuses. */
static uint64_t fill(struct aspace_host *h, uint64_t first, uint64_t pages)
{
	for (uint64_t n = first; n < pages; n += 2) {
		struct aspace_change c = change_of(h, ASPACE_CHANGE_MAP, n, 1, 0, RW);
		enum aspace_status status = apply(h, &c);

		if (status == ASPACE_OK)
			continue;
		assert_int_equal(status, ASPACE_NO_MEMORY);
		return n;
	}
	fail_msg("the mapping limit was never met");
	return 0;
}

/* A sum over what the kernel shows of the window: cheap to compare. */
static uint64_t digest(struct aspace_host *h)
{
	struct aspace_range window = aspace_host_window(h);
	const char *cursor = maps;
	char what[3] = {0};
	uint64_t sum = 0, last = window.start.value;
	struct host_mapping line;

	read_maps();
	while (host_maps_next(&cursor, window.start.value, window.end.value, &line)) {
		assert_int_equal(line.start, last);
		last = line.end;
		/* Cuts between equal neighbours do not count. */
		if (memcmp(what, line.what, 3)) {
			sum = (sum ^ line.start) * UINT64_C(0x9e3779b97f4a7c15);
			sum = (sum ^ (uint64_t)line.what[0] ^ ((uint64_t)line.what[1] << 8)) *
			      UINT64_C(0xbf58476d1ce4e5b9);
			memcpy(what, line.what, 3);
		}
	}
	assert_int_equal(last, window.end.value);
	return sum;
}

/* What other code may do: cut mappings until the kernel refuses. Answers how often. */
static uint64_t take_mappings(char *region, uint64_t pages)
{
	for (uint64_t n = 1; n < pages; n += 2) {
		if (!mprotect(region + n * page, page, PROT_READ))
			continue;
		assert_int_equal(errno, ENOMEM);
		return n / 2;
	}
	fail_msg("the mapping limit was never met");
	return 0;
}

/* Holes in an area, at the limit: the ballast has as many as leave a third of it. Then what needs
 * no mapping still goes. */
static void cut_until_refused(struct aspace_host *h, uint64_t first, uint64_t pages)
{
	enum aspace_status status = ASPACE_OK;
	struct aspace_host_ballast ballast;
	struct aspace_change c;
	uint64_t holes = 0;

	for (; status == ASPACE_OK; holes++) {
		assert_true(2 * holes + 2 < pages);
		c = change_of(h, ASPACE_CHANGE_UNMAP, first + 2 * holes + 1, 1, RW, 0);
		c.borders = c.cuts = 2;
		status = operate(h, &c);
	}
	assert_int_equal(status, ASPACE_NO_MEMORY);
	ballast = aspace_host_ballast(h);
	assert_true(ballast.held >= ballast.full / 3);
	assert_true(ballast.held <= ballast.full / 3 + 1);
	assert_true(holes > ballast.full / 3);
	/* The start of what is left, which goes on; and whole. */
	c = change_of(h, ASPACE_CHANGE_UNMAP, first + 2 * holes - 2, 1, RW, 0);
	c.borders = c.cuts = 1;
	assert_int_equal(operate(h, &c), ASPACE_OK);
	assert_int_equal(aspace_host_ballast(h).held, ballast.held);
	/* Room goes to the ballast at once, before anybody else has it. */
	assert_int_equal(unmap(h, first, 1, RW), ASPACE_OK);
	assert_true(aspace_host_ballast(h).held > ballast.held);
	for (uint64_t n = 2; n < 2 * holes - 2; n += 2)
		assert_int_equal(unmap(h, first + n, 1, RW), ASPACE_OK);
	assert_true(aspace_host_ballast(h).held > 2 * ballast.full / 3);
}

static void test_mapping_limit(void **state)
{
	uint64_t limit = mapping_limit(), pages = limit + 1000, full, before, taken;
	struct aspace_host_ballast ballast;
	struct aspace_change c;
	struct aspace_host *h;
	uint64_t mappings;
	char *others;

	(void)state;
	skip_if_emulated("has a mapping limit of its own");
	if (SANITIZED || limit > 2000000) {
		print_message("skipped: a sanitizer, or a limit of %llu mappings\n",
			      (unsigned long long)limit);
		skip();
	}
	mappings = count_mappings();
	h = make(pages);
	others = mmap(NULL, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		      -1, 0);
	assert_true(others != MAP_FAILED);
	/* Some beforehand, so that there is more to give back than to take. */
	for (uint64_t n = 1; n < 41; n += 2)
		assert_int_equal(mprotect(others + n * page, page, PROT_READ), 0);
	/* Two areas with contents to lose. */
	assert_int_equal(map(h, 0, 9, RW), ASPACE_OK);
	memset(at(h, 0), 'a', 9 * page);
	assert_int_equal(map(h, 10, 9, RW), ASPACE_OK);
	memset(at(h, 10), 'b', 9 * page);
	assert_int_equal(protect(h, 10, 9, RW, R), ASPACE_OK);
	full = fill(h, 40, pages);
	ballast = aspace_host_ballast(h);
	assert_int_equal(ballast.held, ballast.full);
	assert_true(ballast.full >= 24);
	before = digest(h);

	/* What needs a mapping more is refused, and nothing has changed. */
	assert_int_equal(map(h, full + 1, 1, R), ASPACE_NO_MEMORY);
	assert_int_equal(map(h, 30, 4, R), ASPACE_NO_MEMORY);
	assert_int_equal(protect(h, 3, 2, RW, R), ASPACE_NO_MEMORY);
	assert_int_equal(replace(h, 3, 2, R), ASPACE_NO_MEMORY);
	assert_int_equal(move(h, 0, 9, 25, RW), ASPACE_NO_MEMORY);
	assert_int_equal(move(h, 3, 2, 25, RW), ASPACE_NO_MEMORY);
	assert_true(digest(h) == before);
	for (uint64_t i = 0; i < 9 * page; i++) {
		assert_int_equal(at(h, 0)[i], 'a');
		assert_int_equal(at(h, 10)[i], 'b');
	}
	ballast = aspace_host_ballast(h);
	assert_int_equal(ballast.given_up, 0);

	/* What cuts nothing works. */
	assert_int_equal(protect(h, 0, 9, RW, R), ASPACE_OK);
	assert_int_equal(protect(h, 0, 9, R, RW), ASPACE_OK);

	/* The same refusals as undo succeed, on the ballast. */
	c = change_of(h, ASPACE_CHANGE_PROTECT, 3, 2, RW, R);
	c.undo = true;
	assert_int_equal(apply(h, &c), ASPACE_OK);
	ballast = aspace_host_ballast(h);
	assert_int_equal(ballast.given_up, 1);
	assert_int_equal(ballast.held, 0);
	c = change_of(h, ASPACE_CHANGE_PROTECT, 3, 2, R, RW);
	c.undo = true;
	assert_int_equal(apply(h, &c), ASPACE_OK);
	assert_true(digest(h) == before);
	c = change_of(h, ASPACE_CHANGE_MOVE, 0, 9, RW, 0);
	c.destination.value = (uintptr_t)at(h, 25);
	c.undo = true;
	assert_int_equal(apply(h, &c), ASPACE_OK);
	assert_int_equal(at(h, 25)[0], 'a');
	c = change_of(h, ASPACE_CHANGE_MOVE, 25, 9, RW, 0);
	c.destination = aspace_host_window(h).start;
	c.undo = true;
	assert_int_equal(apply(h, &c), ASPACE_OK);
	assert_true(digest(h) == before);

	/* Without ballast, and with what it held taken by others: prepare refuses. */
	taken = take_mappings(others + 50 * page, pages - 50);
	assert_true(taken >= ballast.full / 2 - 1);
	assert_int_equal(map(h, 30, 2, R), ASPACE_NO_MEMORY);
	assert_int_equal(aspace_host_ballast(h).given_up, 1);
	assert_true(aspace_host_ballast(h).held < ballast.full);
	assert_true(digest(h) == before);
	/* Room again: so is the ballast, at the next prepare. */
	assert_int_equal(mprotect(others, pages * page, PROT_NONE), 0);
	munmap(others, pages * page);
	assert_int_equal(protect(h, 0, 9, RW, RW), ASPACE_OK);
	assert_int_equal(aspace_host_ballast(h).held, ballast.full);

	/* At the limit again: an unmap that needs a cut gets it from the ballast. */
	full = fill(h, full, pages);
	assert_int_equal(unmap(h, 3, 2, RW), ASPACE_OK);
	assert_int_equal(aspace_host_ballast(h).given_up, 2);
	assert_true(aspace_host_ballast(h).held > 0);
	assert_int_equal(at(h, 2)[0], 'a');
	assert_int_equal(at(h, 5)[0], 'a');
	/* And whole areas, as many as there are: then all is well again. */
	for (uint64_t n = 40; n < 1040; n += 2)
		assert_int_equal(unmap(h, n, 1, RW), ASPACE_OK);
	assert_int_equal(map(h, 30, 2, R), ASPACE_OK);
	assert_int_equal(aspace_host_ballast(h).held, ballast.full);

	/* And the host goes away at the limit, when cuts have had all that they may. */
	assert_int_equal(map(h, pages - 400, 300, RW), ASPACE_OK);
	fill(h, 40, pages);
	cut_until_refused(h, pages - 400, 300);
	aspace_host_destroy(h);
	assert_int_equal(count_mappings(), mappings);
}

/* ---- Operations of several changes, at the limit ------------------------------------- */

struct others {
	char *region;
	uint64_t pages, taken;
};

/* Take all mappings that there are but those for @spare changes. */
static void take_all_but(struct others *others, uint64_t spare)
{
	others->pages = mapping_limit() + 1000;
	others->region = mmap(NULL, others->pages * page, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(others->region != MAP_FAILED);
	others->taken = take_mappings(others->region, others->pages);
	assert_true(others->taken > spare);
	for (; spare; spare--) {
		char *last = others->region + (2 * others->taken - 1) * page;

		assert_int_equal(mprotect(last, page, PROT_NONE), 0);
		others->taken--;
	}
}

static void give_all_back(struct others *others)
{
	assert_int_equal(mprotect(others->region, others->pages * page, PROT_NONE), 0);
	munmap(others->region, others->pages * page);
}

/* Every second of these pages, from the second on, is unmapped or mapped afresh. */
static enum aspace_status change_alternate(struct aspace *space, struct aspace_host *h,
					   uint64_t changes, bool replaces)
{
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(space, 0, &txn);

	for (uint64_t i = 0; i < changes && status == ASPACE_OK; i++) {
		uint64_t start = (uintptr_t)at(h, 2 * i + 1);
		struct aspace_range range = aspace_range_of(start, start + page);

		status = replaces ? aspace_txn_map(txn, range, R, aspace_host_backend(h), NULL,
						   ASPACE_REPLACE)
				  : aspace_txn_unmap(txn, range, 0);
	}
	assert_int_equal(status, ASPACE_OK);
	return aspace_txn_commit(txn);
}

/* One page of each two lost its contents, or none did. */
static void check_alternate(struct aspace *space, struct aspace_host *h, uint64_t pages,
			    bool changed, bool replaced)
{
	struct aspace_violation violation;

	assert_int_equal(aspace_validate(space, &violation, 0), ASPACE_OK);
	assert_int_equal(aspace_count(space), !changed ? 1 : replaced ? pages : pages / 2 + 1);
	for (uint64_t n = 0; n < pages; n++) {
		if (n % 2 == 0 || !changed)
			assert_int_equal(*at(h, n), 'a');
		else if (replaced)
			assert_int_equal(*at(h, n), 0);
	}
}

static void try_alternate(uint64_t changes, bool replaces, uint64_t spare,
			  enum aspace_status expected)
{
	struct aspace_options options = {.size = sizeof(options), .granule = page};
	struct aspace_host_ballast ballast;
	uint64_t pages = 2 * changes + 1; /* each change cuts at both ends */
	struct others others;
	struct aspace *space;
	struct aspace_host *h = make(pages);

	options.limits = aspace_host_window(h);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	assert_int_equal(aspace_map(space, options.limits, RW, aspace_host_backend(h), NULL, 0),
			 ASPACE_OK);
	memset(at(h, 0), 'a', pages * page);
	/* Nodes and actions, so that only the kernel's limit is met. */
	assert_int_equal(change_alternate(space, h, changes, true), ASPACE_OK);
	assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
	assert_int_equal(aspace_map(space, options.limits, RW, aspace_host_backend(h), NULL, 0),
			 ASPACE_OK);
	memset(at(h, 0), 'a', pages * page);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);

	take_all_but(&others, spare);
	assert_int_equal(change_alternate(space, h, changes, replaces), expected);
	check_alternate(space, h, pages, expected == ASPACE_OK, replaces);
	ballast = aspace_host_ballast(h);
	assert_true(ballast.held <= ballast.full);

	/* What is mapped can go, though many changes do it. */
	assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
	assert_int_equal(aspace_count(space), 0);
	give_all_back(&others);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	aspace_host_destroy(h);
}

static void test_limit_in_transactions(void **state)
{
	(void)state;
	skip_if_emulated("has a mapping limit of its own");
	if (SANITIZED || mapping_limit() > 2000000) {
		print_message("skipped: a sanitizer, or a high limit\n");
		skip();
	}
	/* One replace alone may be refused when it comes to it; of two, the second must not. */
	try_alternate(1, true, 0, ASPACE_NO_MEMORY);
	try_alternate(1, true, 1, ASPACE_OK);
	try_alternate(2, true, 0, ASPACE_NO_MEMORY);
	try_alternate(2, true, 1, ASPACE_NO_MEMORY);
	try_alternate(2, true, 4, ASPACE_OK);
	/* Unmaps have what the ballast holds, less a reserve. */
	try_alternate(10, false, 0, ASPACE_OK);
	try_alternate(24, false, 0, ASPACE_NO_MEMORY);
	try_alternate(24, false, 12, ASPACE_OK);
	/* More than the ballast's region holds at first. */
	try_alternate(200, false, 100, ASPACE_NO_MEMORY);
	try_alternate(200, false, 250, ASPACE_OK);
	try_alternate(200, true, 250, ASPACE_OK);
	try_alternate(200, true, 100, ASPACE_NO_MEMORY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_options_of_other_sizes),
		cmocka_unit_test(test_leaves_nothing),
		cmocka_unit_test(test_protections),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_decommit),
		cmocka_unit_test(test_decommit_and_back),
		cmocka_unit_test(test_losses_wait_for_readers),
		cmocka_unit_test(test_many_decommits),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_move_several_mappings),
		cmocka_unit_test(test_hugepage),
		cmocka_unit_test(test_fault),
		cmocka_unit_test(test_no_descriptor),
		cmocka_unit_test(test_no_mmap),
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_mapping_limit),
		cmocka_unit_test(test_limit_in_transactions),
	};

	page = (uint64_t)sysconf(_SC_PAGESIZE);
	maps = mmap(NULL, MAPS_MAX, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (maps == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("backend host", tests, NULL, NULL);
}
