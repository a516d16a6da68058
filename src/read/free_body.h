/* SPDX-License-Identifier: MIT */
/*
 * aspace_find_free(): what is asked for, then a gap search. Part of lookup_body.h.
 */
#include "tree/gap_lowest.h"

INLINE bool find_up(const struct aspace *space, struct asp_gap_query *query,
		    const struct aspace_gap *gap, const struct asp_node *root, uint64_t *answer)
{
	struct asp_gap_query copy;
	uint64_t lo;

	if (gap->hint.value > query->lo)
		query->lo = gap->hint.value;
	if (query->lo < query->hi && find_lowest(query, root, answer))
		return true;
	/* Computed again, rather than kept during a search that mostly finds. */
	lo = gap->limits.start.value < space->lo ? space->lo : gap->limits.start.value;
	if (!gap->wrap || query->lo == lo)
		return false;
	copy = *query;
	copy.lo = lo;
	return OF_VECTOR(find_lowest)(&copy, root, answer);
}

NOINLINE bool find_down(struct asp_gap_query *query, const struct aspace_gap *gap,
			const struct asp_node *root, uint64_t *answer)
{
	uint64_t hi = query->hi;

	if (gap->hint.value && gap->hint.value < hi)
		query->hi = gap->hint.value;
	if (query->lo < query->hi && OF_VECTOR(find_highest)(query, root, answer))
		return true;
	if (!gap->wrap || query->hi == hi)
		return false;
	query->hi = hi;
	return OF_VECTOR(find_highest)(query, root, answer);
}

/* The query that goes to functions is a copy, so that the other can stay in registers. */
INLINE enum aspace_status find_free_inline(const struct aspace *space, const struct asp_node *root,
					   const struct aspace_gap *gap, uint64_t granule,
					   struct aspace_vaddr *start)
{
	struct asp_gap_query query, copy;
	uint64_t lo, hi;
	bool found;

	/* The second term says whether the alignment is a power of two, or 0. */
	if (!gap || !start || !gap->size ||
	    ((gap->size & (granule - 1)) | (gap->align & (gap->align - 1)) | gap->reserved[0] |
	     gap->reserved[1]))
		return ASPACE_INVALID_PARAM;
	lo = gap->limits.start.value;
	hi = gap->limits.end.value;
	if (lo >= hi && (lo | hi))
		return ASPACE_INVALID_PARAM;
	query.lo = lo < space->lo ? space->lo : lo;
	query.hi = hi - 1 < space->hi - 1 ? hi : space->hi; /* 0 is no limit */
	query.size = gap->size;
	query.align = gap->align < granule ? granule : gap->align;
	query.guard = gap->guard;
	/* Between two areas there are two guards. No stretch has UINT64_MAX. */
	if (__builtin_add_overflow(query.guard, query.guard, &query.need) ||
	    __builtin_add_overflow(query.need, query.size, &query.need))
		query.need = UINT64_MAX;
	if (gap->downward) {
		copy = query;
		found = find_down(&copy, gap, root, &start->value);
	} else {
		found = find_up(space, &query, gap, root, &start->value);
	}
	return found ? ASPACE_OK : ASPACE_NO_SPACE;
}

VECTOR_TARGET static enum aspace_status find_free_in(const struct aspace *space,
						     const struct asp_node *root,
						     const struct aspace_gap *gap, uint64_t granule,
						     struct aspace_vaddr *start)
{
	return find_free_inline(space, root, gap, granule, start);
}

VECTOR_TARGET static enum aspace_status find_free(struct aspace *space,
						  const struct aspace_gap *gap,
						  struct aspace_vaddr *start)
{
	enum aspace_status status;

	asp_read_lock(space->grace);
	status = find_free_inline(space, asp_root(space), gap, space->granule, start);
	asp_read_unlock(space->grace);
	return status;
}
