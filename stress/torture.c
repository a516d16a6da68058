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
#include <signal.h>

#include "output.h"
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

static int play(const struct options *options, const struct scenario *scenario,
		struct output *output, struct totals *totals)
{
	struct results results;

	if (!run_scenario(options, scenario, &results))
		return EXIT_BAD;
	report_add(totals, &results);
	if (output->text) {
		report_text(output->text, options, &results);
		fflush(output->text);
	}
	if (output_next(output))
		report_json(output->json, options, &results);
	if (results.mismatches)
		return EXIT_MISMATCH;
	return results.interrupted ? EXIT_INTERRUPTED : EXIT_FINE;
}

int main(int argc, char **argv)
{
	struct options options;
	struct output output;
	struct totals totals = {0};
	int result = EXIT_FINE;

	switch (options_parse(&options, argc, argv)) {
	case OPTIONS_STOP:
		return EXIT_FINE;
	case OPTIONS_BAD:
		return EXIT_BAD;
	case OPTIONS_RUN:
		break;
	}
	if (!output_open(&output, "torture", options.json, options.quiet))
		return EXIT_BAD;
	catch_interrupt();
	hazards_begin();
	for (size_t i = 0; options.chosen[i] && result == EXIT_FINE; i++)
		result = play(&options, options.chosen[i], &output, &totals);
	if (output.text)
		report_totals(output.text, &totals);
	if (!output_close(&output) && result == EXIT_FINE)
		result = EXIT_BAD;
	return result;
}
