/* SPDX-License-Identifier: MIT */
#include "areas.h"

#include <stdlib.h>
#include <string.h>

#include "array.h"

size_t areas_above(const struct areas *areas, uint64_t address)
{
	size_t low = 0, high = areas->at_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (areas->at[middle].end > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

const struct area *areas_find(const struct areas *areas, uint64_t address)
{
	size_t i = areas_above(areas, address);

	if (i == areas->at_count || areas->at[i].start > address)
		return NULL;
	return &areas->at[i];
}

bool areas_hole(const struct areas *areas, uint64_t start, uint64_t end, uint64_t *from,
		uint64_t *to)
{
	for (size_t i = areas_above(areas, start); start < end; i++) {
		uint64_t next = i < areas->at_count ? areas->at[i].start : UINT64_MAX;

		if (next > start) {
			*from = start;
			*to = next < end ? next : end;
			return true;
		}
		start = areas->at[i].end;
	}
	return false;
}

bool areas_overlap(const struct areas *areas, uint64_t start, uint64_t end)
{
	size_t i = areas_above(areas, start);

	return i < areas->at_count && areas->at[i].start < end;
}

bool areas_cover(const struct areas *areas, uint64_t start, uint64_t end)
{
	uint64_t from, to;

	return !areas_hole(areas, start, end, &from, &to);
}

/* Put `count` areas in the place of those at [first, last). */
static void splice(struct areas *areas, size_t first, size_t last, const struct area *with,
		   size_t count)
{
	size_t behind = areas->at_count - last;

	areas->at = array_reserve(areas->at, &areas->at_capacity, first + count + behind + 1,
				  sizeof(*areas->at));
	memmove(areas->at + first + count, areas->at + last, behind * sizeof(*areas->at));
	if (count)
		memcpy(areas->at + first, with, count * sizeof(*with));
	areas->at_count = first + count + behind;
}

/* Replace what [start, end) holds by one area, or by nothing. */
static void assign(struct areas *areas, uint64_t start, uint64_t end, const struct area *area)
{
	struct area with[3];
	size_t count = 0, first, last;

	if (start >= end)
		return;
	first = areas_above(areas, start);
	last = first;
	while (last < areas->at_count && areas->at[last].start < end)
		last++;
	if (first < last && areas->at[first].start < start) {
		with[count] = areas->at[first];
		with[count++].end = start;
	} else if (area && first && areas->at[first - 1].end == start) {
		/* A neighbour on the left: it may turn out equal. */
		with[count++] = areas->at[--first];
	}
	if (area) {
		if (count && with[count - 1].protection == area->protection)
			with[count - 1].end = end;
		else
			with[count++] = *area;
	}
	if (first < last && areas->at[last - 1].end > end) {
		with[count] = areas->at[last - 1];
		with[count++].start = end;
	} else if (area && last < areas->at_count && areas->at[last].start == end) {
		with[count++] = areas->at[last++];
	}
	if (area && count > 1 && with[count - 1].start == end &&
	    with[count - 1].protection == area->protection) {
		with[count - 2].end = with[count - 1].end;
		count--;
	}
	splice(areas, first, last, with, count);
}

void areas_map(struct areas *areas, uint64_t start, uint64_t end, unsigned protection)
{
	struct area area = {start, end, protection};

	assign(areas, start, end, &area);
}

void areas_unmap(struct areas *areas, uint64_t start, uint64_t end)
{
	assign(areas, start, end, NULL);
}

void areas_protect(struct areas *areas, uint64_t start, uint64_t end, unsigned protection)
{
	while (start < end) {
		size_t i = areas_above(areas, start);
		uint64_t to;

		if (i == areas->at_count || areas->at[i].start >= end)
			return;
		if (start < areas->at[i].start)
			start = areas->at[i].start;
		to = areas->at[i].end < end ? areas->at[i].end : end;
		areas_map(areas, start, to, protection);
		start = to;
	}
}

bool areas_equal(const struct areas *a, const struct areas *b)
{
	if (a->at_count != b->at_count)
		return false;
	for (size_t i = 0; i < a->at_count; i++) {
		if (a->at[i].start != b->at[i].start || a->at[i].end != b->at[i].end ||
		    a->at[i].protection != b->at[i].protection)
			return false;
	}
	return true;
}

void areas_copy(struct areas *to, const struct areas *from)
{
	to->at_count = 0;
	splice(to, 0, 0, from->at, from->at_count);
}

void areas_free(struct areas *areas)
{
	free(areas->at);
	*areas = (struct areas){.at = NULL};
}
