/* SPDX-License-Identifier: MIT */
/*
 * The checker: is what was noted the truth?
 *
 * A note is true if there is one version from its first to its last in whose state the
 * answer is right. For what was seen in a view or a snapshot both are the version of the
 * view. With that:
 *  - an answer that no version gives is torn, or of memory that is something else by now;
 *  - one that only a version before `first` gives has missed a completed operation;
 *  - one that only a version after `last` gives comes from the future;
 *  - half of a multi-area operation or of a transaction is a state of no version.
 */
#ifndef TORTURE_CHECK_H
#define TORTURE_CHECK_H

#include "ledger.h"

/* Any number of threads may check at once, between two rounds of the ledger. */
bool check_note(const struct ledger *ledger, const struct note *note, struct lie *lie);

const char *note_name(enum note_kind kind);

#endif
