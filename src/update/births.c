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

static struct asp_birth *birth_of(struct asp_note *note)
{
	return (struct asp_birth *)(void *)((char *)note - offsetof(struct asp_birth, note));
}

static void remove_at(struct aspace *space, struct asp_note **place)
{
	struct asp_births *births = &space->births;
	struct asp_birth *birth = birth_of(*place);

	asp_notes_uproot(place);
	if (birth->older)
		birth->older->younger = birth->younger;
	else
		births->oldest = birth->younger;
	if (birth->younger)
		birth->younger->older = birth->older;
	else
		births->youngest = birth->older;
	births->count--;
	asp_pool_put(&space->records, birth, sizeof(struct aspace_record));
}

void asp_births_add(struct aspace *space, struct aspace_record *record, uint64_t start,
		    uint64_t version)
{
	struct asp_births *births = &space->births;
	struct asp_birth *birth = (struct asp_birth *)(void *)record;

	birth->note.start = start;
	birth->since = version;
	birth->younger = NULL;
	birth->older = births->youngest;
	if (births->youngest)
		births->youngest->younger = birth;
	else
		births->oldest = birth;
	births->youngest = birth;
	births->count++;
	asp_notes_plant(&births->root, &birth->note);
}

uint64_t asp_births_take(struct aspace *space, uint64_t start)
{
	struct asp_note **place = asp_notes_place(&space->births.root, start);
	uint64_t since;

	if (!*place)
		return 0;
	since = birth_of(*place)->since;
	remove_at(space, place);
	return since;
}

void asp_births_move(struct aspace *space, uint64_t from, uint64_t to)
{
	struct asp_note **place = asp_notes_place(&space->births.root, from), *note = *place;

	if (!note)
		return;
	asp_notes_uproot(place);
	note->start = to;
	asp_notes_plant(&space->births.root, note);
}

void asp_births_forget(struct aspace *space, uint64_t version, size_t most)
{
	struct asp_birth *oldest;

	while (most-- && (oldest = space->births.oldest) && oldest->since <= version)
		remove_at(space, asp_notes_place(&space->births.root, oldest->note.start));
}

bool asp_births_valid(struct aspace *space, uint64_t *where)
{
	const struct asp_birth *older = NULL, *birth = space->births.oldest;
	size_t count = 0;

	for (; birth; older = birth, birth = birth->younger, count++) {
		const struct asp_node *leaf;
		const struct asp_slot *slot;
		int at;

		*where = birth->note.start;
		if (birth->older != older || (older && older->since > birth->since) ||
		    birth->since > asp_root(space)->birth ||
		    !asp_notes_in_place(space->births.root, &birth->note))
			return false;
		leaf = asp_tree_find(asp_root(space), birth->note.start, &at);
		if (!leaf || leaf->leaf.start[at] != birth->note.start)
			return false;
		slot = &leaf->leaf.slot[at];
		if (!slot->user || !asp_op(slot->backend, release))
			return false;
	}
	return older == space->births.youngest && count == space->births.count;
}
