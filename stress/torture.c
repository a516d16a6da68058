/* SPDX-License-Identifier: MIT */
/*
 * torture: every operation at once, every answer checked.
 *
 *     scenario   what threads do, and the hazard          scenario.h, hazards.h
 *     worker     a thread, and what it notes              worker.h, log.h
 *     witness    the backend that knows which version     witness.h
 *     ledger     deeds -> the history of the space        ledger.h
 *     check      notes against the history                check.h
 *     run        rounds                                   run.h
 *
 * docs/torture.md is its manual.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "torture/hazards.h"
#include "torture/report.h"

enum {
	EXIT_FINE = 0,
	EXIT_MISMATCH = 1,
	EXIT_BAD = 2,
	EXIT_INTERRUPTED = 130,
};

static void on_interrupt(int number)
{
	(void)number;
	atomic_store(&run_interrupted, true);
}

static void catch_interrupt(void)
{
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
}

static int play(const struct options *options, const struct scenario *scenario, FILE *text,
		FILE *json, bool first)
{
	struct results results;

	if (!run_scenario(options, scenario, &results))
		return EXIT_BAD;
	if (text) {
		report_text(text, options, &results);
		fflush(text);
	}
	if (json) {
		fputs(first ? "[\n" : ",\n", json);
		report_json(json, options, &results);
	}
	if (results.mismatches)
		return EXIT_MISMATCH;
	return results.interrupted ? EXIT_INTERRUPTED : EXIT_FINE;
}

int main(int argc, char **argv)
{
	struct options options;
	FILE *text, *json = NULL;
	int result = EXIT_FINE;

	switch (options_parse(&options, argc, argv)) {
	case OPTIONS_STOP:
		return EXIT_FINE;
	case OPTIONS_BAD:
		return EXIT_BAD;
	case OPTIONS_RUN:
		break;
	}
	text = options.quiet ? NULL : stdout;
	if (options.json && !strcmp(options.json, "-")) {
		json = stdout;
		text = NULL;
	} else if (options.json) {
		json = fopen(options.json, "we");
		if (!json) {
			fprintf(stderr, "torture: %s: %s\n", options.json, strerror(errno));
			return EXIT_BAD;
		}
	}
	catch_interrupt();
	hazards_begin();
	for (size_t i = 0; options.chosen[i] && result == EXIT_FINE; i++)
		result = play(&options, options.chosen[i], text, json, i == 0);
	if (json) {
		fputs("\n]\n", json);
		if (fflush(json) || ferror(json)) {
			fprintf(stderr, "torture: %s: not written\n", options.json);
			result = result == EXIT_FINE ? EXIT_BAD : result;
		}
	}
	if (fflush(stdout) && result == EXIT_FINE)
		result = EXIT_BAD;
	return result;
}
