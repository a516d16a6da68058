/* SPDX-License-Identifier: MIT */
/*
 * Turning a grace period over, and waiting for one.
 *
 * Invariants:
 *  1. No lock is held while a grace period is waited for.
 *  2. No function here but a helper's own waits calls synchronize_rcu, unless there is
 *     no helper (in a forked child), or the helper is inside a client's work, whose
 *     callbacks may wait for the very thread that waits here. (bp then holds that
 *     thread's signals back until the grace period is over; better than never.)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/linux/grace.h"

static void synchronize(struct asp_grace *grace, uint64_t number)
{
	int cancel;

	asp_lock_check_none("waiting for a grace period");
	/* Both are cancellation points inside; see helper.c. */
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
	uint32_t turn;

	if (deadline && now >= deadline)
		return;
	/* Sequentially consistent with the driver's pair in asp_grace_turn_over(): it advances
	 * turn and reads waiters, we advance waiters and read turn. One of us sees
	 * the other. */
	atomic_fetch_add(&grace->waiters, 1);
	turn = atomic_load(&grace->turn);
	if (!asp_grace_elapsed(grace, stamp) && !atomic_load(&grace->working))
		asp_wait(&grace->turn, turn, (unsigned)(deadline ? deadline - now : 0));
	atomic_fetch_sub_explicit(&grace->waiters, 1, memory_order_relaxed);
}

/* Turn one grace period over, unless somebody else is at it: then wait for that one.
 * One driver at a time keeps the numbers in step (and lets asp_read_unlock() argue);
 * liburcu would make the second wait anyway. */
void asp_grace_turn_over(struct asp_grace *grace)
{
	uint32_t free = 0;
	uint64_t number;

	/* Acquire and release hand started and ended from driver to driver. */
	if (!atomic_compare_exchange_strong_explicit(&grace->driver, &free, 1, memory_order_acquire,
						     memory_order_relaxed)) {
		await_turn(grace, atomic_load_explicit(&grace->started, memory_order_relaxed), 0);
		return;
	}
	number = atomic_fetch_add_explicit(&grace->started, 1, memory_order_acq_rel) + 1;
	synchronize(grace, number);
	/* See asp_grace_elapsed(). */
	atomic_store(&grace->ended, number);
	atomic_store_explicit(&grace->driver, 0, memory_order_release);
	/* See await_turn(). */
	atomic_fetch_add(&grace->turn, 1);
	if (atomic_load(&grace->waiters))
		asp_wake_all(&grace->turn);
}

/* Work runs the program's callbacks, for as long as they like, and perhaps waiting for a
 * lock that somebody holds who waits for a grace period: who waits must turn it over
 * itself meanwhile. Those that sleep already are woken to see that. Sequentially
 * consistent with await_turn(), which reads turn and then working. */
void asp_grace_set_working(struct asp_grace *grace, uint32_t working)
{
	atomic_store(&grace->working, working);
	atomic_fetch_add(&grace->turn, 1);
	if (atomic_load(&grace->waiters))
		asp_wake_all(&grace->turn);
}

bool asp_grace_wait(struct asp_grace *grace, uint64_t stamp, unsigned timeout_ms)
{
	uint64_t deadline = timeout_ms ? asp_now_ms() + timeout_ms : 0;

	if (asp_grace_elapsed(grace, stamp))
		return true;
	/* Here, too: the helper may be faster than the look below. */
	asp_lock_check_none("waiting for a grace period");
	asp_grace_request(grace, NULL, stamp);
	/*
	 * A helper waits for nobody: not for itself, of course, and not for another
	 * flavour's, whose work might be waiting for this one's grace periods. The
	 * timeout is not kept there. The same where there is no helper: in a forked child.
	 */
	while (!grace->dead && !asp_grace_elapsed(grace, stamp) &&
	       (asp_helping ||
		atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_NONE))
		asp_grace_turn_over(grace);
	/* Nothing will come to pass: do not wait for ever. */
	if (grace->dead && !timeout_ms)
		return asp_grace_elapsed(grace, stamp);
	while (!asp_grace_elapsed(grace, stamp)) {
		if (deadline && asp_now_ms() >= deadline)
			return false;
		if (atomic_load(&grace->working))
			asp_grace_turn_over(grace);
		else
			await_turn(grace, stamp, deadline);
	}
	return true;
}
