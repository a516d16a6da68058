/* SPDX-License-Identifier: MIT */
/*
 * The backend of allocated frames. The rules that it keeps are those of change.c, and:
 *
 *  1. After prepare the stash holds all frames that the maps of the batch take.
 *  2. A fault changes nothing but by asp_a64_populate(), an advice but by asp_a64_drop(), and both
 *     read nothing of the tables that the writer changes.
 *  3. What is unmapped keeps its frames until flush, so that an undo can put them back; unless
 *     something else is mapped in their place before.
 */
#include "tables.h"

static struct aspace_aarch64_allocated *source_of(struct aspace_backend *backend)
{
	return (struct aspace_aarch64_allocated *)backend;
}

/* ---- Populated at once ----------------------------------------------------------------- */

static enum aspace_status prepare_map(const struct aspace_aarch64_allocated *source,
				      const struct asp_a64_map *map)
{
	struct asp_a64_survey survey = {0};

	if (source->lazy)
		return ASPACE_OK;
	if (!asp_a64_stash(source->tables, map, &survey))
		return ASPACE_NO_MEMORY;
	return asp_a64_promise(source->tables, survey.tables);
}

static bool edit_of(const struct aspace_aarch64_allocated *source,
		    const struct aspace_change *change, struct asp_a64_edit *edit)
{
	bool usable = asp_a64_edit_of(source->tables, change, edit);

	if (change->kind != ASPACE_CHANGE_PROTECT) {
		edit->clear = edit->condemn = true;
		edit->highest = -1;
		edit->contiguous = true;
	}
	return usable;
}

static bool move_of(const struct aspace_aarch64_allocated *source,
		    const struct aspace_change *change, struct asp_a64_move *move)
{
	uint64_t start = change->range.start.value, end = change->range.end.value;
	uint64_t distance = change->destination.value - start;

	*move = (struct asp_a64_move){.start = start, .end = end, .distance = distance};
	return asp_a64_map_of(source->tables, change, &move->to) &&
	       asp_a64_range_usable(source->tables,
				    aspace_range_of(start + distance, end + distance));
}

/* Would a change of what is mapped be refused? And what does it take? */
static enum aspace_status survey_change(const struct aspace_aarch64_allocated *source,
					const struct aspace_change *change,
					const struct asp_a64_edit *edit,
					struct asp_a64_survey *survey)
{
	bool replace = change->kind == ASPACE_CHANGE_REPLACE;
	struct aspace_aarch64 *t = source->tables;
	enum aspace_status status = asp_a64_check_edit(t, edit, source->lazy || replace, survey);

	/* Other frames: nothing is there for a moment. */
	if (replace && survey->mapped && t->config.no_transient_faults)
		return ASPACE_NOT_SUPPORTED;
	return status;
}

static enum aspace_status prepare_move(const struct aspace_aarch64_allocated *source,
				       const struct aspace_change *change)
{
	struct asp_a64_move move;

	if (!move_of(source, change, &move))
		return ASPACE_INVALID_PARAM;
	return asp_a64_promise(source->tables, asp_a64_survey_move(source->tables, &move));
}

static enum aspace_status allocated_prepare(struct aspace_backend *backend,
					    const struct aspace_change *change)
{
	struct aspace_aarch64_allocated *source = source_of(backend);
	enum aspace_status status = ASPACE_OK;
	struct asp_a64_survey survey = {0};
	struct asp_a64_edit edit;
	struct asp_a64_map map;

	if (change->kind != ASPACE_CHANGE_MAP) {
		if (!edit_of(source, change, &edit))
			return ASPACE_INVALID_PARAM;
		status = survey_change(source, change, &edit, &survey);
		if (status == ASPACE_OK)
			status = asp_a64_promise(source->tables, survey.tables);
	}
	if (status == ASPACE_OK && change->kind == ASPACE_CHANGE_MOVE)
		return prepare_move(source, change);
	if (status != ASPACE_OK ||
	    (change->kind != ASPACE_CHANGE_MAP && change->kind != ASPACE_CHANGE_REPLACE))
		return status;
	return asp_a64_map_of(source->tables, change, &map) ? prepare_map(source, &map)
							    : ASPACE_INVALID_PARAM;
}

static void map_stashed(struct aspace_aarch64 *t, const struct asp_a64_map *map)
{
	size_t tables = aspace_aarch64_table_count(t);
	struct asp_a64_map piece = *map;
	uint64_t size;

	for (piece.start = map->start; piece.start < map->end; piece.start = piece.end) {
		piece.offset = asp_a64_unstash(t, &size) - piece.start;
		piece.end = piece.start + size;
		piece.attributes = map->attributes | asp_a64_piece_bits(t, size);
		asp_a64_fill(t, &piece);
	}
	if (aspace_aarch64_table_count(t) != tables)
		asp_a64_link(t, map->start, map->end);
}

/* Takes what is mapped in a range away, as it is: whole pieces of it. */
static void condemn(struct aspace_aarch64 *t, const struct asp_a64_edit *edit)
{
	asp_a64_edit(t, edit);
	asp_a64_cut_piece(t, edit->start);
	asp_a64_cut_piece(t, edit->end);
}

static bool restore_slot(void *ctx, const struct asp_a64_slot *slot)
{
	if (asp_a64_is_condemned(slot->descriptor))
		asp_a64_store(ctx, slot->entry,
			      asp_a64_open(slot->descriptor & ~ASP_A64_CONDEMNED));
	return true;
}

/* An undo of an unmap: TLBs that still hold what was there hold the same. */
static enum aspace_status restore(struct aspace_aarch64 *t, const struct asp_a64_map *map)
{
	struct asp_a64_span all = asp_a64_whole(t, map->start, map->end);

	if (t->released)
		return ASPACE_NO_MEMORY;
	asp_a64_visit(t, &all, restore_slot, t);
	return ASPACE_OK;
}

/* What the map takes is next in the stash, also where no prepare came before. */
static enum aspace_status have_frames(const struct aspace_aarch64_allocated *source,
				      const struct asp_a64_map *map)
{
	enum aspace_status status = ASPACE_OK;

	if (!source->lazy && !asp_a64_stash_holds(source->tables, map->start)) {
		status = prepare_map(source, map);
		asp_a64_stash_holds(source->tables, map->start);
	}
	return status;
}

static enum aspace_status allocated_map(struct aspace_backend *backend,
					const struct aspace_change *change)
{
	struct aspace_aarch64_allocated *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	struct asp_a64_survey survey = {0};
	enum aspace_status status;
	struct asp_a64_map map;

	if (!asp_a64_map_of(t, change, &map))
		return ASPACE_INVALID_PARAM;
	if (change->undo)
		return restore(t, &map);
	asp_a64_survey_map(t, &map, &survey);
	if (survey.mapped)
		return ASPACE_ALREADY_EXISTS;
	status = have_frames(source, &map);
	if (status != ASPACE_OK)
		return status;
	asp_a64_make_room(t, &map, &survey);
	if (!source->lazy)
		map_stashed(t, &map);
	return ASPACE_OK;
}

static enum aspace_status allocated_edit(struct aspace_backend *backend,
					 const struct aspace_change *change)
{
	struct aspace_aarch64_allocated *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	struct asp_a64_survey survey = {0};
	enum aspace_status status;
	struct asp_a64_edit edit;

	if (!edit_of(source, change, &edit))
		return ASPACE_INVALID_PARAM;
	status = survey_change(source, change, &edit, &survey);
	if (status != ASPACE_OK)
		return status;
	if (!asp_a64_reserve(t, survey.tables))
		return ASPACE_NO_MEMORY;
	if (!edit.clear) {
		asp_a64_edit(t, &edit);
		return ASPACE_OK;
	}
	condemn(t, &edit);
	asp_a64_touch(t, change->range);
	t->condemned = t->condemned || survey.mapped;
	return ASPACE_OK;
}

static enum aspace_status allocated_replace(struct aspace_backend *backend,
					    const struct aspace_change *change)
{
	struct aspace_aarch64_allocated *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	struct asp_a64_survey survey = {0};
	enum aspace_status status;
	struct asp_a64_edit edit;
	struct asp_a64_map map;

	if (!edit_of(source, change, &edit) || !asp_a64_map_of(t, change, &map))
		return ASPACE_INVALID_PARAM;
	status = survey_change(source, change, &edit, &survey);
	if (status == ASPACE_OK)
		status = have_frames(source, &map);
	if (status != ASPACE_OK)
		return status;
	if (!asp_a64_reserve(t, survey.tables))
		return ASPACE_NO_MEMORY;
	condemn(t, &edit);
	asp_a64_invalidate(t);
	asp_a64_release(t, edit.start, edit.end);
	if (source->lazy)
		asp_a64_touch(t, change->range);
	else
		map_stashed(t, &map);
	return ASPACE_OK;
}

static enum aspace_status allocated_move(struct aspace_backend *backend,
					 const struct aspace_change *change)
{
	struct aspace_aarch64_allocated *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	struct asp_a64_survey survey = {0}, there = {0};
	enum aspace_status status;
	struct asp_a64_move move;
	struct asp_a64_edit edit;
	struct asp_a64_map to;

	if (!edit_of(source, change, &edit) || !move_of(source, change, &move))
		return ASPACE_INVALID_PARAM;
	status = survey_change(source, change, &edit, &survey);
	if (status != ASPACE_OK)
		return status;
	to = move.to;
	to.start = move.start + move.distance;
	to.end = move.end + move.distance;
	asp_a64_survey_map(t, &to, &there);
	if (there.mapped)
		return ASPACE_ALREADY_EXISTS;
	/* An undo lives on what prepare has reserved for it. */
	if (!change->undo && !asp_a64_reserve(t, survey.tables + asp_a64_survey_move(t, &move)))
		return ASPACE_NO_MEMORY;
	asp_a64_make_room(t, &to, &there);
	asp_a64_move(t, &move);
	asp_a64_touch(t, change->range);
	return ASPACE_OK;
}

static void allocated_flush(struct aspace_backend *backend)
{
	asp_a64_end_batch(source_of(backend)->tables);
}

/* ---- Populated on access ------------------------------------------------------------------ */

/* The access bits are the flags' bits; nobody says at which level something was executed. */
static uint64_t allowed(uint64_t flags)
{
	if (flags & ASPACE_AARCH64_USER_EXECUTE)
		flags |= ASPACE_AARCH64_EXECUTE;
	return flags & (ASPACE_ACCESS_READ | ASPACE_ACCESS_WRITE | ASPACE_ACCESS_EXECUTE);
}

static enum aspace_status allocated_fault(struct aspace_backend *backend,
					  const struct aspace_area *area,
					  struct aspace_vaddr address, unsigned access)
{
	struct aspace_aarch64_allocated *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	const struct aspace_change change = {
		.kind = ASPACE_CHANGE_MAP,
		.range = {area->start, area->end},
		.new_flags = area->flags,
	};
	struct asp_a64_map map;

	if (!asp_a64_map_of(t, &change, &map) || address.value < area->start.value ||
	    address.value >= area->end.value)
		return ASPACE_INVALID_PARAM;
	if (access & ~allowed(area->flags))
		return ASPACE_ACCESS_DENIED;
	if (!source->lazy)
		return ASPACE_OK;
	/* The access follows: it need not be noted by the processor. */
	map.attributes |= ASP_A64_AF;
	if ((access & ASPACE_ACCESS_WRITE) && t->config.hardware_dirty)
		map.attributes = asp_a64_mark_written(&t->config, map.attributes);
	return asp_a64_populate(t, &map, address.value, source->fault_max);
}

/* What asp_a64_populate() maps at most. */
static uint64_t allocated_fault_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	const struct aspace_aarch64_allocated *source = source_of(backend);
	uint64_t span = UINT64_C(1) << source->tables->geometry.granule_shift;

	(void)area;
	while (span <= source->fault_max / 2)
		span *= 2;
	return span;
}

static enum aspace_status allocated_advise(struct aspace_backend *backend,
					   const struct aspace_area *area,
					   struct aspace_range range, enum aspace_advice advice,
					   struct aspace_vaddr *reached)
{
	struct aspace_aarch64_allocated *source = source_of(backend);

	/* What may go at any time may go now. */
	if (!source->lazy || (advice != ASPACE_ADVICE_DROP && advice != ASPACE_ADVICE_FREE))
		return ASPACE_NOT_SUPPORTED;
	if (!asp_a64_range_usable(source->tables, range) || range.start.value < area->start.value ||
	    range.end.value > area->end.value)
		return ASPACE_INVALID_PARAM;
	return asp_a64_drop(source->tables, range, advice == ASPACE_ADVICE_DROP, &reached->value);
}

const struct aspace_backend_ops asp_a64_allocated_ops = {
	.size = sizeof(asp_a64_allocated_ops),
	.map = allocated_map,
	.unmap = allocated_edit,
	.protect = allocated_edit,
	.replace = allocated_replace,
	.move = allocated_move,
	.prepare = allocated_prepare,
	.flush = allocated_flush,
	.fault = allocated_fault,
	.check_area = asp_a64_check_area,
	.fault_span = allocated_fault_span,
	.loses = asp_a64_loses,
	.advise = allocated_advise,
};
