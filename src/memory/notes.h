/* SPDX-License-Identifier: MIT */
/*
 * Notes that are found by the start of an area, beside the tree: a treap (treap.h) by `start`. No two
 * have the same. What is noted lies around the note.
 */
#ifndef ASPACE_MEMORY_NOTES_H
#define ASPACE_MEMORY_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct asp_note {
	uint64_t start;
	struct asp_note *below[2];
};

/* Where the note is that starts there, or would be: *place is it, or NULL. O(log notes) on average, as
 * the others. */
struct asp_note **asp_notes_place(struct asp_note **root, uint64_t start);
static inline struct asp_note *asp_notes_find(struct asp_note *root, uint64_t start)
{
	return root ? *asp_notes_place(&root, start) : NULL;
}
/* Puts it in, by note->start. */
void asp_notes_plant(struct asp_note **root, struct asp_note *note);
/* Takes out what is at the place. */
void asp_notes_uproot(struct asp_note **place);
/* Is it where a search finds it, with nothing on the way that it should be above of? */
bool asp_notes_in_place(struct asp_note *root, const struct asp_note *note);

#endif
