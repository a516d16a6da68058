/* SPDX-License-Identifier: MIT */
/*
 * What editing does to whole nodes. Compiled by each set of lookups (lookup_body.h), which
 * defines before
 *
 *   LOOKUP_TARGET   the attribute by which the compiler may use its registers
 *   LOOKUP_WIDTH    how many bytes they have
 *   static unsigned count_le(const uint64_t *key, unsigned total, uint64_t address)
 *                   how many keys are at most the address
 *   static uint64_t inner_gap(const struct asp_node *node)
 *                   the greatest gap between two children, or inside one; asp_inner_gap of
 *                   tree/search.h will do
 */
#include "tree/search.h"
#include "tree/tree.h"

/* One register. */
typedef uint64_t asp_word __attribute__((vector_size(LOOKUP_WIDTH), may_alias));

LOOKUP_TARGET static void copy_node(struct asp_node *to, const struct asp_node *from)
{
	const asp_word *word = (const asp_word *)(const void *)from;
	asp_word *out = (asp_word *)(void *)to;

	_Static_assert(sizeof(*to) % sizeof(*word) == 0, "whole registers");
#pragma GCC unroll 64
	for (unsigned i = 0; i < sizeof(*to) / sizeof(*word); i++)
		out[i] = word[i];
}

LOOKUP_TARGET static void put_finger(struct asp_edit *edit, uint64_t address)
{
	struct asp_finger *finger = &edit->finger;
	struct asp_node *node = edit->root;

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

LOOKUP_TARGET static void search_finger(struct asp_edit *edit, uint64_t address)
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
