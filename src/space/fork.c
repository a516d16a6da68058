/* SPDX-License-Identifier: MIT */
/* What a space does around a fork, and the public hooks. */
#include "reclaim/calls.h"
#include "space/halt.h"
#include "update/line.h"
#include "update/pins.h"

void asp_space_begin_fork(struct asp_grace_client *client)
{
	asp_pins_begin_fork(asp_space_of(client));
}

bool asp_space_halt(struct asp_grace_client *client, uint64_t deadline)
{
	return asp_halt(asp_space_of(client), deadline);
}

void asp_space_resume(struct asp_grace_client *client)
{
	asp_resume(asp_space_of(client));
}

/* Until the fork is over, what the thread would write is refused, as in a callback. */
void asp_space_before_fork(struct asp_grace_client *client)
{
	struct aspace *space = asp_space_of(client);

	asp_halt_enter(space);
	asp_lock_acquire(&space->snap_lock);
	asp_pins_before_fork(space);
}

/* Threads that are gone have left these as they were. */
static void mend_in_child(struct aspace *space)
{
	asp_lock_forget_waiters(&space->snap_lock);
	asp_lock_forget_waiters(&space->lock);
	/* Callbacks that another thread was running have gone with it; we could not
	 * wait for it, because it may have been waiting for a grace period. */
	asp_calls_after_fork(&space->calls);
	asp_line_forget_others(space);
}

void asp_space_after_fork(struct asp_grace_client *client, bool child)
{
	struct aspace *space = asp_space_of(client);
	/* Whatever is on the lists, a grace period or a look from now. */
	bool waits = space->leaving.head || space->deferred.head || space->pins.leaving.head ||
		     space->pins.deferred.head; /* in the child its pin has gone */

	asp_pins_after_fork(space, child);
	if (child)
		mend_in_child(space);
	asp_lock_release(&space->snap_lock);
	asp_halt_leave(space, child);
	/* The helper may have found the lock taken, and gone. */
	if (waits || atomic_load(&space->freed_any) || asp_calls_pending(&space->calls))
		asp_grace_request(space->grace, client, 1);
}

void aspace_before_fork(void)
{
	asp_leave_lines();
	asp_grace_before_fork();
}

void aspace_after_fork_parent(void)
{
	asp_grace_after_fork_parent();
}

void aspace_after_fork_child(void)
{
	asp_grace_after_fork_child();
}

enum aspace_status aspace_install_fork_hooks(void)
{
	return asp_grace_install_fork_hooks(aspace_before_fork);
}
