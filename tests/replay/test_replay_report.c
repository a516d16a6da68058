/* SPDX-License-Identifier: MIT */
/*
 * The summary: tables whose columns stay apart at any value, and nothing of what was left out is
 * missing in it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* open_memstream */
#endif
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "report.h"

static const char text[] = "1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000\n"
			   "hello\n"
			   "1 munmap(0x10000, 4096) = 0 (INJECTED)\n"
			   "1 mlock(0x10000, 4096) = 0\n"
			   "1 shmat(5, NULL, 0) = 0x20000\n"
			   "1 mprotect(0x10000, 4096\n";

/* Histograms are large. */
static struct results results;

static void fill(struct histogram *histogram, uint64_t value, uint64_t count)
{
	*histogram = (struct histogram){.count = 0};
	histogram_add(histogram, value);
	/* As if it had been added so often. */
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		histogram->buckets[i] *= count;
	histogram->count = count;
}

/* The summary of `text`, each figure of it `value`. */
static char *summary(uint64_t value, bool brief, bool json)
{
	struct trace_rules rules = {.page = 4096, .lenient = true};
	struct options options = {.readers = 2, .repeat = 1, .brief = brief};
	struct trace_error error;
	struct trace trace;
	struct stage stage;
	struct plan plan;
	char reason[200], *out = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&out, &length);

	assert_non_null(file);
	assert_true(trace_parse(&trace, text, strlen(text), &rules, &error));
	plan_make(&plan, &trace, 4096);
	assert_true(stage_make(&stage, &plan, reason));
	results = (struct results){.passes = value, .mismatches = value, .versions = value};
	fill(&results.operations, value, value);
	fill(&results.lookups, value, value);
	for (int i = STEP_BEGIN; i < STEP_KINDS; i++) {
		results.steps[i] = value / STEP_KINDS;
		fill(&results.latencies[i], value, value);
	}
	results.readers.lookups = value;
	(json ? report_json : report_text)(file, &options, "NAME", &trace, &stage, &results);
	stage_free(&stage);
	plan_free(&plan);
	trace_free(&trace);
	fclose(file);
	return out;
}

static int count_words(const char *line)
{
	int count = 0;

	while (*line && *line != '\n') {
		line += strspn(line, " ");
		count += *line && *line != '\n';
		line += strcspn(line, " \n");
	}
	return count;
}

static void columns_stay_apart(void **state)
{
	(void)state;
	for (uint64_t value = 1; value; value = value == UINT64_MAX      ? 0
						: value > UINT64_MAX / 7 ? UINT64_MAX
									 : value * 7) {
		char *out = summary(value, false, false);
		const char *table = strstr(out, "  latency ns "), *line;
		int rows = 0;

		assert_non_null(table);
		assert_int_equal(count_words(table), 7); /* "latency ns" is two */
		for (line = strchr(table, '\n') + 1; !strncmp(line, "    ", 4);
		     line = strchr(line, '\n') + 1) {
			if (count_words(line) != 6)
				fail_msg("%" PRIu64 ": %.*s", value, (int)strcspn(line, "\n"),
					 line);
			rows++;
		}
		assert_int_equal(rows, 2 + STEP_END);
		free(out);
	}
}

static void times_stay_apart(void **state)
{
	(void)state;
	for (double value = 1; value < 1e19; value *= 10) {
		struct timing timing = {.operations = 1000};
		char *out = NULL;
		size_t length = 0;
		FILE *file = open_memstream(&out, &length);

		for (int way = 0; way < WAYS; way++)
			timing.passes[way] = (struct series){.at = &value, .at_count = 1};
		report_timing_text(file, "NAME", &timing);
		fclose(file);
		/* After the words there is a blank, then the number. */
		for (const char *line = strstr(out, "library"); line;
		     line = strstr(line + 1, "library"))
			assert_true(strchr(" ':\n", line[strlen("library")]) != NULL);
		assert_non_null(strstr(out, "own calls "));
		assert_non_null(strstr(out, "touched before "));
		free(out);
	}
}

static void nothing_is_left_out(void **state)
{
	static const char *const text_says[] = {
		"mlock 1 (not followed)",
		"munmap 1 (injected)",
		"mmap 1",
		"shmat 1",
		"2 lines that are not strace's, of which 1 may concern memory",
		"1: neither a call, nor a signal, nor an end; first in line 2: hello",
		"1: the arguments have no end; first in line 6: 1 mprotect(0x10000, 4096",
	};
	static const char *const json_says[] = {
		"{\"call\": \"mlock\", \"count\": 1, \"why\": \"not followed\", \"line\": 4}",
		"{\"call\": \"munmap\", \"count\": 1, \"why\": \"injected\", \"line\": 3}",
		"\"skipped_lines\": 2, \"skipped_memory\": 1",
		"\"count\": 1, \"line\": 2, \"first\": \"hello\"}",
		"\"segments_unsized\": 1",
	};

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		char *out = summary(7, kind == 1, kind == 2);
		size_t count = kind == 2 ? sizeof(json_says) / sizeof(json_says[0])
					 : sizeof(text_says) / sizeof(text_says[0]);

		for (size_t i = 0; i < count; i++) {
			const char *want = kind == 2 ? json_says[i] : text_says[i];

			/* The brief one leaves out what is played, and nothing else. */
			if (kind == 1 && (i == 2 || i == 3))
				continue;
			if (!strstr(out, want))
				fail_msg("'%s' is not in\n%s", want, out);
		}
		free(out);
	}
}

static void a_brief_one_is_brief(void **state)
{
	char *out = summary(7, true, false);
	int lines = 0;

	(void)state;
	for (const char *at = strchr(out, '\n'); at; at = strchr(at + 1, '\n'))
		lines++;
	assert_true(lines <= 6); /* three, and three of what was skipped */
	assert_non_null(strstr(out, "7 mismatches"));
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_stay_apart),
		cmocka_unit_test(times_stay_apart),
		cmocka_unit_test(nothing_is_left_out),
		cmocka_unit_test(a_brief_one_is_brief),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
