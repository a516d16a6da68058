/* SPDX-License-Identifier: MIT */
/*
 * Frames that the program allocates: from it to the stash or to a leaf, and back.
 *
 * prepare allocates, map cannot fail: in between the frames wait in the stash, a queue in
 * pages of table_alloc, so that no other memory is needed. An unmap leaves them in the
 * descriptors, which it condemns; when these are invalidated, they are released. So an undo finds
 * the very frames, and an unmap allocates nothing.
 *
 * Pieces. A leaf says in which size its frame was handed out, and frames are aligned to their size:
 * so whatever becomes of a leaf, whether it is cut or made part of a block, the pieces behind it
 * can be told, and are given back as they came. Where an operation takes a part of a piece, that
 * is cut into the next smaller size, again and again around the place, and the program is told first.
 *
 * Invariants:
 *  1. A frame is in one place: with the program, in the stash, or in one leaf.
 *  2. Outside of an operation, the leaves of one piece follow each other, and are all there: none is
 *     mapped elsewhere or free.
 *  3. What is given back is a piece that was handed out, or that the program was told of.
 */
#include "tables.h"

/* ---- Sizes -------------------------------------------------------------------------- */

/*
 * The sizes that one allocation may have, numbered: asp_a64_frame_size().
 */
uint64_t asp_a64_frame_size(const struct aspace_aarch64 *t, unsigned number, int *level,
			    unsigned *count)
{
	bool grouped = (number - 1) % 2;

	*level = ASP_A64_LAST_LEVEL - (int)(number - 1) / 2;
	if (*level < t->geometry.start || !asp_a64_leaf_allowed(&t->config, *level))
		return 0;
	*count = grouped ? asp_a64_group(&t->config, *level) : 1;
	return grouped && *count == 1 ? 0 : asp_a64_size(&t->geometry, *level) * *count;
}

bool asp_a64_size_allowed(const struct asp_a64_map *map, int level, unsigned count)
{
	return level >= map->highest && (map->contiguous || count == 1);
}

/* The next smaller size than `size` that a map may have; 0: there is none. */
static uint64_t smaller_size(const struct aspace_aarch64 *t, const struct asp_a64_map *map,
			     uint64_t size)
{
	for (unsigned number = ASP_A64_FRAME_SIZES; number > 0; number--) {
		unsigned leaves;
		int level;
		uint64_t one = asp_a64_frame_size(t, number, &level, &leaves);

		if (one && one < size && asp_a64_size_allowed(map, level, leaves))
			return one;
	}
	return 0;
}

uint64_t asp_a64_piece_bits(const struct aspace_aarch64 *t, uint64_t size)
{
	uint64_t number = 1;
	unsigned leaves;
	int level;

	while (number < ASP_A64_FRAME_SIZES &&
	       asp_a64_frame_size(t, (unsigned)number, &level, &leaves) != size)
		number++;
	return number << ASP_A64_PIECE_SHIFT;
}

uint64_t asp_a64_piece_size(const struct aspace_aarch64 *t, uint64_t descriptor)
{
	unsigned number = (unsigned)((descriptor & ASP_A64_PIECE_MASK) >> ASP_A64_PIECE_SHIFT);
	unsigned leaves;
	int level;

	return number ? asp_a64_frame_size(t, number, &level, &leaves) : 0;
}

static bool is_sayable(const struct aspace_aarch64 *t, uint64_t frame, uint64_t size)
{
	return aspace_is_aligned(frame, size) && !((frame + (size - 1)) >> t->config.output_bits);
}

bool asp_a64_frame_alloc(const struct aspace_aarch64 *t, uint64_t size, uint64_t *frame)
{
	struct aspace_paddr got;

	if (!t->ops->frame_alloc(t->ctx, size, &got))
		return false;
	*frame = got.value;
	if (is_sayable(t, got.value, size))
		return true;
	t->ops->frame_free(t->ctx, got, size);
	return false;
}

/* A frame for [at, at + size) or a smaller part of it; *size gets what it is. */
static bool frame_for(const struct aspace_aarch64 *t, const struct asp_a64_map *map, uint64_t at,
		      uint64_t *size, uint64_t *frame)
{
	uint64_t limit = *size, try = UINT64_MAX;

	while ((try = smaller_size(t, map, try))) {
		if (try > limit || !aspace_is_aligned(at, try) ||
		    !asp_a64_frame_alloc(t, try, frame))
			continue;
		*size = try;
		return true;
	}
	return false;
}

/* ---- The stash ------------------------------------------------------------------------- */

static size_t page_size(const struct aspace_aarch64 *t)
{
	return (size_t)1 << t->geometry.granule_shift;
}

static bool push(struct aspace_aarch64 *t, uint64_t value)
{
	if (t->stash_last == ASP_A64_NO_TABLE || t->stash_written == page_size(t) / 8) {
		struct aspace_paddr page;

		if (!t->ops->table_alloc(t->ctx, page_size(t), &page))
			return false;
		if (t->stash_last == ASP_A64_NO_TABLE) {
			t->stash_first = page.value;
			t->stash_read = 1;
		} else {
			asp_a64_pointer(t, t->stash_last)[0] = page.value;
		}
		t->stash_last = page.value;
		t->stash_written = 1;
	}
	asp_a64_pointer(t, t->stash_last)[t->stash_written++] = value;
	return true;
}

/* The next, without taking it; false: there is none. */
static bool peek(struct aspace_aarch64 *t, uint64_t *value)
{
	if (t->stash_first == ASP_A64_NO_TABLE ||
	    (t->stash_first == t->stash_last && t->stash_read == t->stash_written))
		return false;
	if (t->stash_read == page_size(t) / 8) {
		uint64_t page = t->stash_first;

		t->stash_first = asp_a64_pointer(t, page)[0];
		t->stash_read = 1;
		t->ops->table_free(t->ctx, aspace_pa(page), page_size(t));
	}
	*value = asp_a64_pointer(t, t->stash_first)[t->stash_read];
	return true;
}

static bool is_frame(const struct aspace_aarch64 *t, uint64_t value)
{
	return value & (page_size(t) - 1);
}

static uint64_t frame_of(const struct aspace_aarch64 *t, uint64_t value, uint64_t *size)
{
	*size = UINT64_C(1) << (value & (page_size(t) - 1));
	return value & ~(uint64_t)(page_size(t) - 1);
}

uint64_t asp_a64_unstash(struct aspace_aarch64 *t, uint64_t *size)
{
	uint64_t value = 0;

	peek(t, &value);
	t->stash_read++;
	return frame_of(t, value, size);
}

/* Free frames up to the next map's. */
static void skip_frames(struct aspace_aarch64 *t)
{
	uint64_t value, size;

	while (peek(t, &value) && is_frame(t, value)) {
		uint64_t frame = asp_a64_unstash(t, &size);

		t->ops->frame_free(t->ctx, aspace_pa(frame), size);
	}
}

bool asp_a64_stash_holds(struct aspace_aarch64 *t, uint64_t start)
{
	uint64_t value;

	for (skip_frames(t); peek(t, &value); skip_frames(t)) {
		t->stash_read++;
		if (value == start)
			return true;
	}
	return false;
}

void asp_a64_drop_stash(struct aspace_aarch64 *t)
{
	/* No map starts at an odd address. */
	asp_a64_stash_holds(t, UINT64_MAX);
	if (t->stash_first != ASP_A64_NO_TABLE)
		t->ops->table_free(t->ctx, aspace_pa(t->stash_first), page_size(t));
	t->stash_first = t->stash_last = ASP_A64_NO_TABLE;
}

bool asp_a64_stash(struct aspace_aarch64 *t, const struct asp_a64_map *map,
		   struct asp_a64_survey *survey)
{
	uint64_t size;

	if (!push(t, map->start))
		return false;
	for (uint64_t at = map->start; at < map->end; at += size) {
		struct asp_a64_map piece = *map;
		uint64_t frame;

		size = map->end - at;
		if (!frame_for(t, map, at, &size, &frame))
			return false;
		if (!push(t, frame | (unsigned)__builtin_ctzll(size))) {
			t->ops->frame_free(t->ctx, aspace_pa(frame), size);
			return false;
		}
		piece.start = at;
		piece.end = at + size;
		piece.offset = frame - at;
		asp_a64_survey_map(t, &piece, survey);
	}
	return true;
}

/* ---- Cutting pieces -------------------------------------------------------------------------- */

struct cut {
	struct aspace_aarch64 *t;
	uint64_t at;
	uint64_t descriptor, slot; /* the leaf around `at`, and where it starts; 0: there is none */
	uint64_t bits;             /* of the new size */
};

static bool find_slot(void *ctx, const struct asp_a64_slot *slot)
{
	struct cut *cut = ctx;

	cut->descriptor = slot->descriptor;
	cut->slot = aspace_align_down(slot->start, asp_a64_size(&cut->t->geometry, slot->level));
	return false;
}

static bool relabel_slot(void *ctx, const struct asp_a64_slot *slot)
{
	const struct cut *cut = ctx;
	uint64_t old, changed;

	do {
		old = asp_a64_load(cut->t, slot->entry);
		changed = (old & ~ASP_A64_PIECE_MASK) | cut->bits;
		/* Nothing that a TLB has: see classify.c. */
	} while (old && !asp_a64_swap(cut->t, slot->entry, old, changed));
	return true;
}

void asp_a64_cut_piece(struct aspace_aarch64 *t, uint64_t at)
{
	const struct asp_a64_map any = {.highest = -1, .contiguous = true};
	struct cut cut = {.t = t, .at = at};
	uint64_t granule = UINT64_C(1) << t->geometry.granule_shift, frame, size, part;
	struct asp_a64_span one = asp_a64_whole(t, at, at + granule);

	/* `at` may be the end of all. */
	if ((at - t->geometry.base) >> t->geometry.input_bits)
		return;
	asp_a64_visit(t, &one, find_slot, &cut);
	if (!asp_a64_is_mapped(cut.descriptor) && !asp_a64_is_condemned(cut.descriptor))
		return;
	frame = asp_a64_decode_output(&t->config, cut.descriptor) + (at - cut.slot);
	for (size = asp_a64_piece_size(t, cut.descriptor); size && !aspace_is_aligned(frame, size);
	     size = part) {
		uint64_t first = aspace_align_down(frame, size);
		struct asp_a64_span piece =
			asp_a64_whole(t, at - (frame - first), at - (frame - first) + size);

		part = smaller_size(t, &any, size);
		cut.bits = asp_a64_piece_bits(t, part);
		if (t->ops->frame_split)
			t->ops->frame_split(t->ctx, aspace_pa(first), size, part);
		asp_a64_visit(t, &piece, relabel_slot, &cut);
	}
}

/* ---- Release ----------------------------------------------------------------------------- */

void asp_a64_give_back(const struct aspace_aarch64 *t, uint64_t frame, uint64_t size)
{
	if (t->ops->frame_retire)
		t->ops->frame_retire(t->ctx, aspace_pa(frame), size);
	else
		t->ops->frame_free(t->ctx, aspace_pa(frame), size);
}

/* The pieces that begin in a leaf. One that is larger than the leaf goes with its first leaf: the
 * others are condemned as well, and have been invalidated at the same time. */
static bool release_slot(void *ctx, const struct asp_a64_slot *slot)
{
	struct aspace_aarch64 *t = ctx;
	uint64_t frame = asp_a64_decode_output(&t->config, slot->descriptor);
	uint64_t size = asp_a64_size(&t->geometry, slot->level);
	uint64_t piece = asp_a64_piece_size(t, slot->descriptor);

	if (!asp_a64_is_condemned(slot->descriptor))
		return true;
	asp_a64_store(t, slot->entry, 0);
	if (piece > size && aspace_is_aligned(frame, piece))
		asp_a64_give_back(t, frame, piece);
	for (uint64_t at = 0; piece && piece <= size && at < size; at += piece)
		asp_a64_give_back(t, frame + at, piece);
	return true;
}

void asp_a64_release(struct aspace_aarch64 *t, uint64_t start, uint64_t end)
{
	struct asp_a64_span all = asp_a64_whole(t, start, end);

	asp_a64_visit(t, &all, release_slot, t);
}
