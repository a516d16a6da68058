/* SPDX-License-Identifier: MIT */
/*
 * Turning a grace period over, and waiting for one.
 *
 * Invariants:
 *  1. No lock is held while a grace period is waited for.
 *  2. Only the driver calls synchronize_rcu, unless there is none (driver.c, 2). bp then holds that
 *     thread's signals back until the grace period is over; better than never.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/linux/grace.h"

static void synchronize(struct asp_grace *grace, uint64_t number)
{
	int cancel;

	/* Both are cancellation points inside; see driver.c. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (grace->flavour)
		grace->flavour->update_synchronize_rcu();
	else
		urcu_bp_synchronize_rcu();
	pthread_setcancelstate(cancel, NULL);
#ifdef ASP_TSAN
	/* See asp_read_unlock(). */
	__tsan_acquire(&grace->sections[(number - 1) & 3]);
	__tsan_acquire(&grace->sections[number & 3]);
#else
	(void)number;
#endif
}

/* Sleep until a grace period ends, at most until deadline (asp_now_ms(); 0: none);
 * not at all where stamp has elapsed. May return early. */
static void await_turn(struct asp_grace *grace, uint64_t stamp, uint64_t deadline)
{
	uint64_t now = deadline ? asp_now_ms() : 0;
	uint32_t turn = atomic_load_explicit(&grace->turn.value, memory_order_acquire);

	if (deadline && now >= deadline)
		return;
	/* A grace period that ends from here on advances turn, and it does so after `ended`. */
	if (!asp_grace_elapsed(grace, stamp))
		asp_count_wait(&grace->turn, turn, (unsigned)(deadline ? deadline - now : 0));
}

/* Turn one grace period over, unless somebody else is at it: then wait for that one.
 * One driver at a time keeps the numbers in step (and lets asp_read_unlock() argue);
 * liburcu would make the second wait anyway. */
void asp_grace_turn_over(struct asp_grace *grace)
{
	uint32_t free = 0;
	uint64_t number;

	/* Acquire and release hand started and ended from driver to driver. */
	if (!atomic_compare_exchange_strong_explicit(&grace->turning, &free, 1,
						     memory_order_acquire, memory_order_relaxed)) {
		await_turn(grace, atomic_load_explicit(&grace->started, memory_order_relaxed), 0);
		return;
	}
	number = atomic_fetch_add_explicit(&grace->started, 1, memory_order_acq_rel) + 1;
	synchronize(grace, number);
	/* See asp_grace_elapsed(). */
	atomic_store(&grace->ended, number);
	atomic_store_explicit(&grace->turning, 0, memory_order_release);
	/* See await_turn(). */
	asp_count_add(&grace->turn);
}

bool asp_grace_wait(struct asp_grace *grace, uint64_t stamp, unsigned timeout_ms)
{
	uint64_t deadline = timeout_ms ? asp_now_ms() + timeout_ms : 0;

	asp_lock_check_none("waiting for a grace period");
	if (asp_grace_elapsed(grace, stamp))
		return true;
	asp_grace_request(grace, NULL, stamp);
	/* The timeout is not kept here. */
	while (!grace->dead && !asp_has_driver(grace) && !asp_grace_elapsed(grace, stamp))
		asp_grace_turn_over(grace);
	/* Nothing will come to pass: do not wait for ever. */
	if (grace->dead && !timeout_ms)
		return asp_grace_elapsed(grace, stamp);
	while (!asp_grace_elapsed(grace, stamp)) {
		if (deadline && asp_now_ms() >= deadline)
			return false;
		await_turn(grace, stamp, deadline);
	}
	return true;
}
