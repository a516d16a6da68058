/* SPDX-License-Identifier: MIT */
/*
 * Everything that the core needs from the system below it, and nothing else:
 * locks, waiting, pages, poisoning, grace periods. Two implementations, chosen
 * at build time: hosted (futex, mmap, liburcu) and bare metal (ASPACE_BARE_METAL:
 * spinning, pages and CPU numbers from the program, quiescent states).
 *
 * The core includes only freestanding headers beside this one.
 */
#ifndef ASPACE_PLATFORM_H
#define ASPACE_PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <aspace/status.h>

/* ---- Locks ----------------------------------------------------------------
 *
 * struct asp_lock, a ticket lock: first come, first served, whoever waits sleeps. Waiting is no
 * cancellation point, and signal handlers run meanwhile. Release is a
 * sequentially consistent read-modify-write and try begins with a sequentially
 * consistent load, so that
 *
 *     A: release(lock); load(x)      B: store(x); try(lock)   (x seq_cst)
 *
 * cannot end with A missing B's store and B's try failing because of A.
 *
 * struct asp_mutex: whoever comes while it is free has it, before those who wait (bare metal: a ticket
 * lock, too). For what is held for a look only: where each holder must be one of those that run, as
 * in a line, a thread that does not run holds up all behind it. Acquire and release, and no more.
 *
 * The order of locks. Who holds one may wait for one of a greater number, and of the same number
 * as it says; it may try any. What may run, or be waited for, while one is held:
 *
 *   1  writer     of a space. Of several: the newer space's first. Backends and the callbacks
 *                 that docs/calls.md names run under it, and a transaction's owner does as it
 *                 likes. Never: readers, a thread that is made or ends, a fork. Who is at work in a fault
 *                 or an advice counts as one that has it, since transactions wait for these; and
 *                 who has a place in a line and is in the stall hook.
 *   2  flavours   of the process: clients and helpers (linux/grace.h). Nothing.
 *   3  snapshots  of a space. Nothing. One at a time.
 *   4  pins       of a space: who is at work beside its writers, and who waits at its bounds
 *                 (update/line.h). Nothing. One at a time.
 *
 * The hook of fork takes all of them, and liburcu's before them: it waits for those of number 1 in
 * any order, but never for long with anything held (linux/fork.c). Otherwise liburcu's are waited
 * for with none held but the writer's: who holds or is about to wait for another has registered.
 * Nobody sleeps upon a word, makes or joins a thread or waits for a grace period with one held; but
 * at rest (space/halt.c), where a fork has the writer lock instead: as a writer comes in, and in an open
 * transaction that commits, until faults are over (asp_wait_holding()).
 * The builds for tests assert all that (linux/order.c). Locks of backends are none of these:
 * they are taken under the writer's.
 */
enum asp_lock_rank {
	ASP_LOCK_UNRANKED, /* not asserted: of tests */
	ASP_LOCK_WRITER,
	ASP_LOCK_FLAVOURS,
	ASP_LOCK_SNAPSHOTS,
	ASP_LOCK_PINS,
};

#if defined(ASPACE_TESTING) && !defined(ASPACE_BARE_METAL)
#define ASP_LOCK_ORDER 1
#endif

/* On the list of what a thread has. */
struct asp_held {
	enum asp_lock_rank rank;
	const char *place;      /* NULL: the lock itself; else what is like holding it */
	uint64_t number;        /* of those of one rank: of the space; the newer the greater */
	struct asp_held *below; /* the rest of the list */
};

struct asp_lock {
	_Atomic uint32_t next;     /* the ticket that the next comer draws */
	_Atomic uint32_t serving;  /* the ticket that holds the lock */
	_Atomic uint32_t sleepers; /* who sleep upon `serving`, or are about to */
	/* Waits in asp_lock_acquire() where that takes long, until asp_lock_await() has answered true;
	 * NULL after asp_lock_init(): it just waits. */
	void (*line)(struct asp_lock *lock, uint32_t ticket);
#ifdef ASP_LOCK_ORDER
	struct asp_held held;
#endif
};

struct asp_mutex {
#ifdef ASPACE_BARE_METAL
	struct asp_lock lock;
#else
	_Atomic uint32_t state; /* linux/mutex.c */
#endif
#ifdef ASP_LOCK_ORDER
	struct asp_held held;
#endif
};

/* Give a lock its place in the order. After asp_lock_init(). */
#ifdef ASP_LOCK_ORDER
void asp_lock_set_rank(struct asp_lock *lock, enum asp_lock_rank rank, uint64_t number);
/* Dies if the calling thread holds a lock of the library; `what` it is about to do. */
void asp_lock_check_none(const char *what);
/* The calling thread counts as one that has such a lock: it is at a place where who has that may wait
 * for it. */
void asp_held_add(struct asp_held *held, const char *place, enum asp_lock_rank rank,
		  uint64_t number);
void asp_held_remove(struct asp_held *held);
#else
static inline void asp_lock_set_rank(struct asp_lock *lock, enum asp_lock_rank rank,
				     uint64_t number)
{
	(void)lock;
	(void)rank;
	(void)number;
}
static inline void asp_lock_check_none(const char *what)
{
	(void)what;
}
static inline void asp_held_add(struct asp_held *held, const char *place, enum asp_lock_rank rank,
				uint64_t number)
{
	(void)held, (void)place, (void)rank, (void)number;
}
static inline void asp_held_remove(struct asp_held *held)
{
	(void)held;
}
#endif

void asp_lock_init(struct asp_lock *lock);
void asp_lock_acquire(struct asp_lock *lock);
bool asp_lock_try(struct asp_lock *lock);
void asp_lock_release(struct asp_lock *lock);
/* Draw a ticket; who has one waits until it is served, and then has the lock. For lock->line. */
uint32_t asp_lock_draw(struct asp_lock *lock);
/* Has the ticket been served? Sleeps meanwhile, at most timeout_ms (0: no limit); may wake early. */
bool asp_lock_await(struct asp_lock *lock, uint32_t ticket, unsigned timeout_ms);
/* static inline unsigned *asp_writer_locks(void);
 *
 * A number of the calling thread's own (bare metal: CPU's), 0 at first: how many writer
 * locks of spaces it holds. A signal handler leaves it as it found it. Inlined. */
/* static inline unsigned *asp_in_release(void);
 *
 * The same for `release` callbacks that it is in. */
/* static inline struct asp_hook **asp_hooks(void);
 *
 * A list of the thread's own, empty at first: space/stall.c. */
struct asp_hook;
/* In a forked child: the calling thread holds the lock and all waiters are gone. */
void asp_lock_forget_waiters(struct asp_lock *lock);

/* With its place in the order. */
void asp_mutex_init(struct asp_mutex *mutex, enum asp_lock_rank rank, uint64_t number);
void asp_mutex_acquire(struct asp_mutex *mutex);
void asp_mutex_release(struct asp_mutex *mutex);
void asp_mutex_forget_waiters(struct asp_mutex *mutex);

/* ---- Waiting --------------------------------------------------------------
 *
 * Sleep while *word == value, at most timeout_ms (0: no limit); may wake early.
 * No cancellation point; signal handlers run meanwhile. Bare metal spins once.
 */
void asp_wait(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms);
/* The same with locks held: see the order of locks. */
void asp_wait_holding(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms);
/* Nothing is done to the word, nor need it be there any more. */
void asp_wake_all(_Atomic uint32_t *word);

/* A count that somebody may wait for. */
struct asp_count {
	/* Sequentially consistent, both: who counts advances value and reads waiters, who waits
	 * advances waiters and reads value. One of them sees the other. */
	_Atomic uint32_t value, waiters;
};

/* What was done before is visible to who reads the value (acquire). */
static inline void asp_count_add(struct asp_count *count)
{
	atomic_fetch_add(&count->value, 1);
	if (__builtin_expect(atomic_load(&count->waiters), 0))
		asp_wake_all(&count->value);
}

/* Sleep while it is `seen`; as asp_wait(). */
static inline void asp_count_wait(struct asp_count *count, uint32_t seen, unsigned timeout_ms)
{
	atomic_fetch_add(&count->waiters, 1);
	if (atomic_load(&count->value) == seen)
		asp_wait(&count->value, seen, timeout_ms);
	atomic_fetch_sub_explicit(&count->waiters, 1, memory_order_relaxed);
}

/* static inline int asp_cancel_off(void);
 * static inline void asp_cancel_restore(int);
 *
 * Between the two the thread is not cancelled; the answer of the first is for the second. Inlined. */

/* A number that no other live thread (bare metal: CPU) has; never 0. */
uintptr_t asp_thread_self(void);

/* Milliseconds of a clock that never goes back; bare metal may stand still at 0. */
uint64_t asp_now_ms(void);

/* ---- Pages ----------------------------------------------------------------
 * Zeroed memory aligned to 4096, NULL where there is none.
 */
void *asp_pages_alloc(void *ctx, size_t size);
void asp_pages_free(void *ctx, void *block, size_t size);

/* Does somebody watch what memory is used: ASan, or valgrind in this run? Found out by
 * asp_watch(), before the first use of the two below. */
extern _Atomic bool asp_watched;
void asp_watch(void);
void asp_mark(void *block, size_t size, bool usable);

/* Tell them that [block, block + size) must not be touched / is allocated and undefined
 * again. On the path of every update, hence inline where nobody watches. */
static inline void asp_poison(void *block, size_t size)
{
	if (__builtin_expect(atomic_load_explicit(&asp_watched, memory_order_relaxed), 0))
		asp_mark(block, size, false);
}

static inline void asp_unpoison(void *block, size_t size)
{
	if (__builtin_expect(atomic_load_explicit(&asp_watched, memory_order_relaxed), 0))
		asp_mark(block, size, true);
}

/* A build for tests (ASPACE_FROZEN) has each node on a page of its own, which cannot be written
 * between the publication of the node and its next use: who writes to it dies there. Whole pages.
 * Elsewhere nothing is done. */
#ifdef ASPACE_FROZEN
void asp_freeze(void *block, size_t size);
void asp_thaw(void *block, size_t size);
#else
static inline void asp_freeze(void *block, size_t size)
{
	(void)block, (void)size;
}

static inline void asp_thaw(void *block, size_t size)
{
	(void)block, (void)size;
}
#endif

/* ---- Grace periods --------------------------------------------------------
 *
 * One struct asp_grace per flavour, shared by its spaces. Grace periods are
 * numbered. A caller that has made something unreachable (with a release store)
 * takes a stamp; when the stamp has elapsed, every read section that could have
 * seen it has ended, and what those sections read happens before the return of
 * asp_grace_elapsed() == true.
 *
 * Stamp 1 has always elapsed. Stamps of one asp_grace never decrease.
 */
struct asp_grace;

/* One space, as its flavour's grace periods see it. Embedded in the space; the
 * owner fills in work and the fork hooks, the rest belongs to the platform. */
struct asp_grace_client {
	/* Run what has come due. Hosted: called by the helper thread, with no lock
	 * of the platform held, never at once for the same client. */
	void (*work)(struct asp_grace_client *);
	/* Around fork(). The calling thread, which holds a lock or a pin of some client, is going to
	 * wait for readers; NULL: nobody need know. */
	void (*begin_fork)(struct asp_grace_client *);
	/* See to it that nobody changes what is the client's, until resume(); that may take long, and
	 * is waited for with nothing else held that anybody may wait for, but until `deadline`
	 * (asp_now_ms(); 0: none): false. NULL: nobody does. */
	bool (*halt)(struct asp_grace_client *, uint64_t deadline);
	void (*resume)(struct asp_grace_client *);
	/* With all clients halted: take the rest, which nobody holds for long. Give that back,
	 * and resume. In the child the locks have no waiters any more. */
	void (*before_fork)(struct asp_grace_client *);
	void (*after_fork)(struct asp_grace_client *, bool child);

	/* The stamp at which work wants to run; 0: no wish. Set by
	 * asp_grace_request(), taken (exchanged for 0) before work runs. */
	_Atomic uint64_t due;
	/* The greatest stamp that was ever requested: work runs again after it where
	 * an earlier wish came first. */
	_Atomic uint64_t latest;

	struct asp_grace_client *next, **link;
	unsigned pins;    /* the helper is at work here */
	uintptr_t inside; /* the thread that is, else 0 */
	unsigned forks;   /* so many forks wait until it has come to a halt */
	bool taken;       /* it has, for one of them */
};

/* Join the grace periods of a flavour (NULL: the default); starts the helper
 * thread with the first client. ASPACE_NO_MEMORY; ASPACE_BUSY where the thread would have to be
 * made with a writer lock held, and between the hooks of fork. May block. */
enum aspace_status asp_grace_attach(const void *flavour, struct asp_grace_client *client,
				    struct asp_grace **out);
/* Leave: returns when work does not run and never will again, and no fork has a lock of the
 * client's. May block. Must not be called from work, nor with a writer lock held. */
void asp_grace_detach(struct asp_grace *grace, struct asp_grace_client *client);

/* The number of the first grace period that begins after this call. */
uint64_t asp_grace_stamp(struct asp_grace *grace);
/* Has that grace period ended? */
bool asp_grace_elapsed(struct asp_grace *grace, uint64_t stamp);
/* See to it that grace period `stamp` comes to pass, and that client->work runs
 * after it (client may be NULL: no work). Never blocks for long; no lock of the
 * platform is taken, so any lock of the core may be held. */
void asp_grace_request(struct asp_grace *grace, struct asp_grace_client *client, uint64_t stamp);
/* See to it that there is a helper thread: after a fork, in the child, there is none. Where none
 * can be made, whoever waits for a grace period turns it over. No lock is held. */
void asp_grace_want_helper(struct asp_grace *grace);
/* Request, and wait until it has elapsed, at most timeout_ms (0: no limit). Not
 * inside a section. No cancellation point; signal handlers run meanwhile. Bare
 * metal: one poll. Answers asp_grace_elapsed(). */
bool asp_grace_wait(struct asp_grace *grace, uint64_t stamp, unsigned timeout_ms);
/* Does a thread of the library's turn grace periods over and run work? Never on bare metal; not
 * in a forked child before the first aspace_create() or aspace_quiesce() there. */
bool asp_grace_has_helper(struct asp_grace *grace);
/* The number of grace periods that have ended. */
uint64_t asp_grace_count(struct asp_grace *grace);
/* Is the calling thread inside a read section of this flavour, the program's own
 * included? */
bool asp_grace_in_section(struct asp_grace *grace);
/* Register the calling thread where the flavour does so by itself. */
void asp_grace_thread_prepare(struct asp_grace *grace);

/* static inline bool asp_in_section_of_fork(void);
 *
 * Is the calling thread in a section that the hook before fork may wait for? Inlined.
 *
 * fork, for all flavours and clients of the process. Calls nest: of a thread's calls the first
 * before takes what the last after gives back. */
void asp_grace_before_fork(void);
void asp_grace_after_fork_parent(void);
void asp_grace_after_fork_child(void);
/* `before` calls the first of them. */
enum aspace_status asp_grace_install_fork_hooks(void (*before)(void));

/* static inline void asp_read_lock(struct asp_grace *);
 * static inline void asp_read_unlock(struct asp_grace *);
 *
 * A read section; nests; async-signal-safe (for the default flavour). Inlined, as far as that
 * is possible. Where it always is, a section may also be
 *
 * static inline bool asp_read_is_inlined(const struct asp_grace *);
 * static inline bool asp_read_lock_inlined(struct asp_grace *);
 * static inline void asp_read_unlock_inlined(struct asp_grace *);
 *
 * begun without any call; false: not yet by this thread. */
#ifdef ASPACE_BARE_METAL
#include "platform/bare/bare_metal.h"
#else
#include "platform/linux/hosted.h"
#endif

#endif
