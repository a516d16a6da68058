/* SPDX-License-Identifier: MIT */
/*
 * The way down the tables of who maps or drops beside the writer; see way.c.
 */
#ifndef ASPACE_AARCH64_WAY_H
#define ASPACE_AARCH64_WAY_H

#include "tables.h"

/* At most so many are missing: below the root, at the levels above the last one. */
#define ASP_A64_SPARES ((size_t)ASP_A64_LAST_LEVEL + 1)

/* To an address. */
struct asp_a64_way {
	struct aspace_aarch64 *t;
	uint64_t at;
	uint64_t *pinned[ASP_A64_SPARES]; /* pointers to tables, downward */
	size_t pinned_count;
	uint64_t spares[ASP_A64_SPARES]; /* zero, cleaned and ordered */
	size_t spare_count;
	bool due; /* a barrier, and that this processor goes by what it has ordered */
};

/* Where a way down ends. */
struct asp_a64_place {
	int level;
	uint64_t *entries; /* of the table */
	size_t index;
	uint64_t descriptor;
};

/* Down to the slot at `lowest`, or to the last table before it; with enough spares, that is all
 * the way where something is missing. */
struct asp_a64_place asp_a64_go_down(struct asp_a64_way *way, int lowest);
/* The pins are taken back. */
void asp_a64_unpin_all(struct asp_a64_way *way);
/* A free slot can be filled: no walk goes by what was there before. */
void asp_a64_settle(struct asp_a64_way *way, int level, const uint64_t *entry, uint64_t descriptor);

#endif
