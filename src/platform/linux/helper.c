/* SPDX-License-Identifier: MIT */
/*
 * The helper thread of a flavour: runs what has come due.
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

ASP_THREAD_LOCAL struct asp_grace *asp_helping;

void asp_helper_ring(struct asp_grace *grace)
{
	asp_bell_ring(&grace->bell);
}

/* Run the work that has come due. */
static void run_clients(struct asp_grace *grace)
{
	struct asp_grace_client *client;
	bool online = false;

	if (!asp_grace_work_wanted(grace))
		return;
	/* What is not due yet is noted anew. */
	atomic_exchange(&grace->work_due, 0);
	asp_lock_acquire(&asp_flavours_lock);
	grace->cursor = grace->clients;
	while ((client = grace->cursor)) {
		grace->cursor = client->next;
		if (!asp_grace_take_due(grace, client))
			continue;
		client->pins = 1;
		client->inside = asp_thread_self();
		grace->running = client;
		asp_lock_release(&asp_flavours_lock);

		/* Callbacks may look up; under qsbr only an online thread may. */
		if (grace->flavour && !online)
			grace->flavour->thread_online();
		online = true;
		client->work(client);

		asp_lock_acquire(&asp_flavours_lock);
		/* Else it detached itself, and may be gone. */
		if (grace->running == client) {
			grace->running = NULL;
			client->pins = 0;
			client->inside = 0;
		}
		/* Wakes asp_grace_detach(); the lock orders, the count only changes. */
		atomic_fetch_add_explicit(&grace->idle, 1, memory_order_relaxed);
		asp_wake_all(&grace->idle);
	}
	asp_lock_release(&asp_flavours_lock);
	if (grace->flavour && online)
		grace->flavour->thread_offline();
	if (asp_grace_wanted(grace))
		asp_driver_ring(grace);
}

/* Join whatever helper of this flavour has ended, if nobody has yet. */
void asp_helper_join(struct asp_grace *grace)
{
	pthread_t thread;

	asp_lock_acquire(&asp_flavours_lock);
	thread = grace->exited;
	if (!grace->joinable) {
		asp_lock_release(&asp_flavours_lock);
		return;
	}
	grace->joinable = false;
	asp_lock_release(&asp_flavours_lock);

	/* It holds nothing and waits for nothing of ours any more. */
	asp_thread_join(thread);
}

/* On the helper. True: this was the end. */
static bool leave_if_stopping(struct asp_grace *grace)
{
	bool leave;

	if (atomic_load_explicit(&grace->state, memory_order_acquire) != HELPER_STOPPING)
		return false;
	/* Where threads of this flavour's helpers pile up, each joins the one before. */
	asp_helper_join(grace);
	if (!asp_driver_stop(grace))
		return false;
	asp_flavour_leave(grace);

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
		atomic_store_explicit(&grace->driving, DRIVER_NONE, memory_order_relaxed);
		atomic_store_explicit(&grace->state, HELPER_NONE, memory_order_release);
	}
	asp_lock_release(&asp_flavours_lock);

	if (leave) {
		asp_wake_all(&grace->state);
	} else {
		/* Whoever called waits for this one. */
		asp_flavour_enter(grace);
		asp_driver_start(grace);
		asp_wake_all(&grace->driving);
	}
	return leave;
}

static void *helper_main(void *arg)
{
	struct asp_grace *grace = arg;

	asp_helping = grace;
	pthread_setname_np(pthread_self(), "aspace-grace");
	if (!asp_driver_start(grace)) {
		atomic_store_explicit(&grace->driving, DRIVER_LACKING, memory_order_release);
		asp_wake_all(&grace->driving);
		return NULL;
	}
	asp_wake_all(&grace->driving);
	asp_flavour_enter(grace);
	while (!leave_if_stopping(grace)) {
		uint32_t seen = asp_bell_look(&grace->bell);
		bool driven = asp_has_driver(grace);

		if (!driven && asp_grace_wanted(grace))
			asp_grace_turn_over(grace);
		run_clients(grace);
		if ((driven || !asp_grace_wanted(grace)) && !asp_grace_work_wanted(grace) &&
		    atomic_load_explicit(&grace->state, memory_order_acquire) != HELPER_STOPPING)
			asp_bell_sleep(&grace->bell, seen);
	}
	return NULL;
}

/* Both threads; when this returns nothing is allocated any more. */
static bool create_helper(struct asp_grace *grace)
{
	pthread_t thread;
	uint32_t driving;

	if (asp_thread_create(&thread, helper_main, grace))
		return false;
	/* Acquire, though only the value counts. */
	while ((driving = atomic_load_explicit(&grace->driving, memory_order_acquire)) ==
		       DRIVER_NONE ||
	       driving == DRIVER_STARTING)
		asp_wait(&grace->driving, driving, 0);
	if (driving != DRIVER_LACKING)
		return true;
	asp_thread_join(thread);
	atomic_store_explicit(&grace->driving, DRIVER_NONE, memory_order_relaxed);
	return false;
}

/* See to it that there is a helper. The caller has a client attached, so nobody stops
 * it meanwhile. */
enum aspace_status asp_helper_ensure(struct asp_grace *grace)
{
	uint32_t state = HELPER_NONE;
	bool made;

	while (!atomic_compare_exchange_strong_explicit(&grace->state, &state, HELPER_STARTING,
							memory_order_acquire,
							memory_order_acquire)) {
		/* Nor does anybody find that going on later; but for an allocator that is called in it. Relaxed: it
		 * is only compared with the caller's own number. */
		if (state != HELPER_STARTING ||
		    atomic_load_explicit(&grace->starter, memory_order_relaxed) ==
			    asp_thread_self())
			return ASPACE_OK;
		asp_wait(&grace->state, HELPER_STARTING, 0);
		state = HELPER_NONE;
	}
	atomic_store_explicit(&grace->starter, asp_thread_self(), memory_order_relaxed);
	made = create_helper(grace);
	atomic_store_explicit(&grace->starter, 0, memory_order_relaxed);
	atomic_store_explicit(&grace->state, made ? HELPER_RUNNING : HELPER_NONE,
			      memory_order_release);
	asp_wake_all(&grace->state);
	return made ? ASPACE_OK : ASPACE_NO_MEMORY;
}

void asp_grace_want_helper(struct asp_grace *grace)
{
	if (!grace->dead)
		asp_helper_ensure(grace);
}
