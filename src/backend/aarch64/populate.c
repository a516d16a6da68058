/* SPDX-License-Identifier: MIT */
/*
 * What a fault maps: one frame, in one leaf or one contiguous group, beside other faults and beside
 * a writer at work on other areas of the same tables.
 *
 * No lock, and nobody waits: a fault may have come in the middle of a batch, or of another fault, on
 * the same processor, where a lock's owner would never go on. How it goes down the tables: way.c.
 *
 *  - First it looks what is free around the address; then it gets a frame and the tables that it
 *    takes, which may last as long as the program likes; then it goes down again, and maps. If
 *    something has changed meanwhile, it begins anew.
 *  - The leaf is exchanged for an invalid descriptor. That takes neither break nor invalidation; the
 *    barrier that follows is for this processor's next access (D8.16.1, D8.17.1).
 *
 * Who calls sees to it that what is asked for is not asked for twice at the same time: no two
 * faults in one span, which is aligned to what a fault populates at most, and no writer in the area.
 * So a group's slots are this fault's alone, once it has found them free; and no neighbour's
 * page ever completes one: a group is made where a frame of its size is mapped, and nowhere else.
 *
 * Invariants:
 *  1. A descriptor that is exchanged here was 0 or vacated.
 *  2. The table that a leaf is put into is pinned until it is there.
 *  3. A frame or a table that is not linked in the end goes back to the program as it came.
 */
#include "way.h"

/* ---- What to map --------------------------------------------------------------------------- */

/* The range around `at` that a leaf, or a group, of `size` bytes fills; false: it reaches beyond. */
static bool fit(const struct asp_a64_map *range, uint64_t at, uint64_t size, uint64_t *start)
{
	*start = aspace_align_down(at, size);
	return *start >= range->start && range->end - *start >= size;
}

/* Are the slots of a leaf or a group free, in which the place is one? */
static bool are_free(const struct aspace_aarch64 *t, const struct asp_a64_place *place,
		     unsigned count)
{
	const uint64_t *first = &place->entries[place->index & ~(size_t)(count - 1)];

	for (unsigned i = 0; i < count; i++) {
		if (!asp_a64_is_free(asp_a64_load(t, &first[i])))
			return false;
	}
	return true;
}

/* The numbers of the sizes that are free around `at`, as bits; 0: it is populated. */
static unsigned free_sizes(struct asp_a64_way *w, const struct asp_a64_map *range, uint64_t most)
{
	struct asp_a64_place place = asp_a64_go_down(w, ASP_A64_LAST_LEVEL);
	unsigned numbers = 0;

	for (unsigned n = 1; n <= ASP_A64_FRAME_SIZES && asp_a64_is_free(place.descriptor); n++) {
		unsigned count = 1;
		int level;
		uint64_t size = asp_a64_frame_size(w->t, n, &level, &count), start;

		if (size && (size <= most || n == 1) && level >= place.level &&
		    asp_a64_size_allowed(range, level, count) && fit(range, w->at, size, &start) &&
		    (level > place.level || are_free(w->t, &place, count)))
			numbers |= 1u << n;
	}
	asp_a64_unpin_all(w);
	return numbers;
}

/* The largest that there is. 0: none. */
static unsigned get_frame(const struct asp_a64_way *w, unsigned numbers, uint64_t *frame)
{
	for (unsigned n = ASP_A64_FRAME_SIZES; n > 0; n--) {
		unsigned count;
		int level;

		if ((numbers & 1u << n) &&
		    asp_a64_frame_alloc(w->t, asp_a64_frame_size(w->t, n, &level, &count), frame))
			return n;
	}
	return 0;
}

/* So many spares, for one barrier. False: there is not the memory. */
static bool get_spares(struct asp_a64_way *w, size_t count)
{
	const struct aspace_aarch64 *t = w->t;

	while (w->spare_count < count) {
		uint64_t table;

		if (!asp_a64_table_alloc(t, &table))
			return false;
		asp_a64_clean_memory(t, asp_a64_pointer(t, table),
				     (size_t)1 << t->geometry.granule_shift);
		w->spares[w->spare_count++] = table;
	}
	asp_a64_order_walks(t);
	return true;
}

/* ---- Mapping ---------------------------------------------------------------------------------- */

/* False: something is there by now. */
static bool put_leaves(struct asp_a64_way *w, const struct asp_a64_place *place, unsigned count,
		       uint64_t leaf)
{
	const struct aspace_aarch64 *t = w->t;
	uint64_t *first = &place->entries[place->index & ~(size_t)(count - 1)];
	uint64_t size = asp_a64_size(&t->geometry, place->level);

	if (!are_free(t, place, count))
		return false;
	for (unsigned i = 0; i < count; i++) {
		uint64_t output = asp_a64_decode_output(&t->config, leaf) + i * size;
		uint64_t one = (leaf & ~asp_a64_output_mask(&t->config)) |
			       asp_a64_encode_output(&t->config, output);
		uint64_t old;

		do {
			old = asp_a64_load(t, &first[i]);
			if (!asp_a64_is_free(old))
				return false;
			asp_a64_settle(w, place->level, &first[i], old);
		} while (!asp_a64_exchange(t, &first[i], old, one));
		w->due = true;
	}
	return true;
}

/* Map a frame of this number. ASPACE_BUSY: it does not fit any more. */
static enum aspace_status map_frame(struct asp_a64_way *w, unsigned number, uint64_t leaf)
{
	unsigned count = 1;
	int level;
	bool done;

	asp_a64_frame_size(w->t, number, &level, &count);
	for (;;) {
		struct asp_a64_place place = asp_a64_go_down(w, level);

		if (place.level < level && asp_a64_is_free(place.descriptor)) {
			/* Nothing has been linked, and nothing is held. */
			asp_a64_unpin_all(w);
			if (!get_spares(w, (size_t)(level - place.level)))
				return ASPACE_NO_MEMORY;
			continue;
		}
		done = place.level == level && put_leaves(w, &place, count, leaf);
		asp_a64_unpin_all(w);
		return done ? ASPACE_OK : ASPACE_BUSY;
	}
}

static uint64_t leaf_of(const struct aspace_aarch64 *t, const struct asp_a64_map *range,
			unsigned number, uint64_t frame)
{
	unsigned count = 1;
	int level;
	uint64_t size = asp_a64_frame_size(t, number, &level, &count);

	return asp_a64_open(asp_a64_encode_output(&t->config, frame) | range->attributes |
			    asp_a64_piece_bits(t, size) |
			    (level == ASP_A64_LAST_LEVEL ? ASP_A64_TABLE : 0) |
			    (count > 1 ? ASP_A64_CONTIGUOUS : 0));
}

/* Once: ASPACE_BUSY: anew. */
static enum aspace_status try_to_populate(struct asp_a64_way *w, const struct asp_a64_map *range,
					  uint64_t most)
{
	unsigned numbers = free_sizes(w, range, most), number, count;
	const struct aspace_aarch64 *t = w->t;
	enum aspace_status status;
	uint64_t frame;
	int level;

	if (!numbers)
		return ASPACE_OK; /* it is populated: the fault was an old one */
	number = get_frame(w, numbers, &frame);
	if (!number)
		return ASPACE_NO_MEMORY;
	status = map_frame(w, number, leaf_of(t, range, number, frame));
	if (status != ASPACE_OK)
		t->ops->frame_free(t->ctx, aspace_pa(frame),
				   asp_a64_frame_size(t, number, &level, &count));
	return status;
}

enum aspace_status asp_a64_populate(struct aspace_aarch64 *t, const struct asp_a64_map *range,
				    uint64_t at, uint64_t most)
{
	struct asp_a64_way w = {.t = t, .at = at};
	enum aspace_status status;

	do
		status = try_to_populate(&w, range, most);
	while (status == ASPACE_BUSY);
	while (w.spare_count)
		asp_a64_table_free(t, w.spares[--w.spare_count]);
	if (w.due) {
		asp_a64_order_walks(t);
		t->ops->isb(t->ctx);
	}
	return status;
}
