/* SPDX-License-Identifier: MIT */
/*
 * The bare-metal platform's part of platform.h: read sections, inlined.
 *
 * Each CPU has a word that only it changes: how many sections are open there, and
 * how many outermost ones have begun. bare_metal.c says why that is enough.
 *
 * Invariants:
 *  1. Only code on CPU n changes the value of asp_bare_cpus[n].sections. Others only
 *     add 0 to it.
 *  2. An interrupt handler leaves its low half, the nesting, as it found it.
 *  3. While a section is open on a CPU, the CPU is online.
 */
#ifndef ASPACE_PLATFORM_BARE_METAL_H
#define ASPACE_PLATFORM_BARE_METAL_H

#include <aspace/bare_metal.h>

#define ASP_BARE_NESTING UINT64_C(0xffffffff)   /* how many sections are open */
#define ASP_BARE_SECTION (ASP_BARE_NESTING + 1) /* one more has begun */

/* A line each, so that readers write to nobody else's. */
struct asp_bare_cpu {
	_Alignas(64) _Atomic uint64_t sections;
	_Atomic bool online;
	unsigned writer_locks; /* the CPU's own: see asp_writer_locks() */
	/* The value of sections at which the grace period in progress found the CPU in
	 * a section; 0: it does not wait for this CPU. The poller's. */
	uint64_t awaited;
};

extern struct asp_bare_cpu asp_bare_cpus[ASPACE_BARE_CPUS_MAX];

static inline unsigned *asp_writer_locks(void)
{
	return &asp_bare_cpus[aspace_bare_cpu()].writer_locks;
}

static inline void asp_read_lock(struct asp_grace *grace)
{
	struct asp_bare_cpu *cpu = &asp_bare_cpus[aspace_bare_cpu()];
	uint64_t sections = atomic_load_explicit(&cpu->sections, memory_order_relaxed);

	(void)grace;
	/* An interrupt between a load and a store here changes only the upper half, and
	 * that only where we begin an outermost section: there it is no store. Release,
	 * because the poller may read this value and conclude that an earlier section
	 * has ended. */
	if (sections & ASP_BARE_NESTING) {
		atomic_store_explicit(&cpu->sections, sections + 1, memory_order_release);
		return;
	}
	if (__builtin_expect(!atomic_load_explicit(&cpu->online, memory_order_relaxed), 0))
		aspace_bare_cpu_online();
	/*
	 * A read-modify-write, to have a place in one order with the poller's. Acquire:
	 * if the poller's was first, we see what was removed before it. Release: if
	 * the poller's comes after, it sees that our earlier sections have ended.
	 */
	atomic_fetch_add_explicit(&cpu->sections, ASP_BARE_SECTION + 1, memory_order_acq_rel);
}

static inline void asp_read_unlock(struct asp_grace *grace)
{
	struct asp_bare_cpu *cpu = &asp_bare_cpus[aspace_bare_cpu()];
	uint64_t sections = atomic_load_explicit(&cpu->sections, memory_order_relaxed);

	(void)grace;
	/* Release pairs with the poller's addition of 0. A store will do: the word is
	 * ours, and what the poller adds is 0. */
	atomic_store_explicit(&cpu->sections, sections - 1, memory_order_release);
}

/* See hosted.h. Here every section may be begun inline. */
static inline bool asp_read_is_inlined(const struct asp_grace *grace)
{
	(void)grace;
	return true;
}

static inline bool asp_read_lock_inlined(struct asp_grace *grace)
{
	asp_read_lock(grace);
	return true;
}

static inline void asp_read_unlock_inlined(struct asp_grace *grace)
{
	asp_read_unlock(grace);
}

#endif
