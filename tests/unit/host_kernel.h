/* SPDX-License-Identifier: MIT */
/*
 * A kernel with a limit on mappings of the test's own choice, in front of the real one.
 *
 * The linker puts host_kernel.c in place of mmap, munmap, mprotect, mremap and madvise, for the
 * library and for the test alike. It keeps the mappings that these make (what was there
 * before does not count), refuses what Linux refuses for its limit, and passes the rest on, so
 * that contents and protections are real. Where Linux has a choice it takes the worse one:
 * no cut is spared by moving the border of two mappings, and only what was never
 * touched becomes one mapping with its neighbours.
 *
 * The rules are those of mm/mmap.c, mm/vma.c, mm/mprotect.c and mm/mremap.c (6.18): a cut is
 * refused at the limit, mmap above it, mremap from six below.
 */
#ifndef TESTS_UNIT_HOST_KERNEL_H
#define TESTS_UNIT_HOST_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct host_kernel {
	bool simulated; /* else all calls are only passed on, and refusals counted */
	bool guards;    /* has MADV_GUARD_INSTALL, and what is older: MADV_DONTNEED_LOCKED */
	bool no_mmap;   /* refuses all of them, as where RLIMIT_AS has been lowered */
	unsigned
		holes; /* so many mmaps unmap what is there and are then refused: before Linux 6.12 */
	void *lock;    /* not NULL: a page that somebody locks just before contents are dropped */
	uint64_t below; /* not 0: where the kernel places mappings, downward */
	size_t limit;
	size_t count;     /* of mappings */
	unsigned refused; /* calls, for the limit */
	unsigned guarded; /* ranges by MADV_GUARD_INSTALL */
	unsigned calls;
};

extern struct host_kernel host_kernel;

/* Forget all mappings, and simulate or not. */
void host_kernel_begin(bool simulated, bool guards, size_t limit);
/* Somebody writes to a range: its mappings will not become one with others. */
void host_kernel_touch(uint64_t start, uint64_t end);
/* Mappings that meet a range. */
size_t host_kernel_mappings(uint64_t start, uint64_t end);

#endif
