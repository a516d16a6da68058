/* SPDX-License-Identifier: MIT */
/*
 * What a backend may rely on, noted for each page as it is called: faults and advice are at work
 * where something is mapped, one at a time, and never where a writer is in the middle of a change. And
 * what readers may rely on in a grace-unmap space: with which flags a page is mapped, and when its contents
 * were lost.
 *
 * Callbacks may not say anything, so the first that was wrong is kept until somebody asks.
 */
#ifndef TORTURE_SHADOW_H
#define TORTURE_SHADOW_H

#include <aspace/backend.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { SHADOW_CHANGES_MOST = 256 };

/* What a change of flags takes away, as a backend's `loses`. */
typedef unsigned shadow_loses(void *ctx, uint64_t from, uint64_t to);

/* A page, as a reader has found it. */
struct shadow_sight {
	uint64_t page;
	uint64_t flags; /* of the area that it has found there */
	unsigned losses;
	uint64_t asked; /* when its section had begun */
};

struct shadow {
	/* SHADOW_ bits, changed by read-modify-writes alone: whoever comes second sees the other. */
	_Atomic uint64_t *pages;
	/* When the advice was given by which the page has lost its contents last. */
	_Atomic uint64_t *dropped;
	_Atomic uint64_t clock; /* of sections, and of such advice */
	shadow_loses *loses;    /* NULL: nothing is kept for readers */
	void *ctx;
	uint64_t base, page, count;
	_Atomic(const char *) wrong;
	_Atomic uint64_t where; /* its page; relaxed: read when nobody is at it */
	/* Under the writer lock: what the batch has changed so far. */
	struct aspace_range changed[SHADOW_CHANGES_MOST];
	unsigned changed_count;
};

void shadow_open(struct shadow *shadow, uint64_t base, uint64_t page, uint64_t count,
		 shadow_loses *loses, void *ctx);
void shadow_close(struct shadow *shadow);
/* Around a fault or advice, and around one change; the last of a batch is followed by its flush.
 * `done`: the change was made. */
void shadow_work_begin(struct shadow *shadow, struct aspace_range range);
void shadow_work_end(struct shadow *shadow, struct aspace_range range);
void shadow_change_begin(struct shadow *shadow, const struct aspace_change *change);
void shadow_change_end(struct shadow *shadow, const struct aspace_change *change, bool done);
void shadow_flush(struct shadow *shadow);
/* The time, in a section or before advice is given; and what that advice has dropped, before it does. */
uint64_t shadow_now(struct shadow *shadow);
void shadow_drop(struct shadow *shadow, struct aspace_range range, uint64_t asked);
/* In a section that had begun by `asked`: an area with these flags was found at the page. Then, as long as the
 * section is open, whether what it found is still there. NULL: it is. */
const char *shadow_see(struct shadow *shadow, struct aspace_vaddr at, uint64_t flags,
		       uint64_t asked, struct shadow_sight *sight);
const char *shadow_see_again(struct shadow *shadow, const struct shadow_sight *sight);
/* Is nobody at work there, as advice that drops contents? `dropped`: when the last of it was given. */
bool shadow_is_steady(struct shadow *shadow, uint64_t page, uint64_t *dropped);
/* The flags that are held there now; false: nothing is. */
bool shadow_held(struct shadow *shadow, uint64_t page, uint64_t *flags);
/* Keep what else is wrong. */
void shadow_say(struct shadow *shadow, struct aspace_vaddr at, const char *what);
/* What was wrong first, and where; NULL: nothing. */
const char *shadow_wrong(struct shadow *shadow, uint64_t *where);

#endif
