/* SPDX-License-Identifier: MIT */
/*
 * Random operation sequences against the model of engine.c.
 *
 *   model [--seed N] [--config N] [--operations N] [--rounds N]
 *
 * Each round draws a seed and runs every configuration with it. A failure prints the
 * seed and the configuration that show it again. Exit: 0, or abort.
 */
#include "engine.h"

#include <aspace/aspace.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint32_t draw_random(struct source *source, uint32_t n)
{
	/* splitmix64, public domain by S. Vigna */
	uint64_t z = source->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)(((z ^ (z >> 31)) >> 32) * n >> 32);
}

/* Every mode at the bottom of the 64-bit space, across its middle and at its top, with and
 * without user objects and refusals. */
static const unsigned modes[] = {
	0,
	ASPACE_NEVER_MERGE,
	ASPACE_ALWAYS_STRICT,
	ASPACE_GRACE_UNMAP,
	ASPACE_GRACE_UNMAP | ASPACE_NEVER_MERGE,
	ASPACE_GRACE_UNMAP | ASPACE_ALWAYS_STRICT,
};
enum { MODES = sizeof(modes) / sizeof(modes[0]), BASES = 3, CROSSED = MODES * BASES * 4 };

/* And a few more. */
#define TOP_PAGES (UINT64_C(0) - 4096 * UINT64_C(129))
static const struct config others[] = {
	{.cells = 24, .unit = 1, .base = 0, .check_every = 1},
	{.cells = 64, .unit = 4096, .base = 0x10000000000, .check_every = 1},
	{.cells = 64, .unit = 4096, .base = 0x7fff0000, .users = true, .check_every = 1},
	{.cells = 128, .unit = 4096, .base = TOP_PAGES, .check_every = 1},
	{.cells = 64, .unit = 4096, .base = 0, .mode = ASPACE_GRACE_UNMAP, .check_every = 1},
	{.cells = 2000,
	 .unit = 4096,
	 .base = 0x100000,
	 .users = true,
	 .refusals = true,
	 .check_every = 101},
	{.cells = 3000,
	 .unit = 4096,
	 .base = 0x100000,
	 .mode = ASPACE_GRACE_UNMAP,
	 .users = true,
	 .full = true,
	 .check_every = 101},
	{.cells = 3000,
	 .unit = 4096,
	 .base = 0x100000,
	 .mode = ASPACE_GRACE_UNMAP | ASPACE_NEVER_MERGE,
	 .users = true,
	 .refusals = true,
	 .full = true,
	 .check_every = 101},
	{.cells = 20000, .unit = 4096, .base = 0x100000, .check_every = 1009},
};

enum { CONFIGS = CROSSED + sizeof(others) / sizeof(others[0]) };

static struct config config_of(unsigned number)
{
	unsigned rest = number;
	struct config config = {.cells = 96, .unit = 1, .check_every = 1};
	const uint64_t bases[BASES] = {0, (UINT64_C(1) << 63) - 48, UINT64_MAX - config.cells};

	if (number >= CROSSED)
		return others[number - CROSSED];
	config.users = rest % 2;
	rest /= 2;
	config.refusals = rest % 2;
	rest /= 2;
	config.base = bases[rest % BASES];
	config.mode = modes[rest / BASES];
	return config;
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: model [--seed N] [--config N] [--operations N] [--rounds N]\n"
		"Random operations on address spaces, checked against an array.\n"
		"  --seed N        begin with this seed (default: from the clock, printed)\n"
		"  --config N      only this configuration, 0 to %d\n"
		"  --operations N  operations a configuration (default 10000)\n"
		"  --rounds N      seeds, one after the other (default 1)\n",
		CONFIGS - 1);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"config", required_argument, NULL, 'c'},
		{"operations", required_argument, NULL, 'o'},
		{"rounds", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	uint64_t seed = (uint64_t)time(NULL), operations = 10000, rounds = 1;
	long only = -1;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			only = strtol(optarg, NULL, 0);
			break;
		case 'o':
			operations = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			rounds = strtoull(optarg, NULL, 0);
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind != argc || only >= CONFIGS) {
		usage(stderr);
		return 2;
	}

	struct tally tally = {0};

	printf("model: seed %llu, %llu rounds of %llu operations\n", (unsigned long long)seed,
	       (unsigned long long)rounds, (unsigned long long)operations);
	for (uint64_t round = 0; round < rounds; round++, seed++) {
		for (long i = 0; i < CONFIGS; i++) {
			struct config config = config_of((unsigned)i);
			struct source source = {.draw = draw_random,
						.state = seed * CONFIGS + (uint64_t)i};
			char label[128];

			if (only >= 0 && i != only)
				continue;
			/* Where leaving areas are held up, most of the time goes into waiting
			 * for grace periods. */
			config.operations = operations;
			if (config.refusals && (config.mode & ASPACE_GRACE_UNMAP))
				config.operations = operations / 4 + 1;
			snprintf(label, sizeof(label),
				 "model --seed %llu --config %ld --operations %llu",
				 (unsigned long long)seed, i, (unsigned long long)operations);
			model_run(&config, &source, label, &tally);
		}
	}
	printf("%llu operations, %llu full checks (small spaces: after each; 2,000 cells and more: "
	       "every "
	       "101; 20,000: every 1,009)\n"
	       "%llu commits, %llu snapshots, %llu gap searches, %llu refusals, %llu bad states, "
	       "%llu bad inputs, %llu pieces advised, %llu advices stopped half way, "
	       "%llu areas came back, %llu of them with their flags, %llu cells pending, "
	       "%llu merges of different objects, %llu guests, %llu of them behind another, %llu "
	       "served by that, %llu operations waited for them, %llu were told so, %llu passed, "
	       "references "
	       "counted %llu times beside snapshots, height up to %llu, where areas leave %llu\n",
	       (unsigned long long)tally.operations, (unsigned long long)tally.checks,
	       (unsigned long long)tally.commits, (unsigned long long)tally.snapshots,
	       (unsigned long long)tally.gap_searches, (unsigned long long)tally.refused,
	       (unsigned long long)tally.bad_states, (unsigned long long)tally.invalid,
	       (unsigned long long)tally.advised, (unsigned long long)tally.advice_stops,
	       (unsigned long long)tally.came_back, (unsigned long long)tally.kept_flags,
	       (unsigned long long)tally.pending, (unsigned long long)tally.merges,
	       (unsigned long long)tally.guests, (unsigned long long)tally.queued,
	       (unsigned long long)tally.served, (unsigned long long)tally.waited,
	       (unsigned long long)tally.told_busy, (unsigned long long)tally.passed,
	       (unsigned long long)tally.counted_beside_snapshots, (unsigned long long)tally.height,
	       (unsigned long long)tally.grace_height);
	/* Whatever is meant to happen has happened. */
	if (only < 0 && operations >= 5000 &&
	    !(tally.commits && tally.snapshots && tally.gap_searches && tally.refused &&
	      tally.bad_states && tally.invalid && tally.advised && tally.advice_stops &&
	      tally.came_back && tally.kept_flags && tally.pending && tally.merges &&
	      tally.counted_beside_snapshots && tally.grace_height >= 3 && tally.guests &&
	      tally.queued && tally.served && tally.waited && tally.told_busy && tally.passed)) {
		fprintf(stderr, "model: something that should have happened did not\n");
		return 1;
	}
	return 0;
}
