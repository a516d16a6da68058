/* SPDX-License-Identifier: MIT */
/*
 * Faults and advice beside each other and beside writers, all of whom change the same few areas.
 *
 *  1. Eight threads fault in eight areas; `fault` does not return until all eight are inside.
 *     Counts, no clocks: with one lock around it this would never end. Many rounds. The same with
 *     `advise`; and with half of them faulting.
 *  2. Faults, advice, updates, transactions and lookups at random, and a backend that looks at what
 *     the library promises: nobody changes the span that a fault is in, or the range of an advice,
 *     nobody else faults or is advised there, its user object is alive, and what was populated has
 *     the flags that the area says.
 *  3. A writer that waits for a fault keeps its place: a fault that comes later comes later.
 *  4. A fault waits for the writer lock because its backend wants that, and meanwhile the area is
 *     replaced by one of a backend that does not: the other is called without.
 *
 *  5. In a grace-unmap space, one thread drops contents over and over, beside readers and a writer. No
 *     drop that begins after a reader's section did is done before that ends.
 *
 * What the backend notes of a page is plain memory, which the library's order alone protects: so
 * ThreadSanitizer sees a pin that does not cover, or that is given up too early.
 */
#include "../listed.h"
#include "crew.h"

#include "space/space.h" /* who waits */

#define PAGE       UINT64_C(0x1000)
#define PAGES      64
#define THREADS    8
#define ROUNDS     40
#define OPERATIONS 6000
#define ENOUGH     500 /* faults */

static struct aspace *space;

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(first * PAGE, end * PAGE);
}

/* ---- 1. All at once --------------------------------------------------------- */

static _Atomic unsigned inside, left;
static unsigned advisers; /* of the eight */

static enum aspace_status meet_all(void)
{
	unsigned round = relaxed_load(&left) / THREADS;

	relaxed_add(&inside, 1);
	until(relaxed_load(&inside) >= (round + 1) * THREADS);
	relaxed_add(&left, 1);
	return ASPACE_OK;
}

static enum aspace_status meet_in_fault(struct aspace_backend *backend,
					const struct aspace_area *area, struct aspace_vaddr address,
					unsigned access)
{
	(void)backend, (void)area, (void)address, (void)access;
	return meet_all();
}

static enum aspace_status meet_in_advice(struct aspace_backend *backend,
					 const struct aspace_area *area, struct aspace_range range,
					 enum aspace_advice advice, struct aspace_vaddr *reached)
{
	(void)backend, (void)area, (void)range, (void)advice, (void)reached;
	return meet_all();
}

static void *work_in_one(void *arg)
{
	uint64_t place = (uint64_t)(uintptr_t)arg;

	for (long round = 0; round < scaled(ROUNDS); round++) {
		if (place < advisers)
			check_ok(aspace_advise(space, pages(place, place + 1), ASPACE_ADVICE_DROP,
					       0));
		else
			check_ok(aspace_fault(space, aspace_va(place * PAGE), ASPACE_ACCESS_WRITE,
					      0));
		/* The next round begins when all have left. */
		until(relaxed_load(&left) >= (unsigned)(round + 1) * THREADS);
	}
	return NULL;
}

static void all_at_once(void)
{
	struct aspace_backend_ops ops = *aspace_null_backend()->ops;
	struct aspace_backend backend = *aspace_null_backend();
	pthread_t threads[THREADS];

	relaxed_store(&inside, 0);
	relaxed_store(&left, 0);
	ops.fault = meet_in_fault;
	ops.advise = meet_in_advice;
	backend.ops = &ops;
	check_ok(aspace_create(NULL, &space));
	for (uintptr_t i = 0; i < THREADS; i++)
		check_ok(aspace_map(space, pages(i, i + 1), i & 1, &backend, NULL, 0));
	for (uintptr_t i = 0; i < THREADS; i++)
		threads[i] = spawn(work_in_one, (void *)i);
	for (unsigned i = 0; i < THREADS; i++)
		join(threads[i]);
	check_ok(aspace_destroy(space, 0));
	printf("%ld rounds of %u faults and %u advices, all of a round inside at once\n",
	       scaled(ROUNDS), THREADS - advisers, advisers);
}

/* ---- 2. Beside writers ------------------------------------------------------ */

struct object {
	_Atomic int references;
	int alive; /* plain: written by who takes the last reference */
};

struct page {
	bool mapped, populated, at_work;
	uint64_t flags;
	struct object *object; /* of the area, where they are counted */
};

/* Plain memory. Spaces change pages under the writer lock, faults in their span. */
static struct page table[PAGES];
static bool counted; /* this run: user objects have references */
static uint64_t span_pages;
static _Atomic uint64_t populated, found_populated, dropped, met, busy;

static struct page *page_at(uint64_t address)
{
	check(address / PAGE < PAGES);
	return &table[address / PAGE];
}

static void set(const struct aspace_change *change, bool fresh, bool mapped, uint64_t flags)
{
	for (uint64_t at = change->range.start.value; at < change->range.end.value; at += PAGE) {
		struct page *page = page_at(at);

		if (page->at_work)
			fail("%#llx changes under a fault or an advice", (unsigned long long)at);
		if (fresh)
			page->populated = false;
		page->mapped = mapped;
		page->flags = flags;
	}
}

static enum aspace_status set_map(struct aspace_backend *backend,
				  const struct aspace_change *change)
{
	(void)backend;
	set(change, true, true, change->new_flags);
	return ASPACE_OK;
}

static enum aspace_status set_unmap(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	(void)backend;
	set(change, true, false, 0);
	return ASPACE_OK;
}

static enum aspace_status set_protect(struct aspace_backend *backend,
				      const struct aspace_change *change)
{
	(void)backend;
	set(change, false, true, change->new_flags);
	return ASPACE_OK;
}

/* At work in these pages, which the library has promised to be alone in. */
static void visit(const struct aspace_area *area, uint64_t first, uint64_t end, bool drops)
{
	struct object *object = area->user;

	for (uint64_t i = first; i < end; i++) {
		if (table[i].at_work || !table[i].mapped || table[i].flags != area->flags)
			fail("page %llu is not as the area says", (unsigned long long)i);
		table[i].at_work = true;
	}
	if (object && !object->alive)
		fail("a user object has been released under a pin");
	sched_yield();
	if (object && !object->alive)
		fail("a user object is released under a pin");
	for (uint64_t i = first; i < end; i++) {
		check(table[i].at_work && table[i].mapped && table[i].flags == area->flags);
		if (!drops)
			relaxed_add(table[i].populated ? &found_populated : &populated, 1);
		else if (table[i].populated)
			relaxed_add(&dropped, 1);
		table[i].populated = !drops;
		table[i].at_work = false;
	}
}

static enum aspace_status populate(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	uint64_t first = address.value / PAGE & ~(span_pages - 1), end = first + span_pages;

	(void)backend, (void)access;
	if (first < area->start.value / PAGE)
		first = area->start.value / PAGE;
	if (end > area->end.value / PAGE)
		end = area->end.value / PAGE;
	visit(area, first, end, false);
	return ASPACE_OK;
}

/* Two pages at a time: others come in between. */
static enum aspace_status advise_two(struct aspace_backend *backend, const struct aspace_area *area,
				     struct aspace_range range, enum aspace_advice advice,
				     struct aspace_vaddr *reached)
{
	uint64_t first = range.start.value / PAGE, end = range.end.value / PAGE;

	(void)backend;
	if (end > first + 2)
		end = first + 2;
	visit(area, first, end, advice == ASPACE_ADVICE_DROP);
	reached->value = end * PAGE;
	return ASPACE_OK;
}

static uint64_t span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend;
	(void)area;
	return span_pages * PAGE;
}

static enum aspace_status clone_object(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	atomic_fetch_add(&((struct object *)user)->references, 1);
	*copy = user;
	return ASPACE_OK;
}

static void release_object(struct aspace_backend *backend, void *user)
{
	struct object *object = user;

	(void)backend;
	if (atomic_fetch_sub(&object->references, 1) == 1) {
		object->alive = 0;
		free(object);
	}
}

static struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = set_map,
	.unmap = set_unmap,
	.protect = set_protect,
	.replace = set_map,
	.fault = populate,
	.fault_span = span,
	.advise = advise_two,
};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 3, .granule = PAGE};
static _Atomic unsigned writers;

static struct object *object_new(void)
{
	struct object *object = malloc(sizeof(*object));

	check(object);
	*object = (struct object){.references = 1, .alive = 1};
	return object;
}

static void map_some(struct dice *dice, struct aspace_range range, unsigned how)
{
	struct object *object = counted ? object_new() : NULL;
	enum aspace_status status =
		aspace_map(space, range, roll_below(dice, 3), &backend, object, how);

	if (status != ASPACE_OK) {
		check(status == ASPACE_ALREADY_EXISTS || status == ASPACE_BUSY ||
		      status == ASPACE_NOT_SUPPORTED);
		free(object);
	}
}

static void commit_some(struct dice *dice, struct aspace_range range)
{
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(space, 0, &txn);

	check_ok(status);
	check_ok(aspace_txn_protect(txn, range, roll_below(dice, 3), 0));
	check_ok(aspace_txn_unmap(txn, pages(roll_below(dice, 4), 4), 0));
	if (roll_below(dice, 4))
		check_ok(aspace_txn_commit(txn));
	else
		aspace_txn_abort(txn);
}

static void *write_some(void *arg)
{
	struct dice dice = {.state = (uint64_t)(uintptr_t)arg};

	/* Until faults have come in between, too. */
	for (long i = 0; i < scaled(OPERATIONS) || relaxed_load(&met) < ENOUGH; i++) {
		uint64_t first = roll_below(&dice, PAGES - 8);
		struct aspace_range range = pages(first, first + 1 + roll_below(&dice, 8));
		unsigned how = roll_below(&dice, 4) ? 0 : ASPACE_NOWAIT;
		enum aspace_status status = ASPACE_OK;

		switch (roll_below(&dice, 6)) {
		case 0:
		case 1:
			map_some(&dice, range, how);
			break;
		case 2:
			map_some(&dice, range, how | ASPACE_REPLACE);
			break;
		case 3:
			status = aspace_unmap(space, range, how);
			break;
		case 4:
			status = aspace_protect(space, range, roll_below(&dice, 3), how);
			break;
		case 5:
			commit_some(&dice, range);
			break;
		}
		if (status == ASPACE_BUSY)
			relaxed_add(&busy, 1);
		else
			check_ok(status);
	}
	relaxed_add(&writers, -1u);
	return NULL;
}

static void *fault_some(void *arg)
{
	struct dice dice = {.state = (uint64_t)(uintptr_t)arg};

	while (relaxed_load(&writers)) {
		uint64_t at = roll_below(&dice, PAGES * PAGE), first = at / PAGE;
		uint64_t end = first + 1 + roll_below(&dice, 8);
		unsigned how = roll_below(&dice, 4) ? 0 : ASPACE_NOWAIT;
		enum aspace_status status;

		if (roll_below(&dice, 2))
			status = aspace_fault(space, aspace_va(at), ASPACE_ACCESS_READ, how);
		else
			status = aspace_advise(space, pages(first, end < PAGES ? end : PAGES),
					       roll_below(&dice, 2) ? ASPACE_ADVICE_DROP
								    : ASPACE_ADVICE_POPULATE_READ,
					       how | (roll_below(&dice, 4) ? 0 : ASPACE_STRICT));
		if (status == ASPACE_OK)
			relaxed_add(&met, 1);
		else
			check(status == ASPACE_NOT_MAPPED || status == ASPACE_BUSY);
	}
	return NULL;
}

static void beside_writers(struct dice *dice, unsigned mode)
{
	const struct aspace_options options = {.size = sizeof(options), .mode = mode};
	struct aspace_violation violation = {.what = ""};
	pthread_t threads[6];

	memset(table, 0, sizeof(table));
	ops.clone = counted ? clone_object : NULL;
	ops.release = counted ? release_object : NULL;
	relaxed_store(&met, 0);
	check_ok(aspace_create(&options, &space));
	relaxed_store(&writers, 2);
	for (unsigned i = 0; i < 6; i++)
		threads[i] = spawn(i < 2 ? write_some : fault_some, (void *)(uintptr_t)roll(dice));
	while (relaxed_load(&writers)) {
		if (aspace_validate(space, &violation, 0) != ASPACE_OK)
			fail("%u: %s", violation.invariant, violation.what);
		sched_yield();
	}
	for (unsigned i = 0; i < 6; i++)
		join(threads[i]);
	check(relaxed_load(&met) >= ENOUGH);
	check_ok(aspace_destroy(space, 0));
	for (unsigned i = 0; i < PAGES; i++)
		check(!table[i].mapped && !table[i].at_work);
}

/* ---- 3. Places --------------------------------------------------------------- */

static _Atomic unsigned faulting;
static _Atomic bool may_end, unmap_returned;
static bool unmapped; /* plain: the order of the library alone is between the two who use it */

static enum aspace_status stay(struct aspace_backend *ignored, const struct aspace_area *area,
			       struct aspace_vaddr address, unsigned access)
{
	(void)ignored;
	(void)area;
	(void)access;
	if (relaxed_add(&faulting, 1))
		fail("a fault at %#llx goes before a writer that waits",
		     (unsigned long long)address.value);
	until(relaxed_load(&may_end));
	return ASPACE_OK;
}

static enum aspace_status note_unmap(struct aspace_backend *ignored,
				     const struct aspace_change *change)
{
	(void)ignored;
	(void)change;
	unmapped = true;
	return ASPACE_OK;
}

static void *fault_first(void *ignored)
{
	check_ok(aspace_fault(space, aspace_va(PAGE), ASPACE_ACCESS_READ, 0));
	return ignored;
}

static void *unmap_all(void *ignored)
{
	check_ok(aspace_unmap(space, pages(0, 4), 0));
	relaxed_store(&unmap_returned, true);
	return ignored;
}

static void *fault_later(void *ignored)
{
	check_status(aspace_fault(space, aspace_va(3 * PAGE), ASPACE_ACCESS_READ, 0),
		     ASPACE_NOT_MAPPED);
	check(unmapped);
	return ignored;
}

/* So many are on the list, and all but the first of them wait. */
static void until_listed(uint32_t count)
{
	bool reached = false;

	while (!reached) {
		if (relaxed_load(&unmap_returned))
			fail("an unmap goes on under a fault");
		sched_yield();
		asp_mutex_acquire(&space->pins.lock);
		reached = atomic_load(&space->pins.used) == count &&
			  count_awaiting(space) + 1 == count;
		asp_mutex_release(&space->pins.lock);
	}
}

static void places(void)
{
	struct aspace_backend_ops staying = *aspace_null_backend()->ops;
	struct aspace_backend other = {.ops = &staying, .flags_mask = 3};
	pthread_t threads[3];

	span_pages = 1;
	staying.fault = stay;
	staying.fault_span = span;
	staying.unmap = note_unmap;
	check_ok(aspace_create(NULL, &space));
	check_ok(aspace_map(space, pages(0, 4), 0, &other, NULL, 0));
	threads[0] = spawn(fault_first, NULL);
	until(relaxed_load(&faulting));
	threads[1] = spawn(unmap_all, NULL);
	until_listed(2);
	threads[2] = spawn(fault_later, NULL);
	until_listed(3);
	relaxed_store(&may_end, true);
	for (unsigned i = 0; i < 3; i++)
		join(threads[i]);
	check_ok(aspace_destroy(space, 0));
}

/* ---- 4. Replaced ------------------------------------------------------------ */

static enum aspace_status must_not(struct aspace_backend *ignored, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)ignored, (void)area, (void)address, (void)access;
	fail("the area is gone");
}

static uint64_t under_lock(struct aspace_backend *ignored, const struct aspace_area *area)
{
	(void)ignored, (void)area;
	return 0;
}

static void *map_elsewhere(void *status)
{
	*(enum aspace_status *)status =
		aspace_map(space, pages(10, 11), 0, aspace_null_backend(), NULL, ASPACE_NOWAIT);
	return NULL;
}

static enum aspace_status without_lock(struct aspace_backend *ignored,
				       const struct aspace_area *area, struct aspace_vaddr address,
				       unsigned access)
{
	enum aspace_status status;

	(void)ignored, (void)area, (void)address, (void)access;
	join(spawn(map_elsewhere, &status));
	return status;
}

static void replaced(void)
{
	struct aspace_backend_ops before = *aspace_null_backend()->ops, after = before;
	struct aspace_backend old = {.ops = &before}, new = {.ops = &after};
	struct aspace_txn *txn;
	pthread_t thread;

	before.fault = must_not;
	before.fault_span = under_lock;
	after.fault = without_lock;
	after.fault_span = span;
	check_ok(aspace_create(NULL, &space));
	check_ok(aspace_map(space, pages(0, 4), 0, &old, NULL, 0));
	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_map(txn, pages(0, 4), 0, &new, NULL, ASPACE_REPLACE));
	thread = spawn(fault_first, NULL);
	/* It waits for us. */
	until(atomic_load(&space->lock.next) - atomic_load(&space->lock.serving) == 2);
	check_ok(aspace_txn_commit(txn));
	join(thread);
	check_ok(aspace_find(space, aspace_va(10 * PAGE), NULL));
	check_ok(aspace_destroy(space, 0));
}

/* ---- 5. Contents and readers -------------------------------------------------- */

/* Drops that have begun, or have been done. One thread drops, and each drop is one call. */
static _Atomic uint64_t drops_begun, drops_done, sections, met_by_drop;
static _Atomic bool has_read_enough;

static enum aspace_status drop_all(struct aspace_backend *ignored, const struct aspace_area *area,
				   struct aspace_range range, enum aspace_advice advice,
				   struct aspace_vaddr *reached)
{
	(void)ignored, (void)area, (void)range, (void)reached;
	if (advice == ASPACE_ADVICE_DROP)
		relaxed_add(&drops_done, 1);
	return ASPACE_OK;
}

/* A drop of which we do not know when our section has begun waits for us. */
static void *read_sections(void *ignored)
{
	while (!relaxed_load(&has_read_enough)) {
		struct aspace_area area;
		struct aspace_view view;
		uint64_t begun;

		aspace_read_begin(space, &view);
		begun = relaxed_load(&drops_begun);
		check_ok(aspace_view_find(&view, aspace_va(0), &area));
		for (unsigned i = 0; i < 4; i++)
			sched_yield();
		if (relaxed_load(&drops_begun) > begun)
			relaxed_add(&met_by_drop, 1);
		if (relaxed_load(&drops_done) > begun)
			fail("contents are dropped under a reader");
		aspace_read_end(&view);
		relaxed_add(&sections, 1);
	}
	return ignored;
}

/* Of the very areas. */
static void *write_beside(void *ignored)
{
	for (unsigned i = 0; !relaxed_load(&has_read_enough); i++) {
		check_ok(aspace_protect(space, pages(0, 2), i & 1, 0));
		check_ok(aspace_advise(space, pages(0, 4), ASPACE_ADVICE_COLD, 0));
		sched_yield();
	}
	return ignored;
}

static void contents_and_readers(void)
{
	const struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_GRACE_UNMAP};
	struct aspace_backend_ops dropping = *aspace_null_backend()->ops;
	struct aspace_backend other = {.ops = &dropping, .flags_mask = 3, .granule = PAGE};
	pthread_t threads[3];

	dropping.advise = drop_all;
	check_ok(aspace_create(&options, &space));
	check_ok(aspace_map(space, pages(0, 4), 0, &other, NULL, 0));
	for (unsigned i = 0; i < 3; i++)
		threads[i] = spawn(i < 2 ? read_sections : write_beside, NULL);
	/* Until drops have begun in the middle of sections. */
	for (long i = 0; i < scaled(120) || relaxed_load(&met_by_drop) < 20; i++) {
		relaxed_add(&drops_begun, 1);
		check_ok(aspace_advise(space, pages(3, 4), ASPACE_ADVICE_DROP, 0));
		check(relaxed_load(&drops_done) == relaxed_load(&drops_begun));
	}
	relaxed_store(&has_read_enough, true);
	for (unsigned i = 0; i < 3; i++)
		join(threads[i]);
	check_ok(aspace_destroy(space, 0));
	printf("%llu drops, %llu sections, %llu of which met one\n",
	       (unsigned long long)relaxed_load(&drops_done),
	       (unsigned long long)relaxed_load(&sections),
	       (unsigned long long)relaxed_load(&met_by_drop));
}

int main(int argc, char **argv)
{
	struct dice dice = {.state = seed_from(argc, argv)};

	for (advisers = 0; advisers <= THREADS; advisers += THREADS / 2)
		all_at_once();
	contents_and_readers();
	places();
	replaced();
	for (unsigned i = 0; i < 6; i++) {
		counted = i & 1;
		span_pages = i < 2 ? 1 : 4;
		beside_writers(&dice, i >= 4 ? ASPACE_GRACE_UNMAP : 0);
	}
	printf("%llu pages populated, %llu found so, %llu dropped, %llu times BUSY\n",
	       (unsigned long long)relaxed_load(&populated),
	       (unsigned long long)relaxed_load(&found_populated),
	       (unsigned long long)relaxed_load(&dropped), (unsigned long long)relaxed_load(&busy));
	check(relaxed_load(&populated) && relaxed_load(&dropped) && relaxed_load(&busy));
	return 0;
}
