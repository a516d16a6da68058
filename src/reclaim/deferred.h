/* SPDX-License-Identifier: MIT */
/*
 * Lists of what waits for a grace period, and what a share of it does; see reclaim.c. Under the writer
 * lock.
 */
#ifndef ASPACE_RECLAIM_DEFERRED_H
#define ASPACE_RECLAIM_DEFERRED_H

#include "space/space.h"

/* Leaving areas, and references, that are taken off their lists under one hold of the lock. An
 * operation retires a few of either for each area that it, or one before it, has made: a share is
 * more than that, so that what is due gets less with each operation. */
#define ASP_SHARE 32

/* All of it waits for that grace period. */
static inline void asp_list_stamp(struct aspace_record_list *list, uint64_t stamp)
{
	for (struct aspace_record *record = list->head; record; record = record->next)
		record->stamp = stamp;
}

/* Does it hold anything that had left when stamps were at most `stamp`? */
static inline bool asp_list_holds(const struct aspace_record_list *list, uint64_t stamp)
{
	return list->head && list->head->stamp <= stamp;
}

/* Is anything on `leaving`, or on `deferred`, due? */
static inline bool asp_is_due(struct aspace *space, const struct aspace_record_list *list)
{
	return list->head && asp_grace_elapsed(space->grace, list->head->stamp);
}

/* How many operations have left something on the list behind that may have been due. */
static inline uint64_t asp_late_of(const struct asp_late *late)
{
	return late->before + late->now;
}

/* ---- leaving.c, references.c ------------------------------------------------- */

/* The leaving and pending areas that have come due, at most ASP_SHARE, in one version. The references of those
 * that leave are the next to be released: so many. */
uint32_t asp_reclaim_late_areas(struct aspace *space);
/* The references that have come due, at most so many. False: so many as there was room for. */
bool asp_reclaim_references(struct aspace *space, uint32_t left);

#endif
