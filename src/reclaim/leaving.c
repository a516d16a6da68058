/* SPDX-License-Identifier: MIT */
/*
 * Leaving and pending areas whose grace period is over: their backends are asked.
 *
 * Invariants:
 *  1. An area is claimed (pins.c) while its backend is asked and until the version that shows the
 *     outcome. If somebody is at work in it, its record waits for that pin, and nobody else does.
 *  2. Nothing is asked before there is memory for either outcome: gone, or back.
 *  3. The references of areas that have gone are put before all others.
 */
#include "reclaim/deferred.h"
#include "update/reserve.h"
#include "update/pins.h"
#include "update/plan.h"
#include "update/births.h"
#include "update/pending.h"

/* Asks the backend for one change, as a batch of its own. */
static enum aspace_status ask(struct aspace_backend *backend, const struct aspace_change *change)
{
	const struct aspace_backend_ops *ops = backend->ops;
	enum aspace_status status = ASPACE_OK;

	if (asp_op(backend, prepare))
		status = ops->prepare(backend, change);
	if (status == ASPACE_OK)
		status = change->kind == ASPACE_CHANGE_UNMAP ? ops->unmap(backend, change)
							     : ops->protect(backend, change);
	if (asp_op(backend, flush))
		ops->flush(backend);
	return status;
}

/* Asks the backend of one leaving area to unmap it, and plans the outcome: the area, gone or back. */
static enum aspace_status unmap_leaving(struct aspace *space, struct aspace_record *record,
					struct aspace_area *outcome)
{
	struct asp_plan *plan = &space->plan;
	enum aspace_status status;
	struct asp_cursor cursor;
	struct aspace_area area;
	struct aspace_change change;

	asp_edit_seek(&plan->edit, &cursor, record->address);
	area = asp_public_area(asp_cursor_area(&cursor));
	*outcome = area;
	change = (struct aspace_change){
		.kind = ASPACE_CHANGE_UNMAP,
		.range = {area.start, area.end},
		.old_flags = area.flags,
		.user = area.user,
	};
	/* Nobody else looks at it. */
	if (asp_op(area.backend, prepare))
		change.borders =
			asp_count_borders(&plan->edit, change.range, change.range.end.value);
	status = ask(area.backend, &change);
	if (status == ASPACE_OK) {
		asp_edit_remove_area(&plan->edit, area.start.value);
		record->backend = area.backend;
		record->user = area.user;
		record->birth = asp_births_take(space, area.start.value);
		return ASPACE_OK;
	}
	asp_edit_update(&plan->edit, area.start.value, area.end.value, area.flags, area.user);
	asp_plan_merge(plan, area.start.value, area.end.value);
	record->user = NULL;
	space->refused = space->unmap_refused = true;
	return status;
}

/* Asks the backend of one pending area for what the area shows; if it is refused, the area shows
 * what the backend holds. */
static enum aspace_status protect_pending(struct aspace *space, struct aspace_record *record,
					  struct aspace_area *outcome)
{
	struct asp_plan *plan = &space->plan;
	enum aspace_status status;
	struct aspace_change change;
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(&plan->edit, &cursor, record->note.start);
	area = asp_cursor_area(&cursor);
	change = (struct aspace_change){
		.kind = ASPACE_CHANGE_PROTECT,
		.range = {area.start, area.end},
		.old_flags = record->held_flags,
		.new_flags = area.flags,
		.user = area.user,
	};
	status = ask(area.backend, &change);
	asp_pending_end(space, record);
	if (status != ASPACE_OK) {
		area.flags = record->held_flags;
		asp_edit_update(&plan->edit, area.start.value, area.end.value, area.flags,
				area.user);
		space->refused = true;
	}
	*outcome = area;
	asp_plan_merge(plan, area.start.value, area.end.value);
	return status;
}

/* Of a leaving or pending area. Its record goes, or is one of a reference that has `gone`. */
static enum aspace_status change_late(struct aspace *space, struct aspace_record *record,
				      struct aspace_record_list *gone, struct aspace_area *outcome)
{
	bool pending = record->pending, drops = !pending || record->drops;
	enum aspace_status status = pending ? protect_pending(space, record, outcome)
					    : unmap_leaving(space, record, outcome);

	if (drops)
		space->leaving_bytes -= outcome->end.value - outcome->start.value;
	if (!pending && record->user && asp_op(record->backend, release))
		asp_list_push(gone, record);
	else
		asp_pool_put(&space->records, record, sizeof(*record));
	return status;
}

/* Nothing of what is due could be done for want of memory: when some has come back. */
static void wait_for_memory(struct aspace *space)
{
	asp_reclaim_hurry(space);
	space->lacking = asp_grace_stamp(space->grace);
	asp_grace_request(space->grace, &space->client, space->lacking);
}

/* Holds off who would be at work in the leaving or pending area. If somebody is, the record waits
 * for that pin, and nobody else does. */
static bool claim_leaving(struct aspace *space, struct aspace_record *record, struct asp_pin *claim)
{
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(&space->plan.edit, &cursor, asp_late_start(record));
	area = asp_cursor_area(&cursor);
	return asp_pins_claim(space, claim, (struct aspace_range){area.start, area.end}, record);
}

uint32_t asp_reclaim_late_areas(struct aspace *space)
{
	struct asp_plan *plan = &space->plan;
	struct aspace_record_list gone = {0};
	struct {
		struct aspace_area area;
		enum aspace_status status;
	} refused[ASP_SHARE];
	struct asp_edit_need need = {.records = 2};
	struct asp_pin claim[ASP_SHARE];
	uint32_t tried = 0, count = 0, refusals = 0, references;
	uint64_t late = asp_late_of(&space->late_areas);

	/* What is held back is enough for one area; it comes back with the next grace period. */
	asp_plan_begin(space);
	plan->passes_by = true; /* what waits gains by it */
	need.nodes = asp_nodes_for_place(asp_tree_height(plan->base));
	for (; tried < ASP_SHARE && asp_is_due(space, &space->leaving) &&
	       asp_reserve_or_spend(plan, &need);
	     tried++) {
		struct aspace_record *record = asp_list_pop(&space->leaving);

		if (!claim_leaving(space, record, &claim[count]))
			continue;
		if (!record->pending)
			asp_note_late(&space->latest.leaving, late);
		if (!record->pending || record->drops)
			asp_note_late(&space->latest.memory, late);
		refused[refusals].status =
			change_late(space, record, &gone, &refused[refusals].area);
		refusals += refused[refusals].status != ASPACE_OK;
		count++;
	}
	plan->passes_by = false;
	space->lacking = 0;
	if (plan->edit.root != plan->base) /* a pending area may show all already */
		asp_publish(plan);
	else
		asp_plan_drop(plan);
	if (!tried)
		wait_for_memory(space);
	for (uint32_t i = 0; i < count; i++)
		asp_pins_drop(space, &claim[i]);
	/* They waited as long as their areas, and pass what has not found room: so that no stamp on the list is
	 * lower than one before it, theirs is the lowest. It has elapsed, too. */
	if (gone.head && space->deferred.head && space->deferred.head->stamp < gone.head->stamp)
		asp_list_stamp(&gone, space->deferred.head->stamp);
	references = (uint32_t)gone.count;
	asp_list_splice(&gone, &space->deferred);
	space->deferred = gone;
	asp_note_waiting(space);
	for (uint32_t i = 0; i < refusals && space->options.refused; i++)
		space->options.refused(space->options.ctx, space, &refused[i].area,
				       refused[i].status);
	return references;
}

uint64_t asp_reclaim_leaving_stamp(struct aspace *space)
{
	if (!space->leaving.head)
		return 1;
	return space->lacking ? space->lacking : space->leaving.head->stamp;
}
