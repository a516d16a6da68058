/* SPDX-License-Identifier: MIT */
/*
 * Who waits, who does not, and for how much: BUSY under contention, updates inside read
 * sections and beside the lock of another space, the bound on garbage with a reader that
 * is stuck, the order of writers, and the cancellation of threads that wait.
 */
#include "crew.h"
#include "space/space.h"

static uint64_t seed;

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of(number * 0x1000, (number + 1) * 0x1000);
}

static enum aspace_status map_page(struct aspace *space, uint64_t number, unsigned how)
{
	return aspace_map(space, page(number), number, aspace_null_backend(), NULL,
			  how | ASPACE_REPLACE);
}

/* How many threads hold or want the writer lock. */
static uint32_t queue_length(struct aspace *space)
{
	return atomic_load(&space->lock.next) - atomic_load(&space->lock.serving);
}

/* ---- A reader that is stuck ------------------------------------------------- */

struct stuck {
	struct aspace *space;
	_Atomic bool inside, leave;
	pthread_t thread;
};

static void *stuck_main(void *arg)
{
	struct stuck *stuck = arg;
	struct aspace_view view;

	aspace_read_begin(stuck->space, &view);
	atomic_store(&stuck->inside, true);
	until(atomic_load(&stuck->leave));
	/* Its version is whole, however long ago it was. */
	for (uint64_t i = 1; i < 40; i += 3)
		check(aspace_view_find(&view, page(i).start, NULL) ==
		      (i % 2 ? ASPACE_OK : ASPACE_NOT_MAPPED));
	aspace_read_end(&view);
	return NULL;
}

static void stick(struct stuck *stuck, struct aspace *space)
{
	for (uint64_t i = 1; i < 40; i += 2)
		check_ok(map_page(space, i, 0));
	*stuck = (struct stuck){.space = space};
	stuck->thread = spawn(stuck_main, stuck);
	until(atomic_load(&stuck->inside));
}

static void release_stuck(struct stuck *stuck)
{
	atomic_store(&stuck->leave, true);
	join(stuck->thread);
}

/* ---- The bound --------------------------------------------------------------- */

static _Atomic unsigned stalls;
static _Atomic bool may_not_wait; /* nobody, just now */

static void count_stall(void *ctx, struct aspace *space, uint64_t waited_ms)
{
	struct aspace_stats stats = {.size = sizeof(stats)};
	enum aspace_status status = aspace_stats(space, &stats, 0);

	(void)ctx;
	if (atomic_load(&may_not_wait))
		fail("who asked not to wait waits, %llu ms", (unsigned long long)waited_ms);
	check(waited_ms > 0);
	/* Nothing is held, or a place in the line of the lock. */
	check(status == ASPACE_OK || status == ASPACE_DEADLOCK);
	check(stats.bytes_retired <= space->options.garbage_max + 64 * sizeof(struct asp_node));
	atomic_fetch_add(&stalls, 1);
}

static struct aspace *bounded_space(size_t garbage_max, unsigned mode)
{
	return make_space(&(struct aspace_options){
		.garbage_max = garbage_max,
		.stalled = count_stall,
		.stall_ms = 1,
		.mode = mode,
	});
}

/* Updates until one would have to wait; answers how many there were. */
static unsigned long fill_up(struct aspace *space)
{
	unsigned long count = 0;
	enum aspace_status status;
	uint64_t version;

	atomic_store(&may_not_wait, true);
	while ((status = map_page(space, 100 + count % 50, ASPACE_NOWAIT)) == ASPACE_OK)
		count++;
	check_status(status, ASPACE_BUSY);
	version = stats_of(space).version;
	check_status(aspace_unmap(space, page(100), ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_protect(space, page(100), 1, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_quiesce(space, ASPACE_NOWAIT), ASPACE_BUSY);
	check(stats_of(space).version == version);
	atomic_store(&may_not_wait, false);
	return count;
}

/* Stored after the update, by default order: false means that the writer still waits. */
static _Atomic bool written;

static void *late_writer(void *space)
{
	check_ok(map_page(space, 99, 0));
	atomic_store(&written, true);
	return NULL;
}

static void test_bound(void)
{
	struct aspace *space = bounded_space(0x10000, 0), *other = bounded_space(0x40000, 0);
	struct aspace *third = bounded_space(0x40000, 0);
	struct stuck stuck;
	unsigned long mine, others;
	pthread_t writer;

	stick(&stuck, space);
	mine = fill_up(space);
	check(mine > 0);
	/* The grace periods are shared, the bound is not: the other goes on. */
	others = fill_up(other);
	check(others > mine);
	check(stats_of(space).bytes_retired <= 0x10000 + 64 * sizeof(struct asp_node));
	check(stats_of(other).bytes_retired <= 0x40000 + 64 * sizeof(struct asp_node));
	check(stats_of(other).bytes_retired > 0x40000);

	/* A writer that may wait does, before it has done anything; the hook hears of it. */
	atomic_store(&stalls, 0);
	atomic_store(&written, false);
	writer = spawn(late_writer, space);
	until(atomic_load(&stalls) >= 5);
	check(!atomic_load(&written));
	check_status(aspace_find(space, page(99).start, NULL), ASPACE_NOT_MAPPED);
	/* Nobody waits with the lock held. */
	check(queue_length(space) == 0);
	check_status(aspace_find(space, page(100).start, NULL), ASPACE_OK);
	/* Nor do others wait because one does. */
	for (unsigned long i = 0; i < others; i++)
		check_ok(map_page(third, 100 + i % 50, ASPACE_NOWAIT));

	release_stuck(&stuck);
	join(writer);
	check_ok(aspace_find(space, page(99).start, NULL));
	check_ok(aspace_quiesce(space, 0));
	check_ok(aspace_quiesce(other, 0));
	check(stats_of(space).bytes_retired == 0);
	check(stats_of(other).bytes_retired == 0);
	printf("%-40s %9lu and %lu updates, %u stalls told\n", "stuck reader", mine, others,
	       atomic_load(&stalls));
	end_space(space);
	end_space(other);
	end_space(third);
}

/* ---- Updates inside read sections --------------------------------------------- */

static struct aspace *shared;
static _Atomic uint64_t busy_count, done_count, busy_quiesces;

static void *section_writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	for (long i = 0; i < scaled(20000); i++) {
		struct aspace_view view;
		enum aspace_status status;
		uint64_t number = roll_below(&dice, 200);

		aspace_read_begin(shared, &view);
		status = roll_below(&dice, 2) ? map_page(shared, number, 0)
					      : aspace_unmap(shared, page(number), 0);
		/* At the bound it would have to wait for itself. */
		if (status == ASPACE_BUSY) {
			relaxed_add(&busy_count, 1);
		} else {
			check_ok(status);
			relaxed_add(&done_count, 1);
		}
		/* An unmap of what is not mapped leaves nothing to wait for, and is not counted. */
		if (!roll_below(&dice, 64)) {
			status = aspace_quiesce(shared, 0);
			check(status == ASPACE_BUSY || status == ASPACE_OK);
			relaxed_add(&busy_quiesces, status == ASPACE_BUSY);
		}
		aspace_read_end(&view);
	}
	return NULL;
}

static void test_sections(void)
{
	struct aspace_view view;
	pthread_t threads[3];
	unsigned long count = 0;
	enum aspace_status status;

	shared = make_space(&(struct aspace_options){.garbage_max = 0x400000});
	for (uintptr_t i = 0; i < 3; i++)
		threads[i] = spawn(section_writer, (void *)i);
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	check(relaxed_load(&done_count) > 0);
	check(relaxed_load(&busy_quiesces) > 0);

	/* One thread alone, to the bound and not beyond. */
	check_ok(aspace_quiesce(shared, 0));
	aspace_read_begin(shared, &view);
	while ((status = map_page(shared, count % 50, 0)) == ASPACE_OK)
		count++;
	check_status(status, ASPACE_BUSY);
	check_status(aspace_destroy(shared, 0), ASPACE_BUSY);
	aspace_read_end(&view);
	check(count > 10);
	check_ok(map_page(shared, 0, 0));
	printf("%-40s %9llu done, %llu busy\n", "updates inside sections",
	       (unsigned long long)done_count, (unsigned long long)busy_count);
	end_space(shared);
}

/* A leaving area is in the way: outside sections wait, inside BUSY. */
static void test_leaving_in_section(void)
{
	struct aspace *space = make_space(&(struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	struct aspace_view view;

	check_ok(aspace_map(space, page(1), 0, aspace_null_backend(), NULL, 0));
	aspace_read_begin(space, &view);
	check_ok(aspace_unmap(space, page(1), 0));
	check_status(aspace_find(space, page(1).start, NULL), ASPACE_NOT_MAPPED);
	check_ok(aspace_view_find(&view, page(1).start, NULL));
	check(aspace_overlaps(space, page(1)));
	check_status(aspace_map(space, page(1), 0, aspace_null_backend(), NULL, 0), ASPACE_BUSY);
	aspace_read_end(&view);
	check_ok(aspace_map(space, page(1), 0, aspace_null_backend(), NULL, 0));
	end_space(space);
}

/* ---- Two spaces ------------------------------------------------------------------- */

/* One whose lock is held, one at its bound, one with a leaving area. */
static struct aspace *locked, *full, *left;
static _Atomic bool in_section;
static unsigned answered;

static void may_not_stall(void *ctx, struct aspace *space, uint64_t waited_ms)
{
	(void)ctx;
	if (space != locked && queue_length(locked))
		fail("%s waits for readers beside the lock of another space, %llu ms",
		     space == full ? "full" : "left", (unsigned long long)waited_ms);
}

/* Waits, in its section, for the lock that is held: whoever holds it must not wait for
 * readers. */
static void *update_in_section(void *unused)
{
	struct aspace_view view;

	(void)unused;
	aspace_read_begin(locked, &view);
	atomic_store(&in_section, true);
	check_ok(map_page(locked, 7, 0));
	aspace_read_end(&view);
	return NULL;
}

static void expect_busy(enum aspace_status status)
{
	check_status(status, ASPACE_BUSY);
	answered++;
}

/* With the lock of that one held. */
static pthread_t use_other_spaces(void)
{
	struct aspace_txn *txn;
	pthread_t reader;

	atomic_store(&in_section, false);
	reader = spawn(update_in_section, NULL);
	until(atomic_load(&in_section) && queue_length(locked) == 2);
	check_ok(aspace_map(left, page(1), 0, aspace_null_backend(), NULL, 0));
	check_ok(aspace_unmap(left, page(1), 0));
	fill_up(full);
	expect_busy(map_page(full, 1, 0));
	expect_busy(aspace_txn_begin(full, 0, &txn));
	expect_busy(aspace_quiesce(full, 0));
	expect_busy(aspace_destroy(full, 0));
	expect_busy(aspace_map(left, page(1), 0, aspace_null_backend(), NULL, 0));
	expect_busy(aspace_quiesce(left, 0));
	check(queue_length(locked) == 2);
	return reader;
}

static bool use_in_callback(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)area;
	*flags = 9;
	*(pthread_t *)ctx = use_other_spaces();
	return true;
}

static void test_other_spaces(void)
{
	struct aspace_txn *txn;
	pthread_t reader;

	for (int callback = 0; callback < 2; callback++) {
		full = make_space(&(struct aspace_options){
			.stalled = may_not_stall, .stall_ms = 1, .garbage_max = 0x8000});
		left = make_space(&(struct aspace_options){
			.stalled = may_not_stall, .stall_ms = 1, .mode = ASPACE_GRACE_UNMAP});
		/* The last: of two writer locks the newer space's comes first. */
		locked = make_space(
			&(struct aspace_options){.stalled = may_not_stall, .stall_ms = 1});
		check_ok(map_page(locked, 1, 0));
		if (callback) {
			check_ok(aspace_protect_with(locked, page(1), use_in_callback, &reader, 0));
		} else {
			check_ok(aspace_txn_begin(locked, 0, &txn));
			reader = use_other_spaces();
			check_ok(aspace_txn_commit(txn));
		}
		join(reader);
		check_ok(map_page(full, 1, 0));
		check_ok(aspace_map(left, page(1), 0, aspace_null_backend(), NULL, 0));
		check_ok(aspace_quiesce(left, 0));
		end_space(full);
		end_space(left);
		end_space(locked);
	}
	printf("%-40s %9u busy\n", "beside the lock of another space", answered);
}

/* ---- NOWAIT -------------------------------------------------------------------- */

static struct aspace_txn *held;

static void *try_everything(void *unused)
{
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr start;
	struct aspace_txn *txn;

	(void)unused;
	check_status(map_page(shared, 1, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_map_anywhere(shared, &gap, 0, aspace_null_backend(), NULL,
					 ASPACE_NOWAIT, &start),
		     ASPACE_BUSY);
	check_status(aspace_unmap(shared, page(1), ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_protect(shared, page(1), 2, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_clear(shared, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_move(shared, page(1), page(9).start, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_resize(shared, page(1).start, 0x2000, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_quiesce(shared, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_txn_begin(shared, ASPACE_NOWAIT, &txn), ASPACE_BUSY);
	/* Another thread's transaction is not ours to use. */
	check_status(aspace_txn_unmap(held, page(1), 0), ASPACE_DEADLOCK);
	check_status(aspace_txn_commit(held), ASPACE_DEADLOCK);
	aspace_txn_abort(held);
	return NULL;
}

static void *nowait_writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (relaxed_load(&busy_count) < 100 || relaxed_load(&done_count) < 2000) {
		enum aspace_status status = map_page(shared, roll_below(&dice, 100), ASPACE_NOWAIT);

		if (status == ASPACE_BUSY)
			relaxed_add(&busy_count, 1);
		else
			check_ok(status);
		if (status == ASPACE_OK)
			relaxed_add(&done_count, 1);
	}
	return NULL;
}

static void test_nowait(void)
{
	pthread_t threads[3];
	uint64_t version;

	shared = make_space(NULL);
	check_ok(map_page(shared, 1, 0));
	version = stats_of(shared).version;
	check_ok(aspace_txn_begin(shared, 0, &held));
	join(spawn(try_everything, NULL));
	check_status(map_page(shared, 2, 0), ASPACE_DEADLOCK);
	check_status(aspace_destroy(shared, 0), ASPACE_BUSY);
	aspace_txn_abort(held);
	check(stats_of(shared).version == version);

	/* Versions count what was done, and nothing else. */
	atomic_store(&busy_count, 0);
	atomic_store(&done_count, 0);
	for (uintptr_t i = 0; i < 3; i++)
		threads[i] = spawn(nowait_writer, (void *)i);
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	check(stats_of(shared).version == version + done_count);
	printf("%-40s %9llu done, %llu busy\n", "no-wait updates", (unsigned long long)done_count,
	       (unsigned long long)busy_count);
	end_space(shared);
}

/* ---- Order --------------------------------------------------------------------- */

#define QUEUE 24
static unsigned arrivals[QUEUE], arrived;

static void *queue_up(void *arg)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(shared, 0, &txn));
	arrivals[arrived++] = (unsigned)(uintptr_t)arg; /* the writer lock guards it */
	aspace_txn_abort(txn);
	return NULL;
}

static void test_fairness(void)
{
	pthread_t threads[QUEUE];

	shared = make_space(NULL);
	check_ok(aspace_txn_begin(shared, 0, &held));
	for (uintptr_t i = 0; i < QUEUE; i++) {
		threads[i] = spawn(queue_up, (void *)i);
		until(queue_length(shared) == i + 2);
	}
	aspace_txn_abort(held);
	for (int i = 0; i < QUEUE; i++)
		join(threads[i]);
	for (unsigned i = 0; i < QUEUE; i++)
		check(arrivals[i] == i);
	end_space(shared);
	printf("%-40s %9d writers in order\n", "fairness", QUEUE);
}

/* ---- Cancellation ---------------------------------------------------------------- */

static _Atomic bool call_returned;

static void *wait_in_map(void *space)
{
	check_ok(map_page(space, 77, 0));
	atomic_store(&call_returned, true);
	pthread_testcancel();
	return NULL;
}

static void *wait_in_begin(void *space)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	aspace_txn_abort(txn);
	atomic_store(&call_returned, true);
	pthread_testcancel();
	return NULL;
}

static void *wait_in_quiesce(void *space)
{
	check_ok(aspace_quiesce(space, 0));
	atomic_store(&call_returned, true);
	pthread_testcancel();
	return NULL;
}

static void *wait_in_stats(void *space)
{
	stats_of(space);
	atomic_store(&call_returned, true);
	pthread_testcancel();
	return NULL;
}

static void *wait_for_leaving(void *space)
{
	check_ok(aspace_map(space, page(1), 5, aspace_null_backend(), NULL, 0));
	atomic_store(&call_returned, true);
	pthread_testcancel();
	return NULL;
}

static void *wait_in_destroy(void *space)
{
	check_ok(aspace_destroy(space, 0));
	atomic_store(&call_returned, true);
	pthread_testcancel();
	return NULL;
}

/* The call ends as if nothing had happened; the thread dies afterwards. */
static void check_cancelled(pthread_t thread)
{
	check(join(thread) == PTHREAD_CANCELED);
	check(atomic_load(&call_returned));
	atomic_store(&call_returned, false);
}

static void check_alive(struct aspace *space)
{
	check_ok(aspace_map(space, page(200), 0, aspace_null_backend(), NULL, 0));
	check_ok(aspace_unmap(space, page(200), 0));
	check_ok(aspace_quiesce(space, 0));
	check_space(space);
}

static void cancel_waiting_for_lock(void *(*entry)(void *))
{
	struct aspace *space = make_space(NULL);
	struct aspace_txn *txn;
	pthread_t thread;

	check_ok(aspace_txn_begin(space, 0, &txn));
	thread = spawn(entry, space);
	until(queue_length(space) == 2);
	check(!pthread_cancel(thread));
	aspace_txn_abort(txn);
	check_cancelled(thread);
	check_alive(space);
	end_space(space);
}

static void cancel_waiting_for_readers(void *(*entry)(void *), unsigned mode, bool at_bound,
				       bool destroys)
{
	struct aspace *home = make_space(NULL), *space;
	struct stuck stuck;
	pthread_t thread;

	space = bounded_space(at_bound ? 0x8000 : 0, mode);
	stick(&stuck, home);
	if (at_bound)
		fill_up(space);
	/* Something to wait for: nodes, in a grace-unmap space a leaving area. */
	if (!at_bound) {
		check_ok(aspace_map(space, page(1), 0, aspace_null_backend(), NULL, 0));
		check_ok(aspace_unmap(space, page(1), 0));
	}
	atomic_store(&stalls, 0);
	thread = spawn(entry, space);
	until(atomic_load(&stalls) >= 2);
	check(!pthread_cancel(thread));
	/* It still waits: nothing was cancelled in the middle. */
	until(atomic_load(&stalls) >= 4 || !pthread_tryjoin_np(thread, NULL));
	if (atomic_load(&stalls) < 4)
		fail("cancelled while it waited");
	release_stuck(&stuck);
	check_cancelled(thread);
	if (!destroys) {
		check_alive(space);
		end_space(space);
	}
	check_alive(home);
	end_space(home);
}

static void test_cancellation(void)
{
	cancel_waiting_for_lock(wait_in_map);
	cancel_waiting_for_lock(wait_in_begin);
	cancel_waiting_for_lock(wait_in_quiesce);
	cancel_waiting_for_lock(wait_in_stats);
	cancel_waiting_for_readers(wait_in_quiesce, 0, false, false);
	cancel_waiting_for_readers(wait_in_map, 0, true, false);
	cancel_waiting_for_readers(wait_in_begin, 0, true, false);
	cancel_waiting_for_readers(wait_for_leaving, ASPACE_GRACE_UNMAP, false, false);
	cancel_waiting_for_readers(wait_in_destroy, 0, false, true);
	printf("%-40s %9d ways\n", "cancelled while waiting", 9);
}

int main(int argc, char **argv)
{
	seed = seed_from(argc, argv);
	test_bound();
	test_sections();
	test_leaving_in_section();
	test_other_spaces();
	test_nowait();
	test_fairness();
	test_cancellation();
	return 0;
}
