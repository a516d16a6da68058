/* SPDX-License-Identifier: MIT */
/*
 * The functions of a set of lookups: included by the file of each set, behind the header of its
 * registers (tree/vector/vector.h).
 *
 * Keys at most an address are those below the address plus one. Of 2^64 - 1, which is in no
 * area, that is 0, and no key is below: it needs no case of its own.
 *
 * Loads of nodes are plain: the root was read with acquire, and nothing below it is written
 * after publication.
 */
#include "read/last_hit.h"
#include "read/lookup.h"
#include "space/space.h"
#include "tree/search.h"

/* Descents that go side by side: enough to keep a core's outstanding misses busy. */
#define AT_ONCE 16u

/* Keys are exact at every level: where the root has a child that starts below the bound, so
 * has every node below it. */
VECTOR_TARGET static inline const struct asp_node *next_below(const struct asp_node *node,
							      asp_bound bound)
{
	return node->inner.child[count_below(node->inner.first, ASP_INNER_MAX, bound) - 1];
}

VECTOR_TARGET static inline void prefetch_keys(const struct asp_node *node, bool leaf)
{
	const char *key = leaf ? (const char *)node->leaf.start : (const char *)node->inner.first;

	__builtin_prefetch(key);
	__builtin_prefetch(key + 64);
}

/* Is the area, the last that starts at or below the address, the answer? 2^64 - 1 is never
 * below an end. */
VECTOR_TARGET static inline bool holds(const struct asp_slot *slot, uint64_t address)
{
	return address < slot->end && !(slot->flags & ASP_FLAG_LEAVING);
}

/* Half a slot, and where it goes to. */
typedef uint64_t asp_half __attribute__((vector_size(16), may_alias));
typedef uint64_t asp_half_out __attribute__((vector_size(16), may_alias, aligned(8)));

/* With the library's own flag bits. What belongs to a slot lies in an area as it does there. */
VECTOR_TARGET static inline void copy_area(uint64_t start, const struct asp_slot *slot,
					   struct aspace_area *area)
{
	const asp_half *half = (const asp_half *)(const void *)slot;
	asp_half_out *out = (asp_half_out *)(void *)&area->end;

	area->start.value = start;
	out[0] = half[0];
	out[1] = half[1];
}

/* The leaf, and the slot behind the area, of the last area that starts at or below the
 * address; there is one. */
INLINE const struct asp_node *last_start_le(const struct asp_node *node, uint64_t address,
					    unsigned *slot)
{
	asp_bound bound = spread(address + 1);
	unsigned level = node->level;

	/* In a tall tree the lines of one node are fetched side by side, not each when the
	 * one before has said which it is. */
	if (level >= TALL) {
		for (; level; level--) {
			prefetch_children(node);
			node = next_below(node, bound);
		}
		prefetch_slots(node);
	} else {
		for (; level; level--)
			node = next_below(node, bound);
	}
	*slot = (unsigned)count_below(node->leaf.start, ASP_LEAF_MAX, bound);
	return node;
}

/* The leaf, and the slot behind the area, that holds the address; NULL if it is in no area. */
INLINE const struct asp_node *descend(const struct asp_node *root, uint64_t address, unsigned *slot)
{
	const struct asp_node *leaf;

	if (address + 1 <= first_key(root))
		return NULL;
	leaf = last_start_le(root, address, slot);
	return holds(&leaf->leaf.slot[*slot - 1], address) ? leaf : NULL;
}

/* In any tree, also one that is private to a transaction and has its marks. */
VECTOR_TARGET static enum aspace_status find_in(const struct asp_node *root,
						struct aspace_vaddr address,
						struct aspace_area *area)
{
	unsigned slot;
	const struct asp_node *leaf = descend(root, address.value, &slot);

	if (!leaf)
		return ASPACE_NOT_MAPPED;
	if (area) {
		copy_area(leaf->leaf.start[slot - 1], &leaf->leaf.slot[slot - 1], area);
		*area = asp_public_area(*area);
	}
	return ASPACE_OK;
}

/*
 * aspace_find(). `find`, the last of these functions, is what most lookups are. It makes no
 * call, so it needs no stack and saves no register; and it goes down low trees without a loop.
 * Everything else is one of the functions before it, in which it ends. The instructions of one
 * lookup are what keeps a CPU from beginning with the next ones.
 */

/* In a section. */
INLINE enum aspace_status find_newest(struct aspace *space, const struct asp_node *root,
				      uint64_t address, struct aspace_area *area)
{
	unsigned slot;
	const struct asp_node *leaf = descend(root, address, &slot);
	uint64_t start;

	if (!leaf)
		return ASPACE_NOT_MAPPED;
	start = leaf->leaf.start[slot - 1];
	if (area)
		copy_area(start, &leaf->leaf.slot[slot - 1], area);
	if (asp_last_hit_again(start))
		asp_last_hit_fill(space, root, start, &leaf->leaf.slot[slot - 1]);
	return ASPACE_OK;
}

/* Without the last hit, and with a section that may take calls. */
NOINLINE enum aspace_status find_in_tree(struct aspace *space, struct aspace_vaddr address,
					 struct aspace_area *area)
{
	enum aspace_status status;

	asp_read_lock(space->grace);
	status = find_newest(space, asp_root(space), address.value, area);
	asp_read_unlock(space->grace);
	return status;
}

/* The whole of it so. */
NOINLINE enum aspace_status find_by_calls(struct aspace *space, struct aspace_vaddr address,
					  struct aspace_area *area)
{
	if (asp_last_hit_find(space, address.value, area))
		return ASPACE_OK;
	return find_in_tree(space, address, area);
}

/* In a section that was begun inline, and is ended: any height. */
NOINLINE enum aspace_status find_and_end(struct aspace *space, struct aspace_vaddr address,
					 struct aspace_area *area, const struct asp_node *root)
{
	enum aspace_status status = find_newest(space, root, address.value, area);

	asp_read_unlock_inlined(space->grace);
	return status;
}

/* In such a section: the area has been found, for the second time running. */
NOINLINE enum aspace_status fill_and_end(struct aspace *space, const struct asp_node *root,
					 uint64_t start, const struct asp_slot *slot)
{
	asp_last_hit_fill(space, root, start, slot);
	asp_read_unlock_inlined(space->grace);
	return ASPACE_OK;
}

/* Has the compiler take an address for one that it knows nothing of. */
#define FORGET(pointer) __asm__("" : "+r"(pointer))

VECTOR_TARGET static enum aspace_status find(struct aspace *space, struct aspace_vaddr address,
					     struct aspace_area *area)
{
	const struct asp_node *root, *node;
	const struct asp_slot *end; /* of the slots up to the area's */
	asp_bound bound;
	unsigned level;
	uint64_t start;
	size_t count;

	if (asp_last_hit_covers(address.value))
		return find_by_calls(space, address, area);
	if (!asp_read_lock_inlined(space->grace))
		return find_in_tree(space, address, area);
	root = asp_root(space);
	level = root->level;
	if (level - 1 >= TALL - 1)
		return find_and_end(space, address, area, root);

	bound = spread(address.value + 1);
	count = count_below(root->inner.first, ASP_INNER_MAX, bound);
	if (!count)
		goto not_mapped;
	node = root->inner.child[count - 1];
	_Static_assert(TALL == 4, "level 3 is the last one here");
	if (level > 1) {
		FORGET(node); /* or it loads keys before it has looked at the level */
		node = next_below(node, bound);
		if (level > 2)
			node = next_below(node, bound);
	}
	count = count_below(node->leaf.start, ASP_LEAF_MAX, bound);
	end = node->leaf.slot + count;
	FORGET(end); /* or it has a register for each way to say which slot */
	if (!holds(end - 1, address.value))
		goto not_mapped;
	start = node->leaf.start[count - 1];
	/* A published area has no private flag bit but the one that holds() refuses. */
	if (area)
		copy_area(start, end - 1, area);
	if (asp_last_hit_again(start))
		return fill_and_end(space, root, start, end - 1);
	asp_read_unlock_inlined(space->grace);
	return ASPACE_OK;

not_mapped:
	asp_read_unlock_inlined(space->grace);
	return ASPACE_NOT_MAPPED;
}

VECTOR_TARGET static size_t find_some(const struct asp_node *root,
				      const struct aspace_vaddr *address, unsigned count,
				      struct aspace_area *area)
{
	const struct asp_node *node[AT_ONCE];
	uint64_t bound[AT_ONCE], first = first_key(root);
	size_t slot[AT_ONCE], found = 0;

	/* What lies below the first area takes that one's way, for company. */
	for (unsigned i = 0; i < count; i++) {
		bound[i] = address[i].value + 1;
		bound[i] = bound[i] <= first ? first + 1 : bound[i];
		node[i] = root;
	}
	for (unsigned level = root->level; level; level--) {
		for (unsigned i = 0; i < count; i++) {
			node[i] = next_below(node[i], spread(bound[i]));
			prefetch_keys(node[i], level == 1);
			if (level > 1)
				prefetch_children(node[i]);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		slot[i] = count_below(node[i]->leaf.start, ASP_LEAF_MAX, spread(bound[i]));
		if (address[i].value < first)
			slot[i] = 0;
		if (slot[i])
			__builtin_prefetch(&node[i]->leaf.slot[slot[i] - 1]);
	}
	for (unsigned i = 0; i < count; i++) {
		size_t last = slot[i] - 1;

		if (slot[i] && holds(&node[i]->leaf.slot[last], address[i].value)) {
			copy_area(node[i]->leaf.start[last], &node[i]->leaf.slot[last], &area[i]);
			found++;
		} else {
			area[i] = (struct aspace_area){.flags = 0};
		}
	}
	return found;
}

VECTOR_TARGET static size_t find_many(const struct asp_node *root,
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

#include "read/free_body.h"

const struct asp_lookup_set OF_VECTOR(lookup_set) = {
	.vector = &OF_VECTOR(vector),
	.find = find,
	.find_by_calls = find_by_calls,
	.find_in = find_in,
	.find_many = find_many,
	.find_free = find_free,
	.find_free_in = find_free_in,
};
