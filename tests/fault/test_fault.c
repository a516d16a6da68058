/* SPDX-License-Identifier: MIT */
/*
 * Every operation, made to fail at every point where it can.
 *
 * An operation (operations.c) runs once undisturbed, which counts its points: the
 * reservations from the pools, the allocations of pages, the calls of each kind that
 * each of the two backends gets. Then it runs again and again in a fresh world, with
 * the k-th point of one kind failing, once or from then on, until a run in which nothing
 * failed; the points reached must be as many as were counted. Pairs of refusals, the
 * second at any later call, reach every undo call and make it fail as well.
 *
 * At last, pages are refused from each point on and never come back: then everything must be
 * given back nevertheless, in every mode, with snapshots and without.
 *
 * After each run: the state is that before, or, with ASPACE_BAD_STATE, the tree says what
 * the backends' tables hold; aspace_validate() agrees; references are balanced; then the
 * fault is lifted, the same operation succeeds, and nothing is left after destroy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fault/world.h"

/* src/memory/pool.c, with ASPACE_TESTING */
extern long asp_test_fail_at;
extern bool asp_test_fail_forever;
extern unsigned long asp_test_reservations, asp_test_failures;

/* What a refused backend call answers: nothing that the library says by itself here. */
#define REFUSED ASPACE_ACCESS_DENIED

/* Kinds of points. From BACKEND on: call c of mock m is BACKEND + m * CALLS + c. */
enum { POOL, PAGES, BACKEND, CALLS = ASPACE_MOCK_ANY + 1, KINDS = BACKEND + MOCKS * CALLS };

/* Pairs are tried for operations of at most this many calls. */
#define PAIRS_MAX 60

struct fault {
	unsigned kind;
	unsigned k; /* from 1 */
	bool forever;
	/* Another one: the call number `second` of whatever kind; 0: none. */
	unsigned second, second_mock;
};

struct tally {
	unsigned counted; /* in the undisturbed run */
	unsigned once, forever;
	unsigned once_statuses, forever_statuses; /* masks */
};

struct report {
	struct tally tally[KINDS];
	unsigned pairs, pair_statuses;
	unsigned retried;
};

static struct report reports[64];
static unsigned long runs;

static unsigned kind_of(unsigned mock, unsigned call)
{
	return BACKEND + mock * CALLS + call;
}

static const char *kind_name(unsigned kind)
{
	static const char *const calls[CALLS] = {
		"map", "unmap", "protect", "replace", "move", "prepare", "fault", "clone", "any",
	};
	static char text[32];

	if (kind < BACKEND)
		return kind == POOL ? "reservation" : "pages";
	snprintf(text, sizeof(text), "%c: %s", "AB"[(kind - BACKEND) / CALLS],
		 calls[(kind - BACKEND) % CALLS]);
	return text;
}

/* Where a check fails, say in which run. */
static struct fault current;
static const struct operation *current_operation;

static void complain(const char *what)
{
	fail_msg("%s; %s %u %s, then call %u of mock %c: %s", current_operation->name,
		 kind_name(current.kind), current.k, current.forever ? "for ever" : "once",
		 current.second, "AB"[current.second_mock], what);
}

static void expect(bool condition, const char *what)
{
	if (!condition)
		complain(what);
}

static void expect_same(const char *difference)
{
	if (difference)
		complain(difference);
}

/* ---- The operation ----------------------------------------------------- */

/* In a grace space a section keeps deferred work out of the run. It stays open until
 * the fault is lifted: let_go(). */
static enum aspace_status run_operation(struct world *world)
{
	const struct operation *operation = world->operation;

	if ((operation->space_mode & ASPACE_GRACE_UNMAP) && !(operation->properties & DEFERRED)) {
		aspace_read_begin(world->space, &world->guard);
		world->guarded = true;
	}
	return operation->run(world);
}

static void let_go(struct world *world)
{
	if (world->guarded)
		aspace_read_end(&world->guard);
	world->guarded = false;
}

/* ---- Injection --------------------------------------------------------- */

static void arm(struct world *world, const struct fault *fault)
{
	asp_test_reservations = asp_test_failures = 0;
	world->pages.calls = 0;
	if (fault->kind == PAGES)
		tighten_pools(world);
	if (!fault->k)
		return;
	if (fault->kind == POOL) {
		asp_test_fail_forever = fault->forever;
		asp_test_fail_at = (long)fault->k - 1;
	} else if (fault->kind == PAGES) {
		world->pages.fail_forever = fault->forever;
		world->pages.fail_at = (long)fault->k - 1;
	} else {
		unsigned mock = (fault->kind - BACKEND) / CALLS;
		unsigned call = (fault->kind - BACKEND) % CALLS;

		assert_int_equal(aspace_mock_inject(world->mock[mock], (enum aspace_mock_call)call,
						    fault->k, fault->forever, REFUSED),
				 ASPACE_OK);
	}
	if (fault->second)
		assert_int_equal(aspace_mock_inject(world->mock[fault->second_mock],
						    ASPACE_MOCK_ANY, fault->second, false, REFUSED),
				 ASPACE_OK);
}

/* How often the first fault has struck, and, in *second, the other one. */
static unsigned long disarm(struct world *world, const struct fault *fault, unsigned long *second)
{
	unsigned long struck;

	asp_test_fail_at = -1;
	world->pages.fail_at = -1;
	if (fault->kind == POOL) {
		struck = asp_test_failures;
	} else if (fault->kind == PAGES) {
		struck = world->pages.refusals;
		world->pages.refusals = 0;
		loosen_pools(world);
	} else {
		unsigned mock = (fault->kind - BACKEND) / CALLS;
		unsigned call = (fault->kind - BACKEND) % CALLS;

		struck = aspace_mock_injected(world->mock[mock], (enum aspace_mock_call)call);
	}
	*second = fault->second
			  ? aspace_mock_injected(world->mock[fault->second_mock], ASPACE_MOCK_ANY)
			  : 0;
	for (unsigned m = 0; m < MOCKS; m++)
		aspace_mock_heal(world->mock[m]);
	let_go(world);
	return struck;
}

/* ---- One run ----------------------------------------------------------- */

static void expect_valid(struct world *world)
{
	struct aspace_violation violation;

	if (aspace_validate(world->space, &violation, 0) != ASPACE_OK)
		complain(violation.what);
}

/* Lets everything deferred run, and looks. The picture agrees with itself. */
static void settle_and_look(struct world *world, struct picture *picture, bool refused)
{
	enum aspace_status status;

	if (world->in_section) {
		aspace_read_end(&world->view);
		world->in_section = false;
	}
	if (world->has_snapshot) {
		aspace_snapshot_release(&world->snapshot);
		world->has_snapshot = false;
	}
	status = aspace_quiesce(world->space, 0);
	expect(status == ASPACE_OK || (refused && status == ASPACE_BAD_STATE), "quiesce failed");
	expect_valid(world);
	take_picture(world, picture);
	expect_same(tree_differs_from_tables(picture));
	expect_same(references_are_wrong(world, picture));
}

/* The undisturbed run: what comes out, and how many points there are. */
static void count_points(const struct operation *operation, struct picture *after,
			 struct report *report)
{
	struct world world;
	uint64_t before[MOCKS][CALLS];

	current = (struct fault){0};
	for (unsigned kind = POOL; kind <= PAGES; kind++) {
		world_open(&world, operation);
		for (unsigned m = 0; m < MOCKS; m++) {
			for (unsigned c = 0; c < CALLS; c++)
				before[m][c] =
					aspace_mock_calls(world.mock[m], (enum aspace_mock_call)c);
		}
		arm(&world, &(struct fault){.kind = kind});
		expect(run_operation(&world) == ASPACE_OK, "the undisturbed run failed");
		if (kind == POOL)
			report->tally[POOL].counted = (unsigned)asp_test_reservations;
		else
			report->tally[PAGES].counted = (unsigned)world.pages.calls;
		for (unsigned m = 0; m < MOCKS; m++) {
			for (unsigned c = 0; c < CALLS; c++)
				report->tally[kind_of(m, c)].counted =
					(unsigned)(aspace_mock_calls(world.mock[m],
								     (enum aspace_mock_call)c) -
						   before[m][c]);
		}
		disarm(&world, &(struct fault){.kind = kind}, &(unsigned long){0});
		settle_and_look(&world, after, false);
		world_close(&world);
	}
}

static void check_status(const struct world *world, const struct fault *fault,
			 enum aspace_status status)
{
	unsigned properties = world->operation->properties;
	bool deferred = properties & DEFERRED;

	if (status == ASPACE_BAD_STATE)
		expect(fault->kind >= BACKEND &&
			       (properties & CAN_STAND || fault->forever || fault->second),
		       "ASPACE_BAD_STATE, although everything can be undone");
	else if (deferred && (status == ASPACE_OK || status == ASPACE_ALREADY_EXISTS))
		; /* tried again later; what came back is in the way */
	else if (world->retried && status == ASPACE_OK)
		; /* the second try inside the transaction */
	else if (fault->kind == PAGES && status == ASPACE_OK)
		; /* done with what is held back, or without holding back for snapshots */
	else if (fault->kind < BACKEND)
		expect(status == ASPACE_NO_MEMORY, "out of memory, and not so called");
	else
		expect(status == REFUSED, "the backend's word was not passed on");
}

/* Answers whether the fault struck. */
static bool run_with(const struct operation *operation, const struct fault *fault,
		     const struct picture *after, bool retry_inside, unsigned *statuses,
		     bool *second_struck)
{
	struct picture before, now;
	struct world world;
	enum aspace_status status;
	unsigned long struck, second;
	bool settled, stands;

	current = *fault;
	runs++;
	world_open(&world, operation);
	world.retry_inside = retry_inside;
	settled = !(operation->properties & UNSETTLED);
	take_picture(&world, &before);
	arm(&world, fault);
	status = run_operation(&world);
	struck = disarm(&world, fault, &second);
	*second_struck = second != 0;

	if (!struck && !second) {
		expect(status == ASPACE_OK, "no fault, and yet a failure");
		settle_and_look(&world, &now, false);
		world_close(&world);
		return false;
	}
	*statuses |= 1u << status;
	check_status(&world, fault, status);
	expect_valid(&world);
	stands = status == ASPACE_BAD_STATE || (!settled && status != ASPACE_OK);
	settle_and_look(&world, &now, stands || operation->properties & DEFERRED);
	if (status != ASPACE_OK && !stands) {
		expect_same(areas_differ(&before, &now));
		expect_same(tables_differ(&before, &now));
		if (settled && !(operation->space_mode & ASPACE_GRACE_UNMAP))
			expect_same(references_differ(&before, &now));
	}

	/* The fault is lifted. */
	if (status != ASPACE_OK && (!stands || operation->properties & REPEATS)) {
		world.retried = 0;
		expect(run_operation(&world) == ASPACE_OK, "failed again without a fault");
		let_go(&world);
		settle_and_look(&world, &now, false);
	}
	if (!stands || operation->properties & REPEATS) {
		expect_same(tables_differ(after, &now));
		if (!stands && !(operation->properties & DEFERRED)) {
			expect_same(areas_differ(after, &now));
			expect_same(references_differ(after, &now));
		}
	}
	world_close(&world);
	return struck != 0;
}

/* ---- All runs of an operation ------------------------------------------ */

static void fail_everywhere(const struct operation *operation, unsigned kind, bool forever,
			    const struct picture *after, struct report *report)
{
	struct tally *tally = &report->tally[kind];
	unsigned *statuses = forever ? &tally->forever_statuses : &tally->once_statuses;
	unsigned k = 1;
	bool ignored;

	while (run_with(operation, &(struct fault){.kind = kind, .k = k, .forever = forever}, after,
			false, statuses, &ignored))
		k++;
	*(forever ? &tally->forever : &tally->once) = k - 1;
}

/* A change is refused, and one other call: before it, or after it, to undo. */
static void fail_in_pairs(const struct operation *operation, const struct picture *after,
			  struct report *report)
{
	for (unsigned m = 0; m < MOCKS; m++) {
		for (unsigned c = ASPACE_MOCK_MAP; c <= ASPACE_MOCK_MOVE; c++) {
			for (unsigned k = 1; k <= report->tally[kind_of(m, c)].counted; k++) {
				for (unsigned other = 0; other < MOCKS; other++) {
					struct fault fault = {.kind = kind_of(m, c),
							      .k = k,
							      .second_mock = other};
					bool struck;

					do {
						fault.second++;
						run_with(operation, &fault, after, false,
							 &report->pair_statuses, &struck);
						report->pairs += struck;
					} while (struck);
				}
			}
		}
	}
}

/* The operation inside the transaction that ran out of memory is tried once more. */
static void fail_and_retry_inside(const struct operation *operation, unsigned kind,
				  const struct picture *after, struct report *report)
{
	unsigned statuses = 0, k = 1;
	bool ignored;

	while (run_with(operation, &(struct fault){.kind = kind, .k = k}, after, true, &statuses,
			&ignored))
		k++;
	report->retried += statuses >> ASPACE_OK & 1 ? k - 1 : 0;
}

static unsigned calls_of(const struct report *report)
{
	return report->tally[kind_of(A, ASPACE_MOCK_ANY)].counted +
	       report->tally[kind_of(B, ASPACE_MOCK_ANY)].counted;
}

static void test_operation(void **state)
{
	const struct operation *operation = *state;
	struct report *report = &reports[operation - operations];
	bool deferred = operation->properties & DEFERRED;
	struct picture after;

	current_operation = operation;
	count_points(operation, &after, report);
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct tally *tally = &report->tally[kind];

		/* Deferred work is tried until there is memory: a lack that never ends is
		 * no case, and what is held back for it needs no pages. */
		if (deferred && kind == PAGES)
			continue;
		fail_everywhere(operation, kind, false, &after, report);
		assert_int_equal(tally->once, tally->counted);
		if (deferred && kind == POOL)
			continue;
		fail_everywhere(operation, kind, true, &after, report);
		assert_int_equal(tally->forever, tally->counted);
		if (kind == PAGES && tally->counted)
			assert_int_equal(!(tally->forever_statuses >> ASPACE_NO_MEMORY & 1),
					 !!(operation->properties & GIVES_BACK));
	}
	if (calls_of(report) <= PAIRS_MAX && !deferred)
		fail_in_pairs(operation, &after, report);
	if (operation->properties & IS_TXN) {
		fail_and_retry_inside(operation, POOL, &after, report);
		fail_and_retry_inside(operation, PAGES, &after, report);
		for (unsigned m = 0; m < MOCKS; m++)
			fail_and_retry_inside(operation, kind_of(m, ASPACE_MOCK_CLONE), &after,
					      report);
		assert_int_not_equal(report->retried, 0);
	}
	if (operation->properties & CANNOT_FAIL)
		assert_int_equal(report->tally[POOL].counted + calls_of(report), 0);
	else
		assert_int_not_equal(report->tally[POOL].counted + calls_of(report), 0);
}

/* ---- Giving back ------------------------------------------------------- */

/* From some point on no page is to be had, and nothing of the pools but what is held back. However
 * the operation ends: everything can be given back. */
enum way { CLEAR, ONE_BY_ONE, DESTROY, WAYS };
enum pinned { NOTHING, BEFORE, LATE, EACH, PINNED };

static const unsigned modes[] = {
	0,
	ASPACE_NEVER_MERGE,
	ASPACE_ALWAYS_STRICT,
	ASPACE_GRACE_UNMAP,
	ASPACE_GRACE_UNMAP | ASPACE_NEVER_MERGE,
};

static struct {
	unsigned long runs, refusals;
	unsigned long unmapped;         /* one by one */
	unsigned long taken, not_taken; /* snapshots, when there was no memory left */
} given_back;

/* A snapshot that giving back would not work beside is refused. */
static void take_late(struct world *world, struct aspace_snapshot *snapshot)
{
	enum aspace_status status = aspace_snapshot_take(world->space, snapshot);

	expect(status == ASPACE_OK || status == ASPACE_NO_MEMORY, "no snapshot, for no reason");
	given_back.taken += status == ASPACE_OK;
	given_back.not_taken += status != ASPACE_OK;
}

/* Has it become part of another one? A late protect may have made equal neighbours. */
static bool has_merged(struct world *world, const struct aspace_area *area)
{
	struct aspace_area now;

	return aspace_find(world->space, area->start, &now) == ASPACE_OK &&
	       (now.start.value != area->start.value || now.end.value != area->end.value);
}

/* With a snapshot before each, of these, where one can be had. */
static void unmap_one_by_one(struct world *world, struct aspace_snapshot *each, size_t snapshots)
{
	for (size_t i = 0;; i++) {
		struct aspace_view view;
		struct aspace_iter iter;
		struct aspace_area area;
		enum aspace_status status;
		bool any;

		aspace_read_begin(world->space, &view);
		aspace_iter_begin(&view, (struct aspace_vaddr){0}, &iter);
		any = aspace_iter_next(&iter, &area);
		aspace_read_end(&view);
		if (!any)
			return;
		if (i < snapshots)
			take_late(world, &each[i]);
		status = aspace_unmap(world->space, (struct aspace_range){area.start, area.end},
				      ASPACE_STRICT);
		if (status == ASPACE_NO_MEMORY && has_merged(world, &area))
			continue;
		expect(status == ASPACE_OK, "a whole area could not be unmapped");
		given_back.unmapped++;
	}
}

/* Answers whether a page was refused to the operation. */
static bool give_back(const struct operation *operation, unsigned k, enum way way,
		      enum pinned pinned)
{
	struct aspace_snapshot before = {0}, late[AREAS_MAX] = {0};
	size_t lates = pinned == EACH ? AREAS_MAX : 0;
	struct world world;
	bool struck;

	current = (struct fault){.kind = PAGES, .k = k, .forever = true};
	given_back.runs++;
	world_open(&world, operation);
	if (pinned == BEFORE) {
		assert_int_equal(aspace_snapshot_take(world.space, &before), ASPACE_OK);
		put(&world, A, 900, 901, 1); /* from now on, what it takes is held back */
	}
	arm(&world, &current);
	run_operation(&world);
	let_go(&world);
	if (world.in_section)
		aspace_read_end(&world.view);
	struck = world.pages.refusals != 0;
	world.pages.fail_at = 0;
	world.pages.fail_forever = true;
	if (pinned == LATE)
		take_late(&world, &late[0]);
	if (way == ONE_BY_ONE)
		unmap_one_by_one(&world, late, lates);
	expect_valid(&world);
	if (way != DESTROY)
		expect(aspace_clear(world.space, 0) == ASPACE_OK, "could not be cleared");
	if (world.has_snapshot)
		aspace_snapshot_release(&world.snapshot);
	aspace_snapshot_release(&before);
	for (size_t i = 0; i < AREAS_MAX; i++)
		aspace_snapshot_release(&late[i]);
	if (way != DESTROY)
		expect(aspace_quiesce(world.space, 0) == ASPACE_OK, "quiesce failed");
	given_back.refusals += world.pages.refusals;
	expect_valid(&world);
	world_close(&world);
	return struck;
}

static void test_giving_back(void **state)
{
	const struct operation *operation = *state;

	current_operation = operation;
	for (unsigned mode = 0; mode < sizeof(modes) / sizeof(modes[0]); mode++) {
		struct operation changed = *operation;

		/* The setup of some unmaps areas and holes. */
		if ((modes[mode] & ASPACE_ALWAYS_STRICT) && (operation->properties & UNSETTLED))
			continue;
		changed.space_mode |= modes[mode];
		for (unsigned i = 0; i < WAYS * PINNED; i++) {
			unsigned k = 1;

			if (i / WAYS == EACH && i % WAYS != ONE_BY_ONE)
				continue;
			while (give_back(&changed, k, (enum way)(i % WAYS),
					 (enum pinned)(i / WAYS)))
				k++;
		}
	}
}

/* ---- The table --------------------------------------------------------- */

static const char *statuses_text(unsigned mask, char *text, size_t size)
{
	size_t length = 0;

	text[0] = '\0';
	for (unsigned status = 0; mask >> status; status++) {
		if (mask >> status & 1 && length < size)
			length +=
				(size_t)snprintf(text + length, size - length, " %s",
						 aspace_status_string((enum aspace_status)status) +
							 strlen("ASPACE_"));
	}
	return text;
}

static int print_table(void **state)
{
	unsigned long points[KINDS] = {0}, pairs = 0, retried = 0;
	char once[128], forever[128];

	(void)state;
	printf("%-48s %-12s %6s  %s\n", "operation", "point", "count", "statuses once / for ever");
	for (size_t i = 0; i < operation_count; i++) {
		const struct report *report = &reports[i];

		for (unsigned kind = 0; kind < KINDS; kind++) {
			const struct tally *tally = &report->tally[kind];

			points[kind] += tally->once;
			if (tally->once)
				printf("%-48s %-12s %6u %s /%s\n", operations[i].name,
				       kind_name(kind), tally->once,
				       statuses_text(tally->once_statuses, once, sizeof(once)),
				       statuses_text(tally->forever_statuses, forever,
						     sizeof(forever)));
		}
		if (report->pairs)
			printf("%-48s %-12s %6u %s\n", operations[i].name, "pairs", report->pairs,
			       statuses_text(report->pair_statuses, once, sizeof(once)));
		pairs += report->pairs;
		retried += report->retried;
	}
	printf("%lu runs; points:", runs);
	for (unsigned kind = 0; kind < KINDS; kind++)
		printf(" %s %lu,", kind_name(kind), points[kind]);
	printf(" pairs %lu, transactions that went on %lu\n", pairs, retried);

	printf("giving back: %lu runs, %lu refusals; one by one %lu areas; snapshots with no "
	       "memory "
	       "left: %lu taken, %lu refused\n",
	       given_back.runs, given_back.refusals, given_back.unmapped, given_back.taken,
	       given_back.not_taken);
	if (!given_back.refusals || !given_back.unmapped || !given_back.taken ||
	    !given_back.not_taken)
		return -1;

	/* Nothing of what there is to reach has been forgotten. */
	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (!points[kind] && kind != kind_of(B, ASPACE_MOCK_FAULT)) {
			printf("never reached: %s\n", kind_name(kind));
			return -1;
		}
	}
	return pairs && retried ? 0 : -1;
}

int main(void)
{
	struct CMUnitTest tests[2 * sizeof(reports) / sizeof(reports[0])];
	struct aspace *keeps_the_helper_alive;
	int failed;

	if (operation_count > sizeof(reports) / sizeof(reports[0]) ||
	    aspace_create(NULL, &keeps_the_helper_alive) != ASPACE_OK)
		return 1;
	for (size_t i = 0; i < operation_count; i++) {
		tests[i] = (struct CMUnitTest){
			.name = operations[i].name,
			.test_func = test_operation,
			.initial_state = (void *)(uintptr_t)&operations[i],
		};
		tests[operation_count + i] = tests[i];
		tests[operation_count + i].test_func = test_giving_back;
	}
	failed = _cmocka_run_group_tests("every operation fails at every point", tests,
					 2 * operation_count, NULL, print_table);
	return aspace_destroy(keeps_the_helper_alive, 0) != ASPACE_OK || failed;
}
