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
 *  N10 Who waits for another entry has noted for which (`awaits`), and is counted there (`awaited`),
 *      from under the same hold of the lock under which it looked. Each sleeps upon a word of its own.
 *      Who leaves, or is in the way of others than before, tells those that wait for it: so what it
 *      does makes no system call where nobody does. They are woken when the lock has been given
 *      back, and then may have gone on: nothing of them is touched any more, and a word that is not there
 *      may be woken. (A transaction that waits is told besides when it may be who wants the writer lock that
 *      has become another: there is one at most, `committing`.)
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

struct asp_pin *asp_pin_obstacle(struct aspace *space, const struct asp_pin *pin,
				 const uint32_t *ticket)
{
	bool before = true;

	for (struct asp_pin *other = space->pins.first; other; other = other->next) {
		if (other == pin)
			before = false;
		else if ((before || other->at_work) && asp_pins_meet(other, pin) &&
			 !(ticket && asp_pin_waits_for(other, *ticket)))
			return other;
	}
	return NULL;
}

struct asp_pin *asp_pin_met(struct aspace *space, const struct asp_pin *claim)
{
	struct asp_pin *pin = space->pins.first;

	while (pin && (pin == claim || !pin->at_work || !asp_pins_meet(pin, claim)))
		pin = pin->next;
	return pin;
}

/* ---- Who is told (N10) --------------------------------------------------------- */

/* So many are woken between two holds of the lock. */
#define WAKES 16

void asp_pin_tell(struct aspace *space, struct asp_pin *pin)
{
	/* Release and acquire: who reads the new number finds what it was told of. (Under the lock
	 * it does anyway; but the word is waited upon without.) */
	atomic_fetch_add(&pin->turn, 1);
	space->pins.told += !pin->told;
	pin->told = true;
}

void asp_pins_tell_transaction(struct aspace *space)
{
	if (space->pins.committing)
		asp_pin_tell(space, space->pins.committing);
}

/* For whom does one wait that waited for `pin`, which is in its way no longer? Nobody: it is to look. So is
 * who has waited for a writer, since what there is may be something else; and a transaction, which
 * does not wait for all that is before it. */
static struct asp_pin *next_obstacle(struct aspace *space, const struct asp_pin *pin,
				     const struct asp_pin *waiter)
{
	if (pin->kind == ASP_CLAIM || waiter == space->pins.committing)
		return NULL;
	return asp_pin_obstacle(space, waiter, NULL);
}

/* Those that waited for it wait for somebody else, or are told. */
static void pass(struct aspace *space, struct asp_pin *pin)
{
	struct asp_pin *waiter = space->pins.first;

	for (uint32_t left = pin->awaited; left; waiter = waiter->next) {
		if (waiter->awaits != pin)
			continue;
		left--;
		asp_pin_await(waiter, next_obstacle(space, pin, waiter));
		if (!waiter->awaits)
			asp_pin_tell(space, waiter);
	}
}

void asp_pin_changed(struct aspace *space, struct asp_pin *pin)
{
	pass(space, pin);
	/* Somebody may want the writer lock now who did not: what waits for him, with that lock, looks
	 * again. */
	asp_pins_tell_transaction(space);
}

/* Takes the words of some who are to be woken. */
static unsigned take_told(struct asp_pins *pins, _Atomic uint32_t *words[WAKES])
{
	unsigned count = 0;

	for (struct asp_pin *pin = pins->first; pins->told && count < WAKES; pin = pin->next) {
		if (!pin->told)
			continue;
		pin->told = false;
		pins->told--;
		words[count++] = &pin->turn;
	}
#ifdef ASPACE_TESTING
	pins->wakes += count;
#endif
	return count;
}

static __attribute__((noinline)) void wake_told(struct asp_pins *pins)
{
	_Atomic uint32_t *words[WAKES];
	bool more;

	for (;;) {
		unsigned count = take_told(pins, words);

		more = pins->told;
		asp_mutex_release(&pins->lock);
		/* Who has looked meanwhile may be gone, and its stack. */
		while (count)
			asp_wake_all(words[--count]);
		if (!more)
			return;
		asp_mutex_acquire(&pins->lock);
	}
}

void asp_pins_unlock(struct aspace *space)
{
	if (__builtin_expect(space->pins.told != 0, 0))
		wake_told(&space->pins);
	else
		asp_mutex_release(&space->pins.lock);
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

void asp_pin_take_out(struct aspace *space, struct asp_pin *pin)
{
	struct asp_pins *pins = &space->pins;

	if (!pin->listed)
		return;
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
	asp_pin_await(pin, NULL);
	if (pins->committing == pin)
		pins->committing = NULL;
	pins->told -= pin->told;
	pin->told = false;
	atomic_fetch_sub(&pins->used, 1);
	pass(space, pin);
}

void asp_pin_leave(struct aspace *space, struct asp_pin *pin)
{
	struct asp_pins *pins = &space->pins;
	bool keeps = pin->keeps, wake = keeps && pins->waiters;

	asp_pin_take_out(space, pin);
	/* Sequentially consistent, before the request: whom the helper finds in its way sees it
	 * when it leaves. */
	if (keeps)
		atomic_store(&pins->resumable, true);
	if (wake)
		atomic_fetch_add(&pins->turn, 1);
	asp_pins_unlock(space);
	if (wake)
		asp_wake_all(&pins->turn);
	if (keeps)
		asp_grace_request(space->grace, &space->client, 1);
}

void asp_pins_drop(struct aspace *space, struct asp_pin *pin)
{
	if (!pin->listed)
		return;
	asp_mutex_acquire(&space->pins.lock);
	asp_pin_leave(space, pin);
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
	struct asp_pins *pins = &space->pins;
	uint32_t ticket = asp_writer_ticket(space);
	bool halts;

	asp_mutex_acquire(&pins->lock);
	/* Those with this ticket wait for a later writer, who tells them. */
	for (struct asp_pin *pin = pins->first; pin; pin = pin->next) {
		if (pin->behind && pin->ticket != ticket)
			asp_pin_tell(space, pin);
	}
	halts = atomic_load(&space->halts);
	if (halts)
		atomic_fetch_add(&pins->turn, 1);
	asp_pins_unlock(space);
	if (halts)
		asp_wake_all(&pins->turn);
}

bool asp_pin_sleep(struct aspace *space, struct asp_pin *pin, uint32_t seen,
		   struct asp_stall *stall)
{
	asp_wait(&pin->turn, seen, asp_stall_left(space, stall));
	return !asp_stall_is_due(space, stall) || asp_stall_tell(space, stall);
}

/* ---- Checking ---------------------------------------------------------------- */

/* N10, but for whom it is that an entry waits for. */
static bool is_awaited_as_counted(struct aspace *space, const struct asp_pin *pin)
{
	uint32_t count = 0;

	for (const struct asp_pin *other = space->pins.first; other; other = other->next)
		count += other->awaits == pin;
	return count == pin->awaited && !(pin->awaits && (pin->at_work || !pin->awaits->listed));
}

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
		if (!is_awaited_as_counted(space, pin))
			return "a pin is not awaited as counted";
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
