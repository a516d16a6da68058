/* SPDX-License-Identifier: MIT */
#include "hazards.h"

#include <aspace/backend/null.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "random.h"

/* Not for anything to happen meanwhile: sleeping is the hazard. */
static void sleep_for(long microseconds)
{
	struct timespec time = {.tv_nsec = microseconds * 1000};

	nanosleep(&time, NULL);
}

static void complain(struct worker *worker, const char *what, enum aspace_status status)
{
	arena_say(worker->arena, "%s: %s", what, aspace_status_string(status));
}

void hazard_sleep(struct worker *worker)
{
	uint64_t first = worker_floor(worker);
	struct aspace_view view;

	aspace_read_begin(worker->arena->witness.space, &view);
	worker_look(worker, &view);
	sleep_for(1000 + (long)(random_next(&worker->random) % 20000));
	worker_look(worker, &view);
	aspace_read_end(&view);
	worker_note_view(worker, first, worker_now(worker), view.version);
	worker->tally.hazards++;
}

void hazard_pin(struct worker *worker)
{
	struct arena *arena = worker->arena;
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	uint64_t first = worker_floor(worker);
	enum aspace_status status = aspace_snapshot_take(arena->witness.space, &snapshot);

	if (status) {
		complain(worker, "aspace_snapshot_take", status);
		return;
	}
	worker_note_view(worker, first, worker_now(worker), snapshot.version);
	aspace_snapshot_view(&snapshot, &view);
	while (!worker_is_over(worker) && worker->notes.at_count + NOTES_SPARE < NOTES_MOST) {
		worker_look(worker, &view);
		sleep_for(500);
	}
	worker_walk(worker, &worker->notes, &view);
	aspace_snapshot_release(&snapshot);
	worker->tally.hazards++;
}

/* ---- Threads ---------------------------------------------------------------------- */

static void *look_once(void *ctx)
{
	struct worker *worker = ctx;

	/* The parent waits: its notes are this thread's meanwhile. */
	worker_find(worker, &worker->notes, worker_choose(worker, &worker->random), &worker->seen);
	return NULL;
}

void hazard_churn(struct worker *worker)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, look_once, worker);

	if (error) {
		arena_say(worker->arena, "pthread_create: %s", strerror(error));
		return;
	}
	pthread_join(thread, NULL);
	worker->tally.lookups++;
	worker->tally.hazards++;
}

/* ---- fork ------------------------------------------------------------------------- */

enum {
	CHILD_NOTES = NOTES_SPARE - 2,
	CHILD_SECONDS = 60,
};

/* What the child has seen; in memory that both have. */
struct report {
	struct notes notes;
	uint64_t version;
	struct note room[CHILD_NOTES];
};

static struct report *report_of(struct worker *worker)
{
	struct report *report = worker->extra;

	if (report)
		return report;
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (report == MAP_FAILED)
		return NULL;
	report->notes = (struct notes){.at = report->room, .at_capacity = CHILD_NOTES};
	return worker->extra = report;
}

/* The child must find a whole space, and be able to use it up. Its exit says what it
 * could not. */
static void live_in_child(struct worker *worker, struct report *report)
{
	struct witness *witness = &worker->arena->witness;
	struct aspace *space = witness->space;
	struct aspace_view view;

	alarm(CHILD_SECONDS); /* a hang is a failure */
	if (aspace_validate(space, NULL, 0))
		_exit(1);
	aspace_read_begin(space, &view);
	worker_walk(worker, &report->notes, &view);
	report->version = view.version;
	aspace_read_end(&view);
	if (aspace_clear(space, 0))
		_exit(2);
	for (uint64_t page = 0; page < 40; page++) {
		uint64_t at = witness->base + page * 2 * witness->page;

		if (aspace_map(space, aspace_range_of(at, at + witness->page), page & 3,
			       &witness->backend, NULL, 0))
			_exit(3);
	}
	if (aspace_quiesce(space, 0))
		_exit(4);
	if (aspace_count(space) != 40 || aspace_validate(space, NULL, 0))
		_exit(5);
	if (aspace_destroy(space, 0))
		_exit(6);
	_exit(0);
}

void hazard_fork(struct worker *worker)
{
	struct report *report = report_of(worker);
	uint64_t first = worker_floor(worker);
	int status;
	pid_t pid;

	if (!report) {
		arena_say(worker->arena, "mmap: %s", strerror(errno));
		return;
	}
	report->notes.at_count = 0;
	pid = fork();
	if (!pid)
		live_in_child(worker, report);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		arena_say(worker->arena, "fork: %s", strerror(errno));
		return;
	}
	if (WIFSIGNALED(status))
		arena_say(worker->arena, "a child died of signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		arena_say(worker->arena, "a child failed at step %d", WEXITSTATUS(status));
	worker_note_view(worker, first, worker_now(worker), report->version);
	for (size_t i = 0; i < report->notes.at_count; i++)
		worker->notes.at[worker->notes.at_count++] = report->room[i];
	worker->tally.hazards++;
}

/* ---- Signals ---------------------------------------------------------------------- */

static void on_signal(int number)
{
	int saved = errno;

	(void)number;
	if (worker_self) {
		worker_handle(worker_self);
		/* The shooter waits for this; sequentially consistent, not for what the
		 * library is to order: the two never look at the same area. */
		atomic_fetch_add(&worker_self->handled, 1);
	}
	errno = saved;
}

void hazard_shoot(struct worker *worker)
{
	struct arena *arena = worker->arena;
	struct worker *target =
		&arena->workers[random_next(&worker->random) % arena->workers_count];
	uint64_t before = atomic_load(&target->handled);

	if (target == worker)
		return;
	if (pthread_kill(target->thread, SIGUSR1)) {
		arena_say(arena, "pthread_kill: a thread is gone");
		return;
	}
	/* Beyond the end of the round if need be: nobody checks before this has arrived. */
	while (atomic_load(&target->handled) == before)
		sched_yield();
	worker->tally.hazards++;
}

/* ---- Other spaces ------------------------------------------------------------------ */

static enum aspace_status use_up(struct aspace *space)
{
	struct aspace_snapshot snapshot;
	enum aspace_status status;

	for (uint64_t i = 0; i < 20; i++) {
		status = aspace_map(space, aspace_range_of(i * 16, i * 16 + 8), i & 1,
				    aspace_null_backend(), NULL, 0);
		if (status)
			return status;
	}
	status = aspace_snapshot_take(space, &snapshot);
	if (status)
		return status;
	status = aspace_clear(space, 0);
	aspace_snapshot_release(&snapshot);
	if (status == ASPACE_OK && aspace_find(space, aspace_va(4), NULL) == ASPACE_OK)
		status = ASPACE_BAD_STATE;
	return status;
}

void hazard_beside(struct worker *worker)
{
	struct aspace *space;
	enum aspace_status status = aspace_create(NULL, &space);

	if (status) {
		complain(worker, "aspace_create", status);
		return;
	}
	status = use_up(space);
	if (status)
		complain(worker, "a space beside", status);
	status = aspace_destroy(space, 0);
	if (status)
		complain(worker, "aspace_destroy", status);
	worker->tally.hazards++;
}

/* Garbage is at its bound: a writer that may not wait is told so, others wait; another space
 * goes on. */
static void use_others(struct worker *worker)
{
	struct arena *arena = worker->arena;
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(arena->witness.space, ASPACE_NOWAIT, &txn);

	if (status == ASPACE_OK)
		aspace_txn_abort(txn); /* recycling has made room, or it is just below */
	else if (status != ASPACE_BUSY)
		complain(worker, "aspace_txn_begin without waiting", status);
	status = use_up(worker->extra);
	if (status)
		complain(worker, "another space while this one is at its bound", status);
}

void hazard_hold(struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t first, stalls = atomic_load(&arena->stalls);
	struct aspace_view view;

	if (!worker->extra && aspace_create(NULL, (struct aspace **)&worker->extra)) {
		arena_say(arena, "aspace_create failed");
		return;
	}
	first = worker_floor(worker);
	aspace_read_begin(arena->witness.space, &view);
	worker_look(worker, &view);
	/* As often as every writer can wait, so that most of them do. */
	while (atomic_load(&arena->stalls) < stalls + 4 && !worker_is_over(worker))
		sched_yield();
	if (atomic_load(&arena->stalls) > stalls) {
		use_others(worker);
		worker->tally.hazards++;
	}
	worker_look(worker, &view);
	aspace_read_end(&view);
	worker_note_view(worker, first, worker_now(worker), view.version);
}

void hazards_begin(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	sigaction(SIGUSR1, &action, NULL);
	aspace_install_fork_hooks();
}

void hazards_end(struct worker *worker)
{
	const struct scenario *scenario = worker->arena->scenario;

	if (!worker->extra)
		return;
	if (scenario->hazard == hazard_fork)
		munmap(worker->extra, sizeof(struct report));
	else if (aspace_destroy(worker->extra, 0))
		arena_say(worker->arena, "the other space cannot be destroyed");
	worker->extra = NULL;
}
