/* SPDX-License-Identifier: MIT */
/*
 * Access flags and dirty state, taken from the descriptors.
 *
 * Each leaf is exchanged for one that was not accessed, or not written; what it said
 * before is reported. The processor may note the accesses of a contiguous group in any of its
 * descriptors (D8.7.1), so a group is harvested as a whole, also where the range holds only
 * a part of it.
 *
 * The invalidation is not optional: as long as a TLB holds the old descriptor, accesses leave
 * no trace. Those that came before it are in what is reported. It is of the whole group as well:
 * a TLB may hold any page of it as accessed by what one descriptor has noted.
 *
 * Invariants:
 *  1. A bit is cleared only by an exchange of the value that is reported.
 */
#include "tables.h"

struct harvest {
	struct aspace_aarch64 *t;
	unsigned what;
	aspace_aarch64_visit_fn *visit;
	void *ctx;
	bool stop;
};

static uint64_t cleared(const struct harvest *h, uint64_t descriptor)
{
	uint64_t plain = descriptor;

	if (h->what & ASPACE_AARCH64_DIRTY)
		plain = asp_a64_clean(&h->t->config, plain);
	return h->what & ASPACE_AARCH64_ACCESSED ? plain & ~ASP_A64_AF : plain;
}

/* Answers what the leaf was before; *stale: a TLB may hold what it was. */
static uint64_t harvest_leaf(const struct harvest *h, int level, uint64_t *entry, bool *stale)
{
	uint64_t old, plain;

	do {
		old = asp_a64_load(h->t, entry);
		plain = cleared(h, old);
	} while (old != plain && !asp_a64_swap(h->t, entry, old, plain));
	*stale = *stale ||
		 asp_a64_classify(&h->t->config, level, old, plain) == ASP_A64_STORE_INVALIDATE;
	return old;
}

/* A leaf, or the whole group that it is of. Answers where it ends. */
static uint64_t harvest_group(struct harvest *h, int level, uint64_t *entries, uint64_t at)
{
	struct aspace_aarch64 *t = h->t;
	uint64_t size = asp_a64_size(&t->geometry, level);
	uint64_t *entry = &entries[asp_a64_index(&t->geometry, level, at)];
	bool grouped = asp_a64_load(t, entry) & ASP_A64_CONTIGUOUS, stale = false;
	unsigned count = grouped ? asp_a64_group(&t->config, level) : 1;
	uint64_t first = aspace_align_down(at, size * count), last = first + (size * count - 1);
	struct aspace_aarch64_mapping mapping;
	uint64_t found = 0;

	entry = &entries[asp_a64_index(&t->geometry, level, first)];
	for (unsigned i = 0; i < count; i++) {
		uint64_t old = harvest_leaf(h, level, &entry[i], &stale);

		found = i ? asp_a64_with_history(&t->config, found, old) : old;
	}
	/* Whatever page it was whose access one of them has noted: all may be in a TLB. */
	if (stale)
		asp_a64_gather(t, level, first, last == UINT64_MAX ? last : last + 1, found);
	asp_a64_describe(t, level, first, found, &mapping);
	mapping.range.end = aspace_va(last == UINT64_MAX ? last : last + 1);
	if (((h->what & ASPACE_AARCH64_ACCESSED) && mapping.accessed) ||
	    ((h->what & ASPACE_AARCH64_DIRTY) && mapping.dirty))
		h->stop = !h->visit(h->ctx, &mapping);
	return last;
}

static void harvest_table(struct harvest *h, int level, uint64_t table, uint64_t start,
			  uint64_t end)
{
	const struct asp_a64_geometry *g = &h->t->geometry;
	uint64_t *entries = asp_a64_pointer(h->t, table);
	uint64_t next;

	for (uint64_t at = start; at < end && !h->stop; at = next) {
		uint64_t old = asp_a64_load(h->t, &entries[asp_a64_index(g, level, at)]);

		next = asp_a64_slot_end(g, level, at, end);
		if (asp_a64_is_table(level, old)) {
			harvest_table(h, level + 1, asp_a64_next_table(h->t, old), at, next);
		} else if (asp_a64_is_mapped(old)) {
			uint64_t last = harvest_group(h, level, entries, at);

			next = last < end - 1 ? last + 1 : end;
		}
	}
}

enum aspace_status aspace_aarch64_harvest(struct aspace_aarch64 *t, struct aspace_range range,
					  unsigned what, aspace_aarch64_visit_fn *visit, void *ctx)
{
	struct harvest h = {t, what, visit, ctx, false};

	if (!asp_a64_range_usable(t, range) || !what ||
	    (what & ~(unsigned)(ASPACE_AARCH64_ACCESSED | ASPACE_AARCH64_DIRTY)))
		return ASPACE_INVALID_PARAM;
	if (((what & ASPACE_AARCH64_ACCESSED) && !t->config.hardware_access) ||
	    ((what & ASPACE_AARCH64_DIRTY) && !t->config.hardware_dirty))
		return ASPACE_NOT_SUPPORTED;
	harvest_table(&h, t->geometry.start, t->root, range.start.value, range.end.value);
	asp_a64_synchronize(t);
	return ASPACE_OK;
}
