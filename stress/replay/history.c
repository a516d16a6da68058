/* SPDX-License-Identifier: MIT */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#include "array.h"

/* The tiles that are still open (until is not known), in the order of addresses:
 * the state of the image at the time that has been reached. */
struct front {
	struct history *history;
	struct tile *open;
	size_t open_count, open_capacity;
	uint32_t time;
	size_t areas;
};

/* The open tile that holds `address`. */
static size_t front_find(const struct front *front, uint64_t address)
{
	size_t low = 0, high = front->open_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (front->open[middle].start <= address)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static void front_close(struct front *front, const struct tile *tile, uint32_t until)
{
	struct history *history = front->history;
	struct tile closed = *tile;

	closed.until = until;
	if (closed.protection != HOLE)
		front->areas--;
	/* What came and went within one step was never to be seen. */
	if (closed.from < closed.until)
		ARRAY_PUSH(history->tiles, closed);
}

/* From now on, [start, end) is like `protection`. */
static void front_set(struct front *front, uint64_t start, uint64_t end, uint32_t protection)
{
	struct tile with[3], middle = {start, end, protection, front->time, 0};
	size_t first, last, count = 0;

	if (start >= end)
		return;
	first = front_find(front, start);
	last = front_find(front, end - 1) + 1;

	/* Take in equal neighbours, and what of the outermost is equal. */
	if (front->open[first].protection == protection)
		middle.start = front->open[first].start;
	else if (first && front->open[first].start == start &&
		 front->open[first - 1].protection == protection)
		middle.start = front->open[--first].start;
	if (front->open[last - 1].protection == protection)
		middle.end = front->open[last - 1].end;
	else if (last < front->open_count && front->open[last - 1].end == end &&
		 front->open[last].protection == protection)
		middle.end = front->open[last++].end;
	if (last - first == 1 && front->open[first].protection == protection)
		return; /* it was so already */

	if (front->open[first].start < middle.start) {
		with[count] = front->open[first];
		with[count].end = middle.start;
		with[count++].from = front->time;
	}
	with[count++] = middle;
	if (front->open[last - 1].end > middle.end) {
		with[count] = front->open[last - 1];
		with[count].start = middle.end;
		with[count++].from = front->time;
	}
	for (size_t i = first; i < last; i++)
		front_close(front, &front->open[i], front->time);
	for (size_t i = 0; i < count; i++)
		front->areas += with[i].protection != HOLE;

	front->open = array_reserve(front->open, &front->open_capacity, front->open_count + count,
				    sizeof(*front->open));
	memmove(front->open + first + count, front->open + last,
		(front->open_count - last) * sizeof(*front->open));
	memcpy(front->open + first, with, count * sizeof(*with));
	front->open_count = front->open_count - (last - first) + count;
}

static void front_protect(struct front *front, const struct step *step)
{
	uint64_t at = step->start;

	while (at < step->end) {
		const struct tile *tile = &front->open[front_find(front, at)];
		uint64_t end = tile->end < step->end ? tile->end : step->end;

		if (tile->protection != HOLE)
			front_set(front, at, end, step->protection);
		at = end;
	}
}

static void front_move(struct front *front, const struct step *step)
{
	uint64_t at = step->start;

	while (at < step->end) {
		const struct tile *tile = &front->open[front_find(front, at)];
		uint64_t end = tile->end < step->end ? tile->end : step->end;
		uint64_t to = step->to + (at - step->start);

		front_set(front, to, to + (end - at), tile->protection);
		at = end;
	}
	front_set(front, step->start, step->end, HOLE);
}

static void front_step(struct front *front, const struct areas *initial, const struct step *step)
{
	switch (step->kind) {
	case STEP_BEGIN:
		for (size_t i = 0; i < initial->at_count; i++) {
			const struct area *area = &initial->at[i];

			front_set(front, area->start, area->end, area->protection);
		}
		break;
	case STEP_MAP:
		front_set(front, step->start, step->end, step->protection);
		break;
	case STEP_UNMAP:
		front_set(front, step->start, step->end, HOLE);
		break;
	case STEP_PROTECT:
		front_protect(front, step);
		break;
	case STEP_MOVE:
		front_move(front, step);
		break;
	case STEP_RESIZE:
		if (step->to < step->end)
			front_set(front, step->to, step->end, HOLE);
		else
			front_set(front, step->end, step->to, step->protection);
		break;
	default:
		break;
	}
}

static int compare_addresses(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

static void make_cuts(struct history *history)
{
	size_t count = 0;

	/* Tiles tile: where one ends another begins, but for the last. */
	for (size_t i = 0; i < history->tiles_count; i++)
		ARRAY_PUSH(history->cuts, history->tiles[i].start);
	ARRAY_PUSH(history->cuts, history->size);
	qsort(history->cuts, history->cuts_count, sizeof(*history->cuts), compare_addresses);
	for (size_t i = 0; i < history->cuts_count; i++) {
		if (!count || history->cuts[count - 1] != history->cuts[i])
			history->cuts[count++] = history->cuts[i];
	}
	history->cuts_count = count;
}

/* The elementary piece that holds `address`. */
static size_t find_cut(const struct history *history, uint64_t address)
{
	size_t low = 0, high = history->cuts_count - 1;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (history->cuts[middle] <= address)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Visit the nodes that make up a tile's range; count them, or enter the tile. */
static void enter_tile(struct history *history, uint32_t number, bool counting)
{
	const struct tile *tile = &history->tiles[number];
	size_t leaves = history->cuts_count - 1;
	size_t left = leaves + find_cut(history, tile->start);
	size_t right = leaves + find_cut(history, tile->end - 1) + 1;

	for (; left < right; left /= 2, right /= 2) {
		size_t found[2], count = 0;

		if (left & 1)
			found[count++] = left++;
		if (right & 1)
			found[count++] = --right;
		while (count--) {
			size_t node = found[count];

			/* Counted one place up, so that the sums become the
			 * beginnings; filling moves them on to the ends. */
			if (counting)
				history->nodes[node + 1]++;
			else
				history->entries[history->nodes[node]++] = number;
		}
	}
}

static void make_index(struct history *history)
{
	size_t nodes = 2 * (history->cuts_count - 1);

	history->nodes = array_zeroed(nodes + 1, sizeof(*history->nodes));
	for (uint32_t i = 0; i < history->tiles_count; i++)
		enter_tile(history, i, true);
	for (size_t i = 0; i < nodes; i++)
		history->nodes[i + 1] += history->nodes[i];
	history->entries = array_zeroed(history->nodes[nodes], sizeof(*history->entries));
	/* Tiles were closed in the order of time, and on one node they follow one
	 * another: each list comes out sorted. */
	for (uint32_t i = 0; i < history->tiles_count; i++)
		enter_tile(history, i, false);
	memmove(history->nodes + 1, history->nodes, nodes * sizeof(*history->nodes));
	history->nodes[0] = 0;
}

void history_make(struct history *history, uint64_t size, const struct areas *initial,
		  const struct step *steps, size_t count)
{
	struct front front = {.history = history};
	struct tile all = {0, size, HOLE, 0, 0};

	*history = (struct history){.size = size};
	ARRAY_PUSH(front.open, all);
	for (size_t i = 0; i < count && steps[i].kind != STEP_END; i++) {
		front.time++;
		front_step(&front, initial, &steps[i]);
		if (front.areas > history->most_areas)
			history->most_areas = front.areas;
	}
	history->times = front.time;
	history->last_areas = front.areas;
	for (size_t i = 0; i < front.open_count; i++)
		front_close(&front, &front.open[i], UINT32_MAX);
	free(front.open);
	make_cuts(history);
	make_index(history);
}

void history_free(struct history *history)
{
	free(history->tiles);
	free(history->cuts);
	free(history->nodes);
	free(history->entries);
	*history = (struct history){.tiles = NULL};
}

/* The place in node's list of the first tile that lasts beyond `time`. */
static uint32_t find_entry(const struct history *history, size_t node, uint32_t time)
{
	uint32_t low = history->nodes[node], high = history->nodes[node + 1];

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (history->tiles[history->entries[middle]].until > time)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

const struct tile *history_at(const struct history *history, uint64_t address, uint32_t time)
{
	size_t node = history->cuts_count - 1 + find_cut(history, address);

	for (; node; node /= 2) {
		uint32_t i = find_entry(history, node, time);

		if (i < history->nodes[node + 1]) {
			const struct tile *tile = &history->tiles[history->entries[i]];

			if (tile->from <= time)
				return tile;
		}
	}
	return NULL; /* outside the plane */
}

/* Was `address` in a tile like `area` at any time in [first, last]? Of a hole the
 * extent does not matter. */
static bool history_was(const struct history *history, uint64_t address, uint32_t first,
			uint32_t last, const struct tile *area)
{
	size_t node = history->cuts_count - 1 + find_cut(history, address);

	for (; node; node /= 2) {
		for (uint32_t i = find_entry(history, node, first); i < history->nodes[node + 1];
		     i++) {
			const struct tile *tile = &history->tiles[history->entries[i]];

			if (tile->from > last)
				break;
			if (tile->protection == area->protection &&
			    (area->protection == HOLE ||
			     (tile->start == area->start && tile->end == area->end)))
				return true;
		}
	}
	return false;
}

bool history_was_area(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last, uint64_t start, uint64_t end, uint32_t protection)
{
	struct tile area = {.start = start, .end = end, .protection = protection};

	return protection != HOLE && history_was(history, address, first, last, &area);
}

bool history_was_hole(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last)
{
	struct tile hole = {.protection = HOLE};

	return history_was(history, address, first, last, &hole);
}

static uint64_t highest_gap(const struct history *history, uint32_t time, uint64_t from,
			    uint64_t limit, uint64_t length)
{
	while (from < limit && limit - from >= length) {
		const struct tile *tile = history_at(history, limit - 1, time);
		uint64_t start = tile->start > from ? tile->start : from;

		if (tile->protection == HOLE && limit - start >= length)
			return limit - length;
		limit = tile->start;
	}
	return UINT64_MAX;
}

uint64_t history_gap(const struct history *history, uint32_t time, uint64_t from, uint64_t limit,
		     uint64_t length, bool highest)
{
	if (highest)
		return highest_gap(history, time, from, limit, length);
	while (from < limit && limit - from >= length) {
		const struct tile *tile = history_at(history, from, time);
		uint64_t end = tile->end < limit ? tile->end : limit;

		if (tile->protection == HOLE && end - from >= length)
			return from;
		from = tile->end;
	}
	return UINT64_MAX;
}
