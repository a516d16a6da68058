/* SPDX-License-Identifier: MIT */
/*
 * Notes that are found by the start of an area, beside the tree: records in a treap (treap.h) by
 * `start`. No two have the same.
 */
#ifndef ASPACE_MEMORY_NOTES_H
#define ASPACE_MEMORY_NOTES_H

#include "memory/record.h"

/* Where the note is that starts there, or would be: *place is it, or NULL. O(log notes) on average, as
 * the others. */
struct aspace_record **asp_notes_place(struct aspace_record **root, uint64_t start);
static inline struct aspace_record *asp_notes_find(struct aspace_record *root, uint64_t start)
{
	return root ? *asp_notes_place(&root, start) : NULL;
}
/* Puts it in, by record->start. */
void asp_notes_plant(struct aspace_record **root, struct aspace_record *record);
/* Takes out what is at the place. */
void asp_notes_uproot(struct aspace_record **place);
/* Is it where a search finds it, with nothing on the way that it should be above of? */
bool asp_notes_in_place(struct aspace_record *root, const struct aspace_record *record);

#endif
