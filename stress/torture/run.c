/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "hazards.h"
#include "histogram.h"
#include "progress.h"
#include "random.h"

enum {
	COMPARE_EACH = 16,  /* rounds; in the first of them the backend's memory is compared */
	ROUNDS_BEYOND = 50, /* for what is to be provoked, when all else has been met */
	GARBAGE_SLACK = 256 * 1024, /* what one operation may add beyond the bound */
};

_Atomic bool run_interrupted;

struct run {
	const struct options *options;
	struct arena arena;
	struct worker inspector; /* the coordinator, as it looks at the space; no thread */
	struct progress progress;
	uint64_t begun;
	uint64_t rounds;
	uint64_t beyond;   /* of these, when all else had been met */
	uint64_t returned; /* as far as it has been told */
	bool lied;
};

/* ---- Beginning and ending ---------------------------------------------------------- */

static void on_stall(void *ctx, struct aspace *space, uint64_t waited_ms)
{
	struct arena *arena = ctx;

	(void)space;
	(void)waited_ms;
	atomic_fetch_add(&arena->stalls, 1);
}

/* Under the writer lock, behind the version that shows the area again. */
static void on_refused(void *ctx, struct aspace *space, const struct aspace_area *area,
		       enum aspace_status status)
{
	struct arena *arena = ctx;

	if (status != ASPACE_NO_MEMORY || aspace_find(space, area->start, NULL) != ASPACE_OK)
		arena_say(arena, "told that %#" PRIx64 " is back (%s), but it is not",
			  area->start.value, aspace_status_string(status));
	atomic_fetch_add_explicit(&arena->witness.told, 1, memory_order_relaxed);
}

static void make_worker(struct run *run, struct worker *worker, unsigned number)
{
	*worker = (struct worker){
		.arena = &run->arena,
		.at = -1,
		/* The version that the first round begins with. */
		.seen = run->inspector.seen,
		.handler_seen = run->inspector.seen,
		.random = random_seeded(run->options->seed, 2 * number),
		.handler_random = random_seeded(run->options->seed, 2 * number + 1),
		.notes = {.at_capacity = NOTES_MOST},
		.deeds = {.at_capacity = DEEDS_MOST},
		.handler_notes = {.at_capacity = HANDLER_NOTES},
	};
	worker->notes.at = array_zeroed(NOTES_MOST, sizeof(*worker->notes.at));
	worker->deeds.at = array_zeroed(DEEDS_MOST, sizeof(*worker->deeds.at));
	worker->handler_notes.at = array_zeroed(HANDLER_NOTES, sizeof(*worker->handler_notes.at));
	worker->doing.random = random_seeded(run->options->seed, 1000 + number);
}

static bool open_arena(struct run *run, const struct scenario *scenario)
{
	const struct options *options = run->options;
	struct arena *arena = &run->arena;
	struct aspace_options space = {
		.mode = scenario->mode,
		.garbage_max = scenario->garbage_max,
		.stalled = on_stall,
		.refused = on_refused,
		.stall_ms = scenario->stall_ms ? scenario->stall_ms : 1,
		.ctx = arena,
	};
	char reason[200];

	*arena = (struct arena){.scenario = scenario, .share = options->share};
	for (int i = 0; i < ACTIONS; i++)
		arena->weights[i] = options->weights[i] < 0 ? scenario->weights[i]
							    : (unsigned)options->weights[i];
	if (!witness_open(&arena->witness, options->backend, scenario->pages, scenario->objects,
			  scenario->keeps, &space, reason)) {
		fprintf(stderr, "torture: %s\n", reason);
		return false;
	}
	atomic_store(&arena->witness.refuse_each, scenario->refuse_each);
	pthread_mutex_init(&arena->voice, NULL);
	pthread_mutex_init(&arena->quiet, NULL);
	make_worker(run, &run->inspector, 999);
	ledger_begin(&arena->ledger, arena->witness.size, worker_now(&run->inspector));
	arena->ledger.origin = arena->witness.base;
	arena->ledger.history.apart = scenario->mode & ASPACE_NEVER_MERGE;
	arena->ledger.loses = scenario->keeps ? witness_loses : NULL;
	arena->ledger.loses_ctx = &arena->witness;
	return true;
}

static bool start_workers(struct run *run)
{
	const struct options *options = run->options;
	struct arena *arena = &run->arena;
	unsigned writers = options->writers + arena->scenario->writers;
	unsigned wanted = options->readers + writers + (arena->scenario->hazard != NULL);
	sigset_t interrupt, old;
	int error = 0;

	arena->workers = aligned_alloc(_Alignof(struct worker), wanted * sizeof(struct worker));
	if (!arena->workers)
		return false;
	gate_make(&arena->gate, wanted);
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT); /* ^C is for the coordinator */
	pthread_sigmask(SIG_BLOCK, &interrupt, &old);
	for (unsigned i = 0; i < wanted; i++) {
		struct worker *worker = &arena->workers[i];

		make_worker(run, worker, i);
		worker->act = i < options->readers             ? worker_read
			      : i < options->readers + writers ? worker_write
							       : arena->scenario->hazard;
	}
	arena->workers_count = wanted;
	for (unsigned i = 0; i < wanted && !error; i++)
		error = pthread_create(&arena->workers[i].thread, NULL, worker_main,
				       &arena->workers[i]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		/* Those that run wait at the gate, which never opens. */
		fprintf(stderr, "torture: %u threads: %s\n", wanted, strerror(error));
		exit(2);
	}
	return true;
}

static void stop_workers(struct run *run)
{
	struct arena *arena = &run->arena;

	atomic_store(&arena->stop, true);
	gate_open(&arena->gate);
	for (unsigned i = 0; i < arena->workers_count; i++) {
		pthread_join(arena->workers[i].thread, NULL);
		hazards_end(&arena->workers[i]);
	}
}

static void close_arena(struct run *run)
{
	struct arena *arena = &run->arena;
	char reason[200];

	if (!witness_close(&arena->witness, reason))
		arena_say(arena, "%s", reason);
	ledger_free(&arena->ledger);
	for (unsigned i = 0; i < arena->workers_count; i++)
		worker_free(&arena->workers[i]);
	worker_free(&run->inspector);
	free(arena->workers);
	gate_free(&arena->gate);
	pthread_mutex_destroy(&arena->voice);
	pthread_mutex_destroy(&arena->quiet);
}

/* ---- Figures ------------------------------------------------------------------------ */

static void add_tally(struct tally *sum, const struct tally *tally)
{
	sum->lookups += tally->lookups;
	sum->checked += tally->checked;
	sum->overlapping += tally->overlapping;
	sum->bad_states += tally->bad_states;
	sum->aborted += tally->aborted;
	sum->hazards += tally->hazards;
	sum->met += tally->met;
	sum->busy += tally->busy;
	for (int i = 0; i < NOTE_KINDS; i++)
		sum->notes[i] += tally->notes[i];
	for (int i = 0; i < ACTIONS; i++) {
		sum->actions[i] += tally->actions[i];
		sum->done[i] += tally->done[i];
	}
}

/* Between rounds. */
static struct tally sum_tallies(const struct run *run)
{
	struct tally sum = run->inspector.tally;

	for (unsigned i = 0; i < run->arena.workers_count; i++)
		add_tally(&sum, &run->arena.workers[i].tally);
	return sum;
}

static uint64_t sum_operations(const struct tally *tally)
{
	uint64_t sum = 0;

	for (int i = ACTION_READS; i < ACTIONS; i++)
		sum += tally->done[i];
	return sum;
}

static double seconds_since(uint64_t then)
{
	return (double)(clock_now() - then) / 1e9;
}

/* ---- A round ------------------------------------------------------------------------ */

/* A thread that never comes back is what a lost wakeup looks like. */
static void say_hang(const struct run *run)
{
	fprintf(stderr, "torture: %s: a round does not end:\n", run->arena.scenario->name);
	for (unsigned i = 0; i < run->arena.workers_count; i++) {
		const struct worker *worker = &run->arena.workers[i];
		int at = atomic_load(&worker->at);

		fprintf(stderr, "    thread %u: %s\n", i,
			at >= 0                       ? action_name((enum action)at)
			: worker->act == worker_read  ? "between two reads"
			: worker->act == worker_write ? "between two writes"
						      : "at its hazard");
	}
	fflush(stdout);
	_exit(1);
}

static bool time_is_up(const struct run *run)
{
	return seconds_since(run->begun) >= run->options->seconds;
}

/* Let all threads go on until they have arrived at the gate again. */
static void let_go(struct run *run, bool working)
{
	struct arena *arena = &run->arena;
	uint64_t since = clock_now();

	atomic_store(&arena->round_over, false);
	atomic_store(&arena->checking, !working);
	gate_open(&arena->gate);
	while (!gate_await(&arena->gate, 0.1)) {
		if (atomic_load(&run_interrupted) ||
		    (time_is_up(run) && !options_count(run->options)))
			atomic_store(&arena->round_over, true);
		/* However few notes are made, such a round is long enough. */
		if (seconds_since(since) > 2)
			atomic_store(&arena->round_over, true);
		if (seconds_since(since) > 2 + run->options->patience)
			say_hang(run);
	}
}

/* A lookup, because with other notes what is changed here may not matter. From the middle on:
 * that is where the versions of a round are. */
static bool lie_about_lookup(struct notes *notes)
{
	for (size_t i = notes->at_count / 2; i < notes->at_count; i++) {
		struct note *note = &notes->at[i];

		if (note->kind != NOTE_FIND)
			continue;
		note->found = true;
		note->value ^= 1 << 7; /* no flag of any area */
		note->start++;
		return true;
	}
	return false;
}

/* An operation that is known to have published its version, as the last one of its time: the
 * version behind that cannot be its own. */
static bool lie_about_deed(struct deeds *deeds, enum lie_kind lie)
{
	for (size_t i = 0; i < deeds->at_count; i += 1 + deeds->at[i].parts) {
		struct deed *deed = &deeds->at[i];

		if (!deed->sure || deed->loose || deed->parts || deed->start >= deed->end ||
		    deed->version != deed->after)
			continue;
		if (lie == LIE_DEED)
			deed->kind = DEED_FREED;
		else
			deed->version++;
		return true;
	}
	return false;
}

/* One false thing, if there is something to be false about. */
static bool tell_lie(struct run *run)
{
	enum lie_kind lie = run->options->lie;

	for (unsigned i = 0; i < run->arena.workers_count; i++) {
		struct worker *worker = &run->arena.workers[i];

		if (lie == LIE_NOTE ? lie_about_lookup(&worker->notes)
				    : lie_about_deed(&worker->deeds, lie))
			return true;
	}
	return false;
}

/* In a grace-unmap space the helper thread publishes, too. What could not be unmapped is
 * to be told, once each, here and to the hook. */
static void settle(struct run *run)
{
	struct witness *witness = &run->arena.witness;
	enum aspace_status status = aspace_quiesce(witness->space, 0);
	uint64_t returned = atomic_load_explicit(&witness->returned, memory_order_relaxed);
	uint64_t told = atomic_load_explicit(&witness->told, memory_order_relaxed);

	if (status != (returned == run->returned ? ASPACE_OK : ASPACE_BAD_STATE))
		arena_say(&run->arena, "aspace_quiesce: %s, after %" PRIu64 " refusals",
			  aspace_status_string(status), returned - run->returned);
	if (told != returned)
		arena_say(&run->arena, "%" PRIu64 " refusals were told, of %" PRIu64, told,
			  returned);
	run->returned = returned;
}

/* Everything stands still: is the space what the deeds have made of it? */
static bool close_round(struct run *run)
{
	struct arena *arena = &run->arena;
	const struct deeds **logs = array_zeroed(arena->workers_count + 1, sizeof(*logs));
	struct aspace_violation violation;
	struct aspace_view view;
	char reason[200];
	struct lie lie;
	struct deeds deferred;
	bool fine, compare = run->rounds % COMPARE_EACH == 1;

	if (arena->witness.grace)
		settle(run);
	if (aspace_validate(arena->witness.space, &violation, 0))
		arena_say(arena, "invariant %u at %#" PRIx64 ": %s", violation.invariant,
			  violation.address.value, violation.what);
	/* At once, because who meets it later may not be able to say what it is. */
	if (run->options->lie == LIE_MEMORY && !run->lied)
		compare = run->lied = witness_tamper(&arena->witness);
	if (compare && !witness_compare(&arena->witness, reason))
		arena_say(arena, "%s", reason);
	if (!witness_compare_flags(&arena->witness, reason))
		arena_say(arena, "%s", reason);

	aspace_read_begin(arena->witness.space, &view);
	worker_walk(&run->inspector, &run->inspector.notes, &view);
	aspace_read_end(&view);
	for (unsigned i = 0; i < arena->workers_count; i++) {
		struct worker *worker = &arena->workers[i];

		logs[i] = &worker->deeds;
		/* The gate is behind them: whatever is published now they must see. */
		worker->seen = worker->handler_seen = view.version;
	}
	deferred = arena->witness.deferred;
	deferred.at_count = witness_deferred_by(&arena->witness, view.version);
	logs[arena->workers_count] = &deferred;
	if (run->options->lie && run->options->lie != LIE_MEMORY && !run->lied)
		run->lied = tell_lie(run);
	fine = ledger_round(&arena->ledger, logs, arena->workers_count + 1, view.version, &lie);
	if (!fine)
		arena_say(arena, "%s", lie.reason);
	witness_deferred_take(&arena->witness, deferred.at_count);
	free(logs);
	return fine;
}

static void check_inspector(struct run *run)
{
	struct notes *notes = &run->inspector.notes;
	struct lie lie;

	for (size_t i = 0; i < notes->at_count; i++) {
		if (!check_note(&run->arena.ledger, &notes->at[i], &lie))
			arena_say(&run->arena, "at the end of a round: %s", lie.reason);
	}
	notes->at_count = 0;
}

static void show_progress(struct run *run)
{
	struct tally sum;
	char text[160];

	if (!progress_due(&run->progress, clock_now()))
		return;
	sum = sum_tallies(run);
	snprintf(text, sizeof(text),
		 "%s: %.0f s, round %" PRIu64 ", %" PRIu64 " operations, %" PRIu64
		 " answers checked, %" PRIu64 " mismatches",
		 run->arena.scenario->name, seconds_since(run->begun), run->rounds,
		 sum_operations(&sum), sum.checked, atomic_load(&run->arena.mismatches));
	progress_show(&run->progress, text);
}

static const char *nothing_pending(const struct run *run, const struct tally *sum)
{
	const struct ledger *ledger = &run->arena.ledger;

	if (!sum->met)
		return "areas that became pending under a reader";
	if (!ledger->waited)
		return "operations that waited for a pending area";
	if (!sum->busy)
		return "transactions that met a pending area";
	if (run->arena.scenario->refuse_each && !ledger->kept)
		return "refused deferred protects";
	return NULL;
}

/* What was to be provoked must happen at least once: a run that has met nothing shows
 * nothing. Not where somebody has changed the mixture. */
static const char *not_provoked(const struct run *run, const struct tally *sum)
{
	const struct options *options = run->options;
	const struct scenario *scenario = run->arena.scenario;

	if (!options->readers || !options->writers)
		return NULL;
	for (int i = 0; i < ACTIONS; i++) {
		if (options->weights[i] >= 0)
			return NULL;
	}
	if (!sum->overlapping)
		return "answers that overlapped an operation";
	if (scenario->hazard && !sum->hazards)
		return scenario->hazard_name;
	if (scenario->refuse_each && !atomic_load(&run->arena.witness.refusals))
		return "refused backend calls";
	if (scenario->refuse_each && run->arena.witness.grace &&
	    !atomic_load(&run->arena.witness.returned))
		return "refused deferred unmaps";
	return scenario->keeps ? nothing_pending(run, sum) : NULL;
}

static bool goes_on(struct run *run)
{
	const struct options *options = run->options;
	struct tally sum;

	if (atomic_load(&run_interrupted) || atomic_load(&run->arena.mismatches))
		return false;
	if (!time_is_up(run) || run->rounds < options->rounds)
		return true;
	sum = sum_tallies(run);
	if (sum_operations(&sum) < options->operations ||
	    (run->arena.scenario->hazard && sum.hazards < options->hazards))
		return true;
	/* Counted, not timed: beside much else, little of a second is ours. */
	return not_provoked(run, &sum) && ++run->beyond <= ROUNDS_BEYOND;
}

static void play_rounds(struct run *run)
{
	gate_await(&run->arena.gate, run->options->patience);
	do {
		let_go(run, true);
		run->rounds++;
		if (!close_round(run))
			return;
		check_inspector(run);
		let_go(run, false);
		show_progress(run);
	} while (goes_on(run));
}

/* ---- What came of it ----------------------------------------------------------------- */

static void check_provoked(struct run *run, const struct results *results)
{
	struct arena *arena = &run->arena;
	const char *what = not_provoked(run, &results->tally);

	if (results->mismatches || results->interrupted)
		return;
	if (what)
		arena_say(arena, "nothing was tested: none of: %s", what);
	if (run->options->lie && !run->lied)
		arena_say(arena, "there was nothing to lie about");
	if (arena->scenario->garbage_max &&
	    results->stats.bytes_retired_max > arena->scenario->garbage_max + GARBAGE_SLACK)
		arena_say(arena, "%" PRIu64 " bytes of garbage", results->stats.bytes_retired_max);
}

static void take_results(struct run *run, struct results *results)
{
	struct arena *arena = &run->arena;

	results->tally = sum_tallies(run);
	results->operations = sum_operations(&results->tally);
	results->rounds = run->rounds;
	results->versions = arena->ledger.versions;
	results->effectless = arena->ledger.effectless;
	results->refusals = atomic_load(&arena->witness.refusals);
	results->returned = atomic_load(&arena->witness.returned);
	results->pending = arena->ledger.pending;
	results->kept = arena->ledger.kept;
	results->waited = arena->ledger.waited;
	results->stalls = atomic_load(&arena->stalls);
	results->seconds = seconds_since(run->begun);
	results->interrupted = atomic_load(&run_interrupted);
	results->stats.size = sizeof(results->stats);
	aspace_stats(arena->witness.space, &results->stats, 0);
	results->mismatches = atomic_load(&arena->mismatches);
}

/* Readers, snapshots and threads are gone: whatever waited for them must be gone, too. */
static void check_reclaimed(struct run *run)
{
	struct aspace *space = run->arena.witness.space;
	struct aspace_stats stats = {.size = sizeof(stats)};

	settle(run);
	aspace_stats(space, &stats, 0);
	if (stats.bytes_retired || stats.bytes_snapshots || stats.releases_pending ||
	    stats.leaving || stats.snapshots)
		arena_say(&run->arena,
			  "left over: %" PRIu64 " bytes of nodes, %" PRIu64
			  " of snapshots, %" PRIu64 " releases, %" PRIu64 " leaving areas, %" PRIu64
			  " snapshots",
			  stats.bytes_retired, stats.bytes_snapshots, stats.releases_pending,
			  stats.leaving, stats.snapshots);
}

bool run_scenario(const struct options *options, const struct scenario *scenario,
		  struct results *results)
{
	/* Readers of a hung run may still be at it when the program ends: not on the stack. */
	static struct run run;

	*results = (struct results){.scenario = scenario};
	memset(&run, 0, sizeof(run));
	run.options = options;
	if (!open_arena(&run, scenario) || !start_workers(&run))
		return false;
	run.begun = clock_now();
	progress_begin(&run.progress, options->quiet);
	play_rounds(&run);
	progress_end(&run.progress);
	stop_workers(&run);
	/* From here on what is to go must go. */
	atomic_store(&run.arena.witness.refuse_each, 0);
	check_reclaimed(&run);
	take_results(&run, results);
	check_provoked(&run, results);
	close_arena(&run);
	results->mismatches = atomic_load(&run.arena.mismatches);
	return true;
}
