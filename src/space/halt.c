/* SPDX-License-Identifier: MIT */
/*
 * A space that stands still for a fork: whole, with nobody in the middle of changing it.
 *
 * The fork does not stand in the line of the writer lock. It says that it is there (`halts`), and waits
 * until it finds the lock free, or its holder at *rest*: waiting, where the space is whole. Writers
 * rest as they come in, before they have done anything, while a fork is there; and a transaction that
 * commits rests while it waits for faults (update/claims.c). So a fork waits for the operation that is
 * under way, or the transaction that is open, and never for a fault; and writers who come all the time
 * do not keep it out. Who rests has the lock, and the fork has it lent. In the child that thread is gone: its
 * transaction is dropped.
 *
 * Invariants, under the lock of the list of pins:
 *  1. `resting` is set while the holder of the writer lock is at rest, and stays so while `lent` is.
 *  2. A fork that waits is counted in `halts` and in `behind`. Whoever has drawn a ticket since sees the
 *     one and rests, or who is through sees the other and tells (both are sequentially consistent, as
 *     what becomes of the lock is).
 */
#include "space/halt.h"
#include "update/pins.h"
#include "update/plan.h"

static void tell(struct asp_pins *pins)
{
	/* Who forks, and who rests for that. */
	atomic_fetch_add(&pins->turn, 1);
	asp_wake_all(&pins->turn);
}

/* ---- The fork ----------------------------------------------------------------- */

/* Under the lock of the list. */
static bool try_to_halt(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;

	/* A callback forks, or who has a transaction open. Another fork may have the lock just now. */
	if (asp_is_owner(space) && !pins->lent)
		return pins->kept = true;
	/* Not while it forks itself, in a hook that it has called. */
	if (pins->resting && !pins->lent && !pins->kept)
		return pins->lent = true;
	if (!asp_lock_try(&space->lock))
		return false;
	/* Faults go on beside it. */
	asp_pins_say(space, ASP_CHANGES_NOTHING);
	return true;
}

/* Until somebody tells, at most until the deadline. Where there is none, nothing else is held, and the stall
 * hook is to be told: true, if now. */
static bool sleep_until(struct aspace *space, uint32_t seen, uint64_t deadline,
			const struct asp_stall *stall)
{
	uint64_t now = asp_now_ms();

	if (deadline && now >= deadline)
		return false;
	asp_wait_holding(&space->pins.turn, seen,
			 deadline ? (unsigned)(deadline - now) : asp_stall_left(space, stall));
	return !deadline && asp_stall_is_due(space, stall);
}

/* Counted, so that writers rest, and who leaves the lock tells. */
static void count(struct aspace *space, uint32_t one)
{
	atomic_fetch_add(&space->halts, one);
	atomic_fetch_add(&space->pins.behind, one);
}

/* Not counted meanwhile: nobody rests for a hook; and it may fork, so that this goes on in a child. */
static void tell_hook(struct aspace *space, struct asp_stall *stall)
{
	count(space, -1u);
	tell(&space->pins);
	asp_stall_tell_holding(space, stall);
	count(space, 1);
}

bool asp_halt(struct aspace *space, uint64_t deadline)
{
	struct asp_pins *pins = &space->pins;
	struct asp_stall stall = asp_stall_begin();
	bool halted;

	asp_mutex_acquire(&pins->lock);
	count(space, 1);
	for (;;) {
		/* Before the look: who gives the writer lock back tells without the lock of the list. */
		uint32_t seen = atomic_load(&pins->turn);

		halted = try_to_halt(space);
		if (halted || (deadline && asp_now_ms() >= deadline))
			break;
		asp_mutex_release(&pins->lock);
		if (sleep_until(space, seen, deadline, &stall))
			tell_hook(space, &stall);
		asp_mutex_acquire(&pins->lock);
	}
	count(space, -1u);
	/* Who rests for a fork that has given up goes on. */
	if (!halted)
		tell(pins);
	asp_mutex_release(&pins->lock);
	return halted;
}

void asp_halt_enter(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;

	if (pins->kept)
		return;
	pins->lender = atomic_load_explicit(&space->owner, memory_order_relaxed);
	atomic_store_explicit(&space->owner, asp_thread_self(), memory_order_relaxed);
	++*asp_writer_locks();
}

/* Under the lock of the list. True: the writer lock is our own, and given back as a writer does. */
static bool give_back(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;
	bool ours = !pins->kept && !pins->lent;

	if (pins->lent) {
		tell(pins);
		asp_pins_tell_transaction(space);
	}
	pins->kept = pins->lent = false;
	return ours;
}

/* As a writer, for whoever has found the lock taken. */
static void leave(struct aspace *space)
{
	atomic_store_explicit(&space->owner, asp_thread_self(), memory_order_relaxed);
	++*asp_writer_locks();
	asp_writer_leave(space);
}

void asp_resume(struct aspace *space)
{
	bool ours;

	asp_mutex_acquire(&space->pins.lock);
	ours = give_back(space);
	asp_pins_unlock(space);
	if (ours)
		leave(space);
}

/* In the child, where the others are gone: with the owner's rights. */
static void forget_others(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;

	atomic_store_explicit(&space->halts, 0, memory_order_relaxed);
	/* Who had the lock was at rest, so what it had made is whole. */
	if (pins->lent && space->plan.open)
		asp_plan_drop(&space->plan);
	if (pins->lent)
		pins->lender = 0;
	pins->lent = pins->resting = false;
}

void asp_halt_leave(struct aspace *space, bool child)
{
	struct asp_pins *pins = &space->pins;
	bool ours;

	if (child)
		forget_others(space);
	if (!pins->kept) {
		atomic_store_explicit(&space->owner, pins->lender, memory_order_relaxed);
		--*asp_writer_locks();
	}
	ours = give_back(space);
	asp_pins_unlock(space);
	if (ours)
		leave(space);
}

/* ---- Writers --------------------------------------------------------------------- */

uint32_t asp_rest_begin(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;

	if (!pins->resting) {
		pins->resting = true;
		if (atomic_load(&space->halts))
			tell(pins);
	}
	return atomic_load(&pins->turn);
}

enum aspace_status asp_rest_at_entry(struct aspace *space, unsigned how)
{
	struct asp_pins *pins = &space->pins;
	struct asp_stall stall;

	if (how & ASPACE_NOWAIT) {
		asp_writer_leave(space);
		return ASPACE_BUSY;
	}
	stall = asp_stall_begin();
	/* Faults go on beside it. */
	asp_pins_say(space, ASP_CHANGES_NOTHING);
	asp_mutex_acquire(&pins->lock);
	while (pins->lent || atomic_load(&space->halts)) {
		uint32_t seen = asp_rest_begin(space);

		asp_mutex_release(&pins->lock);
		asp_wait_holding(&pins->turn, seen, asp_stall_left(space, &stall));
		if (asp_stall_is_due(space, &stall))
			asp_stall_tell_holding(space, &stall);
		asp_mutex_acquire(&pins->lock);
	}
	pins->resting = false;
	asp_mutex_release(&pins->lock);
	asp_pins_say_anew(space);
	return ASPACE_OK;
}
