/* SPDX-License-Identifier: MIT */
/*
 * What threads write down while they work: *notes* of what they have seen, *deeds* that
 * they have done.
 *
 * Everything is dated in version numbers. A note says between which two versions the
 * answer was given: `first` had been published, as far as the thread knew, before the
 * call began; `last` was the newest after it had returned. The answer must be that of one
 * version from first to last. A deed says the same of itself, and which version it has
 * published (witness.h).
 *
 * Addresses are offsets from the beginning of the space. A value is what an area says
 * beside its bounds: see value_of().
 */
#ifndef TORTURE_LOG_H
#define TORTURE_LOG_H

#include <aspace/aspace.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "history.h"

/* The flags that an area shows, and, of one that is pending, those that its backend holds. */
enum {
	HELD_SHIFT = 6,
	FLAG_BITS = 2 * HELD_SHIFT,
	FLAGS = (1 << HELD_SHIFT) - 1,
};

/* Flags and user object in one word. Objects may lie anywhere in 50 bits (see PENDING). */
static inline uint64_t value_of(uint64_t flags, const void *user)
{
	return (uint64_t)(uintptr_t)user << FLAG_BITS | flags;
}

static inline uint64_t value_with_flags(uint64_t value, uint64_t flags)
{
	return (value & ~((UINT64_C(1) << FLAG_BITS) - 1)) | flags;
}

static inline bool is_pending(uint64_t value)
{
	return !(value & LEAVING) && value & PENDING;
}

/* What of a pending area readers are shown; of others, all. */
static inline uint64_t shown_of(uint64_t value)
{
	return is_pending(value) ? value_with_flags(value & ~PENDING, value & FLAGS) : value;
}

/* And what its backend is, with faults and advice. */
static inline uint64_t held_of(uint64_t value)
{
	return is_pending(value) ? value_with_flags(value & ~PENDING, value >> HELD_SHIFT & FLAGS)
				 : value;
}

static inline uint64_t pending_of(uint64_t shown, uint64_t held)
{
	return shown | held << HELD_SHIFT | PENDING;
}

/* All areas of a version, in ascending order, as one word; 0 to begin with. */
static inline uint64_t mix_area(uint64_t mixed, uint64_t start, uint64_t end, uint64_t value)
{
	const uint64_t words[] = {start, end, value};

	for (int i = 0; i < 3; i++) {
		mixed = (mixed ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
		mixed ^= mixed >> 29;
	}
	return mixed;
}

/* A gap search: what for, and within [lo, hi). */
struct wish {
	uint64_t lo, hi, size;
	uint32_t hint;  /* an offset; 0: none */
	uint32_t guard; /* bytes on both sides */
	uint8_t align;  /* of the address, as a power of two */
	bool down, wrap;
};

/* ---- Notes -------------------------------------------------------------------- */

enum note_kind {
	NOTE_FIND,     /* `at` lies in [start, end), or in no area */
	NOTE_NEXT,     /* the first area that ends above `at`, or none */
	NOTE_PREV,     /* the last area that starts below `at`, or none */
	NOTE_GAP,      /* `wish` is fulfilled at `start`, or nowhere */
	NOTE_OVERLAPS, /* is anything in [at, end)? */
	NOTE_ALL,      /* all of [at, end) is mapped; if not `found`, up to `start` */
	NOTE_BYTES,    /* areas have `value` bytes of [at, end) */
	NOTE_SAME,     /* all areas of [at, end) have the flags `value` already */
	NOTE_VIEW,     /* a view or snapshot was of the version `value` */
	NOTE_COUNT,    /* there are `value` areas */
	NOTE_DUMP,     /* all areas, mixed into `value` by mix_area() */
	NOTE_FAULT,    /* `at` was given to the backend, as in an area like `value`, or in none */
	NOTE_KINDS,
};

struct note {
	uint8_t kind;
	bool found;
	uint64_t first, last;
	uint64_t start;
	union {
		struct {
			uint64_t at, end, value;
		};
		struct wish wish;
	};
};

struct notes {
	struct note *at;
	size_t at_count, at_capacity;
};

/* ---- Deeds -------------------------------------------------------------------- */

enum deed_kind {
	DEED_MAP,
	DEED_REPLACE,
	DEED_ANYWHERE, /* what fulfils `wish` was mapped */
	DEED_UNMAP,
	DEED_LEAVE, /* the same in a grace-unmap space: marked as leaving */
	DEED_FREED, /* what was leaving, an area like `value`, has left */
	DEED_BACK,  /* or is back: the backend has refused */
	DEED_SETTLED, /* what was pending, an area like `value` that held the flags `to`, is no more */
	DEED_KEPT,    /* or it has kept these: the backend has refused */
	DEED_PROTECT,
	DEED_MOVE,   /* [start, end) went to `to` */
	DEED_RESIZE, /* the area at `start` ends at `end` now */
	DEED_TXN,    /* the deeds that follow, as one */
	/* A change of a backend that stands after ASPACE_BAD_STATE: */
	DEED_TRUTH_MAP, /* whatever was there, an area without a user object is */
	DEED_KINDS,
};

struct deed {
	enum deed_kind kind;
	/* It has published `version`. Not sure: if nobody else has, else nothing. Loose: it
	 * has published a version of (before, after] or nothing, and nobody else who is not
	 * sure was at it meanwhile. */
	bool sure, loose;
	bool idle; /* the ledger's: not sure, and in a version of its time there was nothing to do */
	uint32_t parts; /* the deeds behind this one that are parts of it */
	uint64_t before, after, version;
	uint64_t start, end, to;
	uint64_t value; /* PROTECT: flags */
	struct wish wish;
};

struct deeds {
	struct deed *at;
	size_t at_count, at_capacity;
};

#endif
