/* SPDX-License-Identifier: MIT */
/*
 * References: an area owns one to its user object. Cutting an area in two takes a
 * cloned one for the second piece; an area that goes gives its own up; one whose head is cut
 * off keeps it, at another start. All of it is noted in plan->references, and only counts when
 * the plan is published.
 */
#include "update/pins.h"
#include "update/references.h"

static bool counts_references(const struct aspace_backend *backend, const void *user)
{
	return user && asp_op(backend, clone);
}

enum aspace_status asp_clone_ahead(struct asp_plan *plan, struct aspace_backend *backend,
				   void *user)
{
	struct aspace_record *record;
	enum aspace_status status;
	void *copy;

	if (!counts_references(backend, user))
		return ASPACE_OK;
	/* Not for a plan that is made again. */
	if (!asp_pins_clear(plan))
		return ASPACE_BUSY;
	status = backend->ops->clone(backend, user, &copy);
	if (status != ASPACE_OK)
		return status;
	record = asp_pool_get(&plan->space->records, sizeof(*record));
	record->backend = backend;
	record->user = copy;
	record->address = (uintptr_t)user;
	asp_list_push(&plan->clones_spare, record);
	return ASPACE_OK;
}

void *asp_take_clone(struct asp_plan *plan, struct aspace_backend *backend, void *user)
{
	struct aspace_record *record, *before = NULL;
	void *copy;

	if (!counts_references(backend, user))
		return user;
	for (record = plan->clones_spare.head; record; before = record, record = record->next) {
		if (record->backend != backend || record->address != (uintptr_t)user)
			continue;
		if (before)
			before->next = record->next;
		else
			plan->clones_spare.head = record->next;
		if (plan->clones_spare.tail == record)
			plan->clones_spare.tail = before;
		plan->clones_spare.count--;
		asp_list_push(&plan->clones_used, record);
		return record->user;
	}
	return backend->ops->clone(backend, user, &copy) == ASPACE_OK ? copy : NULL;
}

static bool will_be_released(const struct aspace_backend *backend, const void *user)
{
	return user && asp_op(backend, release);
}

/* Notes what becomes of an area's reference; the record has been reserved. */
static struct aspace_record *note_reference(struct asp_plan *plan, enum asp_reference_event event,
					    uint64_t start)
{
	struct aspace_record *record =
		asp_pool_get(&plan->space->records, sizeof(struct aspace_record));

	record->event = event;
	record->address = start;
	asp_list_push(&plan->references, record);
	return record;
}

void asp_note_birth(struct asp_plan *plan, const struct aspace_area *area)
{
	if (!will_be_released(area->backend, area->user))
		return;
	note_reference(plan, ASP_REFERENCE_BORN, area->start.value);
	plan->born++;
}

void asp_note_move(struct asp_plan *plan, const struct aspace_area *area, uint64_t start)
{
	if (will_be_released(area->backend, area->user))
		note_reference(plan, ASP_REFERENCE_MOVED, area->start.value)->to = start;
}

void asp_give_up_reference(struct asp_plan *plan, const struct aspace_area *area)
{
	struct aspace_record *record;

	if (!will_be_released(area->backend, area->user))
		return;
	record = note_reference(plan, ASP_REFERENCE_GONE, area->start.value);
	record->backend = area->backend;
	record->user = area->user;
	record->retired = plan->edit.version;
}
