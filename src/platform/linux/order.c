/* SPDX-License-Identifier: MIT */
/*
 * The order of locks, asserted: in the builds for tests only. The table is in platform.h.
 *
 * Each thread has a list of the locks that it holds, the last taken first. A signal handler adds
 * to its head and takes away again, so it may come at any point: each change is one store.
 */
#include "platform/linux/grace.h"

#ifdef ASP_LOCK_ORDER
#include <stdio.h>
#include <stdlib.h>

static ASP_THREAD_LOCAL struct asp_lock *held;

static const char *name_of(const struct asp_lock *lock, char *text, size_t size)
{
	static const char *const names[] = {
		[ASP_LOCK_UNRANKED] = "a lock of no rank",
		[ASP_LOCK_WRITER] = "the writer lock",
		[ASP_LOCK_FLAVOURS] = "the lock of all flavours",
		[ASP_LOCK_SNAPSHOTS] = "the snapshot lock",
		[ASP_LOCK_PINS] = "the lock of the list of pins",
	};

	if (lock->number)
		snprintf(text, size, "%s (%d) of space %llu", names[lock->rank], (int)lock->rank,
			 (unsigned long long)lock->number);
	else
		snprintf(text, size, "%s (%d)", names[lock->rank], (int)lock->rank);
	return text;
}

__attribute__((noreturn)) static void die(const char *what, const struct asp_lock *wanted,
					  const struct asp_lock *has)
{
	char first[80] = "", second[80];

	fprintf(stderr, "lock order: %s%s with %s held\n", what,
		wanted ? name_of(wanted, first, sizeof(first)) : "",
		name_of(has, second, sizeof(second)));
	abort();
}

void asp_lock_set_rank(struct asp_lock *lock, enum asp_lock_rank rank, uint64_t number)
{
	lock->rank = rank;
	lock->number = number;
}

void asp_order_check(const struct asp_lock *lock)
{
	for (const struct asp_lock *has = held; has; has = has->held_below) {
		if (has == lock)
			die("waiting for ", lock, has);
		if (!lock->rank || !has->rank || has->rank < lock->rank)
			continue;
		if (has->rank == lock->rank && lock->number && lock->number < has->number)
			continue;
		/* The hook of fork takes those of all spaces, one space after the other. */
		if (asp_fork_is_ours() && lock->number && has->number &&
		    (has->rank == lock->rank || lock->number != has->number))
			continue;
		die("waiting for ", lock, has);
	}
}

void asp_order_add(struct asp_lock *lock)
{
	lock->held_below = held;
	held = lock;
}

void asp_order_remove(struct asp_lock *lock)
{
	struct asp_lock **place = &held;

	while (*place && *place != lock)
		place = &(*place)->held_below;
	if (*place)
		*place = lock->held_below;
}

void asp_lock_check_none(const char *what)
{
	for (const struct asp_lock *has = held; has; has = has->held_below) {
		if (has->rank)
			die(what, NULL, has);
	}
}
#endif
