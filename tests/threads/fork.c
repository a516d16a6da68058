/* SPDX-License-Identifier: MIT */
/*
 * fork() while other threads write, look up and hold snapshots. The child uses the spaces:
 * it looks up, updates, waits for grace periods, and ends them.
 */

#include "../child.h"
#include "objects.h"
#include "space/space.h"

CREW_FORKS

#define SLOTS 64

static uint64_t seed;
static struct aspace *plain, *leaving;
static struct traffic traffic;
static _Atomic bool at_work[4]; /* a thread has been through its loop */
static struct aspace_snapshot reader_snapshots[4];

static struct aspace_range range_of_slot(uint64_t slot)
{
	return aspace_range_of((slot + 1) * 0x1000, (slot + 2) * 0x1000);
}

/* Not where the allocator's own locks do not survive a fork (clang's, at least to 14): a
 * child would hang in its first malloc, or in pthread_create. */
#if SANITIZED
#define OBJECTS 0
#else
#define OBJECTS 1
#endif

static void look(const struct aspace_area *area)
{
	if (OBJECTS)
		object_look(area);
}

static void update(struct aspace *space, struct dice *dice, uint64_t name)
{
	struct aspace_range range = range_of_slot(roll_below(dice, SLOTS));
	struct object *object;

	if (roll_below(dice, 2)) {
		check_ok(aspace_unmap(space, range, 0));
		return;
	}
	if (!OBJECTS) {
		aspace_map(space, range, name, aspace_null_backend(), NULL, ASPACE_NOWAIT);
		return;
	}
	object = object_make(name);
	if (aspace_map(space, range, name, object_backend(), object, ASPACE_NOWAIT) != ASPACE_OK)
		object_put(object);
}

static void *writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&traffic.stop)) {
		update_begins(&traffic);
		update(roll_below(&dice, 2) ? plain : leaving, &dice, roll(&dice) >> 8);
		update_ends(&traffic);
		relaxed_store(&at_work[(uintptr_t)arg], true);
		sched_yield(); /* the children need the processors, too */
	}
	return NULL;
}

static void *reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&traffic.stop)) {
		struct aspace *space = roll_below(&dice, 2) ? plain : leaving;
		/* Not on the stack: in a child, a new thread may get the stack of one that
		 * is gone, and what was taken there is still on the space's list. */
		struct aspace_snapshot *snapshot = &reader_snapshots[(uintptr_t)arg];
		struct aspace_view view;
		struct aspace_area area;

		aspace_read_begin(space, &view);
		if (aspace_view_find(&view, range_of_slot(roll_below(&dice, SLOTS)).start, &area) ==
		    ASPACE_OK)
			look(&area);
		sched_yield();
		aspace_read_end(&view);
		if (!roll_below(&dice, 16)) {
			check_ok(aspace_snapshot_take(plain, snapshot));
			aspace_snapshot_release(snapshot);
		}
		relaxed_store(&at_work[(uintptr_t)arg], true);
	}
	return NULL;
}

/* A child may hang if a thread was just beginning as it was forked: in the first instants of
 * a thread AddressSanitizer holds its allocator's locks, and liburcu one that no hook takes
 * (linux/fork.c). So all four have been at work, and so has the helper. */
static void await_begun(void)
{
	for (int i = 0; i < 4; i++)
		until(relaxed_load(&at_work[i]));
	until(stats_of(plain).grace_periods > 0);
}

static void read_all(const struct aspace_view *view)
{
	struct aspace_iter iter;
	struct aspace_area area;

	aspace_iter_begin(view, aspace_va(0), &iter);
	while (aspace_iter_next(&iter, &area))
		look(&area);
}

static void use_in_child(struct aspace *space, struct dice *dice)
{
	struct aspace_view view;

	check_space(space);
	aspace_read_begin(space, &view);
	read_all(&view);
	aspace_read_end(&view);
	for (uint64_t i = 0; i < 20; i++)
		update(space, dice, roll(dice) >> 8);
	check_ok(aspace_quiesce(space, 0));
	check(stats_of(space).releases_pending == 0);
	check(stats_of(space).leaving == 0);
	check_space(space);
}

static void child(struct aspace_snapshot *snapshot, struct dice *dice)
{
	struct aspace_view view;
	struct aspace *fresh;

	end_if_hung(); /* and the parent is told */
	use_in_child(plain, dice);
	use_in_child(leaving, dice);
	aspace_snapshot_view(snapshot, &view);
	read_all(&view);
	check_status(aspace_destroy(plain, 0), ASPACE_BUSY);
	aspace_snapshot_release(snapshot);
	if (roll_below(dice, 2)) {
		fresh = make_space(NULL);
		update(fresh, dice, 1);
		end_space(fresh);
	}
	/* Those of threads that are gone are released by whoever knows where they are. */
	while (plain->oldest)
		aspace_snapshot_release(plain->oldest);
	check_ok(aspace_destroy(plain, 0));
	check_ok(aspace_destroy(leaving, 0));
	end_child(0);
}

static void fork_once(struct dice *dice, uint64_t *destroyed)
{
	struct aspace_snapshot snapshot;
	pid_t pid;

	check_ok(aspace_snapshot_take(plain, &snapshot));
	fflush(stdout);
	pid = fork();
	check(pid >= 0);
	if (!pid)
		child(&snapshot, dice);
	aspace_snapshot_release(&snapshot);
	check_child(pid);
	++*destroyed;
}

static void test_writers_and_readers(void)
{
	struct dice dice = {seed + 9};
	pthread_t threads[4];
	uint64_t destroyed = 0, before;

	plain = make_space(NULL);
	leaving = make_space(&(struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	for (uintptr_t i = 0; i < 2; i++)
		threads[i] = spawn(writer, (void *)i);
	for (uintptr_t i = 2; i < 4; i++)
		threads[i] = spawn(reader, (void *)i);
	await_begun();
	until(relaxed_load(&traffic.ended) >= 100);
	before = relaxed_load(&traffic.ended);
	for (long i = 0; i < scaled(200); i++) {
		fork_once(&dice, &destroyed);
		roll(&dice);
	}
	until(relaxed_load(&traffic.ended) > before);
	relaxed_store(&traffic.stop, true);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	printf("%llu children, %llu updates beside them\n", (unsigned long long)destroyed,
	       (unsigned long long)relaxed_load(&traffic.ended) - (unsigned long long)before);
	end_space(plain);
	end_space(leaving);
	check(relaxed_load(&objects_alive) == 0);
}

/* ---- Callbacks that use the library ------------------------------------------- */

static struct aspace *other;
static _Atomic uint64_t callbacks;

/* Takes its time, takes another space's lock, and waits for a grace period. */
static void slow_release(struct aspace_backend *backend, void *user)
{
	uint64_t number = relaxed_add(&callbacks, 1);

	(void)backend;
	(void)user;
	for (int i = 0; i < 4; i++)
		sched_yield();
	check_ok(aspace_map(other, range_of_slot(0), number & 1, aspace_null_backend(), NULL,
			    ASPACE_REPLACE));
	if (number % 4 == 0)
		check_ok(aspace_quiesce(other, 0));
}

static struct aspace_backend *slow_backend(void)
{
	static const struct aspace_backend_ops ops = {
		.size = sizeof(ops),
		.map = object_change,
		.unmap = object_change,
		.protect = object_change,
		.release = slow_release,
	};
	static struct aspace_backend backend = {.ops = &ops, .flags_mask = 0xff};

	return &backend;
}

static void *slow_writer(void *unused)
{
	uint64_t before = relaxed_load(&callbacks);

	(void)unused;
	for (uint64_t i = 0; !relaxed_load(&traffic.stop); i++) {
		/* Not far ahead of the callbacks: the children run what is left, alone. */
		until(relaxed_load(&callbacks) - before + 20 > i || relaxed_load(&traffic.stop));
		check_ok(aspace_map(plain, range_of_slot(1), 1, slow_backend(), slow_backend(), 0));
		check_ok(aspace_unmap(plain, range_of_slot(1), 0));
		sched_yield();
	}
	return NULL;
}

static void test_callbacks(void)
{
	pthread_t thread;

	relaxed_store(&traffic.stop, false);
	/* Both orders of creation: the hooks take the locks in one of them. */
	for (int order = 0; order < 2; order++) {
		if (order)
			other = make_space(NULL);
		plain = make_space(NULL);
		if (!order)
			other = make_space(NULL);
		relaxed_store(&traffic.stop, false);
		thread = spawn(slow_writer, NULL);
		for (long i = 0; i < scaled(60); i++) {
			uint64_t seen = relaxed_load(&callbacks);
			pid_t pid;

			until(relaxed_load(&callbacks) > seen);
			pid = fork();
			check(pid >= 0);
			if (!pid) {
				end_if_hung();
				/* Callbacks that were being run are lost; others are run. */
				check_ok(aspace_quiesce(plain, 0));
				check_ok(aspace_destroy(plain, 0));
				check_ok(aspace_destroy(other, 0));
				end_child(0);
			}
			check_child(pid);
		}
		relaxed_store(&traffic.stop, true);
		join(thread);
		end_space(plain);
		end_space(other);
	}
	printf("forks beside %llu callbacks that use the library\n", (unsigned long long)callbacks);
}

int main(int argc, char **argv)
{
	if (getenv("ASPACE_EMULATED")) {
		printf("skipped: qemu-user does not survive fork beside busy threads\n");
		return 77;
	}
	seed = seed_from(argc, argv);
	check_ok(aspace_install_fork_hooks());
	check_ok(aspace_install_fork_hooks()); /* installs once */
	test_writers_and_readers();
	test_callbacks();
	return 0;
}
