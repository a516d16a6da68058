/* SPDX-License-Identifier: MIT */
/*
 * The public operations: enter, plan, commit, leave.
 */
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

static enum aspace_status plan(struct aspace_txn *txn, const struct request *r)
{
	switch (r->verb) {
	case VERB_MAP:
		return asp_plan_map(txn, r->map.range, r->map.flags, r->map.backend, r->map.user,
				    r->how);
	case VERB_MAP_ANYWHERE:
		return asp_plan_map_anywhere(txn, r->map.gap, r->map.flags, r->map.backend,
					     r->map.user, r->how, r->map.start);
	case VERB_UNMAP:
		return asp_plan_unmap(txn, r->unmap, r->how);
	case VERB_CLEAR:
		return asp_plan_unmap(txn, aspace_limits(txn->space), ASP_HOW_LENIENT);
	case VERB_PROTECT:
		return asp_plan_protect(txn, r->protect.range, r->protect.decide, r->protect.ctx,
					r->how);
	case VERB_MOVE:
		return asp_plan_move(txn, r->move.from, r->move.to);
	case VERB_RESIZE:
		return asp_plan_resize(txn, r->resize.start, r->resize.size, r->how);
	}
	return ASPACE_INVALID_PARAM;
}

/* Waits until what is leaving now has left; no lock held. */
static enum aspace_status wait_for_leaving(struct aspace *space)
{
	bool refused;
	enum aspace_status status = asp_quiesce(space, 0);

	/* A refusal is for the next quiesce of the program's own to hear of. */
	refused = status == ASPACE_BAD_STATE;
	if (refused && asp_writer_enter_now(space, 0) == ASPACE_OK) {
		space->refused = true;
		asp_writer_leave(space);
	}
	return refused ? ASPACE_OK : status;
}

static enum aspace_status run(struct aspace *space, const struct request *request)
{
	if (request->how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	for (;;) {
		enum aspace_status status = asp_writer_enter(space, request->how);
		uint64_t stamp = 0;
		bool wait;

		if (status != ASPACE_OK)
			return status;
		asp_txn_begin(space);
		status = plan(&space->txn, request);
		wait = status == ASPACE_BUSY && space->txn.leaving_in_way;
		if (status == ASPACE_OK)
			status = asp_commit(&space->txn);
		else
			asp_txn_drop(&space->txn);
		if (status == ASPACE_NO_MEMORY) {
			/* What was held back is on its way back, if it was spent. */
			stamp = asp_reclaim_hurry(space);
			if (stamp && space->txn.all_spent) {
				wait = true;
				status = ASPACE_BUSY;
			}
		}
		asp_writer_leave(space);
		if (!wait || (request->how & ASPACE_NOWAIT) || asp_is_waited_for(space))
			return status;
		if (stamp) {
			asp_wait_for_readers(space, stamp);
			continue;
		}
		status = wait_for_leaving(space);
		if (status != ASPACE_OK)
			return status;
	}
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

enum aspace_status aspace_fault(struct aspace *space, struct aspace_vaddr address, unsigned access,
				unsigned how)
{
	enum aspace_status status;
	struct asp_cursor cursor;
	struct aspace_area area;

	if (how & ~ASP_HOW_PUBLIC || !access ||
	    access & ~(unsigned)(ASPACE_ACCESS_READ | ASPACE_ACCESS_WRITE | ASPACE_ACCESS_EXECUTE))
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	/* The lock keeps the newest version in place: no section is needed. A leaving area
	 * still has its memory: a reader that found it in time may touch it now. */
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
