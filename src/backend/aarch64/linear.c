/* SPDX-License-Identifier: MIT */
/*
 * The backend of linear frames: the library's changes become operations on the tree.
 *
 * Invariants:
 *  1. What a change asks for is checked, and surveyed, before the tree changes.
 *  2. After prepare the reserve holds what all changes of the batch may take together: each
 *     is surveyed on the tree as it is at prepare, and the others of the batch only add tables,
 *     or clear leaves, which the survey of a map counts as cleared.
 *  3. Unmapping leaves the tables where they are until flush: an undo, which maps again,
 *     finds all the tables that it needs.
 *  4. Nothing is mapped where an invalidation is still due.
 */
#include "tables.h"

static struct aspace_aarch64_linear *source_of(struct aspace_backend *backend)
{
	return (struct aspace_aarch64_linear *)backend;
}

/* ---- Checking -------------------------------------------------------------------------- */

static bool frames_usable(const struct aspace_aarch64_linear *source, struct aspace_range range)
{
	uint64_t first = range.start.value + source->offset;
	uint64_t last = range.end.value - 1 + source->offset;

	return first <= last && !(last >> source->tables->config.output_bits);
}

/* An undo puts back what was there, and that may be larger than the flags ask for: a protect
 * changes them and not the size. Only so does it need no tables. */
static int highest_of(const struct aspace_change *change)
{
	uint64_t level = change->new_flags & ASPACE_AARCH64_LEVEL_MASK;

	return level && !change->undo ? (int)(level / ASPACE_AARCH64_LEVEL_1) : -1;
}

static bool map_of(const struct aspace_aarch64_linear *source, const struct aspace_change *change,
		   struct asp_a64_map *map)
{
	*map = (struct asp_a64_map){
		.start = change->range.start.value,
		.end = change->range.end.value,
		.offset = source->offset,
		.highest = highest_of(change),
		.contiguous = !(change->new_flags & ASPACE_AARCH64_NO_CONTIGUOUS),
	};
	return asp_a64_range_usable(source->tables, change->range) &&
	       frames_usable(source, change->range) &&
	       asp_a64_attributes(&source->tables->config, change->new_flags, &map->attributes);
}

static bool edit_of(const struct aspace_aarch64_linear *source, const struct aspace_change *change,
		    struct asp_a64_edit *edit)
{
	*edit = (struct asp_a64_edit){
		.start = change->range.start.value,
		.end = change->range.end.value,
		.clear = change->kind == ASPACE_CHANGE_UNMAP,
		.contiguous = !(change->old_flags & ASPACE_AARCH64_NO_CONTIGUOUS),
	};
	return asp_a64_range_usable(source->tables, change->range) &&
	       (edit->clear ||
		asp_a64_attributes(&source->tables->config, change->new_flags, &edit->attributes));
}

static enum aspace_status survey_edit(const struct aspace_aarch64 *t,
				      const struct asp_a64_edit *edit, size_t *tables)
{
	struct asp_a64_survey survey = {0};

	asp_a64_survey_edit(t, edit, &survey);
	*tables = survey.tables;
	if (survey.hole)
		return ASPACE_NOT_MAPPED;
	return survey.breaks && t->config.no_transient_faults ? ASPACE_NOT_SUPPORTED : ASPACE_OK;
}

/* ---- Operations ---------------------------------------------------------------------------- */

static enum aspace_status linear_prepare(struct aspace_backend *backend,
					 const struct aspace_change *change)
{
	struct aspace_aarch64_linear *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	enum aspace_status status = ASPACE_INVALID_PARAM;
	struct asp_a64_survey survey = {0};
	struct asp_a64_edit edit;
	struct asp_a64_map map;

	if (change->kind == ASPACE_CHANGE_MAP && map_of(source, change, &map)) {
		asp_a64_survey_map(t, &map, &survey);
		status = ASPACE_OK;
	} else if (change->kind != ASPACE_CHANGE_MAP && edit_of(source, change, &edit)) {
		status = survey_edit(t, &edit, &survey.tables);
	}
	if (status != ASPACE_OK)
		return status;
	if (!asp_a64_reserve(t, t->promised + survey.tables))
		return ASPACE_NO_MEMORY;
	t->promised += survey.tables;
	return ASPACE_OK;
}

static enum aspace_status linear_map(struct aspace_backend *backend,
				     const struct aspace_change *change)
{
	struct aspace_aarch64_linear *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	struct asp_a64_survey survey = {0};
	struct asp_a64_map map;

	if (!map_of(source, change, &map))
		return ASPACE_INVALID_PARAM;
	asp_a64_survey_map(t, &map, &survey);
	if (survey.mapped)
		return ASPACE_ALREADY_EXISTS;
	if (!asp_a64_reserve(t, survey.tables)) /* no prepare came before */
		return ASPACE_NO_MEMORY;
	if (asp_a64_is_gathered(t, map.start, map.end))
		asp_a64_invalidate(t);
	asp_a64_map(t, &map);
	return ASPACE_OK;
}

/* Remember that tables of the range may be empty. One range too many widens the last. */
static void touch(struct aspace_aarch64 *t, struct aspace_range range)
{
	struct aspace_range *last;

	if (t->touched_count < ASP_A64_TOUCHED_MAX) {
		t->touched[t->touched_count++] = range;
		return;
	}
	last = &t->touched[ASP_A64_TOUCHED_MAX - 1];
	if (range.start.value < last->start.value)
		last->start = range.start;
	if (range.end.value > last->end.value)
		last->end = range.end;
}

static enum aspace_status linear_edit(struct aspace_backend *backend,
				      const struct aspace_change *change)
{
	struct aspace_aarch64_linear *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	enum aspace_status status;
	struct asp_a64_edit edit;
	size_t tables;

	if (!edit_of(source, change, &edit))
		return ASPACE_INVALID_PARAM;
	status = survey_edit(t, &edit, &tables);
	if (status != ASPACE_OK)
		return status;
	if (!asp_a64_reserve(t, tables))
		return ASPACE_NO_MEMORY;
	asp_a64_edit(t, &edit);
	if (edit.clear)
		touch(t, change->range);
	return ASPACE_OK;
}

static void linear_flush(struct aspace_backend *backend)
{
	struct aspace_aarch64 *t = source_of(backend)->tables;

	asp_a64_prune(t);
	asp_a64_synchronize(t);
	asp_a64_retire_unlinked(t);
	asp_a64_drop_reserve(t);
}

const struct aspace_backend_ops asp_a64_linear_ops = {
	.size = sizeof(asp_a64_linear_ops),
	.map = linear_map,
	.unmap = linear_edit,
	.protect = linear_edit,
	.prepare = linear_prepare,
	.flush = linear_flush,
};
