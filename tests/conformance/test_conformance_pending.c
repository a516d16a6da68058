/* SPDX-License-Identifier: MIT */
/*
 * R5 for every loss: in a grace-unmap space, a protect that takes something away shows at once, and
 * reaches the backend when the readers of before have gone. Until then the area is pending.
 *
 * The test's own section keeps areas pending, and is ended to let them be done.
 */
#include <pthread.h>

#include "conformance/support.h"

#define NONE 0
#define R    1
#define RW   3
#define RX   5
#define RWX  7

static struct world w;
static struct aspace_view section;
static bool in_section;

static struct {
	unsigned calls;
	struct aspace_area area;
	enum aspace_status status;
} told;

static void refused(void *ctx, struct aspace *space, const struct aspace_area *area,
		    enum aspace_status status)
{
	struct aspace_area found;

	(void)ctx;
	told.calls++;
	told.area = *area;
	told.status = status;
	/* It is published. */
	assert_ok(aspace_find(space, area->start, &found));
	assert_int_equal(found.flags, area->flags);
}

static void open_with(unsigned mode, unsigned mock_mode)
{
	memset(&told, 0, sizeof(told));
	world_open(&w, &(struct world_options){
			       .space = {.mode = mode, .refused = refused},
			       .mock_mode = ASPACE_MOCK_LOSES | mock_mode,
			       .other_mode = ASPACE_MOCK_LOSES,
			       .log_capacity = 64,
		       });
}

static int open_space(void **state)
{
	(void)state;
	open_with(ASPACE_GRACE_UNMAP, 0);
	return 0;
}

static int open_objects(void **state)
{
	(void)state;
	open_with(ASPACE_GRACE_UNMAP, ASPACE_MOCK_OBJECTS);
	return 0;
}

static void begin_section(void)
{
	aspace_read_begin(w.space, &section);
	in_section = true;
}

static void end_section(void)
{
	aspace_read_end(&section);
	in_section = false;
}

static int close_space(void **state)
{
	(void)state;
	if (in_section) /* where the test has failed */
		end_section();
	world_close(&w);
	return 0;
}

/* Lets what is pending be done. */
static void let_go(void)
{
	if (in_section)
		end_section();
	assert_ok(aspace_quiesce(w.space, 0));
	assert_int_equal(stats_of(&w).pending, 0);
}

/* What the newest version shows. */
static void assert_shows_at(const char *want, int line)
{
	struct aspace_violation wrong;
	struct aspace_view view;
	char text[4096];

	if (aspace_validate(w.space, &wrong, 0) != ASPACE_OK)
		fail_msg("line %d: S%u at %#llx: %s", line, wrong.invariant,
			 (unsigned long long)wrong.address.value, wrong.what);
	aspace_read_begin(w.space, &view);
	describe(&w, &view, text, sizeof(text));
	aspace_read_end(&view);
	if (strcmp(text, want) != 0)
		fail_msg("line %d: %s, not %s", line, text, want);
}
#define assert_shows(want) assert_shows_at(want, __LINE__)

static uint64_t held(uint64_t address)
{
	uint64_t flags = UINT64_MAX;

	aspace_mock_query(w.mock, at(address), &flags);
	return flags;
}

/* ---- What is shown, and what is held ------------------------------------- */

static void test_less_waits_for_readers(void **state)
{
	(void)state;
	assert_ok(map(&w, 0, 100, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, R));
	assert_shows("0-64:1");
	assert_int_equal(held(0), RW);
	assert_int_equal(held(99), RW);
	assert_int_equal(stats_of(&w).pending, 1);
	assert_int_equal(stats_of(&w).areas, 1);
	assert_int_equal(stats_of(&w).leaving, 0);
	assert_int_equal(stats_of(&w).releases_pending, 0);
	assert_int_equal(aspace_mock_calls(w.mock, ASPACE_MOCK_PROTECT), 0);
	assert_int_equal(aspace_mock_calls(w.mock, ASPACE_MOCK_PREPARE), 1);
	assert_status(ASPACE_BUSY, aspace_quiesce(w.space, 0));
	assert_int_equal(held(0), RW);
	let_go();
	assert_int_equal(held(0), R);
	assert_shows("0-64:1");
	assert_int_equal(aspace_mock_calls(w.mock, ASPACE_MOCK_PROTECT), 1);
	assert_int_equal(aspace_mock_calls(w.mock, ASPACE_MOCK_PREPARE), 2);
	assert_int_equal(told.calls, 0);
}

static void test_more_is_made_at_once(void **state)
{
	(void)state;
	assert_ok(map(&w, 0, 100, R, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, RW));
	assert_int_equal(held(0), RW);
	assert_int_equal(stats_of(&w).pending, 0);
	end_section();
}

/* What is given is there at once, what is taken goes later. */
static void test_give_and_take(void **state)
{
	(void)state;
	assert_ok(map(&w, 0, 100, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, RX));
	assert_shows("0-64:5");
	assert_int_equal(held(0), RWX);
	assert_int_equal(stats_of(&w).pending, 1);
	let_go();
	assert_int_equal(held(0), RX);
}

static void test_giving_is_refused_at_once(void **state)
{
	(void)state;
	assert_ok(map(&w, 0, 100, RW, NULL));
	assert_ok(map(&w, 200, 300, RW, NULL));
	begin_section();
	aspace_mock_inject(w.mock, ASPACE_MOCK_PROTECT, 2, false, ASPACE_NO_MEMORY);
	assert_status(ASPACE_NO_MEMORY, protect(&w, 0, 300, RX));
	assert_shows("0-64:3 c8-12c:3");
	assert_int_equal(held(0), RW);
	assert_int_equal(stats_of(&w).pending, 0);
	let_go();
	assert_int_equal(held(0), RW);
}

/* A space without the mode, and a backend that says nothing: at once. */
static void test_only_where_asked_for(void **state)
{
	(void)state;
	open_with(0, 0);
	assert_ok(map(&w, 0, 100, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, R));
	assert_int_equal(held(0), R);
	end_section();
	world_close(&w);

	world_open(&w, &(struct world_options){.space = {.mode = ASPACE_GRACE_UNMAP}});
	assert_ok(map(&w, 0, 100, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, R));
	assert_int_equal(held(0), R);
	end_section();
	world_close(&w);
}

static unsigned asked;

static unsigned loses_all(struct aspace_backend *backend, uint64_t from, uint64_t to,
			  uint64_t *meanwhile)
{
	(void)backend;
	(void)to;
	asked++;
	assert_int_equal(*meanwhile, from);
	*meanwhile = UINT64_MAX; /* nonsense: taken for nothing */
	return ASPACE_LOSES_ACCESS;
}

static unsigned protects;

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	protects += change->kind == ASPACE_CHANGE_PROTECT;
	return ASPACE_OK;
}

/* A table that ends before `loses`: it is not looked at. */
static void test_short_tables(void **state)
{
	(void)state;
	for (unsigned whole = 0; whole < 2; whole++) {
		struct aspace_backend_ops ops = {
			.size = whole ? sizeof(ops) : offsetof(struct aspace_backend_ops, loses),
			.map = accept,
			.unmap = accept,
			.protect = accept,
			.loses = loses_all,
		};
		struct aspace_backend backend = {.ops = &ops, .flags_mask = RWX};

		asked = protects = 0;
		assert_ok(aspace_map(w.space, range(0, 100), RW, &backend, NULL, 0));
		begin_section();
		assert_ok(protect(&w, 0, 100, R));
		assert_int_equal(asked > 0, whole);
		assert_int_equal(protects, !whole);
		let_go();
		assert_int_equal(protects, 1);
		assert_ok(unmap(&w, 0, 100));
		let_go();
	}
}

/* ---- What meets a pending area ------------------------------------------- */

static bool half_of_it(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	++*(unsigned *)ctx;
	*flags = area->start.value < 50 ? area->flags : NONE;
	return true;
}

static void test_others_wait(void **state)
{
	struct aspace_txn *txn;
	unsigned calls = 0;

	(void)state;
	assert_ok(map(&w, 0, 100, RW, NULL));
	assert_ok(map(&w, 200, 300, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, R));
	for (unsigned i = 0; i < 2; i++) {
		unsigned how = i ? ASPACE_NOWAIT : 0;

		/* The helper of the library must not come in between. */
		assert_status(ASPACE_BUSY, aspace_unmap(w.space, range(0, 100), how));
		assert_status(ASPACE_BUSY, aspace_unmap(w.space, range(50, 250), how));
		assert_status(ASPACE_BUSY, aspace_protect(w.space, range(10, 20), RW, how));
		assert_status(ASPACE_BUSY, aspace_protect(w.space, range(0, 300), NONE, how));
		assert_status(ASPACE_BUSY, aspace_resize(w.space, at(0), 150, how));
		assert_status(ASPACE_BUSY, aspace_resize(w.space, at(0), 50, how));
		assert_status(ASPACE_BUSY, aspace_clear(w.space, how));
		assert_status(ASPACE_ALREADY_EXISTS, map(&w, 50, 150, RW, NULL));
		/* What leaves it as it is does not meet it. */
		assert_ok(aspace_protect(w.space, range(0, 100), R, how));
		assert_ok(aspace_protect_with(w.space, range(0, 100), half_of_it, &calls, how));
		assert_int_equal(calls, 1 + i);
		assert_ok(aspace_txn_begin(w.space, how, &txn));
		assert_status(ASPACE_BUSY, aspace_txn_unmap(txn, range(90, 250), 0));
		assert_status(ASPACE_BUSY, aspace_txn_protect(txn, range(0, 300), RW, 0));
		assert_ok(aspace_txn_protect(txn, range(0, 250), R, 0));
		aspace_txn_abort(txn);
		assert_shows("0-64:1 c8-12c:3");
	}
	assert_ok(map(&w, 400, 500, RW, NULL)); /* elsewhere all goes on */
	assert_ok(unmap(&w, 400, 500));
	end_section();
	/* They do wait. */
	assert_ok(protect(&w, 10, 20, RWX));
	assert_int_equal(held(0), R);
	assert_int_equal(held(10), RWX);
	assert_ok(protect(&w, 200, 300, NONE));
	assert_ok(unmap(&w, 200, 250));
	assert_int_equal(held(250), NONE);
	assert_ok(protect(&w, 10, 20, NONE));
	assert_ok(aspace_resize(w.space, at(10), 5, 0));
	assert_ok(protect(&w, 20, 30, NONE));
	assert_ok(aspace_clear(w.space, 0));
	let_go();
	assert_areas(&w, "");
}

static void test_neighbours_merge_afterwards(void **state)
{
	(void)state;
	assert_ok(map(&w, 0, 50, RW, NULL));
	assert_ok(map(&w, 50, 100, R, NULL));
	assert_ok(map(&w, 100, 150, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 150, R)); /* leaves the second as it is */
	assert_shows("0-32:1 32-64:1 64-96:1");
	assert_int_equal(stats_of(&w).pending, 2);
	assert_ok(map(&w, 150, 200, R, NULL));
	assert_shows("0-32:1 32-64:1 64-96:1 96-c8:1");
	let_go();
	assert_areas(&w, "0-c8:1");
}

static void test_cut_out_of_an_area(void **state)
{
	struct aspace_mock_object *user = object(&w);

	(void)state;
	assert_ok(map(&w, 0, 300, RW, user));
	begin_section();
	assert_ok(protect(&w, 100, 200, NONE));
	assert_shows("0-64:3 64-c8:0 c8-12c:3");
	assert_references(user, 3);
	assert_int_equal(held(150), RW);
	let_go();
	assert_areas(&w, "0-64:3 64-c8:0 c8-12c:3");
	assert_ok(unmap(&w, 0, 100));
	let_go();
	assert_references(user, 2);
}

/* ---- Refusals ------------------------------------------------------------- */

static void refuse_late(enum aspace_mock_call call)
{
	struct aspace_mock_object *user = object(&w);

	memset(&told, 0, sizeof(told));
	assert_ok(map(&w, 0, 300, RW, user));
	begin_section();
	assert_ok(protect(&w, 100, 200, R));
	assert_references(user, 3);
	aspace_mock_inject(w.mock, call, 1, false, ASPACE_NO_MEMORY);
	end_section();
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(w.space, 0));
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.status, ASPACE_NO_MEMORY);
	assert_int_equal(told.area.flags, RW);
	assert_int_equal(told.area.start.value, 100);
	assert_int_equal(told.area.end.value, 200);
	assert_ok(aspace_quiesce(w.space, 0));
	assert_areas(&w, "0-12c:3"); /* as before: one area, one reference */
	assert_references(user, 1);
	assert_ok(unmap(&w, 0, 300));
	let_go();
}

static void test_refusals(void **state)
{
	(void)state;
	refuse_late(ASPACE_MOCK_PROTECT);
	refuse_late(ASPACE_MOCK_PREPARE);
}

/* What was given stays. */
static void test_refusal_after_give_and_take(void **state)
{
	(void)state;
	assert_ok(map(&w, 0, 100, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, RX));
	aspace_mock_inject(w.mock, ASPACE_MOCK_PROTECT, 1, false, ASPACE_NO_MEMORY);
	end_section();
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(w.space, 0));
	assert_areas(&w, "0-64:7");
	assert_int_equal(told.area.flags, RWX);
}

/* ---- Several ---------------------------------------------------------------- */

static bool by_place(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	*flags = area->start.value == 0 ? R : area->start.value == 100 ? RWX : RX;
	return true;
}

static void test_protect_with(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 3; i++)
		assert_ok(map(&w, i * 100, i * 100 + 50, RW, NULL));
	assert_ok(aspace_map(w.space, range(300, 350), RW, w.other_backend, NULL, 0));
	begin_section();
	assert_ok(aspace_protect_with(w.space, range(0, 400), by_place, NULL, 0));
	assert_shows("0-32:1 64-96:7 c8-fa:5 12c-15e:5/b");
	assert_int_equal(held(0), RW);
	assert_int_equal(held(100), RWX);
	assert_int_equal(held(200), RWX);
	assert_int_equal(stats_of(&w).pending, 3);
	let_go();
	assert_areas(&w, "0-32:1 64-96:7 c8-fa:5 12c-15e:5/b");
}

/* More than are done in one turn. */
static void test_many(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		assert_ok(map(&w, i * 100, i * 100 + 50 + 50 * (i & 1), i & 1 ? RWX : RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 10000, R));
	assert_int_equal(stats_of(&w).pending, 100);
	assert_int_equal(aspace_count(w.space), 100);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(held(i * 100), i & 1 ? RWX : RW);
	let_go();
	assert_int_equal(aspace_count(w.space), 51); /* the odd ones meet the next */
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(held(i * 100), R);
	assert_ok(protect(&w, 0, 10000, NONE)); /* destroyed on its way */
}

/* ---- Snapshots, faults, destroy ------------------------------------------- */

static void test_snapshots(void **state)
{
	struct aspace_snapshot before, during;
	struct aspace_view view;

	(void)state;
	assert_ok(map(&w, 0, 100, RW, NULL));
	assert_ok(aspace_snapshot_take(w.space, &before));
	begin_section();
	assert_ok(protect(&w, 0, 50, R));
	assert_ok(aspace_snapshot_take(w.space, &during));
	aspace_mock_inject(w.mock, ASPACE_MOCK_PROTECT, 1, false, ASPACE_NO_MEMORY);
	end_section();
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(w.space, 0));
	aspace_snapshot_view(&before, &view);
	assert_view(&w, &view, "0-64:3");
	aspace_snapshot_view(&during, &view);
	assert_view(&w, &view, "0-32:1 32-64:3");
	assert_areas(&w, "0-64:3");
	aspace_snapshot_release(&before);
	aspace_snapshot_release(&during);
}

static void test_destroy(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		open_with(ASPACE_GRACE_UNMAP, 0);
		assert_ok(map(&w, 0, 100, RW, NULL));
		begin_section();
		assert_ok(protect(&w, 0, 50, R));
		if (i) /* an area that keeps its flags leaves all the same */
			aspace_mock_inject(w.mock, ASPACE_MOCK_PROTECT, 1, false, ASPACE_NO_MEMORY);
		end_section();
		if (i == 2)
			assert_ok(aspace_clear(w.space, 0));
		assert_ok(aspace_destroy(w.space, 0));
		assert_int_equal(told.calls, i > 0);
		world_close_mocks(&w);
	}
}

static int no_set_up(void **state)
{
	(void)state;
	return 0;
}

static void test_fault_finds_what_is_held(void **state)
{
	struct aspace_mock_entry entry;

	(void)state;
	open_with(ASPACE_GRACE_UNMAP, ASPACE_MOCK_LAZY | ASPACE_MOCK_CHECK_ACCESS);
	assert_ok(map(&w, 0, 100, RW, NULL));
	begin_section();
	assert_ok(protect(&w, 0, 100, R));
	aspace_mock_log_clear(w.mock);
	/* A reader that found the area before may write, and does it now. */
	assert_ok(aspace_fault(w.space, at(7), ASPACE_ACCESS_WRITE, 0));
	assert_true(aspace_mock_populated(w.mock, at(7)));
	assert_true(aspace_mock_log_get(w.mock, 0, &entry));
	assert_int_equal(entry.call, ASPACE_MOCK_FAULT);
	assert_int_equal(entry.old_flags, RW);
	let_go();
	assert_status(ASPACE_ACCESS_DENIED, aspace_fault(w.space, at(8), ASPACE_ACCESS_WRITE, 0));
	world_close(&w);
}

/* ---- Transactions ------------------------------------------------------------ */

static struct aspace_txn *begin(void)
{
	struct aspace_txn *txn;

	assert_ok(aspace_txn_begin(w.space, 0, &txn));
	return txn;
}

static void test_transaction(void **state)
{
	struct aspace_txn *txn;
	struct aspace_area area;

	(void)state;
	assert_ok(map(&w, 0, 100, RW, NULL));
	begin_section();
	txn = begin();
	assert_ok(aspace_txn_protect(txn, range(20, 60), R, 0));
	assert_ok(aspace_txn_protect(txn, range(40, 50), RX, 0));
	assert_ok(aspace_txn_map(txn, range(100, 150), RW, w.backend, NULL, 0));
	assert_ok(aspace_txn_find(txn, at(45), &area));
	assert_int_equal(area.flags, RX);
	assert_int_equal(held(45), RW);
	assert_ok(aspace_txn_commit(txn));
	assert_shows("0-14:3 14-28:1 28-32:5 32-3c:1 3c-96:3");
	assert_int_equal(stats_of(&w).pending, 3);
	assert_int_equal(held(20), RW);
	assert_int_equal(held(45), RWX);
	let_go();
	assert_areas(&w, "0-14:3 14-28:1 28-32:5 32-3c:1 3c-96:3");
}

/* What is given back in the same transaction was never taken. */
static void test_transaction_there_and_back(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	assert_ok(map(&w, 0, 100, RW, object(&w)));
	begin_section();
	txn = begin();
	assert_ok(aspace_txn_protect(txn, range(20, 60), NONE, 0));
	assert_ok(aspace_txn_protect(txn, range(0, 100), RW, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_shows("0-64:3");
	assert_int_equal(stats_of(&w).pending, 0);
	let_go();
	assert_areas(&w, "0-64:3");
	assert_int_equal(aspace_mock_references(w.mock), 1);
}

/* What leaves does so with the flags that the backend has. */
static void test_transaction_protects_and_unmaps(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	assert_ok(map(&w, 0, 100, RW, object(&w)));
	begin_section();
	txn = begin();
	assert_ok(aspace_txn_protect(txn, range(20, 60), R, 0));
	assert_ok(aspace_txn_unmap(txn, range(30, 40), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_shows("0-14:3 14-1e:1 28-3c:1 3c-64:3");
	assert_int_equal(stats_of(&w).pending, 2);
	assert_int_equal(stats_of(&w).leaving, 1);
	let_go();
	assert_areas(&w, "0-14:3 14-1e:1 28-3c:1 3c-64:3");
}

/* What it has mapped itself nobody has found yet: a piece that is new and old falls apart, and is one
 * again afterwards. */
static void test_transaction_of_new_and_old(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct aspace_mock_object *user = object(&w);

		assert_ok(map(&w, 0, 100, RW, NULL));
		assert_ok(map(&w, 200, 300, RW, NULL));
		begin_section();
		txn = begin();
		assert_ok(aspace_txn_map(txn, range(100, 200), RW, w.backend, NULL, 0));
		assert_ok(aspace_txn_protect(txn, range(50, 250), R, 0));
		if (i)
			assert_ok(aspace_txn_protect(txn, range(150, 250), RW, 0));
		assert_ok(aspace_txn_map(txn, range(400, 500), RW, w.backend, user, 0));
		assert_ok(aspace_txn_commit(txn));
		if (i)
			assert_shows("0-32:3 32-64:1 64-96:1 96-12c:3 190-1f4:3");
		else
			assert_shows("0-32:3 32-64:1 64-c8:1 c8-fa:1 fa-12c:3 190-1f4:3");
		assert_int_equal(stats_of(&w).pending, 2 - i);
		assert_int_equal(held(150), i ? RW : R);
		assert_int_equal(held(220), RW);
		let_go();
		assert_areas(&w, i ? "0-32:3 32-96:1 96-12c:3 190-1f4:3"
				   : "0-32:3 32-fa:1 fa-12c:3 190-1f4:3");
		assert_ok(aspace_clear(w.space, 0));
		let_go();
	}
}

static void test_transaction_is_refused(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	assert_ok(map(&w, 0, 100, RW, object(&w)));
	begin_section();
	txn = begin();
	assert_ok(aspace_txn_protect(txn, range(20, 60), R, 0));
	assert_ok(aspace_txn_map(txn, range(200, 300), RW, w.backend, NULL, 0));
	assert_ok(aspace_txn_map(txn, range(400, 500), RW, w.backend, NULL, 0));
	aspace_mock_inject(w.mock, ASPACE_MOCK_MAP, 2, false, ASPACE_NO_MEMORY);
	assert_status(ASPACE_NO_MEMORY, aspace_txn_commit(txn));
	assert_shows("0-64:3");
	assert_int_equal(stats_of(&w).pending, 0);
	/* The same where something stands. */
	txn = begin();
	assert_ok(aspace_txn_protect(txn, range(20, 60), R, 0));
	assert_ok(aspace_txn_map(txn, range(200, 300), RW, w.backend, NULL, 0));
	assert_ok(aspace_txn_map(txn, range(400, 500), RW, w.backend, NULL, 0));
	aspace_mock_inject(w.mock, ASPACE_MOCK_MAP, 2, false, ASPACE_NO_MEMORY);
	aspace_mock_inject(w.mock, ASPACE_MOCK_UNMAP, 1, false, ASPACE_NO_MEMORY);
	assert_status(ASPACE_BAD_STATE, aspace_txn_commit(txn));
	assert_shows("0-64:3 c8-12c:3");
	assert_int_equal(stats_of(&w).pending, 0);
	let_go();
	assert_areas(&w, "0-64:3 c8-12c:3");
}

/* ---- A bound on memory that is leaving -------------------------------------- */

static void open_bounded(size_t leaving_max, unsigned mock_mode)
{
	world_open(&w, &(struct world_options){
			       .space = {.mode = ASPACE_GRACE_UNMAP | ASPACE_NEVER_MERGE,
					 .leaving_max = leaving_max},
			       .mock_mode = ASPACE_MOCK_LOSES | mock_mode,
		       });
	for (uint64_t i = 0; i < 10; i++)
		assert_ok(map(&w, i * 100, i * 100 + 100, RW, NULL));
}

static void assert_leaving(uint64_t bytes, uint64_t most)
{
	assert_int_equal(stats_of(&w).bytes_leaving, bytes);
	assert_int_equal(stats_of(&w).bytes_leaving_max, most);
	assert_ok(aspace_validate(w.space, NULL, 0));
}

/* One operation may exceed it, whatever it takes; then what takes more waits, and nothing else. */
static void test_bound(void **state)
{
	struct aspace_txn *txn;

	(void)state;
	open_bounded(250, 0);
	begin_section();
	assert_ok(unmap(&w, 0, 100));
	assert_ok(protect(&w, 100, 200, NONE)); /* contents, too */
	assert_ok(protect(&w, 200, 300, R));    /* access only */
	assert_leaving(200, 200);
	assert_ok(unmap(&w, 300, 500));
	assert_leaving(400, 400);
	for (unsigned i = 0; i < 2; i++) {
		unsigned how = i ? ASPACE_NOWAIT : 0;

		assert_status(ASPACE_BUSY, aspace_unmap(w.space, range(500, 600), how));
		assert_status(ASPACE_BUSY, aspace_protect(w.space, range(500, 600), NONE, how));
		assert_status(ASPACE_BUSY, aspace_resize(w.space, at(500), 50, how));
		assert_status(ASPACE_BUSY, aspace_clear(w.space, how));
		assert_status(ASPACE_BUSY, aspace_txn_begin(w.space, how, &txn));
		assert_shows("64-c8:0 c8-12c:1 1f4-258:3 258-2bc:3 2bc-320:3 320-384:3 384-3e8:3");
	}
	/* Nothing is added. */
	assert_ok(protect(&w, 500, 600, R));
	assert_ok(protect(&w, 600, 700, RWX));
	assert_ok(map(&w, 1000, 1100, RW, NULL));
	assert_ok(unmap(&w, 2000, 2100));
	assert_status(ASPACE_NOT_MAPPED, aspace_unmap(w.space, range(2000, 2100), ASPACE_STRICT));
	assert_leaving(400, 400);
	end_section();
	/* Outside of a section they wait. */
	assert_ok(unmap(&w, 500, 600));
	assert_ok(protect(&w, 600, 700, NONE));
	assert_ok(unmap(&w, 700, 1000));
	txn = begin();
	assert_ok(aspace_txn_unmap(txn, range(1000, 1100), 0));
	assert_ok(aspace_txn_commit(txn));
	let_go();
	assert_leaving(0, stats_of(&w).bytes_leaving_max);
	assert_true(stats_of(&w).bytes_leaving_max <= 250 + 300);
	assert_areas(&w, "64-c8:0 c8-12c:1 258-2bc:0");
	world_close(&w);
}

/* A refused change is no longer on its way. */
static void test_bound_and_refusals(void **state)
{
	(void)state;
	open_bounded(250, 0);
	begin_section();
	assert_ok(unmap(&w, 0, 200));
	assert_ok(protect(&w, 200, 300, NONE));
	aspace_mock_inject(w.mock, ASPACE_MOCK_ANY, 1, true, ASPACE_NO_MEMORY);
	assert_leaving(300, 300);
	end_section();
	assert_status(ASPACE_BAD_STATE, aspace_quiesce(w.space, 0));
	assert_leaving(0, 300);
	aspace_mock_heal(w.mock);
	/* What a failed operation would have added was never there. */
	begin_section();
	aspace_mock_inject(w.mock, ASPACE_MOCK_PROTECT, 1, false, ASPACE_NO_MEMORY);
	assert_status(ASPACE_NO_MEMORY,
		      aspace_protect_with(w.space, range(0, 300), by_place, NULL, 0));
	assert_leaving(0, 300);
	end_section();
	world_close(&w);
}

/* Where none is said: areas of a page never come near it, one large one exceeds it. */
static void test_bound_by_default(void **state)
{
	const uint64_t mib = UINT64_C(1) << 20;

	(void)state;
	world_open(&w,
		   &(struct world_options){.space = {.mode = ASPACE_GRACE_UNMAP}, .granule = 4096});
	assert_ok(map(&w, 0, 128 * mib, RW, NULL));
	assert_ok(map(&w, 512 * mib, 512 * mib + 8192, RW, NULL));
	begin_section();
	assert_ok(unmap(&w, 0, 128 * mib));
	assert_ok(unmap(&w, 512 * mib, 512 * mib + 4096));
	assert_leaving(128 * mib + 4096, 128 * mib + 4096);
	assert_status(ASPACE_BUSY, unmap(&w, 512 * mib + 4096, 512 * mib + 8192));
	end_section();
	world_close(&w);
}

#define IN(test)         cmocka_unit_test_setup_teardown(test, open_space, close_space)
#define WITH_USERS(test) cmocka_unit_test_setup_teardown(test, open_objects, close_space)
#define ALONE(test)      cmocka_unit_test_setup(test, no_set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN(test_less_waits_for_readers),
		IN(test_more_is_made_at_once),
		IN(test_give_and_take),
		IN(test_giving_is_refused_at_once),
		ALONE(test_only_where_asked_for),
		IN(test_short_tables),
		IN(test_others_wait),
		IN(test_neighbours_merge_afterwards),
		WITH_USERS(test_cut_out_of_an_area),
		WITH_USERS(test_refusals),
		IN(test_refusal_after_give_and_take),
		IN(test_protect_with),
		IN(test_many),
		IN(test_snapshots),
		ALONE(test_destroy),
		ALONE(test_fault_finds_what_is_held),
		IN(test_transaction),
		WITH_USERS(test_transaction_there_and_back),
		WITH_USERS(test_transaction_protects_and_unmaps),
		WITH_USERS(test_transaction_of_new_and_old),
		WITH_USERS(test_transaction_is_refused),
		ALONE(test_bound),
		ALONE(test_bound_and_refusals),
		ALONE(test_bound_by_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
