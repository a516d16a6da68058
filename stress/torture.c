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

/* Where the summaries go. */
struct output {
	FILE *text, *json;
	unsigned reports;
	struct totals totals;
};

static bool open_output(const struct options *options, struct output *output)
{
	*output = (struct output){.text = options->quiet ? NULL : stdout};
	if (!options->json)
		return true;
	if (!strcmp(options->json, "-")) {
		output->json = stdout;
		output->text = NULL;
	} else {
		output->json = fopen(options->json, "we");
		if (!output->json) {
			fprintf(stderr, "torture: %s: %s\n", options->json, strerror(errno));
			return false;
		}
	}
	fputs("[\n", output->json);
	return true;
}

static bool close_output(const struct options *options, struct output *output)
{
	bool fine = true;

	if (output->text)
		report_totals(output->text, &output->totals);
	if (output->json) {
		fputs("\n]\n", output->json);
		fine = !ferror(output->json) && !fflush(output->json);
		if (output->json != stdout)
			fine = !fclose(output->json) && fine;
		if (!fine)
			fprintf(stderr, "torture: %s: not written\n", options->json);
	}
	return !fflush(stdout) && fine;
}

static int play(const struct options *options, const struct scenario *scenario,
		struct output *output)
{
	struct results results;

	if (!run_scenario(options, scenario, &results))
		return EXIT_BAD;
	report_add(&output->totals, &results);
	if (output->text) {
		report_text(output->text, options, &results);
		fflush(output->text);
	}
	if (output->json) {
		if (output->reports)
			fputs(",\n", output->json);
		report_json(output->json, options, &results);
	}
	output->reports++;
	if (results.mismatches)
		return EXIT_MISMATCH;
	return results.interrupted ? EXIT_INTERRUPTED : EXIT_FINE;
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
	if (!open_output(&options, &output))
		return EXIT_BAD;
	catch_interrupt();
	hazards_begin();
	for (size_t i = 0; options.chosen[i] && result == EXIT_FINE; i++)
		result = play(&options, options.chosen[i], &output);
	if (!close_output(&options, &output) && result == EXIT_FINE)
		result = EXIT_BAD;
	return result;
}
