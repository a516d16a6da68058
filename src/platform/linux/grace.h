/* SPDX-License-Identifier: MIT */
/*
 * Hosted grace periods: liburcu's, numbered. Two threads for each flavour in use: the
 * driver turns grace periods over, and does nothing else; the helper runs work. What the files
 * that make them share:
 *
 *   numbers.c   numbers and stamps
 *   turn.c      turning a grace period over, waiting for one
 *   request.c   wishes for grace periods, and for work after them
 *   driver.c    the driver thread
 *   helper.c    the helper thread
 *   flavour.c   flavours in use, and the spaces that use them
 *   fork.c      all of that around fork
 */
#ifndef ASPACE_PLATFORM_GRACE_H
#define ASPACE_PLATFORM_GRACE_H

#include "platform/platform.h"

enum helper_state {
	HELPER_NONE,
	HELPER_STARTING, /* somebody is in pthread_create for it */
	HELPER_RUNNING,
	HELPER_STOPPING, /* the last client has left; another may call it back */
};

enum driver_state {
	DRIVER_NONE,     /* who wants a grace period turns it over */
	DRIVER_STARTING, /* as running, for who asks it; whether it can be made is not known */
	DRIVER_RUNNING,
	DRIVER_STOPPING, /* the helper has told it to go, and waits; it may be told to stay */
	DRIVER_GONE,     /* too late; the helper goes on from there */
	DRIVER_LACKING,  /* none could be made, at the start of the helper, who goes too */
};

/* ---- flavour.c ------------------------------------------------------------ */

/* liburcu has five flavours; a program may bring its own. */
#define ASP_FLAVOURS 8

extern struct asp_grace asp_flavours[ASP_FLAVOURS];

/* Guards the members of asp_grace and of its clients that say so. */
extern struct asp_lock asp_flavours_lock;

/* ---- turn.c --------------------------------------------------------------- */

/* Turn one grace period over, unless somebody else is at it: then wait for that one. */
void asp_grace_turn_over(struct asp_grace *grace);

/* ---- fork.c --------------------------------------------------------------- */

/* Does the calling thread hold everything, between the hooks? */
bool asp_fork_is_ours(void);

/* ---- request.c ------------------------------------------------------------ */

/* Is there something to turn over? */
bool asp_grace_wanted(struct asp_grace *grace);
/* Has some client's work come due? Sequentially consistent against the driver, which ends
 * a grace period and then asks, and the helper, which notes what it has left and then asks. */
bool asp_grace_work_wanted(struct asp_grace *grace);
/* Under the lock of all flavours. Take client's wish if its time has come. */
bool asp_grace_take_due(struct asp_grace *grace, struct asp_grace_client *client);

/* ---- driver.c ------------------------------------------------------------- */

/* A bell, whose owner sleeps upon it: see there. */
void asp_bell_ring(_Atomic uint32_t *bell);
/* The owner begins to look around. */
uint32_t asp_bell_look(_Atomic uint32_t *bell);
/* Sleep unless it has been rung since the look that answered `seen`. */
void asp_bell_sleep(_Atomic uint32_t *bell, uint32_t seen);
/* What a thread of the library's is made with: no signals, a stack that callbacks can use. An
 * error number, or 0. */
int asp_thread_create(pthread_t *thread, void *(*entry)(void *), void *arg);
/* No cancellation point. */
void asp_thread_join(pthread_t thread);
/* Begin and end as a thread that the flavour knows, and that no grace period waits for. */
void asp_flavour_enter(struct asp_grace *grace);
void asp_flavour_leave(struct asp_grace *grace);

/* On the helper, which makes the driver and waits for its end. */
bool asp_driver_start(struct asp_grace *grace);
/* Unless somebody has called the helper back, or does so before the driver has gone: false. */
bool asp_driver_stop(struct asp_grace *grace);
/* Under the lock of all flavours. Tells a driver that is to go that it is to stay; false: too late. */
bool asp_driver_keep(struct asp_grace *grace);
/* Until it is known whether a helper that was called back too late could make its driver anew; false: it
 * could not. No lock is held. */
bool asp_driver_await(struct asp_grace *grace);
/* Is there a driver? Relaxed: who sees an old answer turns a grace period over beside it. */
static inline bool asp_has_driver(struct asp_grace *grace)
{
	uint32_t driving = atomic_load_explicit(&grace->driving, memory_order_relaxed);

	return driving == DRIVER_STARTING || driving == DRIVER_RUNNING;
}
/* See to it that what has been requested comes to pass. */
void asp_driver_ring(struct asp_grace *grace);

/* ---- helper.c ------------------------------------------------------------- */

/* The flavour whose helper the calling thread is. */
extern ASP_THREAD_LOCAL struct asp_grace *asp_helping;

void asp_helper_ring(struct asp_grace *grace);
/* See to it that there is a helper. The caller has a client attached, so nobody stops
 * it meanwhile. Takes no lock. */
enum aspace_status asp_helper_ensure(struct asp_grace *grace);
/* Join whatever helper of this flavour has ended, if nobody has yet. No lock is held. */
void asp_helper_join(struct asp_grace *grace);

#endif
