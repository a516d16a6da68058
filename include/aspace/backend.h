/* SPDX-License-Identifier: MIT */
/**
 * @file
 * What an area means for real memory: the interface that a backend fills in.
 *
 * To write one, begin at docs/backends.md, and with a copy of examples/custom_backend.c.
 *
 * A backend is a structure whose first member is a struct aspace_backend. The
 * library calls it under the writer lock of the space, one call at a time for
 * each space, but for `fault`, `advise` and `release`; a backend that serves several spaces must expect calls of
 * different spaces at once.
 *
 * One operation of the space becomes, for each backend that it touches:
 *
 *     prepare (every change)  ->  map / protect / replace / unmap / move  ->  flush
 *
 * All `prepare` calls of the operation come before the first change. `flush`
 * comes after the last call, whether the operation succeeded or not, to every
 * backend that it touches: it ends the batch (TLB maintenance) and lets go of what
 * `prepare` had reserved and nobody used. It comes once, or more often where an
 * operation touches more than eight backends.
 *
 * `fault` is called *beside* all that, with no lock of the library held: for different spans (see
 * `fault_span`) in several threads at once, and beside a batch that changes other areas. No call
 * that changes an area, and no other fault in the same span, runs at the same time: so it needs no
 * lock for what belongs to the span alone. But it must touch nothing that a batch changes
 * elsewhere (tables or counts that areas share, what `prepare` reserves) without a lock, or atomics, of the
 * backend's own. It may take as long as it likes, do I/O, sleep; only who would change the area
 * waits for it. `clone`, `can_merge` and `check_area` may run beside it for the same area. The same
 * holds for `advise`, whose span is the range that it is given. A fork waits for neither: a backend with
 * locks of its own in them sees to these itself (pthread_atfork(), registered before the library's hooks),
 * or its child must not use it.
 *
 * A callback may read the space (it sees the version before the operation), and must end the
 * sections that it begins. An update of the same space from a callback answers ASPACE_DEADLOCK.
 */
#ifndef ASPACE_BACKEND_H
#define ASPACE_BACKEND_H

#include <aspace/addr.h>
#include <aspace/area.h>
#include <aspace/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a struct aspace_change asks for. */
enum aspace_change_kind {
	/** Nothing is mapped in @c range: map it with @c new_flags. */
	ASPACE_CHANGE_MAP,
	/** All of @c range is mapped with @c old_flags: unmap it. */
	ASPACE_CHANGE_UNMAP,
	/** All of @c range is mapped with @c old_flags: change to @c new_flags. */
	ASPACE_CHANGE_PROTECT,
	/** Parts of @c range, or all, are mapped: map all of it afresh with @c new_flags. */
	ASPACE_CHANGE_REPLACE,
	/** All of @c range is mapped with @c old_flags: carry it, contents and
	 * flags, to @c destination, which is free. */
	ASPACE_CHANGE_MOVE,
};

/** One change that a backend is asked to make; all or nothing. */
struct aspace_change {
	/** What is asked for. */
	enum aspace_change_kind kind;
	/** True where the call takes back an earlier one of the same operation:
	 * a backend should try harder, for instance by using a reserve. */
	bool undo;
	/** Inside one area before the change, except for MAP and REPLACE. */
	struct aspace_range range;
	/** MOVE: where @c range goes; the same size, no overlap. */
	struct aspace_vaddr destination;
	/** The flags before the change; see enum aspace_change_kind. */
	uint64_t old_flags;
	/** The flags after the change. */
	uint64_t new_flags;
	/** The user object of the area; not a reference of the backend's own. Where a
	 * transaction maps, that of the area which lies there when it commits. */
	void *user;
	/** UNMAP, as `prepare` sees it (an undo: 0): at how many ends of @c range, 0 to 2, there
	 * will be an area after the operation. For backends that must count how often something
	 * is cut in two. */
	unsigned borders;
	/** UNMAP (an undo: 0): at how many ends of @c range, 0 to 2, the area that it is in goes
	 * on. 0: a whole area goes, which no backend should refuse for want of something that it
	 * could have kept back since the area was mapped. */
	unsigned cuts;
};

/** What a change of flags takes away; a bit mask. */
enum aspace_loss {
	/** Some access that the area allowed. */
	ASPACE_LOSES_ACCESS = 1,
	/** Its contents, and their memory. */
	ASPACE_LOSES_CONTENTS = 2,
};

/** Kinds of access that a fault reports; a bit mask. */
enum aspace_access {
	ASPACE_ACCESS_READ = 1,
	ASPACE_ACCESS_WRITE = 2,
	ASPACE_ACCESS_EXECUTE = 4,
};

/**
 * What a backend may be advised about a range: how it will be used, or what its contents are
 * worth. None changes what is mapped, with which flags, or who may access it; and only
 * ::ASPACE_ADVICE_FREE and ::ASPACE_ADVICE_DROP lose contents. The numbers stay what they are; 0 is
 * none. (In brackets: what the host backend asks of Linux.)
 */
enum aspace_advice {
	/** Give it its memory now, as reading would, so that no access faults: what is
	 * populated stays. (POPULATE_READ) */
	ASPACE_ADVICE_POPULATE_READ = 1,
	/** Give it its memory now, as writing would; contents stay. (POPULATE_WRITE) */
	ASPACE_ADVICE_POPULATE_WRITE = 2,
	/** It will be used soon: begin to fetch what is not there. (WILLNEED) */
	ASPACE_ADVICE_WILL_NEED = 3,
	/** It will not be used soon: take its memory first where some is lacking. (COLD) */
	ASPACE_ADVICE_COLD = 4,
	/** Take its memory now, and keep the contents elsewhere. (PAGEOUT) */
	ASPACE_ADVICE_PAGE_OUT = 5,
	/** The contents are not needed: its memory may be taken at any time, page by page, until
	 * the page is written again. What is read before that is what was there, or as after
	 * ::ASPACE_ADVICE_DROP. (FREE) */
	ASPACE_ADVICE_FREE = 6,
	/** Drop the contents, and give the memory back; the mapping stays. What is accessed
	 * afterwards is as in an area that has just been mapped. (DONTNEED) */
	ASPACE_ADVICE_DROP = 7,
	/** Huge pages are welcome. (HUGEPAGE) */
	ASPACE_ADVICE_HUGE = 8,
	/** No huge pages. (NOHUGEPAGE) */
	ASPACE_ADVICE_NO_HUGE = 9,
	/** Make huge pages of it now, as far as possible. (COLLAPSE) */
	ASPACE_ADVICE_COLLAPSE = 10,
	/** Leave it out of core dumps. (DONTDUMP) */
	ASPACE_ADVICE_NO_DUMP = 11,
	/** No longer. (DODUMP) */
	ASPACE_ADVICE_DUMP = 12,
	/** Equal pages may share memory. (MERGEABLE) */
	ASPACE_ADVICE_MERGE = 13,
	/** No longer, and those that do are parted. (UNMERGEABLE) */
	ASPACE_ADVICE_NO_MERGE = 14,
	/** A forked child finds it empty. (WIPEONFORK) */
	ASPACE_ADVICE_WIPE_ON_FORK = 15,
	/** No longer. (KEEPONFORK) */
	ASPACE_ADVICE_KEEP_ON_FORK = 16,
	/** It will be accessed here and there. (RANDOM) */
	ASPACE_ADVICE_RANDOM = 17,
	/** It will be accessed in order. (SEQUENTIAL) */
	ASPACE_ADVICE_SEQUENTIAL = 18,
	/** Neither of the two. (NORMAL) */
	ASPACE_ADVICE_NORMAL = 19,
};

/**
 * A backend's operations. Each change is all-or-nothing: on a status other than
 * ASPACE_OK the backend holds what it held before the call.
 */
struct aspace_backend_ops {
	/** sizeof(struct aspace_backend_ops), so that the table can grow: of a table that is
	 * shorter than the library's, as one that was built against an older header, the
	 * operations behind its end are NULL, and are not looked at; of one that is longer, those
	 * that the library does not know are never called. Whole operations, the required ones at
	 * least; 4096 at most. */
	size_t size;

	/** Required. */
	enum aspace_status (*map)(struct aspace_backend *, const struct aspace_change *);
	/** Required. */
	enum aspace_status (*unmap)(struct aspace_backend *, const struct aspace_change *);
	/** Required. */
	enum aspace_status (*protect)(struct aspace_backend *, const struct aspace_change *);

	/** Optional: reserve what @p change needs. After ASPACE_OK for all changes of
	 * an operation, the changes themselves do not run out of memory. */
	enum aspace_status (*prepare)(struct aspace_backend *, const struct aspace_change *change);
	/** Optional: unmap what is there and map afresh, in one step. Without it the
	 * library unmaps the pieces and then maps, and a refusal in between can end
	 * in ASPACE_BAD_STATE. It is not taken back: where a later change of the same transaction is
	 * refused, that ends in ASPACE_BAD_STATE. */
	enum aspace_status (*replace)(struct aspace_backend *, const struct aspace_change *);
	/** Optional: without it, aspace_move answers ASPACE_NOT_SUPPORTED. */
	enum aspace_status (*move)(struct aspace_backend *, const struct aspace_change *);
	/** Optional: the batch has ended. Cannot fail. */
	void (*flush)(struct aspace_backend *);
	/** Optional: an access to @p address in @p area faulted; populate it: nothing outside of
	 * the span of @p address, nor of the area. @p access
	 * is a mask of enum aspace_access. @p area is what is there when the call begins; parts
	 * of it that are not in the span may go, or get other flags, during the call. Its user
	 * object is not released meanwhile. Called with no lock held, beside
	 * everything else: see the head of this file, and `fault_span`. An update of the same
	 * space from here answers ASPACE_DEADLOCK. */
	enum aspace_status (*fault)(struct aspace_backend *, const struct aspace_area *area,
				    struct aspace_vaddr address, unsigned access);
	/** Optional: may @p left and @p right become one area? Asked for neighbours
	 * with this backend and equal flags, while an operation is planned, in a transaction
	 * too. Without it: if their user pointers are
	 * equal. The merged area keeps left's object and reference; right's is released.
	 * Must say of the same user objects the same each time, and be transitive:
	 * neighbours are asked about in the operation that made them so, and not again. */
	bool (*can_merge)(struct aspace_backend *, const struct aspace_area *left,
			  const struct aspace_area *right);
	/** Optional: one more reference to @p user, for an area that is being cut in
	 * two, or moved; may fail, then nothing happens. An area that loses its head or its
	 * tail keeps the one that it has. Without it the pointer is
	 * copied, and a `release` comes for each copy. Not called for NULL. Runs while
	 * the operation is planned; once more, perhaps, before an ASPACE_BAD_STATE,
	 * where a piece is left without a user object if it fails. */
	enum aspace_status (*clone)(struct aspace_backend *, void *user, void **copy);
	/** Optional: an area has gone, and every reader and snapshot that could have
	 * found it: once for each reference, the caller's of a map and each clone or copy. Not
	 * called for NULL. Runs with no library lock held, on the
	 * library's helper thread or in a thread that calls aspace_quiesce or
	 * aspace_destroy, never in another call; may call the library, but must end the sections and
	 * transactions that it begins. It ought to return: while one does not for stall_ms, 1024 wait
	 * behind it, and more are due, updates of the space wait that long, once. */
	void (*release)(struct aspace_backend *, void *user);
	/** Optional, for aspace_validate(): is what the backend holds in @p area what the
	 * area says? Changes nothing, and may take as long as the area is. If it is not, the
	 * answer is ASPACE_BAD_STATE, with the first place in @p at and a static text in
	 * @p what. Runs under the writer lock. */
	enum aspace_status (*check_area)(struct aspace_backend *, const struct aspace_area *area,
					 struct aspace_vaddr *at, const char **what);
	/** Optional: the *span* of faults in @p area: how many bytes `fault` populates at once, a
	 * power of two; it is aligned to its size, and cut where the area ends. In one span there is
	 * one `fault` at a time; a thread that comes meanwhile waits, and where the first has
	 * populated what it asked for (the same span, no other kinds of access) it is not even
	 * called. Writers wait for faults in the spans that they change; where references are
	 * counted (`clone`, `release`), for all in the area.
	 *
	 * Without it, the span is the whole area: one `fault` at a time in it, and whoever waits is spared
	 * its own only for the same address. 0, and a table that is too short to have it: `fault`
	 * is called under the writer lock, one call at a time in a space, as libaspace did before
	 * there were spans. Say so where `fault` changes what a batch changes, too.
	 *
	 * Must answer the same each time for the same backend and flags. Called in a read section,
	 * in signal handlers where aspace_fault() is; must not call the library. O(1). */
	uint64_t (*fault_span)(struct aspace_backend *, const struct aspace_area *area);
	/** Optional: @p advice about @p range, which lies in @p area, on the backend's granule; see
	 * enum aspace_advice for what each means. Without it aspace_advise() answers
	 * ASPACE_NOT_SUPPORTED, which is also what to answer to advice that means nothing here, or is
	 * not known.
	 *
	 * Called as `fault` is: with no lock held, beside everything else, for as long as it likes,
	 * beside advice and faults elsewhere. In @p range no change, no other advice and no
	 * fault runs meanwhile (but faults that `fault_span` wants under the writer lock); where
	 * references are counted, no change anywhere in the area. @p area is what is there when the call
	 * begins; parts of it that are not in the range may go, or get other flags, meanwhile. Its
	 * user object is not released. Changes nothing outside of the range.
	 *
	 * @p reached is the end of the range when the call begins. Who would keep others waiting too long
	 * does a part, from the range's start upward, says in it where that ended, on the
	 * granule, and answers ASPACE_OK: it is called again for what is left, or for what has come there meanwhile,
	 * after whoever waits. A refusal may come half way, and then says the same; where nothing
	 * was done @p reached may stay as it is. */
	enum aspace_status (*advise)(struct aspace_backend *, const struct aspace_area *area,
				     struct aspace_range range, enum aspace_advice advice,
				     struct aspace_vaddr *reached);
	/** Optional: what does a change of flags from @p from to @p to take away? A mask of enum
	 * aspace_loss, 0 for nothing. In a space with ::ASPACE_GRACE_UNMAP, `protect` is then asked
	 * for such a change only after the readers have gone that may have found the area with @p from,
	 * and all calls before that, faults too, come with what the backend holds. Without it, and for a table
	 * that is too short to have it, nothing is taken away: each change is made at once.
	 *
	 * Where the change gives something as well, @p *meanwhile, which is @p from, may be set to
	 * valid flags that give both: the change from @p from to these is made at once, that from these to
	 * @p to after the grace period. Where nothing is set, all of it waits.
	 *
	 * Must answer the same each time for the same flags, and must not call the library. Called under
	 * the writer lock. O(1). */
	unsigned (*loses)(struct aspace_backend *, uint64_t from, uint64_t to, uint64_t *meanwhile);
};

/** The part of a backend that the library knows. Lives as long as any space or
 * snapshot that shows an area of it; constant after its first use. */
struct aspace_backend {
	/** What it does; the same table for all backends of a kind. */
	const struct aspace_backend_ops *ops;
	/** The flags that are valid here; none of ASPACE_FLAGS_RESERVED. */
	uint64_t flags_mask;
	/** Addresses must be multiples of this power of two; 0 means 1. */
	uint64_t granule;
	/** Mapping a range again after unmapping it restores everything, contents
	 * included (a linear page table, say): the library may undo unmap by map. */
	bool remap_restores;
};

#ifdef __cplusplus
}
#endif

#endif
