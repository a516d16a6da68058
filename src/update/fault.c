/* SPDX-License-Identifier: MIT */
/*
 * Faults. They change no area, publish no version and take no writer lock: pins.c.
 */
#include "update/pending.h"
#include "update/found.h"
#include "update/pins.h"

/* Of a backend whose `fault` must not be called beside anything: as an update would, but that
 * there is no plan. `changed`: meanwhile there is an area of another one, which is not to be called
 * like that. */
static enum aspace_status fault_under_lock(struct aspace *space,
					   const struct aspace_backend *backend,
					   struct aspace_vaddr address, unsigned access,
					   unsigned how, bool *changed)
{
	enum aspace_status status = asp_writer_enter_now(space, how);
	struct aspace_area area;

	*changed = false;
	if (status != ASPACE_OK)
		return status;
	/* The lock keeps the newest version in place: no section is needed. */
	if (!asp_pins_find(asp_root(space), address.value, &area)) {
		status = ASPACE_NOT_MAPPED;
	} else {
		*changed = area.backend != backend;
		area.flags = asp_held_flags(space, area.start.value, area.flags);
		if (!*changed) /* it has the operation, else we were not here */
			status = area.backend->ops->fault(area.backend, &area, address, access);
	}
	asp_writer_leave(space);
	return status;
}

enum aspace_status aspace_fault(struct aspace *space, struct aspace_vaddr address, unsigned access,
				unsigned how)
{
	bool under_lock, beneath, changed;
	enum aspace_status status;
	struct asp_pin pin;

	if (how & ~ASP_HOW_PUBLIC || !access ||
	    access & ~(unsigned)(ASPACE_ACCESS_READ | ASPACE_ACCESS_WRITE | ASPACE_ACCESS_EXECUTE))
		return ASPACE_INVALID_PARAM;
	for (;;) {
		pin = (struct asp_pin){
			.kind = ASP_FAULT, .address = address.value, .access = access};
		status = asp_pins_pin(space, &pin, how, &under_lock);
		if (status != ASPACE_OK || pin.served)
			return status;
		if (!under_lock)
			break;
		status = fault_under_lock(space, pin.area.backend, address, access, how, &changed);
		if (!changed)
			return status;
	}
	beneath = asp_pins_shut_txn(space);
	status = pin.area.backend->ops->fault(pin.area.backend, &pin.area, address, access);
	asp_pins_reopen_txn(space, beneath);
	asp_pins_unpin(space, &pin, status);
	return status;
}
