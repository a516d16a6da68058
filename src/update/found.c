/* SPDX-License-Identifier: MIT */
/*
 * What a fault or an advice finds in a version: the area, as its backend has it, and what of it is to
 * be pinned. Nothing is kept here, and nothing waits.
 *
 * Invariants, of what has been found:
 *  1. It has the flags that the backend holds, which are not those of the version where the area is
 *     pending.
 *  2. [work_lo, work_hi) lies in [lo, hi), that in the area, and the address in both. [lo, hi) is all
 *     of the area where references are counted, whatever part of it a writer would cut; else they
 *     are the same.
 */
#include "update/found.h"
#include "update/pending.h"

bool asp_pins_find(const struct asp_node *root, uint64_t address, struct aspace_area *area)
{
	struct asp_cursor cursor;

	if (!asp_cursor_seek(&cursor, root, address) || asp_cursor_start(&cursor) > address)
		return false;
	*area = asp_public_area(asp_cursor_area(&cursor));
	return true;
}

static uint64_t higher(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t lower(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

enum aspace_status asp_pins_find_piece(const struct asp_node *root, uint64_t from, uint64_t end,
				       struct aspace_area *area)
{
	struct asp_cursor cursor;
	bool found = asp_cursor_seek(&cursor, root, from);
	uint64_t granule, ends;

	while (found && asp_cursor_slot(&cursor)->flags & ASP_FLAG_LEAVING)
		found = asp_cursor_next(&cursor);
	if (!found || asp_cursor_start(&cursor) >= end)
		return ASPACE_NOT_MAPPED;
	*area = asp_public_area(asp_cursor_area(&cursor));
	granule = area->backend->granule;
	ends = higher(from, area->start.value) | lower(end, area->end.value);
	if (granule && (ends & (granule - 1)))
		return ASPACE_INVALID_PARAM;
	return asp_op(area->backend, advise) ? ASPACE_OK : ASPACE_NOT_SUPPORTED;
}

/* Is there still what was found? Under the lock of the list: see Q3 of pending.c. */
bool asp_found_is_there(struct aspace *space, uint64_t address, const struct asp_found *found)
{
	const struct asp_node *root = asp_root(space);
	const struct aspace_area *area = &found->area;
	struct aspace_area now = *area;

	now.flags = found->shown;
	if (root != found->root &&
	    (!asp_pins_find(root, address, &now) || now.start.value != area->start.value ||
	     now.end.value != area->end.value || now.backend != area->backend ||
	     now.user != area->user))
		return false;
	return asp_held_flags(space, now.start.value, now.flags) == area->flags;
}

static bool counts_references(const struct aspace_backend *backend)
{
	return asp_op(backend, clone) || asp_op(backend, release);
}

/* Pins what is worked on, and where references are counted the whole area. */
static void pin_work(struct asp_found *found, uint64_t lo, uint64_t hi)
{
	bool whole = counts_references(found->area.backend);

	found->work_lo = lo;
	found->work_hi = hi;
	found->lo = whole ? found->area.start.value : lo;
	found->hi = whole ? found->area.end.value : hi;
}

/* What a fault at the address is at work in; false: under the writer lock. */
static bool span_of(uint64_t address, struct asp_found *found)
{
	struct aspace_backend *backend = found->area.backend;
	const struct aspace_backend_ops *ops = backend->ops;
	uint64_t lo = found->area.start.value, hi = found->area.end.value;

	/* Of tables that are shorter nothing is known: they were written for an older library,
	 * which called them under the lock. */
	if (ops->size < offsetof(struct aspace_backend_ops, fault_span) + sizeof(ops->fault_span))
		return false;
	found->span = 0;
	if (ops->fault_span) {
		found->span = ops->fault_span(backend, &found->area);
		if (!found->span)
			return false;
		if (found->span & (found->span - 1))
			found->span = 0;
	}
	if (found->span) {
		address &= ~(found->span - 1);
		lo = higher(lo, address);
		if (hi - address > found->span)
			hi = address + found->span;
	}
	pin_work(found, lo, hi);
	return true;
}

/* The area is as its backend has it. */
static void see_held(struct aspace *space, struct asp_found *found)
{
	struct aspace_area *area = &found->area;

	found->shown = area->flags;
	if (!asp_pending_any(space))
		return;
	asp_mutex_acquire(&space->pins.lock);
	area->flags = asp_held_flags(space, area->start.value, area->flags);
	asp_mutex_release(&space->pins.lock);
}

/* What an advice is at work in: its piece. */
static enum aspace_status look_for_piece(struct asp_pin *pin, struct asp_found *found)
{
	enum aspace_status status =
		asp_pins_find_piece(found->root, pin->address, pin->end, &found->area);

	if (status != ASPACE_OK)
		return status;
	found->span = 0;
	pin->address = higher(pin->address, found->area.start.value);
	pin_work(found, pin->address, lower(found->area.end.value, pin->end));
	return ASPACE_OK;
}

enum aspace_status asp_found_look(struct aspace *space, struct asp_pin *pin,
				  struct asp_found *found, bool *under_lock)
{
	enum aspace_status status;

	if (pin->kind == ASP_ADVICE) {
		status = look_for_piece(pin, found);
		if (status == ASPACE_OK)
			see_held(space, found);
		return status;
	}
	if (!asp_pins_find(found->root, pin->address, &found->area))
		return ASPACE_NOT_MAPPED;
	see_held(space, found);
	if (!asp_op(found->area.backend, fault))
		return ASPACE_NOT_SUPPORTED;
	*under_lock = !span_of(pin->address, found);
	return ASPACE_OK;
}
