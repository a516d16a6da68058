/* SPDX-License-Identifier: MIT */
/*
 * The host backend: areas as real mappings inside a reserved window.
 *
 * Every change is one system call that lays one mapping over another, or mprotect:
 *
 *     map, replace   mmap(MAP_FIXED), anonymous, over whatever is there
 *     unmap          mmap(MAP_FIXED), the reservation, over the area
 *     protect        mprotect; contents to be dropped wait for the flush
 *     move           mremap(MREMAP_DONTUNMAP), then the reservation over the source
 *
 * Free addresses are a private PROT_NONE mapping of an empty, sealed memfd, at file
 * offset address - window start, so that neighbouring free parts are one mapping again
 * whenever the area between them goes. Nobody can read or write it; the file has no pages.
 *
 * Invariants:
 *  1. Outside of the window, of the ballast and of the host's own two mappings, no address is
 *     given to the kernel for changing. Inside, none is ever unmapped (but see lay()).
 *  2. A call that does not answer ASPACE_OK leaves each page's protection and contents as
 *     they were, or says ASPACE_BAD_STATE. The kernel may keep a mapping cut in two.
 *  3. An area's kernel protection is aspace_host_protection(flags); so the protection before
 *     a change is known from old_flags.
 *  4. What drops contents without a way back (decommit), and advice, wait in `late` until
 *     flush; an undo takes them out again.
 *  5. Of the ballast, `ballast_held` pairs of mappings are cut out, the first ones; outside
 *     a batch at most BALLAST_PAIRS.
 *  6. In a batch with several changes that lose contents, the ballast holds what those that
 *     are still to be made can add to the process's mappings, and what undoing the others
 *     takes.
 *  7. errno after a call is errno before it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <aspace/backend/host.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "options.h"

/* Newer than some systems' headers; the kernel answers EINVAL where it does not know them. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Each pair is a readable page between inaccessible ones: two mappings more. */
#define BALLAST_PAIRS       24
#define BALLAST_PAIRS_UNMAP (BALLAST_PAIRS / 3)
/* In the file far behind any window, so that the two never become one mapping. */
#define BALLAST_OFFSET (UINT64_C(1) << 50)

#define FLAGS_ACCESS (ASPACE_HOST_READ | ASPACE_HOST_WRITE | ASPACE_HOST_EXECUTE)
#define FLAGS_ALL                                                                                  \
	(FLAGS_ACCESS | ASPACE_HOST_GUARD | ASPACE_HOST_DECOMMITTED | ASPACE_HOST_HUGEPAGE)

/* An madvise() that waits for the flush. */
struct late {
	struct aspace_range range;
	int advice;
};

struct aspace_host {
	struct aspace_backend backend; /* first: see host_of() */
	struct aspace_range window;
	uint64_t page;
	int fd; /* of the reservation; -1: anonymous */

	char *ballast;
	size_t ballast_held, ballast_capacity; /* pairs */
	uint64_t ballast_given_up;

	/* This batch: changes prepared that lose contents, the mappings that these can add,
	 * and whether one of them has been made. */
	size_t losses, additions;
	bool lost;

	struct late *late;
	size_t late_capacity; /* entries */
	size_t late_count;
	size_t late_promised; /* to changes that were prepared in this batch, or their undo */
	struct aspace_range late_hull; /* of all that were added since there was none */
};

static struct aspace_host *host_of(struct aspace_backend *backend)
{
	return (struct aspace_host *)backend;
}

static void *pointer(struct aspace_vaddr address)
{
	return (void *)(uintptr_t)address.value;
}

static size_t length(struct aspace_range range)
{
	return range.end.value - range.start.value;
}

static enum aspace_status status_of(int error)
{
	switch (error) {
	case ENOMEM: /* memory, the mapping limit, RLIMIT_AS, overcommit */
	case EAGAIN: /* RLIMIT_MEMLOCK under mlockall() */
	case EMFILE:
	case ENFILE:
		return ASPACE_NO_MEMORY;
	default: /* EACCES, EPERM: a security module; EINVAL: an older kernel */
		return ASPACE_NOT_SUPPORTED;
	}
}

int aspace_host_protection(uint64_t flags)
{
	return (flags & ASPACE_HOST_READ ? PROT_READ : 0) |
	       (flags & ASPACE_HOST_WRITE ? PROT_WRITE : 0) |
	       (flags & ASPACE_HOST_EXECUTE ? PROT_EXEC : 0);
}

/* ---- Ballast ---------------------------------------------------------------------
 *
 * Mappings kept in reserve below the kernel's limit. The limit counts mappings of the
 * whole process, so a refusal can come at any call. Undo must not meet it: it
 * ends with the number of mappings that the operation began with, and needs two or three
 * more on the way, so some dozens are plenty. Nor may a change that comes after one which
 * has lost contents, because then the operation could not be taken back: in a batch with
 * several of these, the ballast grows beforehand by what they can add.
 *
 * A change adds two mappings at most, one for each end that cuts something. For an unmap
 * the library says at how many ends something stays, mostly none; without that,
 * unmapping everything would ask for more than the limit just when it is near.
 */

static size_t ballast_size(const struct aspace_host *host, size_t pairs)
{
	return (2 * pairs + 1) * host->page;
}

/* Let go of all but @pairs of them. Cuts nothing, so it works at the limit (munmap might
 * not, if the kernel has merged the region with a neighbour). */
static void ballast_keep(struct aspace_host *host, size_t pairs)
{
	char *rest = host->ballast + 2 * pairs * host->page;

	if (host->ballast_held <= pairs)
		return;
	mprotect(rest, ballast_size(host, host->ballast_capacity - pairs), PROT_NONE);
	host->ballast_held = pairs;
}

static void ballast_drop(struct aspace_host *host)
{
	if (!host->ballast_held)
		return;
	ballast_keep(host, 0);
	host->ballast_given_up++;
}

static void *map_inaccessible(void *address, size_t size, int fd, uint64_t offset, int how)
{
	int flags = MAP_PRIVATE | MAP_NORESERVE | how | (fd < 0 ? MAP_ANONYMOUS : 0);

	return mmap(address, size, PROT_NONE, flags, fd, fd < 0 ? 0 : (off_t)offset);
}

/* A region for that many pairs, in place of the one that there is. */
static bool ballast_make(struct aspace_host *host, size_t pairs)
{
	char *p = map_inaccessible(NULL, ballast_size(host, pairs), host->fd, BALLAST_OFFSET, 0);

	if (p == MAP_FAILED)
		return false;
	if (host->ballast) {
		ballast_keep(host, 0);
		munmap(host->ballast, ballast_size(host, host->ballast_capacity));
	}
	host->ballast = p;
	host->ballast_capacity = pairs;
	return true;
}

/* Cut out what is missing of @pairs, as far as the limit allows. */
static void ballast_fill(struct aspace_host *host, size_t pairs)
{
	if (pairs > host->ballast_capacity && !ballast_make(host, 2 * pairs))
		pairs = host->ballast_capacity;
	while (host->ballast_held < pairs) {
		char *held = host->ballast + (2 * host->ballast_held + 1) * host->page;

		if (mprotect(held, host->page, PROT_READ))
			return;
		host->ballast_held++;
	}
}

/* ---- Mappings ---------------------------------------------------------------------- */

#define RESERVATION (-1)

/* mmap() over @range: an area with protection @prot, or the RESERVATION. */
static bool map_over(const struct aspace_host *host, struct aspace_range range, int prot, int how)
{
	int flags = MAP_PRIVATE | MAP_NORESERVE | how;
	int fd = -1;
	off_t offset = 0;
	void *p;

	if (prot == RESERVATION && host->fd >= 0) {
		fd = host->fd;
		offset = (off_t)(range.start.value - host->window.start.value);
	} else {
		flags |= MAP_ANONYMOUS;
	}
	p = mmap(pointer(range.start), length(range), prot == RESERVATION ? PROT_NONE : prot, flags,
		 fd, offset);
	if (p == MAP_FAILED || p == pointer(range.start))
		return p != MAP_FAILED;
	/* Before 4.17, NOREPLACE was a hint. */
	munmap(p, length(range));
	return false;
}

/* Is any page of @range unmapped? msync asks just that, and syncs nothing here. */
static bool has_hole(struct aspace_range range)
{
	return msync(pointer(range.start), length(range), MS_ASYNC) && errno == ENOMEM;
}

/*
 * Lay a mapping over what is there, all or nothing.
 *
 * Why one mmap(MAP_FIXED) is enough. The kernel refuses for the mapping limit before it
 * touches anything: do_mmap() compares the count first, and what is in the way is
 * collected and cut (where the limit is met again) before any of it is unmapped. Cutting
 * changes neither contents nor protection. Since Linux 6.12, memory for the new mapping
 * is charged before the old is unmapped, too.
 *
 * Before 6.12, mmap_region() unmapped first and then charged (strict overcommit, which
 * ignores MAP_NORESERVE) and allocated. A refusal there leaves a hole. We cannot
 * bring contents back, but neither may we leave addresses of the window to the next
 * mmap() of another thread: finish what was asked, else reserve the range and say
 * ASPACE_BAD_STATE. NOREPLACE, because another thread may have been quicker.
 */
static enum aspace_status lay(struct aspace_host *host, struct aspace_range range, int prot)
{
	enum aspace_status status;

	if (map_over(host, range, prot, MAP_FIXED))
		return ASPACE_OK;
	status = status_of(errno);
	if (!has_hole(range))
		return status;
	ballast_drop(host);
	if (map_over(host, range, prot, MAP_FIXED_NOREPLACE))
		return ASPACE_OK;
	map_over(host, range, RESERVATION, MAP_FIXED_NOREPLACE);
	return ASPACE_BAD_STATE;
}

/* ---- Late effects -------------------------------------------------------------------- */

static bool late_reserve(struct aspace_host *host, size_t entries)
{
	size_t capacity = host->late_capacity;
	void *late;

	if (entries <= capacity)
		return true;
	while (capacity < entries)
		capacity *= 2;
	late = mremap(host->late, host->late_capacity * sizeof(struct late),
		      capacity * sizeof(struct late), MREMAP_MAYMOVE);
	if (late == MAP_FAILED)
		return false;
	host->late = late;
	host->late_capacity = capacity;
	return true;
}

static void late_add(struct aspace_host *host, struct aspace_range range, int advice)
{
	if (!host->late_count)
		host->late_hull = range;
	if (range.start.value < host->late_hull.start.value)
		host->late_hull.start = range.start;
	if (range.end.value > host->late_hull.end.value)
		host->late_hull.end = range.end;
	host->late[host->late_count++] = (struct late){range, advice};
}

/*
 * Locked memory (mlockall) is dropped since Linux 5.18; before, a fresh mapping does it.
 * If even that is refused, the contents stay behind PROT_NONE: flush cannot fail.
 */
static void drop_contents(struct aspace_host *host, struct aspace_range range)
{
	if (madvise(pointer(range.start), length(range), MADV_DONTNEED) &&
	    madvise(pointer(range.start), length(range), MADV_DONTNEED_LOCKED))
		lay(host, range, PROT_NONE);
}

static void late_run(struct aspace_host *host, const struct late *late)
{
	if (late->advice == MADV_DONTNEED)
		drop_contents(host, late->range);
	else
		/* Advice: EINVAL without huge pages, ENOMEM at the limit; both are fine. */
		madvise(pointer(late->range.start), length(late->range), late->advice);
}

/*
 * Before a change of @range: what still waits for it is forgotten (undo), or done now, since
 * at the flush the range will mean something else. So entries are disjoint, or two of one
 * range, next to each other. An operation runs upward and is undone from its end: mostly the
 * answer is above late_hull, or the newest entry.
 */
static void late_settle(struct aspace_host *host, struct aspace_range range, bool undo)
{
	bool exact = false;

	if (!host->late_count || range.start.value >= host->late_hull.end.value ||
	    range.end.value <= host->late_hull.start.value)
		return;
	for (size_t i = host->late_count; i-- > 0;) {
		struct late *late = &host->late[i];
		bool equal = late->range.start.value == range.start.value &&
			     late->range.end.value == range.end.value;

		if (exact && !equal)
			return;
		if (late->range.start.value >= range.end.value ||
		    late->range.end.value <= range.start.value)
			continue;
		exact = equal;
		if (!undo)
			late_run(host, late);
		memmove(late, late + 1, (host->late_count - i - 1) * sizeof(*late));
		host->late_count--;
	}
}

/* The advice on huge pages that a change of flags brings; 0: none. */
static int huge_advice(uint64_t old_flags, uint64_t new_flags)
{
	if (!((old_flags ^ new_flags) & ASPACE_HOST_HUGEPAGE))
		return 0;
	return new_flags & ASPACE_HOST_HUGEPAGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
}

static bool drops_contents(uint64_t old_flags, uint64_t new_flags)
{
	return ~old_flags & new_flags & ASPACE_HOST_DECOMMITTED;
}

/* Entries that a change or its undo needs at most. */
static size_t late_needed(const struct aspace_change *change)
{
	uint64_t differ = change->old_flags ^ change->new_flags;

	if (change->kind != ASPACE_CHANGE_PROTECT)
		return 0;
	return !!(differ & ASPACE_HOST_DECOMMITTED) + (size_t) !!(differ & ASPACE_HOST_HUGEPAGE);
}

/* ---- Checks ---------------------------------------------------------------------------- */

static bool range_usable(const struct aspace_host *host, struct aspace_range range)
{
	uint64_t mask = host->page - 1;

	return range.start.value < range.end.value && !(range.start.value & mask) &&
	       !(range.end.value & mask) && range.start.value >= host->window.start.value &&
	       range.end.value <= host->window.end.value;
}

static bool flags_usable(uint64_t flags)
{
	uint64_t states = flags & (ASPACE_HOST_GUARD | ASPACE_HOST_DECOMMITTED);

	if (flags & ~(uint64_t)FLAGS_ALL)
		return false;
	if (!states)
		return true;
	return !(states & (states - 1)) && !(flags & FLAGS_ACCESS);
}

static struct aspace_range destination_of(const struct aspace_change *change)
{
	return aspace_range_of(change->destination.value,
			       change->destination.value + length(change->range));
}

static bool change_usable(const struct aspace_host *host, const struct aspace_change *change)
{
	struct aspace_range to;

	if (!range_usable(host, change->range))
		return false;
	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
	case ASPACE_CHANGE_REPLACE:
		return flags_usable(change->new_flags);
	case ASPACE_CHANGE_UNMAP:
		return true;
	case ASPACE_CHANGE_PROTECT:
		return flags_usable(change->old_flags) && flags_usable(change->new_flags);
	case ASPACE_CHANGE_MOVE:
		to = destination_of(change);
		return range_usable(host, to) && (to.start.value >= change->range.end.value ||
						  to.end.value <= change->range.start.value);
	}
	return false;
}

/* ---- Changes ------------------------------------------------------------------------------ */

static enum aspace_status do_map(struct aspace_host *host, const struct aspace_change *change)
{
	int prot = aspace_host_protection(change->new_flags);
	enum aspace_status status = lay(host, change->range, prot);

	if (status == ASPACE_OK && (change->new_flags & ASPACE_HOST_HUGEPAGE))
		madvise(pointer(change->range.start), length(change->range), MADV_HUGEPAGE);
	return status;
}

static enum aspace_status do_unmap(struct aspace_host *host, const struct aspace_change *change)
{
	return lay(host, change->range, RESERVATION);
}

/*
 * mprotect() over several kernel mappings (an area may be several) stops at the first that is
 * refused and leaves those before it changed. All of the range had old_flags, so going back is one
 * more mprotect(). It cuts nothing that was not cut before, except where a changed
 * mapping had merged with its neighbour; for that there is the ballast.
 */
static enum aspace_status do_protect(struct aspace_host *host, const struct aspace_change *change)
{
	void *start = pointer(change->range.start);
	size_t size = length(change->range);
	int old_prot = aspace_host_protection(change->old_flags);
	int advice = huge_advice(change->old_flags, change->new_flags);
	enum aspace_status status;

	if (!late_reserve(host, host->late_count + late_needed(change)))
		return ASPACE_NO_MEMORY;
	if (mprotect(start, size, aspace_host_protection(change->new_flags))) {
		status = status_of(errno);
		if (!mprotect(start, size, old_prot))
			return status;
		ballast_drop(host);
		return mprotect(start, size, old_prot) ? ASPACE_BAD_STATE : status;
	}
	if (drops_contents(change->old_flags, change->new_flags))
		late_add(host, change->range, MADV_DONTNEED);
	/* An undo finds its operation's advice not yet given, and has just forgotten it. */
	if (advice && !change->undo)
		late_add(host, change->range, advice);
	return ASPACE_OK;
}

/*
 * Carry [from, from + size) to @to, piece by piece; @done says how far it came. What is left at the
 * source is mapped, and empty where it was carried away.
 *
 * mremap() moves one kernel mapping at a time (several since 6.17), and an area may be
 * several: neighbours that were touched before they became one do not merge. Nothing
 * cheap tells where a mapping ends, but mremap() does, by EFAULT, so halve until a piece
 * goes. You might wonder about the stop in between: straight to the destination
 * (MREMAP_FIXED) kernels before 6.17 unmap the destination before they find that the source
 * is unsuitable, which would leave a hole. The first step leaves source and
 * destination mapped whatever happens, the second has nothing left to object to but
 * the mapping limit, which is compared first.
 */
static enum aspace_status transfer(struct aspace_host *host, uint64_t from, uint64_t to,
				   uint64_t size, uint64_t *done)
{
	uint64_t piece = size;

	*done = 0;
	while (*done < size) {
		void *source = pointer(aspace_va(from + *done));
		void *target = pointer(aspace_va(to + *done));
		/* NULL: some C libraries hand the fifth argument on, given or not. */
		void *between =
			mremap(source, piece, piece, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		enum aspace_status status;

		if (between == MAP_FAILED && errno == EFAULT && piece > host->page) {
			piece = (piece / 2 + host->page - 1) & ~(host->page - 1);
			continue;
		}
		if (between == MAP_FAILED)
			return status_of(errno);
		if (mremap(between, piece, piece, MREMAP_MAYMOVE | MREMAP_FIXED, target) ==
		    MAP_FAILED) {
			status = status_of(errno);
			ballast_drop(host);
			if (mremap(between, piece, piece, MREMAP_MAYMOVE | MREMAP_FIXED, source) ==
			    MAP_FAILED)
				return ASPACE_BAD_STATE;
			return status;
		}
		*done += piece;
		piece = size - *done;
	}
	return ASPACE_OK;
}

static enum aspace_status transfer_back(struct aspace_host *host,
					const struct aspace_change *change, uint64_t done,
					enum aspace_status status)
{
	uint64_t from = change->range.start.value, to = change->destination.value;
	uint64_t back;

	if (!done)
		return status;
	if (transfer(host, to, from, done, &back) != ASPACE_OK) {
		ballast_drop(host);
		if (transfer(host, to + back, from + back, done - back, &back) != ASPACE_OK)
			return ASPACE_BAD_STATE;
	}
	if (lay(host, aspace_range_of(to, to + done), RESERVATION) == ASPACE_OK)
		return status;
	ballast_drop(host);
	return lay(host, aspace_range_of(to, to + done), RESERVATION) == ASPACE_OK
		       ? status
		       : ASPACE_BAD_STATE;
}

static enum aspace_status do_move(struct aspace_host *host, const struct aspace_change *change)
{
	uint64_t done;
	enum aspace_status status =
		transfer(host, change->range.start.value, change->destination.value,
			 length(change->range), &done);

	if (status == ASPACE_OK) {
		status = lay(host, change->range, RESERVATION);
		if (status == ASPACE_NO_MEMORY) {
			/* Everything has moved; rather than carry it back, spend the ballast. */
			ballast_drop(host);
			status = lay(host, change->range, RESERVATION);
		}
	}
	if (status == ASPACE_OK || status == ASPACE_BAD_STATE)
		return status;
	return transfer_back(host, change, done, status);
}

typedef enum aspace_status change_fn(struct aspace_host *host, const struct aspace_change *change);

static bool loses_contents(enum aspace_change_kind kind)
{
	return kind == ASPACE_CHANGE_REPLACE || kind == ASPACE_CHANGE_UNMAP;
}

/* May the change have of the ballast? An undo; an unmap, which mostly makes room; what
 * prepare has filled it up for. The only replace of a batch can be refused without harm. */
static bool may_spend(const struct aspace_host *host, const struct aspace_change *change)
{
	if (change->undo || change->kind == ASPACE_CHANGE_UNMAP || host->lost)
		return true;
	return change->kind == ASPACE_CHANGE_REPLACE && host->losses > 1;
}

/* A change was refused for want of mappings: once more on the ballast. An undo, which
 * leaves the next prepare to fill it up again, and an unmap alone, which has mostly made room
 * for that, get all of it; one of several changes gets it pair by pair. */
static enum aspace_status apply_on_ballast(struct aspace_host *host,
					   const struct aspace_change *change, change_fn *apply)
{
	bool by_pairs = !change->undo && host->losses > 1;
	enum aspace_status status;

	host->ballast_given_up++;
	do {
		ballast_keep(host, by_pairs ? host->ballast_held - 1 : 0);
		status = apply(host, change);
	} while (status == ASPACE_NO_MEMORY && host->ballast_held);
	if (!change->undo)
		ballast_fill(host, BALLAST_PAIRS);
	return status;
}

/* What all changes have in common around @apply. */
static enum aspace_status change_with(struct aspace_backend *backend,
				      const struct aspace_change *change,
				      enum aspace_change_kind kind, change_fn *apply)
{
	struct aspace_host *host = host_of(backend);
	enum aspace_status status;
	int saved = errno;

	if (change->kind != kind || !change_usable(host, change))
		return ASPACE_INVALID_PARAM;
	late_settle(host, change->range, change->undo);
	status = apply(host, change);
	if (status == ASPACE_NO_MEMORY && host->ballast_held && may_spend(host, change))
		status = apply_on_ballast(host, change, apply);
	if (status == ASPACE_OK && !change->undo)
		host->lost |= loses_contents(kind);
	errno = saved;
	return status;
}

static enum aspace_status host_map(struct aspace_backend *backend,
				   const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_MAP, do_map);
}

static enum aspace_status host_unmap(struct aspace_backend *backend,
				     const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_UNMAP, do_unmap);
}

static enum aspace_status host_protect(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_PROTECT, do_protect);
}

static enum aspace_status host_replace(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	/* What is there goes by the same mmap() that brings the new. */
	return change_with(backend, change, ASPACE_CHANGE_REPLACE, do_map);
}

static enum aspace_status host_move(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_MOVE, do_move);
}

/* Pairs that the ballast must hold before the batch begins. */
static size_t ballast_wanted(const struct aspace_host *host, const struct aspace_change *change)
{
	size_t pairs = change->kind == ASPACE_CHANGE_UNMAP ? BALLAST_PAIRS_UNMAP : BALLAST_PAIRS;

	return host->losses > 1 ? pairs + (host->additions + 1) / 2 : pairs;
}

static enum aspace_status host_prepare(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	struct aspace_host *host = host_of(backend);
	size_t late = host->late_promised + late_needed(change), wanted;
	int saved = errno;

	if (!change_usable(host, change))
		return ASPACE_INVALID_PARAM;
	/* A map that is prepared after one of these is made after it. */
	if (loses_contents(change->kind) || (host->losses && change->kind == ASPACE_CHANGE_MAP)) {
		host->losses++;
		host->additions += change->kind == ASPACE_CHANGE_UNMAP ? change->borders : 2;
	}
	wanted = ballast_wanted(host, change);
	ballast_fill(host, wanted > BALLAST_PAIRS ? wanted : BALLAST_PAIRS);
	if (host->ballast_held < wanted || !late_reserve(host, host->late_count + late)) {
		errno = saved;
		return ASPACE_NO_MEMORY;
	}
	host->late_promised = late;
	errno = saved;
	return ASPACE_OK;
}

static void host_flush(struct aspace_backend *backend)
{
	struct aspace_host *host = host_of(backend);
	int saved = errno;

	for (size_t i = 0; i < host->late_count; i++)
		late_run(host, &host->late[i]);
	host->late_count = 0;
	host->late_promised = 0;
	host->losses = host->additions = 0;
	host->lost = false;
	ballast_keep(host, BALLAST_PAIRS);
	errno = saved;
}

/* Only system calls, so signal-safe. Needs none of the host's state that changes. */
static enum aspace_status host_fault(struct aspace_backend *backend, const struct aspace_area *area,
				     struct aspace_vaddr address, unsigned access)
{
	struct aspace_host *host = host_of(backend);
	struct aspace_vaddr page = {address.value & ~(host->page - 1)};
	bool writes = (access & ASPACE_ACCESS_WRITE) || !(area->flags & ASPACE_HOST_READ);
	enum aspace_status status = ASPACE_OK;
	int saved = errno;

	if (address.value < area->start.value || address.value >= area->end.value ||
	    page.value < host->window.start.value || page.value >= host->window.end.value)
		return ASPACE_INVALID_PARAM;
	/* The access bits are the flags' bits. */
	if ((access & ~area->flags & FLAGS_ACCESS) || !(area->flags & FLAGS_ACCESS))
		return ASPACE_ACCESS_DENIED;
	if (!(area->flags & (ASPACE_HOST_READ | ASPACE_HOST_WRITE)))
		return ASPACE_OK; /* execute-only: nothing populates it but the access itself */
	if (madvise(pointer(page), host->page, writes ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) &&
	    errno != EINVAL) /* before 5.14: the access will populate it */
		status = status_of(errno == EFAULT ? ENOMEM : errno);
	errno = saved;
	return status;
}

static const struct aspace_backend_ops host_ops = {
	.size = sizeof(host_ops),
	.map = host_map,
	.unmap = host_unmap,
	.protect = host_protect,
	.prepare = host_prepare,
	.replace = host_replace,
	.move = host_move,
	.flush = host_flush,
	.fault = host_fault,
};

/* ---- Making and unmaking ------------------------------------------------------------------- */

/* An empty file that stays so; -1 if there is none to be had. */
static int open_reservation(void)
{
	static const char name[] = "aspace-window"; /* see ASPACE_HOST_RESERVATION_NAME */
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0)
		/* Without seals it would serve as well; nobody else has the file. */
		fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	return fd;
}

static enum aspace_status reserve_window(struct aspace_host *host,
					 const struct aspace_host_options *o)
{
	void *wanted = pointer(o->address);
	char *p =
		map_inaccessible(wanted, o->window, host->fd, 0, wanted ? MAP_FIXED_NOREPLACE : 0);

	if (p == MAP_FAILED && errno == EEXIST)
		return ASPACE_ALREADY_EXISTS;
	if (p == MAP_FAILED)
		/* EINVAL, EPERM: not an address for user space */
		return errno == ENOMEM ? ASPACE_NO_MEMORY : ASPACE_INVALID_PARAM;
	if (wanted && p != wanted) {
		/* Before 4.17, NOREPLACE was a hint. */
		munmap(p, o->window);
		return ASPACE_ALREADY_EXISTS;
	}
	host->window = aspace_range_of((uintptr_t)p, (uintptr_t)p + o->window);
	return ASPACE_OK;
}

static void *own_page(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static enum aspace_status host_init(struct aspace_host *host, const struct aspace_host_options *o)
{
	enum aspace_status status;

	host->backend.ops = &host_ops;
	host->backend.flags_mask = FLAGS_ALL;
	host->backend.granule = host->page;
	host->fd = o->anonymous ? -1 : open_reservation();
	/* Out of descriptors is a passing state; without memfd the kernel is another. */
	if (host->fd < 0 && !o->anonymous && (errno == EMFILE || errno == ENFILE))
		return ASPACE_NO_MEMORY;
	status = reserve_window(host, o);
	if (status != ASPACE_OK)
		return status;
	host->late = own_page(host->page);
	if (!host->late)
		return ASPACE_NO_MEMORY;
	host->late_capacity = host->page / sizeof(struct late);
	ballast_fill(host, BALLAST_PAIRS);
	return host->ballast_held == BALLAST_PAIRS ? ASPACE_OK : ASPACE_NO_MEMORY;
}

enum aspace_status aspace_host_create(const struct aspace_host_options *options,
				      struct aspace_host **out)
{
	struct aspace_host_options known = {0};
	const struct aspace_host_options *o = &known;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	enum aspace_status status;
	struct aspace_host *host;
	int saved = errno;

	if (!out || !options ||
	    !asp_copy_options(&known, sizeof(known), options,
			      offsetof(struct aspace_host_options, address)))
		return ASPACE_INVALID_PARAM;
	if (!o->window || (o->window & (page - 1)) || (o->address.value & (page - 1)) ||
	    o->address.value > UINT64_MAX - o->window)
		return ASPACE_INVALID_PARAM;
	host = own_page(sizeof(*host));
	if (!host) {
		errno = saved;
		return ASPACE_NO_MEMORY;
	}
	host->page = page;
	status = host_init(host, o);
	if (status == ASPACE_OK)
		*out = host;
	else
		aspace_host_destroy(host);
	errno = saved;
	return status;
}

void aspace_host_destroy(struct aspace_host *host)
{
	int saved = errno;

	if (!host)
		return;
	/* First the ballast: at the limit it makes room for the cut that the window's
	 * edge needs where the kernel has merged an area with a neighbour outside. */
	if (host->ballast) {
		ballast_keep(host, 0);
		munmap(host->ballast, ballast_size(host, host->ballast_capacity));
	}
	if (host->window.end.value)
		munmap(pointer(host->window.start), length(host->window));
	if (host->late)
		munmap(host->late, host->late_capacity * sizeof(struct late));
	if (host->fd >= 0)
		close(host->fd);
	munmap(host, sizeof(*host));
	errno = saved;
}

struct aspace_backend *aspace_host_backend(struct aspace_host *host)
{
	return &host->backend;
}

struct aspace_range aspace_host_window(const struct aspace_host *host)
{
	return host->window;
}

int aspace_host_fd(const struct aspace_host *host)
{
	return host->fd;
}

bool aspace_host_marks_free(const struct aspace_host *host)
{
	return host->fd >= 0;
}

struct aspace_host_ballast aspace_host_ballast(const struct aspace_host *host)
{
	return (struct aspace_host_ballast){
		.held = (unsigned)(2 * host->ballast_held),
		.full = 2 * BALLAST_PAIRS,
		.given_up = host->ballast_given_up,
	};
}
