/* SPDX-License-Identifier: MIT */
#include "shadow.h"

#include <stdlib.h>

#include "array.h"
#include "ordered.h"

enum {
	SHADOW_MAPPED = 1,
	SHADOW_WORK = 2,    /* a fault or advice is at work */
	SHADOW_CHANGE = 4,  /* changed in the batch at hand */
	SHADOW_FLAGS = 8,   /* where flags begin, */
	SHADOW_LOSSES = 32, /* and where it is counted how often a change has taken contents away */
	SHADOW_ALL = 3      /* flags of an area that has contents, for reading and writing */
};
#define SHADOW_FLAGS_MASK (((UINT64_C(1) << (SHADOW_LOSSES - SHADOW_FLAGS)) - 1) << SHADOW_FLAGS)

/* For readers, whose order with writers is the library's business. */
#define READ_ORDER (ORDERED ? memory_order_seq_cst : memory_order_relaxed)

void shadow_open(struct shadow *shadow, uint64_t base, uint64_t page, uint64_t count,
		 shadow_loses *loses, void *ctx)
{
	*shadow = (struct shadow){
		.pages = array_zeroed(count, sizeof(*shadow->pages)),
		.dropped = array_zeroed(count, sizeof(*shadow->dropped)),
		.loses = loses,
		.ctx = ctx,
		.base = base,
		.page = page,
		.count = count,
	};
}

void shadow_close(struct shadow *shadow)
{
	free(shadow->pages);
	free(shadow->dropped);
}

static void say(struct shadow *shadow, uint64_t page, const char *what)
{
	const char *none = NULL;

	if (atomic_compare_exchange_strong(&shadow->wrong, &none, what))
		atomic_store_explicit(&shadow->where, page, memory_order_relaxed);
}

void shadow_say(struct shadow *shadow, struct aspace_vaddr at, const char *what)
{
	say(shadow, (at.value - shadow->base) / shadow->page, what);
}

/* Pages [*from, *to). */
static void pages_of(struct shadow *shadow, struct aspace_range range, uint64_t *from, uint64_t *to)
{
	*from = (range.start.value - shadow->base) / shadow->page;
	*to = (range.end.value - shadow->base + shadow->page - 1) / shadow->page;
	if (range.start.value < shadow->base || *to > shadow->count) {
		say(shadow, *from, "a backend is called outside of the space");
		*from = *to = 0;
	}
}

void shadow_work_begin(struct shadow *shadow, struct aspace_range range)
{
	uint64_t from, to;

	pages_of(shadow, range, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		uint64_t old = atomic_fetch_or(&shadow->pages[i], SHADOW_WORK);

		if (!(old & SHADOW_MAPPED))
			say(shadow, i, "a fault or advice where nothing is mapped");
		if (old & SHADOW_WORK)
			say(shadow, i, "two faults or advices in one place at once");
		if (old & SHADOW_CHANGE)
			say(shadow, i, "a fault or advice in what a writer changes");
	}
}

void shadow_work_end(struct shadow *shadow, struct aspace_range range)
{
	uint64_t from, to;

	pages_of(shadow, range, &from, &to);
	for (uint64_t i = from; i < to; i++)
		atomic_fetch_and(&shadow->pages[i], ~(uint64_t)SHADOW_WORK);
}

/* Only whoever has the writer lock does this. */
static void set_flags(struct shadow *shadow, uint64_t page, uint64_t flags)
{
	uint64_t old = atomic_load_explicit(&shadow->pages[page], memory_order_relaxed);

	while (!atomic_compare_exchange_weak(&shadow->pages[page], &old,
					     (old & ~SHADOW_FLAGS_MASK) | flags << SHADOW_FLAGS))
		;
}

static uint64_t flags_of(uint64_t word)
{
	return (word & SHADOW_FLAGS_MASK) >> SHADOW_FLAGS;
}

static bool loses_contents(const struct shadow *shadow, const struct aspace_change *change)
{
	if (change->kind != ASPACE_CHANGE_PROTECT)
		return change->kind != ASPACE_CHANGE_MAP;
	return shadow->loses && shadow->loses(shadow->ctx, change->old_flags, change->new_flags) &
					ASPACE_LOSES_CONTENTS;
}

static void begin(struct shadow *shadow, struct aspace_range range)
{
	uint64_t from, to;

	pages_of(shadow, range, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		if (atomic_fetch_or(&shadow->pages[i], SHADOW_CHANGE) & SHADOW_WORK)
			say(shadow, i, "a writer changes where a fault or advice is at work");
	}
}

static void forget(struct shadow *shadow, struct aspace_range range)
{
	uint64_t from, to;

	pages_of(shadow, range, &from, &to);
	for (uint64_t i = from; i < to; i++)
		atomic_fetch_and(&shadow->pages[i], ~(uint64_t)SHADOW_CHANGE);
}

/* `changed` until the flush; of more than can be noted, only until now. */
static void end(struct shadow *shadow, struct aspace_range range)
{
	if (shadow->changed_count < SHADOW_CHANGES_MOST)
		shadow->changed[shadow->changed_count++] = range;
	else
		forget(shadow, range);
}

static void mark(struct shadow *shadow, struct aspace_range range, bool mapped, uint64_t flags)
{
	uint64_t from, to;

	pages_of(shadow, range, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		set_flags(shadow, i, flags);
		if (mapped)
			atomic_fetch_or(&shadow->pages[i], SHADOW_MAPPED);
		else
			atomic_fetch_and(&shadow->pages[i], ~(uint64_t)SHADOW_MAPPED);
	}
}

/* What it takes away may be gone from here on. */
static void take_away(struct shadow *shadow, const struct aspace_change *change)
{
	bool contents = loses_contents(shadow, change);
	uint64_t from, to;

	pages_of(shadow, change->range, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		if (change->kind == ASPACE_CHANGE_PROTECT)
			set_flags(shadow, i, change->old_flags & change->new_flags);
		if (contents)
			atomic_fetch_add(&shadow->pages[i], UINT64_C(1) << SHADOW_LOSSES);
	}
}

static struct aspace_range destination_of(const struct aspace_change *change)
{
	uint64_t start = change->destination.value;

	return aspace_range_of(start, start + aspace_range_size(change->range));
}

void shadow_change_begin(struct shadow *shadow, const struct aspace_change *change)
{
	begin(shadow, change->range);
	take_away(shadow, change);
	if (change->kind == ASPACE_CHANGE_MOVE)
		begin(shadow, destination_of(change));
}

void shadow_change_end(struct shadow *shadow, const struct aspace_change *change, bool done)
{
	bool protects = change->kind == ASPACE_CHANGE_PROTECT;
	bool stays = protects || change->kind == ASPACE_CHANGE_MAP ||
		     change->kind == ASPACE_CHANGE_REPLACE;

	if (done)
		mark(shadow, change->range, stays, stays ? change->new_flags : 0);
	else if (protects)
		mark(shadow, change->range, true, change->old_flags);
	if (done && change->kind == ASPACE_CHANGE_MOVE)
		mark(shadow, destination_of(change), true, change->old_flags);
	end(shadow, change->range);
	if (change->kind == ASPACE_CHANGE_MOVE)
		end(shadow, destination_of(change));
}

void shadow_flush(struct shadow *shadow)
{
	while (shadow->changed_count)
		forget(shadow, shadow->changed[--shadow->changed_count]);
}

/* ---- For readers ---------------------------------------------------------------- */

uint64_t shadow_now(struct shadow *shadow)
{
	return atomic_fetch_add_explicit(&shadow->clock, 1, READ_ORDER);
}

void shadow_drop(struct shadow *shadow, struct aspace_range range, uint64_t asked)
{
	uint64_t from, to;

	pages_of(shadow, range, &from, &to);
	for (uint64_t i = from; i < to; i++)
		atomic_store_explicit(&shadow->dropped[i], asked, READ_ORDER);
}

static uint64_t look(struct shadow *shadow, uint64_t page)
{
	return atomic_load_explicit(&shadow->pages[page], READ_ORDER);
}

const char *shadow_see_again(struct shadow *shadow, const struct shadow_sight *sight)
{
	uint64_t word = look(shadow, sight->page);

	if (!(word & SHADOW_MAPPED))
		return "memory went under a reader that had found it";
	if (shadow->loses(shadow->ctx, sight->flags, flags_of(word)) & ASPACE_LOSES_ACCESS)
		return "access went under a reader that had found it";
	if (shadow->loses(shadow->ctx, SHADOW_ALL, sight->flags) & ASPACE_LOSES_CONTENTS)
		return NULL; /* it had none */
	if (word >> SHADOW_LOSSES != sight->losses)
		return "contents went under a reader that had found them";
	if (atomic_load_explicit(&shadow->dropped[sight->page], READ_ORDER) > sight->asked)
		return "contents were dropped by advice that was given while they were read";
	return NULL;
}

const char *shadow_see(struct shadow *shadow, struct aspace_vaddr at, uint64_t flags,
		       uint64_t asked, struct shadow_sight *sight)
{
	*sight = (struct shadow_sight){
		.page = (at.value - shadow->base) / shadow->page,
		.flags = flags,
		.asked = asked,
	};
	sight->losses = (unsigned)(look(shadow, sight->page) >> SHADOW_LOSSES);
	return shadow_see_again(shadow, sight);
}

bool shadow_is_steady(struct shadow *shadow, uint64_t page, uint64_t *dropped)
{
	*dropped = atomic_load_explicit(&shadow->dropped[page], READ_ORDER);
	return !(look(shadow, page) & SHADOW_WORK);
}

bool shadow_held(struct shadow *shadow, uint64_t page, uint64_t *flags)
{
	uint64_t word = look(shadow, page);

	*flags = flags_of(word);
	return word & SHADOW_MAPPED;
}

const char *shadow_wrong(struct shadow *shadow, uint64_t *where)
{
	*where = atomic_load_explicit(&shadow->where, memory_order_relaxed);
	return atomic_load(&shadow->wrong);
}
