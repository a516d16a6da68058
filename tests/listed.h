/* SPDX-License-Identifier: MIT */
/* Who waits on the list of pins of a space. */
#ifndef TESTS_LISTED_H
#define TESTS_LISTED_H

#include "update/pins.h"

/* How many entries wait for others. Under the lock of the list. */
static inline uint32_t count_awaiting(const struct aspace *space)
{
	uint32_t count = 0;

	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next)
		count += pin->awaits != NULL;
	return count;
}

#endif
