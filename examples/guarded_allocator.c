/* SPDX-License-Identifier: MIT */
/*
 * What an allocator does with the host backend: reserve addresses, commit memory as
 * it is needed, put guard pages around it, and find out in a SIGSEGV handler which
 * block a stray pointer belongs to.
 *
 *      guard | committed | reserved, to grow into | guard
 */
#define _POSIX_C_SOURCE 200809L /* sigaction, sigsetjmp */

#include <aspace/aspace.h>
#include <aspace/backend/host.h>

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>

#define UNIT UINT64_C(0x10000) /* a multiple of every page size in use */

struct block {
	const char *name;
	uint64_t start, committed, size; /* without the guards */
};

static struct aspace *space;
static struct aspace_host *host;
static sigjmp_buf recovered;

/* What the handler has found. */
static volatile struct {
	const char *name;
	int64_t offset;
	uint64_t flags;
} stray;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	struct aspace_vaddr address = {(uintptr_t)info->si_addr};
	struct aspace_view view;
	struct aspace_area area;

	(void)signal;
	(void)context;
	/* A section: the block may be followed while it is open, even if another thread
	 * unmaps the area at this moment. */
	aspace_read_begin(space, &view);
	if (aspace_view_find(&view, address, &area) == ASPACE_OK) {
		const struct block *block = area.user;

		stray.name = block->name;
		stray.offset = (int64_t)(address.value - block->start);
		stray.flags = area.flags;
	} else {
		stray.name = NULL;
	}
	aspace_read_end(&view);
	siglongjmp(recovered, 1);
}

static bool block_commit(struct block *block, uint64_t bytes)
{
	if (aspace_protect(space, aspace_range_of(block->start, block->start + bytes),
			   ASPACE_HOST_READ | ASPACE_HOST_WRITE, 0) != ASPACE_OK)
		return false;
	block->committed = bytes;
	return true;
}

/* Each step is one operation; readers may see them one by one. */
static bool block_create(struct block *block, const char *name, uint64_t size)
{
	struct aspace_gap gap = {.size = size + 2 * UNIT};
	struct aspace_vaddr at;

	/* The area carries the block as its user pointer, and so do its pieces. */
	*block = (struct block){.name = name, .size = size};
	if (aspace_map_anywhere(space, &gap, ASPACE_HOST_GUARD, aspace_host_backend(host), block, 0,
				&at) != ASPACE_OK)
		return false;
	block->start = at.value + UNIT;
	return aspace_protect(space, aspace_range_of(block->start, block->start + size),
			      ASPACE_HOST_DECOMMITTED, 0) == ASPACE_OK &&
	       block_commit(block, UNIT);
}

static bool block_destroy(struct block *block)
{
	return aspace_unmap(space,
			    aspace_range_of(block->start - UNIT, block->start + block->size + UNIT),
			    ASPACE_STRICT) == ASPACE_OK;
}

static void tell_stray(void)
{
	if (!stray.name)
		printf("freed memory\n");
	else
		printf("%s of block %s, at offset %lld\n",
		       stray.flags & ASPACE_HOST_GUARD ? "a guard" : "not committed", stray.name,
		       (long long)stray.offset);
}

static void poke(const struct block *block, int64_t offset)
{
	printf("%s%+lld: ", block->name, (long long)offset);
	if (sigsetjmp(recovered, 1)) {
		tell_stray();
	} else {
		*(volatile char *)(uintptr_t)(block->start + (uint64_t)offset) = 1;
		printf("fine\n");
	}
}

int main(void)
{
	struct aspace_host_options window = {.size = sizeof(window), .window = 64 * UNIT};
	struct aspace_options options = {.size = sizeof(options), .granule = UNIT};
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct block a, b;

	if (aspace_host_create(&window, &host) != ASPACE_OK)
		return 1;
	/* The window begins at a page; the first multiple of the granule inside it: */
	options.limits = aspace_host_window(host);
	options.limits.start = aspace_va_align_up(options.limits.start, UNIT);
	options.limits.end = aspace_va_align_down(options.limits.end, UNIT);
	if (aspace_create(&options, &space) != ASPACE_OK)
		return 1;
	aspace_thread_prepare(space); /* so that the handler need not */
	sigaction(SIGSEGV, &action, NULL);

	if (!block_create(&a, "a", 4 * UNIT) || !block_create(&b, "b", 4 * UNIT))
		return 1;
	poke(&a, 0);
	poke(&a, -1);
	poke(&a, (int64_t)UNIT);
	if (!block_commit(&a, 2 * UNIT))
		return 1;
	poke(&a, (int64_t)UNIT);
	poke(&a, (int64_t)(4 * UNIT));
	poke(&a, (int64_t)(5 * UNIT)); /* far out: that is before b */
	if (!block_destroy(&b))
		return 1;
	poke(&b, 0);

	if (!block_destroy(&a) || aspace_destroy(space, 0) != ASPACE_OK)
		return 1;
	aspace_host_destroy(host);
	return 0;
}
