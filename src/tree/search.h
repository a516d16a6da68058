/* SPDX-License-Identifier: MIT */
/*
 * Search inside one node: how many keys are at most an address.
 *
 * Without a branch that could be mispredicted: one comparison chooses a half, all keys of
 * the half are compared, and the answers are added up. Keys beyond the count are
 * ASP_NO_KEY and so are never counted, given an address below ASP_NO_KEY: no call needs
 * the count.
 *
 * This is what cursors use, and the set of lookups without vector registers (lookup.c); the
 * other sets have their own.
 */
#ifndef ASPACE_TREE_SEARCH_H
#define ASPACE_TREE_SEARCH_H

#include "tree/node.h"

/* Addresses are clamped once, at the entry of a search. 2^64 - 1 is in no area, and
 * whoever looks for it compares the original with the end that was found. */
static inline uint64_t asp_clamp(uint64_t address)
{
	return address == ASP_NO_KEY ? ASP_NO_KEY - 1 : address;
}

/* How many of `total` ascending keys, an even number and a constant, are below the bound. */
static inline size_t asp_count_below(const uint64_t *key, unsigned total, uint64_t bound)
{
	unsigned half = total / 2, below = half * (key[half - 1] < bound), count = below;

#pragma GCC unroll 8
	for (unsigned i = 0; i < half; i++)
		count += key[below + i] < bound;
	return count;
}

/* How many are at most the address, which is below ASP_NO_KEY. */
static inline unsigned asp_count_le(const uint64_t *key, unsigned total, uint64_t address)
{
	return (unsigned)asp_count_below(key, total, address + 1);
}

static inline unsigned asp_leaf_count_le(const struct asp_node *node, uint64_t address)
{
	return asp_count_le(node->leaf.start, ASP_LEAF_MAX, address);
}

static inline unsigned asp_inner_count_le(const struct asp_node *node, uint64_t address)
{
	return asp_count_le(node->inner.first, ASP_INNER_MAX, address);
}

/* How many children end at or before the address: the index of the first child
 * that holds an area which ends above it. Children beyond count have last ==
 * ASP_NO_KEY. */
static inline unsigned asp_inner_count_ended(const struct asp_node *node, uint64_t address)
{
	return asp_count_le(node->inner.last, ASP_INNER_MAX, address);
}

/* The first area of a leaf that ends above the address, which is clamped; count if there
 * is none. Only the keys and one slot are read. */
static inline unsigned asp_leaf_first_above(const struct asp_node *leaf, uint64_t address)
{
	unsigned at = asp_leaf_count_le(leaf, address);

	return at - (at && leaf->leaf.slot[at - 1].end > address);
}

static inline uint64_t asp_greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Where an inner node has room. Bit i of `inside`: a stretch that is long enough, between two
 * areas that lie both below child i; of `after`, the one between child i and the next. */
struct asp_offers {
	unsigned inside, after;
};

/* Bits of children that are not there are taken away. */
static inline struct asp_offers asp_offers_of(unsigned inside, unsigned after, unsigned count)
{
	unsigned used = (1u << count) - 1;

	return (struct asp_offers){inside & used, after & used >> 1};
}

/* Goes over all children, used or not, as asp_inner_gap(). */
static inline struct asp_offers asp_inner_offers(const struct asp_node *node, uint64_t need)
{
	unsigned inside = 0, after = 0;

#pragma GCC unroll 16
	for (unsigned i = ASP_INNER_MAX; i--;)
		inside += inside + (node->inner.gap[i] >= need);
#pragma GCC unroll 16
	for (unsigned i = ASP_INNER_MAX - 1; i--;)
		after += after + (node->inner.first[i + 1] - node->inner.last[i] >= need);
	return asp_offers_of(inside, after, node->count);
}

/* Bit i: the stretch after area i of a leaf is long enough. */
static inline unsigned asp_leaf_offers(const struct asp_node *leaf, uint64_t need)
{
	unsigned after = 0;

#pragma GCC unroll 16
	for (unsigned i = ASP_LEAF_MAX - 1; i--;)
		after += after + (leaf->leaf.start[i + 1] - leaf->leaf.slot[i].end >= need);
	return asp_offers_of(0, after, leaf->count).after;
}

/* asp_used_mask(count)[i]: ones for i < count, else zeros. */
static inline const uint64_t *asp_used_mask(unsigned count)
{
#define ONES UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX
	static const uint64_t masks[32] = {ONES, ONES, ONES, ONES};
#undef ONES

	_Static_assert(ASP_LEAF_MAX <= 16 && ASP_INNER_MAX <= 16, "enough of them");
	return masks + 16 - count;
}

/* The greatest gap between two children of an inner node, or inside one. Goes over all of
 * them, used or not, so that no branch depends on how many are: those that are not used count
 * as no gap. Two maxima, so that one need not wait for the other. */
static inline uint64_t asp_inner_gap(const struct asp_node *node)
{
	const uint64_t *used = asp_used_mask(node->count);
	uint64_t between = 0, inside = node->inner.gap[0];

#pragma GCC unroll 16
	for (unsigned i = 1; i < ASP_INNER_MAX; i++) {
		inside = asp_greater(inside, node->inner.gap[i] & used[i]);
		between = asp_greater(between,
				      (node->inner.first[i] - node->inner.last[i - 1]) & used[i]);
	}
	return asp_greater(inside, between);
}

#endif
