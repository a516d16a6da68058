/* SPDX-License-Identifier: MIT */
/*
 * Search inside one node: how many keys are at most, or below, an address.
 *
 * Branch-free on purpose: every key is compared, the answers are added up, and
 * there is nothing to mispredict. Keys beyond the count are ASP_NO_KEY and so
 * are never counted, given an address below ASP_NO_KEY: no call needs the count.
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

static inline unsigned asp_leaf_count_le(const struct asp_node *node, uint64_t address)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ASP_LEAF_MAX; i++)
		count += node->leaf.start[i] <= address;
	return count;
}

static inline unsigned asp_inner_count_le(const struct asp_node *node, uint64_t address)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ASP_INNER_MAX; i++)
		count += node->inner.first[i] <= address;
	return count;
}

/* How many children end at or before the address: the index of the first child
 * that holds an area which ends above it. Children beyond count have last ==
 * ASP_NO_KEY. */
static inline unsigned asp_inner_count_ended(const struct asp_node *node, uint64_t address)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ASP_INNER_MAX; i++)
		count += node->inner.last[i] <= address;
	return count;
}

#endif
