/* SPDX-License-Identifier: MIT */
/*
 * One trace, played from its first call to its last as often as was asked for,
 * with readers beside it, and what came of it.
 */
#ifndef REPLAY_RUN_H
#define REPLAY_RUN_H

#include "crew.h"
#include "options.h"

struct results {
	uint64_t passes;                        /* begun */
	uint64_t steps[STEP_KINDS];             /* done, over all passes */
	struct histogram latencies[STEP_KINDS]; /* of the operations */
	struct histogram operations;            /* of all of them */
	struct histogram lookups;
	struct crew_sum readers;
	uint64_t mismatches;    /* of readers and of comparisons */
	uint64_t comparisons;   /* of whole spaces, at their ends */
	uint64_t walked;        /* operations after which tables were walked */
	uint64_t walked_wholly; /* of these, all of them */
	double seconds;
	bool interrupted;
	bool failed;    /* the library refused a step, or a space could not be made */
	bool no_memory; /* for want of memory, which is no mismatch */
	bool injected;  /* what --inject-mismatch asks for has been done */

	/* The spaces at their ends, in the first pass. */
	size_t areas;               /* of all together */
	size_t most_areas;          /* in one space at any time */
	size_t last_areas;          /* in the space that had the most, at its end */
	struct aspace_stats stats;  /* of the space that had the most areas, at its end */
	uint64_t bytes_retired_max; /* in any space */
	uint64_t versions;          /* over all passes */
};

/* Set by the handler of ^C. */
extern _Atomic bool run_interrupted;

/* Play. False if it could not even begin; it was said why. */
bool run_play(const struct options *options, const char *name, struct stage *stage,
	      struct results *results);

#endif
