/* SPDX-License-Identifier: MIT */
/*
 * Reading the tables, beside a writer and without a lock.
 *
 * A walk loads each descriptor once and goes by what it loaded. Tables that it may be in are
 * not freed before its read section ends. A broken descriptor belongs to something that is
 * mapped, but cannot be told now: the answer is ASPACE_BUSY, and the caller tries again. So
 * does the first entry of a table that has just been unlinked.
 *
 * Invariants:
 *  1. Nothing is written, and where a walk goes follows from one load of each descriptor.
 *  2. The history that is answered for one descriptor of a contiguous group is that of the group.
 */
#include "tables.h"

static void enter(const struct aspace_aarch64 *t)
{
	if (t->ops->read_enter)
		t->ops->read_enter(t->ctx);
}

static void leave(const struct aspace_aarch64 *t)
{
	if (t->ops->read_leave)
		t->ops->read_leave(t->ctx);
}

/* Why is an invalid descriptor invalid? */
static enum aspace_status absence(int level, uint64_t descriptor)
{
	return asp_a64_is_broken(level, descriptor) ? ASPACE_BUSY : ASPACE_NOT_MAPPED;
}

uint64_t asp_a64_with_group_history(const struct aspace_aarch64 *t, int level,
				    const uint64_t *entry, uint64_t at, uint64_t descriptor)
{
	unsigned count = asp_a64_group(&t->config, level);
	size_t index = asp_a64_index(&t->geometry, level, at) & (count - 1);
	uint64_t size = asp_a64_size(&t->geometry, level), all = descriptor;
	uint64_t output = asp_a64_decode_output(&t->config, descriptor) - index * size;

	if (!(descriptor & ASP_A64_CONTIGUOUS) || !t->config.hardware_access)
		return descriptor;
	for (size_t i = 0; i < count; i++) {
		uint64_t other = asp_a64_load(t, entry - index + i);

		/* Beside a writer, it may have become something else. */
		if ((other & ASP_A64_CONTIGUOUS) &&
		    asp_a64_decode_output(&t->config, other) == output + i * size)
			all = asp_a64_with_history(&t->config, all, other);
	}
	return all;
}

void asp_a64_describe(const struct aspace_aarch64 *t, int level, uint64_t at, uint64_t descriptor,
		      struct aspace_aarch64_mapping *mapping)
{
	uint64_t size = asp_a64_size(&t->geometry, level);
	uint64_t start = aspace_align_down(at, size);

	*mapping = (struct aspace_aarch64_mapping){
		.range = aspace_range_of(start,
					 asp_a64_slot_end(&t->geometry, level, start, UINT64_MAX)),
		.output = aspace_pa(asp_a64_decode_output(&t->config, descriptor)),
		.flags = asp_a64_flags(&t->config, descriptor),
		.descriptor = descriptor,
		.level = level,
		.contiguous = descriptor & ASP_A64_CONTIGUOUS,
		.accessed = descriptor & ASP_A64_AF,
		.dirty = asp_a64_is_dirty(&t->config, descriptor),
		.shareability = asp_a64_shareability(&t->config, descriptor),
	};
}

static enum aspace_status query(const struct aspace_aarch64 *t, uint64_t address,
				struct aspace_aarch64_mapping *mapping)
{
	uint64_t table = t->root;

	for (int level = t->geometry.start;; level++) {
		const uint64_t *entry =
			&asp_a64_pointer(t, table)[asp_a64_index(&t->geometry, level, address)];
		uint64_t descriptor = asp_a64_load(t, entry);

		if (asp_a64_is_table(level, descriptor)) {
			table = asp_a64_next_table(t, descriptor);
			continue;
		}
		if (!asp_a64_is_mapped(descriptor))
			return absence(level, descriptor);
		asp_a64_describe(t, level, address,
				 asp_a64_with_group_history(t, level, entry, address, descriptor),
				 mapping);
		mapping->descriptor = descriptor;
		return ASPACE_OK;
	}
}

static bool covers(const struct aspace_aarch64 *t, uint64_t address)
{
	return address >= t->geometry.base &&
	       address - t->geometry.base < UINT64_C(1) << t->geometry.input_bits;
}

enum aspace_status aspace_aarch64_query(const struct aspace_aarch64 *t, struct aspace_vaddr address,
					struct aspace_aarch64_mapping *mapping)
{
	enum aspace_status status;

	if (!covers(t, address.value))
		return ASPACE_INVALID_PARAM;
	enter(t);
	status = query(t, address.value, mapping);
	leave(t);
	if (status == ASPACE_OK)
		mapping->output.value += address.value - mapping->range.start.value;
	return status;
}

bool asp_a64_visit(const struct aspace_aarch64 *t, const struct asp_a64_span *span,
		   asp_a64_slot_fn *fn, void *ctx)
{
	uint64_t *entries = asp_a64_pointer(t, span->table);
	struct asp_a64_slot slot = {.level = span->level, .start = span->start};

	for (; slot.start < span->end; slot.start = slot.end) {
		slot.entry = &entries[asp_a64_index(&t->geometry, slot.level, slot.start)];
		slot.descriptor = asp_a64_load(t, slot.entry);
		slot.end = asp_a64_slot_end(&t->geometry, slot.level, slot.start, span->end);
		if (asp_a64_is_table(slot.level, slot.descriptor)) {
			struct asp_a64_span below = {slot.level + 1,
						     asp_a64_next_table(t, slot.descriptor),
						     slot.start, slot.end};

			if (!asp_a64_visit(t, &below, fn, ctx))
				return false;
		} else if (!fn(ctx, &slot)) {
			return false;
		}
	}
	return true;
}

/* The group that a walk is in. Beside a writer, what lies at its addresses may become another in
 * the middle of it: of another level, which then begins elsewhere, or with other frames. */
struct group {
	uint64_t start, output;
};

static struct group group_of(const struct aspace_aarch64 *t, const struct asp_a64_slot *slot)
{
	uint64_t size = asp_a64_size(&t->geometry, slot->level);
	uint64_t start =
		aspace_align_down(slot->start, size * asp_a64_group(&t->config, slot->level));

	return (struct group){
		.start = start,
		.output = asp_a64_decode_output(&t->config, slot->descriptor) -
			  (aspace_align_down(slot->start, size) - start),
	};
}

struct visit {
	const struct aspace_aarch64 *t;
	aspace_aarch64_visit_fn *fn;
	void *ctx;
	enum aspace_status status;
	struct group group;
	uint64_t history; /* a leaf with that of the group */
};

/* The leaf of a slot with the history of its group, which is collected when the walk enters it. */
static uint64_t with_history(struct visit *visit, const struct asp_a64_slot *slot)
{
	const struct aspace_aarch64 *t = visit->t;
	struct group group;

	if (!(slot->descriptor & ASP_A64_CONTIGUOUS) || !t->config.hardware_access)
		return slot->descriptor;
	group = group_of(t, slot);
	if (!visit->history || group.start != visit->group.start ||
	    group.output != visit->group.output) {
		visit->group = group;
		visit->history = asp_a64_with_group_history(t, slot->level, slot->entry,
							    slot->start, slot->descriptor);
	}
	return asp_a64_with_history(&t->config, slot->descriptor, visit->history);
}

static bool visit_slot(void *ctx, const struct asp_a64_slot *slot)
{
	struct visit *visit = ctx;
	struct aspace_aarch64_mapping mapping;

	if (asp_a64_is_mapped(slot->descriptor)) {
		asp_a64_describe(visit->t, slot->level, slot->start, with_history(visit, slot),
				 &mapping);
		mapping.descriptor = slot->descriptor;
		return visit->fn(visit->ctx, &mapping);
	}
	if (absence(slot->level, slot->descriptor) == ASPACE_BUSY)
		visit->status = ASPACE_BUSY;
	return visit->status == ASPACE_OK;
}

enum aspace_status aspace_aarch64_walk(const struct aspace_aarch64 *t, struct aspace_range range,
				       aspace_aarch64_visit_fn *fn, void *ctx)
{
	struct asp_a64_span all = asp_a64_whole(t, range.start.value, range.end.value);
	struct visit visit = {.t = t, .fn = fn, .ctx = ctx, .status = ASPACE_OK};

	if (range.start.value >= range.end.value || !covers(t, range.start.value) ||
	    !covers(t, range.end.value - 1))
		return ASPACE_INVALID_PARAM;
	enter(t);
	asp_a64_visit(t, &all, visit_slot, &visit);
	leave(t);
	return visit.status;
}
