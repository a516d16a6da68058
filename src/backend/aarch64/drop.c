/* SPDX-License-Identifier: MIT */
/*
 * What an advice drops, beside faults, other advices and a writer at work on other areas of the same
 * tables. How it goes down the tables: way.c.
 *
 * Frames go back in the pieces in which they came, so what one takes out is whole pieces, leaves and
 * groups: all of them are aligned to their size in the output, hence lie in each other, and the largest
 * counts. Its leaves are exchanged for 0, some pieces at a time, then invalidated, and when
 * that has completed the frames go back. Nobody maps anything there before: who calls sees to that,
 * as for faults. What the writer may do around there is to cut a leaf that reaches out of its own range, and
 * to compact: meanwhile nothing is dropped. Tables stay, also where they become empty.
 *
 * Invariants:
 *  1. A descriptor that is exchanged here was a leaf whose piece and group are in the range of the advice.
 *  2. A frame goes back after the invalidation of all of its leaves has completed.
 *  3. While the writer is `reshaping` nothing is taken out, or cleared.
 *  4. Below `at` nothing has its contents any more, where that is wanted (`exactly`).
 */
#include "way.h"

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
	struct asp_a64_way w; /* the way to the table that `place` is in, */
	struct asp_a64_place place;
	uint64_t first, last; /* which is about these addresses; nothing: first > last */
	struct asp_a64_gathered gathered[UNITS_AT_ONCE];
	struct {
		uint64_t frame, size, piece;
	} units[UNITS_AT_ONCE];
	unsigned count;
	bool global;
	bool exactly;     /* contents go, also where their frame stays */
	unsigned cleared; /* leaves that stay, of which a part was */
	enum aspace_status status;
};

/* The slot of an address. */
static const struct asp_a64_place *look_at(struct drop *d, uint64_t at)
{
	const struct aspace_aarch64 *t = d->w.t;
	struct asp_a64_place *place = &d->place;
	uint64_t size;

	if (at >= d->first && at <= d->last) {
		place->index = asp_a64_index(&t->geometry, place->level, at);
		place->descriptor = asp_a64_load(t, &place->entries[place->index]);
		if (!asp_a64_is_table(place->level, place->descriptor))
			return place;
	}
	asp_a64_unpin_all(&d->w);
	d->w.at = at;
	*place = asp_a64_go_down(&d->w, ASP_A64_LAST_LEVEL);
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
static uint64_t unit_size(const struct aspace_aarch64 *t, const struct asp_a64_place *place,
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
		const struct asp_a64_place *place = look_at(d, at);
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

/* Of the leaf around `at`, whose output is `frame`, what lies in [at, end). Answers how far it came. */
static uint64_t clear_part(struct drop *d, uint64_t frame, uint64_t at, uint64_t end)
{
	const struct aspace_aarch64 *t = d->w.t;
	uint64_t within = at & (asp_a64_size(&t->geometry, d->place.level) - 1);

	if (!t->ops->frame_clear) {
		d->status = ASPACE_NOT_SUPPORTED;
		return at;
	}
	t->ops->frame_clear(t->ctx, aspace_pa(frame + within), end - at);
	d->cleared++;
	return end;
}

/* What is around `at`, if it is all in the range. Answers where to go on. */
static uint64_t drop_unit(struct drop *d, struct aspace_range range, uint64_t at)
{
	const struct aspace_aarch64 *t = d->w.t;
	const struct asp_a64_place *place = look_at(d, at);
	uint64_t next = asp_a64_slot_end(&t->geometry, place->level, at, range.end.value);
	uint64_t frame, size, piece, before;

	if (!asp_a64_is_mapped(place->descriptor))
		return next;
	size = unit_size(t, place, &piece);
	frame = asp_a64_decode_output(&t->config, place->descriptor);
	before = (frame & (size - 1)) + (at & (asp_a64_size(&t->geometry, place->level) - 1));
	if (!piece || at - range.start.value < before || range.end.value - (at - before) < size)
		return d->exactly && piece ? clear_part(d, frame, at, next) : next;
	d->units[d->count].frame = frame & ~(size - 1);
	d->units[d->count].size = size;
	d->units[d->count].piece = piece;
	take_out(d, at - before, at - before + size);
	return at - before + size;
}

enum aspace_status asp_a64_drop(struct aspace_aarch64 *t, struct aspace_range range, bool exactly,
				uint64_t *reached)
{
	struct drop d = {.w = {.t = t}, .first = 1, .exactly = exactly};
	uint64_t at = range.start.value;

	if (!begin_dropping(t))
		return ASPACE_BUSY;
	while (at < range.end.value && d.count + d.cleared < UNITS_AT_ONCE && d.status == ASPACE_OK)
		at = drop_unit(&d, range, at);
	asp_a64_unpin_all(&d.w);
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
	return d.status;
}
