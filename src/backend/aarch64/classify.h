/* SPDX-License-Identifier: MIT */
/*
 * What does it take to change one descriptor into another? A pure function.
 */
#ifndef ASPACE_AARCH64_CLASSIFY_H
#define ASPACE_AARCH64_CLASSIFY_H

#include "descriptor.h"

enum asp_a64_action {
	ASP_A64_NOTHING,          /* they are equal */
	ASP_A64_STORE,            /* no TLB can hold what the old one said */
	ASP_A64_STORE_INVALIDATE, /* store, then invalidate: in between, old or new holds */
	ASP_A64_BREAK,            /* break-before-make */
};

/*
 * From `old` to `next`, both at `level`, with the configuration's regime, BBM level and
 * tolerance of conflicts. Leaf to table and back is about equal translations:
 * the caller sees to that. For a leaf of a contiguous group, the same is done to all of it.
 */
enum asp_a64_action asp_a64_classify(const struct aspace_aarch64_config *config, int level,
				     uint64_t old, uint64_t next);

#endif
