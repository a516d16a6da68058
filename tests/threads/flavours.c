/* SPDX-License-Identifier: MIT */
/*
 * Flavours other than the default: threads that the program has registered look up beside
 * writers, and the program's own sections cover what they find.
 */
#include <urcu/urcu-memb.h>

#include "flip.h"
#include "objects.h"

/* Declared by headers that do not go together in one file. */
extern const struct rcu_flavor_struct urcu_bp_flavor, urcu_qsbr_flavor, urcu_mb_flavor;

static uint64_t seed;
static const struct rcu_flavor_struct *flavour;

static void enter(void)
{
	flavour->register_thread();
}

static void leave(void)
{
	flavour->unregister_thread();
}

static void pause_reader(void)
{
	flavour->read_quiescent_state();
}

/* Under qsbr an online thread is inside a section, where it must not wait. */
static void enter_writer(void)
{
	flavour->register_thread();
	flavour->thread_offline();
}

static void test_flip(const char *what)
{
	struct flip flip = {
		.space = make_space(&(struct aspace_options){.flavour = flavour}),
		.updates = scaled(20000),
		.writers = 1,
		.seed = seed,
		.enter = enter,
		.leave = leave,
		.pause = pause_reader,
		.enter_writer = enter_writer,
	};

	flip_run(&flip, what, 2);
	check_ok(aspace_quiesce(flip.space, 0));
	end_space(flip.space);
}

/* ---- The program's own sections -------------------------------------------- */

static struct aspace *space;
static struct traffic traffic;

static void *own_section_reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	flavour->register_thread();
	while (!relaxed_load(&traffic.stop)) {
		uint64_t at = 1 + roll_below(&dice, 64);
		struct glimpse glimpse = lookup_begins(&traffic);
		enum aspace_status status;
		struct aspace_area area;

		flavour->read_lock();
		if (aspace_find(space, aspace_va(at), &area) == ASPACE_OK) {
			object_look(&area);
			if (!roll_below(&dice, 8))
				sched_yield();
			object_look(&area);
		}
		/* It may have nothing to wait for, but it never waits. */
		status = aspace_quiesce(space, 0);
		check(status == ASPACE_BUSY || status == ASPACE_OK);
		check_status(aspace_destroy(space, 0), ASPACE_BUSY);
		flavour->read_unlock();
		lookup_ends(&traffic, glimpse);
		flavour->read_quiescent_state();
	}
	flavour->unregister_thread();
	return NULL;
}

static void *object_writer(void *unused)
{
	struct dice dice = {seed + 3};

	(void)unused;
	for (long i = 0; !enough(&traffic, i, scaled(4000)); i++) {
		uint64_t at = 1 + roll_below(&dice, 64), name = (uint64_t)i + 1;

		update_begins(&traffic);
		check_ok(aspace_map(space, aspace_range_of(at, at + 1), name, object_backend(),
				    object_make(name), ASPACE_REPLACE));
		update_ends(&traffic);
	}
	return NULL;
}

static void test_own_sections(const char *what)
{
	pthread_t reader, writer;

	traffic = (struct traffic){0};
	space = make_space(&(struct aspace_options){.flavour = flavour});
	reader = spawn(own_section_reader, NULL);
	writer = spawn(object_writer, NULL);
	join(writer);
	relaxed_store(&traffic.stop, true);
	join(reader);
	report(what, &traffic);
	end_space(space);
	check(relaxed_load(&objects_alive) == 0);
}

int main(int argc, char **argv)
{
	const struct {
		const struct rcu_flavor_struct *flavour;
		const char *flip, *own;
	} all[] = {
		{&urcu_memb_flavor, "memb", "memb, own sections"},
		{&urcu_qsbr_flavor, "qsbr", "qsbr, own sections"},
		{&urcu_mb_flavor, "mb", "mb, own sections"},
		{&urcu_bp_flavor, "bp by name", "bp, own sections"},
	};

	seed = seed_from(argc, argv);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		flavour = all[i].flavour;
		test_flip(all[i].flip);
		test_own_sections(all[i].own);
	}
	return 0;
}
