/* SPDX-License-Identifier: MIT */
/*
 * Which call answers what where it is made: each call of aspace.h, in each context in which the
 * calling thread is inside the library already. docs/calls.md says it in words; tests/docs looks
 * that no call is missing here. Where an answer is wrong in principle, it mostly is none: the call
 * waits for its own thread, and this test does not end.
 *
 * What does not wait for anybody answers as it does elsewhere, and is asked for that too.
 */
#include <sched.h>
#include <stdio.h>

#include <aspace/backend/null.h>

#include "conformance/support.h"
#include "space/space.h" /* is a transaction open */

#define PAGE UINT64_C(0x1000)

enum context {
	CALLBACK,     /* of an update of the space, under its writer lock */
	COMMITTING,   /* the same, of the commit of a transaction */
	FAULTING,     /* in the `fault` of a backend */
	RELEASING,    /* in the `release` of one */
	OPEN,         /* beside a transaction of the thread's own */
	BETWEEN,      /* the hooks of fork */
	BETWEEN_OPEN, /* the same, with a transaction open */
	CONTEXTS,
};

static const char *const contexts[CONTEXTS] = {
	"a callback",
	"a callback of a commit",
	"fault",
	"release",
	"an open transaction",
	"between the hooks of fork",
	"between the hooks of fork, a transaction",
};

static struct aspace *subject;
static struct aspace_txn *txn; /* the one that is open, else NULL */
static struct aspace_snapshot snapshot;
static struct aspace_backend_ops ops;
static struct aspace_backend own;

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return range(first * PAGE, end * PAGE);
}

/* ---- The calls ----------------------------------------------------------------- */

static const struct aspace_gap gap = {.size = PAGE};
static struct aspace_vaddr found_at;

static enum aspace_status call_create(void)
{
	struct aspace *other;
	enum aspace_status status = aspace_create(NULL, &other);

	if (status == ASPACE_OK && aspace_destroy(other, 0) != ASPACE_BUSY)
		return ASPACE_BAD_STATE; /* with a writer lock held */
	return status;
}

static enum aspace_status call_destroy(void)
{
	return aspace_destroy(subject, 0);
}

static enum aspace_status call_destroy_now(void)
{
	return aspace_destroy(subject, ASPACE_NOWAIT);
}

static enum aspace_status call_lookups(void)
{
	const struct aspace_vaddr at_page = at(PAGE);
	struct aspace_area area;

	aspace_thread_prepare(subject);
	if (aspace_find_many(subject, &at_page, 1, &area) != 1 || aspace_count(subject) < 1 ||
	    !aspace_overlaps(subject, pages(1, 2)) || aspace_bytes(subject) < PAGE ||
	    aspace_check_range(subject, pages(1, 2), NULL, NULL) != ASPACE_OK ||
	    aspace_bytes_in(subject, pages(1, 2), NULL) != PAGE ||
	    aspace_limits(subject).end.value <= PAGE || aspace_granule(subject) != 1 ||
	    aspace_find_free(subject, &gap, &found_at) != ASPACE_OK ||
	    !aspace_status_string(ASPACE_OK))
		return ASPACE_BAD_STATE;
	return aspace_find(subject, at_page, &area);
}

static enum aspace_status look_at(const struct aspace_view *view)
{
	const struct aspace_vaddr at_page = at(PAGE);
	struct aspace_iter iter;
	struct aspace_area area;

	aspace_iter_begin(view, at(0), &iter);
	if (!aspace_iter_next(&iter, &area) || !aspace_view_overlaps(view, pages(1, 2)) ||
	    aspace_view_check_range(view, pages(1, 2), NULL, NULL) != ASPACE_OK ||
	    aspace_view_bytes_in(view, pages(1, 2), NULL) != PAGE ||
	    aspace_view_find_many(view, &at_page, 1, &area) != 1 ||
	    aspace_view_find_free(view, &gap, &found_at) != ASPACE_OK)
		return ASPACE_BAD_STATE;
	aspace_iter_prev(&iter, &area);
	return aspace_view_find(view, at_page, &area);
}

static enum aspace_status call_view(void)
{
	struct aspace_view view;
	enum aspace_status status;

	aspace_read_begin(subject, &view);
	status = look_at(&view);
	aspace_read_end(&view);
	return status;
}

static enum aspace_status call_snapshot_view(void)
{
	struct aspace_view view;

	aspace_snapshot_view(&snapshot, &view);
	return look_at(&view);
}

static enum aspace_status call_snapshots(void)
{
	struct aspace_snapshot mine;
	enum aspace_status status = aspace_snapshot_take(subject, &mine);

	aspace_snapshot_release(&mine);
	return status;
}

static bool no_text(void *ctx, const char *text, size_t length)
{
	(void)ctx, (void)text, (void)length;
	return true;
}

static enum aspace_status call_dump(void)
{
	return aspace_dump(subject, ASPACE_DUMP_MAPS, no_text, NULL);
}

static enum aspace_status call_map(void)
{
	return aspace_map(subject, pages(50, 51), 1, &own, NULL, 0);
}

static enum aspace_status call_map_anywhere(void)
{
	return aspace_map_anywhere(subject, &gap, 1, &own, NULL, 0, &found_at);
}

static enum aspace_status call_unmap(void)
{
	return aspace_unmap(subject, pages(50, 51), 0);
}

static enum aspace_status call_clear(void)
{
	return aspace_clear(subject, ASPACE_NOWAIT);
}

static enum aspace_status call_protect(void)
{
	return aspace_protect(subject, pages(60, 61), 1, 0);
}

static bool decline(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx, (void)area, (void)flags;
	return false;
}

static enum aspace_status call_protect_with(void)
{
	return aspace_protect_with(subject, pages(1, 2), decline, NULL, 0);
}

static enum aspace_status call_move(void)
{
	return aspace_move(subject, pages(60, 61), at(61 * PAGE), 0);
}

static enum aspace_status call_resize(void)
{
	return aspace_resize(subject, at(61 * PAGE), PAGE, 0);
}

static enum aspace_status call_fault(void)
{
	return aspace_fault(subject, at(PAGE), ASPACE_ACCESS_READ, 0);
}

static enum aspace_status call_fault_elsewhere(void)
{
	return aspace_fault(subject, at(70 * PAGE), ASPACE_ACCESS_READ, 0);
}

static enum aspace_status call_advise(void)
{
	return aspace_advise(subject, pages(1, 2), ASPACE_ADVICE_DROP, 0);
}

static enum aspace_status call_advise_elsewhere(void)
{
	struct aspace_vaddr reached;

	return aspace_advise_part(subject, pages(70, 71), ASPACE_ADVICE_DROP, 0, &reached);
}

static enum aspace_status call_quiesce(void)
{
	return aspace_quiesce(subject, 0);
}

static enum aspace_status call_trim(void)
{
	return aspace_trim(subject, 0);
}

static enum aspace_status call_begin(void)
{
	struct aspace_txn *another;
	enum aspace_status status = aspace_txn_begin(subject, 0, &another);

	if (status == ASPACE_OK)
		aspace_txn_abort(another);
	return status;
}

static enum aspace_status call_stats(void)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	return aspace_stats(subject, &stats, 0);
}

static enum aspace_status call_validate(void)
{
	return aspace_validate(subject, NULL, 0);
}

static enum aspace_status call_hooks(void)
{
	aspace_before_fork();
	aspace_after_fork_parent();
	return ASPACE_OK;
}

static enum aspace_status call_child_hook(void)
{
	aspace_before_fork();
	aspace_after_fork_child(); /* as good as the other, where nobody is gone */
	return ASPACE_OK;
}

/* Not in callbacks, nor where hooks are being run. */
static enum aspace_status call_install(void)
{
	return aspace_install_fork_hooks();
}

static enum aspace_status call_txn_map(void)
{
	return aspace_txn_map(txn, pages(80, 81), 1, &own, NULL, 0);
}

static enum aspace_status call_txn_map_anywhere(void)
{
	return aspace_txn_map_anywhere(txn, &gap, 1, &own, NULL, 0, &found_at);
}

static enum aspace_status call_txn_unmap(void)
{
	return aspace_txn_unmap(txn, pages(80, 81), 0);
}

static enum aspace_status call_txn_protect(void)
{
	return aspace_txn_protect(txn, pages(80, 81), 2, 0);
}

static enum aspace_status call_txn_protect_with(void)
{
	return aspace_txn_protect_with(txn, pages(80, 81), decline, NULL, 0);
}

static enum aspace_status call_txn_find(void)
{
	return aspace_txn_find(txn, at(PAGE), NULL);
}

static enum aspace_status call_txn_check_range(void)
{
	return aspace_txn_check_range(txn, pages(1, 2), NULL, NULL);
}

static enum aspace_status call_txn_bytes(void)
{
	uint64_t bytes;

	return aspace_txn_bytes(txn, &bytes);
}

static enum aspace_status call_txn_bytes_in(void)
{
	uint64_t bytes;

	return aspace_txn_bytes_in(txn, pages(1, 2), NULL, &bytes);
}

static enum aspace_status call_txn_find_free(void)
{
	return aspace_txn_find_free(txn, &gap, &found_at);
}

/* Where it is allowed, the test itself does. */
static enum aspace_status call_txn_commit(void)
{
	return aspace_txn_commit(txn);
}

static enum aspace_status call_txn_abort(void)
{
	aspace_txn_abort(txn);
	return ((struct asp_plan *)(void *)txn)->open ? ASPACE_DEADLOCK : ASPACE_OK;
}

#define OK         ASPACE_OK
#define DEADLOCK   ASPACE_DEADLOCK
#define BUSY       ASPACE_BUSY
#define NOT_MAPPED ASPACE_NOT_MAPPED
#define NOT_ASKED  ((enum aspace_status) - 1)
#define NONE       NOT_ASKED /* there is no transaction, or the call is not allowed */

static const struct call {
	const char *name;
	enum aspace_status (*make)(void);
	enum aspace_status want[CONTEXTS];
} calls[] = {
	/*                          CALLBACK  COMMITTING FAULTING  RELEASING OPEN      BETWEEN   BETWEEN_OPEN */
	{"create", call_create, {NONE, NONE, NONE, NONE, OK, BUSY, BUSY}},
	{"destroy",
	 call_destroy,
	 {DEADLOCK, DEADLOCK, DEADLOCK, DEADLOCK, BUSY, DEADLOCK, DEADLOCK}},
	{"destroy, now",
	 call_destroy_now,
	 {DEADLOCK, DEADLOCK, DEADLOCK, DEADLOCK, BUSY, DEADLOCK, DEADLOCK}},
	{"lookups", call_lookups, {OK, OK, OK, OK, OK, OK, OK}},
	{"view", call_view, {OK, OK, OK, OK, OK, OK, OK}},
	{"snapshot's view", call_snapshot_view, {OK, OK, OK, OK, OK, OK, OK}},
	{"snapshots", call_snapshots, {OK, OK, OK, OK, OK, OK, OK}},
	{"dump", call_dump, {OK, OK, OK, OK, OK, OK, OK}},
	{"map", call_map, {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"map_anywhere",
	 call_map_anywhere,
	 {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"unmap", call_unmap, {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"clear", call_clear, {DEADLOCK, DEADLOCK, DEADLOCK, NONE, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"protect", call_protect, {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"protect_with",
	 call_protect_with,
	 {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"move",
	 call_move,
	 {DEADLOCK, DEADLOCK, DEADLOCK, NOT_MAPPED, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"resize",
	 call_resize,
	 {DEADLOCK, DEADLOCK, DEADLOCK, NOT_MAPPED, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"fault", call_fault, {DEADLOCK, DEADLOCK, DEADLOCK, OK, OK, DEADLOCK, DEADLOCK}},
	{"fault elsewhere", call_fault_elsewhere, {OK, OK, OK, OK, OK, DEADLOCK, DEADLOCK}},
	{"advise", call_advise, {DEADLOCK, DEADLOCK, DEADLOCK, OK, OK, DEADLOCK, DEADLOCK}},
	{"advise elsewhere", call_advise_elsewhere, {OK, OK, OK, OK, OK, DEADLOCK, DEADLOCK}},
	{"quiesce",
	 call_quiesce,
	 {DEADLOCK, DEADLOCK, DEADLOCK, DEADLOCK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"trim", call_trim, {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"txn_begin", call_begin, {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"stats", call_stats, {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"validate",
	 call_validate,
	 {DEADLOCK, DEADLOCK, DEADLOCK, OK, DEADLOCK, DEADLOCK, DEADLOCK}},
	{"fork's hooks", call_hooks, {OK, OK, OK, OK, OK, OK, OK}},
	{"fork's hooks, as in a child", call_child_hook, {NONE, NONE, NONE, NONE, NONE, OK, OK}},
	{"install_fork_hooks", call_install, {NONE, NONE, NONE, OK, OK, NONE, NONE}},
	{"txn_map", call_txn_map, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_map_anywhere",
	 call_txn_map_anywhere,
	 {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_unmap", call_txn_unmap, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_protect", call_txn_protect, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_protect_with",
	 call_txn_protect_with,
	 {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_find", call_txn_find, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_check_range", call_txn_check_range, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_bytes", call_txn_bytes, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_bytes_in", call_txn_bytes_in, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_find_free", call_txn_find_free, {NONE, DEADLOCK, NONE, NONE, OK, NONE, DEADLOCK}},
	{"txn_commit", call_txn_commit, {NONE, DEADLOCK, NONE, NONE, NONE, NONE, DEADLOCK}},
	{"txn_abort", call_txn_abort, {NONE, DEADLOCK, NONE, NONE, NONE, NONE, DEADLOCK}},
};

/* ---- Asking ----------------------------------------------------------------------- */

static _Atomic unsigned asked[CONTEXTS];
static char wrong[2000]; /* in any thread; looked at by the test's own */
static size_t wrong_length;

static void ask(enum context context)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		const struct call *call = &calls[i];
		enum aspace_status status;

		if (call->want[context] == NOT_ASKED)
			continue;
		status = call->make();
		if (status == call->want[context] || wrong_length > sizeof(wrong) - 200)
			continue;
		wrong_length +=
			(size_t)snprintf(wrong + wrong_length, 200, "%s in %s: %s\n", call->name,
					 contexts[context], aspace_status_string(status));
	}
	asked[context]++;
}

/* One context while this is set: that of the callbacks. */
static enum context within = CONTEXTS;
static unsigned beneath;

static void ask_in_callback(void)
{
	if (within == CONTEXTS || beneath)
		return;
	beneath = 1;
	ask(within);
	beneath = 0;
}

/* ---- The backend ------------------------------------------------------------------- */

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *made)
{
	(void)backend, (void)made;
	ask_in_callback();
	return ASPACE_OK;
}

static void flush(struct aspace_backend *backend)
{
	(void)backend;
	ask_in_callback();
}

static enum aspace_status clone(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	*copy = user;
	ask_in_callback();
	return ASPACE_OK;
}

static bool can_merge(struct aspace_backend *backend, const struct aspace_area *left,
		      const struct aspace_area *right)
{
	(void)backend;
	ask_in_callback();
	return left->user == right->user;
}

static bool decide(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx, (void)area;
	ask_in_callback();
	*flags ^= 4;
	return true;
}

/* Of page 1; page 70 is elsewhere. */
static enum aspace_status fault(struct aspace_backend *backend, const struct aspace_area *area,
				struct aspace_vaddr address, unsigned access)
{
	(void)backend, (void)area, (void)access;
	if (within == FAULTING && address.value == PAGE)
		ask_in_callback();
	return ASPACE_OK;
}

static enum aspace_status advise(struct aspace_backend *backend, const struct aspace_area *area,
				 struct aspace_range range, enum aspace_advice advice,
				 struct aspace_vaddr *reached)
{
	(void)backend, (void)area, (void)advice, (void)reached;
	if (within == FAULTING && range.start.value == PAGE)
		ask_in_callback();
	return ASPACE_OK;
}

static char its_object;

static void release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	if (user == &its_object && !asked[RELEASING])
		ask(RELEASING);
}

static uint64_t page_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend, (void)area;
	return PAGE;
}

static int open_space(void **state)
{
	(void)state;
	memset(asked, 0, sizeof(asked));
	wrong_length = 0;
	wrong[0] = 0;
	within = CONTEXTS;
	txn = NULL;
	ops = (struct aspace_backend_ops){
		.size = sizeof(ops),
		.map = change,
		.unmap = change,
		.protect = change,
		.prepare = change,
		.replace = change,
		.move = change,
		.flush = flush,
		.fault = fault,
		.fault_span = page_span,
		.can_merge = can_merge,
		.advise = advise,
	};
	own = (struct aspace_backend){.ops = &ops, .flags_mask = 7};
	assert_ok(aspace_create(NULL, &subject));
	assert_ok(aspace_map(subject, pages(1, 5), 1, &own, NULL, 0));
	assert_ok(aspace_map(subject, pages(70, 71), 2, &own, NULL, 0));
	assert_ok(aspace_snapshot_take(subject, &snapshot));
	return 0;
}

static int close_space(void **state)
{
	(void)state;
	within = CONTEXTS;
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_validate(subject, NULL, 0));
	assert_ok(aspace_destroy(subject, 0));
	return 0;
}

static void check(enum context context, unsigned least)
{
	assert_string_equal(wrong, "");
	assert_in_range(asked[context], least, 1000);
}

/* ---- The contexts -------------------------------------------------------------------- */

/* Each kind of change, with prepare, flush, clone, can_merge and the program's own. */
static void in_callbacks(void **state)
{
	(void)state;
	asked[RELEASING] = 1; /* of this there is another test */
	ops.clone = clone;
	ops.release = release;
	within = CALLBACK;
	assert_ok(aspace_map(subject, pages(1, 5), 3, &own, &its_object, ASPACE_REPLACE));
	assert_ok(aspace_protect_with(subject, pages(1, 3), decide, NULL, 0));
	assert_ok(aspace_protect(subject, pages(1, 5), 3, 0)); /* merges */
	assert_ok(aspace_move(subject, pages(1, 2), at(30 * PAGE), 0));
	within = CONTEXTS;
	assert_ok(aspace_move(subject, pages(30, 31), at(PAGE), 0));
	within = CALLBACK;
	assert_ok(aspace_resize(subject, at(PAGE), 8 * PAGE, 0));
	assert_ok(aspace_unmap(subject, pages(0, 20), 0));
	/* prepare, the change and flush of each; at least two clones, some merges, and decide. */
	check(CALLBACK, 6 * 3 + 4);
}

static void in_callbacks_of_a_commit(void **state)
{
	(void)state;
	ops.clone = clone;
	assert_ok(aspace_txn_begin(subject, 0, &txn));
	assert_ok(aspace_txn_map(txn, pages(1, 2), 3, &own, &its_object, ASPACE_REPLACE));
	assert_ok(aspace_txn_unmap(txn, pages(3, 4), 0));
	assert_ok(aspace_txn_protect_with(txn, pages(4, 5), decide, NULL, 0));
	within = COMMITTING;
	assert_ok(aspace_txn_commit(txn));
	check(COMMITTING, 3 * 2 + 1);
}

static void in_fault(void **state)
{
	(void)state;
	within = FAULTING;
	assert_ok(aspace_fault(subject, at(PAGE), ASPACE_ACCESS_READ, 0));
	check(FAULTING, 1);
}

/* Which is beside the same things. */
static void in_advice(void **state)
{
	(void)state;
	within = FAULTING;
	assert_ok(aspace_advise(subject, pages(1, 2), ASPACE_ADVICE_DROP, 0));
	check(FAULTING, 1);
}

static void in_release(void **state)
{
	(void)state;
	ops.release = release;
	assert_ok(aspace_map(subject, pages(20, 21), 1, &own, &its_object, 0));
	assert_ok(aspace_unmap(subject, pages(20, 21), 0));
	assert_ok(aspace_quiesce(subject, 0));
	check(RELEASING, 1);
}

static void beside_a_transaction(void **state)
{
	(void)state;
	assert_ok(aspace_txn_begin(subject, 0, &txn));
	ask(OPEN);
	assert_ok(aspace_txn_commit(txn));
	check(OPEN, 1);
}

/* In the child, which the hook says, or in the parent. */
static void between_hooks(void **state)
{
	(void)state;
	for (int child = 0; child < 2; child++) {
		aspace_before_fork();
		ask(BETWEEN);
		if (child)
			aspace_after_fork_child();
		else
			aspace_after_fork_parent();
		assert_ok(aspace_map(subject, pages(90, 91), 1, &own, NULL, 0));
		assert_ok(aspace_unmap(subject, pages(90, 91), 0));
	}
	check(BETWEEN, 2);
}

static void between_hooks_with_a_transaction(void **state)
{
	(void)state;
	assert_ok(aspace_txn_begin(subject, 0, &txn));
	assert_ok(aspace_txn_map(txn, pages(90, 91), 1, &own, NULL, 0));
	aspace_before_fork();
	ask(BETWEEN_OPEN);
	aspace_after_fork_parent();
	assert_ok(aspace_txn_unmap(txn, pages(2, 3), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_ok(aspace_find(subject, at(90 * PAGE), NULL));
	assert_status(NOT_MAPPED, aspace_find(subject, at(2 * PAGE), NULL));
	check(BETWEEN_OPEN, 1);
}

int main(void)
{
#define in_space(test) cmocka_unit_test_setup_teardown(test, open_space, close_space)
	const struct CMUnitTest tests[] = {
		in_space(in_callbacks),  in_space(in_callbacks_of_a_commit),
		in_space(in_fault),      in_space(in_advice),
		in_space(in_release),    in_space(beside_a_transaction),
		in_space(between_hooks), in_space(between_hooks_with_a_transaction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
