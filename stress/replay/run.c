/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "inject.h"
#include "progress.h"

/* Set by the handler of ^C, looked at between two steps: nothing is read because of it. */
_Atomic bool run_interrupted;

/* An image in the pass at hand. */
struct role {
	struct playing playing;
	size_t next; /* step */
	size_t slot;
	bool open;
	bool spoilt; /* a step was refused: there is nothing to compare with */
};

struct run {
	const struct options *options;
	struct stage *stage;
	struct results *results;
	struct crew crew;
	struct role *roles;
	struct progress progress;
	uint64_t random; /* for windows */
	uint64_t steps;  /* so far, of this pass */
	bool warm;       /* the readers have been waited for */
};

static void mismatch(struct run *run, size_t line, const char *what, const char *reason)
{
	char text[400];

	snprintf(text, sizeof(text), "%s: %s", what, reason);
	crew_say(&run->crew, line, text);
	run->results->mismatches++;
}

/* A step, or a space, was not to be had. */
static void refusal(struct run *run, size_t line, const char *what, enum aspace_status status)
{
	run->results->failed = true;
	if (status != ASPACE_NO_MEMORY) {
		mismatch(run, line, what, aspace_status_string(status));
		return;
	}
	run->results->no_memory = true;
	fprintf(stderr, "replay: %s:%zu: %s: %s\n", run->crew.name, line, what,
		aspace_status_string(status));
}

/* Where a window is to be that has no memory: anywhere in the 64-bit space. */
static uint64_t choose_base(struct run *run, uint64_t size)
{
	uint64_t room = UINT64_MAX - size - 2 * LAYOUT_ALIGN;

	return (LAYOUT_ALIGN + random_next(&run->random) % room) & ~(LAYOUT_ALIGN - 1);
}

/* Readers that have not yet been given a processor see nothing of a short trace. */
static void await_readers(struct run *run)
{
	for (unsigned i = 0; i < run->crew.readers_count && !run->warm; i++) {
		while (!atomic_load(&run->crew.readers[i].lookups) &&
		       !atomic_load(&run_interrupted))
			sched_yield();
	}
	run->warm = true;
}

static bool open_role(struct run *run, struct role *role, const struct scene *scene, size_t line)
{
	enum aspace_status status =
		playing_open(&role->playing, scene, run->options->backend,
			     choose_base(run, scene->layout.size), run->options->page, NULL);

	if (status) {
		refusal(run, line, "a space cannot be made", status);
		return false;
	}
	role->open = true;
	role->spoilt = false;
	role->slot = crew_admit(&run->crew, &role->playing);
	await_readers(run);
	return true;
}

static void note_stats(struct run *run, const struct role *role)
{
	struct results *results = run->results;
	size_t most_areas = role->playing.scene->most_areas;
	struct aspace_stats stats = {.size = sizeof(stats)};

	if (aspace_stats(role->playing.space, &stats, 0))
		return;
	results->versions += stats.version;
	if (stats.bytes_retired_max > results->bytes_retired_max)
		results->bytes_retired_max = stats.bytes_retired_max;
	if (results->passes > 1)
		return;
	results->areas += stats.areas;
	if (most_areas >= results->most_areas) {
		results->most_areas = most_areas;
		results->last_areas = stats.areas;
		results->stats = stats;
	}
}

static void close_role(struct run *run, struct role *role, size_t line)
{
	enum injection inject = run->options->inject;
	char reason[200] = "";

	if (!run->results->injected && (inject == INJECT_LIBRARY || inject == INJECT_KERNEL))
		run->results->injected = inject_end(&role->playing, inject, run->options->page);
	if (!role->spoilt) {
		run->results->comparisons++;
		if (!playing_check(&role->playing, reason))
			mismatch(run, line, "at the end of a space", reason);
	}
	if (role->playing.tables) {
		run->results->walked += role->playing.tables->steps;
		run->results->walked_wholly += role->playing.tables->checks;
	}
	note_stats(run, role);
	crew_dismiss(&run->crew, role->slot);
	role->open = false;
	if (!playing_close(&role->playing, reason))
		mismatch(run, line, "after the end of a space", reason);
}

static void show_progress(struct run *run, uint64_t now)
{
	struct crew_sum sum;
	char text[160];

	if (!progress_due(&run->progress, now))
		return;
	crew_sum(&run->crew, &sum);
	snprintf(text, sizeof(text),
		 "pass %" PRIu64 ", step %" PRIu64 " of %zu, %" PRIu64 " lookups, %" PRIu64
		 " mismatches",
		 run->results->passes, run->steps, run->stage->order_count, sum.lookups,
		 sum.mismatches + run->results->mismatches);
	progress_show(&run->progress, text);
}

static bool take_step(struct run *run, struct role *role, const struct step *step)
{
	struct results *results = run->results;
	uint64_t before = clock_now(), after;
	enum aspace_status status = playing_step(&role->playing, step);
	char reason[200];

	after = clock_now();
	run->steps++;
	if (status) {
		char what[60];

		snprintf(what, sizeof(what), "%s for %s was refused", step_kind_name(step->kind),
			 trace_kind_name(step->call));
		refusal(run, step->line, what, status);
		role->spoilt = true;
		return false;
	}
	if (!playing_check_step(&role->playing, step, reason))
		mismatch(run, step->line, "after a step", reason);
	results->steps[step->kind]++;
	if (step->kind != STEP_BEGIN || role->playing.scene->initial.at_count) {
		histogram_add(&results->latencies[step->kind], after - before);
		histogram_add(&results->operations, after - before);
	}
	show_progress(run, after);
	return true;
}

static void play_pass(struct run *run)
{
	const struct stage *stage = run->stage;

	run->steps = 0;
	for (size_t i = 0; i < stage->order_count; i++) {
		struct role *role = &run->roles[stage->order[i]];
		const struct scene *scene = &stage->scenes[stage->order[i]];
		const struct step *step = &scene->steps[role->next++];

		if (atomic_load(&run_interrupted)) {
			run->results->interrupted = true;
			break;
		}
		if (step->kind == STEP_BEGIN && !open_role(run, role, scene, step->line))
			break;
		atomic_store_explicit(&run->crew.busy, role->slot, memory_order_relaxed);
		if (step->kind == STEP_END) {
			close_role(run, role, step->line);
			run->steps++;
			run->results->steps[STEP_END]++;
		} else if (!take_step(run, role, step)) {
			break;
		}
	}
	/* What an interruption or a refusal has left open. */
	for (size_t i = 0; i < stage->plan->images_count; i++) {
		struct role *role = &run->roles[i];

		if (role->open)
			close_role(run, role, role->playing.scene->steps[role->next - 1].line);
		role->next = 0;
	}
}

/* Has all come about that was wanted? A mismatch that was to be seen ends it, too. */
static bool is_enough(const struct run *run)
{
	const struct options *options = run->options;
	const struct results *results = run->results;
	struct crew_sum sum;

	crew_sum(&run->crew, &sum);
	if (options->inject != INJECT_NOTHING && results->mismatches + sum.mismatches)
		return true;
	return results->passes >= options->repeat && results->seconds >= options->seconds &&
	       (sum.overlaps >= options->overlaps || !options->readers);
}

static void play_passes(struct run *run)
{
	struct results *results = run->results;
	uint64_t start = clock_now();

	do {
		results->passes++;
		play_pass(run);
		results->seconds = (double)(clock_now() - start) / 1e9;
		results->interrupted |= atomic_load(&run_interrupted);
	} while (!results->interrupted && !results->failed && !is_enough(run));
}

bool run_play(const struct options *options, const char *name, struct stage *stage,
	      struct results *results)
{
	struct run run = {
		.options = options,
		.stage = stage,
		.results = results,
		.random = options->seed | UINT64_C(1) << 63,
	};

	*results = (struct results){.injected = options->inject == INJECT_HISTORY ||
						options->inject == INJECT_MODEL};
	if (!inject_stage(stage, options->inject)) {
		fprintf(stderr, "replay: %s: nothing there that --inject-mismatch could change\n",
			name);
		return false;
	}
	if (!crew_start(&run.crew, name, options->readers, stage->plan->most_images,
			options->seed)) {
		fprintf(stderr, "replay: %u reader threads: %s\n", options->readers,
			strerror(errno));
		return false;
	}
	run.roles = array_zeroed(stage->plan->images_count, sizeof(*run.roles));
	progress_begin(&run.progress, options->quiet);
	play_passes(&run);
	progress_end(&run.progress);
	crew_stop(&run.crew);
	for (unsigned i = 0; i < run.crew.readers_count; i++)
		histogram_merge(&results->lookups, &run.crew.readers[i].latency);
	crew_sum(&run.crew, &results->readers);
	results->mismatches += results->readers.mismatches;
	crew_free(&run.crew);
	free(run.roles);
	return true;
}
