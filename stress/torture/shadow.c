/* SPDX-License-Identifier: MIT */
#include "shadow.h"

#include <stdlib.h>

#include "array.h"

enum {
	SHADOW_MAPPED = 1,
	SHADOW_WORK = 2,   /* a fault or advice is at work */
	SHADOW_CHANGE = 4, /* changed in the batch at hand */
};

void shadow_open(struct shadow *shadow, uint64_t base, uint64_t page, uint64_t count)
{
	*shadow = (struct shadow){
		.pages = array_zeroed(count, sizeof(*shadow->pages)),
		.base = base,
		.page = page,
		.count = count,
	};
}

void shadow_close(struct shadow *shadow)
{
	free(shadow->pages);
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
		unsigned old = atomic_fetch_or(&shadow->pages[i], SHADOW_WORK);

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
		atomic_fetch_and(&shadow->pages[i], ~(unsigned)SHADOW_WORK);
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
		atomic_fetch_and(&shadow->pages[i], ~(unsigned)SHADOW_CHANGE);
}

/* `changed` until the flush; of more than can be noted, only until now. */
static void end(struct shadow *shadow, struct aspace_range range)
{
	if (shadow->changed_count < SHADOW_CHANGES_MOST)
		shadow->changed[shadow->changed_count++] = range;
	else
		forget(shadow, range);
}

static void mark(struct shadow *shadow, struct aspace_range range, bool mapped)
{
	uint64_t from, to;

	pages_of(shadow, range, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		if (mapped)
			atomic_fetch_or(&shadow->pages[i], SHADOW_MAPPED);
		else
			atomic_fetch_and(&shadow->pages[i], ~(unsigned)SHADOW_MAPPED);
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
	if (change->kind == ASPACE_CHANGE_MOVE)
		begin(shadow, destination_of(change));
}

void shadow_change_end(struct shadow *shadow, const struct aspace_change *change, bool done)
{
	if (done && change->kind != ASPACE_CHANGE_PROTECT)
		mark(shadow, change->range,
		     change->kind == ASPACE_CHANGE_MAP || change->kind == ASPACE_CHANGE_REPLACE);
	if (done && change->kind == ASPACE_CHANGE_MOVE)
		mark(shadow, destination_of(change), true);
	end(shadow, change->range);
	if (change->kind == ASPACE_CHANGE_MOVE)
		end(shadow, destination_of(change));
}

void shadow_flush(struct shadow *shadow)
{
	while (shadow->changed_count)
		forget(shadow, shadow->changed[--shadow->changed_count]);
}

const char *shadow_wrong(struct shadow *shadow, uint64_t *where)
{
	*where = atomic_load_explicit(&shadow->where, memory_order_relaxed);
	return atomic_load(&shadow->wrong);
}
