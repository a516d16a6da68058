/* SPDX-License-Identifier: MIT */
/*
 * The longest that one page's map or unmap takes while another thread takes much memory away, of which
 * every page is populated. The page is mapped again and again, at the same place; what takes the memory
 * begins when that has been done some times.
 */
#define _GNU_SOURCE /* madvise() */
#include "bench/beside/measure.h"

#include <aspace/backend/host.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define MAPS_BEFORE 100

struct purge_state {
	struct aspace *space; /* NULL: without the library */
	struct aspace_host *host;
	char *memory, *small;
	uint64_t size;
	unsigned how;
	_Atomic unsigned maps;
	_Atomic bool begun, done;
	double longest;
};

static struct aspace_range range_of(const char *at, uint64_t size)
{
	return aspace_range_of((uintptr_t)at, (uintptr_t)at + size);
}

static void make_areas(struct purge_state *p)
{
	struct aspace_host_options window = {.size = sizeof(window), .window = p->size + 4 * PAGE};
	struct aspace_options options = {.size = sizeof(options), .granule = PAGE};
	struct aspace_range range;

	must(aspace_host_create(&window, &p->host), "a window");
	options.limits = aspace_host_window(p->host);
	must(aspace_create(&options, &p->space), "a space");
	p->memory = (char *)(uintptr_t)options.limits.start.value;
	range = range_of(p->memory, p->size);
	must(aspace_map(p->space, range, ASPACE_HOST_READ | ASPACE_HOST_WRITE,
			aspace_host_backend(p->host), NULL, 0),
	     "map");
	must(aspace_advise(p->space, range, ASPACE_ADVICE_NO_HUGE, 0), "advise");
	must(aspace_advise(p->space, range, ASPACE_ADVICE_POPULATE_WRITE, 0), "populate");
}

static void make_mappings(struct purge_state *p)
{
	p->memory = mmap(NULL, p->size + 4 * PAGE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->memory == MAP_FAILED)
		fail("mmap", strerror(errno));
	if (mprotect(p->memory, p->size, PROT_READ | PROT_WRITE) ||
	    madvise(p->memory, p->size, MADV_NOHUGEPAGE) ||
	    madvise(p->memory, p->size, MADV_POPULATE_WRITE))
		fail("madvise", strerror(errno));
}

static void purge(const struct purge_state *p)
{
	struct aspace_range range = range_of(p->memory, p->size);

	switch (p->how) {
	case PURGE_MADVISE:
		if (madvise(p->memory, p->size, MADV_DONTNEED))
			fail("madvise", strerror(errno));
		break;
	case PURGE_MUNMAP:
		if (munmap(p->memory, p->size))
			fail("munmap", strerror(errno));
		break;
	case PURGE_ADVISE:
		must(aspace_advise(p->space, range, ASPACE_ADVICE_DROP, 0), "drop");
		break;
	case PURGE_DECOMMIT:
		must(aspace_protect(p->space, range, ASPACE_HOST_DECOMMITTED, 0), "decommit");
		break;
	default:
		must(aspace_unmap(p->space, range, 0), "unmap");
		break;
	}
}

static void map_small(const struct purge_state *p)
{
	if (p->space)
		must(aspace_map(p->space, range_of(p->small, PAGE),
				ASPACE_HOST_READ | ASPACE_HOST_WRITE, aspace_host_backend(p->host),
				NULL, 0),
		     "map");
	else if (mmap(p->small, PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail("mmap", strerror(errno));
}

/* As the host does: the addresses stay reserved. */
static void unmap_small(const struct purge_state *p)
{
	if (p->space)
		must(aspace_unmap(p->space, range_of(p->small, PAGE), 0), "unmap");
	else if (mmap(p->small, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		 MAP_FAILED)
		fail("mmap", strerror(errno));
}

/* Whatever was under way when the purge had begun counts: what waits may be the map or the unmap. */
static void time_call(struct purge_state *p, void (*call)(const struct purge_state *))
{
	double begun = now(), took;

	call(p);
	took = now() - begun;
	if (atomic_load(&p->begun) && took > p->longest)
		p->longest = took;
}

static void work(void *ctx, unsigned thread)
{
	struct purge_state *p = ctx;

	if (thread) {
		while (atomic_load(&p->maps) < MAPS_BEFORE)
			;
		atomic_store(&p->begun, true);
		purge(p);
		atomic_store(&p->done, true);
		return;
	}
	while (!atomic_load(&p->done)) {
		time_call(p, map_small);
		time_call(p, unmap_small);
		atomic_fetch_add(&p->maps, 1);
	}
}

double purge_longest(unsigned how, unsigned threads, const struct sizes *sizes)
{
	struct purge_state p = {.how = how, .size = sizes->purge};

	if (how == PURGE_MADVISE || how == PURGE_MUNMAP)
		make_mappings(&p);
	else
		make_areas(&p);
	p.small = p.memory + p.size + 2 * PAGE;
	run_crew(threads, true, work, &p);
	if (p.space) {
		must(aspace_clear(p.space, 0), "clear");
		must(aspace_destroy(p.space, 0), "destroy");
		aspace_host_destroy(p.host);
	} else {
		munmap(p.memory, p.size + 4 * PAGE);
	}
	return p.longest;
}
