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
 * What the window's addresses are, as the kernel shows them in /proc/self/maps:
 *  - free: a PROT_NONE private mapping of a file called
 *    ::ASPACE_HOST_RESERVATION_NAME, so that free addresses and inaccessible areas can be
 *    told apart (but see aspace_host_marks_free());
 *  - an area: an anonymous private mapping with the protection that its flags
 *    say, not charged against overcommit (MAP_NORESERVE). The kernel may show one area
 *    as several neighbouring mappings, and neighbouring areas as one.
 *
 * No address of the window is ever unmapped in between, so no other thread's
 * mmap can take one.
 *
 * Each host serves one space: its calls must not run at once. Several hosts do
 * not disturb each other. After aspace_host_create() nothing calls malloc. errno
 * is preserved by every call.
 *
 * The kernel's limit on mappings (vm.max_map_count, 65,530 unless changed) is
 * the process's, and alternating areas take two each. At the limit, calls are
 * refused with ::ASPACE_NO_MEMORY and nothing has changed. So that operations can
 * always be taken back, each host holds some dozens of mappings in reserve, the
 * *ballast*: see aspace_host_ballast().
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
	 * changing from it gives zeroes. Not together with READ, WRITE, EXECUTE, GUARD. */
	ASPACE_HOST_DECOMMITTED = 16,
	/** Advice to use huge pages; never makes a call fail. Taking it away from an area
	 * advises against huge pages. */
	ASPACE_HOST_HUGEPAGE = 32
};

/** What free addresses of a window are called in /proc/self/maps (followed by " (deleted)"). */
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
	/** Reserve with anonymous memory, as where memfd_create is not to be had:
	 * aspace_host_marks_free() will be false. For tests. */
	bool anonymous;
};

/**
 * Reserve a window.
 *
 * Errors: ASPACE_INVALID_PARAM (size, alignment, an address that user space
 * cannot have), ASPACE_ALREADY_EXISTS (something is mapped at the address),
 * ASPACE_NO_MEMORY (address space, mapping limit, file descriptors).
 * Context: may block; not from a signal handler.
 * Ownership: the caller's, until aspace_host_destroy(). Holds one file descriptor
 * (close-on-exec): a program that closes all descriptors must spare it (aspace_host_fd()),
 * or no area can be unmapped any more. @p *out is not touched on failure.
 * O(1): some dozens of system calls, whatever the size.
 */
ASPACE_API enum aspace_status aspace_host_create(const struct aspace_host_options *options,
						 struct aspace_host **out);

/**
 * Unmap the window, whatever it still holds, and free all. NULL is allowed.
 *
 * Context: may block; not from a signal handler or a callback; no space may show an area
 * of the host. Afterwards /proc/self/maps is as if
 * the host had never been. O(mappings in the window).
 */
ASPACE_API void aspace_host_destroy(struct aspace_host *host);

/** The backend, to be given to aspace_map(). Ownership: the host's. Context: anywhere.
 * O(1). */
ASPACE_API struct aspace_backend *aspace_host_backend(struct aspace_host *host);

/** The window: the limits for the space. Context: anywhere. O(1). */
ASPACE_API struct aspace_range aspace_host_window(const struct aspace_host *host);

/** The file descriptor that the host holds, -1 if none. Not to be closed. Context: anywhere.
 * O(1). */
ASPACE_API int aspace_host_fd(const struct aspace_host *host);

/** Do free addresses show as ::ASPACE_HOST_RESERVATION_NAME? If not (no memfd_create), free
 * addresses and inaccessible areas look the same in /proc/self/maps. Context: anywhere.
 * O(1). */
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
	/** How often it was given up, or a part of it, because such a change met the limit. */
	uint64_t given_up;
};

/**
 * How is the ballast?
 *
 * Rules: `prepare` fills it up, and where it cannot, answers ASPACE_NO_MEMORY; but an
 * unmap, which mostly makes room, is content with a third of it. Where an operation makes
 * several changes that lose contents, it holds on top of that what these may need, so that
 * none is refused after another has been made. An undo that meets the limit gives
 * the ballast up and tries again. So does an unmap, which then takes back what the limit
 * allows, and each of several such changes, which take what they need. Nothing else spends it.
 * Context: reader-safe; not from a signal handler or a callback, and not beside a call of
 * the backend. O(1).
 */
ASPACE_API struct aspace_host_ballast aspace_host_ballast(const struct aspace_host *host);

#ifdef __cplusplus
}
#endif

#endif
