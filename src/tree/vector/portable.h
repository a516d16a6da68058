/* SPDX-License-Identifier: MIT */
/*
 * Searches without vector registers (vector.h): those of tree/search.h.
 */
#ifndef ASPACE_TREE_VECTOR_PORTABLE_H
#define ASPACE_TREE_VECTOR_PORTABLE_H

#include "tree/search.h"

#define VECTOR        portable
#define VECTOR_TARGET /* whatever the build is for */
#define VECTOR_WIDTH  16

#define count_below  asp_count_below
#define inner_gap    asp_inner_gap
#define inner_offers asp_inner_offers
#define leaf_offers  asp_leaf_offers

typedef uint64_t asp_bound;

static inline asp_bound spread(uint64_t bound)
{
	return bound;
}

#include "tree/vector/common.h"

#endif
