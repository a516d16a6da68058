/* SPDX-License-Identifier: MIT */
/*
 * Hosted grace periods: liburcu's, numbered, and turned over by one helper thread
 * for each flavour in use.
 *
 * Why a helper and not call_rcu: liburcu's thread sleeps 10 ms a round, so garbage
 * comes back cold; and why not synchronize_rcu in the thread that wants the grace
 * period: bp blocks all signals meanwhile and dies of cancellation, so no thread of
 * the program may be caught in it. A thread of the program waits upon a word.
 *
 * Numbers. started is read and advanced by read-modify-writes only. A caller made
 * something unreachable, then takes its stamp by adding 0 to started (release); the
 * driver adds 1 (acquire) and then calls synchronize_rcu. In the modification order
 * of started the stamp comes before the driver's addition or after it.
 *   Before: the driver's addition reads from the release sequence that the stamp is
 *   in, so the removal happens before synchronize_rcu, which waits for every section
 *   that could have missed it. The stamp is the number of that grace period.
 *   After: the stamp is the number of the next one, of which the same is true.
 * A plain load would not do: it may be satisfied before the removal is visible, read
 * the number from before the driver's addition, and name a grace period that does not
 * cover the removal. (That is store buffering; the cure by two seq_cst fences is
 * invisible to ThreadSanitizer.)
 *
 * Waking. Whoever wants something from the helper writes what, then adds 2 to bell
 * (release). The helper reads bell (acquire), does all there is to do, and goes to
 * sleep by exchanging the value that it read for the same plus 1: either it has seen
 * the ring, and what was written before it, or the exchange fails.
 *
 * Fork. asp_grace_before_fork() takes bp's locks, then the lock of all flavours, then
 * every client's. bp's come first because taking them waits for a grace period in
 * progress, hence for readers, and a reader may be waiting for any of the others (an
 * update inside a read section is allowed). That leaves bp's registry lock, which we
 * hold while we wait for the others: whoever holds one of those must not need it.
 * They do not register (asp_lock_acquire() did that before it drew its ticket), do not
 * wait for grace periods, and do not exit. Threads are created and joined with no lock
 * held, because an allocator on top of this library may be called there.
 * Two limits. A program that installs these hooks must not call urcu_bp_before_fork()
 * as well: bp's locks do not nest. And bp's before-fork leaves out its init_lock (as
 * of 0.13.2 and later), which a thread holds for an instant as it registers and as it
 * exits: a fork in that instant leaves a child whose new threads cannot register.
 *
 * Invariants (hosted.h has those of the state):
 *  1. No lock is held while a grace period is waited for, while work runs, and while a
 *     thread is created or joined.
 *  2. A client's work runs only while the client is grace->running; once unlinked it
 *     is not started again.
 *  3. grace->cursor is a linked client or NULL.
 *  4. due, latest and requested are written before the bell is rung; a client whose
 *     due is not 0 has had the bell rung, or is about to, since the helper last took
 *     due.
 *  5. No function here but helper_main() and a helper's own waits calls
 *     synchronize_rcu, unless there is no helper and none can be made, or the helper is
 *     inside a client's work, whose callbacks may wait for the very thread that waits
 *     here. (bp then holds that thread's signals back until the grace period is over;
 *     better than never.)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/platform.h"

#include <signal.h>

enum helper_state {
	HELPER_NONE,
	HELPER_STARTING, /* somebody is in pthread_create for it */
	HELPER_RUNNING,
	HELPER_STOPPING, /* the last client has left; another may call it back */
};

/* Callbacks of the program run on the helper's stack. */
#define HELPER_STACK_MIN ((size_t)1 << 20)

/* liburcu has five flavours; a program may bring its own. */
#define FLAVOURS 8

/* The first is bp. Static: no malloc, and readers and forked children may hold on to
 * them for ever. */
#define FRESH                                                                                      \
	{                                                                                          \
		.started = 1, .ended = 1, .requested = 1                                           \
	} /* stamp 1 has elapsed */
static struct asp_grace flavours[FLAVOURS] = {FRESH, FRESH, FRESH, FRESH,
					      FRESH, FRESH, FRESH, FRESH};

/* Guards the members of asp_grace and of its clients that say so. */
static struct asp_lock flavours_lock;

/* The flavour whose helper the calling thread is. */
static ASP_THREAD_LOCAL struct asp_grace *helping;

/* ---- Numbers -------------------------------------------------------------- */

/* *word = max(*word, value). Release, so that who reads it knows why. */
static void raise_to(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

	while (old < value &&
	       !atomic_compare_exchange_weak_explicit(word, &old, value, memory_order_acq_rel,
						      memory_order_relaxed))
		;
}

/* Set *due to the smaller of it and stamp, where 0 is greater than all. True if it was
 * later than stamp. */
static bool lower_due(_Atomic uint64_t *due, uint64_t stamp)
{
	/*
	 * A read-modify-write even where nothing is to be changed: if the helper's
	 * exchange for 0 comes after it, the helper sees whatever the caller has put
	 * up for work to find; if before, we see the 0. A load could see a wish that
	 * the helper has already taken.
	 */
	uint64_t old = atomic_fetch_add_explicit(due, 0, memory_order_acq_rel);

	while (!old || old > stamp) {
		if (atomic_compare_exchange_weak_explicit(due, &old, stamp, memory_order_acq_rel,
							  memory_order_acquire))
			return true;
	}
	return false;
}

uint64_t asp_grace_stamp(struct asp_grace *grace)
{
	/* See "Numbers" above; acquire so that a stamp never precedes one that the
	 * caller has heard of. */
	return atomic_fetch_add_explicit(&grace->started, 0, memory_order_acq_rel) + 1;
}

bool asp_grace_elapsed(struct asp_grace *grace, uint64_t stamp)
{
	/* Acquire pairs with the driver's store: what the sections read happened before
	 * synchronize_rcu returned. Sequentially consistent, both, for a writer that
	 * gives its lock back and then looks whether the helper, who tried the lock after
	 * the store, must be asked again (platform.h, Locks). */
	return atomic_load(&grace->ended) >= stamp;
}

uint64_t asp_grace_count(struct asp_grace *grace)
{
	return atomic_load_explicit(&grace->ended, memory_order_relaxed) - 1;
}

static void synchronize(struct asp_grace *grace, uint64_t number)
{
	int cancel;

	/* Both are cancellation points inside; see the head. */
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
	/* Sequentially consistent with the driver's pair in turn_over(): it advances
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
static void turn_over(struct asp_grace *grace)
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

/* ---- The helper ----------------------------------------------------------- */

static void ring(struct asp_grace *grace)
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

/* Is there something to turn over? */
static bool wanted(struct asp_grace *grace)
{
	/* Acquire pairs with raise_to(). */
	return atomic_load_explicit(&grace->requested, memory_order_acquire) >
	       atomic_load_explicit(&grace->ended, memory_order_relaxed);
}

/* Under the lock. Take client's wish if its time has come. */
static bool take_due(struct asp_grace *grace, struct asp_grace_client *client)
{
	uint64_t ended = atomic_load_explicit(&grace->ended, memory_order_acquire);
	uint64_t due = atomic_load_explicit(&client->due, memory_order_acquire);
	uint64_t latest;

	if (!due)
		return false;
	if (due > ended) {
		/* Its owner may have been lost in a fork between the two. */
		raise_to(&grace->requested, due);
		return false;
	}
	/* Only we make it smaller than it is by taking it away: due > 0 still. Release
	 * and acquire: see lower_due(). */
	atomic_exchange_explicit(&client->due, 0, memory_order_acq_rel);
	latest = atomic_load_explicit(&client->latest, memory_order_acquire);
	if (latest > ended) {
		/* An earlier wish had hidden a later one. */
		lower_due(&client->due, latest);
		raise_to(&grace->requested, latest);
	}
	return true;
}

/* Work runs the program's callbacks, for as long as they like, and perhaps waiting for a
 * lock that somebody holds who waits for a grace period: who waits must turn it over
 * itself meanwhile. Those that sleep already are woken to see that. Sequentially
 * consistent with await_turn(), which reads turn and then working. */
static void set_working(struct asp_grace *grace, uint32_t working)
{
	atomic_store(&grace->working, working);
	atomic_fetch_add(&grace->turn, 1);
	if (atomic_load(&grace->waiters))
		asp_wake_all(&grace->turn);
}

/* Run the work that has come due. */
static void run_due(struct asp_grace *grace)
{
	struct asp_grace_client *client;
	bool online = false;

	asp_lock_acquire(&flavours_lock);
	grace->cursor = grace->clients;
	while ((client = grace->cursor)) {
		grace->cursor = client->next;
		if (!take_due(grace, client))
			continue;
		client->pins = 1;
		client->worker = asp_thread_self();
		grace->running = client;
		asp_lock_release(&flavours_lock);

		/* Callbacks may look up; under qsbr only an online thread may. */
		if (grace->flavour && !online)
			grace->flavour->thread_online();
		online = true;
		set_working(grace, 1);
		client->work(client);
		atomic_store(&grace->working, 0);

		asp_lock_acquire(&flavours_lock);
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
	asp_lock_release(&flavours_lock);
	if (grace->flavour && online)
		grace->flavour->thread_offline();
}

/* Join whatever helper of this flavour has ended, if nobody has yet. */
static void join_exited(struct asp_grace *grace)
{
	pthread_t thread;
	int cancel;

	asp_lock_acquire(&flavours_lock);
	thread = grace->exited;
	if (!grace->joinable) {
		asp_lock_release(&flavours_lock);
		return;
	}
	grace->joinable = false;
	asp_lock_release(&flavours_lock);

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
	join_exited(grace);
	if (grace->flavour)
		grace->flavour->unregister_thread();

	asp_lock_acquire(&flavours_lock);
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
	asp_lock_release(&flavours_lock);

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

	helping = grace;
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

		if (wanted(grace))
			turn_over(grace);
		run_due(grace);
		if (!wanted(grace) &&
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
 * it meanwhile. Takes no lock: asp_grace_request() calls this in a forked child. */
static enum aspace_status ensure_helper(struct asp_grace *grace)
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

/* ---- Coming and going ----------------------------------------------------- */

/* Under the lock. The structure of a flavour, made if need be. */
static struct asp_grace *find_flavour(const struct rcu_flavor_struct *flavour)
{
	struct asp_grace *grace;

	if (!flavour || flavour == &urcu_bp_flavor) {
		/* The lock has registered us, so liburcu knows by now; see hosted.h. */
		if (!flavours[0].used && !ASP_MEMBARRIER)
			flavours[0].called = &urcu_bp_flavor;
		return &flavours[0];
	}
	for (grace = &flavours[1]; grace < &flavours[FLAVOURS]; grace++) {
		if (grace->flavour == flavour)
			return grace;
	}
	for (grace = &flavours[1]; grace < &flavours[FLAVOURS]; grace++) {
		if (!grace->flavour)
			break;
		/* Of a flavour that nobody uses any more, its helper gone? */
		if (!grace->clients && !grace->dead &&
		    atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_NONE)
			break;
	}
	if (grace == &flavours[FLAVOURS])
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
	client->worker = 0;
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

enum aspace_status asp_grace_attach(const void *flavour, struct asp_grace_client *client,
				    struct asp_grace **out)
{
	enum aspace_status status;
	struct asp_grace *grace;

	asp_lock_acquire(&flavours_lock);
	grace = find_flavour(flavour);
	if (!grace || grace->dead) {
		asp_lock_release(&flavours_lock);
		return grace ? ASPACE_NOT_SUPPORTED : ASPACE_NO_MEMORY;
	}
	grace->used = true;
	link_client(grace, client);
	/* A helper that is about to leave stays; who told it to go stops waiting. */
	if (atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_STOPPING) {
		grace->orphan = false;
		atomic_store_explicit(&grace->state, HELPER_RUNNING, memory_order_release);
		asp_wake_all(&grace->state);
	}
	asp_lock_release(&flavours_lock);

	status = ensure_helper(grace);
	if (status)
		asp_grace_detach(grace, client);
	else
		*out = grace;
	return status;
}

/* Under the lock, which is let go meanwhile. Until client's work does not run. */
static void await_idle(struct asp_grace *grace, struct asp_grace_client *client)
{
	while (grace->running == client) {
		/* Read under the lock: it changes only after running does. */
		uint32_t idle = atomic_load_explicit(&grace->idle, memory_order_relaxed);

		asp_lock_release(&flavours_lock);
		asp_wait(&grace->idle, idle, 0);
		asp_lock_acquire(&flavours_lock);
	}
}

void asp_grace_detach(struct asp_grace *grace, struct asp_grace_client *client)
{
	bool last;

	asp_lock_acquire(&flavours_lock);
	/* From now on work is not started again (invariant 2). */
	last = unlink_client(grace, client);
	/* Not asked for, but cheap: from inside its own work it is forgotten. */
	if (grace->running == client && client->worker == asp_thread_self())
		grace->running = NULL;
	await_idle(grace, client);
	if (last)
		grace->orphan = helping == grace;
	asp_lock_release(&flavours_lock);

	if (!last)
		return;
	ring(grace);
	/* On the helper itself: it goes when it comes to that. */
	if (helping == grace)
		return;
	while (atomic_load_explicit(&grace->state, memory_order_acquire) == HELPER_STOPPING)
		asp_wait(&grace->state, HELPER_STOPPING, 0);
	join_exited(grace);
}

/* ---- Wishes --------------------------------------------------------------- */

void asp_grace_request(struct asp_grace *grace, struct asp_grace_client *client, uint64_t stamp)
{
	if (grace->dead)
		return;
	/* Relaxed: it is NONE, while the caller's client is attached, only in a child
	 * that was alone when it became so, or where creation failed. */
	if (__builtin_expect(
		    atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_NONE, 0))
		ensure_helper(grace);
	if (client) {
		raise_to(&client->latest, stamp);
		/* An earlier wish: its owner rings, and the helper then finds latest. */
		if (!lower_due(&client->due, stamp))
			return;
	}
	raise_to(&grace->requested, stamp);
	ring(grace);
}

bool asp_grace_wait(struct asp_grace *grace, uint64_t stamp, unsigned timeout_ms)
{
	uint64_t deadline = timeout_ms ? asp_now_ms() + timeout_ms : 0;

	if (asp_grace_elapsed(grace, stamp))
		return true;
	asp_grace_request(grace, NULL, stamp);
	/*
	 * A helper waits for nobody: not for itself, of course, and not for another
	 * flavour's, whose work might be waiting for this one's grace periods. The
	 * timeout is not kept there. The same where no helper can be made (a child
	 * without memory for a thread), rather than wait for ever.
	 */
	while (!grace->dead && !asp_grace_elapsed(grace, stamp) &&
	       (helping ||
		atomic_load_explicit(&grace->state, memory_order_relaxed) == HELPER_NONE))
		turn_over(grace);
	/* Nothing will come to pass: do not wait for ever. */
	if (grace->dead && !timeout_ms)
		return asp_grace_elapsed(grace, stamp);
	while (!asp_grace_elapsed(grace, stamp)) {
		if (deadline && asp_now_ms() >= deadline)
			return false;
		if (atomic_load(&grace->working))
			turn_over(grace);
		else
			await_turn(grace, stamp, deadline);
	}
	return true;
}

bool asp_grace_in_section(struct asp_grace *grace)
{
	if (grace->flavour)
		return grace->flavour->read_ongoing();
	/* Asking bp would register the thread. */
	return urcu_bp_reader && _urcu_bp_read_ongoing();
}

void asp_grace_thread_prepare(struct asp_grace *grace)
{
	if (!grace->flavour)
		asp_bp_register();
}

/* ---- fork ----------------------------------------------------------------- */

#define for_each_flavour(grace)                                                                    \
	for (struct asp_grace * (grace) = flavours; (grace) < &flavours[FLAVOURS]; (grace)++)

#define for_each_client(client, grace)                                                             \
	for (struct asp_grace_client * (client) = (grace)->clients; (client);                      \
	     (client) = (client)->next)

void asp_grace_before_fork(void)
{
	/* A client's hook may look up, and bp's registry will be locked. */
	asp_bp_register();
	urcu_bp_before_fork();
	asp_lock_acquire(&flavours_lock);
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
	asp_lock_release(&flavours_lock);
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
	if (helping != grace)
		atomic_store_explicit(&grace->working, 0, memory_order_relaxed);
	atomic_fetch_and_explicit(&grace->bell, ~UINT32_C(1), memory_order_relaxed);
	/* A thread that had exited for certain cannot be told from one that had not
	 * quite, which pthread_join would wait for: its stack is lost. */
	grace->joinable = false;
	/* Forked by a callback of ours, on the helper: it lives on in the child. */
	if (helping == grace)
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
	asp_lock_forget_waiters(&flavours_lock);
	asp_lock_release(&flavours_lock);
	urcu_bp_after_fork_child();
}

enum aspace_status asp_grace_install_fork_hooks(void)
{
	/* Not flavours_lock: pthread_atfork allocates, see "Fork" above. */
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
