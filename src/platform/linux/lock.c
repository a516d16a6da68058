/* SPDX-License-Identifier: MIT */
/*
 * Hosted locks and waiting: a ticket lock over futex(2).
 *
 * A waiter sleeps upon the word `serving` with a bit that its ticket chooses, and
 * the releaser wakes only that bit: one release wakes one waiter (and those 32
 * places behind it, who go back to sleep). glibc's mutex would be shorter but is
 * not fair, and may not be locked in a signal handler.
 *
 * Invariants:
 *  1. serving <= next (modulo 2^32); the lock is free when they are equal.
 *  2. Only the holder of ticket `serving` advances it, by one.
 *  3. No function here is a cancellation point, changes errno or calls malloc: the
 *     system calls go through syscall(2).
 *  4. Who holds a lock, or has drawn a ticket, is registered with bp (fork needs
 *     that; see linux/fork.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/platform.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Some microseconds: less than it costs to sleep and be woken, more than the critical sections
 * that publish an update, or look at the list of pins with its lines in another CPU's cache. */
#define SPINS 400

ASP_THREAD_LOCAL unsigned asp_writer_lock_count, asp_release_count;
ASP_THREAD_LOCAL struct asp_hook *asp_innermost_hook;

static void futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *until,
		       uint32_t bits)
{
	int saved = errno;

	/* FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC. */
	if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value, until, NULL,
		    bits) &&
	    errno == EINTR) {
#ifdef ASP_TSAN
		/* ThreadSanitizer keeps signals back until the next function that it
		 * intercepts, and would keep them for the whole wait. */
		sigset_t mask;

		pthread_sigmask(SIG_BLOCK, NULL, &mask);
#endif
	}
	errno = saved;
}

/* At most timeout_ms; 0: no limit. */
static void wait_for(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms, uint32_t bits)
{
	struct timespec until;

	if (!timeout_ms) {
		futex_wait(word, value, NULL, bits);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(timeout_ms / 1000);
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	futex_wait(word, value, &until, bits);
}

static void futex_wake(_Atomic uint32_t *word, int most, uint32_t bits)
{
	int saved = errno;

	syscall(SYS_futex, word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, most, NULL, NULL, bits);
	errno = saved;
}

static uint32_t ticket_bit(uint32_t ticket)
{
	return UINT32_C(1) << (ticket % 32);
}

void asp_lock_init(struct asp_lock *lock)
{
	atomic_init(&lock->next, 0);
	atomic_init(&lock->serving, 0);
	atomic_init(&lock->sleepers, 0);
	lock->line = NULL;
	asp_lock_set_rank(lock, ASP_LOCK_UNRANKED, 0);
}

/*
 * Sequentially consistent, as is the pair in asp_lock_release(): one writes sleepers and reads
 * serving, the other writes serving and reads sleepers, and if both read old values, we sleep and
 * nobody wakes us. What changes after that read, the kernel's own look at `serving` finds.
 */
static void sleep_until_served(struct asp_lock *lock, uint32_t ticket, unsigned timeout_ms)
{
	uint32_t serving;

	atomic_fetch_add(&lock->sleepers, 1);
	serving = atomic_load(&lock->serving);
	if (serving != ticket)
		wait_for(&lock->serving, serving, timeout_ms, ticket_bit(ticket));
	/* Relaxed: who still reads the old number wakes somebody in vain, and no more. */
	atomic_fetch_sub_explicit(&lock->sleepers, 1, memory_order_relaxed);
}

bool asp_lock_await(struct asp_lock *lock, uint32_t ticket, unsigned timeout_ms)
{
	if (atomic_load(&lock->serving) == ticket)
		return true;
	sleep_until_served(lock, ticket, timeout_ms);
	return atomic_load(&lock->serving) == ticket;
}

/* Until it is the ticket's turn. Rare, and apart: it would cost who need not wait. */
static __attribute__((noinline)) void await(struct asp_lock *lock, uint32_t ticket)
{
	uint32_t serving;

	for (int spins = 0; spins < SPINS; spins++) {
		serving = atomic_load(&lock->serving);
		if (serving == ticket)
			return;
		/* Only the next in line has something to gain by spinning. */
		if (ticket - serving != 1)
			break;
		asp_relax();
	}
	if (lock->line) {
		lock->line(lock, ticket);
		return;
	}
	while (!asp_lock_await(lock, ticket, 0))
		;
}

inline uint32_t asp_lock_draw(struct asp_lock *lock)
{
	asp_order_check(asp_held_of(lock));
	asp_bp_register();
	/* Sequentially consistent, for asp_lock_try() and the pairing in platform.h. */
	return atomic_fetch_add(&lock->next, 1);
}

void asp_lock_acquire(struct asp_lock *lock)
{
	/* The load of serving, here or in await(), acquires what the last holder released. */
	uint32_t ticket = asp_lock_draw(lock);

	/* Mostly it is free; this is what await() would begin with. */
	if (__builtin_expect(atomic_load(&lock->serving) != ticket, 0))
		await(lock, ticket);
	asp_order_add(asp_held_of(lock));
}

bool asp_lock_try(struct asp_lock *lock)
{
	uint32_t serving;

	asp_bp_register();
	/*
	 * A load first, and sequentially consistent: this is the load that the pairing
	 * in platform.h is about. If it is before a release in the total order, so is
	 * everything the caller stored before, and the releaser's later loads see it.
	 * It acquires what the last holder released; the exchange itself could be
	 * relaxed for that, but must not let the critical section rise above it.
	 */
	serving = atomic_load(&lock->serving);
	if (!atomic_compare_exchange_strong(&lock->next, &serving, serving + 1))
		return false;
	asp_order_add(asp_held_of(lock));
	return true;
}

void asp_lock_release(struct asp_lock *lock)
{
	uint32_t serving;

	asp_held_remove(asp_held_of(lock));
	/* A read-modify-write, for the total order with asp_lock_try(); a release store
	 * followed by the load of next could be reordered. */
	serving = atomic_fetch_add(&lock->serving, 1) + 1;

	/* Of those who wait the next may only spin. See sleep_until_served() for the pairing. This
	 * still reads the lock: who frees it must know that every release has returned, not only
	 * happened. */
	if (atomic_load(&lock->next) != serving && atomic_load(&lock->sleepers))
		futex_wake(&lock->serving, INT_MAX, ticket_bit(serving));
}

void asp_lock_forget_waiters(struct asp_lock *lock)
{
	/* Alone in the child: relaxed is enough. */
	uint32_t serving = atomic_load_explicit(&lock->serving, memory_order_relaxed);

	atomic_store_explicit(&lock->next, serving + 1, memory_order_relaxed);
	atomic_store_explicit(&lock->sleepers, 0, memory_order_relaxed);
}

void asp_wait_holding(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms)
{
	wait_for(word, value, timeout_ms, FUTEX_BITSET_MATCH_ANY);
}

void asp_wait(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms)
{
	asp_lock_check_none("sleeping upon a word");
	asp_wait_holding(word, value, timeout_ms);
}

void asp_wake_all(_Atomic uint32_t *word)
{
	futex_wake(word, INT_MAX, FUTEX_BITSET_MATCH_ANY);
}

void asp_wake_one(_Atomic uint32_t *word)
{
	futex_wake(word, 1, FUTEX_BITSET_MATCH_ANY);
}

uintptr_t asp_thread_self(void)
{
	/* pthread_self() is not on the list of async-signal-safe functions. */
	static ASP_THREAD_LOCAL char self;

	return (uintptr_t)&self;
}

uint64_t asp_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
