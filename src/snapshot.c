/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: versions pinned beyond a read section.
 *
 * A snapshot is a note on a list, ordered by version (S6); reclamation looks at
 * the list before it frees anything (reclaim.c). Taking and releasing one need a
 * short lock of their own and neither wait for writers nor make them wait.
 */
#include "space.h"

enum aspace_status aspace_snapshot_take(struct aspace *space, struct aspace_snapshot *snapshot)
{
	enum aspace_status status = ASPACE_OK;
	struct asp_node *root;

	if (!snapshot)
		return ASPACE_INVALID_PARAM;
	*snapshot = (struct aspace_snapshot){.space = space};

	/* The section covers the time from reading the root to being on the list: what
	 * is retired in between cannot be recycled before the note is visible. The root
	 * is read under the lock, so the list stays in order. */
	asp_read_lock(space->grace);
	asp_lock_acquire(&space->snap_lock);
	if (space->options.snapshot_max &&
	    space->snapshot_nodes * sizeof(struct asp_node) > space->options.snapshot_max) {
		status = ASPACE_NO_MEMORY;
	} else {
		root = asp_root(space);
		snapshot->root = root;
		snapshot->version = root->birth;
		snapshot->older = space->newest;
		if (space->newest)
			space->newest->newer = snapshot;
		else
			space->oldest = snapshot;
		space->newest = snapshot;
		space->snapshot_count++;
	}
	asp_lock_release(&space->snap_lock);
	asp_read_unlock(space->grace);
	return status;
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
	asp_lock_acquire(&space->snap_lock);
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
	asp_lock_release(&space->snap_lock);
	*snapshot = (struct aspace_snapshot){0};

	/* The next writer takes it from there; where none comes, the helper does. */
	if (freed)
		asp_grace_request(space->grace, &space->client, 1);
}
