/* SPDX-License-Identifier: MIT */
/*
 * Moves an image's addresses into one window.
 *
 * A process spreads its areas over 128 TiB. What lies close together (a cluster)
 * keeps its distances to the byte; wide gaps between clusters shrink. Kept:
 *  1. order: a < b gives place(a) <= place(b), and < where either was mapped;
 *  2. adjacency: ranges touch in the window exactly where they touched before;
 *  3. every address modulo 2 MiB, if the window begins at a multiple of it;
 *  4. the sizes of all that was ever mapped.
 * An address within a shrunk gap goes to its place in the gap, or to the gap's end.
 *
 * Places are offsets from the beginning of the window.
 */
#ifndef REPLAY_LAYOUT_H
#define REPLAY_LAYOUT_H

#include "areas.h"

/* Windows begin at multiples of this and are as many of it long. */
#define LAYOUT_ALIGN (UINT64_C(1) << 21)

struct cluster {
	uint64_t start, end; /* in the trace */
	uint64_t place;      /* of start */
};

struct layout {
	struct cluster *clusters;
	size_t clusters_count, clusters_capacity;
	uint64_t size; /* of the window; 0: it would be larger than LAYOUT_MOST */
};

/* The largest window: more than any 47-bit process can fill. */
#define LAYOUT_MOST (UINT64_C(1) << 56)

/* Lay out `ever`, which is not empty. */
void layout_make(struct layout *layout, const struct areas *ever);
uint64_t layout_place(const struct layout *layout, uint64_t address);
void layout_free(struct layout *layout);

#endif
