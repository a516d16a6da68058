/* SPDX-License-Identifier: MIT */
#include "hazards.h"

#include <aspace/backend/null.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "random.h"
#include "sanitizers.h"

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

/* ---- Views that outlive their round --------------------------------------------------
 *
 * In the round in which it is taken, the notes of a view are checked like all others. One of
 * an earlier round has no history to be checked against any more, but what it showed
 * then: it must not change.
 */
enum {
	PIN_ROUNDS = 3,
	PIN_LOOKS = 20,
};

struct pin {
	struct aspace_snapshot snapshot; /* or only a section */
	struct aspace_view view;
	struct notes walk;
	unsigned rounds; /* in which it was held; 0: there is none */
};

static struct pin *pin_of(struct worker *worker)
{
	struct pin *pin = worker->extra;

	if (!pin) {
		pin = array_zeroed(1, sizeof(*pin));
		pin->walk.at_capacity = worker->arena->scenario->pages + 2;
		pin->walk.at = array_zeroed(pin->walk.at_capacity, sizeof(*pin->walk.at));
		worker->extra = pin;
	}
	return pin;
}

static void free_pin(struct pin *pin)
{
	free(pin->walk.at);
	free(pin);
}

/* All of the view, noted for this round and remembered for later ones. */
static void begin_pin(struct worker *worker, struct pin *pin)
{
	pin->walk.at_count = 0;
	worker_walk(worker, &pin->walk, &pin->view);
	memcpy(&worker->notes.at[worker->notes.at_count], pin->walk.at,
	       pin->walk.at_count * sizeof(*pin->walk.at));
	worker->notes.at_count += pin->walk.at_count;
	pin->rounds = 1;
}

static void end_section(struct worker *worker)
{
	struct pin *pin = worker->extra;

	aspace_read_end(&pin->view);
	pin->rounds = 0;
	worker->leave = NULL;
}

/* A section that is entered in one round and left in the next. */
static void stay_in_section(struct worker *worker)
{
	struct pin *pin = pin_of(worker);
	uint64_t first = worker_floor(worker);

	if (pin->rounds) {
		for (int i = 0; i < PIN_LOOKS && !worker_is_over(worker); i++) {
			worker_walk_again(worker, &pin->walk, &pin->view);
			sleep_for(100);
		}
		end_section(worker);
		worker->tally.hazards++;
		return;
	}
	aspace_read_begin(worker->arena->witness.space, &pin->view);
	worker->leave = end_section;
	begin_pin(worker, pin);
	worker_note_view(worker, first, worker_now(worker), pin->view.version);
	while (!worker_is_over(worker))
		sleep_for(500);
}

void hazard_sleep(struct worker *worker)
{
	uint64_t first = worker_floor(worker);
	struct aspace_view view;

	if (worker->leave || random_next(&worker->random) % 8 == 0) {
		stay_in_section(worker);
		return;
	}
	aspace_read_begin(worker->arena->witness.space, &view);
	worker_look(worker, &view);
	sleep_for(1000 + (long)(random_next(&worker->random) % 20000));
	worker_look(worker, &view);
	aspace_read_end(&view);
	worker_note_view(worker, first, worker_now(worker), view.version);
	worker->tally.hazards++;
}

static void end_snapshot(struct worker *worker)
{
	struct pin *pin = worker->extra;

	aspace_snapshot_release(&pin->snapshot);
	pin->rounds = 0;
	worker->leave = NULL;
}

static bool begin_snapshot(struct worker *worker, struct pin *pin)
{
	struct aspace *space = worker->arena->witness.space;
	uint64_t first = worker_floor(worker);
	enum aspace_status status = aspace_snapshot_take(space, &pin->snapshot);

	if (status) {
		complain(worker, "aspace_snapshot_take", status);
		return false;
	}
	worker->leave = end_snapshot;
	worker_note_view(worker, first, worker_now(worker), pin->snapshot.version);
	aspace_snapshot_view(&pin->snapshot, &pin->view);
	begin_pin(worker, pin);
	return true;
}

void hazard_pin(struct worker *worker)
{
	struct pin *pin = pin_of(worker);
	bool fresh = !pin->rounds;

	if (fresh && !begin_snapshot(worker, pin))
		return;
	while (!worker_is_over(worker) && !worker_is_full(worker)) {
		if (fresh)
			worker_look(worker, &pin->view);
		else
			worker_walk_again(worker, &pin->walk, &pin->view);
		sleep_for(500);
	}
	if (!fresh && ++pin->rounds >= PIN_ROUNDS) {
		end_snapshot(worker);
		worker->tally.hazards++;
	}
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

/* ---- Cancellation ----------------------------------------------------------------- */

/* The parent waits: the worker is this thread's meanwhile. No call of the library is a
 * cancellation point, and what it waits for must not make it one: an operation that had
 * begun would be missed. */
static void *work_until_cancelled(void *ctx)
{
	struct worker *worker = ctx;
	struct aspace *space = worker->arena->witness.space;
	enum aspace_status status;

	for (;;) {
		pthread_testcancel();
		/* Relaxed: it only says how often the cancellation came during a call. */
		atomic_store_explicit(&worker->inside, true, memory_order_relaxed);
		if (!worker_is_full(worker) && random_next(&worker->random) % 4) {
			worker_write(worker);
		} else {
			status = aspace_quiesce(space, 0);
			if (status)
				complain(worker, "aspace_quiesce", status);
		}
		atomic_store_explicit(&worker->inside, false, memory_order_relaxed);
	}
	return NULL;
}

void hazard_cancel(struct worker *worker)
{
	pthread_t thread;
	void *result = NULL;
	int error;

	atomic_store_explicit(&worker->inside, false, memory_order_relaxed);
	error = pthread_create(&thread, NULL, work_until_cancelled, worker);
	if (error) {
		arena_say(worker->arena, "pthread_create: %s", strerror(error));
		return;
	}
	while (!atomic_load_explicit(&worker->inside, memory_order_relaxed))
		sched_yield();
	pthread_cancel(thread);
	pthread_join(thread, &result);
	if (result != PTHREAD_CANCELED)
		arena_say(worker->arena, "a thread could not be cancelled");
	worker->tally.hazards++;
}

/* ---- fork ------------------------------------------------------------------------- */

enum {
	CHILD_NOTES = NOTES_SPARE - 2,
	CHILD_SECONDS = 600, /* a net, no measure: beside much else it takes long */
};

#if SANITIZED_THREAD
/* By default it ends the child of a process with threads at its next thread; and ours starts
 * one, the helper. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}
#endif

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

/* ---- Progress ------------------------------------------------------------------------
 *
 * A share of what is due is done at the begin of each operation, and so many releases may have been
 * handed over and not have returned: docs/design.md, Progress.
 */
enum {
	SHARE = 32,
	HANDED_OVER = 1024,
};

static struct aspace_stats stats_of(struct worker *worker)
{
	struct aspace_stats stats = {.size = sizeof(stats)};
	enum aspace_status status = aspace_stats(worker->arena->witness.space, &stats, 0);

	if (status)
		complain(worker, "aspace_stats", status);
	return stats;
}

/* The bound that aspace.h states for what was given back. */
static void audit_kind(struct worker *worker, const char *what, uint64_t late, uint64_t waiting)
{
	if (late > 2 * (waiting / SHARE + 1))
		arena_say(worker->arena, "%s were %llu operations late, of %llu at once", what,
			  (unsigned long long)late, (unsigned long long)waiting);
}

/* What waits now is due when two more grace periods have ended. From then on each version is of an
 * operation, or of several, that have done a share; no version that comes after `stats` is of
 * one that had begun before, because both have the writer lock. */
void hazard_audit(struct worker *worker)
{
	struct witness *witness = &worker->arena->witness;
	uint64_t released = atomic_load_explicit(&witness->releases, memory_order_relaxed), late;
	struct aspace_stats first = stats_of(worker), due = first, now;

	while (due.grace_periods < first.grace_periods + 2 && !worker_is_over(worker))
		due = stats_of(worker);
	late = (due.leaving + due.releases_pending) / SHARE + 2;
	now = due;
	while (now.version < due.version + late && !worker_is_over(worker))
		now = stats_of(worker);
	audit_kind(worker, "user objects", now.late_releases, now.releases_waiting_max);
	audit_kind(worker, "leaving areas", now.late_leaving, now.changes_waiting_max);
	audit_kind(worker, "memory", now.late_memory, now.changes_waiting_max);
	if (now.late_nodes) /* no forks here, nor snapshots */
		arena_say(worker->arena, "nodes were %llu operations late",
			  (unsigned long long)now.late_nodes);
	if (now.releases_due > HANDED_OVER)
		arena_say(worker->arena, "%llu releases are handed over",
			  (unsigned long long)now.releases_due);
	if (now.version < due.version + late || due.grace_periods < first.grace_periods + 2)
		return; /* the round is over */
	if (atomic_load_explicit(&witness->releases, memory_order_relaxed) + HANDED_OVER <
	    released + first.releases_pending)
		arena_say(worker->arena, "%llu operations after their grace period objects wait",
			  (unsigned long long)late);
	worker->tally.hazards++;
}

void hazards_begin(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	sigaction(SIGUSR1, &action, NULL);
	pthread_atfork(witness_before_fork, witness_after_fork, witness_after_fork);
	aspace_install_fork_hooks();
}

void hazards_end(struct worker *worker)
{
	const struct scenario *scenario = worker->arena->scenario;

	if (!worker->extra)
		return;
	if (scenario->hazard == hazard_fork)
		munmap(worker->extra, sizeof(struct report));
	else if (scenario->hazard == hazard_sleep || scenario->hazard == hazard_pin)
		free_pin(worker->extra);
	else if (aspace_destroy(worker->extra, 0))
		arena_say(worker->arena, "the other space cannot be destroyed");
	worker->extra = NULL;
}
