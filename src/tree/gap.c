/* SPDX-License-Identifier: MIT */
/*
 * Gap search: the lowest or highest free place that fits.
 *
 * The free stretches of a version are those between neighbouring areas, and the
 * two open ends: below the first area and above the last. A subtree is entered
 * only if its greatest inner gap is long enough and it lies where the answer may
 * be, so at most the two subtrees at the borders of [lo, hi) are entered in vain
 * when the alignment does not matter. With a larger alignment a stretch may be
 * long enough and still not hold an aligned start: then the search goes on.
 */
#include "tree/search.h"
#include "tree/tree.h"

struct bounds_of_search {
	const struct asp_gap_query *query;
	uint64_t need; /* what a stretch between two areas must have: size and both guards */
	bool down;
};

/* Does the stretch [from, to) hold the answer? Its ends have been moved by the
 * guard already. */
static bool fits(const struct bounds_of_search *search, uint64_t from, uint64_t to, uint64_t *start)
{
	const struct asp_gap_query *query = search->query;
	uint64_t mask = query->align - 1;
	uint64_t lowest, highest;

	if (from < query->lo)
		from = query->lo;
	if (to > query->hi)
		to = query->hi;
	if (from >= to || to - from < query->size)
		return false;
	if (__builtin_add_overflow(from, mask, &lowest))
		return false;
	lowest &= ~mask;
	highest = (to - query->size) & ~mask;
	if (lowest > highest || highest < from)
		return false;
	*start = search->down ? highest : lowest;
	return true;
}

/* A stretch between two areas that end and start there. */
static bool fits_between(const struct bounds_of_search *search, uint64_t end, uint64_t start,
			 uint64_t *answer)
{
	uint64_t guard = search->query->guard;

	if (start - end < search->need)
		return false;
	return fits(search, end + guard, start - guard, answer);
}

static bool search_leaf(const struct bounds_of_search *search, const struct asp_node *leaf,
			uint64_t *start)
{
	for (unsigned n = 1; n < leaf->count; n++) {
		unsigned i = search->down ? leaf->count - n : n;

		if (fits_between(search, leaf->leaf.slot[i - 1].end, leaf->leaf.start[i], start))
			return true;
	}
	return false;
}

static bool search_node(const struct bounds_of_search *search, const struct asp_node *node,
			uint64_t *start);

static bool search_child(const struct bounds_of_search *search, const struct asp_node *node,
			 unsigned i, uint64_t *start)
{
	/* Outside [lo, hi) there is no answer; and no gap inside is long enough. */
	if (node->inner.gap[i] < search->need || node->inner.last[i] <= search->query->lo ||
	    node->inner.first[i] >= search->query->hi)
		return false;
	return search_node(search, node->inner.child[i], start);
}

/* Depth is the height of the tree, at most ASP_HEIGHT_MAX. */
static bool search_node(const struct bounds_of_search *search, const struct asp_node *node,
			uint64_t *start)
{
	unsigned count = node->count;

	if (!node->level)
		return search_leaf(search, node, start);
	if (search->down) {
		for (unsigned i = count; i-- > 0;) {
			if (search_child(search, node, i, start))
				return true;
			if (i > 0 && fits_between(search, node->inner.last[i - 1],
						  node->inner.first[i], start))
				return true;
		}
	} else {
		for (unsigned i = asp_inner_count_ended(node, search->query->lo); i < count; i++) {
			if (i > 0 && fits_between(search, node->inner.last[i - 1],
						  node->inner.first[i], start))
				return true;
			if (search_child(search, node, i, start))
				return true;
		}
	}
	return false;
}

static bool search_all(const struct asp_node *root, const struct asp_gap_query *query, bool down,
		       uint64_t *start)
{
	struct bounds_of_search search = {.query = query, .down = down};
	struct asp_bounds bounds;
	uint64_t below, above;
	bool has_below, has_above;

	if (!root->count)
		return fits(&search, query->lo, query->hi, start);
	bounds = asp_node_bounds(root);

	/* The open ends: bounded by an area on one side only, so with one guard. */
	has_below = bounds.first >= query->guard;
	below = bounds.first - query->guard;
	has_above = !__builtin_add_overflow(bounds.last, query->guard, &above);

	if (!down && has_below && fits(&search, query->lo, below, start))
		return true;
	if (down && has_above && fits(&search, above, query->hi, start))
		return true;
	if (!__builtin_add_overflow(query->guard, query->guard, &search.need) &&
	    !__builtin_add_overflow(search.need, query->size, &search.need) &&
	    search_node(&search, root, start))
		return true;
	if (!down)
		return has_above && fits(&search, above, query->hi, start);
	return has_below && fits(&search, query->lo, below, start);
}

bool asp_gap_up(const struct asp_node *root, const struct asp_gap_query *query, uint64_t *start)
{
	return search_all(root, query, false, start);
}

bool asp_gap_down(const struct asp_node *root, const struct asp_gap_query *query, uint64_t *start)
{
	return search_all(root, query, true, start);
}
