/* SPDX-License-Identifier: MIT */
/*
 * What the programs of this directory share: threads, checks that any thread may make,
 * random numbers, and the counting of overlaps.
 *
 * No test sleeps to let something happen and none asserts how long something took.
 * Where two things must overlap, a test goes on until it has seen that they do; CTest's
 * time limit is the only one. Whatever readers and writers tell each other outside the
 * library is relaxed, so that it orders nothing: otherwise ThreadSanitizer would not miss
 * the order that the library has to make.
 */
#ifndef THREADS_CREW_H
#define THREADS_CREW_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <aspace/aspace.h>
#include <aspace/backend/null.h>

#include "../../stress/common/sanitizers.h"

#if SANITIZED_THREAD
#define CREW_SLOW 4
#else
#define CREW_SLOW 1
#endif

/* An operation count: fewer where every access costs ten times as much. */
static inline long scaled(long count)
{
	return count / CREW_SLOW;
}

/* Fails the program from any thread. */
__attribute__((noreturn, format(printf, 3, 4))) static inline void fail_at(const char *file,
									   int line,
									   const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s:%d: ", file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

#define fail(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail("%s", #condition);                                                    \
	} while (0)
#define check_status(call, expected)                                                               \
	do {                                                                                       \
		enum aspace_status status_ = (call);                                               \
		if (status_ != (expected))                                                         \
			fail("%s: %s", #call, aspace_status_string(status_));                      \
	} while (0)
#define check_ok(call) check_status(call, ASPACE_OK)

/* Wait until the condition holds. */
#define until(condition)                                                                           \
	do {                                                                                       \
		while (!(condition))                                                               \
			sched_yield();                                                             \
	} while (0)

#define relaxed_load(word)         atomic_load_explicit(word, memory_order_relaxed)
#define relaxed_store(word, value) atomic_store_explicit(word, value, memory_order_relaxed)
#define relaxed_add(word, value)   atomic_fetch_add_explicit(word, value, memory_order_relaxed)

static inline pthread_t spawn(void *(*entry)(void *), void *arg)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, entry, arg);

	if (error)
		fail("pthread_create: %s", strerror(error));
	return thread;
}

static inline void *join(pthread_t thread)
{
	void *result = NULL;

	check(!pthread_join(thread, &result));
	return result;
}

/* ---- Random numbers -------------------------------------------------------- */

struct dice {
	uint64_t state;
};

/* splitmix64 */
static inline uint64_t roll(struct dice *dice)
{
	uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline uint64_t roll_below(struct dice *dice, uint64_t limit)
{
	return roll(dice) % limit;
}

/* The seed of this run: the first argument, else the clock's. Printed. */
static inline uint64_t seed_from(int argc, char **argv)
{
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = argc > 1 ? strtoull(argv[1], NULL, 0)
			: (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
	printf("seed %#llx (give it as the first argument to run again)\n",
	       (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

/* ---- Overlaps --------------------------------------------------------------
 *
 * A writer counts the updates that it has begun and those that it has ended. A lookup
 * overlapped an update if one was under way as it began, or began before it ended.
 */
struct traffic {
	_Atomic uint64_t begun, ended;
	_Atomic uint64_t overlaps; /* lookups that did */
	_Atomic bool stop;
};

struct glimpse {
	uint64_t begun;
	bool busy;
};

static inline void update_begins(struct traffic *traffic)
{
	relaxed_add(&traffic->begun, 1);
}

static inline void update_ends(struct traffic *traffic)
{
	relaxed_add(&traffic->ended, 1);
}

static inline struct glimpse lookup_begins(struct traffic *traffic)
{
	struct glimpse glimpse = {.begun = relaxed_load(&traffic->begun)};

	glimpse.busy = relaxed_load(&traffic->ended) < glimpse.begun;
	return glimpse;
}

static inline bool lookup_ends(struct traffic *traffic, struct glimpse glimpse)
{
	bool overlap = glimpse.busy || relaxed_load(&traffic->begun) != glimpse.begun;

	if (overlap)
		relaxed_add(&traffic->overlaps, 1);
	return overlap;
}

/* Enough updates, and enough overlaps to say that they met? `done` updates so far. */
static inline bool enough(struct traffic *traffic, long done, long wanted)
{
	return done >= wanted && relaxed_load(&traffic->overlaps) >= 100;
}

static inline void report(const char *what, struct traffic *traffic)
{
	uint64_t overlaps = relaxed_load(&traffic->overlaps);

	printf("%-40s %9llu updates, %9llu lookups overlapped one\n", what,
	       (unsigned long long)relaxed_load(&traffic->ended), (unsigned long long)overlaps);
	fflush(stdout);
	if (!overlaps)
		fail("%s: readers and writers never met: nothing has been tested", what);
}

/* ---- Spaces ---------------------------------------------------------------- */

static inline struct aspace *make_space(const struct aspace_options *options)
{
	struct aspace_options full = {0};
	struct aspace *space = NULL;

	if (options)
		full = *options;
	full.size = sizeof(full);
	check_ok(aspace_create(&full, &space));
	return space;
}

static inline void check_space(struct aspace *space)
{
	struct aspace_violation violation;
	enum aspace_status status = aspace_validate(space, &violation, 0);

	if (status == ASPACE_BAD_STATE)
		fail("invariant %u at %#llx: %s", violation.invariant,
		     (unsigned long long)violation.address.value, violation.what);
	check_ok(status);
}

/* Nothing may be left over. */
static inline void end_space(struct aspace *space)
{
	check_space(space);
	check_ok(aspace_destroy(space, 0));
}

static inline struct aspace_stats stats_of(struct aspace *space)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	check_ok(aspace_stats(space, &stats, 0));
	return stats;
}

#if SANITIZED_THREAD
/* ThreadSanitizer forbids threads in the child of a process that has several. */
const char *__tsan_default_options(void);
#define CREW_FORKS                                                                                 \
	const char *__tsan_default_options(void)                                                   \
	{                                                                                          \
		return "die_after_fork=0";                                                         \
	}
#else
#define CREW_FORKS
#endif

/* clang 14's AddressSanitizer does not hold its allocator's locks over fork: in the child they may
 * stay taken by a thread that is not there. */
#if defined(__SANITIZE_ADDRESS__)
#define FORKS_BESIDE_THREADS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FORKS_BESIDE_THREADS 0
#endif
#endif
#ifndef FORKS_BESIDE_THREADS
#define FORKS_BESIDE_THREADS 1
#endif

/* False, with the reason printed: this run cannot fork beside threads that are busy. */
static inline bool may_fork_beside_threads(void)
{
	if (!FORKS_BESIDE_THREADS)
		printf("skipped: AddressSanitizer's allocator does not survive fork beside "
		       "threads\n");
	else if (getenv("ASPACE_EMULATED"))
		printf("skipped: qemu-user does not survive fork beside busy threads\n");
	else
		return true;
	return false;
}

/* Waits for a forked child, which must have ended well. */
static inline void check_child(pid_t pid)
{
	int status;

	check(pid > 0);
	check(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		fail("the child died of signal %d", WTERMSIG(status));
	check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
