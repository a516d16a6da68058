/* SPDX-License-Identifier: MIT */
/*
 * Hosted pages: anonymous mappings, and what ASan and valgrind are told of them.
 *
 * Invariants:
 *  1. No page comes or goes poisoned: the next owner of the addresses, who may
 *     never have heard of this library, finds them usable.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/platform.h"

#include <errno.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define ASP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASP_ASAN 1
#endif
#endif

#ifdef ASP_ASAN
/* Declared here because <sanitizer/asan_interface.h> belongs to one compiler. */
void __asan_poison_memory_region(void const volatile *addr, size_t size);
void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#elif defined(__has_include) && !defined(NVALGRIND) && !defined(ASP_TSAN)
/* Client requests are a few instructions without effect outside valgrind. */
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define ASP_VALGRIND 1
#endif
#endif

/* What x86-64 and AArch64 with 4 KiB pages can map at once. */
#define HUGE_PAGE ((size_t)2 << 20)

/* Small blocks will be used in full, and a page fault costs more than the page: all of them
 * are had at once. */
#define POPULATE_MAX ((size_t)1 << 20)

static char *map_pages(size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (size <= POPULATE_MAX ? MAP_POPULATE : 0);
	void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

	return block == MAP_FAILED ? NULL : block;
}

/* A large block begins on a huge page, and the kernel is asked to use some: a lookup in a
 * large tree misses the TLB at every level otherwise. Where the alignment cannot be had, any
 * place will do. */
static char *map_huge_pages(size_t size)
{
	char *block = map_pages(size + HUGE_PAGE);
	size_t before;

	if (!block)
		return map_pages(size);
	before = -(uintptr_t)block & (HUGE_PAGE - 1);
	if (before)
		munmap(block, before);
	block += before;
	munmap(block + size, HUGE_PAGE - before);
	madvise(block, size, MADV_HUGEPAGE);
	return block;
}

void *asp_pages_alloc(void *ctx, size_t size)
{
	int saved = errno;
	void *block;

	(void)ctx;
	block = size < HUGE_PAGE ? map_pages(size) : map_huge_pages(size);
	errno = saved;
	return block;
}

void asp_pages_free(void *ctx, void *block, size_t size)
{
	int saved = errno;

	(void)ctx;
	asp_unpoison(block, size);
	/* The kernel coalesces neighbouring mappings, so that even this can split one
	 * and hit the limit on their number. The addresses are lost then; the memory
	 * need not be. */
	if (munmap(block, size))
		madvise(block, size, MADV_DONTNEED);
	errno = saved;
}

/* Relaxed: every thread that stores here stores the same. */
_Atomic bool asp_watched;

void asp_watch(void)
{
#if defined(ASP_ASAN)
	atomic_store_explicit(&asp_watched, true, memory_order_relaxed);
#elif defined(ASP_VALGRIND)
	atomic_store_explicit(&asp_watched, RUNNING_ON_VALGRIND != 0, memory_order_relaxed);
#endif
}

void asp_mark(void *block, size_t size, bool usable)
{
#if defined(ASP_ASAN)
	if (usable)
		__asan_unpoison_memory_region(block, size);
	else
		__asan_poison_memory_region(block, size);
#elif defined(ASP_VALGRIND)
	if (usable) {
		VALGRIND_MAKE_MEM_UNDEFINED(block, size);
		/* The first word of a free object is the pool's link, and about to be read. */
		VALGRIND_MAKE_MEM_DEFINED(block, size < sizeof(void *) ? size : sizeof(void *));
	} else {
		VALGRIND_MAKE_MEM_NOACCESS(block, size);
	}
#else
	(void)block;
	(void)size;
	(void)usable;
#endif
}
