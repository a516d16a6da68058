/* SPDX-License-Identifier: MIT */
/*
 * The kernel's own view of a host backend's window, from the text of /proc/self/smaps,
 * against what the model says must be there.
 */
#ifndef STRESS_MAPS_H
#define STRESS_MAPS_H

#include "areas.h"
#include "sanitizers.h"

/*
 * Compare. The window is [start, end); `areas` are addresses and protections that must be there,
 * and nothing else. If `text` has VmFlags, as smaps has and maps has not, "nr" tells areas
 * without access from free addresses; otherwise only what is accessible is compared. On
 * false, `reason` says what differs first.
 */
bool maps_compare(const char *text, uint64_t start, uint64_t end, const struct areas *areas,
		  char reason[200]);

/* The kernel looks at each page for smaps, those of a sanitizer's shadow included: seconds for a
 * look, where maps takes none. The plain builds compare the marks. */
#define MAPS_SMAPS_IS_SLOW SANITIZED

/* All of /proc/self/smaps, or of maps where the other says no more (vm.overcommit_memory=2) or is
 * not to be had, as a string to be freed; NULL with errno. */
char *maps_read(void);

#endif
