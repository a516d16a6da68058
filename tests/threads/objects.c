/* SPDX-License-Identifier: MIT */
/*
 * User objects: while a reader is in a section, or holds a snapshot, what it has found is
 * not released; afterwards everything is, once.
 */
#include "objects.h"

#define SLOTS 256
#define SLOT  UINT64_C(0x10000)

static uint64_t seed;
static struct aspace *space;
static struct traffic traffic;
/* Counts, relaxed: they must not order what the library is to order. */
static _Atomic uint64_t names;
static _Atomic uint64_t looks;
static long updates; /* of each writer */

static struct aspace_range slot_range(uint64_t slot)
{
	return aspace_range_of((slot + 1) * SLOT, (slot + 2) * SLOT);
}

static void *section_reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&traffic.stop)) {
		struct glimpse glimpse = lookup_begins(&traffic);
		struct aspace_view view;
		struct aspace_area found[4];
		unsigned count = 0;

		aspace_read_begin(space, &view);
		for (int i = 0; i < 4; i++) {
			uint64_t at = SLOT + roll_below(&dice, SLOTS * SLOT);
			/* Newest version or view: both are safe inside the section. */
			enum aspace_status status =
				i & 1 ? aspace_find(space, aspace_va(at), &found[count])
				      : aspace_view_find(&view, aspace_va(at), &found[count]);

			if (status != ASPACE_OK)
				continue;
			object_look(&found[count++]);
		}
		/* Let a writer take them away, unless it waits for us; then look again. */
		if (!roll_below(&dice, 8)) {
			uint64_t begun = relaxed_load(&traffic.begun);

			for (int i = 0; i < 20 && relaxed_load(&traffic.begun) < begun + 8; i++)
				sched_yield();
		}
		for (unsigned i = 0; i < count; i++)
			object_look(&found[i]);
		aspace_read_end(&view);
		relaxed_add(&looks, count);
		lookup_ends(&traffic, glimpse);
	}
	return NULL;
}

static void *snapshot_reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&traffic.stop)) {
		struct aspace_snapshot snapshots[3];
		struct glimpse glimpse = lookup_begins(&traffic);
		uint64_t first;

		for (int i = 0; i < 3; i++)
			check_ok(aspace_snapshot_take(space, &snapshots[i]));
		first = roll_below(&dice, 3);
		/* Out of order, each looked through before it goes. */
		for (uint64_t i = 0; i < 3; i++) {
			struct aspace_snapshot *snapshot = &snapshots[(first + i) % 3];
			struct aspace_iter iter;
			struct aspace_view view;
			struct aspace_area area;

			aspace_snapshot_view(snapshot, &view);
			aspace_iter_begin(&view, aspace_va(0), &iter);
			while (aspace_iter_next(&iter, &area))
				object_look(&area);
			aspace_snapshot_release(snapshot);
		}
		lookup_ends(&traffic, glimpse);
	}
	return NULL;
}

static uint64_t new_name(void)
{
	return 1 + relaxed_add(&names, 1);
}

static void update(struct dice *dice)
{
	struct aspace_range range = slot_range(roll_below(dice, SLOTS));
	uint64_t name = new_name();
	struct object *object;

	switch (roll_below(dice, 8)) {
	default:
		object = object_make(name);
		check_ok(aspace_map(space, range, name, object_backend(), object, ASPACE_REPLACE));
		break;
	case 0:
		check_ok(aspace_unmap(space, range, 0));
		break;
	case 1: /* cut its head, or its middle, or its tail off */
		range.start.value += roll_below(dice, 3) * SLOT / 4;
		range.end.value = range.start.value + SLOT / 4;
		check_ok(aspace_unmap(space, range, 0));
		break;
	case 2: { /* away and back: the references of the pieces are other ones */
		struct aspace_vaddr away = {range.start.value + 2 * SLOTS * SLOT};
		enum aspace_status status = aspace_move(space, range, away, 0);

		if (status == ASPACE_NOT_MAPPED)
			break;
		/* Another writer may be there already. */
		if (status == ASPACE_ALREADY_EXISTS)
			break;
		check_ok(status);
		check_ok(aspace_unmap(space, aspace_range_of(away.value, away.value + SLOT), 0));
		break;
	}
	}
}

static void *writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	for (long i = 0; !enough(&traffic, i, updates); i++) {
		update_begins(&traffic);
		update(&dice);
		update_ends(&traffic);
	}
	return NULL;
}

static void run(const char *what, void *(*reader)(void *), unsigned writers, long count,
		size_t garbage_max)
{
	pthread_t readers[2], threads[2];

	traffic = (struct traffic){0};
	updates = count;
	space = make_space(&(struct aspace_options){.garbage_max = garbage_max});
	for (uintptr_t i = 0; i < 2; i++)
		readers[i] = spawn(reader, (void *)i);
	for (uintptr_t i = 0; i < writers; i++)
		threads[i] = spawn(writer, (void *)(i + 2));
	for (unsigned i = 0; i < writers; i++)
		join(threads[i]);
	relaxed_store(&traffic.stop, true);
	for (int i = 0; i < 2; i++)
		join(readers[i]);
	report(what, &traffic);
	check_ok(aspace_quiesce(space, 0));
	check(stats_of(space).releases_pending == 0);
	end_space(space);
	check(relaxed_load(&objects_alive) == 0);
}

/* The area that a snapshot shows grows, loses all that the snapshot shows of it, and goes:
 * the snapshot still holds its object. */
static void test_snapshot_of_shifted_area(void)
{
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	struct aspace_area area;

	space = make_space(NULL);
	check_ok(aspace_map(space, aspace_range_of(5, 10), 1, object_backend(), object_make(1), 0));
	check_ok(aspace_snapshot_take(space, &snapshot));
	check_ok(aspace_resize(space, aspace_va(5), 15, 0));
	check_ok(aspace_unmap(space, aspace_range_of(5, 12), 0));
	check_ok(aspace_unmap(space, aspace_range_of(12, 20), 0));
	check_ok(aspace_quiesce(space, 0));
	check(relaxed_load(&objects_alive) == 1);
	aspace_snapshot_view(&snapshot, &view);
	check_ok(aspace_view_find(&view, aspace_va(7), &area));
	object_look(&area);
	aspace_snapshot_release(&snapshot);
	check_ok(aspace_quiesce(space, 0));
	check(relaxed_load(&objects_alive) == 0);
	end_space(space);
}

static void *unmapper(void *arg)
{
	(void)arg;
	check_ok(aspace_unmap(space, slot_range(0), 0));
	/* Runs all that may be run already. */
	check(aspace_quiesce(space, ASPACE_NOWAIT) == ASPACE_BUSY);
	return NULL;
}

/* What a section has found stays, although the whole of an unmap, and an attempt to run the
 * releases, come to pass within the section. */
static void test_release_waits_for_section(void)
{
	struct aspace_view view;
	struct aspace_area area;

	space = make_space(NULL);
	check_ok(aspace_map(space, slot_range(0), 1, object_backend(), object_make(1), 0));
	aspace_read_begin(space, &view);
	check_ok(aspace_view_find(&view, slot_range(0).start, &area));
	join(spawn(unmapper, NULL));
	check(aspace_find(space, slot_range(0).start, &area) == ASPACE_NOT_MAPPED);
	check(relaxed_load(&objects_alive) == 1);
	check_ok(aspace_view_find(&view, slot_range(0).start, &area));
	object_look(&area);
	aspace_read_end(&view);
	check_ok(aspace_quiesce(space, 0));
	check(relaxed_load(&objects_alive) == 0);
	end_space(space);
}

int main(int argc, char **argv)
{
	seed = seed_from(argc, argv);
	test_release_waits_for_section();
	test_snapshot_of_shifted_area();
	run("objects in sections", section_reader, 2, scaled(16000), 0);
	run("objects in sections, small bound", section_reader, 1, scaled(800), 8192);
	run("objects in snapshots", snapshot_reader, 2, scaled(16000), 0);
	printf("%llu objects looked at, %llu references released\n", (unsigned long long)looks,
	       (unsigned long long)objects_released);
	return 0;
}
