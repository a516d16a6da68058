/* SPDX-License-Identifier: MIT */
/*
 * The independent model of an address space: a sorted array of disjoint areas.
 * Slow and simple on purpose, and not a line of it is the library's.
 *
 * Equal neighbours are always one area.
 */
#ifndef STRESS_AREAS_H
#define STRESS_AREAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct area {
	uint64_t start, end;
	unsigned protection; /* in the numbers of Linux */
};

struct areas {
	struct area *at;
	size_t at_count, at_capacity;
};

/* Make [start, end) one area, whatever was there. */
void areas_map(struct areas *areas, uint64_t start, uint64_t end, unsigned protection);
void areas_unmap(struct areas *areas, uint64_t start, uint64_t end);
/* What is mapped in [start, end) gets `protection`. */
void areas_protect(struct areas *areas, uint64_t start, uint64_t end, unsigned protection);

/* The index of the first area that ends above `address`. */
size_t areas_above(const struct areas *areas, uint64_t address);
/* The area that holds `address`, or NULL. */
const struct area *areas_find(const struct areas *areas, uint64_t address);
/* Is anything, is all of [start, end) mapped? */
bool areas_overlap(const struct areas *areas, uint64_t start, uint64_t end);
bool areas_cover(const struct areas *areas, uint64_t start, uint64_t end);
/* The first hole in [start, end), as [*from, *to); false if there is none. */
bool areas_hole(const struct areas *areas, uint64_t start, uint64_t end, uint64_t *from,
		uint64_t *to);

bool areas_equal(const struct areas *a, const struct areas *b);
void areas_copy(struct areas *to, const struct areas *from);
void areas_free(struct areas *areas);

#endif
