/* SPDX-License-Identifier: MIT */
/*
 * Faults beside each other and beside writers (W1): what holds what off, and what does not.
 *
 * The backend's `fault`, and where a test says so its `unmap`, wait until the test lets them go on.
 * A test counts who is inside, and waits for counts: where something must go on beside another
 * thing, it would hang if it did not. Where something must *not* go on, the order in which both
 * happened is noted and looked at afterwards.
 */
#include <pthread.h>

#include <aspace/backend/null.h>

#include "../listed.h"
#include "conformance/support.h"

#define PAGE  UINT64_C(0x1000)
#define AREAS 8

static struct aspace *subject;
static struct aspace_backend_ops ops;
static struct aspace_backend own;

/* ---- Meeting ------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct {
	unsigned inside, calls; /* faults */
	unsigned open;          /* so many faults may end; counts down */
	unsigned unmaps, maps, protects, releases, refused_later;
	unsigned unmaps_inside;
	bool hold_unmaps, blocks, reads, reading;
	unsigned done; /* threads of the test that have returned from their call */
	unsigned overlaps, twice;
	uint64_t at[16];             /* of the faults that are inside */
	unsigned char populated[64]; /* pages */
	unsigned populations;
	uint64_t order[64];
	unsigned events;
	void (*in_fault)(void);
	void *released;
} now;

static void lock(void)
{
	pthread_mutex_lock(&mutex);
}

static void unlock(void)
{
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

#define wait_until(condition)                                                                      \
	do {                                                                                       \
		pthread_mutex_lock(&mutex);                                                        \
		while (!(condition))                                                               \
			pthread_cond_wait(&changed, &mutex);                                       \
		pthread_mutex_unlock(&mutex);                                                      \
	} while (0)

/* What happened, in order: 'f' a fault ends, 'u' unmap, 'p' protect, 'r' release, ... */
static void note(char what)
{
	if (now.events < 64)
		now.order[now.events++] = (uint64_t)what;
}

static const char *noted(void)
{
	static char text[65];
	unsigned i;

	lock();
	for (i = 0; i < now.events; i++)
		text[i] = (char)now.order[i];
	text[i] = 0;
	unlock();
	return text;
}

/* ---- The backend --------------------------------------------------------- */

static enum aspace_status own_fault(struct aspace_backend *backend, const struct aspace_area *area,
				    struct aspace_vaddr address, unsigned access)
{
	uint64_t page = address.value / PAGE;

	(void)backend;
	(void)access;
	assert_true(area->start.value <= address.value && address.value < area->end.value);
	if (now.in_fault)
		now.in_fault();
	lock();
	now.calls++;
	for (unsigned i = 0; i < now.inside; i++)
		now.overlaps += now.at[i] == page;
	now.at[now.inside++] = page;
	pthread_cond_broadcast(&changed);
	while (now.blocks && !now.open)
		pthread_cond_wait(&changed, &mutex);
	if (now.blocks)
		now.open--;
	now.at[0] = now.at[--now.inside];
	if (page < 64 && !now.populated[page]) {
		now.populated[page] = 1;
		now.populations++;
	}
	note('f');
	unlock();
	return ASPACE_OK;
}

static enum aspace_status own_unmap(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	lock();
	now.unmaps_inside++;
	pthread_cond_broadcast(&changed);
	while (now.hold_unmaps)
		pthread_cond_wait(&changed, &mutex);
	now.unmaps_inside--;
	now.unmaps++;
	note('u');
	unlock();
	return ASPACE_OK;
}

static enum aspace_status own_map(struct aspace_backend *backend,
				  const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	lock();
	now.maps++;
	note('m');
	unlock();
	return ASPACE_OK;
}

static enum aspace_status own_protect(struct aspace_backend *backend,
				      const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	lock();
	now.protects++;
	note('p');
	unlock();
	return ASPACE_OK;
}

static enum aspace_status own_replace(struct aspace_backend *backend,
				      const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	lock();
	note('x');
	unlock();
	return ASPACE_OK;
}

static enum aspace_status own_move(struct aspace_backend *backend,
				   const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	lock();
	note('v');
	unlock();
	return ASPACE_OK;
}

static void own_release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	lock();
	now.releases++;
	now.released = user;
	note('r');
	unlock();
}

static uint64_t page_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend;
	(void)area;
	return PAGE;
}

static uint64_t no_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend;
	(void)area;
	return 0;
}

static void open_space(unsigned mode)
{
	const struct aspace_options options = {.size = sizeof(options), .mode = mode};

	assert_ok(aspace_create(&options, &subject));
	memset(&now, 0, sizeof(now));
	now.blocks = true;
	ops = (struct aspace_backend_ops){
		.size = sizeof(ops),
		.map = own_map,
		.unmap = own_unmap,
		.protect = own_protect,
		.replace = own_replace,
		.move = own_move,
		.fault = own_fault,
		.fault_span = page_span,
	};
	own = (struct aspace_backend){.ops = &ops, .flags_mask = 7};
}

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return range(first * PAGE, end * PAGE);
}

static void map_pages(uint64_t first, uint64_t end, void *user)
{
	assert_ok(aspace_map(subject, pages(first, end), 1, &own, user, 0));
}

static int open_plain(void **state)
{
	(void)state;
	open_space(0);
	return 0;
}

static int open_grace(void **state)
{
	(void)state;
	open_space(ASPACE_GRACE_UNMAP);
	return 0;
}

static int close_space(void **state)
{
	struct aspace_violation violation = {.what = NULL};

	(void)state;
	assert_ok(aspace_validate(subject, &violation, 0));
	assert_ok(aspace_destroy(subject, 0));
	return 0;
}

/* ---- Threads ------------------------------------------------------------- */

struct job {
	enum {
		FAULT,
		UNMAP,
		PROTECT,
		REPLACE,
		MOVE,
		SHRINK,
		GROW,
		CLEAR,
		COMMIT,
		QUIESCE,
		READ
	} what;
	uint64_t first, end;
	unsigned how;
	enum aspace_status status;
	pthread_t thread;
};

static enum aspace_status commit(const struct job *job)
{
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(subject, job->how, &txn);

	if (status != ASPACE_OK)
		return status;
	assert_ok(aspace_txn_unmap(txn, pages(job->first, job->end), 0));
	assert_ok(aspace_txn_map(txn, pages(1000, 1001), 1, &own, NULL, 0));
	return aspace_txn_commit(txn);
}

/* A section, so that no grace period ends, while now.reads. */
static enum aspace_status hold_section(void)
{
	struct aspace_view view;

	aspace_read_begin(subject, &view);
	lock();
	now.reading = true;
	pthread_cond_broadcast(&changed);
	while (now.reads)
		pthread_cond_wait(&changed, &mutex);
	unlock();
	aspace_read_end(&view);
	return ASPACE_OK;
}

static enum aspace_status make(const struct job *job)
{
	struct aspace_range part = pages(job->first, job->end);

	switch (job->what) {
	case FAULT:
		return aspace_fault(subject, part.start, ASPACE_ACCESS_READ, job->how);
	case UNMAP:
		return aspace_unmap(subject, part, job->how);
	case PROTECT:
		return aspace_protect(subject, part, 3, job->how);
	case REPLACE:
		return aspace_map(subject, part, 5, &own, NULL, job->how | ASPACE_REPLACE);
	case MOVE:
		return aspace_move(subject, part, at(5000 * PAGE), job->how);
	case SHRINK:
		return aspace_resize(subject, part.start, PAGE, job->how);
	case GROW:
		return aspace_resize(subject, part.start, part.end.value - part.start.value + PAGE,
				     job->how);
	case CLEAR:
		return aspace_clear(subject, job->how);
	case COMMIT:
		return commit(job);
	case QUIESCE:
		return aspace_quiesce(subject, job->how);
	case READ:
		return hold_section();
	}
	return ASPACE_INVALID_PARAM;
}

static void *work(void *arg)
{
	struct job *job = arg;
	enum aspace_status status = make(job);

	lock();
	job->status = status;
	now.done++;
	unlock();
	return NULL;
}

static void start(struct job *job)
{
	assert_int_equal(pthread_create(&job->thread, NULL, work, job), 0);
}

static void join(struct job *job, enum aspace_status want)
{
	assert_int_equal(pthread_join(job->thread, NULL), 0);
	assert_status(want, job->status);
}

static unsigned inside(void)
{
	unsigned count;

	lock();
	count = now.inside;
	unlock();
	return count;
}

static void let_faults_go(unsigned count)
{
	lock();
	now.open += count;
	unlock();
}

/* How many wait until an entry of the list goes, and how many entries there are: for tests, which
 * see the inside of the library (they are linked with what it exports to itself). */
static void wait_for_entries(uint32_t entries);

/* ---- Faults beside faults ------------------------------------------------ */

static void faults_in_different_areas_run_at_once(void **state)
{
	struct job jobs[AREAS];

	(void)state;
	ops.fault_span = NULL; /* the whole area */
	for (unsigned i = 0; i < AREAS; i++) {
		/* Neighbours that do not merge: the user pointers differ. */
		map_pages(2 * i, 2 * i + 2, &jobs[i]);
		jobs[i] = (struct job){.what = FAULT, .first = 2 * i};
	}
	for (unsigned i = 0; i < AREAS; i++)
		start(&jobs[i]);
	wait_until(now.inside == AREAS);
	let_faults_go(AREAS);
	for (unsigned i = 0; i < AREAS; i++)
		join(&jobs[i], ASPACE_OK);
	assert_int_equal(now.calls, AREAS);
}

static void faults_in_different_spans_of_an_area_run_at_once(void **state)
{
	struct job jobs[AREAS];

	(void)state;
	map_pages(0, AREAS, NULL);
	for (unsigned i = 0; i < AREAS; i++) {
		jobs[i] = (struct job){.what = FAULT, .first = i};
		start(&jobs[i]);
	}
	wait_until(now.inside == AREAS);
	let_faults_go(AREAS);
	for (unsigned i = 0; i < AREAS; i++)
		join(&jobs[i], ASPACE_OK);
}

static void a_span_is_populated_once(void **state)
{
	struct job jobs[AREAS];

	(void)state;
	map_pages(0, 4, NULL);
	for (unsigned i = 0; i < AREAS; i++) {
		jobs[i] = (struct job){.what = FAULT, .first = 2};
		start(&jobs[i]);
	}
	wait_for_entries(AREAS);
	assert_int_equal(inside(), 1);
	let_faults_go(AREAS); /* one would do, and the others are not called */
	for (unsigned i = 0; i < AREAS; i++)
		join(&jobs[i], ASPACE_OK);
	assert_int_equal(now.calls, 1);
	assert_int_equal(now.overlaps, 0);
}

static enum aspace_status refuse_once(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_vaddr address,
				      unsigned access)
{
	enum aspace_status status = own_fault(backend, area, address, access);

	return now.calls == 1 ? ASPACE_NO_MEMORY : status;
}

static void after_a_refusal_the_next_tries(void **state)
{
	struct job jobs[3];
	unsigned refused = 0;

	(void)state;
	ops.fault = refuse_once;
	map_pages(0, 4, NULL);
	for (unsigned i = 0; i < 3; i++) {
		jobs[i] = (struct job){.what = FAULT, .first = 2};
		start(&jobs[i]);
	}
	wait_for_entries(3);
	let_faults_go(3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(jobs[i].thread, NULL), 0);
		refused += jobs[i].status == ASPACE_NO_MEMORY;
	}
	assert_int_equal(refused, 1);
	assert_int_equal(now.calls, 2);
	assert_int_equal(now.overlaps, 0);
}

/* Without a span nobody knows what else was populated: each address is asked for. */
static void without_a_span_each_address_is_asked_for(void **state)
{
	struct job jobs[2] = {{.what = FAULT, .first = 1}, {.what = FAULT, .first = 2}};

	(void)state;
	ops.fault_span = NULL;
	map_pages(0, 4, NULL);
	start(&jobs[0]);
	wait_until(now.inside == 1);
	start(&jobs[1]);
	wait_for_entries(2);
	assert_int_equal(inside(), 1);
	let_faults_go(2);
	join(&jobs[0], ASPACE_OK);
	join(&jobs[1], ASPACE_OK);
	assert_int_equal(now.calls, 2);
	assert_int_equal(now.populations, 2);
}

/* A backend from before there were spans, and one that says so: under the writer lock. */
static void other_backends_are_called_under_the_lock(void **state)
{
	struct job job = {.what = FAULT};

	(void)state;
	for (int old = 0; old < 2; old++) {
		now.calls = 0;
		ops.size = old ? offsetof(struct aspace_backend_ops, fault_span) : sizeof(ops);
		ops.fault_span = old ? page_span : no_span;
		map_pages(0, 4, NULL);
		start(&job);
		wait_until(now.inside == 1);
		assert_status(ASPACE_BUSY, aspace_unmap(subject, pages(100, 101), ASPACE_NOWAIT));
		let_faults_go(1);
		join(&job, ASPACE_OK);
		assert_ok(aspace_unmap(subject, pages(0, 4), 0));
	}
}

/* ---- Faults beside writers ----------------------------------------------- */

static void writers_elsewhere_go_on(void **state)
{
	struct aspace_vaddr start_at;
	struct aspace_gap gap = {.size = PAGE};
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct aspace_txn *txn;
	struct job job = {.what = FAULT, .first = 5};

	(void)state;
	map_pages(0, 2, NULL);
	map_pages(4, 8, NULL);
	map_pages(8, 12, &job);
	start(&job);
	wait_until(now.inside == 1);
	assert_ok(aspace_map(subject, pages(20, 24), 1, &own, NULL, ASPACE_NOWAIT));
	assert_ok(aspace_map(subject, pages(3, 4), 1, &own, NULL, ASPACE_NOWAIT)); /* merges */
	assert_ok(aspace_map_anywhere(subject, &gap, 1, &own, NULL, ASPACE_NOWAIT, &start_at));
	assert_ok(aspace_unmap(subject, pages(0, 2), ASPACE_NOWAIT));
	assert_ok(aspace_protect(subject, pages(6, 12), 3, ASPACE_NOWAIT)); /* the same area */
	assert_ok(aspace_move(subject, pages(20, 24), at(50 * PAGE), ASPACE_NOWAIT));
	assert_ok(aspace_txn_begin(subject, ASPACE_NOWAIT, &txn));
	assert_ok(aspace_txn_unmap(txn, pages(50, 52), 0));
	assert_ok(aspace_txn_unmap(txn, pages(8, 9), 0));
	assert_ok(aspace_txn_unmap(txn, pages(3, 4), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_ok(aspace_stats(subject, &stats, ASPACE_NOWAIT));
	assert_ok(aspace_validate(subject, NULL, ASPACE_NOWAIT));
	assert_ok(aspace_trim(subject, ASPACE_NOWAIT));
	assert_int_equal(inside(), 1);
	let_faults_go(1);
	join(&job, ASPACE_OK);
}

static void a_fault_goes_on_beside_a_writer_elsewhere(void **state)
{
	struct job unmap = {.what = UNMAP, .first = 0, .end = 2};
	struct aspace_txn *txn;

	(void)state;
	now.blocks = false;
	now.hold_unmaps = true;
	map_pages(0, 2, NULL);
	map_pages(2, 4, &unmap);
	start(&unmap);
	wait_until(now.unmaps_inside == 1);
	assert_ok(aspace_fault(subject, at(2 * PAGE), ASPACE_ACCESS_READ, 0));
	assert_ok(aspace_fault(subject, at(2 * PAGE), ASPACE_ACCESS_READ, ASPACE_NOWAIT));
	/* Not where it is at work. */
	assert_status(ASPACE_BUSY,
		      aspace_fault(subject, at(PAGE), ASPACE_ACCESS_READ, ASPACE_NOWAIT));
	lock();
	now.hold_unmaps = false;
	unlock();
	join(&unmap, ASPACE_OK);
	/* Nor does an open transaction hold anybody off. */
	assert_ok(aspace_txn_begin(subject, 0, &txn));
	assert_ok(aspace_txn_unmap(txn, pages(2, 4), 0));
	assert_ok(aspace_fault(subject, at(2 * PAGE), ASPACE_ACCESS_READ, 0));
	aspace_txn_abort(txn);
}

static void a_fault_waits_for_the_writer_that_it_meets(void **state)
{
	struct job unmap = {.what = UNMAP, .first = 0, .end = 2};
	struct job fault = {.what = FAULT, .first = 1};

	(void)state;
	now.blocks = false;
	for (int transaction = 0; transaction < 2; transaction++) {
		now.hold_unmaps = true;
		now.events = now.unmaps = 0;
		map_pages(0, 2, NULL);
		unmap.what = transaction ? COMMIT : UNMAP;
		start(&unmap);
		wait_until(now.unmaps_inside == 1);
		start(&fault);
		wait_for_entries(transaction ? 2 : 1);
		lock();
		now.hold_unmaps = false;
		unlock();
		join(&unmap, ASPACE_OK);
		join(&fault, ASPACE_NOT_MAPPED);
		assert_int_equal(now.calls, 0);
	}
}

/* Whoever would change the area waits, or says BUSY. */
static void who_would_change_the_area_waits(void **state)
{
	static const struct {
		int what;
		const char *order;
	} cases[] = {
		{UNMAP, "fu"},  {PROTECT, "fp"}, {REPLACE, "fx"}, {MOVE, "fv"},
		{SHRINK, "fu"}, {GROW, "fm"},    {CLEAR, "fu"},   {COMMIT, "fmu"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct job fault = {.what = FAULT, .first = 3};
		struct job job = {.what = cases[i].what, .first = 2, .end = 4};
		struct job busy = {
			.what = cases[i].what, .first = 2, .end = 4, .how = ASPACE_NOWAIT};

		/* A shorter area must lose the page that is being populated. */
		map_pages(2, 4, NULL);
		lock();
		now.events = 0;
		unlock();
		start(&fault);
		wait_until(now.inside == 1);
		assert_status(ASPACE_BUSY, make(&busy));
		assert_string_equal(noted(), "");
		start(&job);
		wait_for_entries(2);
		/* No lock is held meanwhile (but by a transaction). */
		if (cases[i].what != COMMIT)
			assert_ok(aspace_unmap(subject, pages(70, 71), ASPACE_NOWAIT));
		let_faults_go(1);
		join(&fault, ASPACE_OK);
		join(&job, ASPACE_OK);
		assert_string_equal(noted(), cases[i].order);
		assert_ok(aspace_clear(subject, 0));
	}
}

static void places_are_kept(void **state)
{
	struct job first = {.what = FAULT, .first = 3}, last = {.what = FAULT, .first = 3};
	struct job protect = {.what = PROTECT, .first = 2, .end = 4};
	struct job replace = {.what = REPLACE, .first = 2, .end = 4};

	(void)state;
	map_pages(2, 4, NULL);
	now.events = 0;
	start(&first);
	wait_until(now.inside == 1);
	start(&protect);
	wait_for_entries(2);
	start(&replace);
	wait_for_entries(3);
	start(&last);
	wait_for_entries(4);
	/* Beside all of them. */
	for (unsigned i = 0; i < 100; i++) {
		assert_ok(aspace_map(subject, pages(100, 101), 1, &own, NULL, ASPACE_NOWAIT));
		assert_ok(aspace_unmap(subject, pages(100, 101), ASPACE_NOWAIT));
	}
	assert_status(ASPACE_BUSY,
		      aspace_fault(subject, at(2 * PAGE), ASPACE_ACCESS_READ, ASPACE_NOWAIT));
	lock();
	now.events = 0;
	unlock();
	let_faults_go(2);
	join(&first, ASPACE_OK);
	join(&protect, ASPACE_OK);
	join(&replace, ASPACE_OK);
	join(&last, ASPACE_OK);
	assert_string_equal(noted(), "fpxf");
}

/* In a section too: whoever is waited for waits for no reader. */
static void waiting_in_a_section(void **state)
{
	struct job fault = {.what = FAULT, .first = 3};
	struct aspace_view view;

	(void)state;
	map_pages(2, 4, NULL);
	start(&fault);
	wait_until(now.inside == 1);
	aspace_read_begin(subject, &view);
	let_faults_go(1);
	assert_ok(aspace_unmap(subject, pages(2, 4), 0));
	assert_status(ASPACE_NOT_MAPPED, aspace_fault(subject, at(3 * PAGE), 1, 0));
	aspace_read_end(&view);
	join(&fault, ASPACE_OK);
}

/* ---- Beneath a fault ------------------------------------------------------- */

static struct aspace *second;

static void updates_beneath(void)
{
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct aspace_gap gap = {.size = PAGE};
	struct aspace_vaddr start_at;
	struct aspace_txn *txn;
	struct aspace_area area;

	if (!now.calls++) {
		for (unsigned how = 0; how <= ASPACE_NOWAIT; how += ASPACE_NOWAIT) {
			assert_status(ASPACE_DEADLOCK,
				      aspace_map(subject, pages(50, 51), 1, &own, NULL, how));
			assert_status(ASPACE_DEADLOCK, aspace_map_anywhere(subject, &gap, 1, &own,
									   NULL, how, &start_at));
			assert_status(ASPACE_DEADLOCK, aspace_unmap(subject, pages(0, 1), how));
			assert_status(ASPACE_DEADLOCK,
				      aspace_protect(subject, pages(0, 1), 2, how));
			assert_status(ASPACE_DEADLOCK, aspace_clear(subject, how));
			assert_status(ASPACE_DEADLOCK,
				      aspace_move(subject, pages(0, 1), at(90 * PAGE), how));
			assert_status(ASPACE_DEADLOCK, aspace_resize(subject, at(0), PAGE, how));
			assert_status(ASPACE_DEADLOCK, aspace_txn_begin(subject, how, &txn));
			assert_status(ASPACE_DEADLOCK, aspace_quiesce(subject, how));
			assert_status(ASPACE_DEADLOCK, aspace_trim(subject, how));
			assert_status(ASPACE_DEADLOCK, aspace_stats(subject, &stats, how));
			assert_status(ASPACE_DEADLOCK, aspace_validate(subject, NULL, how));
			assert_status(ASPACE_DEADLOCK, aspace_destroy(subject, how));
			/* Where we are. */
			assert_status(ASPACE_DEADLOCK, aspace_fault(subject, at(0), 1, how));
		}
		/* Elsewhere. */
		assert_ok(aspace_fault(subject, at(PAGE), 1, 0));
		assert_ok(aspace_find(subject, at(0), &area));
		/* Another space: all but waiting for readers. */
		assert_ok(aspace_map(second, pages(50, 51), 1, &own, NULL, 0));
		assert_status(ASPACE_BUSY, aspace_quiesce(second, 0));
		assert_status(ASPACE_BUSY, aspace_destroy(second, 0));
	}
}

static void an_update_beneath_a_fault_is_a_deadlock(void **state)
{
	struct job reader = {.what = READ};

	(void)state;
	/* Who is at work in a space may become the writer of an earlier one. */
	assert_ok(aspace_destroy(subject, 0));
	assert_ok(aspace_create(NULL, &second));
	open_space(0);
	now.reads = true;
	start(&reader);
	wait_until(now.reading);
	now.blocks = false;
	now.in_fault = updates_beneath;
	assert_ok(aspace_map(second, pages(1, 2), 1, &own, NULL, 0));
	assert_ok(aspace_unmap(second, pages(1, 2), 0));
	map_pages(0, 4, NULL);
	assert_ok(aspace_fault(subject, at(0), 1, 0));
	now.in_fault = NULL;
	lock();
	now.reads = false;
	unlock();
	join(&reader, ASPACE_OK);
	assert_ok(aspace_destroy(second, 0));
}

static struct aspace_txn *open_txn;

static void transaction_beneath(void)
{
	struct aspace_area area;

	assert_status(ASPACE_DEADLOCK, aspace_txn_unmap(open_txn, pages(0, 4), 0));
	assert_status(ASPACE_DEADLOCK, aspace_txn_find(open_txn, at(0), &area));
	assert_status(ASPACE_DEADLOCK, aspace_txn_commit(open_txn));
	aspace_txn_abort(open_txn); /* does nothing */
	now.calls++;
}

static void a_transaction_cannot_be_used_beneath_a_fault(void **state)
{
	(void)state;
	now.blocks = false;
	map_pages(0, 4, NULL);
	assert_ok(aspace_txn_begin(subject, 0, &open_txn));
	assert_ok(aspace_txn_unmap(open_txn, pages(0, 2), 0));
	now.in_fault = transaction_beneath;
	assert_ok(aspace_fault(subject, at(0), 1, 0));
	now.in_fault = NULL;
	assert_ok(aspace_txn_commit(open_txn));
	assert_status(ASPACE_NOT_MAPPED, aspace_fault(subject, at(0), 1, 0));
	assert_ok(aspace_fault(subject, at(2 * PAGE), 1, 0));
}

/* In a callback under the writer lock: where it is at work DEADLOCK, elsewhere it goes through. */
static enum aspace_status fault_in_protect(struct aspace_backend *backend,
					   const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	assert_status(ASPACE_DEADLOCK, aspace_fault(subject, at(PAGE), 1, 0));
	assert_status(ASPACE_DEADLOCK, aspace_fault(subject, at(PAGE), 1, ASPACE_NOWAIT));
	assert_ok(aspace_fault(subject, at(2 * PAGE), 1, 0));
	return ASPACE_OK;
}

static void a_fault_beneath_an_update(void **state)
{
	(void)state;
	now.blocks = false;
	ops.protect = fault_in_protect;
	map_pages(0, 4, NULL);
	assert_ok(aspace_protect(subject, pages(0, 2), 3, 0));
	assert_int_equal(now.calls, 1);
}

/* A thread with the writer lock of another space does not wait for a fault. */
static void with_another_spaces_lock_it_is_busy(void **state)
{
	struct job fault = {.what = FAULT, .first = 3};
	struct aspace_txn *txn;

	(void)state;
	assert_ok(aspace_create(NULL, &second));
	map_pages(2, 4, NULL);
	start(&fault);
	wait_until(now.inside == 1);
	assert_ok(aspace_txn_begin(second, 0, &txn));
	assert_status(ASPACE_BUSY, aspace_unmap(subject, pages(2, 4), 0));
	assert_status(ASPACE_BUSY, aspace_fault(subject, at(3 * PAGE), 1, 0));
	aspace_txn_abort(txn);
	let_faults_go(1);
	join(&fault, ASPACE_OK);
	assert_ok(aspace_destroy(second, 0));
}

/* ---- What a pin keeps ------------------------------------------------------ */

static void a_pin_covers_the_area_where_references_are_counted(void **state)
{
	struct job fault = {.what = FAULT, .first = 3};

	(void)state;
	ops.release = own_release;
	map_pages(2, 6, &own);
	start(&fault);
	wait_until(now.inside == 1);
	assert_status(ASPACE_BUSY, aspace_unmap(subject, pages(5, 6), ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_protect(subject, pages(5, 6), 3, ASPACE_NOWAIT));
	let_faults_go(1);
	join(&fault, ASPACE_OK);
}

/* It holds writers off from all of the area, and faults and advice from its span alone. */
static void beside_each_other_where_references_are_counted(void **state)
{
	struct job faults[] = {{.what = FAULT, .first = 3}, {.what = FAULT, .first = 5}};

	(void)state;
	ops.release = own_release;
	map_pages(2, 6, &own);
	start(&faults[0]);
	wait_until(now.inside == 1);
	start(&faults[1]);
	wait_until(now.inside == 2);
	assert_status(ASPACE_BUSY, aspace_fault(subject, at(3 * PAGE), 1, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_unmap(subject, pages(4, 5), ASPACE_NOWAIT));
	assert_ok(aspace_validate(subject, NULL, 0));
	let_faults_go(2);
	join(&faults[0], ASPACE_OK);
	join(&faults[1], ASPACE_OK);
	assert_int_equal(now.calls, 2);
}

static bool merge_all(struct aspace_backend *backend, const struct aspace_area *left,
		      const struct aspace_area *right)
{
	(void)backend;
	(void)left;
	(void)right;
	return true;
}

/* A merge gives the reference up beside the fault; but it is released after it. */
static void a_pin_keeps_the_user_object(void **state)
{
	struct job fault = {.what = FAULT, .first = 3};
	struct job quiesce = {.what = QUIESCE};
	int left, right;

	(void)state;
	ops.release = own_release;
	ops.can_merge = merge_all;
	map_pages(2, 4, &right);
	start(&fault);
	wait_until(now.inside == 1);
	map_pages(0, 2, &left);
	assert_int_equal(aspace_count(subject), 1);
	assert_status(ASPACE_BUSY, aspace_quiesce(subject, ASPACE_NOWAIT));
	start(&quiesce);
	/* Others are released: the list is not held up. */
	map_pages(20, 21, &own);
	assert_ok(aspace_unmap(subject, pages(20, 21), 0));
	wait_until(now.releases == 1);
	assert_ptr_equal(now.released, &own);
	assert_ok(aspace_validate(subject, NULL, 0));
	lock();
	now.events = 0;
	unlock();
	let_faults_go(1);
	join(&fault, ASPACE_OK);
	join(&quiesce, ASPACE_OK);
	assert_ptr_equal(now.released, &right);
	assert_string_equal(noted(), "fr");
}

/* A leaving area still has its memory, and may be populated; it goes after the fault, and nothing
 * else waits for that. */
static void a_leaving_area_waits_for_its_fault(void **state)
{
	struct job fault = {.what = FAULT, .first = 3};
	struct job quiesce = {.what = QUIESCE};

	(void)state;
	map_pages(2, 4, NULL);
	map_pages(10, 12, NULL);
	start(&fault);
	wait_until(now.inside == 1);
	assert_ok(aspace_unmap(subject, pages(2, 4), ASPACE_NOWAIT));
	assert_ok(aspace_unmap(subject, pages(10, 12), ASPACE_NOWAIT));
	wait_until(now.unmaps == 1); /* the second */
	assert_ok(aspace_validate(subject, NULL, 0));
	assert_true(aspace_overlaps(subject, pages(2, 4)));
	while (aspace_overlaps(subject, pages(10, 12)))
		;
	lock();
	now.events = 0;
	unlock();
	start(&quiesce);
	let_faults_go(1);
	join(&fault, ASPACE_OK);
	join(&quiesce, ASPACE_OK);
	assert_string_equal(noted(), "fu");
	assert_false(aspace_overlaps(subject, pages(2, 4)));
}

/* ---- What the tests look at ------------------------------------------------- */

#include "space/space.h"

static void wait_for_entries(uint32_t entries)
{
	bool reached = false;

	while (!reached) {
		uint32_t waiting = 0, listed = 0;

		asp_mutex_acquire(&subject->pins.lock);
		listed = atomic_load(&subject->pins.used);
		waiting = count_awaiting(subject) + atomic_load(&subject->pins.behind);
		reached = listed == entries && waiting + 1 >= entries;
		asp_mutex_release(&subject->pins.lock);
		sched_yield();
	}
}

int main(void)
{
#define plain(test) cmocka_unit_test_setup_teardown(test, open_plain, close_space)
#define grace(test) cmocka_unit_test_setup_teardown(test, open_grace, close_space)
	const struct CMUnitTest tests[] = {
		plain(faults_in_different_areas_run_at_once),
		plain(faults_in_different_spans_of_an_area_run_at_once),
		plain(a_span_is_populated_once),
		plain(after_a_refusal_the_next_tries),
		plain(without_a_span_each_address_is_asked_for),
		plain(other_backends_are_called_under_the_lock),
		plain(writers_elsewhere_go_on),
		plain(a_fault_goes_on_beside_a_writer_elsewhere),
		plain(a_fault_waits_for_the_writer_that_it_meets),
		plain(who_would_change_the_area_waits),
		plain(places_are_kept),
		plain(waiting_in_a_section),
		plain(an_update_beneath_a_fault_is_a_deadlock),
		plain(a_transaction_cannot_be_used_beneath_a_fault),
		plain(a_fault_beneath_an_update),
		plain(with_another_spaces_lock_it_is_busy),
		plain(a_pin_covers_the_area_where_references_are_counted),
		plain(beside_each_other_where_references_are_counted),
		plain(a_pin_keeps_the_user_object),
		grace(a_leaving_area_waits_for_its_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
