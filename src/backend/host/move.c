/* SPDX-License-Identifier: MIT */
/*
 * Contents carried from one place to another.
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
#include "private.h"

/* Carry [from, from + size) to `to`, piece by piece; `done` says how far it came. What is left
 * at the source is mapped, and empty where it was carried away. */
static enum aspace_status transfer(struct aspace_host *host, uint64_t from, uint64_t to,
				   uint64_t size, uint64_t *done)
{
	uint64_t piece = size;

	*done = 0;
	while (*done < size) {
		void *source = asp_host_pointer(aspace_va(from + *done));
		void *target = asp_host_pointer(aspace_va(to + *done));
		/* NULL: some C libraries hand the fifth argument on, given or not. */
		void *between =
			mremap(source, piece, piece, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		enum aspace_status status;

		if (between == MAP_FAILED && errno == EFAULT && piece > host->page) {
			piece = (piece / 2 + host->page - 1) & ~(host->page - 1);
			continue;
		}
		if (between == MAP_FAILED)
			return asp_host_status(errno);
		if (mremap(between, piece, piece, MREMAP_MAYMOVE | MREMAP_FIXED, target) ==
		    MAP_FAILED) {
			status = asp_host_status(errno);
			asp_ballast_drop(host);
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

/* What was carried away, or had been carried there and back again, is empty. */
static enum aspace_status leave(struct aspace_host *host, const struct aspace_change *change,
				struct aspace_range range)
{
	return asp_host_give_back(
		host, range, aspace_host_protection(change->old_flags),
		(struct asp_host_means){.units_left = ASP_BALLAST_KEPT, .in_place = true});
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
		asp_ballast_drop(host);
		if (transfer(host, to + back, from + back, done - back, &back) != ASPACE_OK)
			return ASPACE_BAD_STATE;
	}
	return leave(host, change, aspace_range_of(to, to + done)) == ASPACE_OK ? status
										: ASPACE_BAD_STATE;
}

enum aspace_status asp_host_move(struct aspace_host *host, const struct aspace_change *change)
{
	struct aspace_range from = change->range, to = {change->destination, change->destination};
	uint64_t done;
	enum aspace_status status;

	to.end.value += asp_host_length(from);
	status = transfer(host, from.start.value, to.start.value, asp_host_length(from), &done);
	if (done)
		asp_scars_forget(host, aspace_range_of(to.start.value, to.start.value + done));
	if (status == ASPACE_OK)
		status = leave(host, change, from);
	if (status == ASPACE_OK || status == ASPACE_BAD_STATE)
		return status;
	return transfer_back(host, change, done, status);
}
