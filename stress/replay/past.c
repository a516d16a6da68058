/* SPDX-License-Identifier: MIT */
#include "past.h"

static void protect(struct history *history, const struct step *step)
{
	uint64_t at = step->start;

	while (at < step->end) {
		const struct tile *tile = history_now(history, at);
		uint64_t end = tile->end < step->end ? tile->end : step->end;

		if (tile->value != HOLE)
			history_set(history, at, end, step->protection);
		at = end;
	}
}

static void move(struct history *history, const struct step *step)
{
	uint64_t at = step->start;

	while (at < step->end) {
		const struct tile *tile = history_now(history, at);
		uint64_t end = tile->end < step->end ? tile->end : step->end;
		uint64_t to = step->to + (at - step->start);

		history_set(history, to, to + (end - at), tile->value);
		at = end;
	}
	history_set(history, step->start, step->end, HOLE);
}

static void take_step(struct history *history, const struct areas *initial, const struct step *step)
{
	switch (step->kind) {
	case STEP_BEGIN:
		for (size_t i = 0; i < initial->at_count; i++) {
			const struct area *area = &initial->at[i];

			history_set(history, area->start, area->end, area->protection);
		}
		break;
	case STEP_MAP:
		history_set(history, step->start, step->end, step->protection);
		break;
	case STEP_UNMAP:
		history_set(history, step->start, step->end, HOLE);
		break;
	case STEP_PROTECT:
		protect(history, step);
		break;
	case STEP_MOVE:
		move(history, step);
		break;
	case STEP_RESIZE:
		if (step->to < step->end)
			history_set(history, step->to, step->end, HOLE);
		else
			history_set(history, step->end, step->to, step->protection);
		break;
	default:
		break;
	}
}

size_t past_make(struct history *history, uint64_t size, const struct areas *initial,
		 const struct step *steps, size_t count)
{
	size_t most = 0;

	history_begin(history, size);
	for (size_t i = 0; i < count && steps[i].kind != STEP_END; i++) {
		history_tick(history);
		take_step(history, initial, &steps[i]);
		if (history->areas > most)
			most = history->areas;
	}
	history_end(history);
	return most;
}
