/* SPDX-License-Identifier: MIT */
/*
 * Changing and clearing what is mapped in a range.
 *
 * A leaf, or a contiguous group, that lies in the range is changed where it is. One that
 * reaches beyond, or is larger than the change allows, must first become smaller, which takes
 * break-before-make of all of it (D8.16). So there are up to two passes, and each descriptor carries in itself what
 * the second one needs:
 *
 *     1. change what can be changed; break what cannot
 *        barrier, invalidation, barrier
 *     2. make again what was broken: changed inside the range, as before outside of it;
 *        where only a part of a leaf is inside, or it is too large, a table takes its place
 *
 * The second pass links a table that it has just filled, and no barrier lies in between: the first
 * one has ordered the table's zeroes, so what a walk can meet there is a descriptor, or the
 * fault that the break has already brought. Only where walks are not coherent a barrier is needed:
 * before the cleaning has completed, a walk may meet whatever was in that memory before.
 *
 * Where FEAT_BBM permits, a group is taken apart and a leaf exchanged for a table without a
 * break, in pass 1: first with equal translations, for only that is permitted, and then
 * what is inside the range is changed like any other leaf.
 *
 * What the processor notes of a contiguous group (access flag, dirty state) may be in any of its
 * descriptors (D8.7.1), and goes there until no TLB has the group any more. So whoever takes a group
 * apart collects from all of it after the invalidation, and gives it to each part.
 *
 * Invariants:
 *  1. A live leaf is changed only by an exchange (swap) of what was read: the processor may
 *     set its access flag or dirty state at any time.
 *  2. All leaves of a contiguous group change in one operation, or the group is taken apart.
 *  3. Whatever bits the processor had set in a broken leaf are in what is made of it; and in any
 *     leaf of a group, in what is made of each of them.
 */
#include "tables.h"

static uint64_t slot_start(const struct aspace_aarch64 *t, int level, uint64_t at)
{
	return aspace_align_down(at, asp_a64_size(&t->geometry, level));
}

/* Does a piece of `size` bytes around `at` lie in the range of the edit? */
static bool is_inside(const struct asp_a64_edit *edit, uint64_t at, uint64_t size)
{
	uint64_t start = aspace_align_down(at, size);

	/* end - start, for start + size may be 2^64. */
	return start >= edit->start && start < edit->end && edit->end - start >= size;
}

/* Must a table be in place of a leaf at `level`? It is in the range only in part, or too large. */
static bool needs_table(const struct asp_a64_edit *edit, int level, uint64_t start, uint64_t size)
{
	return start < edit->end && start + (size - 1) >= edit->start &&
	       (level < edit->highest || !is_inside(edit, start, size));
}

static uint64_t group_size(const struct aspace_aarch64 *t, int level, uint64_t descriptor)
{
	uint64_t size = asp_a64_size(&t->geometry, level);

	return descriptor & ASP_A64_CONTIGUOUS ? size * asp_a64_group(&t->config, level) : size;
}

/* Can it be changed where it is? Else it, or its group, must become smaller. */
static bool stays_whole(const struct aspace_aarch64 *t, const struct asp_a64_edit *edit, int level,
			uint64_t at, uint64_t descriptor)
{
	return is_inside(edit, at, group_size(t, level, descriptor)) && level >= edit->highest &&
	       (edit->contiguous || !(descriptor & ASP_A64_CONTIGUOUS));
}

static uint64_t apply(const struct aspace_aarch64 *t, const struct asp_a64_edit *edit,
		      uint64_t descriptor)
{
	if (edit->condemn)
		return (descriptor & ~ASP_A64_VALID) | ASP_A64_CONDEMNED;
	if (edit->clear)
		return 0;
	return asp_a64_with_attributes(&t->config, descriptor, edit->attributes);
}

/* ---- What would it take? ------------------------------------------------------------- */

/* How many tables does it take in place of the leaf that starts at `start`? */
static size_t tables_for(const struct aspace_aarch64 *t, const struct asp_a64_edit *edit, int level,
			 uint64_t start)
{
	uint64_t size = asp_a64_size(&t->geometry, level), below;
	size_t entries, count = 1;

	if (level == ASP_A64_LAST_LEVEL || !needs_table(edit, level, start, size))
		return 0;
	entries = asp_a64_entries(&t->geometry, level + 1);
	below = asp_a64_size(&t->geometry, level + 1);
	if (is_inside(edit, start, size)) /* all of them alike */
		return 1 + entries * tables_for(t, edit, level + 1, start);
	for (size_t i = 0; i < entries; i++)
		count += tables_for(t, edit, level + 1, start + i * below);
	return count;
}

struct survey {
	const struct aspace_aarch64 *t;
	const struct asp_a64_edit *edit;
	struct asp_a64_survey *result;
};

static void survey_leaf(const struct survey *survey, const struct asp_a64_slot *slot)
{
	const struct aspace_aarch64 *t = survey->t;
	const struct asp_a64_edit *edit = survey->edit;
	struct asp_a64_survey *result = survey->result;
	int level = slot->level;
	uint64_t entry = slot->descriptor;

	result->mapped = true;
	if (asp_a64_classify(&t->config, level, entry, apply(t, edit, entry)) == ASP_A64_BREAK)
		result->breaks = true;
	if (stays_whole(t, edit, level, slot->start, entry))
		return;
	/* To take a group apart, or to put a table in a leaf's place: one rule for both. */
	if (asp_a64_classify(&t->config, level, entry, entry ^ ASP_A64_CONTIGUOUS) == ASP_A64_BREAK)
		result->breaks = true;
	result->tables += tables_for(t, edit, level, slot_start(t, level, slot->start));
}

static bool survey_slot(void *ctx, const struct asp_a64_slot *slot)
{
	const struct survey *survey = ctx;

	if (asp_a64_is_mapped(slot->descriptor))
		survey_leaf(survey, slot);
	else
		survey->result->hole = true;
	return true;
}

void asp_a64_survey_edit(const struct aspace_aarch64 *t, const struct asp_a64_edit *edit,
			 struct asp_a64_survey *result)
{
	struct asp_a64_span all = asp_a64_whole(t, edit->start, edit->end);
	struct survey survey = {t, edit, result};

	asp_a64_visit(t, &all, survey_slot, &survey);
}

/* ---- Pass 1: change, or break ------------------------------------------------------------ */

/* What the passes share. */
struct work {
	struct aspace_aarch64 *t;
	const struct asp_a64_edit *edit;
	bool broken; /* pass 1 broke something */
	bool as_is;  /* tables that are made say what the leaf said, inside the range too */
};

/* Exchange a live leaf's valid bit for nothing; the rest stays for pass 2. */
static void break_leaf(struct work *w, int level, uint64_t *entry, uint64_t at)
{
	uint64_t old;

	do
		old = asp_a64_load(w->t, entry);
	while (!asp_a64_swap(w->t, entry, old, old & ~ASP_A64_VALID));
	asp_a64_gather_slot(w->t, level, at, old);
	w->broken = true;
}

/* The whole group of a leaf that is to become smaller. */
static void break_group(struct work *w, int level, uint64_t *entries, uint64_t at, uint64_t old)
{
	uint64_t size = asp_a64_size(&w->t->geometry, level);
	uint64_t group = group_size(w->t, level, old);
	uint64_t first = aspace_align_down(at, group);

	for (uint64_t offset = 0; offset < group; offset += size)
		break_leaf(w, level,
			   &entries[asp_a64_index(&w->t->geometry, level, first + offset)],
			   first + offset);
}

static void change_leaf(struct work *w, int level, uint64_t *entry, uint64_t at)
{
	for (;;) {
		uint64_t old = asp_a64_load(w->t, entry);
		uint64_t changed = apply(w->t, w->edit, old);

		switch (asp_a64_classify(&w->t->config, level, old, changed)) {
		case ASP_A64_NOTHING:
			return;
		case ASP_A64_STORE:
			if (asp_a64_swap(w->t, entry, old, changed))
				return;
			break;
		case ASP_A64_STORE_INVALIDATE:
			if (!asp_a64_swap(w->t, entry, old, changed))
				break;
			asp_a64_gather_slot(w->t, level, at, old);
			return;
		case ASP_A64_BREAK:
			break_leaf(w, level, entry, at);
			return;
		}
	}
}

/* Exchange each of `count` live leaves for one that is in no group, and has what all have noted. */
static void ungroup_pass(struct work *w, int level, uint64_t *entries, uint64_t first, size_t count)
{
	uint64_t size = asp_a64_size(&w->t->geometry, level), all = asp_a64_load(w->t, entries);

	for (size_t i = 1; i < count; i++)
		all = asp_a64_with_history(&w->t->config, all, asp_a64_load(w->t, &entries[i]));
	for (size_t i = 0; i < count; i++) {
		uint64_t old, alone;

		do {
			old = asp_a64_load(w->t, &entries[i]);
			alone = asp_a64_with_history(&w->t->config, old & ~ASP_A64_CONTIGUOUS, all);
		} while (old != alone && !asp_a64_swap(w->t, &entries[i], old, alone));
		/* More of its own bits set is what the processor could have done. */
		if (old & ASP_A64_CONTIGUOUS)
			asp_a64_gather_slot(w->t, level, first + i * size, old);
	}
}

/* Without a break. Until the invalidation is complete, the processor may go on to note in each of
 * the leaves what concerns others: hence once more afterwards. */
static void ungroup_live(struct work *w, int level, uint64_t *entries, uint64_t first, size_t count)
{
	ungroup_pass(w, level, entries, first, count);
	if (!w->t->config.hardware_access)
		return;
	asp_a64_invalidate(w->t);
	ungroup_pass(w, level, entries, first, count);
}

static void fill_table(struct work *w, uint64_t table, uint64_t leaf, int level, uint64_t at);

/* Without a break: take the group apart; where the leaf around `at` is no longer to be one, put a
 * table in its place. */
static void split_live(struct work *w, int level, uint64_t *entries, uint64_t at, uint64_t old)
{
	uint64_t size = asp_a64_size(&w->t->geometry, level);
	uint64_t group = group_size(w->t, level, old);
	uint64_t first = aspace_align_down(at, group), table;
	uint64_t *entry = &entries[asp_a64_index(&w->t->geometry, level, at)];

	if (group > size) {
		ungroup_live(w, level, &entries[asp_a64_index(&w->t->geometry, level, first)],
			     first, group / size);
		return;
	}
	table = asp_a64_take(w->t);
	w->as_is = true;
	do {
		old = asp_a64_load(w->t, entry);
		fill_table(w, table, old, level, at);
		asp_a64_order_stores(w->t);
	} while (!asp_a64_swap(w->t, entry, old, asp_a64_table_descriptor(w->t, table)));
	w->as_is = false;
	asp_a64_gather_slot(w->t, level, at, old);
}

static void change_table(struct work *w, const struct asp_a64_span *span)
{
	uint64_t *entries = asp_a64_pointer(w->t, span->table);
	uint64_t next;

	for (uint64_t at = span->start; at < span->end; at = next) {
		uint64_t *entry = &entries[asp_a64_index(&w->t->geometry, span->level, at)];
		uint64_t old = asp_a64_load(w->t, entry);

		next = asp_a64_slot_end(&w->t->geometry, span->level, at, span->end);
		if (asp_a64_is_table(span->level, old)) {
			struct asp_a64_span below = {span->level + 1, asp_a64_next_table(w->t, old),
						     at, next};

			change_table(w, &below);
		} else if (!asp_a64_is_mapped(old)) {
			continue; /* a hole, or broken with its group */
		} else if (stays_whole(w->t, w->edit, span->level, at, old)) {
			change_leaf(w, span->level, entry, at);
		} else if (asp_a64_classify(&w->t->config, span->level, old,
					    old ^ ASP_A64_CONTIGUOUS) == ASP_A64_BREAK) {
			break_group(w, span->level, entries, at, old);
		} else {
			split_live(w, span->level, entries, at, old);
			next = at; /* and look again */
		}
	}
}

/* ---- Pass 2: make ------------------------------------------------------------------------------ */

/* The entry for `at`, at level + 1, of a table that says what `leaf` said at `level`. */
static uint64_t child_of(const struct aspace_aarch64 *t, uint64_t leaf, int level, uint64_t at)
{
	uint64_t output = asp_a64_decode_output(&t->config, leaf) + (at - slot_start(t, level, at));
	uint64_t child = (leaf & ~asp_a64_output_mask(&t->config)) |
			 asp_a64_encode_output(&t->config, output);

	return level + 1 == ASP_A64_LAST_LEVEL ? child | ASP_A64_TABLE : child;
}

/* May the leaves around `at` of a new table be a group? All or none of it is in the range, and
 * all is in the table. In the range, none of them is too large. */
static bool may_group(const struct aspace_aarch64 *t, const struct asp_a64_edit *edit, int level,
		      uint64_t at)
{
	unsigned count = asp_a64_group(&t->config, level);
	uint64_t size = asp_a64_size(&t->geometry, level) * count;
	uint64_t start = aspace_align_down(at, size);

	if (count == 1 || !asp_a64_leaf_allowed(&t->config, level))
		return false;
	if (is_inside(edit, at, size))
		return edit->contiguous && level >= edit->highest;
	return edit->contiguous_outside &&
	       (start >= edit->end || (start < edit->start && edit->start - start >= size));
}

/* Fill a table in place of `leaf` at `level`: inside the range as edited, outside as before. Not yet linked; perhaps filled before, from an older `leaf`. */
static void fill_table(struct work *w, uint64_t table, uint64_t leaf, int level, uint64_t at)
{
	uint64_t *entries = asp_a64_pointer(w->t, table);
	uint64_t size = asp_a64_size(&w->t->geometry, level + 1);
	uint64_t start = slot_start(w->t, level, at);
	size_t count = asp_a64_entries(&w->t->geometry, level + 1);

	leaf &= ~ASP_A64_CONTIGUOUS;
	for (size_t i = 0; i < count; i++) {
		uint64_t address = start + i * size;
		uint64_t child = child_of(w->t, leaf, level, address);

		if (may_group(w->t, w->edit, level + 1, address))
			child |= ASP_A64_CONTIGUOUS;
		if (needs_table(w->edit, level + 1, address, size)) {
			uint64_t old = asp_a64_load(w->t, &entries[i]);
			uint64_t below = asp_a64_is_table(level + 1, old)
						 ? asp_a64_next_table(w->t, old)
						 : asp_a64_take(w->t);

			fill_table(w, below, child, level + 1, address);
			child = asp_a64_table_descriptor(w->t, below);
		} else if (!w->as_is && is_inside(w->edit, address, size)) {
			child = apply(w->t, w->edit, child);
		}
		asp_a64_store(w->t, &entries[i], child);
	}
}

/* `old`: what was broken there. */
static void make_leaf(struct work *w, int level, uint64_t *entry, uint64_t at, uint64_t old)
{
	uint64_t size = asp_a64_size(&w->t->geometry, level);
	uint64_t made = old;

	if (!stays_whole(w->t, w->edit, level, at, old))
		made &= ~ASP_A64_CONTIGUOUS;
	if (needs_table(w->edit, level, at, size)) {
		uint64_t table = asp_a64_take(w->t);

		fill_table(w, table, made, level, at);
		made = asp_a64_table_descriptor(w->t, table);
		if (w->t->ops->clean)
			asp_a64_order_stores(w->t);
	} else if (is_inside(w->edit, at, size)) {
		made = apply(w->t, w->edit, made);
	}
	asp_a64_store(w->t, entry, made);
}

static bool make_again(void *ctx, const struct asp_a64_slot *slot)
{
	struct work *w = ctx;
	int level = slot->level;
	uint64_t size = asp_a64_size(&w->t->geometry, level);
	uint64_t group = group_size(w->t, level, slot->descriptor);
	uint64_t first = aspace_align_down(slot->start, group);
	uint64_t *entries = slot->entry - asp_a64_index(&w->t->geometry, level, slot->start);
	uint64_t all;

	if (!asp_a64_is_broken(level, slot->descriptor))
		return true;
	/* The invalidation is complete: nobody notes anything any more. */
	all = asp_a64_with_group_history(w->t, level, slot->entry, slot->start, slot->descriptor);
	/* All of the group, of which a part may be outside of the range. */
	for (uint64_t at = first, i = 0; i < group / size; i++, at += size) {
		uint64_t *entry = &entries[asp_a64_index(&w->t->geometry, level, at)];
		uint64_t old = asp_a64_load(w->t, entry) | ASP_A64_VALID;

		make_leaf(w, level, entry, at, asp_a64_with_history(&w->t->config, old, all));
	}
	return true;
}

static bool lies_inside(void *ctx, const struct asp_a64_slot *slot)
{
	const struct work *w = ctx;

	return !asp_a64_is_mapped(slot->descriptor) ||
	       is_inside(w->edit, slot->start, group_size(w->t, slot->level, slot->descriptor));
}

/* Is there something to be taken apart that an advice beside the range may be about as well? */
static bool cuts(struct work *w)
{
	uint64_t granule = UINT64_C(1) << w->t->geometry.granule_shift;
	struct asp_a64_span first = asp_a64_whole(w->t, w->edit->start, w->edit->start + granule);
	struct asp_a64_span last = asp_a64_whole(w->t, w->edit->end - granule, w->edit->end);

	return !asp_a64_visit(w->t, &first, lies_inside, w) ||
	       !asp_a64_visit(w->t, &last, lies_inside, w);
}

void asp_a64_edit(struct aspace_aarch64 *t, const struct asp_a64_edit *edit)
{
	struct asp_a64_span root = asp_a64_whole(t, edit->start, edit->end);
	struct work work = {.t = t, .edit = edit};
	bool reshapes = cuts(&work);

	if (reshapes)
		asp_a64_begin_reshaping(t);
	change_table(&work, &root);
	if (work.broken) {
		asp_a64_invalidate(t);
		asp_a64_visit(t, &root, make_again, &work);
	}
	if (reshapes)
		asp_a64_end_reshaping(t);
}
