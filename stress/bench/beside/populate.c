/* SPDX-License-Identifier: MIT */
/*
 * Host memory populated page by page, through the library and by the kernel's own ways. The
 * same layout each time: two stretches of pages of 4 KiB, in a reservation, with a page between. One
 * thread populates both, or two one each.
 */
#define _GNU_SOURCE /* madvise() */
#include "bench/beside/measure.h"

#include <aspace/backend/host.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PARTS 2

struct memory {
	struct aspace *space; /* NULL: without the library */
	struct aspace_host *host;
	char *part[PARTS];
	uint64_t size; /* of one */
	unsigned how, threads;
};

static bool by_library(unsigned how)
{
	return how == POPULATE_FAULT_PAGES || how == POPULATE_ADVISE_PAGES ||
	       how == POPULATE_ADVISE;
}

static struct aspace_range range_of(const char *at, uint64_t size)
{
	return aspace_range_of((uintptr_t)at, (uintptr_t)at + size);
}

static void make_areas(struct memory *m)
{
	struct aspace_host_options window = {.size = sizeof(window),
					     .window = PARTS * (m->size + PAGE)};
	struct aspace_options options = {.size = sizeof(options), .granule = PAGE};

	must(aspace_host_create(&window, &m->host), "a window");
	options.limits = aspace_host_window(m->host);
	must(aspace_create(&options, &m->space), "a space");
	for (unsigned i = 0; i < PARTS; i++) {
		m->part[i] = (char *)(uintptr_t)options.limits.start.value + i * (m->size + PAGE);
		must(aspace_map(m->space, range_of(m->part[i], m->size),
				ASPACE_HOST_READ | ASPACE_HOST_WRITE, aspace_host_backend(m->host),
				NULL, 0),
		     "map");
		must(aspace_advise(m->space, range_of(m->part[i], m->size), ASPACE_ADVICE_NO_HUGE,
				   0),
		     "advise");
	}
}

static void make_mappings(struct memory *m)
{
	char *start = mmap(NULL, PARTS * (m->size + PAGE), PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED)
		fail("mmap", strerror(errno));
	for (unsigned i = 0; i < PARTS; i++) {
		m->part[i] = start + i * (m->size + PAGE);
		if (mprotect(m->part[i], m->size, PROT_READ | PROT_WRITE) ||
		    madvise(m->part[i], m->size, MADV_NOHUGEPAGE))
			fail("mprotect", strerror(errno));
	}
}

static void advise_kernel(char *at, uint64_t size)
{
	if (madvise(at, size, MADV_POPULATE_WRITE))
		fail("madvise(MADV_POPULATE_WRITE)", strerror(errno));
}

static void populate_page(const struct memory *m, char *page)
{
	switch (m->how) {
	case POPULATE_TOUCH:
		*(volatile char *)page = 1;
		break;
	case POPULATE_MADVISE_PAGES:
		advise_kernel(page, PAGE);
		break;
	case POPULATE_FAULT_PAGES:
		must(aspace_fault(m->space, aspace_va((uintptr_t)page), ASPACE_ACCESS_WRITE, 0),
		     "fault");
		break;
	default:
		must(aspace_advise(m->space, range_of(page, PAGE), ASPACE_ADVICE_POPULATE_WRITE, 0),
		     "advise");
		break;
	}
}

static void populate_part(const struct memory *m, char *part)
{
	if (m->how == POPULATE_MADVISE) {
		advise_kernel(part, m->size);
	} else if (m->how == POPULATE_ADVISE) {
		must(aspace_advise(m->space, range_of(part, m->size), ASPACE_ADVICE_POPULATE_WRITE,
				   0),
		     "advise");
	} else {
		for (uint64_t at = 0; at < m->size; at += PAGE)
			populate_page(m, part + at);
	}
}

static void populate(void *ctx, unsigned thread)
{
	const struct memory *m = ctx;

	for (unsigned i = thread; i < PARTS; i += m->threads)
		populate_part(m, m->part[i]);
}

/* Is all of it there? */
static void check(const struct memory *m)
{
	static unsigned char there[1 << 20];
	uint64_t pages = m->size / PAGE;

	for (unsigned i = 0; i < PARTS; i++) {
		if (pages > sizeof(there) || mincore(m->part[i], m->size, there))
			fail("mincore", strerror(errno));
		for (uint64_t n = 0; n < pages; n++) {
			if (!(there[n] & 1))
				fail("populating", "a page is not there");
		}
	}
}

double populate_time(unsigned how, unsigned threads, const struct sizes *sizes)
{
	struct memory m = {.how = how, .threads = threads, .size = sizes->populate / PARTS};
	double time;

	if (by_library(how))
		make_areas(&m);
	else
		make_mappings(&m);
	time = run_crew(threads, true, populate, &m);
	check(&m);
	if (m.space) {
		must(aspace_clear(m.space, 0), "clear");
		must(aspace_destroy(m.space, 0), "destroy");
		aspace_host_destroy(m.host);
	} else {
		munmap(m.part[0], PARTS * (m.size + PAGE));
	}
	return time;
}
