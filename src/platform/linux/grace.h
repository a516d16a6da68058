/* SPDX-License-Identifier: MIT */
/*
 * Hosted grace periods: liburcu's, numbered, and turned over by one helper thread
 * for each flavour in use. What the files that make them share:
 *
 *   numbers.c   numbers and stamps
 *   turn.c      turning a grace period over, waiting for one
 *   request.c   wishes for grace periods, and for work after them
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

/* ---- flavour.c ------------------------------------------------------------ */

/* liburcu has five flavours; a program may bring its own. */
#define ASP_FLAVOURS 8

extern struct asp_grace asp_flavours[ASP_FLAVOURS];

/* Guards the members of asp_grace and of its clients that say so. */
extern struct asp_lock asp_flavours_lock;

/* ---- turn.c --------------------------------------------------------------- */

/* Turn one grace period over, unless somebody else is at it: then wait for that one. */
void asp_grace_turn_over(struct asp_grace *grace);
/* The helper is inside a client's work, or no longer. */
void asp_grace_set_working(struct asp_grace *grace, uint32_t working);

/* ---- fork.c --------------------------------------------------------------- */

/* Does the calling thread hold everything, between the hooks? */
bool asp_fork_is_ours(void);

/* ---- request.c ------------------------------------------------------------ */

/* Is there something to turn over? */
bool asp_grace_wanted(struct asp_grace *grace);
/* Under the lock of all flavours. Take client's wish if its time has come. */
bool asp_grace_take_due(struct asp_grace *grace, struct asp_grace_client *client);

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
