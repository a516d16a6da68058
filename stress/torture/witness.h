/* SPDX-License-Identifier: MIT */
/*
 * A backend that looks on: it passes every call on to a null, mock or host backend, and
 * notes which version the operation at hand is going to publish.
 *
 * How it knows: backends are called under the writer lock, before publication, and may
 * read. The version that a view shows then is the one before; the operation's own is one
 * more. An operation that calls no backend publishes nothing, but for transactions, and
 * unmaps and protects in a grace-unmap space; for those see deed.sure and deed.loose.
 *
 * It also refuses calls at random, if asked to, and gives areas user objects that it can
 * tell alive from released.
 */
#ifndef TORTURE_WITNESS_H
#define TORTURE_WITNESS_H

#include <aspace/backend/host.h>
#include <aspace/backend/mock.h>
#include <stdatomic.h>

#include "log.h"
#include "shadow.h"
#include "tables.h"

enum backend_kind {
	BACKEND_NULL,
	BACKEND_MOCK,
	BACKEND_HOST,
	BACKEND_AARCH64,
	BACKEND_KINDS,
};

enum {
	WITNESS_PAGE = 4096, /* of null and mock; the host's may be larger */
	STANDING_MOST = 256,
	ERRANDS_MOST = 16,
};

/* A fault or advice, as the backend was called: about an area, at an address; the newest versions
 * when it began and when it ended. Between these nobody changes the area there. */
struct errand {
	struct aspace_area area;
	uint64_t at, began, ended;
};

/* What a thread is doing; the witness fills it in. */
struct act {
	struct deed *deed;
	uint64_t random; /* for refusals; 0: none */
	bool refused;
	/* Changes that were made and not taken back. */
	struct aspace_change standing[STANDING_MOST];
	unsigned standing_count;
	/* Faults and advice that were handed on; what is beyond the last is only counted. */
	struct errand errands[ERRANDS_MOST];
	unsigned errand_count;
	struct aspace_range advised; /* what advice was given about, */
	uint64_t asked;              /* and when */
	unsigned errands_ever;
};

struct witness {
	struct aspace_backend backend;
	struct aspace_backend *inner;
	enum backend_kind kind;
	struct aspace_mock *mock;
	struct aspace_host *host;
	struct tables *tables;
	struct aspace *space;
	uint64_t base, size, page;
	struct shadow shadow;
	bool grace, keeps; /* keeps: what a protect takes away waits for readers, too */
	/* Of so many calls that may be refused, one is; 0: none. Not undo. Relaxed: whoever
	 * must know has been at the gate with who changes it. */
	_Atomic uint64_t refuse_each;
	_Atomic uint64_t refusals; /* counts, relaxed */
	/* Deferred unmaps and protects; written under the writer lock of the space. */
	struct deeds deferred;
	size_t deferred_last; /* the first deed of the newest version among them */
	uint64_t deferred_random;
	/* Areas that are back, or have kept their flags, because a deferred unmap or protect was refused, and how
	 * many of them the space has told. Relaxed: changed under the writer lock, read by who has
	 * been under it since. */
	_Atomic uint64_t returned, told;
	_Atomic uint64_t releases;  /* of user objects; relaxed */
	_Atomic int64_t references; /* to objects, 0 in the end; a count, relaxed */
};

/* Around a fork, in handlers of pthread_atfork() that were registered before the library's. */
void witness_before_fork(void);
void witness_after_fork(void);

/* The act of this thread, NULL outside operations. */
extern _Thread_local struct act *witness_act;

/* A space over `pages` pages with the backend `kind`. `keeps`: one with `loses`. `options` may have mode, garbage_max
 * and hooks set. False: `reason` says why. */
bool witness_open(struct witness *witness, enum backend_kind kind, uint64_t pages, bool objects,
		  bool keeps, struct aspace_options *options, char reason[200]);
/* Compare the backend's memory (the mock's table, the kernel's maps, the tables) with the areas of the
 * space; nobody else is at it. */
bool witness_compare(struct witness *witness, char reason[200]);
/* And, each time, what backends were asked for last. */
bool witness_compare_flags(struct witness *witness, char reason[200]);
/* A ledger_loses. */
unsigned witness_loses(void *witness, uint64_t from, uint64_t to, uint64_t *meanwhile);
/* The flags of one of four kinds of areas, by choice. */
uint64_t witness_flags(const struct witness *witness, unsigned choice);
/* How many deferred deeds have been done by `version`; then, that they have been taken. What comes behind them is of
 * versions to come. */
size_t witness_deferred_by(const struct witness *witness, uint64_t version);
void witness_deferred_take(struct witness *witness, size_t count);
/* For a control: change the memory of an area behind the back of the space. False: there is
 * none. */
bool witness_tamper(struct witness *witness);
/* End the space. False: something is left, or the backend was told nonsense. */
bool witness_close(struct witness *witness, char reason[200]);

/* ---- User objects ---------------------------------------------------------------
 *
 * On the heap and with plain words, so that sanitizers see who touches one too late.
 */
struct object;

struct object *object_make(struct witness *witness);
void object_put(struct witness *witness, struct object *object);
/* In a section, or holding a snapshot: has the object of an area been released? */
bool object_is_alive(const struct object *object);

#endif
