/* SPDX-License-Identifier: MIT */
/*
 * Notes by start: a treap whose links are in the notes.
 *
 * Invariants:
 *  1. Whatever is in it is found by its start.
 *  2. Nothing ranks below what is below it.
 */
#include "memory/notes.h"
#include "memory/treap.h"

static uint64_t rank_of(const struct asp_note *note)
{
	return asp_treap_rank(note->start + UINT64_C(0x9e3779b97f4a7c15)); /* 0 is a start, too */
}

struct asp_note **asp_notes_place(struct asp_note **root, uint64_t start)
{
	struct asp_note **place = root;

	while (*place && (*place)->start != start)
		place = &(*place)->below[(*place)->start < start];
	return place;
}

void asp_notes_plant(struct asp_note **root, struct asp_note *note)
{
	struct asp_note **place = root, **left, **right, *rest;
	uint64_t rank = rank_of(note);

	while (*place && rank_of(*place) > rank)
		place = &(*place)->below[(*place)->start < note->start];
	/* What is there is divided, and goes below. */
	rest = *place;
	*place = note;
	left = &note->below[0];
	right = &note->below[1];
	while (rest) {
		if (rest->start < note->start) {
			*left = rest;
			left = &rest->below[1];
			rest = *left;
		} else {
			*right = rest;
			right = &rest->below[0];
			rest = *right;
		}
	}
	*left = *right = NULL;
}

/* What is below it on both sides is joined, and takes its place. */
void asp_notes_uproot(struct asp_note **place)
{
	struct asp_note *left = (*place)->below[0], *right = (*place)->below[1];

	while (left && right) {
		if (rank_of(left) > rank_of(right)) {
			*place = left;
			place = &left->below[1];
			left = *place;
		} else {
			*place = right;
			place = &right->below[0];
			right = *place;
		}
	}
	*place = left ? left : right;
}

bool asp_notes_in_place(struct asp_note *root, const struct asp_note *note)
{
	const struct asp_note *at = root;
	uint64_t rank = UINT64_MAX;

	while (at && rank_of(at) <= rank && at->start != note->start) {
		rank = rank_of(at);
		at = at->below[at->start < note->start];
	}
	return at && at == note && rank_of(at) <= rank;
}
