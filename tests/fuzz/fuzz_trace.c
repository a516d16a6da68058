/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing what reads traces: the fuzzer's bytes are strace's output. The lenient parser
 * accepts anything, and what it makes of it must have a plan, a layout that keeps its
 * promises and a history that says what the plan's steps do. What the strict one
 * accepts the lenient one reads alike, and it skips nothing.
 *
 * With libFuzzer: LLVMFuzzerTestOneInput. With -DFUZZ_REPLAY, a program that runs the
 * files that it is given.
 */
#include <stdio.h>
#include <stdlib.h>

#include "stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

enum {
	PAGE = 4096,
	WORK_MOST = 1 << 18, /* comparisons for one input */
};

/* Order, adjacency, sizes and the place within 2 MiB are kept. */
static void check_layout(const struct layout *layout, const struct areas *ever)
{
	for (size_t i = 0; i < ever->at_count; i++) {
		const struct area *area = &ever->at[i];
		uint64_t start = layout_place(layout, area->start);
		uint64_t end = layout_place(layout, area->end);

		CHECK(end - start == area->end - area->start);
		CHECK(start % LAYOUT_ALIGN == area->start % LAYOUT_ALIGN);
		CHECK(end < layout->size);
		if (i)
			CHECK(layout_place(layout, ever->at[i - 1].end) < start);
		CHECK(layout_place(layout, area->start ? area->start - 1 : 0) <= start);
	}
}

static void check_state(const struct history *history, const struct areas *areas, uint32_t time)
{
	for (size_t i = 0; i + 1 < history->cuts_count; i++) {
		uint64_t address = history->cuts[i];
		const struct tile *tile = history_at(history, address, time);
		const struct area *area = areas_find(areas, address);

		CHECK(tile && tile->from <= time && time < tile->until);
		CHECK(tile->start <= address && address < tile->end);
		if (!area) {
			CHECK(tile->value == HOLE);
			continue;
		}
		CHECK(tile->start == area->start && tile->end == area->end);
		CHECK(tile->value == area->protection);
		CHECK(history_was_area(history, address, time, time, tile->start, tile->end,
				       tile->value));
		CHECK(!history_was_hole(history, address, time, time));
	}
}

static void check_scene(const struct scene *scene, const struct image *image)
{
	struct areas areas = {.at = NULL};
	size_t work = 0;

	check_layout(&scene->layout, &image->ever);
	CHECK(scene->steps_count > 1 && scene->steps[0].kind == STEP_BEGIN);
	CHECK(scene->steps[scene->steps_count - 1].kind == STEP_END);
	CHECK(scene->history.times == scene->steps_count - 1);
	for (uint32_t i = 0; i < scene->history.times; i++) {
		const struct step *step = &scene->steps[i];

		CHECK((step->kind == STEP_BEGIN) == (i == 0));
		if (i) {
			CHECK(step->start < step->end);
			CHECK(!(step->start % PAGE) && !(step->end % PAGE));
			CHECK(step->kind != STEP_MAP || step->replace ||
			      !areas_overlap(&areas, step->start, step->end));
			step_apply(step, &areas);
		} else {
			areas_copy(&areas, &scene->initial);
		}
		work += scene->history.cuts_count;
		if (work < WORK_MOST)
			check_state(&scene->history, &areas, i + 1);
	}
	areas_free(&areas);
}

static bool same_calls(const struct trace *a, const struct trace *b)
{
	for (size_t i = 0; i < a->calls_count && i < b->calls_count; i++) {
		const struct trace_call *x = &a->calls[i], *y = &b->calls[i];

		if (x->kind != y->kind || x->pid != y->pid || x->address != y->address ||
		    x->length != y->length || x->result != y->result || x->line != y->line)
			return false;
	}
	return a->calls_count == b->calls_count;
}

/* Every line is read, or is skipped for a reason that is said. */
static void check_counts(const struct trace *trace)
{
	size_t skipped = 0;

	for (size_t i = 0; i < trace->skipped_count; i++) {
		skipped += trace->skipped[i].count;
		CHECK(*trace->skipped[i].reason && trace->skipped[i].line);
	}
	CHECK(skipped == trace->skipped_lines && trace->skipped_memory <= skipped);
	CHECK(!trace->skipped_memory == !trace->skipped_first);
	for (size_t i = 0; i < trace->unplayed_count; i++)
		CHECK(trace->unplayed[i].count && trace->unplayed[i].why != WHY_NONE);
}

static void check_strict(const uint8_t *data, size_t size, const struct trace *lenient)
{
	struct trace_rules rules = {.page = PAGE};
	struct trace_error error;
	struct trace trace;

	if (trace_parse(&trace, (const char *)data, size, &rules, &error)) {
		CHECK(same_calls(&trace, lenient) && !lenient->skipped_lines);
		trace_free(&trace);
	} else {
		CHECK(error.line && *error.reason && lenient->skipped_lines);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trace_rules rules = {.page = PAGE, .lenient = true};
	struct trace trace;
	struct trace_error error;
	struct stage stage;
	struct plan plan;
	char reason[200];

	CHECK(trace_parse(&trace, (const char *)data, size, &rules, &error));
	check_counts(&trace);
	check_strict(data, size, &trace);
	plan_make(&plan, &trace, PAGE);
	if (stage_make(&stage, &plan, reason)) {
		for (size_t i = 0; i < plan.images_count; i++)
			check_scene(&stage.scenes[i], &plan.images[i]);
		stage_free(&stage);
	}
	plan_free(&plan);
	trace_free(&trace);
	return 0;
}

#ifdef FUZZ_REPLAY
static int run_file(const char *name)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(name, "rb");
	size_t size;

	if (!file) {
		perror(name);
		return 1;
	}
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (run_file(argv[i]))
			return 1;
	}
	printf("fuzz_trace: %d files\n", argc - 1);
	return 0;
}
#endif
