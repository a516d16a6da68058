/* SPDX-License-Identifier: MIT */
/*
 * Demand paging: an area is a part of a file, whose pages are read when somebody touches them.
 *
 * The SIGSEGV handler asks the space, which calls `fault` of the backend with no lock held: pages are
 * read side by side, beside writers; who comes when one is there already finds it so. Advice takes them
 * away again. In a grace-unmap space nothing goes that a reader may still look at.
 */
#define _GNU_SOURCE /* mremap */
#include <aspace/aspace.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 64, THREADS = 4 };

static struct aspace *space;
static size_t page_size;

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void *at(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/* ---- The backend ------------------------------------------------------------ */

struct pager {
	struct aspace_backend backend;
	int fd;
	uint64_t base;     /* of the area; the file's first page lies there */
	bool there[PAGES]; /* changed by who is alone in the page */
	atomic_uint reads;
};

static bool *there(struct pager *pager, uint64_t address)
{
	return &pager->there[(address - pager->base) / page_size];
}

/* Nothing is there, and all access traps. */
static enum aspace_status empty(struct pager *pager, struct aspace_range range)
{
	size_t size = range.end.value - range.start.value;
	int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	if (mmap(at(range.start.value), size, PROT_NONE, how, -1, 0) == MAP_FAILED)
		return ASPACE_NO_MEMORY;
	memset(there(pager, range.start.value), 0, size / page_size);
	return ASPACE_OK;
}

static enum aspace_status pager_empty(struct aspace_backend *backend,
				      const struct aspace_change *change)
{
	return empty((struct pager *)backend, change->range);
}

static enum aspace_status pager_protect(struct aspace_backend *backend,
					const struct aspace_change *change)
{
	(void)backend, (void)change;
	return ASPACE_NOT_SUPPORTED;
}

/* One thread at a time in a page, and no writer changes it. The page is filled elsewhere, and then
 * moved to its place, so that nobody sees half of it. (All calls are system calls: this runs in a
 * signal handler.) */
static enum aspace_status pager_fault(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_vaddr address,
				      unsigned access)
{
	struct pager *pager = (struct pager *)backend;
	uint64_t place = address.value & ~(uint64_t)(page_size - 1);
	void *page;

	(void)area;
	if (access != ASPACE_ACCESS_READ)
		return ASPACE_ACCESS_DENIED;
	if (*there(pager, place)) /* another thread was first */
		return ASPACE_OK;
	page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return ASPACE_NO_MEMORY;
	if (pread(pager->fd, page, page_size, (off_t)(place - pager->base)) != (ssize_t)page_size ||
	    mprotect(page, page_size, PROT_READ) ||
	    mremap(page, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, at(place)) ==
		    MAP_FAILED) {
		munmap(page, page_size);
		return ASPACE_NO_MEMORY;
	}
	*there(pager, place) = true;
	atomic_fetch_add(&pager->reads, 1);
	return ASPACE_OK;
}

static uint64_t pager_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend, (void)area;
	return page_size;
}

/* Alone in the range, and beside everything elsewhere. */
static enum aspace_status pager_advise(struct aspace_backend *backend,
				       const struct aspace_area *area, struct aspace_range range,
				       enum aspace_advice advice, struct aspace_vaddr *reached)
{
	(void)area, (void)reached;
	return advice == ASPACE_ADVICE_DROP ? empty((struct pager *)backend, range)
					    : ASPACE_NOT_SUPPORTED;
}

static const struct aspace_backend_ops pager_ops = {
	.size = sizeof(pager_ops),
	.map = pager_empty,
	.unmap = pager_empty,
	.protect = pager_protect,
	.fault = pager_fault,
	.fault_span = pager_span,
	.advise = pager_advise,
};

/* ---- The program ------------------------------------------------------------ */

static void on_fault(int signal, siginfo_t *info, void *context)
{
	uint64_t address = (uintptr_t)info->si_addr;

	(void)signal, (void)context;
	if (aspace_fault(space, aspace_va(address), ASPACE_ACCESS_READ, 0) != ASPACE_OK)
		_exit(2); /* a real one */
}

/* Each begins somewhere else. */
static void *touch(void *first)
{
	const unsigned char *memory = at(aspace_limits(space).start.value);
	size_t begin = (size_t)(uintptr_t)first * PAGES / THREADS;

	for (size_t i = 0; i < PAGES; i++) {
		size_t page = (begin + i) % PAGES;

		must(memory[page * page_size + 7] == page + 1, "another page");
	}
	return NULL;
}

static void touch_all(const char *when, struct pager *pager)
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		must(!pthread_create(&threads[i], NULL, touch, (void *)i), "a thread");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("%s: %u pages read by %d threads\n", when, atomic_exchange(&pager->reads, 0),
	       THREADS);
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct pager pager = {.backend = {.ops = &pager_ops, .flags_mask = 1}};
	struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_GRACE_UNMAP};
	FILE *file = tmpfile();
	struct aspace_range range;
	unsigned char *bytes;
	void *memory;

	page_size = (size_t)sysconf(_SC_PAGESIZE);
	bytes = malloc(page_size);
	must(file && bytes, "a file");
	for (int page = 0; page < PAGES; page++) {
		memset(bytes, page + 1, page_size);
		must(fwrite(bytes, page_size, 1, file) == 1, "a file");
	}
	free(bytes);
	must(!fflush(file), "a file");

	memory = mmap(NULL, PAGES * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(memory != MAP_FAILED, "addresses");
	range = aspace_range_of((uintptr_t)memory, (uintptr_t)memory + PAGES * page_size);
	pager.fd = fileno(file);
	pager.base = range.start.value;
	pager.backend.granule = options.granule = page_size;
	options.limits = range;
	must(aspace_create(&options, &space) == ASPACE_OK, "a space");
	aspace_thread_prepare(space);
	must(!sigaction(SIGSEGV, &action, NULL), "a handler");
	must(aspace_map(space, range, 1, &pager.backend, NULL, 0) == ASPACE_OK, "an area");

	touch_all("at first", &pager);
	touch_all("again", &pager);
	range.end.value = range.start.value + PAGES / 4 * page_size;
	must(aspace_advise(space, range, ASPACE_ADVICE_DROP, 0) == ASPACE_OK, "advice");
	touch_all("a quarter was dropped", &pager);

	must(aspace_destroy(space, 0) == ASPACE_OK, "the end");
	fclose(file);
	return 0;
}
