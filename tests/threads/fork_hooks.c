/* SPDX-License-Identifier: MIT */
/*
 * The hooks of fork: installed and called by hand, nested, out of place; by a thread that has a
 * transaction open or is in a callback; beside the hooks of an allocator that has a lock of its own.
 *
 * What is installed stays, so each of these is a process of its own.
 */
#include <signal.h>

#include "../child.h"
#include "crew.h"
#include "space/space.h"

CREW_FORKS

static struct aspace *space;

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of((number + 1) * 0x1000, (number + 2) * 0x1000);
}

static enum aspace_status map(uint64_t number, unsigned how)
{
	return aspace_map(space, page(number), 1, aspace_null_backend(), NULL, how);
}

static void flip(void)
{
	check_ok(map(1, 0));
	check_ok(aspace_unmap(space, page(1), 0));
}

static void *update(void *unused)
{
	(void)unused;
	flip();
	return NULL;
}

static bool is_taken(void)
{
	return relaxed_load(&space->lock.next) != relaxed_load(&space->lock.serving);
}

/* Everything works: for us, for another thread, and for a child of a fork without more ado. */
static void check_all_is_well(void)
{
	sigset_t mask;

	check(!is_taken());
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	check(!sigismember(&mask, SIGUSR1));
	flip();
	join(spawn(update, NULL));
	check_ok(aspace_quiesce(space, 0));
	check_space(space);
}

/* ---- Calls that nest ------------------------------------------------------------------ */

/* In the midst of `calls` calls by hand, or none. */
static void fork_amid(int calls)
{
	pid_t pid;

	for (int i = 0; i < calls; i++)
		aspace_before_fork();
	pid = fork();
	check(pid >= 0);
	if (!pid) {
		end_if_hung();
		for (int i = 0; i < calls; i++)
			aspace_after_fork_child();
		check_all_is_well();
		/* A daemon's second fork. */
		pid = fork();
		if (!pid) {
			end_if_hung();
			check(!is_taken());
			flip();
			end_child(0);
		}
		check_child(pid);
		end_child(0);
	}
	for (int i = 0; i < calls; i++) {
		check(is_taken());
		aspace_after_fork_parent();
	}
	check_all_is_well();
	check_child(pid);
}

static void nested(bool installed)
{
	for (int calls = installed ? 0 : 1; calls < 4; calls++) {
		for (long i = 0; i < scaled(20); i++)
			fork_amid(calls);
	}
}

static void installed_and_by_hand(void)
{
	check_ok(aspace_install_fork_hooks());
	check_ok(aspace_install_fork_hooks());
	nested(true);
}

/* In the grandchild of fork_amid() nothing is held: it is not asked for there. */
static void by_hand(void)
{
	nested(false);
}

/* As a program that registers them itself has them, several times over. */
static void registered_by_the_program(void)
{
	for (int i = 0; i < 3; i++)
		check(!pthread_atfork(aspace_before_fork, aspace_after_fork_parent,
				      aspace_after_fork_child));
	check_ok(aspace_install_fork_hooks());
	nested(true);
}

static _Atomic int tries; /* 1: the other thread is ready; 2: it is to try; 3: it has */

static void *try_to_update(void *unused)
{
	(void)unused;
	/* Registered: who is not must wait, and so must who ends. */
	aspace_thread_prepare(space);
	relaxed_store(&tries, 1);
	until(relaxed_load(&tries) == 2);
	check_status(map(1, ASPACE_NOWAIT), ASPACE_BUSY);
	relaxed_store(&tries, 3);
	return NULL;
}

/* Without a fork; in the midst, what the thread itself calls is answered. */
static void out_of_place(void)
{
	pthread_t other = spawn(try_to_update, NULL);
	struct aspace *fresh;
	struct aspace_txn *txn;

	until(relaxed_load(&tries) == 1);
	aspace_after_fork_parent();
	aspace_after_fork_child();
	check_all_is_well();
	aspace_before_fork();
	aspace_before_fork();
	aspace_after_fork_parent();
	check(is_taken());
	relaxed_store(&tries, 2);
	until(relaxed_load(&tries) == 3);
	check_status(aspace_find(space, page(1).start, NULL), ASPACE_NOT_MAPPED);
	check_status(map(1, 0), ASPACE_DEADLOCK);
	check_status(aspace_txn_begin(space, 0, &txn), ASPACE_DEADLOCK);
	check_status(aspace_fault(space, page(1).start, ASPACE_ACCESS_READ, 0), ASPACE_DEADLOCK);
	check_status(aspace_quiesce(space, 0), ASPACE_DEADLOCK);
	check_status(aspace_destroy(space, 0), ASPACE_DEADLOCK);
	check_status(aspace_create(NULL, &fresh), ASPACE_BUSY);
	aspace_after_fork_parent();
	join(other);
	check_all_is_well();
	aspace_after_fork_parent();
	check_all_is_well();
}

/* ---- With a lock of one's own ------------------------------------------------------------ */

static void *update_until(void *stop)
{
	while (!relaxed_load((_Atomic bool *)stop)) {
		flip();
		sched_yield();
	}
	return NULL;
}

/* The forking thread's transaction goes on, on both sides. */
static void own_transaction(void)
{
	check_ok(aspace_install_fork_hooks());
	for (long i = 0; i < scaled(100); i++) {
		struct aspace_txn *txn;
		struct aspace *other = make_space(NULL);
		_Atomic bool stop = false;
		pthread_t waiter;
		pid_t pid;

		check_ok(aspace_txn_begin(space, 0, &txn));
		waiter = spawn(update_until, &stop); /* in the line, in the parent */
		check_ok(aspace_txn_map(txn, page(5), 1, aspace_null_backend(), NULL, 0));
		pid = fork();
		if (!pid)
			end_if_hung();
		check(is_taken());
		check_status(map(6, 0), ASPACE_DEADLOCK);
		check_ok(aspace_txn_map(txn, page(6), 1, aspace_null_backend(), NULL, 0));
		check_status(aspace_find(space, page(5).start, NULL), ASPACE_NOT_MAPPED);
		check_ok(aspace_txn_commit(txn));
		check_ok(aspace_find(space, page(5).start, NULL));
		check_ok(aspace_find(space, page(6).start, NULL));
		if (!pid) {
			check_all_is_well();
			end_space(space);
			end_space(other);
			end_child(0);
		}
		check_child(pid);
		relaxed_store(&stop, true);
		join(waiter);
		check_ok(aspace_clear(space, 0));
		end_space(other);
	}
}

static pid_t forked;

static enum aspace_status fork_here(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	forked = fork();
	if (!forked)
		end_if_hung();
	return ASPACE_OK;
}

static enum aspace_status do_nothing(struct aspace_backend *backend,
				     const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

/* A backend that forks, a program to ask perhaps; both operations end. */
static void in_a_callback(void)
{
	static const struct aspace_backend_ops ops = {
		.size = sizeof(ops),
		.map = fork_here,
		.unmap = do_nothing,
		.protect = do_nothing,
	};
	static struct aspace_backend backend = {.ops = &ops, .flags_mask = 0xff};

	check_ok(aspace_install_fork_hooks());
	for (long i = 0; i < scaled(50); i++) {
		check_ok(aspace_map(space, page(3), 1, &backend, NULL, 0));
		check_ok(aspace_find(space, page(3).start, NULL));
		check_ok(aspace_clear(space, 0));
		check_all_is_well();
		if (!forked)
			end_child(0);
		check_child(forked);
	}
}

/* ---- Beside an allocator ---------------------------------------------------------------- */

static pthread_mutex_t arena = PTHREAD_MUTEX_INITIALIZER;
static bool calls_ours;

static void before(void)
{
	pthread_mutex_lock(&arena);
	if (calls_ours)
		aspace_before_fork();
}

static void parent(void)
{
	if (calls_ours)
		aspace_after_fork_parent();
	pthread_mutex_unlock(&arena);
}

static void child(void)
{
	if (calls_ours)
		aspace_after_fork_child();
	pthread_mutex_unlock(&arena);
}

static void *allocate(void *count)
{
	pthread_mutex_lock(&arena);
	flip();
	pthread_mutex_unlock(&arena);
	if (count)
		relaxed_add((_Atomic uint64_t *)count, 1);
	return NULL;
}

static _Atomic bool enough_forks;

static void *allocate_on(void *count)
{
	while (!relaxed_load(&enough_forks)) {
		allocate(count);
		sched_yield();
	}
	return NULL;
}

static void fork_beside_an_allocator(void)
{
	_Atomic uint64_t count = 0;
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		threads[i] = spawn(allocate_on, &count);
	for (long i = 0; i < scaled(300); i++) {
		uint64_t seen = relaxed_load(&count);
		pid_t pid;

		until(relaxed_load(&count) > seen);
		pid = fork();
		if (!pid) {
			end_if_hung();
			allocate(NULL);
			join(spawn(allocate, NULL));
			end_child(0);
		}
		check_child(pid);
	}
	relaxed_store(&enough_forks, true);
	for (int i = 0; i < 2; i++)
		join(threads[i]);
}

static void before_the_allocators(void)
{
	check_ok(aspace_install_fork_hooks());
	check(!pthread_atfork(before, parent, child));
	fork_beside_an_allocator();
}

/* As aspace.h shows it. */
static void called_by_the_allocators(void)
{
	calls_ours = true;
	check(!pthread_atfork(before, parent, child));
	fork_beside_an_allocator();
}

/* ------------------------------------------------------------------------------------------ */

static void in_a_process(const char *name, void (*test)(void))
{
	pid_t pid;

	printf("%s\n", name);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		end_if_hung();
		space = make_space(NULL);
		test();
		end_space(space);
		end_child(0);
	}
	check_child(pid);
}

int main(void)
{
	if (!may_fork_beside_threads())
		return 77;
	in_a_process("installed, and by hand", installed_and_by_hand);
	in_a_process("by hand", by_hand);
	in_a_process("registered by the program", registered_by_the_program);
	in_a_process("out of place", out_of_place);
	in_a_process("with a transaction open", own_transaction);
	in_a_process("in a callback", in_a_callback);
	in_a_process("installed before the allocator's", before_the_allocators);
	in_a_process("called by the allocator's", called_by_the_allocators);
	return 0;
}
