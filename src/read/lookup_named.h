/* SPDX-License-Identifier: MIT */
/*
 * A set of lookups by its name. For tests and measurements alone: nothing in the library includes
 * this file.
 */
#ifndef ASPACE_LOOKUP_NAMED_H
#define ASPACE_LOOKUP_NAMED_H

#include "read/lookup.h"

/* NULL if there is none of that name, or this CPU cannot run it. */
static inline const struct asp_lookup_set *asp_lookup_set_named(const char *name)
{
	for (unsigned i = 0; asp_lookup_sets[i]; i++) {
		if (!__builtin_strcmp(asp_lookup_sets[i]->vector->name, name) &&
		    asp_vector_runs(asp_lookup_sets[i]->vector))
			return asp_lookup_sets[i];
	}
	return NULL;
}

#endif
