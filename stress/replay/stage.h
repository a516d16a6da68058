/* SPDX-License-Identifier: MIT */
/*
 * A plan made ready to be played: each image's steps in places of its window,
 * with the history that they make. Constant from then on; played any number of
 * times.
 */
#ifndef REPLAY_STAGE_H
#define REPLAY_STAGE_H

#include "layout.h"
#include "past.h"

struct scene {
	struct layout layout;
	struct history history;
	size_t most_areas; /* at any time */
	struct areas initial;
	struct step *steps; /* of this image, in order */
	size_t steps_count, steps_capacity;
};

struct stage {
	const struct plan *plan;
	struct scene *scenes; /* one for each image of the plan */
	uint32_t *order;      /* for each step, the image whose next step it is */
	size_t order_count, order_capacity;
};

/* On false, an image cannot be laid out: `reason` says which. */
bool stage_make(struct stage *stage, const struct plan *plan, char reason[200]);
void stage_free(struct stage *stage);

#endif
