/* SPDX-License-Identifier: MIT */
/**
 * @file
 * A backend that remembers: a page table that any thread can ask, for tests.
 *
 * The mock keeps, for each page, whether it is mapped and with which flags. One
 * writer at a time changes it, any number of threads query it meanwhile without
 * a lock. It is strict: a change that does not fit what the table holds (a map
 * of a mapped page, an unmap with the wrong old flags, ...) is refused with
 * ::ASPACE_BAD_STATE and counted as a *protocol violation*, so that a test of the
 * library ends with `assert(aspace_mock_violations(mock) == 0)`.
 *
 * It can refuse on command (aspace_mock_inject()), it counts and logs every
 * call, and it has counted user objects that show a leak, a double release and
 * a use after release.
 *
 * Memory comes from mmap; after aspace_mock_create() nothing calls malloc. The
 * table takes 8 bytes a page, in blocks of 64 pages, and keeps a block once its
 * addresses have been used: its size follows the distinct addresses ever mapped,
 * not the number of calls. aspace_mock_compact() gives empty blocks back.
 */
#ifndef ASPACE_BACKEND_MOCK_H
#define ASPACE_BACKEND_MOCK_H

#include <aspace/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A mock backend. */
struct aspace_mock;

/** The calls that a mock tells apart. */
enum aspace_mock_call {
	ASPACE_MOCK_MAP,
	ASPACE_MOCK_UNMAP,
	ASPACE_MOCK_PROTECT,
	ASPACE_MOCK_REPLACE,
	ASPACE_MOCK_MOVE,
	ASPACE_MOCK_PREPARE,
	ASPACE_MOCK_FAULT,
	ASPACE_MOCK_CLONE,
	/** All of those that can fail, together: a count of its own, for "the k-th call whatever it
	 * is". */
	ASPACE_MOCK_ANY,
	/** These cannot fail: they are counted only. */
	ASPACE_MOCK_FLUSH,
	ASPACE_MOCK_RELEASE,
	ASPACE_MOCK_CAN_MERGE,
	/** This one can. */
	ASPACE_MOCK_ADVISE,
	/** How many there are. */
	ASPACE_MOCK_CALLS
};

/** What a mock leaves out or does differently; a bit mask. */
enum aspace_mock_mode {
	/** No `prepare`. */
	ASPACE_MOCK_NO_PREPARE = 1,
	/** No `replace`. */
	ASPACE_MOCK_NO_REPLACE = 2,
	/** No `move`. */
	ASPACE_MOCK_NO_MOVE = 4,
	/** No `flush`. */
	ASPACE_MOCK_NO_FLUSH = 8,
	/** No `fault`. */
	ASPACE_MOCK_NO_FAULT = 16,
	/** aspace_backend.remap_restores is set. */
	ASPACE_MOCK_REMAP_RESTORES = 32,
	/** Pages are mapped empty, and populated by `fault` and by advice; ::ASPACE_ADVICE_DROP empties
	 * them. */
	ASPACE_MOCK_LAZY = 64,
	/** The low three flags are a mask of enum aspace_access, and `fault` answers
	 * ASPACE_ACCESS_DENIED for an access that they do not allow, and `advise` where that
	 * populates. */
	ASPACE_MOCK_CHECK_ACCESS = 128,
	/** User pointers are mock objects: `clone` and `release` count references.
	 * Without it, neither operation is there, and user pointers are not followed. */
	ASPACE_MOCK_OBJECTS = 256,
	/** `can_merge` says yes, whatever the user pointers. */
	ASPACE_MOCK_MERGE_ALWAYS = 512,
	/** `can_merge` says no. With neither, there is no `can_merge`. */
	ASPACE_MOCK_MERGE_NEVER = 1024,
	/** The order of an operation is checked too: every change but undo after a `prepare`
	 * of its own, no `prepare` after the first change, `flush` at the end. Only for a
	 * mock that serves one space; needs `prepare` and `flush`. */
	ASPACE_MOCK_CHECK_ORDER = 2048,
	/** No `advise`. */
	ASPACE_MOCK_NO_ADVISE = 4096,
	/** Each flag is an access: `loses` says that a change takes away what bits it clears,
	 * and contents, if none is left. Without it, there is no `loses`. */
	ASPACE_MOCK_LOSES = 8192
};

/** Options of aspace_mock_create(). Zero everywhere means the default. */
struct aspace_mock_options {
	/** sizeof(struct aspace_mock_options); required. */
	size_t size;
	/** Bytes in a page, a power of two; 0 means 4096. */
	uint64_t granule;
	/** The valid flags, none of ::ASPACE_FLAGS_RESERVED; 0 means all others. */
	uint64_t flags_mask;
	/** A mask of enum aspace_mock_mode. */
	unsigned mode;
	/** Entries that the log keeps, the newest ones; 0 means no log. 64 bytes each at most. */
	uint64_t log_capacity;
	/** A change of more pages than this is ASPACE_NO_MEMORY, so that a range of the
	 * whole 64-bit space does not take all of the machine's; 0 means 2^28, which
	 * takes 2 GiB (and is 1 TiB of 4 KiB pages). */
	uint64_t pages_max;
};

/**
 * Make a mock.
 *
 * @p options may be NULL: all defaults.
 * Errors: ASPACE_INVALID_PARAM, ASPACE_NO_MEMORY.
 * Context: may block; not from a signal handler or a callback. O(1).
 * Ownership: the caller's, until aspace_mock_destroy(); @p *out is not touched on failure.
 */
ASPACE_API enum aspace_status aspace_mock_create(const struct aspace_mock_options *options,
						 struct aspace_mock **out);

/**
 * Free everything, objects included.
 *
 * Context: may block; not from a signal handler or a callback. No other thread may be in
 * a call on the mock; no space shows an area of it. O(memory that it has).
 */
ASPACE_API void aspace_mock_destroy(struct aspace_mock *mock);

/**
 * The backend, to be given to aspace_map(). May serve several spaces with
 * disjoint limits: its calls take a lock.
 * Ownership: the mock's. Context: anywhere. O(1).
 */
ASPACE_API struct aspace_backend *aspace_mock_backend(struct aspace_mock *mock);

/* ---- The page table --------------------------------------------------------- */

/**
 * Is the page of @p address mapped, and with which flags?
 *
 * @p flags may be NULL; it is untouched if the answer is no.
 * Context: any thread, beside a writer, signal handlers included; takes no lock.
 * O(1). Each page by itself is linearizable; a change of several pages is seen
 * page by page.
 */
ASPACE_API bool aspace_mock_query(const struct aspace_mock *mock, struct aspace_vaddr address,
				  uint64_t *flags);

/** Is the page of @p address mapped and populated? Differs from
 * aspace_mock_query() only under ::ASPACE_MOCK_LAZY. Context: as there.
 * O(1). */
ASPACE_API bool aspace_mock_populated(const struct aspace_mock *mock, struct aspace_vaddr address);

/** Pages mapped now. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_mock_pages(const struct aspace_mock *mock);

/** Bytes of memory that the mock has from mmap. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_mock_bytes(const struct aspace_mock *mock);

/** Receives a run of mapped pages with equal flags; answers false to stop. */
typedef bool aspace_mock_visit_fn(void *ctx, struct aspace_range range, uint64_t flags);

/**
 * Visit what is mapped inside @p range, upward, in runs as long as possible.
 *
 * @p range is cut outward to whole pages.
 * Context: takes the mock's lock; @p visit must not call the mock. O(pages of the range):
 * 64 pages at a step where nothing is mapped.
 */
ASPACE_API void aspace_mock_visit(struct aspace_mock *mock, struct aspace_range range,
				  aspace_mock_visit_fn *visit, void *ctx);

/**
 * Give the memory of empty blocks and of outgrown tables back.
 *
 * Errors: ASPACE_NO_MEMORY, nothing changed. Context: takes the mock's lock; no other
 * thread may be in aspace_mock_query() or aspace_mock_populated().
 * O(blocks), and for a moment the live ones are there twice.
 */
ASPACE_API enum aspace_status aspace_mock_compact(struct aspace_mock *mock);

/* ---- Refusing ----------------------------------------------------------------- */

/**
 * Let the @p nth call of kind @p call from now on (1 is the next) fail with @p status
 * before it changes anything; with @p forever, every later one too.
 *
 * Replaces an earlier injection of that kind. Undo calls count like others.
 * ::ASPACE_MOCK_ANY counts the failing kinds together and is asked first.
 * @p nth 0 or @p status ASPACE_OK: none any more.
 * Errors: ASPACE_INVALID_PARAM for a kind that cannot fail.
 * Context: takes the mock's lock; not from a signal handler. O(1).
 */
ASPACE_API enum aspace_status aspace_mock_inject(struct aspace_mock *mock,
						 enum aspace_mock_call call, uint64_t nth,
						 bool forever, enum aspace_status status);

/** Forget all injections. Context: as aspace_mock_inject(). O(1). */
ASPACE_API void aspace_mock_heal(struct aspace_mock *mock);

/** Calls of kind @p call so far, failed ones included. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_mock_calls(const struct aspace_mock *mock, enum aspace_mock_call call);

/** Calls of kind @p call that aspace_mock_inject() let fail. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_mock_injected(const struct aspace_mock *mock,
					 enum aspace_mock_call call);

/**
 * Protocol violations so far: changes that do not fit the table, unusable
 * ranges, undeclared flags, references that do not exist.
 *
 * @p what, if not NULL, gets what the first one was, in words (static), or NULL.
 * Context: anywhere. O(1).
 */
ASPACE_API uint64_t aspace_mock_violations(const struct aspace_mock *mock, const char **what);

/* ---- The log -------------------------------------------------------------------- */

/** One call. */
struct aspace_mock_entry {
	/** Which. */
	enum aspace_mock_call call;
	/** What it answered. */
	enum aspace_status status;
	/** Was it a change that takes back an earlier one? */
	bool undo;
	/** PREPARE: what for. */
	enum aspace_change_kind kind;
	/** The range; FAULT: the address, both ends; empty for FLUSH. */
	struct aspace_range range;
	/** MOVE: where to. */
	struct aspace_vaddr destination;
	/** As in the change; FAULT, ADVISE: the area's, and in @c new_flags the access, the advice. */
	uint64_t old_flags;
	/** See @c old_flags. */
	uint64_t new_flags;
};

/** Entries written so far, those that the log no longer keeps included. CLONE,
 * RELEASE and CAN_MERGE are counted, not logged. Context: takes the mock's lock; not from a
 * signal handler. O(1). */
ASPACE_API uint64_t aspace_mock_log_count(struct aspace_mock *mock);

/**
 * The entry number @p index, counted from 0 at create or the last clear.
 *
 * Answers false if there is none yet, or it has been overwritten.
 * Context: takes the mock's lock. O(1).
 */
ASPACE_API bool aspace_mock_log_get(struct aspace_mock *mock, uint64_t index,
				    struct aspace_mock_entry *entry);

/** Start the log over at number 0. Context: as aspace_mock_log_count(). O(1). */
ASPACE_API void aspace_mock_log_clear(struct aspace_mock *mock);

/* ---- Counted objects -------------------------------------------------------------- */

/**
 * A user object with a reference count, for a mock with ::ASPACE_MOCK_OBJECTS.
 *
 * Its memory stays readable until the mock is destroyed, so that a test may
 * look at an object that it has lost, and find it dead. A dead object's memory
 * is used again after a few thousand others have died, under a new number.
 */
struct aspace_mock_object;

/**
 * Make an object with one reference, the caller's.
 *
 * Errors: ASPACE_NO_MEMORY, ASPACE_NOT_SUPPORTED without ::ASPACE_MOCK_OBJECTS.
 * Ownership: give the reference to an area, or drop it with aspace_mock_object_put().
 * Context: takes the mock's lock; not from a signal handler. O(1).
 */
ASPACE_API enum aspace_status aspace_mock_object_create(struct aspace_mock *mock,
							struct aspace_mock_object **out);

/** Drop a reference by hand. One that does not exist is a protocol violation. Context: as
 * aspace_mock_object_create(). O(1). */
ASPACE_API void aspace_mock_object_put(struct aspace_mock *mock, struct aspace_mock_object *object);

/** The number of the object, unique in its mock, from 1; 0 once it is dead. A reader
 * that still may follow its pointer must see the same number again and never 0.
 * Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_mock_object_id(const struct aspace_mock_object *object);

/** References to @p object. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_mock_object_references(const struct aspace_mock_object *object);

/** References to all objects of the mock: 0 when nothing has leaked. Context: anywhere.
 * O(1). */
ASPACE_API uint64_t aspace_mock_references(const struct aspace_mock *mock);

#ifdef __cplusplus
}
#endif

#endif
