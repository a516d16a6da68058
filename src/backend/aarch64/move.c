/* SPDX-License-Identifier: MIT */
/*
 * Carrying what is mapped in a range to another place: the frames stay, their descriptors move.
 *
 * The source is condemned first, like an unmap, which cuts what reaches beyond it. Then each
 * leaf, or each contiguous group, goes to the destination, with what the processor has noted, in
 * as few leaves as fit there. What the TLBs hold of the source waits for the flush: it leads to
 * the same frames.
 *
 * Invariants:
 *  1. The survey's count is enough for the move and, from there, for its undo: a block that
 *     became pages on the way needs a table when it comes back as pages.
 *  2. At the end nothing is condemned.
 */
#include "tables.h"

/* What is to be made of the leaf or group that begins at a slot; false: it began before. */
static bool piece_of(const struct aspace_aarch64 *t, const struct asp_a64_move *move,
		     const struct asp_a64_slot *slot, struct asp_a64_map *piece)
{
	uint64_t size = asp_a64_size(&t->geometry, slot->level), group = size, start, last;
	uint64_t output = asp_a64_decode_output(&t->config, slot->descriptor);

	if (slot->descriptor & ASP_A64_CONTIGUOUS)
		group *= asp_a64_group(&t->config, slot->level);
	start = aspace_align_down(slot->start, group);
	last = start + (group - 1);
	if (start < move->start)
		start = move->start;
	if (start != slot->start)
		return false;
	*piece = move->to;
	piece->start = start + move->distance;
	piece->end = (last < move->end - 1 ? last + 1 : move->end) + move->distance;
	piece->offset = output + (start & (size - 1)) - piece->start;
	return true;
}

struct survey {
	const struct aspace_aarch64 *t;
	const struct asp_a64_move *move;
	struct asp_a64_survey there, back;
};

static bool survey_slot(void *ctx, const struct asp_a64_slot *slot)
{
	struct survey *survey = ctx;
	const struct asp_a64_move *move = survey->move;
	uint64_t size = asp_a64_size(&survey->t->geometry, slot->level);
	struct asp_a64_map piece;

	if (!asp_a64_is_mapped(slot->descriptor) || !piece_of(survey->t, move, slot, &piece))
		return true;
	asp_a64_survey_map(survey->t, &piece, &survey->there);
	if (aspace_is_aligned(move->distance, size) && slot->level >= move->to.highest)
		return true;
	piece.start -= move->distance;
	piece.end -= move->distance;
	piece.highest = ASP_A64_LAST_LEVEL;
	asp_a64_survey_map(survey->t, &piece, &survey->back);
	return true;
}

size_t asp_a64_survey_move(const struct aspace_aarch64 *t, const struct asp_a64_move *move)
{
	struct asp_a64_span all = asp_a64_whole(t, move->start, move->end);
	struct survey survey = {.t = t, .move = move};

	asp_a64_visit(t, &all, survey_slot, &survey);
	return survey.there.tables + survey.back.tables;
}

struct work {
	struct aspace_aarch64 *t;
	const struct asp_a64_move *move;
};

/* The attributes of a leaf, or of a group, with the history of all of it. */
static uint64_t attributes_of(const struct aspace_aarch64 *t, const struct asp_a64_slot *slot)
{
	uint64_t all = asp_a64_with_group_history(t, slot->level, slot->entry, slot->start,
						  slot->descriptor);

	return all & ~(asp_a64_output_mask(&t->config) | ASP_A64_CONDEMNED | ASP_A64_CONTIGUOUS |
		       ASP_A64_TABLE);
}

static bool move_slot(void *ctx, const struct asp_a64_slot *slot)
{
	const struct work *work = ctx;
	struct asp_a64_map piece;

	if (!asp_a64_is_condemned(slot->descriptor))
		return true;
	if (piece_of(work->t, work->move, slot, &piece)) {
		piece.attributes = attributes_of(work->t, slot);
		asp_a64_fill(work->t, &piece);
	}
	asp_a64_store(work->t, slot->entry, 0);
	return true;
}

void asp_a64_move(struct aspace_aarch64 *t, const struct asp_a64_move *move)
{
	const struct asp_a64_edit edit = {
		.start = move->start,
		.end = move->end,
		.clear = true,
		.condemn = true,
		.highest = -1,
		.contiguous = true,
		.contiguous_outside = move->to.contiguous,
	};
	struct asp_a64_span all = asp_a64_whole(t, move->start, move->end);
	struct work work = {t, move};
	size_t reserve;

	asp_a64_edit(t, &edit);
	asp_a64_cut_piece(t, edit.start);
	asp_a64_cut_piece(t, edit.end);
	reserve = t->reserve_count;
	asp_a64_visit(t, &all, move_slot, &work);
	if (t->reserve_count != reserve)
		asp_a64_link(t, move->start + move->distance, move->end + move->distance);
}
