/* SPDX-License-Identifier: MIT */
/*
 * What bench-beside measures, each a function that sets everything up, takes one figure in
 * seconds, and leaves nothing behind. What goes wrong ends the program.
 */
#ifndef BENCH_BESIDE_MEASURE_H
#define BENCH_BESIDE_MEASURE_H

#include <aspace/aspace.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#define PAGE UINT64_C(4096)

struct sizes {
	unsigned calls;    /* of each thread, to a backend that sleeps */
	uint64_t populate; /* bytes, by all threads together */
	uint64_t purge;    /* bytes */
};

/* sleep.c: until all threads are through with their calls to a backend whose fault, or advise,
 * sleeps for a millisecond; each thread in an area of its own. */
enum sleep { SLEEP_FAULT, SLEEP_FAULT_BESIDE_WRITER, SLEEP_ADVISE };
double sleep_time(unsigned how, unsigned threads, const struct sizes *sizes);

/* populate.c: until as many bytes are populated, by one thread or two; pages of 4 KiB. */
enum populate {
	POPULATE_TOUCH,         /* a store to each page */
	POPULATE_MADVISE_PAGES, /* madvise(MADV_POPULATE_WRITE) of each page */
	POPULATE_FAULT_PAGES,   /* aspace_fault() of each page */
	POPULATE_ADVISE_PAGES,  /* aspace_advise(ASPACE_ADVICE_POPULATE_WRITE) of each page */
	POPULATE_MADVISE,       /* one call for a thread's part */
	POPULATE_ADVISE,        /* the same */
};
double populate_time(unsigned how, unsigned threads, const struct sizes *sizes);

/* purge.c: the longest that a page's map or unmap took while another thread took memory away: of two threads,
 * always. */
enum purge {
	PURGE_MADVISE,  /* madvise(MADV_DONTNEED), beside mmap() */
	PURGE_MUNMAP,   /* munmap(), beside mmap() */
	PURGE_ADVISE,   /* aspace_advise(ASPACE_ADVICE_DROP), beside aspace_map() */
	PURGE_DECOMMIT, /* aspace_protect(ASPACE_HOST_DECOMMITTED) */
	PURGE_UNMAP,    /* aspace_unmap() */
};
double purge_longest(unsigned how, unsigned threads, const struct sizes *sizes);

/* crew.c */
noreturn void fail(const char *what, const char *why);
/* The status must be ASPACE_OK. */
void must(enum aspace_status status, const char *what);
double now(void);
/* How many CPUs this process may run on. */
unsigned cpu_count(void);
/* The time from the first thread's begin to the last one's end; thread i runs on the i-th CPU, if
 * they are to be `pinned`. */
double run_crew(unsigned threads, bool pinned, void (*work)(void *ctx, unsigned thread), void *ctx);

#endif
