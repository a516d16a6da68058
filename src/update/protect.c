/* SPDX-License-Identifier: MIT */
/*
 * Planning: protect.
 */
#include "update/pieces.h"
#include "update/plan.h"
#include "update/references.h"
#include "update/reserve.h"

bool asp_same_flags(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)area;
	*flags = *(const uint64_t *)ctx;
	return true;
}

/* Asks the callback about every piece, and notes those that change as actions.
 * `clones`: references that will be needed. */
static enum aspace_status decide_pieces(struct aspace_txn *txn, struct aspace_range range,
					aspace_protect_fn *decide, void *ctx, size_t *count)
{
	struct asp_pieces pieces;

	asp_begin_pieces(&pieces, range);
	while (asp_next_piece(txn, &pieces)) {
		struct aspace_area seen = asp_public_area(pieces.area);
		uint64_t flags = seen.flags;
		struct asp_action *action;

		seen.start.value = pieces.from;
		seen.end.value = pieces.to;
		if (!decide(ctx, &seen, &flags) || flags == seen.flags)
			continue;
		if (flags & ~seen.backend->flags_mask || !asp_piece_on_granule(&pieces))
			return ASPACE_INVALID_PARAM;
		if (txn->action_count && !asp_pool_reserve(&txn->space->actions, 1))
			return ASPACE_NO_MEMORY;
		action = asp_plan_action(txn, ASP_PHASE_PROTECT, seen.backend,
					 ASPACE_CHANGE_PROTECT, pieces.from, pieces.to);
		action->change.old_flags = seen.flags;
		action->change.new_flags = flags;
		action->change.user = seen.user;
		(*count)++;
	}
	return ASPACE_OK;
}

/* References for the pieces that the noted changes make. */
static enum aspace_status clone_for_pieces(struct aspace_txn *txn)
{
	for (struct asp_action *action = txn->actions[ASP_PHASE_PROTECT].head; action;
	     action = action->next) {
		struct asp_pieces pieces;

		asp_begin_pieces(&pieces, action->change.range);
		if (!asp_next_piece(txn, &pieces))
			break; /* never: each was one piece when it was noted */
		for (unsigned i = asp_extra_pieces(&pieces); i > 0; i--) {
			enum aspace_status status =
				asp_clone_ahead(txn, pieces.area.backend, pieces.area.user);

			if (status != ASPACE_OK)
				return status;
		}
	}
	return ASPACE_OK;
}

enum aspace_status asp_plan_protect(struct aspace_txn *txn, struct aspace_range range,
				    aspace_protect_fn *decide, void *ctx, unsigned how)
{
	struct aspace *space = txn->space;
	struct asp_action *action;
	enum aspace_status status;
	size_t count = 0;

	if (!decide)
		return ASPACE_INVALID_PARAM;
	if (range.start.value == range.end.value)
		return ASPACE_OK;
	if (!asp_range_usable(space, range, space->granule))
		return ASPACE_INVALID_PARAM;
	if (asp_is_strict(space, how) && asp_has_holes(txn, range))
		return ASPACE_NOT_MAPPED;

	status = decide_pieces(txn, range, decide, ctx, &count);
	if (status == ASPACE_OK && count) {
		status = asp_reserve_scattered(txn, count) &&
					 (!txn->open || asp_pool_reserve(&space->actions, 1))
				 ? clone_for_pieces(txn)
				 : ASPACE_NO_MEMORY;
		if (status == ASPACE_OK) {
			for (action = txn->actions[ASP_PHASE_PROTECT].head; action;
			     action = action->next) {
				asp_plan_set_flags(txn, action->change.range.start.value,
						   action->change.range.end.value,
						   action->change.new_flags);
			}
			asp_plan_merge(txn, range.start.value, range.end.value);
			if (txn->open)
				asp_plan_touch(txn, NULL, ASPACE_CHANGE_PROTECT, range);
		}
	}
	/* An open transaction works its actions out anew at commit. */
	if (txn->open)
		asp_plan_put_actions(txn);
	return status;
}
