/* SPDX-License-Identifier: MIT */
/*
 * Gap search: the lowest or highest free place that fits (gap_lowest.h says how); compiled once for
 * each set of vector/vector.h.
 */
#include "tree/gap_lowest.h"

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

INLINE enum outcome try_high(const struct asp_gap_query *query, uint64_t end, uint64_t start,
			     uint64_t *answer)
{
	if (fits_high(query, end + query->guard, start - query->guard, answer))
		return FOUND;
	return end > query->lo ? NOT_YET : NOWHERE;
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

VECTOR_TARGET bool OF_VECTOR(search_up)(const struct asp_gap_query *query, struct gap_step *path,
					const struct asp_node *node, unsigned from, unsigned top,
					uint64_t *answer)
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

VECTOR_TARGET bool OF_VECTOR(find_lowest)(const struct asp_gap_query *query,
					  const struct asp_node *root, uint64_t *answer)
{
	return find_lowest(query, root, answer);
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

VECTOR_TARGET bool OF_VECTOR(find_highest)(const struct asp_gap_query *query,
					   const struct asp_node *root, uint64_t *answer)
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
