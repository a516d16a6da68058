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
 *
 * Deferred deeds, of what was leaving or pending, know the version that they would publish. Those that only
 * make backends hold what is shown already publish it only where areas merge by that; else what they
 * did is there in that version, whoever makes it.
 */
#ifndef TORTURE_LEDGER_H
#define TORTURE_LEDGER_H

#include "log.h"

/* As a backend's `loses`. */
typedef unsigned ledger_loses(void *ctx, uint64_t from, uint64_t to, uint64_t *meanwhile);

enum {
	LEDGER_PASTS = 64,
};

/* [start, end) was pending from version `from` on, up to `until`. */
struct ledger_past {
	uint64_t start, end, from, until;
};

struct ledger {
	/* Time t is version base + t. */
	struct history history;
	uint64_t base;
	/* For each version of the round, the deed that published it, and those that were deferred and
	 * done just before it, or by it. */
	const struct deed **makers, **late;
	size_t makers_count, makers_capacity, late_capacity;
	struct deed **unsure;
	size_t unsure_count, unsure_capacity;
	struct deed **loose;
	size_t loose_count, loose_capacity;
	/* For each version from base on, how many areas it has. */
	uint32_t *counts;
	size_t counts_capacity;
	/* The address of offset 0: alignment is of addresses. May be set after
	 * ledger_begin(), as may history.apart. */
	uint64_t origin;
	/* Protects that take something away are deferred: does this one? May be set after
	 * ledger_begin(). */
	ledger_loses *loses;
	void *loses_ctx;
	/* The last areas that were pending. */
	struct ledger_past pasts[LEDGER_PASTS];
	/* Over all rounds: versions accounted for, and deeds that rightly published none; areas that were
	 * pending, those of them that have kept their flags, and deeds that came while they were and
	 * were done when they no longer were. */
	uint64_t versions, effectless, pending, kept, waited;
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
