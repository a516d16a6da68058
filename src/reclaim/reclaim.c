/* SPDX-License-Identifier: MIT */
/*
 * What has left the newest version, until it can be given back.
 *
 * Nodes: nodes.c. Leaving areas wait on `leaving` (leaving.c), references to user objects on
 * `deferred` (references.c), in the order in which they were retired. Whoever becomes the writer takes
 * a share of what has come due, of bounded size, before it does anything else; where nobody comes, the
 * flavour's helper does, who only tries the lock. References then go to the ring (calls.h), and are
 * released with no lock held. So nothing that is due waits for the lock to be free, and the helper
 * waits for no lock. Who wants to wait for all of it: quiesce.c.
 *
 * Invariants:
 *  1. On `leaving` and on `deferred` what is due stands before what is not: a look at the head tells.
 *  2. While there is anything on the two the helper has been asked to come when a head is due, or
 *     earlier; or, for references that the ring has no room for, who makes room will ask (calls.h).
 */
#include "reclaim/calls.h"
#include "reclaim/deferred.h"
#include "update/pins.h"

/* Releases that the helper runs for one space before it looks after the next. */
#define CALLS_AT_ONCE 64

void asp_reclaim_add(struct aspace *space, struct aspace_record_list *nodes,
		     struct aspace_record_list *references, struct aspace_record_list *leaving)
{
	uint64_t stamp;

	space->retired_in += nodes->count;
	asp_list_splice(&space->retired, nodes);
	asp_note_retired(space, asp_retired_bytes(space));
	if (!references->head && !leaving->head)
		return;
	stamp = asp_grace_stamp(space->grace);
	asp_list_stamp(leaving, stamp);
	asp_list_splice(&space->leaving, leaving);
	asp_list_stamp(references, stamp);
	asp_list_splice(&space->deferred, references);
	asp_note_waiting(space);
	asp_grace_request(space->grace, &space->client, stamp);
}

bool asp_reclaim_any_due(struct aspace *space)
{
	return asp_is_due(space, &space->leaving) || asp_is_due(space, &space->deferred) ||
	       atomic_load_explicit(&space->pins.resumable, memory_order_relaxed);
}

/* What has been taken off its list is no longer late. Answers how late the rest may be. */
static uint64_t count_late(struct aspace *space, struct asp_late *late,
			   const struct aspace_record_list *list)
{
	uint64_t count;

	if (!asp_is_due(space, list)) {
		late->now = late->before = 0;
		return 0;
	}
	count = asp_late_of(late) + 1;
	late->now++;
	if (!asp_list_holds(list, late->stamp)) {
		late->before = late->now;
		late->now = 0;
		late->stamp = asp_grace_count(space->grace) + 1;
	}
	return count;
}

static void note_late(struct aspace *space)
{
	asp_note_late(&space->latest.any, count_late(space, &space->late_areas, &space->leaving));
	asp_note_late(&space->latest.any,
		      count_late(space, &space->late_references, &space->deferred));
}

bool asp_reclaim_share(struct aspace *space)
{
	bool any = false, room = true;
	uint32_t references = ASP_SHARE;

	asp_pins_resume(space);
	if (asp_is_due(space, &space->leaving)) {
		/* They come first, and must not keep the others from their turn. */
		references += asp_reclaim_late_areas(space);
		any = true;
	}
	if (asp_is_due(space, &space->deferred)) {
		room = asp_reclaim_references(space, references);
		any = true;
	}
	room = room || !asp_calls_block(space);
	/* An operation that goes on leaves it behind; one that waits first comes again. */
	if (any && room)
		note_late(space);
	return room;
}

void asp_reclaim_work(struct asp_grace_client *client)
{
	struct aspace *space = asp_space_of(client);

	/* If the lock is taken, its holder will ask for us again as it leaves, or who comes next
	 * takes a share itself. */
	if (asp_writer_enter_now(space, ASPACE_NOWAIT) == ASPACE_OK) {
		asp_reclaim_share(space);
		asp_writer_leave(space);
	}
	if (!asp_calls_run(space, CALLS_AT_ONCE))
		asp_grace_request(space->grace, client, 1);
}
