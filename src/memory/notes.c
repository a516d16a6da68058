/* SPDX-License-Identifier: MIT */
/*
 * Notes by start: a treap whose links are in the records.
 *
 * Invariants:
 *  1. Whatever is in it is found by its start.
 *  2. Nothing ranks below what is below it.
 */
#include "memory/notes.h"
#include "memory/treap.h"

static uint64_t rank_of(const struct aspace_record *record)
{
	return asp_treap_rank(record->start + UINT64_C(0x9e3779b97f4a7c15)); /* 0 is a start, too */
}

struct aspace_record **asp_notes_place(struct aspace_record **root, uint64_t start)
{
	struct aspace_record **place = root;

	while (*place && (*place)->start != start)
		place = &(*place)->below[(*place)->start < start];
	return place;
}

void asp_notes_plant(struct aspace_record **root, struct aspace_record *record)
{
	struct aspace_record **place = root, **left, **right, *rest;
	uint64_t rank = rank_of(record);

	while (*place && rank_of(*place) > rank)
		place = &(*place)->below[(*place)->start < record->start];
	/* What is there is divided, and goes below. */
	rest = *place;
	*place = record;
	left = &record->below[0];
	right = &record->below[1];
	while (rest) {
		if (rest->start < record->start) {
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
void asp_notes_uproot(struct aspace_record **place)
{
	struct aspace_record *left = (*place)->below[0], *right = (*place)->below[1];

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

bool asp_notes_in_place(struct aspace_record *root, const struct aspace_record *record)
{
	const struct aspace_record *at = root;
	uint64_t rank = UINT64_MAX;

	while (at && rank_of(at) <= rank && at->start != record->start) {
		rank = rank_of(at);
		at = at->below[at->start < record->start];
	}
	return at && at == record && rank_of(at) <= rank;
}
