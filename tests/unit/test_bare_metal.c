/* SPDX-License-Identifier: MIT */
/*
 * The bare-metal platform, simulated: threads play CPUs, signals play interrupts.
 *
 * Linked with bare_metal.c in place of the hosted platform, and built with
 * ASPACE_BARE_METAL. That file has no annotations: under ThreadSanitizer these tests
 * check the argument at its head.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../stress/common/sanitizers.h"
#include "platform/platform.h"

#define until(condition)                                                                           \
	do {                                                                                       \
		while (!(condition))                                                               \
			sched_yield();                                                             \
	} while (0)

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- The machine -------------------------------------------------------------- */

static _Thread_local unsigned this_cpu;

unsigned aspace_bare_cpu(void)
{
	return this_cpu;
}

void *aspace_bare_pages_alloc(size_t size)
{
	void *block = aligned_alloc(4096, size);

	return block ? memset(block, 0, size) : NULL;
}

void aspace_bare_pages_free(void *block, size_t size)
{
	memset(block, 0xff, size);
	free(block);
}

/* In place of the library's: threads outnumber processors here. */
void aspace_bare_relax(void)
{
	sched_yield();
}

struct cpu {
	unsigned number;
	void (*run)(struct cpu *);
	pthread_t thread;
	_Atomic uint32_t step; /* by default order: what the other has reached */
};

static void *power_up(void *arg)
{
	struct cpu *cpu = arg;

	this_cpu = cpu->number;
	cpu->run(cpu);
	aspace_bare_cpu_offline();
	return NULL;
}

static void start(struct cpu *cpu, unsigned number, void (*run)(struct cpu *))
{
	cpu->number = number;
	cpu->run = run;
	atomic_store(&cpu->step, 0);
	assert_int_equal(pthread_create(&cpu->thread, NULL, power_up, cpu), 0);
}

static void halt(struct cpu *cpu)
{
	assert_int_equal(pthread_join(cpu->thread, NULL), 0);
}

static struct asp_grace *grace;

static int setup(void **state)
{
	static struct asp_grace_client client;

	(void)state;
	return asp_grace_attach(NULL, &client, &grace) != ASPACE_OK;
}

static bool turn(void)
{
	return asp_grace_wait(grace, asp_grace_stamp(grace), 0);
}

/* ---- Tests ---------------------------------------------------------------------- */

static struct asp_lock lock;
static long sum;

static void add(struct cpu *cpu)
{
	(void)cpu;
	for (int i = 0; i < 5000; i++) {
		asp_lock_acquire(&lock);
		sum++;
		asp_lock_release(&lock);
	}
}

static void test_lock(void **state)
{
	struct cpu cpus[3];

	(void)state;
	asp_lock_init(&lock);
	sum = 0;
	asp_lock_acquire(&lock);
	assert_false(asp_lock_try(&lock));
	for (unsigned i = 0; i < 3; i++)
		start(&cpus[i], i + 1, add);
	until(atomic_load(&lock.next) == 4);
	asp_lock_release(&lock);
	for (unsigned i = 0; i < 3; i++)
		halt(&cpus[i]);
	assert_int_equal(sum, 3 * 5000);
	assert_true(asp_lock_try(&lock));
	atomic_fetch_add(&lock.next, 2);
	asp_lock_forget_waiters(&lock);
	asp_lock_release(&lock);
	assert_true(asp_lock_try(&lock));
	asp_lock_release(&lock);
}

static void test_the_rest(void **state)
{
	struct asp_grace_client client;
	struct asp_grace *other;
	_Atomic uint32_t word = 1; /* only to be waited on; one thread */
	void *block = asp_pages_alloc(NULL, 65536);

	(void)state;
	assert_non_null(block);
	asp_poison(block, 64);
	asp_unpoison(block, 64);
	asp_pages_free(NULL, block, 65536);
	assert_true(asp_thread_self() != 0);
	assert_int_equal(asp_now_ms(), 0);
	asp_wait(&word, 1, 1000);
	asp_wake_all(&word);
	assert_int_equal(asp_grace_attach(&word, &client, &other), ASPACE_NOT_SUPPORTED);
	assert_int_equal(asp_grace_install_fork_hooks(asp_grace_before_fork), ASPACE_NOT_SUPPORTED);
}

static void test_stamps(void **state)
{
	uint64_t count = asp_grace_count(grace), stamp;

	(void)state;
	assert_true(asp_grace_elapsed(grace, 1));
	for (unsigned i = 0; i < 10; i++) {
		stamp = asp_grace_stamp(grace);
		assert_int_equal(asp_grace_stamp(grace), stamp);
		/* Nobody has asked. */
		assert_false(asp_grace_elapsed(grace, stamp));
		asp_grace_request(grace, NULL, stamp);
		if (i % 2)
			aspace_bare_quiescent();
		assert_true(asp_grace_elapsed(grace, stamp));
		assert_true(asp_grace_stamp(grace) > stamp);
	}
	assert_int_equal(asp_grace_count(grace), count + 10);
}

/* Goes on where the test lets it. */
static void meet(struct cpu *cpu, uint32_t step)
{
	atomic_store(&cpu->step, step);
	until(atomic_load(&cpu->step) == step + 1);
}

static void read_in_steps(struct cpu *cpu)
{
	check(!asp_grace_in_section(grace));
	asp_read_lock(grace);
	asp_read_lock(grace);
	meet(cpu, 1);
	asp_read_unlock(grace);
	check(asp_grace_in_section(grace));
	aspace_bare_quiescent(); /* does nothing here */
	meet(cpu, 3);
	asp_read_unlock(grace);
	check(!asp_grace_in_section(grace));
	asp_read_lock(grace);
	meet(cpu, 5);
	asp_read_unlock(grace);
	meet(cpu, 7);
}

static void test_waits_for_readers(void **state)
{
	struct cpu cpu;
	uint64_t stamp;

	(void)state;
	start(&cpu, 5, read_in_steps);
	until(atomic_load(&cpu.step) == 1);
	stamp = asp_grace_stamp(grace);
	for (int i = 0; i < 10; i++)
		assert_false(asp_grace_wait(grace, stamp, 0));
	atomic_store(&cpu.step, 2);
	until(atomic_load(&cpu.step) == 3);
	/* Still in the outer one. */
	assert_false(asp_grace_wait(grace, stamp, 0));
	atomic_store(&cpu.step, 4);
	until(atomic_load(&cpu.step) == 5);
	/* In a section again whenever we look, but another one. */
	assert_true(asp_grace_elapsed(grace, stamp));
	assert_false(turn());
	atomic_store(&cpu.step, 6);
	until(atomic_load(&cpu.step) == 7);
	/* Outside, online. */
	assert_true(turn());
	atomic_store(&cpu.step, 8);
	halt(&cpu);
	assert_true(turn());
}

/* A writer replaces a box and destroys the old one after a grace period. */
static struct box {
	int contents;
} boxes[2];
static struct box *_Atomic current;
static _Atomic uint32_t stop, reads, interrupts; /* an end, and counts: relaxed would do */

static void open_box(void)
{
	asp_read_lock(grace);
	check(atomic_load_explicit(&current, memory_order_acquire)->contents > 0);
	asp_read_unlock(grace);
}

static void open_boxes(struct cpu *cpu)
{
	for (uint32_t i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
		struct box *box;

		asp_read_lock(grace);
		box = atomic_load_explicit(&current, memory_order_acquire);
		if (i % 2)
			open_box();
		check(box->contents > 0);
		asp_read_unlock(grace);
		atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
		if (i % 64 == cpu->number)
			aspace_bare_cpu_offline();
		if (i % 32 == cpu->number)
			aspace_bare_quiescent();
	}
}

static void interrupt(int sig)
{
	(void)sig;
	open_box();
	atomic_fetch_add(&interrupts, 1);
}

static void test_publication(void **state)
{
	const struct sigaction action = {.sa_handler = interrupt};
	uint32_t sent = 0, held_up = 0;
	struct cpu cpus[2];

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	atomic_store(&stop, 0);
	atomic_store(&reads, 0);
	boxes[0].contents = 1;
	atomic_store_explicit(&current, &boxes[0], memory_order_release);
	for (unsigned i = 0; i < 2; i++)
		start(&cpus[i], i + 1, open_boxes);
	until(atomic_load(&reads));
	for (int i = 1; i <= 3000 || !held_up; i++) {
		struct box *old = &boxes[(i - 1) % 2];
		uint64_t stamp;

		boxes[i % 2].contents = i;
		atomic_store_explicit(&current, &boxes[i % 2], memory_order_release);
		stamp = asp_grace_stamp(grace);
		while (!asp_grace_wait(grace, stamp, 0))
			held_up++;
		old->contents = 0;
		if (i % 16 == 0 && atomic_load(&interrupts) == sent) {
			pthread_kill(cpus[sent++ % 2].thread, SIGUSR1);
		}
	}
	until(atomic_load(&interrupts) == sent);
	atomic_store(&stop, 1);
	for (unsigned i = 0; i < 2; i++)
		halt(&cpus[i]);
	/* Grace periods and sections did overlap, and so did interrupts. */
	assert_true(held_up > 0);
	assert_true(sent > 0);
	for (unsigned i = 0; i < ASPACE_BARE_CPUS_MAX; i++)
		assert_int_equal(atomic_load(&asp_bare_cpus[i].begun),
				 atomic_load(&asp_bare_cpus[i].ended));
}

static void poll_with_others(struct cpu *cpu)
{
	uint64_t last = 0;

	(void)cpu;
	for (int i = 0; i < 1000; i++) {
		uint64_t stamp = asp_grace_stamp(grace);

		check(stamp >= last);
		last = stamp;
		until(asp_grace_wait(grace, stamp, 0));
		open_box();
	}
}

static void test_many_pollers(void **state)
{
	struct cpu cpus[3];

	(void)state;
	boxes[0].contents = 1;
	atomic_store(&current, &boxes[0]);
	for (unsigned i = 0; i < 3; i++)
		start(&cpus[i], ASPACE_BARE_CPUS_MAX - 1 - i, poll_with_others);
	for (unsigned i = 0; i < 3; i++)
		halt(&cpus[i]);
	assert_true(turn());
}

/* An interrupt after each instruction: the CPU raises SIGTRAP after each while the trap flag is
 * set, and the handler runs with the flag clear. ThreadSanitizer keeps signals back. */
#if defined(__x86_64__) && !SANITIZED_THREAD
#define STEPS 1

static uint64_t step, act_at; /* of this pass; when the handler is to read */
static volatile bool inside;  /* the code beneath relies on its section */
static uint64_t acts, acts_open;

static void read_in_interrupt(int sig)
{
	bool open = asp_grace_in_section(grace);
	uint64_t stamp;

	(void)sig;
	if (step++ != act_at)
		return;
	acts++;
	acts_open += open;
	check(open || !inside);
	asp_read_lock(grace);
	stamp = asp_grace_stamp(grace);
	check(!asp_grace_wait(grace, stamp, 0));
	open_box(); /* nested */
	check(asp_grace_in_section(grace));
	check(!asp_grace_elapsed(grace, stamp));
	asp_read_unlock(grace);
	/* What is beneath is as it was: open, and waited for, or not. */
	check(asp_grace_in_section(grace) == open);
	check(asp_grace_elapsed(grace, stamp) == !open);
}

static void read_beneath(void)
{
	step = 0;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "cc", "memory");
	asp_read_lock(grace);
	inside = true;
	check(asp_grace_in_section(grace));
	open_box();
	check(asp_grace_in_section(grace));
	inside = false;
	asp_read_unlock(grace);
	check(!asp_grace_in_section(grace));
	__asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "cc", "memory");
}

static void test_interrupted_at_each_instruction(void **state)
{
	struct sigaction action = {.sa_handler = read_in_interrupt}, before;

	(void)state;
	if (getenv("ASPACE_EMULATED")) {
		printf("skipped: no single steps under an emulator\n");
		skip();
	}
	sigemptyset(&action.sa_mask);
	assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
	boxes[0].contents = 1;
	atomic_store(&current, &boxes[0]);
	this_cpu = 7;
	for (unsigned online = 0; online < 2; online++) {
		acts = acts_open = 0;
		for (act_at = 0, step = 1; act_at < step; act_at++) {
			if (!online)
				aspace_bare_cpu_offline();
			read_beneath();
			assert_false(asp_grace_in_section(grace));
			assert_true(turn());
		}
		printf("%llu interruptions, %llu of them in a section\n", (unsigned long long)acts,
		       (unsigned long long)acts_open);
		assert_true(acts_open > 10);
		assert_true(acts - acts_open > 10);
	}
	this_cpu = 0;
	assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_the_rest),
		cmocka_unit_test(test_stamps),
		cmocka_unit_test(test_waits_for_readers),
		cmocka_unit_test(test_publication),
		cmocka_unit_test(test_many_pollers),
#ifdef STEPS
		cmocka_unit_test(test_interrupted_at_each_instruction),
#endif
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
