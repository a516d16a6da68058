/* SPDX-License-Identifier: MIT */
#include "ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"

static const char *const names[DEED_KINDS] = {
	"map",     "replace", "map anywhere", "unmap",       "leave",     "deferred unmap",
	"protect", "move",    "resize",       "transaction", "remainder",
};

const char *deed_name(enum deed_kind kind)
{
	return names[kind];
}

static bool refute(struct lie *lie, const struct deed *deed, const char *why)
{
	snprintf(lie->reason, sizeof(lie->reason),
		 "%s of [%#" PRIx64 ", %#" PRIx64 ") as version %" PRIu64 " (from %" PRIu64
		 " to %" PRIu64 "): %s",
		 deed_name(deed->kind), deed->start, deed->end, deed->version, deed->before,
		 deed->after, why);
	return false;
}

/* ---- What deeds do ------------------------------------------------------------ */

/* Is all of [start, end) like `value` now? */
static bool is_all(const struct history *history, uint64_t start, uint64_t end, uint64_t value)
{
	while (start < end) {
		const struct tile *tile = history_now(history, start);

		if (tile->value != value)
			return false;
		start = tile->end;
	}
	return true;
}

static bool is_mapped(const struct history *history, uint64_t start, uint64_t end)
{
	while (start < end) {
		const struct tile *tile = history_now(history, start);

		if (tile->value == HOLE || tile->value == LEAVING)
			return false;
		start = tile->end;
	}
	return true;
}

static uint64_t lowest_gap(const struct history *history, uint64_t from, uint64_t limit,
			   uint64_t length)
{
	while (from < limit && limit - from >= length) {
		const struct tile *tile = history_now(history, from);
		uint64_t end = tile->end < limit ? tile->end : limit;

		if (tile->value == HOLE && end - from >= length)
			return from;
		from = tile->end;
	}
	return UINT64_MAX;
}

/* Areas in [start, end) get flags, or become `gone`. */
static void set_areas(struct history *history, const struct deed *deed, uint64_t gone)
{
	uint64_t at = deed->start;

	while (at < deed->end) {
		struct tile tile = *history_now(history, at);
		uint64_t end = tile.end < deed->end ? tile.end : deed->end;

		if (tile.value != HOLE && tile.value != LEAVING)
			history_set(history, at, end,
				    deed->kind == DEED_PROTECT
					    ? value_with_flags(tile.value, deed->value)
					    : gone);
		at = end;
	}
}

static void carry(struct history *history, const struct deed *deed)
{
	uint64_t at = deed->start;

	while (at < deed->end) {
		struct tile tile = *history_now(history, at);
		uint64_t end = tile.end < deed->end ? tile.end : deed->end;
		uint64_t to = deed->to + (at - deed->start);

		history_set(history, to, to + (end - at), tile.value);
		at = end;
	}
	history_set(history, deed->start, deed->end, HOLE);
}

static const char *resize(struct history *history, const struct deed *deed)
{
	struct tile tile = *history_now(history, deed->start);

	if (tile.value == HOLE || tile.value == LEAVING || tile.start != deed->start)
		return "no area starts there";
	if (!is_all(history, tile.end, deed->end, HOLE))
		return "the way was not free";
	history_set(history, deed->end, tile.end, HOLE);
	history_set(history, tile.end, deed->end, tile.value);
	return NULL;
}

static const char *is_in_the_way(const struct history *history, const struct deed *deed)
{
	bool fits = deed->kind == DEED_REPLACE || deed->kind == DEED_TRUTH_MAP;

	if (!fits && !is_all(history, deed->start, deed->end, HOLE))
		return "the range was not free";
	if (deed->kind == DEED_ANYWHERE &&
	    lowest_gap(history, deed->to, deed->limit, deed->end - deed->start) != deed->start)
		return "this is not the lowest gap";
	return NULL;
}

/* Do it at this time. What is wrong with it, or NULL. */
static const char *apply_one(struct history *history, const struct deed *deed)
{
	const char *wrong;

	switch (deed->kind) {
	case DEED_MAP:
	case DEED_ANYWHERE:
	case DEED_REPLACE:
	case DEED_TRUTH_MAP:
		wrong = is_in_the_way(history, deed);
		if (wrong)
			return wrong;
		history_set(history, deed->start, deed->end, deed->value);
		return NULL;
	case DEED_LEAVE:
		set_areas(history, deed, LEAVING);
		return NULL;
	case DEED_UNMAP:
		set_areas(history, deed, HOLE);
		return NULL;
	case DEED_PROTECT:
		set_areas(history, deed, 0);
		return NULL;
	case DEED_FREED:
		if (!is_all(history, deed->start, deed->end, LEAVING))
			return "the range was not leaving";
		history_set(history, deed->start, deed->end, HOLE);
		return NULL;
	case DEED_MOVE:
		if (!is_mapped(history, deed->start, deed->end))
			return "not all of it was mapped";
		if (!is_all(history, deed->to, deed->to + (deed->end - deed->start), HOLE))
			return "the destination was not free";
		carry(history, deed);
		return NULL;
	case DEED_RESIZE:
		return resize(history, deed);
	default:
		return NULL;
	}
}

/* What the same transaction has mapped was never published: it does not leave, it goes. */
static void drop_fresh(struct history *history, const struct deed *deed, uint32_t part)
{
	for (uint32_t i = 1; i < part; i++) {
		struct deed fresh = deed[i];

		if (fresh.kind != DEED_MAP)
			continue;
		if (fresh.start < deed[part].start)
			fresh.start = deed[part].start;
		if (fresh.end > deed[part].end)
			fresh.end = deed[part].end;
		fresh.kind = DEED_UNMAP;
		set_areas(history, &fresh, HOLE);
	}
}

static bool apply(struct history *history, const struct deed *deed, struct lie *lie)
{
	const char *wrong = apply_one(history, deed);

	if (wrong)
		return refute(lie, deed, wrong);
	for (uint32_t i = 1; i <= deed->parts; i++) {
		if (deed[i].kind == DEED_LEAVE)
			drop_fresh(history, deed, i);
		wrong = apply_one(history, &deed[i]);
		if (wrong)
			return refute(lie, &deed[i], wrong);
	}
	return true;
}

/* ---- Who made which version --------------------------------------------------- */

/* Can `deed` have published its version? */
static bool is_timely(const struct ledger *ledger, const struct deed *deed, uint64_t newest,
		      struct lie *lie)
{
	if (deed->version <= ledger->base || deed->version > newest)
		return refute(lie, deed, "there was no such version in this round");
	if (deed->version <= deed->before)
		return refute(lie, deed, "that version was there before it began");
	if (deed->version > deed->after)
		return refute(lie, deed, "it had ended, and was not to be seen");
	return true;
}

static bool enter(struct ledger *ledger, const struct deed *deed, uint64_t newest, struct lie *lie)
{
	const struct deed **maker;

	if (!deed->sure) {
		ARRAY_PUSH(ledger->unsure, deed);
		return true;
	}
	if (!is_timely(ledger, deed, newest, lie))
		return false;
	maker = &ledger->makers[deed->version - ledger->base];
	if (*maker)
		return refute(lie, deed, "another operation published that version");
	*maker = deed;
	return true;
}

static int compare_versions(const void *a, const void *b)
{
	const struct deed *const *left = a, *const *right = b;

	return ((*left)->version > (*right)->version) - ((*left)->version < (*right)->version);
}

static bool enter_all(struct ledger *ledger, const struct deeds *const *logs, size_t count,
		      uint64_t newest, struct lie *lie)
{
	ledger->unsure_count = 0;
	for (size_t k = 0; k < count; k++) {
		const struct deeds *log = logs[k];

		for (size_t i = 0; i < log->at_count; i += log->at[i].parts + 1) {
			if (!enter(ledger, &log->at[i], newest, lie))
				return false;
		}
	}
	if (ledger->unsure_count)
		qsort(ledger->unsure, ledger->unsure_count, sizeof(*ledger->unsure),
		      compare_versions);
	return true;
}

static bool has_effect(const struct history *now, const struct deed *deed)
{
	struct history after;
	struct lie lie;
	bool same;

	history_begin(&after, now->size);
	for (size_t i = 0; i < now->open_count; i++)
		history_set(&after, now->open[i].start, now->open[i].end, now->open[i].value);
	same = apply(&after, deed, &lie) && after.open_count == now->open_count;
	for (size_t i = 0; same && i < now->open_count; i++)
		same = after.open[i].start == now->open[i].start &&
		       after.open[i].value == now->open[i].value;
	history_free(&after);
	return !same;
}

/*
 * Who is not sure to have published `version` has done so if nobody is sure to have, and
 * then at most one of them; the others had nothing to do. `next` is the first of them.
 */
static bool settle(struct ledger *ledger, uint64_t version, uint64_t newest, size_t *next,
		   struct lie *lie)
{
	const struct deed **maker =
		version <= newest ? &ledger->makers[version - ledger->base] : NULL;
	bool taken = !maker || *maker;

	for (; *next < ledger->unsure_count && ledger->unsure[*next]->version <= version; ++*next) {
		const struct deed *deed = ledger->unsure[*next];
		bool effect = has_effect(&ledger->history, deed);

		if (effect && taken)
			return refute(lie, deed, "it had something to do, and published nothing");
		/* A transaction may also publish what changes nothing. */
		if (!taken && (effect || (!*maker && deed->after >= version)))
			*maker = deed;
		taken |= effect;
		ledger->effectless += !effect;
	}
	return !maker || !*maker || is_timely(ledger, *maker, newest, lie);
}

/* ---- Rounds ------------------------------------------------------------------- */

void ledger_begin(struct ledger *ledger, uint64_t size, uint64_t base)
{
	*ledger = (struct ledger){.base = base};
	history_begin(&ledger->history, size);
}

static bool play(struct ledger *ledger, uint64_t newest, struct lie *lie)
{
	size_t next = 0;

	for (uint64_t version = ledger->base + 1; version <= newest; version++) {
		const struct deed *deed;

		if (!settle(ledger, version, newest, &next, lie))
			return false;
		deed = ledger->makers[version - ledger->base];
		if (!deed) {
			snprintf(lie->reason, sizeof(lie->reason),
				 "nobody published version %" PRIu64, version);
			return false;
		}
		history_tick(&ledger->history);
		if (!apply(&ledger->history, deed, lie))
			return false;
		ledger->versions++;
	}
	return settle(ledger, newest + 1, newest, &next, lie);
}

bool ledger_round(struct ledger *ledger, const struct deeds *const *logs, size_t count,
		  uint64_t newest, struct lie *lie)
{
	ledger->base += ledger->history.times;
	history_again(&ledger->history);
	if (newest < ledger->base || newest - ledger->base >= UINT32_MAX) {
		snprintf(lie->reason, sizeof(lie->reason),
			 "version %" PRIu64 " came after version %" PRIu64, newest, ledger->base);
		return false;
	}
	ledger->makers_count = newest - ledger->base + 1;
	ledger->makers = array_reserve(ledger->makers, &ledger->makers_capacity,
				       ledger->makers_count, sizeof(*ledger->makers));
	memset(ledger->makers, 0, ledger->makers_count * sizeof(*ledger->makers));
	if (!enter_all(ledger, logs, count, newest, lie) || !play(ledger, newest, lie))
		return false;
	history_end(&ledger->history);
	return true;
}

void ledger_free(struct ledger *ledger)
{
	history_free(&ledger->history);
	free(ledger->makers);
	free(ledger->unsure);
}
