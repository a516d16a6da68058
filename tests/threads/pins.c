/* SPDX-License-Identifier: MIT */
/*
 * Who goes before whom: faults, updates and transactions that meet. Each case is one order of
 * events, made by threads that wait for each other, and what must come of it.
 *
 *  1. A fault waits for one operation at most, and not for those that come after it, however long
 *     these take to plan.
 *  2. Nor for transactions that come after it.
 *  3. But a transaction that commits does not wait for a fault that waits for an update, which
 *     waits for the transaction.
 *  4. A fault is told that its work has been done only if that was where it is.
 *  5. What an operation asks of the program, it asks once, however long it waits for faults.
 *  6. An update that has found nobody in its way is not held up by who comes while it plans, whatever that waits for.
 *  7. A transaction that waits for a fault goes on when that comes to wait for an update, which waits for the
 *     transaction, because its area has grown.
 *  8. Who leaves wakes those that wait for it and nobody else: nobody, where nobody does. And of those it
 *     wakes who can go on; the others wait for that one then.
 */
#include "../listed.h"
#include "crew.h"

#define PAGE UINT64_C(0x1000)

static struct aspace *space;

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(first * PAGE, end * PAGE);
}

/* ---- What happened, in order ---------------------------------------------------- */

static _Atomic unsigned events;
static char happened[16];

static void note(char what)
{
	unsigned i = relaxed_add(&events, 1);

	check(i + 1 < sizeof(happened));
	happened[i] = what;
}

static void check_events(const char *expected)
{
	if (strcmp(happened, expected) != 0)
		fail("%s, not %s", happened, expected);
}

/* ---- The backend ----------------------------------------------------------------- */

static uint64_t span_size;
static _Atomic unsigned in_fault, in_change, may_end_fault, may_end_change;

/* A thread is held as it looks for the area, and goes on with what it has found: the number of looks. */
static _Thread_local unsigned held_at_look;
static _Atomic bool held, let_go;

static uint64_t span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend, (void)area;
	if (held_at_look && !--held_at_look) {
		relaxed_store(&held, true);
		until(relaxed_load(&let_go));
	}
	return span_size;
}

/* Stays until as many may end as have begun. */
static void stay(_Atomic unsigned *inside, _Atomic unsigned *may_end)
{
	unsigned number = relaxed_add(inside, 1);

	until(relaxed_load(may_end) > number);
}

static enum aspace_status populate(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)backend, (void)area, (void)address, (void)access;
	stay(&in_fault, &may_end_fault);
	note('f');
	return ASPACE_OK;
}

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *made)
{
	(void)backend;
	if (made->kind == ASPACE_CHANGE_MAP)
		return ASPACE_OK;
	stay(&in_change, &may_end_change);
	note(made->kind == ASPACE_CHANGE_UNMAP ? 'u' : 'p');
	return ASPACE_OK;
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.fault = populate,
	.fault_span = span,
};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 7};

static void forget_events(void)
{
	memset(happened, 0, sizeof(happened));
	relaxed_store(&events, 0);
}

static void begin(uint64_t span_pages)
{
	span_size = span_pages * PAGE;
	forget_events();
	relaxed_store(&in_fault, 0);
	relaxed_store(&in_change, 0);
	relaxed_store(&may_end_fault, 0);
	relaxed_store(&may_end_change, 0);
	/* Nobody looks again because the hook is to be told: who is not woken sleeps for ever. */
	space = make_space(&(struct aspace_options){.stall_ms = 1u << 30});
	check_ok(aspace_map(space, pages(0, 16), 1, &backend, NULL, 0));
}

static void end(const char *expected)
{
	check_events(expected);
	relaxed_store(&may_end_change, 100);
	end_space(space);
}

/* ---- Threads --------------------------------------------------------------------- */

static void *fault_read(void *page)
{
	check_ok(aspace_fault(space, aspace_va((uintptr_t)page * PAGE), ASPACE_ACCESS_READ, 0));
	return NULL;
}

static void *fault_write(void *page)
{
	return (void *)(uintptr_t)aspace_fault(space, aspace_va((uintptr_t)page * PAGE),
					       ASPACE_ACCESS_WRITE, 0);
}

static void *fault_read_late(void *page)
{
	held_at_look = 2;
	return fault_read(page);
}

static void *fault_write_late(void *page)
{
	held_at_look = 2;
	return (void *)(uintptr_t)aspace_fault(space, aspace_va((uintptr_t)page * PAGE),
					       ASPACE_ACCESS_WRITE, 0);
}

static void *protect(void *flags)
{
	check_ok(aspace_protect(space, pages(0, 16), (uintptr_t)flags, 0));
	return NULL;
}

static void *unmap_half(void *unused)
{
	check_ok(aspace_unmap(space, pages(8, 16), 0));
	return unused;
}

static void *commit(void *flags)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, pages(0, 16), (uintptr_t)flags, 0));
	check_ok(aspace_txn_commit(txn));
	return NULL;
}

/* What is on the list: how many entries, how many of them sleep, and does one wait for the writer? */
struct listed {
	uint32_t entries, sleepers, behind;
	bool behind_writer;
	bool committing; /* a transaction waits at its commit */
};

static struct listed look(void)
{
	struct listed listed = {0};

	asp_mutex_acquire(&space->pins.lock);
	listed.entries = atomic_load(&space->pins.used);
	listed.sleepers = count_awaiting(space);
	listed.behind = atomic_load(&space->pins.behind);
	listed.committing = space->pins.committing;
	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next)
		listed.behind_writer |=
			pin->behind && pin->ticket == atomic_load(&space->lock.serving);
	asp_mutex_release(&space->pins.lock);
	return listed;
}

/* All that there are but `working` of them sleep. */
static void until_listed(uint32_t entries, uint32_t working)
{
	struct listed listed;

	do {
		sched_yield();
		listed = look();
	} while (listed.entries != entries || listed.sleepers + listed.behind + working != entries);
}

static void until_committing(void)
{
	until(look().committing);
}

/* Whoever sleeps wakes early, as by chance, and looks again: the one that is to be held there is. */
static void until_held(void)
{
	while (!relaxed_load(&held)) {
		asp_mutex_acquire(&space->pins.lock);
		for (struct asp_pin *pin = space->pins.first; pin; pin = pin->next)
			asp_wake_all(&pin->turn);
		asp_mutex_release(&space->pins.lock);
		sched_yield();
	}
}

static void until_waiting_for_lock(uint32_t count)
{
	until(atomic_load(&space->lock.next) - atomic_load(&space->lock.serving) > count);
}

/* ---- 1. A fault and updates ------------------------------------------------------- */

static _Atomic unsigned deciding, may_decide;

/* Plans for long. */
static bool decide(void *unused, const struct aspace_area *area, uint64_t *flags)
{
	(void)unused, (void)area;
	stay(&deciding, &may_decide);
	*flags ^= 2;
	return true;
}

static void *protect_slowly(void *unused)
{
	check_ok(aspace_protect_with(space, pages(0, 16), decide, NULL, 0));
	return unused;
}

static void updates_that_come_later(void)
{
	pthread_t writers[3], fault;

	begin(1);
	relaxed_store(&may_end_change, 100);
	relaxed_store(&deciding, 0);
	relaxed_store(&may_decide, 0);
	for (unsigned i = 0; i < 3; i++)
		writers[i] = spawn(protect_slowly, NULL);
	until(relaxed_load(&deciding) == 1);
	until_waiting_for_lock(2);
	fault = spawn(fault_read, NULL);
	until_listed(1, 0);
	/* The first goes; the second does not come to its end before the fault does. */
	relaxed_store(&may_decide, 1);
	do {
		sched_yield();
		if (relaxed_load(&deciding) == 2 && look().behind_writer)
			fail("a fault waits for an update that came after it");
	} while (!relaxed_load(&in_fault));
	relaxed_store(&may_decide, 100);
	until_listed(3, 1); /* both wait for the fault */
	relaxed_store(&may_end_fault, 1);
	join(fault);
	for (unsigned i = 0; i < 3; i++)
		join(writers[i]);
	end("pfpp");
}

/* ---- 2, 3. Faults and transactions ------------------------------------------------- */

static void transactions_that_come_later(void)
{
	pthread_t first, second, fault;

	begin(1);
	relaxed_store(&may_end_fault, 100);
	first = spawn(commit, (void *)2);
	until(relaxed_load(&in_change));
	relaxed_store(&held, false);
	relaxed_store(&let_go, false);
	fault = spawn(fault_read_late, NULL);
	until_listed(2, 1);
	until_held();
	second = spawn(commit, (void *)3);
	until_waiting_for_lock(1);
	relaxed_store(&may_end_change, 1);
	/* The second is at its commit, beside a fault that is about to look. */
	do {
		sched_yield();
		if (relaxed_load(&in_change) == 2)
			fail("a fault waits for a transaction that came after it");
	} while (!look().committing);
	relaxed_store(&let_go, true);
	relaxed_store(&may_end_change, 100);
	join(first);
	join(fault);
	join(second);
	end("pfp");
}

static void transaction_before_an_update(void)
{
	struct aspace_txn *txn;
	pthread_t first, update, fault;

	begin(1);
	relaxed_store(&may_end_change, 100);
	first = spawn(fault_read, (void *)1);
	until(relaxed_load(&in_fault));
	update = spawn(protect, (void *)2);
	until_listed(2, 1);
	fault = spawn(fault_read, (void *)2); /* waits for the update */
	until_listed(3, 1);
	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_unmap(txn, pages(8, 12), 0));
	check_ok(aspace_txn_protect(txn, pages(2, 3), 4, 0));
	relaxed_store(&may_end_fault, 1);
	join(first);
	/* The update waits for the lock. */
	until_waiting_for_lock(1);
	check_ok(aspace_txn_commit(txn));
	relaxed_store(&may_end_fault, 100);
	join(update);
	join(fault);
	/* The area was in four pieces by then. */
	end("fpuppppf");
}

/* ---- 4. Served ------------------------------------------------------------------------ */

static void served_where_it_is(void)
{
	pthread_t reader, writer, left, right;

	begin(16); /* one span */
	reader = spawn(fault_read, (void *)1);
	until(relaxed_load(&in_fault));
	writer = spawn(unmap_half, NULL);
	until_listed(2, 1);
	left = spawn(fault_write, (void *)2);
	until_listed(3, 1);
	relaxed_store(&held, false);
	relaxed_store(&let_go, false);
	right = spawn(fault_write_late, (void *)10);
	until_listed(4, 1);
	until_held();
	/* It finds its half of the area, and knows nothing of what becomes of that until the other
	 * half has been populated. */
	relaxed_store(&may_end_fault, 100);
	join(reader);
	until(relaxed_load(&in_change));
	relaxed_store(&may_end_change, 100);
	join(writer);
	check(join(left) == (void *)ASPACE_OK);
	relaxed_store(&let_go, true);
	check(join(right) == (void *)ASPACE_NOT_MAPPED);
	end("fuf");
}

/* ---- 5. Once ---------------------------------------------------------------------------- */

static unsigned clones, decisions; /* of one thread, and the main one when that has ended */

static enum aspace_status count_clone(struct aspace_backend *ignored, void *user, void **copy)
{
	(void)ignored;
	clones++;
	*copy = user;
	return ASPACE_OK;
}

static bool decide_now(void *unused, const struct aspace_area *area, uint64_t *flags)
{
	(void)unused, (void)area;
	decisions++;
	*flags ^= 2;
	return true;
}

static void *unmap_middle(void *unused)
{
	check_ok(aspace_unmap(space, pages(4, 8), 0));
	return unused;
}

static void *replace_middle(void *backend_of_area)
{
	check_ok(aspace_map(space, pages(4, 8), 2, backend_of_area, NULL, ASPACE_REPLACE));
	return NULL;
}

static void *protect_middle(void *unused)
{
	check_ok(aspace_protect(space, pages(4, 8), 2, 0));
	return unused;
}

static void *decide_middle(void *unused)
{
	check_ok(aspace_protect_with(space, pages(4, 8), decide_now, NULL, 0));
	return unused;
}

static void *move_middle(void *unused)
{
	check_ok(aspace_move(space, pages(4, 8), aspace_va(20 * PAGE), 0));
	return unused;
}

static void asked_once(void)
{
	static const struct {
		void *(*entry)(void *);
		unsigned clones, decisions;
	} cases[] = {
		{unmap_middle, 1, 0},  {replace_middle, 1, 0}, {protect_middle, 2, 0},
		{decide_middle, 2, 1}, {move_middle, 2, 0},
	};
	struct aspace_backend_ops counted_ops = ops;
	struct aspace_backend counted = {.ops = &counted_ops, .flags_mask = 7};

	counted_ops.clone = count_clone;
	counted_ops.move = change;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		pthread_t fault, writer;

		begin(1);
		relaxed_store(&may_end_change, 100);
		clones = decisions = 0;
		check_ok(aspace_map(space, pages(0, 16), 1, &counted, &clones, ASPACE_REPLACE));
		fault = spawn(fault_read, (void *)1);
		until(relaxed_load(&in_fault));
		writer = spawn(cases[i].entry, &counted);
		until_listed(2, 1);
		relaxed_store(&may_end_fault, 1);
		join(fault);
		join(writer);
		if (clones != cases[i].clones || decisions != cases[i].decisions)
			fail("case %zu: %u clones, %u decisions", i, clones, decisions);
		relaxed_store(&may_end_change, 100);
		end_space(space);
	}
}

/* ---- 6. Behind something else -------------------------------------------------------------- */

static _Atomic bool advising, may_end_advice;

static enum aspace_status advise(struct aspace_backend *ignored, const struct aspace_area *area,
				 struct aspace_range range, enum aspace_advice advice,
				 struct aspace_vaddr *reached)
{
	(void)ignored, (void)area, (void)range, (void)advice, (void)reached;
	relaxed_store(&advising, true);
	until(relaxed_load(&may_end_advice));
	note('a');
	return ASPACE_OK;
}

static void *advise_first(void *unused)
{
	check_ok(aspace_advise(space, pages(0, 4), ASPACE_ADVICE_WILL_NEED, 0));
	return unused;
}

static void *decide_part(void *unused)
{
	check_ok(aspace_protect_with(space, pages(8, 12), decide, NULL, 0));
	return unused;
}

/* The fault is in the way of neither: it waits for the advice, beside which the update is. */
static void update_beside_a_queue(void)
{
	struct aspace_backend_ops advised_ops = ops;
	struct aspace_backend advised = {.ops = &advised_ops, .flags_mask = 7};
	pthread_t advice, update, fault;

	advised_ops.advise = advise;
	begin(16);
	relaxed_store(&may_end_change, 100);
	relaxed_store(&may_end_fault, 100);
	relaxed_store(&deciding, 0);
	relaxed_store(&may_decide, 0);
	relaxed_store(&advising, false);
	relaxed_store(&may_end_advice, false);
	check_ok(aspace_map(space, pages(0, 16), 1, &advised, NULL, ASPACE_REPLACE));
	forget_events();
	advice = spawn(advise_first, NULL);
	until(relaxed_load(&advising));
	update = spawn(decide_part, NULL);
	until(relaxed_load(&deciding));
	fault = spawn(fault_read, (void *)9);
	until_listed(2, 1);
	relaxed_store(&may_decide, 1);
	join(update);
	check(relaxed_load(&deciding) == 1);
	relaxed_store(&may_end_advice, true);
	join(advice);
	join(fault);
	end("paf");
}

/* ---- 7. A fault whose area grows ------------------------------------------------------------ */

static _Atomic bool begun, may_commit;

static void *commit_when_told(void *unused)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, pages(0, 1), 4, 0));
	relaxed_store(&begun, true);
	until(relaxed_load(&may_commit));
	check_ok(aspace_txn_commit(txn));
	return unused;
}

/* Where references are counted a fault holds writers off from its whole area. There are two, and a fault and an
 * update in the right one; what the transaction waits for is in the left one, until it looks. */
static void fault_comes_to_meet_an_update(void)
{
	struct aspace_backend_ops counted_ops = ops;
	struct aspace_backend counted = {.ops = &counted_ops, .flags_mask = 7};
	pthread_t right, update, left, fault, transaction;
	struct aspace_area area;

	counted_ops.clone = count_clone; /* nobody calls it: there is no user object */
	begin(2);
	relaxed_store(&may_end_change, 100);
	relaxed_store(&begun, false);
	relaxed_store(&may_commit, false);
	relaxed_store(&held, false);
	relaxed_store(&let_go, false);
	check_ok(aspace_unmap(space, pages(0, 16), 0));
	check_ok(aspace_map(space, pages(0, 6), 1, &counted, NULL, 0));
	check_ok(aspace_map(space, pages(8, 16), 1, &counted, NULL, 0));
	forget_events();
	right = spawn(fault_read, (void *)12);
	until(relaxed_load(&in_fault) == 1);
	update = spawn(unmap_half, NULL);
	until_listed(2, 1);
	left = spawn(fault_read, (void *)1);
	until(relaxed_load(&in_fault) == 2);
	fault = spawn(fault_write_late, (void *)1); /* the same span, and not what is protected */
	until_listed(4, 2);
	until_held();
	/* Now they are one. */
	check_ok(aspace_map(space, pages(6, 8), 1, &counted, NULL, 0));
	check_ok(aspace_find(space, aspace_va(2 * PAGE), &area));
	check(area.start.value == 0 && area.end.value == 16 * PAGE);
	transaction = spawn(commit_when_told, NULL);
	until(relaxed_load(&begun));
	relaxed_store(&may_end_fault, 1);
	join(right);
	until_waiting_for_lock(1); /* the update does */
	relaxed_store(&may_end_fault, 100);
	join(left);
	relaxed_store(&may_commit, true);
	until_committing(); /* it waits for the fault, which is about to find the update before it */
	relaxed_store(&let_go, true);
	join(transaction);
	join(update);
	check(join(fault) == (void *)ASPACE_OK);
	end("ffpuf");
}

/* ---- 8. Who is woken ------------------------------------------------------------------------- */

/* More than are woken at once. */
#define CROWD 40

static _Atomic bool slow_in[2], slow_ends[2];

static enum aspace_status populate_slow_pages(struct aspace_backend *ignored,
					      const struct aspace_area *area,
					      struct aspace_vaddr address, unsigned access)
{
	uint64_t page = address.value / PAGE;

	(void)ignored, (void)area, (void)access;
	if (page < 2) {
		relaxed_store(&slow_in[page], true);
		until(relaxed_load(&slow_ends[page]));
	}
	return ASPACE_OK;
}

/* How many words have been woken, and how often those have been told that wait at the page. */
static uint64_t wakes(void)
{
	uint64_t count;

	asp_mutex_acquire(&space->pins.lock);
	count = space->pins.wakes;
	asp_mutex_release(&space->pins.lock);
	return count;
}

static uint32_t told_at(uint64_t page)
{
	uint32_t count = 0;

	asp_mutex_acquire(&space->pins.lock);
	for (struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		if (pin->address / PAGE == page)
			count += atomic_load(&pin->turn);
	}
	asp_mutex_release(&space->pins.lock);
	return count;
}

static pthread_t begin_slow_fault(uint64_t page)
{
	pthread_t thread;

	relaxed_store(&slow_in[page], false);
	relaxed_store(&slow_ends[page], false);
	thread = spawn(fault_read, (void *)page);
	until(relaxed_load(&slow_in[page]));
	return thread;
}

static void end_slow_fault(uint64_t page, pthread_t fault, const pthread_t *waiters, int count)
{
	relaxed_store(&slow_ends[page], true);
	join(fault);
	for (int i = 0; i < count; i++)
		join(waiters[i]);
}

static void wakes_those_that_wait(void)
{
	struct aspace_backend_ops slow_ops = *aspace_null_backend()->ops;
	struct aspace_backend slow = {.ops = &slow_ops, .flags_mask = 7};
	pthread_t faults[2], first[CROWD], second[3];
	uint64_t before;

	slow_ops.size = sizeof(slow_ops);
	slow_ops.fault = populate_slow_pages;
	slow_ops.fault_span = span;
	begin(1);
	relaxed_store(&may_end_change, 100);
	check_ok(aspace_map(space, pages(20, 36), 1, &slow, NULL, 0));
	check_ok(aspace_unmap(space, pages(0, 16), 0));
	check_ok(aspace_map(space, pages(0, 16), 1, &slow, NULL, 0));
	faults[0] = begin_slow_fault(0);
	faults[1] = begin_slow_fault(1);
	for (int i = 0; i < CROWD; i++)
		first[i] = spawn(fault_read, (void *)0);
	for (int i = 0; i < 3; i++)
		second[i] = spawn(fault_read, (void *)1);
	until_listed(2 + CROWD + 3, 2);
	before = wakes();
	/* Elsewhere, in the same area and in another one; and updates that nobody waits for. */
	for (uint64_t i = 0; i < 100; i++) {
		fault_read((void *)(uintptr_t)(2 + i % 14));
		fault_read((void *)(uintptr_t)(20 + i % 16));
		check_ok(aspace_protect(space, pages(20, 36), 1 + i % 2, 0));
	}
	check(wakes() == before);
	check(told_at(0) == 0 && told_at(1) == 0);
	end_slow_fault(0, faults[0], first, CROWD);
	check(wakes() == before + CROWD && told_at(1) == 0);
	check(look().entries == 4);
	end_slow_fault(1, faults[1], second, 3);
	check(wakes() == before + CROWD + 3);
	forget_events();
	end("");
}

/* A fault for reading, behind which others are to write: of these one is woken, and the others wait for it. */
static void wakes_who_can_go_on(void)
{
	pthread_t fault, writers[CROWD];

	begin(1);
	fault = spawn(fault_read, (void *)0);
	until(relaxed_load(&in_fault) == 1);
	for (int i = 0; i < CROWD; i++)
		writers[i] = spawn(fault_write, (void *)0);
	until_listed(1 + CROWD, 1);
	relaxed_store(&may_end_fault, 1);
	join(fault);
	until(relaxed_load(&in_fault) == 2);
	check(wakes() == 1);
	until_listed(CROWD, 1);
	relaxed_store(&may_end_fault, 2);
	for (int i = 0; i < CROWD; i++)
		check(join(writers[i]) == (void *)ASPACE_OK);
	/* The one has done it for all. */
	check(wakes() == CROWD && relaxed_load(&in_fault) == 2);
	end("ff");
}

int main(void)
{
	for (long round = 0; round < scaled(40); round++) {
		updates_that_come_later();
		transactions_that_come_later();
		transaction_before_an_update();
		served_where_it_is();
		asked_once();
		update_beside_a_queue();
		fault_comes_to_meet_an_update();
		wakes_those_that_wait();
		wakes_who_can_go_on();
	}
	printf("%ld rounds\n", scaled(40));
	return 0;
}
