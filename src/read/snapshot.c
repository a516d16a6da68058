/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: versions pinned beyond a read section.
 *
 * A snapshot is a note on a list, ordered by version (S6); reclamation looks at
 * the list before it frees anything (reclaim/nodes.c). Taking and releasing one need a
 * short lock of their own, which writers take for as long as it takes to publish.
 *
 * There may be very many, and reclamation asks for the newest one before some version. So
 * the notes are a search tree as well, a treap (memory/treap.h), which needs no more memory than
 * the notes. New ones come at its right end.
 *
 * Invariants:
 *  C1  read from left to right, the tree is the list from oldest to newest
 *  C2  nobody ranks below what is below it; ranks are as good as random, so the tree is flat
 */
#include "memory/treap.h"
#include "space/space.h"

static uint64_t rank_of(const struct aspace_snapshot *snapshot)
{
	return asp_treap_rank((uintptr_t)snapshot);
}

/* To the right of `newest`, which has nothing there yet: up to where the rank fits, and what
 * was there goes below. On average two steps. */
static void plant(struct aspace *space, struct aspace_snapshot *snapshot)
{
	struct aspace_snapshot *above = space->newest, *below = NULL;

	while (above && rank_of(above) < rank_of(snapshot)) {
		below = above;
		above = above->above;
	}
	snapshot->above = above;
	if (above)
		above->below[1] = snapshot;
	else
		space->snapshot_tree = snapshot;
	snapshot->below[0] = below;
	if (below)
		below->above = snapshot;
}

/* What is below it on both sides is joined, and takes its place. On average two steps. */
static void uproot(struct aspace *space, const struct aspace_snapshot *snapshot)
{
	struct aspace_snapshot *left = snapshot->below[0], *right = snapshot->below[1];
	struct aspace_snapshot *above = snapshot->above, **place = &space->snapshot_tree;

	if (above)
		place = &above->below[above->below[1] == snapshot];
	while (left && right) {
		bool goes_right = rank_of(left) > rank_of(right);
		struct aspace_snapshot *top = goes_right ? left : right;

		*place = top;
		top->above = above;
		above = top;
		place = &top->below[goes_right];
		if (goes_right)
			left = *place;
		else
			right = *place;
	}
	*place = left ? left : right;
	if (*place)
		(*place)->above = above;
}

struct aspace_snapshot *asp_snapshot_before(const struct aspace *space,
					    struct aspace_snapshot *guess, uint64_t before)
{
	struct aspace_snapshot *snapshot = space->snapshot_tree, *found = NULL;

	if (guess && guess->version < before && (!guess->newer || guess->newer->version >= before))
		return guess;
	while (snapshot) {
		bool is_before = snapshot->version < before;

		if (is_before)
			found = snapshot;
		snapshot = snapshot->below[is_before];
	}
	return found;
}

/* The next one to the right in the tree. */
static const struct aspace_snapshot *next_in_tree(const struct aspace_snapshot *snapshot)
{
	const struct aspace_snapshot *next = snapshot->below[1];

	if (next) {
		while (next->below[0])
			next = next->below[0];
		return next;
	}
	while (snapshot->above && snapshot->above->below[1] == snapshot)
		snapshot = snapshot->above;
	return snapshot->above;
}

bool asp_snapshots_in_order(const struct aspace *space)
{
	const struct aspace_snapshot *snapshot = space->snapshot_tree, *listed = space->oldest;

	while (snapshot && snapshot->below[0])
		snapshot = snapshot->below[0];
	for (; snapshot && snapshot == listed; listed = listed->newer) {
		if (snapshot->above && rank_of(snapshot->above) < rank_of(snapshot))
			return false;
		snapshot = next_in_tree(snapshot);
	}
	return snapshot == listed;
}

/* Pins the newest version, if snapshots are covered; under snap_lock, in a section. */
static bool pin(struct aspace *space, struct aspace_snapshot *snapshot)
{
	struct asp_node *root;

	if (!space->covered)
		return false;
	root = asp_root(space);
	snapshot->root = root;
	snapshot->version = root->birth;
	snapshot->older = space->newest;
	plant(space, snapshot);
	if (space->newest)
		space->newest->newer = snapshot;
	else
		space->oldest = snapshot;
	space->newest = snapshot;
	space->snapshot_count++;
	return true;
}

/* A thread that forks has the lock, between the hooks. */
static void lock_list(struct aspace *space)
{
	if (!asp_is_forking(space))
		asp_lock_acquire(&space->snap_lock);
}

static void unlock_list(struct aspace *space)
{
	if (!asp_is_forking(space))
		asp_lock_release(&space->snap_lock);
}

enum aspace_status aspace_snapshot_take(struct aspace *space, struct aspace_snapshot *snapshot)
{
	bool full, pinned;

	if (!snapshot)
		return ASPACE_INVALID_PARAM;
	*snapshot = (struct aspace_snapshot){.space = space};

	/* The section covers the time from reading the root to being on the list: what
	 * is retired in between cannot be recycled before the note is visible. The root
	 * is read under the lock, so the list stays in order. */
	do {
		asp_read_lock(space->grace);
		lock_list(space);
		full = space->options.snapshot_max &&
		       space->snapshot_nodes * sizeof(struct asp_node) >
			       space->options.snapshot_max;
		pinned = !full && pin(space, snapshot);
		unlock_list(space);
		asp_read_unlock(space->grace);
		/* Memory had run out; perhaps some has come back. */
	} while (!full && !pinned && asp_cover(space));
	return pinned ? ASPACE_OK : ASPACE_NO_MEMORY;
}

void aspace_snapshot_view(const struct aspace_snapshot *snapshot, struct aspace_view *view)
{
	view->space = snapshot->space;
	view->root = snapshot->root;
	view->version = snapshot->version;
}

void aspace_snapshot_release(struct aspace_snapshot *snapshot)
{
	struct aspace *space = snapshot->space;
	bool freed;

	if (!snapshot->root) /* not taken, or released already */
		return;
	lock_list(space);
	uproot(space, snapshot);
	if (snapshot->older)
		snapshot->older->newer = snapshot->newer;
	else
		space->oldest = snapshot->newer;
	if (snapshot->newer)
		snapshot->newer->older = snapshot->older;
	else
		space->newest = snapshot->older;
	space->snapshot_count--;
	space->snapshot_nodes -= snapshot->nodes.count;
	freed = snapshot->nodes.head || snapshot->objects.head;
	asp_list_splice(&space->freed_nodes, &snapshot->nodes);
	asp_list_splice(&space->freed_objects, &snapshot->objects);
	if (freed)
		atomic_store(&space->freed_any, true); /* see asp_writer_leave() */
	/* Under the lock, which a fork takes: a child finds it released in both places or in none. */
	*snapshot = (struct aspace_snapshot){0};
	unlock_list(space);

	/* The next writer takes it from there; where none comes, the helper does. */
	if (freed)
		asp_grace_request(space->grace, &space->client, 1);
}
