/* SPDX-License-Identifier: MIT */
#include "ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "gap.h"

static const char *const names[DEED_KINDS] = {
	"map",         "replace",          "map anywhere",    "unmap",   "leave", "deferred unmap",
	"return",      "deferred protect", "refused protect", "protect", "move",  "resize",
	"transaction", "remainder",
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

		if (tile->value & LEAVING)
			return false;
		start = tile->end;
	}
	return true;
}

/* Is any of it mapped? */
static bool holds_areas(const struct history *history, uint64_t start, uint64_t end)
{
	while (start < end) {
		const struct tile *tile = history_now(history, start);

		if (!(tile->value & LEAVING))
			return true;
		start = tile->end;
	}
	return false;
}

/* Is there anything in its range that it would change? */
static bool has_work(const struct history *history, const struct deed *deed)
{
	uint64_t at = deed->start;

	if (deed->kind != DEED_PROTECT)
		return holds_areas(history, deed->start, deed->end);
	while (at < deed->end) {
		const struct tile *tile = history_now(history, at);

		if (!(tile->value & LEAVING) && (tile->value & FLAGS) != deed->value)
			return true;
		at = tile->end;
	}
	return false;
}

static const struct tile *tile_now(void *history, uint64_t at)
{
	return history_now(history, at);
}

/* What becomes of an area. */
static uint64_t changed(uint64_t value, const struct deed *deed)
{
	return deed->kind == DEED_LEAVE ? value | LEAVING : HOLE;
}

static void change_areas(struct history *history, const struct deed *deed, uint64_t start,
			 uint64_t end)
{
	while (start < end) {
		struct tile tile = *history_now(history, start);
		uint64_t to = tile.end < end ? tile.end : end;

		if (!(tile.value & LEAVING))
			history_set(history, start, to, changed(tile.value, deed));
		start = to;
	}
}

/* All of [start, end), which is in the area `tile`, and in one area of `base` if that is not NULL, gets
 * the deed's flags: at once, or if that takes something away from what the base has, later. */
static void protect_part(const struct ledger *ledger, struct history *history,
			 const struct tile *tile, const struct tile *base, const struct deed *deed,
			 uint64_t start, uint64_t end)
{
	uint64_t value = value_with_flags(shown_of(tile->value), deed->value), meanwhile;
	uint64_t held = base->value & FLAGS;

	meanwhile = held;
	if (ledger->loses && !(base->value & LEAVING) && held != deed->value &&
	    ledger->loses(ledger->loses_ctx, held, deed->value, &meanwhile))
		value = pending_of(value, meanwhile);
	history_set(history, start, end, value);
}

/* `base`: what was there before the transaction; NULL outside of one. */
static void protect_areas(const struct ledger *ledger, struct history *history,
			  const struct history *base, const struct deed *deed, uint64_t start,
			  uint64_t end)
{
	while (start < end) {
		struct tile tile = *history_now(history, start), part = tile;
		uint64_t to = tile.end < end ? tile.end : end;

		if (tile.value & LEAVING || (tile.value & FLAGS) == deed->value) {
			start = to;
			continue;
		}
		for (; start < to; start = part.end) {
			if (base)
				part = *history_now(base, start);
			if (part.end > to)
				part.end = to;
			protect_part(ledger, history, &tile, &part, deed, start, part.end);
		}
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

	if (tile.value & LEAVING || tile.start != deed->start)
		return "no area starts there";
	if (!is_all(history, tile.end, deed->end, HOLE))
		return "the way was not free";
	history_set(history, deed->end, tile.end, HOLE);
	if (tile.end < deed->end)
		history_set(history, tile.start, deed->end, tile.value);
	return NULL;
}

static const char *is_in_the_way(const struct history *history, const struct deed *deed)
{
	bool fits = deed->kind == DEED_REPLACE || deed->kind == DEED_TRUTH_MAP;

	if (!fits && !is_all(history, deed->start, deed->end, HOLE))
		return "the range was not free";
	return NULL;
}

/* What was leaving has left, or is back. */
static const char *settle_leaving(struct history *history, const struct deed *deed)
{
	if (!is_all(history, deed->start, deed->end, deed->value | LEAVING))
		return "the range was not leaving";
	history_set(history, deed->start, deed->end, deed->kind == DEED_BACK ? deed->value : HOLE);
	return NULL;
}

/* What was pending is not any more. */
static const char *settle_pending(struct history *history, const struct deed *deed)
{
	struct tile tile = *history_now(history, deed->start);

	if (tile.start != deed->start || tile.end != deed->end ||
	    tile.value != pending_of(deed->value, deed->to))
		return "the range was not pending";
	history_set(history, deed->start, deed->end,
		    deed->kind == DEED_KEPT ? held_of(tile.value) : deed->value);
	return NULL;
}

/* Do it at this time. What is wrong with it, or NULL. */
static const char *apply_one(const struct ledger *ledger, struct history *history,
			     const struct deed *deed)
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
	case DEED_UNMAP:
		change_areas(history, deed, deed->start, deed->end);
		return NULL;
	case DEED_PROTECT:
		protect_areas(ledger, history, NULL, deed, deed->start, deed->end);
		return NULL;
	case DEED_SETTLED:
	case DEED_KEPT:
		return settle_pending(history, deed);
	case DEED_FREED:
	case DEED_BACK:
		return settle_leaving(history, deed);
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
		change_areas(history, &fresh, fresh.start, fresh.end);
	}
}

/* What the same transaction lets leave later keeps the flags that its backend knows: it is
 * what comes back if that refuses. */
static void protect_what_stays(const struct ledger *ledger, struct history *history,
			       const struct history *base, const struct deed *deed, uint32_t part)
{
	uint64_t at = deed[part].start;

	while (at < deed[part].end) {
		uint64_t to = deed[part].end;
		bool leaves = false;

		for (uint32_t i = part + 1; i <= deed->parts && !leaves; i++) {
			if (deed[i].kind != DEED_LEAVE || deed[i].end <= at)
				continue;
			leaves = deed[i].start <= at;
			if (leaves)
				to = deed[i].end;
			else if (deed[i].start < to)
				to = deed[i].start;
		}
		if (!leaves)
			protect_areas(ledger, history, base, &deed[part], at, to);
		at = to;
	}
}

static const char *apply_part(const struct ledger *ledger, struct history *history,
			      const struct history *base, const struct deed *deed, uint32_t part)
{
	if (deed[part].kind == DEED_PROTECT) {
		protect_what_stays(ledger, history, base, deed, part);
		return NULL;
	}
	if (deed[part].kind == DEED_LEAVE)
		drop_fresh(history, deed, part);
	return apply_one(ledger, history, &deed[part]);
}

static bool apply_parts(const struct ledger *ledger, struct history *history,
			const struct history *base, const struct deed *deed, struct lie *lie)
{
	for (uint32_t i = 1; i <= deed->parts; i++) {
		const char *wrong = apply_part(ledger, history, base, deed, i);

		if (wrong)
			return refute(lie, &deed[i], wrong);
	}
	return true;
}

static bool apply(struct ledger *ledger, struct history *history, const struct deed *deed,
		  struct lie *lie)
{
	struct history base = {.open_count = history->open_count};
	const char *wrong;
	bool fine;

	if (deed->kind == DEED_ANYWHERE && gap_answer(&deed->wish, ledger->origin, history->size,
						      tile_now, history) != deed->start)
		return refute(lie, deed, "this is not the gap");
	wrong = apply_one(ledger, history, deed);
	if (wrong)
		return refute(lie, deed, wrong);
	if (!ledger->loses || deed->kind != DEED_TXN)
		return apply_parts(ledger, history, NULL, deed, lie);
	base.open = array_zeroed(base.open_count, sizeof(*base.open));
	memcpy(base.open, history->open, base.open_count * sizeof(*base.open));
	fine = apply_parts(ledger, history, &base, deed, lie);
	free(base.open);
	return fine;
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

/* Of what was deferred: done by whoever had the writer lock, as it came. */
static bool is_late(const struct deed *deed)
{
	return deed->kind == DEED_FREED || deed->kind == DEED_BACK || deed->kind == DEED_SETTLED ||
	       deed->kind == DEED_KEPT;
}

static bool enter(struct ledger *ledger, struct deed *deed, uint64_t newest, struct lie *lie)
{
	const struct deed **maker;

	if (deed->loose) {
		ARRAY_PUSH(ledger->loose, deed);
		return true;
	}
	if (!deed->sure) {
		ARRAY_PUSH(ledger->unsure, deed);
		return true;
	}
	if (!is_timely(ledger, deed, newest, lie))
		return false;
	maker = &(is_late(deed) ? ledger->late : ledger->makers)[deed->version - ledger->base];
	if (*maker)
		return refute(lie, deed, "another operation published that version");
	*maker = deed;
	return true;
}

static int compare_beginnings(const void *a, const void *b)
{
	const struct deed *const *left = a, *const *right = b;

	return ((*left)->before > (*right)->before) - ((*left)->before < (*right)->before);
}

static int compare_versions(const void *a, const void *b)
{
	const struct deed *const *left = a, *const *right = b;

	return ((*left)->version > (*right)->version) - ((*left)->version < (*right)->version);
}

static bool enter_all(struct ledger *ledger, const struct deeds *const *logs, size_t count,
		      uint64_t newest, struct lie *lie)
{
	ledger->unsure_count = ledger->loose_count = 0;
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
	if (ledger->loose_count)
		qsort(ledger->loose, ledger->loose_count, sizeof(struct deed *),
		      compare_beginnings);
	return true;
}

static bool has_effect(struct ledger *ledger, const struct deed *deed)
{
	const struct history *now = &ledger->history;
	struct history after;
	struct lie lie;
	bool same;

	history_begin(&after, now->size);
	after.apart = now->apart;
	for (size_t i = 0; i < now->open_count; i++)
		history_set(&after, now->open[i].start, now->open[i].end, now->open[i].value);
	same = apply(ledger, &after, deed, &lie) && after.open_count == now->open_count;
	for (size_t i = 0; same && i < now->open_count; i++)
		same = after.open[i].start == now->open[i].start &&
		       after.open[i].value == now->open[i].value;
	history_free(&after);
	return !same;
}

/* Those may have come before what was deferred and done in the same version: was there nothing to do yet? */
static void note_idle(struct ledger *ledger, uint64_t version, size_t next)
{
	if (version - ledger->base >= ledger->makers_count || !ledger->late[version - ledger->base])
		return;
	for (; next < ledger->unsure_count && ledger->unsure[next]->version <= version; next++) {
		struct deed *deed = ledger->unsure[next];

		deed->idle = deed->after < version && !has_effect(ledger, deed);
	}
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
		bool effect = !deed->idle && has_effect(ledger, deed);

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

/* What nobody else has published in its time was a loose deed's, if there was something to do for it. They come one
 * after the other; `next` is the first whose time is not over. */
static void claim_loose(struct ledger *ledger, uint64_t version, size_t next)
{
	for (; next < ledger->loose_count && ledger->loose[next]->before < version; next++) {
		struct deed *deed = ledger->loose[next];

		if (deed->version || deed->after < version || !has_work(&ledger->history, deed))
			continue;
		deed->version = version;
		ledger->makers[version - ledger->base] = deed;
		return;
	}
}

/* Those that have published nothing: there was a version in their time in which there was nothing to do. */
static bool settle_loose(struct ledger *ledger, uint64_t version, size_t *next, struct lie *lie)
{
	while (*next < ledger->loose_count && ledger->loose[*next]->after < version)
		++*next;
	for (size_t i = *next; i < ledger->loose_count; i++) {
		struct deed *deed = ledger->loose[i];

		if (deed->before > version)
			return true;
		deed->idle |= !has_work(&ledger->history, deed);
		if (deed->after != version || deed->version)
			continue;
		if (!deed->idle)
			return refute(lie, deed, "it had something to do, and published nothing");
		ledger->effectless++;
	}
	return true;
}

/* ---- What was deferred -------------------------------------------------------- */

static void note_past(struct ledger *ledger, const struct deed *deed, uint64_t version)
{
	const struct tile *tile = history_now(&ledger->history, deed->start);

	if (deed->kind != DEED_SETTLED && deed->kind != DEED_KEPT)
		return;
	ledger->pasts[ledger->pending++ % LEDGER_PASTS] =
		(struct ledger_past){deed->start, deed->end, ledger->base + tile->from, version};
	ledger->kept += deed->kind == DEED_KEPT;
}

/* Has it come while something was pending, in what it has then changed? */
static void note_wait(struct ledger *ledger, const struct deed *deed)
{
	if (deed->kind != DEED_PROTECT && deed->kind != DEED_LEAVE)
		return;
	for (int i = 0; i < LEDGER_PASTS; i++) {
		const struct ledger_past *past = &ledger->pasts[i];

		if (past->start < deed->end && deed->start < past->end &&
		    past->from <= deed->before && past->until > deed->before) {
			ledger->waited++;
			return;
		}
	}
}

/* What was deferred and done just before the version, or by it: then that is `*made`. */
static bool apply_late(struct ledger *ledger, uint64_t version, bool *made, struct lie *lie)
{
	const struct deed **maker = &ledger->makers[version - ledger->base];
	const struct deed *late = ledger->late[version - ledger->base];
	size_t areas = ledger->history.open_count;

	*made = false;
	if (!late)
		return true;
	for (uint32_t i = 0; i <= late->parts; i++) {
		note_past(ledger, &late[i], version);
		*made |= late[i].kind != DEED_SETTLED;
	}
	if (!apply(ledger, &ledger->history, late, lie))
		return false;
	*made |= ledger->history.open_count != areas;
	if (*made && *maker)
		return refute(lie, late, "another operation published that version");
	if (*made)
		*maker = late;
	return true;
}

/* ---- Rounds ------------------------------------------------------------------- */

void ledger_begin(struct ledger *ledger, uint64_t size, uint64_t base)
{
	*ledger = (struct ledger){.base = base};
	history_begin(&ledger->history, size);
}

/* The next version: what its maker has done. */
static bool step(struct ledger *ledger, uint64_t version, uint64_t newest, size_t *next,
		 size_t next_loose, struct lie *lie)
{
	const struct deed **maker = &ledger->makers[version - ledger->base];
	bool made;

	note_idle(ledger, version, *next);
	history_tick(&ledger->history);
	if (!apply_late(ledger, version, &made, lie) || !settle(ledger, version, newest, next, lie))
		return false;
	if (made)
		return true;
	if (!*maker)
		claim_loose(ledger, version, next_loose);
	if (!*maker) {
		snprintf(lie->reason, sizeof(lie->reason), "nobody published version %" PRIu64,
			 version);
		return false;
	}
	note_wait(ledger, *maker);
	return apply(ledger, &ledger->history, *maker, lie);
}

static bool play(struct ledger *ledger, uint64_t newest, struct lie *lie)
{
	size_t next = 0, next_loose = 0;

	ledger->counts[0] = (uint32_t)ledger->history.areas;
	if (!settle_loose(ledger, ledger->base, &next_loose, lie))
		return false;
	for (uint64_t version = ledger->base + 1; version <= newest; version++) {
		if (!step(ledger, version, newest, &next, next_loose, lie) ||
		    !settle_loose(ledger, version, &next_loose, lie))
			return false;
		ledger->counts[version - ledger->base] = (uint32_t)ledger->history.areas;
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
	ledger->late = array_reserve(ledger->late, &ledger->late_capacity, ledger->makers_count,
				     sizeof(*ledger->late));
	ledger->counts = array_reserve(ledger->counts, &ledger->counts_capacity,
				       ledger->makers_count, sizeof(*ledger->counts));
	memset(ledger->makers, 0, ledger->makers_count * sizeof(*ledger->makers));
	memset(ledger->late, 0, ledger->makers_count * sizeof(*ledger->late));
	if (!enter_all(ledger, logs, count, newest, lie) || !play(ledger, newest, lie))
		return false;
	history_end(&ledger->history);
	return true;
}

void ledger_free(struct ledger *ledger)
{
	history_free(&ledger->history);
	free(ledger->makers);
	free(ledger->late);
	free(ledger->unsure);
	free(ledger->loose);
	free(ledger->counts);
}
