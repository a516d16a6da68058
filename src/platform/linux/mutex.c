/* SPDX-License-Identifier: MIT */
/*
 * Hosted locks that are held for a look only: a word over futex(2). ("Futexes are tricky", Drepper 2011,
 * has this one as its second mutex.)
 *
 * It is not fair: who comes when it is free has it. A line would have to stand still where the next in
 * it does not run, which is most of the time where there are more threads than processors; here
 * somebody who runs goes on.
 *
 * Invariants:
 *  1. While somebody sleeps, or is about to, the state is CONTENDED, or one has been woken who will make it so:
 *     who has slept cannot know whether others do.
 *  2. As 3 and 4 of lock.c.
 */
#include "platform/platform.h"

enum state {
	FREE, /* what zeroes mean */
	HELD,
	CONTENDED, /* held, and who gives it back wakes one */
};

/* As for the writers' lock. */
#define SPINS 100

void asp_mutex_init(struct asp_mutex *mutex, enum asp_lock_rank rank, uint64_t number)
{
	atomic_init(&mutex->state, FREE);
#ifdef ASP_LOCK_ORDER
	mutex->held = (struct asp_held){.rank = rank, .number = number};
#else
	(void)rank, (void)number;
#endif
}

/* Acquires what the last holder released. */
static inline bool take(struct asp_mutex *mutex)
{
	uint32_t free = FREE;

	return atomic_compare_exchange_strong_explicit(&mutex->state, &free, HELD,
						       memory_order_acquire, memory_order_relaxed);
}

/* Rare, and apart: it would cost who need not wait. */
static __attribute__((noinline)) void await(struct asp_mutex *mutex)
{
	for (int spins = 0; spins < SPINS; spins++) {
		if (atomic_load_explicit(&mutex->state, memory_order_relaxed) == FREE &&
		    take(mutex))
			return;
		asp_relax();
	}
	/* Acquire, as take(). */
	while (atomic_exchange_explicit(&mutex->state, CONTENDED, memory_order_acquire) != FREE)
		asp_wait_holding(&mutex->state, CONTENDED, 0);
}

void asp_mutex_acquire(struct asp_mutex *mutex)
{
	asp_order_check(asp_held_of(mutex));
	asp_bp_register();
	if (__builtin_expect(!take(mutex), 0))
		await(mutex);
	asp_order_add(asp_held_of(mutex));
}

void asp_mutex_release(struct asp_mutex *mutex)
{
	asp_held_remove(asp_held_of(mutex));
	/* From here on the lock may be gone, with all that it is in. */
	if (atomic_exchange_explicit(&mutex->state, FREE, memory_order_release) == CONTENDED)
		asp_wake_one(&mutex->state);
}

void asp_mutex_forget_waiters(struct asp_mutex *mutex)
{
	/* Alone in the child: relaxed is enough. */
	atomic_store_explicit(&mutex->state, HELD, memory_order_relaxed);
}
