/* SPDX-License-Identifier: MIT */
/*
 * Numbers of grace periods, and the stamps that name them.
 *
 * started is read and advanced by read-modify-writes only. A caller made
 * something unreachable, then takes its stamp by adding 0 to started (release); the
 * driver (turn.c) adds 1 (acquire) and then calls synchronize_rcu. In the modification
 * order of started the stamp comes before the driver's addition or after it.
 *   Before: the driver's addition reads from the release sequence that the stamp is
 *   in, so the removal happens before synchronize_rcu, which waits for every section
 *   that could have missed it. The stamp is the number of that grace period.
 *   After: the stamp is the number of the next one, of which the same is true.
 * A plain load would not do: it may be satisfied before the removal is visible, read
 * the number from before the driver's addition, and name a grace period that does not
 * cover the removal. (That is store buffering; the cure by two seq_cst fences is
 * invisible to ThreadSanitizer.)
 */
#include "platform/linux/grace.h"

uint64_t asp_grace_stamp(struct asp_grace *grace)
{
	/* See above; acquire so that a stamp never precedes one that the
	 * caller has heard of. */
	return atomic_fetch_add_explicit(&grace->started, 0, memory_order_acq_rel) + 1;
}

bool asp_grace_elapsed(struct asp_grace *grace, uint64_t stamp)
{
	/* Acquire pairs with the driver's store: what the sections read happened before
	 * synchronize_rcu returned. Sequentially consistent, both, for a writer that
	 * gives its lock back and then looks whether the helper, who tried the lock after
	 * the store, must be asked again (platform.h, Locks). */
	return atomic_load(&grace->ended) >= stamp;
}

uint64_t asp_grace_count(struct asp_grace *grace)
{
	return atomic_load_explicit(&grace->ended, memory_order_relaxed) - 1;
}
