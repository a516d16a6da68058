/* SPDX-License-Identifier: MIT */
/*
 * The order of locks, fuzzed: forks, spaces that come and go, snapshots, transactions, callbacks and
 * faults in each other's way. The library asserts its order (src/platform/linux/order.c) and the
 * invariants of its spaces; here whoever would wait for ever shows by not ending.
 *
 * A few spaces are shared and stay. A thread that has one, in a transaction or a callback, goes on to
 * those that are older, as it must. The program ends when everything has been done often enough, and
 * each thing while a fork was waiting for its turn.
 */
#include <sys/wait.h>

#include "../child.h"
#include "crew.h"
#include "space/space.h"

CREW_FORKS

#define SHARED  4 /* in the order of their creation */
#define WORKERS 4
#define SLOTS   8

static uint64_t seed;
static struct aspace *shared[SHARED];
static struct aspace_snapshot kept[WORKERS][2]; /* not on the stack, see aspace.h */

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of((number + 1) * 0x1000, (number + 2) * 0x1000);
}

/* ---- What is done, and how often -------------------------------------------------------- */

enum thing {
	UPDATE,
	TRANSACTION,
	TRANSACTION_BELOW, /* and an update of an older space in it */
	SNAPSHOT,
	FAULT,
	MAKE,       /* a space, and its end */
	MAKE_AMID,  /* with a transaction open */
	CALLBACK,   /* in which an older space is updated */
	RELEASE,    /* in which any is, waited for, made and ended */
	IN_SECTION, /* an update in a section */
	QUIESCE,
	LOOK_INSIDE,
	HOOKS, /* by hand, without a fork */
	THINGS,
};

static const char *const names[THINGS] = {
	"updates",
	"transactions",
	"transactions with an update below",
	"snapshots",
	"faults",
	"spaces made and ended",
	"spaces made amid a transaction",
	"callbacks with an update below",
	"releases that use the library",
	"updates in a section",
	"quiesce",
	"statistics, validation, trim",
	"hooks by hand",
};

static _Atomic uint64_t done[THINGS], beside[THINGS]; /* `beside`: ended while a fork waited */
static _Atomic uint32_t forks_waiting;
static _Atomic uint64_t forks;
static _Atomic bool stop;

static void count(enum thing thing)
{
	relaxed_add(&done[thing], 1);
	if (relaxed_load(&forks_waiting))
		relaxed_add(&beside[thing], 1);
}

static bool is_enough(void)
{
	if (relaxed_load(&forks) < (uint64_t)scaled(60))
		return false;
	for (int i = 0; i < THINGS; i++) {
		if (relaxed_load(&done[i]) < 100 || relaxed_load(&beside[i]) < 10)
			return false;
	}
	return true;
}

/* ---- The backend ------------------------------------------------------------------------- */

static _Thread_local struct dice *dice_of_thread; /* NULL on the helper */
static _Thread_local int in_callback;

/* Statuses that contention and the space's state explain. */
static void check_answer_at(int line, enum aspace_status status)
{
	if (status != ASPACE_OK && status != ASPACE_BUSY && status != ASPACE_NOT_MAPPED &&
	    status != ASPACE_ALREADY_EXISTS)
		fail_at(__FILE__, line, "%s", aspace_status_string(status));
}

#define check_answer(status) check_answer_at(__LINE__, status)

static void update_plainly(struct dice *dice, struct aspace *space)
{
	struct aspace_range range = page(roll_below(dice, SLOTS));

	if (roll_below(dice, 2))
		check_answer(
			aspace_map(space, range, 1, aspace_null_backend(), NULL, ASPACE_NOWAIT));
	else
		check_answer(aspace_unmap(space, range, 0));
}

static int place_of(const struct aspace *space)
{
	int place = 0;

	while (place < SHARED && shared[place] != space)
		place++;
	return place; /* of a space that is not shared: newer than all that are */
}

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

/* `user` is the space. The thread has its lock, and may take an older one's. */
static enum aspace_status map_and_update(struct aspace_backend *backend,
					 const struct aspace_change *change)
{
	int place = place_of(change->user);

	(void)backend;
	check_status(aspace_clear(change->user, 0), ASPACE_DEADLOCK);
	if (place && dice_of_thread && !in_callback) {
		in_callback++;
		update_plainly(dice_of_thread, shared[roll_below(dice_of_thread, (uint64_t)place)]);
		in_callback--;
		count(CALLBACK);
	}
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)backend;
	(void)area;
	(void)address;
	(void)access;
	sched_yield();
	return ASPACE_OK;
}

static struct aspace *make_one(void)
{
	struct aspace *space = make_space(NULL);

	check_ok(aspace_map(space, page(0), 1, aspace_null_backend(), NULL, 0));
	return space;
}

static _Atomic uint64_t nested_quiesces;

/* With no lock held, on the helper or in a thread that quiesces. */
static void release(struct aspace_backend *backend, void *user)
{
	static _Atomic uint64_t turn;
	uint64_t number = relaxed_add(&turn, 1);
	struct aspace *other = shared[number / 4 % SHARED];

	(void)backend;
	(void)user;
	switch (number % 4) {
	case 0:
		end_space(make_one());
		break;
	case 1: /* perhaps one whose releases the thread is running already, further up */
		if (aspace_quiesce(other, ASPACE_NOWAIT) == ASPACE_DEADLOCK)
			relaxed_add(&nested_quiesces, 1);
		break;
	default:
		check_answer(aspace_unmap(other, page(number % SLOTS), 0));
	}
	count(RELEASE);
}

static enum aspace_status share(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	*copy = user;
	return ASPACE_OK;
}

static struct aspace_backend *busy_backend(void)
{
	static const struct aspace_backend_ops ops = {
		.size = sizeof(ops),
		.map = map_and_update,
		.unmap = change,
		.protect = change,
		.fault = populate,
		.clone = share,
		.release = release,
	};
	static struct aspace_backend backend = {.ops = &ops, .flags_mask = 0xff};

	return &backend;
}

/* ---- Things ----------------------------------------------------------------------------- */

static struct aspace *any(struct dice *dice)
{
	return shared[roll_below(dice, SHARED)];
}

static void update(struct dice *dice, struct aspace *space)
{
	struct aspace_range range = page(roll_below(dice, SLOTS));

	switch (roll_below(dice, 3)) {
	case 0:
		/* Not where areas leave: that runs releases, which may wait for others. */
		check_answer(aspace_map(space, range, 1, busy_backend(), space, ASPACE_NOWAIT));
		break;
	case 1:
		check_answer(aspace_unmap(space, range, 0));
		break;
	default:
		check_answer(aspace_protect(space, range, 1 + roll_below(dice, 2), 0));
	}
	count(UPDATE);
}

static void transact(struct dice *dice)
{
	uint64_t place = roll_below(dice, SHARED);
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(shared[place], 0, &txn);

	check_answer(status);
	if (status != ASPACE_OK)
		return;
	check_answer(aspace_txn_map(txn, page(roll_below(dice, SLOTS)), 1, aspace_null_backend(),
				    NULL, 0));
	sched_yield();
	if (place && roll_below(dice, 2)) {
		update_plainly(dice, shared[roll_below(dice, place)]);
		count(TRANSACTION_BELOW);
	}
	if (roll_below(dice, 4) == 0) {
		struct aspace *space = make_space(NULL);

		check_status(aspace_destroy(space, 0), ASPACE_BUSY);
		aspace_txn_abort(txn);
		end_space(space);
		count(MAKE_AMID);
		return;
	}
	check_answer(aspace_txn_unmap(txn, page(roll_below(dice, SLOTS)), 0));
	check_answer(aspace_txn_commit(txn));
	count(TRANSACTION);
}

static void snapshot(struct dice *dice, struct aspace_snapshot *mine)
{
	mine += roll_below(dice, 2);
	aspace_snapshot_release(mine);
	check_ok(aspace_snapshot_take(any(dice), mine));
	count(SNAPSHOT);
}

static void fault(struct dice *dice)
{
	enum aspace_status status =
		aspace_fault(any(dice), page(roll_below(dice, SLOTS)).start, ASPACE_ACCESS_READ, 0);

	check(status == ASPACE_NOT_SUPPORTED || status == ASPACE_OK || status == ASPACE_BUSY ||
	      status == ASPACE_NOT_MAPPED);
	count(FAULT);
}

static void in_section(struct dice *dice)
{
	/* Not the newest: fork_once() may have it. */
	struct aspace *space = shared[roll_below(dice, SHARED - 1)];
	struct aspace_view view;

	aspace_read_begin(space, &view);
	update_plainly(dice, space);
	aspace_read_end(&view);
	count(IN_SECTION);
}

static void look_inside(struct dice *dice)
{
	struct aspace *space = any(dice);

	switch (roll_below(dice, 3)) {
	case 0:
		check_space(space);
		break;
	case 1:
		stats_of(space);
		break;
	default:
		check_ok(aspace_trim(space, 0));
	}
	count(LOOK_INSIDE);
}

static void hooks_by_hand(struct dice *dice)
{
	bool twice = roll_below(dice, 2);

	aspace_before_fork();
	if (twice)
		aspace_before_fork();
	check_status(aspace_clear(any(dice), 0), ASPACE_DEADLOCK);
	if (twice)
		aspace_after_fork_parent();
	aspace_after_fork_parent();
	count(HOOKS);
}

static void do_something(struct dice *dice, struct aspace_snapshot *mine)
{
	switch (roll_below(dice, 16)) {
	case 0:
	case 1:
		transact(dice);
		break;
	case 2:
		snapshot(dice, mine);
		break;
	case 3:
		fault(dice);
		break;
	case 4:
		in_section(dice);
		break;
	case 5:
		look_inside(dice);
		break;
	case 6:
		end_space(make_one());
		count(MAKE);
		break;
	case 7:
		check_answer(aspace_quiesce(any(dice), roll_below(dice, 2) ? ASPACE_NOWAIT : 0));
		count(QUIESCE);
		break;
	case 8:
		if (roll_below(dice, 8) == 0)
			hooks_by_hand(dice);
		break;
	default:
		update(dice, any(dice));
	}
}

static void *worker(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};
	struct aspace_snapshot *mine = kept[(uintptr_t)arg];

	dice_of_thread = &dice;
	while (!relaxed_load(&stop)) {
		do_something(&dice, mine);
		if (roll_below(&dice, 4) == 0)
			sched_yield();
	}
	aspace_snapshot_release(&mine[0]);
	aspace_snapshot_release(&mine[1]);
	return NULL;
}

/* ---- Forks -------------------------------------------------------------------------------- */

/* The last releases want the other spaces. */
static void end_all(void)
{
	for (int i = 0; i < SHARED; i++)
		check_ok(aspace_clear(shared[i], 0));
	for (int i = 0; i < SHARED; i++)
		check_ok(aspace_quiesce(shared[i], 0));
	for (int i = 0; i < SHARED; i++)
		check(stats_of(shared[i]).releases_pending == 0);
	for (int i = 0; i < SHARED; i++)
		end_space(shared[i]);
}

/* Alone, with what the others have left; so many generations more. */
static void live(struct dice *dice, int deep)
{
	struct aspace_snapshot mine[2] = {{0}};

	dice_of_thread = dice;
	for (;; deep--) {
		pid_t pid;
		int status;

		end_if_hung();
		for (int i = 0; i < SHARED; i++)
			check_space(shared[i]);
		for (int i = 0; i < 50; i++)
			do_something(dice, mine);
		if (!deep)
			break;
		pid = fork();
		if (!pid)
			continue;
		check(waitpid(pid, &status, 0) == pid);
		check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		break;
	}
	aspace_snapshot_release(&mine[0]);
	aspace_snapshot_release(&mine[1]);
	for (int i = 0; i < WORKERS; i++) {
		aspace_snapshot_release(&kept[i][0]);
		aspace_snapshot_release(&kept[i][1]);
	}
	/* Whatever the others were at, their snapshots were taken, or not. */
	end_all();
	end_child(0);
}

static void fork_once(struct dice *dice)
{
	struct aspace_txn *txn = NULL;
	pid_t pid;

	/* Now and then with a transaction of its own, of the newest: nobody who has another space
	 * waits for that. */
	if (roll_below(dice, 4) == 0)
		check_answer(aspace_txn_begin(shared[SHARED - 1], 0, &txn));
	relaxed_store(&forks_waiting, 1);
	pid = fork();
	check(pid >= 0);
	if (txn && (!pid || roll_below(dice, 2)))
		check_answer(aspace_txn_commit(txn));
	else if (txn)
		aspace_txn_abort(txn);
	if (!pid)
		live(dice, (int)roll_below(dice, 3) / 2);
	relaxed_store(&forks_waiting, 0);
	check_child(pid);
	relaxed_add(&forks, 1);
}

int main(int argc, char **argv)
{
	struct dice dice;
	pthread_t threads[WORKERS];

	if (!may_fork_beside_threads())
		return 77;
	seed = seed_from(argc, argv);
	dice.state = seed + WORKERS;
	check_ok(aspace_install_fork_hooks());
	for (int i = 0; i < SHARED; i++)
		shared[i] = make_space(NULL);
	for (uintptr_t i = 0; i < WORKERS; i++)
		threads[i] = spawn(worker, (void *)i);
	/* Before the first fork all have begun: see fork.c. */
	until(relaxed_load(&done[UPDATE]) > 100 && relaxed_load(&done[RELEASE]) > 10);
	while (!is_enough())
		fork_once(&dice);
	relaxed_store(&stop, true);
	for (int i = 0; i < WORKERS; i++)
		join(threads[i]);
	end_all();
	for (int i = 0; i < THINGS; i++)
		printf("%9llu %s, %llu while a fork was waiting\n",
		       (unsigned long long)relaxed_load(&done[i]), names[i],
		       (unsigned long long)relaxed_load(&beside[i]));
	printf("%9llu of quiesce in a release of the same space\n",
	       (unsigned long long)relaxed_load(&nested_quiesces));
	printf("%9llu forks\n", (unsigned long long)relaxed_load(&forks));
	return 0;
}
