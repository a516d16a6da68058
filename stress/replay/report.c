/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <inttypes.h>

#include "figures.h"

/* Those of a trace's kinds that are calls. */
static const enum trace_kind calls[] = {
	TRACE_MMAP,  TRACE_MUNMAP,  TRACE_MPROTECT, TRACE_MREMAP, TRACE_BRK,   TRACE_SHMAT,
	TRACE_SHMDT, TRACE_MADVISE, TRACE_EXECVE,   TRACE_CLONE,  TRACE_OTHER,
};

enum {
	CALLS = sizeof(calls) / sizeof(calls[0]),
};

static size_t sum_calls(const size_t *counts)
{
	size_t sum = 0;

	for (int i = 0; i < CALLS; i++)
		sum += counts[calls[i]];
	return sum;
}

static uint64_t largest_window(const struct stage *stage)
{
	uint64_t size = 0;

	for (size_t i = 0; i < stage->plan->images_count; i++) {
		if (stage->scenes[i].layout.size > size)
			size = stage->scenes[i].layout.size;
	}
	return size;
}

static void text_unplayed(FILE *out, const struct trace *trace)
{
	fprintf(out, "  not played  madvise %zu, ", trace->advice);
	for (size_t i = 0; i < trace->unplayed_count; i++) {
		const struct trace_unplayed *unplayed = &trace->unplayed[i];

		fprintf(out, "%s %zu (%s), ", unplayed->name, unplayed->count,
			trace_why_name(unplayed->why));
	}
	fprintf(out, "other calls %zu; followed: execve %zu, clone and fork %zu\n",
		trace->done[TRACE_OTHER] - trace->memory, trace->done[TRACE_EXECVE],
		trace->done[TRACE_CLONE]);
}

static void text_skipped(FILE *out, const struct trace *trace)
{
	if (!trace->skipped_lines)
		return;
	fprintf(out,
		"  skipped     %zu lines that are not strace's, of which %zu may concern memory\n",
		trace->skipped_lines, trace->skipped_memory);
	for (size_t i = 0; i < trace->skipped_count; i++) {
		const struct trace_skipped *skipped = &trace->skipped[i];

		fprintf(out, "    %zu: %s; first in line %zu: %s\n", skipped->count,
			skipped->reason, skipped->line, skipped->text);
	}
}

static void text_trace(FILE *out, const struct trace *trace)
{
	fprintf(out,
		"  trace       %zu lines: %zu calls, %zu failed, %zu without a result, %zu cut "
		"in two, %zu never resumed, %zu signals\n",
		trace->lines,
		sum_calls(trace->done) + sum_calls(trace->failed) + sum_calls(trace->unknown),
		sum_calls(trace->failed), sum_calls(trace->unknown), trace->cut, trace->unresumed,
		trace->signals);
	fputs("  played     ", out);
	for (int i = 0; i < CALLS; i++) {
		if (calls[i] <= TRACE_SHMDT)
			fprintf(out, " %s %zu", trace_kind_name(calls[i]), trace->done[calls[i]]);
	}
	if (trace->shadows)
		fprintf(out, " (map_shadow_stack %zu)", trace->shadows);
	fprintf(out, " (%zu of files, as anonymous)\n", trace->files);
	text_unplayed(out, trace);
	text_skipped(out, trace);
}

static void text_plan(FILE *out, const struct stage *stage)
{
	const struct plan *plan = stage->plan;
	char size[32];

	fprintf(out,
		"  spaces      %zu (%zu by execve, %zu by fork, %zu found), up to %zu at once; "
		"window up to %s\n",
		plan->images_count, plan->origins[IMAGE_EXEC], plan->origins[IMAGE_FORK],
		plan->origins[IMAGE_FIRST] + plan->origins[IMAGE_GUESSED], plan->most_images,
		figure_bytes(largest_window(stage), size));
	fprintf(out,
		"  assumed     %zu ranges there from the start, %zu missed maps, %zu missed "
		"unmaps, %zu threads placed by what they do",
		plan->existing, plan->assumed_maps, plan->assumed_unmaps, plan->guessed_threads);
	if (plan->unsized)
		fprintf(out, ", %zu segments of unknown length", plan->unsized);
	fputs("\n", out);
}

static void text_latency(FILE *out, const char *name, const struct histogram *histogram)
{
	if (!histogram->count)
		return;
	/* A blank before each number, however large. */
	fprintf(out,
		"    %-10s %10" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %11" PRIu64 "\n",
		name, histogram->count, histogram_percentile(histogram, 0.5),
		histogram_percentile(histogram, 0.99), histogram_percentile(histogram, 0.999),
		histogram->greatest);
}

/* What was asked for, and whether it went well. */
static void text_brief(FILE *out, const struct options *options, const char *name,
		       const struct trace *trace, const struct results *results)
{
	uint64_t steps = 0;

	for (int i = STEP_BEGIN + 1; i < STEP_END; i++)
		steps += results->steps[i];
	fprintf(out, "%s on the %s backend: %zu calls, %" PRIu64 " passes%s\n", name,
		backend_name(options->backend), trace->calls_count, results->passes,
		results->interrupted ? ", interrupted"
		: results->no_memory ? ", out of memory"
				     : "");
	fprintf(out,
		"  %" PRIu64 " operations, p50 %" PRIu64 " ns; %" PRIu64 " lookups, p50 %" PRIu64
		" ns; %" PRIu64 " mismatches\n",
		steps, histogram_percentile(&results->operations, 0.5), results->readers.lookups,
		histogram_percentile(&results->lookups, 0.5), results->mismatches);
	text_unplayed(out, trace);
	text_skipped(out, trace);
}

void report_text(FILE *out, const struct options *options, const char *name,
		 const struct trace *trace, const struct stage *stage,
		 const struct results *results)
{
	const struct crew_sum *readers = &results->readers;
	uint64_t looks = readers->lookups + readers->views + readers->snapshots;
	const struct aspace_stats *stats = &results->stats;
	char size[3][32];

	if (options->brief) {
		text_brief(out, options, name, trace, results);
		return;
	}
	fprintf(out, "%s on the %s backend, %u readers, %" PRIu64 " passes, seed %" PRIu64 "%s\n",
		name, backend_name(options->backend), options->readers, results->passes,
		options->seed,
		results->interrupted ? ", interrupted"
		: results->no_memory ? ", out of memory"
				     : "");
	text_trace(out, trace);
	text_plan(out, stage);
	fputs("  operations ", out);
	for (int i = STEP_BEGIN; i < STEP_KINDS; i++) {
		if (results->steps[i])
			fprintf(out, " %s %" PRIu64, step_kind_name(i), results->steps[i]);
	}
	fprintf(out, "; %" PRIu64 " versions\n", results->versions);
	fprintf(out,
		"  areas       %zu at the ends of all spaces; largest space: %zu at most, %zu at "
		"its end\n",
		results->areas, results->most_areas, results->last_areas);
	fprintf(out,
		"  tree        height %" PRIu64 ", %" PRIu64 " nodes, %s live, %s pooled; %s "
		"retired at most\n",
		stats->height, stats->nodes, figure_bytes(stats->bytes_live, size[0]),
		figure_bytes(stats->bytes_pooled, size[1]),
		figure_bytes(results->bytes_retired_max, size[2]));
	fprintf(out,
		"  lookups     %" PRIu64 " in %.3f s (%.2f million a second), %" PRIu64
		" views, %" PRIu64 " snapshots\n",
		readers->lookups, results->seconds,
		figure_rate(readers->lookups, results->seconds) / 1e6, readers->views,
		readers->snapshots);
	fprintf(out,
		"  overlap     %" PRIu64 " (%.2f %%) of them while an operation was under way "
		"or ended\n",
		readers->overlaps, figure_share(readers->overlaps, looks));
	fputs("  latency ns      samples      p50      p99    p99.9         max\n", out);
	text_latency(out, "lookup", &results->lookups);
	text_latency(out, "operation", &results->operations);
	for (int i = STEP_BEGIN; i < STEP_END; i++)
		text_latency(out, step_kind_name(i), &results->latencies[i]);
	fprintf(out, "  compared    %" PRIu64 " spaces at their ends with the model%s\n",
		results->comparisons,
		options->backend == BACKEND_HOST   ? " and /proc/self/smaps"
		: options->backend == BACKEND_MOCK ? " and the mock's page table"
						   : "");
	if (options->backend == BACKEND_AARCH64)
		fprintf(out,
			"  walked      %" PRIu64 " times the edges of a change, and %" PRIu64
			" times (%.1f %%) all tables beside them\n",
			results->walked, results->walked_wholly,
			figure_share(results->walked_wholly, results->walked));
	fprintf(out, "  mismatches  %" PRIu64 "\n", results->mismatches);
}

static void text_way(FILE *out, const struct timing *timing, enum way way, const char *what)
{
	double each = timing_each(timing, way);

	fprintf(out, "  %-39s %9.3f ms, %6.0f ns and %.2f page faults each\n", what,
		each * (double)timing->operations / 1e6, each,
		timing->operations ? timing->faults[way] / (double)timing->operations : 0);
}

static void text_share(FILE *out, const struct timing *timing, enum way way, const char *what)
{
	double added = timing_each(timing, way) - timing_each(timing, WAY_BACKEND);

	fprintf(out, "  %s: %.1f %% of the backend's time, %.0f ns each\n", what,
		100 * timing_share(timing, way), added);
}

void report_timing_text(FILE *out, const char *name, const struct timing *timing)
{
	fprintf(out, "%s: %zu operations, medians of %zu passes%s\n", name, timing->operations,
		timing->passes[WAY_LIBRARY].at_count, timing->interrupted ? ", interrupted" : "");
	text_way(out, timing, WAY_KERNEL, "the program's own calls");
	text_way(out, timing, WAY_BACKEND, "the host backend's, without the library");
	text_way(out, timing, WAY_LIBRARY, "with the library");
	text_way(out, timing, WAY_TOUCHED, "the same, in memory touched before");
	text_share(out, timing, WAY_LIBRARY, "the library's own share");
	text_share(out, timing, WAY_TOUCHED, "in memory touched before");
}

/* ---- JSON ------------------------------------------------------------------- */

static void json_latency(FILE *out, const char *name, const struct histogram *histogram)
{
	fprintf(out,
		"\"%s\": {\"samples\": %" PRIu64 ", \"p50\": %" PRIu64 ", \"p99\": %" PRIu64
		", \"p99.9\": %" PRIu64 ", \"max\": %" PRIu64 "}",
		name, histogram->count, histogram_percentile(histogram, 0.5),
		histogram_percentile(histogram, 0.99), histogram_percentile(histogram, 0.999),
		histogram->greatest);
}

static void json_calls(FILE *out, const char *name, const size_t *counts)
{
	fprintf(out, "\"%s\": {", name);
	for (int i = 0; i < CALLS; i++)
		fprintf(out, "%s\"%s\": %zu", i ? ", " : "", trace_kind_name(calls[i]),
			counts[calls[i]]);
	fputs("}", out);
}

static void json_left_out(FILE *out, const struct trace *trace)
{
	fputs("\"not_played\": [", out);
	for (size_t i = 0; i < trace->unplayed_count; i++) {
		const struct trace_unplayed *unplayed = &trace->unplayed[i];

		fprintf(out, "%s{\"call\": ", i ? ", " : "");
		figure_string(out, unplayed->name);
		fprintf(out, ", \"count\": %zu, \"why\": \"%s\", \"line\": %zu}", unplayed->count,
			trace_why_name(unplayed->why), unplayed->line);
	}
	fprintf(out, "],\n    \"skipped_lines\": %zu, \"skipped_memory\": %zu, \"skipped\": [",
		trace->skipped_lines, trace->skipped_memory);
	for (size_t i = 0; i < trace->skipped_count; i++) {
		const struct trace_skipped *skipped = &trace->skipped[i];

		fprintf(out, "%s{\"reason\": ", i ? ", " : "");
		figure_string(out, skipped->reason);
		fprintf(out, ", \"count\": %zu, \"line\": %zu, \"first\": ", skipped->count,
			skipped->line);
		figure_string(out, skipped->text);
		fputs("}", out);
	}
	fputs("],\n", out);
}

static void json_trace(FILE *out, const struct trace *trace, const struct stage *stage)
{
	const struct plan *plan = stage->plan;

	fprintf(out, "    \"lines\": %zu,\n    ", trace->lines);
	json_calls(out, "calls", trace->done);
	fputs(",\n    ", out);
	json_calls(out, "failed", trace->failed);
	fputs(",\n    ", out);
	json_calls(out, "without_result", trace->unknown);
	fprintf(out,
		",\n    \"signals\": %zu, \"cut\": %zu, \"never_resumed\": %zu, "
		"\"files_as_anonymous\": %zu, \"madvise_ignored\": %zu, \"map_shadow_stack\": "
		"%zu,\n"
		"    \"remarks\": %zu, ",
		trace->signals, trace->cut, trace->unresumed, trace->files, trace->advice,
		trace->shadows, trace->remarks);
	json_left_out(out, trace);
	fprintf(out,
		"    \"spaces\": %zu, \"spaces_execve\": %zu, \"spaces_fork\": %zu, "
		"\"spaces_found\": %zu, \"spaces_at_once\": %zu, \"window_bytes\": %" PRIu64 ",\n",
		plan->images_count, plan->origins[IMAGE_EXEC], plan->origins[IMAGE_FORK],
		plan->origins[IMAGE_FIRST] + plan->origins[IMAGE_GUESSED], plan->most_images,
		largest_window(stage));
	fprintf(out,
		"    \"assumed_existing\": %zu, \"assumed_maps\": %zu, \"assumed_unmaps\": %zu, "
		"\"threads_placed\": %zu, \"segments_unsized\": %zu,\n",
		plan->existing, plan->assumed_maps, plan->assumed_unmaps, plan->guessed_threads,
		plan->unsized);
}

void report_json(FILE *out, const struct options *options, const char *name,
		 const struct trace *trace, const struct stage *stage,
		 const struct results *results)
{
	const struct crew_sum *readers = &results->readers;
	const struct aspace_stats *stats = &results->stats;

	fputs("  {\n    \"trace\": ", out);
	figure_string(out, name);
	fprintf(out,
		", \"backend\": \"%s\", \"readers\": %u, \"seed\": %" PRIu64
		", \"passes\": %" PRIu64 ", \"interrupted\": %s,\n",
		backend_name(options->backend), options->readers, options->seed, results->passes,
		results->interrupted ? "true" : "false");
	json_trace(out, trace, stage);
	fputs("    \"operations\": {", out);
	for (int i = STEP_BEGIN; i < STEP_KINDS; i++)
		fprintf(out, "%s\"%s\": %" PRIu64, i ? ", " : "", step_kind_name(i),
			results->steps[i]);
	fprintf(out, "}, \"versions\": %" PRIu64 ",\n", results->versions);
	fprintf(out,
		"    \"areas\": {\"at_ends\": %zu, \"largest_space_most\": %zu, "
		"\"largest_space_at_end\": %zu},\n",
		results->areas, results->most_areas, results->last_areas);
	fprintf(out,
		"    \"tree\": {\"height\": %" PRIu64 ", \"nodes\": %" PRIu64
		", \"bytes_live\": %" PRIu64 ", \"bytes_pooled\": %" PRIu64
		", \"bytes_retired_max\": %" PRIu64 "},\n",
		stats->height, stats->nodes, stats->bytes_live, stats->bytes_pooled,
		results->bytes_retired_max);
	fprintf(out,
		"    \"seconds\": %.6f, \"lookups\": %" PRIu64 ", \"lookups_per_second\": %.0f, "
		"\"views\": %" PRIu64 ", \"snapshots\": %" PRIu64 ", \"overlapping\": %" PRIu64
		",\n    \"latency_ns\": {\n      ",
		results->seconds, readers->lookups, figure_rate(readers->lookups, results->seconds),
		readers->views, readers->snapshots, readers->overlaps);
	json_latency(out, "lookup", &results->lookups);
	fputs(",\n      ", out);
	json_latency(out, "operation", &results->operations);
	for (int i = STEP_BEGIN; i < STEP_END; i++) {
		fputs(",\n      ", out);
		json_latency(out, step_kind_name(i), &results->latencies[i]);
	}
	fprintf(out, "\n    },\n    \"comparisons\": %" PRIu64 ", \"mismatches\": %" PRIu64 "\n  }",
		results->comparisons, results->mismatches);
}

void report_timing_json(FILE *out, const char *name, const struct timing *timing)
{
	fputs("  {\n    \"trace\": ", out);
	figure_string(out, name);
	fprintf(out,
		", \"operations\": %zu, \"passes\": %zu, \"interrupted\": %s,\n"
		"    \"ns_each\": {\"kernel\": %.1f, \"backend\": %.1f, \"library\": %.1f, "
		"\"touched\": %.1f},\n"
		"    \"share\": %.4f, \"share_touched\": %.4f,\n"
		"    \"page_faults\": {\"kernel\": %.0f, \"backend\": %.0f, \"library\": %.0f, "
		"\"touched\": %.0f}\n  }",
		timing->operations, timing->passes[WAY_LIBRARY].at_count,
		timing->interrupted ? "true" : "false", timing_each(timing, WAY_KERNEL),
		timing_each(timing, WAY_BACKEND), timing_each(timing, WAY_LIBRARY),
		timing_each(timing, WAY_TOUCHED), timing_share(timing, WAY_LIBRARY),
		timing_share(timing, WAY_TOUCHED), timing->faults[WAY_KERNEL],
		timing->faults[WAY_BACKEND], timing->faults[WAY_LIBRARY],
		timing->faults[WAY_TOUCHED]);
}
