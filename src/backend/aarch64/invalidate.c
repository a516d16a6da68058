/* SPDX-License-Identifier: MIT */
/*
 * Invalidations: gathered while an operation stores, carried out together (D8.17).
 *
 * The order is: stores; a barrier, so that no walk reads the old descriptors any more;
 * the invalidations; a barrier that waits for them; and at the end of a batch an ISB.
 * Stage 2: invalidation by IPA does not reach entries that combine both stages, so
 * after it has completed, all stage-1 entries of the VMID go too; one invalidation of
 * all that the VMID has does both.
 *
 * Where walks are not coherent, each store was followed by a clean, and the barrier after stores is
 * one that waits for cache maintenance too.
 *
 * Operands (C5.5): by address, bits 43 to 0 are address bits 55 to 12 for every
 * granule, and bits 47 to 44 the TTL. By range, the base counts granules, but with DS it
 * counts 64 KB whatever the granule: pages before such a boundary go one by one. With a TTL the base
 * of a range is a multiple of what a descriptor at that level translates, or the range is
 * UNPREDICTABLE by the stricter reading: so ranges of blocks are whole blocks, and blocks that no range
 * can hold go one by one.
 *
 * Invariants:
 *  1. What is gathered covers every descriptor that was valid and has changed since the last
 *     invalidation.
 *  2. Instructions have a TTL only where all that they are to take away are leaves of that level.
 *  3. The base of a range with a TTL is aligned to the size of that level.
 *  4. The union of what is issued for an item covers it, and each instruction takes at least
 *     one page of it.
 */
#include "tables.h"

#define TLBI_MAX_DEFAULT 64

/* ---- Gathering --------------------------------------------------------------------- */

void asp_a64_gather(struct aspace_aarch64 *t, int level, uint64_t start, uint64_t end, uint64_t old)
{
	bool leaf = asp_a64_is_leaf(level, old);
	struct asp_a64_gathered *last = NULL;

	if (leaf && asp_a64_is_global(&t->config, old))
		t->gathered_global = true;
	if (t->gathered_all)
		return;
	if (t->gathered_count)
		last = &t->gathered[t->gathered_count - 1];
	if (last && last->end == start && last->level == level && last->leaf == leaf) {
		last->end = end;
		return;
	}
	if (t->gathered_count == ASP_A64_GATHERED_MAX) {
		t->gathered_all = true;
		return;
	}
	t->gathered[t->gathered_count++] = (struct asp_a64_gathered){start, end, level, leaf};
}

void asp_a64_gather_slot(struct aspace_aarch64 *t, int level, uint64_t at, uint64_t old)
{
	uint64_t start = aspace_align_down(at, asp_a64_size(&t->geometry, level));

	if (asp_a64_is_valid(old)) /* else in no TLB */
		asp_a64_gather(t, level, start,
			       asp_a64_slot_end(&t->geometry, level, start, UINT64_MAX), old);
}

bool asp_a64_is_gathered(const struct aspace_aarch64 *t, uint64_t start, uint64_t end)
{
	if (t->gathered_all)
		return true;
	for (unsigned i = 0; i < t->gathered_count; i++) {
		if (t->gathered[i].start < end && start < t->gathered[i].end)
			return true;
	}
	return false;
}

/* ---- Operands ------------------------------------------------------------------------ */

static uint64_t granule_code(const struct aspace_aarch64 *t)
{
	return (t->geometry.granule_shift - 12) / 2 + 1; /* 4K, 16K, 64K: 1, 2, 3 */
}

/* Levels 1 to 3, or 0: no hint. Level 0 has a code only in some forms. */
static uint64_t ttl_level(const struct aspace_aarch64 *t, const struct asp_a64_gathered *item)
{
	return t->config.ttl && item->leaf && item->level >= 1 ? (uint64_t)item->level : 0;
}

static uint64_t id_of(const struct aspace_aarch64 *t)
{
	/* Not in the forms for all ASIDs, for EL2 or by IPA: RES0 there. */
	return asp_a64_has_asids(&t->config) && !t->config.all_asids ? (uint64_t)t->config.id << 48
								     : 0;
}

static uint64_t address_operand(const struct aspace_aarch64 *t, const struct asp_a64_gathered *item,
				uint64_t address)
{
	uint64_t level = ttl_level(t, item);
	uint64_t ttl = level ? granule_code(t) << 2 | level : 0;

	return id_of(t) | ttl << 44 | ((address >> 12) & ((UINT64_C(1) << 44) - 1));
}

static unsigned base_shift(const struct aspace_aarch64 *t)
{
	return t->config.ds ? 16 : t->geometry.granule_shift;
}

static uint64_t range_operand(const struct aspace_aarch64 *t, const struct asp_a64_gathered *item,
			      uint64_t address, unsigned scale, uint64_t num)
{
	uint64_t base = (address >> base_shift(t)) & ((UINT64_C(1) << 37) - 1);
	/* 16K without DS has no level 1 in its code, and no leaf there either. */
	uint64_t ttl = ttl_level(t, item);

	return id_of(t) | granule_code(t) << 46 | (uint64_t)scale << 44 | num << 39 | ttl << 37 |
	       base;
}

/* ---- Instructions ----------------------------------------------------------------------- */

static enum aspace_aarch64_tlbi_kind kind_of(const struct aspace_aarch64 *t, bool range)
{
	if (t->config.regime == ASPACE_AARCH64_STAGE2)
		return range ? ASPACE_AARCH64_TLBI_IPA_RANGE : ASPACE_AARCH64_TLBI_IPA;
	if (t->config.all_asids)
		return range ? ASPACE_AARCH64_TLBI_RANGE_ALL_IDS : ASPACE_AARCH64_TLBI_VA_ALL_IDS;
	return range ? ASPACE_AARCH64_TLBI_RANGE : ASPACE_AARCH64_TLBI_VA;
}

static void issue(const struct aspace_aarch64 *t, enum aspace_aarch64_tlbi_kind kind, bool leaf,
		  uint64_t operand, struct aspace_range range)
{
	const struct aspace_aarch64_tlbi tlbi = {
		.kind = kind,
		.regime = t->config.regime,
		.leaf = leaf,
		.shareability = t->config.shareability,
		.operand = operand,
		.range = range,
	};

	t->ops->tlbi(t->ctx, &tlbi);
}

/* How many pages does one range instruction take, of `pages`: (num + 1) << (5 * scale + 1), a
 * multiple of `multiple`; 0: there is no such range. The largest scale that fits: the count falls
 * below 32 of the next smaller unit at each step, so there are at most five. */
static uint64_t chunk(uint64_t pages, uint64_t multiple, unsigned *scale, uint64_t *num)
{
	for (*scale = 4; (*scale)-- > 0;) {
		uint64_t unit = UINT64_C(1) << (5 * *scale + 1);
		uint64_t units = pages / unit > 32 ? 32 : pages / unit;

		if (multiple > unit)
			units -= units % (multiple / unit);
		if (units) {
			*num = units - 1;
			return units * unit;
		}
	}
	return 0;
}

/* Issue what takes an item away; or, with a limit, count it, and stop above the limit. */
static uint64_t invalidate_item(const struct aspace_aarch64 *t, const struct asp_a64_gathered *item,
				uint64_t limit)
{
	uint64_t stride = asp_a64_size(&t->geometry, item->level);
	uint64_t multiple = ttl_level(t, item) ? stride >> t->geometry.granule_shift : 1;
	uint64_t at = item->start, count = 0;

	while (at < item->end && (!limit || count <= limit)) {
		uint64_t pages = (item->end - at) >> t->geometry.granule_shift;
		bool range = t->config.range_tlbi && item->end - at > stride &&
			     aspace_is_aligned(at, UINT64_C(1) << base_shift(t));
		uint64_t next, operand, num = 0, taken;
		unsigned scale = 0;

		taken = range ? chunk(pages, multiple, &scale, &num) : 0;
		range = taken != 0;
		if (range) {
			next = at + (taken << t->geometry.granule_shift);
			operand = range_operand(t, item, at, scale, num);
		} else {
			next = asp_a64_slot_end(&t->geometry, item->level, at, item->end);
			operand = address_operand(t, item, at);
		}
		if (!limit)
			issue(t, kind_of(t, range), item->leaf, operand, aspace_range_of(at, next));
		at = next;
		count++;
	}
	return count;
}

static uint64_t tlbi_max(const struct aspace_aarch64 *t)
{
	return t->config.tlbi_max ? t->config.tlbi_max : TLBI_MAX_DEFAULT;
}

static bool too_many(const struct aspace_aarch64 *t)
{
	uint64_t max = tlbi_max(t), count = 0;

	if (t->gathered_all)
		return true;
	for (unsigned i = 0; i < t->gathered_count && count <= max; i++)
		count += invalidate_item(t, &t->gathered[i], max);
	return count > max;
}

/* Everything of the tree, and what else cannot be told apart from it. */
static void issue_all(const struct aspace_aarch64 *t, bool global)
{
	enum aspace_aarch64_tlbi_kind kind = ASPACE_AARCH64_TLBI_ALL;

	if (t->config.regime == ASPACE_AARCH64_STAGE2)
		kind = ASPACE_AARCH64_TLBI_VMID;
	else if (asp_a64_has_asids(&t->config) && !t->config.all_asids && !global)
		kind = ASPACE_AARCH64_TLBI_ID;
	issue(t, kind, false, kind == ASPACE_AARCH64_TLBI_ID ? id_of(t) : 0,
	      aspace_aarch64_range(&t->config));
}

/* ---- Carrying out -------------------------------------------------------------------------- */

static void wait_for_all(const struct aspace_aarch64 *t)
{
	t->ops->dsb(t->ctx, ASPACE_AARCH64_BARRIER_ALL, t->config.shareability);
}

static void enter_vmid(const struct aspace_aarch64 *t)
{
	if (t->ops->vmid_enter && t->config.regime == ASPACE_AARCH64_STAGE2)
		t->ops->vmid_enter(t->ctx, t->config.id);
}

static void leave_vmid(const struct aspace_aarch64 *t)
{
	if (t->ops->vmid_leave && t->config.regime == ASPACE_AARCH64_STAGE2)
		t->ops->vmid_leave(t->ctx);
}

/* What the invalidations by IPA have left of a stage 2: entries that combine both stages. Only when
 * no stage-2 entry is left that a combined one could be made of. */
static void issue_combined(const struct aspace_aarch64 *t)
{
	if (t->config.regime != ASPACE_AARCH64_STAGE2)
		return;
	wait_for_all(t);
	issue(t, ASPACE_AARCH64_TLBI_ALL, false, 0, aspace_aarch64_range(&t->config));
}

static void issue_gathered(const struct aspace_aarch64 *t)
{
	if (too_many(t)) {
		issue_all(t, t->gathered_global);
		return;
	}
	for (unsigned i = 0; i < t->gathered_count; i++)
		invalidate_item(t, &t->gathered[i], 0);
	issue_combined(t);
}

void asp_a64_order_walks(const struct aspace_aarch64 *t)
{
	t->ops->dsb(t->ctx,
		    t->ops->clean ? ASPACE_AARCH64_BARRIER_SYSTEM : ASPACE_AARCH64_BARRIER_STORES,
		    t->config.shareability);
}

void asp_a64_order_stores(struct aspace_aarch64 *t)
{
	if (t->stored) {
		asp_a64_order_walks(t);
		t->unsynchronized = true;
	}
	t->stored = false;
}

void asp_a64_invalidate(struct aspace_aarch64 *t)
{
	asp_a64_order_stores(t);
	if (!t->gathered_count && !t->gathered_all)
		return;
	enter_vmid(t);
	issue_gathered(t);
	wait_for_all(t);
	leave_vmid(t);
	t->gathered_count = 0;
	t->gathered_all = false;
	t->gathered_global = false;
}

void asp_a64_invalidate_pointer(const struct aspace_aarch64 *t, int level, uint64_t at)
{
	uint64_t start = aspace_align_down(at, asp_a64_size(&t->geometry, level));
	const struct asp_a64_gathered item = {
		.start = start,
		.end = asp_a64_slot_end(&t->geometry, level, start, UINT64_MAX),
		.level = level,
	};

	asp_a64_order_walks(t);
	enter_vmid(t);
	/* The table had pointers itself, which may be cached too, each for its own addresses. */
	if (level + 1 < ASP_A64_LAST_LEVEL) {
		issue_all(t, false);
	} else {
		invalidate_item(t, &item, 0);
		issue_combined(t);
	}
	wait_for_all(t);
	leave_vmid(t);
}

void asp_a64_invalidate_beside(const struct aspace_aarch64 *t, const struct asp_a64_gathered *items,
			       unsigned count, bool global)
{
	uint64_t max = tlbi_max(t), instructions = 0;

	enter_vmid(t);
	asp_a64_order_walks(t);
	for (unsigned i = 0; i < count && instructions <= max; i++)
		instructions += invalidate_item(t, &items[i], max);
	if (instructions > max)
		issue_all(t, global);
	for (unsigned i = 0; i < count && instructions <= max; i++)
		invalidate_item(t, &items[i], 0);
	if (instructions <= max)
		issue_combined(t);
	wait_for_all(t);
	leave_vmid(t);
}

void asp_a64_synchronize(struct aspace_aarch64 *t)
{
	asp_a64_invalidate(t);
	if (t->unsynchronized)
		t->ops->isb(t->ctx);
	t->unsynchronized = false;
}
