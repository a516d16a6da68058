/* SPDX-License-Identifier: MIT */
/*
 * What callbacks do while aspace_destroy, aspace_clear or aspace_quiesce are at work: the
 * space is freed when nothing is left that is in use, and never before.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "conformance/support.h"

static struct aspace *space;
static struct aspace_backend_ops ops;
static struct aspace_backend backend;
static struct aspace_snapshot snapshot;
static struct aspace_view section;
static struct aspace_txn *txn;
static char user_object;

/* What a callback is to do, once, and what came of it. Which one: the stall hook, or any other. */
static void (*_Atomic deed)(void);
static bool hook_does_it;
static enum aspace_status outcome;
static _Atomic unsigned releases, refusals_left;

/* ---- Callbacks ------------------------------------------------------------ */

static void do_it(bool is_hook)
{
	void (*what)(void) = is_hook == hook_does_it ? atomic_exchange(&deed, NULL) : NULL;

	if (what)
		what();
}

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ASPACE_OK;
}

static enum aspace_status unmap_or_refuse(struct aspace_backend *of,
					  const struct aspace_change *change)
{
	(void)of;
	(void)change;
	if (!refusals_left)
		return ASPACE_OK;
	refusals_left--;
	return ASPACE_ACCESS_DENIED;
}

static void release(struct aspace_backend *of, void *user)
{
	(void)of;
	(void)user;
	releases++;
	do_it(false);
}

static void refused(void *ctx, struct aspace *of, const struct aspace_area *area,
		    enum aspace_status status)
{
	(void)ctx;
	(void)of;
	(void)area;
	(void)status;
	do_it(false);
}

/* ---- Deeds ------------------------------------------------------------------ */

static void take_snapshot(void)
{
	outcome = aspace_snapshot_take(space, &snapshot);
}

static void leave_section(void)
{
	aspace_read_begin(space, &section);
	outcome = ASPACE_OK;
}

static void leave_transaction(void)
{
	outcome = aspace_txn_begin(space, 0, &txn);
}

static void map_something(void)
{
	outcome = aspace_map(space, range(7000, 7010), 1, &backend, &user_object, 0);
}

static void destroy(void)
{
	outcome = aspace_destroy(space, 0);
}

/* ---- A space, and readers that hold it up ------------------------------------ */

static sem_t reader_has_begun, reader_may_end;

static void *read_until_told(void *ignored)
{
	struct aspace_view view;

	aspace_read_begin(space, &view);
	sem_post(&reader_has_begun);
	sem_wait(&reader_may_end);
	aspace_read_end(&view);
	return ignored;
}

static pthread_t start_reader(void)
{
	pthread_t reader;

	assert_int_equal(pthread_create(&reader, NULL, read_until_told, NULL), 0);
	sem_wait(&reader_has_begun);
	return reader;
}

static void stalled(void *ctx, struct aspace *of, uint64_t waited)
{
	(void)ctx;
	(void)of;
	(void)waited;
	if (!hook_does_it || !deed)
		return;
	do_it(true);
	sem_post(&reader_may_end);
}

static void open_space(unsigned mode)
{
	struct aspace_options options = {
		.size = sizeof(options),
		.mode = mode,
		.refused = refused,
		.stalled = stalled,
		.stall_ms = 1,
	};

	ops = (struct aspace_backend_ops){
		.size = sizeof(ops),
		.map = accept,
		.unmap = unmap_or_refuse,
		.protect = accept,
		.release = release,
	};
	backend = (struct aspace_backend){.ops = &ops, .flags_mask = 7};
	deed = NULL;
	releases = refusals_left = 0;
	assert_ok(aspace_create(&options, &space));
}

static void put(uint64_t start, uint64_t end)
{
	assert_ok(aspace_map(space, range(start, end), 1, &backend, &user_object, 0));
}

static int open_semaphores(void **state)
{
	(void)state;
	return sem_init(&reader_has_begun, 0, 0) || sem_init(&reader_may_end, 0, 0);
}

/* ---- Snapshots ---------------------------------------------------------------- */

/* Destroy unmaps in batches: the first release comes while most areas are there, or when all
 * are gone; the snapshot shows what it shows, and its objects stay. */
static void a_snapshot_taken_by_release_keeps_the_space(void **state)
{
	(void)state;
	for (uint64_t areas = 1; areas <= 3000; areas = areas * 3 + 1) {
		struct aspace_view view;
		struct aspace_iter iter;
		struct aspace_area area;
		uint64_t shown = 0;

		open_space(0);
		for (uint64_t i = 0; i < areas; i++)
			put(20 * i, 20 * i + 10);
		deed = take_snapshot;
		assert_status(ASPACE_BUSY, aspace_destroy(space, 0));
		assert_ok(outcome);
		assert_status(ASPACE_BUSY, aspace_destroy(space, 0));
		assert_status(ASPACE_BUSY, aspace_destroy(space, ASPACE_NOWAIT));
		assert_int_equal(aspace_count(space), 0);
		assert_ok(aspace_validate(space, NULL, 0));

		aspace_snapshot_view(&snapshot, &view);
		aspace_iter_begin(&view, at(0), &iter);
		while (aspace_iter_next(&iter, &area)) {
			assert_ptr_equal(area.user, &user_object);
			shown++;
		}
		assert_int_equal(releases, areas - shown);
		aspace_snapshot_release(&snapshot);
		put(0, 10); /* it is alive */
		assert_ok(aspace_destroy(space, 0));
		assert_int_equal(releases, areas + 1);
	}
}

static void a_snapshot_taken_where_an_unmap_was_refused_keeps_the_space(void **state)
{
	(void)state;
	open_space(ASPACE_GRACE_UNMAP);
	put(0, 10);
	put(20, 30);
	deed = take_snapshot;
	refusals_left = 1;
	assert_status(ASPACE_BAD_STATE, aspace_destroy(space, 0));
	assert_ok(outcome);
	assert_int_equal(aspace_count(space), 1);
	assert_status(ASPACE_BUSY, aspace_destroy(space, 0));
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_destroy(space, 0));
	assert_int_equal(releases, 2);
}

/* ---- The stall hook -------------------------------------------------------------- */

typedef enum aspace_status waiting_call(struct aspace *, unsigned);

/* Makes a call that waits, with a reader in its way until the hook has done the deed. */
static enum aspace_status wait_with_deed(waiting_call *call, void (*what)(void))
{
	enum aspace_status status;
	pthread_t reader;

	open_space(0);
	put(0, 10);
	put(20, 30);
	reader = start_reader();
	assert_ok(aspace_unmap(space, range(0, 10), 0));
	outcome = ASPACE_BAD_STATE;
	hook_does_it = true;
	deed = what;
	status = call(space, 0);
	assert_null(deed); /* it was done */
	assert_int_equal(pthread_join(reader, NULL), 0);
	hook_does_it = false;
	return status;
}

static waiting_call *const waiting_calls[] = {aspace_quiesce, aspace_destroy};

static void close_space(void)
{
	assert_ok(aspace_destroy(space, 0));
	assert_int_equal(releases, 2);
}

static void the_stall_hook_may_not_destroy_the_space(void **state)
{
	(void)state;
	assert_ok(wait_with_deed(aspace_quiesce, destroy));
	assert_status(ASPACE_DEADLOCK, outcome);
	close_space();
	assert_ok(wait_with_deed(aspace_destroy, destroy));
	assert_status(ASPACE_DEADLOCK, outcome);
	assert_int_equal(releases, 2);
}

static void a_snapshot_taken_by_the_stall_hook_keeps_the_space(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_status(i ? ASPACE_BUSY : ASPACE_OK,
			      wait_with_deed(waiting_calls[i], take_snapshot));
		assert_ok(outcome);
		assert_status(ASPACE_BUSY, aspace_destroy(space, 0));
		aspace_snapshot_release(&snapshot);
		close_space();
	}
}

/* It would be waited for for ever. */
static void a_section_left_open_by_the_stall_hook_is_not_waited_for(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_status(ASPACE_BUSY, wait_with_deed(waiting_calls[i], leave_section));
		aspace_read_end(&section);
		close_space();
	}
}

static void a_transaction_left_open_by_the_stall_hook_keeps_the_space(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_status(ASPACE_BUSY, wait_with_deed(waiting_calls[i], leave_transaction));
		assert_ok(outcome);
		assert_status(ASPACE_BUSY, aspace_destroy(space, 0));
		aspace_txn_abort(txn);
		close_space();
	}
}

static void what_the_stall_hook_maps_is_unmapped_by_destroy(void **state)
{
	(void)state;
	assert_ok(wait_with_deed(aspace_destroy, map_something));
	assert_ok(outcome);
	assert_int_equal(releases, 3);
}

/* ---- release, in the thread that destroys -------------------------------------------- */

static sem_t helper_is_in_release, helper_may_leave;

static void release_slowly(struct aspace_backend *of, void *user)
{
	(void)of;
	(void)user;
	sem_post(&helper_is_in_release);
	sem_wait(&helper_may_leave);
}

/* The helper is busy with another space, so that callbacks run in our thread. */
static enum aspace_status call_with_deed(waiting_call *call, void (*what)(void))
{
	struct aspace_backend_ops slow_ops;
	struct aspace_backend slow;
	enum aspace_status status;
	struct aspace *other;

	open_space(0);
	assert_int_equal(sem_init(&helper_is_in_release, 0, 0), 0);
	assert_int_equal(sem_init(&helper_may_leave, 0, 0), 0);
	slow_ops = ops;
	slow_ops.release = release_slowly;
	slow = backend;
	slow.ops = &slow_ops;
	assert_ok(aspace_create(NULL, &other));
	assert_ok(aspace_map(other, range(0, 10), 1, &slow, &user_object, 0));
	assert_ok(aspace_clear(other, 0));
	sem_wait(&helper_is_in_release);

	put(0, 10);
	put(20, 30);
	assert_ok(aspace_unmap(space, range(0, 10), 0));
	outcome = ASPACE_BAD_STATE;
	deed = what;
	status = call(space, 0);
	assert_null(deed);
	sem_post(&helper_may_leave);
	assert_int_equal(aspace_destroy(other, 0) == ASPACE_OK,
			 what != leave_section && what != leave_transaction);
	if (what == leave_section)
		aspace_read_end(&section);
	if (what == leave_transaction)
		aspace_txn_abort(txn);
	if (what == leave_section || what == leave_transaction)
		assert_ok(aspace_destroy(other, 0));
	return status;
}

static void release_may_not_destroy_the_space(void **state)
{
	(void)state;
	assert_ok(call_with_deed(aspace_quiesce, destroy));
	assert_status(ASPACE_DEADLOCK, outcome);
	close_space();
	assert_ok(call_with_deed(aspace_destroy, destroy));
	assert_status(ASPACE_DEADLOCK, outcome);
	assert_int_equal(releases, 2);
}

static void what_release_leaves_open_keeps_the_space(void **state)
{
	void (*const deeds[])(void) = {leave_section, leave_transaction};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_status(ASPACE_BUSY, call_with_deed(aspace_destroy, deeds[i]));
		assert_ok(outcome);
		close_space();
	}
}

static void what_release_maps_is_unmapped_by_destroy(void **state)
{
	(void)state;
	assert_ok(call_with_deed(aspace_destroy, map_something));
	assert_ok(outcome);
	assert_int_equal(releases, 3);
}

/* ---- Under the writer lock ---------------------------------------------------------- */

static bool decide(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	(void)area;
	do_it(false);
	*flags = 2;
	return true;
}

static void whoever_is_asked_under_the_lock_may_not_destroy(void **state)
{
	(void)state;
	open_space(ASPACE_GRACE_UNMAP);
	put(0, 10);
	deed = destroy;
	outcome = ASPACE_OK;
	assert_ok(aspace_protect_with(space, range(0, 10), decide, NULL, 0));
	assert_status(ASPACE_DEADLOCK, outcome);
	deed = destroy;
	outcome = ASPACE_OK;
	refusals_left = 1;
	assert_ok(aspace_unmap(space, range(0, 10), 0));
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(space, 0));
	assert_status(ASPACE_DEADLOCK, outcome);

	/* Snapshots they may take. */
	deed = take_snapshot;
	assert_ok(aspace_protect_with(space, range(2, 4), decide, NULL, 0));
	assert_ok(outcome);
	assert_status(ASPACE_BUSY, aspace_destroy(space, 0));
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_destroy(space, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_snapshot_taken_by_release_keeps_the_space),
		cmocka_unit_test(a_snapshot_taken_where_an_unmap_was_refused_keeps_the_space),
		cmocka_unit_test(the_stall_hook_may_not_destroy_the_space),
		cmocka_unit_test(a_snapshot_taken_by_the_stall_hook_keeps_the_space),
		cmocka_unit_test(a_section_left_open_by_the_stall_hook_is_not_waited_for),
		cmocka_unit_test(a_transaction_left_open_by_the_stall_hook_keeps_the_space),
		cmocka_unit_test(what_the_stall_hook_maps_is_unmapped_by_destroy),
		cmocka_unit_test(release_may_not_destroy_the_space),
		cmocka_unit_test(what_release_leaves_open_keeps_the_space),
		cmocka_unit_test(what_release_maps_is_unmapped_by_destroy),
		cmocka_unit_test(whoever_is_asked_under_the_lock_may_not_destroy),
	};

	return cmocka_run_group_tests(tests, open_semaphores, NULL);
}
