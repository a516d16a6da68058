/* SPDX-License-Identifier: MIT */
/*
 * What is held back, and what the operations reserve beside it.
 */
#ifndef ASPACE_UPDATE_RESERVE_H
#define ASPACE_UPDATE_RESERVE_H

#include "space/space.h"

/*
 * What is held back, so that giving back always works: reservations leave it alone, but for
 * those that unmap whole areas. From a version with so many nodes and areas, unmapping
 * everything takes at most
 *
 *   at once  the nodes of a removal with one border (what stands, should a backend refuse), or a
 *            copy of all where areas are marked as leaving; records of all nodes, which are
 *            retired; of all references, or, where areas leave, of these, which become those of
 *            the references
 *   in part  the nodes of one removal, or of what puts an area back whose deferred unmap was
 *            refused; they come back after a grace period
 *   beside   a copy of the tree and its records: while a snapshot is open, of those nodes that it
 *   snapshots shows, for these do not come back
 *
 * Invariants (S9; nodes that are retired count as free, unless a snapshot shows them):
 *  H1  of nodes and records so many are free as that takes, beside the snapshots that are open
 *  H2  where `covered`, as it would take beside a snapshot of the newest version
 *
 * Whoever makes the version larger leaves enough for both, or, where memory for the copy is not
 * to be had and no snapshot is open, is `covered` no more. Nor is who gives back, if all of it must
 * be spent for that: it need not wait for a snapshot to go, because what is copied beside one, and
 * does not come back, that one will not keep a second time. So H1 is kept by all operations, and by
 * aspace_snapshot_take(), which asks for `covered`.
 */
static inline void asp_hold_back_beside(struct aspace *space, size_t height, size_t nodes,
					size_t areas, size_t copy)
{
	bool leaving = space->mode & ASPACE_GRACE_UNMAP;
	size_t border = asp_nodes_for_border(height);
	size_t step = leaving ? asp_nodes_for_place(height) : asp_nodes_for_removal(height);

	space->copy = copy;
	space->nodes.held = border + step + copy + (leaving ? nodes : 0);
	space->records.held = (nodes + copy + border + step) / ASP_RECORD_NODES + 8 +
			      (leaving || space->counts ? areas : 0);
}

static inline void asp_hold_back(struct aspace *space, size_t height, size_t nodes, size_t areas)
{
	asp_hold_back_beside(space, height, nodes, areas, nodes);
}

/* What a snapshot would take is not; no longer. False: one is open, and it must. */
bool asp_uncover(struct aspace *space);
/* Nothing is held back but the copy, a snapshot of the base may be taken meanwhile: for who tells
 * what stands. */
void asp_spend_for_truth(struct aspace *space);
/* Before that is published: hold back what it takes, or cover snapshots no longer. */
void asp_hold_for_truth(struct asp_plan *plan);
/* Grow the pools, so that what is held back is left. Then snapshots are covered. */
bool asp_make_room(struct aspace *space, const struct asp_edit_need *need);

/* Are snapshots covered, and will they be? */
static inline bool asp_has_room(const struct aspace *space, const struct asp_edit_need *need)
{
	return asp_pool_has(&space->nodes, need->nodes) &&
	       asp_pool_has(&space->records, asp_edit_records(need)) && space->covered;
}

/* asp_edit_reserve() for who gives back: if it must be, all is spent. */
bool asp_reserve_or_spend(struct asp_plan *plan, const struct asp_edit_need *need);

/* asp_edit_reserve(), should a tree be published that is neither the private one nor the base, which
 * has so many areas more than that at most. */
bool asp_reserve_truth(struct asp_plan *plan, const struct asp_edit_need *need, size_t more);

/* All that an operation may take that removes so many areas, neighbours of each other, and
 * changes one place; merging included. */
bool asp_reserve_place(struct asp_plan *plan, size_t removed);
/* Unmaps `count` whole areas. Leaving ones stay in the tree, changed, and have records. */
bool asp_reserve_giving_back(struct asp_plan *plan, size_t count, bool leaving);
/* The same where two areas are cut, or in an open transaction; what leaves does so in `parts`,
 * of which those that are not all of an area become one. */
bool asp_reserve_cut(struct asp_plan *plan, size_t count, size_t parts);
/* `count` areas go elsewhere, and get references of their own. */
bool asp_reserve_move(struct asp_plan *plan, size_t count);
/* For each area a path, and what its removal takes, if it merges; they fall into so many `parts`, each with a
 * record. */
bool asp_reserve_scattered(struct asp_plan *plan, size_t areas, size_t parts);
/* A record. */
bool asp_reserve_note(struct asp_plan *plan);

#endif
