/* SPDX-License-Identifier: MIT */
/*
 * replay: plays recorded traces of real programs on address spaces, while other
 * threads look addresses up and check every answer.
 *
 *     trace     lines of strace's output -> calls               trace.h
 *     plan      calls -> steps on one or more address spaces    plan.h
 *     stage     steps moved into windows, and their history     stage.h
 *     run       steps played, readers beside them               run.h
 *     timing    or their time, without readers                  timing.h
 *     report    what came of it                                 report.h
 *
 * docs/replay.md is its manual.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "replay/record.h"
#include "replay/report.h"

enum {
	EXIT_FINE = 0,
	EXIT_MISMATCH = 1,
	EXIT_BAD = 2,
	EXIT_INTERRUPTED = 130,
};

static void on_interrupt(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	/* Not reset to the default: what sends one often sends two, to the process
	 * and to its group. Whatever is under way ends within a step anyway. */
	atomic_store(&run_interrupted, true);
	/* ^C on a terminal goes to the program that is being recorded as well; what a
	 * process has sent was for us alone. */
	if (info->si_code <= 0)
		record_interrupt();
}

static void catch_interrupt(void)
{
	struct sigaction action = {.sa_sigaction = on_interrupt,
				   .sa_flags = SA_RESTART | SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
}

static void report(const struct options *options, struct output *output, const char *name,
		   const struct trace *trace, const struct stage *stage,
		   const struct results *results)
{
	if (output->text) {
		report_text(output->text, options, name, trace, stage, results);
		fflush(output->text);
	}
	if (output_next(output))
		report_json(output->json, options, name, trace, stage, results);
}

static int time_stage(const struct options *options, struct output *output, const char *name,
		      const struct stage *stage)
{
	struct timing timing;
	int result = EXIT_FINE;

	timing_play(options, name, stage, &timing);
	if (timing.failed) {
		result = EXIT_MISMATCH;
	} else {
		if (output->text) {
			report_timing_text(output->text, name, &timing);
			fflush(output->text);
		}
		if (output_next(output))
			report_timing_json(output->json, name, &timing);
		if (timing.interrupted)
			result = EXIT_INTERRUPTED;
	}
	timing_free(&timing);
	return result;
}

static int play_stage(const struct options *options, struct output *output, const char *name,
		      const struct trace *trace, struct stage *stage)
{
	/* Some hundred KiB of histograms: not for the stack. */
	static struct results results;

	if (!run_play(options, name, stage, &results))
		return EXIT_BAD;
	report(options, output, name, trace, stage, &results);
	if (results.mismatches)
		return EXIT_MISMATCH;
	if (results.interrupted)
		return EXIT_INTERRUPTED;
	if (results.no_memory)
		return EXIT_BAD;
	if (options->inject != INJECT_NOTHING) {
		/* A control that has shown nothing must not pass for one that has. */
		fprintf(stderr, "replay: %s: --inject-mismatch=%s: %s\n", name,
			injection_name(options->inject),
			results.injected ? "no look has met it" : "there was nothing to do it to");
		return EXIT_MISMATCH;
	}
	return EXIT_FINE;
}

/* A file that is a trace of nothing is mostly the wrong file. */
static bool has_memory_calls(const struct trace *trace)
{
	for (int kind = TRACE_MMAP; kind <= TRACE_MADVISE; kind++) {
		if (trace->done[kind])
			return true;
	}
	return false;
}

/* Something of the trace was skipped that may have been about memory (--lenient). */
static bool has_lost_memory(const struct trace *trace, const char *name)
{
	if (trace->skipped_memory)
		fprintf(stderr,
			"replay: %s:%zu: not read, and may concern memory; %zu such line%s in "
			"all\n",
			name, trace->skipped_first, trace->skipped_memory,
			trace->skipped_memory == 1 ? "" : "s");
	return trace->skipped_memory > 0;
}

/* `name` is what messages call the trace. */
static int play_trace(const struct options *options, struct output *output, const char *path,
		      const char *name)
{
	struct trace_rules rules = {.page = options->page, .lenient = options->lenient};
	struct trace trace;
	struct trace_error error;
	struct stage stage;
	struct plan plan;
	char reason[200];
	int result = EXIT_BAD;

	if (!trace_load(&trace, path, &rules, &error)) {
		if (error.line)
			fprintf(stderr, "replay: %s:%zu: %s\n", name, error.line, error.reason);
		else
			fprintf(stderr, "replay: %s: %s\n", name, error.reason);
		return EXIT_BAD;
	}
	if (!has_memory_calls(&trace)) {
		has_lost_memory(&trace, name);
		fprintf(stderr, "replay: %s: no memory call succeeded: nothing to replay\n", name);
		trace_free(&trace);
		return EXIT_BAD;
	}
	plan_make(&plan, &trace, options->page);
	if (stage_make(&stage, &plan, reason)) {
		result = options->time ? time_stage(options, output, name, &stage)
				       : play_stage(options, output, name, &trace, &stage);
		stage_free(&stage);
	} else {
		fprintf(stderr, "replay: %s: %s\n", name, reason);
	}
	if (has_lost_memory(&trace, name) && result == EXIT_FINE)
		result = EXIT_BAD;
	plan_free(&plan);
	trace_free(&trace);
	return result;
}

static int play_recorded(const struct options *options, struct output *output)
{
	char *path = record_run(options->operands, options->save);
	bool interrupted = atomic_exchange(&run_interrupted, false);
	int result;

	if (!path)
		return interrupted ? EXIT_INTERRUPTED : EXIT_BAD;
	/* ^C has ended the program; what it did until then is replayed. */
	result = play_trace(options, output, path, path);
	/* What a message speaks of shall be there to be looked at. */
	if (!options->save && result != EXIT_FINE && result != EXIT_INTERRUPTED)
		fprintf(stderr, "replay: the trace of %s is kept: %s\n", options->operands[0],
			path);
	record_done(path, !options->save && (result == EXIT_FINE || result == EXIT_INTERRUPTED));
	return interrupted && result == EXIT_FINE ? EXIT_INTERRUPTED : result;
}

int main(int argc, char **argv)
{
	struct options options;
	struct output output;
	int result = EXIT_FINE;

	switch (options_parse(&options, argc, argv)) {
	case OPTIONS_STOP:
		return EXIT_FINE;
	case OPTIONS_BAD:
		return EXIT_BAD;
	case OPTIONS_RUN:
		break;
	}
	if (!output_open(&output, "replay", options.json, options.quiet))
		return EXIT_BAD;
	catch_interrupt();
	if (options.record) {
		result = play_recorded(&options, &output);
	} else {
		for (int i = 0; i < options.operands_count && result != EXIT_INTERRUPTED; i++) {
			const char *path = options.operands[i];
			int one = play_trace(&options, &output, path,
					     strcmp(path, "-") ? path : "(standard input)");

			result = one > result ? one : result;
		}
	}
	if (!output_close(&output) && result == EXIT_FINE)
		result = EXIT_BAD;
	return result;
}
