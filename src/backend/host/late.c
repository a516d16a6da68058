/* SPDX-License-Identifier: MIT */
/*
 * Late effects: what a PROTECT does to contents, and advice. Neither can be taken back, so it waits
 * for the flush; an undo comes before that.
 *
 * Entries are disjoint, or two of one range, next to each other.
 */
#include "private.h"

bool asp_late_reserve(struct aspace_host *host, size_t entries)
{
	size_t capacity = host->late_capacity;
	void *late;

	if (entries <= capacity)
		return true;
	while (capacity < entries)
		capacity *= 2;
	late = mremap(host->late, host->late_capacity * sizeof(*host->late),
		      capacity * sizeof(*host->late), MREMAP_MAYMOVE);
	if (late == MAP_FAILED)
		return false;
	host->late = late;
	host->late_capacity = capacity;
	return true;
}

/* The advice on huge pages that a change of flags brings; 0: none. */
static int huge_advice(uint64_t old_flags, uint64_t new_flags)
{
	if (!((old_flags ^ new_flags) & ASPACE_HOST_HUGEPAGE))
		return 0;
	return new_flags & ASPACE_HOST_HUGEPAGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
}

size_t asp_late_needed(const struct aspace_change *change)
{
	uint64_t differ = change->old_flags ^ change->new_flags;

	if (change->kind != ASPACE_CHANGE_PROTECT)
		return 0;
	return !!(differ & ASPACE_HOST_DECOMMITTED) + (size_t) !!(differ & ASPACE_HOST_HUGEPAGE);
}

static void add(struct aspace_host *host, struct aspace_range range, int advice)
{
	if (!host->late_count)
		host->late_hull = range;
	if (range.start.value < host->late_hull.start.value)
		host->late_hull.start = range.start;
	if (range.end.value > host->late_hull.end.value)
		host->late_hull.end = range.end;
	host->late[host->late_count++] = (struct asp_host_late){range, advice};
}

void asp_late_note(struct aspace_host *host, const struct aspace_change *change)
{
	int advice = huge_advice(change->old_flags, change->new_flags);

	if (~change->old_flags & change->new_flags & ASPACE_HOST_DECOMMITTED)
		add(host, change->range, MADV_DONTNEED);
	/* An undo finds its operation's advice not yet given, and has just forgotten it. */
	if (advice && !change->undo)
		add(host, change->range, advice);
}

/* Locked memory can be dropped since Linux 5.18. */
bool asp_host_drop(struct aspace_range range)
{
	void *start = asp_host_pointer(range.start);

	return !madvise(start, asp_host_length(range), MADV_DONTNEED) ||
	       !madvise(start, asp_host_length(range), MADV_DONTNEED_LOCKED);
}

static void run(struct aspace_host *host, const struct asp_host_late *late)
{
	if (late->advice != MADV_DONTNEED)
		/* Advice: EINVAL without huge pages, ENOMEM at the limit; both are fine. */
		madvise(asp_host_pointer(late->range.start), asp_host_length(late->range),
			late->advice);
	else if (!asp_host_drop(late->range))
		/* A fresh mapping is empty. If even that is refused, the contents stay behind
		 * PROT_NONE: flush cannot fail. */
		asp_host_lay(host, late->range, PROT_NONE);
}

/*
 * At the flush the range will mean something else. An operation runs upward and is undone from
 * its end: mostly the answer is above late_hull, or the newest entry.
 */
void asp_late_settle(struct aspace_host *host, struct aspace_range range, bool undo)
{
	bool exact = false;

	if (!host->late_count || !asp_host_overlap(range, host->late_hull))
		return;
	for (size_t i = host->late_count; i-- > 0;) {
		struct asp_host_late *late = &host->late[i];
		bool equal = late->range.start.value == range.start.value &&
			     late->range.end.value == range.end.value;

		if (exact && !equal)
			return;
		if (!asp_host_overlap(late->range, range))
			continue;
		exact = equal;
		if (!undo)
			run(host, late);
		for (size_t k = i + 1; k < host->late_count; k++)
			host->late[k - 1] = host->late[k];
		host->late_count--;
	}
}

void asp_late_run(struct aspace_host *host)
{
	for (size_t i = 0; i < host->late_count; i++)
		run(host, &host->late[i]);
	host->late_count = host->late_promised = 0;
}
