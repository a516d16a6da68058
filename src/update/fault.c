/* SPDX-License-Identifier: MIT */
/*
 * What changes no area: faults. They publish no version and take no writer lock: pins.c.
 */
#include "update/pins.h"

/* Of a backend whose `fault` must not be called beside anything: as an update would, but that
 * there is no plan. */
static enum aspace_status fault_under_lock(struct aspace *space, struct aspace_vaddr address,
					   unsigned access, unsigned how)
{
	enum aspace_status status = asp_writer_enter_now(space, how);
	struct asp_cursor cursor;
	struct aspace_area area;

	if (status != ASPACE_OK)
		return status;
	/* The lock keeps the newest version in place: no section is needed. */
	if (!asp_cursor_seek(&cursor, asp_root(space), address.value) ||
	    asp_cursor_start(&cursor) > address.value) {
		status = ASPACE_NOT_MAPPED;
	} else {
		area = asp_public_area(asp_cursor_area(&cursor));
		status = asp_op(area.backend, fault)
				 ? area.backend->ops->fault(area.backend, &area, address, access)
				 : ASPACE_NOT_SUPPORTED;
	}
	asp_writer_leave(space);
	return status;
}

enum aspace_status aspace_fault(struct aspace *space, struct aspace_vaddr address, unsigned access,
				unsigned how)
{
	struct asp_pin pin = {.kind = ASP_FAULT, .address = address.value, .access = access};
	enum aspace_status status;
	bool under_lock, beneath;

	if (how & ~ASP_HOW_PUBLIC || !access ||
	    access & ~(unsigned)(ASPACE_ACCESS_READ | ASPACE_ACCESS_WRITE | ASPACE_ACCESS_EXECUTE))
		return ASPACE_INVALID_PARAM;
	status = asp_pins_pin(space, &pin, how, &under_lock);
	if (status != ASPACE_OK || pin.served)
		return status;
	if (under_lock)
		return fault_under_lock(space, address, access, how);
	/* A transaction of this thread is not to be touched beneath the callback. */
	beneath = asp_is_owner(space) && space->txn.open && !space->txn.busy;
	if (beneath)
		space->txn.busy = true;
	status = pin.area.backend->ops->fault(pin.area.backend, &pin.area, address, access);
	if (beneath)
		space->txn.busy = false;
	asp_pins_unpin(space, &pin, status);
	return status;
}
