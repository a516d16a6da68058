/* SPDX-License-Identifier: MIT */
/*
 * The list of pins from the inside: what the files share of which it consists (see pins.c). Under the
 * lock of the list, unless otherwise said.
 */
#ifndef ASPACE_UPDATE_PIN_LIST_H
#define ASPACE_UPDATE_PIN_LIST_H

#include "update/pins.h"

/* ---- Who meets whom --------------------------------------------------------- */

static inline bool asp_ranges_meet(uint64_t lo, uint64_t hi, uint64_t other_lo, uint64_t other_hi)
{
	return lo < other_hi && other_lo < hi;
}

bool asp_pins_meet(const struct asp_pin *a, const struct asp_pin *b);
/* Who is in the way of the pin (or would be, of one that is not listed and came now). `ticket`:
 * that of a writer that asks, or NULL. */
struct asp_pin *asp_pin_obstacle(struct aspace *space, const struct asp_pin *pin,
				 const uint32_t *ticket);
/* Who is at work in the claim of who holds the writer lock? */
struct asp_pin *asp_pin_met(struct aspace *space, const struct asp_pin *claim);
/* Is the calling thread on the list, otherwise than with `but`? */
bool asp_pins_list_caller(struct aspace *space, const struct asp_pin *but);

/* ---- Coming and going ------------------------------------------------------- */

/* Puts it at the end, or before `next`. */
void asp_pin_put(struct aspace *space, struct asp_pin *pin, struct asp_pin *next);
/* The lock is to be given back by asp_pins_unlock(). */
void asp_pin_take_out(struct aspace *space, struct asp_pin *pin);
/* Does both, and asks for what was postponed because of it. */
void asp_pin_leave(struct aspace *space, struct asp_pin *pin);

/* ---- Waiting ----------------------------------------------------------------
 *
 * Who has told somebody gives the lock back by asp_pins_unlock().
 */

/* Notes for whom it waits; NULL: for nobody. */
static inline void asp_pin_await(struct asp_pin *pin, struct asp_pin *obstacle)
{
	if (pin->awaits)
		pin->awaits->awaited--;
	pin->awaits = obstacle;
	if (obstacle)
		obstacle->awaited++;
}

/* It looks again. */
void asp_pin_tell(struct aspace *space, struct asp_pin *pin);
/* It is in the way of others than before. */
void asp_pin_changed(struct aspace *space, struct asp_pin *pin);

/* Without the lock: the ticket of whoever holds the writer lock, or gets it next. */
static inline uint32_t asp_writer_ticket(struct aspace *space)
{
	return atomic_load(&space->lock.serving);
}

/* Does it wait for the writer with that ticket? Then that does not wait for it. */
static inline bool asp_pin_waits_for(const struct asp_pin *pin, uint32_t ticket)
{
	return pin->behind && pin->ticket == ticket;
}

static inline void asp_pin_count_behind(struct aspace *space, struct asp_pin *pin, bool behind)
{
	if (pin->behind == behind)
		return;
	pin->behind = behind;
	/* Sequentially consistent: N6. */
	if (behind)
		atomic_fetch_add(&space->pins.behind, 1);
	else
		atomic_fetch_sub(&space->pins.behind, 1);
}

/* May a fork that somebody here waits for wait for us? */
static inline bool asp_pin_is_awaited_by_fork(const struct aspace *space, const struct asp_pin *pin)
{
	return space->pins.forkers && pin->in_section;
}

/* Until its `turn` is another one than `seen`, or for a while; the stall hook is told. No lock held. False:
 * it has made the thread one that others may wait for. */
bool asp_pin_sleep(struct aspace *space, struct asp_pin *pin, uint32_t seen,
		   struct asp_stall *stall);

#endif
