/* SPDX-License-Identifier: MIT */
/*
 * Wishes: which grace periods somebody wants, and whose work is to run after them.
 *
 * Invariants:
 *  1. due, latest and requested are written before the bell is rung (driver.c); a client
 *     whose due is not 0 has had a bell rung, or is about to, since the helper last
 *     took due.
 */
#include "platform/linux/grace.h"

/* *word = max(*word, value). Release, so that who reads it knows why. True if it was less. */
static bool raise_to(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

	while (old < value) {
		if (atomic_compare_exchange_weak_explicit(word, &old, value, memory_order_acq_rel,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

/* Set *due to the smaller of it and stamp, where 0 is greater than all. True if it was
 * later than stamp. Sequentially consistent: asp_grace_work_wanted(). */
static bool lower_due(_Atomic uint64_t *due, uint64_t stamp)
{
	/*
	 * A read-modify-write even where nothing is to be changed: if the helper's
	 * exchange for 0 comes after it, the helper sees whatever the caller has put
	 * up for work to find; if before, we see the 0. A load could see a wish that
	 * the helper has already taken.
	 */
	uint64_t old = atomic_fetch_add(due, 0);

	while (!old || old > stamp) {
		if (atomic_compare_exchange_weak(due, &old, stamp))
			return true;
	}
	return false;
}

bool asp_grace_work_wanted(struct asp_grace *grace)
{
	uint64_t due = atomic_load(&grace->work_due);

	return due && asp_grace_elapsed(grace, due);
}

/* Is there something to turn over? */
bool asp_grace_wanted(struct asp_grace *grace)
{
	/* Acquire pairs with raise_to(). */
	return atomic_load_explicit(&grace->requested, memory_order_acquire) >
	       atomic_load_explicit(&grace->ended, memory_order_relaxed);
}

/* Under the lock. Take client's wish if its time has come. */
bool asp_grace_take_due(struct asp_grace *grace, struct asp_grace_client *client)
{
	uint64_t ended = atomic_load_explicit(&grace->ended, memory_order_acquire);
	uint64_t due = atomic_load_explicit(&client->due, memory_order_acquire);
	uint64_t latest;

	if (!due)
		return false;
	if (due > ended) {
		/* Its owner may have been lost in a fork between the two. */
		raise_to(&grace->requested, due);
		lower_due(&grace->work_due, due);
		return false;
	}
	/* Only we make it smaller than it is by taking it away: due > 0 still. Release
	 * and acquire: see lower_due(). */
	atomic_exchange_explicit(&client->due, 0, memory_order_acq_rel);
	latest = atomic_load_explicit(&client->latest, memory_order_acquire);
	if (latest > ended) {
		/* An earlier wish had hidden a later one. */
		lower_due(&client->due, latest);
		lower_due(&grace->work_due, latest);
		raise_to(&grace->requested, latest);
	}
	return true;
}

bool asp_grace_has_helper(struct asp_grace *grace)
{
	/* Relaxed: it is a matter of whether to wait, and for how long. */
	return atomic_load_explicit(&grace->state, memory_order_relaxed) != HELPER_NONE;
}

void asp_grace_request(struct asp_grace *grace, struct asp_grace_client *client, uint64_t stamp)
{
	if (grace->dead)
		return;
	/* Without a helper (in a forked child) the wish stays: a lock may be held here, so no
	 * thread is made. Who waits for the grace period turns it over, and a helper that
	 * comes later finds the wish. */
	if (client) {
		raise_to(&client->latest, stamp);
		/* Else there is an earlier wish: its owner rings, and the helper then finds latest. */
		if (lower_due(&client->due, stamp)) {
			/* The driver has ended the grace period, and we see that; or it sees this
			 * when it does, and rings. */
			lower_due(&grace->work_due, stamp);
			if (asp_grace_elapsed(grace, stamp))
				asp_helper_ring(grace);
		}
	}
	/* Not only when the helper comes to it, which may be in a callback: writers take what is
	 * due, too. Whoever has asked for a later one has rung, or is about to. */
	if (raise_to(&grace->requested, stamp))
		asp_driver_ring(grace);
}
