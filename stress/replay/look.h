/* SPDX-License-Identifier: MIT */
/*
 * Looking at a space and checking the answers against its history.
 *
 * A look notes how far the history was before it began and after it ended; what
 * it saw must have been true at one time between the two. Several answers out of
 * one view must have been true at the same time, and that time's version number
 * must be the view's.
 */
#ifndef REPLAY_LOOK_H
#define REPLAY_LOOK_H

#include "random.h"
#include "space.h"

struct look_result {
	bool fine;
	bool overlap;         /* a step was under way or ended during the look */
	uint32_t first, last; /* the times between which it lay */
	uint64_t nanoseconds; /* look_find(): taken by aspace_find(), if asked for */
	char reason[400];     /* if not fine */
};

/* aspace_find() at some address: often one that the step at hand changes. */
void look_find(struct playing *playing, uint64_t *random, bool timed, struct look_result *result);
/* A view: lookups, iteration both ways, a gap search. */
void look_view(struct playing *playing, uint64_t *random, struct look_result *result);
/* A snapshot, held for some lookups, then compared from end to end (thousands of areas
 * of a large one). */
void look_snapshot(struct playing *playing, uint64_t *random, struct look_result *result);

#endif
