/* SPDX-License-Identifier: MIT */
/*
 * The assertion of the order of locks (platform.h, linux/order.c) sees what it is there for, says
 * which locks by name, and lets pass what is in order. Each violation is a process that must die.
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
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <aspace/aspace.h>
#include <aspace/backend/null.h>

#include "../child.h"
#include "space/space.h"

static struct asp_mutex pins;
static struct asp_lock older, newer, flavours, snapshots, unranked;

static void make_locks(void)
{
	struct asp_lock *const all[] = {&older, &newer, &flavours, &snapshots, &unranked};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		asp_lock_init(all[i]);
	asp_mutex_init(&pins, ASP_LOCK_PINS, 7);
	asp_lock_set_rank(&older, ASP_LOCK_WRITER, 7);
	asp_lock_set_rank(&newer, ASP_LOCK_WRITER, 8);
	asp_lock_set_rank(&flavours, ASP_LOCK_FLAVOURS, 0);
	asp_lock_set_rank(&snapshots, ASP_LOCK_SNAPSHOTS, 7);
}

/* ---- In order ----------------------------------------------------------------- */

static void on_signal(int number)
{
	(void)number;
	/* As aspace_fault() in a handler; what is interrupted has the flavours' lock free. */
	asp_lock_acquire(&older);
	asp_lock_release(&older);
}

static void test_in_order(void **state)
{
	(void)state;
	make_locks();
	asp_lock_acquire(&newer);
	asp_lock_acquire(&older);
	asp_lock_acquire(&flavours);
	asp_lock_acquire(&snapshots);
	asp_mutex_acquire(&pins);
	/* Not in the order in which they were taken. */
	asp_lock_release(&newer);
	asp_lock_release(&snapshots);
	asp_lock_release(&older);
	asp_mutex_release(&pins);
	asp_lock_acquire(&snapshots);
	asp_lock_release(&flavours);
	/* Whoever tries does not wait. */
	assert_true(asp_lock_try(&older));
	assert_false(asp_lock_try(&older));
	asp_lock_acquire(&unranked);
	asp_lock_release(&unranked);
	asp_lock_release(&older);
	asp_lock_release(&snapshots);
	asp_lock_check_none("nothing");
	/* Those of tests are nobody's business, but for the same one twice. */
	asp_lock_acquire(&unranked);
	asp_lock_acquire(&older);
	asp_lock_release(&older);
	asp_lock_check_none("nothing");
	asp_lock_release(&unranked);
	signal(SIGUSR1, on_signal);
	asp_lock_acquire(&newer);
	raise(SIGUSR1);
	asp_lock_release(&newer);
	asp_lock_check_none("nothing");
}

/* ---- Out of order -------------------------------------------------------------- */

static void older_then_newer(void)
{
	asp_lock_acquire(&older);
	asp_lock_acquire(&newer);
}

static void flavours_then_writer(void)
{
	asp_lock_acquire(&flavours);
	asp_lock_acquire(&newer);
}

static void snapshots_then_flavours(void)
{
	asp_lock_acquire(&snapshots);
	asp_lock_acquire(&flavours);
}

static void snapshots_then_writer(void)
{
	asp_lock_acquire(&newer);
	asp_lock_acquire(&snapshots);
	asp_lock_release(&newer);
	asp_lock_acquire(&older);
}

static void tried_then_writer(void)
{
	asp_lock_acquire(&snapshots);
	asp_lock_try(&flavours);
	asp_lock_release(&snapshots);
	asp_lock_acquire(&older);
}

static void pins_then_snapshots(void)
{
	asp_mutex_acquire(&pins);
	asp_lock_acquire(&snapshots);
}

static void snapshots_then_pins_twice(void)
{
	asp_lock_acquire(&snapshots);
	asp_mutex_acquire(&pins);
	asp_lock_release(&snapshots);
	asp_mutex_acquire(&pins);
}

static void sleep_with_pins(void)
{
	_Atomic uint32_t word = 0;

	asp_mutex_acquire(&pins);
	asp_wait(&word, 0, 1);
}

static void twice(void)
{
	asp_lock_acquire(&unranked);
	asp_lock_acquire(&unranked);
}

static void sleep_with_a_lock(void)
{
	_Atomic uint32_t word = 0;

	asp_lock_acquire(&snapshots);
	asp_wait(&word, 0, 1);
}

static void make_space(struct aspace **space)
{
	if (aspace_create(NULL, space))
		_exit(2);
}

/* Spaces' locks among each other, through the public calls. */
static void transaction_then_newer(void)
{
	struct aspace *first, *second;
	struct aspace_txn *txn;

	make_space(&first);
	make_space(&second);
	if (aspace_txn_begin(first, 0, &txn))
		_exit(2);
	aspace_map(second, aspace_range_of(0x1000, 0x2000), 0, aspace_null_backend(), NULL, 0);
}

/* And with what transactions wait for. */
static struct aspace *of_fault, *younger;

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ASPACE_OK;
}

static void map_in_younger(void)
{
	aspace_map(younger, aspace_range_of(0x1000, 0x2000), 0, aspace_null_backend(), NULL, 0);
}

static enum aspace_status fault(struct aspace_backend *of, const struct aspace_area *area,
				struct aspace_vaddr address, unsigned access)
{
	(void)of;
	(void)area;
	(void)address;
	(void)access;
	map_in_younger();
	return ASPACE_OK;
}

static enum aspace_status advise(struct aspace_backend *of, const struct aspace_area *area,
				 struct aspace_range range, enum aspace_advice advice,
				 struct aspace_vaddr *reached)
{
	(void)of;
	(void)area;
	(void)range;
	(void)advice;
	(void)reached;
	map_in_younger();
	return ASPACE_OK;
}

static void map_for_faults(void)
{
	static const struct aspace_backend_ops ops = {.size = sizeof(ops),
						      .map = accept,
						      .unmap = accept,
						      .protect = accept,
						      .fault = fault,
						      .advise = advise};
	static struct aspace_backend backend = {.ops = &ops};

	make_space(&of_fault);
	make_space(&younger);
	if (aspace_map(of_fault, aspace_range_of(0x1000, 0x2000), 0, &backend, NULL, 0))
		_exit(2);
}

static void fault_then_newer(void)
{
	map_for_faults();
	aspace_fault(of_fault, aspace_va(0x1000), ASPACE_ACCESS_READ, 0);
}

static void advice_then_newer(void)
{
	map_for_faults();
	aspace_advise(of_fault, aspace_range_of(0x1000, 0x2000), ASPACE_ADVICE_COLD, 0);
}

static void map_when_stalled(void *ctx, struct aspace *space, uint64_t waited_ms)
{
	(void)ctx, (void)space, (void)waited_ms;
	map_in_younger();
}

static void *map_in_the_older(void *unused)
{
	aspace_map(of_fault, aspace_range_of(0x1000, 0x2000), 0, aspace_null_backend(), NULL, 0);
	return unused;
}

static void stalled_then_newer(void)
{
	struct aspace_options options = {
		.size = sizeof(options), .stalled = map_when_stalled, .stall_ms = 1};
	struct aspace_txn *txn;
	pthread_t thread;

	if (aspace_create(&options, &of_fault))
		_exit(2);
	make_space(&younger);
	if (aspace_txn_begin(of_fault, 0, &txn) ||
	    pthread_create(&thread, NULL, map_in_the_older, NULL))
		_exit(2);
	pthread_join(thread, NULL);
}

static void grace_period_with_a_lock(void)
{
	struct aspace *space;

	make_space(&space);
	asp_lock_acquire(&space->lock);
	asp_grace_wait(space->grace, asp_grace_stamp(space->grace), 0);
}

/* In a child there is no helper: one is to be made, under a lock. */
static void thread_with_a_lock(void)
{
	struct aspace *space;

	make_space(&space);
	aspace_before_fork();
	if (fork())
		_exit(3);
	aspace_after_fork_child();
	asp_lock_acquire(&space->lock);
	asp_grace_want_helper(space->grace);
}

static const struct violation {
	void (*run)(void);
	const char *says;
	bool in_child;
} violations[] = {
	{older_then_newer,
	 "waiting for the writer lock (1) of space 8 with the writer lock (1) of space 7 held",
	 false},
	{flavours_then_writer,
	 "waiting for the writer lock (1) of space 8 with the lock of all flavours (2) held",
	 false},
	{snapshots_then_flavours,
	 "waiting for the lock of all flavours (2) with the snapshot lock (3) of space 7 held",
	 false},
	{snapshots_then_writer,
	 "waiting for the writer lock (1) of space 7 with the snapshot lock (3) of space 7 held",
	 false},
	{tried_then_writer,
	 "waiting for the writer lock (1) of space 7 with the lock of all flavours (2) held",
	 false},
	{pins_then_snapshots,
	 "waiting for the snapshot lock (3) of space 7 with the lock of the list of pins (4) of "
	 "space 7 held",
	 false},
	{snapshots_then_pins_twice,
	 "waiting for the lock of the list of pins (4) of space 7 with the lock of the list of "
	 "pins "
	 "(4) of space 7 held",
	 false},
	{sleep_with_pins,
	 "sleeping upon a word with the lock of the list of pins (4) of space 7 held", false},
	{twice, "waiting for a lock of no rank (0) with a lock of no rank (0) held", false},
	{sleep_with_a_lock, "sleeping upon a word with the snapshot lock (3) of space 7 held",
	 false},
	{transaction_then_newer,
	 "waiting for the writer lock (1) of space 2 with the writer lock (1) of space 1 held",
	 false},
	{fault_then_newer,
	 "waiting for the writer lock (1) of space 2 with a fault or an advice (1) of space 1 held",
	 false},
	{advice_then_newer,
	 "waiting for the writer lock (1) of space 2 with a fault or an advice (1) of space 1 held",
	 false},
	{stalled_then_newer,
	 "waiting for the writer lock (1) of space 2 with a place in a line (1) of space 1 held",
	 false},
	{grace_period_with_a_lock, " with the writer lock (1) of space 1 held", false},
	{thread_with_a_lock, "making a thread with the writer lock (1) of space 1 held", true},
};

static void check_dies(const struct violation *violation)
{
	const struct rlimit no_core = {0, 0};
	char said[1024];
	size_t length = 0;
	ssize_t count;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (!pid) {
		end_if_hung();
		signal(SIGABRT, SIG_DFL);
		setrlimit(RLIMIT_CORE, &no_core);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		make_locks();
		violation->run();
		_exit(0);
	}
	close(fds[1]);
	while ((count = read(fds[0], said + length, sizeof(said) - 1 - length)) > 0)
		length += (size_t)count;
	close(fds[0]);
	said[length] = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!strstr(said, "lock order: ") || !strstr(said, violation->says))
		fail_msg("it said \"%s\" instead of \"%s\"", said, violation->says);
	if (violation->in_child)
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	else
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_out_of_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(violations) / sizeof(*violations); i++)
		check_dies(&violations[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_out_of_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
