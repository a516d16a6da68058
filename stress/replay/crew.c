/* SPDX-License-Identifier: MIT */
#include "crew.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "array.h"

enum {
	BATCH = 256,          /* lookups before a reader looks around */
	VIEW_EACH = 16,       /* of these lookups, one is a view */
	SNAPSHOT_EACH = 2048, /* one is a snapshot */
	TIMED_EACH = 16,      /* one is timed */
	MESSAGES_MOST = 10,
};

void crew_say(struct crew *crew, size_t line, const char *reason)
{
	pthread_mutex_lock(&crew->voice);
	if (crew->messages++ < MESSAGES_MOST)
		fprintf(stderr, "replay: %s:%zu: mismatch: %s\n", crew->name, line, reason);
	else if (crew->messages == MESSAGES_MOST + 1)
		fprintf(stderr, "replay: %s: further mismatches are only counted\n", crew->name);
	pthread_mutex_unlock(&crew->voice);
}

static void bump(_Atomic uint64_t *counter, uint64_t by)
{
	/* One writer: no read-modify-write needed. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* The line of the step that was under way at `time`. */
static size_t line_at(const struct playing *playing, uint32_t time)
{
	return time ? playing->scene->steps[time - 1].line : 0;
}

/* One look of whichever kind is due. */
static void look(struct reader *reader, struct playing *playing, uint64_t number)
{
	struct look_result result;

	if (number % SNAPSHOT_EACH == SNAPSHOT_EACH - 1) {
		look_snapshot(playing, &reader->random, &result);
		bump(&reader->snapshots, 1);
	} else if (number % VIEW_EACH == VIEW_EACH - 1) {
		look_view(playing, &reader->random, &result);
		bump(&reader->views, 1);
	} else {
		bool timed = number % TIMED_EACH == 0;

		look_find(playing, &reader->random, timed, &result);
		if (timed)
			histogram_add(&reader->latency, result.nanoseconds);
		bump(&reader->lookups, 1);
	}
	if (result.overlap)
		bump(&reader->overlaps, 1);
	if (!result.fine) {
		bump(&reader->mismatches, 1);
		crew_say(reader->crew, line_at(playing, result.last), result.reason);
	}
}

/* Choose a space and hold it, mostly the one where steps are taken; NULL: none. */
static struct playing *take_space(struct reader *reader)
{
	struct crew *crew = reader->crew;
	uint64_t choice = random_next(&reader->random);
	size_t slot = (choice & 3) ? atomic_load_explicit(&crew->busy, memory_order_relaxed)
				   : (choice >> 8) % crew->slots_count;
	struct playing *playing = atomic_load(&crew->slots[slot]);

	if (!playing)
		return NULL;
	atomic_store(&reader->holds, playing);
	if (atomic_load(&crew->slots[slot]) == playing)
		return playing;
	atomic_store(&reader->holds, NULL);
	return NULL;
}

static void *reader_main(void *ctx)
{
	struct reader *reader = ctx;
	uint64_t number = 0;

	while (!atomic_load_explicit(&reader->crew->stop, memory_order_relaxed)) {
		struct playing *playing = take_space(reader);

		if (!playing) {
			sched_yield();
			continue;
		}
		for (int i = 0; i < BATCH; i++)
			look(reader, playing, number++);
		atomic_store(&reader->holds, NULL);
	}
	return NULL;
}

bool crew_start(struct crew *crew, const char *name, unsigned readers, size_t slots, uint64_t seed)
{
	sigset_t all, old;
	int error = 0;

	*crew = (struct crew){.name = name, .slots_count = slots ? slots : 1};
	pthread_mutex_init(&crew->voice, NULL);
	crew->slots = array_zeroed(crew->slots_count, sizeof(*crew->slots));
	crew->readers = aligned_alloc(_Alignof(struct reader),
				      (readers ? readers : 1) * sizeof(*crew->readers));
	if (!crew->readers) {
		free(crew->slots);
		return false;
	}
	/* ^C is for the replaying thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; crew->readers_count < readers; crew->readers_count++) {
		struct reader *reader = &crew->readers[crew->readers_count];

		*reader = (struct reader){
			.crew = crew,
			.random = random_seeded(seed, crew->readers_count),
		};
		error = pthread_create(&reader->thread, NULL, reader_main, reader);
		if (error)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		crew_stop(crew);
		crew_free(crew);
		errno = error;
	}
	return !error;
}

size_t crew_admit(struct crew *crew, struct playing *playing)
{
	size_t slot = 0;

	while (atomic_load_explicit(&crew->slots[slot], memory_order_relaxed))
		slot++;
	atomic_store(&crew->slots[slot], playing);
	return slot;
}

void crew_dismiss(struct crew *crew, size_t slot)
{
	struct playing *playing = atomic_exchange(&crew->slots[slot], NULL);

	for (unsigned i = 0; i < crew->readers_count; i++) {
		while (atomic_load(&crew->readers[i].holds) == playing)
			sched_yield();
	}
}

void crew_sum(const struct crew *crew, struct crew_sum *sum)
{
	*sum = (struct crew_sum){.lookups = 0};
	for (unsigned i = 0; i < crew->readers_count; i++) {
		struct reader *reader = &crew->readers[i];

		sum->lookups += atomic_load_explicit(&reader->lookups, memory_order_relaxed);
		sum->views += atomic_load_explicit(&reader->views, memory_order_relaxed);
		sum->snapshots += atomic_load_explicit(&reader->snapshots, memory_order_relaxed);
		sum->overlaps += atomic_load_explicit(&reader->overlaps, memory_order_relaxed);
		sum->mismatches += atomic_load_explicit(&reader->mismatches, memory_order_relaxed);
	}
}

void crew_stop(struct crew *crew)
{
	atomic_store(&crew->stop, true);
	for (unsigned i = 0; i < crew->readers_count; i++)
		pthread_join(crew->readers[i].thread, NULL);
}

void crew_free(struct crew *crew)
{
	free(crew->readers);
	free(crew->slots);
	pthread_mutex_destroy(&crew->voice);
}
