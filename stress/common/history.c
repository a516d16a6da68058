/* SPDX-License-Identifier: MIT */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#include "array.h"

/* The open tile that holds `address`. */
static size_t find_open(const struct history *history, uint64_t address)
{
	size_t low = 0, high = history->open_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (history->open[middle].start <= address)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static void close_tile(struct history *history, const struct tile *tile, uint32_t until)
{
	struct tile closed = *tile;

	closed.until = until;
	/* What came and went within one time was never to be seen. */
	if (closed.from < closed.until)
		ARRAY_PUSH(history->tiles, closed);
}

static void put_open(struct history *history, size_t first, size_t last, const struct tile *with,
		     size_t count)
{
	history->open = array_reserve(history->open, &history->open_capacity,
				      history->open_count + count, sizeof(*history->open));
	memmove(history->open + first + count, history->open + last,
		(history->open_count - last) * sizeof(*history->open));
	memcpy(history->open + first, with, count * sizeof(*with));
	history->open_count = history->open_count - (last - first) + count;
}

/* Equal neighbours, and what of the outermost of [*first, *last) is equal. */
static void take_in_neighbours(const struct history *history, struct tile *middle, size_t *first,
			       size_t *last)
{
	const struct tile *open = history->open;

	if (open[*first].value == middle->value)
		middle->start = open[*first].start;
	else if (*first && open[*first].start == middle->start &&
		 open[*first - 1].value == middle->value)
		middle->start = open[--*first].start;
	if (open[*last - 1].value == middle->value)
		middle->end = open[*last - 1].end;
	else if (*last < history->open_count && open[*last - 1].end == middle->end &&
		 open[*last].value == middle->value)
		middle->end = open[(*last)++].end;
}

void history_set(struct history *history, uint64_t start, uint64_t end, uint64_t value)
{
	struct tile with[3], middle = {start, end, value, history->times, 0}, *open = history->open;
	size_t first, last, count = 0;

	if (start >= end)
		return;
	first = find_open(history, start);
	last = find_open(history, end - 1) + 1;
	if (value & LEAVING ? value == HOLE || !history->apart
			    : !history->apart && !(value & PENDING))
		take_in_neighbours(history, &middle, &first, &last);
	if (last - first == 1 && open[first].value == value)
		return; /* it was so already */

	if (open[first].start < middle.start) {
		with[count] = open[first];
		with[count].end = middle.start;
		with[count++].from = history->times;
	}
	with[count++] = middle;
	if (open[last - 1].end > middle.end) {
		with[count] = open[last - 1];
		with[count].start = middle.end;
		with[count++].from = history->times;
	}
	for (size_t i = first; i < last; i++) {
		history->areas -= !(open[i].value & LEAVING);
		close_tile(history, &open[i], history->times);
	}
	for (size_t i = 0; i < count; i++)
		history->areas += !(with[i].value & LEAVING);
	put_open(history, first, last, with, count);
}

const struct tile *history_now(const struct history *history, uint64_t address)
{
	return &history->open[find_open(history, address)];
}

void history_begin(struct history *history, uint64_t size)
{
	struct tile all = {0, size, HOLE, 0, 0};

	*history = (struct history){.size = size};
	ARRAY_PUSH(history->open, all);
}

void history_tick(struct history *history)
{
	history->times++;
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

void history_end(struct history *history)
{
	for (size_t i = 0; i < history->open_count; i++)
		close_tile(history, &history->open[i], UINT32_MAX);
	make_cuts(history);
	make_index(history);
}

static void free_index(struct history *history)
{
	free(history->nodes);
	free(history->entries);
	history->nodes = history->entries = NULL;
}

void history_again(struct history *history)
{
	free_index(history);
	history->tiles_count = history->cuts_count = 0;
	history->times = 0;
	for (size_t i = 0; i < history->open_count; i++)
		history->open[i].from = 0;
}

void history_free(struct history *history)
{
	free_index(history);
	free(history->tiles);
	free(history->open);
	free(history->cuts);
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
			if (tile->value == area->value &&
			    (area->value == HOLE ||
			     (tile->start == area->start && tile->end == area->end)))
				return true;
		}
	}
	return false;
}

bool history_was_area(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last, uint64_t start, uint64_t end, uint64_t value)
{
	struct tile area = {.start = start, .end = end, .value = value};

	return value != HOLE && history_was(history, address, first, last, &area);
}

bool history_was_hole(const struct history *history, uint64_t address, uint32_t first,
		      uint32_t last)
{
	struct tile hole = {.value = HOLE};

	return history_was(history, address, first, last, &hole);
}

static uint64_t highest_gap(const struct history *history, uint32_t time, uint64_t from,
			    uint64_t limit, uint64_t length)
{
	while (from < limit && limit - from >= length) {
		const struct tile *tile = history_at(history, limit - 1, time);
		uint64_t start = tile->start > from ? tile->start : from;

		if (tile->value == HOLE && limit - start >= length)
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

		if (tile->value == HOLE && end - from >= length)
			return from;
		from = tile->end;
	}
	return UINT64_MAX;
}
