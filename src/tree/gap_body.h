/* SPDX-License-Identifier: MIT */
/*
 * Gap search: the lowest or highest free place that fits. Compiled by each set of lookups
 * (lookup_body.h), which defines before
 *
 *   LOOKUP_TARGET   the attribute by which the compiler may use its registers
 *   INLINE          before a function that shall not be called
 *   NOINLINE        before one that shall be, so that the way around it needs few registers
 *   static struct asp_offers inner_offers(const struct asp_node *node, uint64_t need)
 *   static unsigned leaf_offers(const struct asp_node *leaf, uint64_t need)
 *                   asp_inner_offers and asp_leaf_offers of tree/search.h will do
 *   count_le(), first_key(), prefetch_children(), prefetch_slots(), TALL
 *                   as lookups need them
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

INLINE bool fits_high(const struct asp_gap_query *query, uint64_t from, uint64_t to,
		      uint64_t *answer)
{
	uint64_t start;

	from = from < query->lo ? query->lo : from;
	to = to > query->hi ? query->hi : to;
	start = (to - query->size) & ~(query->align - 1);
	if (to < query->size || start < from)
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

INLINE enum outcome try_high(const struct asp_gap_query *query, uint64_t end, uint64_t start,
			     uint64_t *answer)
{
	if (fits_high(query, end + query->guard, start - query->guard, answer))
		return FOUND;
	return end > query->lo ? NOT_YET : NOWHERE;
}

/* Where the last area of all ends; there is one. */
LOOKUP_TARGET static inline uint64_t last_end(const struct asp_node *root)
{
	return root->level ? root->inner.last[root->count - 1]
			   : root->leaf.slot[root->count - 1].end;
}

/* The stretch after area or child i. */
INLINE uint64_t end_of(const struct asp_node *node, unsigned i)
{
	return node->level ? node->inner.last[i] : node->leaf.slot[i].end;
}

INLINE uint64_t start_after(const struct asp_node *node, unsigned i)
{
	return node->level ? node->inner.first[i + 1] : node->leaf.start[i + 1];
}

INLINE struct asp_offers offers_of(const struct asp_node *node, uint64_t need)
{
	return node->level ? inner_offers(node, need)
			   : (struct asp_offers){.after = leaf_offers(node, need)};
}

/* Keeps the compiler from knowing a value, and so from choosing between what is computed from
 * it and what is not. */
#define HIDE(value) __asm__("" : "+r"(value))

/* Child i. Searches mostly go the way of the one before, so a thread remembers it: where the
 * branch that compares is predicted, the CPU goes on in the child before it has computed i.
 * Otherwise each level waits for the comparisons in the level above. Volatile, because a signal
 * handler may search in the middle of a search; any value is good. */
INLINE const struct asp_node *child_at(const struct asp_node *node, unsigned level, unsigned i,
				       bool down)
{
#ifdef ASP_THREAD_LOCAL
	static ASP_THREAD_LOCAL volatile uint8_t last[2][ASP_HEIGHT_MAX];
	unsigned guess = last[down][level];
	const struct asp_node *child = node->inner.child[guess];

	HIDE(child);
	if (i == guess)
		return child;
	last[down][level] = (uint8_t)i;
#else
	(void)level, (void)down;
#endif
	return node->inner.child[i];
}

/* ---- Upward --------------------------------------------------------------- */

/* From the stretch after area `from` of the leaf on, or all of the root (`from` is 0). `top` is
 * the level of the root. */
NOINLINE bool search_up(const struct asp_gap_query *query, struct gap_step *path,
			const struct asp_node *node, unsigned from, unsigned top, uint64_t *answer)
{
	struct asp_offers offers = offers_of(node, query->need);
	unsigned level = node->level;

	offers.after &= ~0u << from;
	for (;;) {
		enum outcome outcome;
		unsigned i;

		while (!(offers.inside | offers.after)) {
			if (level == top)
				return false;
			node = path[++level].node;
			i = path[level].index;
			offers = inner_offers(node, query->need);
			offers.inside &= ~1u << i;
			offers.after &= ~0u << i;
		}
		i = (unsigned)__builtin_ctz(offers.inside | offers.after);
		if (offers.inside >> i & 1) {
			path[level] = (struct gap_step){node, i};
			node = child_at(node, level, i, false);
			level--;
			offers = offers_of(node, query->need);
			continue;
		}
		offers.after &= offers.after - 1;
		outcome = try_low(query, end_of(node, i), start_after(node, i), answer);
		if (outcome != NOT_YET)
			return outcome == FOUND;
	}
}

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
	if (search_up(&copy, path, node, (unsigned)from, root->level, answer))
		return true;
	return !__builtin_add_overflow(last_end(root), query->guard, &end) &&
	       fits_low(query, end, query->hi, answer);
}

/* ---- Downward: the same in the mirror ------------------------------------- */

/* From the stretch before area `from` of the leaf on, or all of the root. */
NOINLINE bool search_down(const struct asp_gap_query *query, struct gap_step *path,
			  const struct asp_node *node, unsigned from, unsigned top,
			  uint64_t *answer)
{
	struct asp_offers offers = offers_of(node, query->need);
	unsigned level = node->level;

	offers.after &= (1u << from) - 1;
	for (;;) {
		enum outcome outcome;
		unsigned i;

		while (!(offers.inside | offers.after)) {
			if (level == top)
				return false;
			node = path[++level].node;
			i = path[level].index;
			offers = inner_offers(node, query->need);
			offers.inside &= (1u << i) - 1;
			offers.after &= (1u << i) - 1;
		}
		i = 31u - (unsigned)__builtin_clz(offers.inside | offers.after);
		if (!(offers.after >> i & 1)) {
			path[level] = (struct gap_step){node, i};
			node = child_at(node, level, i, true);
			level--;
			offers = offers_of(node, query->need);
			continue;
		}
		offers.after &= ~(1u << i);
		outcome = try_high(query, end_of(node, i), start_after(node, i), answer);
		if (outcome != NOT_YET)
			return outcome == FOUND;
	}
}

NOINLINE bool find_highest(const struct asp_gap_query *query, const struct asp_node *root,
			   uint64_t *answer)
{
	const struct asp_node *node = root;
	unsigned top = root->level, from = root->count;
	uint64_t first, hi = query->hi, last, start;
	struct gap_step path[ASP_HEIGHT_MAX];

	if (!from)
		return fits_high(query, query->lo, hi, answer);
	last = last_end(root);
	if (hi >= last) {
		if (hi > last && !__builtin_add_overflow(last, query->guard, &start) &&
		    fits_high(query, start, hi, answer))
			return true;
	} else {
		/* To the first area that ends at or above hi. */
		for (unsigned level = top; level; level--) {
			if (top >= TALL)
				prefetch_children(node);
			from = count_le(node->inner.last, ASP_INNER_MAX, hi - 1);
			path[level] = (struct gap_step){node, from};
			node = node->inner.child[from];
		}
		if (top >= TALL)
			prefetch_slots(node);
		from = count_le(node->leaf.start, ASP_LEAF_MAX, hi - 1);
		from -= from && node->leaf.slot[from - 1].end >= hi;
	}
	if (search_down(query, path, node, from, top, answer))
		return true;
	first = first_key(root);
	return first >= query->guard && fits_high(query, query->lo, first - query->guard, answer);
}
