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

static ASP_THREAD_LOCAL struct asp_held *list;

static const char *name_of(const struct asp_held *held, char *text, size_t size)
{
	static const char *const names[] = {
		[ASP_LOCK_UNRANKED] = "a lock of no rank",
		[ASP_LOCK_WRITER] = "the writer lock",
		[ASP_LOCK_FLAVOURS] = "the lock of all flavours",
		[ASP_LOCK_SNAPSHOTS] = "the snapshot lock",
		[ASP_LOCK_PINS] = "the lock of the list of pins",
	};
	const char *name = held->place ? held->place : names[held->rank];

	if (held->number)
		snprintf(text, size, "%s (%d) of space %llu", name, (int)held->rank,
			 (unsigned long long)held->number);
	else
		snprintf(text, size, "%s (%d)", name, (int)held->rank);
	return text;
}

__attribute__((noreturn)) static void die(const char *what, const struct asp_held *wanted,
					  const struct asp_held *has)
{
	char first[80] = "", second[80];

	fprintf(stderr, "lock order: %s%s with %s held\n", what,
		wanted ? name_of(wanted, first, sizeof(first)) : "",
		name_of(has, second, sizeof(second)));
	abort();
}

void asp_lock_set_rank(struct asp_lock *lock, enum asp_lock_rank rank, uint64_t number)
{
	lock->held = (struct asp_held){.rank = rank, .number = number};
}

void asp_order_check(const struct asp_held *wanted)
{
	for (const struct asp_held *has = list; has; has = has->below) {
		if (has == wanted)
			die("waiting for ", wanted, has);
		if (!wanted->rank || !has->rank || has->rank < wanted->rank)
			continue;
		if (has->rank == wanted->rank && wanted->number && wanted->number < has->number)
			continue;
		/* The hook of fork takes those of all spaces, one space after the other. */
		if (asp_fork_is_ours() && wanted->number && has->number &&
		    (has->rank == wanted->rank || wanted->number != has->number))
			continue;
		die("waiting for ", wanted, has);
	}
}

void asp_order_add(struct asp_held *held)
{
	held->below = list;
	list = held;
}

void asp_held_add(struct asp_held *held, const char *place, enum asp_lock_rank rank,
		  uint64_t number)
{
	*held = (struct asp_held){.place = place, .rank = rank, .number = number};
	asp_order_add(held);
}

void asp_held_remove(struct asp_held *held)
{
	struct asp_held **link = &list;

	while (*link && *link != held)
		link = &(*link)->below;
	if (*link)
		*link = held->below;
}

void asp_lock_check_none(const char *what)
{
	for (const struct asp_held *has = list; has; has = has->below) {
		if (has->rank)
			die(what, NULL, has);
	}
}
#endif
