/* SPDX-License-Identifier: MIT */
/*
 * The command line.
 */
#ifndef TORTURE_OPTIONS_H
#define TORTURE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "scenario.h"
#include "witness.h"

/* Controls: one false thing each, which the checker must find (exit 1). */
enum lie_kind {
	LIE_NONE,
	LIE_NOTE,    /* an answer that no version gives */
	LIE_DEED,    /* an operation did more than it did */
	LIE_VERSION, /* an operation published another version */
	LIE_MEMORY,  /* the backend's memory is not what the space shows */
};

enum {
	SCENARIOS_MOST = 64,
};

struct options {
	const struct scenario *chosen[SCENARIOS_MOST + 1]; /* ends with NULL */
	enum backend_kind backend;
	unsigned readers, writers;
	double seconds;      /* for each scenario, at least */
	uint64_t operations; /* and so many of these */
	uint64_t hazards;    /* and, where there is one, so often the hazard */
	uint64_t rounds;     /* and so many of these */
	uint64_t seed;
	unsigned share;
	int weights[ACTIONS]; /* -1: the scenario's */
	double patience;
	const char *json; /* path, "-" for the standard output, or NULL */
	bool quiet;
	enum lie_kind lie;
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_STOP, /* --help or --list was asked for and given */
	OPTIONS_BAD,  /* and it was said why */
};

enum options_result options_parse(struct options *options, int argc, char **argv);

/* Is there a count to be met, so that the time alone does not end a scenario? */
bool options_count(const struct options *options);

const char *backend_name(enum backend_kind kind);

#endif
