/* SPDX-License-Identifier: MIT */
/*
 * fork, for all flavours and clients of the process.
 *
 * asp_grace_before_fork() takes bp's locks, then the lock of all flavours, then
 * every client's. bp's come first because taking them waits for a grace period in
 * progress, hence for readers, and a reader may be waiting for any of the others (an
 * update inside a read section is allowed). That leaves bp's registry lock, which we
 * hold while we wait for the others: whoever holds one of those must not need it.
 * They do not register (asp_lock_acquire() did that before it drew its ticket), do not
 * wait for grace periods, and do not exit. Threads are created and joined with no lock
 * held (helper.c).
 * Two limits. A program that installs these hooks must not call urcu_bp_before_fork()
 * as well: bp's locks do not nest. And bp's before-fork leaves out its init_lock (as
 * of 0.13.2 and later), which a thread holds for an instant as it registers and as it
 * exits: a fork in that instant leaves a child whose new threads cannot register.
 */
#include "platform/linux/grace.h"

#define for_each_flavour(grace)                                                                    \
	for (struct asp_grace * (grace) = asp_flavours; (grace) < &asp_flavours[ASP_FLAVOURS];     \
	     (grace)++)

#define for_each_client(client, grace)                                                             \
	for (struct asp_grace_client * (client) = (grace)->clients; (client);                      \
	     (client) = (client)->next)

void asp_grace_before_fork(void)
{
	/* A client's hook may look up, and bp's registry will be locked. */
	asp_bp_register();
	urcu_bp_before_fork();
	asp_lock_acquire(&asp_flavours_lock);
	for_each_flavour(grace) {
		for_each_client(client, grace) {
			if (client->before_fork)
				client->before_fork(client);
		}
	}
}

static void clients_after_fork(bool child)
{
	for_each_flavour(grace) {
		for_each_client(client, grace) {
			if (client->after_fork)
				client->after_fork(client, child);
		}
	}
}

void asp_grace_after_fork_parent(void)
{
	clients_after_fork(false);
	asp_lock_release(&asp_flavours_lock);
	urcu_bp_after_fork_parent();
}

/* In the child. Everybody but the caller is gone; relaxed throughout. */
static void reset_flavour(struct asp_grace *grace)
{
	uint64_t number;

	if (!grace->used)
		return;
	/* The flavours but bp cannot be told that their threads are gone. */
	grace->dead = grace->flavour != NULL;
	/* No section is open, the caller being outside: a grace period for free, and
	 * what was stamped before the fork has elapsed. */
	number = atomic_load_explicit(&grace->started, memory_order_relaxed) + 1;
	atomic_store_explicit(&grace->started, number, memory_order_relaxed);
	atomic_store_explicit(&grace->ended, number, memory_order_relaxed);
	atomic_store_explicit(&grace->driver, 0, memory_order_relaxed);
	atomic_store_explicit(&grace->waiters, 0, memory_order_relaxed);
	if (asp_helping != grace)
		atomic_store_explicit(&grace->working, 0, memory_order_relaxed);
	atomic_fetch_and_explicit(&grace->bell, ~UINT32_C(1), memory_order_relaxed);
	/* A thread that had exited for certain cannot be told from one that had not
	 * quite, which pthread_join would wait for: its stack is lost. */
	grace->joinable = false;
	/* Forked by a callback of ours, on the helper: it lives on in the child. */
	if (asp_helping == grace)
		return;
	grace->cursor = NULL;
	grace->running = NULL;
	grace->orphan = false;
	atomic_store_explicit(&grace->state, HELPER_NONE, memory_order_relaxed);
	for_each_client(client, grace) {
		client->pins = 0;
		client->worker = 0;
	}
}

void asp_grace_after_fork_child(void)
{
	/* The hooks first: pins still says whose work was cut off. */
	clients_after_fork(true);
	for_each_flavour(grace)
		reset_flavour(grace);
	asp_lock_forget_waiters(&asp_flavours_lock);
	asp_lock_release(&asp_flavours_lock);
	urcu_bp_after_fork_child();
}

enum aspace_status asp_grace_install_fork_hooks(void)
{
	/* Not asp_flavours_lock: pthread_atfork allocates, see above. */
	static struct asp_lock once;
	static bool installed;
	enum aspace_status status = ASPACE_OK;

	asp_lock_acquire(&once);
	if (!installed) {
		if (pthread_atfork(asp_grace_before_fork, asp_grace_after_fork_parent,
				   asp_grace_after_fork_child))
			status = ASPACE_NO_MEMORY;
		else
			installed = true;
	}
	asp_lock_release(&once);
	return status;
}
