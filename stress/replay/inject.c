/* SPDX-License-Identifier: MIT */
#include "inject.h"

#include <sys/mman.h>

/* The area that is there longest; at the end, or gone before the end. */
static struct tile *longest_tile(struct stage *stage, bool at_end)
{
	struct tile *best = NULL;
	uint32_t best_time = 0;

	for (size_t i = 0; i < stage->plan->images_count; i++) {
		struct history *history = &stage->scenes[i].history;

		for (size_t k = 0; k < history->tiles_count; k++) {
			struct tile *tile = &history->tiles[k];
			bool lasts = tile->until > history->times;
			uint32_t time = (lasts ? history->times : tile->until) - tile->from;

			if (tile->value == HOLE || lasts != at_end || time < best_time)
				continue;
			best = tile;
			best_time = time;
		}
	}
	return best;
}

bool inject_stage(struct stage *stage, enum injection inject)
{
	struct tile *tile;

	if (inject != INJECT_HISTORY && inject != INJECT_MODEL)
		return true;
	tile = longest_tile(stage, inject == INJECT_MODEL);
	if (tile)
		tile->value ^= TRACE_READ;
	return tile;
}

bool inject_end(struct playing *playing, enum injection inject, uint64_t page)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	bool found;

	aspace_read_begin(playing->space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	found = aspace_iter_next(&iter, &area);
	aspace_read_end(&view);
	if (!found)
		return false;
	if (inject == INJECT_LIBRARY)
		return !aspace_unmap(playing->space,
				     aspace_range_of(area.start.value, area.start.value + page), 0);
	if (inject == INJECT_KERNEL && playing->tables) {
		struct aspace_backend *backend = playing->backend;
		const struct aspace_change change = {
			.kind = ASPACE_CHANGE_PROTECT,
			.range = aspace_range_of(area.start.value, area.start.value + page),
			.old_flags = area.flags,
			.new_flags = area.flags ^ TRACE_WRITE,
		};
		bool done = backend->ops->protect(backend, &change) == ASPACE_OK;

		backend->ops->flush(backend);
		return done;
	}
	if (inject == INJECT_KERNEL)
		return !mprotect((void *)(uintptr_t)area.start.value, page,
				 (int)area.flags ^ PROT_WRITE);
	return false;
}
