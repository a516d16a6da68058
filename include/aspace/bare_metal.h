/* SPDX-License-Identifier: MIT */
/**
 * @file
 * The library without an operating system beneath it: what a kernel or hypervisor
 * supplies, and what it must call.
 *
 * Built with ASPACE_BARE_METAL, the library needs no libc: locks spin, pages and
 * CPU numbers come from the program, and grace periods are counted from the read
 * sections of each CPU. There is no helper thread. A grace period makes progress
 * whenever a writer asks for one, and in aspace_bare_quiescent(). Writers recycle nodes
 * by themselves; deferred unmaps and the release of user objects run only in
 * aspace_quiesce() and aspace_destroy(), and where aspace_map() or aspace_resize()
 * waits for leaving areas.
 *
 * Where this says CPU, it means whatever runs read sections one at a time but for
 * nesting: a CPU with its interrupt handlers, which may look up too. From the
 * begin of a read section to its end the code must stay on its CPU, and no other
 * may run there but what returns before it goes on (an interrupt handler): a kernel
 * with preemption turns that off around a section. Between two sections code may go to
 * another CPU; what runs on a CPU after something else must see what that did, as a scheduler's
 * lock provides. The first holds for code that
 * updates a space too, from the beginning of the call to its end, and an interrupt
 * handler must not update a space that the code beneath it might be updating.
 */
#ifndef ASPACE_BARE_METAL_H
#define ASPACE_BARE_METAL_H

#include <aspace/status.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ASPACE_BARE_CPUS_MAX
/** CPUs are numbered from 0 to one less than this. Each costs a cache line. */
#define ASPACE_BARE_CPUS_MAX 64
#endif

/* ---- What the program supplies --------------------------------------------- */

/* Beside the functions below: memcpy, memmove, memset and memcmp, with their meanings in
 * C. Compilers emit calls of them, in freestanding code too. */

/** The number of the CPU that calls. Context: called anywhere, often: make it cheap. */
unsigned aspace_bare_cpu(void);

/** Zeroed memory of @p size bytes (a multiple of 4096), aligned to 4096; NULL where
 * there is none. Called under a writer lock, and by aspace_create(). */
void *aspace_bare_pages_alloc(size_t size);

/** Takes back a whole block of aspace_bare_pages_alloc(). */
void aspace_bare_pages_free(void *block, size_t size);

/** Optional: one turn of a loop that waits for another CPU (`yield`, `pause`, or a
 * hypervisor call). The library brings a weak one for its architectures. */
void aspace_bare_relax(void);

/** Optional: milliseconds of a clock that never goes back. The library's weak one
 * stands at 0; waits are then never reported as long. */
uint64_t aspace_bare_now_ms(void);

/* ---- What the library supplies --------------------------------------------- */

/**
 * The calling CPU is going to look up.
 *
 * Not required: its first read section says so by itself, a little slower.
 * Context: not inside a read section or an interrupt handler. O(1).
 */
ASPACE_API void aspace_bare_cpu_online(void);

/**
 * The calling CPU will not look up until it says aspace_bare_cpu_online() or begins
 * a read section: grace periods need not look at it. Worth calling before a CPU is
 * powered down.
 * Context: not inside a read section or an interrupt handler, and its interrupt handlers do
 * not look up meanwhile. O(1).
 */
ASPACE_API void aspace_bare_cpu_offline(void);

/**
 * Turn grace periods over as far as they go.
 *
 * Not required for correctness, since a CPU between two sections is recognised as
 * such; but it makes garbage due earlier. Good places are the idle loop and the
 * timer's tick.
 * Context: anywhere; inside a read section it does nothing. Never waits.
 * O(ASPACE_BARE_CPUS_MAX).
 */
ASPACE_API void aspace_bare_quiescent(void);

#ifdef __cplusplus
}
#endif

#endif
