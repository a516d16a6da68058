/* SPDX-License-Identifier: MIT */
/*
 * The hosted platform's part of platform.h: read sections, inlined, and the
 * state of a flavour's grace periods. The only file that includes liburcu.
 *
 * Licence: liburcu is LGPL-2.1. Defining _LGPL_SOURCE makes its headers offer
 * the read side as inline functions of fewer than ten lines each, which section 5
 * of that licence ("small macros and small inline functions, ten lines or less in
 * length") lets anybody use without conditions; urcu/static/urcu-bp.h says of
 * each of them that it is meant for this. Newer releases offer exactly these, and
 * no more, under URCU_INLINE_SMALL_FUNCTIONS. Nothing else of the static headers
 * may be used here: all the rest is called in the shared library.
 *
 * Invariants:
 *  1. flavour never changes while the structure has a client.
 *  2. ended <= started <= ended + 1, but for the moment in which one driver
 *     publishes; only the driver (who has set turning from 0 to 1) advances them.
 *  3. Neither ever decreases, not even when the structure changes flavour.
 *  4. state is HELPER_RUNNING, or about to become it, while there are clients; not in a
 *     forked child, until somebody attaches or asks for a helper.
 */
#ifndef ASPACE_PLATFORM_HOSTED_H
#define ASPACE_PLATFORM_HOSTED_H

#ifndef URCU_INLINE_SMALL_FUNCTIONS
#define URCU_INLINE_SMALL_FUNCTIONS
#endif
#ifndef _LGPL_SOURCE
#define _LGPL_SOURCE
#endif

/* liburcu declares its thread-local pointer with the compiler's default model, in
 * position-independent code a function call at each section. It lives in a library
 * that is linked at program start, as this one is, so the offset is fixed. Said
 * before liburcu's declaration, which clang wants, and after, which gcc does. */
struct urcu_bp_reader;
extern _Thread_local struct urcu_bp_reader *urcu_bp_reader
	__attribute__((tls_model("initial-exec")));

/* liburcu's registry does not give struct urcu_bp_reader the alignment that its own
 * declaration asks for. Only a long at its start is touched here, which is aligned;
 * UBSan objects all the same, so that check is off in these functions. */
#define ASP_MISALIGNED __attribute__((no_sanitize("alignment")))
static inline void _urcu_bp_read_lock_update(unsigned long) ASP_MISALIGNED;
static inline void _urcu_bp_read_lock(void) ASP_MISALIGNED;
static inline void _urcu_bp_read_unlock(void) ASP_MISALIGNED;
static inline int _urcu_bp_read_ongoing(void) ASP_MISALIGNED;

/* A section of bp needs no fence where the kernel has membarrier, and one everywhere where it
 * has not. liburcu's inline functions look which it is each time. Ours do not: where there is
 * none, sections are calls of the shared library, which looks (asp_read_is_inlined()). */
#include <urcu/config.h>
#ifdef CONFIG_RCU_FORCE_SYS_MEMBARRIER /* liburcu does not start without */
#define ASP_MEMBARRIER 1
#else
#define CONFIG_RCU_FORCE_SYS_MEMBARRIER
#define ASP_MEMBARRIER_ASKED 1
#define ASP_MEMBARRIER       urcu_bp_has_sys_membarrier
extern int ASP_MEMBARRIER; /* set before the first thread is registered, then constant */
#endif

#include <pthread.h>
/* Brings urcu/flavor.h, which alone would not declare urcu_bp_flavor. */
#include <urcu/urcu-bp.h>
#undef urcu_bp_has_sys_membarrier

extern _Thread_local struct urcu_bp_reader *urcu_bp_reader
	__attribute__((tls_model("initial-exec")));

#if defined(__SANITIZE_THREAD__)
#define ASP_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ASP_TSAN 1
#endif
#endif

#ifdef ASP_TSAN
/* <sanitizer/tsan_interface.h> is not where every gcc finds it. */
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#endif

/* Of the library's threads and the program's. Initial exec: no call, and no allocation at
 * first use. */
#define ASP_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

extern ASP_THREAD_LOCAL unsigned asp_writer_lock_count, asp_release_count;
extern ASP_THREAD_LOCAL struct asp_hook *asp_innermost_hook;

static inline unsigned *asp_writer_locks(void)
{
	return &asp_writer_lock_count;
}

static inline unsigned *asp_in_release(void)
{
	return &asp_release_count;
}

static inline struct asp_hook **asp_hooks(void)
{
	return &asp_innermost_hook;
}

/* order.c: the calling thread is about to wait for a lock; has it; no longer. */
#ifdef ASP_LOCK_ORDER
#define asp_held_of(lock) (&(lock)->held)
void asp_order_check(const struct asp_held *wanted);
void asp_order_add(struct asp_held *held);
#else
#define asp_held_of(lock) NULL
static inline void asp_order_check(const struct asp_held *wanted)
{
	(void)wanted;
}
static inline void asp_order_add(struct asp_held *held)
{
	(void)held;
}
#endif

static inline void asp_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
	__asm__ volatile("yield");
#endif
}

/* lock.c: wakes one of those who sleep upon the word. */
void asp_wake_one(_Atomic uint32_t *word);

static inline int asp_cancel_off(void)
{
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	return old;
}

static inline void asp_cancel_restore(int old)
{
	pthread_setcancelstate(old, &old);
}

struct asp_grace {
	/* Whose functions sections call; NULL: bp's, inlined. What readers load stands alone
	 * on its line. Constant while there is a space that uses it. */
	const struct rcu_flavor_struct *called;
	const struct rcu_flavor_struct *flavour; /* NULL: bp */

	/* The number of the last grace period that began / that ended. */
	_Alignas(64) _Atomic uint64_t started;
	_Atomic uint64_t ended;
	_Atomic uint64_t requested; /* the greatest stamp that anyone asked for */
	_Atomic uint64_t
		work_due;      /* the smallest `due` of clients; 0: none. A hint, see request.c */
	_Atomic uint32_t bell; /* 2 * number of rings + (the helper sleeps) */
	_Atomic uint32_t driver_bell; /* the same of the driver */
	struct asp_count turn;        /* how many grace periods have ended */
	_Atomic uint32_t turning;     /* somebody is inside synchronize_rcu */
	_Atomic uint32_t driving;     /* enum driver_state; waited upon */
	/* enum helper_state; waited upon. Whoever changes it releases, whoever acts on it
	 * acquires: a helper that is seen to be gone has done all that it does. */
	_Atomic uint32_t state;
	_Atomic uintptr_t starter; /* who makes a helper, else 0 */
	_Atomic uint32_t idle;     /* counts ends of work, and of forks; waited upon */

	/* Under the lock of all flavours. */
	_Alignas(64) struct asp_grace_client *clients;
	struct asp_grace_client *cursor;  /* the helper looks at this one next */
	struct asp_grace_client *running; /* its work runs now */
	pthread_t driver_thread;          /* the helper's own: no lock */
	pthread_t exited;                 /* a helper that has ended, ... */
	bool joinable;                    /* ... and nobody has joined it yet */
	bool orphan;                      /* nobody will: it detaches itself */
	bool used;                        /* has, or had, clients */
	bool dead;                        /* not fork-safe, and this is a child */

#ifdef ASP_TSAN
	char sections[4];
#endif
};

static inline void asp_read_lock(struct asp_grace *grace)
{
	if (__builtin_expect(!grace->called, 1))
		_urcu_bp_read_lock();
	else
		grace->called->read_lock();
}

/* Are sections inlined? It stays so while the structure has a client. */
static inline bool asp_read_is_inlined(const struct asp_grace *grace)
{
	return !grace->called;
}

/* Begin a section without a call, where they are inlined; false, and none is begun, if the
 * thread is not registered yet. Ended by asp_read_unlock_inlined(). */
static inline bool asp_read_lock_inlined(struct asp_grace *grace)
{
	(void)grace;
	if (__builtin_expect(!urcu_bp_reader, 0))
		return false;
	_urcu_bp_read_lock();
	return true;
}

/* What ThreadSanitizer is told at the end of a section, still inside. */
static inline void asp_read_tell(struct asp_grace *grace)
{
#ifdef ASP_TSAN
	/*
	 * ThreadSanitizer cannot see that grace period n waits for this section,
	 * where n is the first to begin after the section did. Sections release
	 * to the object of the number that they read here, still inside, and grace
	 * period n acquires the objects of n - 1 and n. That is enough: n - 1 had
	 * begun before the section did (or it would be the n), so at least n - 1 is
	 * read, and n cannot end before the section does, so at most n is. And it is
	 * not much more than is true: what a thread does after its section becomes
	 * ordered only if it ends another one before grace period n ends, while one
	 * object for all would order it with every later reclamation.
	 *
	 * Nested unlocks release too. A signal handler's section may fall between
	 * this release and the unlock below.
	 */
	__tsan_release(
		&grace->sections[atomic_load_explicit(&grace->started, memory_order_relaxed) & 3]);
#else
	(void)grace;
#endif
}

static inline void asp_read_unlock(struct asp_grace *grace)
{
	asp_read_tell(grace);
	if (__builtin_expect(!grace->called, 1))
		_urcu_bp_read_unlock();
	else
		grace->called->read_unlock();
}

static inline void asp_read_unlock_inlined(struct asp_grace *grace)
{
	asp_read_tell(grace);
	_urcu_bp_read_unlock();
}

/* Asking bp would register the thread. */
static inline bool asp_in_section_of_fork(void)
{
	return urcu_bp_reader && _urcu_bp_read_ongoing();
}

/* Make the calling thread known to bp; see linux/fork.c for why every
 * thread that takes a lock of the library is. */
static inline void asp_bp_register(void)
{
	if (__builtin_expect(!urcu_bp_reader, 0))
		urcu_bp_register_thread();
}

#endif
