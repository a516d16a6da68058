/* SPDX-License-Identifier: MIT */
/*
 * What editing does to whole nodes; compiled once for each set of vector/vector.h.
 */
#include "tree/nodes.h"
#include "tree/search.h"
#include "tree/tree.h"

/* One register. */
typedef uint64_t asp_word __attribute__((vector_size(VECTOR_WIDTH), may_alias));

VECTOR_TARGET static inline void copy_node(struct asp_node *to, const struct asp_node *from)
{
	const asp_word *word = (const asp_word *)(const void *)from;
	asp_word *out = (asp_word *)(void *)to;

	_Static_assert(sizeof(*to) % sizeof(*word) == 0, "whole registers");
#pragma GCC unroll 64
	for (unsigned i = 0; i < sizeof(*to) / sizeof(*word); i++)
		out[i] = word[i];
}

VECTOR_TARGET static void put_finger(struct asp_edit *edit, uint64_t address)
{
	struct asp_finger *finger = &edit->finger;
	struct asp_node *node = asp_edit_root(edit);

	finger->from = 0;
	finger->spine = true;
	for (unsigned level = node->level; level; level--) {
		unsigned i = count_le(node->inner.last, ASP_INNER_MAX, address);

		if (i >= node->count)
			i = node->count - 1u;
		if (i)
			finger->from = node->inner.last[i - 1];
		finger->spine &= i + 1 == node->count;
		finger->node[level] = node;
		finger->index[level] = (uint8_t)i;
		node = node->inner.child[i];
	}
	finger->node[0] = node;
	asp_finger_set_reach(finger);
}

VECTOR_TARGET static void search_finger(struct asp_edit *edit, uint64_t address)
{
	struct asp_finger *finger = &edit->finger;
	const struct asp_node *leaf;
	unsigned at;

	if (address < finger->from || address >= finger->to)
		put_finger(edit, address);
	leaf = finger->node[0];
	at = count_le(leaf->leaf.start, ASP_LEAF_MAX, address);
	finger->slot = at - (at && leaf->leaf.slot[at - 1].end > address);
	finger->at = address;
}

/* A node to take the place of that at *ref, to be filled in. */
INLINE struct asp_node *replace_node(struct asp_edit *edit, struct asp_node **ref)
{
	struct asp_node *node = asp_nodes_get(edit->nodes);

	asp_edit_retire(edit, *ref);
	*ref = node;
	return node;
}

INLINE struct asp_node *make_private(struct asp_edit *edit, struct asp_node **ref)
{
	struct asp_node *node = *ref, *copy;

	if (node->birth == edit->version)
		return node;
	copy = replace_node(edit, ref);
	copy_node(copy, node);
	copy->birth = edit->version;
	return copy;
}

VECTOR_TARGET static struct asp_node *own(struct asp_edit *edit, struct asp_node **ref)
{
	return make_private(edit, ref);
}

/* Makes the finger's path down to the leaf's parent private; where it points to the leaf. From
 * the root down: copies go into their parent's copy. */
INLINE struct asp_node **own_inner_path(struct asp_edit *edit)
{
	struct asp_finger *finger = &edit->finger;
	struct asp_node **ref = &edit->root;

	for (unsigned level = edit->root->level; level; level--) {
		finger->node[level] = make_private(edit, ref);
		ref = &finger->node[level]->inner.child[finger->index[level]];
	}
	return ref;
}

VECTOR_TARGET static void own_path(struct asp_edit *edit)
{
	edit->finger.node[0] = make_private(edit, own_inner_path(edit));
}

/* The finger's leaf to be, and that which it comes from: the same where it is private, and then
 * so is its path. */
INLINE struct asp_node *leaf_to_fill(struct asp_edit *edit, const struct asp_node **from)
{
	struct asp_node *leaf = edit->finger.node[0];

	*from = leaf;
	if (leaf->birth == edit->version)
		return leaf;
	leaf = replace_node(edit, own_inner_path(edit));
	leaf->birth = edit->version;
	leaf->level = 0;
	leaf->unused = 0;
	return edit->finger.node[0] = leaf;
}

/* All areas are moved, so that no branch depends on where `at` is: which could not be foretold. */
VECTOR_TARGET static struct asp_node *take_out(struct asp_edit *edit, unsigned at)
{
	const struct asp_node *from;
	struct asp_node *leaf = leaf_to_fill(edit, &from);

#pragma GCC unroll 16
	for (unsigned i = 0; i + 1 < ASP_LEAF_MAX; i++) {
		unsigned of = i + (i >= at);

		leaf->leaf.start[i] = from->leaf.start[of];
		leaf->leaf.slot[i] = from->leaf.slot[of];
	}
	leaf->leaf.start[ASP_LEAF_MAX - 1] = ASP_NO_KEY;
	leaf->count = (uint16_t)(from->count - 1);
	return leaf;
}

VECTOR_TARGET static struct asp_node *put_in(struct asp_edit *edit, unsigned at,
					     const struct aspace_area *area)
{
	const struct asp_node *from;
	struct asp_node *leaf = leaf_to_fill(edit, &from);

#pragma GCC unroll 16
	for (unsigned i = ASP_LEAF_MAX; i-- > 0;) {
		unsigned of = i - (i > at);

		leaf->leaf.start[i] = from->leaf.start[of];
		leaf->leaf.slot[i] = from->leaf.slot[of];
	}
	asp_leaf_set(leaf, at, area);
	leaf->count = (uint16_t)(from->count + 1);
	return leaf;
}
