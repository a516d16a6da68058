/* SPDX-License-Identifier: MIT */
/*
 * Making and unmaking a space where something is refused: the k-th allocation of pages,
 * the k-th reservation of a pool, the helper thread (pthread_create is wrapped by the
 * linker), a place among the flavours. Whatever it was, nothing is left of a space that
 * was not made; one that could not be unmade is alive.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <aspace/aspace.h>
#include <aspace/backend/null.h>

#include "space/space.h"

/* src/memory/pool.c, with ASPACE_TESTING */
extern long asp_test_fail_at;
extern bool asp_test_fail_forever;
extern unsigned long asp_test_reservations, asp_test_failures;

/* src/platform/linux/flavour.c: one place is that of the default flavour. */
#define FLAVOURS 8

#define AREAS 300

/* ---- What is refused --------------------------------------------------- */

static struct {
	long blocks;            /* handed out and not taken back */
	unsigned long allocs;   /* answered */
	unsigned long refusals; /* so far */
	long fail_at;           /* calls until the refusal; -1: none */
	bool fail_forever;
} pages;

static void *pages_alloc(void *ctx, size_t size)
{
	void *block;

	(void)ctx;
	if (pages.fail_at == 0) {
		if (!pages.fail_forever)
			pages.fail_at = -1;
		pages.refusals++;
		return NULL;
	}
	if (pages.fail_at > 0)
		pages.fail_at--;
	block = aligned_alloc(4096, size);
	assert_non_null(block);
	memset(block, 0, size);
	pages.blocks++;
	pages.allocs++;
	return block;
}

static void pages_free(void *ctx, void *block, size_t size)
{
	(void)ctx;
	(void)size;
	pages.blocks--;
	free(block);
}

static const struct aspace_page_ops page_ops = {pages_alloc, pages_free};

/* The signals that were blocked before any helper was made. */
static sigset_t mask_before;

static long threads_left; /* so many can be made */
static _Atomic unsigned refused_threads, made_threads;

/* The last thread that is refused is so late; see without_a_thread_late(). */
static bool late_refusal;
static pthread_t creator;
static _Atomic bool is_refusing, creator_waits, creator_has_gone_on;

#define until(condition)                                                                           \
	do {                                                                                       \
		while (!(condition))                                                               \
			sched_yield();                                                             \
	} while (0)

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main_)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main_)(void *),
			  void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main_)(void *),
			  void *arg)
{
	int error;

	if (made_threads >= threads_left) {
		atomic_store(&is_refusing, true);
		/* As slow as can be: who waits for the thread has looked, and waits, or has gone on. */
		if (late_refusal)
			until(atomic_load(&creator_waits) || atomic_load(&creator_has_gone_on));
		refused_threads++;
		return EAGAIN;
	}
	made_threads++;
	error = __real_pthread_create(thread, attr, main_, arg);
	if (late_refusal)
		until(atomic_load(&is_refusing));
	return error;
}

void __real_asp_wait(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms);
void __wrap_asp_wait(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms);

void __wrap_asp_wait(_Atomic uint32_t *word, uint32_t value, unsigned timeout_ms)
{
	if (late_refusal && atomic_load(&is_refusing) && pthread_equal(pthread_self(), creator))
		atomic_store(&creator_waits, true);
	__real_asp_wait(word, value, timeout_ms);
}

static void reset_faults(void)
{
	pages.fail_at = -1;
	pages.fail_forever = false;
	pages.refusals = 0;
	asp_test_fail_at = -1;
	asp_test_fail_forever = false;
	asp_test_failures = 0;
	threads_left = LONG_MAX;
	made_threads = refused_threads = 0;
}

static unsigned count_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	assert_non_null(tasks);
	while (readdir(tasks))
		count++;
	closedir(tasks);
	return count - 2; /* . and .. */
}

/* ---- Create ------------------------------------------------------------ */

static enum aspace_status create(const struct rcu_flavor_struct *flavour, unsigned mode,
				 struct aspace **space)
{
	const struct aspace_options options = {
		.size = sizeof(options),
		.mode = mode,
		.flavour = flavour,
		.pages = &page_ops,
	};

	return aspace_create(&options, space);
}

/* All is as if no space had ever been: and one can be made, used and unmade. */
static void expect_nothing_left(const struct rcu_flavor_struct *flavour)
{
	struct aspace *space;

	reset_faults();
	assert_int_equal(pages.blocks, 0);
	assert_int_equal(create(flavour, 0, &space), ASPACE_OK);
	assert_int_equal(
		aspace_map(space, aspace_range_of(1, 2), 1, aspace_null_backend(), NULL, 0),
		ASPACE_OK);
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	assert_int_equal(pages.blocks, 0);
}

static void without_pages(void **state)
{
	struct aspace *untouched = (struct aspace *)&pages, *space = untouched;
	unsigned points = 0;

	(void)state;
	for (long k = 0;; k++) {
		reset_faults();
		pages.fail_at = k;
		if (create(NULL, 0, &space) == ASPACE_OK)
			break;
		assert_int_equal(pages.refusals, 1);
		assert_ptr_equal(space, untouched);
		points++;
		expect_nothing_left(NULL);
	}
	assert_int_equal(pages.refusals, 0);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	expect_nothing_left(NULL);
	print_message("pages: %u points\n", points);
	assert_in_range(points, 2, 10); /* the space, its first node */
}

static void without_reservations(void **state)
{
	struct aspace *untouched = (struct aspace *)&pages, *space = untouched;
	unsigned points = 0;

	(void)state;
	for (long k = 0;; k++) {
		reset_faults();
		asp_test_fail_at = k;
		if (create(NULL, 0, &space) == ASPACE_OK)
			break;
		assert_int_equal(asp_test_failures, 1);
		assert_ptr_equal(space, untouched);
		points++;
		expect_nothing_left(NULL);
	}
	assert_int_equal(asp_test_failures, 0);
	reset_faults();
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	expect_nothing_left(NULL);
	print_message("reservations: %u points\n", points);
	assert_in_range(points, 1, 10);
}

static void without_a_thread(void **state)
{
	struct rcu_flavor_struct own = urcu_bp_flavor;
	const struct rcu_flavor_struct *const flavours[] = {NULL, &own};
	unsigned threads = count_threads();

	(void)state;
	/* Of two flavours, the first thread or the second cannot be made. */
	for (unsigned i = 0; i < 4; i++) {
		struct aspace *untouched = (struct aspace *)&pages, *space = untouched, *other;
		const struct rcu_flavor_struct *flavour = flavours[i % 2];
		sigset_t mask;

		reset_faults();
		threads_left = i / 2;
		assert_int_equal(create(flavour, 0, &space), ASPACE_NO_MEMORY);
		pthread_sigmask(SIG_SETMASK, NULL, &mask);
		assert_int_equal(refused_threads, 1);
		assert_ptr_equal(space, untouched);
		for (int number = 1; number < 32; number++)
			assert_int_equal(sigismember(&mask, number),
					 sigismember(&mask_before, number));
		expect_nothing_left(flavour);
		assert_int_equal(count_threads(), threads);

		/* Those of one are enough for two spaces: then none is missed. */
		reset_faults();
		assert_int_equal(create(flavour, 0, &space), ASPACE_OK);
		assert_int_equal(made_threads, 2);
		threads_left = 2;
		assert_int_equal(create(flavour, 0, &other), ASPACE_OK);
		assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
		assert_int_equal(aspace_destroy(other, 0), ASPACE_OK);
		assert_int_equal(refused_threads, 0);
		expect_nothing_left(flavour);
		assert_int_equal(count_threads(), threads);
	}
}

/* The second thread is refused when the creator of the space has looked whether there is one: it
 * must not have taken it for made. */
static void without_a_thread_late(void **state)
{
	struct rcu_flavor_struct own = urcu_bp_flavor;
	const struct rcu_flavor_struct *const flavours[] = {NULL, &own};
	unsigned threads = count_threads();

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct aspace *untouched = (struct aspace *)&pages, *space = untouched;
		enum aspace_status status;

		reset_faults();
		threads_left = 1;
		creator = pthread_self();
		is_refusing = creator_waits = creator_has_gone_on = false;
		late_refusal = true;
		status = create(flavours[i], 0, &space);
		creator_has_gone_on = true;
		assert_int_equal(status, ASPACE_NO_MEMORY);
		late_refusal = false;
		assert_true(creator_waits);
		assert_int_equal(refused_threads, 1);
		assert_ptr_equal(space, untouched);
		expect_nothing_left(flavours[i]);
		assert_int_equal(count_threads(), threads);
	}
}

static void without_a_flavour(void **state)
{
	/* Flavours are told apart by where they are. The last is one too many. */
	struct rcu_flavor_struct flavours[FLAVOURS];
	struct aspace *spaces[FLAVOURS], *untouched = (struct aspace *)&pages;
	unsigned threads = count_threads();

	(void)state;
	for (unsigned i = 0; i < FLAVOURS; i++)
		flavours[i] = urcu_bp_flavor;
	/* Places that were taken for nothing are not lost. */
	for (unsigned i = 0; i < FLAVOURS; i++) {
		reset_faults();
		threads_left = 0;
		assert_int_equal(create(&flavours[i], 0, &spaces[i]), ASPACE_NO_MEMORY);
		assert_int_equal(pages.blocks, 0);
	}
	for (unsigned last = 0; last < FLAVOURS; last++) {
		long blocks;

		reset_faults();
		for (unsigned i = 0; i < FLAVOURS; i++) {
			if (i != last)
				assert_int_equal(create(&flavours[i], 0, &spaces[i]), ASPACE_OK);
		}
		spaces[last] = untouched;
		blocks = pages.blocks;
		assert_int_equal(create(&flavours[last], 0, &spaces[last]), ASPACE_NO_MEMORY);
		assert_ptr_equal(spaces[last], untouched);
		assert_int_equal(pages.blocks, blocks);
		/* The default has its own place. */
		assert_int_equal(create(NULL, 0, &spaces[last]), ASPACE_OK);
		assert_int_equal(aspace_destroy(spaces[last], 0), ASPACE_OK);
		/* And a place that another leaves can be had. */
		assert_int_equal(aspace_destroy(spaces[(last + 1) % FLAVOURS], 0), ASPACE_OK);
		assert_int_equal(create(&flavours[last], 0, &spaces[last]), ASPACE_OK);
		for (unsigned i = 0; i < FLAVOURS; i++) {
			if (i != (last + 1) % FLAVOURS)
				assert_int_equal(aspace_destroy(spaces[i], 0), ASPACE_OK);
		}
		assert_int_equal(pages.blocks, 0);
		assert_int_equal(count_threads(), threads);
	}
	expect_nothing_left(&flavours[0]);
}

/* ---- Destroy ----------------------------------------------------------- */

static _Atomic unsigned released;

static void count_release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	released++;
}

static struct aspace_backend_ops ops;
static struct aspace_backend backend;

static struct aspace *full_space(unsigned mode)
{
	struct aspace *space;

	reset_faults();
	released = 0;
	backend = *aspace_null_backend();
	ops = *backend.ops;
	ops.release = count_release;
	backend.ops = &ops;
	assert_int_equal(create(NULL, mode, &space), ASPACE_OK);
	for (unsigned i = 0; i < AREAS; i++)
		assert_int_equal(aspace_map(space, aspace_range_of(i * 16, i * 16 + 8), 1, &backend,
					    &pages, 0),
				 ASPACE_OK);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	return space;
}

/* Are there as many areas as the space says? */
static bool counts_right(struct aspace *space)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	unsigned count = 0;

	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, (struct aspace_vaddr){0}, &iter);
	while (aspace_iter_next(&iter, &area))
		count++;
	aspace_read_end(&view);
	return count == aspace_count(space);
}

/* It said no: the space lives, and goes when there is memory again. True: it said no. */
static bool destroy_short(struct aspace *space)
{
	enum aspace_status status = aspace_destroy(space, 0);

	if (status != ASPACE_OK) {
		struct aspace_violation violation = {0};

		assert_int_equal(status, ASPACE_NO_MEMORY);
		reset_faults();
		if (aspace_validate(space, &violation, 0) != ASPACE_OK)
			fail_msg("%u: %s", violation.invariant, violation.what);
		assert_true(counts_right(space));
		assert_int_equal(
			aspace_map(space, aspace_range_of(1000000, 1000001), 1, &backend, NULL, 0),
			ASPACE_OK);
		assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	}
	reset_faults();
	assert_int_equal(released, AREAS);
	assert_int_equal(pages.blocks, 0);
	return status != ASPACE_OK;
}

static void destroy_without_pages(void **state)
{
	static const unsigned modes[] = {0, ASPACE_GRACE_UNMAP};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct aspace *space = full_space(modes[i]);

		/* What the pools have from making it is enough for unmaking it. */
		pages.fail_at = 0;
		pages.fail_forever = true;
		assert_false(destroy_short(space));

		/* Nor is anything needed beyond what is held back for it. */
		space = full_space(modes[i]);
		assert_int_equal(aspace_trim(space, 0), ASPACE_OK);
		space->nodes.hidden = space->nodes.available - space->nodes.held;
		space->records.hidden = space->records.available - space->records.held;
		space->actions.hidden = space->actions.available;
		pages.fail_at = 0;
		pages.fail_forever = true;
		assert_false(destroy_short(space));
	}
}

static void destroy_without_reservations(void **state)
{
	unsigned points[2] = {0, 0}, refused[2] = {0, 0};

	(void)state;
	for (unsigned forever = 0; forever < 2; forever++) {
		for (long k = 0;; k++) {
			struct aspace *space = full_space(0);
			unsigned long before = asp_test_reservations;

			asp_test_fail_at = k;
			asp_test_fail_forever = forever;
			refused[forever] += destroy_short(space);
			if (asp_test_reservations - before <= (unsigned long)k)
				break; /* never came to the k-th */
			points[forever]++;
		}
	}
	print_message("reservations: once %u points, %u refused; for ever %u, %u\n", points[0],
		      refused[0], points[1], refused[1]);
	assert_in_range(points[0], 2, 10000);
	/* It tries again with less; but not for ever. */
	assert_int_equal(refused[0], 0);
	assert_int_equal(refused[1], points[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_pages),
		cmocka_unit_test(without_reservations),
		cmocka_unit_test(without_a_thread),
		cmocka_unit_test(without_a_thread_late),
		cmocka_unit_test(without_a_flavour),
		cmocka_unit_test(destroy_without_pages),
		cmocka_unit_test(destroy_without_reservations),
	};

	pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
