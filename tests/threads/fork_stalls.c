/* SPDX-License-Identifier: MIT */
/*
 * A thread forks in the stall hook: in the child it is still beneath it, the thread that it waited for is
 * gone, and the wait ends. Then everything works there, as in the parent; aspace_destroy() too. Where it
 * stands in the line of the writer lock, others may wait behind it, readers among them, for which fork waits.
 */
#include "../child.h"
#include "obstacle.h"
#include "space/space.h"

CREW_FORKS

#define PAGE UINT64_C(0x1000)

static struct aspace *space, *other;
static _Atomic bool forks;
static bool lets_go_first; /* what is waited for is waited for by the fork as well */
static pid_t parent;
static _Thread_local bool waits;

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(first * PAGE, end * PAGE);
}

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *of, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)of;
	(void)area;
	(void)address;
	(void)access;
	block();
	return ASPACE_OK;
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops), .map = accept, .unmap = accept, .protect = accept, .fault = populate};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 7};

static void fork_when_stalled(void *ctx, struct aspace *of, uint64_t waited_ms)
{
	pid_t pid;

	(void)ctx, (void)of, (void)waited_ms;
	/* Others are told, too: a reader must not fork. */
	if (!waits || !atomic_exchange(&forks, false))
		return;
	if (lets_go_first)
		atomic_store(&let_go, true);
	pid = fork();
	check(pid >= 0);
	if (!pid)
		return;
	check_child(pid);
	atomic_store(&let_go, true);
}

/* ---- What is in the way ---------------------------------------------------------- */

static void *hold_fault(void *unused)
{
	(void)unused;
	check_ok(aspace_fault(space, aspace_va(0), ASPACE_ACCESS_READ, 0));
	return NULL;
}

/* ---- Who waits ------------------------------------------------------------------- */

static enum aspace_status maps(void)
{
	return aspace_map(space, pages(60, 61), 1, &backend, NULL, 0);
}

static enum aspace_status quiesces(void)
{
	return aspace_quiesce(space, 0);
}

static enum aspace_status protects(void)
{
	return aspace_protect(space, pages(0, 1), 2, 0);
}

static enum aspace_status commits(void)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, pages(0, 1), 2, 0));
	return aspace_txn_commit(txn);
}

static enum aspace_status forks_itself(void)
{
	aspace_before_fork();
	aspace_after_fork_parent();
	return ASPACE_OK;
}

static const struct wait {
	const char *what;
	void *(*obstacle)(void *);
	enum aspace_status (*call)(void);
	bool lets_go_first;
	bool reader_behind;
} all[] = {
	{"in the line of the writer lock", hold_lock, maps, true, false},
	{"there, a reader behind it", hold_lock, maps, true, true},
	{"in the hook of a fork that waits", hold_lock, forks_itself, true, false},
	{"waiting for readers", hold_section, quiesces, true, false},
	{"waiting for a fault", hold_fault, protects, false, false},
	{"waiting for a fault in a commit", hold_fault, commits, false, false},
};

static void *wait_for_it(void *arg)
{
	const struct wait *wait = arg;

	waits = true;
	check_ok(wait->call());
	if (getpid() == parent)
		return NULL;
	check_ok(aspace_map(space, pages(80, 81), 1, &backend, NULL, 0));
	check_ok(aspace_quiesce(space, 0));
	check_space(space);
	check_ok(aspace_destroy(space, 0));
	check_ok(aspace_destroy(other, 0));
	end_child(0);
}

/* ---- Readers for whom the fork waits ------------------------------------------------- */

static void *read_behind(void *unused)
{
	struct aspace_view view;

	(void)unused;
	aspace_read_begin(space, &view);
	check_ok(aspace_map(space, pages(70, 71), 1, &backend, NULL, 0));
	aspace_read_end(&view);
	return NULL;
}

static void *wait_for_reader(void *unused)
{
	(void)unused;
	check_ok(aspace_map(other, pages(0, 1), 1, aspace_null_backend(), NULL, 0));
	check_ok(aspace_quiesce(other, 0));
	return NULL;
}

static uint32_t queue_length(void)
{
	return atomic_load(&space->lock.next) - atomic_load(&space->lock.serving);
}

static void test(const struct wait *wait)
{
	pthread_t holder, waiter, behind[2];

	space = make_space(&(struct aspace_options){.stalled = fork_when_stalled, .stall_ms = 1});
	other = make_space(NULL);
	check_ok(aspace_map(space, pages(0, 1), 1, &backend, NULL, 0));
	if (wait->obstacle == hold_section) {
		check_ok(aspace_map(space, pages(8, 9), 1, &backend, NULL, 0));
		check_ok(aspace_quiesce(space, 0));
	}
	atomic_store(&blocked, false);
	atomic_store(&let_go, false);
	lets_go_first = wait->lets_go_first;
	holder = spawn(wait->obstacle, space);
	until(atomic_load(&blocked));
	if (wait->obstacle == hold_section)
		check_ok(aspace_unmap(space, pages(8, 9), 0));
	atomic_store(&forks, !wait->reader_behind);
	waiter = spawn(wait_for_it, (void *)(uintptr_t)wait);
	if (wait->reader_behind) {
		until(queue_length() == 2);
		behind[0] = spawn(read_behind, NULL);
		until(queue_length() == 3);
		behind[1] = spawn(wait_for_reader, NULL);
		until(atomic_load(&other->grace->turning));
		atomic_store(&forks, true);
	}
	join(waiter);
	join(holder);
	for (int i = 0; wait->reader_behind && i < 2; i++)
		join(behind[i]);
	end_space(space);
	end_space(other);
}

int main(void)
{
	long rounds = scaled(20);

	if (!may_fork_beside_threads())
		return 77;
	parent = getpid();
	end_if_hung();
	check_ok(aspace_install_fork_hooks());
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		for (long round = 0; round < rounds; round++)
			test(&all[i]);
		printf("%-40s %ld forks\n", all[i].what, rounds);
	}
	return 0;
}
