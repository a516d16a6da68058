/* SPDX-License-Identifier: MIT */
/*
 * A space from the inside: what the files of src/ share.
 *
 *   read/lookup.c      lookups and gap searches, by the registers that the CPU has
 *   read/last_hit.h    what a thread found last
 *   read/reader.c      views, iterators, gap searches: no lock
 *   read/snapshot.c    versions pinned beyond a section
 *   space/writer.c     the writer lock, the bound on garbage
 *   space/stall.c      waits that last, and the hook that is told
 *   space/halt.c       writers that rest for a fork
 *   space/space.c      create, destroy
 *   space/figures.c    statistics, trim
 *   space/validate.c   are the invariants kept?
 *   space/dump.c       a version as text
 *   space/fork.c       what a space does around a fork
 *   update/verbs.c     the public operations: enter, plan, commit, leave
 *   update/plan.c      a plan's life and its actions; map.c, unmap.c, protect.c, move.c: one
 *                      operation each, with pieces.c, references.c, reserve.c and edits.c
 *   update/commit.c    backends, undo.c and truth.c: what if they refuse; publish.c: the one store
 *   update/txn.c       transactions of several operations
 *   update/births.c    since when references have been there, for snapshots
 *   update/line.c      who waits at a bound, in the order of their arrival
 *   update/pending.c   areas that have lost something which readers keep for a while
 *   update/fault.c     faults, and advise.c advice: no version, no writer lock; pins.c: who holds
 *                      whom off, with found.c, pinning.c, claims.c, postpone.c and pins_fork.c
 *   reclaim/reclaim.c  what has left the newest version: nodes.c, leaving.c (areas), references.c (to
 *                      user objects), and calls.c, which gives these back; quiesce.c: who waits for it
 *
 * Dependencies: these -> tree -> memory -> platform (tests/rooms).
 *
 * Invariants (numbers for aspace_validate, beside T1 to T6 of tree/node.h and P1 and
 * P2 of memory/pool.h):
 *  S1  root->birth is the number of the newest version, one more than publications;
 *      outside an operation no action is in use
 *  S2  areas, their bytes, leaving ones and nodes in use are what a census of the newest version,
 *      the retired nodes and those that snapshots hold says
 *  S3  every leaving area, and every pending one, has one record on the list of leaving areas, or
 *      among those that wait for a pin, and no other record is there; Q1 and Q4 of
 *      update/pending.c
 *  S4  every area lies in the limits, on the granule of the space and of its backend,
 *      with flags that its backend declares
 *  S5  without ASPACE_NEVER_MERGE, no two neighbours are equal
 *  S6  snapshots are listed from oldest to newest, none newer than the newest version, and
 *      their search tree has them in the same order (C1 and C2 of snapshot.c)
 *  S7  backends hold what areas say, leaving ones too, and for pending ones what is noted: as far
 *      as they can be asked
 *  S8  births of references are noted as births.c says (B1, B2)
 *  S9  giving back works: H1 and H2 of reserve.h
 *  S10 pins and claims are as pins.c says (N2 to N4)
 */
#ifndef ASPACE_SPACE_H
#define ASPACE_SPACE_H

#include <aspace/aspace.h>

#include "memory/notes.h"
#include "memory/pool.h"
#include "memory/record.h"
#include "platform/platform.h"
#include "tree/tree.h"
#include "tree/vector/vector.h"

struct asp_lookup_set; /* read/lookup.h */
typedef enum aspace_status asp_find_fn(struct aspace *space, struct aspace_vaddr address,
				       struct aspace_area *area);

/* The order in which a commit calls backends: what can be refused and taken back
 * comes before what loses contents. */
enum asp_phase {
	ASP_PHASE_MAP,     /* nothing was there */
	ASP_PHASE_PROTECT, /* contents stay */
	ASP_PHASE_REPLACE,
	ASP_PHASE_UNMAP,
	ASP_PHASE_REMAP, /* map onto what the phase before has unmapped */
	ASP_PHASE_MOVE,  /* an operation of its own: never with the others */
	ASP_PHASES,
};

/* One call of a backend. */
struct asp_action {
	struct asp_action *next;
	struct aspace_backend *backend;
	struct aspace_change change;
	bool done; /* the backend holds the outcome */
};

struct asp_actions {
	struct asp_action *head, *tail;
};

static inline void asp_actions_push(struct asp_actions *list, struct asp_action *action)
{
	action->next = NULL;
	if (list->tail)
		list->tail->next = action;
	else
		list->head = action;
	list->tail = action;
}

/* What an operation of an open transaction has touched. */
struct asp_touched {
	/* Its range, how it was changed (of a protect, no more than that it was one), and what
	 * there is to be asked for if nothing else comes near it. First: it becomes that action where it lies. */
	struct asp_action action;
	struct asp_touched *next;
	/* The range was one area, or is, and the change is all that there is to be asked, as long as
	 * no other range overlaps or meets this one. */
	bool alone;
	bool touches; /* there is a neighbour, which may have become one area with it */
};

/* The writer's working state: one operation, or several that are one. There is one
 * in each space, in use while the writer lock is held. Between two uses all lists are
 * empty. */
struct asp_plan {
	struct aspace *space;
	struct asp_edit edit;
	struct asp_node *base; /* the newest version; edit.root == base: nothing planned */
	bool open;             /* between aspace_txn_begin and commit or abort */
	bool busy;             /* an operation or the commit of the open one is under way */
	bool leaving_in_way; /* the last plan said BUSY because of leaving areas, in `way`, or of all */
	bool nowait;         /* of an open one: its commit waits for nobody */
	bool pinned;         /* the last commit said BUSY because of pins */
	bool held_off;       /* nobody is at work in what was said, nor will be */
	bool at_bound; /* with leaving_in_way: not what is in the way, but how much there is */
	bool behind; /* the last plan said so where it would go before others; until that is read */
	bool passes_by;            /* it goes before others: it may not wait, or need not */
	struct asp_pin *place;     /* where the operation has waited for pins; mostly NULL */
	struct asp_waiter *waiter; /* its place on the line; mostly NULL */
	struct aspace_range way;
	unsigned held_for; /* so many more reservations what is held back will do for */
	bool all_spent;    /* the last plan said NO_MEMORY where what is held may be spent */
	size_t action_count;
	size_t insertions; /* how many of the actions put an area somewhere */
	size_t borders;  /* of an open one: how many ends of ranges lie inside areas of the base */
	unsigned phases; /* bit by bit: which phases have actions */
	struct asp_actions actions[ASP_PHASES];
	struct asp_action first; /* of all: mostly there is no other. The rest are from a pool */
	/* Before all actions, everything that the base holds in [sweep.start, sweep.end) is
	 * unmapped, upward; up to `swept` it has been. Empty: nothing. Actions would say the
	 * same, but take memory for each area. Not in an open transaction. */
	struct aspace_range sweep;
	uint64_t swept;
	/* What an open transaction has done, by its ranges: its actions are worked out at
	 * commit, from the difference. */
	struct asp_touched *touched, *touched_last;
	/* References that planning has cloned: still to be given to an area, or given.
	 * `address` is the pointer that was cloned. */
	struct aspace_record_list clones_spare, clones_used;
	/* What becomes of references (enum asp_reference_event), in order; how many are born. */
	struct aspace_record_list references;
	size_t born;
	/* Areas marked leaving, and pending ones. */
	struct aspace_record_list leaving;
	uint64_t leaving_bytes; /* of theirs that lose contents */
};

/* Notes of births.c: by start of the area, and by age. */
struct asp_births {
	struct asp_note *root;
	struct asp_birth *oldest, *youngest;
	size_t count;
};

/* Who is at work in an area, or waits to change it: pins.c. */
struct asp_pins {
	/* Taken inside the two others, and held for a look at the list. */
	struct asp_mutex lock;
	struct asp_pin *first, *last; /* in the order of their arrival */
	/* How many there are. Changed under the lock, read without it: N4. */
	_Atomic uint32_t used;
	/* How many faults wait for the operation that holds the writer lock: N6. */
	_Atomic uint32_t behind;
	struct asp_pin *committing; /* the claim of a transaction that waits; mostly NULL */
	uint32_t told;              /* entries that are to be woken: N10 */
	/* Counts what is waited for by those that have no entry, or not for one: forks, who rests for
	 * one, and who waits for what is postponed; waited upon. */
	_Atomic uint32_t turn;
	uint32_t waiters; /* of these the last */
#ifdef ASPACE_TESTING
	uint64_t wakes; /* so many words have been woken */
#endif
	uint64_t works; /* so many faults and advices have begun to work */
	/* For forks: halt.c. */
	bool resting, lent, kept;
	uintptr_t lender;
	uint32_t forkers; /* pins of threads that are in the hook before fork */
	/* Who holds this lock and snap_lock over a fork, 0: nobody. Written under both; relaxed, for each thread
	 * only asks whether it is itself. (Not by `owner`, which is lent: who rests would ask in two steps.) */
	_Atomic uintptr_t forking;
	/* Leaving areas, and references, that wait for a pin to go. Changed under `lock` of the
	 * space, too. */
	struct aspace_record_list leaving, deferred;
	/* A pin has gone since they were postponed: as `freed_any`, for a leaver and the helper. */
	_Atomic bool resumable;
	uint32_t resumed; /* how often they were put back, under both locks */
};

/* Who waits at a bound, in the order of their arrival: line.c. Under the lock of the list of pins. */
struct asp_line {
	struct asp_waiter *first, *last;
	uint64_t count;         /* who have ever come */
	_Atomic unsigned wants; /* what they wait for, all together: a mask of enum asp_line_want */
};

/* References that are being released: a ring; see reclaim/calls.h. So many may have been handed
 * over and not have returned. A power of two. */
#define ASP_CALLS 1024u

struct asp_call {
	struct aspace_backend *backend;
	void *user;
};

struct asp_calls {
	/* Stored by writers, read by runners and writers. Sequentially consistent against
	 * `runner`: see asp_calls_run(). */
	_Atomic uint32_t in;
	/* How many calls have begun: for a forked child, in which the one that had not returned
	 * has gone with its thread. Relaxed: the runner's own. */
	_Atomic uint32_t begun;
	/* How many have returned. What a callback did is visible to who waits for it. */
	struct asp_count returned;
	/* The runner, else 0. Taken and given up sequentially consistently; else it is only
	 * compared with the caller's own number, or with 0. */
	_Atomic uintptr_t runner;
	/* Sequentially consistent against `returned`: who sets it looks once more whether there is
	 * room, the runner looks at it after each call. */
	_Atomic bool clogged;
	struct asp_count room; /* how often `clogged` was taken away */
	/* `returned` + 1, when somebody has waited for room for the time of a stall without any
	 * call returning; else 0. Relaxed: it is a matter of whether to wait. */
	_Atomic uint64_t given_up;
	struct asp_call call[ASP_CALLS];
};

/* By how many operations something on a list that is due may be late. `now` have left something due behind
 * since a moment at which `stamp` was the last grace period that had ended, and at which all was gone
 * that had been due `before` operations earlier. So what is on the lists has been due for
 * before + now at most. */
struct asp_late {
	uint64_t now, before, stamp;
};

/* The most that each kind of thing was late; see struct aspace_stats. */
struct asp_latest {
	uint64_t nodes, releases, leaving, memory, any;
};

/* Notes of pending.c. Changed under the writer lock and that of the list of pins, read under
 * either; the count without. */
struct asp_pending {
	struct asp_note *root;
	_Atomic uint64_t count;
};

struct aspace {
	/* Read by everybody, written by the writer. Published with release, read with
	 * acquire: see asp_root(). */
	_Atomic(struct asp_node *) root;
	/* The number of the newest version, stored (relaxed) before its root: whoever can
	 * know of the version, by the acquire of its root or by what the writer did later,
	 * reads this number or a later one. For last_hit.h, which follows nothing. */
	_Atomic uint64_t version;
	/* Constant after creation. */
	asp_find_fn *find; /* of `lookup_set` */
	struct asp_grace *grace;
	const struct asp_lookup_set *lookup_set;
	uint64_t id; /* no other space of the process has had it */
	uint64_t lo, hi, granule;
	unsigned mode;
	const struct asp_vector *vector; /* of `lookup_set` */
	struct aspace_options options;

	/* The writer's, under `lock`. */
	struct asp_lock lock __attribute__((aligned(64)));
	/* The thread that holds `lock`, else 0. Only ever compared with the caller's own
	 * number, and a thread reads back its own store: relaxed is enough. */
	_Atomic uintptr_t owner;
	/* How many forks wait until nobody is in the middle of anything: halt.c. */
	_Atomic uint32_t halts;
	/* What the holder of `lock` changes, [change_lo, change_hi): N5. 0 in change_hi: it has not
	 * said so yet. */
	_Atomic uint64_t change_lo, change_hi;
	/* So many bytes retired: who comes looks whether it has to wait. One more than garbage_max, or, while
	 * anybody is on the line, 0. Relaxed: line.c, 2. */
	_Atomic uint64_t gate;
	struct asp_pool nodes, records, actions;
	size_t copy; /* of what is held back: for snapshots, so many nodes */
	struct asp_plan plan;
	uint64_t node_count; /* of the newest version */
	bool counts;         /* some area owns, or owned, a reference to its user object */

	/* Nodes that wait for a grace period: `waiting` for the one of `stamp`, `retired`
	 * for a later one that has not been asked for. */
	struct aspace_record_list retired, waiting;
	uint64_t stamp;
	uint64_t retired_max;             /* bytes */
	uint64_t retired_in, retired_out; /* ever retired, ever recycled or held */

	struct asp_births births;
	/* Leaving areas, and references, oldest first; each with its stamp. */
	struct aspace_record_list leaving, deferred;
	/* 0, or the stamp by which there may be memory again to unmap leaving areas that are due. */
	uint64_t lacking;
	struct asp_late late_areas, late_references; /* what is on the two */
	uint32_t
		nodes_seen; /* with which ticket somebody has last seen that `waiting` has to wait */
	struct asp_latest latest;
	uint64_t releases_max, areas_max; /* the most that waited on either list */
	struct asp_pending pending;
	/* Memory that is leaving: of leaving areas, and of pending ones that lose their contents. */
	uint64_t leaving_bytes, leaving_bytes_max;
	bool refused;       /* a deferred change was, since the last quiesce; */
	bool unmap_refused; /* an unmap */
	struct asp_grace_client client;

	/* plan.open for those who do not hold the lock: aspace_destroy. Relaxed: who opened
	 * a transaction that is to be seen has told the destroyer by other means. */
	_Atomic bool txn_open;

	/* For aspace_count and aspace_bytes: stored by the writer before publication, relaxed: they
	 * say nothing about any version that the caller reads, nor one of the other. */
	_Atomic uint64_t areas, bytes;

	/* Snapshots, under snap_lock (taken inside `lock`, never the other way round). */
	struct asp_lock snap_lock __attribute__((aligned(64)));
	struct aspace_snapshot *oldest, *newest, *snapshot_tree;
	uint64_t snapshot_count;
	/* What giving back takes beside a snapshot of the newest version is held back: H2 of
	 * update/reserve.h. Written under both locks, read under either. */
	bool covered;
	/* What released snapshots held: on its way to `retired` and `deferred`. */
	struct aspace_record_list freed_nodes, freed_objects;
	/* Nodes that snapshots hold; changed under snap_lock. */
	uint64_t snapshot_nodes;
	/* Do the two lists hold anything? A hint for writers, who then take snap_lock to
	 * look; set, and read by a leaver after its release, sequentially consistently, so
	 * that one of leaver and helper sees the other: asp_writer_leave(). */
	_Atomic bool freed_any;

	struct asp_pins pins __attribute__((aligned(64)));
	struct asp_line line;

	/* References that are being released. */
	struct asp_calls calls __attribute__((aligned(64)));
};

/* The structure lies in a block of the page operations, whose sizes are multiples of
 * this. */
#define ASP_SPACE_BYTES ((size_t)64 << 10)

static inline struct asp_node *asp_root(struct aspace *space)
{
	/* Pairs with the release store of asp_publish(): whoever sees the root sees all
	 * of the version. */
	return atomic_load_explicit(&space->root, memory_order_acquire);
}

static inline struct aspace *asp_space_of(struct asp_grace_client *client)
{
	return (struct aspace *)((char *)client - offsetof(struct aspace, client));
}

static inline bool asp_is_owner(struct aspace *space)
{
	return atomic_load_explicit(&space->owner, memory_order_relaxed) == asp_thread_self();
}

/* Between the hooks of fork, in the thread that forks: it has all locks of the space, and whoever
 * would take one beneath its hooks must not. */
static inline bool asp_is_forking(struct aspace *space)
{
	return atomic_load_explicit(&space->pins.forking, memory_order_relaxed) ==
	       asp_thread_self();
}

/* An operation of a backend that its table may lack, or be too short for (`size`); NULL if it
 * does. Nothing behind the table's end is ever read. */
#define asp_op(backend, operation)                                                                 \
	((backend)->ops->size >= offsetof(struct aspace_backend_ops, operation) +                  \
					 sizeof((backend)->ops->operation)                         \
		 ? (backend)->ops->operation                                                       \
		 : NULL)

/* The bits of `how` that callers may use, and one of our own: holes are fine, whatever
 * the mode of the space says. */
#define ASP_HOW_PUBLIC  ((unsigned)(ASPACE_REPLACE | ASPACE_STRICT | ASPACE_NOWAIT))
#define ASP_HOW_LENIENT (1u << 31)

/* The rule for ASPACE_STRICT and ASPACE_ALWAYS_STRICT. */
static inline bool asp_is_strict(const struct aspace *space, unsigned how)
{
	return !(how & ASP_HOW_LENIENT) &&
	       ((how & ASPACE_STRICT) || (space->mode & ASPACE_ALWAYS_STRICT));
}

/* ---- fork.c, which the platform calls (struct asp_grace_client) ------------- */

void asp_space_begin_fork(struct asp_grace_client *client);
bool asp_space_halt(struct asp_grace_client *client, uint64_t deadline);
void asp_space_resume(struct asp_grace_client *client);
void asp_space_before_fork(struct asp_grace_client *client);
void asp_space_after_fork(struct asp_grace_client *client, bool child);

/* ---- writer.c ------------------------------------------------------------- */

/* Take the writer lock, with garbage below its bound and a share of what is due done.
 * ASPACE_BUSY, ASPACE_DEADLOCK. The caller says at once what it changes (asp_pins_say()). */
enum aspace_status asp_writer_enter(struct aspace *space, unsigned how);
/* The same of an operation that has a place on the line, or gets one, and keeps it. */
enum aspace_status asp_writer_enter_again(struct aspace *space, unsigned how,
					  struct asp_waiter *place);
/* The lock, and what nodes have come due. */
enum aspace_status asp_writer_become(struct aspace *space, unsigned how);
/* For calls that make no garbage, and claim (asp_pins_claim()) what they change, if anything: it
 * has been said that nothing is. */
enum aspace_status asp_writer_enter_now(struct aspace *space, unsigned how);
void asp_writer_leave(struct aspace *space);
/* With the lock just got, as one that has nothing to do. */
void asp_writer_pass(struct aspace *space);
/* May somebody be waiting for the calling thread, so that it must not wait for readers?
 * It is in a section, or holds the writer lock of a space (not counting one that it
 * gives back first, as it must have done here). */
bool asp_is_waited_for(struct aspace *space);

/* ---- stall.c -------------------------------------------------------------- */

/* A wait of which the stall hook is told, again and again. */
struct asp_stall {
	uint64_t begin;
	uint64_t told; /* milliseconds after it, when the hook was told last */
};
struct asp_stall asp_stall_begin(void);
/* Milliseconds until the hook is to be told. */
unsigned asp_stall_left(const struct aspace *space, const struct asp_stall *stall);
bool asp_stall_is_due(const struct aspace *space, const struct asp_stall *stall);
/* No lock held, but perhaps a place on the list of pins. False if the hook has made the thread one that
 * others may wait for: it has left a section or a transaction open. */
bool asp_stall_tell(struct aspace *space, struct asp_stall *stall);
/* The same where others may be waiting for the thread: it has the writer lock, or what it does holds writers
 * up. Who is at rest does not ask: a fork may have the lock which that takes. */
bool asp_stall_tell_holding(struct aspace *space, struct asp_stall *stall);
/* Is the calling thread in the hook of this space? `placed`: with others perhaps waiting for it. */
bool asp_stall_is_beneath(const struct aspace *space, bool placed);
/* What waits for the writer lock (struct asp_lock), its ticket drawn. */
void asp_stand_in_line(struct asp_lock *lock, uint32_t ticket);
/* Before a fork: the thread gives up the places in lines in which it is in hooks. May block. */
void asp_leave_lines(void);
/* Wait for a grace period, the hook being told; no lock held. False as asp_stall_tell(). */
bool asp_wait_for_readers(struct aspace *space, uint64_t stamp);

/* ---- halt.c, for claims.c -------------------------------------------------- */

/* Under the lock of the list of pins, with the writer lock held and the space whole: forks may have it
 * from here on, until `resting` is taken back, which may be only while it is not `lent`. Answers what
 * to sleep upon in `turn`. */
uint32_t asp_rest_begin(struct aspace *space);

/* ---- src/reclaim: nodes.c, reclaim.c, references.c, leaving.c, quiesce.c ---- */

/* Under the lock: recycle the nodes whose grace period is over. */
void asp_reclaim_nodes(struct aspace *space);
/* Under the lock: see to it that the nodes that are to be recycled next get their grace
 * period, and answer its stamp. */
uint64_t asp_reclaim_request(struct aspace *space);
/* The same where memory has run out; 0 if there is nothing to be had. */
uint64_t asp_reclaim_hurry(struct aspace *space);
/* Under the lock: retired nodes and deferred things of a version just published. */
void asp_reclaim_add(struct aspace *space, struct aspace_record_list *nodes,
		     struct aspace_record_list *references, struct aspace_record_list *leaving);
/* Releases references that no version has ever shown. Under the lock. */
void asp_reclaim_add_unseen(struct aspace *space, struct aspace_record_list *references);
/* Under the lock, where no operation is under way: of what has come due, unmap some leaving areas
 * and hand some references over to the ring. Where something remains, the next who enters takes
 * it, or the helper. False if an operation must wait, because the ring has no room for all of these. */
bool asp_reclaim_share(struct aspace *space);
/* Under the lock: something has come on the lists. */
static inline void asp_note_waiting(struct aspace *space)
{
	uint64_t releases = space->deferred.count + space->pins.deferred.count;
	uint64_t areas = space->leaving.count + space->pins.leaving.count;

	if (space->releases_max < releases)
		space->releases_max = releases;
	if (space->areas_max < areas)
		space->areas_max = areas;
}
static inline void asp_note_late(uint64_t *max, uint64_t late)
{
	if (*max < late)
		*max = late;
}
/* Is there anything for it to do? */
bool asp_reclaim_any_due(struct aspace *space);
/* Under the lock: the stamp to wait for until the next leaving area can be unmapped; at least 1. */
uint64_t asp_reclaim_leaving_stamp(struct aspace *space);
/* aspace_quiesce(), and makes no helper. */
enum aspace_status asp_quiesce(struct aspace *space, unsigned how);
/* The helper thread's entry. */
void asp_reclaim_work(struct asp_grace_client *client);
static inline uint64_t asp_retired_bytes(const struct aspace *space)
{
	return (space->retired.count + space->waiting.count) * sizeof(struct asp_node);
}
static inline void asp_note_retired(struct aspace *space, uint64_t bytes)
{
	if (space->retired_max < bytes)
		space->retired_max = bytes;
}

/* ---- reserve.c, for snapshot.c --------------------------------------------- */

/* Try to cover snapshots; without waiting for a writer. */
bool asp_cover(struct aspace *space);

/* ---- snapshot.c, under snap_lock ------------------------------------------ */

/* The newest snapshot older than version `before`, or NULL. `guess`: one that may be it, and
 * is then found at once; it may be NULL. Else O(log snapshots) on average. */
struct aspace_snapshot *asp_snapshot_before(const struct aspace *space,
					    struct aspace_snapshot *guess, uint64_t before);
/* Do C1 and C2 hold? */
bool asp_snapshots_in_order(const struct aspace *space);

/* The area without the library's own flag bits. */
static inline struct aspace_area asp_public_area(struct aspace_area area)
{
	area.flags &= ~ASPACE_FLAGS_RESERVED;
	return area;
}

#endif
