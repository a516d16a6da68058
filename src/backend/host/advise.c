/* SPDX-License-Identifier: MIT */
/*
 * Advice: each one madvise(). Beside batches: nothing of the host is read that changes.
 *
 * What goes over the pages is given in chunks: the kernel keeps others from mapping while it is
 * at one, and whoever wants to change the area waits for one. What is noted with a mapping
 * instead is one call, which cuts the mapping at both ends of the range at most: in chunks it
 * would be cut in more places meanwhile.
 */
#include "private.h"

/* Huge pages are not cut by it. */
#define CHUNK (UINT64_C(16) << 20)

/* The flags that an area needs. */
static uint64_t needed_access(enum aspace_advice advice)
{
	switch (advice) {
	case ASPACE_ADVICE_POPULATE_READ:
		return ASPACE_HOST_READ;
	case ASPACE_ADVICE_POPULATE_WRITE:
		return ASPACE_HOST_WRITE;
	default:
		return 0;
	}
}

/* What the kernel calls it; -1: we do not know it. *by_page: it goes over the pages. */
static int kernel_advice(enum aspace_advice advice, bool *by_page)
{
	*by_page = true;
	switch (advice) {
	case ASPACE_ADVICE_POPULATE_READ:
		return MADV_POPULATE_READ;
	case ASPACE_ADVICE_POPULATE_WRITE:
		return MADV_POPULATE_WRITE;
	case ASPACE_ADVICE_WILL_NEED:
		return MADV_WILLNEED;
	case ASPACE_ADVICE_COLD:
		return MADV_COLD;
	case ASPACE_ADVICE_PAGE_OUT:
		return MADV_PAGEOUT;
	case ASPACE_ADVICE_FREE:
		return MADV_FREE;
	case ASPACE_ADVICE_DROP:
		return MADV_DONTNEED;
	case ASPACE_ADVICE_COLLAPSE:
		return MADV_COLLAPSE;
	default:
		break;
	}
	*by_page = false;
	switch (advice) {
	case ASPACE_ADVICE_HUGE:
		return MADV_HUGEPAGE;
	case ASPACE_ADVICE_NO_HUGE:
		return MADV_NOHUGEPAGE;
	case ASPACE_ADVICE_NO_DUMP:
		return MADV_DONTDUMP;
	case ASPACE_ADVICE_DUMP:
		return MADV_DODUMP;
	case ASPACE_ADVICE_MERGE:
		return MADV_MERGEABLE;
	case ASPACE_ADVICE_NO_MERGE:
		return MADV_UNMERGEABLE;
	case ASPACE_ADVICE_WIPE_ON_FORK:
		return MADV_WIPEONFORK;
	case ASPACE_ADVICE_KEEP_ON_FORK:
		return MADV_KEEPONFORK;
	case ASPACE_ADVICE_RANDOM:
		return MADV_RANDOM;
	case ASPACE_ADVICE_SEQUENTIAL:
		return MADV_SEQUENTIAL;
	case ASPACE_ADVICE_NORMAL:
		return MADV_NORMAL;
	default:
		return -1;
	}
}

static bool is_usable(const struct aspace_host *host, const struct aspace_area *area,
		      struct aspace_range range)
{
	return asp_host_range_usable(host, range) && range.start.value >= area->start.value &&
	       range.end.value <= area->end.value;
}

static enum aspace_status status_of(int error)
{
	switch (error) {
	case EFAULT: /* populating: nothing can be had for a page */
	case EBUSY:  /* collapsing: the limit of a control group */
		return ASPACE_NO_MEMORY;
	default:
		return asp_host_status(error);
	}
}

static enum aspace_status advise(const struct aspace_host *host, const struct aspace_area *area,
				 struct aspace_range range, enum aspace_advice advice,
				 struct aspace_vaddr *reached)
{
	bool by_page, given;
	int asked = kernel_advice(advice, &by_page);

	if (asked < 0)
		return ASPACE_NOT_SUPPORTED;
	if (!is_usable(host, area, range))
		return ASPACE_INVALID_PARAM;
	if (needed_access(advice) & ~area->flags)
		return ASPACE_ACCESS_DENIED;
	if (by_page && range.end.value - (range.start.value & ~(CHUNK - 1)) > CHUNK)
		range.end.value = (range.start.value & ~(CHUNK - 1)) + CHUNK;
	if (advice == ASPACE_ADVICE_DROP)
		given = asp_host_drop(range);
	else
		given = !madvise(asp_host_pointer(range.start), asp_host_length(range), asked);
	if (!given)
		return status_of(errno);
	*reached = range.end;
	return ASPACE_OK;
}

enum aspace_status asp_host_advise(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_range range, enum aspace_advice advice,
				   struct aspace_vaddr *reached)
{
	int saved = errno;
	enum aspace_status status =
		advise((const struct aspace_host *)backend, area, range, advice, reached);

	errno = saved;
	return status;
}
