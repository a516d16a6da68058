/* SPDX-License-Identifier: MIT */
/*
 * Protects that take something away, in a grace-unmap space: access, or contents.
 *
 * Readers that found the area before may go on using what it had, so its backend is asked only after
 * a grace period. Until then the area is *pending*: the newest version shows the new flags, the
 * backend holds others. A lookup must not pay for that, so no published area is marked:
 * pending ones are noted beside the tree, found by their start. (In a private tree they are marked,
 * because there they may be cut, protected once more, or unmapped, before anybody knows of them.)
 *
 * Invariants (S3, and these, of aspace_validate):
 *  Q1  Each note is for an area of the newest version that starts there and is not leaving; it is
 *      on the list of deferred changes, or among those that wait for a pin, and nothing else there
 *      says that it is pending.
 *  Q2  A pending area stays as it is: whoever would change it waits, and it does not merge. So what
 *      was noted is what the backend is asked for, and giving the flags back needs no more than the
 *      area itself.
 *  Q3  Notes come and go under the writer lock and the lock of the list of pins. They come before
 *      the version that shows the new flags. They go when the backend has answered, while the area
 *      is claimed. So a fault, which asks under the lock of pins, goes on only with the flags
 *      that the backend holds while it is at work.
 *  Q4  No published area is marked ASP_FLAG_PENDING.
 */
#include "update/pending.h"
#include "update/pins.h"
#include "update/plan.h"

unsigned asp_loses(const struct aspace *space, struct aspace_backend *backend, uint64_t from,
		   uint64_t to, uint64_t *meanwhile)
{
	unsigned loses;

	*meanwhile = from;
	if (from == to || !(space->mode & ASPACE_GRACE_UNMAP) || !asp_op(backend, loses))
		return 0;
	loses = backend->ops->loses(backend, from, to, meanwhile);
	if (*meanwhile & ~backend->flags_mask)
		*meanwhile = from;
	return loses;
}

bool asp_leaving_is_full(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	bool full = space->leaving_bytes > space->options.leaving_max;

	if (plan->open || (!full && !asp_plan_is_behind(plan, ASP_FOR_LEAVING)))
		return false;
	/* Any will do. If all of it waits for pins, so do we. */
	plan->way = !full || space->leaving.head ? ASP_CHANGES_NOTHING : aspace_limits(space);
	plan->leaving_in_way = plan->at_bound = true;
	return true;
}

void asp_pending_note(struct asp_plan *plan, struct aspace_range range, uint64_t held_flags,
		      unsigned loses)
{
	struct aspace_record *record = asp_pool_get(&plan->space->records, sizeof(*record));

	record->note.start = range.start.value;
	record->held_flags = held_flags;
	record->pending = true;
	record->drops = loses & ASPACE_LOSES_CONTENTS;
	record->retired = plan->edit.version;
	if (record->drops)
		plan->leaving_bytes += range.end.value - range.start.value;
	asp_list_push(&plan->leaving, record);
}

/* Its leaf is the edit's own since it was marked: nothing is taken. */
static void unmark(struct asp_edit *edit, uint64_t start)
{
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(edit, &cursor, start);
	area = asp_cursor_area(&cursor);
	asp_edit_update(edit, start, area.end.value, area.flags & ~ASP_FLAG_PENDING, area.user);
}

void asp_pending_begin(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	struct aspace_record *record;

	space->leaving_bytes += plan->leaving_bytes;
	if (space->leaving_bytes_max < space->leaving_bytes)
		space->leaving_bytes_max = space->leaving_bytes;
	plan->leaving_bytes = 0;
	asp_mutex_acquire(&space->pins.lock);
	for (record = plan->leaving.head; record; record = record->next) {
		if (!record->pending)
			continue;
		unmark(&plan->edit, record->note.start);
		asp_notes_plant(&space->pending.root, &record->note);
		atomic_fetch_add_explicit(&space->pending.count, 1, memory_order_relaxed);
	}
	asp_mutex_release(&space->pins.lock);
}

void asp_pending_end(struct aspace *space, struct aspace_record *record)
{
	asp_mutex_acquire(&space->pins.lock);
	asp_notes_uproot(asp_notes_place(&space->pending.root, record->note.start));
	atomic_fetch_sub_explicit(&space->pending.count, 1, memory_order_relaxed);
	asp_mutex_release(&space->pins.lock);
}
