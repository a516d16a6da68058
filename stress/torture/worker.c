/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ordered.h"
#include "random.h"

enum {
	MESSAGES_MOST = 10,
	LOOK_FINDS = 4,
	LOOK_STEPS = 8,
	LOOK_GAPS = 2,
	GAP_PAGES = 96, /* a search reaches so far, so that its check stays short */
	BATCH = 32,     /* lookups of one action */
};

_Thread_local struct worker *worker_self;

void arena_say(struct arena *arena, const char *format, ...)
{
	uint64_t before = atomic_fetch_add(&arena->mismatches, 1);
	va_list args;

	if (before > MESSAGES_MOST)
		return;
	pthread_mutex_lock(&arena->voice);
	fprintf(stderr, "torture: %s: mismatch: ", arena->scenario->name);
	if (before < MESSAGES_MOST) {
		va_start(args, format);
		vfprintf(stderr, format, args);
		va_end(args);
	} else {
		fputs("further ones are only counted", stderr);
	}
	fputc('\n', stderr);
	pthread_mutex_unlock(&arena->voice);
}

/* ---- Versions ------------------------------------------------------------------- */

static uint64_t floor_of(struct arena *arena, uint64_t seen)
{
	uint64_t completed =
		ORDERED ? atomic_load_explicit(&arena->completed, memory_order_acquire) : 0;

	return seen > completed ? seen : completed;
}

static uint64_t newest(struct arena *arena, uint64_t *seen)
{
	struct aspace_view view;

	aspace_read_begin(arena->witness.space, &view);
	aspace_read_end(&view);
	if (view.version < *seen)
		arena_say(arena, "a view of version %" PRIu64 " after one of version %" PRIu64,
			  view.version, *seen);
	else
		*seen = view.version;
	return view.version;
}

uint64_t worker_floor(struct worker *worker)
{
	return floor_of(worker->arena, worker->seen);
}

uint64_t worker_now(struct worker *worker)
{
	return newest(worker->arena, &worker->seen);
}

static void complete(struct arena *arena, uint64_t version)
{
	uint64_t before = atomic_load_explicit(&arena->completed, memory_order_relaxed);

	while (ORDERED && before < version &&
	       !atomic_compare_exchange_weak_explicit(&arena->completed, &before, version,
						      memory_order_release, memory_order_relaxed))
		;
}

bool worker_is_over(const struct worker *worker)
{
	return atomic_load_explicit(&worker->arena->round_over, memory_order_relaxed);
}

/* ---- Where ---------------------------------------------------------------------- */

static uint64_t choose_page(const struct arena *arena, uint64_t *random)
{
	uint64_t choice = random_next(random);
	uint64_t hot = atomic_load_explicit(&arena->hot, memory_order_relaxed);
	uint64_t pages = arena->scenario->pages, page = (choice >> 8) % pages;

	/* Half of them where something changes just now, its neighbours included. */
	if ((choice & 1) && hot)
		page = (hot >> 32) + (choice >> 8) % ((hot & UINT32_MAX) + 2) - 1;
	return page < pages ? page : pages - 1;
}

static uint64_t choose_place(const struct arena *arena, uint64_t *random)
{
	uint64_t page = choose_page(arena, random), choice = random_next(random);
	uint64_t size = arena->witness.page;

	/* Bounds are where things go wrong. */
	return page * size + (choice & 2 ? 0 : choice & 1 ? size - 1 : (choice >> 8) % size);
}

static struct aspace_vaddr address_of(const struct arena *arena, uint64_t place)
{
	return aspace_va(arena->witness.base + place);
}

static struct aspace_range range_of(const struct arena *arena, uint64_t start, uint64_t end)
{
	return aspace_range_of(arena->witness.base + start, arena->witness.base + end);
}

/* ---- Noting --------------------------------------------------------------------- */

static struct note *put_note(struct notes *notes, enum note_kind kind, uint64_t first,
			     uint64_t last)
{
	struct note *note;

	/* A handler's may be full; a worker's is not: NOTES_SPARE. */
	if (notes->at_count == notes->at_capacity)
		notes->at_count--;
	note = &notes->at[notes->at_count++];
	*note = (struct note){.kind = (uint8_t)kind, .first = first, .last = last};
	return note;
}

struct note *worker_note(struct worker *worker, enum note_kind kind, uint64_t first, uint64_t last)
{
	return put_note(&worker->notes, kind, first, last);
}

static void note_area(const struct arena *arena, struct note *note, bool found,
		      const struct aspace_area *area)
{
	note->found = found;
	if (!found)
		return;
	note->start = area->start.value - arena->witness.base;
	note->end = area->end.value - arena->witness.base;
	note->value = value_of(area->flags, area->user);
	/* No area is of another backend: an answer that is, is no value at all. */
	if (area->backend != &arena->witness.backend)
		note->value = HOLE;
}

void worker_note_view(struct worker *worker, uint64_t first, uint64_t last, uint64_t version)
{
	worker_note(worker, NOTE_VIEW, first, last)->value = version;
}

uint64_t worker_choose(const struct worker *worker, uint64_t *random)
{
	return choose_place(worker->arena, random);
}

void worker_find(struct worker *worker, struct notes *notes, uint64_t place, uint64_t *seen)
{
	struct arena *arena = worker->arena;
	uint64_t first, last;
	enum aspace_status status;
	struct aspace_area area;
	struct note *note;

	first = floor_of(arena, *seen);
	status = aspace_find(arena->witness.space, address_of(arena, place), &area);
	last = newest(arena, seen);
	note = put_note(notes, NOTE_FIND, first, last);
	note->at = place;
	note_area(arena, note, status == ASPACE_OK, &area);
}

/* What only a section, or a snapshot, allows: to follow the user pointer. */
static void follow(struct worker *worker, const struct aspace_area *area)
{
	struct arena *arena = worker->arena;

	if (arena->scenario->objects && area->user && !object_is_alive(area->user))
		arena_say(arena, "the user object of [%#" PRIx64 ", %#" PRIx64 ") was released",
			  area->start.value, area->end.value);
}

static void look_up(struct worker *worker, const struct aspace_view *view)
{
	struct arena *arena = worker->arena;

	for (int i = 0; i < LOOK_FINDS; i++) {
		uint64_t place = choose_place(arena, &worker->random);
		struct note *note = worker_note(worker, NOTE_FIND, view->version, view->version);
		struct aspace_area area;
		bool found = aspace_view_find(view, address_of(arena, place), &area) == ASPACE_OK;

		note->at = place;
		note_area(arena, note, found, &area);
		if (found)
			follow(worker, &area);
	}
	worker->tally.lookups += LOOK_FINDS;
}

/* At most `most` steps, or to the end. */
static void iterate(struct worker *worker, struct notes *notes, const struct aspace_view *view,
		    uint64_t from, bool up, size_t most)
{
	struct arena *arena = worker->arena;
	struct aspace_iter iter;
	struct aspace_area area;
	bool found = true;

	aspace_iter_begin(view, address_of(arena, from), &iter);
	while (most-- && found) {
		struct note *note =
			put_note(notes, up ? NOTE_NEXT : NOTE_PREV, view->version, view->version);

		note->at = from;
		found = up ? aspace_iter_next(&iter, &area) : aspace_iter_prev(&iter, &area);
		note_area(arena, note, found, &area);
		if (!found)
			break;
		follow(worker, &area);
		from = up ? note->end : note->start;
	}
}

void worker_walk(struct worker *worker, struct notes *notes, const struct aspace_view *view)
{
	iterate(worker, notes, view, 0, true, worker->arena->scenario->pages + 1);
}

size_t worker_walk_again(struct worker *worker, const struct notes *walk,
			 const struct aspace_view *view)
{
	struct arena *arena = worker->arena;
	struct aspace_iter iter;
	struct aspace_area area;
	struct note seen;
	size_t count = 0;

	aspace_iter_begin(view, address_of(arena, 0), &iter);
	for (size_t i = 0; i < walk->at_count; i++) {
		const struct note *note = &walk->at[i];

		seen = (struct note){.found = aspace_iter_next(&iter, &area)};
		note_area(arena, &seen, seen.found, &area);
		if (seen.found != note->found ||
		    (seen.found && (seen.start != note->start || seen.end != note->end ||
				    seen.value != note->value))) {
			arena_say(arena,
				  "version %" PRIu64 " has changed at %#" PRIx64
				  " since it was noted",
				  view->version, note->start);
			break;
		}
		if (!seen.found)
			break;
		follow(worker, &area);
		count++;
	}
	return count;
}

/* Mostly for whatever fits; sometimes from a hint on, aligned, or with a guard. */
static void ask_gap(struct worker *worker, struct wish *wish)
{
	struct arena *arena = worker->arena;
	uint64_t choice = random_next(&worker->random), page = arena->witness.page;
	uint64_t start = choose_page(arena, &worker->random), end = start + 1;

	end += (choice >> 8) % GAP_PAGES;
	if (end > arena->scenario->pages)
		end = arena->scenario->pages;
	*wish = (struct wish){
		.lo = start * page,
		.hi = end * page,
		.size = page * (1 + (choice >> 32) % (UINT64_C(2) * arena->scenario->longest)),
		.align = (uint8_t)(__builtin_ctzll(page) + (choice & 2 ? (choice >> 2) % 4 : 0)),
		.down = choice & 1,
	};
	choice = random_next(&worker->random) >> 8;
	if (choice & 1)
		wish->hint = (uint32_t)(choose_page(arena, &worker->random) * page);
	wish->wrap = choice & 2;
	if (!(choice & 12))
		wish->guard = (uint32_t)(page * (1 + (choice >> 4) % 2));
}

static struct aspace_gap gap_of(const struct arena *arena, const struct wish *wish)
{
	return (struct aspace_gap){
		.size = wish->size,
		.align = UINT64_C(1) << wish->align,
		.hint.value = wish->hint ? arena->witness.base + wish->hint : 0,
		.limits = range_of(arena, wish->lo, wish->hi),
		.guard = wish->guard,
		.downward = wish->down,
		.wrap = wish->wrap,
	};
}

static void note_gap(struct worker *worker, const struct wish *wish, struct note *note,
		     enum aspace_status status, struct aspace_vaddr answer)
{
	note->wish = *wish;
	note->found = status == ASPACE_OK;
	if (note->found)
		note->start = answer.value - worker->arena->witness.base;
	else if (status != ASPACE_NO_SPACE)
		arena_say(worker->arena, "a gap search: %s", aspace_status_string(status));
}

void worker_look(struct worker *worker, const struct aspace_view *view)
{
	struct arena *arena = worker->arena;

	look_up(worker, view);
	iterate(worker, &worker->notes, view, choose_place(arena, &worker->random), true,
		LOOK_STEPS);
	iterate(worker, &worker->notes, view, choose_place(arena, &worker->random), false,
		LOOK_STEPS);
	for (int i = 0; i < LOOK_GAPS; i++) {
		struct aspace_vaddr answer = {0};
		struct aspace_gap gap;
		struct wish wish;
		struct note *note;
		enum aspace_status status;

		ask_gap(worker, &wish);
		gap = gap_of(arena, &wish);
		status = aspace_view_find_free(view, &gap, &answer);
		note = worker_note(worker, NOTE_GAP, view->version, view->version);
		note_gap(worker, &wish, note, status, answer);
		note = worker_note(worker, NOTE_OVERLAPS, view->version, view->version);
		note->at = wish.lo;
		note->end = wish.hi;
		note->found = aspace_view_overlaps(view, gap.limits);
	}
}

void worker_handle(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t first = floor_of(arena, worker->handler_seen);
	struct notes *notes = &worker->handler_notes;
	struct aspace_view view;

	aspace_read_begin(arena->witness.space, &view);
	iterate(worker, notes, &view, choose_place(arena, &worker->handler_random), true, 4);
	aspace_read_end(&view);
	put_note(notes, NOTE_VIEW, first, newest(arena, &worker->handler_seen))->value =
		view.version;
	worker_find(worker, notes, choose_place(arena, &worker->handler_random),
		    &worker->handler_seen);
}

/* ---- Reading actions ------------------------------------------------------------- */

static void act_find(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t place = 0;
	/* Once at each place, or again and again: the library remembers the last hit. */
	unsigned again = random_next(&worker->random) & 1 ? 1 : BATCH / 4;

	for (unsigned i = 0; i < BATCH; i++) {
		if (i % again == 0)
			place = choose_place(arena, &worker->random);
		if (arena->share == 1 || random_next(&worker->random) % arena->share == 0)
			worker_find(worker, &worker->notes, place, &worker->seen);
		else
			aspace_find(arena->witness.space, address_of(arena, place), NULL);
	}
	worker->tally.lookups += BATCH;
}

static void act_overlaps(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t start = choose_place(arena, &worker->random), first, last;
	uint64_t end = start + 1 + random_next(&worker->random) % (4 * arena->witness.page);
	struct note *note;
	bool found;

	if (end > arena->witness.size)
		end = arena->witness.size;
	first = worker_floor(worker);
	found = aspace_overlaps(arena->witness.space, range_of(arena, start, end));
	last = worker_now(worker);
	note = worker_note(worker, NOTE_OVERLAPS, first, last);
	note->at = start;
	note->end = end;
	note->found = found;
}

/* Is all of a range mapped, and how much of it? */
static void act_questions(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t start = choose_place(arena, &worker->random), first, bytes;
	uint64_t end = start + 1 + random_next(&worker->random) % (4 * arena->witness.page);
	struct aspace_vaddr reached;
	enum aspace_status status;
	struct aspace_range range;
	struct note *note;

	if (end > arena->witness.size)
		end = arena->witness.size;
	range = range_of(arena, start, end);
	first = worker_floor(worker);
	status = aspace_check_range(arena->witness.space, range, NULL, &reached);
	note = worker_note(worker, NOTE_ALL, first, worker_now(worker));
	note->at = start;
	note->end = end;
	note->found = status == ASPACE_OK;
	note->start = start + (reached.value - range.start.value);
	first = worker_floor(worker);
	bytes = aspace_bytes_in(arena->witness.space, range, NULL);
	note = worker_note(worker, NOTE_BYTES, first, worker_now(worker));
	note->at = start;
	note->end = end;
	note->value = bytes;
}

static void act_gap(struct worker *worker)
{
	struct aspace_vaddr answer = {0};
	enum aspace_status status;
	uint64_t first, last;
	struct aspace_gap gap;
	struct wish wish;

	ask_gap(worker, &wish);
	gap = gap_of(worker->arena, &wish);
	first = worker_floor(worker);
	status = aspace_find_free(worker->arena->witness.space, &gap, &answer);
	last = worker_now(worker);
	note_gap(worker, &wish, worker_note(worker, NOTE_GAP, first, last), status, answer);
}

static void act_count(struct worker *worker)
{
	uint64_t first = worker_floor(worker), last;
	size_t count = aspace_count(worker->arena->witness.space);

	last = worker_now(worker);
	worker_note(worker, NOTE_COUNT, first, last)->value = count;
}

struct dump {
	const struct arena *arena;
	uint64_t mixed;
	bool fine;
};

/* START-END flags=0xF backend=0xB user=0xU[ leaving] */
static bool take_line(void *ctx, const char *text, size_t length)
{
	static const char *const before[] = {"", "-", " flags=0x", " backend=0x", " user=0x"};
	struct dump *dump = ctx;
	uint64_t number[5], base = dump->arena->witness.base;
	char line[256], *at = line;

	dump->fine = length < sizeof(line);
	if (!dump->fine)
		return false;
	memcpy(line, text, length);
	line[length] = '\0';
	for (int i = 0; i < 5 && dump->fine; i++) {
		dump->fine = !strncmp(at, before[i], strlen(before[i]));
		if (dump->fine)
			number[i] = strtoull(at + strlen(before[i]), &at, 16);
	}
	if (!dump->fine || !strcmp(at, " leaving\n"))
		return dump->fine;
	dump->fine = !strcmp(at, "\n") && number[3] == (uintptr_t)&dump->arena->witness.backend;
	dump->mixed = mix_area(dump->mixed, number[0] - base, number[1] - base,
			       value_of(number[2], (void *)(uintptr_t)number[4]));
	return dump->fine;
}

static void act_dump(struct worker *worker)
{
	struct dump dump = {.arena = worker->arena, .fine = true};
	uint64_t first = worker_floor(worker), last;
	enum aspace_status status;

	status = aspace_dump(worker->arena->witness.space, ASPACE_DUMP_MAPS, take_line, &dump);
	last = worker_now(worker);
	if (status != ASPACE_OK || !dump.fine)
		arena_say(worker->arena, "aspace_dump: %s, or a line that cannot be read",
			  aspace_status_string(status));
	worker_note(worker, NOTE_DUMP, first, last)->value = dump.mixed;
}

static void choose_range(struct worker *worker, uint64_t *start, uint64_t *end)
{
	struct arena *arena = worker->arena;
	const struct scenario *scenario = arena->scenario;
	uint64_t choice = random_next(&worker->random), from, length = 1;

	if (scenario->band) {
		uint64_t band = atomic_load_explicit(&arena->band, memory_order_relaxed);

		if (choice % 64 == 0)
			atomic_store_explicit(&arena->band, band + 1, memory_order_relaxed);
		from = (band + (choice >> 8) % 24) % scenario->pages;
	} else {
		from = (choice >> 8) % scenario->pages;
		length += (choice >> 40) % scenario->longest;
	}
	if (from + length > scenario->pages)
		length = scenario->pages - from;
	*start = from * arena->witness.page;
	*end = (from + length) * arena->witness.page;
}

/* The area was there when the backend was called, and when it had answered. */
static void note_errands(struct worker *worker, uint64_t first, uint64_t last)
{
	struct arena *arena = worker->arena;
	struct act *doing = &worker->doing;

	for (unsigned i = 0; i < doing->errand_count && i < ERRANDS_MOST; i++) {
		const struct errand *errand = &doing->errands[i];
		const uint64_t versions[] = {errand->began, errand->ended};

		for (int n = 0; n < 2; n++) {
			struct note *note;

			worker_note_view(worker, first, last, versions[n]);
			note = worker_note(worker, NOTE_FAULT, versions[n], versions[n]);
			note_area(arena, note, true, &errand->area);
			note->at = errand->at;
		}
	}
}

static void begin_errands(struct worker *worker)
{
	worker->doing.deed = NULL;
	worker->doing.errand_count = 0;
	witness_act = &worker->doing;
}

/* What the backend answers is between it and the caller. */
static void act_fault(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t place = choose_place(arena, &worker->random), first = worker_floor(worker), last;
	enum aspace_status status;

	begin_errands(worker);
	status =
		aspace_fault(arena->witness.space, address_of(arena, place), ASPACE_ACCESS_READ, 0);
	witness_act = NULL;
	last = worker_now(worker);
	/* Another's fault, in the same place, has done it: of that there is a note. */
	if (worker->doing.errand_count || status == ASPACE_OK) {
		note_errands(worker, first, last);
		return;
	}
	if (status != ASPACE_NOT_MAPPED)
		arena_say(arena, "aspace_fault: %s", aspace_status_string(status));
	worker_note(worker, NOTE_FAULT, first, last)->at = place;
}

/* All that a backend may be asked for changes no area; what loses contents may wait for readers. */
static void act_advise(struct worker *worker)
{
	static const enum aspace_advice advices[] = {
		ASPACE_ADVICE_POPULATE_READ, ASPACE_ADVICE_POPULATE_WRITE, ASPACE_ADVICE_WILL_NEED,
		ASPACE_ADVICE_COLD,          ASPACE_ADVICE_FREE,           ASPACE_ADVICE_DROP,
		ASPACE_ADVICE_NO_HUGE,       ASPACE_ADVICE_NORMAL,
	};
	const size_t count = sizeof(advices) / sizeof(advices[0]);
	enum aspace_advice advice = advices[(random_next(&worker->random) >> 32) % count];
	struct arena *arena = worker->arena;
	uint64_t start, end, first = worker_floor(worker), last;
	enum aspace_status status;

	choose_range(worker, &start, &end);
	begin_errands(worker);
	worker->doing.advised = range_of(arena, start, end);
	worker->doing.asked = shadow_now(&arena->witness.shadow);
	status = aspace_advise(arena->witness.space, worker->doing.advised, advice, 0);
	witness_act = NULL;
	last = worker_now(worker);
	note_errands(worker, first, last);
	/* Who may not write may not populate for writing; and memory, or mappings, may be lacking. */
	if (status != ASPACE_OK && !worker->doing.errand_count)
		arena_say(arena, "aspace_advise: %s", aspace_status_string(status));
}

/* What a section has found in a grace-unmap space stays as long as the section: memory, access, contents. */
enum {
	SIGHTS = 12,
};

struct sights {
	struct shadow_sight at[SIGHTS];
	bool written[SIGHTS];
	uint64_t dropped[SIGHTS];
	unsigned count;
};

/* Of the host's memory, whose pages several readers may write to. */
static _Atomic char *byte_of(const struct arena *arena, const struct shadow_sight *sight)
{
	return (_Atomic char *)(uintptr_t)(arena->witness.base + sight->page * arena->witness.page);
}

static void refute_sight(struct worker *worker, const struct shadow_sight *sight, const char *what)
{
	if (what)
		arena_say(worker->arena, "page %" PRIu64 ", found with flags %#" PRIx64 ": %s",
			  sight->page, sight->flags, what);
}

/* Real memory is touched; where it may be, written. */
static void touch(struct worker *worker, struct sights *sights, unsigned i)
{
	struct witness *witness = &worker->arena->witness;
	const struct shadow_sight *sight = &sights->at[i];

	sights->written[i] = false;
	if (!witness->host || !(sight->flags & ASPACE_HOST_READ))
		return;
	(void)atomic_load_explicit(byte_of(worker->arena, sight), memory_order_relaxed);
	if (!(sight->flags & ASPACE_HOST_WRITE) ||
	    !shadow_is_steady(&witness->shadow, sight->page, &sights->dropped[i]))
		return;
	atomic_store_explicit(byte_of(worker->arena, sight), 1, memory_order_relaxed);
	sights->written[i] = true;
}

static void see(struct worker *worker, const struct aspace_view *view, struct sights *sights)
{
	struct arena *arena = worker->arena;
	struct shadow *shadow = &arena->witness.shadow;
	uint64_t asked = shadow_now(shadow);

	for (int i = 0; i < SIGHTS; i++) {
		uint64_t place = choose_place(arena, &worker->random);
		struct shadow_sight *sight = &sights->at[sights->count];
		struct aspace_area area;

		if (aspace_view_find(view, address_of(arena, place), &area) != ASPACE_OK)
			continue;
		refute_sight(
			worker, sight,
			shadow_see(shadow, address_of(arena, place), area.flags, asked, sight));
		touch(worker, sights, sights->count++);
	}
}

/* Something has been taken away from the area, and is still there for us. */
static bool is_pending_now(struct worker *worker, const struct shadow_sight *sight)
{
	struct witness *witness = &worker->arena->witness;
	uint64_t place = sight->page * witness->page, meanwhile;
	struct aspace_area area;

	return aspace_find(witness->space, address_of(worker->arena, place), &area) == ASPACE_OK &&
	       witness_loses(witness, sight->flags, area.flags, &meanwhile);
}

static void see_again(struct worker *worker, const struct sights *sights)
{
	struct arena *arena = worker->arena;
	struct shadow *shadow = &arena->witness.shadow;
	uint64_t dropped;

	for (unsigned i = 0; i < sights->count; i++) {
		const struct shadow_sight *sight = &sights->at[i];
		const char *what = shadow_see_again(shadow, sight);

		refute_sight(worker, sight, what);
		worker->tally.met += is_pending_now(worker, sight);
		if (what || !sights->written[i])
			continue;
		if (!atomic_load_explicit(byte_of(arena, sight), memory_order_relaxed) &&
		    shadow_is_steady(shadow, sight->page, &dropped) &&
		    dropped == sights->dropped[i])
			refute_sight(worker, sight, "what was written there has gone");
	}
}

/* In the section, so that others change what it has found. (They may be waiting for its end.) */
static void stay(struct worker *worker, uint64_t until)
{
	for (int i = 0; i < 64 && !worker_is_over(worker) && worker_now(worker) < until; i++)
		sched_yield();
}

static void act_view(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t first = worker_floor(worker);
	struct sights sights = {.count = 0};
	struct aspace_view view;

	aspace_read_begin(arena->witness.space, &view);
	if (arena->witness.keeps)
		see(worker, &view, &sights);
	worker_look(worker, &view);
	if (sights.count && random_next(&worker->random) % 8 == 0)
		stay(worker, view.version + 16);
	see_again(worker, &sights);
	aspace_read_end(&view);
	worker_note_view(worker, first, worker_now(worker), view.version);
}

static void act_snapshot(struct worker *worker)
{
	struct arena *arena = worker->arena;
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	uint64_t first = worker_floor(worker);
	enum aspace_status status = aspace_snapshot_take(arena->witness.space, &snapshot);

	if (status) {
		arena_say(arena, "aspace_snapshot_take: %s", aspace_status_string(status));
		return;
	}
	worker_note_view(worker, first, worker_now(worker), snapshot.version);
	/* Let versions pass. */
	act_find(worker);
	aspace_snapshot_view(&snapshot, &view);
	worker_look(worker, &view);
	aspace_snapshot_release(&snapshot);
}

/* ---- Deeds ---------------------------------------------------------------------- */

static struct deed *begin(struct worker *worker, enum deed_kind kind, uint64_t start, uint64_t end)
{
	struct arena *arena = worker->arena;
	struct deed *deed = &worker->deeds.at[worker->deeds.at_count];
	uint64_t page = arena->witness.page;

	*deed = (struct deed){
		.kind = kind,
		.before = worker_floor(worker),
		.start = start,
		.end = end,
	};
	atomic_store_explicit(&arena->hot, (start / page) << 32 | ((end - start) / page),
			      memory_order_relaxed);
	worker->doing.deed = deed;
	worker->doing.refused = false;
	worker->doing.standing_count = 0;
	witness_act = &worker->doing;
	return deed;
}

static struct deed *add_part(struct deed *deed, const struct deed *part)
{
	struct deed *to = &deed[++deed->parts];

	*to = *part;
	to->before = deed->before;
	return to;
}

/* After ASPACE_BAD_STATE: what the backend still holds is the truth. */
static void stand(const struct worker *worker, struct deed *deed)
{
	const struct act *doing = &worker->doing;

	deed->kind = DEED_TXN;
	deed->parts = 0;
	for (unsigned i = 0; i < doing->standing_count; i++) {
		const struct aspace_change *change = &doing->standing[i];
		uint64_t base = worker->arena->witness.base;
		struct deed part = {
			.kind = change->kind == ASPACE_CHANGE_UNMAP     ? DEED_UNMAP
				: change->kind == ASPACE_CHANGE_PROTECT ? DEED_PROTECT
				: change->kind == ASPACE_CHANGE_MOVE    ? DEED_MOVE
									: DEED_TRUTH_MAP,
			.start = change->range.start.value - base,
			.end = change->range.end.value - base,
			.to = change->destination.value - base,
			.value = value_of(change->new_flags, NULL),
		};

		add_part(deed, &part);
	}
}

static bool is_expected(const struct worker *worker, enum action action, enum aspace_status status)
{
	switch (status) {
	case ASPACE_OK:
		return true;
	case ASPACE_NO_MEMORY:
	case ASPACE_BAD_STATE:
		return worker->doing.refused;
	case ASPACE_ALREADY_EXISTS:
		return action == ACTION_MAP || action == ACTION_MOVE || action == ACTION_RESIZE;
	case ASPACE_NOT_MAPPED:
		return action == ACTION_MOVE || action == ACTION_RESIZE;
	case ASPACE_NO_SPACE:
		return action == ACTION_ANYWHERE;
	default:
		return false;
	}
}

static void end_deed(struct worker *worker, enum action action, struct deed *deed,
		     enum aspace_status status)
{
	struct tally *tally = &worker->tally;

	witness_act = NULL;
	deed->after = worker_now(worker);
	if (!is_expected(worker, action, status))
		arena_say(worker->arena, "%s of [%#" PRIx64 ", %#" PRIx64 "): %s",
			  action_name(action), deed->start, deed->end,
			  aspace_status_string(status));
	if (status == ASPACE_BAD_STATE) {
		stand(worker, deed);
		tally->bad_states++;
	} else if (status != ASPACE_OK) {
		return;
	}
	tally->done[action]++;
	worker->deeds.at_count += 1 + deed->parts;
	complete(worker->arena, deed->after);
}

/* It says that it did nothing: then there was nothing to be done. */
static bool is_idle(struct worker *worker, const struct deed *deed, enum aspace_status status)
{
	struct note *note;

	if (status != ASPACE_OK || deed->sure)
		return false;
	note = worker_note(worker, deed->kind == DEED_PROTECT ? NOTE_SAME : NOTE_OVERLAPS,
			   deed->before, worker_now(worker));
	note->at = deed->start;
	note->end = deed->end;
	note->value = deed->value;
	witness_act = NULL;
	return true;
}

static uint64_t choose_flags(struct worker *worker)
{
	return witness_flags(&worker->arena->witness,
			     (unsigned)(random_next(&worker->random) >> 62));
}

/* A user pointer for one area: an object, or one of a few words, so that neighbours
 * merge. */
static void *choose_user(struct worker *worker)
{
	if (worker->arena->scenario->objects)
		return object_make(&worker->arena->witness);
	return (void *)(uintptr_t)(random_next(&worker->random) >> 62 << 4);
}

static void drop_user(struct worker *worker, void *user, enum aspace_status status)
{
	if (status != ASPACE_OK && worker->arena->scenario->objects)
		object_put(&worker->arena->witness, user);
}

static void act_map(struct worker *worker, enum action action)
{
	struct arena *arena = worker->arena;
	uint64_t start, end, flags = choose_flags(worker);
	void *user = choose_user(worker);
	enum aspace_status status;
	struct deed *deed;
	bool replace = action == ACTION_REPLACE;

	choose_range(worker, &start, &end);
	deed = begin(worker, replace ? DEED_REPLACE : DEED_MAP, start, end);
	deed->value = value_of(flags, user);
	status = aspace_map(arena->witness.space, range_of(arena, start, end), flags,
			    &arena->witness.backend, user, replace ? ASPACE_REPLACE : 0);
	end_deed(worker, action, deed, status);
	drop_user(worker, user, status);
	if (status == ASPACE_ALREADY_EXISTS) {
		struct note *note = worker_note(worker, NOTE_OVERLAPS, deed->before, deed->after);

		note->at = start;
		note->end = end;
		note->found = true;
	}
}

static void act_anywhere(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t flags = choose_flags(worker);
	void *user = choose_user(worker);
	struct aspace_vaddr answer = {0};
	enum aspace_status status;
	struct aspace_gap gap;
	struct deed *deed;
	struct wish wish;

	ask_gap(worker, &wish);
	gap = gap_of(arena, &wish);
	deed = begin(worker, DEED_ANYWHERE, wish.lo, wish.hi);
	deed->wish = wish;
	deed->value = value_of(flags, user);
	status = aspace_map_anywhere(arena->witness.space, &gap, flags, &arena->witness.backend,
				     user, 0, &answer);
	if (status == ASPACE_OK) {
		deed->start = answer.value - arena->witness.base;
		deed->end = deed->start + gap.size;
	}
	end_deed(worker, ACTION_ANYWHERE, deed, status);
	drop_user(worker, user, status);
	if (status == ASPACE_NO_SPACE)
		note_gap(worker, &wish, worker_note(worker, NOTE_GAP, deed->before, deed->after),
			 status, answer);
}

static void be_quiet(struct arena *arena, bool quiet)
{
	if (arena->witness.grace)
		quiet ? pthread_mutex_lock(&arena->quiet) : pthread_mutex_unlock(&arena->quiet);
}

static void act_unmap(struct worker *worker, enum action action)
{
	struct arena *arena = worker->arena;
	enum aspace_status status;
	struct deed *deed;
	uint64_t start = 0, end = arena->witness.size;
	bool grace = arena->witness.grace;

	if (action == ACTION_UNMAP)
		choose_range(worker, &start, &end);
	be_quiet(arena, true);
	deed = begin(worker, grace ? DEED_LEAVE : DEED_UNMAP, start, end);
	deed->loose = grace;
	/* Nobody who is quiet has published since. */
	if (grace)
		deed->before = worker_now(worker);
	status = action == ACTION_UNMAP
			 ? aspace_unmap(arena->witness.space, range_of(arena, start, end), 0)
			 : aspace_clear(arena->witness.space, 0);
	if (grace || !is_idle(worker, deed, status))
		end_deed(worker, action, deed, status);
	be_quiet(arena, false);
}

static void act_protect(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t start, end, flags = choose_flags(worker);
	enum aspace_status status;
	struct deed *deed;

	choose_range(worker, &start, &end);
	be_quiet(arena, true);
	deed = begin(worker, DEED_PROTECT, start, end);
	deed->value = flags;
	/* As in act_unmap(). */
	if (arena->witness.grace)
		deed->before = worker_now(worker);
	status = aspace_protect(arena->witness.space, range_of(arena, start, end), flags, 0);
	deed->loose = arena->witness.keeps && !deed->sure;
	if (deed->loose || !is_idle(worker, deed, status))
		end_deed(worker, ACTION_PROTECT, deed, status);
	be_quiet(arena, false);
}

/* Some area that is there now; false: found none. */
static bool choose_area(struct worker *worker, uint64_t *start, uint64_t *end)
{
	struct arena *arena = worker->arena;
	struct aspace_area area;

	if (aspace_find(
		    arena->witness.space,
		    address_of(arena, choose_page(arena, &worker->random) * arena->witness.page),
		    &area) != ASPACE_OK)
		return false;
	*start = area.start.value - arena->witness.base;
	*end = area.end.value - arena->witness.base;
	return true;
}

static void act_move(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t start, end, to;
	enum aspace_status status;
	struct deed *deed;

	if (!choose_area(worker, &start, &end))
		return;
	to = choose_page(arena, &worker->random) * arena->witness.page;
	if (to + (end - start) > arena->witness.size || (to < end && start < to + (end - start)))
		return;
	deed = begin(worker, DEED_MOVE, start, end);
	deed->to = to;
	status = aspace_move(arena->witness.space, range_of(arena, start, end),
			     address_of(arena, to), 0);
	end_deed(worker, ACTION_MOVE, deed, status);
}

static void act_resize(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t start, end, size;
	enum aspace_status status;
	struct deed *deed;

	if (!choose_area(worker, &start, &end))
		return;
	size = arena->witness.page *
	       (1 + random_next(&worker->random) % (UINT64_C(2) * arena->scenario->longest));
	if (start + size > arena->witness.size || start + size == end)
		return;
	deed = begin(worker, DEED_RESIZE, start, start + size);
	status = aspace_resize(arena->witness.space, address_of(arena, start), size, 0);
	/* Of the size that it had by then: nothing to do, nothing to check. */
	if (status == ASPACE_OK && !deed->sure)
		witness_act = NULL;
	else
		end_deed(worker, ACTION_RESIZE, deed, status);
}

/* ---- Transactions ---------------------------------------------------------------- */

enum {
	PARTS_MOST = 6,
};

static enum aspace_status add_map(struct worker *worker, struct aspace_txn *txn, struct deed *part,
				  void *user, bool replace)
{
	struct arena *arena = worker->arena;
	uint64_t flags = choose_flags(worker);

	part->kind = replace ? DEED_REPLACE : DEED_MAP;
	part->value = value_of(flags, user);
	return aspace_txn_map(txn, range_of(arena, part->start, part->end), flags,
			      &arena->witness.backend, user, replace ? ASPACE_REPLACE : 0);
}

/* One operation of the transaction. True: it was done; *user is to be dropped if the
 * transaction is not committed. */
static bool add_operation(struct worker *worker, struct aspace_txn *txn, struct deed *deed,
			  void **user)
{
	struct arena *arena = worker->arena;
	bool grace = arena->witness.grace;
	enum aspace_status status;
	struct deed part = {0};
	struct aspace_range range;

	*user = NULL;
	choose_range(worker, &part.start, &part.end);
	range = range_of(arena, part.start, part.end);
	switch (random_next(&worker->random) >> 61) {
	case 0:
	case 1:
		part.kind = grace ? DEED_LEAVE : DEED_UNMAP;
		status = aspace_txn_unmap(txn, range, 0);
		break;
	case 2:
	case 3:
		part.kind = DEED_PROTECT;
		part.value = choose_flags(worker);
		status = aspace_txn_protect(txn, range, part.value, 0);
		break;
	default:
		*user = choose_user(worker);
		status = add_map(worker, txn, &part, *user,
				 !grace && random_next(&worker->random) >> 62);
		drop_user(worker, *user, status);
		break;
	}
	if (status == ASPACE_OK) {
		add_part(deed, &part);
		return true;
	}
	*user = NULL;
	worker->tally.busy += status == ASPACE_BUSY && grace && part.kind != DEED_MAP;
	if (!(status == ASPACE_ALREADY_EXISTS && part.kind == DEED_MAP) &&
	    !(status == ASPACE_BUSY && grace))
		arena_say(arena, "an operation of a transaction: %s", aspace_status_string(status));
	return false;
}

static void commit(struct worker *worker, struct aspace_txn *txn, struct deed *deed,
		   void *const *users, unsigned count)
{
	enum aspace_status status = aspace_txn_commit(txn);

	end_deed(worker, ACTION_TXN, deed, status);
	for (unsigned i = 0; i < count; i++)
		drop_user(worker, users[i], status);
}

static void transact(struct worker *worker)
{
	struct arena *arena = worker->arena;
	unsigned wanted = 1 + random_next(&worker->random) % PARTS_MOST, count = 0;
	void *users[PARTS_MOST];
	struct aspace_view view;
	struct aspace_txn *txn;
	enum aspace_status status;
	struct deed *deed;
	uint64_t start, end;

	choose_range(worker, &start, &end);
	deed = begin(worker, DEED_TXN, start, end);
	status = aspace_txn_begin(arena->witness.space, 0, &txn);
	if (status) {
		end_deed(worker, ACTION_TXN, deed, status);
		return;
	}
	aspace_read_begin(arena->witness.space, &view);
	deed->version = view.version + 1;
	aspace_read_end(&view);
	while (wanted--) {
		if (add_operation(worker, txn, deed, &users[count]) && users[count])
			count++;
	}
	if (deed->parts && random_next(&worker->random) % 8) {
		commit(worker, txn, deed, users, count);
		return;
	}
	aspace_txn_abort(txn);
	witness_act = NULL;
	while (count--)
		drop_user(worker, users[count], ASPACE_BUSY);
	worker->tally.aborted++;
}

static void act_txn(struct worker *worker)
{
	be_quiet(worker->arena, true);
	transact(worker);
	be_quiet(worker->arena, false);
}

/* ---- The thread ------------------------------------------------------------------ */

static enum action choose_action(struct worker *worker, enum action from, enum action to)
{
	const unsigned *weights = worker->arena->weights;
	unsigned total = 0, choice;
	int action;

	for (action = from; action < (int)to; action++)
		total += weights[action];
	choice = (unsigned)(random_next(&worker->random) >> 32) % (total ? total : 1);
	for (action = from; action + 1 < (int)to && choice >= weights[action]; action++)
		choice -= weights[action];
	return (enum action)action;
}

static void take(struct worker *worker, enum action action)
{
	atomic_store_explicit(&worker->at, (int)action, memory_order_relaxed);
	worker->tally.actions[action]++;
	switch (action) {
	case ACTION_FIND:
		act_find(worker);
		break;
	case ACTION_OVERLAPS:
		act_overlaps(worker);
		act_questions(worker);
		break;
	case ACTION_GAP:
		act_gap(worker);
		break;
	case ACTION_VIEW:
		act_view(worker);
		break;
	case ACTION_SNAPSHOT:
		act_snapshot(worker);
		break;
	case ACTION_COUNT:
		act_count(worker);
		break;
	case ACTION_DUMP:
		act_dump(worker);
		break;
	case ACTION_FAULT:
		act_fault(worker);
		break;
	case ACTION_ADVISE:
		act_advise(worker);
		break;
	case ACTION_MAP:
	case ACTION_REPLACE:
		act_map(worker, action);
		break;
	case ACTION_ANYWHERE:
		act_anywhere(worker);
		break;
	case ACTION_UNMAP:
	case ACTION_CLEAR:
		act_unmap(worker, action);
		break;
	case ACTION_PROTECT:
		act_protect(worker);
		break;
	case ACTION_MOVE:
		act_move(worker);
		break;
	case ACTION_RESIZE:
		act_resize(worker);
		break;
	case ACTION_TXN:
		act_txn(worker);
		break;
	default:
		break;
	}
	atomic_store_explicit(&worker->at, -1, memory_order_relaxed);
}

void worker_read(struct worker *worker)
{
	take(worker, choose_action(worker, ACTION_FIND, ACTION_READS));
}

void worker_write(struct worker *worker)
{
	take(worker, choose_action(worker, ACTION_READS, ACTIONS));
}

static void check_notes(struct worker *worker, const struct notes *notes)
{
	struct arena *arena = worker->arena;
	struct lie lie;

	for (size_t i = 0; i < notes->at_count; i++) {
		const struct note *note = &notes->at[i];

		worker->tally.notes[note->kind]++;
		worker->tally.overlapping += note->first != note->last;
		if (!check_note(&arena->ledger, note, &lie))
			arena_say(arena, "%s", lie.reason);
	}
	worker->tally.checked += notes->at_count;
}

bool worker_is_full(const struct worker *worker)
{
	return worker->notes.at_count + NOTES_SPARE > NOTES_MOST ||
	       worker->deeds.at_count + DEEDS_SPARE > DEEDS_MOST;
}

void *worker_main(void *ctx)
{
	struct worker *worker = ctx;
	struct arena *arena = worker->arena;

	worker_self = worker;
	for (;;) {
		gate_arrive(&arena->gate);
		if (atomic_load(&arena->stop)) {
			if (worker->leave)
				worker->leave(worker);
			return NULL;
		}
		if (atomic_load(&arena->checking)) {
			check_notes(worker, &worker->notes);
			check_notes(worker, &worker->handler_notes);
			worker->notes.at_count = worker->deeds.at_count = 0;
			worker->handler_notes.at_count = 0;
			continue;
		}
		while (!worker_is_over(worker)) {
			worker->act(worker);
			if (worker_is_full(worker))
				atomic_store_explicit(&arena->round_over, true,
						      memory_order_relaxed);
		}
	}
}

void worker_free(struct worker *worker)
{
	free(worker->notes.at);
	free(worker->deeds.at);
	free(worker->handler_notes.at);
}
