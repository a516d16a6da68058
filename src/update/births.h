/* SPDX-License-Identifier: MIT */
/*
 * Notes of births; see births.c. Under the writer lock.
 */
#ifndef ASPACE_UPDATE_BIRTHS_H
#define ASPACE_UPDATE_BIRTHS_H

#include "space/space.h"

/* Since when the reference of the area that starts there has been there. As large as a record at
 * most, and from the same pool: of what a plan has reserved one becomes the other. */
struct asp_birth {
	struct asp_note note;
	uint64_t since;
	struct asp_birth *older, *younger;
};
_Static_assert(sizeof(struct asp_birth) <= sizeof(struct aspace_record), "a record becomes one");

/* Notes that the reference of the area that starts there is there since a version, the newest or the
 * one in the making. The record is a birth from now on. */
void asp_births_add(struct aspace *space, struct aspace_record *record, uint64_t start,
		    uint64_t version);
/* The reference ends: the version since when it has been there, or 0: since before any snapshot
 * that is open. O(log births) on average, as the others. */
uint64_t asp_births_take(struct aspace *space, uint64_t start);
/* The reference's area starts elsewhere. */
void asp_births_move(struct aspace *space, uint64_t from, uint64_t to);
/* No snapshot is older than this version: forget births up to it, so many at most. */
void asp_births_forget(struct aspace *space, uint64_t version, size_t most);
/* S8, under snap_lock too; the first place where it does not hold. */
bool asp_births_valid(struct aspace *space, uint64_t *where);

#endif
