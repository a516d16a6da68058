/* SPDX-License-Identifier: MIT */
/*
 * Lookups of addresses and of gaps by the widest registers that the CPU has.
 *
 * There is one set of functions for each kind of registers (tree/vector/vector.h); a space picks
 * one at its creation. What the sets have in common is in lookup_body.h. A set has a whole
 * aspace_find(), because a call in the middle of it would cost as much as a level of the
 * tree.
 */
#ifndef ASPACE_LOOKUP_H
#define ASPACE_LOOKUP_H

#include <aspace/aspace.h>

#include "space/space.h"
#include "tree/vector/vector.h"

struct asp_lookup_set {
	const struct asp_vector *vector;
	/* aspace_find() with read sections that are inlined, and with others. */
	asp_find_fn *find, *find_by_calls;
	/* The same in a version that the caller keeps. */
	enum aspace_status (*find_in)(const struct asp_node *root, struct aspace_vaddr address,
				      struct aspace_area *area);
	/* aspace_find_many() in such a version. */
	size_t (*find_many)(const struct asp_node *root, const struct aspace_vaddr *address,
			    size_t count, struct aspace_area *area);
	/* aspace_find_free() */
	enum aspace_status (*find_free)(struct aspace *space, const struct aspace_gap *gap,
					struct aspace_vaddr *start);
	/* The same in such a version, with a granule of the caller's. */
	enum aspace_status (*find_free_in)(const struct aspace *space, const struct asp_node *root,
					   const struct aspace_gap *gap, uint64_t granule,
					   struct aspace_vaddr *start);
};

extern const struct asp_lookup_set asp_lookup_set_portable;
#ifdef ASP_VECTOR_X86
extern const struct asp_lookup_set asp_lookup_set_avx2, asp_lookup_set_avx512;
#endif
#ifdef ASP_VECTOR_NEON
extern const struct asp_lookup_set asp_lookup_set_neon;
#endif

/* The sets, the fastest first; NULL behind the last. */
extern const struct asp_lookup_set *const asp_lookup_sets[];

/* The fastest set that this CPU can run. */
const struct asp_lookup_set *asp_lookup_set_best(void);

/* Before the first reader; `grace` is known. */
static inline void asp_use_lookup_set(struct aspace *space, const struct asp_lookup_set *lookup_set)
{
	space->lookup_set = lookup_set;
	space->vector = lookup_set->vector;
	space->find =
		asp_read_is_inlined(space->grace) ? lookup_set->find : lookup_set->find_by_calls;
}

#endif
