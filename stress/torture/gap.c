/* SPDX-License-Identifier: MIT */
#include "gap.h"

/* What is looked for, and where. */
struct search {
	const struct wish *wish;
	uint64_t origin, size;
	gap_tile_fn *tile_at;
	void *ctx;
};

/* The lowest, or highest, start in the hole, within [lo, hi). Beyond the ends of the space
 * there is no area that a guard would keep away from. */
static uint64_t fit(const struct search *search, const struct tile *hole, uint64_t lo, uint64_t hi)
{
	const struct wish *wish = search->wish;
	uint64_t from = hole->start ? hole->start + wish->guard : 0;
	uint64_t to = hole->end, mask = (UINT64_C(1) << wish->align) - 1, start;

	if (hole->end < search->size)
		to = to > wish->guard ? to - wish->guard : 0;
	from = from > lo ? from : lo;
	to = to < hi ? to : hi;
	if (from >= to || to - from < wish->size)
		return GAP_NONE;
	if (wish->down)
		start = ((search->origin + to - wish->size) & ~mask) - search->origin;
	else
		start = ((search->origin + from + mask) & ~mask) - search->origin;
	return start >= from && start <= to - wish->size ? start : GAP_NONE;
}

static uint64_t lowest(const struct search *search, uint64_t lo, uint64_t hi)
{
	while (lo < hi) {
		const struct tile *tile = search->tile_at(search->ctx, lo);
		uint64_t start = tile->value == HOLE ? fit(search, tile, lo, hi) : GAP_NONE;

		if (start != GAP_NONE)
			return start;
		lo = tile->end;
	}
	return GAP_NONE;
}

static uint64_t highest(const struct search *search, uint64_t lo, uint64_t hi)
{
	while (lo < hi) {
		const struct tile *tile = search->tile_at(search->ctx, hi - 1);
		uint64_t start = tile->value == HOLE ? fit(search, tile, lo, hi) : GAP_NONE;

		if (start != GAP_NONE)
			return start;
		hi = tile->start;
	}
	return GAP_NONE;
}

uint64_t gap_answer(const struct wish *wish, uint64_t origin, uint64_t size, gap_tile_fn *tile_at,
		    void *ctx)
{
	struct search search = {wish, origin, size, tile_at, ctx};
	uint64_t hint = wish->hint, lo = wish->lo, hi = wish->hi, start;

	if (!hint)
		return wish->down ? highest(&search, lo, hi) : lowest(&search, lo, hi);
	hint = hint < lo ? lo : hint > hi ? hi : hint;
	start = wish->down ? highest(&search, lo, hint) : lowest(&search, hint, hi);
	if (start == GAP_NONE && wish->wrap)
		start = wish->down ? highest(&search, lo, hi) : lowest(&search, lo, hi);
	return start;
}
