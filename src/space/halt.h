/* SPDX-License-Identifier: MIT */
/*
 * A space that stands still for a fork, and the rest of its writers meanwhile: halt.c.
 */
#ifndef ASPACE_SPACE_HALT_H
#define ASPACE_SPACE_HALT_H

#include "space/space.h"

/* ---- The fork ----------------------------------------------------------------- */

/* See to it that nobody changes anything until asp_resume(). False if that could not be had by
 * `deadline` (asp_now_ms(); 0: none). May block. */
bool asp_halt(struct aspace *space, uint64_t deadline);
void asp_resume(struct aspace *space);
/* After a halt: the calling thread counts as the writer, until it gives everything back, the lock of
 * the list of pins, too, which it has taken meanwhile. */
void asp_halt_enter(struct aspace *space);
void asp_halt_leave(struct aspace *space, bool child);

/* ---- Writers ------------------------------------------------------------------ */

/* With the writer lock just taken, and a fork there: until it has gone. ASPACE_BUSY: that was not to be
 * waited for, and the lock has been given back. */
enum aspace_status asp_rest_at_entry(struct aspace *space, unsigned how);

#endif
