/* SPDX-License-Identifier: MIT */
/*
 * Flavours in use, and the spaces that use them: attach and detach.
 *
 * Invariants (hosted.h has those of the state):
 *  1. Once unlinked, a client's work is not started again (helper.c, 2).
 *  2. grace->cursor is a linked client or NULL.
 */
#include "platform/linux/grace.h"

/* The first is bp. Static: no malloc, and readers and forked children may hold on to
 * them for ever. */
#define FRESH                                                                                      \
	{                                                                                          \
		.started = 1, .ended = 1, .requested = 1                                           \
	} /* stamp 1 has elapsed */
struct asp_grace asp_flavours[ASP_FLAVOURS] = {FRESH, FRESH, FRESH, FRESH,
					       FRESH, FRESH, FRESH, FRESH};

struct asp_lock asp_flavours_lock = {
#ifdef ASP_LOCK_ORDER
	.held.rank = ASP_LOCK_FLAVOURS,
#endif
};

/* Under the lock. The structure of a flavour, made if need be. */
static struct asp_grace *find_flavour(const struct rcu_flavor_struct *flavour)
{
	struct asp_grace *grace;

	if (!flavour || flavour == &urcu_bp_flavor) {
		/* The lock has registered us, so liburcu knows by now; see hosted.h. */
		if (!asp_flavours[0].used && !ASP_MEMBARRIER)
			asp_flavours[0].called = &urcu_bp_flavor;
		return &asp_flavours[0];
	}
	for (grace = &asp_flavours[1]; grace < &asp_flavours[ASP_FLAVOURS]; grace++) {
		if (grace->flavour == flavour)
			return grace;
	}
	for (grace = &asp_flavours[1]; grace < &asp_flavours[ASP_FLAVOURS]; grace++) {
		if (!grace->flavour)
			break;
		/* Of a flavour that nobody uses any more, its helper gone? */
		if (!grace->clients && !grace->dead &&
		    atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_NONE)
			break;
	}
	if (grace == &asp_flavours[ASP_FLAVOURS])
		return NULL;
	grace->called = grace->flavour = flavour;
	return grace;
}

/* Under the lock. */
static void link_client(struct asp_grace *grace, struct asp_grace_client *client)
{
	atomic_init(&client->due, 0);
	atomic_init(&client->latest, 0);
	client->pins = 0;
	client->inside = 0;
	client->forks = 0;
	client->taken = false;
	client->next = grace->clients;
	client->link = &grace->clients;
	if (client->next)
		client->next->link = &client->next;
	grace->clients = client;
}

/* Under the lock. True: the last client has left, and the helper should. */
static bool unlink_client(struct asp_grace *grace, struct asp_grace_client *client)
{
	if (grace->cursor == client)
		grace->cursor = client->next;
	*client->link = client->next;
	if (client->next)
		client->next->link = client->link;
	client->next = NULL;
	client->link = NULL;
	if (grace->clients ||
	    atomic_load_explicit(&grace->state, memory_order_relaxed) != HELPER_RUNNING)
		return false;
	atomic_store_explicit(&grace->state, HELPER_STOPPING, memory_order_release);
	return true;
}

/* Under the lock. Are there those that a new client needs? Not if they are on their way out for good. */
static bool has_threads(struct asp_grace *grace)
{
	uint32_t state = atomic_load_explicit(&grace->state, memory_order_relaxed);

	return state != HELPER_NONE && (state != HELPER_STOPPING || asp_driver_keep(grace));
}

enum aspace_status asp_grace_attach(const void *flavour, struct asp_grace_client *client,
				    struct asp_grace **out)
{
	bool locked = *asp_writer_locks() != 0;
	enum aspace_status status = ASPACE_OK;
	struct asp_grace *grace;

	if (asp_fork_is_ours())
		return ASPACE_BUSY;
	asp_lock_acquire(&asp_flavours_lock);
	grace = find_flavour(flavour);
	if (!grace)
		status = ASPACE_NO_MEMORY;
	else if (grace->dead)
		status = ASPACE_NOT_SUPPORTED;
	else if (locked && !grace->clients && !has_threads(grace))
		status = ASPACE_BUSY; /* see helper.c, invariant 1 */
	if (status != ASPACE_OK) {
		asp_lock_release(&asp_flavours_lock);
		return status;
	}
	grace->used = true;
	link_client(grace, client);
	/* A helper that is about to leave stays; who told it to go stops waiting. */
	if (atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_STOPPING) {
		grace->orphan = false;
		asp_driver_keep(grace);
		atomic_store_explicit(&grace->state, HELPER_RUNNING, memory_order_release);
		asp_wake_all(&grace->state);
	}
	asp_lock_release(&asp_flavours_lock);

	/* There is none in a forked child: then the others do without, too. */
	if (!locked)
		status = asp_helper_ensure(grace);
	/* Where the helper has to make its driver anew, nobody is to find that going on later. */
	if (!locked && status == ASPACE_OK && !asp_driver_await(grace))
		status = ASPACE_NO_MEMORY;
	if (status != ASPACE_OK)
		asp_grace_detach(grace, client);
	else
		*out = grace;
	return status;
}

/* Under the lock, which is let go meanwhile. Until work has ended, or a fork. */
static void await_change(struct asp_grace *grace)
{
	/* Read under the lock: it changes only after what we wait for has. */
	uint32_t idle = atomic_load_explicit(&grace->idle, memory_order_relaxed);

	asp_lock_release(&asp_flavours_lock);
	asp_wait(&grace->idle, idle, 0);
	asp_lock_acquire(&asp_flavours_lock);
}

void asp_grace_detach(struct asp_grace *grace, struct asp_grace_client *client)
{
	bool last;

	asp_lock_acquire(&asp_flavours_lock);
	/* Whose lock a fork has, or waits for, stays on the list (fork.c, 2). */
	while (client->forks || client->taken)
		await_change(grace);
	/* From now on work is not started again (invariant 1). */
	last = unlink_client(grace, client);
	/* Not asked for, but cheap: from inside its own work it is forgotten. */
	if (grace->running == client && client->inside == asp_thread_self())
		grace->running = NULL;
	while (grace->running == client)
		await_change(grace);
	if (last)
		grace->orphan = asp_helping == grace;
	asp_lock_release(&asp_flavours_lock);

	if (!last)
		return;
	asp_helper_ring(grace);
	/* On the helper itself: it goes when it comes to that. */
	if (asp_helping == grace)
		return;
	while (atomic_load_explicit(&grace->state, memory_order_acquire) == HELPER_STOPPING)
		asp_wait(&grace->state, HELPER_STOPPING, 0);
	asp_helper_join(grace);
}

bool asp_grace_in_section(struct asp_grace *grace)
{
	if (grace->flavour)
		return grace->flavour->read_ongoing();
	return asp_in_section_of_fork();
}

void asp_grace_thread_prepare(struct asp_grace *grace)
{
	if (!grace->flavour)
		asp_bp_register();
}
