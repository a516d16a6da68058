/* SPDX-License-Identifier: MIT */
/*
 * Claims: what writers hold off faults and advice in, and the places at which they wait for these.
 *
 * Invariants (numbers of pins.c):
 *  N5  Whoever holds the writer lock says what it changes, at once, once, and before it looks
 *      at `used`; and takes it back before it gives the lock back. An open transaction, and who
 *      runs deferred work, say "nothing", and put claims on the list instead before they call
 *      a backend. Who runs deferred work and goes on to an operation takes that back first.
 */
#include "update/pin_list.h"

/* A claim of what the calling writer has said. */
static struct asp_pin claim_of_said(struct aspace *space)
{
	/* Relaxed: our own. */
	return (struct asp_pin){
		.kind = ASP_CLAIM,
		.thread = asp_thread_self(),
		.lo = atomic_load_explicit(&space->change_lo, memory_order_relaxed),
		.hi = atomic_load_explicit(&space->change_hi, memory_order_relaxed),
	};
}

bool asp_pins_hold_off(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	struct asp_pin said, *place = plan->place;
	uint32_t ticket;

	/* Once: who comes now waits for us, so it must not be in our way when we ask again. */
	if (plan->held_off)
		return true;
	said = claim_of_said(space);
	asp_mutex_acquire(&space->pins.lock);
	if (place && (place->lo != said.lo || place->hi != said.hi)) {
		place->lo = said.lo;
		place->hi = said.hi;
		asp_pin_changed(space, place);
	}
	ticket = asp_writer_ticket(space);
	plan->pinned = asp_pin_obstacle(space, place ? place : &said, &ticket);
	if (place)
		place->at_work = !plan->pinned;
	asp_pins_unlock(space);
	plan->held_off = !plan->pinned;
	return plan->held_off;
}

/* ---- Operations that wait, without the lock -------------------------------------- */

void asp_pins_queue(struct aspace *space, struct asp_pin *place)
{
	struct asp_pin *next;
	uint32_t ticket;

	*place = claim_of_said(space);
	place->in_section = asp_in_section_of_fork();
	asp_mutex_acquire(&space->pins.lock);
	ticket = asp_writer_ticket(space);
	for (next = space->pins.first; next && !asp_pin_waits_for(next, ticket); next = next->next)
		;
	asp_pin_put(space, place, next);
	asp_mutex_release(&space->pins.lock);
}

bool asp_pins_wait(struct aspace *space, struct asp_pin *place)
{
	struct asp_stall stall = asp_stall_begin();
	struct asp_pin *obstacle;
	bool go_on = true;

	asp_mutex_acquire(&space->pins.lock);
	place->at_work = false;
	while (go_on && (obstacle = asp_pin_obstacle(space, place, NULL)) != NULL) {
		uint32_t seen = atomic_load(&place->turn);

		go_on = !asp_pin_is_awaited_by_fork(space, place);
		if (!go_on)
			break;
		asp_pin_await(place, obstacle);
		asp_mutex_release(&space->pins.lock);
		go_on = asp_pin_sleep(space, place, seen, &stall);
		asp_mutex_acquire(&space->pins.lock);
	}
	asp_pin_await(place, NULL);
	asp_mutex_release(&space->pins.lock);
	return go_on;
}

/* ---- Transactions, which wait with it ------------------------------------------- */

/* asp_pin_sleep() with the writer lock held, at rest. The hook may do what it may in a callback. */
static bool sleep_at_rest(struct aspace *space, struct asp_pin *claim, uint32_t seen,
			  struct asp_stall *stall)
{
	if (!stall->begin)
		*stall = asp_stall_begin();
	asp_wait_holding(&claim->turn, seen, asp_stall_left(space, stall));
	return !asp_stall_is_due(space, stall) || asp_stall_tell_holding(space, stall);
}

/* Does it wait for the writer lock, or for somebody before it who does? Those before it have been
 * asked. */
static bool wants_lock(const struct asp_pin *pin)
{
	if (pin->at_work)
		return false;
	if (pin->kind == ASP_CLAIM)
		return true;
	for (const struct asp_pin *other = pin->before; other; other = other->before) {
		if (other->wants_lock && asp_pins_meet(other, pin))
			return true;
	}
	return false;
}

/* As asp_pin_obstacle(), for a claim that keeps its place: who is before it? But it passes those
 * that want the lock, which its writer holds. */
static struct asp_pin *preceding(struct aspace *space, const struct asp_pin *claim)
{
	for (struct asp_pin *pin = space->pins.first; pin != claim; pin = pin->next) {
		pin->wants_lock = wants_lock(pin);
		if (!pin->wants_lock && asp_pins_meet(pin, claim))
			return pin;
	}
	return asp_pin_met(space, claim);
}

/* At rest under the writer lock: see N7. */
bool asp_pins_claim_plan(struct asp_plan *plan, struct asp_pin *claim)
{
	struct aspace *space = plan->space;
	struct asp_pins *pins = &space->pins;
	struct asp_stall stall = {.begin = 0};
	struct asp_pin *obstacle;
	bool go_on = true;

	*claim = (struct asp_pin){
		.kind = ASP_CLAIM, .plan = plan, .thread = asp_thread_self(), .hi = UINT64_MAX};
	if (!plan->phases) /* no backend is asked */
		return true;
	asp_mutex_acquire(&pins->lock);
	asp_pin_put(space, claim, NULL);
	/* What a fork has must come back first. */
	while ((obstacle = preceding(space, claim)) != NULL || pins->lent) {
		uint32_t seen;

		plan->pinned = !pins->lent &&
			       (!go_on || plan->nowait || *asp_writer_locks() > 1 || pins->forkers);
		if (plan->pinned) {
			asp_pin_take_out(space, claim);
			break;
		}
		pins->committing = claim;
		asp_pin_await(claim, obstacle);
		asp_rest_begin(space);
		seen = atomic_load(&claim->turn);
		asp_mutex_release(&pins->lock);
		go_on = sleep_at_rest(space, claim, seen, &stall);
		asp_mutex_acquire(&pins->lock);
	}
	pins->resting = false;
	pins->committing = NULL;
	asp_pin_await(claim, NULL);
	claim->at_work = claim->listed;
	asp_pins_unlock(space);
	return !plan->pinned;
}

void asp_pins_close(struct aspace *space, struct asp_pin *claim)
{
	asp_mutex_acquire(&space->pins.lock);
	claim->plan = NULL;
	asp_mutex_release(&space->pins.lock);
}
