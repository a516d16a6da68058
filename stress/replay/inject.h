/* SPDX-License-Identifier: MIT */
/*
 * The controls behind --inject-mismatch: a checker that never finds anything may
 * be one that cannot.
 */
#ifndef REPLAY_INJECT_H
#define REPLAY_INJECT_H

#include "options.h"
#include "stage.h"

/* Falsify a history, for INJECT_HISTORY and INJECT_MODEL. False: nothing fits. */
bool inject_stage(struct stage *stage, enum injection inject);

/* Before the last comparison of `playing`: falsify the space, for INJECT_LIBRARY
 * and INJECT_KERNEL. False: there is nothing to falsify. */
bool inject_end(struct playing *playing, enum injection inject, uint64_t page);

#endif
