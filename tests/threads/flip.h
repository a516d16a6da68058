/* SPDX-License-Identifier: MIT */
/*
 * A pattern that says of every answer whether it is legal.
 *
 * A space is divided into slots. A slot goes from generation to generation, each by one
 * update: odd ones are a whole area, even ones a smaller one in the middle, every eighth
 * one none at all. An area's flags and user pointer are computed from slot and generation,
 * so a torn answer contradicts itself, and a reader that has seen a generation must never
 * see an earlier one.
 */
#ifndef THREADS_FLIP_H
#define THREADS_FLIP_H

#include "crew.h"

#define FLIP_SLOT  UINT64_C(0x10000)
#define FLIP_SLOTS 512 /* three levels of the tree */

struct flip {
	struct aspace *space;
	struct traffic traffic;
	/* The generation that has been published at least. */
	_Atomic uint32_t done[FLIP_SLOTS];
	/* How long must the readers trust that? See flip_read(). */
	bool ordered;
	long updates; /* each writer makes */
	unsigned writers;
	uint64_t seed;
	/* What a thread does at its begin, at its end and now and then; may be NULL. */
	void (*enter)(void), (*leave)(void), (*pause)(void);
	void (*enter_writer)(void);
	/* All relaxed, or they would order what the library alone is to order. */
	_Atomic unsigned next_number;
	_Atomic unsigned writing;
	_Atomic uint64_t lookups, hits;
};

static inline uint64_t flip_flags(unsigned slot, uint32_t generation)
{
	return ((uint64_t)slot << 32 | generation) & 0x00ffffffffffffff;
}

static inline void *flip_user(unsigned slot, uint32_t generation)
{
	return (void *)(uintptr_t)((((uint64_t)generation << 16) + slot) * 7919);
}

/* False: nothing in this generation. */
static inline bool flip_range(unsigned slot, uint32_t generation, struct aspace_range *range)
{
	uint64_t base = (slot + 1) * FLIP_SLOT;

	*range = generation & 1 ? aspace_range_of(base, base + FLIP_SLOT)
				: aspace_range_of(base + FLIP_SLOT / 4, base + FLIP_SLOT / 2);
	return generation % 8 != 0;
}

static inline void flip_update(struct flip *flip, unsigned slot)
{
	uint32_t generation = relaxed_load(&flip->done[slot]) + 1;
	uint64_t base = (slot + 1) * FLIP_SLOT;
	struct aspace_range range, all = aspace_range_of(base, base + FLIP_SLOT);
	struct aspace_txn *txn;

	update_begins(&flip->traffic);
	if (!flip_range(slot, generation, &range)) {
		check_ok(aspace_unmap(flip->space, all, 0));
	} else if (generation & 1) {
		check_ok(aspace_map(flip->space, range, flip_flags(slot, generation),
				    aspace_null_backend(), flip_user(slot, generation),
				    ASPACE_REPLACE));
	} else {
		check_ok(aspace_txn_begin(flip->space, 0, &txn));
		check_ok(aspace_txn_unmap(txn, all, 0));
		check_ok(aspace_txn_map(txn, range, flip_flags(slot, generation),
					aspace_null_backend(), flip_user(slot, generation), 0));
		check_ok(aspace_txn_commit(txn));
	}
	atomic_store_explicit(&flip->done[slot], generation,
			      flip->ordered ? memory_order_release : memory_order_relaxed);
	update_ends(&flip->traffic);
}

/* Checks one answer; answers the generation that it is of, 0 if that is not known. */
static inline uint32_t flip_check(unsigned slot, uint64_t address, enum aspace_status status,
				  const struct aspace_area *area)
{
	struct aspace_range range;
	uint32_t generation;

	if (status == ASPACE_NOT_MAPPED)
		return 0;
	check_ok(status);
	generation = (uint32_t)area->flags;
	if (area->flags >> 32 != slot || !flip_range(slot, generation, &range) ||
	    area->start.value != range.start.value || area->end.value != range.end.value ||
	    area->user != flip_user(slot, generation) || area->backend != aspace_null_backend() ||
	    address < area->start.value || address >= area->end.value)
		fail("torn: at %#llx in slot %u: [%#llx, %#llx) flags %#llx user %p",
		     (unsigned long long)address, slot, (unsigned long long)area->start.value,
		     (unsigned long long)area->end.value, (unsigned long long)area->flags,
		     area->user);
	return generation;
}

/* One lookup. `seen`: the generations that this thread has met. */
static inline void flip_read(struct flip *flip, struct dice *dice, uint32_t *seen)
{
	unsigned slot = (unsigned)roll_below(dice, FLIP_SLOTS);
	/* Half of them where every generation but the eighth has an area. */
	uint64_t offset = roll_below(dice, 2) ? FLIP_SLOT / 4 + roll_below(dice, FLIP_SLOT / 4)
					      : roll_below(dice, FLIP_SLOT);
	uint64_t address = (slot + 1) * FLIP_SLOT + offset;
	bool middle = offset >= FLIP_SLOT / 4 && offset < FLIP_SLOT / 2;
	struct aspace_area area;
	enum aspace_status status;
	struct glimpse glimpse;
	uint32_t generation, least;

	/* Linearizable: what had been published before the lookup began is seen. Where
	 * only the library orders, the thread's own earlier answers are the bound. */
	least = flip->ordered ? atomic_load_explicit(&flip->done[slot], memory_order_acquire)
			      : seen[slot];
	glimpse = lookup_begins(&flip->traffic);
	status = aspace_find(flip->space, aspace_va(address), &area);
	lookup_ends(&flip->traffic, glimpse);
	relaxed_add(&flip->lookups, 1);

	generation = flip_check(slot, address, status, &area);
	if (generation) {
		relaxed_add(&flip->hits, 1);
		if (generation < least)
			fail("slot %u: generation %u after %u", slot, generation, least);
		seen[slot] = generation;
	} else if (flip->ordered && middle && !glimpse.busy && least % 8 &&
		   relaxed_load(&flip->traffic.begun) == glimpse.begun &&
		   relaxed_load(&flip->done[slot]) == least) {
		/* Not one update was under way, and none had been made since `least`
		 * was read (the thread may have slept in between). */
		fail("slot %u: a hole in generation %u", slot, least);
	}
}

static inline void *flip_reader(void *arg)
{
	struct flip *flip = arg;
	unsigned number = relaxed_add(&flip->next_number, 1);
	struct dice dice = {flip->seed + number};
	uint32_t seen[FLIP_SLOTS] = {0};
	unsigned turn = 0;

	if (flip->enter)
		flip->enter();
	while (!relaxed_load(&flip->traffic.stop)) {
		flip_read(flip, &dice, seen);
		if (flip->pause && ++turn % 16 == 0)
			flip->pause();
	}
	if (flip->leave)
		flip->leave();
	return NULL;
}

/* Each writer has slots of its own. */
static inline void *flip_writer(void *arg)
{
	struct flip *flip = arg;
	unsigned number = relaxed_add(&flip->next_number, 1);
	struct dice dice = {flip->seed + number};
	unsigned mine = relaxed_add(&flip->writing, 1);

	if (flip->enter_writer)
		flip->enter_writer();
	for (long i = 0; !enough(&flip->traffic, i, flip->updates); i++) {
		unsigned slot = (unsigned)roll_below(&dice, FLIP_SLOTS / flip->writers);

		flip_update(flip, slot * flip->writers + mine);
	}
	if (flip->leave)
		flip->leave();
	return NULL;
}

/* `readers` threads against flip->writers of them. */
static inline void flip_run(struct flip *flip, const char *what, unsigned readers)
{
	pthread_t threads[16];
	unsigned count = 0;

	check(readers + flip->writers <= 16);
	for (unsigned i = 0; i < readers; i++)
		threads[count++] = spawn(flip_reader, flip);
	for (unsigned i = 0; i < flip->writers; i++)
		threads[count++] = spawn(flip_writer, flip);
	while (count > readers)
		join(threads[--count]);
	relaxed_store(&flip->traffic.stop, true);
	while (count)
		join(threads[--count]);
	report(what, &flip->traffic);
	check(relaxed_load(&flip->hits) > 0);
}

#endif
