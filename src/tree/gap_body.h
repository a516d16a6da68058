/* SPDX-License-Identifier: MIT */
/*
 * Gap search: the lowest or highest free place that fits. Compiled by each set of lookups
 * (lookup_body.h), which defines before
 *
 *   LOOKUP_TARGET   the attribute by which the compiler may use its registers
 *   static unsigned not_less(const uint64_t *value, uint64_t least)
 *                   of ASP_INNER_MAX values, bit by bit: which are at least that
 *   static unsigned differ_by(const uint64_t *above, const uint64_t *below, uint64_t least)
 *                   the same of above[i] - below[i], wrapping; the last bit may be anything
 *   static const struct asp_node *last_start_le(const struct asp_node *root,
 *                                               uint64_t address, unsigned *slot)
 *                   the leaf of the last area that starts at or below the address, and the
 *                   slot behind it; there is one
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
	uint64_t need;  /* what a stretch between two areas must have: size and both guards */
	uint64_t first; /* where the first area of all starts */
	bool down;
};

/* Does the stretch [from, to) hold the answer? Its ends have been moved by the
 * guard already. */
LOOKUP_TARGET static inline bool fits(const struct bounds_of_search *search, uint64_t from,
				      uint64_t to, uint64_t *start)
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
	if (lowest > highest)
		return false;
	*start = search->down ? highest : lowest;
	return true;
}

/* A stretch between two areas that end and start there. */
LOOKUP_TARGET static inline bool fits_between(const struct bounds_of_search *search, uint64_t end,
					      uint64_t start, uint64_t *answer)
{
	uint64_t guard = search->query->guard;

	if (start - end < search->need)
		return false;
	return fits(search, end + guard, start - guard, answer);
}

/* What a leaf or an inner node has to offer: bit i of `before`, a stretch between entry
 * i - 1 and i that is long enough; bit i of `inside`, one somewhere below child i. */
struct offers {
	unsigned before, inside;
};

LOOKUP_TARGET static inline struct offers leaf_offers(const struct asp_node *leaf, uint64_t need)
{
	struct offers offers = {.inside = 0};

#pragma GCC unroll 16
	for (unsigned i = 1; i < ASP_LEAF_MAX; i++) {
		uint64_t between = leaf->leaf.start[i] - leaf->leaf.slot[i - 1].end;

		offers.before |= (unsigned)(between >= need) << i;
	}
	return offers;
}

LOOKUP_TARGET static inline struct offers inner_offers(const struct asp_node *node, uint64_t need)
{
	return (struct offers){
		.before = differ_by(node->inner.first + 1, node->inner.last, need) << 1,
		.inside = not_less(node->inner.gap, need),
	};
}

LOOKUP_TARGET static bool search_node(const struct bounds_of_search *search,
				      const struct asp_node *node, uint64_t *start);

/* Tries the stretch before entry i. */
LOOKUP_TARGET static inline bool search_before(const struct bounds_of_search *search,
					       const struct asp_node *node, unsigned i,
					       uint64_t *start)
{
	if (node->level)
		return fits_between(search, node->inner.last[i - 1], node->inner.first[i], start);
	return fits_between(search, node->leaf.slot[i - 1].end, node->leaf.start[i], start);
}

LOOKUP_TARGET static inline bool search_inside(const struct bounds_of_search *search,
					       const struct asp_node *node, unsigned i,
					       uint64_t *start)
{
	/* Above hi there is no answer; what ends below lo was left out by search_node(). */
	return node->inner.first[i] < search->query->hi &&
	       search_node(search, node->inner.child[i], start);
}

LOOKUP_TARGET static bool search_up(const struct bounds_of_search *search,
				    const struct asp_node *node, struct offers offers,
				    uint64_t *start)
{
	while (offers.before | offers.inside) {
		unsigned i = (unsigned)__builtin_ctz(offers.before | offers.inside);
		unsigned bit = 1u << i;

		if ((offers.before & bit && search_before(search, node, i, start)) ||
		    (offers.inside & bit && search_inside(search, node, i, start)))
			return true;
		offers.before &= ~bit;
		offers.inside &= ~bit;
	}
	return false;
}

LOOKUP_TARGET static bool search_down(const struct bounds_of_search *search,
				      const struct asp_node *node, struct offers offers,
				      uint64_t *start)
{
	while (offers.before | offers.inside) {
		unsigned i = 31u - (unsigned)__builtin_clz(offers.before | offers.inside);
		unsigned bit = 1u << i;

		if ((offers.inside & bit && search_inside(search, node, i, start)) ||
		    (offers.before & bit && search_before(search, node, i, start)))
			return true;
		offers.before &= ~bit;
		offers.inside &= ~bit;
	}
	return false;
}

/* Depth is the height of the tree, at most ASP_HEIGHT_MAX. */
LOOKUP_TARGET static bool search_node(const struct bounds_of_search *search,
				      const struct asp_node *node, uint64_t *start)
{
	struct offers offers =
		node->level ? inner_offers(node, search->need) : leaf_offers(node, search->need);
	unsigned used = (1u << node->count) - 1;
	uint64_t lo = search->query->lo;

	/* What ends at or before lo is of no use, nor is the stretch before it. */
	if (lo > search->first) {
		unsigned from = node->level ? asp_inner_count_ended(node, asp_clamp(lo))
					    : asp_leaf_first_above(node, asp_clamp(lo));

		used &= ~((1u << from) - 1);
	}
	offers.before &= used & ~1u;
	offers.inside &= used;
	return search->down ? search_down(search, node, offers, start)
			    : search_up(search, node, offers, start);
}

/* The stretch at the lower bound of an upward search, which is mostly the answer where that
 * bound is a hint. There `last_start_le` finds the last area that starts at or below it;
 * false too where the next area is in another leaf. */
LOOKUP_TARGET static inline bool search_at_hint(const struct bounds_of_search *search,
						const struct asp_node *root, uint64_t *start)
{
	const struct asp_node *leaf;
	unsigned slot;

	leaf = last_start_le(root, asp_clamp(search->query->lo), &slot);
	return slot < leaf->count &&
	       fits_between(search, leaf->leaf.slot[slot - 1].end, leaf->leaf.start[slot], start);
}

LOOKUP_TARGET static bool find_gap(const struct asp_node *root, const struct asp_gap_query *query,
				   bool down, uint64_t *start)
{
	struct bounds_of_search search = {.query = query, .down = down};
	uint64_t last, below, above;
	bool has_below, has_above;

	if (!root->count)
		return fits(&search, query->lo, query->hi, start);
	search.first = root->level ? root->inner.first[0] : root->leaf.start[0];
	last = root->level ? root->inner.last[root->count - 1]
			   : root->leaf.slot[root->count - 1].end;

	/* The open ends: bounded by an area on one side only, so with one guard. */
	has_below = search.first >= query->guard;
	below = search.first - query->guard;
	has_above = !__builtin_add_overflow(last, query->guard, &above);

	if (!down && has_below && fits(&search, query->lo, below, start))
		return true;
	if (down && has_above && fits(&search, above, query->hi, start))
		return true;
	if (!__builtin_add_overflow(query->guard, query->guard, &search.need) &&
	    !__builtin_add_overflow(search.need, query->size, &search.need) &&
	    ((!down && query->lo > search.first && search_at_hint(&search, root, start)) ||
	     search_node(&search, root, start)))
		return true;
	if (!down)
		return has_above && fits(&search, above, query->hi, start);
	return has_below && fits(&search, query->lo, below, start);
}
