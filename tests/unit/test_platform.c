/* SPDX-License-Identifier: MIT */
/*
 * The hosted platform: locks, waiting, pages, grace periods, their helper threads,
 * and fork.
 *
 * No test sleeps to let something happen and none asserts how long something took.
 * Where a test wants two things to overlap it waits until it has seen that they do;
 * where it must see that something does not happen, it gives a bounded wait that must
 * fail every time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../child.h"
#include "../../stress/common/sanitizers.h"
#include "platform/linux/grace.h"

/* From the flavours' libraries; the tests do not include liburcu either. */
extern const struct rcu_flavor_struct urcu_memb_flavor, urcu_qsbr_flavor;

/* In the child of a process with threads, ThreadSanitizer allows none, and ASan's
 * allocator may be locked for ever: the children here then make none. */
#define CHILD_IS_ALONE SANITIZED

#ifdef ASP_TSAN
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}
#endif

/* Wait until condition holds; the test's time limit is the only limit. */
#define until(condition)                                                                           \
	do {                                                                                       \
		while (!(condition))                                                               \
			sched_yield();                                                             \
	} while (0)

/* cmocka's assertions belong on the main thread; others abort. */
#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static pthread_t spawn(void *(*main)(void *), void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, main, arg), 0);
	return thread;
}

static void *join(pthread_t thread)
{
	void *result;

	assert_int_equal(pthread_join(thread, &result), 0);
	return result;
}

/* How many threads of this process have that name; *last gets the number of one. */
static int count_threads(const char *wanted, long *last)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int count = 0;

	assert_non_null(tasks);
	while ((task = readdir(tasks))) {
		char path[300], name[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(name, sizeof(name), file) && !strcmp(name, wanted)) {
			*last = strtol(task->d_name, NULL, 10);
			count++;
		}
		fclose(file);
	}
	closedir(tasks);
	return count;
}

static int count_helpers(void)
{
	long last;

	return count_threads("aspace-grace\n", &last);
}

/* ---- Locks ------------------------------------------------------------------ */

static struct asp_lock lock;

static void *add_under_lock(void *counter)
{
	for (int i = 0; i < 20000; i++) {
		asp_lock_acquire(&lock);
		++*(long *)counter;
		asp_lock_release(&lock);
	}
	return NULL;
}

static void test_lock_excludes(void **state)
{
	pthread_t threads[4];
	long counter = 0, contended = 0;

	(void)state;
	asp_lock_init(&lock);
	/* The first two meet for certain. */
	asp_lock_acquire(&lock);
	for (int i = 0; i < 4; i++)
		threads[i] = spawn(add_under_lock, &counter);
	until(atomic_load(&lock.next) - atomic_load(&lock.serving) >= 5);
	asp_lock_release(&lock);
	for (int i = 0; i < 20000; i++) {
		if (!asp_lock_try(&lock)) {
			contended++;
			asp_lock_acquire(&lock);
		}
		counter++;
		asp_lock_release(&lock);
	}
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	assert_int_equal(counter, 5 * 20000);
	print_message("%ld tries met a held lock\n", contended);
}

/* More than 32, so that two waiters share a bit of the writers' lock. */
#define QUEUE 40

static struct asp_mutex mutex;

static void *add_under_mutex(void *counter)
{
	for (int i = 0; i < 20000; i++) {
		asp_mutex_acquire(&mutex);
		++*(long *)counter;
		asp_mutex_release(&mutex);
	}
	return NULL;
}

static void test_mutex_excludes(void **state)
{
	pthread_t threads[4];
	long counter = 0;

	(void)state;
	asp_mutex_init(&mutex, ASP_LOCK_UNRANKED, 0);
	/* They meet for certain, and one of them goes to sleep. */
	asp_mutex_acquire(&mutex);
	for (int i = 0; i < 4; i++)
		threads[i] = spawn(add_under_mutex, &counter);
	until(atomic_load(&mutex.state) == 2);
	asp_mutex_release(&mutex);
	for (int i = 0; i < 20000; i++) {
		asp_mutex_acquire(&mutex);
		counter++;
		asp_mutex_release(&mutex);
	}
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	assert_int_equal(counter, 5 * 20000);
	/* As in a forked child: somebody sleeps. */
	asp_mutex_acquire(&mutex);
	atomic_store(&mutex.state, 2);
	asp_mutex_forget_waiters(&mutex);
	assert_int_equal(atomic_load(&mutex.state), 1);
	asp_mutex_release(&mutex);
	assert_int_equal(atomic_load(&mutex.state), 0);
}

static _Atomic int passed;

static void *pass(void *unused)
{
	asp_mutex_acquire(&mutex);
	asp_mutex_release(&mutex);
	atomic_fetch_add(&passed, 1);
	return unused;
}

/* Each who sleeps is woken by the one before, and whoever comes when it is free has it before them. */
static void test_mutex_wakes(void **state)
{
	pthread_t threads[QUEUE];

	(void)state;
	asp_mutex_init(&mutex, ASP_LOCK_UNRANKED, 0);
	asp_mutex_acquire(&mutex);
	atomic_store(&passed, 0);
	for (int i = 0; i < QUEUE; i++)
		threads[i] = spawn(pass, NULL);
	until(atomic_load(&mutex.state) == 2);
	for (int i = 0; i < 1000; i++) {
		asp_mutex_release(&mutex);
		asp_mutex_acquire(&mutex);
	}
	asp_mutex_release(&mutex);
	for (int i = 0; i < QUEUE; i++)
		join(threads[i]);
	assert_int_equal(atomic_load(&passed), QUEUE);
	assert_int_equal(atomic_load(&mutex.state), 0);
}

static int order[QUEUE], arrived;

static void *queue_up(void *number)
{
	asp_lock_acquire(&lock);
	order[arrived++] = (int)(intptr_t)number;
	asp_lock_release(&lock);
	return NULL;
}

static void test_lock_is_fair(void **state)
{
	pthread_t threads[QUEUE];

	(void)state;
	asp_lock_init(&lock);
	arrived = 0;
	asp_lock_acquire(&lock);
	for (int i = 0; i < QUEUE; i++) {
		threads[i] = spawn(queue_up, (void *)(intptr_t)i);
		until(atomic_load(&lock.next) == (uint32_t)i + 2);
	}
	asp_lock_release(&lock);
	for (int i = 0; i < QUEUE; i++)
		join(threads[i]);
	for (int i = 0; i < QUEUE; i++)
		assert_int_equal(order[i], i);
}

static void test_lock_try(void **state)
{
	(void)state;
	asp_lock_init(&lock);
	assert_true(asp_lock_try(&lock));
	assert_false(asp_lock_try(&lock));
	asp_lock_release(&lock);
	assert_true(asp_lock_try(&lock));
	/* As in a forked child: somebody had queued up. */
	atomic_fetch_add(&lock.next, 3);
	asp_lock_forget_waiters(&lock);
	asp_lock_release(&lock);
	assert_true(asp_lock_try(&lock));
	asp_lock_release(&lock);
	/* Across the wrap of the tickets. */
	atomic_store(&lock.next, UINT32_MAX);
	atomic_store(&lock.serving, UINT32_MAX);
	asp_lock_acquire(&lock);
	assert_false(asp_lock_try(&lock));
	asp_lock_release(&lock);
	assert_true(asp_lock_try(&lock));
	asp_lock_release(&lock);
}

/* ---- Waiting ---------------------------------------------------------------- */

static _Atomic uint32_t word, waiting;

static void *wait_for_word(void *unused)
{
	(void)unused;
	atomic_fetch_add(&waiting, 1);
	while (!atomic_load(&word))
		asp_wait(&word, 0, 0);
	return NULL;
}

static void test_wait_and_wake(void **state)
{
	pthread_t threads[3];
	uint64_t before = asp_now_ms();

	(void)state;
	atomic_store(&word, 0);
	atomic_store(&waiting, 0);
	for (int i = 0; i < 3; i++)
		threads[i] = spawn(wait_for_word, NULL);
	until(atomic_load(&waiting) == 3);
	atomic_store(&word, 1);
	asp_wake_all(&word);
	for (int i = 0; i < 3; i++)
		join(threads[i]);

	errno = 4711;
	asp_wait(&word, 0, 0); /* not 0: returns at once */
	asp_wait(&word, 1, 1); /* 1: nobody wakes us, the limit does */
	asp_wait(&word, 1, 999);
	assert_int_equal(errno, 4711);
	assert_true(asp_now_ms() >= before);
}

static void *my_self(void *self)
{
	*(uintptr_t *)self = asp_thread_self();
	assert_int_equal(asp_thread_self(), *(uintptr_t *)self);
	until(atomic_load(&word));
	return NULL;
}

static void test_thread_self(void **state)
{
	uintptr_t self[2] = {0, 0};
	pthread_t threads[2];

	(void)state;
	atomic_store(&word, 0);
	for (int i = 0; i < 2; i++)
		threads[i] = spawn(my_self, &self[i]);
	atomic_store(&word, 1);
	for (int i = 0; i < 2; i++)
		join(threads[i]);
	assert_true(self[0] && self[1] && asp_thread_self());
	assert_true(self[0] != asp_thread_self());
}

static void test_pages(void **state)
{
	const size_t size = 1 << 17;
	unsigned char *block;

	(void)state;
	block = asp_pages_alloc(NULL, size);
	assert_non_null(block);
	assert_int_equal((uintptr_t)block % 4096, 0);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(block[i], 0);
	asp_poison(block, 4096);
	asp_unpoison(block, 4096);
	memset(block, 1, size);
	asp_poison(block, size);
	asp_pages_free(NULL, block, size);
	/* More than there can be. */
	errno = 4711;
	assert_null(asp_pages_alloc(NULL, SIZE_MAX / 2 & ~(size_t)0xffff));
	assert_int_equal(errno, 4711);
}

/* ---- A client that counts ---------------------------------------------------- */

struct counter {
	struct asp_grace_client client;
	struct asp_grace *grace;
	_Atomic uint32_t runs;   /* a count */
	_Atomic uint32_t inside; /* by default order: never two at once */
	_Atomic uint64_t wanted; /* work checks that this stamp has elapsed, ... */
	_Atomic uint32_t early;  /* ... and counts here where it had not */
	void (*then)(struct counter *);
	struct asp_lock lock;
};

static void count_work(struct asp_grace_client *client)
{
	struct counter *counter = (struct counter *)client; /* the first member */

	check(atomic_fetch_add(&counter->inside, 1) == 0);
	if (!asp_grace_elapsed(counter->grace, atomic_load(&counter->wanted)))
		atomic_fetch_add(&counter->early, 1);
	atomic_fetch_sub(&counter->inside, 1);
	atomic_fetch_add(&counter->runs, 1);
	if (counter->then)
		counter->then(counter);
}

static void attach(struct counter *counter, const void *flavour)
{
	memset(counter, 0, sizeof(*counter));
	asp_lock_init(&counter->lock);
	counter->client.work = count_work;
	check(asp_grace_attach(flavour, &counter->client, &counter->grace) == ASPACE_OK);
}

static void detach(struct counter *counter)
{
	asp_grace_detach(counter->grace, &counter->client);
}

static void request_run(struct counter *counter)
{
	uint64_t stamp = asp_grace_stamp(counter->grace);

	atomic_store(&counter->wanted, stamp);
	asp_grace_request(counter->grace, &counter->client, stamp);
}

/* ---- Grace periods ------------------------------------------------------------ */

static void test_stamps(void **state)
{
	struct counter counter;
	uint64_t stamp, last = 0, count;

	(void)state;
	attach(&counter, NULL);
	assert_true(asp_grace_elapsed(counter.grace, 1));
	count = asp_grace_count(counter.grace);
	for (int i = 0; i < 100; i++) {
		stamp = asp_grace_stamp(counter.grace);
		assert_true(stamp > last);
		assert_true(asp_grace_stamp(counter.grace) >= stamp);
		assert_false(asp_grace_elapsed(counter.grace, stamp));
		assert_true(asp_grace_wait(counter.grace, stamp, 0));
		assert_true(asp_grace_elapsed(counter.grace, stamp));
		last = stamp;
	}
	assert_true(asp_grace_count(counter.grace) >= count + 100);
	detach(&counter);
	until(count_helpers() == 0);
}

/* The same grace period domain for bp by either name, another for memb. */
static void test_flavours(void **state)
{
	struct counter a, b, c;

	(void)state;
	attach(&a, NULL);
	attach(&b, &urcu_bp_flavor);
	attach(&c, &urcu_memb_flavor);
	assert_ptr_equal(a.grace, b.grace);
	assert_ptr_not_equal(a.grace, c.grace);
	detach(&b);
	detach(&a);
	detach(&c);
}

struct reader {
	struct asp_grace *grace;
	_Atomic uint32_t inside, leave, left, exit; /* steps, by default order */
};

static void *read_until_told(void *arg)
{
	struct reader *reader = arg;

	if (reader->grace->flavour)
		reader->grace->flavour->register_thread();
	check(!asp_grace_in_section(reader->grace));
	asp_grace_thread_prepare(reader->grace);
	asp_read_lock(reader->grace);
	asp_read_lock(reader->grace);
	check(asp_grace_in_section(reader->grace));
	asp_read_unlock(reader->grace);
	check(asp_grace_in_section(reader->grace));
	atomic_store(&reader->inside, 1);
	until(atomic_load(&reader->leave));
	asp_read_unlock(reader->grace);
	check(!asp_grace_in_section(reader->grace));
	atomic_store(&reader->left, 1);
	until(atomic_load(&reader->exit));
	if (reader->grace->flavour)
		reader->grace->flavour->unregister_thread();
	return NULL;
}

static void waits_for_readers(const void *flavour)
{
	struct counter counter;
	struct reader reader = {0};
	pthread_t thread;
	uint64_t stamp;

	attach(&counter, flavour);
	reader.grace = counter.grace;
	thread = spawn(read_until_told, &reader);
	until(atomic_load(&reader.inside));
	stamp = asp_grace_stamp(counter.grace);
	for (int i = 0; i < 3; i++)
		assert_false(asp_grace_wait(counter.grace, stamp, 20));
	request_run(&counter);
	assert_int_equal(atomic_load(&counter.runs), 0);
	atomic_store(&reader.leave, 1);
	assert_true(asp_grace_wait(counter.grace, stamp, 0));
	/* The thread is there still, outside. */
	until(atomic_load(&reader.left));
	assert_true(asp_grace_wait(counter.grace, asp_grace_stamp(counter.grace), 0));
	until(atomic_load(&counter.runs));
	assert_int_equal(atomic_load(&counter.early), 0);
	atomic_store(&reader.exit, 1);
	join(thread);
	detach(&counter);
	until(count_helpers() == 0);
}

static void test_grace_waits_for_readers(void **state)
{
	(void)state;
	waits_for_readers(NULL);
	waits_for_readers(&urcu_memb_flavor);
}

static _Atomic uint32_t qsbr_step; /* by default order: what the other has reached */

static void *be_online(void *flavour)
{
	const struct rcu_flavor_struct *qsbr = flavour;

	qsbr->register_thread();
	atomic_store(&qsbr_step, 1);
	until(atomic_load(&qsbr_step) == 2);
	qsbr->read_quiescent_state();
	qsbr->thread_offline();
	atomic_store(&qsbr_step, 3);
	until(atomic_load(&qsbr_step) == 4);
	qsbr->thread_online();
	qsbr->unregister_thread();
	return NULL;
}

static void test_qsbr(void **state)
{
	struct counter counter;
	pthread_t thread;
	uint64_t stamp;

	(void)state;
	atomic_store(&qsbr_step, 0);
	attach(&counter, &urcu_qsbr_flavor);
	/* The idle helper holds nothing up. */
	assert_true(asp_grace_wait(counter.grace, asp_grace_stamp(counter.grace), 0));
	thread = spawn(be_online, (void *)(uintptr_t)&urcu_qsbr_flavor);
	until(atomic_load(&qsbr_step) == 1);
	stamp = asp_grace_stamp(counter.grace);
	assert_false(asp_grace_wait(counter.grace, stamp, 20));
	atomic_store(&qsbr_step, 2);
	assert_true(asp_grace_wait(counter.grace, stamp, 0));
	request_run(&counter);
	until(atomic_load(&counter.runs));
	until(atomic_load(&qsbr_step) == 3);
	atomic_store(&qsbr_step, 4);
	join(thread);
	detach(&counter);
	until(count_helpers() == 0);
}

/* ---- Publication, for ThreadSanitizer ------------------------------------------ */

/* A writer replaces a box and destroys the old one after a grace period; readers open
 * it. Without the annotations, and with a grace period too few, it is a race. */
static struct box {
	int contents;
} boxes[2];
static struct box *_Atomic current;
static _Atomic uint32_t stop, reads; /* an end, and a count: relaxed would do */

static void *read_boxes(void *grace)
{
	bool nest = false;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		struct box *box;

		asp_read_lock(grace);
		if (nest)
			asp_read_lock(grace);
		box = atomic_load_explicit(&current, memory_order_acquire);
		check(box->contents > 0);
		asp_read_unlock(grace);
		if (nest) {
			check(box->contents > 0);
			asp_read_unlock(grace);
		}
		nest = !nest;
		atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
	}
	return NULL;
}

static void test_publication(void **state)
{
	struct counter counter;
	pthread_t threads[2];
	uint32_t seen;

	(void)state;
	attach(&counter, NULL);
	atomic_store(&stop, 0);
	atomic_store(&reads, 0);
	boxes[0].contents = 1;
	atomic_store_explicit(&current, &boxes[0], memory_order_release);
	for (int i = 0; i < 2; i++)
		threads[i] = spawn(read_boxes, counter.grace);
	until(atomic_load(&reads));
	for (int i = 1; i <= 500; i++) {
		struct box *old = &boxes[(i - 1) % 2];

		boxes[i % 2].contents = i;
		atomic_store_explicit(&current, &boxes[i % 2], memory_order_release);
		assert_true(asp_grace_wait(counter.grace, asp_grace_stamp(counter.grace), 0));
		old->contents = 0;
		if (i % 50 == 0) {
			/* They do overlap. */
			seen = atomic_load(&reads);
			until(atomic_load(&reads) - seen > 2);
		}
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		join(threads[i]);
	detach(&counter);
}

/* ---- Requests and work ---------------------------------------------------------- */

static _Atomic uintptr_t work_thread;
static sigset_t work_mask;

static void note_thread(struct counter *counter)
{
	(void)counter;
	if (atomic_load(&work_thread))
		return;
	pthread_sigmask(SIG_BLOCK, NULL, &work_mask);
	atomic_store(&work_thread, asp_thread_self());
}

static void test_request_runs_work(void **state)
{
	struct counter counter;

	(void)state;
	atomic_store(&work_thread, 0);
	attach(&counter, NULL);
	counter.then = note_thread;
	for (uint32_t i = 0; i < 200; i++) {
		uint32_t runs = atomic_load(&counter.runs);

		request_run(&counter);
		until(atomic_load(&counter.runs) != runs);
	}
	assert_int_equal(atomic_load(&counter.early), 0);
	assert_true(atomic_load(&work_thread) != asp_thread_self());
	for (int sig = 1; sig < 32; sig++) {
		if (sig != SIGKILL && sig != SIGSTOP)
			assert_int_equal(sigismember(&work_mask, sig), 1);
	}
	detach(&counter);
	assert_int_equal(atomic_load(&counter.client.due), 0);
}

static _Atomic uint64_t ended_at_work; /* the last grace period that had, at the last run */

static void note_ended(struct counter *counter)
{
	atomic_store(&ended_at_work, atomic_load(&counter->grace->ended));
}

/* An earlier wish does not swallow a later one. */
static void test_later_request(void **state)
{
	struct counter counter;
	struct reader reader = {0};
	pthread_t thread;
	uint64_t first, second;

	(void)state;
	attach(&counter, NULL);
	counter.then = note_ended;
	reader.grace = counter.grace;
	thread = spawn(read_until_told, &reader);
	until(atomic_load(&reader.inside));
	first = asp_grace_stamp(counter.grace);
	asp_grace_request(counter.grace, &counter.client, first);
	/* The grace period has begun and waits for the reader. */
	until((second = asp_grace_stamp(counter.grace)) != first);
	asp_grace_request(counter.grace, &counter.client, second);
	asp_grace_request(counter.grace, &counter.client, first);
	assert_int_equal(atomic_load(&counter.client.due), first);
	atomic_store(&reader.leave, 1);
	atomic_store(&reader.exit, 1);
	/* Some run comes after the second has elapsed: the only one, where the helper was late. */
	until(asp_grace_elapsed(counter.grace, second));
	until(!atomic_load(&counter.client.due));
	until(atomic_load(&ended_at_work) >= second);
	join(thread);
	detach(&counter);
}

static void *request_a_lot(void *arg)
{
	struct counter *counter = arg;

	for (int i = 0; i < 2000; i++)
		asp_grace_request(counter->grace, &counter->client,
				  asp_grace_stamp(counter->grace));
	return NULL;
}

static void test_requests_from_many_threads(void **state)
{
	struct counter counter;
	pthread_t threads[3];
	uint32_t runs;

	(void)state;
	attach(&counter, NULL);
	for (int i = 0; i < 3; i++)
		threads[i] = spawn(request_a_lot, &counter);
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	/* None was lost: the helper comes to rest with nothing due, and still listens. */
	until(!atomic_load(&counter.client.due));
	assert_true(asp_grace_elapsed(counter.grace, atomic_load(&counter.client.latest)));
	runs = atomic_load(&counter.runs);
	asp_grace_request(counter.grace, &counter.client, asp_grace_stamp(counter.grace));
	until(atomic_load(&counter.runs) != runs);
	detach(&counter);
}

/* ---- Coming and going ------------------------------------------------------------ */

static _Atomic uint32_t gate, in_work, detaching;
static uint32_t work_is_over; /* plain: detach must order it */

static void stay_until_detaching(struct counter *counter)
{
	(void)counter;
	atomic_store(&in_work, 1);
	until(atomic_load(&detaching));
	/* Long enough for the other to get into the call; nothing is asserted on it. */
	for (int i = 0; i < 100; i++)
		sched_yield();
	work_is_over = 1;
}

static void test_detach_during_work(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct counter counter, other;

		atomic_store(&in_work, 0);
		atomic_store(&detaching, 0);
		work_is_over = 0;
		attach(&other, NULL);
		attach(&counter, NULL);
		counter.then = stay_until_detaching;
		request_run(&counter);
		until(atomic_load(&in_work));
		/* Must not be run any more, though asked for. */
		request_run(&counter);
		if (i % 2)
			detach(&other);
		atomic_store(&detaching, 1);
		detach(&counter);
		assert_int_equal(work_is_over, 1);
		assert_int_equal(atomic_load(&counter.runs), 1);
		memset(&counter, 0xff, sizeof(counter));
		if (!(i % 2))
			detach(&other);
	}
	until(count_helpers() == 0);
}

static void *come_and_go(void *flavour)
{
	const struct rcu_flavor_struct *const use = flavour;

	for (uint32_t i = 0; i < 150; i++) {
		struct counter counter;

		attach(&counter, use);
		if (i % 3) {
			request_run(&counter);
			if (i % 3 == 1)
				until(atomic_load(&counter.runs));
		} else if (i % 2) {
			check(asp_grace_wait(counter.grace, asp_grace_stamp(counter.grace), 0));
		}
		detach(&counter);
		check(!atomic_load(&counter.early) && !atomic_load(&counter.inside));
	}
	return NULL;
}

static void test_attach_storm(void **state)
{
	pthread_t threads[6];

	(void)state;
	for (int i = 0; i < 6; i++) {
		const void *flavour = i < 3   ? NULL
				      : i < 5 ? (const void *)&urcu_memb_flavor
					      : (const void *)&urcu_qsbr_flavor;

		threads[i] = spawn(come_and_go, (void *)(uintptr_t)flavour);
	}
	for (int i = 0; i < 6; i++)
		join(threads[i]);
	until(count_helpers() == 0);
}

/* The number of the only driver. (Its name comes a moment after it.) */
static long driver_of_bp(void)
{
	long number = 0;

	until(count_threads("aspace-driver\n", &number) == 1);
	return number;
}

static struct counter leaver;

static void *leave(void *unused)
{
	(void)unused;
	detach(&leaver);
	return NULL;
}

/* Called back while its driver waits for readers, the helper keeps it: no thread is made behind the back of who has
 * just been told that all is there. And who calls back may be one of these readers. */
static void test_called_back(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct counter next;
		pthread_t thread;
		long driver;

		attach(&leaver, NULL);
		driver = driver_of_bp();
		asp_read_lock(leaver.grace);
		asp_grace_request(leaver.grace, NULL, asp_grace_stamp(leaver.grace));
		until(atomic_load(&leaver.grace->turning));
		thread = spawn(leave, NULL);
		until(atomic_load(&leaver.grace->driving) == DRIVER_STOPPING);
		attach(&next, NULL);
		check(asp_has_driver(next.grace));
		asp_read_unlock(next.grace);
		join(thread);
		check(asp_grace_wait(next.grace, asp_grace_stamp(next.grace), 0));
		assert_int_equal(driver_of_bp(), driver);
		detach(&next);
		until(count_helpers() == 0);
	}
}

static void *come_and_look(void *unused)
{
	for (int i = 0; i < 400; i++) {
		struct counter counter;

		attach(&counter, NULL);
		/* It is there, and stays. */
		check(asp_has_driver(counter.grace));
		if (i % 2)
			check(asp_grace_wait(counter.grace, asp_grace_stamp(counter.grace), 0));
		check(asp_has_driver(counter.grace));
		detach(&counter);
	}
	return unused;
}

/* The same wherever the helper and the driver are on their way out. */
static void test_called_back_anywhere(void **state)
{
	pthread_t threads[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		threads[i] = spawn(come_and_look, NULL);
	for (int i = 0; i < 2; i++)
		join(threads[i]);
	until(count_helpers() == 0);
}

/* ---- The helper's own calls -------------------------------------------------------- */

static struct counter inner[3];
static _Atomic uint32_t inner_done;

/* As a release callback may: spaces come, wait and go inside of another's work. */
static void use_others(struct counter *counter)
{
	(void)counter;
	attach(&inner[0], NULL);
	attach(&inner[1], &urcu_memb_flavor);
	for (int i = 0; i < 2; i++) {
		uint64_t stamp = asp_grace_stamp(inner[i].grace);

		check(asp_grace_wait(inner[i].grace, stamp, 0));
		request_run(&inner[i]);
		detach(&inner[i]);
	}
	atomic_fetch_add(&inner_done, 1);
}

static void test_work_uses_others(void **state)
{
	struct counter bp, memb;

	(void)state;
	atomic_store(&inner_done, 0);
	attach(&bp, NULL);
	bp.then = use_others;
	for (uint32_t i = 1; i <= 20; i++) {
		request_run(&bp);
		until(atomic_load(&inner_done) == i);
	}
	detach(&bp);
	/* On another flavour's helper, where bp's comes and goes altogether. */
	attach(&memb, &urcu_memb_flavor);
	memb.then = use_others;
	for (uint32_t i = 21; i <= 40; i++) {
		request_run(&memb);
		until(atomic_load(&inner_done) == i);
	}
	detach(&memb);
	until(count_helpers() == 0);
}

static void detach_myself(struct counter *counter)
{
	detach(counter);
	atomic_store(&gate, 1);
}

static void test_last_detach_on_helper(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		struct counter counter, next;

		atomic_store(&gate, 0);
		attach(&counter, NULL);
		counter.then = detach_myself;
		request_run(&counter);
		if (i % 2) {
			/* Called back, perhaps, on its way out. */
			until(atomic_load(&gate));
			attach(&next, NULL);
			request_run(&next);
			until(atomic_load(&next.runs));
			detach(&next);
		}
		until(atomic_load(&gate));
		if (i % 3 == 0)
			until(count_helpers() == 0);
	}
	until(count_helpers() == 0);
}

/* ---- Signals and cancellation -------------------------------------------------------- */

static struct asp_grace *handler_grace;
static _Atomic uint32_t handled;

static void handler(int sig)
{
	int saved = errno;

	(void)sig;
	if (handler_grace) {
		asp_read_lock(handler_grace);
		asp_read_unlock(handler_grace);
	}
	atomic_fetch_add(&handled, 1);
	errno = saved;
}

static void *acquire_and_release(void *unused)
{
	(void)unused;
	asp_lock_acquire(&lock);
	work_is_over++;
	asp_lock_release(&lock);
	pthread_testcancel();
	return NULL;
}

static struct counter waited;

static void *wait_for_grace(void *unused)
{
	(void)unused;
	check(asp_grace_wait(waited.grace, asp_grace_stamp(waited.grace), 0));
	atomic_store(&gate, 1);
	pthread_testcancel();
	return NULL;
}

static void install_handler(void)
{
	struct sigaction action = {.sa_handler = handler};

	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	atomic_store(&handled, 0);
}

static void test_signals_while_waiting(void **state)
{
	pthread_t thread;

	(void)state;
	install_handler();
	attach(&waited, NULL);
	handler_grace = waited.grace;

	asp_lock_init(&lock);
	asp_lock_acquire(&lock);
	work_is_over = 0;
	thread = spawn(acquire_and_release, NULL);
	until(atomic_load(&lock.next) == 2);
	for (uint32_t i = 1; i <= 5; i++) {
		pthread_kill(thread, SIGUSR1);
		until(atomic_load(&handled) == i);
	}
	assert_int_equal(work_is_over, 0);
	asp_lock_release(&lock);
	assert_null(join(thread));

	atomic_store(&handled, 0);
	atomic_store(&gate, 0);
	asp_read_lock(waited.grace);
	thread = spawn(wait_for_grace, NULL);
	until(atomic_load(&waited.grace->turn.waiters));
	for (uint32_t i = 1; i <= 5; i++) {
		pthread_kill(thread, SIGUSR1);
		until(atomic_load(&handled) == i);
	}
	assert_int_equal(atomic_load(&gate), 0);
	asp_read_unlock(waited.grace);
	assert_null(join(thread));
	detach(&waited);
	handler_grace = NULL;
}

static void test_cancel_while_waiting(void **state)
{
	pthread_t thread;

	(void)state;
	attach(&waited, NULL);
	asp_lock_init(&lock);
	asp_lock_acquire(&lock);
	work_is_over = 0;
	thread = spawn(acquire_and_release, NULL);
	until(atomic_load(&lock.next) == 2);
	pthread_cancel(thread);
	asp_lock_release(&lock);
	assert_ptr_equal(join(thread), PTHREAD_CANCELED);
	assert_int_equal(work_is_over, 1);
	assert_true(asp_lock_try(&lock));

	atomic_store(&gate, 0);
	asp_read_lock(waited.grace);
	thread = spawn(wait_for_grace, NULL);
	until(atomic_load(&waited.grace->turn.waiters));
	pthread_cancel(thread);
	asp_read_unlock(waited.grace);
	assert_ptr_equal(join(thread), PTHREAD_CANCELED);
	assert_int_equal(atomic_load(&gate), 1);
	/* Grace periods are as alive as before. */
	assert_true(asp_grace_wait(waited.grace, asp_grace_stamp(waited.grace), 0));
	detach(&waited);
}

/* A cancelled thread in detach, which joins the helper. */
static void *detach_cancelled(void *unused)
{
	(void)unused;
	pthread_cancel(pthread_self());
	detach(&waited);
	atomic_store(&gate, 1);
	pthread_testcancel();
	return NULL;
}

static void test_cancel_in_detach(void **state)
{
	(void)state;
	attach(&waited, NULL);
	atomic_store(&gate, 0);
	assert_ptr_equal(join(spawn(detach_cancelled, NULL)), PTHREAD_CANCELED);
	assert_int_equal(atomic_load(&gate), 1);
	until(count_helpers() == 0);
}

/* ---- fork ------------------------------------------------------------------------------ */

static struct counter forked[2], forked_memb;

static bool take_lock(struct asp_grace_client *client, uint64_t deadline)
{
	struct counter *counter = (struct counter *)client;

	if (!deadline) {
		asp_lock_acquire(&counter->lock);
		return true;
	}
	while (!asp_lock_try(&counter->lock)) {
		if (asp_now_ms() >= deadline)
			return false;
		sched_yield();
	}
	return true;
}

static void give_lock_back(struct asp_grace_client *client)
{
	asp_lock_release(&((struct counter *)client)->lock);
}

static void give_lock_back_after(struct asp_grace_client *client, bool child)
{
	if (child)
		asp_lock_forget_waiters(&((struct counter *)client)->lock);
	give_lock_back(client);
}

/* Writers: some inside a section, which a grace period in progress waits for. */
static void *lock_and_read(void *arg)
{
	struct counter *counter = arg;

	while (!atomic_load(&stop)) {
		asp_read_lock(counter->grace);
		asp_lock_acquire(&counter->lock);
		asp_lock_release(&counter->lock);
		asp_read_unlock(counter->grace);
		request_run(counter);
		atomic_fetch_add(&reads, 1);
	}
	return NULL;
}

/* Its first section, hence its registration with bp, comes under the lock. */
static void *read_first_under_lock(void *arg)
{
	struct counter *counter = arg;

	asp_lock_acquire(&counter->lock);
	asp_read_lock(counter->grace);
	asp_read_unlock(counter->grace);
	asp_lock_release(&counter->lock);
	return NULL;
}

static void *spawn_readers(void *arg)
{
	while (!atomic_load(&stop)) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, read_first_under_lock, arg))
			continue;
		pthread_join(thread, NULL);
	}
	return NULL;
}

/* In the child, alone. No assertions of cmocka's: its state is the parent's. */
static int live_on(uint64_t before)
{
	for (int i = 0; i < 2; i++) {
		/* The helper may have been at work. */
		atomic_store(&forked[i].inside, 0);
		if (!asp_lock_try(&forked[i].lock))
			return 1;
		asp_lock_release(&forked[i].lock);
	}
	if (!asp_grace_elapsed(forked[0].grace, before))
		return 2;
	if (asp_grace_attach(&urcu_memb_flavor, &forked_memb.client, &forked_memb.grace) !=
	    ASPACE_NOT_SUPPORTED)
		return 3;
	if (asp_grace_wait(forked_memb.grace, asp_grace_stamp(forked_memb.grace), 0))
		return 4;
#if !CHILD_IS_ALONE
	/* No thread is made but where one is asked for. */
	atomic_store(&forked[0].runs, 0);
	request_run(&forked[0]);
	if (!asp_grace_wait(forked[1].grace, asp_grace_stamp(forked[1].grace), 0) ||
	    count_helpers() || atomic_load(&forked[0].runs))
		return 6;
	asp_grace_want_helper(forked[0].grace);
	until(atomic_load(&forked[0].runs));
	if (!asp_grace_wait(forked[1].grace, asp_grace_stamp(forked[1].grace), 0))
		return 5;
	for (int i = 0; i < 2; i++)
		detach(&forked[i]);
	until(count_helpers() == 0);
	for (int i = 0; i < 2; i++)
		attach(&forked[i], NULL);
	request_run(&forked[0]);
	until(atomic_load(&forked[0].runs));
	for (int i = 0; i < 2; i++)
		detach(&forked[i]);
#endif
	return 0;
}

static void test_fork(void **state)
{
	pthread_t threads[3];
	sigset_t before, after;

	(void)state;
	if (getenv("ASPACE_EMULATED")) {
		print_message("skipped: qemu-user does not survive fork beside busy threads\n");
		skip();
	}
	assert_int_equal(asp_grace_install_fork_hooks(asp_grace_before_fork), ASPACE_OK);
	assert_int_equal(asp_grace_install_fork_hooks(asp_grace_before_fork), ASPACE_OK);
	atomic_store(&stop, 0);
	atomic_store(&reads, 0);
	for (int i = 0; i < 2; i++) {
		attach(&forked[i], NULL);
		forked[i].client.halt = take_lock;
		forked[i].client.resume = give_lock_back;
		forked[i].client.after_fork = give_lock_back_after;
	}
	attach(&forked_memb, &urcu_memb_flavor);
	for (int i = 0; i < 2; i++)
		threads[i] = spawn(lock_and_read, &forked[i]);
	threads[2] = spawn(spawn_readers, &forked[0]);
	for (int i = 0; i < 25; i++) {
		uint32_t seen = atomic_load(&reads);
		uint64_t stamp = asp_grace_stamp(forked[0].grace);
		int status;
		pid_t child;

		pthread_sigmask(SIG_BLOCK, NULL, &before);
		child = fork();
		assert_true(child >= 0);
		if (!child) {
			end_if_hung();
			end_child(live_on(stamp));
		}
		pthread_sigmask(SIG_BLOCK, NULL, &after);
		for (int sig = 1; sig < 32; sig++)
			assert_int_equal(sigismember(&before, sig), sigismember(&after, sig));
		until(waitpid(child, &status, 0) == child);
		assert_int_equal(status, 0);
		/* The parent's threads go on. */
		until(atomic_load(&reads) != seen);
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	for (int i = 0; i < 2; i++)
		detach(&forked[i]);
	detach(&forked_memb);
	until(count_helpers() == 0);
}

/* A callback that forks: the helper is the child's only thread. */
static _Atomic int fork_status;

static void fork_here(struct counter *counter)
{
	pid_t child = fork();
	int status;

	check(child >= 0);
	if (!child) {
		end_if_hung();
		end_child(asp_grace_wait(counter->grace, asp_grace_stamp(counter->grace), 0) ? 0
											     : 1);
	}
	check(waitpid(child, &status, 0) == child);
	atomic_store(&fork_status, status);
	atomic_store(&gate, 1);
}

static void test_fork_on_helper(void **state)
{
	struct counter counter;

	(void)state;
	assert_int_equal(asp_grace_install_fork_hooks(asp_grace_before_fork), ASPACE_OK);
	atomic_store(&gate, 0);
	attach(&counter, NULL);
	counter.then = fork_here;
	request_run(&counter);
	until(atomic_load(&gate));
	assert_int_equal(atomic_load(&fork_status), 0);
	detach(&counter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lock_excludes),
		cmocka_unit_test(test_mutex_excludes),
		cmocka_unit_test(test_mutex_wakes),
		cmocka_unit_test(test_lock_is_fair),
		cmocka_unit_test(test_lock_try),
		cmocka_unit_test(test_wait_and_wake),
		cmocka_unit_test(test_thread_self),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_stamps),
		cmocka_unit_test(test_flavours),
		cmocka_unit_test(test_grace_waits_for_readers),
		cmocka_unit_test(test_qsbr),
		cmocka_unit_test(test_publication),
		cmocka_unit_test(test_request_runs_work),
		cmocka_unit_test(test_later_request),
		cmocka_unit_test(test_requests_from_many_threads),
		cmocka_unit_test(test_detach_during_work),
		cmocka_unit_test(test_attach_storm),
		cmocka_unit_test(test_called_back),
		cmocka_unit_test(test_called_back_anywhere),
		cmocka_unit_test(test_work_uses_others),
		cmocka_unit_test(test_last_detach_on_helper),
		cmocka_unit_test(test_signals_while_waiting),
		cmocka_unit_test(test_cancel_while_waiting),
		cmocka_unit_test(test_cancel_in_detach),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_fork_on_helper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
