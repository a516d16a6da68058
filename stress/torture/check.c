/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>

#include "gap.h"

static const char *const names[] = {
	"lookup",
	"iteration upward",
	"iteration downward",
	"gap search",
	"overlap",
	"mapped range",
	"bytes of a range",
	"idle protect",
	"version of a view",
	"count",
	"dump",
	"fault",
};

_Static_assert(sizeof(names) / sizeof(names[0]) == NOTE_KINDS, "each has its name");

const char *note_name(enum note_kind kind)
{
	return names[kind];
}

static bool is_void(const struct tile *tile)
{
	return tile->value & LEAVING; /* or a hole */
}

/*
 * What is right at one time, and until when it stays right at least: nothing that was
 * looked at changes before.
 */
struct moment {
	const struct history *history;
	uint32_t time, until;
};

static const struct tile *tile_at(struct moment *moment, uint64_t address)
{
	const struct tile *tile = history_at(moment->history, address, moment->time);

	if (tile->until < moment->until)
		moment->until = tile->until;
	return tile;
}

static bool is_like(const struct note *note, const struct tile *tile)
{
	if (!tile)
		return !note->found;
	return note->found && tile->start == note->start && tile->end == note->end &&
	       shown_of(tile->value) == note->value;
}

static bool find_is_right(struct moment *moment, const struct note *note)
{
	const struct tile *tile = tile_at(moment, note->at);

	return is_like(note, is_void(tile) ? NULL : tile);
}

static bool next_is_right(struct moment *moment, const struct note *note)
{
	const struct tile *tile = NULL;
	uint64_t at = note->at;

	while (at < moment->history->size) {
		tile = tile_at(moment, at);
		if (!is_void(tile))
			return is_like(note, tile);
		at = tile->end;
	}
	return is_like(note, NULL);
}

static bool prev_is_right(struct moment *moment, const struct note *note)
{
	const struct tile *tile;
	uint64_t at = note->at;

	while (at) {
		tile = tile_at(moment, at - 1);
		if (!is_void(tile))
			return is_like(note, tile);
		at = tile->start;
	}
	return is_like(note, NULL);
}

/* Both searches go through all tiles from the side where they begin. A leaving area is
 * in the way. */
static const struct tile *tile_of_gap(void *moment, uint64_t at)
{
	return tile_at(moment, at);
}

static bool gap_is_right(const struct ledger *ledger, struct moment *moment,
			 const struct note *note)
{
	uint64_t start =
		gap_answer(&note->wish, ledger->origin, moment->history->size, tile_of_gap, moment);

	return start == GAP_NONE ? !note->found : note->found && note->start == start;
}

static bool count_is_right(const struct ledger *ledger, struct moment *moment,
			   const struct note *note)
{
	moment->until = moment->time + 1;
	return ledger->counts[moment->time] == note->value;
}

static bool dump_is_right(struct moment *moment, const struct note *note)
{
	uint64_t mixed = 0, at = 0;

	while (at < moment->history->size) {
		const struct tile *tile = tile_at(moment, at);

		if (!is_void(tile))
			mixed = mix_area(mixed, tile->start, tile->end, shown_of(tile->value));
		at = tile->end;
	}
	return mixed == note->value;
}

/* What is leaving still has its memory, and what is pending its flags; until it is done, in some
 * version, which need not be followed by one that shows it (in the last of the round it is not yet known). */
static bool fault_is_right(struct moment *moment, const struct note *note)
{
	const struct tile *tile = tile_at(moment, note->at);

	if (tile->value == HOLE)
		return !note->found;
	if (is_pending(tile->value) && note->found && note->value == shown_of(tile->value)) {
		moment->until = moment->time + 1;
		return tile->until == moment->until || moment->time == moment->history->times;
	}
	return note->found && (held_of(tile->value) & ~LEAVING) == note->value;
}

static bool overlap_is_right(struct moment *moment, const struct note *note)
{
	uint64_t at = note->at;

	while (at < note->end) {
		const struct tile *tile = tile_at(moment, at);

		if (tile->value != HOLE)
			return note->found;
		at = tile->end;
	}
	return !note->found;
}

static bool all_is_right(struct moment *moment, const struct note *note)
{
	uint64_t at = note->at;

	while (at < note->end) {
		const struct tile *tile = tile_at(moment, at);

		if (is_void(tile))
			return !note->found && note->start == at;
		at = tile->end;
	}
	return note->found;
}

static bool bytes_are_right(struct moment *moment, const struct note *note)
{
	uint64_t at = note->at, bytes = 0;

	while (at < note->end) {
		const struct tile *tile = tile_at(moment, at);
		uint64_t end = tile->end < note->end ? tile->end : note->end;

		bytes += is_void(tile) ? 0 : end - at;
		at = end;
	}
	return bytes == note->value;
}

static bool same_is_right(struct moment *moment, const struct note *note)
{
	uint64_t at = note->at;

	while (at < note->end) {
		const struct tile *tile = tile_at(moment, at);

		if (!is_void(tile) && (tile->value & FLAGS) != note->value)
			return false;
		at = tile->end;
	}
	return true;
}

static bool is_right(const struct ledger *ledger, struct moment *moment, const struct note *note)
{
	switch ((enum note_kind)note->kind) {
	case NOTE_FIND:
		return find_is_right(moment, note);
	case NOTE_NEXT:
		return next_is_right(moment, note);
	case NOTE_PREV:
		return prev_is_right(moment, note);
	case NOTE_GAP:
		return gap_is_right(ledger, moment, note);
	case NOTE_COUNT:
		return count_is_right(ledger, moment, note);
	case NOTE_DUMP:
		return dump_is_right(moment, note);
	case NOTE_FAULT:
		return fault_is_right(moment, note);
	case NOTE_OVERLAPS:
		return overlap_is_right(moment, note);
	case NOTE_ALL:
		return all_is_right(moment, note);
	case NOTE_BYTES:
		return bytes_are_right(moment, note);
	case NOTE_SAME:
		return same_is_right(moment, note);
	default:
		return false;
	}
}

static bool refute(struct lie *lie, const struct note *note, const char *why)
{
	char answer[100] = "nothing";

	if (note->kind == NOTE_VIEW || note->kind == NOTE_COUNT || note->kind == NOTE_BYTES)
		snprintf(answer, sizeof(answer), "%" PRIu64, note->value);
	else if (note->kind == NOTE_OVERLAPS && note->found)
		snprintf(answer, sizeof(answer), "something");
	else if (note->kind == NOTE_GAP && note->found)
		snprintf(answer, sizeof(answer), "%#" PRIx64, note->start);
	else if (note->found)
		snprintf(answer, sizeof(answer), "[%#" PRIx64 ", %#" PRIx64 ") value %#" PRIx64,
			 note->start, note->end, note->value);
	snprintf(lie->reason, sizeof(lie->reason),
		 "%s at %#" PRIx64 " between versions %" PRIu64 " and %" PRIu64 " answered %s: %s",
		 note_name(note->kind), note->at, note->first, note->last, answer, why);
	return false;
}

bool check_note(const struct ledger *ledger, const struct note *note, struct lie *lie)
{
	const struct history *history = &ledger->history;
	struct moment moment = {.history = history};
	uint64_t last = note->last - ledger->base;

	if (note->first > note->last)
		return refute(lie, note, "the versions ran backwards");
	if (note->first < ledger->base || last > history->times)
		return refute(lie, note, "there were no such versions in this round");
	if (note->kind == NOTE_VIEW)
		return (note->value >= note->first && note->value <= note->last) ||
		       refute(lie, note, "it was not the newest at any moment of the call");
	/* The count is stored just before its version is published. */
	if (note->kind == NOTE_COUNT && last < history->times)
		last++;
	for (uint64_t time = note->first - ledger->base; time <= last; time = moment.until) {
		moment.time = (uint32_t)time;
		moment.until = UINT32_MAX;
		if (is_right(ledger, &moment, note))
			return true;
	}
	return refute(lie, note, "no version of these gives that answer");
}
