/* SPDX-License-Identifier: MIT */
/*
 * Who holds whom off: faults and advice beside writers. Here: the list, and who meets whom.
 *
 * What changes no area takes no writer lock. It is *pinned* instead: noted on a short list of the
 * space, with the range that it is at work in, and the backend is called with no lock held. A
 * writer that would change that range waits for it, at its *place* on the same list, without the
 * writer lock. The list is a queue: who comes waits for those before it that it meets, and for
 * nobody else. Two faults, or advices, meet where what they work on overlaps: spans, pieces. A writer
 * meets them in what they hold it off from, which is the whole area where references are counted.
 *
 * Entries lie on the stacks of the threads that they are about. Nothing is allocated.
 *
 *   found.c      what there is at an address, and how much of it a pin is for
 *   pinning.c    pins of faults and of advice (N6, and why a writer needs no more than one load)
 *   claims.c     claims of writers, and their places (N5)
 *   postpone.c   deferred things that meet a pin (N8)
 *   pins_fork.c  the list around a fork (N9)
 *
 * Invariants (N2, N3 and the count of N4 are asked by aspace_validate, as S10):
 *  N1  The list is in the order of arrival. (A writer that finds itself held up came before the
 *      faults that wait for what it is about to do, and goes before these.)
 *  N2  Entries at work do not meet. An entry is at work only if nothing before it meets it, and
 *      nothing behind it that is at work.
 *  N3  A pin that is at work is in an area of the newest version, of the backend that is called.
 *  N4  `used` is the number of entries. An entry is counted, by a read-modify-write, before its
 *      thread looks at the writer lock.
 *  N7  A thread that is the space's writer, or is in its list already, never waits here: it gets
 *      ASPACE_DEADLOCK. One that holds the writer lock of any other space, or a pin there, gets
 *      ASPACE_BUSY. Who holds a pin never becomes the writer, and counts as one that others
 *      may wait for (asp_writer_locks()): it waits for no reader. So whoever is waited for
 *      here waits for nothing here, and no circle closes. An open transaction that
 *      commits is the exception: it keeps the writer lock while it waits, since that is what a
 *      transaction is. No fault that is at work waits for that lock, and forks do without (halt.c).
 *      (Of several spaces: who is at work in one becomes the writer of earlier ones only, as who has
 *      its lock; that is the program's to keep, and the builds for tests assert it.) A thread that holds a pin and forks is the other: liburcu's locks wait for readers. While it is
 *      about to (`forkers`), nobody waits for it whom a reader may wait for: it gets ASPACE_BUSY.
 */
#include "update/pin_list.h"
#include "update/found.h"

/* ---- Who meets whom --------------------------------------------------------- */

/* Does the plan change anything in [lo, hi)? */
static bool changes(const struct asp_plan *plan, uint64_t lo, uint64_t hi)
{
	for (unsigned phases = plan->phases; phases; phases &= phases - 1) {
		const struct asp_action *action = plan->actions[__builtin_ctz(phases)].head;

		for (; action; action = action->next) {
			if (asp_ranges_meet(lo, hi, action->change.range.start.value,
					    action->change.range.end.value))
				return true;
		}
	}
	return false;
}

bool asp_pins_meet(const struct asp_pin *a, const struct asp_pin *b)
{
	if (a->kind != ASP_CLAIM && b->kind != ASP_CLAIM)
		return asp_ranges_meet(a->work_lo, a->work_hi, b->work_lo, b->work_hi);
	if (!asp_ranges_meet(a->lo, a->hi, b->lo, b->hi))
		return false;
	if (a->plan)
		return changes(a->plan, b->lo, b->hi);
	return !b->plan || changes(b->plan, a->lo, a->hi);
}

const struct asp_pin *asp_pin_obstacle(struct aspace *space, const struct asp_pin *pin,
				       const uint32_t *ticket)
{
	bool before = true;

	for (const struct asp_pin *other = space->pins.first; other; other = other->next) {
		if (other == pin)
			before = false;
		else if ((before || other->at_work) && asp_pins_meet(other, pin) &&
			 !(ticket && asp_pin_waits_for(other, *ticket)))
			return other;
	}
	return NULL;
}

bool asp_pin_is_met(struct aspace *space, const struct asp_pin *claim)
{
	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		if (pin != claim && pin->at_work && asp_pins_meet(pin, claim))
			return true;
	}
	return false;
}

/* ---- Who is there ------------------------------------------------------------ */

void asp_pin_put(struct aspace *space, struct asp_pin *pin, struct asp_pin *next)
{
	struct asp_pins *pins = &space->pins;

	pin->next = next;
	pin->before = next ? next->before : pins->last;
	if (pin->before)
		pin->before->next = pin;
	else
		pins->first = pin;
	if (next)
		next->before = pin;
	else
		pins->last = pin;
	pin->listed = true;
	/* Sequentially consistent: N4. */
	atomic_fetch_add(&pins->used, 1);
}

bool asp_pin_take_out(struct aspace *space, struct asp_pin *pin)
{
	struct asp_pins *pins = &space->pins;

	if (!pin->listed)
		return false;
	if (pin->before)
		pin->before->next = pin->next;
	else
		pins->first = pin->next;
	if (pin->next)
		pin->next->before = pin->before;
	else
		pins->last = pin->before;
	pin->listed = false;
	asp_pin_count_behind(space, pin, false);
	asp_pin_count_sleeper(space, pin, false);
	atomic_fetch_sub(&pins->used, 1);
	if (!pins->sleepers)
		return false;
	/* Release and acquire: who reads the new number finds the entry gone. (Under the lock it
	 * does anyway; but the word is waited upon without.) */
	atomic_fetch_add(&pins->turn, 1);
	return true;
}

void asp_pins_drop(struct aspace *space, struct asp_pin *pin)
{
	bool wake;

	if (!pin->listed)
		return;
	asp_mutex_acquire(&space->pins.lock);
	wake = asp_pin_take_out(space, pin);
	asp_mutex_release(&space->pins.lock);
	if (wake)
		asp_wake_all(&space->pins.turn);
}

bool asp_pins_list_caller(struct aspace *space, const struct asp_pin *but)
{
	uintptr_t self = asp_thread_self();

	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		if (pin != but && pin->thread == self)
			return true;
	}
	return false;
}

bool asp_pins_mine(struct aspace *space)
{
	bool mine;

	if (!asp_pins_any(space)) /* one of ours would be counted */
		return false;
	if (asp_is_forking(space))
		return asp_pins_list_caller(space, NULL);
	asp_mutex_acquire(&space->pins.lock);
	mine = asp_pins_list_caller(space, NULL);
	asp_mutex_release(&space->pins.lock);
	return mine;
}

/* ---- Waiting ----------------------------------------------------------------- */

void asp_pins_tell(struct aspace *space)
{
	/* Acquire and release: who reads the new number finds the writer lock given back. */
	atomic_fetch_add(&space->pins.turn, 1);
	asp_wake_all(&space->pins.turn);
}

bool asp_pin_sleep(struct aspace *space, uint32_t seen, struct asp_stall *stall)
{
	asp_wait(&space->pins.turn, seen, asp_stall_left(space, stall));
	return !asp_stall_is_due(space, stall) || asp_stall_tell(space, stall);
}

/* ---- Checking ---------------------------------------------------------------- */

static const char *check(struct aspace *space, uint64_t *where)
{
	const struct asp_pin *before = NULL;
	struct aspace_area area;
	uint32_t count = 0;

	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		*where = pin->lo;
		count++;
		if (pin->before != before || pin->lo >= pin->hi)
			return "the list of pins is damaged";
		before = pin;
		if (!pin->at_work)
			continue;
		for (const struct asp_pin *other = pin->next; other; other = other->next) {
			if (other->at_work && asp_pins_meet(pin, other))
				return "two are at work in one place";
		}
		if (pin->kind != ASP_CLAIM &&
		    (!asp_pins_find(asp_root(space), pin->address, &area) ||
		     area.backend != pin->area.backend))
			return "a pin is where no area of its backend is";
	}
	return count == atomic_load(&space->pins.used) ? NULL : "pins are not as many as counted";
}

const char *asp_pins_check(struct aspace *space, uint64_t *where)
{
	const char *what;

	asp_mutex_acquire(&space->pins.lock);
	what = check(space, where);
	asp_mutex_release(&space->pins.lock);
	return what;
}
