/* SPDX-License-Identifier: MIT */
/*
 * The helper thread of a flavour: turns grace periods over and runs what has come due.
 *
 * Why a helper and not call_rcu: liburcu's thread sleeps 10 ms a round, so garbage
 * comes back cold; and why not synchronize_rcu in the thread that wants the grace
 * period: bp blocks all signals meanwhile and dies of cancellation, so no thread of
 * the program may be caught in it. A thread of the program waits upon a word.
 *
 * Waking. Whoever wants something from the helper writes what, then adds 2 to bell
 * (release). The helper reads bell (acquire), does all there is to do, and goes to
 * sleep by exchanging the value that it read for the same plus 1: either it has seen
 * the ring, and what was written before it, or the exchange fails.
 *
 * Invariants:
 *  1. No lock is held while work runs, and while a thread is created or joined: an
 *     allocator on top of this library may be called there.
 *  2. A client's work runs only while the client is grace->running.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/linux/grace.h"

#include <signal.h>

/* Callbacks of the program run on the helper's stack. */
#define HELPER_STACK_MIN ((size_t)1 << 20)

ASP_THREAD_LOCAL struct asp_grace *asp_helping;

void asp_helper_ring(struct asp_grace *grace)
{
	/* Release: see "Waking" above. */
	if (!(atomic_fetch_add_explicit(&grace->bell, 2, memory_order_acq_rel) & 1))
		return;
	/* It sleeps. Who takes the mark away wakes it, once for a crowd of ringers. */
	if (atomic_fetch_and_explicit(&grace->bell, ~UINT32_C(1), memory_order_acq_rel) & 1)
		asp_wake_all(&grace->bell);
}

/* Sleep unless the bell has been rung since it was read as seen. */
static void sleep_until_rung(struct asp_grace *grace, uint32_t seen)
{
	uint32_t asleep = seen | 1;

	if (!atomic_compare_exchange_strong_explicit(&grace->bell, &seen, asleep,
						     memory_order_acq_rel, memory_order_relaxed))
		return;
	while (atomic_load_explicit(&grace->bell, memory_order_acquire) == asleep)
		asp_wait(&grace->bell, asleep, 0);
}

/* Run the work that has come due. */
static void run_due(struct asp_grace *grace)
{
	struct asp_grace_client *client;
	bool online = false;

	asp_lock_acquire(&asp_flavours_lock);
	grace->cursor = grace->clients;
	while ((client = grace->cursor)) {
		grace->cursor = client->next;
		if (!asp_grace_take_due(grace, client))
			continue;
		client->pins = 1;
		client->worker = asp_thread_self();
		grace->running = client;
		asp_lock_release(&asp_flavours_lock);

		/* Callbacks may look up; under qsbr only an online thread may. */
		if (grace->flavour && !online)
			grace->flavour->thread_online();
		online = true;
		asp_grace_set_working(grace, 1);
		client->work(client);
		atomic_store(&grace->working, 0);

		asp_lock_acquire(&asp_flavours_lock);
		/* Else it detached itself, and may be gone. */
		if (grace->running == client) {
			grace->running = NULL;
			client->pins = 0;
			client->worker = 0;
		}
		/* Wakes asp_grace_detach(); the lock orders, the count only changes. */
		atomic_fetch_add_explicit(&grace->idle, 1, memory_order_relaxed);
		asp_wake_all(&grace->idle);
	}
	asp_lock_release(&asp_flavours_lock);
	if (grace->flavour && online)
		grace->flavour->thread_offline();
}

/* Join whatever helper of this flavour has ended, if nobody has yet. */
void asp_helper_join(struct asp_grace *grace)
{
	pthread_t thread;
	int cancel;

	asp_lock_acquire(&asp_flavours_lock);
	thread = grace->exited;
	if (!grace->joinable) {
		asp_lock_release(&asp_flavours_lock);
		return;
	}
	grace->joinable = false;
	asp_lock_release(&asp_flavours_lock);

	asp_lock_check_none("joining a thread");
	/* It holds nothing and waits for nothing of ours any more. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel, NULL);
}

/* On the helper. True: this was the end. */
static bool leave_if_stopping(struct asp_grace *grace)
{
	bool leave;

	if (atomic_load_explicit(&grace->state, memory_order_acquire) != HELPER_STOPPING)
		return false;
	/* Where threads of this flavour's helpers pile up, each joins the one before. */
	asp_helper_join(grace);
	if (grace->flavour)
		grace->flavour->unregister_thread();

	asp_lock_acquire(&asp_flavours_lock);
	/* Called back meanwhile? State only leaves STOPPING under the lock. */
	leave = atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_STOPPING;
	if (leave) {
		if (grace->orphan) {
			grace->orphan = false;
			pthread_detach(pthread_self());
		} else {
			grace->exited = pthread_self();
			grace->joinable = true;
		}
		atomic_store_explicit(&grace->state, HELPER_NONE, memory_order_release);
	}
	asp_lock_release(&asp_flavours_lock);

	if (leave) {
		asp_wake_all(&grace->state);
	} else if (grace->flavour) {
		grace->flavour->register_thread();
		grace->flavour->thread_offline();
	}
	return leave;
}

static void *helper_main(void *arg)
{
	struct asp_grace *grace = arg;

	asp_helping = grace;
	pthread_setname_np(pthread_self(), "aspace-grace");
	if (grace->flavour) {
		grace->flavour->register_thread();
		/* qsbr: idle, no grace period waits for us. */
		grace->flavour->thread_offline();
	}
	while (!leave_if_stopping(grace)) {
		uint32_t seen = atomic_fetch_and_explicit(&grace->bell, ~UINT32_C(1),
							  memory_order_acq_rel) &
				~UINT32_C(1);

		if (asp_grace_wanted(grace))
			asp_grace_turn_over(grace);
		run_due(grace);
		if (!asp_grace_wanted(grace) &&
		    atomic_load_explicit(&grace->state, memory_order_acquire) != HELPER_STOPPING)
			sleep_until_rung(grace, seen);
	}
	return NULL;
}

static int create_helper(struct asp_grace *grace)
{
	sigset_t all, mask;
	pthread_attr_t attr;
	pthread_t thread;
	size_t stack;
	int error;

	asp_lock_check_none("making a thread");
	error = pthread_attr_init(&attr);
	if (error)
		return error;
	if (!pthread_attr_getstacksize(&attr, &stack) && stack < HELPER_STACK_MIN)
		pthread_attr_setstacksize(&attr, HELPER_STACK_MIN);
	/* The program's handlers must not find themselves on a thread that it has not
	 * made, with callbacks beneath them. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &mask);
	error = pthread_create(&thread, &attr, helper_main, grace);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	pthread_attr_destroy(&attr);
	return error;
}

/* See to it that there is a helper. The caller has a client attached, so nobody stops
 * it meanwhile. */
enum aspace_status asp_helper_ensure(struct asp_grace *grace)
{
	uint32_t state = HELPER_NONE;

	if (!atomic_compare_exchange_strong_explicit(&grace->state, &state, HELPER_STARTING,
						     memory_order_acquire, memory_order_acquire))
		return ASPACE_OK;
	if (create_helper(grace)) {
		atomic_store_explicit(&grace->state, HELPER_NONE, memory_order_release);
		return ASPACE_NO_MEMORY;
	}
	atomic_store_explicit(&grace->state, HELPER_RUNNING, memory_order_release);
	return ASPACE_OK;
}

void asp_grace_want_helper(struct asp_grace *grace)
{
	if (!grace->dead)
		asp_helper_ensure(grace);
}
