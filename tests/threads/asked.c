/* SPDX-License-Identifier: MIT */
/*
 * The helper only tries the lock of a space, and goes away where it is taken. Whoever has kept it
 * from its work asks for it again: who leaves the lock after a pin has gone, and the hook of
 * fork, which takes locks and gives them back. And quiesce waits for what others run, and for what
 * others have passed.
 */
#include "crew.h"
#include "space/space.h"

#define PAGE UINT64_C(0x1000)

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of(number * PAGE, (number + 1) * PAGE);
}

/* ---- A backend whose calls can be held up -------------------------------------- */

struct object {
	_Atomic bool held;  /* its release lasts while this is true */
	_Atomic bool begun; /* its release has */
	_Atomic bool ended;
	unsigned lingers; /* so many looks at the clock */
};

static _Atomic bool fault_is_held, in_fault;
static _Atomic unsigned unmapped, released;

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	if (change->kind == ASPACE_CHANGE_UNMAP)
		atomic_fetch_add(&unmapped, 1);
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *of, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)of;
	(void)area;
	(void)address;
	(void)access;
	atomic_store(&in_fault, true);
	until(!atomic_load(&fault_is_held));
	atomic_store(&in_fault, false);
	return ASPACE_OK;
}

static bool merge_all(struct aspace_backend *of, const struct aspace_area *left,
		      const struct aspace_area *right)
{
	(void)of;
	(void)left;
	(void)right;
	return true;
}

static void release(struct aspace_backend *of, void *user)
{
	struct object *object = user;

	(void)of;
	atomic_store(&object->begun, true);
	until(!atomic_load(&object->held));
	for (unsigned i = 0; i < object->lingers; i++)
		sched_yield();
	atomic_store(&object->ended, true);
	atomic_fetch_add(&released, 1);
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.fault = populate,
	.can_merge = merge_all,
	.release = release,
};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 7};

static struct aspace *space, *beside;

static void *fault_in(void *arg)
{
	check_ok(aspace_fault(space, page((uintptr_t)arg).start, ASPACE_ACCESS_READ, 0));
	return NULL;
}

static pthread_t begin_fault(uintptr_t number)
{
	pthread_t thread;

	atomic_store(&fault_is_held, true);
	thread = spawn(fault_in, (void *)number);
	until(atomic_load(&in_fault));
	return thread;
}

/* Until something waits for the fault; with a transaction open, which sees it. */
static struct aspace_txn *begin_when_postponed(const struct aspace_record_list *list)
{
	struct aspace_txn *txn;

	for (;;) {
		check_ok(aspace_txn_begin(space, 0, &txn));
		if (list->count)
			return txn;
		aspace_txn_abort(txn);
		sched_yield();
	}
}

/* Until the helper has done whatever it was at before. */
static void see_helper_pass(void)
{
	static struct object object;

	atomic_store(&object.ended, false);
	check_ok(aspace_map(beside, page(1), 1, &backend, &object, 0));
	check_ok(aspace_unmap(beside, page(1), 0));
	until(atomic_load(&object.ended));
}

/* ---- After a pin ------------------------------------------------------------------ */

static void test_pin(void)
{
	long count = scaled(50);

	beside = make_space(NULL);
	space = make_space(&(struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	for (long i = 0; i < count; i++) {
		struct aspace_txn *txn;
		pthread_t fault;

		check_ok(aspace_map(space, page(1), 1, &backend, NULL, 0));
		fault = begin_fault(1);
		atomic_store(&unmapped, 0);
		check_ok(aspace_unmap(space, page(1), 0));
		txn = begin_when_postponed(&space->pins.leaving);
		atomic_store(&fault_is_held, false);
		join(fault);
		/* It was asked, and has found the lock taken. */
		until(!atomic_load(&space->client.due));
		see_helper_pass();
		atomic_store(&unmapped, 0);
		aspace_txn_abort(txn);
		until(atomic_load(&unmapped) == 1);
	}
	end_space(space);
	end_space(beside);
	printf("%-40s %9ld times\n", "after a fault, beside a transaction", count);
}

/* ---- After the patience of a fork --------------------------------------------------- */

static void *fork_hooks(void *arg)
{
	(void)arg;
	aspace_before_fork();
	aspace_after_fork_parent();
	return NULL;
}

/* Has a transaction open in `beside`. */
struct holder {
	pthread_t thread;
	_Atomic bool has, may_go;
};

static void *hold(void *arg)
{
	struct holder *holder = arg;
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(beside, 0, &txn));
	atomic_store(&holder->has, true);
	until(atomic_load(&holder->may_go));
	aspace_txn_abort(txn);
	return NULL;
}

static void begin_holding(struct holder *holder)
{
	atomic_store(&holder->has, false);
	atomic_store(&holder->may_go, false);
	holder->thread = spawn(hold, holder);
}

static void end_holding(struct holder *holder)
{
	atomic_store(&holder->may_go, true);
	join(holder->thread);
}

/* True: the helper has tried, when the hook had the lock, and gone. */
static bool try_fork(void)
{
	struct object slow = {.held = true}, object = {.held = false};
	struct holder holder;
	uint32_t serving, idle;
	pthread_t hook;
	bool tried;

	/* What has come due in `space` waits for the helper, who is in a callback elsewhere. */
	check_ok(aspace_map(beside, page(1), 1, &backend, &slow, 0));
	check_ok(aspace_unmap(beside, page(1), 0));
	until(atomic_load(&slow.begun));
	check_ok(aspace_map(space, page(1), 1, &backend, &object, 0));
	check_ok(aspace_unmap(space, page(1), 0));
	until(atomic_load(&space->grace->ended) >= space->deferred.head->stamp);

	begin_holding(&holder);
	until(atomic_load(&holder.has));
	serving = atomic_load(&space->lock.serving);
	hook = spawn(fork_hooks, NULL);
	/* The hook halts `space`, and waits for `beside`, whose lock is held, for some milliseconds. Then it
	 * gives up, and waits without a limit. */
	until(atomic_load(&space->lock.next) != serving);
	idle = atomic_load(&space->grace->idle); /* counts ends of work */
	atomic_store(&slow.held, false);
	until(atomic_load(&space->grace->idle) - idle >= 2 ||
	      atomic_load(&space->lock.serving) != serving);
	tried = !atomic_load(&object.begun) && !atomic_load(&space->client.due) &&
		atomic_load(&space->lock.serving) == serving;
	/* The hook gives up; we do not. */
	until(atomic_load(&object.ended));
	end_holding(&holder);
	join(hook);
	return tried;
}

static void test_fork(void)
{
	unsigned times = 0;

	beside = make_space(NULL);
	space = make_space(NULL); /* the newer: the hook takes its lock first */
	while (times < 3)
		times += try_fork();
	end_space(space);
	end_space(beside);
	printf("%-40s %9u times\n", "after a fork's patience", times);
}

/* ---- Quiesce ------------------------------------------------------------------------ */

static void *quiesce(void *arg)
{
	struct object *object = arg;

	check_ok(aspace_quiesce(space, 0));
	check(atomic_load(&object->ended));
	return NULL;
}

/* A release that a fault has postponed is run by the helper, when quiesce has long begun. */
static void test_quiesce(void)
{
	long count = scaled(20);

	space = make_space(NULL);
	for (long i = 0; i < count; i++) {
		struct object first = {.held = true}, left = {.held = false};
		struct object kept = {.lingers = 1000};
		pthread_t fault, waiter;
		uint32_t next, in;

		check_ok(aspace_map(space, page(1), 1, &backend, &left, 0));
		check_ok(aspace_map(space, page(2), 2, &backend, &kept, 0));
		check_ok(aspace_map(space, page(5), 1, &backend, &first, 0));
		fault = begin_fault(2);
		check_ok(aspace_unmap(space, page(5), 0));
		until(atomic_load(&first.begun));
		/* The two become one, and the right one's object is given up. */
		check_ok(aspace_protect(space, page(1), 2, 0));
		aspace_txn_abort(begin_when_postponed(&space->pins.deferred));
		next = atomic_load(&space->lock.next);
		in = atomic_load(&space->calls.in);
		waiter = spawn(quiesce, &kept);
		until(atomic_load(&space->lock.serving) != next); /* it has been the writer */
		atomic_store(&fault_is_held, false);
		join(fault);
		until(atomic_load(&space->calls.in) != in);
		check(!atomic_load(&kept.begun));
		atomic_store(&first.held, false);
		join(waiter);
		check_ok(aspace_unmap(space, page(1), 0));
		check_ok(aspace_unmap(space, page(2), 0));
		check_ok(aspace_quiesce(space, 0));
		check(atomic_load(&left.ended));
	}
	end_space(space);
	printf("%-40s %9ld times\n", "quiesce beside a postponed release", count);
}

/* ---- Quiesce beside what leaves later ------------------------------------------------ */

#define GIVEN_UP (ASP_CALLS + 100) /* more than there is room for */

static void *quiesce_all(void *arg)
{
	(void)arg;
	check_ok(aspace_quiesce(space, 0));
	check(atomic_load(&released) >= GIVEN_UP);
	return NULL;
}

static void pass_grace_period(void)
{
	uint64_t stamp = asp_grace_stamp(space->grace);

	asp_grace_request(space->grace, NULL, stamp);
	until(asp_grace_elapsed(space->grace, stamp));
}

/* References that have found no room wait for it, when quiesce has long begun; what leaves then passes
 * them. */
static void quiesce_once(struct object *slow, struct object *early, struct object *late)
{
	struct aspace_txn *txn;
	pthread_t waiter;

	check_ok(aspace_map(space, page(1), 1, &backend, slow, 0));
	check_ok(aspace_map(space, page(3), 1, &backend, early, 0));
	atomic_store(&released, 0);
	check_ok(aspace_unmap(space, page(1), 0));
	until(atomic_load(&slow->begun));
	/* They become one area, and all objects but the first are given up. An update waits for room until it
	 * is told that none comes. */
	for (uint64_t i = 0; i <= GIVEN_UP; i++)
		check_ok(aspace_map(space, page(10 + i), 1, &backend, i < ASP_CALLS ? early : late,
				    0));
	waiter = spawn(quiesce_all, NULL);
	until(atomic_load(&space->calls.room.waiters));
	pass_grace_period();
	atomic_store(&unmapped, 0);
	check_ok(aspace_unmap(space, page(3), 0));
	until(atomic_load(&unmapped) == 1);
	/* When this has the lock quiesce has looked. */
	check_ok(aspace_txn_begin(space, 0, &txn));
	check(space->deferred.head && !atomic_load(&late->begun));
	aspace_txn_abort(txn);
	atomic_store(&slow->held, false);
	/* It does not return now, though it has had the time. */
	until(atomic_load(&late->begun));
	for (unsigned i = 0; i < 3; i++)
		pass_grace_period();
	for (unsigned i = 0; i < 100; i++)
		sched_yield();
	atomic_store(&late->held, false);
	join(waiter);
}

static void test_quiesce_passed(void)
{
	long count = scaled(20);

	space = make_space(&(struct aspace_options){.mode = ASPACE_GRACE_UNMAP, .stall_ms = 1});
	for (long i = 0; i < count; i++) {
		struct object slow = {.held = true}, early = {.held = false}, late = {.held = true};

		quiesce_once(&slow, &early, &late);
		check_ok(aspace_clear(space, 0));
		check_ok(aspace_quiesce(space, 0));
	}
	end_space(space);
	printf("%-40s %9ld times\n", "quiesce beside what leaves later", count);
}

/* ---- Who waits is told ----------------------------------------------------------------- */

static _Atomic unsigned told;

static void count_told(void *ctx, struct aspace *stalled, uint64_t waited_ms)
{
	(void)ctx;
	(void)waited_ms;
	check(stalled == space);
	atomic_fetch_add(&told, 1);
}

static void wait_in_update(void)
{
	check_ok(aspace_protect(space, page(1), 2, 0));
}

static void wait_in_commit(void)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, page(1), 3, 0));
	check_ok(aspace_txn_commit(txn));
}

static void wait_in_fault(void)
{
	/* Not what the first populates. */
	check_ok(aspace_fault(space, page(1).start, ASPACE_ACCESS_WRITE, 0));
}

static void wait_in_map(void)
{
	check_ok(aspace_map(space, page(1), 1, &backend, NULL, 0));
}

static void wait_in_quiesce(void)
{
	check_ok(aspace_quiesce(space, 0));
}

static void *wait_so(void *arg)
{
	((void (*)(void))arg)();
	return NULL;
}

static void test_told(void)
{
	static const struct {
		void (*wait)(void);
		bool leaving;
	} ways[] = {{wait_in_update, false},
		    {wait_in_commit, false},
		    {wait_in_fault, false},
		    {wait_in_map, true},
		    {wait_in_quiesce, true}};

	space = make_space(&(struct aspace_options){
		.mode = ASPACE_GRACE_UNMAP, .stalled = count_told, .stall_ms = 1});
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		pthread_t fault, waiter;

		check_ok(aspace_map(space, page(1), 1, &backend, NULL, 0));
		fault = begin_fault(1);
		if (ways[i].leaving) {
			check_ok(aspace_unmap(space, page(1), 0));
			aspace_txn_abort(begin_when_postponed(&space->pins.leaving));
		}
		atomic_store(&told, 0);
		waiter = spawn(wait_so, (void *)ways[i].wait);
		until(atomic_load(&told) >= 2);
		atomic_store(&fault_is_held, false);
		join(fault);
		join(waiter);
		check_ok(aspace_clear(space, 0));
		check_ok(aspace_quiesce(space, 0));
	}
	end_space(space);
	printf("%-40s %9zu ways\n", "who waits for a fault is told", sizeof(ways) / sizeof(*ways));
}

int main(int argc, char **argv)
{
	seed_from(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	test_pin();
	test_fork();
	test_quiesce();
	test_quiesce_passed();
	test_told();
	return 0;
}
