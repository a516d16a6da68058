/* SPDX-License-Identifier: MIT */
/*
 * From deeds to the history of a space, one round after the other.
 *
 * Versions are numbered without a hole, so the deeds of a round, in the order of the
 * versions that they say they have published, must be the round: none missing, none twice,
 * each published after it began and before it ended. Each must have been possible in the
 * version before.
 *
 * Loose deeds get what versions the others have left over: one each, or none if there was
 * nothing to do for them.
 */
#ifndef TORTURE_LEDGER_H
#define TORTURE_LEDGER_H

#include "log.h"

struct ledger {
	/* Time t is version base + t. */
	struct history history;
	uint64_t base;
	/* For each version of the round, the deed that published it. */
	const struct deed **makers;
	size_t makers_count, makers_capacity;
	const struct deed **unsure;
	size_t unsure_count, unsure_capacity;
	struct deed **loose;
	size_t loose_count, loose_capacity;
	/* For each version from base on, how many areas it has. */
	uint32_t *counts;
	size_t counts_capacity;
	/* The address of offset 0: alignment is of addresses. May be set after
	 * ledger_begin(), as may history.apart. */
	uint64_t origin;
	/* Over all rounds: versions accounted for, and deeds that rightly published none. */
	uint64_t versions, effectless;
};

/* Why an answer or a deed cannot be. */
struct lie {
	char reason[240];
};

/* A space of `size` bytes whose version `base` is empty. */
void ledger_begin(struct ledger *ledger, uint64_t size, uint64_t base);
/*
 * The next round: the deeds in `logs` have led from the version that the last round ended
 * with to `newest`. False: they cannot have; `lie` says why. Afterwards
 * the round's notes can be checked (check.h).
 */
bool ledger_round(struct ledger *ledger, const struct deeds *const *logs, size_t count,
		  uint64_t newest, struct lie *lie);
void ledger_free(struct ledger *ledger);

const char *deed_name(enum deed_kind kind);

#endif
