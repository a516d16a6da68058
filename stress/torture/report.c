/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <inttypes.h>

#include "figures.h"

void report_text(FILE *out, const struct options *options, const struct results *results)
{
	const struct scenario *scenario = results->scenario;
	const struct tally *tally = &results->tally;
	char size[3][32];

	fprintf(out, "%s: %s\n", scenario->name, scenario->about);
	fprintf(out, "  on the %s backend, %u readers, %u writers, seed %" PRIu64 ", %.1f s%s\n",
		backend_name(options->backend), options->readers, options->writers, options->seed,
		results->seconds, results->interrupted ? ", interrupted" : "");
	fprintf(out,
		"  checked     %" PRIu64
		" answers (%.2f %% overlapped an operation) against %" PRIu64
		" operations, %" PRIu64 " versions, in %" PRIu64 " rounds\n",
		tally->checked, figure_share(tally->overlapping, tally->checked),
		results->operations, results->versions, results->rounds);
	fputs("  answers    ", out);
	for (int i = 0; i < NOTE_KINDS; i++) {
		if (tally->notes[i])
			fprintf(out, " %s %" PRIu64 ";", note_name((enum note_kind)i),
				tally->notes[i]);
	}
	fprintf(out, " %" PRIu64 " lookups were made\n", tally->lookups);
	fputs("  operations ", out);
	for (int i = ACTION_READS; i < ACTIONS; i++) {
		if (tally->actions[i])
			fprintf(out, " %s %" PRIu64 "/%" PRIu64 ";", action_name((enum action)i),
				tally->done[i], tally->actions[i]);
	}
	fprintf(out, " %" PRIu64 " aborted, %" PRIu64 " published nothing\n", tally->aborted,
		results->effectless);
	if (scenario->hazard)
		fprintf(out, "  hazard      %" PRIu64 " %s\n", tally->hazards,
			scenario->hazard_name);
	if (results->refusals)
		fprintf(out,
			"  refused     %" PRIu64 " backend calls; %" PRIu64
			" operations could not be undone; %" PRIu64 " areas came back\n",
			results->refusals, tally->bad_states, results->returned);
	if (scenario->keeps)
		fprintf(out,
			"  pending     %" PRIu64 " areas; a reader had found %" PRIu64
			" before, %" PRIu64 " operations waited, %" PRIu64
			" of transactions did not; %" PRIu64 " kept their flags\n",
			results->pending, tally->met, results->waited, tally->busy, results->kept);
	fprintf(out,
		"  space       %" PRIu64 " areas, height %" PRIu64 ", %s of nodes; %s waited for "
		"readers at most; %" PRIu64 " grace periods, %" PRIu64 " ms of stalls\n",
		results->stats.areas, results->stats.height,
		figure_bytes(results->stats.bytes_live, size[0]),
		figure_bytes(results->stats.bytes_retired_max, size[1]),
		results->stats.grace_periods, results->stalls);
	fprintf(out, "  mismatches  %" PRIu64 "\n", results->mismatches);
}

void report_add(struct totals *totals, const struct results *results)
{
	totals->scenarios++;
	totals->lookups += results->tally.notes[NOTE_FIND];
	totals->answers += results->tally.checked;
	totals->operations += results->operations;
	totals->versions += results->versions;
	totals->seconds += results->seconds;
}

void report_totals(FILE *out, const struct totals *totals)
{
	fprintf(out,
		"total: %" PRIu64 " scenarios, %.1f s: %" PRIu64 " lookups and %" PRIu64
		" other answers checked against %" PRIu64 " operations (%" PRIu64 " versions)\n",
		totals->scenarios, totals->seconds, totals->lookups,
		totals->answers - totals->lookups, totals->operations, totals->versions);
}

void report_json(FILE *out, const struct options *options, const struct results *results)
{
	const struct scenario *scenario = results->scenario;
	const struct tally *tally = &results->tally;

	fprintf(out, "  {\"scenario\": \"%s\", ", scenario->name);
	fprintf(out,
		"\"backend\": \"%s\", \"readers\": %u, \"writers\": %u, \"seed\": %" PRIu64
		", \"seconds\": %.3f, \"interrupted\": %s,\n",
		backend_name(options->backend), options->readers, options->writers, options->seed,
		results->seconds, results->interrupted ? "true" : "false");
	fprintf(out,
		"    \"checked\": %" PRIu64 ", \"overlapping\": %" PRIu64 ", \"lookups\": %" PRIu64
		", \"operations\": %" PRIu64 ", \"versions\": %" PRIu64 ", \"rounds\": %" PRIu64
		",\n    \"answers\": {",
		tally->checked, tally->overlapping, tally->lookups, results->operations,
		results->versions, results->rounds);
	for (int i = 0; i < NOTE_KINDS; i++)
		fprintf(out, "%s\"%s\": %" PRIu64, i ? ", " : "", note_name((enum note_kind)i),
			tally->notes[i]);
	fputs("},\n    \"actions\": {", out);
	for (int i = 0; i < ACTIONS; i++)
		fprintf(out, "%s\"%s\": [%" PRIu64 ", %" PRIu64 "]", i ? ", " : "",
			action_name((enum action)i), tally->actions[i], tally->done[i]);
	fprintf(out,
		"},\n    \"aborted\": %" PRIu64 ", \"published_nothing\": %" PRIu64
		", \"hazards\": %" PRIu64 ", \"refusals\": %" PRIu64 ", \"bad_states\": %" PRIu64
		", \"returned\": %" PRIu64 ",\n    \"pending\": %" PRIu64 ", \"met\": %" PRIu64
		", \"waited\": %" PRIu64 ", \"busy\": %" PRIu64 ", \"kept\": %" PRIu64 ",\n",
		tally->aborted, results->effectless, tally->hazards, results->refusals,
		tally->bad_states, results->returned, results->pending, tally->met, results->waited,
		tally->busy, results->kept);
	fprintf(out,
		"    \"bytes_retired_max\": %" PRIu64 ", \"grace_periods\": %" PRIu64
		", \"stalled_ms\": %" PRIu64 ", \"mismatches\": %" PRIu64 "}",
		results->stats.bytes_retired_max, results->stats.grace_periods, results->stalls,
		results->mismatches);
}
