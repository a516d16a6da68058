/* SPDX-License-Identifier: MIT */
/*
 * What a fault or an advice finds in a version; see found.c.
 */
#ifndef ASPACE_UPDATE_FOUND_H
#define ASPACE_UPDATE_FOUND_H

#include "update/pins.h"

/* The area there, without the library's own bits; a leaving one, too: it still has its memory, and a reader that
 * found it in time may touch it. What its backend holds: asp_held_flags(). In a section, or under the
 * writer lock. */
bool asp_pins_find(const struct asp_node *root, uint64_t address, struct aspace_area *area);
/* The first area that reaches beyond `from` and begins below `end`, leaving ones passed over, in
 * which an advice in [from, end) can be given: else ASPACE_NOT_MAPPED, ASPACE_INVALID_PARAM
 * (the backend's granule), ASPACE_NOT_SUPPORTED. */
enum aspace_status asp_pins_find_piece(const struct asp_node *root, uint64_t from, uint64_t end,
				       struct aspace_area *area);

/* What a look has found. */
struct asp_found {
	const struct asp_node *root; /* the caller's: where to look */
	struct aspace_area area;     /* with the flags that its backend holds */
	uint64_t shown;              /* those that the version shows */
	uint64_t lo, hi;             /* to be pinned: no writer changes anything there */
	uint64_t work_lo, work_hi;   /* of that, what is worked on */
	uint64_t span;               /* 0: not known */
};

/* What there is for the pin to be at work in, in a section. That of an advice gets the address at which
 * its piece begins. `under_lock`: nothing is to be pinned, see asp_pins_pin(). Statuses as there. */
enum aspace_status asp_found_look(struct aspace *space, struct asp_pin *pin,
				  struct asp_found *found, bool *under_lock);
/* Is there still what was found? Under the lock of the list: see Q3 of pending.c. */
bool asp_found_is_there(struct aspace *space, uint64_t address, const struct asp_found *found);

#endif
