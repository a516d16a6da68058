/* SPDX-License-Identifier: MIT */
/*
 * Advice (W1): what it reaches, what holds it off, what it holds off and what it does not; and what
 * readers keep in a grace-unmap space (R5).
 *
 * The backend's `advise` waits, where a test says so, until that lets it go on. As in
 * test_conformance_faults.c: where something must go on beside another thing the test would
 * hang if it did not, and where something must *not*, the order of both was noted.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include <aspace/backend/null.h>

#include "../listed.h"
#include "conformance/support.h"
#include "space/space.h"

#define PAGE  UINT64_C(0x1000)
#define AREAS 8
#define DROP  ASPACE_ADVICE_DROP
#define COLD  ASPACE_ADVICE_COLD

static struct aspace *subject;
static struct aspace_backend_ops ops;
static struct aspace_backend own;

/* ---- Meeting ------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct {
	unsigned inside, calls; /* of `advise` */
	unsigned faults;
	unsigned open; /* so many may end; counts down */
	bool blocks;
	unsigned overlaps;
	struct aspace_range at[16]; /* where they are inside */
	struct aspace_range last;
	struct aspace_area area;
	enum aspace_advice advice;
	/* The call with this number (from 1) refuses, */
	unsigned refuse_at;
	enum aspace_status refusal;
	/* and says that it has reached this. */
	uint64_t refused_at;
	uint64_t part; /* pages that one call does; 0: all */
	char events[256];
	unsigned unmaps_inside;
	bool hold_unmaps;
	bool reads, reading; /* a reader's section lasts while the first says so */
	void (*in_advise)(void);
	unsigned done; /* threads of the test that have returned from their call */
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

/* What happened, in order: 'a' an advice ends, 'f' a fault, 'u' unmap, 'p' protect, ... */
static void note(char what)
{
	size_t length = strlen(now.events);

	if (length + 1 < sizeof(now.events))
		now.events[length] = what;
}

static void forget_events(void)
{
	lock();
	memset(now.events, 0, sizeof(now.events));
	unlock();
}

static bool meet(struct aspace_range a, struct aspace_range b)
{
	return a.start.value < b.end.value && b.start.value < a.end.value;
}

/* ---- The backend --------------------------------------------------------- */

static void come_in(struct aspace_range range)
{
	for (unsigned i = 0; i < now.inside; i++)
		now.overlaps += meet(now.at[i], range);
	now.at[now.inside++] = range;
	pthread_cond_broadcast(&changed);
}

static void go_out(struct aspace_range range)
{
	for (unsigned i = 0; i < now.inside; i++) {
		if (now.at[i].start.value != range.start.value)
			continue;
		now.at[i] = now.at[--now.inside];
		return;
	}
}

static enum aspace_status own_advise(struct aspace_backend *backend, const struct aspace_area *area,
				     struct aspace_range range, enum aspace_advice advice,
				     struct aspace_vaddr *reached)
{
	bool refuses;

	assert_ptr_equal(backend, &own);
	assert_ptr_equal(area->backend, &own);
	assert_true(area->start.value <= range.start.value && range.end.value <= area->end.value);
	assert_true(range.start.value < range.end.value);
	assert_int_equal(reached->value, range.end.value);
	if (now.in_advise)
		now.in_advise();
	lock();
	refuses = ++now.calls == now.refuse_at;
	now.area = *area;
	now.last = range;
	now.advice = advice;
	come_in(range);
	while (now.blocks && !now.open)
		pthread_cond_wait(&changed, &mutex);
	if (now.blocks)
		now.open--;
	go_out(range);
	note('a');
	unlock();
	if (refuses) {
		if (now.refused_at)
			reached->value = now.refused_at;
		return now.refusal;
	}
	if (now.part && range.end.value - range.start.value > now.part * PAGE)
		reached->value = range.start.value + now.part * PAGE;
	return ASPACE_OK;
}

static enum aspace_status own_fault(struct aspace_backend *backend, const struct aspace_area *area,
				    struct aspace_vaddr address, unsigned access)
{
	struct aspace_range page = aspace_range_of(address.value, address.value + PAGE);

	(void)backend;
	(void)area;
	(void)access;
	lock();
	now.faults++;
	come_in(page);
	go_out(page);
	note('f');
	unlock();
	return ASPACE_OK;
}

static void change(const struct aspace_change *change, char what)
{
	lock();
	for (unsigned i = 0; i < now.inside; i++)
		now.overlaps += meet(now.at[i], change->range);
	note(what);
	unlock();
}

static enum aspace_status own_unmap(struct aspace_backend *backend, const struct aspace_change *c)
{
	(void)backend;
	lock();
	now.unmaps_inside++;
	pthread_cond_broadcast(&changed);
	while (now.hold_unmaps)
		pthread_cond_wait(&changed, &mutex);
	now.unmaps_inside--;
	unlock();
	change(c, 'u');
	return ASPACE_OK;
}

#define NOTES(name, what)                                                                          \
	static enum aspace_status name(struct aspace_backend *backend,                             \
				       const struct aspace_change *c)                              \
	{                                                                                          \
		(void)backend;                                                                     \
		change(c, what);                                                                   \
		return ASPACE_OK;                                                                  \
	}
NOTES(own_map, 'm')
NOTES(own_protect, 'p')
NOTES(own_replace, 'x')
NOTES(own_move, 'v')

static void own_release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	lock();
	note('r');
	unlock();
}

static uint64_t page_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend;
	(void)area;
	return PAGE;
}

static void open_space(unsigned mode)
{
	const struct aspace_options options = {.size = sizeof(options), .mode = mode};

	assert_ok(aspace_create(&options, &subject));
	memset(&now, 0, sizeof(now));
	ops = (struct aspace_backend_ops){
		.size = sizeof(ops),
		.map = own_map,
		.unmap = own_unmap,
		.protect = own_protect,
		.replace = own_replace,
		.move = own_move,
		.fault = own_fault,
		.fault_span = page_span,
		.advise = own_advise,
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

static enum aspace_status advise(uint64_t first, uint64_t end, enum aspace_advice advice,
				 unsigned how)
{
	return aspace_advise(subject, pages(first, end), advice, how);
}

static int open_plain(void **state)
{
	(void)state;
	open_space(0);
	return 0;
}

/* Whose calls wait. */
static int open_blocking(void **state)
{
	(void)state;
	open_space(0);
	now.blocks = true;
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
	assert_int_equal(now.overlaps, 0);
	assert_ok(aspace_validate(subject, &violation, 0));
	assert_ok(aspace_destroy(subject, 0));
	return 0;
}

/* ---- Threads ------------------------------------------------------------- */

struct job {
	enum {
		ADVISE,
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
	enum aspace_advice advice; /* 0: COLD */
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
	case ADVISE:
		return aspace_advise(subject, part, job->advice ? job->advice : COLD, job->how);
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

static void let_go(unsigned count)
{
	lock();
	now.open += count;
	unlock();
}

/* Until so many are on the list of pins, and all but one of them sleep. */
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

static uint64_t version(void)
{
	struct aspace_view view;

	aspace_read_begin(subject, &view);
	aspace_read_end(&view);
	return view.version;
}

/* ---- What it reaches ------------------------------------------------------- */

static void only_what_is_in_the_range_is_advised(void **state)
{
	int left, right;
	uint64_t before;

	(void)state;
	map_pages(0, 4, &left);
	map_pages(4, 8, &right);
	before = version();
	assert_ok(advise(2, 4, COLD, 0));
	assert_int_equal(now.calls, 1);
	assert_int_equal(now.advice, COLD);
	assert_int_equal(now.last.start.value, 2 * PAGE);
	assert_int_equal(now.last.end.value, 4 * PAGE);
	/* The area is told whole. */
	assert_int_equal(now.area.start.value, 0);
	assert_int_equal(now.area.end.value, 4 * PAGE);
	assert_int_equal(now.area.flags, 1);
	assert_ptr_equal(now.area.user, &left);
	/* A part of each. */
	assert_ok(advise(3, 5, COLD, 0));
	assert_int_equal(now.calls, 3);
	assert_int_equal(now.last.start.value, 4 * PAGE);
	assert_int_equal(now.last.end.value, 5 * PAGE);
	assert_ptr_equal(now.area.user, &right);
	/* Each advice as it was given; none publishes a version. */
	for (unsigned i = ASPACE_ADVICE_POPULATE_READ; i <= ASPACE_ADVICE_NORMAL; i++) {
		assert_ok(advise(0, 1, (enum aspace_advice)i, 0));
		assert_int_equal(now.advice, i);
	}
	assert_int_equal(version(), before);
	assert_int_equal(aspace_count(subject), 2);
}

static void holes_are_as_in_unmap(void **state)
{
	struct aspace_vaddr reached;

	(void)state;
	map_pages(2, 4, NULL);
	map_pages(6, 8, NULL);
	assert_ok(advise(0, 10, COLD, 0));
	assert_int_equal(now.calls, 2);
	assert_ok(advise(4, 6, COLD, 0));
	assert_ok(advise(0, 2, COLD, 0));
	assert_ok(advise(100, 102, COLD, 0));
	assert_int_equal(now.calls, 2);
	/* Wherever the hole is, nothing is done. */
	assert_status(ASPACE_NOT_MAPPED, advise(1, 4, COLD, ASPACE_STRICT));
	assert_status(ASPACE_NOT_MAPPED, advise(2, 5, COLD, ASPACE_STRICT));
	assert_status(ASPACE_NOT_MAPPED, advise(2, 8, COLD, ASPACE_STRICT));
	assert_status(ASPACE_NOT_MAPPED, advise(100, 102, COLD, ASPACE_STRICT));
	assert_status(ASPACE_NOT_MAPPED,
		      aspace_advise_part(subject, pages(2, 8), COLD, ASPACE_STRICT, &reached));
	assert_int_equal(reached.value, 2 * PAGE);
	assert_int_equal(now.calls, 2);
	assert_ok(advise(2, 4, COLD, ASPACE_STRICT));
	assert_ok(aspace_advise_part(subject, pages(0, 9), COLD, 0, &reached));
	assert_int_equal(reached.value, 9 * PAGE);
	assert_int_equal(now.calls, 5);
}

static void a_space_can_always_be_strict(void **state)
{
	struct aspace *plain = subject;

	(void)state;
	open_space(ASPACE_ALWAYS_STRICT);
	map_pages(2, 4, NULL);
	assert_status(ASPACE_NOT_MAPPED, advise(2, 5, COLD, 0));
	assert_ok(advise(2, 4, COLD, 0));
	assert_int_equal(now.calls, 1);
	assert_ok(aspace_destroy(subject, 0));
	subject = plain;
}

static void what_cannot_be_is_refused_before_anything_is_done(void **state)
{
	static const struct {
		struct aspace_range range;
		unsigned advice, how;
	} bad[] = {
		{{{0}, {0}}, COLD, 0},
		{{{PAGE}, {0}}, COLD, 0},
		{{{PAGE}, {PAGE}}, COLD, ASPACE_NOWAIT},
		{{{0}, {UINT64_MAX}},
		 COLD,
		 0}, /* the backend's granule, where the area ends beyond */
		{{{0}, {PAGE}}, 0, 0},
		{{{0}, {PAGE}}, ASPACE_ADVICE_NORMAL + 1, 0},
		{{{0}, {PAGE}}, 0x10000, 0},
		{{{0}, {PAGE}}, UINT32_MAX, 0},
		{{{0}, {PAGE}}, COLD, 8},
		{{{0}, {PAGE}}, COLD, 1u << 31},
		{{{0}, {PAGE + 1}}, COLD, 0},
		{{{1}, {PAGE}}, COLD, 0},
		{{{0}, {7 * PAGE + 1}}, COLD, 0}, /* the second area's piece */
	};
	struct aspace_backend mute = {.flags_mask = 7};
	struct aspace_backend_ops mute_ops;
	struct aspace_vaddr reached;

	(void)state;
	own.granule = PAGE;
	map_pages(0, 4, NULL);
	map_pages(6, 8, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (i == 3)
			continue; /* the top of the space is on no granule, but the piece is */
		reached.value = 77;
		assert_status(ASPACE_INVALID_PARAM,
			      aspace_advise_part(subject, bad[i].range,
						 (enum aspace_advice)bad[i].advice, bad[i].how,
						 &reached));
		assert_int_equal(reached.value, bad[i].range.start.value);
		assert_int_equal(now.calls, 0);
	}
	assert_ok(aspace_advise(subject, bad[3].range, COLD, 0));
	assert_int_equal(now.calls, 2);
	/* Outside of areas nobody has a granule. */
	assert_ok(aspace_advise(subject, range(5 * PAGE - 1, 6 * PAGE), COLD, 0));

	/* A table that has no such operation, or ends before it. */
	now.calls = 0;
	for (int shorter = 0; shorter < 2; shorter++) {
		mute_ops = ops;
		mute.ops = &mute_ops;
		if (shorter)
			mute_ops.size = offsetof(struct aspace_backend_ops, advise);
		else
			mute_ops.advise = NULL;
		assert_ok(aspace_map(subject, pages(10, 12), 1, &mute, NULL, 0));
		assert_status(ASPACE_NOT_SUPPORTED, advise(0, 20, COLD, 0));
		assert_status(ASPACE_NOT_SUPPORTED, advise(11, 12, COLD, 0));
		assert_ok(aspace_unmap(subject, pages(10, 12), 0));
	}
	assert_int_equal(now.calls, 0);
}

/* What was advised stays, and it is said how far that came. */
static void a_refusal_says_how_far_it_came(void **state)
{
	struct aspace_vaddr reached;
	int users[3];

	(void)state;
	map_pages(1, 3, &users[0]);
	assert_ok(aspace_map(subject, pages(4, 6), 1, aspace_null_backend(), NULL, 0));
	map_pages(6, 10, &users[1]);
	map_pages(12, 14, &users[2]);
	now.refuse_at = 2;
	now.refusal = ASPACE_NO_MEMORY;
	assert_status(ASPACE_NO_MEMORY,
		      aspace_advise_part(subject, pages(0, 14), COLD, 0, &reached));
	assert_int_equal(now.calls, 2);
	assert_int_equal(reached.value, 6 * PAGE);
	/* Half way into an area. */
	now.calls = 0;
	now.refused_at = 8 * PAGE;
	assert_status(ASPACE_NO_MEMORY,
		      aspace_advise_part(subject, pages(0, 14), COLD, 0, &reached));
	assert_int_equal(reached.value, 8 * PAGE);
	/* And on from there. */
	now.calls = 0;
	now.refuse_at = 0;
	assert_ok(aspace_advise_part(subject, range(reached.value, 14 * PAGE), COLD, 0, &reached));
	assert_int_equal(now.calls, 2);
	assert_int_equal(reached.value, 14 * PAGE);
	/* Nonsense from a backend is taken for nothing. */
	for (unsigned i = 0; i < 3; i++) {
		static const uint64_t nonsense[] = {1, 500 * PAGE, UINT64_MAX};

		now.calls = 0;
		now.refuse_at = 2;
		now.refused_at = nonsense[i];
		assert_status(ASPACE_NO_MEMORY,
			      aspace_advise_part(subject, pages(0, 14), COLD, 0, &reached));
		assert_int_equal(reached.value, 6 * PAGE);
	}
	assert_status(ASPACE_NO_MEMORY, (now.calls = 0, advise(0, 14, COLD, 0)));
	/* The first of all. */
	now.calls = 0;
	now.refuse_at = 1;
	now.refused_at = 0;
	assert_status(ASPACE_NO_MEMORY,
		      aspace_advise_part(subject, pages(0, 14), COLD, 0, &reached));
	assert_int_equal(reached.value, PAGE);
}

/* ---- Beside each other ----------------------------------------------------- */

static void in_different_areas_it_runs_at_once(void **state)
{
	struct job jobs[AREAS];

	(void)state;
	ops.release = own_release; /* so that each holds its area whole */
	for (unsigned i = 0; i < AREAS; i++) {
		map_pages(UINT64_C(2) * i, UINT64_C(2) * i + 2, &jobs[i]);
		jobs[i] = (struct job){
			.what = ADVISE, .first = UINT64_C(2) * i, .end = UINT64_C(2) * i + 2};
	}
	for (unsigned i = 0; i < AREAS; i++)
		start(&jobs[i]);
	wait_until(now.inside == AREAS);
	let_go(AREAS);
	for (unsigned i = 0; i < AREAS; i++)
		join(&jobs[i], ASPACE_OK);
	assert_int_equal(now.calls, AREAS);
}

static void in_different_parts_of_an_area_it_runs_at_once(void **state)
{
	struct job jobs[AREAS];

	(void)state;
	map_pages(0, AREAS, NULL);
	for (unsigned i = 0; i < AREAS; i++) {
		jobs[i] = (struct job){
			.what = ADVISE, .first = i, .end = i + 1, .how = i % 2 ? ASPACE_NOWAIT : 0};
		start(&jobs[i]);
	}
	wait_until(now.inside == AREAS);
	let_go(AREAS);
	for (unsigned i = 0; i < AREAS; i++)
		join(&jobs[i], ASPACE_OK);
}

static void in_one_place_one_comes_after_the_other(void **state)
{
	struct job jobs[4];

	(void)state;
	map_pages(0, 8, NULL);
	for (unsigned i = 0; i < 4; i++)
		jobs[i] = (struct job){.what = ADVISE, .first = i, .end = 5};
	start(&jobs[0]);
	wait_until(now.inside == 1);
	assert_status(ASPACE_BUSY, advise(4, 8, COLD, ASPACE_NOWAIT));
	for (unsigned i = 1; i < 4; i++)
		start(&jobs[i]);
	wait_for_entries(4);
	assert_int_equal(inside(), 1);
	let_go(4);
	for (unsigned i = 0; i < 4; i++)
		join(&jobs[i], ASPACE_OK);
	assert_int_equal(now.calls, 4); /* none is served by another */
}

static void beside_faults(void **state)
{
	struct job job = {.what = ADVISE, .first = 2, .end = 4};
	struct job fault = {.what = FAULT, .first = 3};

	(void)state;
	map_pages(0, 8, NULL);
	start(&job);
	wait_until(now.inside == 1);
	assert_ok(aspace_fault(subject, at(PAGE), 1, ASPACE_NOWAIT));
	assert_ok(aspace_fault(subject, at(4 * PAGE), 1, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_fault(subject, at(2 * PAGE), 1, ASPACE_NOWAIT));
	start(&fault);
	wait_for_entries(2);
	forget_events();
	let_go(1);
	join(&job, ASPACE_OK);
	join(&fault, ASPACE_OK);
	assert_string_equal(now.events, "af");
}

static void beside_writers_elsewhere(void **state)
{
	struct aspace_vaddr start_at;
	struct aspace_gap gap = {.size = PAGE};
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct aspace_txn *txn;
	struct job job = {.what = ADVISE, .first = 5, .end = 6, .advice = DROP};

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
	assert_ok(aspace_txn_unmap(txn, pages(3, 4), 0));
	assert_ok(aspace_txn_commit(txn));
	assert_ok(aspace_stats(subject, &stats, ASPACE_NOWAIT));
	assert_ok(aspace_validate(subject, NULL, ASPACE_NOWAIT));
	assert_ok(aspace_trim(subject, ASPACE_NOWAIT));
	assert_int_equal(inside(), 1);
	let_go(1);
	join(&job, ASPACE_OK);
}

static void it_goes_on_beside_a_writer_elsewhere(void **state)
{
	struct job unmap = {.what = UNMAP, .first = 0, .end = 2};
	struct job job = {.what = ADVISE, .first = 1, .end = 4};
	struct aspace_vaddr reached;
	struct aspace_txn *txn;

	(void)state;
	now.hold_unmaps = true;
	map_pages(0, 2, NULL);
	map_pages(2, 4, &unmap);
	start(&unmap);
	wait_until(now.unmaps_inside == 1);
	assert_ok(advise(2, 4, DROP, ASPACE_NOWAIT));
	/* Not where that is at work. */
	assert_status(ASPACE_BUSY, advise(1, 4, COLD, ASPACE_NOWAIT));
	assert_int_equal(now.calls, 1);
	start(&job);
	wait_for_entries(1);
	lock();
	now.hold_unmaps = false;
	unlock();
	join(&unmap, ASPACE_OK);
	join(&job, ASPACE_OK);
	assert_int_equal(now.calls, 2); /* what is still there */
	assert_int_equal(now.last.start.value, 2 * PAGE);
	/* An open transaction holds nobody off, nor is it in the way of its own thread. */
	assert_ok(aspace_txn_begin(subject, 0, &txn));
	assert_ok(aspace_txn_unmap(txn, pages(2, 4), 0));
	assert_ok(aspace_advise_part(subject, pages(2, 4), COLD, ASPACE_STRICT, &reached));
	aspace_txn_abort(txn);
	assert_int_equal(now.calls, 3);
}

/* Whoever would change what is advised about waits, or says BUSY. */
static void who_would_change_it_waits(void **state)
{
	static const struct {
		int what;
		const char *order;
	} cases[] = {
		{UNMAP, "au"},  {PROTECT, "ap"}, {REPLACE, "ax"}, {MOVE, "av"},
		{SHRINK, "au"}, {GROW, "am"},    {CLEAR, "au"},   {COMMIT, "amu"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct job advice = {.what = ADVISE, .first = 3, .end = 4};
		struct job job = {.what = cases[i].what, .first = 2, .end = 4};
		struct job busy = {
			.what = cases[i].what, .first = 2, .end = 4, .how = ASPACE_NOWAIT};

		map_pages(2, 4, NULL);
		forget_events();
		start(&advice);
		wait_until(now.inside == 1);
		assert_status(ASPACE_BUSY, make(&busy));
		start(&job);
		wait_for_entries(2);
		/* No lock is held meanwhile (but by a transaction). */
		if (cases[i].what != COMMIT)
			assert_ok(aspace_unmap(subject, pages(70, 71), ASPACE_NOWAIT));
		let_go(1);
		join(&advice, ASPACE_OK);
		join(&job, ASPACE_OK);
		assert_string_equal(now.events, cases[i].order);
		assert_ok(aspace_clear(subject, 0));
	}
}

static void places_are_kept(void **state)
{
	struct job first = {.what = ADVISE, .first = 3, .end = 4};
	struct job protect = {.what = PROTECT, .first = 2, .end = 4};
	struct job fault = {.what = FAULT, .first = 3};
	struct job last = {.what = ADVISE, .first = 2, .end = 4};

	(void)state;
	map_pages(2, 4, NULL);
	start(&first);
	wait_until(now.inside == 1);
	start(&protect);
	wait_for_entries(2);
	start(&fault);
	wait_for_entries(3);
	start(&last);
	wait_for_entries(4);
	/* Beside all of them. */
	for (unsigned i = 0; i < 100; i++) {
		assert_ok(aspace_map(subject, pages(100, 101), 1, &own, NULL, ASPACE_NOWAIT));
		assert_ok(aspace_unmap(subject, pages(100, 101), ASPACE_NOWAIT));
	}
	assert_status(ASPACE_BUSY, advise(2, 3, COLD, ASPACE_NOWAIT));
	forget_events();
	let_go(2);
	join(&first, ASPACE_OK);
	join(&protect, ASPACE_OK);
	join(&fault, ASPACE_OK);
	join(&last, ASPACE_OK);
	assert_string_equal(now.events, "apfa");
}

/* A backend that does a part lets others in, and then meets what they have left. */
static void between_parts_others_come_in(void **state)
{
	struct job job = {.what = ADVISE, .first = 0, .end = 8};
	struct job unmap = {.what = UNMAP, .first = 1, .end = 5};

	(void)state;
	now.part = 2;
	map_pages(0, 8, NULL);
	start(&job);
	wait_until(now.inside == 1);
	start(&unmap);
	wait_for_entries(2);
	forget_events();
	let_go(4);
	join(&unmap, ASPACE_OK);
	join(&job, ASPACE_OK);
	/* [0, 2), [5, 7), [7, 8) */
	assert_string_equal(now.events, "auaa");
	assert_int_equal(now.last.start.value, 7 * PAGE);
	assert_int_equal(now.last.end.value, 8 * PAGE);
}

/* ---- Beneath it, and in callbacks ------------------------------------------ */

static struct aspace *second;

static void updates_beneath(void)
{
	struct aspace_txn *txn;
	struct aspace_area area;

	if (now.calls)
		return;
	now.calls++;
	for (unsigned how = 0; how <= ASPACE_NOWAIT; how += ASPACE_NOWAIT) {
		assert_status(ASPACE_DEADLOCK,
			      aspace_map(subject, pages(50, 51), 1, &own, NULL, how));
		assert_status(ASPACE_DEADLOCK, aspace_unmap(subject, pages(0, 1), how));
		assert_status(ASPACE_DEADLOCK, aspace_protect(subject, pages(0, 1), 2, how));
		assert_status(ASPACE_DEADLOCK, aspace_txn_begin(subject, how, &txn));
		assert_status(ASPACE_DEADLOCK, aspace_quiesce(subject, how));
		assert_status(ASPACE_DEADLOCK, aspace_destroy(subject, how));
		/* Where we are. */
		assert_status(ASPACE_DEADLOCK, advise(0, 1, COLD, how));
		assert_status(ASPACE_DEADLOCK, advise(0, 4, COLD, how));
		assert_status(ASPACE_DEADLOCK, aspace_fault(subject, at(0), 1, how));
	}
	/* Elsewhere. */
	assert_ok(advise(2, 3, COLD, 0));
	assert_ok(aspace_fault(subject, at(PAGE), 1, 0));
	assert_ok(aspace_find(subject, at(0), &area));
	/* Another space: all but waiting for readers. */
	assert_ok(aspace_map(second, pages(50, 51), 1, &own, NULL, 0));
	assert_ok(aspace_advise(second, pages(50, 51), COLD, 0));
	assert_status(ASPACE_BUSY, aspace_advise(second, pages(50, 51), DROP, 0));
	assert_status(ASPACE_BUSY, aspace_quiesce(second, 0));
}

static void an_update_beneath_it_is_a_deadlock(void **state)
{
	struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_GRACE_UNMAP};
	struct job reader = {.what = READ};

	(void)state;
	/* Who is at work in a space may become the writer of an earlier one. */
	assert_ok(aspace_destroy(subject, 0));
	assert_ok(aspace_create(&options, &second));
	open_space(0);
	now.reads = true;
	start(&reader);
	lock();
	while (!now.reading)
		pthread_cond_wait(&changed, &mutex);
	unlock();
	now.in_advise = updates_beneath;
	map_pages(0, 4, NULL);
	assert_ok(advise(0, 1, COLD, 0));
	now.in_advise = NULL;
	assert_true(now.calls > 2);
	lock();
	now.reads = false;
	pthread_cond_broadcast(&changed);
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
}

static void a_transaction_cannot_be_used_beneath_it(void **state)
{
	(void)state;
	map_pages(0, 4, NULL);
	assert_ok(aspace_txn_begin(subject, 0, &open_txn));
	assert_ok(aspace_txn_unmap(open_txn, pages(0, 2), 0));
	now.in_advise = transaction_beneath;
	assert_ok(advise(0, 4, COLD, 0));
	now.in_advise = NULL;
	assert_ok(aspace_txn_commit(open_txn));
	assert_int_equal(now.calls, 1);
	assert_ok(advise(0, 4, COLD, 0));
	assert_int_equal(now.last.start.value, 2 * PAGE);
}

/* In a callback under the writer lock: where it is at work DEADLOCK, elsewhere it goes through. */
static enum aspace_status advise_in_protect(struct aspace_backend *backend,
					    const struct aspace_change *c)
{
	(void)backend;
	(void)c;
	assert_status(ASPACE_DEADLOCK, advise(1, 2, COLD, 0));
	assert_status(ASPACE_DEADLOCK, advise(0, 4, COLD, ASPACE_NOWAIT));
	assert_ok(advise(2, 4, COLD, 0));
	return ASPACE_OK;
}

static void beneath_an_update(void **state)
{
	(void)state;
	ops.protect = advise_in_protect;
	map_pages(0, 4, NULL);
	assert_ok(aspace_protect(subject, pages(0, 2), 3, 0));
	assert_int_equal(now.calls, 1);
}

static void with_another_spaces_lock_it_is_busy(void **state)
{
	struct job job = {.what = ADVISE, .first = 3, .end = 4};
	struct aspace_txn *txn;

	(void)state;
	assert_ok(aspace_create(NULL, &second));
	map_pages(2, 4, NULL);
	start(&job);
	wait_until(now.inside == 1);
	assert_ok(aspace_txn_begin(second, 0, &txn));
	assert_status(ASPACE_BUSY, aspace_unmap(subject, pages(2, 4), 0));
	assert_status(ASPACE_BUSY, advise(2, 4, COLD, 0));
	aspace_txn_abort(txn);
	let_go(1);
	join(&job, ASPACE_OK);
	assert_ok(aspace_destroy(second, 0));
}

/* In the handler of a synchronous fault, that has interrupted a backend under the writer lock. */
static unsigned char *trap;

static void on_trap(int number)
{
	(void)number;
	if (advise(0, 1, COLD, 0) != ASPACE_DEADLOCK || advise(2, 4, COLD, 0) != ASPACE_OK)
		abort();
	if (mprotect(trap, PAGE, PROT_READ | PROT_WRITE))
		abort();
}

static enum aspace_status trapping_protect(struct aspace_backend *backend,
					   const struct aspace_change *c)
{
	(void)backend;
	(void)c;
	*(volatile unsigned char *)trap = 1;
	return ASPACE_OK;
}

static void in_the_handler_of_a_fault(void **state)
{
	struct sigaction action = {.sa_handler = on_trap}, before;

	(void)state;
	trap = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(trap != MAP_FAILED);
	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
	ops.protect = trapping_protect;
	map_pages(0, 4, NULL);
	assert_ok(aspace_protect(subject, pages(0, 2), 3, 0));
	assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
	assert_int_equal(now.calls, 1);
	assert_int_equal(trap[0], 1);
	assert_int_equal(munmap(trap, PAGE), 0);
}

/* ---- What a pin keeps ------------------------------------------------------ */

static void where_references_are_counted_it_covers_the_area(void **state)
{
	struct job job = {.what = ADVISE, .first = 3, .end = 4};

	(void)state;
	ops.release = own_release;
	map_pages(2, 6, &own);
	start(&job);
	wait_until(now.inside == 1);
	assert_status(ASPACE_BUSY, aspace_unmap(subject, pages(5, 6), ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_protect(subject, pages(5, 6), 3, ASPACE_NOWAIT));
	let_go(1);
	join(&job, ASPACE_OK);
}

/* It holds writers off from all of the area, and faults and advice from its range alone. */
static void beside_each_other_where_references_are_counted(void **state)
{
	struct job jobs[] = {{.what = ADVISE, .first = 3, .end = 4},
			     {.what = ADVISE, .first = 4, .end = 6}};

	(void)state;
	ops.release = own_release;
	map_pages(2, 6, &own);
	start(&jobs[0]);
	wait_until(now.inside == 1);
	start(&jobs[1]);
	wait_until(now.inside == 2);
	assert_ok(aspace_fault(subject, at(2 * PAGE), 1, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_fault(subject, at(3 * PAGE), 1, ASPACE_NOWAIT));
	assert_status(ASPACE_BUSY, aspace_unmap(subject, pages(2, 3), ASPACE_NOWAIT));
	let_go(2);
	join(&jobs[0], ASPACE_OK);
	join(&jobs[1], ASPACE_OK);
}

static bool merge_all(struct aspace_backend *backend, const struct aspace_area *left,
		      const struct aspace_area *right)
{
	(void)backend;
	(void)left;
	(void)right;
	return true;
}

/* A merge gives the reference up beside the advice; but it is released after it. */
static void it_keeps_the_user_object(void **state)
{
	struct job job = {.what = ADVISE, .first = 2, .end = 4};
	struct job quiesce = {.what = QUIESCE};
	int left, right;

	(void)state;
	ops.release = own_release;
	ops.can_merge = merge_all;
	map_pages(2, 4, &right);
	start(&job);
	wait_until(now.inside == 1);
	map_pages(0, 2, &left);
	assert_int_equal(aspace_count(subject), 1);
	assert_status(ASPACE_BUSY, aspace_quiesce(subject, ASPACE_NOWAIT));
	start(&quiesce);
	assert_ok(aspace_validate(subject, NULL, 0));
	forget_events();
	let_go(1);
	join(&job, ASPACE_OK);
	join(&quiesce, ASPACE_OK);
	assert_string_equal(now.events, "ar");
}

/* ---- In a grace-unmap space ------------------------------------------------ */

static void leaving_areas_are_passed_over(void **state)
{
	struct aspace_view view;

	(void)state;
	map_pages(0, 2, NULL);
	map_pages(4, 6, NULL);
	aspace_read_begin(subject, &view);
	assert_ok(aspace_unmap(subject, pages(0, 2), 0));
	assert_ok(advise(0, 6, COLD, 0));
	assert_int_equal(now.calls, 1);
	assert_int_equal(now.last.start.value, 4 * PAGE);
	assert_status(ASPACE_NOT_MAPPED, advise(0, 6, COLD, ASPACE_STRICT));
	aspace_read_end(&view);
}

static void a_leaving_area_waits_for_it(void **state)
{
	struct job job = {.what = ADVISE, .first = 3, .end = 4};
	struct job quiesce = {.what = QUIESCE};

	(void)state;
	now.blocks = true;
	map_pages(2, 4, NULL);
	map_pages(10, 12, NULL);
	start(&job);
	wait_until(now.inside == 1);
	assert_ok(aspace_unmap(subject, pages(2, 4), ASPACE_NOWAIT));
	assert_ok(aspace_unmap(subject, pages(10, 12), ASPACE_NOWAIT));
	wait_until(strchr(now.events, 'u')); /* the second */
	while (aspace_overlaps(subject, pages(10, 12)))
		sched_yield();
	assert_ok(aspace_validate(subject, NULL, 0));
	assert_true(aspace_overlaps(subject, pages(2, 4)));
	forget_events();
	start(&quiesce);
	let_go(1);
	join(&job, ASPACE_OK);
	join(&quiesce, ASPACE_OK);
	assert_string_equal(now.events, "au");
}

/* A thread in a section until it is told to leave. */
static struct {
	pthread_t thread;
	bool in, leave;
} reader;

static void *read_on(void *arg)
{
	struct aspace_view view;
	struct aspace_area area;

	(void)arg;
	aspace_read_begin(subject, &view);
	assert_ok(aspace_view_find(&view, at(0), &area));
	lock();
	reader.in = true;
	pthread_cond_broadcast(&changed);
	while (!reader.leave)
		pthread_cond_wait(&changed, &mutex);
	note('R');
	unlock();
	aspace_read_end(&view);
	return NULL;
}

static void start_reader(void)
{
	reader.in = reader.leave = false;
	assert_int_equal(pthread_create(&reader.thread, NULL, read_on, NULL), 0);
	wait_until(reader.in);
}

static void end_reader(void)
{
	lock();
	reader.leave = true;
	unlock();
	assert_int_equal(pthread_join(reader.thread, NULL), 0);
}

/* Until somebody waits for a grace period that a reader holds up. Who closes the space waits, too, when the
 * test is over. */
static unsigned stalls;

static void on_stall(void *ctx, struct aspace *space, uint64_t waited_ms)
{
	(void)ctx;
	(void)space;
	(void)waited_ms;
	lock();
	stalls++;
	unlock();
}

static void what_loses_contents_waits_for_readers(void **state)
{
	static const enum aspace_advice loses[] = {ASPACE_ADVICE_DROP, ASPACE_ADVICE_FREE};
	const struct aspace_options options = {
		.size = sizeof(options),
		.mode = ASPACE_GRACE_UNMAP,
		.stalled = on_stall,
		.stall_ms = 1,
	};

	(void)state;
	assert_ok(aspace_destroy(subject, 0));
	assert_ok(aspace_create(&options, &subject));
	map_pages(0, 4, NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct job job = {.what = ADVISE, .first = 0, .end = 4, .advice = loses[i]};
		struct aspace_view view;
		unsigned before;

		start_reader();
		stalls = 0;
		start(&job);
		wait_until(stalls != 0 || now.done > i);
		assert_int_equal(now.done, i);
		/* Nobody is held up meanwhile: other advice there, faults, and writers, of the
		 * very area too. */
		before = now.calls;
		assert_ok(advise(0, 4, COLD, ASPACE_NOWAIT));
		assert_int_equal(now.calls, before + 1);
		assert_ok(aspace_fault(subject, at(PAGE), 1, ASPACE_NOWAIT));
		assert_ok(aspace_map(subject, pages(20, 21), 1, &own, NULL, ASPACE_NOWAIT));
		assert_ok(aspace_protect(subject, pages(0, 4), i ? 1 : 3, ASPACE_NOWAIT));
		aspace_read_begin(subject, &view);
		aspace_read_end(&view);
		assert_ok(aspace_unmap(subject, pages(20, 21), ASPACE_NOWAIT));
		assert_int_equal(atomic_load(&subject->pins.used), 0);
		forget_events();
		end_reader();
		join(&job, ASPACE_OK);
		assert_ok(aspace_quiesce(subject, 0));
		assert_true(strchr(now.events, 'R') < strchr(now.events, 'a'));
		assert_int_equal(now.calls, before + 2);
		assert_int_equal(now.area.flags, i ? 1 : 3); /* it has looked again */
	}
}

static void what_is_there_after_the_wait_is_advised(void **state)
{
	struct job job = {.what = ADVISE, .first = 0, .end = 8, .advice = DROP};
	const struct aspace_options options = {
		.size = sizeof(options),
		.mode = ASPACE_GRACE_UNMAP,
		.stalled = on_stall,
		.stall_ms = 1,
	};

	(void)state;
	assert_ok(aspace_destroy(subject, 0));
	assert_ok(aspace_create(&options, &subject));
	map_pages(0, 4, NULL);
	start_reader();
	stalls = 0;
	start(&job);
	wait_until(stalls != 0 || now.done);
	assert_ok(aspace_unmap(subject, pages(0, 2), 0)); /* leaves */
	map_pages(6, 8, NULL);
	forget_events();
	end_reader();
	join(&job, ASPACE_OK);
	assert_int_equal(now.calls, 2); /* [2, 4), [6, 8) */
	assert_int_equal(now.last.start.value, 6 * PAGE);
}

static enum aspace_status drop_in_protect(struct aspace_backend *backend,
					  const struct aspace_change *c)
{
	(void)backend;
	(void)c;
	assert_status(ASPACE_DEADLOCK, advise(2, 4, DROP, 0));
	assert_status(ASPACE_DEADLOCK, advise(2, 4, DROP, ASPACE_NOWAIT));
	assert_ok(advise(2, 4, COLD, 0));
	return ASPACE_OK;
}

static void drop_beneath(void)
{
	if (now.calls)
		return;
	now.calls++;
	assert_status(ASPACE_DEADLOCK, advise(2, 4, DROP, 0));
}

static void who_may_not_wait_for_readers_may_not_drop(void **state)
{
	struct aspace_vaddr reached = {77};
	struct aspace_view view;
	struct aspace_txn *txn;

	(void)state;
	map_pages(0, 4, NULL);
	aspace_read_begin(subject, &view);
	assert_status(ASPACE_BUSY, advise(0, 4, DROP, 0));
	assert_status(ASPACE_BUSY, aspace_advise_part(subject, pages(0, 4), DROP, 0, &reached));
	assert_int_equal(reached.value, 0);
	assert_status(ASPACE_BUSY, advise(0, 4, ASPACE_ADVICE_FREE, 0));
	assert_ok(advise(0, 4, COLD, 0));
	/* Where nothing is, nobody is waited for. */
	assert_ok(advise(8, 9, DROP, 0));
	aspace_read_end(&view);
	assert_status(ASPACE_BUSY, advise(0, 4, DROP, ASPACE_NOWAIT));
	assert_int_equal(now.calls, 1);
	assert_ok(aspace_txn_begin(subject, 0, &txn));
	assert_status(ASPACE_DEADLOCK, advise(0, 4, DROP, 0));
	aspace_txn_abort(txn);
	assert_ok(aspace_create(NULL, &second));
	assert_ok(aspace_txn_begin(second, 0, &txn));
	assert_status(ASPACE_BUSY, advise(0, 4, DROP, 0));
	aspace_txn_abort(txn);
	assert_ok(aspace_destroy(second, 0));
	ops.protect = drop_in_protect;
	assert_ok(aspace_protect(subject, pages(0, 2), 3, 0));
	assert_int_equal(now.calls, 2);
	now.calls = 0;
	now.in_advise = drop_beneath;
	assert_ok(advise(0, 1, COLD, 0));
	now.in_advise = NULL;
	assert_ok(advise(0, 4, DROP, 0));
}

/* In other spaces nobody waits for readers, and a section is as good a place as any. */
static void elsewhere_nobody_waits_for_readers(void **state)
{
	struct aspace_view view;

	(void)state;
	map_pages(0, 4, NULL);
	aspace_read_begin(subject, &view);
	for (unsigned i = ASPACE_ADVICE_POPULATE_READ; i <= ASPACE_ADVICE_NORMAL; i++)
		assert_ok(advise(0, 4, (enum aspace_advice)i, ASPACE_NOWAIT));
	aspace_read_end(&view);
}

int main(void)
{
#define plain(test)    cmocka_unit_test_setup_teardown(test, open_plain, close_space)
#define blocking(test) cmocka_unit_test_setup_teardown(test, open_blocking, close_space)
#define grace(test)    cmocka_unit_test_setup_teardown(test, open_grace, close_space)
	const struct CMUnitTest tests[] = {
		plain(only_what_is_in_the_range_is_advised),
		plain(holes_are_as_in_unmap),
		plain(a_space_can_always_be_strict),
		plain(what_cannot_be_is_refused_before_anything_is_done),
		plain(a_refusal_says_how_far_it_came),
		blocking(in_different_areas_it_runs_at_once),
		blocking(in_different_parts_of_an_area_it_runs_at_once),
		blocking(in_one_place_one_comes_after_the_other),
		blocking(beside_faults),
		blocking(beside_writers_elsewhere),
		plain(it_goes_on_beside_a_writer_elsewhere),
		blocking(who_would_change_it_waits),
		blocking(places_are_kept),
		blocking(between_parts_others_come_in),
		plain(an_update_beneath_it_is_a_deadlock),
		plain(a_transaction_cannot_be_used_beneath_it),
		plain(beneath_an_update),
		blocking(with_another_spaces_lock_it_is_busy),
		plain(in_the_handler_of_a_fault),
		blocking(where_references_are_counted_it_covers_the_area),
		blocking(beside_each_other_where_references_are_counted),
		blocking(it_keeps_the_user_object),
		grace(leaving_areas_are_passed_over),
		grace(a_leaving_area_waits_for_it),
		grace(what_loses_contents_waits_for_readers),
		grace(what_is_there_after_the_wait_is_advised),
		grace(who_may_not_wait_for_readers_may_not_drop),
		plain(elsewhere_nobody_waits_for_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
