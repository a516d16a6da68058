/* SPDX-License-Identifier: MIT */
/*
 * Every wait of the library in which a thread of the program may be for long, one by one: the stall hook is
 * told, again and again, signals are handled meanwhile, cancelling the thread does no harm, and the wait
 * ends as it would have. docs/design.md has the list ("Waits"); this is the test of each row.
 *
 * What the thread waits for is there until the test lets it go, so there is nothing here that a
 * clock decides.
 */
#include "obstacle.h"

#include <signal.h>

#include "reclaim/calls.h"
#include "space/halt.h"
#include "space/space.h"

#define PAGE UINT64_C(0x1000)

static struct aspace *space;
static pthread_t helper_of_test; /* whoever is in the way */

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(first * PAGE, end * PAGE);
}

/* ---- The backends ----------------------------------------------------------- */

/* Who may be blocked in a callback, and is to be. */
static _Atomic bool holds_fault, holds_advice, holds_change, holds_release;

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	if (atomic_exchange(&holds_change, false))
		block();
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *of, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)of;
	(void)area;
	(void)address;
	(void)access;
	if (atomic_exchange(&holds_fault, false))
		block();
	return ASPACE_OK;
}

static uint64_t one_page(struct aspace_backend *of, const struct aspace_area *area)
{
	(void)of;
	(void)area;
	return PAGE;
}

static enum aspace_status advised(struct aspace_backend *of, const struct aspace_area *area,
				  struct aspace_range range, enum aspace_advice advice,
				  struct aspace_vaddr *reached)
{
	(void)of;
	(void)area;
	(void)range;
	(void)advice;
	(void)reached;
	if (atomic_exchange(&holds_advice, false))
		block();
	return ASPACE_OK;
}

/* Flags 1 are more than 2; 4 has no contents. */
static unsigned loses(struct aspace_backend *of, uint64_t from, uint64_t to, uint64_t *meanwhile)
{
	(void)of;
	(void)from;
	(void)meanwhile;
	return to == 4 ? ASPACE_LOSES_CONTENTS : to == 2 ? ASPACE_LOSES_ACCESS : 0;
}

static void release(struct aspace_backend *of, void *user)
{
	(void)of;
	(void)user;
	if (atomic_exchange(&holds_release, false))
		block();
}

#define OPERATIONS                                                                                 \
	.map = accept, .unmap = accept, .protect = accept, .fault = populate, .advise = advised,   \
	.loses = loses
static const struct aspace_backend_ops plain_ops = {
	.size = sizeof(plain_ops), OPERATIONS, .fault_span = one_page};
static const struct aspace_backend_ops owning_ops = {
	.size = sizeof(owning_ops), OPERATIONS, .fault_span = one_page, .release = release};
/* Written before there were spans. */
static const struct aspace_backend_ops old_ops = {
	.size = offsetof(struct aspace_backend_ops, fault_span),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.fault = populate};
static struct aspace_backend plain = {.ops = &plain_ops, .flags_mask = 7};
static struct aspace_backend owning = {.ops = &owning_ops, .flags_mask = 7};
static struct aspace_backend old = {.ops = &old_ops, .flags_mask = 7};
static char user;

/* ---- What is in the way -------------------------------------------------------- */

static void *hold_fault(void *unused)
{
	(void)unused;
	atomic_store(&holds_fault, true);
	check_ok(aspace_fault(space, aspace_va(0), ASPACE_ACCESS_READ, 0));
	return NULL;
}

static void *hold_advice(void *unused)
{
	(void)unused;
	atomic_store(&holds_advice, true);
	check_ok(aspace_advise(space, pages(0, 1), ASPACE_ADVICE_COLD, 0));
	return NULL;
}

static void *hold_change(void *unused)
{
	(void)unused;
	atomic_store(&holds_change, true);
	check_ok(aspace_protect(space, pages(0, 1), 3, 0));
	return NULL;
}

static void begin(void *(*holder)(void *))
{
	atomic_store(&blocked, false);
	helper_of_test = spawn(holder, space);
	until(atomic_load(&blocked));
}

static void a_transaction(void)
{
	begin(hold_lock);
}

static void a_reader(void)
{
	begin(hold_section);
}

static void a_fault(void)
{
	begin(hold_fault);
}

static void an_advice(void)
{
	begin(hold_advice);
}

static void a_change(void)
{
	begin(hold_change);
}

/* A reader, and nodes up to the bound. */
static void a_reader_at_the_bound(void)
{
	enum aspace_status status;

	a_reader();
	do
		status = aspace_protect(space, pages(8, 9), 1 + space->node_count % 2,
					ASPACE_NOWAIT);
	while (status == ASPACE_OK &&
	       !aspace_map(space, pages(50, 51), 1, &plain, NULL, ASPACE_NOWAIT) &&
	       !aspace_unmap(space, pages(50, 51), ASPACE_NOWAIT));
}

static void a_reader_of_what_leaves(void)
{
	a_reader();
	check_ok(aspace_unmap(space, pages(0, 1), 0));
}

static void a_reader_of_what_is_pending(void)
{
	a_reader();
	check_ok(aspace_protect(space, pages(0, 1), 2, 0));
}

static bool is_postponed(void)
{
	bool is;

	asp_mutex_acquire(&space->pins.lock);
	is = space->pins.leaving.head;
	asp_mutex_release(&space->pins.lock);
	return is;
}

/* What leaves has come due, and meets a fault. */
static void a_fault_in_what_leaves(void)
{
	a_fault();
	check_ok(aspace_unmap(space, pages(0, 1), 0));
	do
		aspace_quiesce(space, ASPACE_NOWAIT);
	while (!is_postponed());
}

/* On the helper. */
static void a_release(void)
{
	atomic_store(&blocked, false);
	atomic_store(&holds_release, true);
	helper_of_test = 0;
	check_ok(aspace_unmap(space, pages(20, 21), 0));
	until(atomic_load(&blocked));
}

static void a_release_and_many_behind(void)
{
	a_release();
	while (!atomic_load(&space->calls.clogged)) {
		aspace_map(space, pages(30, 31), 1, &owning, &user, ASPACE_NOWAIT);
		aspace_unmap(space, pages(30, 31), ASPACE_NOWAIT);
	}
}

static void a_fault_that_keeps_an_object(void)
{
	atomic_store(&blocked, false);
	helper_of_test = spawn(hold_fault, NULL);
	until(atomic_load(&blocked));
	/* Another area's reference to the same object. */
	check_ok(aspace_unmap(space, pages(20, 21), 0));
}

/* As a fork that has this space, and waits for another. */
static void *hold_as_a_fork(void *unused)
{
	(void)unused;
	check(asp_halt(space,
		       asp_now_ms() + 3600000)); /* without an end its own hook comes in between */
	block();
	asp_resume(space);
	return NULL;
}

static struct aspace_txn *first;

/* With a writer in the line, so that it is one at rest that lends the lock. */
static void a_fork_in_waiting(void)
{
	atomic_store(&blocked, false);
	check_ok(aspace_txn_begin(space, 0, &first));
	helper_of_test = spawn(hold_as_a_fork, NULL);
	until(atomic_load(&space->halts));
}

static void a_fork(void)
{
	begin(hold_as_a_fork);
}

static _Thread_local bool stays_in_hook;

static void *map_and_stay_in_hook(void *unused)
{
	(void)unused;
	stays_in_hook = true;
	check_ok(aspace_map(space, pages(60, 61), 1, &plain, NULL, 0));
	return NULL;
}

/* Its turn has come, and it does not come back from the hook. */
static void a_writer_in_the_hook(void)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	begin(map_and_stay_in_hook);
	aspace_txn_abort(txn);
}

/* ---- Who waits ------------------------------------------------------------------ */

static void maps(void)
{
	check_ok(aspace_map(space, pages(60, 61), 1, &plain, NULL, 0));
}

static void maps_there_not(void)
{
	check_status(aspace_map(space, pages(0, 1), 1, &plain, NULL, 0), ASPACE_ALREADY_EXISTS);
}

static void maps_there(void)
{
	check_ok(aspace_map(space, pages(0, 1), 1, &plain, NULL, 0));
}

static void maps_anywhere(void)
{
	struct aspace_vaddr start;

	check_ok(aspace_map_anywhere(space, &(struct aspace_gap){.size = PAGE}, 1, &plain, NULL, 0,
				     &start));
}

static void unmaps(void)
{
	check_ok(aspace_unmap(space, pages(0, 1), 0));
}

static void protects(void)
{
	check_ok(aspace_protect(space, pages(0, 1), 3, 0));
}

static void clears(void)
{
	check_ok(aspace_clear(space, 0));
}

static void resizes(void)
{
	check_ok(aspace_resize(space, aspace_va(0), 2 * PAGE, 0));
}

static void drops(void)
{
	check_ok(aspace_protect(space, pages(8, 9), 4, 0));
}

static void begins(void)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	aspace_txn_abort(txn);
}

static void commits(void)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, pages(0, 1), 3, 0));
	check_ok(aspace_txn_commit(txn));
}

static void asks_for_figures(void)
{
	stats_of(space);
}

static void validates(void)
{
	check_space(space);
}

static void trims(void)
{
	check_ok(aspace_trim(space, 0));
}

static void quiesces(void)
{
	check_ok(aspace_quiesce(space, 0));
}

static void faults(void)
{
	check_ok(aspace_fault(space, aspace_va(0), ASPACE_ACCESS_WRITE, 0));
}

static void faults_under_the_lock(void)
{
	check_ok(aspace_fault(space, aspace_va(40 * PAGE), ASPACE_ACCESS_READ, 0));
}

static void advises(void)
{
	check_ok(aspace_advise(space, pages(0, 1), ASPACE_ADVICE_COLD, 0));
}

static void purges(void)
{
	check_ok(aspace_advise(space, pages(8, 9), ASPACE_ADVICE_DROP, 0));
}

static void destroys(void)
{
	check_ok(aspace_destroy(space, 0));
	space = NULL;
}

static void forks(void)
{
	aspace_before_fork();
	aspace_after_fork_parent();
}

/* ---- The table -------------------------------------------------------------------- */

enum { PLACED = 1, ENDS = 2 };

static const struct wait {
	const char *what;
	void (*obstacle)(void);
	void (*call)(void);
	unsigned how; /* PLACED: others may wait for it meanwhile; ENDS: the space does */
	struct aspace_options options;
} all[] = {
	/* The writer lock. */
	{"map, a transaction", a_transaction, maps, PLACED, {0}},
	{"map anywhere, a transaction", a_transaction, maps_anywhere, PLACED, {0}},
	{"unmap, a transaction", a_transaction, unmaps, PLACED, {0}},
	{"protect, a transaction", a_transaction, protects, PLACED, {0}},
	{"begin, a transaction", a_transaction, begins, PLACED, {0}},
	{"statistics, a transaction", a_transaction, asks_for_figures, PLACED, {0}},
	{"validate, a transaction", a_transaction, validates, PLACED, {0}},
	{"trim, a transaction", a_transaction, trims, PLACED, {0}},
	{"quiesce, a transaction", a_transaction, quiesces, PLACED, {0}},
	{"fault under the lock, a transaction", a_transaction, faults_under_the_lock, PLACED, {0}},
	{"map, an operation", a_change, maps, PLACED, {0}},
	/* Forks, and for them. */
	{"fork, a transaction", a_transaction, forks, PLACED, {0}},
	{"fork, an operation", a_change, forks, PLACED, {0}},
	{"map, a fork that has the lock", a_fork, maps, PLACED, {0}},
	{"map at rest, a fork", a_fork_in_waiting, maps, PLACED, {0}},
	/* Readers. */
	{"map, the bound on garbage", a_reader_at_the_bound, maps, 0, {.garbage_max = 0x4000}},
	{"begin, the bound on garbage", a_reader_at_the_bound, begins, 0, {.garbage_max = 0x4000}},
	{"map, what is leaving",
	 a_reader_of_what_leaves,
	 maps_there,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP}},
	{"protect, what is pending",
	 a_reader_of_what_is_pending,
	 protects,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP}},
	{"unmap, what is pending",
	 a_reader_of_what_is_pending,
	 unmaps,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP}},
	{"clear, the bound on leaving memory",
	 a_reader_of_what_leaves,
	 clears,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP, .leaving_max = 1}},
	{"protect, the bound on leaving memory",
	 a_reader_of_what_leaves,
	 drops,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP, .leaving_max = 1}},
	{"begin, the bound on leaving memory",
	 a_reader_of_what_leaves,
	 begins,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP, .leaving_max = 1}},
	{"advise that loses, readers", a_reader, purges, 0, {.mode = ASPACE_GRACE_UNMAP}},
	{"quiesce, readers", a_reader_of_what_leaves, quiesces, 0, {0}},
	{"quiesce, readers of what leaves",
	 a_reader_of_what_leaves,
	 quiesces,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP}},
	{"destroy, readers", a_reader, destroys, ENDS, {0}},
	/* Faults and advice. */
	{"unmap, a fault", a_fault, unmaps, PLACED, {0}},
	{"protect, a fault", a_fault, protects, PLACED, {0}},
	{"clear, a fault", a_fault, clears, PLACED, {0}},
	{"resize, a fault", a_fault, resizes, PLACED, {0}},
	{"unmap, an advice", an_advice, unmaps, PLACED, {0}},
	{"commit, a fault", a_fault, commits, PLACED, {0}},
	{"fault, a fault", a_fault, faults, PLACED, {0}},
	{"fault, an advice", an_advice, faults, PLACED, {0}},
	{"fault, an operation", a_change, faults, PLACED, {0}},
	{"fault, a writer in the hook", a_writer_in_the_hook, faults, PLACED, {0}},
	{"map, a writer in the hook", a_writer_in_the_hook, maps_there_not, PLACED, {0}},
	{"advise, a fault", a_fault, advises, PLACED, {0}},
	{"advise, an advice", an_advice, advises, PLACED, {0}},
	{"advise, an operation", a_change, advises, PLACED, {0}},
	{"map, a fault in what leaves",
	 a_fault_in_what_leaves,
	 maps_there,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP}},
	{"quiesce, a fault in what leaves",
	 a_fault_in_what_leaves,
	 quiesces,
	 0,
	 {.mode = ASPACE_GRACE_UNMAP}},
	{"quiesce, a fault with the object", a_fault_that_keeps_an_object, quiesces, 0, {0}},
	/* Releases. */
	{"quiesce, a release", a_release, quiesces, 0, {0}},
	{"destroy, a release", a_release, destroys, ENDS, {0}},
	{"map, 1024 releases", a_release_and_many_behind, maps, 0, {0}},
};

/* ---- One of them ------------------------------------------------------------------ */

static const struct wait *now;
static _Atomic unsigned told, handled;
static _Atomic bool returned;
static _Thread_local bool waits;

static void tell(void *ctx, struct aspace *of, uint64_t waited_ms)
{
	struct aspace_stats stats = {.size = sizeof(stats)};
	enum aspace_status status;
	struct aspace_view view;

	check(ctx == &told && of == space);
	if (stays_in_hook)
		block();
	if (!waits) /* others may, too, before and after */
		return;
	check(waited_ms >= of->options.stall_ms);
	/* What may be done here. */
	aspace_read_begin(of, &view);
	aspace_read_end(&view);
	check_status(aspace_destroy(of, 0), ASPACE_DEADLOCK);
	status = aspace_stats(of, &stats, ASPACE_NOWAIT);
	if (now->how & PLACED)
		check_status(status, ASPACE_DEADLOCK);
	else
		check(status == ASPACE_OK || status == ASPACE_BUSY);
	/* A thread is not cancelled in the middle of a wait, nor in the hook. */
	pthread_testcancel();
	atomic_fetch_add(&told, 1);
}

static void on_signal(int number)
{
	(void)number;
	atomic_fetch_add(&handled, 1);
}

/* Waits of which a reader may be the end, and forks, are not for who is in a section. */
static bool may_be_in_a_section(const struct wait *wait)
{
	return wait->how == PLACED && wait->call != forks && wait->call != quiesces &&
	       wait->obstacle != a_fork && wait->obstacle != a_fork_in_waiting;
}

static bool in_a_section;

static void *wait_for_it(void *unused)
{
	struct aspace_view view;

	(void)unused;
	if (in_a_section)
		aspace_read_begin(space, &view);
	waits = true;
	now->call();
	waits = false;
	if (in_a_section)
		aspace_read_end(&view);
	atomic_store(&returned, true);
	pthread_testcancel();
	return NULL;
}

static void test(const struct wait *wait)
{
	struct aspace_options options = wait->options;
	pthread_t thread;

	now = wait;
	options.stalled = tell;
	/* The wait for room ends by itself when a release has not returned for so long. */
	options.stall_ms = wait->obstacle == a_release_and_many_behind ? 20 : 1;
	options.ctx = &told;
	space = make_space(&options);
	atomic_store(&let_go, false);
	atomic_store(&told, 0);
	atomic_store(&returned, false);
	atomic_store(&handled, 0);
	check_ok(aspace_map(space, pages(0, 1), 1,
			    wait->obstacle == a_fault_that_keeps_an_object ? &owning : &plain,
			    wait->obstacle == a_fault_that_keeps_an_object ? &user : NULL, 0));
	check_ok(aspace_map(space, pages(8, 9), 1, &plain, NULL, 0));
	check_ok(aspace_map(space, pages(20, 21), 1, &owning, &user, 0));
	check_ok(aspace_map(space, pages(40, 41), 1, &old, NULL, 0));
	wait->obstacle();
	thread = spawn(wait_for_it, NULL);
	if (wait->obstacle == a_fork_in_waiting) {
		until(atomic_load(&space->lock.next) - atomic_load(&space->lock.serving) == 2);
		aspace_txn_abort(first);
		until(atomic_load(&blocked));
	}
	if (wait->obstacle == a_release_and_many_behind) {
		until(atomic_load(&returned));
		check(atomic_load(&told) == 1);
	} else {
		until(atomic_load(&told) >= 2);
		check(!pthread_kill(thread, SIGUSR1));
		until(atomic_load(&handled));
		check(!pthread_cancel(thread));
		until(atomic_load(&told) >= 4);
		check(!atomic_load(&returned));
	}
	atomic_store(&let_go, true);
	join(thread);
	check(atomic_load(&returned));
	if (helper_of_test)
		join(helper_of_test);
	if (wait->how & ENDS)
		return;
	check_ok(aspace_clear(space, 0));
	end_space(space);
}

int main(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	size_t count = sizeof(all) / sizeof(*all);

	setvbuf(stdout, NULL, _IOLBF, 0);
	check(!sigaction(SIGUSR1, &action, NULL));
	for (size_t i = 0; i < count; i++) {
		test(&all[i]);
		printf("%-40s told %u times\n", all[i].what, atomic_load(&told));
		in_a_section = may_be_in_a_section(&all[i]);
		if (in_a_section) {
			test(&all[i]);
			printf("%-40s told %u times in a section\n", all[i].what,
			       atomic_load(&told));
		}
		in_a_section = false;
	}
	return 0;
}
