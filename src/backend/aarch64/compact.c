/* SPDX-License-Identifier: MIT */
/*
 * Making small leaves large again, on request.
 *
 * A table below which there are only leaves of equal attributes and adjacent frames, of whatever
 * size, becomes a block; a run of such leaves becomes a contiguous group. From the first level
 * downward, so that nothing is made that goes away again; one after the other, each with a
 * break-before-make of its own: this is rare, and nothing has to be remembered. What the processor has noted in the descriptors is taken over after the
 * break, when it can note no more.
 *
 * Invariants:
 *  1. No translation changes, and no access or dirty state is lost.
 *  2. Nothing is allocated.
 *  3. Each descriptor that a pass makes is there at its end.
 */
#include "tables.h"

struct compaction {
	struct aspace_aarch64 *t;
	int highest; /* no leaf above this level */
	bool contiguous;
};

/* Live descriptors may be exchanged where sizes may change, and where the processor does not write
 * to those that go away. */
static bool without_break(const struct aspace_aarch64 *t)
{
	return t->config.bbm_level >= 2 && t->config.conflicts_tolerated &&
	       !t->config.hardware_access;
}

/* Is entry `i` of a run a leaf like the first, for the next frame? */
static bool continues(const struct aspace_aarch64 *t, int level, uint64_t first, uint64_t entry,
		      size_t i)
{
	const struct aspace_aarch64_config *c = &t->config;

	return asp_a64_is_leaf(level, entry) &&
	       asp_a64_without_history(c, entry) == asp_a64_without_history(c, first) &&
	       asp_a64_decode_output(c, entry) ==
		       asp_a64_decode_output(c, first) + i * asp_a64_size(&t->geometry, level);
}

static bool is_run(const struct aspace_aarch64 *t, int level, const uint64_t *entries, size_t count)
{
	uint64_t first = asp_a64_load(t, entries);
	uint64_t size = asp_a64_size(&t->geometry, level) * count;

	if (!asp_a64_is_leaf(level, first) ||
	    !aspace_is_aligned(asp_a64_decode_output(&t->config, first), size))
		return false;
	for (size_t i = 1; i < count; i++) {
		if (!continues(t, level, first, asp_a64_load(t, &entries[i]), i))
			return false;
	}
	return true;
}

/* ---- Groups -------------------------------------------------------------------------- */

static void break_run(struct aspace_aarch64 *t, int level, uint64_t *entries, size_t count,
		      uint64_t at)
{
	uint64_t size = asp_a64_size(&t->geometry, level);

	for (size_t i = 0; i < count; i++) {
		uint64_t old;

		do
			old = asp_a64_load(t, &entries[i]);
		while (!asp_a64_swap(t, &entries[i], old, old & ~ASP_A64_VALID));
		asp_a64_gather(t, level, at + i * size, at + (i + 1) * size, old);
	}
	asp_a64_invalidate(t);
}

static void make_group(struct aspace_aarch64 *t, int level, uint64_t *entries, size_t count,
		       uint64_t at)
{
	uint64_t size = asp_a64_size(&t->geometry, level);

	if (!without_break(t))
		break_run(t, level, entries, count, at);
	for (size_t i = 0; i < count; i++) {
		uint64_t old = asp_a64_load(t, &entries[i]);

		asp_a64_store(t, &entries[i], old | ASP_A64_CONTIGUOUS | ASP_A64_VALID);
		if (asp_a64_is_valid(old))
			asp_a64_gather(t, level, at + i * size, at + (i + 1) * size, old);
	}
}

/* ---- Blocks ---------------------------------------------------------------------------- */

/* What the leaves below a table have in common, as far as they have been looked at. */
struct uniform {
	uint64_t attributes; /* of the first */
	uint64_t next;       /* where the next frame must be */
	uint64_t history;    /* a leaf with that of all */
	bool started;
};

/* Are all leaves below the table alike, one frame after the other, with no hole? */
static bool is_uniform(const struct aspace_aarch64 *t, int level, uint64_t table, struct uniform *u)
{
	const struct aspace_aarch64_config *c = &t->config;
	const uint64_t *entries = asp_a64_pointer(t, table);
	size_t count = asp_a64_entries(&t->geometry, level);

	for (size_t i = 0; i < count; i++) {
		uint64_t entry = asp_a64_load(t, &entries[i]), attributes;

		if (asp_a64_is_table(level, entry)) {
			if (!is_uniform(t, level + 1, asp_a64_next_table(t, entry), u))
				return false;
			continue;
		}
		attributes = asp_a64_without_history(c, entry) & ~ASP_A64_TABLE;
		if (!u->started)
			*u = (struct uniform){attributes, asp_a64_decode_output(c, entry), entry,
					      true};
		if (!asp_a64_is_leaf(level, entry) || attributes != u->attributes ||
		    asp_a64_decode_output(c, entry) != u->next)
			return false;
		u->next += asp_a64_size(&t->geometry, level);
		u->history = asp_a64_with_history(c, u->history, entry);
	}
	return true;
}

/* The block that says what everything below the table says, which nobody writes to any more, or of
 * which it is asked whether there is one; 0: there is none. */
static uint64_t block_of(const struct aspace_aarch64 *t, int level, uint64_t table)
{
	struct uniform u = {.started = false};
	uint64_t block;

	if (!is_uniform(t, level + 1, table, &u))
		return 0;
	block = u.history & ~(ASP_A64_CONTIGUOUS | ASP_A64_TABLE);
	return aspace_is_aligned(asp_a64_decode_output(&t->config, block),
				 asp_a64_size(&t->geometry, level))
		       ? block
		       : 0;
}

/* All leaves below a table, or all pointers to tables: each kind by itself, so that neighbours become
 * one range. */
static void gather_below(struct aspace_aarch64 *t, int level, uint64_t table, uint64_t at,
			 bool leaves)
{
	const uint64_t *entries = asp_a64_pointer(t, table);
	uint64_t size = asp_a64_size(&t->geometry, level);
	size_t count = asp_a64_entries(&t->geometry, level);

	for (size_t i = 0; i < count; i++, at += size) {
		uint64_t entry = asp_a64_load(t, &entries[i]);
		bool pointer = asp_a64_is_table(level, entry);

		if (pointer)
			gather_below(t, level + 1, asp_a64_next_table(t, entry), at, leaves);
		if (pointer != leaves)
			asp_a64_gather(t, level, at,
				       asp_a64_slot_end(&t->geometry, level, at, UINT64_MAX),
				       entry);
	}
}

/* To unlink is to write to a table's first entry: after what is below has been found. */
static void unlink_all(struct aspace_aarch64 *t, int level, uint64_t table)
{
	const uint64_t *entries = asp_a64_pointer(t, table);
	size_t count = asp_a64_entries(&t->geometry, level);

	for (size_t i = 0; level < ASP_A64_LAST_LEVEL && i < count; i++) {
		uint64_t entry = asp_a64_load(t, &entries[i]);

		if (asp_a64_is_table(level, entry))
			unlink_all(t, level + 1, asp_a64_next_table(t, entry));
	}
	asp_a64_unlink(t, table, ASP_A64_NO_TABLE, 0);
}

/* False: what is below is not one block, or a fault is looking at it: where nothing is missing it
 * changes nothing, but it must not find itself in memory that was freed. */
static bool make_block(struct aspace_aarch64 *t, int level, uint64_t *entry, uint64_t at)
{
	uint64_t old = asp_a64_load(t, entry), table = asp_a64_next_table(t, old);
	uint64_t block = block_of(t, level, table);

	if (!block || (old & ASP_A64_PINS_MASK) ||
	    !asp_a64_swap(t, entry, old, without_break(t) ? block : block & ~ASP_A64_VALID))
		return false;
	gather_below(t, level + 1, table, at, true);
	gather_below(t, level + 1, table, at, false);
	asp_a64_gather(t, level, at, asp_a64_slot_end(&t->geometry, level, at, UINT64_MAX), old);
	/* To unlink is to write to the table, in which walks may be until they are invalidated. */
	asp_a64_invalidate(t);
	if (!without_break(t))
		asp_a64_store(t, entry, block_of(t, level, table));
	unlink_all(t, level + 1, table);
	return true;
}

/* ---- All of it -------------------------------------------------------------------------- */

/* Slots and groups that reach beyond [start, end) are left alone. The largest first: what becomes a
 * part of a block is not made larger before. */
static void compact_table(const struct compaction *c, int level, uint64_t table, uint64_t start,
			  uint64_t end)
{
	const struct asp_a64_geometry *g = &c->t->geometry;
	uint64_t *entries = asp_a64_pointer(c->t, table);
	uint64_t size = asp_a64_size(g, level), next;
	bool leaves = level >= c->highest && asp_a64_leaf_allowed(&c->t->config, level);
	unsigned group = asp_a64_group(&c->t->config, level);

	for (uint64_t at = start; at < end; at = next) {
		uint64_t *entry = &entries[asp_a64_index(g, level, at)];
		uint64_t old = asp_a64_load(c->t, entry);
		bool whole;

		next = asp_a64_slot_end(g, level, at, end);
		whole = leaves && aspace_is_aligned(at, size) && next - at == size;
		if (asp_a64_is_table(level, old) && !(whole && make_block(c->t, level, entry, at)))
			compact_table(c, level + 1, asp_a64_next_table(c->t, old), at, next);
	}
	if (!leaves || !c->contiguous || group == 1)
		return;
	for (uint64_t at = start; at < end; at = next) {
		uint64_t *entry = &entries[asp_a64_index(g, level, at)];
		uint64_t last = at | (size * group - 1);

		next = last < end - 1 ? last + 1 : end;
		if (aspace_is_aligned(at, size * group) && next - at == size * group &&
		    !(asp_a64_load(c->t, entry) & ASP_A64_CONTIGUOUS) &&
		    is_run(c->t, level, entry, group))
			make_group(c->t, level, entry, group, at);
	}
}

enum aspace_status aspace_aarch64_compact(struct aspace_aarch64 *t, struct aspace_range range,
					  uint64_t flags)
{
	int highest = (int)((flags & ASPACE_AARCH64_LEVEL_MASK) / ASPACE_AARCH64_LEVEL_1);
	const struct compaction c = {t, highest ? highest : -1,
				     !(flags & ASPACE_AARCH64_NO_CONTIGUOUS)};

	if (!asp_a64_range_usable(t, range) ||
	    (flags & ~(ASPACE_AARCH64_LEVEL_MASK | ASPACE_AARCH64_NO_CONTIGUOUS)))
		return ASPACE_INVALID_PARAM;
	if (t->config.no_transient_faults && !without_break(t))
		return ASPACE_NOT_SUPPORTED;
	asp_a64_begin_reshaping(t);
	compact_table(&c, t->geometry.start, t->root, range.start.value, range.end.value);
	asp_a64_end_reshaping(t);
	asp_a64_synchronize(t);
	asp_a64_retire_unlinked(t);
	return ASPACE_OK;
}
