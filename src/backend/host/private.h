/* SPDX-License-Identifier: MIT */
/*
 * The host backend's parts to each other.
 *
 *   host.c      making and unmaking, one batch: prepare, changes, flush
 *   change.c    what each kind of change does
 *   lay.c       one mapping laid over another, all or nothing
 *   giveback.c  an area becomes free addresses, at the mapping limit too
 *   move.c      contents carried from one place to another
 *   late.c      what waits for the flush
 *   ballast.c   mappings kept in reserve
 *   advise.c    advice, beside all of that
 *
 * Every change is one system call that lays one mapping over another, or mprotect:
 *
 *     map, replace   mmap(MAP_FIXED), of an area, over whatever is there
 *     unmap          mmap(MAP_FIXED), of free addresses, over the area
 *     protect        mprotect; contents to be dropped wait for the flush
 *     move           mremap(MREMAP_DONTUNMAP), then free addresses over the source
 *
 * Free addresses are anonymous memory without access, and not marked MAP_NORESERVE as areas
 * are: that keeps them and inaccessible areas apart (the kernel joins equal neighbours only),
 * so that free addresses never inherit what an area leaves in a mapping that it shared (its
 * anon_vma), and neighbouring free parts are one mapping again whenever the area between
 * them goes. It costs nothing: memory that cannot be written is not charged. (With
 * vm.overcommit_memory=2 the kernel ignores the mark; all works, some mappings more.)
 *
 * Invariants:
 *  1. Outside of the window, of the ballast and of the host's own page, no address is
 *     given to the kernel for changing. Inside, none is ever unmapped (but see
 *     asp_host_lay()).
 *  2. A call that does not answer ASPACE_OK leaves each page's protection and contents as
 *     they were, or says ASPACE_BAD_STATE. The kernel may keep a mapping cut in two.
 *  3. An area's kernel protection is aspace_host_protection(flags); so the protection before
 *     a change is known from old_flags.
 *  4. What drops contents without a way back (decommit), and advice, wait in `late` until
 *     flush; an undo takes them out again.
 *  5. errno after a call is errno before it.
 *  6. Free addresses cannot be accessed and hold no contents, whatever the kernel shows:
 *     a mapping of free addresses, or else a scar (7).
 *  7. A scar is a free range that no mapping of free addresses could be laid over: what the
 *     area had, inaccessible and empty. `scars` lists them, as far as it has room; whatever is laid over a part of
 *     one takes that out; each flush tries to heal those that are listed.
 *
 *     Giving back, and the ballast (units: mappings):
 *  8. An unmap of a whole area, or whose range will have no area at one end at least,
 *     is not refused for want of mappings: see giveback.c for why.
 *  9. Between batches the ballast holds at most ASP_BALLAST_FULL units. A cut leaves
 *     ASP_BALLAST_FLOOR; who goes below does not keep it: an undo, or an unmap of 8, ends
 *     with no more mappings than it found, and flush takes back what it had spent (one
 *     is lost now and then, where a scar is not yet free addresses that what is laid beside it
 *     could become one with). So, as long as no other code takes mappings during a call,
 *     ASP_BALLAST_NEEDED units are held, which is what an undo needs, and no change is refused
 *     because less is. Unmaps never are. (Advice that cuts a mapping is such other code: it is
 *     given beside batches.)
 * 10. ASP_BALLAST_KEPT units more are let go by aspace_host_destroy() only.
 * 11. In a batch with several changes that lose contents, the ballast holds what those that
 *     are still to be made can add to the process's mappings, and on top of that
 *     what undoing the others takes.
 *
 *     Beside batches:
 * 12. A fault and an advice read nothing of the host but what was set when it was made, and ask the
 *     kernel about no address outside of what they were given.
 */
#ifndef ASPACE_BACKEND_HOST_PRIVATE_H
#define ASPACE_BACKEND_HOST_PRIVATE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <aspace/backend/host.h>

#include <errno.h>
#include <sys/mman.h>

/* Newer than some systems' headers; the kernel answers EINVAL where it does not know them. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_COLD
#define MADV_COLD    20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define ASP_BALLAST_FULL   48
#define ASP_BALLAST_FLOOR  16
#define ASP_BALLAST_NEEDED 8
#define ASP_BALLAST_KEPT   4

#define ASP_HOST_ACCESS ((uint64_t)(ASPACE_HOST_READ | ASPACE_HOST_WRITE | ASPACE_HOST_EXECUTE))
#define ASP_HOST_FLAGS                                                                             \
	(ASP_HOST_ACCESS | ASPACE_HOST_GUARD | ASPACE_HOST_DECOMMITTED | ASPACE_HOST_HUGEPAGE)

/* An madvise() that waits for the flush. */
struct asp_host_late {
	struct aspace_range range;
	int advice;
};

struct aspace_host {
	struct aspace_backend backend; /* first: see host_of() */
	struct aspace_range window;
	uint64_t page;
	/* The kernel has guard pages inside a mapping (MADV_GUARD_INSTALL, Linux 6.13). */
	bool guards;

	char *ballast;           /* see ballast.c */
	size_t ballast_units;    /* held, ASP_BALLAST_KEPT included */
	size_t ballast_capacity; /* units */
	uint64_t ballast_given_up;

	/* This batch: units held when the first change was prepared; changes prepared that lose
	 * contents, the mappings that these can add, and whether one of them has been made. */
	size_t units_before, losses, additions;
	bool begun, lost;

	struct asp_host_late *late;
	size_t late_capacity; /* entries */
	size_t late_count;
	size_t late_promised; /* to changes that were prepared in this batch, or their undo */
	struct aspace_range late_hull; /* of all that were added since there was none */

	size_t scar_count;
	struct aspace_range scars[200]; /* to the end of the host's page, about */
};

static inline void *asp_host_pointer(struct aspace_vaddr address)
{
	return (void *)(uintptr_t)address.value;
}

static inline size_t asp_host_length(struct aspace_range range)
{
	return range.end.value - range.start.value;
}

static inline bool asp_host_overlap(struct aspace_range a, struct aspace_range b)
{
	return a.start.value < b.end.value && b.start.value < a.end.value;
}

/* What an error of mmap and its like says. */
enum aspace_status asp_host_status(int error);

/* ---- ballast.c ---- */

/* A region for so many units, in place of the one that there is. */
bool asp_ballast_make(struct aspace_host *host, size_t capacity);
/* Take what is missing of so many units, as far as the limit allows. */
void asp_ballast_fill(struct aspace_host *host, size_t units);
/* Let go of all but so many. Cuts nothing, so it works at the limit. */
void asp_ballast_keep(struct aspace_host *host, size_t units);
/* At the limit, take one back of what was held before, if that is more: so many units. */
void asp_ballast_take_back(struct aspace_host *host, size_t units);
/* Let go of everything that others than aspace_host_destroy() may. False: there is nothing. */
bool asp_ballast_drop(struct aspace_host *host);
/* Unmap it. */
void asp_ballast_free(struct aspace_host *host);

/* ---- lay.c ---- */

/* The protection of free addresses. */
#define ASP_HOST_FREE (-1)

/* Lay a mapping over what is there, all or nothing; ASP_HOST_FREE, or an area's protection.
 * errno says why not. */
enum aspace_status asp_host_lay(struct aspace_host *host, struct aspace_range range, int prot);

/* ---- giveback.c ---- */

/* How far giving back may go. */
struct asp_host_means {
	size_t units_left; /* of the ballast, at least */
	bool in_place;     /* with guard pages, a scar */
};

/* Make free addresses of an area with protection `old_prot`. */
enum aspace_status asp_host_give_back(struct aspace_host *host, struct aspace_range range,
				      int old_prot, struct asp_host_means means);
/* The range has been laid anew: no scars there. */
void asp_scars_forget(struct aspace_host *host, struct aspace_range range);
/* Try to lay free addresses over them. */
void asp_scars_heal(struct aspace_host *host);
/* Has the kernel guard pages? `page`, anonymous and writable, is for trying. */
bool asp_host_has_guards(void *page, size_t size);

/* ---- late.c ---- */

bool asp_late_reserve(struct aspace_host *host, size_t entries);
/* Entries that a change or its undo needs at most. */
size_t asp_late_needed(const struct aspace_change *change);
/* What a PROTECT that has been made leaves for later; room has been reserved. */
void asp_late_note(struct aspace_host *host, const struct aspace_change *change);
/* Before a change of the range: what waits for it is forgotten (undo), or done now. */
void asp_late_settle(struct aspace_host *host, struct aspace_range range, bool undo);
void asp_late_run(struct aspace_host *host);
/* False: some of the range is locked, and this kernel cannot drop such; what is below may be empty
 * all the same. */
bool asp_host_drop(struct aspace_range range);

/* ---- advise.c ---- */

enum aspace_status asp_host_advise(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_range range, enum aspace_advice advice,
				   struct aspace_vaddr *reached);

/* ---- change.c ---- */

/* Pages of the window, and not none. */
bool asp_host_range_usable(const struct aspace_host *host, struct aspace_range range);
bool asp_host_usable(const struct aspace_host *host, const struct aspace_change *change);
/* Make the change, after asp_host_usable(). */
enum aspace_status asp_host_apply(struct aspace_host *host, const struct aspace_change *change);
/* After an mprotect of the range, all of one protection before, that was refused half way; false: it
 * cannot be taken back. */
bool asp_host_protect_back(struct aspace_host *host, struct aspace_range range, int old_prot);
/* How many mappings an unmap can add that may not be refused for these. */
size_t asp_host_unmap_additions(const struct aspace_host *host, const struct aspace_change *change);

/* ---- move.c ---- */

enum aspace_status asp_host_move(struct aspace_host *host, const struct aspace_change *change);

#endif
