/* SPDX-License-Identifier: MIT */
/*
 * Lookups from signal handlers that interrupt a writer, a section, and a wait.
 *
 * Signals are sent one at a time, to one thread, as soon as the one before has been
 * handled. (ThreadSanitizer holds them back until the thread calls something that it
 * intercepts; natively they arrive anywhere.)
 */
#include <signal.h>

#include "flip.h"

static uint64_t seed;
static struct flip flip;

/* Of the thread that is interrupted; relaxed atomics, for its handler. */
enum where { OUTSIDE, IN_UPDATE, IN_SECTION, IN_LOOKUP, IN_WAIT, PLACES };
static _Atomic int where;
static _Atomic uint64_t handled, handled_in[PLACES];
static struct dice handler_dice;

static void look_around(int signal)
{
	int saved = errno;
	unsigned slot = (unsigned)roll_below(&handler_dice, FLIP_SLOTS);
	uint64_t address = (slot + 1) * FLIP_SLOT + roll_below(&handler_dice, FLIP_SLOT);
	struct aspace_gap gap = {.size = FLIP_SLOT};
	struct aspace_view view, inner;
	struct aspace_vaddr start;
	struct aspace_iter iter;
	struct aspace_area area;
	uint64_t end = 0;
	int count = 0;

	(void)signal;
	flip_check(slot, address, aspace_find(flip.space, aspace_va(address), &area), &area);
	aspace_read_begin(flip.space, &view);
	aspace_read_begin(flip.space, &inner);
	check(inner.version >= view.version);
	aspace_read_end(&inner);
	aspace_iter_begin(&view, aspace_va(address), &iter);
	while (count++ < 20 && aspace_iter_next(&iter, &area)) {
		check(area.start.value >= end);
		end = area.end.value;
		flip_check((unsigned)(area.start.value / FLIP_SLOT - 1), area.start.value,
			   aspace_view_find(&view, area.start, &area), &area);
	}
	check_ok(aspace_view_find_free(&view, &gap, &start));
	check(!aspace_view_overlaps(&view, aspace_range_of(start.value, start.value + gap.size)));
	aspace_read_end(&view);
	relaxed_add(&handled_in[relaxed_load(&where)], 1);
	errno = saved;
	atomic_fetch_add(&handled, 1);
}

static void *shooter(void *arg)
{
	pthread_t *target = arg;

	while (!relaxed_load(&flip.traffic.stop)) {
		uint64_t before = atomic_load(&handled);

		check(!pthread_kill(*target, SIGUSR1));
		until(atomic_load(&handled) != before || relaxed_load(&flip.traffic.stop));
	}
	return NULL;
}

static bool seen_everywhere(void)
{
#if SANITIZED_THREAD
	return relaxed_load(&handled) >= 500;
#else
	return relaxed_load(&handled_in[IN_UPDATE]) >= 300 &&
	       relaxed_load(&handled_in[IN_SECTION]) >= 300 &&
	       relaxed_load(&handled_in[IN_LOOKUP]) >= 100;
#endif
}

/* The thread that is interrupted: updates and looks up by turns. */
static void *target_main(void *unused)
{
	struct dice dice = {seed};
	uint32_t seen[FLIP_SLOTS] = {0};

	(void)unused;
	aspace_thread_prepare(flip.space);
	while (!seen_everywhere()) {
		struct aspace_view view;
		struct aspace_area area;

		relaxed_store(&where, IN_UPDATE);
		flip_update(&flip, (unsigned)roll_below(&dice, FLIP_SLOTS));
		relaxed_store(&where, IN_LOOKUP);
		for (int i = 0; i < 8; i++)
			flip_read(&flip, &dice, seen);
		relaxed_store(&where, IN_SECTION);
		aspace_read_begin(flip.space, &view);
		for (unsigned slot = 0; slot < 32; slot++) {
			uint64_t address = (slot + 1) * FLIP_SLOT + FLIP_SLOT / 3;
			enum aspace_status status =
				aspace_view_find(&view, aspace_va(address), &area);
			uint32_t generation = flip_check(slot, address, status, &area);

			/* Nobody else writes, so the view does not change in between. */
			check(!generation || generation == relaxed_load(&flip.done[slot]));
		}
		aspace_read_end(&view);
		relaxed_store(&where, OUTSIDE);
#if SANITIZED_THREAD
		sched_yield();
#endif
	}
	relaxed_store(&flip.traffic.stop, true);
	return NULL;
}

static void test_interrupted_writer(void)
{
	pthread_t target, killer;

	target = spawn(target_main, NULL);
	killer = spawn(shooter, &target);
	join(killer);
	join(target);
	printf("signals handled: %llu in updates, %llu in sections, %llu in lookups, %llu "
	       "outside\n",
	       (unsigned long long)handled_in[IN_UPDATE],
	       (unsigned long long)handled_in[IN_SECTION],
	       (unsigned long long)handled_in[IN_LOOKUP], (unsigned long long)handled_in[OUTSIDE]);
}

/* ---- A thread that waits --------------------------------------------------------- */

static _Atomic bool inside, leave;
static _Atomic unsigned stalls;

static void *stuck_reader(void *unused)
{
	struct aspace_view view;

	(void)unused;
	aspace_read_begin(flip.space, &view);
	atomic_store(&inside, true);
	until(atomic_load(&leave));
	aspace_read_end(&view);
	return NULL;
}

static void *quiescer(void *unused)
{
	(void)unused;
	relaxed_store(&where, IN_WAIT);
	check_ok(aspace_quiesce(flip.space, 0));
	relaxed_store(&where, OUTSIDE);
	return NULL;
}

static void *lock_waiter(void *unused)
{
	(void)unused;
	relaxed_store(&where, IN_WAIT);
	flip_update(&flip, 5);
	relaxed_store(&where, OUTSIDE);
	return NULL;
}

/* Without a hook the wait does not end now and then to tell it. */
static struct aspace *quiet;

static void *quiet_waiter(void *unused)
{
	(void)unused;
	relaxed_store(&where, IN_WAIT);
	check_ok(aspace_unmap(quiet, aspace_range_of(0, 1), 0));
	relaxed_store(&where, OUTSIDE);
	return NULL;
}

static void stalled(void *ctx, struct aspace *space, uint64_t waited_ms)
{
	(void)ctx;
	(void)space;
	(void)waited_ms;
	atomic_fetch_add(&stalls, 1);
}

/* Signals are handled while the thread waits, not afterwards, and it waits on. */
static void shoot_waiting(pthread_t thread)
{
	for (int i = 0; i < 20; i++) {
		uint64_t before = atomic_load(&handled);

		check(!pthread_kill(thread, SIGUSR1));
		until(atomic_load(&handled) != before || relaxed_load(&where) != IN_WAIT);
		check(relaxed_load(&where) == IN_WAIT);
	}
}

static void test_interrupted_waits(void)
{
	struct aspace_txn *txn;
	pthread_t reader, thread;
	unsigned before;

	reader = spawn(stuck_reader, NULL);
	until(atomic_load(&inside));
	/* Waits of the test before may have been told of. */
	atomic_store(&stalls, 0);
	thread = spawn(quiescer, NULL);
	/* Other waits have been reported before. */
	until(relaxed_load(&where) == IN_WAIT);
	before = atomic_load(&stalls);
	until(atomic_load(&stalls) >= before + 2);
	shoot_waiting(thread);
	atomic_store(&leave, true);
	join(thread);
	join(reader);

	check_ok(aspace_txn_begin(flip.space, 0, &txn));
	thread = spawn(lock_waiter, NULL);
	until(relaxed_load(&where) == IN_WAIT);
	shoot_waiting(thread);
	aspace_txn_abort(txn);
	join(thread);

	quiet = make_space(NULL);
	check_ok(aspace_txn_begin(quiet, 0, &txn));
	thread = spawn(quiet_waiter, NULL);
	until(relaxed_load(&where) == IN_WAIT);
	shoot_waiting(thread);
	aspace_txn_abort(txn);
	join(thread);
	end_space(quiet);
	check(handled_in[IN_WAIT] >= 60);
	printf("and %llu while waiting\n", (unsigned long long)handled_in[IN_WAIT]);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = look_around};

	seed = seed_from(argc, argv);
	handler_dice.state = seed + 1;
	flip = (struct flip){
		.space = make_space(&(struct aspace_options){.stalled = stalled, .stall_ms = 1}),
		.writers = 1,
		.seed = seed,
	};
	for (unsigned slot = 0; slot < FLIP_SLOTS; slot++)
		flip_update(&flip, slot);
	check(!sigaction(SIGUSR1, &action, NULL));
	test_interrupted_writer();
	test_interrupted_waits();
	end_space(flip.space);
	return 0;
}
