/* SPDX-License-Identifier: MIT */
#include "layout.h"

#include <stdlib.h>

#include "array.h"

/* Gaps up to this stay as they are. */
#define GAP_MOST (UINT64_C(16) << 20)

void layout_make(struct layout *layout, const struct areas *ever)
{
	/* A margin at both ends: lookups there must find nothing. */
	uint64_t place = LAYOUT_ALIGN + ever->at[0].start % LAYOUT_ALIGN;

	*layout = (struct layout){.clusters = NULL};
	for (size_t i = 0; i < ever->at_count; i++) {
		const struct area *area = &ever->at[i];
		struct cluster cluster = {area->start, area->end, place};

		if (i) {
			uint64_t gap = area->start - ever->at[i - 1].end;

			/* Shrunk by a multiple of the alignment, to more than nothing. */
			if (gap > GAP_MOST)
				gap = LAYOUT_ALIGN + gap % LAYOUT_ALIGN;
			cluster.place += gap;
		}
		ARRAY_PUSH(layout->clusters, cluster);
		/* Asked first, because the sum could wrap around. */
		if (area->end - area->start > LAYOUT_MOST)
			return;
		place = cluster.place + (area->end - area->start);
		if (place > LAYOUT_MOST)
			return;
	}
	layout->size = (place + 2 * LAYOUT_ALIGN - 1) & ~(LAYOUT_ALIGN - 1);
}

uint64_t layout_place(const struct layout *layout, uint64_t address)
{
	const struct cluster *at = layout->clusters;
	size_t low = 0, high = layout->clusters_count;
	uint64_t place, limit;

	/* The last cluster that begins at or below the address. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (at[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low) {
		uint64_t below = at[0].start - address;

		return below < at[0].place ? at[0].place - below : 0;
	}
	limit = low < layout->clusters_count ? at[low].place : layout->size;
	place = at[low - 1].place;
	if (address - at[low - 1].start > limit - place)
		return limit;
	return place + (address - at[low - 1].start);
}

void layout_free(struct layout *layout)
{
	free(layout->clusters);
	*layout = (struct layout){.clusters = NULL};
}
