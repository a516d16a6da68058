/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "host_kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define DONTNEED_LOCKED 24
#define GUARD_INSTALL   102

struct mapping {
	uint64_t start, end;
	int prot;
	bool noreserve, touched;
};

struct host_kernel host_kernel;
static struct mapping list[1000]; /* ascending */

void *__real_mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset);
int __real_mprotect(void *address, size_t size, int prot);
int __wrap_mprotect(void *address, size_t size, int prot);
void *__real_mremap(void *address, size_t size, size_t new_size, int flags, ...);
void *__wrap_mremap(void *address, size_t size, size_t new_size, int flags, ...);
int __real_munmap(void *address, size_t size);
int __wrap_munmap(void *address, size_t size);
int __real_madvise(void *address, size_t size, int advice);
int __wrap_madvise(void *address, size_t size, int advice);

void host_kernel_begin(bool simulated, bool guards, size_t limit)
{
	host_kernel.simulated = simulated;
	host_kernel.guards = guards;
	host_kernel.limit = limit;
	host_kernel.count = 0;
	host_kernel.below = 0;
	host_kernel.no_mmap = false;
	host_kernel.holes = 0;
	host_kernel.lock = NULL;
}

/* The first mapping that ends above an address. */
static size_t find(uint64_t at)
{
	size_t i = 0;

	while (i < host_kernel.count && list[i].end <= at)
		i++;
	return i;
}

static void insert(size_t i, struct mapping mapping)
{
	if (host_kernel.count == sizeof(list) / sizeof(list[0])) {
		fputs("the simulated kernel is full\n", stderr);
		abort();
	}
	memmove(list + i + 1, list + i, (host_kernel.count++ - i) * sizeof(list[0]));
	list[i] = mapping;
}

static void drop(size_t i)
{
	memmove(list + i, list + i + 1, (--host_kernel.count - i) * sizeof(list[0]));
}

static void cut(uint64_t at)
{
	size_t i = find(at);

	if (i == host_kernel.count || list[i].start >= at)
		return;
	insert(i, list[i]);
	list[i].end = list[i + 1].start = at;
}

static bool is_inside(uint64_t at)
{
	size_t i = find(at);

	return i < host_kernel.count && list[i].start < at;
}

/* Strictly inside one mapping at both ends. */
static bool is_in_the_midst(uint64_t start, uint64_t end)
{
	size_t i = find(start);

	return i < host_kernel.count && list[i].start < start && end < list[i].end;
}

static bool refuse(void)
{
	host_kernel.refused++;
	errno = ENOMEM;
	return true;
}

static void join(uint64_t start, uint64_t end)
{
	for (size_t i = find(start ? start - 1 : 0);
	     i + 1 < host_kernel.count && list[i].start <= end;) {
		struct mapping *a = &list[i], *b = a + 1;

		if (a->end != b->start || a->prot != b->prot || a->noreserve != b->noreserve ||
		    a->touched || b->touched) {
			i++;
			continue;
		}
		a->end = b->end;
		drop(i + 1);
	}
}

static void clear(uint64_t start, uint64_t end)
{
	cut(start);
	cut(end);
	for (size_t i = find(start); i < host_kernel.count && list[i].start < end;)
		drop(i);
}

static void put(struct mapping mapping)
{
	clear(mapping.start, mapping.end);
	insert(find(mapping.start), mapping);
	join(mapping.start, mapping.end);
}

void host_kernel_touch(uint64_t start, uint64_t end)
{
	for (size_t i = find(start); i < host_kernel.count && list[i].start < end; i++)
		list[i].touched = true;
}

size_t host_kernel_mappings(uint64_t start, uint64_t end)
{
	size_t first = find(start), i = first;

	while (i < host_kernel.count && list[i].start < end)
		i++;
	return i - first;
}

/* Sizes are of bytes, mappings of pages. */
static uint64_t end_of(const void *address, size_t size)
{
	uint64_t mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;

	return ((uintptr_t)address + size + mask) & ~mask;
}

static bool mmap_refused(uint64_t start, uint64_t end, bool fixed)
{
	if (host_kernel.no_mmap || host_kernel.count > host_kernel.limit)
		return refuse();
	if (fixed && is_in_the_midst(start, end) && host_kernel.count >= host_kernel.limit)
		return refuse();
	return false;
}

void *__wrap_mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset)
{
	uint64_t start = (uintptr_t)address;
	void *p;

	host_kernel.calls++;
	if (!address && host_kernel.below) {
		/* One below the other: equal neighbours become one mapping. */
		host_kernel.below -= end_of(NULL, size);
		address = (void *)(uintptr_t)host_kernel.below;
		start = host_kernel.below;
		flags |= MAP_FIXED;
	}
	if (host_kernel.simulated && mmap_refused(start, end_of(address, size), flags & MAP_FIXED))
		return MAP_FAILED;
	if (host_kernel.holes) {
		host_kernel.holes--;
		if (flags & MAP_FIXED) {
			__real_munmap(address, size);
			clear(start, end_of(address, size));
		}
		refuse();
		return MAP_FAILED;
	}
	p = __real_mmap(address, size, prot, flags, fd, offset);
	if (!host_kernel.simulated)
		host_kernel.refused += p == MAP_FAILED;
	else if (p != MAP_FAILED)
		put((struct mapping){(uintptr_t)p, end_of(p, size), prot, flags & MAP_NORESERVE,
				     false});
	return p;
}

int __wrap_munmap(void *address, size_t size)
{
	uint64_t start = (uintptr_t)address, end = end_of(address, size);
	int result;

	host_kernel.calls++;
	if (host_kernel.simulated && is_in_the_midst(start, end) &&
	    host_kernel.count >= host_kernel.limit) {
		refuse();
		return -1;
	}
	result = __real_munmap(address, size);
	if (!host_kernel.simulated)
		host_kernel.refused += result;
	else if (!result)
		clear(start, end);
	return result;
}

/* One mapping after the other; those before the one that is refused have changed. */
static int protect_some(uint64_t start, uint64_t end, int prot)
{
	for (uint64_t at = start; at < end;) {
		size_t i = find(at);
		uint64_t to;

		if (i == host_kernel.count || list[i].start > at) {
			errno = ENOMEM;
			return -1;
		}
		to = list[i].end < end ? list[i].end : end;
		if (list[i].prot != prot) {
			for (int side = 0; side < 2; side++) {
				uint64_t border = side ? to : at;

				if (!is_inside(border))
					continue;
				if (host_kernel.count >= host_kernel.limit) {
					refuse();
					return -1;
				}
				cut(border);
			}
			if (__real_mprotect((void *)(uintptr_t)at, to - at, prot))
				return -1;
			list[find(at)].prot = prot;
			join(at, to);
		} else if (__real_mprotect((void *)(uintptr_t)at, to - at, prot)) {
			return -1; /* changes nothing, but sealed memory refuses it */
		}
		at = to;
	}
	return 0;
}

int __wrap_mprotect(void *address, size_t size, int prot)
{
	int result;

	host_kernel.calls++;
	if (host_kernel.simulated)
		return protect_some((uintptr_t)address, end_of(address, size), prot);
	result = __real_mprotect(address, size, prot);
	host_kernel.refused += result != 0;
	return result;
}

static bool mremap_refused(uint64_t start, uint64_t end, int flags)
{
	size_t i = find(start), wanted = flags & MREMAP_FIXED ? 6 : 4;

	if (i == host_kernel.count || list[i].start > start || list[i].end < end) {
		errno = EFAULT;
		return true;
	}
	if (host_kernel.count + wanted > host_kernel.limit)
		return refuse();
	return false;
}

void *__wrap_mremap(void *address, size_t size, size_t new_size, int flags, ...)
{
	uint64_t start = (uintptr_t)address, end = start + size;
	struct mapping mapping;
	void *target = NULL, *p;
	va_list args;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(args, flags);
		target = va_arg(args, void *);
		va_end(args);
	}
	host_kernel.calls++;
	if (host_kernel.simulated && mremap_refused(start, end, flags))
		return MAP_FAILED;
	p = __real_mremap(address, size, new_size, flags, target);
	if (!host_kernel.simulated) {
		host_kernel.refused += p == MAP_FAILED && errno == ENOMEM;
		return p;
	}
	if (p == MAP_FAILED)
		return p;
	mapping = list[find(start)];
	mapping.start = (uintptr_t)p;
	mapping.end = mapping.start + new_size;
	mapping.touched = true;
	if (!(flags & MREMAP_DONTUNMAP))
		clear(start, end);
	put(mapping);
	return p;
}

int __wrap_madvise(void *address, size_t size, int advice)
{
	int result;

	host_kernel.calls++;
	if (host_kernel.simulated && !host_kernel.guards &&
	    (advice == GUARD_INSTALL || advice == DONTNEED_LOCKED)) {
		errno = EINVAL;
		return -1;
	}
	if (host_kernel.lock && (advice == GUARD_INSTALL || advice == MADV_DONTNEED)) {
		/* Not mlock(): it would populate, which inaccessible memory refuses. */
		if (mlock2(host_kernel.lock, 1, MLOCK_ONFAULT)) {
			perror("mlock2");
			abort();
		}
		host_kernel.lock = NULL;
	}
	result = __real_madvise(address, size, advice);
	host_kernel.guarded += advice == GUARD_INSTALL && !result;
	return result;
}
