/* SPDX-License-Identifier: MIT */
/*
 * Do the tables hold what the areas say, and nothing else?
 *
 * The areas come from the caller, upward, so that this file knows no space, and the areas of
 * several spaces can share a tree. Each stretch of the tree, in an area or between two, is
 * walked once.
 */
#include "tables.h"

struct check {
	const struct aspace_aarch64 *t;
	const struct aspace_area *area; /* NULL: nothing is to be here */
	bool holes;                     /* are allowed */
	bool linear;
	uint64_t offset;
	struct aspace_aarch64_difference *difference;
};

static bool differ(const struct check *check, uint64_t address, const char *what)
{
	check->difference->address = aspace_va(address);
	check->difference->what = what;
	return false;
}

static bool check_leaf(const struct check *check, const struct asp_a64_slot *slot)
{
	const struct aspace_aarch64 *t = check->t;
	struct aspace_aarch64_mapping mapping;
	uint64_t kept, attributes;

	if (!check->area)
		return differ(check, slot->start, "something is mapped where no area is");
	kept = check->area->flags & ASPACE_AARCH64_KEPT_MASK;
	asp_a64_describe(t, slot->level, slot->start, slot->descriptor, &mapping);
	if (!asp_a64_attributes(&t->config, check->area->flags, &attributes) ||
	    mapping.flags != kept ||
	    mapping.shareability != asp_a64_shareability(&t->config, attributes))
		return differ(check, slot->start, "a leaf has other flags than its area");
	if (check->linear && mapping.output.value - mapping.range.start.value != check->offset)
		return differ(check, slot->start, "a leaf leads to a frame that is not its own");
	return true;
}

static bool check_slot(void *ctx, const struct asp_a64_slot *slot)
{
	const struct check *check = ctx;

	if (asp_a64_is_mapped(slot->descriptor))
		return check_leaf(check, slot);
	if (slot->descriptor)
		return differ(check, slot->start, "a descriptor is in the middle of a change");
	if (check->area && !check->holes)
		return differ(check, slot->start, "a part of an area is not mapped");
	return true;
}

static bool check_stretch(struct check *check, uint64_t start, uint64_t end)
{
	struct asp_a64_span span = asp_a64_whole(check->t, start, end);

	return start >= end || asp_a64_visit(check->t, &span, check_slot, check);
}

/* Is it an area of this tree, and of which kind? */
static bool take_area(struct check *check, const struct aspace_area *area)
{
	const struct aspace_aarch64_linear *linear = (const void *)area->backend;
	const struct aspace_aarch64_allocated *allocated = (const void *)area->backend;

	check->area = area;
	check->linear = area->backend->ops == &asp_a64_linear_ops && linear->tables == check->t;
	check->offset = check->linear ? linear->offset : 0;
	if (check->linear) {
		check->holes = false;
		return true;
	}
	if (area->backend->ops != &asp_a64_allocated_ops || allocated->tables != check->t)
		return false;
	check->holes = allocated->lazy;
	return true;
}

enum aspace_status asp_a64_check_area(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_vaddr *at,
				      const char **what)
{
	const struct aspace_aarch64 *t = asp_a64_tables_of(backend);
	struct aspace_aarch64_difference difference;
	struct check check = {.t = t, .difference = &difference};

	take_area(&check, area);
	if (check_stretch(&check, area->start.value, area->end.value))
		return ASPACE_OK;
	*at = difference.address;
	*what = difference.what;
	return ASPACE_BAD_STATE;
}

enum aspace_status aspace_aarch64_check(const struct aspace_aarch64 *t,
					aspace_aarch64_next_area_fn *next, void *ctx,
					struct aspace_aarch64_difference *difference)
{
	struct aspace_range all = aspace_aarch64_range(&t->config);
	struct aspace_aarch64_difference unwanted;
	struct check check = {.t = t, .difference = difference ? difference : &unwanted};
	uint64_t at = all.start.value;
	struct aspace_area area;

	while (next(ctx, &area)) {
		if (!take_area(&check, &area))
			continue;
		check.area = NULL;
		if (!check_stretch(&check, at, area.start.value))
			return ASPACE_BAD_STATE;
		take_area(&check, &area);
		if (!check_stretch(&check, area.start.value, area.end.value))
			return ASPACE_BAD_STATE;
		at = area.end.value;
	}
	check.area = NULL;
	return check_stretch(&check, at, all.end.value) ? ASPACE_OK : ASPACE_BAD_STATE;
}
