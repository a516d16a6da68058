/* SPDX-License-Identifier: MIT */
/*
 * The lowest free place that fits, inlined; compiled for a set of vector/vector.h, by the tree and
 * where gaps are looked up. What does not end where it begins goes on in gap_body.h.
 *
 * The free stretches of a version are those between neighbouring areas, and the two open
 * ends: below the first area and above the last. Those between areas are tried in the order
 * of the search. The path is kept, so that a search goes on from where it stands and never
 * begins again at the root.
 *
 * A subtree is entered only if its greatest inner gap is long enough, and a gap that is long
 * enough is the answer, but for two things. It may lie across a bound of [lo, hi): the near
 * bound is where the search begins, and behind the far one it ends. And it may hold no
 * aligned start, where alignment or guard are not what all areas are aligned to: then the
 * search goes on.
 */
#ifndef ASPACE_TREE_GAP_LOWEST_H
#define ASPACE_TREE_GAP_LOWEST_H

#include "tree/search.h"
#include "tree/tree.h"

/* The path, by level: the nodes above the place where a search is, and in which child of each. */
struct gap_step {
	const struct asp_node *node;
	unsigned index;
};

enum outcome {
	FOUND,
	NOT_YET,
	NOWHERE, /* what follows lies outside the range */
};

/* Does the stretch [from, to) hold the answer? Its ends have been moved by the guard
 * already, and may have passed each other. */
INLINE bool fits_low(const struct asp_gap_query *query, uint64_t from, uint64_t to,
		     uint64_t *answer)
{
	uint64_t mask = query->align - 1, start;

	from = from < query->lo ? query->lo : from;
	to = to > query->hi ? query->hi : to;
	start = (from + mask) & ~mask;
	if (start < from || start > to || to - start < query->size)
		return false;
	*answer = start;
	return true;
}

/* A stretch that is long enough, from the end of one area to the start of the next. */
INLINE enum outcome try_low(const struct asp_gap_query *query, uint64_t end, uint64_t start,
			    uint64_t *answer)
{
	if (fits_low(query, end + query->guard, start - query->guard, answer))
		return FOUND;
	return start < query->hi ? NOT_YET : NOWHERE;
}

/* Where the last area of all ends; there is one. */
VECTOR_TARGET static inline uint64_t last_end(const struct asp_node *root)
{
	return root->level ? root->inner.last[root->count - 1]
			   : root->leaf.slot[root->count - 1].end;
}

/* Keeps the compiler from knowing a value, and so from choosing between what is computed from
 * it and what is not. */
#define HIDE(value) __asm__("" : "+r"(value))

/* gap_body.h: from the stretch after area `from` of the leaf on, or all of the root (`from` is 0).
 * `top` is the level of the root. */
bool OF_VECTOR(search_up)(const struct asp_gap_query *query, struct gap_step *path,
			  const struct asp_node *node, unsigned from, unsigned top,
			  uint64_t *answer);
/* gap_body.h: by a call. */
bool OF_VECTOR(find_lowest)(const struct asp_gap_query *query, const struct asp_node *root,
			    uint64_t *answer);
bool OF_VECTOR(find_highest)(const struct asp_gap_query *query, const struct asp_node *root,
			     uint64_t *answer);

/* The leaf of the last area that starts at or below lo. *next is the key of its right neighbour,
 * if both have the same parent; else a lower one or ASP_NO_KEY. */
INLINE const struct asp_node *leaf_at(const struct asp_node *node, uint64_t lo, bool tall,
				      struct gap_step *path, const uint64_t **next)
{
	const struct asp_node *parent = NULL;
	size_t i = 0;

	for (unsigned level = node->level; level; level--) {
		if (tall)
			prefetch_children(node);
		i = count_le(node->inner.first, ASP_INNER_MAX, lo) - 1;
		path[level] = (struct gap_step){node, (unsigned)i};
		parent = node;
		node = node->inner.child[i];
	}
	if (tall)
		prefetch_slots(node);
	if (parent)
		*next = &parent->inner.first[(i + 1) % ASP_INNER_MAX];
	return node;
}

INLINE bool find_lowest(const struct asp_gap_query *query, const struct asp_node *root,
			uint64_t *answer)
{
	static const uint64_t none = ASP_NO_KEY;
	uint64_t first = first_key(root), lo = query->lo, end;
	const struct asp_node *node = root;
	struct asp_gap_query copy; /* so that the original can stay in registers */
	struct gap_step path[ASP_HEIGHT_MAX];
	const uint64_t *next = &none, *own;
	size_t from = 0;

	if (lo <= first) {
		if (!root->count)
			return fits_low(query, query->lo, query->hi, answer);
		/* An open end is bounded by an area on one side only, so has one guard. */
		if (lo < first && first >= query->guard &&
		    fits_low(query, query->lo, first - query->guard, answer))
			return true;
	} else {
		/* Where lo is a hint, the stretch there is mostly the answer. It may end in the
		 * next leaf; whether it does cannot be predicted, so there is no branch. */
		node = root->level < TALL ? leaf_at(root, lo, false, path, &next)
					  : leaf_at(root, lo, true, path, &next);
		from = count_le(node->leaf.start, ASP_LEAF_MAX, lo);
		own = &node->leaf.start[from];
		HIDE(own);
		next = from < node->count ? own : next;
		from--;
		end = node->leaf.slot[from].end;
		/* ASP_NO_KEY + 1 is 0. */
		if (*next + 1 > end && *next - end >= query->need &&
		    try_low(query, end, *next, answer) == FOUND)
			return true;
	}
	copy = *query;
	if (OF_VECTOR(search_up)(&copy, path, node, (unsigned)from, root->level, answer))
		return true;
	return !__builtin_add_overflow(last_end(root), query->guard, &end) &&
	       fits_low(query, end, query->hi, answer);
}

#endif
