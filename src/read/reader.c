/* SPDX-License-Identifier: MIT */
/*
 * The readers' side: lookups, views, iterators, gap searches.
 *
 * Nothing here takes a lock, loops for another try, or stores to memory that
 * another thread reads, beyond what the read section of the flavour does.
 */
#include "read/last_hit.h"
#include "read/lookup.h"
#include "space/space.h"

static bool overlaps_in(const struct asp_node *root, struct aspace_range range)
{
	struct asp_cursor cursor;

	return range.start.value < range.end.value &&
	       asp_cursor_seek(&cursor, root, range.start.value) &&
	       asp_cursor_start(&cursor) < range.end.value;
}

#ifdef ASP_THREAD_LOCAL
ASP_THREAD_LOCAL volatile struct asp_last_hit asp_last_hit;
#endif

enum aspace_status aspace_find(struct aspace *space, struct aspace_vaddr address,
			       struct aspace_area *area)
{
	return space->find(space, address, area);
}

size_t aspace_find_many(struct aspace *space, const struct aspace_vaddr *addresses, size_t count,
			struct aspace_area *areas)
{
	size_t found;

	asp_read_lock(space->grace);
	found = space->lookup_set->find_many(asp_root(space), addresses, count, areas);
	asp_read_unlock(space->grace);
	return found;
}

enum aspace_status aspace_find_free(struct aspace *space, const struct aspace_gap *gap,
				    struct aspace_vaddr *start)
{
	return space->lookup_set->find_free(space, gap, start);
}

bool aspace_overlaps(struct aspace *space, struct aspace_range range)
{
	bool overlaps;

	asp_read_lock(space->grace);
	overlaps = overlaps_in(asp_root(space), range);
	asp_read_unlock(space->grace);
	return overlaps;
}

size_t aspace_count(struct aspace *space)
{
	return (size_t)atomic_load_explicit(&space->areas, memory_order_relaxed);
}

uint64_t aspace_granule(const struct aspace *space)
{
	return space->granule;
}

struct aspace_range aspace_limits(const struct aspace *space)
{
	return aspace_range_of(space->lo, space->hi);
}

/* ---- Views ---------------------------------------------------------------- */

void aspace_thread_prepare(struct aspace *space)
{
	asp_grace_thread_prepare(space->grace);
}

void aspace_read_begin(struct aspace *space, struct aspace_view *view)
{
	const struct asp_node *root;

	asp_read_lock(space->grace);
	root = asp_root(space);
	view->space = space;
	view->root = root;
	view->version = root->birth;
}

void aspace_read_end(struct aspace_view *view)
{
	struct aspace *space = view->space;

	view->root = NULL;
	asp_read_unlock(space->grace);
}

enum aspace_status aspace_view_find(const struct aspace_view *view, struct aspace_vaddr address,
				    struct aspace_area *area)
{
	return view->space->lookup_set->find_in(view->root, address, area);
}

size_t aspace_view_find_many(const struct aspace_view *view, const struct aspace_vaddr *addresses,
			     size_t count, struct aspace_area *areas)
{
	return view->space->lookup_set->find_many(view->root, addresses, count, areas);
}

bool aspace_view_overlaps(const struct aspace_view *view, struct aspace_range range)
{
	return overlaps_in(view->root, range);
}

enum aspace_status aspace_view_find_free(const struct aspace_view *view,
					 const struct aspace_gap *gap, struct aspace_vaddr *start)
{
	const struct aspace *space = view->space;

	return space->lookup_set->find_free_in(space, view->root, gap, space->granule, start);
}

/* ---- Iterators ------------------------------------------------------------
 *
 * leaf and slot are the area that was answered last, so that its neighbour costs
 * no descent. Before the first answer leaf is NULL and `at` says where to begin.
 */

void aspace_iter_begin(const struct aspace_view *view, struct aspace_vaddr from,
		       struct aspace_iter *iter)
{
	iter->view = *view;
	iter->leaf = NULL;
	iter->slot = 0;
	iter->at = from.value;
}

static bool step(struct asp_cursor *cursor, const struct aspace_iter *iter, bool up)
{
	if (cursor->leaf)
		return up ? asp_cursor_next(cursor) : asp_cursor_prev(cursor);
	return up ? asp_cursor_seek(cursor, iter->view.root, iter->at)
		  : asp_cursor_seek_below(cursor, iter->view.root, iter->at);
}

/* To the next area that is not leaving; at an end the iterator keeps its place. */
static bool step_to_public(struct aspace_iter *iter, struct aspace_area *area, bool up)
{
	struct asp_cursor cursor = {iter->view.root, iter->leaf, iter->slot};

	do {
		if (!step(&cursor, iter, up))
			return false;
	} while (asp_cursor_slot(&cursor)->flags & ASP_FLAG_LEAVING);
	iter->leaf = cursor.leaf;
	iter->slot = cursor.slot;
	if (area)
		*area = asp_public_area(asp_cursor_area(&cursor));
	return true;
}

bool aspace_iter_next(struct aspace_iter *iter, struct aspace_area *area)
{
	return step_to_public(iter, area, true);
}

bool aspace_iter_prev(struct aspace_iter *iter, struct aspace_area *area)
{
	return step_to_public(iter, area, false);
}
