/* SPDX-License-Identifier: MIT */
/*
 * What each kind of change does to the window.
 */
#include "private.h"

enum aspace_status asp_host_status(int error)
{
	switch (error) {
	case ENOMEM: /* memory, the mapping limit, RLIMIT_AS and _DATA, overcommit */
	case EAGAIN: /* RLIMIT_MEMLOCK under mlockall(MCL_FUTURE) */
		return ASPACE_NO_MEMORY;
	default: /* EACCES, EPERM: a security module, mseal(); EINVAL: an older kernel */
		return ASPACE_NOT_SUPPORTED;
	}
}

int aspace_host_protection(uint64_t flags)
{
	return (flags & ASPACE_HOST_READ ? PROT_READ : 0) |
	       (flags & ASPACE_HOST_WRITE ? PROT_WRITE : 0) |
	       (flags & ASPACE_HOST_EXECUTE ? PROT_EXEC : 0);
}

/* ---- Checks ---- */

bool asp_host_range_usable(const struct aspace_host *host, struct aspace_range range)
{
	uint64_t mask = host->page - 1;

	return range.start.value < range.end.value && !(range.start.value & mask) &&
	       !(range.end.value & mask) && range.start.value >= host->window.start.value &&
	       range.end.value <= host->window.end.value;
}

static bool flags_usable(uint64_t flags)
{
	uint64_t states = flags & (ASPACE_HOST_GUARD | ASPACE_HOST_DECOMMITTED);

	if (flags & ~ASP_HOST_FLAGS)
		return false;
	if (!states)
		return true;
	return !(states & (states - 1)) && !(flags & ASP_HOST_ACCESS);
}

static struct aspace_range destination_of(const struct aspace_change *change)
{
	return aspace_range_of(change->destination.value,
			       change->destination.value + asp_host_length(change->range));
}

bool asp_host_usable(const struct aspace_host *host, const struct aspace_change *change)
{
	if (!asp_host_range_usable(host, change->range))
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
		return asp_host_range_usable(host, destination_of(change)) &&
		       !asp_host_overlap(destination_of(change), change->range);
	}
	return false;
}

/* ---- Changes ---- */

static enum aspace_status map(struct aspace_host *host, const struct aspace_change *change)
{
	int prot = aspace_host_protection(change->new_flags);
	enum aspace_status status = asp_host_lay(host, change->range, prot);

	if (status == ASPACE_OK && (change->new_flags & ASPACE_HOST_HUGEPAGE))
		madvise(asp_host_pointer(change->range.start), asp_host_length(change->range),
			MADV_HUGEPAGE);
	return status;
}

/* Free addresses at one end at least: what is laid there becomes a part of them. */
static bool has_free_neighbour(const struct aspace_change *change)
{
	return change->borders < 2;
}

size_t asp_host_unmap_additions(const struct aspace_host *host, const struct aspace_change *change)
{
	if (has_free_neighbour(change) || (!change->cuts && host->guards))
		return 0;
	return 2;
}

/* Invariants 8 and 9. An undo has no numbers of its own, all zero. */
static enum aspace_status unmap(struct aspace_host *host, const struct aspace_change *change)
{
	bool may_go_below = !change->cuts && !host->guards;
	struct asp_host_means means = {
		.units_left = ASP_BALLAST_KEPT,
		.in_place = has_free_neighbour(change) || !change->cuts,
	};

	if (!has_free_neighbour(change))
		means.units_left += may_go_below ? 2 : ASP_BALLAST_FLOOR;
	return asp_host_give_back(host, change->range, aspace_host_protection(change->old_flags),
				  means);
}

/*
 * mprotect() over several kernel mappings (an area may be several) stops at the first that is
 * refused and leaves those before it changed. All of the range had old_flags, so going back is one
 * more mprotect(). It cuts nothing that was not cut before, except where a changed
 * mapping had merged with its neighbour; for that there is the ballast.
 */
bool asp_host_protect_back(struct aspace_host *host, struct aspace_range range, int old_prot)
{
	for (;;) {
		/* What refuses for its own sake (sealed memory) is where the first call stopped:
		 * all before it has gone back. */
		if (!mprotect(asp_host_pointer(range.start), asp_host_length(range), old_prot) ||
		    asp_host_status(errno) != ASPACE_NO_MEMORY)
			return true;
		if (!asp_ballast_drop(host))
			return false;
	}
}

static enum aspace_status protect(struct aspace_host *host, const struct aspace_change *change)
{
	void *start = asp_host_pointer(change->range.start);
	size_t size = asp_host_length(change->range);
	int old_prot = aspace_host_protection(change->old_flags);
	enum aspace_status status;

	if (!asp_late_reserve(host, host->late_count + asp_late_needed(change)))
		return ASPACE_NO_MEMORY;
	if (mprotect(start, size, aspace_host_protection(change->new_flags))) {
		status = asp_host_status(errno);
		return asp_host_protect_back(host, change->range, old_prot) ? status
									    : ASPACE_BAD_STATE;
	}
	asp_late_note(host, change);
	return ASPACE_OK;
}

enum aspace_status asp_host_apply(struct aspace_host *host, const struct aspace_change *change)
{
	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
	case ASPACE_CHANGE_REPLACE: /* what is there goes by the same mmap() */
		return map(host, change);
	case ASPACE_CHANGE_UNMAP:
		return unmap(host, change);
	case ASPACE_CHANGE_PROTECT:
		return protect(host, change);
	case ASPACE_CHANGE_MOVE:
		return asp_host_move(host, change);
	}
	return ASPACE_INVALID_PARAM;
}
