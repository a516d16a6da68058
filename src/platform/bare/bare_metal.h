/* SPDX-License-Identifier: MIT */
/*
 * The bare-metal platform's part of platform.h: read sections, inlined.
 *
 * Each CPU counts the outermost sections that it has begun, and those that it has ended.
 * bare_metal.c says why that is enough for grace periods.
 *
 * Interrupts. A handler runs from its begin to its end between two steps of what it
 * interrupts, and ends every section that it has begun. Where a section is open beneath it, its own
 * are nested, and change neither count; where none is, it advances both by the same. So the steps
 * here need not be one.
 *
 * Invariants, n being a CPU:
 *  1. asp_bare_cpus[n].begun is changed by read-modify-writes only; code on n adds 1, others
 *     add 0.
 *  2. Only code on n changes ended and nested.
 *  3. A section is open on n if and only if begun == ended + 1. Otherwise begun == ended.
 *  4. An interrupt handler leaves nested as it found it.
 *  5. While a section is open on a CPU, the CPU is online.
 */
#ifndef ASPACE_PLATFORM_BARE_METAL_H
#define ASPACE_PLATFORM_BARE_METAL_H

#include <aspace/bare_metal.h>

/* A line each, so that readers write to nobody else's. */
struct asp_bare_cpu {
	/* The poller's addition of 0 releases, the CPU's of 1 acquires. What lies between them
	 * must be read-modify-writes, too: a store would end the release sequence. */
	_Alignas(64) _Atomic uint64_t begun;
	/* Stored with release by the CPU, read with acquire by the poller. */
	_Atomic uint64_t ended;
	/* Sections inside an open one. Relaxed: nobody else looks. */
	_Atomic uint32_t nested;
	_Atomic bool online;
	unsigned writer_locks, releases; /* the CPU's own: see asp_writer_locks() */
	struct asp_hook *hooks;
	/* The grace period in progress waits until so many sections have ended. The poller's. */
	uint64_t awaited;
};

extern struct asp_bare_cpu asp_bare_cpus[ASPACE_BARE_CPUS_MAX];

static inline unsigned *asp_writer_locks(void)
{
	return &asp_bare_cpus[aspace_bare_cpu()].writer_locks;
}

static inline unsigned *asp_in_release(void)
{
	return &asp_bare_cpus[aspace_bare_cpu()].releases;
}

static inline struct asp_hook **asp_hooks(void)
{
	return &asp_bare_cpus[aspace_bare_cpu()].hooks;
}

static inline int asp_cancel_off(void)
{
	return 0;
}

static inline void asp_cancel_restore(int old)
{
	(void)old;
}

/* On the CPU itself. */
static inline bool asp_bare_is_open(const struct asp_bare_cpu *cpu)
{
	uint64_t begun = atomic_load_explicit(&cpu->begun, memory_order_relaxed);

	/* For the compiler; between a CPU and its own handlers there is nothing else to order.
	 * A handler that comes in between advances what is read second: that is no 1. In the
	 * other order it would be. */
	atomic_signal_fence(memory_order_acquire);
	return begun - atomic_load_explicit(&cpu->ended, memory_order_relaxed) == 1;
}

static inline void asp_read_lock(struct asp_grace *grace)
{
	struct asp_bare_cpu *cpu = &asp_bare_cpus[aspace_bare_cpu()];

	(void)grace;
	if (asp_bare_is_open(cpu)) {
		uint32_t nested = atomic_load_explicit(&cpu->nested, memory_order_relaxed);

		atomic_store_explicit(&cpu->nested, nested + 1, memory_order_relaxed);
		return;
	}
	if (__builtin_expect(!atomic_load_explicit(&cpu->online, memory_order_relaxed), 0))
		aspace_bare_cpu_online();
	/*
	 * A read-modify-write, to have a place in one order with the poller's. Acquire:
	 * if the poller's was first, we see what was removed before it. Not release: if
	 * ours was first, the poller wants nothing of us but the number.
	 */
	atomic_fetch_add_explicit(&cpu->begun, 1, memory_order_acquire);
}

static inline bool asp_in_section_of_fork(void)
{
	return false;
}

static inline void asp_read_unlock(struct asp_grace *grace)
{
	struct asp_bare_cpu *cpu = &asp_bare_cpus[aspace_bare_cpu()];
	uint32_t nested = atomic_load_explicit(&cpu->nested, memory_order_relaxed);

	(void)grace;
	if (nested) {
		atomic_store_explicit(&cpu->nested, nested - 1, memory_order_relaxed);
		return;
	}
	/* Release pairs with the poller's load: what the section read happens before what comes
	 * after the grace period. A store will do: the word is ours, and no handler changes it
	 * while a section is open. */
	atomic_store_explicit(&cpu->ended,
			      atomic_load_explicit(&cpu->ended, memory_order_relaxed) + 1,
			      memory_order_release);
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
