/* SPDX-License-Identifier: MIT */
/*
 * What a fault maps: one frame, in one leaf or one contiguous group, beside other faults and beside
 * a writer at work on other areas of the same tables. And what an advice drops, in the same way.
 *
 * No lock, and nobody waits: a fault may have come in the middle of a batch, or of another fault, on
 * the same processor, where a lock's owner would never go on. What two may want at the same time
 * is decided by the exchange of one descriptor.
 *
 *  - First it looks what is free around the address; then it gets a frame and the tables that it
 *    takes, which may last as long as the program likes; then it goes down again, and maps. If
 *    something has changed meanwhile, it begins anew.
 *  - A new table is zero, and ordered for walks, before it is linked: by an exchange of an
 *    invalid descriptor. Who loses goes on in the winner's table, and gives its own back.
 *  - A table that the writer has made and not yet linked (pending) it links itself: the zeroes, or
 *    what else it has found there, are ordered by its own barrier, since it has seen them (the memory
 *    model is other-multi-copy-atomic, B2.3). Where there is a clean, it cleans them too.
 *  - The leaf is exchanged for an invalid descriptor. That takes neither break nor invalidation; the
 *    barrier that follows is for this processor's next access (D8.16.1, D8.17.1).
 *
 * Pins. A batch of another area frees the tables that it leaves empty, and a compaction those that
 * it makes blocks of, though they may reach into the fault's area. So on its way down a fault counts itself
 * in each pointer to a table that it follows, and out again before the barrier at its end; and a writer
 * takes a pointer away by an exchange that finds nobody counted. Beside the count stands VISITED: the
 * writer takes it off, looks whether the table is empty, and if there was a fault in
 * between, it is on again and the exchange fails. While a pin is held no callback but
 * load, swap, clean, dsb, tlbi and table_pointer is called.
 *
 * Vacated slots. Where a writer has taken a pointer away, walks may go by it until it has been
 * invalidated, and another pointer must not be put there before that (D8.16.1): a fault
 * that wants the slot does not wait for the writer's invalidation, but makes one of its own.
 *
 * Who calls sees to it that what is asked for is not asked for twice at the same time: no two
 * faults in one span, which is aligned to what a fault populates at most, and no writer in the area.
 * So a group's slots are this fault's alone, once it has found them free; and no neighbour's
 * page ever completes one: a group is made where a frame of its size is mapped, and nowhere else.
 *
 * Dropping. Frames go back in the pieces in which they came, so what one takes out is whole pieces, leaves and
 * groups: all of them are aligned to their size in the output, hence lie in each other, and the largest
 * counts. Its leaves are exchanged for 0, some pieces at a time, then invalidated, and when
 * that has completed the frames go back. Nobody maps anything there before: who calls sees to that,
 * as for faults. What the writer may do around there is to cut a leaf that reaches out of its own range, and
 * to compact: meanwhile nothing is dropped. Tables stay, also where they become empty.
 *
 * Invariants:
 *  1. A descriptor that is exchanged here was 0, vacated or pending; or the pins of a pointer change; or
 *     it was a leaf whose piece and group are in the range of an advice.
 *  2. A table that is read here is the root, or is pinned.
 *  3. A pointer that is pinned stays. A table that has been linked here is pinned from then on, until
 *     the leaf is in it.
 *  4. A frame or a table that is not linked in the end goes back to the program as it came.
 */
#include "tables.h"

/* At most so many are missing: below the root, at the levels above the last one. */
#define SPARES ((size_t)ASP_A64_LAST_LEVEL + 1)

struct work {
	struct aspace_aarch64 *t;
	uint64_t at;
	uint64_t *pinned[SPARES]; /* pointers to tables, downward */
	size_t pinned_count;
	uint64_t spares[SPARES]; /* zero, cleaned and ordered */
	size_t spare_count;
	bool due; /* a barrier, and that this processor goes by what it has ordered */
};

/* Where a way down ends. */
struct place {
	int level;
	uint64_t *entries; /* of the table */
	size_t index;
	uint64_t descriptor;
};

/* ---- Down and up again ------------------------------------------------------------------- */

/* Link what a writer has made. Whether it is done by us or by another: look again. */
static void link_pending(struct work *w, uint64_t *entry, uint64_t pending)
{
	const struct aspace_aarch64 *t = w->t;

	asp_a64_clean_memory(t, asp_a64_pointer(t, asp_a64_next_table(t, pending)),
			     (size_t)1 << t->geometry.granule_shift);
	asp_a64_order_walks(t);
	if (asp_a64_exchange(t, entry, pending, pending | ASP_A64_VALID))
		w->due = true;
}

/* False: look again. */
static bool pin(struct work *w, uint64_t *entry, uint64_t table)
{
	/* As many as can be counted: one of them goes, for they wait for nobody. */
	if ((table & ASP_A64_PINS_MASK) == ASP_A64_PINS_MASK ||
	    !asp_a64_exchange(w->t, entry, table, (table + ASP_A64_PIN_ONE) | ASP_A64_VISITED))
		return false;
	w->pinned[w->pinned_count++] = entry;
	return true;
}

static void unpin_all(struct work *w)
{
	while (w->pinned_count) {
		uint64_t *entry = w->pinned[--w->pinned_count], old;

		do
			old = asp_a64_load(w->t, entry);
		while (!asp_a64_exchange(w->t, entry, old, old - ASP_A64_PIN_ONE));
	}
}

/* A free slot can be filled: no walk goes by what was there before. */
static void settle(struct work *w, int level, const uint64_t *entry, uint64_t descriptor)
{
	if (descriptor != ASP_A64_VACATED)
		return;
	w->due = true;
	asp_a64_clean_memory(w->t, entry, sizeof(*entry));
	asp_a64_invalidate_pointer(w->t, level, w->at);
}

/* A table for a free slot, pinned at once. False: look again. */
static bool link_spare(struct work *w, int level, uint64_t *entry, uint64_t descriptor)
{
	uint64_t table = w->spares[w->spare_count - 1];

	settle(w, level, entry, descriptor);
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
static bool descend(struct work *w, int level, int lowest, uint64_t *entry, uint64_t descriptor,
		    bool *below)
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

/* Down to the slot at `lowest`, or to the last table before it; with enough spares, that is all
 * the way where something is missing. */
static struct place go_down(struct work *w, int lowest)
{
	const struct aspace_aarch64 *t = w->t;
	struct place place = {.level = t->geometry.start};
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

/* ---- What to map --------------------------------------------------------------------------- */

/* The range around `at` that a leaf, or a group, of `size` bytes fills; false: it reaches beyond. */
static bool fit(const struct asp_a64_map *range, uint64_t at, uint64_t size, uint64_t *start)
{
	*start = aspace_align_down(at, size);
	return *start >= range->start && range->end - *start >= size;
}

/* Are the slots of a leaf or a group free, in which the place is one? */
static bool are_free(const struct aspace_aarch64 *t, const struct place *place, unsigned count)
{
	const uint64_t *first = &place->entries[place->index & ~(size_t)(count - 1)];

	for (unsigned i = 0; i < count; i++) {
		if (!asp_a64_is_free(asp_a64_load(t, &first[i])))
			return false;
	}
	return true;
}

/* The numbers of the sizes that are free around `at`, as bits; 0: it is populated. */
static unsigned free_sizes(struct work *w, const struct asp_a64_map *range, uint64_t most)
{
	struct place place = go_down(w, ASP_A64_LAST_LEVEL);
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
	unpin_all(w);
	return numbers;
}

/* The largest that there is. 0: none. */
static unsigned get_frame(const struct work *w, unsigned numbers, uint64_t *frame)
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
static bool get_spares(struct work *w, size_t count)
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
static bool put_leaves(struct work *w, const struct place *place, unsigned count, uint64_t leaf)
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
			settle(w, place->level, &first[i], old);
		} while (!asp_a64_exchange(t, &first[i], old, one));
		w->due = true;
	}
	return true;
}

/* Map a frame of this number. ASPACE_BUSY: it does not fit any more. */
static enum aspace_status map_frame(struct work *w, unsigned number, uint64_t leaf)
{
	unsigned count = 1;
	int level;
	bool done;

	asp_a64_frame_size(w->t, number, &level, &count);
	for (;;) {
		struct place place = go_down(w, level);

		if (place.level < level && asp_a64_is_free(place.descriptor)) {
			/* Nothing has been linked, and nothing is held. */
			unpin_all(w);
			if (!get_spares(w, (size_t)(level - place.level)))
				return ASPACE_NO_MEMORY;
			continue;
		}
		done = place.level == level && put_leaves(w, &place, count, leaf);
		unpin_all(w);
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
static enum aspace_status try_to_populate(struct work *w, const struct asp_a64_map *range,
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
	struct work w = {.t = t, .at = at};
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

/* ---- Dropping ---------------------------------------------------------------------------------- */

/* So many pieces, leaves or groups for one invalidation; and looks at a writer that is reshaping. */
#define UNITS_AT_ONCE 32
#define LOOKS_AT_ONCE 256

void asp_a64_begin_reshaping(struct aspace_aarch64 *t)
{
	atomic_store(&t->reshaping, true);
	while (atomic_load(&t->dropping))
		;
}

void asp_a64_end_reshaping(struct aspace_aarch64 *t)
{
	/* Release pairs with begin_dropping(): who drops now finds the leaves as they have become. */
	atomic_store_explicit(&t->reshaping, false, memory_order_release);
}

static bool begin_dropping(struct aspace_aarch64 *t)
{
	for (unsigned looks = 0; looks < LOOKS_AT_ONCE; looks++) {
		atomic_fetch_add(&t->dropping, 1);
		if (!atomic_load(&t->reshaping))
			return true;
		atomic_fetch_sub(&t->dropping, 1);
	}
	return false;
}

struct drop {
	struct work w; /* the way to the table that `place` is in, */
	struct place place;
	uint64_t first, last; /* which is about these addresses; nothing: first > last */
	struct asp_a64_gathered gathered[UNITS_AT_ONCE];
	struct {
		uint64_t frame, size, piece;
	} units[UNITS_AT_ONCE];
	unsigned count;
	bool global;
};

/* The slot of an address. */
static const struct place *look_at(struct drop *d, uint64_t at)
{
	const struct aspace_aarch64 *t = d->w.t;
	struct place *place = &d->place;
	uint64_t size;

	if (at >= d->first && at <= d->last) {
		place->index = asp_a64_index(&t->geometry, place->level, at);
		place->descriptor = asp_a64_load(t, &place->entries[place->index]);
		if (!asp_a64_is_table(place->level, place->descriptor))
			return place;
	}
	unpin_all(&d->w);
	d->w.at = at;
	*place = go_down(&d->w, ASP_A64_LAST_LEVEL);
	d->first = 0;
	d->last = UINT64_MAX;
	if (place->level > t->geometry.start) {
		size = asp_a64_size(&t->geometry, place->level - 1);
		d->first = aspace_align_down(at, size);
		d->last = d->first + (size - 1);
	}
	return place;
}

/* The largest of leaf, group and piece around a leaf, in the output; and the piece. */
static uint64_t unit_size(const struct aspace_aarch64 *t, const struct place *place,
			  uint64_t *piece)
{
	uint64_t size = asp_a64_size(&t->geometry, place->level);

	if (place->descriptor & ASP_A64_CONTIGUOUS)
		size *= asp_a64_group(&t->config, place->level);
	*piece = asp_a64_piece_size(t, place->descriptor);
	return *piece > size ? *piece : size;
}

/* Takes out all leaves of [start, end), which are one unit. */
static void take_out(struct drop *d, uint64_t start, uint64_t end)
{
	struct asp_a64_gathered *item = &d->gathered[d->count];

	*item = (struct asp_a64_gathered){start, end, d->place.level, true};
	for (uint64_t at = start, next; at < end; at = next) {
		const struct place *place = look_at(d, at);
		uint64_t *entry = &place->entries[place->index], old;

		next = asp_a64_slot_end(&d->w.t->geometry, place->level, at, end);
		do
			old = asp_a64_load(d->w.t, entry);
		while (!asp_a64_exchange(d->w.t, entry, old, 0));
		d->global = d->global || asp_a64_is_global(&d->w.t->config, old);
		/* Of several levels: by pages, and without saying of which. */
		if (place->level != item->level) {
			item->level = ASP_A64_LAST_LEVEL;
			item->leaf = false;
		}
	}
	d->count++;
}

/* What is around `at`, if it is all in the range. Answers where to go on. */
static uint64_t drop_unit(struct drop *d, struct aspace_range range, uint64_t at)
{
	const struct aspace_aarch64 *t = d->w.t;
	const struct place *place = look_at(d, at);
	uint64_t next = asp_a64_slot_end(&t->geometry, place->level, at, range.end.value);
	uint64_t frame, size, piece, before;

	if (!asp_a64_is_mapped(place->descriptor))
		return next;
	size = unit_size(t, place, &piece);
	frame = asp_a64_decode_output(&t->config, place->descriptor);
	before = (frame & (size - 1)) + (at & (asp_a64_size(&t->geometry, place->level) - 1));
	if (!piece || at - range.start.value < before || range.end.value - (at - before) < size)
		return next;
	d->units[d->count].frame = frame & ~(size - 1);
	d->units[d->count].size = size;
	d->units[d->count].piece = piece;
	take_out(d, at - before, at - before + size);
	return at - before + size;
}

enum aspace_status asp_a64_drop(struct aspace_aarch64 *t, struct aspace_range range,
				uint64_t *reached)
{
	struct drop d = {.w = {.t = t}, .first = 1};
	uint64_t at = range.start.value;

	if (!begin_dropping(t))
		return ASPACE_BUSY;
	while (at < range.end.value && d.count < UNITS_AT_ONCE)
		at = drop_unit(&d, range, at);
	unpin_all(&d.w);
	if (d.count)
		asp_a64_invalidate_beside(t, d.gathered, d.count, d.global);
	if (d.count || d.w.due)
		t->ops->isb(t->ctx);
	atomic_fetch_sub(&t->dropping, 1);
	for (unsigned i = 0; i < d.count; i++) {
		for (uint64_t part = 0; part < d.units[i].size; part += d.units[i].piece)
			asp_a64_give_back(t, d.units[i].frame + part, d.units[i].piece);
	}
	*reached = at;
	return ASPACE_OK;
}
