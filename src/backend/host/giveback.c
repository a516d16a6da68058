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

/* Another one, or more of one that it meets. False: the list is full. */
static bool note_scar(struct aspace_host *host, struct aspace_range range)
{
	for (size_t i = 0; i < host->scar_count; i++) {
		struct aspace_range *scar = &host->scars[i];

		if (scar->end.value != range.start.value && range.end.value != scar->start.value)
			continue;
		if (range.start.value < scar->start.value)
			scar->start = range.start;
		else
			scar->end = range.end;
		return true;
	}
	if (host->scar_count == SCARS_MAX)
		return false;
	host->scars[host->scar_count++] = range;
	return true;
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

		if (asp_host_lay(host, first, ASP_HOST_FREE) == ASPACE_OK)
			continue;
		if (!host->scar_count)
			return;
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

/* False: nothing has changed, or asp_host_give_back() must put it right. */
static bool seal_in_place(struct aspace_host *host, struct aspace_range range, bool guards)
{
	void *start = asp_host_pointer(range.start);

	if (!mprotect(start, asp_host_length(range), PROT_NONE) && asp_host_drop(range)) {
		note_scar(host, range);
		return true;
	}
	if (!guards || !host->guards || !note_scar(host, range))
		return false;
	if (!madvise(start, asp_host_length(range), MADV_GUARD_INSTALL))
		return true;
	asp_scars_forget(host, range);
	return false;
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
	if (seal_in_place(host, range, means.in_place))
		return ASPACE_OK;
	/* The first part of several mappings may have been sealed. */
	return asp_host_protect_back(host, range, old_prot) ? status : ASPACE_BAD_STATE;
}
