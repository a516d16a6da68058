/* SPDX-License-Identifier: MIT */
/**
 * @file
 * A backend over the process's own memory: mmap, mprotect, munmap in a window.
 *
 * A host reserves a *window* of real addresses; the areas of a space whose
 * limits are the window are real mappings at those addresses. The backend never
 * touches memory outside of its window: a change that reaches out is refused
 * with ::ASPACE_INVALID_PARAM.
 *
 * What the window's addresses are, as the kernel shows them:
 *  - free: anonymous private memory without access (PROT_NONE), which holds nothing;
 *  - an area: anonymous private memory with the protection that its flags
 *    say, not charged against overcommit (MAP_NORESERVE). The kernel may show one area
 *    as several neighbouring mappings, and neighbouring areas as one.
 * /proc/self/maps does not tell free addresses from inaccessible areas. /proc/self/smaps does: among
 * the VmFlags of areas is "nr" (unless vm.overcommit_memory is 2).
 *
 * No address of the window is ever unmapped in between, so no other thread's
 * mmap can take one. A host holds no file descriptor: a program may close all that there are.
 *
 * All of enum aspace_advice is madvise(). What this kernel does not know, or refuses for what the memory
 * is (locked, sealed), is ::ASPACE_NOT_SUPPORTED; EAGAIN, ENOMEM and their like are
 * ::ASPACE_NO_MEMORY. What goes over the pages is done, or refused, 16 MiB after 16 MiB. What
 * is noted with the mapping (huge, dump, merge, fork, random and their opposites) takes up to two
 * mappings more, moves with the contents, and lasts until the memory is unmapped or replaced (huge:
 * also until ::ASPACE_HOST_HUGEPAGE changes).
 *
 * Each host serves one space: its calls must not run at once, but for faults and advice. Several hosts do
 * not disturb each other. After aspace_host_create() nothing calls malloc. errno
 * is preserved by every call.
 *
 * The kernel's limit on mappings (vm.max_map_count, 65,530 unless changed) is
 * the process's, and alternating areas take two each. At the limit, calls that need a mapping
 * more are refused with ::ASPACE_NO_MEMORY and nothing has changed. Giving back is not: whole
 * areas can be unmapped, a space cleared and destroyed, whatever was done before.
 * (Two exceptions, both for want of MADV_GUARD_INSTALL, on Linux before 6.13 or in memory that
 * mlock() has locked: a whole area between two that share its kernel mapping needs two mappings, which
 * are kept back for some of them only; and what other code takes during the very call.) Until room
 * has been made, the kernel may show such free addresses as what the area was; they are
 * inaccessible and empty all the same. To give back, and to take operations back, each host
 * holds some dozens of mappings in reserve, the *ballast*: see aspace_host_ballast().
 */
#ifndef ASPACE_BACKEND_HOST_H
#define ASPACE_BACKEND_HOST_H

#include <aspace/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A window of real memory with its backend. */
struct aspace_host;

/** Flags of the host backend's areas. None: reserved, inaccessible (PROT_NONE), contents kept. */
enum aspace_host_flag {
	ASPACE_HOST_READ = 1,
	ASPACE_HOST_WRITE = 2,
	ASPACE_HOST_EXECUTE = 4,
	/** Inaccessible for good, and says so: as no bits, but equal only to other guards.
	 * Not together with READ, WRITE, EXECUTE or DECOMMITTED. */
	ASPACE_HOST_GUARD = 8,
	/** Inaccessible and without memory: changing an area to it drops its contents
	 * when the operation is over (at `flush`, so that an undo still finds them);
	 * changing from it gives zeroes. Not together with READ, WRITE, EXECUTE, GUARD. A
	 * transaction is one change of each area, from what it was to what it is in the end: there
	 * and back again keeps the contents. The dropping is done under the writer lock: much is
	 * better dropped by ::ASPACE_ADVICE_DROP first, which holds nobody up. */
	ASPACE_HOST_DECOMMITTED = 16,
	/** Advice to use huge pages; never makes a call fail. Taking it away from an area
	 * advises against huge pages. */
	ASPACE_HOST_HUGEPAGE = 32
};

/** What free addresses of a window were called in /proc/self/maps when they were a file's. For
 * programs written then; see aspace_host_marks_free(). */
#define ASPACE_HOST_RESERVATION_NAME "/memfd:aspace-window"

/** Options of aspace_host_create(). Zero means the default, but @ref window is needed. A
 * shorter structure, of an older version, is accepted, and a longer one whose rest is zero. */
struct aspace_host_options {
	/** sizeof(struct aspace_host_options); required. */
	size_t size;
	/** Bytes of the window, a multiple of the page size; required. Addresses only: a
	 * window of terabytes costs nothing. */
	uint64_t window;
	/** Where the window is to be; 0: where the kernel likes. */
	struct aspace_vaddr address;
	/** Ignored: all windows are anonymous memory. For programs written when it was an option. */
	bool anonymous;
};

/**
 * Reserve a window.
 *
 * Errors: ASPACE_INVALID_PARAM (size, alignment, an address that user space
 * cannot have), ASPACE_ALREADY_EXISTS (something is mapped at the address),
 * ASPACE_NO_MEMORY (address space, mapping limit, the limit on locked memory under
 * mlockall(MCL_FUTURE)).
 * Context: may block; not from a signal handler.
 * Ownership: the caller's, until aspace_host_destroy(). @p *out is not touched on failure.
 * O(1): some dozens of system calls, whatever the size.
 */
ASPACE_API enum aspace_status aspace_host_create(const struct aspace_host_options *options,
						 struct aspace_host **out);

/**
 * Unmap the window, whatever it still holds, and free all. NULL is allowed.
 *
 * Works at the mapping limit: for this the host keeps back four mappings that it uses for nothing
 * else. Context: may block; not from a signal handler or a callback; no space may show an area
 * of the host. Afterwards /proc/self/maps is as if
 * the host had never been. O(mappings in the window).
 */
ASPACE_API void aspace_host_destroy(struct aspace_host *host);

/** The backend, to be given to aspace_map(). Ownership: the host's. Context: anywhere.
 * O(1). */
ASPACE_API struct aspace_backend *aspace_host_backend(struct aspace_host *host);

/** The window: the limits for the space. Context: anywhere. O(1). */
ASPACE_API struct aspace_range aspace_host_window(const struct aspace_host *host);

/** Always -1: a host holds no file descriptor. For programs written when it did. Context:
 * anywhere. O(1). */
ASPACE_API int aspace_host_fd(const struct aspace_host *host);

/** Do free addresses show as ::ASPACE_HOST_RESERVATION_NAME in /proc/self/maps? Always false, for
 * programs written when they did: see /proc/self/smaps. Context: anywhere. O(1). */
ASPACE_API bool aspace_host_marks_free(const struct aspace_host *host);

/** PROT_READ and so on, as <sys/mman.h> has them, of an area with @p flags. Context: anywhere.
 * O(1). */
ASPACE_API int aspace_host_protection(uint64_t flags);

/** The ballast of a host; see aspace_host_ballast(). */
struct aspace_host_ballast {
	/** Mappings held in reserve now. */
	unsigned held;
	/** Mappings held when nothing is wrong. */
	unsigned full;
	/** How many changes met the limit and had of it. */
	uint64_t given_up;
};

/**
 * How is the ballast?
 *
 * Rules. It is filled up when an operation begins and when it ends, as far as the limit allows;
 * no operation is refused because it is not full. Who may have of it:
 *  - an unmap that at the limit cuts an area in two, and would need mappings: down to a third;
 *  - an unmap of a whole area, or next to free addresses: all, for the time of the call;
 *  - an undo that meets the limit: all, for the time of the operation;
 *  - an operation with several changes that lose contents: what these may need is taken on top of
 *    what there is before the first is made (for unmaps that cut: on top of a third), or
 *    the answer is ASPACE_NO_MEMORY, so that none is refused after another has been made.
 * Other code of the process that takes mappings during such a call can keep the host from having it
 * back. Then other operations than unmaps are ASPACE_NO_MEMORY while less than eight are held.
 * Context: reader-safe; not from a signal handler or a callback, and not beside a call of
 * the backend. O(1).
 */
ASPACE_API struct aspace_host_ballast aspace_host_ballast(const struct aspace_host *host);

#ifdef __cplusplus
}
#endif

#endif
