/* SPDX-License-Identifier: MIT */
/*
 * Planning: map.
 */
#include "options.h"
#include "read/lookup.h"
#include "update/pieces.h"
#include "update/plan.h"
#include "update/references.h"
#include "update/reserve.h"

static uint64_t granule_of(const struct aspace *space, const struct aspace_backend *backend)
{
	return backend->granule > space->granule ? backend->granule : space->granule;
}

static bool backend_usable(const struct aspace_backend *backend)
{
	const struct aspace_backend_ops *ops;

	if (!backend || !backend->ops || backend->flags_mask & ASPACE_FLAGS_RESERVED ||
	    backend->granule & (backend->granule - 1))
		return false;
	ops = backend->ops;
	return ops->size >= offsetof(struct aspace_backend_ops, prepare) &&
	       ops->size <= ASP_STRUCT_BYTES_MAX &&
	       !(ops->size & (_Alignof(struct aspace_backend_ops) - 1)) && ops->map && ops->unmap &&
	       ops->protect;
}

static void plan_map_actions(struct asp_plan *plan, const struct aspace_area *area,
			     const struct asp_obstacles *obstacles)
{
	uint64_t lo = area->start.value, hi = area->end.value;
	enum asp_phase phase = ASP_PHASE_MAP;
	enum aspace_change_kind kind = ASPACE_CHANGE_MAP;
	struct asp_action *action;

	if (obstacles->count && !obstacles->foreign && asp_op(area->backend, replace)) {
		phase = ASP_PHASE_REPLACE;
		kind = ASPACE_CHANGE_REPLACE;
	} else if (obstacles->count) {
		asp_plan_sweep(plan, lo, hi);
		phase = ASP_PHASE_REMAP;
	}
	action = asp_plan_action(plan, phase, area->backend, kind, lo, hi);
	action->change.new_flags = area->flags;
	action->change.user = area->user;
}

enum aspace_status asp_plan_map(struct asp_plan *plan, struct aspace_range range, uint64_t flags,
				struct aspace_backend *backend, void *user, unsigned how)
{
	struct aspace *space = plan->space;
	struct aspace_area area = {range.start, range.end, flags, backend, user};
	uint64_t lo = range.start.value, hi = range.end.value;
	struct asp_obstacles obstacles;
	enum aspace_status status;
	bool counted;

	if (!backend_usable(backend) || flags & ~backend->flags_mask ||
	    !asp_range_usable(space, range, granule_of(space, backend)))
		return ASPACE_INVALID_PARAM;
	if ((how & ASPACE_REPLACE) && (space->mode & ASPACE_GRACE_UNMAP))
		return ASPACE_NOT_SUPPORTED;
	asp_look_for_obstacles(plan, lo, hi, backend, &obstacles);
	if (obstacles.count && !(how & ASPACE_REPLACE))
		return ASPACE_ALREADY_EXISTS;
	if (obstacles.leaving) {
		plan->leaving_in_way = true;
		plan->at_bound = false;
		return ASPACE_BUSY;
	}
	if (obstacles.count) {
		struct asp_pieces pieces;

		asp_begin_pieces(&pieces, range);
		while (asp_next_piece(plan, &pieces)) {
			if (!asp_piece_on_granule(&pieces))
				return ASPACE_INVALID_PARAM;
		}
	}

	counted = space->counts;
	if (user && !counted && (asp_op(backend, clone) || asp_op(backend, release))) {
		space->counts = true;
		plan->held_for = 0;
	}
	if (!asp_reserve_place(plan, obstacles.count)) {
		space->counts = counted; /* nothing has been held back for references */
		return ASPACE_NO_MEMORY;
	}
	if (obstacles.cut && obstacles.cut_area.start.value < lo) {
		status = asp_clone_ahead(plan, obstacles.cut_area.backend, obstacles.cut_area.user);
		if (status != ASPACE_OK)
			return status;
	}

	if (!plan->open)
		plan_map_actions(plan, &area, &obstacles);
	if (obstacles.count)
		asp_plan_cut(plan, lo, hi);
	asp_edit_insert(&plan->edit, &area);
	asp_note_birth(plan, &area);
	if (obstacles.touches || obstacles.count)
		asp_plan_merge(plan, lo, hi);
	if (plan->open) {
		struct asp_touched *touched =
			asp_plan_touch(plan, backend, ASPACE_CHANGE_MAP, range);

		touched->action.change.new_flags = flags;
		touched->action.change.user = user;
		touched->touches = obstacles.touches;
		touched->alone = !obstacles.count;
	}
	return ASPACE_OK;
}

enum aspace_status asp_plan_map_anywhere(struct asp_plan *plan, const struct aspace_gap *gap,
					 uint64_t flags, struct aspace_backend *backend, void *user,
					 unsigned how, struct aspace_vaddr *start)
{
	uint64_t granule = plan->space->granule;
	struct aspace_range range;
	enum aspace_status status;

	if (!backend || !start || how & ASPACE_REPLACE)
		return ASPACE_INVALID_PARAM;
	if (granule < backend->granule)
		granule = backend->granule;
	status = plan->space->lookup_set->find_free_in(plan->space, asp_edit_root(&plan->edit), gap,
						       granule, &range.start);
	if (status != ASPACE_OK)
		return status;
	range.end.value = range.start.value + gap->size;
	status = asp_plan_map(plan, range, flags, backend, user, how);
	if (status == ASPACE_OK)
		*start = range.start;
	return status;
}
