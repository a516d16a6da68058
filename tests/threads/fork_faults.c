/* SPDX-License-Identifier: MIT */
/*
 * fork() and faults, which may take as long as they like.
 *
 *  1. A fork does not wait for a fault: not beside a transaction either that commits, and waits for one with
 *     the writer lock. The child finds the space whole, without that transaction.
 *  2. The `fault` of a backend may fork. Who waits for that fault, and may be waited for by the fork, because
 *     liburcu's locks wait for readers, is told ASPACE_BUSY: a transaction, an update in a section, a fault in one.
 *     Others wait on. In the child the fault goes on.
 *  3. Two of them at once, in two spaces, beside two transactions.
 *  4. Meanwhile threads begin and end, spaces are made, and faults elsewhere go on.
 *  5. So it is, too, where a transaction waits for that fault through somebody who waits for it, and a reader
 *     for the transaction.
 *  6. A writer that stands still for a fork keeps no fault waiting elsewhere.
 *  7. Whoever waited in the parent, with an entry on the list of pins or without, is not counted in the child.
 */
#include "../child.h"
#include "../listed.h"
#include "crew.h"
#include "space/space.h"

CREW_FORKS

#define PAGE UINT64_C(0x1000)

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(first * PAGE, end * PAGE);
}

/* ---- A space with a fault under way ------------------------------------------------ */

struct ground {
	struct aspace_backend backend; /* first: a backend is one of these */
	struct aspace *space;
	_Atomic unsigned inside;
	_Atomic bool may_end, forks, has_forked;
	_Atomic bool changes_last, in_change;
	pthread_t thread;
};

static _Atomic unsigned forks;

/* In the child the fault goes on, and ends; then there is nothing left. */
static void fork_in_fault(struct ground *ground)
{
	pid_t pid = fork();

	check(pid >= 0);
	if (!pid) {
		end_if_hung();
		relaxed_store(&ground->may_end, true);
		relaxed_store(&ground->has_forked, true);
		return;
	}
	check_child(pid);
	relaxed_add(&forks, 1);
	relaxed_store(&ground->has_forked, true);
}

static enum aspace_status populate(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	struct ground *ground = (struct ground *)backend;

	(void)area, (void)access;
	if (address.value >= 8 * PAGE)
		return ASPACE_OK;
	relaxed_add(&ground->inside, 1);
	while (!relaxed_load(&ground->may_end)) {
		if (relaxed_load(&ground->forks) && !relaxed_load(&ground->has_forked))
			fork_in_fault(ground);
		sched_yield();
	}
	return ASPACE_OK;
}

static uint64_t span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend, (void)area;
	return 4 * PAGE;
}

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *made)
{
	struct ground *ground = (struct ground *)backend;

	(void)made;
	relaxed_store(&ground->in_change, true);
	until(!relaxed_load(&ground->changes_last));
	return ASPACE_OK;
}

static enum aspace_status advise(struct aspace_backend *backend, const struct aspace_area *area,
				 struct aspace_range range, enum aspace_advice advice,
				 struct aspace_vaddr *reached)
{
	(void)backend, (void)area, (void)range, (void)advice, (void)reached;
	return ASPACE_OK;
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.fault = populate,
	.fault_span = span,
	.advise = advise,
};

static pid_t parent;

/* Of pins that wait, and of others who do. */
static void check_none_waits(struct aspace *space)
{
	asp_mutex_acquire(&space->pins.lock);
	check(!count_awaiting(space) && !space->pins.waiters && !space->pins.told);
	asp_mutex_release(&space->pins.lock);
	check(!atomic_load(&space->pins.behind));
}

static void *fault(void *arg)
{
	struct ground *ground = arg;

	check_ok(aspace_fault(ground->space, aspace_va(PAGE), ASPACE_ACCESS_READ, 0));
	if (getpid() != parent) { /* alone */
		check_none_waits(ground->space);
		check_space(ground->space);
		check_ok(aspace_clear(ground->space, 0));
		check_ok(aspace_map(ground->space, pages(1, 3), 2, &ground->backend, NULL, 0));
		check_ok(aspace_destroy(ground->space, 0));
		end_child(0);
	}
	return NULL;
}

static void make_ground(struct ground *ground, const struct aspace_options *options)
{
	*ground = (struct ground){.backend = {.ops = &ops, .flags_mask = 7}};
	ground->space = make_space(options);
	check_ok(aspace_map(ground->space, pages(0, 16), 1, &ground->backend, NULL, 0));
	relaxed_store(&ground->in_change, false);
}

static void begin_fault(struct ground *ground)
{
	ground->thread = spawn(fault, ground);
	until(relaxed_load(&ground->inside));
}

static void begin(struct ground *ground)
{
	make_ground(ground, NULL);
	begin_fault(ground);
}

static void end(struct ground *ground)
{
	relaxed_store(&ground->may_end, true);
	join(ground->thread);
	check_none_waits(ground->space);
	end_space(ground->space);
}

static uint64_t flags_at(struct aspace *space, uint64_t page)
{
	struct aspace_area area;

	check_ok(aspace_find(space, aspace_va(page * PAGE), &area));
	return area.flags;
}

static uint32_t sleepers(struct aspace *space)
{
	uint32_t count;

	asp_mutex_acquire(&space->pins.lock);
	count = count_awaiting(space) + space->pins.waiters;
	asp_mutex_release(&space->pins.lock);
	return count;
}

/* ---- Who waits for it ----------------------------------------------------------------- */

struct job {
	struct ground *ground;
	enum aspace_status (*make)(struct aspace *);
	bool in_section;
	enum aspace_status status;
	pthread_t thread;
};

static enum aspace_status commit(struct aspace *space)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, pages(0, 2), 2, 0));
	check_ok(aspace_txn_unmap(txn, pages(12, 13), 0));
	check_ok(aspace_txn_map(txn, pages(20, 21), 1, aspace_null_backend(), NULL, 0));
	return aspace_txn_commit(txn);
}

static enum aspace_status protect(struct aspace *space)
{
	return aspace_protect(space, pages(0, 2), 2, 0);
}

static enum aspace_status fault_too(struct aspace *space)
{
	return aspace_fault(space, aspace_va(0), ASPACE_ACCESS_WRITE, 0);
}

static void *work(void *arg)
{
	struct job *job = arg;
	struct aspace_view view;

	if (job->in_section)
		aspace_read_begin(job->ground->space, &view);
	job->status = job->make(job->ground->space);
	if (job->in_section)
		aspace_read_end(&view);
	return NULL;
}

static void start(struct job *job)
{
	uint32_t before = sleepers(job->ground->space);

	job->thread = spawn(work, job);
	until(sleepers(job->ground->space) > before);
}

static void check_job(struct job *job, enum aspace_status status)
{
	join(job->thread);
	check_status(job->status, status);
}

/* ---- 1, 4. Beside a transaction that waits ----------------------------------------------- */

static void *look_up(void *space)
{
	check_ok(aspace_find(space, aspace_va(PAGE), NULL));
	return NULL;
}

static void beside_transaction(void)
{
	struct ground ground;
	struct job job = {.ground = &ground, .make = commit};
	struct aspace_snapshot snapshot;
	pid_t pid;

	begin(&ground);
	start(&job);
	check_ok(aspace_snapshot_take(ground.space, &snapshot));
	pid = fork();
	check(pid >= 0);
	if (!pid) {
		end_if_hung();
		check_space(ground.space);
		aspace_snapshot_release(&snapshot);
		/* Neither the transaction nor the fault is there. */
		check(flags_at(ground.space, 1) == 1 && flags_at(ground.space, 12) == 1);
		check_status(aspace_find(ground.space, aspace_va(20 * PAGE), NULL),
			     ASPACE_NOT_MAPPED);
		check_ok(protect(ground.space));
		relaxed_store(&ground.may_end, true);
		check_ok(fault_too(ground.space));
		check_ok(commit(ground.space));
		end_space(ground.space);
		end_child(0);
	}
	check_child(pid);
	check(!relaxed_load(&ground.may_end) && sleepers(ground.space) == 1);
	join(spawn(look_up, ground.space));
	end_space(make_space(NULL));
	check_ok(aspace_fault(ground.space, aspace_va(9 * PAGE), ASPACE_ACCESS_READ, 0));
	aspace_snapshot_release(&snapshot);
	relaxed_store(&ground.may_end, true);
	check_job(&job, ASPACE_OK);
	check(flags_at(ground.space, 1) == 2);
	end(&ground);
	relaxed_add(&forks, 1);
}

/* ---- 2. Out of a fault ---------------------------------------------------------------------- */

static void *turn_over(void *space)
{
	/* A grace period, which waits for whoever is in a section. */
	check_ok(aspace_map(space, pages(30, 31), 1, aspace_null_backend(), NULL, 0));
	check_ok(aspace_unmap(space, pages(30, 31), 0));
	check_ok(aspace_quiesce(space, 0));
	return NULL;
}

static const struct kind {
	const char *name;
	enum aspace_status (*make)(struct aspace *);
	bool in_section, may_be_busy;
} kinds[] = {
	{"a transaction", commit, false, true},
	{"an update", protect, false, false},
	{"a fault", fault_too, false, false},
	{"a transaction in a section", commit, true, true},
	{"an update in a section", protect, true, true},
	{"a fault in a section", fault_too, true, true},
};
#define KINDS (sizeof(kinds) / sizeof(*kinds))

static unsigned busy[KINDS];

/* A fork may be over before anybody has noticed: then it has not been waited for. */
static void out_of_fault(size_t number)
{
	const struct kind *kind = &kinds[number];
	struct ground ground;
	struct job job = {.ground = &ground, .make = kind->make, .in_section = kind->in_section};
	struct aspace *other = make_space(NULL);
	pthread_t readers;

	begin(&ground);
	start(&job);
	readers = spawn(turn_over, other);
	if (kind->in_section)
		until(relaxed_load(&other->grace->started) > relaxed_load(&other->grace->ended));
	relaxed_store(&ground.forks, true);
	until(relaxed_load(&ground.has_forked));
	relaxed_store(&ground.may_end, true);
	join(job.thread);
	if (kind->may_be_busy && job.status == ASPACE_BUSY)
		busy[number]++;
	else
		check_ok(job.status);
	join(readers);
	end(&ground);
	end_space(other);
}

/* Each that a reader may wait for has been BUSY. */
static bool met_all(void)
{
	for (size_t i = 0; i < KINDS; i++) {
		if (kinds[i].in_section && !busy[i])
			return false;
	}
	return true;
}

/* ---- 3. Two at once -------------------------------------------------------------------------- */

static void two_at_once(void)
{
	struct ground grounds[2];
	struct job jobs[2];

	for (int i = 0; i < 2; i++) {
		begin(&grounds[i]);
		jobs[i] = (struct job){.ground = &grounds[i], .make = commit};
		start(&jobs[i]);
	}
	for (int i = 0; i < 2; i++)
		relaxed_store(&grounds[i].forks, true);
	for (int i = 0; i < 2; i++)
		until(relaxed_load(&grounds[i].has_forked));
	for (int i = 0; i < 2; i++) {
		relaxed_store(&grounds[i].may_end, true);
		join(jobs[i].thread);
		check(jobs[i].status == ASPACE_OK || jobs[i].status == ASPACE_BUSY);
		check(flags_at(grounds[i].space, 1) == (jobs[i].status == ASPACE_OK ? 2 : 1));
		end(&grounds[i]);
	}
}

/* ---- 5. Through somebody in between -------------------------------------------------------- */

/* It waits for the fault, which is at work in the first four pages. */
static enum aspace_status advise_beyond(struct aspace *space)
{
	return aspace_advise(space, pages(2, 6), ASPACE_ADVICE_POPULATE_READ, 0);
}

/* It does not meet the fault: it waits for the advice. */
static enum aspace_status commit_beyond(struct aspace *space)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, pages(5, 6), 2, 0));
	return aspace_txn_commit(txn);
}

/* It waits for the transaction. */
static enum aspace_status map_elsewhere(struct aspace *space)
{
	return aspace_map(space, pages(24, 25), 1, aspace_null_backend(), NULL, 0);
}

static unsigned busy_through;

static void through_a_waiter(void)
{
	struct ground ground;
	struct job advice = {.ground = &ground, .make = advise_beyond};
	struct job txn = {.ground = &ground, .make = commit_beyond};
	struct job reader = {.ground = &ground, .make = map_elsewhere, .in_section = true};
	struct aspace *other = make_space(NULL);
	pthread_t readers;
	uint32_t next;

	begin(&ground);
	start(&advice);
	start(&txn);
	next = atomic_load(&ground.space->lock.next);
	reader.thread = spawn(work, &reader);
	until(atomic_load(&ground.space->lock.next) != next);
	/* It has the lock that forks take, and waits for the reader. */
	readers = spawn(turn_over, other);
	until(relaxed_load(&other->grace->started) > relaxed_load(&other->grace->ended));
	relaxed_store(&ground.forks, true);
	until(relaxed_load(&ground.has_forked));
	relaxed_store(&ground.may_end, true);
	check_job(&advice, ASPACE_OK);
	join(txn.thread);
	check(txn.status == ASPACE_OK || txn.status == ASPACE_BUSY);
	busy_through += txn.status == ASPACE_BUSY;
	check(flags_at(ground.space, 5) == (txn.status == ASPACE_OK ? 2 : 1));
	check_job(&reader, ASPACE_OK);
	join(readers);
	end(&ground);
	end_space(other);
}

/* ---- 6. Beside a writer at rest ------------------------------------------------------------- */

/* Has a transaction open. */
struct holder {
	struct aspace *space;
	_Atomic bool has, may_go;
	pthread_t thread;
};

static void *hold(void *arg)
{
	struct holder *holder = arg;
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(holder->space, 0, &txn));
	relaxed_store(&holder->has, true);
	until(relaxed_load(&holder->may_go));
	aspace_txn_abort(txn);
	return NULL;
}

static void begin_holding(struct holder *holder)
{
	holder->thread = spawn(hold, holder);
	until(relaxed_load(&holder->has));
}

static void end_holding(struct holder *holder)
{
	relaxed_store(&holder->may_go, true);
	join(holder->thread);
}

static void *fork_hooks(void *arg)
{
	(void)arg;
	aspace_before_fork();
	aspace_after_fork_parent();
	return NULL;
}

static bool is_at_rest(struct aspace *space)
{
	bool is;

	asp_mutex_acquire(&space->pins.lock);
	is = space->pins.resting && space->pins.lent;
	asp_mutex_release(&space->pins.lock);
	return is;
}

static enum aspace_status protect_one(struct aspace *space)
{
	return aspace_protect(space, pages(4, 5), 2, 0);
}

/* True: a fault has met one. */
static bool beside_rest(void)
{
	struct holder other = {.space = make_space(NULL)}, holder = {.has = false};
	struct ground ground;
	struct job job = {.ground = &ground, .make = protect_one};
	enum aspace_status status;
	bool met = false;
	pthread_t hooks;
	uint32_t next;

	make_ground(&ground, NULL); /* the newer: a fork asks it first */
	holder.space = ground.space;
	begin_holding(&other);
	begin_holding(&holder);
	hooks = spawn(fork_hooks, NULL);
	until(atomic_load(&ground.space->halts));
	next = atomic_load(&ground.space->lock.next);
	job.thread = spawn(work, &job);
	until(atomic_load(&ground.space->lock.next) != next);
	/* The writer is next, and lends what it has to the fork, which waits for the other space. */
	end_holding(&holder);
	until(is_at_rest(ground.space) || relaxed_load(&ground.in_change));
	if (is_at_rest(ground.space)) {
		status = aspace_fault(ground.space, aspace_va(9 * PAGE), ASPACE_ACCESS_READ,
				      ASPACE_NOWAIT);
		/* A fork has patience for some milliseconds. */
		met = is_at_rest(ground.space);
		if (met)
			check_ok(status);
	}
	end_holding(&other);
	check_job(&job, ASPACE_OK);
	join(hooks);
	check_none_waits(ground.space);
	end_space(ground.space);
	end_space(other.space);
	return met;
}

/* ---- 7. Counts ------------------------------------------------------------------------------ */

static enum aspace_status quiesce(struct aspace *space)
{
	return aspace_quiesce(space, 0);
}

/* It waits for a fault, and has no entry. */
static void beside_quiesce(void)
{
	struct ground ground;
	struct job job = {.ground = &ground, .make = quiesce};

	make_ground(&ground, &(struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	begin_fault(&ground);
	check_ok(aspace_unmap(ground.space, pages(0, 16), 0));
	start(&job);
	relaxed_store(&ground.forks, true);
	until(relaxed_load(&ground.has_forked));
	relaxed_store(&ground.may_end, true);
	check_job(&job, ASPACE_OK);
	end(&ground);
}

static void fork_when_stalled(void *arg, struct aspace *space, uint64_t waited_ms)
{
	struct ground *ground = arg;

	(void)space, (void)waited_ms;
	if (relaxed_load(&ground->has_forked))
		return;
	/* The fork waits for the update, and we for the fork. */
	relaxed_store(&ground->changes_last, false);
	fork_in_fault(ground);
}

static void *fault_beyond(void *arg)
{
	struct ground *ground = arg;

	check_ok(aspace_fault(ground->space, aspace_va(9 * PAGE), ASPACE_ACCESS_READ, 0));
	if (getpid() != parent) {
		check_none_waits(ground->space);
		check_space(ground->space);
		end_child(0);
	}
	return NULL;
}

static enum aspace_status protect_beyond(struct aspace *space)
{
	return aspace_protect(space, pages(8, 12), 2, 0);
}

/* A fault that waits for an update forks, when it is told so. */
static void out_of_stall(void)
{
	struct ground ground;
	struct job job = {.ground = &ground, .make = protect_beyond};

	make_ground(&ground, &(struct aspace_options){
				     .stalled = fork_when_stalled, .ctx = &ground, .stall_ms = 1});
	relaxed_store(&ground.changes_last, true);
	job.thread = spawn(work, &job);
	until(relaxed_load(&ground.in_change));
	ground.thread = spawn(fault_beyond, &ground);
	until(relaxed_load(&ground.has_forked));
	check_job(&job, ASPACE_OK);
	end(&ground);
}

int main(void)
{
	unsigned rests = 0;

	if (!may_fork_beside_threads())
		return 77;
	parent = getpid();
	check_ok(aspace_install_fork_hooks());
	for (long round = 0; round < scaled(20) || !met_all() || !busy_through; round++) {
		beside_transaction();
		for (size_t i = 0; i < KINDS; i++)
			out_of_fault(i);
		two_at_once();
		through_a_waiter();
		beside_quiesce();
		out_of_stall();
	}
	while (rests < 3)
		rests += beside_rest();
	for (size_t i = 0; i < KINDS; i++)
		printf("%u times %s was BUSY beside a fork out of a fault\n", busy[i],
		       kinds[i].name);
	printf("%u times it was BUSY beside one that it waited for through an advice\n",
	       busy_through);
	printf("%u times a fault went on beside a writer at rest\n", rests);
	printf("%u forks beside faults\n", relaxed_load(&forks));
	return 0;
}
