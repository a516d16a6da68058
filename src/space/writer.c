/* SPDX-License-Identifier: MIT */
/*
 * Becoming the writer of a space, and ceasing to be.
 *
 * The lock is fair; no grace period is ever waited for with it held, nor with that of
 * another space: a reader may be waiting for that one. Each thread counts the writer
 * locks that it holds; above 0 it is treated as in a section. The bound on garbage is
 * kept here, before an operation has done anything: a writer that finds
 * it reached gives the lock back, waits for readers, and comes again.
 */
#include "space/space.h"
#include "update/pins.h"

bool asp_is_waited_for(struct aspace *space)
{
	return *asp_writer_locks() || asp_grace_in_section(space->grace);
}

bool asp_wait_for_readers(struct aspace *space, uint64_t stamp)
{
	unsigned period = space->options.stall_ms;
	uint64_t begin = asp_now_ms();

	while (!asp_grace_wait(space->grace, stamp, period)) {
		uint64_t waited = asp_now_ms() - begin;

		/* A wait may end early; only a full period is a stall. */
		if (!space->options.stalled || waited < period)
			continue;
		/* Relaxed: only who comes from the hook must see it, in the same thread. */
		atomic_fetch_add_explicit(&space->stalled_hooks, 1, memory_order_relaxed);
		space->options.stalled(space->options.ctx, space, waited);
		atomic_fetch_sub_explicit(&space->stalled_hooks, 1, memory_order_relaxed);
		if (asp_is_waited_for(space))
			return false;
	}
	return true;
}

static inline enum aspace_status become(struct aspace *space, unsigned how)
{
	if (asp_is_owner(space))
		return ASPACE_DEADLOCK;
	/* Whoever holds a pin of the space counts there, too. */
	if (__builtin_expect(*asp_writer_locks() != 0, 0) && asp_pins_mine(space))
		return ASPACE_DEADLOCK;
	if (!(how & ASPACE_NOWAIT))
		asp_lock_acquire(&space->lock);
	else if (!asp_lock_try(&space->lock))
		return ASPACE_BUSY;
	atomic_store_explicit(&space->owner, asp_thread_self(), memory_order_relaxed);
	++*asp_writer_locks();
	return ASPACE_OK;
}

enum aspace_status asp_writer_become(struct aspace *space, unsigned how)
{
	return become(space, how);
}

enum aspace_status asp_writer_enter_now(struct aspace *space, unsigned how)
{
	enum aspace_status status = become(space, how);

	if (status == ASPACE_OK)
		asp_pins_say(space, ASP_CHANGES_NOTHING);
	return status;
}

enum aspace_status asp_writer_enter(struct aspace *space, unsigned how)
{
	for (;;) {
		enum aspace_status status = become(space, how);
		uint64_t stamp;

		if (status != ASPACE_OK)
			return status;
		asp_reclaim_nodes(space);
		if (__builtin_expect(asp_retired_bytes(space) <= space->options.garbage_max, 1))
			return ASPACE_OK;
		stamp = asp_reclaim_request(space);
		asp_writer_leave(space);
		if ((how & ASPACE_NOWAIT) || asp_is_waited_for(space))
			return ASPACE_BUSY;
		if (!asp_wait_for_readers(space, stamp))
			return ASPACE_BUSY;
	}
}

void asp_writer_leave(struct aspace *space)
{
	uint64_t due = space->deferred.head ? space->deferred.head->stamp : 0;

	asp_pins_unsay(space);
	atomic_store_explicit(&space->owner, 0, memory_order_relaxed);
	--*asp_writer_locks();
	asp_lock_release(&space->lock);
	asp_pins_left(space);

	/* The helper thread gives up where it finds the lock taken. Either it found it
	 * free, or its note that a grace period has ended came before our release, and
	 * is seen here (platform.h, Locks): then it is asked to come again. Not while a
	 * thread runs what is due, which will ask for what it leaves: the helper would
	 * come, leave the work to it, and be asked again, for as long as that takes.
	 * Sequentially consistent loads, after the release: the runner stores 0 before it
	 * asks the helper, whose failed try is before our release or sees it. */
	if (atomic_load(&space->runner))
		return;
	if ((due && asp_grace_elapsed(space->grace, due)) || atomic_load(&space->freed_any) ||
	    atomic_load(&space->pins.resumable))
		asp_grace_request(space->grace, &space->client, 1);
}
