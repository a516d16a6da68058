/* SPDX-License-Identifier: MIT */
/*
 * Real memory in a grace-unmap space: what a reader finds in a section it may read until
 * the section ends. Memory that goes too early is a fault here, which ends the program.
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
static _Atomic uint64_t words_read, places, refused; /* counts, relaxed: they order nothing */

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

static void *reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&traffic.stop)) {
		struct glimpse glimpse = lookup_begins(&traffic);
		struct aspace_view view;
		struct aspace_area area;
		uint64_t at = base + roll_below(&dice, SLOTS * SLOT / 8) * 8;

		aspace_read_begin(space, &view);
		if (aspace_view_find(&view, aspace_va(at), &area) == ASPACE_OK) {
			read_word(at);
			if (!roll_below(&dice, 4))
				sched_yield();
			read_word(at);
			read_word(area.start.value);
			read_word(area.end.value - 8);
		}
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

static void *writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};
	uint64_t parity = (uintptr_t)arg & 1;
	struct aspace_backend *backend = aspace_host_backend(host);

	for (long i = 0; !enough(&traffic, i, scaled(10000)); i++) {
		uint64_t at = base + (roll_below(&dice, SLOTS / 2) * 2 + parity) * SLOT;
		struct aspace_range range = aspace_range_of(at, at + SLOT);
		enum aspace_status status;

		update_begins(&traffic);
		switch (roll_below(&dice, 3)) {
		case 0:
			/* Mostly leaving areas are in the way: now and then wait for them. */
			status = aspace_map(space, range, ASPACE_HOST_READ | ASPACE_HOST_WRITE,
					    backend, NULL,
					    roll_below(&dice, 16) ? ASPACE_NOWAIT : 0);
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
			check_ok(aspace_unmap(space, range, 0));
			break;
		case 2: /* a page in the middle, if it is there */
			range.start.value += roll_below(&dice, 4) * 0x1000;
			range.end.value = range.start.value + 0x1000;
			check_ok(aspace_unmap(space, range, 0));
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
	report("grace-period unmap on real memory", &traffic);
	printf("%llu words read, %llu areas mapped, %llu times something was leaving\n",
	       (unsigned long long)words_read, (unsigned long long)places,
	       (unsigned long long)refused);
	check(words_read && places);
	check_ok(aspace_quiesce(space, 0));
	check(stats_of(space).leaving == 0);
	end_space(space);
	aspace_host_destroy(host);
	return 0;
}
