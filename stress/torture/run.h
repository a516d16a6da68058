/* SPDX-License-Identifier: MIT */
/*
 * One scenario, from its first round to its last, and what came of it.
 *
 * A round: all threads work until one has filled its notes. Then they stand still; the
 * ledger makes the round's history of their deeds; the areas that are there are compared
 * with it; and each thread checks its own notes against it. So memory is bounded,
 * however long it goes on.
 */
#ifndef TORTURE_RUN_H
#define TORTURE_RUN_H

#include "options.h"
#include "worker.h"

struct results {
	const struct scenario *scenario;
	struct tally tally; /* of all threads */
	uint64_t rounds, versions, effectless;
	uint64_t operations; /* that changed the space */
	uint64_t refusals, returned, stalls;
	uint64_t pending, kept, waited; /* as the ledger has them */
	uint64_t mismatches;
	double seconds;
	bool interrupted;
	struct aspace_stats stats;
};

/* Set by the handler of ^C. */
extern _Atomic bool run_interrupted;

/* Play. False if it could not even begin; it was said why. */
bool run_scenario(const struct options *options, const struct scenario *scenario,
		  struct results *results);

#endif
