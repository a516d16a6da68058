/* SPDX-License-Identifier: MIT */
/*
 * Transactions of several operations.
 *
 * Each operation edits the private tree as it would edit the newest version: what lies
 * there afterwards, merged areas and whose user object they keep included, is what the same
 * calls outside a transaction leave. And it notes the range that it touched. At commit, the
 * difference between the base and the private tree over the touched ranges says what to ask
 * of backends. What lies in the range of a map is *fresh*, if it lies there still:
 *
 *   fresh, nothing before           map
 *   fresh, something before         replace, or unmap and map
 *   both, not fresh, other flags    protect
 *   before, not after               unmap
 *
 * so a range that several operations changed costs one change, and one that was
 * mapped and unmapped again none. Where a range is one area, and no other operation came
 * near it, the difference is what the operation said, and nothing is compared.
 */
#include "read/lookup.h"
#include "read/questions.h"
#include "update/pending.h"
#include "update/pins.h"
#include "update/plan.h"
#include "update/reserve.h"

static struct aspace_range range_of(const struct asp_touched *touched)
{
	return touched->action.change.range;
}

static bool is_map(const struct asp_touched *touched)
{
	return touched->action.change.kind == ASPACE_CHANGE_MAP;
}

static bool is_sorted(const struct asp_touched *a, const struct asp_touched *b)
{
	return range_of(a).start.value <= range_of(b).start.value;
}

#define SORT_TYPE struct asp_touched
#include "memory/sort_body.h"

/* Touched ranges in ascending order of their starts. */
static void sort_touched(struct asp_plan *plan)
{
	struct asp_touched *touched = plan->touched;

	while (touched && touched->next && is_sorted(touched, touched->next))
		touched = touched->next;
	if (touched != plan->touched_last)
		plan->touched = sort(plan->touched);
}

/* Goes on from `stop`, the first of the ranges behind, while they overlap those before, which
 * end at `*end`. Ranges that only meet stay apart. Those that do not matter are passed over. */
static struct asp_touched *join(struct asp_touched *touched, const struct asp_touched *stop,
				bool only_maps, uint64_t *end)
{
	for (; touched != stop; touched = touched->next) {
		if (only_maps && !is_map(touched))
			continue;
		if (range_of(touched).start.value >= *end)
			break;
		if (range_of(touched).end.value > *end)
			*end = range_of(touched).end.value;
	}
	return touched;
}

/* What the maps among some touched ranges cover: a stretch of it. Asked for ascending
 * addresses. */
struct fresh {
	struct asp_touched *next, *stop; /* the ranges that have not been looked at */
	uint64_t from, to;
};

/* The stretch that ends above the address; at ASP_NO_KEY if there is none. */
static void fresh_at(struct fresh *fresh, uint64_t at)
{
	while (fresh->to <= at) {
		while (fresh->next != fresh->stop && !is_map(fresh->next))
			fresh->next = fresh->next->next;
		fresh->from = fresh->to = ASP_NO_KEY;
		if (fresh->next == fresh->stop)
			return;
		fresh->from = range_of(fresh->next).start.value;
		fresh->to = range_of(fresh->next).end.value;
		fresh->next = join(fresh->next->next, fresh->stop, true, &fresh->to);
	}
}

/* The first area that ends above an address, in one of the two trees. Answers for ascending
 * addresses come from the same place or the one behind it. */
struct look {
	const struct asp_node *root;
	struct asp_cursor cursor;
	uint64_t from, to; /* the answer is the same for these addresses */
	struct aspace_area area;
	bool found;
};

static void look_at(struct look *look, uint64_t at)
{
	struct asp_cursor *cursor = &look->cursor;

	if (look->from <= at && at < look->to)
		return;
	if (!look->found || at < look->to || !asp_cursor_next(cursor) ||
	    asp_cursor_slot(cursor)->end <= at)
		look->found = asp_cursor_seek(cursor, look->root, at);
	/* Leaving areas of the base are leaving in the private tree, too: not our business. */
	while (look->found && asp_cursor_slot(cursor)->flags & ASP_FLAG_LEAVING)
		look->found = asp_cursor_next(cursor);
	if (look->found)
		look->area = asp_cursor_area(cursor);
	look->from = at;
	look->to = look->found ? look->area.end.value : UINT64_MAX;
}

static bool covers(const struct look *look, uint64_t at)
{
	return look->found && look->area.start.value <= at && at < look->area.end.value;
}

static bool add_action(struct asp_plan *plan, enum asp_phase phase, enum aspace_change_kind kind,
		       const struct aspace_area *old, const struct aspace_area *new, uint64_t lo,
		       uint64_t hi)
{
	const struct aspace_area *area = old ? old : new;
	struct asp_action *action;

	if (!asp_pool_reserve(&plan->space->actions, 1))
		return false;
	action = asp_plan_action(plan, phase, area->backend, kind, lo, hi);
	action->change.old_flags = old ? old->flags & ~ASPACE_FLAGS_RESERVED : 0;
	action->change.new_flags = new ? new->flags & ~ASPACE_FLAGS_RESERVED : 0;
	action->change.user = area->user;
	return true;
}

/* Other flags than before, on what is one area of the base, and of the private tree if that is marked. */
static bool add_protect(struct asp_plan *plan, const struct aspace_area *old,
			const struct aspace_area *new, uint64_t lo, uint64_t hi)
{
	struct aspace_area held = *new;
	unsigned loses;

	if (!(new->flags &ASP_FLAG_PENDING))
		return add_action(plan, ASP_PHASE_PROTECT, ASPACE_CHANGE_PROTECT, old, new, lo, hi);
	if (!asp_reserve_note(plan))
		return false;
	loses = asp_loses(plan->space, old->backend, old->flags, asp_public_area(*new).flags,
			  &held.flags);
	asp_pending_note(plan, aspace_range_of(lo, hi), held.flags, loses);
	return held.flags == old->flags ||
	       add_action(plan, ASP_PHASE_PROTECT, ASPACE_CHANGE_PROTECT, old, &held, lo, hi);
}

static void count_cuts(struct aspace_change *unmap, const struct aspace_area *old)
{
	unmap->cuts = (unmap->range.start.value > old->start.value) +
		      (unmap->range.end.value < old->end.value);
}

/* Is this the rest of what the last unmap began with: the same area of the base? Then it
 * is the same change. (A border in between is one of the private tree's, and may be
 * off the granule of the backend that unmaps.) */
static bool extends_last_unmap(struct asp_plan *plan, const struct aspace_area *old, uint64_t from,
			       uint64_t to)
{
	struct asp_action *last = plan->actions[ASP_PHASE_UNMAP].tail;

	if (!last || last->change.range.end.value != from || old->start.value == from)
		return false;
	last->change.range.end.value = to;
	count_cuts(&last->change, old);
	return true;
}

/* Unmaps what the base holds in [lo, hi). */
static bool add_unmaps(struct asp_plan *plan, struct look *old, uint64_t lo, uint64_t hi)
{
	for (uint64_t at = lo; at < hi; at = old->area.end.value) {
		uint64_t from, to;

		look_at(old, at);
		if (!old->found || old->area.start.value >= hi)
			return true;
		from = old->area.start.value > lo ? old->area.start.value : lo;
		to = old->area.end.value < hi ? old->area.end.value : hi;
		if (extends_last_unmap(plan, &old->area, from, to))
			continue;
		if (!add_action(plan, ASP_PHASE_UNMAP, ASPACE_CHANGE_UNMAP, &old->area, NULL, from,
				to))
			return false;
		count_cuts(&plan->actions[ASP_PHASE_UNMAP].tail->change, &old->area);
	}
	return true;
}

/* [lo, hi), which is part of one area, has been mapped. */
static bool add_fresh(struct asp_plan *plan, struct look *old, const struct aspace_area *area,
		      uint64_t lo, uint64_t hi)
{
	bool any = false, foreign = false;

	for (uint64_t at = lo; at < hi; at = old->area.end.value) {
		look_at(old, at);
		if (!old->found || old->area.start.value >= hi)
			break;
		any = true;
		foreign |= old->area.backend != area->backend;
	}
	if (!any)
		return add_action(plan, ASP_PHASE_MAP, ASPACE_CHANGE_MAP, NULL, area, lo, hi);
	if (!foreign && asp_op(area->backend, replace))
		return add_action(plan, ASP_PHASE_REPLACE, ASPACE_CHANGE_REPLACE, NULL, area, lo,
				  hi);
	return add_unmaps(plan, old, lo, hi) &&
	       add_action(plan, ASP_PHASE_REMAP, ASPACE_CHANGE_MAP, NULL, area, lo, hi);
}

/* One stretch of a touched range from `at` on; answers where the next one begins, or
 * 0 where memory ran out. */
static uint64_t add_stretch(struct asp_plan *plan, struct look *old, struct look *new,
			    struct fresh *fresh, uint64_t at, uint64_t hi)
{
	uint64_t to = hi, border;

	look_at(old, at);
	look_at(new, at);
	if (covers(new, at)) {
		to = new->area.end.value < to ? new->area.end.value : to;
		fresh_at(fresh, at);
		border = fresh->from <= at ? fresh->to : fresh->from;
		to = border < to ? border : to;
		if (fresh->from <= at)
			return add_fresh(plan, old, &new->area, at, to) ? to : 0;
		to = old->area.end.value < to ? old->area.end.value : to;
		if (old->area.flags != new->area.flags &&
		    !add_protect(plan, &old->area, &new->area, at, to))
			return 0;
		return to;
	}
	if (new->found &&new->area.start.value < to)
		to = new->area.start.value;
	/* In a grace-unmap space what is gone is leaving, and backends hear of it later. */
	if (!(plan->space->mode & ASPACE_GRACE_UNMAP) && !add_unmaps(plan, old, at, to))
		return 0;
	return to;
}

/* Takes one out that stands alone: it becomes an action as it is. */
static void add_alone(struct asp_plan *plan, struct look *new, struct asp_touched *touched)
{
	struct asp_action *action = &touched->action;
	bool maps = is_map(touched);

	if (maps && touched->touches) {
		look_at(new, action->change.range.start.value);
		action->change.user = new->area.user;
	}
	asp_plan_add(plan, maps ? ASP_PHASE_MAP : ASP_PHASE_UNMAP, action);
}

/* Does a border lie within an area of the base? */
static bool cuts(struct look *look, uint64_t at)
{
	if (at == ASP_NO_KEY)
		return false;
	look_at(look, at);
	return look->found && look->area.start.value < at;
}

enum aspace_status asp_plan_settle(struct asp_plan *plan)
{
	struct look old = {.root = plan->base}, new = {.root = asp_edit_root(&plan->edit)};
	struct look starts = {.root = plan->base}, ends = {.root = plan->base};
	struct asp_touched **link = &plan->touched, *first, *next;
	uint64_t end_before = ASP_NO_KEY;

	sort_touched(plan);
	while ((first = *link) != NULL) {
		uint64_t lo = range_of(first).start.value, hi = range_of(first).end.value;
		struct fresh fresh = {.next = first};

		next = join(first->next, NULL, false, &hi);
		if (first->alone && first->next == next && end_before != lo &&
		    (!next || range_of(next).start.value != hi)) {
			*link = next;
			add_alone(plan, &new, first);
		} else {
			fresh.stop = next;
			for (uint64_t at = lo; at < hi;) {
				at = add_stretch(plan, &old, &new, &fresh, at, hi);
				if (!at)
					return ASPACE_NO_MEMORY;
			}
			for (; *link != next; link = &(*link)->next) {
				plan->borders += cuts(&starts, range_of(*link).start.value);
				plan->borders += cuts(&ends, range_of(*link).end.value);
			}
		}
		end_before = hi;
	}
	return ASPACE_OK;
}

/* ---- The public side ------------------------------------------------------ */

/* What a program has is a handle: no other part of the library knows that type. */
static struct asp_plan *plan_of(struct aspace_txn *txn)
{
	return (struct asp_plan *)(void *)txn;
}

/* A plan, if no more memory is leaving than is to be, and nobody waits for that who goes before it. */
static bool begin_below_bound(struct aspace *space, unsigned how, struct asp_waiter *place)
{
	struct asp_plan *plan = &space->plan;
	bool full;

	asp_pins_say(space, ASP_CHANGES_NOTHING);
	asp_plan_begin(space);
	plan->waiter = place;
	plan->passes_by = !asp_line_may_wait(space, how);
	full = asp_leaving_is_full(plan);
	plan->waiter = NULL;
	plan->passes_by = false;
	return !full;
}

enum aspace_status aspace_txn_begin(struct aspace *space, unsigned how, struct aspace_txn **out)
{
	struct asp_waiter place = {.since = 0};
	enum aspace_status status;

	if (!out || how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter(space, how);
	while (status == ASPACE_OK && !begin_below_bound(space, how, &place)) {
		asp_plan_drop(&space->plan);
		status = asp_wait_for_leaving(space, how, &place)
				 ? asp_writer_enter_again(space, how, &place)
				 : ASPACE_BUSY;
	}
	asp_line_leave(space, &place);
	if (status != ASPACE_OK)
		return status;
	space->plan.open = true;
	space->plan.nowait = how & ASPACE_NOWAIT;
	atomic_store_explicit(&space->txn_open, true, memory_order_relaxed);
	*out = (struct aspace_txn *)(void *)&space->plan;
	return ASPACE_OK;
}

/* Only the thread that began may go on, only until commit or abort, and not from a
 * callback beneath an operation of the transaction itself, nor between the hooks of fork. */
static inline __attribute__((always_inline)) enum aspace_status begin_operation(
	struct asp_plan *plan, unsigned how)
{
	if (!asp_is_owner(plan->space) || !plan->open || plan->busy || asp_is_forking(plan->space))
		return ASPACE_DEADLOCK;
	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	plan->busy = true;
	return ASPACE_OK;
}

static enum aspace_status end_operation(struct asp_plan *plan, enum aspace_status status)
{
	plan->busy = false;
	if (status == ASPACE_NO_MEMORY)
		asp_reclaim_hurry(plan->space);
	return status;
}

enum aspace_status aspace_txn_map(struct aspace_txn *txn, struct aspace_range range, uint64_t flags,
				  struct aspace_backend *backend, void *user, unsigned how)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, how);

	if (status != ASPACE_OK)
		return status;
	return end_operation(plan, asp_plan_map(plan, range, flags, backend, user, how));
}

enum aspace_status aspace_txn_map_anywhere(struct aspace_txn *txn, const struct aspace_gap *gap,
					   uint64_t flags, struct aspace_backend *backend,
					   void *user, unsigned how, struct aspace_vaddr *start)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, how);

	if (status != ASPACE_OK)
		return status;
	return end_operation(plan,
			     asp_plan_map_anywhere(plan, gap, flags, backend, user, how, start));
}

enum aspace_status aspace_txn_unmap(struct aspace_txn *txn, struct aspace_range range, unsigned how)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, how);

	if (status != ASPACE_OK)
		return status;
	return end_operation(plan, asp_plan_unmap(plan, range, how));
}

enum aspace_status aspace_txn_protect(struct aspace_txn *txn, struct aspace_range range,
				      uint64_t flags, unsigned how)
{
	return aspace_txn_protect_with(txn, range, asp_same_flags, &flags, how);
}

enum aspace_status aspace_txn_protect_with(struct aspace_txn *txn, struct aspace_range range,
					   aspace_protect_fn *decide, void *ctx, unsigned how)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, how);

	if (status != ASPACE_OK)
		return status;
	return end_operation(plan, asp_plan_protect(plan, range, decide, ctx, how));
}

enum aspace_status aspace_txn_find(struct aspace_txn *txn, struct aspace_vaddr address,
				   struct aspace_area *area)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, 0);

	if (status != ASPACE_OK)
		return status;
	return end_operation(
		plan, plan->space->lookup_set->find_in(asp_edit_root(&plan->edit), address, area));
}

enum aspace_status aspace_txn_check_range(struct aspace_txn *txn, struct aspace_range range,
					  const struct aspace_match *match,
					  struct aspace_vaddr *reached)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, 0);

	if (status != ASPACE_OK)
		return status;
	return end_operation(plan,
			     asp_check_range(asp_edit_root(&plan->edit), range, match, reached));
}

enum aspace_status aspace_txn_bytes(struct aspace_txn *txn, uint64_t *bytes)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, 0);

	if (status != ASPACE_OK)
		return status;
	*bytes = aspace_bytes(plan->space) + plan->edit.bytes;
	return end_operation(plan, ASPACE_OK);
}

enum aspace_status aspace_txn_bytes_in(struct aspace_txn *txn, struct aspace_range range,
				       const struct aspace_match *match, uint64_t *bytes)
{
	struct asp_plan *plan = plan_of(txn);
	enum aspace_status status = begin_operation(plan, 0);

	if (status != ASPACE_OK)
		return status;
	*bytes = asp_bytes_in(asp_edit_root(&plan->edit), range, match);
	return end_operation(plan, ASPACE_OK);
}

enum aspace_status aspace_txn_find_free(struct aspace_txn *txn, const struct aspace_gap *gap,
					struct aspace_vaddr *start)
{
	struct asp_plan *plan = plan_of(txn);
	struct aspace *space = plan->space;
	enum aspace_status status = begin_operation(plan, 0);

	if (status != ASPACE_OK)
		return status;
	return end_operation(plan,
			     space->lookup_set->find_free_in(space, asp_edit_root(&plan->edit), gap,
							     space->granule, start));
}

enum aspace_status aspace_txn_commit(struct aspace_txn *txn)
{
	struct asp_plan *plan = plan_of(txn);
	struct aspace *space = plan->space;
	enum aspace_status status = begin_operation(plan, 0);

	if (status != ASPACE_OK)
		return status;
	status = asp_commit_open(plan);
	if (status == ASPACE_NO_MEMORY)
		asp_reclaim_hurry(space);
	asp_writer_leave(space);
	return status;
}

void aspace_txn_abort(struct aspace_txn *txn)
{
	struct asp_plan *plan = plan_of(txn);
	struct aspace *space = plan->space;

	if (begin_operation(plan, 0) != ASPACE_OK)
		return;
	asp_plan_drop(plan);
	asp_writer_leave(space);
}
