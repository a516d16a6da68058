/* SPDX-License-Identifier: MIT */
/*
 * Making small leaves large again, on request.
 *
 * A table whose entries are leaves of equal attributes and adjacent frames becomes a block; a run
 * of such leaves becomes a contiguous group. From the last level upward, one after the
 * other, each with a break-before-make of its own: this is rare, and nothing has to be
 * remembered. What the processor has noted in the descriptors is taken over after the
 * break, when it can note no more.
 *
 * Invariants:
 *  1. No translation changes, and no access or dirty state is lost.
 *  2. Nothing is allocated.
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

/* The block at `level` that says what the entries say, which nobody writes to any more. */
static uint64_t block_of(const struct aspace_aarch64 *t, const uint64_t *entries, size_t count)
{
	uint64_t block = asp_a64_load(t, entries) & ~(ASP_A64_CONTIGUOUS | ASP_A64_TABLE);

	for (size_t i = 1; i < count; i++)
		block = asp_a64_with_history(&t->config, block, asp_a64_load(t, &entries[i]));
	return block;
}

static void make_block(struct aspace_aarch64 *t, int level, uint64_t *entry, uint64_t at)
{
	uint64_t old = asp_a64_load(t, entry), table = asp_a64_next_table(t, old);
	const uint64_t *entries = asp_a64_pointer(t, table);
	size_t count = asp_a64_entries(&t->geometry, level + 1);
	uint64_t end = at + asp_a64_size(&t->geometry, level);

	asp_a64_gather(t, level + 1, at, end, asp_a64_load(t, entries));
	asp_a64_gather(t, level, at, end, old);
	if (!without_break(t)) {
		asp_a64_store(t, entry, block_of(t, entries, count) & ~ASP_A64_VALID);
		asp_a64_invalidate(t);
	}
	asp_a64_store(t, entry, block_of(t, entries, count));
	/* To unlink is to write to the table, in which walks may be until they are invalidated. */
	if (without_break(t))
		asp_a64_invalidate(t);
	asp_a64_unlink(t, table);
}

/* ---- All of it -------------------------------------------------------------------------- */

/* Slots and groups that reach beyond [start, end) are left alone. */
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

		next = asp_a64_slot_end(g, level, at, end);
		if (!asp_a64_is_table(level, old))
			continue;
		compact_table(c, level + 1, asp_a64_next_table(c->t, old), at, next);
		if (leaves && aspace_is_aligned(at, size) && next - at == size &&
		    is_run(c->t, level + 1, asp_a64_pointer(c->t, asp_a64_next_table(c->t, old)),
			   asp_a64_entries(g, level + 1)))
			make_block(c->t, level, entry, at);
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
	compact_table(&c, t->geometry.start, t->root, range.start.value, range.end.value);
	asp_a64_synchronize(t);
	asp_a64_retire_unlinked(t);
	return ASPACE_OK;
}
