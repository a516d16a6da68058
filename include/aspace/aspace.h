/* SPDX-License-Identifier: MIT */
/**
 * @file
 * Concurrent address spaces.
 *
 * A space keeps areas: disjoint half-open ranges of virtual addresses, each with
 * flags, a backend and a user pointer. It is a copy-on-write B+-tree behind one
 * atomic root: writers build new nodes and publish them with one store; readers
 * take no lock and never wait.
 *
 * Ways to read, cheapest first:
 *  - aspace_find(): one address, the newest version, wait-free, signal-safe.
 *  - aspace_read_begin() .. aspace_read_end(): a *view*, one version for as many
 *    lookups, gap searches and iterations as you like. Short: reclamation waits.
 *  - aspace_snapshot_take(): one version for as long as you like.
 *
 * Ways to write: aspace_map(), aspace_unmap(), aspace_protect() and their kin,
 * each all-or-nothing and published with one store; aspace_txn_begin() ..
 * aspace_txn_commit() makes one of several. One writer at a time per space,
 * the others wait in the order of their arrival. Who has to wait at a bound
 * (aspace_options::garbage_max, aspace_options::leaving_max, releases) keeps its place before
 * whoever comes later and may wait; where there is room for all, who comes meanwhile need not.
 *
 * The rule for the top of the 64-bit space: a range is [start, end) with
 * end <= 2^64 - 1, so the last byte, 0xffffffffffffffff, is in no area (and with
 * a granule of a page, neither is the last page).
 *
 * The words used for each call below. *Context: reader-safe* means: may be
 * called inside a read section. *Waits for readers* means: may wait for a grace
 * period; inside a read section, beside a transaction or in a callback of another
 * space, or with ::ASPACE_NOWAIT, such a call answers ::ASPACE_BUSY instead and changes
 * nothing. *Context: anywhere* means: async-signal-safe
 * too (for the default flavour), and allowed in callbacks. No other call may be made
 * in a signal handler, but aspace_fault(), aspace_advise() and aspace_dump() as they say. A table of
 * all calls is in docs/calls.md.
 *
 * n is the number of areas, k the number of areas that an operation touches.
 */
#ifndef ASPACE_ASPACE_H
#define ASPACE_ASPACE_H

#include <aspace/addr.h>
#include <aspace/area.h>
#include <aspace/backend.h>
#include <aspace/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** An address space. */
struct aspace;

struct rcu_flavor_struct; /* <urcu/flavor.h> */

/** How an operation is to go about it; a bit mask. */
enum aspace_how {
	/** map, map in a transaction: take away what is in the way, in the same publication. */
	ASPACE_REPLACE = 1,
	/** unmap, protect, advise: the whole range must be mapped, else ASPACE_NOT_MAPPED. */
	ASPACE_STRICT = 2,
	/** Never wait, not for other writers either, nor for faults and advice: answer ASPACE_BUSY. One of
	 * the writers is the helper thread, when something deferred has come due. (The locks of the lists
	 * of snapshots and of faults do not count: they are held for microseconds only.) */
	ASPACE_NOWAIT = 4,
};

/** What a space is like; a bit mask. */
enum aspace_mode {
	/** Unmapped memory stays until the readers that could have found it are
	 * gone: unmap marks areas *leaving* (not found, still occupied), and a later
	 * grace period takes the memory away. A protect that takes something away leaves areas *pending*:
	 * they show the new flags, and the backend is asked after a grace period. No replace and no move
	 * in such a space. */
	ASPACE_GRACE_UNMAP = 1,
	/** Every unmap, protect and advice is ::ASPACE_STRICT. */
	ASPACE_ALWAYS_STRICT = 2,
	/** Equal neighbours stay apart. */
	ASPACE_NEVER_MERGE = 4,
	/* 8 is reserved. */
};

/** Where the pool gets its pages; all sizes are multiples of 64 KiB. Called mostly under
 * the writer lock; must not call the space. */
struct aspace_page_ops {
	/** Memory of @p size bytes, aligned to 4096; NULL where there is none. */
	void *(*alloc)(void *ctx, size_t size);
	/** Takes back a whole block of alloc's. */
	void (*free)(void *ctx, void *block, size_t size);
};

/** Options of aspace_create(). Zero everywhere means the default. */
struct aspace_options {
	/** sizeof(struct aspace_options); required. A shorter structure, as of an older header, is taken as if
	 * zero were behind it; a longer one must be zero there. */
	size_t size;
	/** All areas lie within; {0, 0} means [0, 2^64 - 1). */
	struct aspace_range limits;
	/** Addresses are multiples of it, a power of two up to 2^63; 0 means 1. */
	uint64_t granule;
	/** A mask of enum aspace_mode. */
	unsigned mode;
	/** liburcu's flavour whose read sections protect lookups; NULL means bp,
	 * inlined. A flavour other than bp needs its threads registered by the
	 * program; under qsbr every online thread counts as inside a section. */
	const struct rcu_flavor_struct *flavour;
	/** Bound in bytes on nodes that wait only for a grace period; 0 means 16 MiB. */
	size_t garbage_max;
	/** While snapshots hold more bytes of nodes than this, no further one can be
	 * taken; 0 means no cap. What the newest versions have lost counts once a later update, or
	 * aspace_quiesce(), has sorted it: until then it is part of the garbage that @ref garbage_max bounds. */
	size_t snapshot_max;
	/** Where nodes come from; NULL means mmap. */
	const struct aspace_page_ops *pages;
	/** Handed to the page operations. */
	void *pages_ctx;
	/** Told when a wait has lasted a multiple of @ref stall_ms (milliseconds): for readers, for the writer lock, for
	 * faults and advice (aspace_fault()), for `release` callbacks to return; for a fork that has the
	 * space, and of the hook before fork for the space. Called in the waiting thread; may read, and
	 * take and release snapshots. Must not wait for threads that update the space, or fault in
	 * it: who waits for the writer lock, for faults or at a bound keeps its place in the line meanwhile, and
	 * a transaction that commits its lock. (So there, as in a callback, updates of the space answer
	 * ASPACE_DEADLOCK, or, of one that waits at a bound, may be ASPACE_BUSY; and nothing waits for readers.) In a signal handler where aspace_fault()
	 * is. No cancellation point.
	 * aspace_destroy() of this space is ASPACE_DEADLOCK in it; where it leaves a section
	 * open, the call that waits answers ASPACE_BUSY (one that waits for the writer lock waits on). It may
	 * fork; who does so in the line of the writer lock waits for its turn first, and then stands at the
	 * end of the line. May be NULL. */
	void (*stalled)(void *ctx, struct aspace *space, uint64_t waited_ms);
	/** 0 means 1000. */
	unsigned stall_ms;
	/** Told when a backend refuses a deferred unmap or protect: the version that shows the area
	 * again, or with the flags that the backend holds, has been published. Called under the
	 * writer lock, in the helper thread or any that updates the space; may read the space. May
	 * be NULL. */
	void (*refused)(void *ctx, struct aspace *space, const struct aspace_area *area,
			enum aspace_status status);
	/** Handed to stalled and refused. */
	void *ctx;
	/** Bound in bytes on memory that is leaving, in a grace-unmap space: of areas that have been
	 * unmapped, and of pending ones that lose their contents. What would add to it waits for
	 * readers first while there is more than that. 0 means 128 MiB; SIZE_MAX, none. */
	size_t leaving_max;
};

/**
 * Make an empty space.
 *
 * @p options may be NULL: all defaults.
 * Errors: ASPACE_INVALID_PARAM, ASPACE_NO_MEMORY, ASPACE_NOT_SUPPORTED (a flavour other
 * than the default in a forked child, or on bare metal), ASPACE_BUSY (beside an open transaction
 * of the same thread, where it would have to start a thread; between the hooks of fork).
 * Context: reader-safe; may block and allocate; not from a signal handler or a callback.
 * The first space of a flavour starts that flavour's two threads: one turns grace periods over, the
 * helper thread runs what is deferred; so does the first in a
 * forked child, for all spaces of the flavour.
 * Ownership: @p *out is the caller's until aspace_destroy() answers ASPACE_OK; not touched
 * on failure. O(1).
 */
ASPACE_API enum aspace_status aspace_create(const struct aspace_options *options,
					    struct aspace **out);

/**
 * Unmap everything, wait for readers, release every user object, free all.
 *
 * With ::ASPACE_NOWAIT only a space that is empty, with nothing on its way, is
 * destroyed, as after aspace_clear() and aspace_quiesce(); else ASPACE_BUSY. So it is, rarely, also
 * where the helper thread looks after the space at that moment: try again.
 * Needs no memory that is not kept back since the areas exist.
 * Errors: on any status but ASPACE_OK the space is alive. ASPACE_BUSY with a snapshot or a
 * transaction open, inside a read section or with the writer lock of another space held (also
 * where it was a callback, run meanwhile, that took the snapshot or left the rest open: then
 * areas are unmapped, and nothing is freed), ASPACE_DEADLOCK from a callback, or what the backend
 * said (in a grace-unmap space: ASPACE_BAD_STATE, and @c refused is told), with the areas that remain. What callbacks map meanwhile is unmapped, too.
 * Context: waits for readers; not from a signal handler. No other thread may be in a
 * call on the space. O(n).
 */
ASPACE_API enum aspace_status aspace_destroy(struct aspace *space, unsigned how);

/**
 * Register the calling thread with the read side ahead of its first lookup.
 *
 * Not required: bp registers a thread by itself at its first lookup; this moves
 * that to a place where a system call does no harm. Nothing to undo at thread
 * exit. Context: reader-safe; not from a signal handler. O(1).
 */
ASPACE_API void aspace_thread_prepare(struct aspace *space);

/* ---- Reading -------------------------------------------------------------- */

/**
 * The area that holds @p address in the newest version.
 *
 * Opens its own read section and copies the area to @p area (may be NULL).
 * Errors: ASPACE_NOT_MAPPED.
 * Context: anywhere, signal handlers and backends included. Wait-free. O(log n).
 */
ASPACE_API enum aspace_status aspace_find(struct aspace *space, struct aspace_vaddr address,
					  struct aspace_area *area);

/**
 * aspace_find() for @p count addresses, all in one version.
 *
 * @p areas gets @p count areas; one whose address is in no area becomes zero throughout
 * (an area's end never is). The descents overlap their cache misses: in large spaces this
 * is faster than one call for each address.
 * Answers how many were found.
 * Context: as aspace_find(); one read section for all, so reclamation waits. Wait-free.
 * O(count log n).
 */
ASPACE_API size_t aspace_find_many(struct aspace *space, const struct aspace_vaddr *addresses,
				   size_t count, struct aspace_area *areas);

/** Does any area of the newest version, leaving ones included, meet @p range?
 * An unusable range meets nothing. Context: as aspace_find(). O(log n). */
ASPACE_API bool aspace_overlaps(struct aspace *space, struct aspace_range range);

/** The number of areas in the newest version (leaving ones not counted). O(1).
 * Context: anywhere. */
ASPACE_API size_t aspace_count(struct aspace *space);

/** The bytes of all areas of the newest version (leaving ones not counted): what a limit on
 * address space bounds, RLIMIT_AS say. O(1). Context: anywhere. */
ASPACE_API uint64_t aspace_bytes(struct aspace *space);

/** Which areas a question is about. Zero everywhere, or NULL in its place: all. */
struct aspace_match {
	/** Bits of the flags that count; of ::ASPACE_FLAGS_RESERVED none does. */
	uint64_t mask;
	/** What these bits are; others are not looked at. */
	uint64_t flags;
	/** Whose they are; NULL: anybody's. */
	const struct aspace_backend *backend;
};

/**
 * Is all of @p range mapped in the newest version, and by areas as @p match says?
 *
 * @p reached (may be NULL) gets the first address of the range for which that is not so, or
 * its end. Leaving areas are not there, and pending ones have the flags that they show.
 * An empty range is ASPACE_OK.
 * Errors: ASPACE_NOT_MAPPED where there is no area at @p *reached, ASPACE_ACCESS_DENIED where
 * there is another one than @p match says; ASPACE_INVALID_PARAM for a range that ends before it
 * begins, with @p reached untouched.
 * Context: as aspace_find(), for O(log n + k).
 */
ASPACE_API enum aspace_status aspace_check_range(struct aspace *space, struct aspace_range range,
						 const struct aspace_match *match,
						 struct aspace_vaddr *reached);

/** How many bytes of @p range do areas of the newest version have that are as @p match says? Leaving
 * areas are not there. An unusable range has none. Context: as aspace_find(), for O(log n + k). */
ASPACE_API uint64_t aspace_bytes_in(struct aspace *space, struct aspace_range range,
				    const struct aspace_match *match);

/** The granule of the space. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_granule(const struct aspace *space);

/** The limits of the space. Context: anywhere. O(1). */
ASPACE_API struct aspace_range aspace_limits(const struct aspace *space);

/** How to look for a gap. Zero everywhere but size means: the lowest that fits. */
struct aspace_gap {
	/** Bytes wanted; a multiple of the granule, not 0. */
	uint64_t size;
	/** Alignment of the start, a power of two; 0 means the granule. */
	uint64_t align;
	/** Upward: no answer starts below it. Downward: no answer ends above it
	 * (0: from the top). Outside the limits it is moved to the nearer limit. */
	struct aspace_vaddr hint;
	/** The answer lies within; {0, 0} means the limits of the space, and it is
	 * cut to them. */
	struct aspace_range limits;
	/** Bytes to keep free between the answer and any area, on both sides. */
	uint64_t guard;
	/** Look for the highest answer instead of the lowest. */
	bool downward;
	/** If nothing fits from the hint on, start over at the other end. */
	bool wrap;
	/** Zero: room to grow. */
	uint64_t reserved[2];
};

/**
 * A gap as @p gap asks for, in the newest version.
 *
 * The answer is the lowest (downward: the highest) start that fits. Another
 * writer may take the gap at once: aspace_map_anywhere() searches and maps in
 * one operation.
 * Errors: ASPACE_INVALID_PARAM, ASPACE_NO_SPACE.
 * Context: as aspace_find(). O(log n); with an alignment above the granule, plus
 * the gaps on the way that are long enough but not aligned.
 */
ASPACE_API enum aspace_status aspace_find_free(struct aspace *space, const struct aspace_gap *gap,
					       struct aspace_vaddr *start);

/** One version, for the time of a read section or of a snapshot. Copy it freely;
 * it is valid for as long as that section or snapshot is open. */
struct aspace_view {
	/** @private */ struct aspace *space;
	/** @private */ const void *root;
	/** The number of the version; counts up by one with each publication. */
	uint64_t version;
};

/**
 * Begin a read section and take the newest version as a view.
 *
 * Sections nest, each with a view of its own: an inner one leaves the outer
 * view as it is, and need not see the same version. Every begin needs its
 * aspace_read_end() in the same thread. While the section is open nothing that
 * its view shows is reclaimed, and the garbage of all spaces of the flavour
 * grows: keep it short.
 * Context: anywhere, signal handlers included. Wait-free. O(1).
 */
ASPACE_API void aspace_read_begin(struct aspace *space, struct aspace_view *view);

/** End the read section that began with @p view. Context: anywhere, in the thread that
 * began it. Wait-free. O(1). */
ASPACE_API void aspace_read_end(struct aspace_view *view);

/** aspace_find() in a view. Errors: ASPACE_NOT_MAPPED. Context: anywhere, as long as the
 * view is valid. O(log n). */
ASPACE_API enum aspace_status aspace_view_find(const struct aspace_view *view,
					       struct aspace_vaddr address,
					       struct aspace_area *area);

/** aspace_find_many() in a view. Context: as aspace_view_find(). O(count log n). */
ASPACE_API size_t aspace_view_find_many(const struct aspace_view *view,
					const struct aspace_vaddr *addresses, size_t count,
					struct aspace_area *areas);

/** aspace_overlaps() in a view. Context: as aspace_view_find(). O(log n). */
ASPACE_API bool aspace_view_overlaps(const struct aspace_view *view, struct aspace_range range);

/** aspace_check_range() in a view. Errors and cost: as there. Context: as aspace_view_find(). */
ASPACE_API enum aspace_status aspace_view_check_range(const struct aspace_view *view,
						      struct aspace_range range,
						      const struct aspace_match *match,
						      struct aspace_vaddr *reached);

/** aspace_bytes_in() in a view. Context: as aspace_view_find(). O(log n + k). */
ASPACE_API uint64_t aspace_view_bytes_in(const struct aspace_view *view, struct aspace_range range,
					 const struct aspace_match *match);

/** aspace_find_free() in a view. Errors and cost: as there. Context: as
 * aspace_view_find(). */
ASPACE_API enum aspace_status aspace_view_find_free(const struct aspace_view *view,
						    const struct aspace_gap *gap,
						    struct aspace_vaddr *start);

/** A place in a view. Copy it freely; valid as long as the view. */
struct aspace_iter {
	/** @private */ struct aspace_view view;
	/** @private */ const void *leaf;
	/** @private */ uint64_t at;
	/** @private */ int slot;
};

/** Begin at @p from: aspace_iter_next() will answer the first area that ends above it,
 * aspace_iter_prev() the last that starts below it. Context: as aspace_view_find(). O(1). */
ASPACE_API void aspace_iter_begin(const struct aspace_view *view, struct aspace_vaddr from,
				  struct aspace_iter *iter);

/** The next area upward from the one answered last; false at the end, where the
 * iterator stays. Leaving areas are passed over. Context: as aspace_view_find(). O(1)
 * within a leaf, O(log n) from one leaf to the next. */
ASPACE_API bool aspace_iter_next(struct aspace_iter *iter, struct aspace_area *area);

/** The next area downward. Context, cost and the rest: as aspace_iter_next(). */
ASPACE_API bool aspace_iter_prev(struct aspace_iter *iter, struct aspace_area *area);

struct aspace_record;

/** @private A list of the library's own. */
struct aspace_record_list {
	struct aspace_record *head, *tail; /**< @private */
	size_t count;                      /**< @private */
};

/** A pinned version. The caller's memory: must not be copied or moved while taken. */
struct aspace_snapshot {
	/** @private */ struct aspace *space;
	/** @private */ struct aspace_snapshot *older, *newer;
	/** @private In the tree by which snapshots are searched. */
	struct aspace_snapshot *above, *below[2];
	/** @private */ const void *root;
	/** The number of the version. */
	uint64_t version;
	/** @private What waits for this snapshot alone to go. */
	struct aspace_record_list nodes, objects;
};

/**
 * Pin the newest version beyond a read section.
 *
 * Holds exactly the nodes and user objects of its version, never memory.
 * Errors: ASPACE_NO_MEMORY where snapshots hold more than the cap; or where memory has run out,
 * so that the areas could not all be unmapped beside the snapshot: what that takes is kept back as
 * long as it can be had, and is asked for again here (but in a callback, and beside a writer) and by
 * each operation that makes the space larger.
 * Context: reader-safe, callbacks included; may block for a short lock; not from a
 * signal handler. O(1).
 * Ownership: @p snapshot is the caller's memory, taken until aspace_snapshot_release().
 */
ASPACE_API enum aspace_status aspace_snapshot_take(struct aspace *space,
						   struct aspace_snapshot *snapshot);

/** A view of the snapshot, valid until its release. Context: anywhere. O(1). */
ASPACE_API void aspace_snapshot_view(const struct aspace_snapshot *snapshot,
				     struct aspace_view *view);

/** Let go. What only this snapshot held is reclaimed after a grace period, and until then
 * counts towards garbage_max. Does nothing where the take failed, or was released before.
 * Context: as aspace_snapshot_take(). O(1) on average, however many snapshots are open. */
ASPACE_API void aspace_snapshot_release(struct aspace_snapshot *snapshot);

/* ---- Writing -------------------------------------------------------------- */

/**
 * Map @p range.
 *
 * Order of effects: check, plan, reserve, prepare, backend map, publish. With
 * ::ASPACE_REPLACE, areas in the way are unmapped by the same publication; readers
 * see the old areas or the new one, never a hole. Equal neighbours merge: the left
 * one's user object stays, and the right one's reference is released.
 *
 * Errors: ASPACE_INVALID_PARAM, ASPACE_ALREADY_EXISTS, ASPACE_NO_MEMORY,
 * ASPACE_NOT_SUPPORTED (replace in a grace-unmap space), ASPACE_BUSY,
 * ASPACE_DEADLOCK, ASPACE_BAD_STATE, or what the backend said.
 * Context: reader-safe; takes the writer lock; waits for readers at the garbage
 * bound and where @p range holds leaving areas. The latter wait is for the readers that could
 * have found these, and for nobody's callbacks. As every update, it may first unmap up to 32
 * areas whose grace period is over, of whatever backend, and it waits where more than 1024
 * objects are due to be released until some are, or none has been for stall_ms.
 * Ownership: on ASPACE_OK the area owns the caller's reference to @p user; on
 * anything else the caller still has it. (An area that ASPACE_BAD_STATE leaves
 * behind has no user object.)
 * O(log n + k).
 */
ASPACE_API enum aspace_status aspace_map(struct aspace *space, struct aspace_range range,
					 uint64_t flags, struct aspace_backend *backend, void *user,
					 unsigned how);

/**
 * Find a gap and map it, in one operation. @p start gets the address; on failure, perhaps that of a gap
 * that could not be mapped.
 *
 * The granule is the greater one of the space's and the backend's. Leaving areas are no
 * gaps and are not waited for. ::ASPACE_REPLACE is ASPACE_INVALID_PARAM.
 * Errors, context, ownership: as aspace_map() and aspace_find_free(). The cost is that
 * of both.
 */
ASPACE_API enum aspace_status aspace_map_anywhere(struct aspace *space,
						  const struct aspace_gap *gap, uint64_t flags,
						  struct aspace_backend *backend, void *user,
						  unsigned how, struct aspace_vaddr *start);

/**
 * Unmap what @p range holds; areas that reach out of it are cut.
 *
 * Holes are passed over, unless ::ASPACE_STRICT. In an ASPACE_GRACE_UNMAP space the
 * areas are marked leaving, and the backend is called after a grace period; pending areas
 * (aspace_protect()) are waited for, and so are readers while more than @c leaving_max is leaving.
 * Errors and context: as aspace_map(), and ASPACE_NOT_MAPPED (strict). An empty
 * range is ASPACE_INVALID_PARAM.
 * Memory: where no area is cut, none is needed that is not kept back since the areas exist;
 * what the unmap before has used of it may have to be waited for, as at the garbage bound
 * (ASPACE_BUSY where it must not be). What snapshots keep of it is kept back as well.
 * If a backend refuses one of several, those before it are mapped again where backends restore
 * them (`remap_restores`). With no memory to tell which, that begins at the last and ends at
 * the first that cannot be.
 * Ownership: the references of what goes are released after a grace period, when no
 * snapshot shows them either. O(log n + k).
 */
ASPACE_API enum aspace_status aspace_unmap(struct aspace *space, struct aspace_range range,
					   unsigned how);

/**
 * Give what @p range holds the flags @p flags. Holes are passed over, unless
 * ::ASPACE_STRICT. An empty range changes nothing and is ASPACE_OK; areas that have
 * the flags already are not touched.
 *
 * In an ASPACE_GRACE_UNMAP space, where the backend says that something is taken away by it (`loses`:
 * access, contents), readers keep that as long as they would keep unmapped memory. The area is
 * *pending*: the new flags are shown at once and the call returns; the backend is
 * asked after a grace period. Until then faults find what the backend holds; equal neighbours stay
 * apart; and who would unmap, resize or protect the area otherwise waits for that as for
 * leaving areas (ASPACE_BUSY where it must not, and in a transaction). If the backend refuses,
 * the area shows what it holds, which is what it had before (and what the protect gave besides):
 * @c refused and aspace_quiesce() tell.
 *
 * Errors and context: as aspace_unmap(); waits for readers where areas are pending that it changes.
 * O(log n + k).
 */
ASPACE_API enum aspace_status aspace_protect(struct aspace *space, struct aspace_range range,
					     uint64_t flags, unsigned how);

/**
 * Decides an area's new flags. @p area is the piece inside the range.
 * Answers false to leave it as it is, else sets @p *flags. Called under the
 * writer lock while planning, again where the operation has had to wait; must not update the
 * space.
 */
typedef bool aspace_protect_fn(void *ctx, const struct aspace_area *area, uint64_t *flags);

/** aspace_protect() with a callback for each piece: it waits for faults anywhere in
 * the range before it asks, so that they do not make it ask again. (Pending areas do, where some
 * piece must wait for them.) Errors, context and cost: as there,
 * and ASPACE_INVALID_PARAM where @p decide is NULL or answers an invalid flag. */
ASPACE_API enum aspace_status aspace_protect_with(struct aspace *space, struct aspace_range range,
						  aspace_protect_fn *decide, void *ctx,
						  unsigned how);

/** Unmap everything; holes are fine, whatever the mode. Needs no memory that is not kept back
 * since the areas exist, snapshots or not. Errors, context and ownership: as aspace_unmap().
 * O(n). */
ASPACE_API enum aspace_status aspace_clear(struct aspace *space, unsigned how);

/**
 * Carry @p from, wholly mapped, to the free range of the same size at @p to:
 * contents, flags and user objects, one publication. The ranges must not overlap.
 * Errors: as aspace_map(), ASPACE_NOT_MAPPED, ASPACE_NOT_SUPPORTED (a backend without
 * `move`, a grace-unmap space).
 * Context: as aspace_unmap(). O(log n + k).
 */
ASPACE_API enum aspace_status aspace_move(struct aspace *space, struct aspace_range from,
					  struct aspace_vaddr to, unsigned how);

/**
 * Make the area that starts at @p start @p size bytes long: grow into the free
 * range behind it, or unmap its tail.
 * Errors: as aspace_map() and aspace_unmap(); ASPACE_NOT_MAPPED where no area starts
 * at @p start, ASPACE_ALREADY_EXISTS where the way is blocked.
 * Context: as aspace_map(). O(log n).
 */
ASPACE_API enum aspace_status aspace_resize(struct aspace *space, struct aspace_vaddr start,
					    uint64_t size, unsigned how);

/**
 * An access to @p address faulted: let the area's backend populate it. A leaving area
 * still has its memory, and is populated too.
 *
 * Takes no writer lock, and publishes no version: faults run beside each other and beside writers,
 * and the backend may take as long as it likes. One fault at a time in a *span*, the unit that the
 * backend populates at once; a thread that comes meanwhile waits for the first, and if that
 * populated what it came for answers ASPACE_OK without calling the backend again. Whoever would
 * change what is being populated waits for that (see ::ASPACE_NOWAIT), at its place among all that
 * want to be there, and holds up nobody who does not; and a fault that
 * comes after it waits for it, but for none that comes later. (Where references to user objects are counted: whoever would change any part of the
 * area. Faults and advice meet in spans and pieces alone.) A deferred unmap waits, too, and a fault keeps the area's user object.
 *
 * A backend whose `fault_span` says so, or was built before there was one, is called under the
 * writer lock instead, as an update would be.
 *
 * @p access is a mask of enum aspace_access.
 * Errors: ASPACE_NOT_MAPPED; ASPACE_NOT_SUPPORTED (no `fault`); ASPACE_DEADLOCK where it meets
 * what the calling thread itself is at, in an update, a callback or another fault beneath it (elsewhere it goes through), or
 * would have to wait in one; ASPACE_BUSY where it would have to wait and may not (nowait; the thread has the
 * writer lock of another space, or is in its `fault`; in a read section, for a fault whose thread is calling
 * fork(); so it is for updates in a section); what the backend said.
 * Context: reader-safe; waits for faults in the same span and for operations that change it, never
 * for readers. May be called from the handler of a
 * synchronous fault, in callbacks of the library too; whether the backend's own work
 * is signal-safe, and may be done beneath another call of it, is the backend's word.
 * O(log n + faults and waiting writers at that moment), beside that work.
 */
ASPACE_API enum aspace_status aspace_fault(struct aspace *space, struct aspace_vaddr address,
					   unsigned access, unsigned how);

/**
 * Advise the backends about what @p range holds: see enum aspace_advice. Areas that reach out of
 * it are advised about the part inside. Holes and leaving areas are passed over, unless
 * ::ASPACE_STRICT.
 *
 * Takes no writer lock, and publishes no version: as aspace_fault(), it runs beside all that happens
 * elsewhere, and a backend may take as long as it likes. Whoever would change what is being advised
 * about (where references to user objects are counted: anything of the area), or advise about it, or
 * populate it, waits, at its place among all that want to be there; and so does an advice that comes after it. A
 * backend that takes long may let them in between, part by part.
 *
 * Advice that loses contents (::ASPACE_ADVICE_FREE, ::ASPACE_ADVICE_DROP) waits, in an
 * ::ASPACE_GRACE_UNMAP space, until the readers have gone that were in a section when the call began;
 * nobody is held up meanwhile. What lies in the range *then* is advised about. Elsewhere a
 * reader may find the contents of an area gone while it is in its section.
 *
 * (So who may not wait is told ASPACE_BUSY there. ::ASPACE_ADVICE_PAGE_OUT, which loses nothing, does not
 * wait: it is what evicts pages that are in use here and there. And whoever drops what belongs to an object of its own sees to it that
 * no other is mapped there meanwhile: a backend can look at the user object that it is given.)
 *
 * The areas are advised about one by one, upward. What others change meanwhile is seen when its turn
 * comes. Where one is refused, advice that was given stays given, and all that lies above has not
 * been: aspace_advise_part() says how far it came.
 *
 * Errors: ASPACE_INVALID_PARAM (the range as for aspace_unmap(), an unknown advice, a backend's granule),
 * ASPACE_NOT_MAPPED (strict), ASPACE_NOT_SUPPORTED (a backend without `advise`): before anything is
 * done, unless others change the areas meanwhile. Then what a backend said:
 * ASPACE_NOT_SUPPORTED (it can do nothing of the kind), ASPACE_NO_MEMORY, ASPACE_ACCESS_DENIED
 * (populating what must not be accessed like that), ... ASPACE_DEADLOCK where it meets what the calling
 * thread is at, in an update, a callback, a fault or an advice beneath it, or would have to wait in one, for
 * readers too; ASPACE_BUSY where it would have to wait and may not (nowait; the thread has
 * the writer lock of another space, or is in its `fault` or `advise`; for readers: in a section).
 * Context: reader-safe; waits for faults and advice in what it advises about, and for operations
 * that change it; for readers only as said above. In a handler as aspace_fault().
 * O(k (log n + faults and waiting writers at that moment)), beside what the backends do.
 */
ASPACE_API enum aspace_status aspace_advise(struct aspace *space, struct aspace_range range,
					    enum aspace_advice advice, unsigned how);

/**
 * aspace_advise(), and say how far it came: on ASPACE_OK @p *reached is the end of the range; on
 * anything else everything in the range below @p *reached has been advised about (or was a hole), and
 * nothing above; at it something may have been in part. To go on from there, give it as the start
 * of the range. @p reached may be NULL.
 * Errors, context and cost: as aspace_advise().
 */
ASPACE_API enum aspace_status aspace_advise_part(struct aspace *space, struct aspace_range range,
						 enum aspace_advice advice, unsigned how,
						 struct aspace_vaddr *reached);

/**
 * Return when every deferred unmap, protect and release so far has run, and the nodes retired by
 * then are back in the pool. At once where there is nothing of the kind.
 *
 * Errors: ASPACE_BAD_STATE if a deferred unmap or protect was refused since the last call,
 * ASPACE_BUSY, ASPACE_DEADLOCK (from a callback or beside this thread's own
 * transaction). With ::ASPACE_NOWAIT it runs what is due and answers ASPACE_BUSY if
 * something remains. In a forked child the call that starts the helper thread of the flavour
 * anew, if it need not answer ASPACE_BUSY in a section or beside a transaction, and not with
 * ::ASPACE_NOWAIT; where no thread can be made it does without.
 * Context: waits for readers; not from a signal handler. Runs `release` callbacks.
 * O(what is due).
 */
ASPACE_API enum aspace_status aspace_quiesce(struct aspace *space, unsigned how);

/** Give unused pool memory back to where it came from; not what aspace_clear(), unmapping whole
 * areas and aspace_destroy() need, beside a snapshot, too.
 * Errors: ASPACE_DEADLOCK, ASPACE_BUSY (nowait). Context: reader-safe; takes the writer
 * lock; does not wait for readers. O(bytes pooled). */
ASPACE_API enum aspace_status aspace_trim(struct aspace *space, unsigned how);

/* ---- Transactions --------------------------------------------------------- */

/** Several operations as one: built in private, published with one store. */
struct aspace_txn;

/**
 * Begin a transaction: take the writer lock. The same thread must commit or
 * abort; from another one, the calls below answer ASPACE_DEADLOCK (aspace_txn_abort()
 * does nothing). They must not be called from a callback. Only ::ASPACE_NOWAIT is used of
 * @p how.
 *
 * The operations below edit a private tree as the same calls outside would edit the space,
 * merging included, so that the same areas with the same user objects are there afterwards.
 * They call no backend (but `clone` and `can_merge`);
 * aspace_txn_commit() then makes all changes of all backends and publishes. An
 * operation that fails changes nothing and leaves the transaction usable.
 * Move, resize, clear and iteration are not offered inside a transaction.
 *
 * Until the commit no other update of the space runs, and no backend of its areas is asked for a change:
 * the thread has *the place of a writer*, which calls that work on a backend beside the library ask
 * for (aspace_aarch64_compact(), for instance). An empty transaction does for that.
 *
 * Memory: an open transaction has a note of each operation, about a hundred bytes, and of what becomes
 * of each user object; the tree itself takes what it would outside.
 *
 * Errors: ASPACE_INVALID_PARAM, ASPACE_BUSY, ASPACE_DEADLOCK (from a callback, or beside
 * this thread's own transaction).
 * Context: reader-safe; takes the writer lock and keeps it; waits for readers at the
 * garbage bound, and at that on leaving memory.
 * Ownership: @p *out is the space's, valid until commit or abort; not touched on
 * failure. O(1).
 */
ASPACE_API enum aspace_status aspace_txn_begin(struct aspace *space, unsigned how,
					       struct aspace_txn **out);
/** aspace_map() in the transaction. A range with leaving areas is ASPACE_BUSY.
 * Errors: as aspace_map(), but for what backends say at the commit.
 * Context: reader-safe; only in the thread that began; allocates, never waits for
 * readers. O(log n + k).
 * Ownership: the caller keeps the reference to @p user until the commit answers ASPACE_OK;
 * then it is the space's. */
ASPACE_API enum aspace_status aspace_txn_map(struct aspace_txn *txn, struct aspace_range range,
					     uint64_t flags, struct aspace_backend *backend,
					     void *user, unsigned how);
/** aspace_map_anywhere() in the transaction. Errors: also as aspace_find_free(). Context,
 * ownership: as aspace_txn_map(). The cost is that of both. */
ASPACE_API enum aspace_status aspace_txn_map_anywhere(struct aspace_txn *txn,
						      const struct aspace_gap *gap, uint64_t flags,
						      struct aspace_backend *backend, void *user,
						      unsigned how, struct aspace_vaddr *start);
/** aspace_unmap() in the transaction. Errors: also ASPACE_NOT_MAPPED (strict). The rest,
 * and context and cost: as aspace_txn_map(). */
ASPACE_API enum aspace_status aspace_txn_unmap(struct aspace_txn *txn, struct aspace_range range,
					       unsigned how);
/** aspace_protect() in the transaction. Errors, context and cost: as aspace_txn_unmap(). */
ASPACE_API enum aspace_status aspace_txn_protect(struct aspace_txn *txn, struct aspace_range range,
						 uint64_t flags, unsigned how);
/** aspace_protect_with() in the transaction. Errors, context and cost: as
 * aspace_txn_unmap(); ASPACE_INVALID_PARAM as aspace_protect_with(). */
ASPACE_API enum aspace_status aspace_txn_protect_with(struct aspace_txn *txn,
						      struct aspace_range range,
						      aspace_protect_fn *decide, void *ctx,
						      unsigned how);
/** aspace_find() in the private tree. Errors: ASPACE_NOT_MAPPED, ASPACE_DEADLOCK. Context:
 * as aspace_txn_map(), but it neither blocks nor allocates. O(log n). */
ASPACE_API enum aspace_status aspace_txn_find(struct aspace_txn *txn, struct aspace_vaddr address,
					      struct aspace_area *area);
/** aspace_check_range() in the private tree. Errors and cost: as there, and ASPACE_DEADLOCK.
 * Context: as aspace_txn_find(). */
ASPACE_API enum aspace_status aspace_txn_check_range(struct aspace_txn *txn,
						     struct aspace_range range,
						     const struct aspace_match *match,
						     struct aspace_vaddr *reached);
/** aspace_bytes() of the private tree. Errors: ASPACE_DEADLOCK, with @p *bytes untouched. Context: as
 * aspace_txn_find(). O(1). */
ASPACE_API enum aspace_status aspace_txn_bytes(struct aspace_txn *txn, uint64_t *bytes);
/** aspace_bytes_in() in the private tree. Errors: ASPACE_DEADLOCK, with @p *bytes untouched.
 * Context: as aspace_txn_find(). O(log n + k). */
ASPACE_API enum aspace_status aspace_txn_bytes_in(struct aspace_txn *txn, struct aspace_range range,
						  const struct aspace_match *match,
						  uint64_t *bytes);
/** aspace_find_free() in the private tree. Errors and cost: as there, and ASPACE_DEADLOCK.
 * Context: as aspace_txn_find(). */
ASPACE_API enum aspace_status aspace_txn_find_free(struct aspace_txn *txn,
						   const struct aspace_gap *gap,
						   struct aspace_vaddr *start);
/**
 * Make the backends' changes and publish, or, on any failure, neither. The
 * transaction is over and the writer lock free, whatever the result, but ASPACE_DEADLOCK.
 *
 * Errors: ASPACE_NO_MEMORY, ASPACE_BAD_STATE, what a backend said; ASPACE_DEADLOCK from
 * another thread or a callback, with nothing done; ASPACE_BUSY where faults are in what it changes
 * and it may not wait for them: it was begun with ::ASPACE_NOWAIT, or the thread has the writer
 * lock of another space, too, or the thread of such a fault is calling fork().
 * Context: reader-safe; only in the thread that began; calls backends; does not wait for
 * readers. Waits for faults in what it changes, and keeps the writer lock meanwhile, as
 * it has since it began: what such a fault waits for must not be another writer of the space. (Other
 * faults, forks, threads that begin or end, and other spaces do not wait for it.)
 * Ownership: on failure the callers still own the references that they passed.
 * O(t log t + k log n), with t operations that touched k areas.
 */
ASPACE_API enum aspace_status aspace_txn_commit(struct aspace_txn *txn);
/** Forget everything since aspace_txn_begin(). Context: reader-safe; only in the thread
 * that began, else, and in a callback, it does nothing. Ownership: the callers still own
 * the references that they passed. O(nodes made since). */
ASPACE_API void aspace_txn_abort(struct aspace_txn *txn);

/* ---- Looking inside ------------------------------------------------------- */

/** Figures of a space; see aspace_stats(). */
struct aspace_stats {
	/** Set by the caller to sizeof(struct aspace_stats): no more is written. */
	size_t size;
	/** Areas in the newest version, leaving ones not counted. */
	uint64_t areas;
	/** Areas marked leaving. */
	uint64_t leaving;
	/** Levels of the tree; 1 is a lone leaf. */
	uint64_t height;
	/** Nodes of the newest version. */
	uint64_t nodes;
	/** Bytes of these nodes. */
	uint64_t bytes_live;
	/** Bytes of nodes that wait only for a grace period. */
	uint64_t bytes_retired;
	/** Bytes of nodes that snapshots hold. */
	uint64_t bytes_snapshots;
	/** Bytes that the pools hold free. */
	uint64_t bytes_pooled;
	/** Bytes obtained from the pages hook or mmap. */
	uint64_t bytes_mapped;
	/** The number of the newest version. */
	uint64_t version;
	/** Grace periods of the flavour since its first space. */
	uint64_t grace_periods;
	/** User objects whose release waits. */
	uint64_t releases_pending;
	/** Open snapshots. */
	uint64_t snapshots;
	/** The greatest bytes_retired that was ever seen. */
	uint64_t bytes_retired_max;
	/** Of these, user objects whose turn it is, and whose release has not returned: at most
	 * 1024. (@ref releases_pending.) */
	uint64_t releases_due;
	/** By how many operations something whose grace period was over has waited for its turn, at
	 * most. */
	uint64_t late_max;
	/** Bytes of memory that is leaving; see @ref aspace_options.leaving_max. */
	uint64_t bytes_leaving;
	/** The greatest bytes_leaving that was ever seen. */
	uint64_t bytes_leaving_max;
	/** Areas that show other flags than their backends hold, for readers; see aspace_protect(). Counted
	 * in @ref areas, too. */
	uint64_t pending;
	/** Bytes of these areas (@ref areas): aspace_bytes(). */
	uint64_t bytes_areas;
	/** How late the latest was of what has left, by kind: so many operations at most had begun after its
	 * grace period, and gone on, before it was given back. @ref late_max is about what is not, too.
	 *
	 * Nodes, until others could use them: 0, because whoever gets the writer lock takes them back before it
	 * does anything; but forks and snapshots may pass the lock between. */
	uint64_t late_nodes;
	/** User objects, until handed over for their release: at most 2 (releases_waiting_max / 32 + 1), but for
	 * operations that go on because a `release` does not return. */
	uint64_t late_releases;
	/** Leaving areas, until the backend was asked to unmap them: at most 2 (changes_waiting_max / 32
	 * + 1), but where memory is lacking. Not counted is while one waits for faults in it. */
	uint64_t late_leaving;
	/** Memory, of leaving areas and of pending ones that lose their contents: as @ref late_leaving. */
	uint64_t late_memory;
	/** The most user objects that have waited at once to be handed over. */
	uint64_t releases_waiting_max;
	/** The most leaving and pending areas at once. */
	uint64_t changes_waiting_max;
};

/** Fill @p stats. Takes the writer lock. Errors: ASPACE_INVALID_PARAM for a size that ends
 * before @c leaving, or is greater than 4096, ASPACE_DEADLOCK, ASPACE_BUSY (nowait). Context: reader-safe. O(1). */
ASPACE_API enum aspace_status aspace_stats(struct aspace *space, struct aspace_stats *stats,
					   unsigned how);

/** What aspace_validate() found wrong. */
struct aspace_violation {
	/** Number of the invariant, as listed at the head of the file that keeps it, plus
	 * 100 for the tree's (T), 200 for a pool's (P), 300 for the space's (S). */
	unsigned invariant;
	/** Where. */
	struct aspace_vaddr address;
	/** What, in words; static. */
	const char *what;
};

/**
 * Check every invariant of the newest version and of the bookkeeping.
 *
 * Errors: ASPACE_BAD_STATE, with the first violation in @p violation (which may
 * be NULL), or ASPACE_DEADLOCK, or ASPACE_BUSY (nowait).
 * Context: reader-safe; takes the writer lock. Asks `can_merge` and `check_area`. O(n), and
 * what backends take.
 */
ASPACE_API enum aspace_status aspace_validate(struct aspace *space,
					      struct aspace_violation *violation, unsigned how);

/** How aspace_dump() writes. */
enum aspace_dump_format {
	/** One line an area, in the style of /proc/PID/maps. */
	ASPACE_DUMP_MAPS,
	/** The tree, for Graphviz. */
	ASPACE_DUMP_DOT,
};

/** Receives @p length bytes of text; answers false to stop. */
typedef bool aspace_write_fn(void *ctx, const char *text, size_t length);

/**
 * Write the newest version as text.
 *
 * Opens a read section for its whole length. Errors: ASPACE_BAD_STATE where @p write
 * stopped it, ASPACE_INVALID_PARAM for an unknown format.
 * Context: reader-safe; signal-safe if @p write is. O(n).
 */
ASPACE_API enum aspace_status aspace_dump(struct aspace *space, enum aspace_dump_format format,
					  aspace_write_fn *write, void *ctx);

/* ---- fork -----------------------------------------------------------------
 *
 * For a program whose child uses the library. Either aspace_install_fork_hooks(), once; or, around
 * each fork, the three calls below. Both at once do no harm: a thread's calls nest.
 *
 * They wait for operations and transactions under way in other threads, not for faults, nor for a transaction
 * whose commit waits for faults: in the child that has not taken place. Meanwhile these
 * may do whatever they may do at other times, and wait for any other thread: nothing is kept from
 * anybody for longer than some milliseconds, or about as long as an operation takes where that
 * is longer. That may happen to a thread's first lookup and to its end, too.
 *
 * Beside other hooks. What the hook before fork waits for must not need what another hook has
 * taken already. An allocator that calls the library under a lock of its own, and takes this lock in
 * its hook, must have its hook run first; and hooks before fork run in the reverse order of
 * their registration. So aspace_install_fork_hooks() comes before the allocator's pthread_atfork();
 * or, where that cannot be (an allocator may register at the first malloc, before everything
 * else), the allocator's hooks call the library's:
 *
 *     static void before(void) { pthread_mutex_lock(&arena); aspace_before_fork(); }
 *     static void parent(void) { aspace_after_fork_parent(); pthread_mutex_unlock(&arena); }
 *     static void child(void)  { aspace_after_fork_child();  pthread_mutex_unlock(&arena); }
 *     ...
 *     pthread_atfork(before, parent, child);
 *
 * and nobody else in the program installs them after these. The other order hangs: the fork has the
 * space, and wants `arena`; a thread has `arena`, and wants the space. urcu_bp_before_fork() is
 * called by the library, and must not be called beside it.
 *
 * The child has one thread. Spaces of the default flavour are whole in it; those of others can only
 * be read. It has no helper thread, and no update, lookup, fault or release of a snapshot
 * makes one: who has to wait for readers turns the grace period over itself, with signals
 * held back until it is over; deferred unmaps are done by updates, as everywhere; releases wait, and
 * none is lost, until aspace_quiesce() or aspace_destroy() runs them, or until there is a
 * helper: aspace_quiesce() and aspace_create() start one. Without one, an update that may not
 * wait for readers (nowait, in a section, beside another space's transaction) goes on
 * answering ASPACE_BUSY at the garbage bound until one that may has been called.
 *
 * Read sections of threads that are gone have ended. Snapshots
 * stay valid (a struct aspace_snapshot on the stack of a thread that is gone must be released
 * before another thread may be given that stack). A `release` that another thread was in the
 * middle of is not finished in the child. A space that another thread was about to
 * create or destroy may be there or not: it must not be used.
 */

/**
 * Call before fork(). Takes every lock of the library, so that the child finds whole
 * spaces. Until the call after fork the thread may only look up, and take and release snapshots; updates,
 * faults and the calls on a transaction of its own answer ASPACE_DEADLOCK. Not inside a read section. A transaction that the thread has open goes on, in
 * parent and child; nobody may then be waiting for that space inside a read section, or with
 * another space's transaction open: this call waits for all others.
 * Context: may block, for all writers and for a grace period in progress; not from a
 * signal handler; from a callback as beside a transaction, but from `fault`, `advise` and `release` freely, unless the thread was
 * in a read section when it called the library: liburcu's locks wait for it, and it for them. O(spaces).
 */
ASPACE_API void aspace_before_fork(void);
/** Call in the parent after fork(), or where it has failed. Of nested calls the last gives
 * everything back; one without aspace_before_fork() does nothing. Context: as
 * aspace_before_fork(), but it does not block. O(spaces). */
ASPACE_API void aspace_after_fork_parent(void);
/** Call in the child after fork(). Context: as aspace_after_fork_parent(). O(spaces). */
ASPACE_API void aspace_after_fork_child(void);
/** Install the three with pthread_atfork(); again: nothing. Errors: ASPACE_NO_MEMORY,
 * ASPACE_NOT_SUPPORTED on bare metal. Context: reader-safe; takes no lock of the library, and may
 * allocate; not from a signal handler or a callback. O(1). */
ASPACE_API enum aspace_status aspace_install_fork_hooks(void);

#ifdef __cplusplus
}
#endif

#endif
