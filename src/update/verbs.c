/* SPDX-License-Identifier: MIT */
/*
 * The public operations: enter, plan, commit, leave.
 */
#include "update/pins.h"
#include "update/plan.h"

enum verb {
	VERB_MAP,
	VERB_MAP_ANYWHERE,
	VERB_UNMAP,
	VERB_CLEAR,
	VERB_PROTECT,
	VERB_MOVE,
	VERB_RESIZE,
};

/* The arguments of one operation, so that all of them take the same way. */
struct request {
	enum verb verb;
	unsigned how;
	union {
		struct {
			union {
				struct aspace_range range;
				struct {
					const struct aspace_gap *gap;
					struct aspace_vaddr *start;
				};
			};
			uint64_t flags;
			struct aspace_backend *backend;
			void *user;
		} map;
		struct aspace_range unmap;
		struct {
			struct aspace_range range;
			aspace_protect_fn *decide;
			void *ctx;
		} protect;
		struct {
			struct aspace_range from;
			struct aspace_vaddr to;
		} move;
		struct {
			struct aspace_vaddr start;
			uint64_t size;
		} resize;
	};
};

/* From the start of the area that is there to its end, or to the end that it is to have. */
static struct aspace_range resized(struct aspace *space, struct aspace_vaddr start, uint64_t size)
{
	struct aspace_range range = aspace_range_of(start.value, start.value + size);
	struct asp_cursor cursor;

	if (!asp_cursor_seek(&cursor, asp_root(space), start.value) ||
	    asp_cursor_start(&cursor) != start.value)
		return ASP_CHANGES_NOTHING;
	if (range.end.value < asp_cursor_slot(&cursor)->end)
		range.end.value = asp_cursor_slot(&cursor)->end;
	return range;
}

/* With a grace period, memory is not taken now. */
static void say_unmapped(struct aspace *space, struct aspace_range range)
{
	asp_pins_say(space, space->mode & ASPACE_GRACE_UNMAP ? ASP_CHANGES_NOTHING : range);
}

/* First says where backends may be asked to change what areas have, if the operation is not
 * refused. What is mapped where nothing is disturbs nobody. */
static inline __attribute__((always_inline)) enum aspace_status plan_operation(
	struct asp_plan *plan, const struct request *r)
{
	struct aspace *space = plan->space;

	switch (r->verb) {
	case VERB_MAP:
		asp_pins_say(space, r->how & ASPACE_REPLACE ? r->map.range : ASP_CHANGES_NOTHING);
		return asp_plan_map(plan, r->map.range, r->map.flags, r->map.backend, r->map.user,
				    r->how);
	case VERB_MAP_ANYWHERE:
		asp_pins_say(space, ASP_CHANGES_NOTHING);
		return asp_plan_map_anywhere(plan, r->map.gap, r->map.flags, r->map.backend,
					     r->map.user, r->how, r->map.start);
	case VERB_UNMAP:
		say_unmapped(space, r->unmap);
		return asp_plan_unmap(plan, r->unmap, r->how);
	case VERB_CLEAR:
		say_unmapped(space, aspace_limits(space));
		return asp_plan_unmap(plan, aspace_limits(space), ASP_HOW_LENIENT);
	case VERB_PROTECT:
		asp_pins_say(space, r->protect.range);
		return asp_plan_protect(plan, r->protect.range, r->protect.decide, r->protect.ctx,
					r->how);
	case VERB_MOVE:
		asp_pins_say(space, r->move.from);
		return asp_plan_move(plan, r->move.from, r->move.to);
	case VERB_RESIZE:
		say_unmapped(space, resized(space, r->resize.start, r->resize.size));
		return asp_plan_resize(plan, r->resize.start, r->resize.size, r->how);
	}
	return ASPACE_INVALID_PARAM;
}

/* Plans and commits, under the lock. */
static inline __attribute__((always_inline)) enum aspace_status attempt(
	struct aspace *space, const struct request *request)
{
	enum aspace_status status;

	asp_plan_begin(space);
	status = plan_operation(&space->plan, request);
	if (status == ASPACE_OK)
		return asp_commit(&space->plan);
	asp_plan_drop(&space->plan);
	return status;
}

/* ---- Operations that have to wait -------------------------------------------------- */

/* So often an operation may find that others have come and gone where it waited for, before nobody passes it
 * any more. */
#define PASSES 8

/* `passes_by`: it may not wait behind others. */
static enum aspace_status attempt_in_line(struct aspace *space, const struct request *request,
					  struct asp_waiter *waiter, bool passes_by)
{
	struct asp_plan *plan = &space->plan;
	enum aspace_status status;

	plan->waiter = waiter;
	plan->passes_by = passes_by;
	plan->behind = false;
	status = attempt(space, request);
	plan->waiter = NULL;
	plan->passes_by = false;
	return status;
}

/* Faults were in the way. Waits for them without the lock, at its place among all that want to be
 * where they are; called and answered with the lock held, unless it answers false: it may not wait. It
 * must not wait for readers meanwhile: they may be faults that wait for this place. Nor have a place on the
 * line: faults may wait for who is there. */
static bool attempt_again(struct aspace *space, const struct request *request,
			  struct asp_waiter *waiter, bool passes_by, enum aspace_status *status)
{
	struct asp_pin place;
	bool may_go_on;

	asp_pins_queue(space, &place);
	asp_line_leave(space, waiter);
	do {
		asp_writer_leave(space);
		may_go_on = asp_pins_wait(space, &place);
		if (!may_go_on)
			break;
		asp_writer_become(space, 0); /* cannot fail: not ours, and it may wait */
		space->plan.place = &place;
		*status = attempt_in_line(space, request, waiter, passes_by);
		space->plan.place = NULL;
	} while (space->plan.pinned);
	asp_pins_drop(space, &place);
	return may_go_on;
}

bool asp_unmap_entered(struct aspace *space, struct aspace_range range, enum aspace_status *status)
{
	const struct request request = {.verb = VERB_UNMAP, .how = ASP_HOW_LENIENT, .unmap = range};

	struct asp_waiter none = {.since = 0};

	*status = attempt_in_line(space, &request, &none, true);
	return !space->plan.pinned || attempt_again(space, &request, &none, true, status);
}

static bool may_wait(struct aspace *space, unsigned how)
{
	return !(how & ASPACE_NOWAIT) && !asp_is_waited_for(space);
}

/* All that was leaving when it first met some has gone, and it has met others: often enough? */
static bool is_passed_no_more(struct aspace *space, struct asp_waiter *place, uint64_t stamp)
{
	if (!place->began)
		place->began = space->leaving.tail ? space->leaving.tail->stamp : stamp;
	else if (stamp > place->began)
		place->passed++;
	return place->passed >= PASSES;
}

/* They go in order, with the shares that are taken as we enter again; but one that a fault is at
 * work in goes when that is over. */
__attribute__((noinline)) bool asp_wait_for_leaving(struct aspace *space, unsigned how,
						    struct asp_waiter *place)
{
	struct asp_plan *plan = &space->plan;
	bool postponed = asp_pins_postpone(space, plan->way), behind = plan->behind, first = true;
	uint64_t stamp = postponed ? 0 : asp_reclaim_leaving_stamp(space);
	uint32_t resumed = space->pins.resumed;

	plan->behind = false;
	if (place && postponed)
		asp_line_leave(space, place);
	else if (place && asp_line_may_wait(space, how) &&
		 (plan->at_bound || is_passed_no_more(space, place, stamp)))
		first = asp_line_join(space, place, plan->at_bound ? ASP_FOR_LEAVING : ASP_FOR_ALL);
	asp_writer_leave(space);
	if (!may_wait(space, how))
		return false;
	if (!first)
		return asp_line_await(space, place);
	if (behind)
		return true;
	return postponed ? asp_pins_await(space, resumed) : asp_wait_for_readers(space, stamp);
}

/* What was held back is on its way back, if it was spent, or is for somebody before us. Called with the lock
 * held, which it gives back. False: with that status it is at an end. */
static bool wait_for_memory(struct aspace *space, unsigned how, struct asp_waiter *place,
			    enum aspace_status *status)
{
	struct asp_plan *plan = &space->plan;
	uint64_t stamp = *status == ASPACE_NO_MEMORY ? asp_reclaim_hurry(space) : 0;
	bool behind = plan->behind, first = true;

	plan->behind = false;
	if (!plan->all_spent)
		stamp = 0;
	if ((stamp || behind) && asp_line_may_wait(space, how))
		first = asp_line_join(space, place, ASP_FOR_MEMORY);
	asp_writer_leave(space);
	if (!stamp && !behind)
		return false;
	*status = ASPACE_BUSY;
	if (!may_wait(space, how))
		return false;
	if (!first)
		return asp_line_await(space, place);
	return behind || asp_wait_for_readers(space, stamp);
}

/* The first attempt has failed. Called with the lock held, which it gives back. */
static enum aspace_status persist(struct aspace *space, const struct request *request,
				  enum aspace_status status, struct asp_waiter *place)
{
	unsigned how = request->how;
	bool passes_by = !asp_line_may_wait(space, how);

	if (space->plan.behind && passes_by)
		status = attempt_in_line(space, request, place, passes_by);
	for (;;) {
		if (space->plan.pinned && asp_pins_may_wait(how) &&
		    !attempt_again(space, request, place, passes_by, &status))
			return ASPACE_BUSY;
		if (status == ASPACE_BUSY && space->plan.leaving_in_way) {
			if (!asp_wait_for_leaving(space, how, place))
				return ASPACE_BUSY;
		} else if (status == ASPACE_OK) {
			asp_writer_leave(space);
			return ASPACE_OK;
		} else if (!wait_for_memory(space, how, place, &status)) {
			return status;
		}
		status = asp_writer_enter_again(space, how, place);
		if (status != ASPACE_OK)
			return status;
		status = attempt_in_line(space, request, place, passes_by);
	}
}

static __attribute__((noinline)) enum aspace_status run_in_line(struct aspace *space,
								const struct request *request,
								enum aspace_status status)
{
	struct asp_waiter place = {.since = 0};

	status = persist(space, request, status, &place);
	asp_line_leave(space, &place);
	return status;
}

static enum aspace_status run(struct aspace *space, const struct request *request)
{
	enum aspace_status status;

	if (request->how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter(space, request->how);
	if (status != ASPACE_OK)
		return status;
	status = attempt(space, request);
	if (__builtin_expect(status != ASPACE_OK, 0))
		return run_in_line(space, request, status);
	asp_writer_leave(space);
	return ASPACE_OK;
}

enum aspace_status aspace_map(struct aspace *space, struct aspace_range range, uint64_t flags,
			      struct aspace_backend *backend, void *user, unsigned how)
{
	return run(space, &(struct request){
				  .verb = VERB_MAP,
				  .how = how,
				  .map.range = range,
				  .map.flags = flags,
				  .map.backend = backend,
				  .map.user = user,
			  });
}

enum aspace_status aspace_map_anywhere(struct aspace *space, const struct aspace_gap *gap,
				       uint64_t flags, struct aspace_backend *backend, void *user,
				       unsigned how, struct aspace_vaddr *start)
{
	return run(space, &(struct request){
				  .verb = VERB_MAP_ANYWHERE,
				  .how = how,
				  .map.gap = gap,
				  .map.start = start,
				  .map.flags = flags,
				  .map.backend = backend,
				  .map.user = user,
			  });
}

enum aspace_status aspace_unmap(struct aspace *space, struct aspace_range range, unsigned how)
{
	return run(space, &(struct request){.verb = VERB_UNMAP, .how = how, .unmap = range});
}

enum aspace_status aspace_protect(struct aspace *space, struct aspace_range range, uint64_t flags,
				  unsigned how)
{
	return aspace_protect_with(space, range, asp_same_flags, &flags, how);
}

enum aspace_status aspace_protect_with(struct aspace *space, struct aspace_range range,
				       aspace_protect_fn *decide, void *ctx, unsigned how)
{
	return run(space, &(struct request){
				  .verb = VERB_PROTECT,
				  .how = how,
				  .protect = {range, decide, ctx},
			  });
}

enum aspace_status aspace_clear(struct aspace *space, unsigned how)
{
	return run(space, &(struct request){.verb = VERB_CLEAR, .how = how});
}

enum aspace_status aspace_move(struct aspace *space, struct aspace_range from,
			       struct aspace_vaddr to, unsigned how)
{
	return run(space, &(struct request){
				  .verb = VERB_MOVE,
				  .how = how,
				  .move = {from, to},
			  });
}

enum aspace_status aspace_resize(struct aspace *space, struct aspace_vaddr start, uint64_t size,
				 unsigned how)
{
	return run(space, &(struct request){
				  .verb = VERB_RESIZE,
				  .how = how,
				  .resize = {start, size},
			  });
}
