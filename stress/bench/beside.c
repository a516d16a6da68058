/* SPDX-License-Identifier: MIT */
/*
 * bench-beside: what faults, advice and maps cost each other, measured beside what the kernel's own
 * ways cost in the same run.
 *
 *     measure.h     what is measured
 *     here          rounds, figures, ratios and what was to be reached
 *
 * A round takes each figure once, and begins with another one each time. Ratios are taken within a
 * round; shown is the median of the rounds with the least and the greatest.
 */
#define _GNU_SOURCE /* getloadavg() */
#include <aspace/aspace.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "arguments.h"
#include "bench/beside/measure.h"
#include "figures.h"
#include "output.h"
#include "progress.h"

#define ROUNDS_MAX 101

static const char help[] =
	"usage: bench-beside [OPTION...]\n"
	"\n"
	"Measures what holds whom up: faults and advice in a backend that sleeps, two threads "
	"that\n"
	"populate memory, small maps beside a large purge; through libaspace, and by the "
	"kernel's\n"
	"own ways in the same run. Nothing else should run.\n"
	"\n"
	"  -r, --rounds=N        take each figure so often; default 9\n"
	"  -Q, --quick           one round of little work: that it runs, not how fast\n"
	"  -o, --only=TEXT       figures whose names begin so, and the ratios that they suffice "
	"for\n"
	"      --calls=N         each thread's calls to the backend that sleeps; default 100\n"
	"      --populate=MIB    default 256\n"
	"      --purge=MIB       default 512\n"
	"      --check           exit with 3 if a ratio is not what was to be reached\n"
	"  -j, --json=FILE       write all figures there too (\"-\": the standard output,\n"
	"                        instead of the text)\n"
	"  -q, --quiet           print nothing but what is wrong\n"
	"  -h, --help            this\n"
	"\n"
	"Exit: 0 it was measured, 1 something went wrong, 2 bad usage, 3 see --check, 130 ended "
	"by\n"
	"^C (with the rounds that are complete).\n";

enum {
	FAULT_1,
	FAULT_8,
	FAULT_1_WRITER,
	FAULT_8_WRITER,
	ADVISE_1,
	ADVISE_8,
	TOUCH_1,
	TOUCH_2,
	MADVISE_PAGES_1,
	MADVISE_PAGES_2,
	FAULT_PAGES_1,
	FAULT_PAGES_2,
	ADVISE_PAGES_1,
	ADVISE_PAGES_2,
	MADVISE_WHOLE_1,
	MADVISE_WHOLE_2,
	ADVISE_WHOLE_1,
	ADVISE_WHOLE_2,
	BESIDE_MADVISE,
	BESIDE_MUNMAP,
	BESIDE_ADVISE,
	BESIDE_DECOMMIT,
	BESIDE_UNMAP,
	FIGURES
};

static const struct figure {
	const char *name;
	double (*take)(unsigned how, unsigned threads, const struct sizes *sizes);
	unsigned how, threads;
} figures[FIGURES] = {
	[FAULT_1] = {"sleep: fault, 1 thread", sleep_time, SLEEP_FAULT, 1},
	[FAULT_8] = {"sleep: fault, 8 threads", sleep_time, SLEEP_FAULT, 8},
	[FAULT_1_WRITER] = {"sleep: fault beside a writer, 1 thread", sleep_time,
			    SLEEP_FAULT_BESIDE_WRITER, 1},
	[FAULT_8_WRITER] = {"sleep: fault beside a writer, 8 threads", sleep_time,
			    SLEEP_FAULT_BESIDE_WRITER, 8},
	[ADVISE_1] = {"sleep: advise, 1 thread", sleep_time, SLEEP_ADVISE, 1},
	[ADVISE_8] = {"sleep: advise, 8 threads", sleep_time, SLEEP_ADVISE, 8},
	[TOUCH_1] = {"populate: touching, 1 thread", populate_time, POPULATE_TOUCH, 1},
	[TOUCH_2] = {"populate: touching, 2 threads", populate_time, POPULATE_TOUCH, 2},
	[MADVISE_PAGES_1] = {"populate: madvise by page, 1 thread", populate_time,
			     POPULATE_MADVISE_PAGES, 1},
	[MADVISE_PAGES_2] = {"populate: madvise by page, 2 threads", populate_time,
			     POPULATE_MADVISE_PAGES, 2},
	[FAULT_PAGES_1] = {"populate: aspace_fault, 1 thread", populate_time, POPULATE_FAULT_PAGES,
			   1},
	[FAULT_PAGES_2] = {"populate: aspace_fault, 2 threads", populate_time, POPULATE_FAULT_PAGES,
			   2},
	[ADVISE_PAGES_1] = {"populate: aspace_advise by page, 1 thread", populate_time,
			    POPULATE_ADVISE_PAGES, 1},
	[ADVISE_PAGES_2] = {"populate: aspace_advise by page, 2 threads", populate_time,
			    POPULATE_ADVISE_PAGES, 2},
	[MADVISE_WHOLE_1] = {"populate: madvise at once, 1 thread", populate_time, POPULATE_MADVISE,
			     1},
	[MADVISE_WHOLE_2] = {"populate: madvise at once, 2 threads", populate_time,
			     POPULATE_MADVISE, 2},
	[ADVISE_WHOLE_1] = {"populate: aspace_advise at once, 1 thread", populate_time,
			    POPULATE_ADVISE, 1},
	[ADVISE_WHOLE_2] = {"populate: aspace_advise at once, 2 threads", populate_time,
			    POPULATE_ADVISE, 2},
	[BESIDE_MADVISE] = {"purge: longest mmap beside madvise", purge_longest, PURGE_MADVISE, 2},
	[BESIDE_MUNMAP] = {"purge: longest mmap beside munmap", purge_longest, PURGE_MUNMAP, 2},
	[BESIDE_ADVISE] = {"purge: longest map beside aspace_advise", purge_longest, PURGE_ADVISE,
			   2},
	[BESIDE_DECOMMIT] = {"purge: longest map beside decommitting", purge_longest,
			     PURGE_DECOMMIT, 2},
	[BESIDE_UNMAP] = {"purge: longest map beside aspace_unmap", purge_longest, PURGE_UNMAP, 2},
};

/* of / by, or (of / by) / (than / thans): what the library gains / what the kernel's way gains. */
static const struct ratio {
	const char *name;
	int of, by, than, thans; /* than < 0: none */
	bool at_most;
	double limit; /* 0: only shown */
} ratios[] = {
	{"fault sleeps: 8 threads / 1", FAULT_8, FAULT_1, -1, -1, true, 1.1},
	{"the same beside a writer", FAULT_8_WRITER, FAULT_1_WRITER, -1, -1, true, 1.1},
	{"advise sleeps: 8 threads / 1", ADVISE_8, ADVISE_1, -1, -1, true, 1.1},
	{"second CPU's gain: touching", TOUCH_1, TOUCH_2, -1, -1, false, 0},
	{"second CPU's gain: madvise by page", MADVISE_PAGES_1, MADVISE_PAGES_2, -1, -1, false, 0},
	{"second CPU's gain: aspace_fault", FAULT_PAGES_1, FAULT_PAGES_2, -1, -1, false, 0},
	{"gain of aspace_fault / of touching", FAULT_PAGES_1, FAULT_PAGES_2, TOUCH_1, TOUCH_2,
	 false, 0.9},
	{"gain of aspace_fault / of madvise by page", FAULT_PAGES_1, FAULT_PAGES_2, MADVISE_PAGES_1,
	 MADVISE_PAGES_2, false, 0.9},
	{"gain of aspace_advise / of madvise, by page", ADVISE_PAGES_1, ADVISE_PAGES_2,
	 MADVISE_PAGES_1, MADVISE_PAGES_2, false, 0.9},
	{"second CPU's gain: madvise at once", MADVISE_WHOLE_1, MADVISE_WHOLE_2, -1, -1, false, 0},
	{"gain of aspace_advise / of madvise, at once", ADVISE_WHOLE_1, ADVISE_WHOLE_2,
	 MADVISE_WHOLE_1, MADVISE_WHOLE_2, false, 0.9},
	{"aspace_fault's time / madvise's by page, 1 thread", FAULT_PAGES_1, MADVISE_PAGES_1, -1,
	 -1, false, 0},
	{"longest map: beside advice that drops / madvise", BESIDE_ADVISE, BESIDE_MADVISE, -1, -1,
	 true, 2},
	{"longest map: beside decommitting / madvise", BESIDE_DECOMMIT, BESIDE_MADVISE, -1, -1,
	 true, 2},
	{"longest map: beside aspace_unmap / munmap", BESIDE_UNMAP, BESIDE_MUNMAP, -1, -1, true, 2},
	{"longest map: beside aspace_unmap / madvise", BESIDE_UNMAP, BESIDE_MADVISE, -1, -1, false,
	 0},
};

#define RATIOS (sizeof(ratios) / sizeof(ratios[0]))

enum { EXIT_FINE = 0, EXIT_BAD = 2, EXIT_MISSED = 3, EXIT_INTERRUPTED = 130 };

static struct {
	uint64_t rounds;
	const char *only, *json;
	bool check, quiet;
	struct sizes sizes;
} options = {
	.rounds = 9,
	.only = "",
	.sizes = {.calls = 100, .populate = UINT64_C(256) << 20, .purge = UINT64_C(512) << 20},
};

static double taken[FIGURES][ROUNDS_MAX];
static unsigned rounds; /* that are complete */
static _Atomic bool interrupted;

/* ---- Options --------------------------------------------------------------------------- */

enum { OPTION_CALLS = 256, OPTION_POPULATE, OPTION_PURGE, OPTION_CHECK };

static const struct option long_options[] = {
	{"rounds", required_argument, NULL, 'r'},
	{"quick", no_argument, NULL, 'Q'},
	{"only", required_argument, NULL, 'o'},
	{"calls", required_argument, NULL, OPTION_CALLS},
	{"populate", required_argument, NULL, OPTION_POPULATE},
	{"purge", required_argument, NULL, OPTION_PURGE},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"json", required_argument, NULL, 'j'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static bool read_mib(const char *option, uint64_t *bytes)
{
	uint64_t mib;

	if (!argument_number(option, optarg, 1, 4096, &mib))
		return false;
	*bytes = mib << 20;
	return true;
}

/* False: bad usage, and it was said. */
static bool read_option(int option)
{
	uint64_t number = 0;

	switch (option) {
	case 'r':
		return argument_number("rounds", optarg, 1, ROUNDS_MAX, &options.rounds);
	case 'Q':
		options.rounds = 1;
		options.sizes = (struct sizes){
			.calls = 5, .populate = UINT64_C(2) << 20, .purge = UINT64_C(4) << 20};
		return true;
	case 'o':
		options.only = optarg;
		return true;
	case OPTION_CALLS:
		if (!argument_number("calls", optarg, 1, 100000, &number))
			return false;
		options.sizes.calls = (unsigned)number;
		return true;
	case OPTION_POPULATE:
		return read_mib("populate", &options.sizes.populate);
	case OPTION_PURGE:
		return read_mib("purge", &options.sizes.purge);
	case OPTION_CHECK:
		options.check = true;
		return true;
	case 'j':
		options.json = optarg;
		return true;
	case 'q':
		options.quiet = true;
		return true;
	default:
		return false;
	}
}

/* ---- Rounds ------------------------------------------------------------------------------ */

static bool is_wanted(int figure)
{
	return !strncmp(figures[figure].name, options.only, strlen(options.only));
}

static void on_interrupt(int number)
{
	(void)number;
	atomic_store(&interrupted, true);
}

static void take_round(struct progress *progress)
{
	for (unsigned n = 0; n < FIGURES && !atomic_load(&interrupted); n++) {
		int figure = (int)((n + 5 * rounds) % FIGURES);
		const struct figure *f = &figures[figure];
		char text[100];

		if (!is_wanted(figure))
			continue;
		snprintf(text, sizeof(text), "round %u of %llu: %s", rounds + 1,
			 (unsigned long long)options.rounds, f->name);
		progress_show(progress, text);
		taken[figure][rounds] = f->take(f->how, f->threads, &options.sizes);
	}
}

/* ---- Figures ------------------------------------------------------------------------------- */

struct spread {
	double least, median, greatest;
};

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static struct spread spread_of(const double *values)
{
	double sorted[ROUNDS_MAX];

	memcpy(sorted, values, rounds * sizeof(*values));
	qsort(sorted, rounds, sizeof(*sorted), compare);
	return (struct spread){sorted[0], (sorted[(rounds - 1) / 2] + sorted[rounds / 2]) / 2,
			       sorted[rounds - 1]};
}

/* False: a figure was not taken. */
static bool take_ratio(const struct ratio *ratio, struct spread *spread)
{
	double values[ROUNDS_MAX];

	if (!is_wanted(ratio->of) || !is_wanted(ratio->by))
		return false;
	if (ratio->than >= 0 && (!is_wanted(ratio->than) || !is_wanted(ratio->thans)))
		return false;
	for (unsigned i = 0; i < rounds; i++) {
		values[i] = taken[ratio->of][i] / taken[ratio->by][i];
		if (ratio->than >= 0)
			values[i] /= taken[ratio->than][i] / taken[ratio->thans][i];
	}
	*spread = spread_of(values);
	return true;
}

static bool is_reached(const struct ratio *ratio, double median)
{
	return !ratio->limit || (ratio->at_most ? median <= ratio->limit : median >= ratio->limit);
}

static void cpu_model(char *model, size_t size)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[200];

	snprintf(model, size, "unknown processor");
	while (file && fgets(line, sizeof(line), file)) {
		char *value = strstr(line, ": ");

		if (!value || strncmp(line, "model name", 10) != 0)
			continue;
		value[strcspn(value, "\n")] = '\0';
		snprintf(model, size, "%s", value + 2);
		break;
	}
	if (file)
		fclose(file);
}

struct place {
	char date[40], model[200];
	struct utsname kernel;
	double load;
};

static void look_around(struct place *place)
{
	time_t seconds = time(NULL);
	struct tm utc;

	strftime(place->date, sizeof(place->date), "%Y-%m-%d %H:%M UTC", gmtime_r(&seconds, &utc));
	cpu_model(place->model, sizeof(place->model));
	uname(&place->kernel);
	if (getloadavg(&place->load, 1) != 1)
		place->load = -1;
}

/* As docs/performance.md has it. */
static void print_text(FILE *out, const struct place *place)
{
	char populate[32], purge[32];
	struct spread s;

	fprintf(out, "Measured on %s: %u rounds. Medians, least .. greatest in parentheses.\n\n",
		place->date, rounds);
	fprintf(out, "- %s, %u CPUs, %s %s, load before %.1f\n", place->model, cpu_count(),
		place->kernel.sysname, place->kernel.release, place->load);
	fprintf(out, "- %u calls of a thread, %s populated, %s purged\n\n", options.sizes.calls,
		figure_bytes(options.sizes.populate, populate),
		figure_bytes(options.sizes.purge, purge));
	fprintf(out, "| figure | ms |\n|---|--:|\n");
	for (int i = 0; i < FIGURES; i++) {
		if (!is_wanted(i))
			continue;
		s = spread_of(taken[i]);
		fprintf(out, "| %s | %.3g (%.3g .. %.3g) |\n", figures[i].name, s.median * 1e3,
			s.least * 1e3, s.greatest * 1e3);
	}
	fprintf(out, "\n| what | target | reached |  |\n|---|--:|--:|---|\n");
	for (size_t i = 0; i < RATIOS; i++) {
		const struct ratio *ratio = &ratios[i];

		if (!take_ratio(ratio, &s))
			continue;
		fprintf(out, "| %s | ", ratio->name);
		if (ratio->limit)
			fprintf(out, "at %s %g", ratio->at_most ? "most" : "least", ratio->limit);
		fprintf(out, " | %.3g (%.3g .. %.3g) | %s |\n", s.median, s.least, s.greatest,
			!ratio->limit                 ? ""
			: is_reached(ratio, s.median) ? "yes"
						      : "**no**");
	}
}

static void print_json(FILE *out, const struct place *place)
{
	bool first = true;
	struct spread s;

	fprintf(out, "{\"date\": \"%s\", \"processor\": ", place->date);
	figure_string(out, place->model);
	fprintf(out, ", \"cpus\": %u, \"kernel\": ", cpu_count());
	figure_string(out, place->kernel.release);
	fprintf(out, ", \"load\": %.2f, \"rounds\": %u, \"seconds\": {", place->load, rounds);
	for (int i = 0; i < FIGURES; i++) {
		if (!is_wanted(i))
			continue;
		fprintf(out, "%s\n\"%s\": [", first ? "" : ",", figures[i].name);
		first = false;
		for (unsigned n = 0; n < rounds; n++)
			fprintf(out, "%s%.9g", n ? ", " : "", taken[i][n]);
		fputc(']', out);
	}
	fputs("},\n\"ratios\": {", out);
	first = true;
	for (size_t i = 0; i < RATIOS; i++) {
		if (!take_ratio(&ratios[i], &s))
			continue;
		fprintf(out, "%s\n\"%s\": {\"median\": %.6g, \"least\": %.6g, \"greatest\": %.6g",
			first ? "" : ",", ratios[i].name, s.median, s.least, s.greatest);
		if (ratios[i].limit)
			fprintf(out, ", \"%s\": %g, \"reached\": %s",
				ratios[i].at_most ? "at_most" : "at_least", ratios[i].limit,
				is_reached(&ratios[i], s.median) ? "true" : "false");
		fputc('}', out);
		first = false;
	}
	fputs("}}", out);
}

static bool all_reached(void)
{
	struct spread s;

	for (size_t i = 0; i < RATIOS; i++) {
		if (take_ratio(&ratios[i], &s) && !is_reached(&ratios[i], s.median))
			return false;
	}
	return true;
}

static int measure(struct output *output, const struct place *place)
{
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
	struct progress progress;

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	progress_begin(&progress, options.quiet);
	while (rounds < options.rounds) {
		take_round(&progress);
		if (atomic_load(&interrupted))
			break;
		rounds++;
	}
	progress_end(&progress);
	if (rounds) {
		if (output->text)
			print_text(output->text, place);
		if (output_next(output))
			print_json(output->json, place);
	}
	if (atomic_load(&interrupted))
		return EXIT_INTERRUPTED;
	return options.check && !all_reached() ? EXIT_MISSED : EXIT_FINE;
}

int main(int argc, char **argv)
{
	struct output output;
	struct place place;
	bool any = false;
	int option, result;

	while ((option = getopt_long(argc, argv, "r:Qo:j:qh", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return EXIT_FINE;
		}
		if (!read_option(option))
			return EXIT_BAD;
	}
	for (int i = 0; i < FIGURES; i++)
		any |= is_wanted(i);
	if (optind < argc || !any) {
		fprintf(stderr, "bench-beside: %s: %s; see --help\n",
			any ? argv[optind] : options.only,
			any ? "there are only options" : "no figure's name begins so");
		return EXIT_BAD;
	}
	if (!output_open(&output, "bench-beside", options.json, options.quiet))
		return EXIT_BAD;
	look_around(&place);
	result = measure(&output, &place);
	if (!output_close(&output))
		return EXIT_FINE == result ? 1 : result;
	return result;
}
