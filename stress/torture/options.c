/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"

static const char help[] =
	"usage: torture [OPTION...] [SCENARIO...]\n"
	"\n"
	"Threads work on an address space of libaspace in every way at once and write down what\n"
	"they see and do. Between rounds a checker proves that every answer was that of one\n"
	"published version, not older than what was complete when it was asked for. Without\n"
	"SCENARIO, all scenarios one after the other; --list names them.\n"
	"\n"
	"  -b, --backend=null|mock|host|aarch64  what areas mean: nothing (the default), a page\n"
	"                        table in memory, real memory, AArch64 tables in memory\n"
	"  -r, --readers=N       threads that read; default 2\n"
	"  -w, --writers=N       threads that write; default 2\n"
	"  Each scenario ends when all of these are met, and what it is to provoke has happened:\n"
	"  -s, --seconds=T       so much time; default 5, or 0 with any of the next three\n"
	"  -n, --operations=N    so many operations\n"
	"      --hazards=N       where a scenario has a hazard, so often that\n"
	"      --rounds=N        so many rounds\n"
	"  -S, --seed=N          choose by N; default 1. Not what the scheduler does\n"
	"      --share=N         note one of N lookups; default 1, all\n"
	"      --weight=ACTION=N,... how often a thread does what, in place of the scenario's\n"
	"      --patience=T      a round that lasts so many seconds longer than it should hangs;\n"
	"                        default 600: the machine may have much else to do\n"
	"  -j, --json=FILE       write the summary there too (\"-\": the standard output,\n"
	"                        instead of the text)\n"
	"  -q, --quiet           print nothing but what is wrong\n"
	"  -l, --list            the scenarios, and the actions of --weight\n"
	"      --lie=note|deed|version|memory  one false thing, to see that it is found\n"
	"  -h, --help            this\n"
	"\n"
	"Exit: 0 nothing was wrong, 1 something was, 2 bad usage, 130 ended by ^C (with the\n"
	"summary so far).\n";

enum {
	OPTION_SHARE = 256,
	OPTION_HAZARDS,
	OPTION_ROUNDS,
	OPTION_WEIGHT,
	OPTION_PATIENCE,
	OPTION_LIE,
};

static const struct option long_options[] = {
	{"backend", required_argument, NULL, 'b'},
	{"readers", required_argument, NULL, 'r'},
	{"writers", required_argument, NULL, 'w'},
	{"seconds", required_argument, NULL, 's'},
	{"operations", required_argument, NULL, 'n'},
	{"hazards", required_argument, NULL, OPTION_HAZARDS},
	{"seed", required_argument, NULL, 'S'},
	{"share", required_argument, NULL, OPTION_SHARE},
	{"rounds", required_argument, NULL, OPTION_ROUNDS},
	{"weight", required_argument, NULL, OPTION_WEIGHT},
	{"patience", required_argument, NULL, OPTION_PATIENCE},
	{"json", required_argument, NULL, 'j'},
	{"quiet", no_argument, NULL, 'q'},
	{"list", no_argument, NULL, 'l'},
	{"lie", required_argument, NULL, OPTION_LIE},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static const char *const backends[BACKEND_KINDS] = {"null", "mock", "host", "aarch64"};
static const char *const lies[] = {"", "note", "deed", "version", "memory"};

const char *backend_name(enum backend_kind kind)
{
	return backends[kind];
}

static void list(void)
{
	for (const struct scenario *scenario = scenarios; scenario->name; scenario++)
		printf("%-10s%s\n", scenario->name, scenario->about);
	fputs("\nactions:", stdout);
	for (int action = 0; action < ACTIONS; action++)
		printf(" %s", action_name((enum action)action));
	putchar('\n');
}

/* find=10,map=3 */
static bool read_weights(struct options *options, const char *text)
{
	const char *words[ACTIONS];
	char *copy = strdup(text), *rest = copy, *item;
	bool fine = copy;

	for (int i = 0; i < ACTIONS; i++)
		words[i] = action_name((enum action)i);
	while (fine && (item = strsep(&rest, ",")) != NULL) {
		char *number = strchr(item, '=');
		uint64_t weight = 0;
		int action = 0;

		if (!number) {
			fine = argument_bad("weight", item, "not ACTION=N");
			break;
		}
		*number++ = '\0';
		fine = argument_word("weight", item, words, ACTIONS, &action) &&
		       argument_number("weight", number, 0, 1000000, &weight);
		if (fine)
			options->weights[action] = (int)weight;
	}
	free(copy);
	return fine;
}

static bool read_count(const char *option, uint64_t least, uint64_t most, unsigned *out)
{
	uint64_t number = 0;
	bool fine = argument_number(option, optarg, least, most, &number);

	*out = (unsigned)number;
	return fine;
}

static bool take_option(struct options *options, int key)
{
	int word = 0;
	bool fine;

	switch (key) {
	case 'b':
		fine = argument_word("backend", optarg, backends, BACKEND_KINDS, &word);
		options->backend = (enum backend_kind)word;
		return fine;
	case 'r':
		return read_count("readers", 0, 256, &options->readers);
	case 'w':
		return read_count("writers", 0, 256, &options->writers);
	case 's':
		return argument_seconds("seconds", optarg, &options->seconds);
	case 'n':
		return argument_number("operations", optarg, 0, UINT64_MAX, &options->operations);
	case OPTION_HAZARDS:
		return argument_number("hazards", optarg, 0, UINT64_MAX, &options->hazards);
	case OPTION_ROUNDS:
		return argument_number("rounds", optarg, 0, UINT64_MAX, &options->rounds);
	case 'S':
		return argument_number("seed", optarg, 0, UINT64_MAX, &options->seed);
	case OPTION_SHARE:
		return read_count("share", 1, 1000000, &options->share);
	case OPTION_WEIGHT:
		return read_weights(options, optarg);
	case OPTION_PATIENCE:
		return argument_seconds("patience", optarg, &options->patience);
	case 'j':
		options->json = optarg;
		return true;
	case 'q':
		options->quiet = true;
		return true;
	case OPTION_LIE:
		fine = argument_word("lie", optarg, lies, sizeof(lies) / sizeof(lies[0]), &word);
		options->lie = (enum lie_kind)word;
		return fine;
	default:
		return false; /* getopt has said what is wrong */
	}
}

static bool choose_scenarios(struct options *options, char **names)
{
	size_t count = 0;

	if (!*names) {
		for (; scenarios[count].name; count++)
			options->chosen[count] = &scenarios[count];
		return true;
	}
	for (; *names; names++) {
		const struct scenario *scenario = scenario_find(*names);

		if (!scenario || count == SCENARIOS_MOST) {
			fprintf(stderr, "torture: %s: %s; see --list\n", *names,
				scenario ? "too many scenarios" : "no such scenario");
			return false;
		}
		options->chosen[count++] = scenario;
	}
	return true;
}

bool options_count(const struct options *options)
{
	return options->operations || options->hazards || options->rounds;
}

enum options_result options_parse(struct options *options, int argc, char **argv)
{
	int key;

	*options = (struct options){
		.readers = 2,
		.writers = 2,
		.seconds = -1,
		.seed = 1,
		.share = 1,
		.patience = 600,
	};
	for (int i = 0; i < ACTIONS; i++)
		options->weights[i] = -1;
	while ((key = getopt_long(argc, argv, "b:r:w:s:n:S:j:qlh", long_options, NULL)) != -1) {
		if (key == 'h' || key == 'l') {
			key == 'h' ? (void)fputs(help, stdout) : list();
			return OPTIONS_STOP;
		}
		if (!take_option(options, key))
			return OPTIONS_BAD;
	}
	if (options->seconds < 0)
		options->seconds = options_count(options) ? 0 : 5;
	if (options->readers + options->writers == 0) {
		fputs("torture: no threads; see --help\n", stderr);
		return OPTIONS_BAD;
	}
	return choose_scenarios(options, argv + optind) ? OPTIONS_RUN : OPTIONS_BAD;
}
