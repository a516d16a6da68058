/* SPDX-License-Identifier: MIT */
/*
 * To wait until all has been given back that had left before.
 *
 * Invariants:
 *  1. It waits with no lock held, and only if nobody may wait for the calling thread.
 *  2. It waits for what had left when it began, and for what that leads to: areas, then the references,
 *     to which those may have added, then the nodes, to which either may.
 */
#include "reclaim/calls.h"
#include "reclaim/deferred.h"
#include "update/pins.h"

/* asp_list_holds() of a list in no order. */
static bool holds_any(const struct aspace_record_list *list, uint64_t stamp)
{
	for (const struct aspace_record *record = list->head; record; record = record->next) {
		if (record->stamp <= stamp)
			return true;
	}
	return false;
}

/* Runs what has been handed over by now; no lock held. True: the thread may wait for others then. Callbacks
 * never run in a reader, nor under the lock of another space; but one may leave it so. */
static bool run_pending(struct aspace *space)
{
	uint32_t pending = asp_calls_pending(&space->calls);

	if (asp_is_waited_for(space))
		return false;
	if (pending && !asp_calls_run(space, pending))
		asp_grace_request(space->grace, &space->client, 1);
	return !asp_is_waited_for(space);
}

/* What to wait for without the lock. */
struct wait {
	uint64_t stamp;          /* readers; or, if 0, */
	const uint32_t *resumed; /* a pin, or, if NULL, room for references */
};

static bool is_over(struct aspace *space, const struct wait *wait)
{
	if (wait->stamp)
		return asp_grace_elapsed(space->grace, wait->stamp);
	return !wait->resumed && !asp_calls_clogged(&space->calls);
}

static bool await(struct aspace *space, const struct wait *wait)
{
	if (wait->stamp)
		return asp_wait_for_readers(space, wait->stamp);
	return wait->resumed ? asp_pins_await(space, *wait->resumed) : asp_calls_await_room(space);
}

/* Leaves the lock, lets run what has been handed over, waits, and comes back. */
static enum aspace_status step(struct aspace *space, struct wait wait, unsigned how)
{
	bool may_wait;

	asp_writer_leave(space);
	may_wait = run_pending(space) && !(how & ASPACE_NOWAIT);
	if (!is_over(space, &wait) && (!may_wait || !await(space, &wait)))
		return ASPACE_BUSY;
	return asp_writer_enter_now(space, how);
}

/* Until nothing is on the list, or postponed, that was when this began. Under the lock, which is
 * lost where it answers another status than ASPACE_OK. */
static enum aspace_status drain(struct aspace *space, const struct aspace_record_list *list,
				const struct aspace_record_list *postponed, unsigned how)
{
	uint64_t stamp = asp_grace_stamp(space->grace);
	enum aspace_status status;

	do {
		uint32_t resumed;
		struct wait wait = {0};

		asp_reclaim_share(space);
		resumed = space->pins.resumed;
		if (!asp_list_holds(list, stamp)) {
			if (!holds_any(postponed, stamp))
				return ASPACE_OK;
			wait.resumed = &resumed;
		} else if (list == &space->leaving) {
			wait.stamp = asp_reclaim_leaving_stamp(space);
		} else if (!asp_calls_clogged(&space->calls)) {
			wait.stamp = list->head->stamp;
		}
		status = step(space, wait, how);
	} while (status == ASPACE_OK);
	return status;
}

/* What has been handed over by now. The lock as above. */
static enum aspace_status finish_calls(struct aspace *space, unsigned how)
{
	uint32_t target = atomic_load_explicit(&space->calls.in, memory_order_relaxed);
	bool may_wait;

	if (!asp_calls_pending(&space->calls))
		return ASPACE_OK;
	asp_writer_leave(space);
	may_wait = run_pending(space) && !(how & ASPACE_NOWAIT);
	if (!asp_calls_returned(&space->calls, target) &&
	    (!may_wait || !asp_calls_await(space, target)))
		return ASPACE_BUSY;
	return asp_writer_enter_now(space, how);
}

enum aspace_status asp_quiesce(struct aspace *space, unsigned how)
{
	enum aspace_status status;
	uint64_t nodes;

	if (asp_calls_is_runner(&space->calls))
		return ASPACE_DEADLOCK; /* a release callback of this space is beneath us */
	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	/* First the areas; then the references, to which those may have added; then the nodes, to
	 * which either may. */
	status = drain(space, &space->leaving, &space->pins.leaving, how);
	if (status == ASPACE_OK)
		status = drain(space, &space->deferred, &space->pins.deferred, how);
	if (status == ASPACE_OK)
		status = finish_calls(space, how);
	if (status != ASPACE_OK)
		return status;
	nodes = space->retired_in;
	while (space->retired_out < nodes) {
		status = step(space, (struct wait){.stamp = asp_reclaim_request(space)}, how);
		if (status != ASPACE_OK)
			return status;
	}
	status = space->refused ? ASPACE_BAD_STATE : ASPACE_OK;
	space->refused = space->unmap_refused = false;
	asp_writer_leave(space);
	return status;
}

enum aspace_status aspace_quiesce(struct aspace *space, unsigned how)
{
	/* No thread is made with a lock held. */
	if (!(how & ASPACE_NOWAIT) && !asp_is_waited_for(space))
		asp_grace_want_helper(space->grace);
	return asp_quiesce(space, how);
}
