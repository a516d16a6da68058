/* SPDX-License-Identifier: MIT */
/*
 * What a backend may rely on, noted for each page as it is called: faults and advice are at work
 * where something is mapped, one at a time, and never where a writer is in the middle of a change.
 *
 * Callbacks may not say anything, so the first that was wrong is kept until somebody asks.
 */
#ifndef TORTURE_SHADOW_H
#define TORTURE_SHADOW_H

#include <aspace/backend.h>
#include <stdatomic.h>
#include <stddef.h>

enum { SHADOW_CHANGES_MOST = 256 };

struct shadow {
	/* SHADOW_ bits, changed by read-modify-writes alone: whoever comes second sees the other. */
	_Atomic unsigned *pages;
	uint64_t base, page, count;
	_Atomic(const char *) wrong;
	_Atomic uint64_t where; /* its page; relaxed: read when nobody is at it */
	/* Under the writer lock: what the batch has changed so far. */
	struct aspace_range changed[SHADOW_CHANGES_MOST];
	unsigned changed_count;
};

void shadow_open(struct shadow *shadow, uint64_t base, uint64_t page, uint64_t count);
void shadow_close(struct shadow *shadow);
/* Around a fault or advice, and around one change; the last of a batch is followed by its flush.
 * `done`: the change was made. */
void shadow_work_begin(struct shadow *shadow, struct aspace_range range);
void shadow_work_end(struct shadow *shadow, struct aspace_range range);
void shadow_change_begin(struct shadow *shadow, const struct aspace_change *change);
void shadow_change_end(struct shadow *shadow, const struct aspace_change *change, bool done);
void shadow_flush(struct shadow *shadow);
/* Keep what else is wrong. */
void shadow_say(struct shadow *shadow, struct aspace_vaddr at, const char *what);
/* What was wrong first, and where; NULL: nothing. */
const char *shadow_wrong(struct shadow *shadow, uint64_t *where);

#endif
