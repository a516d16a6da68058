/* SPDX-License-Identifier: MIT */
/*
 * A thread of the torture: acts, notes, and checks its notes when the round is over.
 */
#ifndef TORTURE_WORKER_H
#define TORTURE_WORKER_H

#include <pthread.h>

#include "check.h"
#include "gate.h"
#include "scenario.h"
#include "witness.h"

enum {
	NOTES_MOST = 1 << 17, /* of one thread in one round */
	NOTES_SPARE = 8192,   /* one action takes no more */
	HANDLER_NOTES = 8192, /* further ones are dropped */
	DEEDS_MOST = 1 << 14,
	DEEDS_SPARE = STANDING_MOST + 16,
};

/* What all threads of a scenario see. */
struct arena {
	const struct scenario *scenario;
	struct witness witness;
	struct ledger ledger;
	struct gate gate;
	unsigned weights[ACTIONS];
	unsigned share; /* of so many lookups one is noted */
	/* The newest version of a completed operation. Release by the writer that completed
	 * it, acquire by whoever must see it from then on. Not used under ThreadSanitizer:
	 * there it would order what only the library is to order. */
	_Atomic uint64_t completed;
	/* In a grace-unmap space, held over what may publish without calling a backend: so
	 * that versions tell who did (ledger.h). Writers that call none queue here instead
	 * of at the space; all others are free. */
	pthread_mutex_t quiet;
	/* Where something is changing: (start << 32 | pages), in pages. A hint, relaxed. */
	_Atomic uint64_t hot;
	_Atomic uint64_t band; /* a hint, too */
	/* `round_over`: relaxed, a wish; what it ends meets at the gate. `checking` and
	 * `stop` are set before the gate opens, whose mutex orders them. */
	_Atomic bool round_over, checking, stop;
	_Atomic uint64_t stalls; /* a count; nothing is read because of it */
	struct worker *workers;
	unsigned workers_count;
	pthread_mutex_t voice;       /* one message at a time */
	_Atomic uint64_t mismatches; /* a count, too */
};

struct tally {
	uint64_t lookups; /* aspace_find and aspace_view_find, noted or not */
	uint64_t notes[NOTE_KINDS], checked, overlapping;
	uint64_t actions[ACTIONS], done[ACTIONS];
	uint64_t bad_states, aborted, hazards;
	/* Of pending areas: those that had been found before in the same section, and that an operation of
	 * a transaction was refused for. */
	uint64_t met, busy;
};

struct worker {
	_Alignas(128) struct arena *arena;
	void (*act)(struct worker *worker);
	uint64_t random;
	uint64_t seen; /* the newest version that this thread knows of */
	struct notes notes;
	struct deeds deeds;
	struct act doing;
	struct tally tally;
	/* The signal handler's own: it may interrupt the thread at a note. */
	struct notes handler_notes;
	uint64_t handler_random, handler_seen;
	_Atomic uint64_t handled; /* signals; see on_signal() */
	_Atomic bool inside;      /* see hazard_cancel() */
	/* For messages of a watchdog: enum action, or -1. Relaxed. */
	_Atomic int at;
	pthread_t thread;
	void *extra; /* of the hazard */
	/* Called, if set, by the thread itself before it ends. */
	void (*leave)(struct worker *worker);
};

extern _Thread_local struct worker *worker_self;

void *worker_main(void *worker);
void worker_read(struct worker *worker);
void worker_write(struct worker *worker);
void worker_free(struct worker *worker);

/* ---- For hazards ---------------------------------------------------------------- */

/* What had been published, as far as this thread is entitled to know. */
uint64_t worker_floor(struct worker *worker);
/* The newest version. */
uint64_t worker_now(struct worker *worker);
struct note *worker_note(struct worker *worker, enum note_kind kind, uint64_t first, uint64_t last);
/* Somewhere in the space, often where something changes just now. */
uint64_t worker_choose(const struct worker *worker, uint64_t *random);
/* One aspace_find() at `place`, noted. */
void worker_find(struct worker *worker, struct notes *notes, uint64_t place, uint64_t *seen);
/* Look around in a view: lookups, iteration both ways, gaps. */
void worker_look(struct worker *worker, const struct aspace_view *view);
/* From a signal handler that has interrupted this thread. */
void worker_handle(struct worker *worker);
/* All of a view. */
void worker_walk(struct worker *worker, struct notes *notes, const struct aspace_view *view);
/* The same view in a later round, whose versions are not its own: it must show what `walk`
 * has noted. Answers how many areas that were. */
size_t worker_walk_again(struct worker *worker, const struct notes *walk,
			 const struct aspace_view *view);
void worker_note_view(struct worker *worker, uint64_t first, uint64_t last, uint64_t version);
bool worker_is_over(const struct worker *worker);
/* No room for one more action in this round. */
bool worker_is_full(const struct worker *worker);

/* Something is wrong that no note can tell. */
__attribute__((format(printf, 2, 3))) void arena_say(struct arena *arena, const char *format, ...);

#endif
