/* SPDX-License-Identifier: MIT */
/*
 * Frames that the program allocates: from it to the stash or to a leaf, and back.
 *
 * prepare allocates, map cannot fail: in between the frames wait in the stash, a queue in
 * pages of table_alloc, so that no other memory is needed. An unmap leaves them in the
 * descriptors, which it condemns; when these are invalidated, they are released. So an undo finds
 * the very frames, and an unmap allocates nothing.
 *
 * Invariants:
 *  1. A frame is in one place: with the program, in the stash, or in one leaf.
 */
#include "tables.h"

/* ---- Sizes -------------------------------------------------------------------------- */

/* The next smaller size that one allocation may have: groups and leaves of all levels. */
static uint64_t smaller_size(const struct aspace_aarch64 *t, const struct asp_a64_map *map,
			     uint64_t size)
{
	int level = map->highest > t->geometry.start ? map->highest : t->geometry.start;

	for (; level < ASP_A64_LAST_LEVEL; level++) {
		uint64_t leaf = asp_a64_size(&t->geometry, level);
		uint64_t group = leaf * asp_a64_group(&t->config, level);

		if (!asp_a64_leaf_allowed(&t->config, level))
			continue;
		if (map->contiguous && group < size && group > leaf)
			return group;
		if (leaf < size)
			return leaf;
	}
	if (map->contiguous &&
	    asp_a64_size(&t->geometry, level) * asp_a64_group(&t->config, level) < size)
		return asp_a64_size(&t->geometry, level) * asp_a64_group(&t->config, level);
	return asp_a64_size(&t->geometry, level);
}

static bool is_sayable(const struct aspace_aarch64 *t, uint64_t frame, uint64_t size)
{
	return aspace_is_aligned(frame, size) && !((frame + (size - 1)) >> t->config.output_bits);
}

bool asp_a64_frame_for(struct aspace_aarch64 *t, const struct asp_a64_map *map, uint64_t at,
		       uint64_t *size, uint64_t *frame)
{
	uint64_t granule = UINT64_C(1) << t->geometry.granule_shift, limit = *size,
		 try = UINT64_MAX;
	struct aspace_paddr got;

	do {
		try = smaller_size(t, map, try);
		if (try > limit || !aspace_is_aligned(at, try) ||
		    !t->ops->frame_alloc(t->ctx, try, &got))
			continue;
		if (is_sayable(t, got.value, try)) {
			*size = try;
			*frame = got.value;
			return true;
		}
		t->ops->frame_free(t->ctx, got, try);
	} while (try > granule);
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
		if (!asp_a64_frame_for(t, map, at, &size, &frame))
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

/* ---- Release ----------------------------------------------------------------------------- */

static bool release_slot(void *ctx, const struct asp_a64_slot *slot)
{
	struct aspace_aarch64 *t = ctx;
	struct aspace_paddr frame = {asp_a64_decode_output(&t->config, slot->descriptor)};
	uint64_t size = asp_a64_size(&t->geometry, slot->level);

	if (!asp_a64_is_condemned(slot->descriptor))
		return true;
	asp_a64_store(t, slot->entry, 0);
	if (t->ops->frame_retire)
		t->ops->frame_retire(t->ctx, frame, size);
	else
		t->ops->frame_free(t->ctx, frame, size);
	return true;
}

void asp_a64_release(struct aspace_aarch64 *t, uint64_t start, uint64_t end)
{
	struct asp_a64_span all = asp_a64_whole(t, start, end);

	asp_a64_visit(t, &all, release_slot, t);
}
