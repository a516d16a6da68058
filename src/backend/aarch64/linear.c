/* SPDX-License-Identifier: MIT */
/*
 * The backend of linear frames: the library's changes become operations on the tree. The rules
 * that it keeps are those of change.c.
 */
#include "tables.h"

static struct aspace_aarch64_linear *source_of(struct aspace_backend *backend)
{
	return (struct aspace_aarch64_linear *)backend;
}

static bool map_of(const struct aspace_aarch64_linear *source, const struct aspace_change *change,
		   struct asp_a64_map *map)
{
	uint64_t first = change->range.start.value + source->offset;
	uint64_t last = change->range.end.value - 1 + source->offset;

	if (!asp_a64_map_of(source->tables, change, map) || first > last ||
	    last >> source->tables->config.output_bits)
		return false;
	map->offset = source->offset;
	return true;
}

/* ---- Replace --------------------------------------------------------------------------- */

/* The frames are the same ones: what is mapped changes its attributes, and its size where that is
 * too large, the holes are filled. */
struct replacement {
	struct asp_a64_edit edit;
	struct asp_a64_map map;
	struct asp_a64_survey edits, maps;
};

static enum aspace_status replacement_of(const struct aspace_aarch64_linear *source,
					 const struct aspace_change *change, struct replacement *r)
{
	const struct aspace_aarch64 *t = source->tables;

	*r = (struct replacement){.edit = {.clear = false}};
	if (!map_of(source, change, &r->map) || !asp_a64_edit_of(t, change, &r->edit))
		return ASPACE_INVALID_PARAM;
	asp_a64_survey_map(t, &r->map, &r->maps);
	return asp_a64_check_edit(t, &r->edit, true, &r->edits);
}

static enum aspace_status linear_replace(struct aspace_backend *backend,
					 const struct aspace_change *change)
{
	struct aspace_aarch64_linear *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	enum aspace_status status;
	struct replacement r;

	status = replacement_of(source, change, &r);
	if (status != ASPACE_OK)
		return status;
	if (!asp_a64_reserve(t, r.edits.tables + r.maps.tables))
		return ASPACE_NO_MEMORY;
	asp_a64_edit(t, &r.edit);
	asp_a64_make_room(t, &r.map, &r.maps);
	asp_a64_map(t, &r.map);
	return ASPACE_OK;
}

/* ---- The others ------------------------------------------------------------------------ */

static enum aspace_status linear_prepare(struct aspace_backend *backend,
					 const struct aspace_change *change)
{
	struct aspace_aarch64_linear *source = source_of(backend);
	struct aspace_aarch64 *t = source->tables;
	enum aspace_status status = ASPACE_INVALID_PARAM;
	struct asp_a64_survey survey = {0};
	struct asp_a64_edit edit;
	struct asp_a64_map map;
	struct replacement r;

	if (change->kind == ASPACE_CHANGE_REPLACE) {
		status = replacement_of(source, change, &r);
		survey.tables = r.edits.tables + r.maps.tables;
	} else if (change->kind == ASPACE_CHANGE_MAP && map_of(source, change, &map)) {
		asp_a64_survey_map(t, &map, &survey);
		status = ASPACE_OK;
	} else if (change->kind != ASPACE_CHANGE_MAP && asp_a64_edit_of(t, change, &edit)) {
		status = asp_a64_check_edit(t, &edit, false, &survey);
	}
	return status == ASPACE_OK ? asp_a64_promise(t, survey.tables) : status;
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
	/* What was accessed and written before it was unmapped is not known any more. */
	if (change->undo)
		map.attributes = asp_a64_mark_touched(&t->config, map.attributes);
	asp_a64_survey_map(t, &map, &survey);
	if (survey.mapped)
		return ASPACE_ALREADY_EXISTS;
	if (!asp_a64_reserve(t, survey.tables)) /* no prepare came before */
		return ASPACE_NO_MEMORY;
	asp_a64_make_room(t, &map, &survey);
	asp_a64_map(t, &map);
	return ASPACE_OK;
}

static enum aspace_status linear_edit(struct aspace_backend *backend,
				      const struct aspace_change *change)
{
	struct aspace_aarch64 *t = source_of(backend)->tables;
	struct asp_a64_survey survey = {0};
	enum aspace_status status;
	struct asp_a64_edit edit;

	if (!asp_a64_edit_of(t, change, &edit))
		return ASPACE_INVALID_PARAM;
	status = asp_a64_check_edit(t, &edit, false, &survey);
	if (status != ASPACE_OK)
		return status;
	if (!asp_a64_reserve(t, survey.tables))
		return ASPACE_NO_MEMORY;
	asp_a64_edit(t, &edit);
	if (edit.clear)
		asp_a64_touch(t, change->range);
	return ASPACE_OK;
}

static void linear_flush(struct aspace_backend *backend)
{
	asp_a64_end_batch(source_of(backend)->tables);
}

const struct aspace_backend_ops asp_a64_linear_ops = {
	.size = sizeof(asp_a64_linear_ops),
	.map = linear_map,
	.unmap = linear_edit,
	.protect = linear_edit,
	.replace = linear_replace,
	.prepare = linear_prepare,
	.flush = linear_flush,
	.check_area = asp_a64_check_area,
	.loses = asp_a64_loses,
};
