/* SPDX-License-Identifier: MIT */
#include "stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "array.h"

static struct step place_step(const struct layout *layout, struct step step)
{
	if (step.kind == STEP_BEGIN || step.kind == STEP_END)
		return step;
	step.start = layout_place(layout, step.start);
	step.end = layout_place(layout, step.end);
	if (step.kind == STEP_MOVE || step.kind == STEP_RESIZE)
		step.to = layout_place(layout, step.to);
	return step;
}

/* Is nothing of the step left? An unmap may lie in a shrunk part of a gap. */
static bool is_void(const struct step *step)
{
	return step->kind != STEP_BEGIN && step->kind != STEP_END && step->start == step->end;
}

bool stage_make(struct stage *stage, const struct plan *plan, char reason[200])
{
	*stage = (struct stage){.plan = plan};
	stage->scenes = array_zeroed(plan->images_count, sizeof(*stage->scenes));
	for (size_t i = 0; i < plan->images_count; i++) {
		const struct image *image = &plan->images[i];
		struct scene *scene = &stage->scenes[i];

		layout_make(&scene->layout, &image->ever);
		if (!scene->layout.size) {
			snprintf(reason, 200,
				 "the process %" PRIu32 " that begins in line %zu maps more than "
				 "any window can hold",
				 image->pid, image->line);
			stage_free(stage);
			return false;
		}
		for (size_t k = 0; k < image->initial.at_count; k++) {
			const struct area *area = &image->initial.at[k];

			areas_map(&scene->initial, layout_place(&scene->layout, area->start),
				  layout_place(&scene->layout, area->end), area->protection);
		}
	}
	for (size_t i = 0; i < plan->steps_count; i++) {
		struct scene *scene = &stage->scenes[plan->steps[i].image];
		struct step step = place_step(&scene->layout, plan->steps[i]);

		if (is_void(&step))
			continue;
		ARRAY_PUSH(scene->steps, step);
		ARRAY_PUSH(stage->order, step.image);
	}
	for (size_t i = 0; i < plan->images_count; i++) {
		struct scene *scene = &stage->scenes[i];

		scene->most_areas = past_make(&scene->history, scene->layout.size, &scene->initial,
					      scene->steps, scene->steps_count);
	}
	return true;
}

void stage_free(struct stage *stage)
{
	for (size_t i = 0; i < stage->plan->images_count; i++) {
		struct scene *scene = &stage->scenes[i];

		layout_free(&scene->layout);
		history_free(&scene->history);
		areas_free(&scene->initial);
		free(scene->steps);
	}
	free(stage->scenes);
	free(stage->order);
	*stage = (struct stage){.plan = NULL};
}
