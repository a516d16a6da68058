/* SPDX-License-Identifier: MIT */
/*
 * Real memory in a grace-unmap space: what a reader finds in a section it may read, and write if the
 * area says so, until the section ends. Memory or access that goes too early is a fault here, which
 * ends the program.
 */
#include <aspace/backend/host.h>

#include "crew.h"

#define SLOTS 128
#define SLOT  UINT64_C(0x4000)

static uint64_t seed;
static struct aspace_host *host;
static struct aspace *space;
static uint64_t base;
static struct traffic traffic;
/* Counts, relaxed: they order nothing. */
static _Atomic uint64_t words_read, places, refused, protected, kept;

static _Atomic uint64_t *word_at(uint64_t address)
{
	return (_Atomic uint64_t *)(uintptr_t)address;
}

/* Words of an area are 0, until its writer has written their address. */
static void read_word(uint64_t address)
{
	uint64_t value = relaxed_load(word_at(address));

	if (value && value != address)
		fail("%#llx holds %#llx", (unsigned long long)address, (unsigned long long)value);
	relaxed_add(&words_read, 1);
}

/* An area that may be accessed: as often as somebody likes, also where it has lost that meanwhile. */
static void use(const struct aspace_area *area, uint64_t at, struct dice *dice)
{
	struct aspace_area now;
	bool less;

	read_word(at);
	if (!roll_below(dice, 4))
		sched_yield();
	less = aspace_find(space, aspace_va(at), &now) == ASPACE_OK && area->flags & ~now.flags;
	read_word(at);
	/* Not those that the writer looks at. */
	if (area->flags & ASPACE_HOST_WRITE && at % 1024)
		relaxed_store(word_at(at), at);
	read_word(area->start.value);
	read_word(area->end.value - 8);
	relaxed_add(&kept, less);
}

static void *reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&traffic.stop)) {
		struct glimpse glimpse = lookup_begins(&traffic);
		struct aspace_view view;
		struct aspace_area area;
		uint64_t at = base + roll_below(&dice, SLOTS * SLOT / 8) * 8;

		aspace_read_begin(space, &view);
		if (aspace_view_find(&view, aspace_va(at), &area) == ASPACE_OK &&
		    area.flags & ASPACE_HOST_READ)
			use(&area, at, &dice);
		aspace_read_end(&view);
		lookup_ends(&traffic, glimpse);
	}
	return NULL;
}

static void fill(uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += 1024) {
		/* Fresh: no area of before is still there. */
		check(relaxed_load(word_at(at)) == 0);
		relaxed_store(word_at(at), at);
	}
}

static void protect(struct dice *dice, struct aspace_range range, unsigned how)
{
	static const uint64_t flags[] = {0, ASPACE_HOST_READ, ASPACE_HOST_DECOMMITTED,
					 ASPACE_HOST_READ | ASPACE_HOST_WRITE};
	enum aspace_status status = aspace_protect(space, range, flags[roll_below(dice, 4)], how);

	if (status == ASPACE_OK)
		relaxed_add(&protected, 1);
	else
		check(status == ASPACE_BUSY);
}

static void *writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};
	uint64_t parity = (uintptr_t)arg & 1;
	struct aspace_backend *backend = aspace_host_backend(host);

	for (long i = 0; !enough(&traffic, i, scaled(10000)) || !relaxed_load(&kept); i++) {
		uint64_t at = base + (roll_below(&dice, SLOTS / 2) * 2 + parity) * SLOT;
		struct aspace_range range = aspace_range_of(at, at + SLOT);
		/* Mostly leaving and pending areas are in the way: now and then wait for them. */
		unsigned how = roll_below(&dice, 16) ? ASPACE_NOWAIT : 0;
		enum aspace_status status;

		update_begins(&traffic);
		switch (roll_below(&dice, 4)) {
		case 0:
			status = aspace_map(space, range, ASPACE_HOST_READ | ASPACE_HOST_WRITE,
					    backend, NULL, how);
			if (status == ASPACE_OK) {
				fill(at, at + SLOT);
				relaxed_add(&places, 1);
			} else if (status == ASPACE_BUSY) {
				relaxed_add(&refused, 1);
			} else {
				check(status == ASPACE_ALREADY_EXISTS);
			}
			break;
		case 1:
			protect(&dice, range, how);
			break;
		case 2:
			status = aspace_unmap(space, range, how);
			check(status == ASPACE_OK || status == ASPACE_BUSY);
			break;
		case 3: /* a page in the middle, if it is there */
			range.start.value += roll_below(&dice, 4) * 0x1000;
			range.end.value = range.start.value + 0x1000;
			if (roll_below(&dice, 2))
				protect(&dice, range, how);
			else
				check(aspace_unmap(space, range, how) != ASPACE_BAD_STATE);
			break;
		}
		update_ends(&traffic);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct aspace_host_options options = {.size = sizeof(options), .window = SLOTS * SLOT};
	pthread_t readers[2], writers[2];

	seed = seed_from(argc, argv);
	check_ok(aspace_host_create(&options, &host));
	base = aspace_host_window(host).start.value;
	space = make_space(&(struct aspace_options){
		.limits = aspace_host_window(host),
		.granule = 4096,
		.mode = ASPACE_GRACE_UNMAP,
	});
	for (uintptr_t i = 0; i < 2; i++)
		readers[i] = spawn(reader, (void *)i);
	for (uintptr_t i = 0; i < 2; i++)
		writers[i] = spawn(writer, (void *)(i + 2));
	for (int i = 0; i < 2; i++)
		join(writers[i]);
	relaxed_store(&traffic.stop, true);
	for (int i = 0; i < 2; i++)
		join(readers[i]);
	report("grace periods for real memory", &traffic);
	printf("%llu words read, %llu areas mapped, %llu times something was leaving, %llu "
	       "protects, "
	       "%llu uses of what was less already\n",
	       (unsigned long long)words_read, (unsigned long long)places,
	       (unsigned long long)refused, (unsigned long long)protected,
	       (unsigned long long)kept);
	check(words_read && places && protected);
	check_ok(aspace_quiesce(space, 0));
	check(stats_of(space).leaving == 0 && stats_of(space).pending == 0);
	end_space(space);
	aspace_host_destroy(host);
	return 0;
}
