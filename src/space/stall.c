/* SPDX-License-Identifier: MIT */
/*
 * Waits that last: the stall hook is told of them.
 *
 * A wait that has lasted for stall_ms, or a multiple of it, tells the hook, in the thread that waits. Mostly
 * nothing is held then. But who waits for the writer lock, or for faults, has a place in a line, and
 * keeps it while it is in the hook; and a transaction that commits, or a writer at rest, has the lock. Others
 * may be waiting for that, so the thread then counts as one that has a writer lock: it
 * waits for no reader, and what it asks of the space is refused as in a callback. Who waits at a bound
 * has a place, too, and waits for no reader in the hook; what it asks is not refused, for it may go past
 * those that wait there.
 *
 * Invariants:
 *  1. The hooks that a thread is in are on a list of its own, on its stack. So in a forked child there are
 *     those of the thread that lives on, and no others.
 *  2. Who forks in the hook waits for readers, one of which may wait for the lock, behind it. It
 *     gives its place in the line of the lock up first, and takes another one at the end when it
 *     comes back from the hook, in the child too.
 */
#include "update/line.h"
#include "update/pins.h"

/* A hook that the thread is in. */
struct asp_hook {
	struct asp_hook *below;
	struct aspace *space;
	bool placed;     /* others may wait for it meanwhile */
	bool at_bound;   /* so they may, but it may go past them: update/line.c */
	bool in_line;    /* of the writer lock, with */
	uint32_t ticket; /* this one, until a fork takes it out */
};

struct asp_stall asp_stall_begin(void)
{
	return (struct asp_stall){.begin = asp_now_ms()};
}

unsigned asp_stall_left(const struct aspace *space, const struct asp_stall *stall)
{
	uint64_t next = stall->told + space->options.stall_ms;
	uint64_t waited = asp_now_ms() - stall->begin;

	return waited < next ? (unsigned)(next - waited) : 1;
}

bool asp_stall_is_due(const struct aspace *space, const struct asp_stall *stall)
{
	return asp_now_ms() - stall->begin >= stall->told + space->options.stall_ms;
}

/* False: the hook has left a section or a transaction open, and the thread was in none. (One that waits for
 * faults may be in a section.) */
static bool call(struct aspace *space, struct asp_stall *stall, struct asp_hook *hook)
{
	bool in_section = asp_grace_in_section(space->grace);
	unsigned locks = *asp_writer_locks();
	struct asp_held held;
	int cancel;

	stall->told = asp_now_ms() - stall->begin;
	if (!space->options.stalled)
		return true;
	/* Whoever died here would keep a place in a line for ever. */
	cancel = asp_cancel_off();
	hook->space = space;
	hook->below = *asp_hooks();
	*asp_hooks() = hook;
	*asp_writer_locks() += hook->placed || hook->at_bound;
	if (hook->placed)
		asp_held_add(&held, "a place in a line", ASP_LOCK_WRITER, space->id);
	space->options.stalled(space->options.ctx, space, stall->told);
	if (hook->placed)
		asp_held_remove(&held);
	*asp_writer_locks() -= hook->placed || hook->at_bound;
	*asp_hooks() = hook->below;
	asp_cancel_restore(cancel);
	return *asp_writer_locks() <= locks && (in_section || !asp_grace_in_section(space->grace));
}

bool asp_stall_tell(struct aspace *space, struct asp_stall *stall)
{
	struct asp_hook hook = {.placed = asp_pins_mine(space), .at_bound = asp_line_mine(space)};

	return call(space, stall, &hook);
}

bool asp_stall_tell_holding(struct aspace *space, struct asp_stall *stall)
{
	struct asp_hook hook = {.placed = true};

	return call(space, stall, &hook);
}

bool asp_stall_is_beneath(const struct aspace *space, bool placed)
{
	for (const struct asp_hook *hook = *asp_hooks(); hook; hook = hook->below) {
		if (hook->space == space && hook->placed >= placed)
			return true;
	}
	return false;
}

bool asp_wait_for_readers(struct aspace *space, uint64_t stamp)
{
	struct asp_stall stall = asp_stall_begin();

	while (!asp_grace_wait(space->grace, stamp, asp_stall_left(space, &stall))) {
		/* A wait may end early. */
		if (asp_stall_is_due(space, &stall) && !asp_stall_tell(space, &stall))
			return false;
	}
	return true;
}

/* ---- In the line of the writer lock --------------------------------------------- */

/* Answers the ticket that it has afterwards. */
static uint32_t tell_in_line(struct aspace *space, struct asp_stall *stall, uint32_t ticket)
{
	struct asp_hook hook = {.placed = true, .in_line = true, .ticket = ticket};

	call(space, stall, &hook);
	return hook.in_line ? ticket : asp_lock_draw(&space->lock);
}

void asp_stand_in_line(struct asp_lock *lock, uint32_t ticket)
{
	struct aspace *space = (struct aspace *)((char *)lock - offsetof(struct aspace, lock));
	struct asp_stall stall = asp_stall_begin();
	bool tells = space->options.stalled;

	while (!asp_lock_await(lock, ticket, tells ? asp_stall_left(space, &stall) : 0)) {
		if (tells && asp_stall_is_due(space, &stall))
			ticket = tell_in_line(space, &stall, ticket);
	}
}

void asp_leave_lines(void)
{
	for (struct asp_hook *hook = *asp_hooks(); hook; hook = hook->below) {
		struct aspace *space = hook->space;

		if (!hook->in_line)
			continue;
		hook->in_line = false;
		while (!asp_lock_await(&space->lock, hook->ticket, 0))
			;
		asp_writer_pass(space);
	}
}
