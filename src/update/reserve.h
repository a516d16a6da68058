/* SPDX-License-Identifier: MIT */
/*
 * What is held back, and what the operations reserve beside it.
 */
#ifndef ASPACE_UPDATE_RESERVE_H
#define ASPACE_UPDATE_RESERVE_H

#include "space/space.h"

/*
 * What is held back, so that giving back always works: reservations leave it alone but for
 * those that unmap whole areas, or show that a deferred unmap was refused. It is what
 * unmapping everything takes at most, from a version with so many nodes and areas:
 *
 *   at once  the nodes of a removal with one border (what stands, should a backend refuse), or a
 *            copy of all where areas are marked as leaving; records of all nodes, which are
 *            retired; of all references, or, where areas leave, of these, which become those of
 *            the references
 *   in part  the nodes of one removal, or of what puts an area back whose deferred unmap was
 *            refused; they come back after a grace period. While a snapshot is open those do
 *            not that it shows: a copy of each at most, and their records
 *
 * Whoever makes the version larger sees to it that enough for the larger one is left. In part,
 * what was held back before a snapshot was opened may not do; then what it takes to do it at once
 * is left.
 */
static inline bool asp_has_snapshots(const struct aspace *space)
{
	return atomic_load_explicit(&space->snapshot_count, memory_order_relaxed) != 0;
}

static inline void asp_hold_for_all(struct aspace *space, size_t height, size_t nodes, size_t areas)
{
	bool leaving = space->mode & ASPACE_GRACE_UNMAP;

	space->nodes.held = asp_nodes_for_border(height) + (leaving ? nodes : 0);
	space->records.held = (nodes + asp_nodes_for_border(height)) / ASP_RECORD_NODES + 2 +
			      (leaving || space->counts ? areas : 0);
}

static inline void asp_hold_back(struct aspace *space, size_t height, size_t nodes, size_t areas)
{
	size_t step = space->mode & ASPACE_GRACE_UNMAP ? asp_nodes_for_place(height)
						       : asp_nodes_for_removal(height);

	if (__builtin_expect(asp_has_snapshots(space), 0))
		step += nodes;
	asp_hold_for_all(space, height, nodes, areas);
	space->nodes.held += step;
	space->records.held += step / ASP_RECORD_NODES + 6;
}

/* Nothing is: for who gives back. */
static inline void asp_spend(struct aspace *space)
{
	space->nodes.held = space->records.held = 0;
}

/* asp_edit_reserve(), leaving what must be held back when the private tree has grown by it. */
bool asp_plan_reserve(struct aspace_txn *txn, const struct asp_edit_need *need);

/* All that an operation may take that removes so many areas, neighbours of each other, and
 * changes one place; merging included. */
bool asp_reserve_place(struct aspace_txn *txn, size_t removed);
/* Unmaps `count` whole areas. Leaving ones stay in the tree, changed, and have records. */
bool asp_reserve_giving_back(struct aspace_txn *txn, size_t count, bool leaving);
/* The same where two areas are cut, or in an open transaction; what leaves does so in `parts`,
 * of which those that are not all of an area become one. */
bool asp_reserve_cut(struct aspace_txn *txn, size_t count, size_t parts);
/* `count` areas go elsewhere, and get references of their own. */
bool asp_reserve_move(struct aspace_txn *txn, size_t count);
/* For each area a path, and what its removal takes, if it merges. */
bool asp_reserve_scattered(struct aspace_txn *txn, size_t areas);

#endif
