/* SPDX-License-Identifier: MIT */
/*
 * The kernel's own view of a window, from the text of /proc/self/maps, against
 * what the model says must be there.
 */
#ifndef STRESS_MAPS_H
#define STRESS_MAPS_H

#include "areas.h"

/*
 * Compare. `text` is what /proc/self/maps says; the window is [start, end);
 * `areas` are addresses and protections that must be there, and nothing else.
 * `marks_free`: free addresses show as the host backend's reservation, and are
 * otherwise not told from areas without access. On false, `reason` says what
 * differs first.
 */
bool maps_compare(const char *text, uint64_t start, uint64_t end, const struct areas *areas,
		  bool marks_free, char reason[200]);

/* All of /proc/self/maps as a string to be freed; NULL with errno. */
char *maps_read(void);

#endif
