/* SPDX-License-Identifier: MIT */
/*
 * The functions of a set of lookups: included by the file of each set, which defines before
 *
 *   LOOKUP          the set's name, asp_lookup_...
 *   LOOKUP_NAME     the same as a string
 *   LOOKUP_TARGET   the attribute by which the compiler may use its registers
 *   LOOKUP_WIDTH    how many bytes they have
 *   static unsigned count_le(const uint64_t *key, unsigned total, uint64_t address)
 *                   how many keys are at most the address, which is below ASP_NO_KEY;
 *                   total: ASP_LEAF_MAX or ASP_INNER_MAX
 *   inner_offers()  see tree/gap_body.h
 *   inner_gap()     see tree/edit_body.h
 *
 * Loads of nodes are plain: the root was read with acquire, and nothing below it is written
 * after publication.
 */
#include "last_hit.h"
#include "lookup.h"
#include "space.h"
#include "tree/search.h"

/* From this level of the root on, leaves are likely not to be in a near cache. */
#define TALL 4u

/* On the way of every lookup; the compiler would make calls of them. */
#define INLINE LOOKUP_TARGET static inline __attribute__((always_inline))

/* Descents that go side by side: enough to keep a core's outstanding misses busy. */
#define AT_ONCE 16u

/* The first key of all. */
LOOKUP_TARGET static inline uint64_t first_key(const struct asp_node *root)
{
	return root->level ? root->inner.first[0] : root->leaf.start[0];
}

/* Keys are exact at every level: where the root has a child that starts at or before the
 * address, so has every node below it. */
LOOKUP_TARGET static inline const struct asp_node *next_below(const struct asp_node *node,
							      uint64_t address)
{
	return node->inner.child[count_le(node->inner.first, ASP_INNER_MAX, address) - 1];
}

/* The lines of a leaf that hold one array or the other. */
LOOKUP_TARGET static inline void prefetch_slots(const struct asp_node *leaf)
{
	for (unsigned i = 0; i < ASP_LEAF_MAX; i += 64 / sizeof(struct asp_slot))
		__builtin_prefetch(&leaf->leaf.slot[i]);
}

LOOKUP_TARGET static inline void prefetch_keys(const struct asp_node *node, bool leaf)
{
	const char *key = leaf ? (const char *)node->leaf.start : (const char *)node->inner.first;

	__builtin_prefetch(key);
	__builtin_prefetch(key + 64);
}

LOOKUP_TARGET static inline void prefetch_children(const struct asp_node *node)
{
	__builtin_prefetch(&node->inner.child[0]);
	__builtin_prefetch(&node->inner.child[ASP_INNER_MAX / 2]);
}

/* Is slot - 1 of the leaf the answer? Compared with the address as it came: 2^64 - 1 is never
 * below an end. */
LOOKUP_TARGET static inline bool holds(const struct asp_node *leaf, unsigned slot, uint64_t address)
{
	return slot && address < leaf->leaf.slot[slot - 1].end &&
	       !(leaf->leaf.slot[slot - 1].flags & ASP_FLAG_LEAVING);
}

LOOKUP_TARGET static inline void copy_area(const struct asp_node *leaf, unsigned slot,
					   struct aspace_area *area)
{
	const struct asp_slot *from = &leaf->leaf.slot[slot - 1];

	area->start.value = leaf->leaf.start[slot - 1];
	area->end.value = from->end;
	area->flags = from->flags & ~ASPACE_FLAGS_RESERVED;
	area->backend = from->backend;
	area->user = from->user;
}

/* The leaf, and the slot behind the area, of the last area that starts at or below the
 * address; there is one. */
INLINE const struct asp_node *last_start_le(const struct asp_node *node, uint64_t address,
					    unsigned *slot)
{
	unsigned level = node->level;

	/* In a tall tree the lines of one node are fetched side by side, not each when the
	 * one before has said which it is. */
	if (level >= TALL) {
		for (; level; level--) {
			prefetch_children(node);
			node = next_below(node, address);
		}
		prefetch_slots(node);
	} else {
		for (; level; level--)
			node = next_below(node, address);
	}
	*slot = count_le(node->leaf.start, ASP_LEAF_MAX, address);
	return node;
}

/* The leaf, and the slot behind the area, that holds the address; NULL if it is in no area. */
INLINE const struct asp_node *descend(const struct asp_node *root, uint64_t address, unsigned *slot)
{
	uint64_t at = asp_clamp(address);
	const struct asp_node *leaf;

	if (at < first_key(root))
		return NULL;
	leaf = last_start_le(root, at, slot);
	return holds(leaf, *slot, address) ? leaf : NULL;
}

LOOKUP_TARGET static enum aspace_status find_in(const struct asp_node *root,
						struct aspace_vaddr address,
						struct aspace_area *area)
{
	unsigned slot;
	const struct asp_node *leaf = descend(root, address.value, &slot);

	if (!leaf)
		return ASPACE_NOT_MAPPED;
	if (area)
		copy_area(leaf, slot, area);
	return ASPACE_OK;
}

LOOKUP_TARGET static enum aspace_status find(struct aspace *space, struct aspace_vaddr address,
					     struct aspace_area *area)
{
	const struct asp_node *root, *leaf;
	unsigned slot;

	if (asp_last_hit_find(space, address.value, area))
		return ASPACE_OK;
	asp_read_lock(space->grace);
	root = asp_root(space);
	leaf = descend(root, address.value, &slot);
	if (leaf) {
		if (area)
			copy_area(leaf, slot, area);
		asp_last_hit_note(space, root, leaf, slot - 1);
	}
	asp_read_unlock(space->grace);
	return leaf ? ASPACE_OK : ASPACE_NOT_MAPPED;
}

LOOKUP_TARGET static size_t find_some(const struct asp_node *root,
				      const struct aspace_vaddr *address, unsigned count,
				      struct aspace_area *area)
{
	const struct asp_node *node[AT_ONCE];
	uint64_t at[AT_ONCE], first = first_key(root);
	unsigned slot[AT_ONCE];
	size_t found = 0;

	/* What lies below the first area takes that one's way, for company. */
	for (unsigned i = 0; i < count; i++) {
		at[i] = asp_clamp(address[i].value);
		at[i] = at[i] < first ? first : at[i];
		node[i] = root;
	}
	for (unsigned level = root->level; level; level--) {
		for (unsigned i = 0; i < count; i++) {
			node[i] = next_below(node[i], at[i]);
			prefetch_keys(node[i], level == 1);
			if (level > 1)
				prefetch_children(node[i]);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		slot[i] = count_le(node[i]->leaf.start, ASP_LEAF_MAX, at[i]);
		if (asp_clamp(address[i].value) < first)
			slot[i] = 0;
		if (slot[i])
			__builtin_prefetch(&node[i]->leaf.slot[slot[i] - 1]);
	}
	for (unsigned i = 0; i < count; i++) {
		if (holds(node[i], slot[i], address[i].value)) {
			copy_area(node[i], slot[i], &area[i]);
			found++;
		} else {
			area[i] = (struct aspace_area){.flags = 0};
		}
	}
	return found;
}

LOOKUP_TARGET static size_t find_many(const struct asp_node *root,
				      const struct aspace_vaddr *address, size_t count,
				      struct aspace_area *area)
{
	size_t found = 0;

	for (size_t at = 0; at < count; at += AT_ONCE) {
		size_t some = count - at < AT_ONCE ? count - at : AT_ONCE;

		found += find_some(root, address + at, (unsigned)some, area + at);
	}
	return found;
}

#include "tree/edit_body.h"
#include "tree/gap_body.h"

#include "free_body.h"

const struct asp_lookup LOOKUP = {
	.name = LOOKUP_NAME,
	.find = find,
	.find_in = find_in,
	.find_many = find_many,
	.find_free = find_free,
	.find_free_in = find_free_in,
	.edit = {search_finger, own, own_path, take_out, put_in, inner_gap},
};
