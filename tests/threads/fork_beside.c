/* SPDX-License-Identifier: MIT */
/*
 * fork() while another thread has a transaction open: the fork waits for it, and meanwhile whoever
 * has it does what it may do at other times, and waits for threads that do. Each of these things
 * is done twice: as soon as the fork waits for the space to come to a halt, and when it has lost its
 * patience and given back all else.
 */
#include <sys/wait.h>

#include "../child.h"
#include "crew.h"
#include "space/space.h"

CREW_FORKS

/* In the order of their creation. Who has the lock of `held` may take that of `older`. */
static struct aspace *older, *held, *newer;
static _Atomic bool go, forked;

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of((number + 1) * 0x1000, (number + 2) * 0x1000);
}

static void flip(struct aspace *space)
{
	check_ok(aspace_map(space, page(1), 1, aspace_null_backend(), NULL, 0));
	check_ok(aspace_unmap(space, page(1), 0));
}

/* ---- Threads that the owner of the transaction waits for ------------------------ */

static void *look_up(void *unused)
{
	(void)unused;
	check_ok(aspace_find(newer, page(0).start, NULL));
	return NULL;
}

static void *look_up_and_wait(void *unused)
{
	look_up(unused);
	until(relaxed_load(&go));
	return NULL;
}

static void *update(void *space)
{
	flip(space);
	return NULL;
}

static void *update_in_section(void *space)
{
	struct aspace_view view;

	aspace_read_begin(space, &view);
	flip(space);
	aspace_read_end(&view);
	return NULL;
}

static void *wait_for_readers(void *space)
{
	flip(space);
	check_ok(aspace_quiesce(space, 0));
	return NULL;
}

static void *make_and_end(void *unused)
{
	struct aspace *space = make_space(NULL);

	(void)unused;
	flip(space);
	end_space(space);
	return NULL;
}

static void *use_transaction(void *space)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_map(txn, page(1), 1, aspace_null_backend(), NULL, 0));
	check_ok(aspace_txn_unmap(txn, page(1), 0));
	check_ok(aspace_txn_commit(txn));
	return NULL;
}

static void *take_snapshot(void *space)
{
	struct aspace_snapshot snapshot;

	check_ok(aspace_snapshot_take(space, &snapshot));
	aspace_snapshot_release(&snapshot);
	return NULL;
}

static void *look_inside(void *space)
{
	check_space(space);
	check_ok(aspace_trim(space, 0));
	check(stats_of(space).snapshots == 0);
	return NULL;
}

static void *install(void *unused)
{
	(void)unused;
	check_ok(aspace_install_fork_hooks());
	return NULL;
}

static void *fork_once(void *unused);

/* ---- What the owner of the transaction does --------------------------------------- */

static pthread_t waiting;
static struct aspace *made; /* ended by the round */

static void end_a_thread(void)
{
	relaxed_store(&go, true);
	join(waiting);
}

static void first_lookup(void)
{
	join(spawn(look_up, NULL));
}

static void make_a_space(void)
{
	made = make_space(NULL);
	check_status(aspace_destroy(made, 0), ASPACE_BUSY);
	join(spawn(make_and_end, NULL));
}

static void update_older(void)
{
	flip(older);
}

static void updates(void)
{
	join(spawn(update, newer));
	join(spawn(update, older));
}

static void updates_in_sections(void)
{
	join(spawn(update_in_section, newer));
	join(spawn(update_in_section, older));
}

static void quiesces(void)
{
	join(spawn(wait_for_readers, newer));
	join(spawn(wait_for_readers, older));
}

static void transactions(void)
{
	use_transaction(older);
	join(spawn(use_transaction, newer));
	join(spawn(use_transaction, older));
}

static void snapshots(void)
{
	take_snapshot(held);
	take_snapshot(newer);
	join(spawn(take_snapshot, held));
	join(spawn(take_snapshot, older));
}

static void figures(void)
{
	join(spawn(look_inside, newer));
	join(spawn(look_inside, older));
}

/* They end when the transaction has. */
static pthread_t second;

static void another_fork(void)
{
	second = spawn(fork_once, NULL);
	until(relaxed_load(&held->halts) >= 2);
}

static void hooks(void)
{
	install(NULL);
	join(spawn(install, NULL));
}

static const struct act {
	const char *name;
	void (*act)(void);
} acts[] = {
	{"the end of a thread", end_a_thread},
	{"a thread's first lookup", first_lookup},
	{"a space made and ended", make_a_space},
	{"an update beneath the transaction", update_older},
	{"updates", updates},
	{"updates in sections", updates_in_sections},
	{"waits for readers", quiesces},
	{"transactions", transactions},
	{"snapshots", snapshots},
	{"statistics, validation, trim", figures},
	{"installing hooks", hooks},
	{"another fork", another_fork},
};

/* ---- Rounds ------------------------------------------------------------------------ */

static void *fork_once(void *unused)
{
	pid_t pid = fork();
	int status;

	(void)unused;
	check(pid >= 0);
	if (!pid) {
		end_if_hung();
		flip(older);
		flip(held);
		flip(newer);
		check_space(held);
		/* What the transaction did is there: it was waited for. */
		check_ok(aspace_find(held, page(2).start, NULL));
		end_child(0);
	}
	relaxed_store(&forked, true);
	check(waitpid(pid, &status, 0) == pid);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return NULL;
}

static bool is_taken(struct aspace *space)
{
	return relaxed_load(&space->lock.next) != relaxed_load(&space->lock.serving);
}

static bool fork_waits(void)
{
	return relaxed_load(&held->halts);
}

static void round_of(const struct act *act, bool late)
{
	struct aspace_txn *txn;
	pthread_t forker;

	relaxed_store(&go, false);
	relaxed_store(&forked, false);
	made = NULL;
	waiting = spawn(look_up_and_wait, NULL);
	check_ok(aspace_txn_begin(held, 0, &txn));
	check_ok(aspace_txn_map(txn, page(2), 1, aspace_null_backend(), NULL, ASPACE_REPLACE));
	forker = spawn(fork_once, NULL);
	until(fork_waits());
	if (late)
		until(!is_taken(newer));
	act->act();
	until(fork_waits());
	check(!relaxed_load(&forked)); /* that is: all this was beside it */
	check_ok(aspace_txn_commit(txn));
	join(forker);
	if (act->act == another_fork)
		join(second);
	relaxed_store(&go, true);
	if (act->act != end_a_thread)
		join(waiting);
	if (made)
		end_space(made);
}

int main(void)
{
	long rounds = 0;

	if (!may_fork_beside_threads())
		return 77;
	check_ok(aspace_install_fork_hooks());
	older = make_space(NULL);
	held = make_space(NULL);
	newer = make_space(NULL);
	check_ok(aspace_map(newer, page(0), 0, aspace_null_backend(), NULL, 0));
	for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++) {
		for (int late = 0; late < 2; late++) {
			for (long n = 0; n < scaled(20); n++, rounds++)
				round_of(&acts[i], late);
		}
		printf("%s\n", acts[i].name);
		fflush(stdout);
	}
	end_space(newer);
	end_space(held);
	end_space(older);
	printf("%ld forks waited for a transaction\n", rounds);
	return 0;
}
