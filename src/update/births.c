/* SPDX-License-Identifier: MIT */
/*
 * Births of references: since which version an area's reference to its user object has been
 * there, where that matters.
 *
 * It matters to snapshots that are older than the reference, and to no other: whoever took
 * a snapshot after its birth finds it there until it is retired. So a birth is noted only
 * while a snapshot is open, and is forgotten when none is left that is older. Areas have no
 * room for it: the notes stand beside the tree, found by the start of the area.
 *
 * They are a treap (memory/treap.h) by start, and a list by age, from which they are forgotten. All
 * of it is the writer's.
 *
 * Invariants:
 *  B1  each note is for an area of the newest version that starts there and has a reference that
 *      will be released
 *  B2  the list has them in the order of their births; whatever is listed is in the treap, by
 *      start, and nothing ranks below what is below it
 */
#include "memory/treap.h"
#include "update/births.h"

static uint64_t rank_of(const struct aspace_record *record)
{
	return asp_treap_rank(record->start + UINT64_C(0x9e3779b97f4a7c15)); /* 0 is a start, too */
}

/* Where the note of the area that starts there is, or would be. */
static struct aspace_record **place_of(struct asp_births *births, uint64_t start)
{
	struct aspace_record **place = &births->root;

	while (*place && (*place)->start != start)
		place = &(*place)->below[(*place)->start < start];
	return place;
}

static void plant(struct asp_births *births, struct aspace_record *record)
{
	struct aspace_record **place = &births->root, **left, **right, *rest;
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
static void uproot(struct aspace_record **place, const struct aspace_record *record)
{
	struct aspace_record *left = record->below[0], *right = record->below[1];

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

static void remove_at(struct aspace *space, struct aspace_record **place,
		      struct aspace_record *record)
{
	struct asp_births *births = &space->births;

	uproot(place, record);
	if (record->older)
		record->older->next = record->next;
	else
		births->oldest = record->next;
	if (record->next)
		record->next->older = record->older;
	else
		births->youngest = record->older;
	births->count--;
	asp_pool_put(&space->records, record, sizeof(*record));
}

void asp_births_add(struct aspace *space, struct aspace_record *record, uint64_t start,
		    uint64_t version)
{
	struct asp_births *births = &space->births;

	record->start = start;
	record->since = version;
	record->next = NULL;
	record->older = births->youngest;
	if (births->youngest)
		births->youngest->next = record;
	else
		births->oldest = record;
	births->youngest = record;
	births->count++;
	plant(births, record);
}

uint64_t asp_births_take(struct aspace *space, uint64_t start)
{
	struct aspace_record **place = place_of(&space->births, start), *record = *place;
	uint64_t since;

	if (!record)
		return 0;
	since = record->since;
	remove_at(space, place, record);
	return since;
}

void asp_births_move(struct aspace *space, uint64_t from, uint64_t to)
{
	struct aspace_record **place = place_of(&space->births, from), *record = *place;

	if (!record)
		return;
	uproot(place, record);
	record->start = to;
	plant(&space->births, record);
}

void asp_births_forget(struct aspace *space, uint64_t version, size_t most)
{
	struct aspace_record *oldest;

	while (most-- && (oldest = space->births.oldest) && oldest->since <= version)
		remove_at(space, place_of(&space->births, oldest->start), oldest);
}

/* Is it where a search finds it, with nothing on the way that it should be above of? */
static bool is_in_place(struct asp_births *births, const struct aspace_record *record)
{
	const struct aspace_record *at = births->root;
	uint64_t rank = UINT64_MAX;

	while (at && rank_of(at) <= rank && at->start != record->start) {
		rank = rank_of(at);
		at = at->below[at->start < record->start];
	}
	return at == record && rank_of(at) <= rank;
}

bool asp_births_valid(struct aspace *space, uint64_t *where)
{
	const struct aspace_record *older = NULL, *record = space->births.oldest;
	size_t count = 0;

	for (; record; older = record, record = record->next, count++) {
		const struct asp_node *leaf;
		const struct asp_slot *slot;
		int at;

		*where = record->start;
		if (record->older != older || (older && older->since > record->since) ||
		    record->since > asp_root(space)->birth || !is_in_place(&space->births, record))
			return false;
		leaf = asp_tree_find(asp_root(space), record->start, &at);
		if (!leaf || leaf->leaf.start[at] != record->start)
			return false;
		slot = &leaf->leaf.slot[at];
		if (!slot->user || !asp_op(slot->backend, release))
			return false;
	}
	return older == space->births.youngest && count == space->births.count;
}
