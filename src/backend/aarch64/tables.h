/* SPDX-License-Identifier: MIT */
/*
 * A tree from the inside: what the files of this directory share.
 *
 *   config.c      configurations; registers.c: what they are in registers
 *   descriptor.c  flags to descriptors and back
 *   classify.c    what a change of one descriptor takes
 *   invalidate.c  invalidations, gathered and carried out
 *   memory.c      table pages: reserve, live, unlinked
 *   map.c         filling a range
 *   way.c         the way down of who is at work beside all of this:
 *   populate.c    what a fault maps
 *   drop.c        what an advice drops
 *   edit.c        changing and clearing a range
 *   prune.c       empty tables
 *   move.c        carrying a range to another place
 *   compact.c     small leaves made large again
 *   harvest.c     access flags and dirty state
 *   walk.c        walking a range; reading, without a lock
 *   frames.c      frames that are allocated: stashed, released
 *   change.c      what the backends have in common
 *   check.c       areas and tables compared
 *   linear.c      the backend: linear frames
 *   allocated.c   the backend: allocated frames
 *   create.c      making and unmaking
 *
 * An operation on a tree: it asks first what it would take (tables, breaks), and refuses
 * before it has changed anything; then it stores. Invalidations wait for the end of the
 * batch, `flush`, unless something must come after them.
 *
 * One writer, any number of faults and advices beside it and beside each other: what they share is the
 * descriptors, table_count, dropping and reshaping. The rest of the structure is the writer's, or
 * never changes.
 *
 * Invariants:
 *  1. Only the space's writer, or who creates and destroys, changes anything here; but faults
 *     (populate.c), where nothing is mapped or pending, and the pins in pointers to tables; and
 *     advices (drop.c), leaves, groups and frames that lie in their range, while the writer makes none larger
 *     or smaller that reaches into it (`reshaping`).
 *  2. A table that a valid descriptor points to is live: its contents were ordered before
 *     the link (D8.16.1), and it is neither in the reserve nor unlinked.
 *  3. A table is retired only after it was unlinked, all its walks were invalidated
 *     (non-leaf) and that had completed.
 *  4. Between two batches: nothing gathered, nothing promised, reserve, stash and unlinked
 *     list empty, no store that a barrier has not ordered (but of one invalid descriptor over
 *     another), and no table empty but the root, one that an advice has emptied, and one in which a
 *     fault was at work during the flush: these go at the latest when the area is unmapped.
 *  5. A frame is retired only after the leaves that map it have been invalidated.
 */
#ifndef ASPACE_AARCH64_TABLES_H
#define ASPACE_AARCH64_TABLES_H

#include <stdatomic.h>

#include "classify.h"
#include "descriptor.h"

/* No table: its address is never 0 within a list. */
#define ASP_A64_NO_TABLE UINT64_MAX

#define ASP_A64_GATHERED_MAX 32
#define ASP_A64_TOUCHED_MAX  16

/* Addresses whose TLB entries have to go. */
struct asp_a64_gathered {
	uint64_t start, end;
	int level; /* of the descriptors that changed: one invalidation for each, or a range */
	bool leaf; /* they were leaves: TTL is known, walk caches need not be asked */
};

struct aspace_aarch64 {
	struct aspace_aarch64_config config;
	struct asp_a64_geometry geometry;
	struct aspace_aarch64_ops own_ops; /* what the program's table had, and NULL for the rest */
	const struct aspace_aarch64_ops *ops; /* these */
	void *ctx;
	struct aspace_paddr self; /* the page that this structure is in */
	uint64_t root;
	/* Live tables. Relaxed: a number for statistics, it orders nothing. */
	_Atomic size_t table_count;
	/* How many advices take leaves away at this moment; is the writer in the middle of making
	 * leaves larger or smaller, perhaps around what such an advice is about? Each side notes itself
	 * and then looks at the other, sequentially consistently, so that one of them sees the
	 * other: the writer waits, for no advice does while it is counted; the advice gives up. */
	_Atomic unsigned dropping;
	_Atomic bool reshaping;

	/* Tables that have been allocated and not yet used; a list through their first
	 * entries, which are zeroed again when they are taken. */
	uint64_t reserve;
	size_t reserve_count;
	size_t promised; /* how many prepare has promised in this batch */

	/* Unlinked, not yet invalidated; a list through their first entries. The next two say where
	 * the pointer to it was. All have bit 0 clear: for walkers that are still inside, invalid
	 * descriptors. */
	uint64_t unlinked;

	struct asp_a64_gathered gathered[ASP_A64_GATHERED_MAX];
	unsigned gathered_count;
	bool gathered_all;    /* the list was too short */
	bool gathered_global; /* a global leaf is among them: an ASID is not enough */
	bool stored;          /* since the last barrier */
	bool unsynchronized;  /* a barrier since the last ISB */

	/* Frames that prepare has allocated and no map has taken: a queue, in pages of
	 * table_alloc. Entry 0 is the next page. Then, for each map, its first address, and
	 * its frames with log2 of their sizes in the low bits. */
	uint64_t stash_first, stash_last;
	size_t stash_read, stash_written; /* the next entry of the first page, of the last */

	bool condemned; /* there are condemned leaves in touched ranges */
	bool released;  /* some of this batch are gone: what was unmapped cannot come back */

	/* Ranges in which unmapping may have left tables empty. */
	struct aspace_range touched[ASP_A64_TOUCHED_MAX];
	unsigned touched_count;
};

/* ---- Access to descriptors (memory.c) ------------------------------------------------ */

uint64_t *asp_a64_pointer(const struct aspace_aarch64 *tables, uint64_t table);
uint64_t asp_a64_load(const struct aspace_aarch64 *tables, const uint64_t *entry);
/* Where walks are not coherent: clean it. */
void asp_a64_clean_memory(const struct aspace_aarch64 *tables, const void *start, size_t size);
/* Compare and exchange. Any thread; who does it sees to the barrier. */
bool asp_a64_exchange(const struct aspace_aarch64 *tables, uint64_t *entry, uint64_t expected,
		      uint64_t value);
/* The writer's; it is remembered that a barrier is due. */
void asp_a64_store(struct aspace_aarch64 *tables, uint64_t *entry, uint64_t value);
bool asp_a64_swap(struct aspace_aarch64 *tables, uint64_t *entry, uint64_t expected,
		  uint64_t value);

static inline uint64_t asp_a64_table_descriptor(const struct aspace_aarch64 *tables, uint64_t table)
{
	return asp_a64_encode_output(&tables->config, table) | ASP_A64_TABLE | ASP_A64_VALID;
}

static inline uint64_t asp_a64_next_table(const struct aspace_aarch64 *tables, uint64_t descriptor)
{
	return asp_a64_decode_output(&tables->config, descriptor);
}

/* Whole granules of what the tree covers? */
static inline bool asp_a64_range_usable(const struct aspace_aarch64 *tables,
					struct aspace_range range)
{
	const struct asp_a64_geometry *g = &tables->geometry;
	uint64_t granule = UINT64_C(1) << g->granule_shift;

	return range.start.value < range.end.value && range.start.value >= g->base &&
	       range.end.value - 1 - g->base < UINT64_C(1) << g->input_bits &&
	       aspace_is_aligned(range.start.value, granule) &&
	       aspace_is_aligned(range.end.value, granule);
}

/* ---- Walking (walk.c) ------------------------------------------------------------------ */

/* A stretch of a range within one table. */
struct asp_a64_span {
	int level;
	uint64_t table;
	uint64_t start, end;
};

static inline struct asp_a64_span asp_a64_whole(const struct aspace_aarch64 *tables, uint64_t start,
						uint64_t end)
{
	return (struct asp_a64_span){tables->geometry.start, tables->root, start, end};
}

/* A descriptor that points to no table, and the part of the walked range in its slot. */
struct asp_a64_slot {
	int level;
	uint64_t *entry;
	uint64_t descriptor; /* as it was loaded, once */
	uint64_t start, end;
};

/* Answers false to stop. */
typedef bool asp_a64_slot_fn(void *ctx, const struct asp_a64_slot *slot);

/* Visit the slots of a span, upward, through all tables below. Answers false if it was stopped. */
bool asp_a64_visit(const struct aspace_aarch64 *tables, const struct asp_a64_span *span,
		   asp_a64_slot_fn *fn, void *ctx);

/* ---- Table pages (memory.c) ------------------------------------------------------------ */

/* Bring the reserve to at least this many tables. False: there is not the memory; what
 * has been got stays in reserve. */
bool asp_a64_reserve(struct aspace_aarch64 *tables, size_t count);
/* One of the reserve, zeroed. */
uint64_t asp_a64_take(struct aspace_aarch64 *tables);
/* Into the reserve again: nobody has seen it. */
void asp_a64_put_back(struct aspace_aarch64 *tables, uint64_t table);
/* A table of the program's, with any contents in it but zeroes already gone; and back. Any thread. */
bool asp_a64_table_alloc(const struct aspace_aarch64 *tables, uint64_t *table);
void asp_a64_table_free(const struct aspace_aarch64 *tables, uint64_t table);
/* One more is live. Any thread. */
void asp_a64_count_table(struct aspace_aarch64 *tables);
/* Put a table that has just been unlinked on the list. The pointer to it was in `parent`, which
 * says vacated now; or, ASP_A64_NO_TABLE, something else has taken its place. */
void asp_a64_unlink(struct aspace_aarch64 *tables, uint64_t table, uint64_t parent, size_t index);
/* After the invalidation: retire what was unlinked, and make the vacated slots free. */
void asp_a64_retire_unlinked(struct aspace_aarch64 *tables);
void asp_a64_drop_reserve(struct aspace_aarch64 *tables);

/* ---- Frames (frames.c) ------------------------------------------------------------------- */

/* Allocate all frames for a map, the largest that fit, and count its tables. False: there is not
 * the memory; what has been got stays in the stash. */
struct asp_a64_map;
struct asp_a64_survey;
bool asp_a64_stash(struct aspace_aarch64 *tables, const struct asp_a64_map *map,
		   struct asp_a64_survey *survey);
/* Is what comes next in the stash for a map that starts there? What was for others is freed. */
bool asp_a64_stash_holds(struct aspace_aarch64 *tables, uint64_t start);
/* The next frame, of a map that has some left. */
uint64_t asp_a64_unstash(struct aspace_aarch64 *tables, uint64_t *size);
void asp_a64_drop_stash(struct aspace_aarch64 *tables);
/* The sizes of frames are numbered from 1 on: that of a page, a group of pages, a block at level 2,
 * a group of them, and so on. 0: this one does not exist; else which leaves it takes, and how
 * many. */
#define ASP_A64_FRAME_SIZES 7
uint64_t asp_a64_frame_size(const struct aspace_aarch64 *tables, unsigned number, int *level,
			    unsigned *count);
bool asp_a64_size_allowed(const struct asp_a64_map *map, int level, unsigned count);
/* One of this size; false: there is none. Any thread. */
bool asp_a64_frame_alloc(const struct aspace_aarch64 *tables, uint64_t size, uint64_t *frame);
/* The bits of a leaf that say in which size its frame was handed out. */
uint64_t asp_a64_piece_bits(const struct aspace_aarch64 *tables, uint64_t size);
/* No piece lies on both sides of `at`: those that do are cut, and the program is told. */
void asp_a64_cut_piece(struct aspace_aarch64 *tables, uint64_t at);
/* In which size was the frame of a leaf handed out? 0: it is none of ours. */
uint64_t asp_a64_piece_size(const struct aspace_aarch64 *tables, uint64_t descriptor);
/* A piece goes back to the program. Any thread. */
void asp_a64_give_back(const struct aspace_aarch64 *tables, uint64_t frame, uint64_t size);
/* After their invalidation: retire the frames of condemned leaves. */
void asp_a64_release(struct aspace_aarch64 *tables, uint64_t start, uint64_t end);

/* ---- Invalidation (invalidate.c) --------------------------------------------------------- */

/* The descriptor `old` at `level`, for [start, end), is no more. */
void asp_a64_gather(struct aspace_aarch64 *tables, int level, uint64_t start, uint64_t end,
		    uint64_t old);
/* The same of the slot that `at` is in, if `old` was valid. */
void asp_a64_gather_slot(struct aspace_aarch64 *tables, int level, uint64_t at, uint64_t old);
/* Is anything gathered in [start, end)? */
bool asp_a64_is_gathered(const struct aspace_aarch64 *tables, uint64_t start, uint64_t end);
/* A barrier: what this processor has stored, walks see before what it stores next. Any thread. */
void asp_a64_order_walks(const struct aspace_aarch64 *tables);
/* Take the pointer to a table away that was in the slot of `at`, and those that were in that table:
 * on return no walk goes by them any more. Any thread. */
void asp_a64_invalidate_pointer(const struct aspace_aarch64 *tables, int level, uint64_t at);
/* Order what this processor has stored, and take away what somebody beside the writer has gathered: on
 * return it has completed. `global`: a global leaf is among it. Any thread. */
void asp_a64_invalidate_beside(const struct aspace_aarch64 *tables,
			       const struct asp_a64_gathered *items, unsigned count, bool global);
/* The same for the writer's, if there are any. */
void asp_a64_order_stores(struct aspace_aarch64 *tables);
/* Order the stores, and carry out what is gathered: on return it has completed. */
void asp_a64_invalidate(struct aspace_aarch64 *tables);
/* The same at the end of a batch: this processor, too, goes by what was stored. */
void asp_a64_synchronize(struct aspace_aarch64 *tables);

/* ---- Operations ------------------------------------------------------------------------------ */

/* What an operation on [start, end) would take. */
struct asp_a64_survey {
	size_t tables;  /* at most */
	bool mapped;    /* some of it is mapped */
	bool hole;      /* some of it is not */
	bool breaks;    /* break-before-make is needed */
	bool condemned; /* some of it waits for its frame to be freed */
	/* For a survey of several maps, upward: where the last table of each level that was
	 * counted ends. Levels 0 to 3; the root is there. */
	uint64_t counted[ASP_A64_LAST_LEVEL + 1];
};

/* map.c: map [start, end) to the frames at `offset` from it. */
struct asp_a64_map {
	uint64_t start, end;
	uint64_t offset; /* modulo 2^64 */
	uint64_t attributes;
	int highest; /* no leaf above this level */
	bool contiguous;
};

void asp_a64_survey_map(const struct aspace_aarch64 *tables, const struct asp_a64_map *map,
			struct asp_a64_survey *result);
/* After a survey that found nothing condemned, with as many tables in reserve. What is mapped
 * already stays. */
void asp_a64_map(struct aspace_aarch64 *tables, const struct asp_a64_map *map);
/* Its two parts: store, any number of times; and link what that has made, with one barrier. */
void asp_a64_fill(struct aspace_aarch64 *tables, const struct asp_a64_map *map);
void asp_a64_link(struct aspace_aarch64 *tables, uint64_t start, uint64_t end);

/* populate.c: map the largest frame to be had that fits around `at`, no larger than `most`, the range,
 * and what is free of it. Any thread, beside anything that changes no part of the range. */
enum aspace_status asp_a64_populate(struct aspace_aarch64 *tables, const struct asp_a64_map *range,
				    uint64_t at, uint64_t most);

/* drop.c: take the frames of the range's beginning out of it, as many as one invalidation is for: those that do not
 * reach out of the range. *reached: how far that is. ASPACE_BUSY: the writer is reshaping leaves. Any
 * thread, beside anything that changes no part of the range. */
enum aspace_status asp_a64_drop(struct aspace_aarch64 *tables, struct aspace_range range,
				bool exactly, uint64_t *reached);
/* The writer, around what changes the size of leaves that may lie in ranges that it does not change. */
void asp_a64_begin_reshaping(struct aspace_aarch64 *tables);
void asp_a64_end_reshaping(struct aspace_aarch64 *tables);

/* edit.c: give what is mapped in [start, end) other attributes, or clear it. */
struct asp_a64_edit {
	uint64_t start, end;
	bool clear;
	bool condemn; /* clear, but keep what was there until its frame is freed */
	uint64_t attributes;
	int highest;             /* a leaf above this level is too large, and becomes smaller */
	bool contiguous;         /* in the range there may be groups */
	bool contiguous_outside; /* and outside of it, in tables that must be made */
};

void asp_a64_survey_edit(const struct aspace_aarch64 *tables, const struct asp_a64_edit *edit,
			 struct asp_a64_survey *result);
void asp_a64_edit(struct aspace_aarch64 *tables, const struct asp_a64_edit *edit);

/* prune.c: unlink the tables of the touched ranges that are empty. */
void asp_a64_prune(struct aspace_aarch64 *tables);

/* move.c: carry what is mapped in [start, end) so far. */
struct asp_a64_move {
	uint64_t start, end;
	uint64_t distance;     /* modulo 2^64 */
	struct asp_a64_map to; /* what leaves there may be: highest, contiguous */
};

/* How many tables, beside those that asp_a64_survey_edit() counts for clearing the source? */
size_t asp_a64_survey_move(const struct aspace_aarch64 *tables, const struct asp_a64_move *move);
void asp_a64_move(struct aspace_aarch64 *tables, const struct asp_a64_move *move);

/* walk.c: `descriptor`, which was loaded from `entry` for the slot of `at`, with what the processor
 * has noted of it: of a contiguous group, in any of its descriptors (D8.7.1). */
uint64_t asp_a64_with_group_history(const struct aspace_aarch64 *tables, int level,
				    const uint64_t *entry, uint64_t at, uint64_t descriptor);
/* What a leaf says of the slot of `at`. */
void asp_a64_describe(const struct aspace_aarch64 *tables, int level, uint64_t at,
		      uint64_t descriptor, struct aspace_aarch64_mapping *mapping);

/* ---- Changes (change.c): what the backends have in common ------------------------------------- */

bool asp_a64_map_of(const struct aspace_aarch64 *tables, const struct aspace_change *change,
		    struct asp_a64_map *map);
bool asp_a64_edit_of(const struct aspace_aarch64 *tables, const struct aspace_change *change,
		     struct asp_a64_edit *edit);
/* Would this be refused? `holes` are allowed. */
enum aspace_status asp_a64_check_edit(const struct aspace_aarch64 *tables,
				      const struct asp_a64_edit *edit, bool holes,
				      struct asp_a64_survey *survey);
/* For prepare: so many tables more. */
enum aspace_status asp_a64_promise(struct aspace_aarch64 *tables, size_t count);
/* Remember that tables of the range may be empty, and leaves condemned. */
void asp_a64_touch(struct aspace_aarch64 *tables, struct aspace_range range);
/* Before a map: nothing must be condemned there, or wait for its invalidation. */
void asp_a64_make_room(struct aspace_aarch64 *tables, const struct asp_a64_map *map,
		       const struct asp_a64_survey *survey);
void asp_a64_end_batch(struct aspace_aarch64 *tables);

/* Of a source of either kind. */
struct aspace_aarch64 *asp_a64_tables_of(const struct aspace_backend *backend);
/* The operation of both sources: what a change of flags takes away. */
unsigned asp_a64_loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
		       uint64_t *meanwhile);

/* linear.c, allocated.c */
/* check.c: the operation of both sources, for aspace_validate(). */
enum aspace_status asp_a64_check_area(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_vaddr *at,
				      const char **what);

extern const struct aspace_backend_ops asp_a64_linear_ops;
extern const struct aspace_backend_ops asp_a64_allocated_ops;

#endif
