/* SPDX-License-Identifier: MIT */
/*
 * Pins and claims: who is at work in an area beside the writers, and who waits to change it.
 * How it works, and why, is at the head of pins.c.
 */
#ifndef ASPACE_UPDATE_PINS_H
#define ASPACE_UPDATE_PINS_H

#include "space/space.h"

/* Who is on the list. */
enum asp_pin_kind {
	ASP_CLAIM,  /* of a writer: what it changes, or waits to change */
	ASP_FAULT,  /* populates the span of an address */
	ASP_ADVICE, /* the backend is advised about a piece of an area */
};

/* An entry of the list, on the stack of the thread that it is about. What is not said to be
 * somebody else's is written under the lock of the list. */
struct asp_pin {
	struct asp_pin *next, *before;
	uintptr_t thread;
	enum asp_pin_kind kind;
	/* What it is at work in, or waits for; of a fault or an advice, what writers are held off
	 * from. A claim with `plan` is for what that changes, all of which is in here. */
	uint64_t lo, hi;
	uint64_t work_lo, work_hi; /* of a fault or an advice: what it works on, in [lo, hi) */
	const struct asp_plan *plan;
	uint64_t span; /* what a fault populates at once; 0: not known */
	struct asp_pin
		*awaits; /* the entry that it waits for, or NULL; which counts those that do: N10 */
	uint32_t awaited;
	/* Counts what the thread waits for; it sleeps upon this. Changed under the lock. */
	_Atomic uint32_t turn;
	bool told;  /* and to be woken */
	bool keeps; /* something postponed waits for it */
	bool listed;
	bool at_work;
	bool behind;     /* in `behind`: it waits for the writer with `ticket` */
	bool forks;      /* its thread is in the hook before fork */
	bool in_section; /* its thread is, in one that such a hook may wait for */
	bool served;     /* another fault has populated what this one was to */
	bool wants_lock; /* of who asks who is before it */
	/* Of a fault: who held the writer lock when it came on the list. Later ones see it there. */
	uint32_t ticket;
	uint64_t number; /* the how manieth of all that have been at work */
	/* The caller's: where a fault is, and the kinds of access. An advice is about the first
	 * area that reaches beyond the address, which then is where its piece begins. */
	uint64_t address;
	unsigned access;
	uint64_t end; /* of an advice: what begins here or above is not asked for */
	/* The area, as callbacks see it. Written once the pin is at work, under the lock. */
	struct aspace_area area;
#ifdef ASP_LOCK_ORDER
	struct asp_held held; /* at work, it is in the order of locks: N7 */
#endif
};

/* Nothing: no address is in it. */
#define ASP_CHANGES_NOTHING                                                                        \
	(struct aspace_range)                                                                      \
	{                                                                                          \
		{UINT64_MAX},                                                                      \
		{                                                                                  \
			UINT64_MAX                                                                 \
		}                                                                                  \
	}

/*
 * Under the writer lock, at once after it was taken: what is going to be changed. Release, for the
 * two loads of a fault (N5); they need no order with the load in asp_pins_any().
 */
static inline void asp_pins_say(struct aspace *space, struct aspace_range range)
{
	atomic_store_explicit(&space->change_lo, range.start.value, memory_order_release);
	atomic_store_explicit(&space->change_hi, range.end.value, memory_order_release);
}

/* The holder, which has said "nothing", is going to say something else: a fault that has read the
 * old word and not this one counted itself before, so the load in asp_pins_any() sees it (both are
 * sequentially consistent, and so is the load of the fault). */
static inline void asp_pins_say_anew(struct aspace *space)
{
	atomic_exchange(&space->change_hi, 0);
}

/* Before the lock is given back. The release of the lock orders it. */
static inline void asp_pins_unsay(struct aspace *space)
{
	atomic_store_explicit(&space->change_hi, 0, memory_order_relaxed);
}

/* Might a pin be in the way? Sequentially consistent: see N5. */
static inline bool asp_pins_any(struct aspace *space)
{
	return atomic_load(&space->pins.used) != 0;
}

/* After the writer lock was given back. Sequentially consistent, after a read-modify-write that
 * is: see N6. */
void asp_pins_tell(struct aspace *space);
static inline void asp_pins_left(struct aspace *space)
{
	if (__builtin_expect(atomic_load(&space->pins.behind) != 0, 0))
		asp_pins_tell(space);
}

/* Gives the lock of the list back, and wakes whom the caller, or somebody beside it, has told. */
void asp_pins_unlock(struct aspace *space);
/* Under the lock: a transaction that waits looks again. */
void asp_pins_tell_transaction(struct aspace *space);

/* Does the calling thread hold a pin? */
bool asp_pins_mine(struct aspace *space);
/* S10, under the writer lock; else what is wrong, and where. */
const char *asp_pins_check(struct aspace *space, uint64_t *where);

/* ---- pinning.c: beside the writers -------------------------------------------- */

/*
 * Finds the area of pin->address and pins what kind, address, access and end (set by the caller,
 * everything else zero) ask for. ASPACE_OK: pin->area may be worked on until asp_pins_unpin(),
 * or, where pin->served says so, the work has been done. Else ASPACE_NOT_MAPPED;
 * ASPACE_NOT_SUPPORTED, ASPACE_INVALID_PARAM; ASPACE_DEADLOCK, ASPACE_BUSY: it would have to
 * wait, and may not.
 * `under_lock`: that, and nothing is pinned, because the area's backend, which is noted in
 * pin->area, wants the writer lock.
 */
enum aspace_status asp_pins_pin(struct aspace *space, struct asp_pin *pin, unsigned how,
				bool *under_lock);
/* `status`: what the backend answered. */
void asp_pins_unpin(struct aspace *space, struct asp_pin *pin, enum aspace_status status);
/* Around a callback beneath which a transaction of the calling thread is not to be touched, if it has
 * one open: the answer is for the second. */
static inline bool asp_pins_shut_txn(struct aspace *space)
{
	bool beneath = asp_is_owner(space) && space->plan.open && !space->plan.busy;

	if (beneath)
		space->plan.busy = true;
	return beneath;
}
static inline void asp_pins_reopen_txn(struct aspace *space, bool beneath)
{
	if (beneath)
		space->plan.busy = false;
}

/* ---- claims.c: writers, under the writer lock unless otherwise said ------------- */

/* Before a commit calls backends, where asp_pins_any(): is nobody at work in what has been said?
 * Then nobody will be until the lock is given back. Else false, and plan->pinned. */
bool asp_pins_hold_off(struct asp_plan *plan);
/* The same earlier, where a plan is about to ask the program for something that it should not be asked twice.
 * An open transaction waits at its commit. */
static inline bool asp_pins_clear(struct asp_plan *plan)
{
	return plan->open || !asp_pins_any(plan->space) || asp_pins_hold_off(plan);
}
/* The same for the plan of an open transaction, which puts `claim` on the list, and waits there.
 * False: it would have to wait, and may not. */
bool asp_pins_claim_plan(struct asp_plan *plan, struct asp_pin *claim);
/* The plan is about to be published, or dropped: hold off everybody until that is done. */
void asp_pins_close(struct aspace *space, struct asp_pin *claim);
/* May the writer wait, when it has given its lock back? It must not hold that of another space,
 * nor a pin of one. */
static inline bool asp_pins_may_wait(unsigned how)
{
	return !(how & ASPACE_NOWAIT) && *asp_writer_locks() == 1;
}
/* Takes a place for an operation that met pins: behind them, before whoever came after it. */
void asp_pins_queue(struct aspace *space, struct asp_pin *place);
/* Without the lock: until nothing is in the way of the place. False: it may not wait any longer. */
bool asp_pins_wait(struct aspace *space, struct asp_pin *place);
/* With the lock or without: gives a claim or a place up, or a pin that waits. */
void asp_pins_drop(struct aspace *space, struct asp_pin *pin);

/* ---- postpone.c: deferred things, under the writer lock unless otherwise said ---- */

/* Claims the range of a deferred unmap, or postpones its record: false. */
bool asp_pins_claim(struct aspace *space, struct asp_pin *claim, struct aspace_range range,
		    struct aspace_record *record);
/* Postpones the release of a reference whose object a pin keeps; false: none does. */
bool asp_pins_keep(struct aspace *space, struct aspace_record *record);
/* Puts what was postponed back at the heads of the lists, if a pin has gone since. */
void asp_pins_resume(struct aspace *space);
/* Is a leaving area that begins in the range postponed? */
bool asp_pins_postpone(const struct aspace *space, struct aspace_range range);
/* Without the lock: until a pin goes that something postponed may have waited for, or that has been put
 * back, since pins.resumed was `resumed`. False: as asp_wait_for_readers(). */
bool asp_pins_await(struct aspace *space, uint32_t resumed);

/* ---- pins_fork.c --------------------------------------------------------------- */

/* The calling thread is going to wait for readers, in the hook before fork. No lock is held that comes
 * after this one. */
void asp_pins_begin_fork(struct aspace *space);
/* Around fork, as the other locks of a space, which asp_halt_leave() gives back; in the child only the caller's entries stay. */
void asp_pins_before_fork(struct aspace *space);
void asp_pins_after_fork(struct aspace *space, bool child);

#endif
