/* SPDX-License-Identifier: MIT */
/*
 * What is deferred is done, however many writers are busy, and nobody who waits waits for more
 * than he must: W8 of the contract.
 */
#include <signal.h>

#include "crew.h"
#include "space/space.h"

#define PAGE      UINT64_C(0x1000)
#define WRITERS   64
#define SHARE     32 /* ASP_SHARE of reclaim/deferred.h */
#define FAR_AHEAD 3600000

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of(number * PAGE, (number + 1) * PAGE);
}

/* ---- A backend that counts -------------------------------------------------- */

/* Relaxed, all: they only count. */
static _Atomic uint64_t released, unmapped;

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ASPACE_OK;
}

/* Under the writer lock: how many unmaps are for one version, at most. */
static uint64_t last_version, of_version, most_of_version;
static struct aspace *space;

static enum aspace_status count_unmap(struct aspace_backend *of, const struct aspace_change *change)
{
	struct aspace_view view;

	aspace_read_begin(space, &view);
	of_version = view.version == last_version ? of_version + 1 : 1;
	last_version = view.version;
	aspace_read_end(&view);
	most_of_version = most_of_version < of_version ? of_version : most_of_version;
	relaxed_add(&unmapped, 1);
	return accept(of, change);
}

static void count_release(struct aspace_backend *of, void *user)
{
	(void)of;
	(void)user;
	relaxed_add(&released, 1);
}

static unsigned loses_contents(struct aspace_backend *of, uint64_t from, uint64_t to,
			       uint64_t *meanwhile)
{
	(void)of;
	(void)from;
	(void)meanwhile;
	return to == 4 ? ASPACE_LOSES_CONTENTS : 0;
}

static const struct aspace_backend_ops counting = {
	.size = sizeof(counting),
	.map = accept,
	.unmap = count_unmap,
	.protect = accept,
	.release = count_release,
	.loses = loses_contents,
};
static struct aspace_backend counter = {.ops = &counting, .flags_mask = 7};
static char user; /* every area's object */

/* ---- Nothing is late -------------------------------------------------------- */

/* Updates, counted before and after. */
static _Atomic uint64_t begun, ended;
static _Atomic bool stop;

static void *write_on(void *arg)
{
	uint64_t number = (uintptr_t)arg;

	while (!relaxed_load(&stop)) {
		relaxed_add(&begun, 2);
		check_ok(aspace_map(space, page(number), 1, &counter, &user, 0));
		check_ok(aspace_unmap(space, page(number), 0));
		relaxed_add(&ended, 2);
	}
	return NULL;
}

/* What waits now has been retired. When two more grace periods have ended, all of it is due. From
 * then on each operation takes SHARE of it, if there is room: so after so many operations all
 * of it has been handed over, and all but what the ring can hold has been called. */
static uint64_t look_once(void)
{
	uint64_t before = relaxed_load(&released), given, from, late;
	struct aspace_stats stats = stats_of(space);
	uint64_t grace = stats.grace_periods + 2;

	given = before + stats.releases_pending + stats.leaving;
	do
		stats = stats_of(space);
	while (stats.grace_periods < grace);
	from = relaxed_load(&begun);
	late = (stats.leaving + stats.releases_pending) / SHARE + 4;
	until(relaxed_load(&ended) >= from + late);
	if (relaxed_load(&released) + ASP_CALLS < given)
		fail("%llu operations after their grace period only %llu of %llu are released",
		     (unsigned long long)late, (unsigned long long)relaxed_load(&released),
		     (unsigned long long)given);
	return stats.leaving + stats.releases_pending;
}

static void check_kind(const char *what, uint64_t late, uint64_t waiting)
{
	if (late > 2 * (waiting / SHARE + 1))
		fail("%s: %llu operations late, of %llu at once", what, (unsigned long long)late,
		     (unsigned long long)waiting);
}

/* Nobody waits for faults here. */
static void check_late(const struct aspace_stats *stats)
{
	check(!stats->late_nodes);
	check_kind("releases", stats->late_releases, stats->releases_waiting_max);
	check_kind("leaving areas", stats->late_leaving, stats->changes_waiting_max);
	check_kind("memory", stats->late_memory, stats->changes_waiting_max);
	check(stats->releases_waiting_max);
}

static void test_late(unsigned writers, unsigned mode)
{
	pthread_t threads[WRITERS];
	struct aspace_stats stats;
	uint64_t most = 0;

	space = make_space(&(struct aspace_options){.mode = mode, .stall_ms = FAR_AHEAD});
	relaxed_store(&stop, false);
	for (uintptr_t i = 0; i < writers; i++)
		threads[i] = spawn(write_on, (void *)i);
	for (long i = 0; i < scaled(40); i++) {
		uint64_t waiting = look_once();

		most = most < waiting ? waiting : most;
	}
	relaxed_store(&stop, true);
	for (unsigned i = 0; i < writers; i++)
		join(threads[i]);
	stats = stats_of(space);
	check(stats.releases_due <= ASP_CALLS);
	check_late(&stats);
	printf("%2u writers%-28s %9llu waited at most, for %llu operations too many\n", writers,
	       mode ? ", areas that leave" : "", (unsigned long long)most,
	       (unsigned long long)stats.late_max);
	printf("   late: %llu nodes, %llu of %llu releases, %llu leaving, %llu memory of %llu\n",
	       (unsigned long long)stats.late_nodes, (unsigned long long)stats.late_releases,
	       (unsigned long long)stats.releases_waiting_max,
	       (unsigned long long)stats.late_leaving, (unsigned long long)stats.late_memory,
	       (unsigned long long)stats.changes_waiting_max);
	fflush(stdout);
	end_space(space);
}

/* Areas that leave, or lose their contents, each somewhere else, so that nobody waits for one. */
static void *leave_behind(void *arg)
{
	for (uint64_t number = (uintptr_t)arg << 20; !relaxed_load(&stop); number += 2) {
		check_ok(aspace_map(space, page(number), 1, &counter, &user, 0));
		if (number & 2)
			check_ok(aspace_unmap(space, page(number), 0));
		else
			check_ok(aspace_protect(space, page(number), 4, 0));
		relaxed_add(&ended, 1);
	}
	return NULL;
}

/* They come due all at once, when a reader has gone. */
static void test_late_changes(void)
{
	enum { LEAVERS = 4, HEAP = 1000, ROUNDS = 10 };
	pthread_t threads[LEAVERS];
	struct aspace_stats stats;

	space = make_space(&(struct aspace_options){
		.mode = ASPACE_GRACE_UNMAP,
		.stall_ms = FAR_AHEAD,
		/* No bound holds the writers up while the reader waits for them. */
		.garbage_max = SIZE_MAX,
		.leaving_max = SIZE_MAX,
	});
	relaxed_store(&stop, false);
	for (uintptr_t i = 0; i < LEAVERS; i++)
		threads[i] = spawn(leave_behind, (void *)i);
	for (int i = 0; i < ROUNDS; i++) {
		struct aspace_view view;
		uint64_t from;

		aspace_read_begin(space, &view);
		from = relaxed_load(&ended);
		until(relaxed_load(&ended) >= from + HEAP);
		aspace_read_end(&view);
		/* They go, by the shares of those that come. */
		until(relaxed_load(&ended) >= from + 3 * HEAP);
	}
	relaxed_store(&stop, true);
	for (int i = 0; i < LEAVERS; i++)
		join(threads[i]);
	stats = stats_of(space);
	check(stats.changes_waiting_max >= HEAP / 2 && stats.late_leaving && stats.late_memory);
	check_late(&stats);
	printf("%-40s %9llu of %llu leaving, %llu memory\n", "late changes",
	       (unsigned long long)stats.late_leaving,
	       (unsigned long long)stats.changes_waiting_max,
	       (unsigned long long)stats.late_memory);
	check_ok(aspace_clear(space, 0));
	end_space(space);
}

/* ---- A hold is bounded ------------------------------------------------------- */

/* However much has come due, who holds the lock, the helper too, does a share of it. */
static void test_share(void)
{
	enum { AREAS = 1000 };
	struct aspace_view view;

	space = make_space(&(struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	for (uint64_t i = 0; i < AREAS; i++)
		check_ok(aspace_map(space, page(2 * i), 1, &counter, &user, 0));
	aspace_read_begin(space, &view);
	most_of_version = 0;
	unmapped = released = 0;
	check_ok(aspace_clear(space, 0));
	aspace_read_end(&view);
	/* The helper, and this thread. */
	while (relaxed_load(&unmapped) < AREAS) {
		check_ok(aspace_map(space, page(2 * AREAS), 1, aspace_null_backend(), NULL, 0));
		check_ok(aspace_unmap(space, page(2 * AREAS), 0));
		check_ok(aspace_map(space, page(2 * AREAS), 1, aspace_null_backend(), NULL, 0));
		check_ok(aspace_unmap(space, page(2 * AREAS), 0));
	}
	check(most_of_version == SHARE);
	end_space(space);
	check(released == AREAS);
	printf("%-40s %9d unmaps under one hold\n", "a share", SHARE);
}

/* ---- Memory ----------------------------------------------------------------- */

#define OPERATIONS 60000

static void *write_some(void *arg)
{
	uint64_t number = (uintptr_t)arg >> 32;

	for (uint64_t left = (uint32_t)(uintptr_t)arg; left; left--) {
		check_ok(aspace_map(space, page(number), 1, &counter, &user, 0));
		check_ok(aspace_unmap(space, page(number), 0));
	}
	return NULL;
}

/* Bytes mapped after so many operations by so many threads. */
static uint64_t memory_of(unsigned writers)
{
	pthread_t threads[WRITERS];
	uint64_t bytes, count = (uint64_t)scaled(OPERATIONS) / writers;

	space = make_space(
		&(struct aspace_options){.garbage_max = 0x200000, .stall_ms = FAR_AHEAD});
	for (uintptr_t i = 0; i < writers; i++)
		threads[i] = spawn(write_some, (void *)(i << 32 | count));
	for (unsigned i = 0; i < writers; i++)
		join(threads[i]);
	bytes = stats_of(space).bytes_mapped;
	end_space(space);
	return bytes;
}

static void test_memory(void)
{
	uint64_t one = memory_of(1), many = memory_of(16);

	printf("%-40s %9llu KiB with one writer, %llu with 16\n", "memory",
	       (unsigned long long)one >> 10, (unsigned long long)many >> 10);
	check(many <= 2 * one);
}

/* ---- Releases that take their time ------------------------------------------- */

static _Atomic bool in_release, let_go;
static _Atomic enum aspace_status in_release_status;
static _Atomic unsigned stalls;

static void hold_release(struct aspace_backend *of, void *object)
{
	relaxed_add(&released, 1);
	if (!object)
		return;
	/* It may do what others may not just now, or it would wait for itself. */
	until(atomic_load(&in_release) || atomic_load(&let_go));
	in_release_status = aspace_map(space, page(900), 1, of, NULL, ASPACE_REPLACE);
	until(atomic_load(&let_go));
}

static const struct aspace_backend_ops holding = {
	.size = sizeof(holding),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.release = hold_release,
};
static struct aspace_backend holder = {.ops = &holding, .flags_mask = 7};

static void count_stall(void *ctx, struct aspace *stalled, uint64_t waited_ms)
{
	(void)ctx;
	(void)stalled;
	(void)waited_ms;
	atomic_fetch_add(&stalls, 1);
}

/* Until an update would have to wait; answers how many are handed over by then. */
static uint64_t fill_ring(void)
{
	struct aspace_view view;

	atomic_store(&let_go, false);
	atomic_store(&in_release, false);
	atomic_store(&in_release_status, ASPACE_BUSY);
	/* Not waiting, which may also be for the helper. */
	while (!atomic_load(&space->calls.clogged)) {
		aspace_map(space, page(1), 1, &holder, &user, ASPACE_NOWAIT | ASPACE_REPLACE);
		aspace_unmap(space, page(1), ASPACE_NOWAIT);
	}
	check_status(aspace_unmap(space, page(1), ASPACE_NOWAIT), ASPACE_BUSY);
	/* A reader does not wait for callbacks: they may wait for it. */
	aspace_read_begin(space, &view);
	check_status(aspace_unmap(space, page(1), 0), ASPACE_BUSY);
	aspace_read_end(&view);
	atomic_store(&in_release, true);
	until(in_release_status != ASPACE_BUSY);
	check_status(in_release_status, ASPACE_OK);
	return stats_of(space).releases_due;
}

static _Atomic bool mapped;

static void *map_late(void *arg)
{
	(void)arg;
	check_ok(aspace_map(space, page(2), 1, aspace_null_backend(), NULL, 0));
	atomic_store(&mapped, true);
	return NULL;
}

static void test_room(void)
{
	struct aspace_stats stats;
	pthread_t writer;
	uint64_t due;

	/* Who must wait sleeps until there is room. */
	space = make_space(&(struct aspace_options){.stall_ms = FAR_AHEAD});
	due = fill_ring();
	check(due == ASP_CALLS);
	writer = spawn(map_late, NULL);
	until(atomic_load(&space->calls.room.waiters));
	check_status(aspace_find(space, page(2).start, NULL), ASPACE_NOT_MAPPED);
	check(atomic_load(&space->lock.next) == atomic_load(&space->lock.serving));
	atomic_store(&let_go, true);
	until(atomic_load(&mapped)); /* not asleep: a fault must show in processor time */
	join(writer);
	check_ok(aspace_quiesce(space, 0));
	stats = stats_of(space);
	check(!stats.releases_due && !stats.releases_pending);
	end_space(space);

	/* One that does not return is not waited for: it may want what the writer has. */
	space = make_space(&(struct aspace_options){.stall_ms = 10, .stalled = count_stall});
	fill_ring();
	stalls = 0;
	check_ok(aspace_map(space, page(2), 1, aspace_null_backend(), NULL, 0));
	check(stalls == 1);
	check_ok(aspace_unmap(space, page(2), ASPACE_NOWAIT));
	for (int i = 0; i < 1000; i++) {
		check_ok(aspace_map(space, page(3), 1, &holder, &user, 0));
		check_ok(aspace_unmap(space, page(3), 0));
	}
	check(stalls == 1);
	atomic_store(&let_go, true);
	check_ok(aspace_quiesce(space, 0));
	end_space(space);
	printf("%-40s %9llu handed over, and no more\n", "releases that do not return",
	       (unsigned long long)due);
}

/* ---- Leaving areas, while a release does not return ---------------------------- */

static void test_leaving_alone(void)
{
	struct aspace_options options = {.mode = ASPACE_GRACE_UNMAP, .stall_ms = FAR_AHEAD};

	space = make_space(&options);
	atomic_store(&let_go, false);
	atomic_store(&in_release, true);
	released = 0;
	check_ok(aspace_map(space, page(1), 1, &holder, &user, 0));
	check_ok(aspace_unmap(space, page(1), 0));
	until(relaxed_load(&released) == 1);
	/* As if the release wanted a lock that we hold. */
	for (uint64_t i = 0; i < 100; i++) {
		uint64_t number = 2 + i % 3;

		check_ok(aspace_map(space, page(number), 1, &holder, &user, 0));
		check_ok(aspace_unmap(space, page(number), 0));
		check_ok(aspace_map(space, page(number), 2, &holder, &user, 0));
		check_ok(aspace_unmap(space, page(number), 0));
	}
	check(relaxed_load(&released) == 1);
	atomic_store(&let_go, true);
	end_space(space);
	check(relaxed_load(&released) == 201);
	printf("%-40s %9d maps beside a release\n", "leaving areas", 200);
}

/* ---- One helper for several spaces ---------------------------------------------- */

/* A space whose lock is held for long does not keep the helper from the others. */
static void test_held_lock(void)
{
	struct aspace_txn *txn;
	struct aspace_view view;
	struct aspace *held;

	space = make_space(NULL);
	held = make_space(NULL); /* the newer: its lock comes first */
	for (int i = 0; i < 100; i++) {
		uint64_t before = relaxed_load(&released);

		check_ok(aspace_map(held, page(1), 1, &counter, &user, 0));
		check_ok(aspace_map(space, page(1), 1, &counter, &user, 0));
		/* Nothing is due before the lock is taken. */
		aspace_read_begin(held, &view);
		check_ok(aspace_unmap(held, page(1), 0));
		check_ok(aspace_txn_begin(held, 0, &txn));
		check_ok(aspace_unmap(space, page(1), 0));
		aspace_read_end(&view);
		until(relaxed_load(&released) == before + 1);
		aspace_txn_abort(txn);
		/* Nobody comes any more, and nobody has to ask. */
		until(relaxed_load(&released) == before + 2);
	}
	end_space(held);
	end_space(space);
	printf("%-40s %9d times\n", "beside a lock that is held", 100);
}

/* ---- Waiting, while the helper is in a callback ----------------------------------- */

static _Atomic bool reading, read_enough;
static _Atomic unsigned handled;

static void on_signal(int number)
{
	(void)number;
	atomic_fetch_add(&handled, 1);
}

static void *read_on(void *arg)
{
	struct aspace_view view;

	aspace_read_begin(arg, &view);
	atomic_store(&reading, true);
	until(atomic_load(&read_enough));
	aspace_read_end(&view);
	return NULL;
}

static void *wait_for_readers(void *arg)
{
	check_ok(aspace_map(arg, page(1), 1, aspace_null_backend(), NULL, 0));
	check_ok(aspace_quiesce(arg, 0));
	return NULL;
}

static uint64_t cpu_ms(pthread_t thread)
{
	struct timespec used;
	clockid_t clock;

	check(!pthread_getcpuclockid(thread, &clock) && !clock_gettime(clock, &used));
	return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

/* Who waits for readers sleeps, is told, and handles signals, whatever the helper is at. */
static void test_waiting(void)
{
	enum { STALLS = 40, MS = 10 };
	struct aspace *other =
		make_space(&(struct aspace_options){.stalled = count_stall, .stall_ms = MS});
	struct sigaction action = {.sa_handler = on_signal};
	pthread_t reader, waiter;
	uint64_t used;

	check(!sigaction(SIGUSR1, &action, NULL));
	space = make_space(NULL);
	atomic_store(&let_go, false);
	atomic_store(&in_release, true);
	released = 0;
	check_ok(aspace_map(space, page(1), 1, &holder, &user, 0));
	check_ok(aspace_unmap(space, page(1), 0));
	until(relaxed_load(&released) == 1);
	reader = spawn(read_on, other);
	until(atomic_load(&reading));
	stalls = 0;
	waiter = spawn(wait_for_readers, other);
	until(atomic_load(&stalls) >= 2);
	for (unsigned i = 1; i <= 5; i++) {
		check(!pthread_kill(waiter, SIGUSR1));
		until(atomic_load(&handled) == i);
	}
	used = cpu_ms(waiter);
	stalls = 0;
	until(atomic_load(&stalls) >= STALLS);
	used = cpu_ms(waiter) - used;
	/* Not a matter of how busy the machine is: who sleeps uses none. */
	check(used < STALLS * MS / 4);
	atomic_store(&read_enough, true);
	join(reader);
	join(waiter);
	atomic_store(&let_go, true);
	end_space(other);
	end_space(space);
	printf("%-40s %9llu ms of processor time in %d stalls of %d ms\n",
	       "waiting beside a release", (unsigned long long)used, STALLS, MS);
}

int main(int argc, char **argv)
{
	static const unsigned writers[] = {1, 2, 4, 16, 64};

	seed_from(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < sizeof(writers) / sizeof(*writers); i++) {
		test_late(writers[i], 0);
		test_late(writers[i], ASPACE_GRACE_UNMAP);
	}
	test_late_changes();
	test_share();
	test_memory();
	test_room();
	test_leaving_alone();
	test_held_lock();
	test_waiting();
	return 0;
}
