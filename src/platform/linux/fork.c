/* SPDX-License-Identifier: MIT */
/*
 * fork, for all flavours and clients of the process.
 *
 * The child must find nobody at work: no grace period of bp's, no thread on its way into or out
 * of bp's registry, no writer, nobody coming or going. So the hook takes bp's locks, halts every
 * client, and takes the lock of all flavours, and what else the clients have, in this order.
 *
 * The first two may be long in coming, and each may wait for the other. bp's wait for a grace
 * period in progress, hence for readers, and a reader may be waiting for a writer lock (an update
 * in a read section is allowed). Who holds a writer lock may be the program, with a transaction
 * open: it may wait for a thread that begins or ends, which needs bp's registry lock, for one that
 * waits for readers, or for one that wants another space. No order serves. So bp's locks are taken
 * with nothing held; and where a client does not come to a halt soon, everything is given back,
 * bp's too, while that one is waited for, and it all begins again with more patience. As patience
 * grows and nobody waits for us for longer than it lasts, this ends when the others do. Threads
 * that begin and end meanwhile wait for that long at most.
 *
 * A thread that forks in the `fault` of a backend holds nothing, but others wait for it. Those that do so in
 * a section, or with a writer lock, which a reader may wait for, must not while bp's locks do: they are told.
 *
 * Three limits. A program that installs these hooks must not call urcu_bp_before_fork()
 * as well: bp's locks do not nest. bp's before-fork leaves out its init_lock (as
 * of 0.13.2 and later), which a thread holds for an instant as it registers and as it
 * exits: a fork in that instant leaves a child whose new threads cannot register. And who forks
 * inside a section waits for itself, if there is a grace period in progress.
 *
 * Invariants:
 *  1. Nothing is waited for without limit with a lock held, but those of all flavours and of
 *     snapshots, under which nobody waits, registers with bp or makes a thread.
 *  2. A client that a fork has `taken`, or that `forks` wait for, stays on the list of its
 *     flavour: detach waits. Who writes `taken` has bp's locks, so one fork does.
 *  3. Between the hooks `forker` is the thread that called, and `depth` counts its calls.
 */
#include "platform/linux/grace.h"

/* So long a client is waited for at first, in milliseconds, with the others halted. Operations
 * mostly end within it; whoever begins as a thread meanwhile hardly notices. */
#define PATIENCE 2

#define for_each_flavour(grace)                                                                    \
	for (struct asp_grace * (grace) = asp_flavours; (grace) < &asp_flavours[ASP_FLAVOURS];     \
	     (grace)++)

#define for_each_client(client, grace)                                                             \
	for (struct asp_grace_client * (client) = (grace)->clients; (client);                      \
	     (client) = (client)->next)

static _Atomic uintptr_t forker; /* only ever compared with the caller's own number: relaxed */
static unsigned depth;

/* What the thread waits for, to halt; the stall hook, which is told meanwhile, may fork as well. */
static ASP_THREAD_LOCAL struct halting {
	struct asp_grace_client *client;
	struct halting *below;
} * innermost;

bool asp_fork_is_ours(void)
{
	return atomic_load_explicit(&forker, memory_order_relaxed) == asp_thread_self();
}

/* ---- Taking ----------------------------------------------------------------- */

/* Nobody may wait for us, in a section, while bp's locks wait for readers. */
static void announce(void)
{
	if (!*asp_writer_locks()) /* nobody does */
		return;
	asp_lock_acquire(&asp_flavours_lock);
	for_each_flavour(grace) {
		for_each_client(client, grace) {
			if (client->begin_fork)
				client->begin_fork(client);
		}
	}
	asp_lock_release(&asp_flavours_lock);
}

/* Under the lock of all flavours. The fork is done with clients of this flavour. */
static void wake_detachers(struct asp_grace *grace)
{
	/* The lock orders, the count only changes. */
	atomic_fetch_add_explicit(&grace->idle, 1, memory_order_relaxed);
	asp_wake_all(&grace->idle);
}

/* Under the lock of all flavours, which is given back too. */
static void give_up(void)
{
	for_each_flavour(grace) {
		for_each_client(client, grace) {
			if (!client->taken)
				continue;
			client->taken = false;
			if (client->resume)
				client->resume(client);
		}
		if (grace->clients)
			wake_detachers(grace);
	}
	asp_lock_release(&asp_flavours_lock);
	urcu_bp_after_fork_parent();
}

/* Under the lock of all flavours, which is let go meanwhile. Halts the client; false: given up, and
 * nothing is held. */
static bool halt(struct asp_grace *grace, struct asp_grace_client *client, uint64_t deadline)
{
	struct halting halting = {client, innermost};
	bool halted;

	client->forks++;
	innermost = &halting;
	asp_lock_release(&asp_flavours_lock);
	halted = !client->halt || client->halt(client, deadline);
	asp_lock_acquire(&asp_flavours_lock);
	if (halted) {
		client->taken = true;
		client->forks--;
		innermost = halting.below;
		return true;
	}
	give_up();
	client->halt(client, 0);
	client->resume(client);
	asp_lock_acquire(&asp_flavours_lock);
	client->forks--;
	innermost = halting.below;
	wake_detachers(grace);
	asp_lock_release(&asp_flavours_lock);
	return false;
}

/* Halts all clients, and takes the lock of all flavours; or nothing, and false. */
static bool halt_all(uint64_t deadline)
{
	bool all = false;

	asp_lock_acquire(&asp_flavours_lock);
	/* Others come while the lock is let go: again, until nobody has. */
	while (!all) {
		all = true;
		for_each_flavour(grace) {
			for_each_client(client, grace) {
				if (client->taken)
					continue;
				all = false;
				if (!halt(grace, client, deadline))
					return false;
			}
		}
	}
	return true;
}

void asp_grace_before_fork(void)
{
	if (asp_fork_is_ours()) {
		depth++;
		return;
	}
	/* A client's hook may look up, and bp's registry will be locked. */
	asp_bp_register();
	announce();
	for (uint64_t patience = PATIENCE;; patience *= 2) {
		urcu_bp_before_fork();
		if (halt_all(asp_now_ms() + patience))
			break;
	}
	atomic_store_explicit(&forker, asp_thread_self(), memory_order_relaxed);
	depth = 1;
	for_each_flavour(grace) {
		for_each_client(client, grace) {
			if (client->before_fork)
				client->before_fork(client);
		}
	}
}

/* ---- Giving back ------------------------------------------------------------- */

/* True: this is the end of what the first asp_grace_before_fork() began. One without a before
 * is none. */
static bool is_last(void)
{
	return asp_fork_is_ours() && !--depth;
}

/* So many of them are the calling thread's: the others are gone. */
static unsigned own_forks(const struct asp_grace_client *client)
{
	unsigned count = 0;

	for (const struct halting *halting = innermost; halting; halting = halting->below)
		count += halting->client == client;
	return count;
}

/* One after the other, and each that has given its locks back looks at its list of pins: in the order of
 * locks this is the fork yet. bp keeps signals back, so nobody forks meanwhile. */
static void clients_after_fork(bool child)
{
	for_each_flavour(grace) {
		for_each_client(client, grace) {
			if (client->after_fork)
				client->after_fork(client, child);
			client->taken = false;
			if (child)
				client->forks = own_forks(client);
		}
		if (grace->clients)
			wake_detachers(grace);
	}
	atomic_store_explicit(&forker, 0, memory_order_relaxed);
}

void asp_grace_after_fork_parent(void)
{
	if (!is_last())
		return;
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
	atomic_store_explicit(&grace->turning, 0, memory_order_relaxed);
	atomic_store_explicit(&grace->turn.waiters, 0, memory_order_relaxed);
	atomic_fetch_and_explicit(&grace->bell, ~UINT32_C(1), memory_order_relaxed);
	/* The driver has gone, in any case. The helper is to look at all clients. */
	atomic_store_explicit(&grace->driving, DRIVER_NONE, memory_order_relaxed);
	atomic_fetch_and_explicit(&grace->driver_bell, ~UINT32_C(1), memory_order_relaxed);
	atomic_store_explicit(&grace->work_due, 1, memory_order_relaxed);
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
		client->inside = 0;
	}
}

void asp_grace_after_fork_child(void)
{
	if (!is_last())
		return;
	/* The hooks first: pins still says whose work was cut off. */
	clients_after_fork(true);
	for_each_flavour(grace)
		reset_flavour(grace);
	asp_lock_forget_waiters(&asp_flavours_lock);
	asp_lock_release(&asp_flavours_lock);
	urcu_bp_after_fork_child();
}

enum aspace_status asp_grace_install_fork_hooks(void (*before)(void))
{
	static _Atomic bool installed;

	/* No lock: pthread_atfork allocates, and an allocator on top of this library may want a
	 * space. Two threads that come at once may both install; the hooks nest. Relaxed: who
	 * is told has installed, or has heard of somebody who did. */
	if (atomic_load_explicit(&installed, memory_order_relaxed))
		return ASPACE_OK;
	if (pthread_atfork(before, asp_grace_after_fork_parent, asp_grace_after_fork_child))
		return ASPACE_NO_MEMORY;
	atomic_store_explicit(&installed, true, memory_order_relaxed);
	return ASPACE_OK;
}
