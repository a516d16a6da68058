/* SPDX-License-Identifier: MIT */
/*
 * The bare-metal platform: spinning locks, the program's pages, and grace periods
 * that whoever asks for them turns over.
 *
 * Grace periods. There is one set of them, for all spaces. A poller (one at a time;
 * who finds another at work goes away) begins number n by advancing started, then
 * visits each CPU once: it adds 0 to the online flag (in effect; see visit()) and to the number of
 * sections begun there, and notes that number. The grace period ends when so many have ended
 * on each CPU. Sections that begin later do not hold it up, however many there are.
 *
 * Why that is enough. Let W remove something and then take its stamp s by adding 0 to
 * started, and let grace period n >= s have been begun by adding 1: the removal happens
 * before the visits, as linux/numbers.c argues for its numbers. In the modification
 * order of a CPU's begun, the visit comes before the addition by which an outermost
 * section begins, or after it.
 *   Before: nothing but read-modify-writes lies between them, whoever made them. So the
 *   section's addition reads from the release sequence that the visit heads, and acquires what the
 *   visit released; it sees the removal, and we need not wait for it.
 *   After: the number that the visit reads is not less than the section's. ended reaches it only
 *   when that section has ended, or a later one of the CPU; the load that finds that out
 *   acquires what the store released, and what the section read happens before.
 * The number of sections that are open could stand in the same word, but then each end of a
 * section would have to be a read-modify-write: a store would end the release sequence. A processor
 * that keeps its stores in order forgives that; C11 does not. tests/weak has both.
 *
 * Readers pay one atomic addition to a line of their own. Pure quiescent states would
 * make them free, but a CPU that forgets to announce one, or idles, would hold up all
 * reclamation; nobody can be interrupted here to look after it.
 * The online flag works the same way: it is changed by read-modify-writes alone, the CPU sets it
 * by an exchange, the visit adds nothing to it, and a CPU that comes online after the visit sees the
 * removal.
 *
 * Invariants:
 *  1. started == ended, or started == ended + 1 and a grace period is in progress.
 *  2. Only who has set polling from 0 to 1 changes started, ended and any awaited.
 *  3. Nothing here waits for a reader; only asp_lock_acquire() waits for anybody.
 */
#include "platform/platform.h"

struct asp_grace {
	_Atomic uint64_t started, ended;
	/* The newest stamp that somebody waits for. Raised with release, read with acquire: what
	 * was retired under the stamp comes before the grace period that it asks for. */
	_Atomic uint64_t requested;
	/* A lock that is only tried: acquire by who gets it, release by who gives it back, for
	 * the words of invariant 2. */
	_Atomic uint32_t polling;
};

static struct asp_grace all_spaces = {.started = 1, .ended = 1, .requested = 1};

struct asp_bare_cpu asp_bare_cpus[ASPACE_BARE_CPUS_MAX];

/* ---- What the program may replace ------------------------------------------ */

__attribute__((weak)) void aspace_bare_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
	__asm__ volatile("yield");
#endif
}

__attribute__((weak)) uint64_t aspace_bare_now_ms(void)
{
	return 0;
}

/* ---- Locks and waiting ----------------------------------------------------- */

void asp_lock_init(struct asp_lock *lock)
{
	atomic_init(&lock->next, 0);
	atomic_init(&lock->serving, 0);
	lock->line = NULL;
}

uint32_t asp_lock_draw(struct asp_lock *lock)
{
	/* Sequentially consistent: a writer looks for pins after it, and a fault that has come on their list
	 * looks here whether the lock is free (update/pinning.c). */
	return atomic_fetch_add(&lock->next, 1);
}

static bool is_served(struct asp_lock *lock, uint32_t ticket)
{
	/* The load that ends the wait acquires what the last holder released. */
	return atomic_load_explicit(&lock->serving, memory_order_acquire) == ticket;
}

bool asp_lock_await(struct asp_lock *lock, uint32_t ticket, unsigned timeout_ms)
{
	(void)timeout_ms;
	if (is_served(lock, ticket))
		return true;
	aspace_bare_relax();
	return false;
}

void asp_lock_acquire(struct asp_lock *lock)
{
	uint32_t ticket = asp_lock_draw(lock);

	if (is_served(lock, ticket))
		return;
	if (lock->line)
		lock->line(lock, ticket);
	else
		while (!asp_lock_await(lock, ticket, 0))
			;
}

bool asp_lock_try(struct asp_lock *lock)
{
	/* Sequentially consistent: the pairing in platform.h. */
	uint32_t serving = atomic_load(&lock->serving);

	return atomic_compare_exchange_strong(&lock->next, &serving, serving + 1);
}

void asp_lock_release(struct asp_lock *lock)
{
	/* The same. */
	atomic_fetch_add(&lock->serving, 1);
}

void asp_lock_forget_waiters(struct asp_lock *lock)
{
	uint32_t serving = atomic_load_explicit(&lock->serving, memory_order_relaxed);

	atomic_store_explicit(&lock->next, serving + 1, memory_order_relaxed);
}

void asp_mutex_init(struct asp_mutex *mutex, enum asp_lock_rank rank, uint64_t number)
{
	(void)rank, (void)number;
	asp_lock_init(&mutex->lock);
}

void asp_mutex_acquire(struct asp_mutex *mutex)
{
	asp_lock_acquire(&mutex->lock);
}

void asp_mutex_release(struct asp_mutex *mutex)
{
	asp_lock_release(&mutex->lock);
}

void asp_mutex_forget_waiters(struct asp_mutex *mutex)
{
	asp_lock_forget_waiters(&mutex->lock);
}

void asp_wait(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms)
{
	(void)timeout_ms;
	if (atomic_load_explicit(word, memory_order_relaxed) == value)
		aspace_bare_relax();
}

void asp_wait_holding(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms)
{
	asp_wait(word, value, timeout_ms);
}

void asp_wake_all(_Atomic uint32_t *word)
{
	(void)word;
}

uintptr_t asp_thread_self(void)
{
	return (uintptr_t)aspace_bare_cpu() + 1;
}

uint64_t asp_now_ms(void)
{
	return aspace_bare_now_ms();
}

/* ---- Pages ----------------------------------------------------------------- */

void *asp_pages_alloc(void *ctx, size_t size)
{
	(void)ctx;
	return aspace_bare_pages_alloc(size);
}

void asp_pages_free(void *ctx, void *block, size_t size)
{
	(void)ctx;
	aspace_bare_pages_free(block, size);
}

/* Nobody does: it stays false. */
_Atomic bool asp_watched;

void asp_watch(void)
{
}

void asp_mark(void *block, size_t size, bool usable)
{
	(void)block;
	(void)size;
	(void)usable;
}

/* ---- CPUs ------------------------------------------------------------------ */

void aspace_bare_cpu_online(void)
{
	/* Acquire: what was removed before the visit that found us offline, we see. */
	atomic_exchange_explicit(&asp_bare_cpus[aspace_bare_cpu()].online, true,
				 memory_order_acq_rel);
}

void aspace_bare_cpu_offline(void)
{
	/* Release: what our sections read happens before the visit that finds us gone. */
	atomic_exchange_explicit(&asp_bare_cpus[aspace_bare_cpu()].online, false,
				 memory_order_acq_rel);
}

static void visit(struct asp_bare_cpu *cpu)
{
	/* An exchange of true for true, or a failure that must still order us before
	 * the CPU's own exchange: false for false. */
	bool online = false;

	if (atomic_compare_exchange_strong_explicit(&cpu->online, &online, false,
						    memory_order_acq_rel, memory_order_acquire))
		cpu->awaited = 0;
	else /* Release: see the head. */
		cpu->awaited = atomic_fetch_add_explicit(&cpu->begun, 0, memory_order_release);
}

/* Does a section run that had begun before the visit? */
static bool holds_up(struct asp_bare_cpu *cpu)
{
	return atomic_load_explicit(&cpu->ended, memory_order_acquire) < cpu->awaited;
}

/* ---- Grace periods --------------------------------------------------------- */

/* Under polling. One step; true if a grace period ended. */
static bool step(struct asp_grace *grace)
{
	uint64_t started = atomic_load_explicit(&grace->started, memory_order_relaxed);
	uint64_t ended = atomic_load_explicit(&grace->ended, memory_order_relaxed);

	if (started == ended) {
		if (atomic_load_explicit(&grace->requested, memory_order_acquire) <= ended)
			return false;
		started = atomic_fetch_add_explicit(&grace->started, 1, memory_order_acq_rel) + 1;
		for (unsigned i = 0; i < ASPACE_BARE_CPUS_MAX; i++)
			visit(&asp_bare_cpus[i]);
	}
	for (unsigned i = 0; i < ASPACE_BARE_CPUS_MAX; i++) {
		if (holds_up(&asp_bare_cpus[i]))
			return false;
	}
	/* Release pairs with asp_grace_elapsed(). */
	atomic_store_explicit(&grace->ended, started, memory_order_release);
	return true;
}

static void advance(struct asp_grace *grace)
{
	/* Who comes while another polls, on another CPU or beneath us on this one, has
	 * nothing to add. Acquire and release hand the poller's state on. */
	if (atomic_exchange_explicit(&grace->polling, 1, memory_order_acquire))
		return;
	while (step(grace))
		;
	atomic_store_explicit(&grace->polling, 0, memory_order_release);
}

enum aspace_status asp_grace_attach(const void *flavour, struct asp_grace_client *client,
				    struct asp_grace **out)
{
	if (flavour)
		return ASPACE_NOT_SUPPORTED;
	atomic_init(&client->due, 0);
	atomic_init(&client->latest, 0);
	client->next = NULL;
	client->link = NULL;
	client->pins = 0;
	client->inside = 0;
	*out = &all_spaces;
	return ASPACE_OK;
}

void asp_grace_detach(struct asp_grace *grace, struct asp_grace_client *client)
{
	(void)grace;
	(void)client;
}

uint64_t asp_grace_stamp(struct asp_grace *grace)
{
	/* A read-modify-write: see linux/numbers.c. */
	return atomic_fetch_add_explicit(&grace->started, 0, memory_order_acq_rel) + 1;
}

bool asp_grace_elapsed(struct asp_grace *grace, uint64_t stamp)
{
	if (atomic_load_explicit(&grace->ended, memory_order_acquire) >= stamp)
		return true;
	advance(grace);
	return atomic_load_explicit(&grace->ended, memory_order_acquire) >= stamp;
}

static void raise_to(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

	while (old < value &&
	       !atomic_compare_exchange_weak_explicit(word, &old, value, memory_order_acq_rel,
						      memory_order_relaxed))
		;
}

void asp_grace_request(struct asp_grace *grace, struct asp_grace_client *client, uint64_t stamp)
{
	/* Nobody runs work here; the core looks for itself. */
	if (client)
		raise_to(&client->latest, stamp);
	raise_to(&grace->requested, stamp);
}

bool asp_grace_wait(struct asp_grace *grace, uint64_t stamp, unsigned timeout_ms)
{
	(void)timeout_ms;
	asp_grace_request(grace, NULL, stamp);
	return asp_grace_elapsed(grace, stamp);
}

bool asp_grace_has_helper(struct asp_grace *grace)
{
	(void)grace;
	return false;
}

uint64_t asp_grace_count(struct asp_grace *grace)
{
	return atomic_load_explicit(&grace->ended, memory_order_relaxed) - 1;
}

bool asp_grace_in_section(struct asp_grace *grace)
{
	(void)grace;
	return asp_bare_is_open(&asp_bare_cpus[aspace_bare_cpu()]);
}

void asp_grace_thread_prepare(struct asp_grace *grace)
{
	(void)grace;
	aspace_bare_cpu_online();
}

void aspace_bare_quiescent(void)
{
	if (!asp_grace_in_section(&all_spaces))
		advance(&all_spaces);
}

void asp_grace_want_helper(struct asp_grace *grace)
{
	(void)grace;
}

/* ---- fork: there is none ---------------------------------------------------- */

void asp_grace_before_fork(void)
{
}

void asp_grace_after_fork_parent(void)
{
}

void asp_grace_after_fork_child(void)
{
}

enum aspace_status asp_grace_install_fork_hooks(void (*before)(void))
{
	(void)before;
	return ASPACE_NOT_SUPPORTED;
}
