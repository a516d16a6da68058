/* SPDX-License-Identifier: MIT */
#include "look.h"

#include <inttypes.h>
#include <stdio.h>

#include "histogram.h"

/* Bounds on what one look costs, in spaces of any size: the history is asked
 * about each area and each hole by itself. */
enum {
	FINDS = 3,
	AREAS = 8,             /* of an iteration in a view */
	GAP_CUTS = 64,         /* a gap search reaches over so many beginnings of areas */
	SNAPSHOT_AREAS = 4096, /* of a snapshot */
};

/* What was seen in one view. */
struct sight {
	uint64_t version;
	uint64_t addresses[FINDS];
	enum aspace_status found[FINDS];
	struct aspace_area finds[FINDS];
	uint64_t from; /* the iteration, as an offset */
	struct aspace_area areas[AREAS], below[AREAS];
	int areas_count, below_count;
	struct aspace_gap gap;
	enum aspace_status gap_status;
	struct aspace_vaddr gap_start;
};

/* A place in or at the ends of [start, end). */
static uint64_t place_in(uint64_t start, uint64_t end, uint64_t *random)
{
	uint64_t choice = random_next(random);

	switch (choice & 7) {
	case 0:
		return start;
	case 1:
		return start ? start - 1 : start;
	case 2:
		return end - 1;
	case 3:
		return end;
	default:
		return start + random_next(random) % (end - start);
	}
}

/* An offset worth looking at: half of the time where something changes just now. */
static uint64_t choose_place(const struct playing *playing, uint64_t *random)
{
	const struct scene *scene = playing->scene;
	const struct history *history = &scene->history;
	uint32_t begun = atomic_load_explicit(&playing->begun, memory_order_relaxed);
	uint64_t choice = random_next(random), place;
	const struct step *step = begun ? &scene->steps[begun - 1] : NULL;

	if ((choice & 1) && step && step->start < step->end) {
		if (step->kind == STEP_MOVE && (choice & 2))
			place = place_in(step->to, step->to + (step->end - step->start), random);
		else if (step->kind == STEP_RESIZE && step->to > step->end)
			place = place_in(step->start, step->to, random);
		else
			place = place_in(step->start, step->end, random);
	} else {
		uint64_t cut = (choice >> 8) % (history->cuts_count - 1);

		place = place_in(history->cuts[cut], history->cuts[cut + 1], random);
	}
	return place < history->size ? place : history->size - 1;
}

static bool area_is(const struct playing *playing, const struct aspace_area *area,
		    const struct tile *tile)
{
	return area->start.value == playing->base + tile->start &&
	       area->end.value == playing->base + tile->end &&
	       area->flags == flags_of(tile->value) && area->backend == playing->backend &&
	       !area->user;
}

static uint32_t time_before(struct playing *playing)
{
	return atomic_load_explicit(&playing->ended, memory_order_acquire);
}

static uint32_t time_after(struct playing *playing)
{
	return atomic_load_explicit(&playing->begun, memory_order_acquire);
}

static void begin(struct playing *playing, struct look_result *result)
{
	result->fine = true;
	result->nanoseconds = 0;
	result->first = time_before(playing);
}

/* A step that is begun but has not ended counts as a time, and as overlap. */
static void end(struct playing *playing, struct look_result *result)
{
	result->last = time_after(playing);
	if (result->last < result->first)
		result->last = result->first;
	result->overlap = result->last != result->first;
}

static void show_answer(enum aspace_status status, const struct aspace_area *area, char out[100])
{
	if (status)
		snprintf(out, 100, "%s", aspace_status_string(status));
	else
		snprintf(out, 100, "%" PRIx64 "-%" PRIx64 " flags %" PRIx64 "%s", area->start.value,
			 area->end.value, area->flags, area->user ? " with an object" : "");
}

static void show_tile(const struct playing *playing, const struct tile *tile, char out[100])
{
	snprintf(out, 100, "%s %" PRIx64 "-%" PRIx64 " flags %" PRIx64,
		 tile->value == HOLE ? "hole" : "area", playing->base + tile->start,
		 playing->base + tile->end, tile->value == HOLE ? 0 : tile->value);
}

void look_find(struct playing *playing, uint64_t *random, bool timed, struct look_result *result)
{
	const struct history *history = &playing->scene->history;
	uint64_t place = choose_place(playing, random), before = 0;
	struct aspace_vaddr address = aspace_va(playing->base + place);
	struct aspace_area area = {.user = NULL};
	enum aspace_status status;
	char seen[100], then[100], now[100];

	begin(playing, result);
	if (timed)
		before = clock_now();
	status = aspace_find(playing->space, address, &area);
	if (timed)
		result->nanoseconds = clock_now() - before;
	end(playing, result);

	if (status == ASPACE_NOT_MAPPED)
		result->fine = history_was_hole(history, place, result->first, result->last);
	else
		result->fine = !status && area.flags < HOLE && area.backend == playing->backend &&
			       !area.user &&
			       history_was_area(history, place, result->first, result->last,
						area.start.value - playing->base,
						area.end.value - playing->base, area.flags);
	if (result->fine)
		return;
	show_answer(status, &area, seen);
	show_tile(playing, history_at(history, place, result->first), then);
	show_tile(playing, history_at(history, place, result->last), now);
	snprintf(result->reason, sizeof(result->reason),
		 "aspace_find(%" PRIx64 ") answered %s, but there was %s, and after it %s",
		 address.value, seen, then, now);
}

/* ---- Views ------------------------------------------------------------------ */

static void choose_gap(const struct playing *playing, uint64_t *random, struct aspace_gap *gap)
{
	const struct history *history = &playing->scene->history;
	uint64_t page = aspace_granule(playing->space);
	uint64_t choice = random_next(random);
	size_t cut = (choice >> 8) % (history->cuts_count - 1), last = cut + GAP_CUTS;
	uint64_t start, end;

	if (last >= history->cuts_count)
		last = history->cuts_count - 1;
	start = playing->base + history->cuts[cut];
	end = playing->base + history->cuts[last];
	*gap = (struct aspace_gap){
		.size = page << (choice % 12),
		.hint = aspace_va(place_in(start, end, random) & ~(page - 1)),
		.limits = aspace_range_of(start, end),
		.downward = choice & (UINT64_C(1) << 40),
	};
}

/* Ask the view; nothing is checked here, so that the section stays short. */
static void see(const struct aspace_view *view, struct sight *sight)
{
	struct aspace_iter up, down;
	struct aspace_area area;

	for (int i = 0; i < FINDS; i++)
		sight->found[i] =
			aspace_view_find(view, aspace_va(sight->addresses[i]), &sight->finds[i]);
	aspace_iter_begin(view, aspace_va(sight->from), &up);
	sight->areas_count = 0;
	while (sight->areas_count < AREAS &&
	       aspace_iter_next(&up, &sight->areas[sight->areas_count]))
		sight->areas_count++;
	/* Downward from where an area begins, or from a hole. */
	if (aspace_view_find(view, aspace_va(sight->from), &area))
		area.start = aspace_va(sight->from);
	aspace_iter_begin(view, area.start, &down);
	sight->below_count = 0;
	while (sight->below_count < AREAS &&
	       aspace_iter_prev(&down, &sight->below[sight->below_count]))
		sight->below_count++;
	sight->gap_status = aspace_view_find_free(view, &sight->gap, &sight->gap_start);
}

static bool finds_agree(const struct playing *playing, const struct sight *sight, uint32_t time,
			const char **what)
{
	const struct history *history = &playing->scene->history;

	*what = "a lookup";
	for (int i = 0; i < FINDS; i++) {
		const struct tile *tile =
			history_at(history, sight->addresses[i] - playing->base, time);

		if (tile->value == HOLE ? sight->found[i] != ASPACE_NOT_MAPPED
					: sight->found[i] != ASPACE_OK ||
						  !area_is(playing, &sight->finds[i], tile))
			return false;
	}
	return true;
}

/* The area that ends at or below `place`, which is where a tile begins; NULL: none. */
static const struct tile *area_below(const struct history *history, uint64_t place, uint32_t time)
{
	while (place) {
		const struct tile *tile = history_at(history, place - 1, time);

		if (tile->value != HOLE)
			return tile;
		place = tile->start;
	}
	return NULL;
}

/* The area that begins at or above `place`, which is where a tile begins; NULL: none. */
static const struct tile *area_above(const struct history *history, uint64_t place, uint32_t time)
{
	while (place < history->size) {
		const struct tile *tile = history_at(history, place, time);

		if (tile->value != HOLE)
			return tile;
		place = tile->end;
	}
	return NULL;
}

static bool walk_agrees(const struct playing *playing, const struct sight *sight, uint32_t time,
			const char **what)
{
	const struct history *history = &playing->scene->history;
	const struct tile *tile = history_at(history, sight->from - playing->base, time);
	uint64_t place = tile->start;

	*what = "iteration downward";
	for (int i = 0; i < AREAS; i++) {
		const struct tile *below = area_below(history, place, time);

		if (!below && sight->below_count != i)
			return false;
		if (!below)
			break;
		if (sight->below_count == i || !area_is(playing, &sight->below[i], below))
			return false;
		place = below->start;
	}
	*what = "iteration upward";
	place = tile->start;
	for (int i = 0; i < AREAS; i++) {
		tile = area_above(history, place, time);
		if (!tile)
			return sight->areas_count == i;
		if (sight->areas_count == i || !area_is(playing, &sight->areas[i], tile))
			return false;
		place = tile->end;
	}
	return true;
}

static bool gap_agrees(const struct playing *playing, const struct sight *sight, uint32_t time,
		       const char **what)
{
	const struct aspace_gap *gap = &sight->gap;
	uint64_t start = gap->limits.start.value - playing->base;
	uint64_t end = gap->limits.end.value - playing->base;
	uint64_t hint = gap->hint.value - playing->base, want;

	/* A hint outside the limits is moved to the nearer one. */
	hint = gap->hint.value < gap->limits.start.value ? start : hint > end ? end : hint;
	if (gap->downward)
		end = hint;
	else
		start = hint;
	want = history_gap(&playing->scene->history, time, start, end, gap->size, gap->downward);
	*what = gap->downward ? "the downward gap search" : "the upward gap search";
	if (want == UINT64_MAX)
		return sight->gap_status == ASPACE_NO_SPACE;
	return sight->gap_status == ASPACE_OK && sight->gap_start.value == playing->base + want;
}

/* Is `time` one that a view with number `version` can have seen? The number is
 * known once the step has ended. */
static bool version_agrees(struct playing *playing, uint64_t version, uint32_t time)
{
	return time > time_before(playing) ||
	       atomic_load_explicit(&playing->versions[time], memory_order_relaxed) == version;
}

void look_view(struct playing *playing, uint64_t *random, struct look_result *result)
{
	const char *what = "the version's number";
	struct aspace_view view;
	struct sight sight;

	for (int i = 0; i < FINDS; i++)
		sight.addresses[i] = playing->base + choose_place(playing, random);
	sight.from = playing->base + choose_place(playing, random);
	choose_gap(playing, random, &sight.gap);

	begin(playing, result);
	aspace_read_begin(playing->space, &view);
	end(playing, result);
	see(&view, &sight);
	sight.version = view.version;
	aspace_read_end(&view);

	for (uint32_t time = result->first; time <= result->last; time++) {
		if (version_agrees(playing, sight.version, time) &&
		    finds_agree(playing, &sight, time, &what) &&
		    walk_agrees(playing, &sight, time, &what) &&
		    gap_agrees(playing, &sight, time, &what))
			return;
	}
	result->fine = false;
	snprintf(result->reason, sizeof(result->reason),
		 "the view of version %" PRIu64 " fits no single time: %s does not", sight.version,
		 what);
}

static bool snapshot_agrees(const struct playing *playing, const struct aspace_view *view,
			    uint64_t from, uint32_t time)
{
	const struct history *history = &playing->scene->history;
	uint64_t place = history_at(history, from, time)->start;
	struct aspace_area area;
	struct aspace_iter iter;

	aspace_iter_begin(view, aspace_va(playing->base + from), &iter);
	for (int i = 0; i < SNAPSHOT_AREAS; i++) {
		const struct tile *tile = area_above(history, place, time);

		if (!aspace_iter_next(&iter, &area))
			return !tile;
		if (!tile || !area_is(playing, &area, tile))
			return false;
		place = tile->end;
	}
	return true;
}

void look_snapshot(struct playing *playing, uint64_t *random, struct look_result *result)
{
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	enum aspace_status status;
	bool agrees = false;
	uint64_t from = 0;

	begin(playing, result);
	status = aspace_snapshot_take(playing->space, &snapshot);
	end(playing, result);
	if (status) {
		result->fine = false;
		snprintf(result->reason, sizeof(result->reason), "aspace_snapshot_take: %s",
			 aspace_status_string(status));
		return;
	}
	/* Let versions pass by. */
	for (int i = 0; i < 64; i++)
		aspace_find(playing->space,
			    aspace_va(playing->base + choose_place(playing, random)), NULL);
	aspace_snapshot_view(&snapshot, &view);
	/* All of it, or a part of a large one. */
	if (playing->scene->most_areas > SNAPSHOT_AREAS)
		from = choose_place(playing, random);
	for (uint32_t time = result->first; time <= result->last && !agrees; time++)
		agrees = version_agrees(playing, snapshot.version, time) &&
			 snapshot_agrees(playing, &view, from, time);
	if (!agrees) {
		result->fine = false;
		snprintf(result->reason, sizeof(result->reason),
			 "the snapshot of version %" PRIu64 " fits no single time",
			 snapshot.version);
	}
	aspace_snapshot_release(&snapshot);
}
