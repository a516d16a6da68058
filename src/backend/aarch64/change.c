/* SPDX-License-Identifier: MIT */
/*
 * What the backends have in common: checking a change, and ending a batch.
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

/* An undo puts back what was there, and that may be larger than the flags ask for: a protect
 * changes them and not the size. Only so does it need no tables. */
static int highest_of(const struct aspace_change *change)
{
	uint64_t level = change->new_flags & ASPACE_AARCH64_LEVEL_MASK;

	return level && !change->undo ? (int)(level / ASPACE_AARCH64_LEVEL_1) : -1;
}

bool asp_a64_map_of(const struct aspace_aarch64 *t, const struct aspace_change *change,
		    struct asp_a64_map *map)
{
	*map = (struct asp_a64_map){
		.start = change->range.start.value,
		.end = change->range.end.value,
		.highest = highest_of(change),
		.contiguous = !(change->new_flags & ASPACE_AARCH64_NO_CONTIGUOUS),
	};
	return asp_a64_range_usable(t, change->range) &&
	       asp_a64_attributes(&t->config, change->new_flags, &map->attributes);
}

bool asp_a64_edit_of(const struct aspace_aarch64 *t, const struct aspace_change *change,
		     struct asp_a64_edit *edit)
{
	bool capped =
		change->kind == ASPACE_CHANGE_PROTECT || change->kind == ASPACE_CHANGE_REPLACE;
	bool groups = !(change->new_flags & ASPACE_AARCH64_NO_CONTIGUOUS);

	*edit = (struct asp_a64_edit){
		.start = change->range.start.value,
		.end = change->range.end.value,
		.clear = change->kind == ASPACE_CHANGE_UNMAP,
		.highest = capped ? highest_of(change) : -1,
		.contiguous = !capped || change->undo || groups,
		/* Whose parts a replace cuts, it does not know. */
		.contiguous_outside = change->kind == ASPACE_CHANGE_REPLACE
					      ? groups
					      : !(change->old_flags & ASPACE_AARCH64_NO_CONTIGUOUS),
	};
	return asp_a64_range_usable(t, change->range) &&
	       (edit->clear ||
		asp_a64_attributes(&t->config, change->new_flags, &edit->attributes));
}

enum aspace_status asp_a64_check_edit(const struct aspace_aarch64 *t,
				      const struct asp_a64_edit *edit, bool holes,
				      struct asp_a64_survey *survey)
{
	asp_a64_survey_edit(t, edit, survey);
	if (survey->hole && !holes)
		return ASPACE_NOT_MAPPED;
	return survey->breaks && t->config.no_transient_faults ? ASPACE_NOT_SUPPORTED : ASPACE_OK;
}

enum aspace_status asp_a64_promise(struct aspace_aarch64 *t, size_t count)
{
	if (!asp_a64_reserve(t, t->promised + count))
		return ASPACE_NO_MEMORY;
	t->promised += count;
	return ASPACE_OK;
}

/* One range too many widens the last. */
void asp_a64_touch(struct aspace_aarch64 *t, struct aspace_range range)
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

void asp_a64_make_room(struct aspace_aarch64 *t, const struct asp_a64_map *map,
		       const struct asp_a64_survey *survey)
{
	if (survey->condemned || asp_a64_is_gathered(t, map->start, map->end))
		asp_a64_invalidate(t);
	if (!survey->condemned)
		return;
	asp_a64_release(t, map->start, map->end);
	t->released = true;
}

void asp_a64_end_batch(struct aspace_aarch64 *t)
{
	if (t->condemned)
		asp_a64_invalidate(t);
	for (unsigned i = 0; t->condemned && i < t->touched_count; i++)
		asp_a64_release(t, t->touched[i].start.value, t->touched[i].end.value);
	t->condemned = t->released = false;
	asp_a64_prune(t);
	asp_a64_synchronize(t);
	asp_a64_retire_unlinked(t);
	asp_a64_drop_reserve(t);
	asp_a64_drop_stash(t);
}

struct aspace_aarch64 *asp_a64_tables_of(const struct aspace_backend *backend)
{
	return backend->ops == &asp_a64_linear_ops
		       ? ((const struct aspace_aarch64_linear *)backend)->tables
		       : ((const struct aspace_aarch64_allocated *)backend)->tables;
}

/* Branches to what is no landing pad are an access, too, which BTI takes. Flags that cannot be said
 * lose nothing: they are to be refused at once. */
unsigned asp_a64_loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
		       uint64_t *meanwhile)
{
	const uint64_t access = ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE |
				ASPACE_AARCH64_EXECUTE | ASPACE_AARCH64_USER |
				ASPACE_AARCH64_USER_EXECUTE;
	const struct aspace_aarch64_config *config = &asp_a64_tables_of(backend)->config;
	uint64_t both = (to | (from & access)) & ~(~from & ASPACE_AARCH64_BTI), attributes;

	if (!((from & ~to & access) | (to & ~from & ASPACE_AARCH64_BTI)) ||
	    !asp_a64_attributes(config, to, &attributes))
		return 0;
	if (asp_a64_attributes(config, both, &attributes))
		*meanwhile = both;
	return ASPACE_LOSES_ACCESS;
}
