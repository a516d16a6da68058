/* SPDX-License-Identifier: MIT */
/*
 * Advice. It changes no area, publishes no version and takes no writer lock: pins.c.
 *
 * One piece after the other, upward, is pinned, and its backend called; a backend that has done a
 * part of one is called again for the rest, so that whoever wants to be there comes in between.
 *
 * Invariants:
 *  1. What can be refused for its arguments, for a hole or for want of an operation is refused before
 *     a backend is called; but others may change the areas from then on, and each piece is looked at
 *     again when its turn comes.
 *  2. Who waits for readers holds no pin yet: whoever is waited for in pins.c waits for none.
 *  3. In a grace-unmap space a backend is asked to lose contents only when all sections have ended
 *     that had begun before the call. Readers that come later are beside the advice, as any
 *     that read while it is given.
 */
#include "update/pieces.h"
#include "update/found.h"
#include "update/pins.h"

static bool is_known(enum aspace_advice advice)
{
	return advice >= ASPACE_ADVICE_POPULATE_READ && advice <= ASPACE_ADVICE_NORMAL;
}

static bool loses_contents(enum aspace_advice advice)
{
	return advice == ASPACE_ADVICE_FREE || advice == ASPACE_ADVICE_DROP;
}

/* Could all of it be advised, as the newest version is? *some: there is an area. */
static enum aspace_status look_ahead(struct aspace *space, struct aspace_range range, bool strict,
				     bool *some)
{
	enum aspace_status status = ASPACE_OK;
	uint64_t from = range.start.value, end = range.end.value;
	const struct asp_node *root;
	struct aspace_area area;

	*some = false;
	asp_read_lock(space->grace);
	for (root = asp_root(space); from < end && status == ASPACE_OK; from = area.end.value) {
		status = asp_pins_find_piece(root, from, end, &area);
		if (status == ASPACE_NOT_MAPPED)
			break;
		/* The first thing that is wrong counts. */
		if (strict && area.start.value > from)
			status = ASPACE_NOT_MAPPED;
		*some = true;
	}
	asp_read_unlock(space->grace);
	return status == ASPACE_NOT_MAPPED && !strict ? ASPACE_OK : status;
}

/* Until the readers of now have gone. */
static enum aspace_status let_readers_go(struct aspace *space, unsigned how)
{
	if (asp_is_owner(space) || asp_pins_mine(space))
		return ASPACE_DEADLOCK;
	if ((how & ASPACE_NOWAIT) || asp_is_waited_for(space))
		return ASPACE_BUSY;
	return asp_wait_for_readers(space, asp_grace_stamp(space->grace)) ? ASPACE_OK : ASPACE_BUSY;
}

/* Calls the backend of a piece that is pinned; *from gets where that has come to. */
static enum aspace_status call_backend(struct aspace *space, struct asp_pin *pin,
				       enum aspace_advice advice, uint64_t *from)
{
	uint64_t end = pin->area.end.value < pin->end ? pin->area.end.value : pin->end;
	struct aspace_range piece = aspace_range_of(pin->address, end);
	struct aspace_backend *backend = pin->area.backend;
	struct aspace_vaddr reached = piece.end;
	bool beneath = asp_pins_shut_txn(space);
	enum aspace_status status;

	status = backend->ops->advise(backend, &pin->area, piece, advice, &reached);
	asp_pins_reopen_txn(space, beneath);
	/* Who says nothing, or nonsense, has done all of it, or where it refused, nothing. */
	if (reached.value <= piece.start.value || reached.value >= end)
		reached = status == ASPACE_OK ? piece.end : piece.start;
	*from = reached.value;
	return status;
}

/* The next piece of [*from, end), or a part of it. */
static enum aspace_status advise_next(struct aspace *space, enum aspace_advice advice, unsigned how,
				      uint64_t *from, uint64_t end)
{
	struct asp_pin pin = {.kind = ASP_ADVICE, .address = *from, .end = end};
	bool strict = asp_is_strict(space, how), under_lock;
	enum aspace_status status = asp_pins_pin(space, &pin, how, &under_lock);

	if (status == ASPACE_NOT_MAPPED && !strict) {
		*from = end;
		return ASPACE_OK;
	}
	if (status != ASPACE_OK)
		return status;
	if (strict && pin.address > *from)
		status = ASPACE_NOT_MAPPED;
	else
		status = call_backend(space, &pin, advice, from);
	asp_pins_unpin(space, &pin, status);
	return status;
}

enum aspace_status aspace_advise_part(struct aspace *space, struct aspace_range range,
				      enum aspace_advice advice, unsigned how,
				      struct aspace_vaddr *reached)
{
	uint64_t from = range.start.value, end = range.end.value;
	enum aspace_status status;
	bool some;

	if (reached)
		*reached = range.start;
	if (how & ~ASP_HOW_PUBLIC || !is_known(advice) ||
	    !asp_range_usable(space, range, space->granule))
		return ASPACE_INVALID_PARAM;
	status = look_ahead(space, range, asp_is_strict(space, how), &some);
	if (some && loses_contents(advice) && (space->mode & ASPACE_GRACE_UNMAP) &&
	    status == ASPACE_OK)
		status = let_readers_go(space, how);
	while (status == ASPACE_OK && from < end)
		status = advise_next(space, advice, how, &from, end);
	if (reached)
		reached->value = from;
	return status;
}

enum aspace_status aspace_advise(struct aspace *space, struct aspace_range range,
				 enum aspace_advice advice, unsigned how)
{
	return aspace_advise_part(space, range, advice, how, NULL);
}
