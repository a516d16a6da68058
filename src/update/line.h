/* SPDX-License-Identifier: MIT */
/*
 * The line of those who wait at a bound: line.c.
 */
#ifndef ASPACE_UPDATE_LINE_H
#define ASPACE_UPDATE_LINE_H

#include "space/space.h"

/* What an operation waits for, and others leave to it. */
enum asp_line_want {
	ASP_FOR_ROOM = 1,    /* of retired nodes, or of references in the ring: all operations */
	ASP_FOR_LEAVING = 2, /* of memory that is leaving: what adds to it */
	ASP_FOR_MEMORY = 4,  /* that is held back for giving back: who would spend it */
	ASP_FOR_ALL = 8,     /* it has been passed often enough: all operations */
};

/* A place, on the stack of the thread that it is about. All zero: it has none. What is not said to be
 * somebody else's is written under the lock of the list of pins. */
struct asp_waiter {
	struct asp_waiter *next, *before;
	uintptr_t thread;
	/* When it came on the line first; 0: never. It comes back to that place. */
	uint64_t since;
	unsigned wants;            /* all that it has waited for */
	unsigned sleeps_for;       /* and that somebody before it waits for: */
	struct asp_waiter *behind; /* the last of these; NULL: nobody */
	_Atomic uint32_t turn;     /* waited upon; counts how often `behind` became NULL */
	bool listed;
	/* The operation's own: the last stamp of what was leaving when it first met any, and how often it
	 * has waited for what left after that. */
	uint64_t began;
	unsigned passed;
};

void asp_line_init(struct aspace *space);
/* May the holder of the writer lock wait, once it has given that back, and others wait behind it? */
bool asp_line_may_wait(struct aspace *space, unsigned how);
/* Under the writer lock: does somebody before it want this? `waiter`: NULL, or not on the line, of one that comes now. */
bool asp_line_holds_up(struct aspace *space, const struct asp_waiter *waiter, unsigned wants);
/* Under the writer lock: takes a place, or has it, and wants this too. True: nobody before it does. */
bool asp_line_join(struct aspace *space, struct asp_waiter *waiter, unsigned wants);
/* No lock held: until nobody before it wants what it last joined for. False: as asp_wait_for_readers(). */
bool asp_line_await(struct aspace *space, struct asp_waiter *waiter);
/* It does not want that any more; no lock of this space's, or the writer's. */
void asp_line_drop(struct aspace *space, struct asp_waiter *waiter, unsigned wants);
/* With the writer lock or without. */
void asp_line_leave(struct aspace *space, struct asp_waiter *waiter);
/* Has the calling thread a place? */
bool asp_line_mine(struct aspace *space);
/* In a forked child, under the lock of the list of pins: only the caller's places are left. */
void asp_line_forget_others(struct aspace *space);

#endif
