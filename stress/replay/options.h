/* SPDX-License-Identifier: MIT */
/*
 * The command line.
 */
#ifndef REPLAY_OPTIONS_H
#define REPLAY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "space.h"

/* Controls: one wrong thing each, which the replay must find (exit 1). */
enum injection {
	INJECT_NOTHING,
	INJECT_HISTORY, /* one area that readers expect, gone again before the end */
	INJECT_MODEL,   /* one area that the comparison at the end expects */
	INJECT_LIBRARY, /* one page is unmapped that no call has unmapped */
	INJECT_KERNEL,  /* one page is protected behind the library's back */
};

struct options {
	enum backend_kind backend;
	unsigned readers;
	uint64_t repeat;   /* passes, at least */
	double seconds;    /* and for at least so long */
	uint64_t overlaps; /* and until so many looks overlapped an operation */
	uint64_t seed;
	uint64_t page;
	const char *json; /* path, "-" for the standard output, or NULL */
	bool time;        /* what the library costs beside the kernel, instead of answers */
	bool lenient;     /* skip what is not strace's */
	bool brief;       /* a few lines for each trace */
	bool quiet;
	bool record;
	const char *save; /* where a recorded trace is kept, or NULL */
	enum injection inject;
	char **operands; /* traces, or the program with --record; ends with NULL */
	int operands_count;
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_STOP, /* --help was asked for and given */
	OPTIONS_BAD,  /* and it was said why */
};

enum options_result options_parse(struct options *options, int argc, char **argv);

const char *backend_name(enum backend_kind kind);
const char *injection_name(enum injection inject);

#endif
