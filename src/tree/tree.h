/* SPDX-License-Identifier: MIT */
/*
 * The tree: reading a version, and building the next one.
 *
 * Reading (tree/read.c, tree/gap_body.h, tree/dump.c) takes a root that the caller
 * keeps alive, and plain loads: a published node never changes. Editing
 * (tree/edit.c) works on a private tree that shares what it does not change.
 */
#ifndef ASPACE_TREE_TREE_H
#define ASPACE_TREE_TREE_H

#include <aspace/aspace.h>

#include "memory/pool.h"
#include "memory/record.h"
#include "tree/node.h"

/* ---- Reading -------------------------------------------------------------- */

/* The leaf and slot of the area that holds the address, or NULL. Leaving areas
 * are found here too. */
const struct asp_node *asp_tree_find(const struct asp_node *root, uint64_t address, int *slot);

/* A place in a version: an area, or none (leaf == NULL). Stands still without a
 * stack: from leaf to leaf it goes through the root. */
struct asp_cursor {
	const struct asp_node *root;
	const struct asp_node *leaf;
	int slot;
};

/* To the first area that ends above the address; false if there is none. */
bool asp_cursor_seek(struct asp_cursor *cursor, const struct asp_node *root, uint64_t address);
/* To the last area that starts below the address. */
bool asp_cursor_seek_below(struct asp_cursor *cursor, const struct asp_node *root,
			   uint64_t address);
bool asp_cursor_next(struct asp_cursor *cursor);
bool asp_cursor_prev(struct asp_cursor *cursor);

static inline uint64_t asp_cursor_start(const struct asp_cursor *cursor)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): asked for where there is one only */
	return cursor->leaf->leaf.start[cursor->slot];
}

static inline const struct asp_slot *asp_cursor_slot(const struct asp_cursor *cursor)
{
	return &cursor->leaf->leaf.slot[cursor->slot];
}

/* The area at the cursor, the library's own flag bits included. */
static inline struct aspace_area asp_cursor_area(const struct asp_cursor *cursor)
{
	const struct asp_slot *slot = asp_cursor_slot(cursor);

	return (struct aspace_area){
		.start = {asp_cursor_start(cursor)},
		.end = {slot->end},
		.flags = slot->flags,
		.backend = slot->backend,
		.user = slot->user,
	};
}

/* A gap search whose arguments have been checked: all of [lo, hi) lies in the
 * limits of the space, size > 0, align a power of two. */
struct asp_gap_query {
	uint64_t size, align, guard;
	uint64_t need; /* what a stretch between two areas must have: size and both guards */
	uint64_t lo, hi;
};

/* first, last, gap of a node that is not empty. */
struct asp_bounds {
	uint64_t first, last, gap;
};
struct asp_bounds asp_node_bounds(const struct asp_node *node);

/* Checks T1 to T6; the number of the first that does not hold, or 0. Counts on the way. */
struct asp_tree_census {
	uint64_t areas, leaving, nodes;
	uint64_t bytes;       /* of areas, leaving ones not counted */
	uint64_t leaving_sum; /* of the starts of leaving areas, modulo 2^64 */
	uint64_t at;          /* where the violation is */
	const char *what;     /* which it is */
};
unsigned asp_tree_validate(const struct asp_node *root, struct asp_tree_census *census);

/* The text formats of aspace_dump(); false if `write` stopped them. */
bool asp_tree_dump_maps(const struct asp_node *root, aspace_write_fn *write, void *ctx);
bool asp_tree_dump_dot(const struct asp_node *root, aspace_write_fn *write, void *ctx);

/* ---- Editing -------------------------------------------------------------- */

#define ASP_GAP_UNKNOWN UINT64_MAX /* no gap is as long */

/*
 * A private tree in the making.
 *
 * Nodes whose birth is `version` are the edit's own and are edited in place; all
 * others belong to published versions and are copied first, their old self noted
 * in `retired`. asp_edit_reserve() comes first and may fail; the edits themselves
 * cannot.
 *
 * The finger remembers the path to the leaf that was searched last: looking and
 * editing in one place costs one descent. What changes in the leaf is told to the nodes
 * above when the finger goes elsewhere, or somebody asks for the tree: once for all changes.
 */
struct asp_finger {
	uint64_t from, to; /* from == to: nowhere */
	uint64_t at;       /* the address of the last search, ASP_NO_KEY if that is void */
	unsigned slot;     /* what it found: the first area that ends above the address */
	bool spine;        /* the leaf is the last of the tree */
	/* The leaf has changed since it was last told above what it holds (E5). Its greatest
	 * gap then, or ASP_GAP_UNKNOWN: all of them must be compared. */
	bool untold;
	uint64_t gap;
	/* By level: the nodes of the path, and which child of each is the next. */
	uint8_t index[ASP_HEIGHT_MAX];
	struct asp_node *node[ASP_HEIGHT_MAX];
};

/* Up to where a search still ends in the finger's leaf, which is new or has changed. */
static inline void asp_finger_set_reach(struct asp_finger *finger)
{
	const struct asp_node *leaf = finger->node[0];

	finger->at = ASP_NO_KEY;
	finger->to = finger->spine ? ASP_NO_KEY : leaf->leaf.slot[leaf->count - 1].end;
}

struct asp_edit;

/* What is done to whole nodes, by the widest registers that the CPU has (edit_body.h). */
struct asp_edit_ops {
	/* Puts the finger where the address is. */
	void (*search)(struct asp_edit *edit, uint64_t address);
	/* Makes the node at *ref private; the finger's path. */
	struct asp_node *(*own)(struct asp_edit *edit, struct asp_node **ref);
	void (*own_path)(struct asp_edit *edit);
	/* The same, and take area `at` out of its leaf; or put one in before it, where there is
	 * room. Answer the leaf. */
	struct asp_node *(*take_out)(struct asp_edit *edit, unsigned at);
	struct asp_node *(*put_in)(struct asp_edit *edit, unsigned at,
				   const struct aspace_area *area);
	/* asp_inner_gap() */
	uint64_t (*inner_gap)(const struct asp_node *node);
};

struct asp_edit {
	const struct asp_edit_ops *ops;
	struct asp_pool *nodes;
	struct asp_pool *records;
	struct asp_node *root;
	uint64_t version;
	struct aspace_record_list retired; /* nodes of the base that this tree lost */
	int64_t areas;                     /* difference to the base, leaving ones not counted */
	uint64_t bytes;                    /* the same for their bytes, modulo 2^64 */
	int64_t leaving;                   /* the same for leaving areas */
	int64_t node_count;                /* the same for nodes */
	bool even;                         /* split into halves at the right end, too */
	struct asp_finger finger;
};

/* For edit.c and edit_body.h: notes that the tree has lost a node of the base. */
struct aspace_record *asp_edit_add_record(struct asp_edit *edit);
static inline void asp_edit_retire(struct asp_edit *edit, struct asp_node *node)
{
	struct aspace_record *record = edit->retired.tail;

	if (!record || record->nodes == ASP_RECORD_NODES)
		record = asp_edit_add_record(edit);
	record->node[record->nodes++] = node;
	edit->retired.count++;
}

static inline void asp_leaf_set(struct asp_node *leaf, unsigned at, const struct aspace_area *area)
{
	leaf->leaf.start[at] = area->start.value;
	leaf->leaf.slot[at] = (struct asp_slot){
		.end = area->end.value,
		.flags = area->flags,
		.backend = area->backend,
		.user = area->user,
	};
}

/* Makes an empty leaf of the version `birth`: the first root of all. */
void asp_node_init_leaf(struct asp_node *node, uint64_t birth);

/* Start from a published root; the tree will be version `version`. */
void asp_edit_begin(struct asp_edit *edit, const struct asp_edit_ops *ops, struct asp_pool *nodes,
		    struct asp_pool *records, struct asp_node *base, uint64_t version);

/* Give all private nodes and records back; the base is as it was. */
void asp_edit_discard(struct asp_edit *edit);

/* The tree is about to be published: nobody writes to what it is made of again, and in the
 * builds for tests that freeze nodes nobody can. */
#ifdef ASPACE_FROZEN
void asp_edit_freeze(const struct asp_edit *edit);
#else
static inline void asp_edit_freeze(const struct asp_edit *edit)
{
	(void)edit;
}
#endif

static inline unsigned asp_tree_height(const struct asp_node *root)
{
	return root->level + 1u;
}

/*
 * What edits may take at most.
 *
 * A removal of neighbours owns a path at each border, a neighbour of each node to rebalance
 * with, and as much again at the seams of merged parents. What lies between is dropped without a
 * copy. Where everything up to the first or the last area goes there is one border.
 */
static inline size_t asp_nodes_for_border(size_t height)
{
	return 4 * height + 4;
}

static inline size_t asp_nodes_for_removal(size_t height)
{
	return 2 * asp_nodes_for_border(height);
}

/* A change in one place: a cut through the middle of an area is one update and one insertion,
 * a path copy and a split on each level each; with a removal, and merging with the neighbours
 * of the change, which may touch one more leaf on either side. */
static inline size_t asp_nodes_for_place(size_t height)
{
	return 16 * height + 16;
}

/* How many more the tree has then: up to four insertions, each of which splits a node on each level
 * and may put a root on top. */
static inline size_t asp_nodes_more_in_place(size_t height)
{
	return 4 * height + 8;
}

/* Insertions split a node into halves, each of which takes as many more before it is split in
 * turn; so do the nodes above. (Nodes that were there may be full: one more for each of these.
 * At the right end of the tree fewer splits do.) */
static inline size_t asp_nodes_for_areas(size_t areas)
{
	return areas / (ASP_LEAF_MAX - ASP_LEAF_MAX / 2 - 1) + 1;
}

/* Nodes that are dropped hold at least MIN areas each, and MIN of them have one parent. */
static inline size_t asp_nodes_of_areas(size_t areas)
{
	_Static_assert(ASP_LEAF_MIN > 1 && ASP_INNER_MIN > 1, "see above");
	return areas / (ASP_LEAF_MIN - 1) + 1;
}

struct asp_edit_need {
	size_t nodes; /* that the edits take */
	size_t copies; /* of these, at least so many stand for others: the tree has no more for them */
	size_t dropped; /* nodes of the base that they drop without a copy */
	size_t records; /* for the caller, besides what the edits need */
	size_t removed; /* areas that go: for who holds memory back for the others; */
	size_t added;   /* that come, beside the few that one change of a place may bring */
};

/* Records for the nodes, and for the caller. */
static inline size_t asp_edit_records(const struct asp_edit_need *need)
{
	return (need->nodes + need->dropped) / ASP_RECORD_NODES + 1 + need->records;
}

/* Where records are lacking and there are no pages: those of the nodes that are ready for use, if
 * these are so many. */
bool asp_unpack_records(struct asp_pool *nodes, size_t count);

/* See to it that they cannot fail. False: out of memory. */
static inline bool asp_edit_reserve(struct asp_edit *edit, const struct asp_edit_need *need)
{
	size_t records = asp_edit_records(need);

	return asp_pool_reserve(edit->nodes, need->nodes) &&
	       (asp_pool_reserve(edit->records, records) ||
		asp_unpack_records(edit->nodes, records));
}

/* The same where the pools are known to have as many: only the builds for tests have something to
 * note, or to refuse. */
static inline bool asp_edit_reserve_had(struct asp_edit *edit, const struct asp_edit_need *need)
{
#ifdef ASPACE_TESTING
	return asp_edit_reserve(edit, need);
#else
	(void)edit, (void)need;
	return true;
#endif
}

#ifdef ASPACE_TESTING
/* Traps unless E4 holds and a descent from the root finds the same as the finger. */
void asp_edit_check(const struct asp_edit *edit, const struct asp_cursor *cursor, bool found,
		    uint64_t address);
#endif

/* Tells the nodes above the finger's leaf how that has changed. */
void asp_edit_tell_above(struct asp_edit *edit);
static inline void asp_edit_tell(struct asp_edit *edit)
{
	if (edit->finger.untold)
		asp_edit_tell_above(edit);
}

/* The private tree, for those who descend in it themselves. */
static inline struct asp_node *asp_edit_root(struct asp_edit *edit)
{
	asp_edit_tell(edit);
	return edit->root;
}

/* asp_cursor_seek() in the private tree; puts the finger there. The cursor is good until the
 * next edit. */
static inline bool asp_edit_seek(struct asp_edit *edit, struct asp_cursor *cursor, uint64_t address)
{
	struct asp_finger *finger = &edit->finger;
	bool found;

	cursor->root = edit->root;
	cursor->leaf = NULL;
	cursor->slot = 0;
	if (address == ASP_NO_KEY) /* nothing ends above it */
		return false;
	if (address != finger->at)
		edit->ops->search(edit, address);
	found = finger->slot < finger->node[0]->count;
	cursor->slot = (int)finger->slot;
	if (found)
		cursor->leaf = finger->node[0];
#ifdef ASPACE_TESTING
	asp_edit_check(edit, cursor, found, address);
#endif
	return found;
}

/* From there on: asp_cursor_next() and asp_cursor_prev(). */
static inline bool asp_edit_next(struct asp_edit *edit, struct asp_cursor *cursor)
{
	if (cursor->slot + 1 >= cursor->leaf->count)
		asp_edit_tell(edit);
	return asp_cursor_next(cursor);
}

static inline bool asp_edit_prev(struct asp_edit *edit, struct asp_cursor *cursor)
{
	if (!cursor->slot)
		asp_edit_tell(edit);
	return asp_cursor_prev(cursor);
}

/* After asp_edit_seek(): where the last area below ends that does not reach above the address; 0 if
 * there is none. */
static inline uint64_t asp_edit_end_below(const struct asp_edit *edit)
{
	const struct asp_finger *finger = &edit->finger;

	return finger->slot ? finger->node[0]->leaf.slot[finger->slot - 1].end : finger->from;
}

/* Add an area that meets no other. */
void asp_edit_insert(struct asp_edit *edit, const struct aspace_area *area);

/* Remove the area that starts there; */
void asp_edit_remove_area(struct asp_edit *edit, uint64_t start);
/* those that start in [lo, hi). */
void asp_edit_remove(struct asp_edit *edit, uint64_t lo, uint64_t hi);

/* Give the area that starts at `start` a new end, flags and user. The new end must
 * not reach into the next area. */
void asp_edit_update(struct asp_edit *edit, uint64_t start, uint64_t end, uint64_t flags,
		     void *user);

#endif
