/* SPDX-License-Identifier: MIT */
/*
 * Filling a range, with the largest leaves that fit.
 *
 * A leaf goes where a descriptor's whole slot lies in the range, address and frame
 * are aligned to it, and no table is there already; else a table does, and its entries
 * are filled. Adjacent leaves become a contiguous group under the same conditions for
 * the group (D8.7.1).
 *
 * New tables are linked last: they stay pending until all are filled, one barrier orders
 * them, and a second pass links them, downward. A fault that is on its way to a place beside the
 * range (populate.c) may put a table where we want one, so each is put there by an exchange; and it
 * may link one of ours, with a barrier of its own, before we have filled it: what we then store
 * into it is mapped a little earlier.
 *
 * Invariants:
 *  1. Survey and map visit the same slots and decide alike: the survey's count is what
 *     map takes, or more, where a fault has made a table meanwhile.
 *  2. A leaf of the range that is valid before stays.
 *  3. A slot that reaches beyond the range, where faults may be at work, gets nothing but a pointer to
 *     a table, and by an exchange.
 */
#include "tables.h"

static bool fits(const struct aspace_aarch64 *t, const struct asp_a64_map *map, int level,
		 uint64_t at, uint64_t end, unsigned count)
{
	uint64_t size = asp_a64_size(&t->geometry, level) * count;

	/* The subtraction cannot wrap; at + size could. */
	return end - at >= size && aspace_is_aligned(at, size) &&
	       aspace_is_aligned(at + map->offset, size);
}

static bool leaf_fits(const struct aspace_aarch64 *t, const struct asp_a64_map *map, int level,
		      uint64_t at, uint64_t end)
{
	return level >= map->highest && asp_a64_leaf_allowed(&t->config, level) &&
	       fits(t, map, level, at, end, 1);
}

/* A table for the slot of `at` at `level`, unless an earlier map has had it counted. */
static size_t count_table(const struct aspace_aarch64 *t, struct asp_a64_survey *survey, int level,
			  uint64_t at)
{
	uint64_t *counted = &survey->counted[level + 1];

	if (at < *counted)
		return 0;
	*counted = asp_a64_slot_end(&t->geometry, level, at, UINT64_MAX);
	return 1;
}

/* How many tables does a slot without one take? */
static size_t tables_below(const struct aspace_aarch64 *t, const struct asp_a64_map *map, int level,
			   uint64_t start, uint64_t end, struct asp_a64_survey *survey)
{
	size_t count = 0;
	uint64_t next;

	for (uint64_t at = start; at < end; at = next) {
		next = asp_a64_slot_end(&t->geometry, level, at, end);
		if (leaf_fits(t, map, level, at, next))
			continue;
		count += count_table(t, survey, level, at);
		if (level + 1 < ASP_A64_LAST_LEVEL) /* else pages, which always fit */
			count += tables_below(t, map, level + 1, at, next, survey);
	}
	return count;
}

struct survey {
	const struct aspace_aarch64 *t;
	const struct asp_a64_map *map;
	struct asp_a64_survey *result;
};

static bool survey_slot(void *ctx, const struct asp_a64_slot *slot)
{
	const struct survey *survey = ctx;
	struct asp_a64_survey *result = survey->result;

	if (asp_a64_is_condemned(slot->descriptor))
		result->condemned = true;
	else if (slot->descriptor)
		result->mapped = true;
	/* What is mapped now may be gone when map comes: count as if it were. */
	if (!leaf_fits(survey->t, survey->map, slot->level, slot->start, slot->end))
		result->tables += tables_below(survey->t, survey->map, slot->level, slot->start,
					       slot->end, result);
	return true;
}

void asp_a64_survey_map(const struct aspace_aarch64 *t, const struct asp_a64_map *map,
			struct asp_a64_survey *result)
{
	struct asp_a64_span all = asp_a64_whole(t, map->start, map->end);
	struct survey survey = {t, map, result};

	asp_a64_visit(t, &all, survey_slot, &survey);
}

/* How many leaves from `at` on form a group, if any: the size of the group, else 0. */
static unsigned group_at(const struct aspace_aarch64 *t, const struct asp_a64_map *map,
			 const struct asp_a64_span *span, uint64_t at)
{
	const uint64_t *entries = asp_a64_pointer(t, span->table);
	unsigned count = asp_a64_group(&t->config, span->level);
	size_t index = asp_a64_index(&t->geometry, span->level, at);

	if (!map->contiguous || count == 1 || !fits(t, map, span->level, at, span->end, count))
		return 0;
	for (unsigned i = 0; i < count; i++) {
		if (asp_a64_load(t, &entries[index + i])) /* a table, perhaps an empty one */
			return 0;
	}
	return count;
}

/* A table for a slot that has none so far. If a fault was faster, its table serves. */
static void make_table(struct aspace_aarch64 *t, uint64_t *entry, uint64_t old)
{
	uint64_t table = asp_a64_take(t);

	if (!asp_a64_swap(t, entry, old, asp_a64_table_descriptor(t, table) & ~ASP_A64_VALID))
		asp_a64_put_back(t, table);
}

static void map_table(struct aspace_aarch64 *t, const struct asp_a64_map *map,
		      const struct asp_a64_span *span)
{
	uint64_t *entries = asp_a64_pointer(t, span->table);
	uint64_t type = span->level == ASP_A64_LAST_LEVEL ? ASP_A64_TABLE : 0;
	unsigned group = 0; /* leaves left of a contiguous group */
	uint64_t next;

	for (uint64_t at = span->start; at < span->end; at = next) {
		uint64_t *entry = &entries[asp_a64_index(&t->geometry, span->level, at)];
		uint64_t old = asp_a64_load(t, entry);

		next = asp_a64_slot_end(&t->geometry, span->level, at, span->end);
		if (asp_a64_is_table(span->level, old) || asp_a64_is_pending(span->level, old)) {
			struct asp_a64_span below = {span->level + 1, asp_a64_next_table(t, old),
						     at, next};

			map_table(t, map, &below);
			continue;
		}
		if (asp_a64_is_mapped(old))
			continue;
		if (!leaf_fits(t, map, span->level, at, next)) {
			make_table(t, entry, old);
			next = at; /* and look again */
			continue;
		}
		if (!group)
			group = group_at(t, map, span, at);
		asp_a64_store(t, entry,
			      asp_a64_open(asp_a64_encode_output(&t->config, at + map->offset) |
					   map->attributes | type |
					   (group ? ASP_A64_CONTIGUOUS : 0)));
		if (group)
			group--;
	}
}

static void link_table(struct aspace_aarch64 *t, const struct asp_a64_span *span)
{
	uint64_t *entries = asp_a64_pointer(t, span->table);
	uint64_t next;

	if (span->level == ASP_A64_LAST_LEVEL)
		return;
	for (uint64_t at = span->start; at < span->end; at = next) {
		uint64_t *entry = &entries[asp_a64_index(&t->geometry, span->level, at)];
		uint64_t old = asp_a64_load(t, entry);

		next = asp_a64_slot_end(&t->geometry, span->level, at, span->end);
		if (asp_a64_is_pending(span->level, old)) {
			asp_a64_swap(t, entry, old, old | ASP_A64_VALID);
			next = at; /* and look again: a fault may have linked it */
		} else if (asp_a64_is_table(span->level, old)) {
			struct asp_a64_span below = {span->level + 1, asp_a64_next_table(t, old),
						     at, next};

			link_table(t, &below);
		}
	}
}

void asp_a64_fill(struct aspace_aarch64 *t, const struct asp_a64_map *map)
{
	struct asp_a64_span root = asp_a64_whole(t, map->start, map->end);

	map_table(t, map, &root);
}

void asp_a64_link(struct aspace_aarch64 *t, uint64_t start, uint64_t end)
{
	struct asp_a64_span root = asp_a64_whole(t, start, end);

	asp_a64_order_stores(t);
	link_table(t, &root);
}

void asp_a64_map(struct aspace_aarch64 *t, const struct asp_a64_map *map)
{
	size_t reserve = t->reserve_count;

	asp_a64_fill(t, map);
	if (t->reserve_count != reserve)
		asp_a64_link(t, map->start, map->end);
}
