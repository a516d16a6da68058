/* SPDX-License-Identifier: MIT */
/*
 * Releases that have come due, on their way to the program: a ring.
 *
 * Who holds the writer lock hands them over; one thread at a time, the *runner*, calls them with
 * no lock held: the flavour's helper, or whoever is in aspace_quiesce. From the ring on nothing
 * that writers do delays a release.
 *
 * Invariants:
 *  1. returned <= begun <= in <= returned + ASP_CALLS (modulo 2^32).
 *  2. Only who holds the writer lock advances `in`, and writes to the entries from `in` on; only
 *     the runner advances `begun` and `returned`, and reads the entries below `in`.
 *  3. Whoever advances `in` asks for the helper afterwards, or runs the ring itself. So does a
 *     runner that leaves something.
 *  4. `clogged` is set under the writer lock by who has left something due behind for want of
 *     room, and taken away by a runner when half of the ring is free, or by who finds that it is.
 *     The runner then wakes those who wait for room, and asks for the helper.
 */
#ifndef ASPACE_RECLAIM_CALLS_H
#define ASPACE_RECLAIM_CALLS_H

#include "space/space.h"

/* Under the writer lock. */
static inline uint32_t asp_calls_room(struct asp_calls *calls)
{
	/* Acquire: the runner has read the entries that may be written to now. */
	return ASP_CALLS - (atomic_load_explicit(&calls->in, memory_order_relaxed) -
			    atomic_load_explicit(&calls->returned.value, memory_order_acquire));
}

/* How many have been handed over and have not returned. */
static inline uint32_t asp_calls_pending(struct asp_calls *calls)
{
	/* In this order: `in` is not below what has returned. */
	uint32_t returned = atomic_load_explicit(&calls->returned.value, memory_order_acquire);

	return atomic_load_explicit(&calls->in, memory_order_acquire) - returned;
}

/* Have all returned that had been handed over when `in` was `target`? */
static inline bool asp_calls_returned(struct asp_calls *calls, uint32_t target)
{
	uint32_t returned = atomic_load_explicit(&calls->returned.value, memory_order_acquire);

	return (int32_t)(returned - target) >= 0;
}

/* Is something left behind for want of room? Relaxed: who must not miss it looks again. */
static inline bool asp_calls_clogged(struct asp_calls *calls)
{
	return atomic_load_explicit(&calls->clogged, memory_order_relaxed);
}

/* Under the writer lock, where there is room. The caller asks for the helper. */
void asp_calls_put(struct asp_calls *calls, struct aspace_backend *backend, void *user);
/* Under the writer lock: something is due, and there is no room. False if there is, now. */
bool asp_calls_clog(struct asp_calls *calls);
/* Call what is there, at most `most`; no lock held. Not if another thread is at it. False if
 * something is left that nobody else will run. */
bool asp_calls_run(struct aspace *space, uint32_t most);
/* Is the calling thread in a release of this space? */
static inline bool asp_calls_is_runner(struct asp_calls *calls)
{
	return atomic_load_explicit(&calls->runner, memory_order_relaxed) == asp_thread_self();
}
/* Must who would update the space, which is clogged, wait for room first? */
bool asp_calls_block(struct aspace *space);
/* Wait for room; or until no call has returned for stall_ms, or the hook has made the thread one
 * that others may wait for: then false. No lock held. */
bool asp_calls_await_room(struct aspace *space);
/* Until `in` was `target` and all of them have returned; as above, but for the time. */
bool asp_calls_await(struct aspace *space, uint32_t target);
/* In a forked child, whose parent had another thread in a release. */
void asp_calls_after_fork(struct asp_calls *calls);

#endif
