/* SPDX-License-Identifier: MIT */
/*
 * Pending areas: what they have lost their backend still holds, for readers; see pending.c.
 */
#ifndef ASPACE_UPDATE_PENDING_H
#define ASPACE_UPDATE_PENDING_H

#include "space/space.h"

/* What the change takes away that readers of this space keep for a while, a mask of enum
 * aspace_loss; `meanwhile`: the flags that the backend is to hold as long. */
unsigned asp_loses(const struct aspace *space, struct aspace_backend *backend, uint64_t from,
		   uint64_t to, uint64_t *meanwhile);

/* Is the area of the newest version that starts there pending? Under the writer lock. */
static inline bool asp_is_pending(const struct aspace *space, uint64_t start)
{
	return __builtin_expect(space->pending.root != NULL, 0) &&
	       asp_notes_find(space->pending.root, start);
}

/* The same in a plan: it is in the way, and will be waited for. */
static inline bool asp_meets_pending(struct asp_plan *plan, const struct aspace_area *area)
{
	if (!asp_is_pending(plan->space, area->start.value))
		return false;
	plan->leaving_in_way = true;
	plan->at_bound = false;
	plan->way = (struct aspace_range){area->start, area->end};
	return true;
}

/* The flags that the backend of an area holds which is shown with `flags`. Under the writer lock or that of the
 * list of pins. */
static inline uint64_t asp_held_flags(const struct aspace *space, uint64_t start, uint64_t flags)
{
	const struct asp_note *note = asp_notes_find(space->pending.root, start);

	return __builtin_expect(note != NULL, 0) ? asp_record_of(note)->held_flags : flags;
}

/* Might there be one in a version whose root the caller has read? Without a lock. */
static inline bool asp_pending_any(struct aspace *space)
{
	/* Relaxed: it was counted before that root was stored, and the root was read with acquire. */
	return atomic_load_explicit(&space->pending.count, memory_order_relaxed) != 0;
}

/* Is there more memory leaving than is to be? Then what adds to it waits before it has done anything. A
 * transaction has waited when it began. */
bool asp_leaving_is_full(struct asp_plan *plan);

/* Notes in a plan that the area in the range, which is marked ASP_FLAG_PENDING, will be pending. A
 * record has been reserved. */
void asp_pending_note(struct asp_plan *plan, struct aspace_range range, uint64_t held_flags,
		      unsigned loses);
/* The plan is about to be published: what leaves is counted; areas are pending, and no longer
 * marked. */
void asp_pending_begin(struct asp_plan *plan);
/* One is pending no longer. Under the writer lock, with the area claimed (asp_pins_claim()). */
void asp_pending_end(struct aspace *space, struct aspace_record *record);

#endif
