/* SPDX-License-Identifier: MIT */
/*
 * The way down the tables, beside the writer and beside others on the same way: no lock, and nobody
 * waits. What two may want at the same time is decided by the exchange of one descriptor.
 *
 *  - A new table is zero, and ordered for walks, before it is linked: by an exchange of an
 *    invalid descriptor. Who loses goes on in the winner's table, and gives its own back.
 *  - A table that the writer has made and not yet linked (pending) it links itself: the zeroes, or
 *    what else it has found there, are ordered by its own barrier, since it has seen them (the memory
 *    model is other-multi-copy-atomic, B2.3). Where there is a clean, it cleans them too.
 *
 * Pins. A batch of another area frees the tables that it leaves empty, and a compaction those that
 * it makes blocks of, though they may reach into the area of who is on the way. So who goes down counts
 * itself in each pointer to a table that it follows, and out again before the barrier at its end; and a writer
 * takes a pointer away by an exchange that finds nobody counted. Beside the count stands VISITED: the
 * writer takes it off, looks whether the table is empty, and if there was somebody in
 * between, it is on again and the exchange fails. While a pin is held no callback but
 * load, swap, clean, dsb, tlbi and table_pointer is called.
 *
 * Vacated slots. Where a writer has taken a pointer away, walks may go by it until it has been
 * invalidated, and another pointer must not be put there before that (D8.16.1): who
 * wants the slot does not wait for the writer's invalidation, but makes one of its own.
 *
 * Invariants:
 *  1. A descriptor that is exchanged here was 0, vacated or pending; or the pins of a pointer change.
 *  2. A table that is read here is the root, or is pinned.
 *  3. A pointer that is pinned stays. A table that has been linked here is pinned from then on, until
 *     its pins are taken back, all together.
 */
#include "way.h"

/* Link what a writer has made. Whether it is done by us or by another: look again. */
static void link_pending(struct asp_a64_way *w, uint64_t *entry, uint64_t pending)
{
	const struct aspace_aarch64 *t = w->t;

	asp_a64_clean_memory(t, asp_a64_pointer(t, asp_a64_next_table(t, pending)),
			     (size_t)1 << t->geometry.granule_shift);
	asp_a64_order_walks(t);
	if (asp_a64_exchange(t, entry, pending, pending | ASP_A64_VALID))
		w->due = true;
}

/* False: look again. */
static bool pin(struct asp_a64_way *w, uint64_t *entry, uint64_t table)
{
	/* As many as can be counted: one of them goes, for they wait for nobody. */
	if ((table & ASP_A64_PINS_MASK) == ASP_A64_PINS_MASK ||
	    !asp_a64_exchange(w->t, entry, table, (table + ASP_A64_PIN_ONE) | ASP_A64_VISITED))
		return false;
	w->pinned[w->pinned_count++] = entry;
	return true;
}

void asp_a64_unpin_all(struct asp_a64_way *w)
{
	while (w->pinned_count) {
		uint64_t *entry = w->pinned[--w->pinned_count], old;

		do
			old = asp_a64_load(w->t, entry);
		while (!asp_a64_exchange(w->t, entry, old, old - ASP_A64_PIN_ONE));
	}
}

void asp_a64_settle(struct asp_a64_way *w, int level, const uint64_t *entry, uint64_t descriptor)
{
	if (descriptor != ASP_A64_VACATED)
		return;
	w->due = true;
	asp_a64_clean_memory(w->t, entry, sizeof(*entry));
	asp_a64_invalidate_pointer(w->t, level, w->at);
}

/* A table for a free slot, pinned at once. False: look again. */
static bool link_spare(struct asp_a64_way *w, int level, uint64_t *entry, uint64_t descriptor)
{
	uint64_t table = w->spares[w->spare_count - 1];

	asp_a64_settle(w, level, entry, descriptor);
	if (!asp_a64_exchange(w->t, entry, descriptor,
			      (asp_a64_table_descriptor(w->t, table) + ASP_A64_PIN_ONE) |
				      ASP_A64_VISITED))
		return false;
	w->spare_count--;
	w->pinned[w->pinned_count++] = entry;
	w->due = true;
	asp_a64_count_table(w->t);
	return true;
}

/* Go on below this slot, or look again; false: here it ends. */
static bool descend(struct asp_a64_way *w, int level, int lowest, uint64_t *entry,
		    uint64_t descriptor, bool *below)
{
	*below = false;
	if (level == lowest)
		return false;
	if (asp_a64_is_pending(level, descriptor))
		link_pending(w, entry, descriptor);
	else if (asp_a64_is_table(level, descriptor))
		*below = pin(w, entry, descriptor);
	else if (asp_a64_is_free(descriptor) && w->spare_count >= (size_t)(lowest - level))
		*below = link_spare(w, level, entry, descriptor);
	else
		return false;
	return true;
}

struct asp_a64_place asp_a64_go_down(struct asp_a64_way *w, int lowest)
{
	const struct aspace_aarch64 *t = w->t;
	struct asp_a64_place place = {.level = t->geometry.start};
	uint64_t table = t->root;

	for (;; place.level++) {
		uint64_t *entry;
		bool below;

		place.entries = asp_a64_pointer(t, table);
		place.index = asp_a64_index(&t->geometry, place.level, w->at);
		entry = &place.entries[place.index];
		do {
			place.descriptor = asp_a64_load(t, entry);
			if (!descend(w, place.level, lowest, entry, place.descriptor, &below))
				return place;
		} while (!below);
		table = asp_a64_next_table(t, asp_a64_load(t, entry));
	}
}
