/* SPDX-License-Identifier: MIT */
/*
 * Lookups and cursors: reading one version of the tree.
 *
 * Loads here are plain: the root was read with acquire, and nothing below it is
 * written after publication.
 */
#include "tree/search.h"
#include "tree/tree.h"

/* The leaf where an area that starts at or before the address would be, and its
 * slot, or NULL if all areas start above. Keys are exact at every level: below
 * the root the count is never 0. The address is clamped. */
static inline const struct asp_node *descend_le(const struct asp_node *node, uint64_t address,
						int *slot)
{
	unsigned count;

	for (unsigned level = node->level; level; level--) {
		count = asp_inner_count_le(node, address);
		if (!count)
			return NULL;
		node = node->inner.child[count - 1];
	}
	count = asp_leaf_count_le(node, address);
	if (!count)
		return NULL;
	*slot = (int)count - 1;
	return node;
}

const struct asp_node *asp_tree_find(const struct asp_node *root, uint64_t address, int *slot)
{
	const struct asp_node *leaf = descend_le(root, asp_clamp(address), slot);

	/* Compared with the address as it came: 2^64 - 1 is never below an end. */
	if (!leaf || address >= leaf->leaf.slot[*slot].end)
		return NULL;
	return leaf;
}

bool asp_cursor_seek(struct asp_cursor *cursor, const struct asp_node *root, uint64_t address)
{
	const struct asp_node *node = root;
	unsigned slot;

	cursor->root = root;
	cursor->leaf = NULL;
	cursor->slot = 0;
	if (address == ASP_NO_KEY)
		return false;
	for (unsigned level = node->level; level; level--) {
		unsigned child = asp_inner_count_ended(node, address);

		if (child >= node->count)
			return false;
		node = node->inner.child[child];
	}
	slot = asp_leaf_first_above(node, address);
	if (slot == node->count)
		return false;
	cursor->leaf = node;
	cursor->slot = (int)slot;
	return true;
}

bool asp_cursor_seek_below(struct asp_cursor *cursor, const struct asp_node *root, uint64_t address)
{
	cursor->root = root;
	cursor->slot = 0;
	cursor->leaf = address ? descend_le(root, address - 1, &cursor->slot) : NULL;
	return cursor->leaf != NULL;
}

bool asp_cursor_next(struct asp_cursor *cursor)
{
	if (!cursor->leaf)
		return false;
	if (cursor->slot + 1 < cursor->leaf->count) {
		cursor->slot++;
		return true;
	}
	return asp_cursor_seek(cursor, cursor->root, asp_cursor_slot(cursor)->end);
}

bool asp_cursor_prev(struct asp_cursor *cursor)
{
	if (!cursor->leaf)
		return false;
	if (cursor->slot > 0) {
		cursor->slot--;
		return true;
	}
	return asp_cursor_seek_below(cursor, cursor->root, asp_cursor_start(cursor));
}
