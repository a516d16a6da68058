/* SPDX-License-Identifier: MIT */
/*
 * Pins: of faults and of advice, which are at work in a place beside the writers.
 *
 * Invariants (numbers of pins.c):
 *  N6  A fault that waits for the operation that holds the writer lock is counted in `behind`
 *      before it looks whether that still holds it. Who gives the lock back looks at
 *      `behind` after that. It waits so for one operation only: the one that held the lock
 *      when it came on the list with the range that it has (`ticket`). Later ones see it there,
 *      and wait for it.
 *
 * Why a writer needs no more than one load where there are no pins (N4, N5). The load of `used`,
 * the read-modify-writes and loads of the writer lock, and those of a fault are sequentially
 * consistent. A fault counts itself, and then looks at the lock.
 *   It finds it free: any writer that comes takes its ticket after that, and its load of `used`
 *   comes later still: it sees the fault.
 *   It finds it held, with ticket t: those with later tickets wait for `serving` to advance, which
 *   it had not: they, too, see the fault, and it need never look at them, however long it waits for
 *   others. Whether t does is not known, so the fault looks what t
 *   has said. If t has not said anything yet the fault waits for that: it goes on only beside a
 *   writer whose range it has read. If t is through, its version is visible. What it reads is t's:
 *   what others said was taken back before t was served, and `serving` is looked at once more.
 *   Where t has said "nothing" and will say something else, it takes that back by an exchange before;
 *   the fault's load of it is sequentially consistent, too. Either the fault reads what comes after
 *   the exchange, or it was counted before it, and so before t looks at `used`.
 * So the fault never relies on t's seeing it, and t never on being seen at once.
 */
#include "update/found.h"
#include "update/pin_list.h"

/* Nobody waits for what a handler or a NOWAIT call may not wait for longer than this many looks:
 * a writer has just come and not yet said what it changes. */
#define LOOKS_AT_ONCE 256

enum verdict {
	GO,
	SERVED,  /* somebody else has done it */
	AGAIN,   /* the area is another one by now */
	QUEUE,   /* something on the list is in the way */
	BEHIND,  /* the writer at work is */
	UNKNOWN, /* perhaps it is */
};

/* What does the writer at work change, if it is one that may not know of us? See the head. */
static enum verdict beside_writer(struct aspace *space, const struct asp_pin *pin)
{
	uint64_t lo, hi;

	if (asp_writer_ticket(space) != pin->ticket ||
	    atomic_load(&space->lock.next) == pin->ticket)
		return GO;
	/* If this is of a later writer, the load of the ticket says so; see the head. */
	hi = atomic_load(&space->change_hi);
	lo = atomic_load_explicit(&space->change_lo, memory_order_acquire);
	if (asp_writer_ticket(space) != pin->ticket)
		return GO;
	if (!hi)
		return UNKNOWN;
	return asp_ranges_meet(pin->lo, pin->hi, lo, hi) ? BEHIND : GO;
}

/* Under the lock of the list, and in a section. */
static enum verdict judge(struct aspace *space, struct asp_pin *pin, const struct asp_found *found,
			  struct asp_pin **obstacle)
{
	enum verdict verdict;

	*obstacle = asp_pin_obstacle(space, pin, NULL);
	if (*obstacle)
		return QUEUE;
	verdict = beside_writer(space, pin);
	if (verdict != GO)
		return verdict;
	/* No writer changes it from here on; but one may have, since it was found. */
	if (!asp_found_is_there(space, pin->address, found))
		return AGAIN;
	pin->area = found->area;
	pin->number = ++space->pins.works;
	pin->at_work = true;
	return GO;
}

/* It has to wait: may it? */
static enum aspace_status may_wait(struct aspace *space, const struct asp_pin *pin, unsigned how)
{
	if (asp_is_owner(space) || asp_pins_list_caller(space, pin))
		return ASPACE_DEADLOCK;
	if (asp_pin_is_awaited_by_fork(space, pin))
		return ASPACE_BUSY;
	return how & ASPACE_NOWAIT || *asp_writer_locks() ? ASPACE_BUSY : ASPACE_OK;
}

/* Counts the pin among those that the writer tells, or no longer: true if it was counted as it should be
 * when the lock of the list was taken, so that it may sleep. (Who waits for another entry may: that
 * leaves under this lock.) */
static bool is_counted(struct aspace *space, struct asp_pin *pin, enum verdict verdict)
{
	bool behind = verdict == BEHIND || verdict == UNKNOWN;
	bool counted = pin->behind >= behind;

	asp_pin_count_behind(space, pin, behind);
	return counted;
}

/* What the fault is going to be at work in. Whoever takes the writer lock after this sees it. */
static void list_fault(struct aspace *space, struct asp_pin *pin, const struct asp_found *found)
{
	bool is_seen = pin->listed && pin->lo <= found->lo && found->hi <= pin->hi;
	bool changes =
		pin->listed && !(pin->lo == found->lo && pin->hi == found->hi &&
				 pin->work_lo == found->work_lo && pin->work_hi == found->work_hi);

	pin->lo = found->lo;
	pin->hi = found->hi;
	pin->work_lo = found->work_lo;
	pin->work_hi = found->work_hi;
	pin->span = found->span;
	if (!pin->listed)
		asp_pin_put(space, pin, NULL);
	if (!is_seen)
		pin->ticket = asp_writer_ticket(space);
	if (changes)
		asp_pin_changed(space, pin);
}

/* One look; ASPACE_BUSY with *seen set where there is something to wait for. */
static enum aspace_status try_to_pin(struct aspace *space, struct asp_pin *pin,
				     const struct asp_found *found, unsigned how,
				     enum verdict *verdict, uint32_t *seen)
{
	enum aspace_status status = ASPACE_OK;
	struct asp_pin *obstacle = NULL;

	asp_mutex_acquire(&space->pins.lock);
	list_fault(space, pin, found);
	/* Whatever changes from here on changes this. */
	*seen = atomic_load(&pin->turn);
	*verdict = pin->served ? SERVED : judge(space, pin, found, &obstacle);
	if (*verdict == GO || *verdict == SERVED || *verdict == AGAIN) {
		is_counted(space, pin, *verdict);
	} else {
		status = may_wait(space, pin, how);
		if (status == ASPACE_OK && !is_counted(space, pin, *verdict))
			*verdict = AGAIN;
	}
	asp_pin_await(pin, obstacle);
	asp_pins_unlock(space);
	return status;
}

/* Who holds a pin counts as one with the writer lock, which transactions have that wait for it. */
static void begin_work(struct aspace *space, struct asp_pin *pin)
{
	++*asp_writer_locks();
#ifdef ASP_LOCK_ORDER
	asp_held_add(&pin->held, "a fault or an advice", ASP_LOCK_WRITER, space->id);
#else
	(void)space, (void)pin;
#endif
}

static void end_work(struct asp_pin *pin)
{
#ifdef ASP_LOCK_ORDER
	asp_held_remove(&pin->held);
#else
	(void)pin;
#endif
	--*asp_writer_locks();
}

/* Until what the verdict says may be over; the stall hook is told. False as asp_pin_sleep(). */
static bool sleep_over(struct aspace *space, struct asp_pin *pin, enum verdict verdict,
		       uint32_t seen, struct asp_stall *stall)
{
	if (verdict == AGAIN)
		return true;
	if (!stall->begin)
		*stall = asp_stall_begin();
	if (verdict != UNKNOWN)
		return asp_pin_sleep(space, pin, seen, stall);
	/* What a writer has to say it says at once, and tells nobody; but for one that is still in the stall
	 * hook when its turn has come. */
	asp_wait(&pin->turn, seen, 1);
	return !asp_stall_is_due(space, stall) || asp_stall_tell(space, stall);
}

enum aspace_status asp_pins_pin(struct aspace *space, struct asp_pin *pin, unsigned how,
				bool *under_lock)
{
	struct asp_stall stall = {.begin = 0};
	enum aspace_status status;
	enum verdict verdict;
	unsigned looks = 0;

	pin->thread = asp_thread_self();
	pin->in_section = asp_in_section_of_fork();
	*under_lock = false;
	if (asp_is_forking(space))
		return ASPACE_DEADLOCK;
	for (;;) {
		struct asp_found found;
		uint32_t seen = 0;

		/* The section keeps the user object until the pin does (N8). */
		asp_read_lock(space->grace);
		found.root = asp_root(space);
		verdict = AGAIN;
		status = asp_found_look(space, pin, &found, under_lock);
		if (status == ASPACE_OK && !*under_lock)
			status = try_to_pin(space, pin, &found, how, &verdict, &seen);
		asp_read_unlock(space->grace);

		if (verdict == UNKNOWN && status != ASPACE_OK && looks++ < LOOKS_AT_ONCE)
			continue;
		if (status != ASPACE_OK || *under_lock || verdict == SERVED) {
			asp_pins_drop(space, pin);
			if (*under_lock)
				pin->area.backend = found.area.backend;
			return status;
		}
		if (verdict == GO) {
			begin_work(space, pin);
			return ASPACE_OK;
		}
		if (!sleep_over(space, pin, verdict, seen, &stall)) {
			asp_pins_drop(space, pin);
			return ASPACE_BUSY;
		}
	}
}

/* Those that wait to do what has just been done need not. */
static void serve(struct aspace *space, const struct asp_pin *done)
{
	uint64_t same = done->span ? ~(done->span - 1) : UINT64_MAX;

	for (struct asp_pin *pin = done->next; pin; pin = pin->next) {
		if (pin->kind != ASP_FAULT && asp_pins_meet(pin, done))
			break; /* who waits behind that is to find what it leaves */
		if (pin->kind == ASP_FAULT && !pin->at_work && asp_pins_meet(pin, done) &&
		    pin->address >= done->work_lo &&
		    pin->address < done->work_hi && /* its own may be old */
		    !((pin->address ^ done->address) & same) && !(pin->access & ~done->access)) {
			pin->served = true;
			asp_pin_await(pin, NULL);
			asp_pin_tell(space, pin);
		}
	}
}

void asp_pins_unpin(struct aspace *space, struct asp_pin *pin, enum aspace_status status)
{
	asp_mutex_acquire(&space->pins.lock);
	if (pin->kind == ASP_FAULT && status == ASPACE_OK)
		serve(space, pin);
	asp_pin_leave(space, pin);
	end_work(pin);
}
