/* SPDX-License-Identifier: MIT */
#include "reclaim/calls.h"

void asp_calls_put(struct asp_calls *calls, struct aspace_backend *backend, void *user)
{
	uint32_t in = atomic_load_explicit(&calls->in, memory_order_relaxed);

	calls->call[in % ASP_CALLS] = (struct asp_call){backend, user};
	/* Releases the entry. */
	atomic_store(&calls->in, in + 1);
}

/* There is room. Whoever takes the mark away wakes those who wait because of it, be it his own
 * or not. False: somebody else has. */
static bool unclog(struct asp_calls *calls)
{
	if (!atomic_exchange(&calls->clogged, false))
		return false;
	asp_count_add(&calls->room);
	return true;
}

bool asp_calls_clog(struct asp_calls *calls)
{
	atomic_store(&calls->clogged, true);
	if (atomic_load(&calls->in) - atomic_load(&calls->returned.value) > ASP_CALLS / 2)
		return true; /* so at least one call will return after this, and see it */
	unclog(calls);
	return false;
}

/* After a call has returned. */
static void make_room(struct aspace *space)
{
	struct asp_calls *calls = &space->calls;

	if (!atomic_load(&calls->clogged) || asp_calls_pending(calls) > ASP_CALLS / 2 ||
	    !unclog(calls))
		return;
	/* Who leaves the lock meanwhile has seen `clogged`, and has not asked. Or else it sees
	 * this: the helper, who only tries, comes later. */
	asp_grace_request(space->grace, &space->client, 1);
}

bool asp_calls_run(struct aspace *space, uint32_t most)
{
	struct asp_calls *calls = &space->calls;

	for (;;) {
		uintptr_t nobody = 0;
		uint32_t begun;

		/*
		 * Sequentially consistent, as are the other two below, against the store of `in`:
		 * who puts something in and then finds a runner here is seen by the last load of
		 * that runner.
		 */
		if (!atomic_compare_exchange_strong(&calls->runner, &nobody, asp_thread_self()))
			return true; /* it goes on, or asks for the helper */
		++*asp_in_release();
		begun = atomic_load_explicit(&calls->begun, memory_order_relaxed);
		while (most && begun != atomic_load_explicit(&calls->in, memory_order_acquire)) {
			struct asp_call call = calls->call[begun % ASP_CALLS];

			atomic_store_explicit(&calls->begun, ++begun, memory_order_relaxed);
			call.backend->ops->release(call.backend, call.user);
			asp_count_add(&calls->returned);
			make_room(space);
			most--;
		}
		--*asp_in_release();
		atomic_store(&calls->runner, 0);
		if (begun == atomic_load(&calls->in))
			return true;
		if (!most)
			return false;
	}
}

bool asp_calls_block(struct aspace *space)
{
	struct asp_calls *calls = &space->calls;

	/* A release must not wait for the releases behind it. Where there is no helper they run in
	 * aspace_quiesce only. And of one that does not return it is not known whether it ever
	 * will: it may want what the caller has. */
	return !*asp_in_release() && asp_grace_has_helper(space->grace) &&
	       atomic_load_explicit(&calls->given_up, memory_order_relaxed) !=
		       (uint64_t)atomic_load_explicit(&calls->returned.value,
						      memory_order_relaxed) +
			       1;
}

bool asp_calls_await_room(struct aspace *space)
{
	struct asp_calls *calls = &space->calls;
	struct asp_stall stall = asp_stall_begin();
	uint32_t seen = atomic_load_explicit(&calls->room.value, memory_order_relaxed);
	uint32_t returned = atomic_load_explicit(&calls->returned.value, memory_order_relaxed);

	while (atomic_load(&calls->clogged) &&
	       atomic_load_explicit(&calls->room.value, memory_order_relaxed) == seen) {
		asp_count_wait(&calls->room, seen, asp_stall_left(space, &stall));
		if (!asp_stall_is_due(space, &stall))
			continue;
		if (!asp_stall_tell(space, &stall))
			return false;
		if (atomic_load_explicit(&calls->returned.value, memory_order_relaxed) ==
		    returned) {
			atomic_store_explicit(&calls->given_up, (uint64_t)returned + 1,
					      memory_order_relaxed);
			return true;
		}
		returned = atomic_load_explicit(&calls->returned.value, memory_order_relaxed);
	}
	return true;
}

bool asp_calls_await(struct aspace *space, uint32_t target)
{
	struct asp_calls *calls = &space->calls;
	struct asp_stall stall = asp_stall_begin();

	while (!asp_calls_returned(calls, target)) {
		uint32_t seen = atomic_load_explicit(&calls->returned.value, memory_order_relaxed);

		if ((int32_t)(seen - target) < 0)
			asp_count_wait(&calls->returned, seen, asp_stall_left(space, &stall));
		if (asp_stall_is_due(space, &stall) && !asp_stall_tell(space, &stall))
			return false;
	}
	return true;
}

void asp_calls_after_fork(struct asp_calls *calls)
{
	uintptr_t runner = atomic_load_explicit(&calls->runner, memory_order_relaxed);

	if (!runner || runner == asp_thread_self())
		return;
	/* What had begun has gone with its thread, and counts as run; what had not is there. */
	atomic_store_explicit(&calls->runner, 0, memory_order_relaxed);
	atomic_store_explicit(&calls->returned.value,
			      atomic_load_explicit(&calls->begun, memory_order_relaxed),
			      memory_order_relaxed);
}
