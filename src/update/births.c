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
 * They are found by start (memory/notes.h), and are on a list by age, from which they are forgotten.
 * All of it is the writer's.
 *
 * Invariants:
 *  B1  each note is for an area of the newest version that starts there and has a reference that
 *      will be released
 *  B2  the list has them in the order of their births; whatever is listed is found by its start
 */
#include "memory/notes.h"
#include "update/births.h"

static void remove_at(struct aspace *space, struct aspace_record **place)
{
	struct asp_births *births = &space->births;
	struct aspace_record *record = *place;

	asp_notes_uproot(place);
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
	asp_notes_plant(&births->root, record);
}

uint64_t asp_births_take(struct aspace *space, uint64_t start)
{
	struct aspace_record **place = asp_notes_place(&space->births.root, start),
			     *record = *place;
	uint64_t since;

	if (!record)
		return 0;
	since = record->since;
	remove_at(space, place);
	return since;
}

void asp_births_move(struct aspace *space, uint64_t from, uint64_t to)
{
	struct aspace_record **place = asp_notes_place(&space->births.root, from), *record = *place;

	if (!record)
		return;
	asp_notes_uproot(place);
	record->start = to;
	asp_notes_plant(&space->births.root, record);
}

void asp_births_forget(struct aspace *space, uint64_t version, size_t most)
{
	struct aspace_record *oldest;

	while (most-- && (oldest = space->births.oldest) && oldest->since <= version)
		remove_at(space, asp_notes_place(&space->births.root, oldest->start));
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
		    record->since > asp_root(space)->birth ||
		    !asp_notes_in_place(space->births.root, record))
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
