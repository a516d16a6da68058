/* SPDX-License-Identifier: MIT */
/*
 * The history that the steps of one image make: time t is after the first t steps.
 */
#ifndef REPLAY_PAST_H
#define REPLAY_PAST_H

#include "areas.h"
#include "history.h"
#include "plan.h"

/* `steps` are those of one image, in places (see layout.h), BEGIN first; `initial`
 * as well. END is no step of the history: it ends before. Answers the greatest number of
 * areas at any time. */
size_t past_make(struct history *history, uint64_t size, const struct areas *initial,
		 const struct step *steps, size_t count);

#endif
