/* SPDX-License-Identifier: MIT */
/*
 * The version that says what stands after a commit that could not be undone: truth.c.
 */
#ifndef ASPACE_UPDATE_TRUTH_H
#define ASPACE_UPDATE_TRUTH_H

#include "update/plan.h"

/* Before the first change: takes what telling may take. False: there is no memory for it. */
bool asp_truth_provide(struct asp_plan *plan);
/* The plan's edit becomes one of the version before. What the plan had is there again. */
void asp_truth_begin(struct asp_plan *plan);
/* Does what is in the pools do for a truth in which any of the swept areas are gone? */
bool asp_truth_can_tell_any(const struct asp_plan *plan, size_t areas);
/* Publishes the version before plus the changes that stand. After a sweep the truth has begun. */
void asp_truth_tell(struct asp_plan *plan);

#endif
