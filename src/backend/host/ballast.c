/* SPDX-License-Identifier: MIT */
/*
 * Ballast: mappings kept in reserve below the kernel's limit.
 *
 * The limit (vm.max_map_count) counts mappings of the whole process, so a refusal can come at
 * any call. Undo must not meet it: it ends with the number of mappings that the
 * operation began with, and needs a few more on the way (mremap wants six to be free), so
 * some dozens are plenty. Nor may a change that comes after one which has lost contents, because
 * then the operation could not be taken back. Nor may giving back.
 *
 * The region is a staircase: page j is step j, inaccessible where j is even, readable where it
 * is odd; all pages behind the last step are as that. So each step is one mapping, and is
 * taken by one cut and let go by an mprotect of whole mappings, which needs none. The page
 * behind the region is writable for good: whatever the kernel has made one mapping with
 * our first or last page, no end of a step is in it.
 *
 *     page      0   1   2   3   4   5   6 ...          capacity  + 1
 *     3 units  ---|r--|---|r-- r-- r-- r-- r-- r-- r-- r-- r-- |rw-
 *
 * Where the limit is. The kernel refuses to cut a mapping when the process has
 * vm.max_map_count of them, but refuses mmap only above that. So mmap can bring a process
 * one above, and there even an mmap over one whole mapping is refused, until one goes. We take
 * units by cuts, which never brings it there; but what a batch found there, and had to let
 * go of, it takes back by an mmap.
 *
 * Rejected: counting the process's mappings ourselves (other code maps too, and the kernel
 * merges and splits as it likes); reading /proc/self/maps (milliseconds).
 */
#include "private.h"

static int step_protection(size_t step)
{
	return step & 1 ? PROT_READ : PROT_NONE;
}

static char *step_page(const struct aspace_host *host, size_t step)
{
	return host->ballast + step * host->page;
}

/* Pages of the region from the step on. */
static size_t step_size(const struct aspace_host *host, size_t step)
{
	return (host->ballast_capacity + 1 - step) * host->page;
}

static size_t region_size(const struct aspace_host *host, size_t capacity)
{
	return (capacity + 2) * host->page;
}

/* One unit more or any number less: the region from this step on is that step. */
static bool end_at(struct aspace_host *host, size_t step)
{
	if (mprotect(step_page(host, step), step_size(host, step), step_protection(step)))
		return false;
	host->ballast_units = step;
	return true;
}

/* Two units by one call. If only the first cut can be made, it is left for end_at(). */
static bool add_two(struct aspace_host *host)
{
	size_t step = host->ballast_units + 1;

	if (mprotect(step_page(host, step), host->page, step_protection(step)))
		return false;
	host->ballast_units += 2;
	return true;
}

void asp_ballast_keep(struct aspace_host *host, size_t units)
{
	if (host->ballast_units > units)
		end_at(host, units);
}

bool asp_ballast_drop(struct aspace_host *host)
{
	if (host->ballast_units <= ASP_BALLAST_KEPT)
		return false;
	asp_ballast_keep(host, ASP_BALLAST_KEPT);
	host->ballast_given_up++;
	return true;
}

bool asp_ballast_make(struct aspace_host *host, size_t capacity)
{
	size_t size = region_size(host, capacity);
	char *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	if (mprotect(p + size - host->page, host->page, PROT_READ | PROT_WRITE)) {
		munmap(p, size);
		return false;
	}
	asp_ballast_free(host);
	host->ballast = p;
	host->ballast_capacity = capacity;
	return true;
}

void asp_ballast_free(struct aspace_host *host)
{
	/* Both ends may be in mappings that reach further, but not in the same one: never
	 * refused, and at least the steps in between have gone. */
	if (host->ballast)
		munmap(host->ballast, region_size(host, host->ballast_capacity));
	host->ballast = NULL;
	host->ballast_units = host->ballast_capacity = 0;
}

void asp_ballast_fill(struct aspace_host *host, size_t units)
{
	if (units > host->ballast_capacity && !asp_ballast_make(host, 2 * units))
		units = host->ballast_capacity;
	while (host->ballast_units < units) {
		if (host->ballast_units + 2 <= units && add_two(host))
			continue;
		if (!end_at(host, host->ballast_units + 1))
			return;
	}
}

void asp_ballast_take_back(struct aspace_host *host, size_t units)
{
	size_t step = host->ballast_units + 1;

	if (host->ballast_units < units &&
	    mmap(step_page(host, step), step_size(host, step), step_protection(step),
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
		host->ballast_units = step;
}
