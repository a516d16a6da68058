/* SPDX-License-Identifier: MIT */
/*
 * One mapping laid over what is there, all or nothing.
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
 * mmap() of another thread: finish what was asked, else make free addresses of the range and say
 * ASPACE_BAD_STATE. NOREPLACE, because another thread may have been quicker.
 */
#include "private.h"

static bool map_over(struct aspace_range range, int prot, int how)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | how | (prot == ASP_HOST_FREE ? 0 : MAP_NORESERVE);
	void *p = mmap(asp_host_pointer(range.start), asp_host_length(range),
		       prot == ASP_HOST_FREE ? PROT_NONE : prot, flags, -1, 0);

	if (p == MAP_FAILED || p == asp_host_pointer(range.start))
		return p != MAP_FAILED;
	/* Before 4.17, NOREPLACE was a hint. */
	munmap(p, asp_host_length(range));
	errno = EEXIST;
	return false;
}

/* Is any page of @range unmapped? msync asks just that, and syncs nothing here. */
static bool has_hole(struct aspace_range range)
{
	return msync(asp_host_pointer(range.start), asp_host_length(range), MS_ASYNC) &&
	       errno == ENOMEM;
}

enum aspace_status asp_host_lay(struct aspace_host *host, struct aspace_range range, int prot)
{
	enum aspace_status status = ASPACE_OK;
	int error;

	if (!map_over(range, prot, MAP_FIXED)) {
		error = errno;
		if (!has_hole(range)) {
			errno = error;
			return asp_host_status(error);
		}
		asp_ballast_drop(host);
		if (!map_over(range, prot, MAP_FIXED_NOREPLACE)) {
			map_over(range, ASP_HOST_FREE, MAP_FIXED_NOREPLACE);
			status = ASPACE_BAD_STATE;
		}
	}
	asp_scars_forget(host, range);
	return status;
}
