/* SPDX-License-Identifier: MIT */
/*
 * Questions about a range: is all of it mapped, and how; how much of it is.
 *
 * Leaving areas are not there, as in a lookup. Each answer is of one version: the newest, which
 * has a read section for as long as the walk takes, a view's, or a transaction's own.
 */
#include "read/questions.h"
#include "space/space.h"

static bool matches(const struct asp_slot *slot, const struct aspace_match *match)
{
	return !match || (!((slot->flags ^ match->flags) & match->mask & ~ASPACE_FLAGS_RESERVED) &&
			  (!match->backend || slot->backend == match->backend));
}

enum aspace_status asp_check_range(const struct asp_node *root, struct aspace_range range,
				   const struct aspace_match *match, struct aspace_vaddr *reached)
{
	enum aspace_status status = ASPACE_OK;
	uint64_t at = range.start.value, end = range.end.value;
	struct asp_cursor cursor;
	bool more;

	if (at > end)
		return ASPACE_INVALID_PARAM;
	for (more = at < end && asp_cursor_seek(&cursor, root, at); at < end;
	     more = asp_cursor_next(&cursor)) {
		const struct asp_slot *slot = more ? asp_cursor_slot(&cursor) : NULL;

		if (!slot || asp_cursor_start(&cursor) > at || slot->flags & ASP_FLAG_LEAVING)
			status = ASPACE_NOT_MAPPED;
		else if (!matches(slot, match))
			status = ASPACE_ACCESS_DENIED;
		if (status != ASPACE_OK)
			break;
		at = slot->end;
	}
	if (reached)
		reached->value = at < end ? at : end;
	return status;
}

uint64_t asp_bytes_in(const struct asp_node *root, struct aspace_range range,
		      const struct aspace_match *match)
{
	uint64_t lo = range.start.value, hi = range.end.value, bytes = 0;
	struct asp_cursor cursor;
	bool more = lo < hi && asp_cursor_seek(&cursor, root, lo);

	for (; more && asp_cursor_start(&cursor) < hi; more = asp_cursor_next(&cursor)) {
		const struct asp_slot *slot = asp_cursor_slot(&cursor);
		uint64_t start = asp_cursor_start(&cursor);

		if (!(slot->flags & ASP_FLAG_LEAVING) && matches(slot, match))
			bytes += (slot->end < hi ? slot->end : hi) - (start > lo ? start : lo);
	}
	return bytes;
}

enum aspace_status aspace_check_range(struct aspace *space, struct aspace_range range,
				      const struct aspace_match *match,
				      struct aspace_vaddr *reached)
{
	enum aspace_status status;

	asp_read_lock(space->grace);
	status = asp_check_range(asp_root(space), range, match, reached);
	asp_read_unlock(space->grace);
	return status;
}

enum aspace_status aspace_view_check_range(const struct aspace_view *view,
					   struct aspace_range range,
					   const struct aspace_match *match,
					   struct aspace_vaddr *reached)
{
	return asp_check_range(view->root, range, match, reached);
}

uint64_t aspace_bytes(struct aspace *space)
{
	return atomic_load_explicit(&space->bytes, memory_order_relaxed);
}

uint64_t aspace_bytes_in(struct aspace *space, struct aspace_range range,
			 const struct aspace_match *match)
{
	uint64_t bytes;

	asp_read_lock(space->grace);
	bytes = asp_bytes_in(asp_root(space), range, match);
	asp_read_unlock(space->grace);
	return bytes;
}

uint64_t aspace_view_bytes_in(const struct aspace_view *view, struct aspace_range range,
			      const struct aspace_match *match)
{
	return asp_bytes_in(view->root, range, match);
}
