/* SPDX-License-Identifier: MIT */
/*
 * Empty tables: taken away at the end of a batch, beneath the ranges that it has touched.
 *
 * Invariants:
 *  1. A pointer is taken away only from a table in which nothing is, and nobody at work (way.c).
 *  2. For each pointer that is taken away it is gathered, in the same batch, or one below it.
 */
#include "tables.h"

/* Is nothing in the table? Looked for from `first` on, round about: what was cleared last is likely
 * to have a neighbour. */
static bool is_empty(const struct aspace_aarch64 *t, int level, uint64_t table, size_t first)
{
	const uint64_t *entries = asp_a64_pointer(t, table);
	size_t count = asp_a64_entries(&t->geometry, level);

	for (size_t i = 0; i < count; i++) {
		if (!asp_a64_is_free(asp_a64_load(t, &entries[(first + i) & (count - 1)])))
			return false;
	}
	return true;
}

/*
 * Take the pointer to a table away if that is empty, and no fault is at work in it: one that is
 * will most often leave something there. If it does not, being refused memory, the table stays until
 * the area is unmapped in which it was at work: that comes by here again.
 *
 * A fault that comes and goes while we look leaves VISITED behind, and the exchange fails.
 */
static bool vacate(struct aspace_aarch64 *t, uint64_t *entry, const struct asp_a64_span *below,
		   size_t first)
{
	uint64_t old = asp_a64_load(t, entry), unvisited = old & ~ASP_A64_VISITED;

	if ((old & ASP_A64_PINS_MASK) ||
	    (old != unvisited && !asp_a64_exchange(t, entry, old, unvisited)))
		return false;
	return is_empty(t, below->level, below->table, first) &&
	       asp_a64_swap(t, entry, unvisited, ASP_A64_VACATED);
}

/* Answers whether it has gathered a table of this span: that invalidation takes the pointers
 * above it too, which all are on the way to one of its addresses (D8.17). */
static bool prune_table(struct aspace_aarch64 *t, const struct asp_a64_span *span)
{
	uint64_t *entries = asp_a64_pointer(t, span->table);
	bool gathered = false;
	uint64_t next;

	for (uint64_t at = span->start; at < span->end; at = next) {
		size_t index = asp_a64_index(&t->geometry, span->level, at);
		uint64_t old = asp_a64_load(t, &entries[index]);
		struct asp_a64_span below = {span->level + 1, 0, at, 0};
		bool way_gathered = false;

		next = asp_a64_slot_end(&t->geometry, span->level, at, span->end);
		if (!asp_a64_is_table(span->level, old))
			continue;
		below.table = asp_a64_next_table(t, old);
		below.end = next;
		if (below.level < ASP_A64_LAST_LEVEL)
			way_gathered = prune_table(t, &below);
		gathered = gathered || way_gathered;
		if (!vacate(t, &entries[index], &below,
			    asp_a64_index(&t->geometry, below.level, next - 1)))
			continue;
		if (!way_gathered)
			asp_a64_gather_slot(t, span->level, at, old);
		gathered = true;
		asp_a64_unlink(t, below.table, span->table, index);
	}
	return gathered;
}

void asp_a64_prune(struct aspace_aarch64 *t)
{
	for (unsigned i = 0; i < t->touched_count; i++) {
		struct asp_a64_span root =
			asp_a64_whole(t, t->touched[i].start.value, t->touched[i].end.value);

		prune_table(t, &root);
	}
	t->touched_count = 0;
}
