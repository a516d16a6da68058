/* SPDX-License-Identifier: MIT */
/*
 * The list of pins around a fork.
 *
 * Invariants (numbers of pins.c):
 *  N9  `forkers` is the number of entries with `forks`: pins of threads that are in the hook before
 *      fork. In a child only the entries of the thread that forked are left, and all that is counted
 *      is counted of these.
 */
#include "update/pin_list.h"

void asp_pins_begin_fork(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;
	uintptr_t self = asp_thread_self();
	bool any = false;

	asp_mutex_acquire(&pins->lock);
	for (struct asp_pin *pin = pins->first; pin; pin = pin->next) {
		if (pin->thread != self || pin->kind == ASP_CLAIM || pin->forks)
			continue;
		pin->forks = any = true;
		pins->forkers++;
	}
	/* Who waits looks again. */
	for (struct asp_pin *pin = pins->first; any && pin; pin = pin->next) {
		if (!pin->at_work)
			asp_pin_tell(space, pin);
	}
	asp_pins_unlock(space);
}

/* It is over. In the child the other threads that were about to fork are gone. */
static void end_fork(struct aspace *space, bool child)
{
	uintptr_t self = asp_thread_self();

	for (struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		if (!pin->forks || pin->thread != self)
			continue;
		pin->forks = false;
		space->pins.forkers--;
	}
	if (child)
		space->pins.forkers = 0;
}

void asp_pins_before_fork(struct aspace *space)
{
	asp_mutex_acquire(&space->pins.lock);
	atomic_store_explicit(&space->pins.forking, asp_thread_self(), memory_order_relaxed);
}

/* Of the threads that are gone some were counted that have no entry. */
static void count_again(struct aspace *space)
{
	uint32_t behind = 0;

	for (struct asp_pin *pin = space->pins.first; pin; pin = pin->next)
		behind += pin->behind;
	atomic_store_explicit(&space->pins.behind, behind, memory_order_relaxed);
	space->pins.waiters = 0;
}

void asp_pins_after_fork(struct aspace *space, bool child)
{
	uintptr_t self = asp_thread_self();
	struct asp_pin *next;

	atomic_store_explicit(&space->pins.forking, 0, memory_order_relaxed);
	end_fork(space, child);
	if (child) {
		asp_mutex_forget_waiters(&space->pins.lock);
		/* The others are gone, and with them the stacks that their entries were on. */
		for (struct asp_pin *pin = space->pins.first; pin; pin = next) {
			next = pin->next;
			if (pin->thread != self)
				asp_pin_take_out(space, pin);
		}
		count_again(space);
		if (space->pins.leaving.head || space->pins.deferred.head)
			atomic_store(&space->pins.resumable, true);
	}
}
