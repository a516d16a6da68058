/* SPDX-License-Identifier: MIT */
/*
 * The reader threads: they look addresses up without pause, in whatever spaces
 * there are at the moment, and check every answer.
 */
#ifndef REPLAY_CREW_H
#define REPLAY_CREW_H

#include <pthread.h>

#include "histogram.h"
#include "look.h"

struct crew;

struct reader {
	/* What it looks at; the replaying thread waits for this before it frees. A
	 * hazard pointer: stored, then checked against the slot again, both
	 * sequentially consistent, as is the emptying of the slot before the wait. */
	_Alignas(128) _Atomic(struct playing *) holds;
	/* Written by the reader alone, read by anybody for a progress line. */
	_Atomic uint64_t lookups, views, snapshots, overlaps, mismatches;
	uint64_t random;
	struct crew *crew;
	struct histogram latency; /* of aspace_find, a sample; to be read after the end */
	pthread_t thread;
};

struct crew {
	const char *name; /* of the trace, for messages */
	struct reader *readers;
	unsigned readers_count;
	/* The spaces that are open; NULL in a slot without one. */
	_Atomic(struct playing *) *slots;
	size_t slots_count;
	_Atomic size_t busy; /* the slot where the last step was */
	_Atomic bool stop;
	pthread_mutex_t voice; /* one message at a time */
	unsigned messages;
};

struct crew_sum {
	uint64_t lookups, views, snapshots, overlaps, mismatches;
};

/* Start `readers` threads over room for `slots` spaces. False: errno. */
bool crew_start(struct crew *crew, const char *name, unsigned readers, size_t slots, uint64_t seed);
/* Show the readers a space; answers its slot. */
size_t crew_admit(struct crew *crew, struct playing *playing);
/* Take it away from them: on return no reader is at it. */
void crew_dismiss(struct crew *crew, size_t slot);
void crew_sum(const struct crew *crew, struct crew_sum *sum);
/* Join the threads. Then the histograms may be read, and crew_free() called. */
void crew_stop(struct crew *crew);
void crew_free(struct crew *crew);

/* Print what is wrong, unless much has been printed already. */
void crew_say(struct crew *crew, size_t line, const char *reason);

#endif
