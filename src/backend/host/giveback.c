/* SPDX-License-Identifier: MIT */
/*
 * An area becomes free addresses, at the mapping limit too.
 *
 * Mostly one mmap() of free addresses over the area. What can refuse that, and what then:
 *
 *  - The process has one mapping more than the limit (see ballast.c): any mmap() is
 *    refused. One unit of the ballast, let go of for the call, cures it. If free addresses
 *    are next to the range at one end at least, what is laid becomes one with them, so the call
 *    ends with no more mappings than it began with, and the unit comes back.
 *  - The range is in the midst of a kernel mapping, and one or two more would be needed:
 *    areas at both ends share it. Units down to the floor, if any. Below that, a part of an area
 *    is refused (ASPACE_NO_MEMORY), but a whole area never, and so:
 *  - No ballast, or locked memory (mlockall(MCL_FUTURE)) at its own limit, where even a
 *    mapping that replaces another is refused: in place, by means that need no mapping. What
 *    the kernel can make inaccessible by mprotect() is that, else guard pages do it, which
 *    are noted in page tables (Linux 6.13); either way the contents go. That is a
 *    scar: free, but not yet a mapping of free addresses.
 *
 * Why clear needs no more than one unit: areas go from the lowest on, so each that goes has
 * free addresses below it, or is a mapping's first part or all of it.
 *
 * Without guard pages, a whole area between two that share its mapping takes two units, from
 * all that there are.
 */
#include "private.h"

#define SCARS_MAX (sizeof(((struct aspace_host *)0)->scars) / sizeof(struct aspace_range))

/* ---- Scars ---- */

/* Another one, or more of one that it meets. Where the list is full it is as free as the others, but
 * nobody heals it: it lasts until something is mapped there. */
static void note_scar(struct aspace_host *host, struct aspace_range range)
{
	for (size_t i = 0; i < host->scar_count; i++) {
		struct aspace_range *scar = &host->scars[i];

		if (scar->end.value != range.start.value && range.end.value != scar->start.value)
			continue;
		if (range.start.value < scar->start.value)
			scar->start = range.start;
		else
			scar->end = range.end;
		return;
	}
	if (host->scar_count < SCARS_MAX)
		host->scars[host->scar_count++] = range;
}

void asp_scars_forget(struct aspace_host *host, struct aspace_range range)
{
	for (size_t i = host->scar_count; i-- > 0;) {
		struct aspace_range *scar = &host->scars[i], old = *scar;

		if (!asp_host_overlap(old, range))
			continue;
		*scar = host->scars[--host->scar_count];
		/* What is left of it; of two parts, the second may find no room. It is as free as
		 * it was, only nobody heals it. */
		if (old.start.value < range.start.value)
			note_scar(host, aspace_range_of(old.start.value, range.start.value));
		if (range.end.value < old.end.value)
			note_scar(host, aspace_range_of(range.end.value, old.end.value));
	}
}

/* One that is refused goes to the end, so that the next flush tries another. */
void asp_scars_heal(struct aspace_host *host)
{
	while (host->scar_count) {
		struct aspace_range first = host->scars[0];
		size_t count = host->scar_count;

		/* Laid, or lost: no scar any more. */
		asp_host_lay(host, first, ASP_HOST_FREE);
		if (host->scar_count < count)
			continue;
		host->scars[0] = host->scars[host->scar_count - 1];
		host->scars[host->scar_count - 1] = first;
		return;
	}
}

/* Some emulators answer 0 to advice that they do not know; so look at what it does. */
bool asp_host_has_guards(void *page, size_t size)
{
	bool has = !madvise(page, size, MADV_GUARD_INSTALL) &&
		   madvise(page, size, MADV_POPULATE_READ) && errno == EFAULT;

	madvise(page, size, MADV_GUARD_REMOVE);
	return has;
}

/* ---- Giving back ---- */

/* Does mlock() hold any page of @range? msync asks that of all of it, on any kernel. */
static bool is_locked(struct aspace_range range)
{
	return msync(asp_host_pointer(range.start), asp_host_length(range),
		     MS_ASYNC | MS_INVALIDATE) &&
	       errno == EBUSY;
}

/* Has the program sealed any of it? After an mprotect() that was refused: at the first mapping,
 * for want of cuts, so that all is as it was; then one to old_prot changes nothing, and a
 * seal refuses it all the same. Or at the last one, or for a seal; then the first call has met
 * the seals before that, and going back meets where it stopped or wants a mapping. */
static bool is_sealed(struct aspace_range range, int old_prot)
{
	return mprotect(asp_host_pointer(range.start), asp_host_length(range), old_prot) &&
	       asp_host_status(errno) != ASPACE_NO_MEMORY;
}

/*
 * Both ways drop contents one kernel mapping after the other, and stop at one that they may
 * not touch: locked, or sealed. Those before it would be empty already, so ask before. Who
 * locks during the call is not found: ASPACE_BAD_STATE.
 *
 * ASPACE_NO_MEMORY: nothing has changed but protection, which asp_host_give_back() puts right.
 */
static enum aspace_status seal_in_place(struct aspace_host *host, struct aspace_range range,
					int old_prot, bool guards)
{
	void *start = asp_host_pointer(range.start);
	size_t size = asp_host_length(range);
	bool locked = is_locked(range);

	if (!mprotect(start, size, PROT_NONE)) {
		/* Since Linux 5.18 that takes locked mappings and others. */
		if (locked ? madvise(start, size, MADV_DONTNEED_LOCKED) : !asp_host_drop(range))
			return locked ? ASPACE_NO_MEMORY : ASPACE_BAD_STATE;
		note_scar(host, range);
		return ASPACE_OK;
	}
	if (!guards || !host->guards || locked || is_sealed(range, old_prot))
		return ASPACE_NO_MEMORY;
	note_scar(host, range);
	if (!madvise(start, size, MADV_GUARD_INSTALL))
		return ASPACE_OK;
	madvise(start, size, MADV_GUARD_REMOVE);
	asp_scars_forget(host, range);
	return ASPACE_BAD_STATE;
}

enum aspace_status asp_host_give_back(struct aspace_host *host, struct aspace_range range,
				      int old_prot, struct asp_host_means means)
{
	enum aspace_status status = asp_host_lay(host, range, ASP_HOST_FREE);

	/* Two bring any process to where an mmap() can cut at both ends. */
	for (int tries = 0; tries < 2 && status == ASPACE_NO_MEMORY && errno == ENOMEM &&
			    host->ballast_units > means.units_left;
	     tries++) {
		host->ballast_given_up += !tries;
		asp_ballast_keep(host, host->ballast_units - 1);
		status = asp_host_lay(host, range, ASP_HOST_FREE);
	}
	if (status != ASPACE_NO_MEMORY)
		return status;
	status = seal_in_place(host, range, old_prot, means.in_place);
	if (status == ASPACE_OK || asp_host_protect_back(host, range, old_prot))
		return status;
	return ASPACE_BAD_STATE;
}
