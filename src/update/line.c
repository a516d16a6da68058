/* SPDX-License-Identifier: MIT */
/*
 * Who waits at a bound keeps its place.
 *
 * An operation that finds a bound reached gives the writer lock back, waits, and comes again. Meanwhile
 * others may come, and use up what it waits for. So it takes a place on a line before it gives the lock
 * back, and whoever comes later and may wait, and would use of the same, waits behind it. Who
 * has nobody before it waits for readers (or for room in the ring) and becomes the writer; the others sleep
 * until they are next. Who may not wait goes past: ASPACE_NOWAIT, in a section, with the writer lock of
 * another space. So does who is in a `release`, for which the first of the line may be waiting.
 *
 * There is one line for all that is waited for, so that nobody waits for whom it goes before: no circle closes,
 * whatever an operation comes to wait for in turn. It holds up others only in what it waits for.
 *
 * Invariants, under the lock of the list of pins:
 *  1. The line is in the order of `since`.
 *  2. A place is taken under the writer lock, and before that is given back. So whoever becomes the writer later
 *     sees it.
 *  3. `wants` of the line is all that anybody on it wants, and `gate` is 0 while that is anything.
 *  4. A waiter's `behind` is the last before it that wants what it sleeps for, or one before that; NULL only if
 *     there has been none since it joined for that.
 *  5. Nobody waits for faults with a place here: they may wait for updates (update/pins.c, N7).
 */
#include "update/line.h"

bool asp_line_may_wait(struct aspace *space, unsigned how)
{
	return !(how & ASPACE_NOWAIT) && *asp_writer_locks() == 1 && !*asp_in_release() &&
	       !asp_grace_in_section(space->grace);
}

/* The last before it that wants this. */
static struct asp_waiter *obstacle(const struct asp_line *line, const struct asp_waiter *waiter,
				   unsigned wants)
{
	struct asp_waiter *other = waiter && waiter->listed ? waiter->before : line->last;

	while (other && !(other->wants & wants))
		other = other->before;
	return other;
}

bool asp_line_holds_up(struct aspace *space, const struct asp_waiter *waiter, unsigned wants)
{
	bool holds_up;

	/* Relaxed: written under the writer lock, but where somebody goes. */
	if (!(atomic_load_explicit(&space->line.wants, memory_order_relaxed) & wants))
		return false;
	asp_mutex_acquire(&space->pins.lock);
	holds_up = obstacle(&space->line, waiter, wants);
	asp_mutex_release(&space->pins.lock);
	return holds_up;
}

/* Invariant 3. */
static void note_wants(struct aspace *space)
{
	uint64_t bound = space->options.garbage_max;
	unsigned wants = 0;

	for (const struct asp_waiter *waiter = space->line.first; waiter; waiter = waiter->next)
		wants |= waiter->wants;
	atomic_store_explicit(&space->line.wants, wants, memory_order_relaxed);
	atomic_store_explicit(&space->gate, wants ? 0 : bound + (bound < UINT64_MAX),
			      memory_order_relaxed);
}

void asp_line_init(struct aspace *space)
{
	note_wants(space);
}

static void put(struct asp_line *line, struct asp_waiter *waiter)
{
	struct asp_waiter *before = line->last;

	if (!waiter->since)
		waiter->since = ++line->count;
	while (before && before->since > waiter->since)
		before = before->before;
	waiter->before = before;
	waiter->next = before ? before->next : line->first;
	*(before ? &before->next : &line->first) = waiter;
	*(waiter->next ? &waiter->next->before : &line->last) = waiter;
	waiter->thread = asp_thread_self();
	waiter->listed = true;
}

bool asp_line_join(struct aspace *space, struct asp_waiter *waiter, unsigned wants)
{
	bool first;

	asp_mutex_acquire(&space->pins.lock);
	if (!waiter->listed)
		put(&space->line, waiter);
	waiter->wants |= wants;
	/* Who wants all has to do with all. */
	waiter->sleeps_for = wants | ASP_FOR_ALL;
	waiter->behind = obstacle(&space->line, waiter, waiter->sleeps_for);
	first = !waiter->behind;
	note_wants(space);
	asp_mutex_release(&space->pins.lock);
	return first;
}

bool asp_line_await(struct aspace *space, struct asp_waiter *waiter)
{
	struct asp_stall stall = asp_stall_begin();
	bool go_on = true;

	asp_mutex_acquire(&space->pins.lock);
	while (go_on && waiter->behind) {
		/* Relaxed: written under the lock; the kernel looks again. */
		uint32_t seen = atomic_load_explicit(&waiter->turn, memory_order_relaxed);

		asp_mutex_release(&space->pins.lock);
		asp_wait(&waiter->turn, seen, asp_stall_left(space, &stall));
		go_on = !asp_stall_is_due(space, &stall) || asp_stall_tell(space, &stall);
		asp_mutex_acquire(&space->pins.lock);
	}
	asp_mutex_release(&space->pins.lock);
	return go_on;
}

/* Whoever was behind it is now behind another, or is woken: with the lock held, so that it is still there. */
static void let_go_on(const struct asp_line *line, const struct asp_waiter *gone)
{
	for (struct asp_waiter *waiter = gone->next; waiter; waiter = waiter->next) {
		if (waiter->behind != gone)
			continue;
		waiter->behind = obstacle(line, waiter, waiter->sleeps_for);
		if (waiter->behind)
			continue;
		atomic_fetch_add_explicit(&waiter->turn, 1, memory_order_relaxed);
		asp_wake_all(&waiter->turn);
	}
}

void asp_line_drop(struct aspace *space, struct asp_waiter *waiter, unsigned wants)
{
	if (!(waiter->wants & wants))
		return;
	asp_mutex_acquire(&space->pins.lock);
	waiter->wants &= ~wants;
	let_go_on(&space->line, waiter);
	note_wants(space);
	asp_mutex_release(&space->pins.lock);
}

static void take_out(struct asp_line *line, struct asp_waiter *waiter)
{
	*(waiter->before ? &waiter->before->next : &line->first) = waiter->next;
	*(waiter->next ? &waiter->next->before : &line->last) = waiter->before;
	waiter->listed = false;
	let_go_on(line, waiter);
}

void asp_line_leave(struct aspace *space, struct asp_waiter *waiter)
{
	if (!waiter->listed)
		return;
	asp_mutex_acquire(&space->pins.lock);
	take_out(&space->line, waiter);
	waiter->wants = 0;
	waiter->behind = NULL;
	note_wants(space);
	asp_mutex_release(&space->pins.lock);
}

bool asp_line_mine(struct aspace *space)
{
	const struct asp_waiter *waiter;

	if (!atomic_load_explicit(&space->line.wants, memory_order_relaxed))
		return false;
	asp_mutex_acquire(&space->pins.lock);
	waiter = space->line.first;
	while (waiter && waiter->thread != asp_thread_self())
		waiter = waiter->next;
	asp_mutex_release(&space->pins.lock);
	return waiter;
}

void asp_line_forget_others(struct aspace *space)
{
	struct asp_waiter *next;

	for (struct asp_waiter *waiter = space->line.first; waiter; waiter = next) {
		next = waiter->next;
		if (waiter->thread != asp_thread_self())
			take_out(&space->line, waiter);
	}
	note_wants(space);
}
