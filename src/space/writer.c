/* SPDX-License-Identifier: MIT */
/*
 * Becoming the writer of a space, and ceasing to be.
 *
 * The lock is fair; no grace period is ever waited for with it held, nor with that of
 * another space: a reader may be waiting for that one. Each thread counts the writer
 * locks that it holds; above 0 it is treated as in a section. The bound on garbage is
 * kept here, before an operation has done anything: a writer that finds
 * it reached gives the lock back, waits for readers, and comes again. So is the bound on
 * references that are due and not released. Meanwhile it has a place on a line (line.c).
 */
#include "reclaim/calls.h"
#include "space/halt.h"
#include "update/line.h"
#include "update/pins.h"

bool asp_is_waited_for(struct aspace *space)
{
	return *asp_writer_locks() || asp_grace_in_section(space->grace);
}

static inline __attribute__((always_inline)) enum aspace_status become(struct aspace *space,
								       unsigned how)
{
	if (asp_is_owner(space))
		return ASPACE_DEADLOCK;
	/* Whoever holds a pin of the space counts there, too, and who is in its stall hook with a place
	 * in a line. */
	if (__builtin_expect(*asp_writer_locks() != 0, 0) &&
	    (asp_pins_mine(space) || asp_stall_is_beneath(space, true)))
		return ASPACE_DEADLOCK;
	if (!(how & ASPACE_NOWAIT))
		asp_lock_acquire(&space->lock);
	else if (!asp_lock_try(&space->lock))
		return ASPACE_BUSY;
	atomic_store_explicit(&space->owner, asp_thread_self(), memory_order_relaxed);
	++*asp_writer_locks();
	/* Sequentially consistent: halt.c, 2. */
	if (__builtin_expect(atomic_load(&space->halts) != 0, 0))
		return asp_rest_at_entry(space, how);
	return ASPACE_OK;
}

static inline __attribute__((always_inline)) enum aspace_status become_and_recycle(
	struct aspace *space, unsigned how)
{
	enum aspace_status status = become(space, how);

	if (status == ASPACE_OK)
		asp_reclaim_nodes(space);
	return status;
}

enum aspace_status asp_writer_become(struct aspace *space, unsigned how)
{
	return become_and_recycle(space, how);
}

enum aspace_status asp_writer_enter_now(struct aspace *space, unsigned how)
{
	enum aspace_status status = asp_writer_become(space, how);

	if (status == ASPACE_OK)
		asp_pins_say(space, ASP_CHANGES_NOTHING);
	return status;
}

void asp_writer_pass(struct aspace *space)
{
	atomic_store_explicit(&space->owner, asp_thread_self(), memory_order_relaxed);
	++*asp_writer_locks();
	asp_writer_leave(space);
}

/* Is there anything that may be due? */
static inline bool any_waits(const struct aspace *space)
{
	return space->leaving.head || space->deferred.head ||
	       atomic_load_explicit(&space->pins.resumable, memory_order_relaxed);
}

/* Backends are asked, about areas that are claimed. */
__attribute__((noinline)) static bool take_share(struct aspace *space)
{
	bool room;

	if (!asp_reclaim_any_due(space))
		return true;
	asp_pins_say(space, ASP_CHANGES_NOTHING);
	room = asp_reclaim_share(space);
	asp_pins_say_anew(space);
	return room;
}

static inline __attribute__((always_inline)) enum aspace_status come(struct aspace *space,
								     unsigned how, bool *room)
{
	enum aspace_status status = become_and_recycle(space, how);

	*room = true;
	if (status == ASPACE_OK && __builtin_expect(any_waits(space), 0))
		*room = take_share(space);
	return status;
}

/* While there is more room than this at the bound on garbage, who comes goes beside those who wait: they have
 * been told to come, and there is some for each of them, about 400 updates. Else a line would not end where
 * threads come back faster than they wake, and each operation would cost a switch of threads. */
#define ROOM_FOR_WAITERS ((uint64_t)1 << 20)

static bool is_roomy(struct aspace *space)
{
	return asp_retired_bytes(space) + ROOM_FOR_WAITERS < space->options.garbage_max &&
	       asp_calls_room(&space->calls) > ASP_CALLS / 4;
}

/* Does somebody wait here who goes before it? Who comes leaves the room that there is to these, but
 * where there is plenty. */
static bool is_held_up(struct aspace *space, const struct asp_waiter *place)
{
	return asp_line_holds_up(space, place, ASP_FOR_ALL) ||
	       (!is_roomy(space) && asp_line_holds_up(space, place, ASP_FOR_ROOM));
}

/* With the lock held, which it gives back and takes again, or loses where it answers another status than
 * ASPACE_OK. */
static enum aspace_status wait_for_room(struct aspace *space, unsigned how, bool room,
					struct asp_waiter *place)
{
	enum aspace_status status = ASPACE_OK;

	while (status == ASPACE_OK) {
		bool full = asp_retired_bytes(space) > space->options.garbage_max;
		uint64_t stamp = full ? asp_reclaim_request(space) : 0;
		bool queues = asp_line_may_wait(space, how), first = true, go_on = true;

		full |= !room;
		if (!full && !(queues && is_held_up(space, place)))
			return ASPACE_OK;
		if (queues)
			first = asp_line_join(space, place, ASP_FOR_ROOM);
		asp_writer_leave(space);
		if ((how & ASPACE_NOWAIT) || asp_is_waited_for(space))
			return ASPACE_BUSY;
		if (!first)
			go_on = asp_line_await(space, place);
		else if (stamp)
			go_on = asp_wait_for_readers(space, stamp);
		else if (full)
			go_on = asp_calls_await_room(space);
		status = go_on ? come(space, how, &room) : ASPACE_BUSY;
	}
	return status;
}

/* Through, it leaves the line. */
static __attribute__((noinline)) enum aspace_status enter_in_line(struct aspace *space,
								  unsigned how, bool room)
{
	struct asp_waiter place = {.since = 0};
	enum aspace_status status = wait_for_room(space, how, room, &place);

	asp_line_leave(space, &place);
	return status;
}

enum aspace_status asp_writer_enter(struct aspace *space, unsigned how)
{
	bool room;
	enum aspace_status status = come(space, how, &room);

	if (status != ASPACE_OK)
		return status;
	if (__builtin_expect(asp_retired_bytes(space) <
				     atomic_load_explicit(&space->gate, memory_order_relaxed),
			     1) &&
	    __builtin_expect(room, 1))
		return ASPACE_OK;
	return enter_in_line(space, how, room);
}

enum aspace_status asp_writer_enter_again(struct aspace *space, unsigned how,
					  struct asp_waiter *place)
{
	bool room;
	enum aspace_status status = come(space, how, &room);

	if (status == ASPACE_OK)
		status = wait_for_room(space, how, room, place);
	/* Through, it holds nobody up there. */
	asp_line_drop(space, place, ASP_FOR_ROOM);
	return status;
}

/* The stamp of what waits longest on the list, or never. Under the lock. */
static uint64_t first_stamp(const struct aspace_record_list *list)
{
	return list->head ? list->head->stamp : UINT64_MAX;
}

/* When the next leaving area, and the next reference, may be due. */
struct next {
	uint64_t leaving, deferred;
};

static __attribute__((noinline)) struct next next_stamps(const struct aspace *space)
{
	struct next next = {first_stamp(&space->leaving), first_stamp(&space->deferred)};

	if (next.leaving < space->lacking)
		next.leaving = space->lacking;
	return next;
}

static __attribute__((noinline)) void ask_if_due(struct aspace *space, struct next next)
{
	if (asp_grace_elapsed(space->grace, next.leaving) ||
	    (asp_grace_elapsed(space->grace, next.deferred) && !atomic_load(&space->calls.clogged)))
		asp_grace_request(space->grace, &space->client, 1);
}

void asp_writer_leave(struct aspace *space)
{
	bool waits = space->leaving.head || space->deferred.head;
	struct next next;

	if (__builtin_expect(waits, 0))
		next = next_stamps(space);
	asp_pins_unsay(space);
	atomic_store_explicit(&space->owner, 0, memory_order_relaxed);
	--*asp_writer_locks();
	asp_lock_release(&space->lock);
	asp_pins_left(space);

	/* The helper thread gives up where it finds the lock taken. Either it found it
	 * free, or its note that a grace period has ended came before our release, and
	 * is seen here (platform.h, Locks): then it is asked to come again. Not for references
	 * that there is no room for: who makes room asks (calls.c). Sequentially consistent loads,
	 * after the release. */
	if (__builtin_expect(waits, 0))
		ask_if_due(space, next);
	if (__builtin_expect(atomic_load(&space->freed_any) || atomic_load(&space->pins.resumable),
			     0))
		asp_grace_request(space->grace, &space->client, 1);
}
