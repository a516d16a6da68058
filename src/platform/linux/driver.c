/* SPDX-License-Identifier: MIT */
/*
 * The driver thread of a flavour: turns grace periods over.
 *
 * Why a thread and not call_rcu: liburcu's thread sleeps 10 ms a round, so garbage
 * comes back cold; and why not synchronize_rcu in the thread that wants the grace
 * period: bp blocks all signals meanwhile and dies of cancellation, so no thread of
 * the program may be caught in it. A thread of the program waits upon a word. And why not
 * the helper: it runs the program's callbacks, for as long as they like, and perhaps waiting for
 * a lock that somebody holds who waits for a grace period.
 *
 * Bells. Whoever wants something from the owner of a bell writes what, then adds 2
 * (release). The owner reads it (acquire), does all there is to do, and goes to
 * sleep by exchanging the value that it read for the same plus 1: either it has seen
 * the ring, and what was written before it, or the exchange fails.
 *
 * Invariants:
 *  1. The driver takes no lock, and runs nothing of the program's: it waits for readers only.
 *  2. There is one while the helper runs, which has made it and sees its end: but in a forked
 *     child whose only thread was the helper, and where none could be made anew. Then
 *     who wants a grace period turns it over.
 *  3. A thread is made only within asp_grace_attach() or asp_grace_want_helper(): these wait until it has
 *     been. So they must not have to wait for a driver that waits for readers: one that is told to go can be told
 *     to stay, until it is outside of grace periods and goes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/linux/grace.h"

#include <signal.h>

/* Callbacks of the program run on the helper's stack. */
#define STACK_MIN ((size_t)1 << 20)

void asp_bell_ring(_Atomic uint32_t *bell)
{
	/* Release: see "Bells" above. */
	if (!(atomic_fetch_add_explicit(bell, 2, memory_order_acq_rel) & 1))
		return;
	/* It sleeps. Who takes the mark away wakes it, once for a crowd of ringers. */
	if (atomic_fetch_and_explicit(bell, ~UINT32_C(1), memory_order_acq_rel) & 1)
		asp_wake_all(bell);
}

uint32_t asp_bell_look(_Atomic uint32_t *bell)
{
	return atomic_fetch_and_explicit(bell, ~UINT32_C(1), memory_order_acq_rel) & ~UINT32_C(1);
}

void asp_bell_sleep(_Atomic uint32_t *bell, uint32_t seen)
{
	uint32_t asleep = seen | 1;

	if (!atomic_compare_exchange_strong_explicit(bell, &seen, asleep, memory_order_acq_rel,
						     memory_order_relaxed))
		return;
	while (atomic_load_explicit(bell, memory_order_acquire) == asleep)
		asp_wait(bell, asleep, 0);
}

int asp_thread_create(pthread_t *thread, void *(*entry)(void *), void *arg)
{
	sigset_t all, mask;
	pthread_attr_t attr;
	size_t stack;
	int error;

	asp_lock_check_none("making a thread");
	error = pthread_attr_init(&attr);
	if (error)
		return error;
	if (!pthread_attr_getstacksize(&attr, &stack) && stack < STACK_MIN)
		pthread_attr_setstacksize(&attr, STACK_MIN);
	/* The program's handlers must not find themselves on a thread that it has not
	 * made, with callbacks beneath them. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &mask);
	error = pthread_create(thread, &attr, entry, arg);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	pthread_attr_destroy(&attr);
	return error;
}

void asp_thread_join(pthread_t thread)
{
	int cancel;

	asp_lock_check_none("joining a thread");
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel, NULL);
}

void asp_flavour_enter(struct asp_grace *grace)
{
	if (!grace->flavour)
		return;
	grace->flavour->register_thread();
	/* qsbr: idle, no grace period waits for us. */
	grace->flavour->thread_offline();
}

void asp_flavour_leave(struct asp_grace *grace)
{
	if (grace->flavour)
		grace->flavour->unregister_thread();
}

static bool is_stopping(struct asp_grace *grace)
{
	return atomic_load_explicit(&grace->driving, memory_order_acquire) == DRIVER_STOPPING;
}

/* On the driver: it goes, if it is to. From here on it waits for nobody. */
static bool goes(struct asp_grace *grace)
{
	uint32_t told = DRIVER_STOPPING;

	return atomic_compare_exchange_strong_explicit(&grace->driving, &told, DRIVER_GONE,
						       memory_order_acq_rel, memory_order_relaxed);
}

static void *driver_main(void *arg)
{
	struct asp_grace *grace = arg;

	pthread_setname_np(pthread_self(), "aspace-driver");
	asp_flavour_enter(grace);
	while (!goes(grace)) {
		uint32_t seen = asp_bell_look(&grace->driver_bell);

		if (asp_grace_wanted(grace))
			asp_grace_turn_over(grace);
		if (asp_grace_work_wanted(grace))
			asp_helper_ring(grace);
		if (!asp_grace_wanted(grace) && !is_stopping(grace))
			asp_bell_sleep(&grace->driver_bell, seen);
	}
	asp_wake_all(&grace->driving);
	asp_flavour_leave(grace);
	return NULL;
}

bool asp_driver_start(struct asp_grace *grace)
{
	/* Before it looks. Nobody else stores here while there is a helper. */
	atomic_store_explicit(&grace->driving, DRIVER_STARTING, memory_order_release);
	if (asp_thread_create(&grace->driver_thread, driver_main, grace)) {
		atomic_store_explicit(&grace->driving, DRIVER_NONE, memory_order_release);
		return false;
	}
	atomic_store_explicit(&grace->driving, DRIVER_RUNNING, memory_order_release);
	return true;
}

/* Under the lock, as whoever calls the helper back: it sees the driver told, or we see it. */
static bool tell_to_go(struct asp_grace *grace)
{
	bool go;

	asp_lock_acquire(&asp_flavours_lock);
	go = atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_STOPPING;
	if (go && asp_has_driver(grace))
		atomic_store_explicit(&grace->driving, DRIVER_STOPPING, memory_order_release);
	asp_lock_release(&asp_flavours_lock);
	return go;
}

bool asp_driver_stop(struct asp_grace *grace)
{
	uint32_t driving;

	if (!tell_to_go(grace))
		return false;
	asp_bell_ring(&grace->driver_bell);
	/* Acquire: what it has done is done. */
	while ((driving = atomic_load_explicit(&grace->driving, memory_order_acquire)) ==
	       DRIVER_STOPPING)
		asp_wait(&grace->driving, driving, 0);
	if (driving == DRIVER_GONE)
		asp_thread_join(grace->driver_thread);
	return driving != DRIVER_RUNNING;
}

bool asp_driver_keep(struct asp_grace *grace)
{
	uint32_t told = DRIVER_STOPPING;

	if (atomic_compare_exchange_strong_explicit(&grace->driving, &told, DRIVER_RUNNING,
						    memory_order_acq_rel, memory_order_relaxed))
		asp_wake_all(&grace->driving);
	else if (told == DRIVER_GONE)
		return false;
	return true;
}

bool asp_driver_await(struct asp_grace *grace)
{
	bool waited = false;
	uint32_t driving;

	/* Acquire, though only the value counts. */
	while ((driving = atomic_load_explicit(&grace->driving, memory_order_acquire)) ==
		       DRIVER_GONE ||
	       driving == DRIVER_STARTING) {
		waited = true;
		asp_wait(&grace->driving, driving, 0);
	}
	return !waited || driving != DRIVER_NONE;
}

void asp_driver_ring(struct asp_grace *grace)
{
	if (asp_has_driver(grace))
		asp_bell_ring(&grace->driver_bell);
	else
		asp_helper_ring(grace);
}
