/* SPDX-License-Identifier: MIT */
/*
 * Editing by path copying.
 *
 * An edit touches a node in three steps: own it (copy it, unless this edit made
 * it), change it, refresh what its parent says of it. Copies go into the parent's
 * copy, up to the edit's root; nothing that readers can reach is written.
 *
 * Invariants of a struct asp_edit:
 *  E1  nodes with birth == version are reachable from edit->root alone
 *  E2  every node of the base that is not reachable from edit->root has one record
 *      in edit->retired, and no other node has
 *  E3  after any operation the root is private
 *  E4  the finger, where it is put (from < to), is the path from edit->root to the leaf
 *      in which a search for any address of [from, to) ends
 *  E5  T4 holds, but for what is said of the nodes on the finger's path while it is untold;
 *      then the leaf is private, and finger->gap is its greatest gap, if known
 */
#include "tree/nodes.h"
#include "tree/search.h"
#include "tree/tree.h"

/* ---- Nodes ---------------------------------------------------------------- */

struct aspace_record *asp_edit_add_record(struct asp_edit *edit)
{
	struct aspace_record *record = asp_pool_get(edit->records, sizeof(*record));

	record->retired = edit->version;
	record->nodes = 0;
	asp_list_push(&edit->retired, record);
	edit->retired.count--; /* which is of nodes */
	return record;
}

static void pad_keys(struct asp_node *node, unsigned from, unsigned to)
{
	/* The empty assembly keeps the compiler from calling memset(): mostly it is one key. */
	for (unsigned i = from; i < to; i++) {
		if (node->level)
			node->inner.first[i] = node->inner.last[i] = ASP_NO_KEY;
		else
			node->leaf.start[i] = ASP_NO_KEY;
		__asm__("" : "+r"(i));
	}
}

static void init_node(struct asp_node *node, uint64_t birth, unsigned level)
{
	node->birth = birth;
	node->level = (uint16_t)level;
	node->count = 0;
	node->unused = 0;
	pad_keys(node, 0, asp_node_max(node));
}

void asp_node_init_leaf(struct asp_node *node, uint64_t birth)
{
	init_node(node, birth, 0);
}

static struct asp_node *make_node(struct asp_edit *edit, unsigned level)
{
	struct asp_node *node = asp_nodes_get(edit->nodes);

	init_node(node, edit->version, level);
	edit->node_count++;
	return node;
}

/* The node leaves the tree; what it points to is not looked at. */
static void drop_node(struct asp_edit *edit, struct asp_node *node)
{
	edit->node_count--;
	if (node->birth == edit->version) {
		asp_nodes_put(edit->nodes, node);
	} else {
		asp_edit_retire(edit, node);
	}
}

/* The node at *ref, made private. */
static struct asp_node *own(struct asp_edit *edit, struct asp_node **ref)
{
	return edit->ops->own(edit, ref);
}

/* Copies `count` entries between two nodes of one level, or within one. */
static void move_entries(struct asp_node *to, unsigned at, const struct asp_node *from,
			 unsigned first, unsigned count)
{
#define MOVE(array)                                                                                \
	__builtin_memmove(&to->array[at], &from->array[first], count * sizeof(to->array[0]))
	if (!count)
		return;
	if (to->level) {
		MOVE(inner.first);
		MOVE(inner.last);
		MOVE(inner.gap);
		MOVE(inner.child);
	} else {
		MOVE(leaf.start);
		MOVE(leaf.slot);
	}
#undef MOVE
}

static void set_count(struct asp_node *node, unsigned count)
{
	if (count < node->count)
		pad_keys(node, count, node->count);
	node->count = (uint16_t)count;
}

/* Takes entries [from, to) out. */
static void cut_entries(struct asp_node *node, unsigned from, unsigned to)
{
	move_entries(node, from, node, to, node->count - to);
	set_count(node, node->count - (to - from));
}

static void open_entry(struct asp_node *node, unsigned at)
{
	move_entries(node, at + 1, node, at, node->count - at);
	node->count++;
}

/* The greatest gap between two areas of a leaf; see asp_inner_gap(). Not inlined: the compiler
 * would load what both need and then have no registers left. */
static __attribute__((noinline)) uint64_t leaf_gap(const struct asp_node *leaf)
{
	const uint64_t *used = asp_used_mask(leaf->count);
	uint64_t gap = 0;

#pragma GCC unroll 16
	for (unsigned i = 1; i < ASP_LEAF_MAX; i++)
		gap = asp_greater(gap,
				  (leaf->leaf.start[i] - leaf->leaf.slot[i - 1].end) & used[i]);
	return gap;
}

static struct asp_bounds bounds_with(const struct asp_node *node, uint64_t gap)
{
	unsigned last = node->count - 1u;

	if (node->level)
		return (struct asp_bounds){node->inner.first[0], node->inner.last[last], gap};
	return (struct asp_bounds){node->leaf.start[0], node->leaf.slot[last].end, gap};
}

struct asp_bounds asp_node_bounds(const struct asp_node *node)
{
	return bounds_with(node, node->level ? asp_inner_gap(node) : leaf_gap(node));
}

static struct asp_bounds bounds_of(const struct asp_edit *edit, const struct asp_node *node)
{
	return bounds_with(node, node->level ? edit->ops->inner_gap(node) : leaf_gap(node));
}

/* Says of child i what is true of it. False if that was said already. */
static bool set_bounds(struct asp_node *node, unsigned i, const struct asp_bounds *bounds)
{
	if (node->inner.first[i] == bounds->first && node->inner.last[i] == bounds->last &&
	    node->inner.gap[i] == bounds->gap)
		return false;
	node->inner.first[i] = bounds->first;
	node->inner.last[i] = bounds->last;
	node->inner.gap[i] = bounds->gap;
	return true;
}

/* Computed anew from the child rather than adjusted: nothing to get out of step. */
static void refresh(const struct asp_edit *edit, struct asp_node *node, unsigned i)
{
	struct asp_bounds bounds = bounds_of(edit, node->inner.child[i]);

	set_bounds(node, i, &bounds);
}

/* The greatest gap in child i of an inner node, and before and behind it. */
static uint64_t gap_around(const struct asp_node *node, unsigned i)
{
	uint64_t gap = node->inner.gap[i];

	if (i)
		gap = asp_greater(gap, node->inner.first[i] - node->inner.last[i - 1]);
	if (i + 1u < node->count)
		gap = asp_greater(gap, node->inner.first[i + 1] - node->inner.last[i]);
	return gap;
}

/* The bounds of a node whose greatest gap was `gap`, after a change of some of its gaps: the
 * greatest of them was `before` and is `after`. The others are at most `gap`, and one of them
 * is if `before` is less; so only where the greatest one has shrunk must all be compared. */
static struct asp_bounds bounds_after(const struct asp_edit *edit, const struct asp_node *node,
				      uint64_t gap, uint64_t before, uint64_t after)
{
	if (after < gap && before >= gap)
		return bounds_of(edit, node);
	return bounds_with(node, asp_greater(after, gap));
}

/* ---- The finger ----------------------------------------------------------- */

static void lift_finger(struct asp_edit *edit)
{
	edit->finger.from = edit->finger.to = 0;
	edit->finger.at = ASP_NO_KEY;
	edit->finger.untold = false;
}

#ifdef ASPACE_TESTING
/* While the path is untold no descent finds its way: is it a path, and the place the right
 * one in its leaf? */
static void check_untold(const struct asp_edit *edit, const struct asp_cursor *cursor, bool found,
			 uint64_t address)
{
	const struct asp_finger *finger = &edit->finger;
	const struct asp_node *leaf = finger->node[0];
	uint64_t gap = leaf_gap(leaf);
	int slot = 0;

	if (leaf->birth != edit->version || finger->node[edit->root->level] != edit->root ||
	    (finger->gap != gap && finger->gap != ASP_GAP_UNKNOWN))
		__builtin_trap();
	for (unsigned level = 1; level <= edit->root->level; level++) {
		if (finger->node[level]->inner.child[finger->index[level]] !=
		    finger->node[level - 1])
			__builtin_trap();
	}
	while (slot < leaf->count && leaf->leaf.slot[slot].end <= address)
		slot++;
	if (found != (slot < leaf->count) || cursor->slot != slot ||
	    (found && cursor->leaf != leaf))
		__builtin_trap();
}

void asp_edit_check(const struct asp_edit *edit, const struct asp_cursor *cursor, bool found,
		    uint64_t address)
{
	struct asp_cursor fresh;
	uint64_t end = 0;

	if (edit->finger.untold) {
		check_untold(edit, cursor, found, address);
		return;
	}
	if (asp_cursor_seek(&fresh, edit->root, address) != found)
		__builtin_trap();
	if (found && (fresh.leaf != cursor->leaf || fresh.slot != cursor->slot))
		__builtin_trap();
	if (found ? asp_cursor_prev(&fresh) : asp_cursor_seek_below(&fresh, edit->root, ASP_NO_KEY))
		end = asp_cursor_slot(&fresh)->end;
	if (asp_edit_end_below(edit) != end)
		__builtin_trap();
}
#endif

/* Makes the finger's path private; answers its leaf. A private leaf has a private path above
 * it. */
static struct asp_node *own_path(struct asp_edit *edit)
{
	if (edit->finger.node[0]->birth != edit->version)
		edit->ops->own_path(edit);
	return edit->finger.node[0];
}

/* What is said of the finger's node of this level, one below the root's at most. */
static uint64_t gap_said(const struct asp_finger *finger, unsigned level)
{
	return finger->node[level + 1]->inner.gap[finger->index[level + 1]];
}

/* The finger's leaf, which is private, has changed. The greatest of the gaps that are gone was
 * `before` (or less), that of the new ones is `after`; see bounds_after(). */
static void leaf_changed(struct asp_edit *edit, uint64_t before, uint64_t after)
{
	struct asp_finger *finger = &edit->finger;

	if (edit->root->level) {
		if (!finger->untold)
			finger->gap = gap_said(finger, 0);
		finger->untold = true;
		if (after >= finger->gap) /* never, if that is unknown */
			finger->gap = after;
		else if (before >= finger->gap)
			finger->gap = ASP_GAP_UNKNOWN;
	}
	if (finger->node[0]->count)
		asp_finger_set_reach(finger);
	else
		lift_finger(edit);
}

void asp_edit_tell_above(struct asp_edit *edit)
{
	struct asp_finger *finger = &edit->finger;
	const struct asp_node *leaf = finger->node[0];
	unsigned top = edit->root->level;
	struct asp_bounds bounds =
		bounds_with(leaf, finger->gap == ASP_GAP_UNKNOWN ? leaf_gap(leaf) : finger->gap);

	finger->untold = false;
	for (unsigned level = 1; level <= top; level++) {
		struct asp_node *node = finger->node[level];
		unsigned i = finger->index[level];
		uint64_t before = gap_around(node, i);

		if (!set_bounds(node, i, &bounds))
			break;
		if (level < top)
			bounds = bounds_after(edit, node, gap_said(finger, level), before,
					      gap_around(node, i));
	}
}

/* ---- The life of an edit -------------------------------------------------- */

void asp_edit_begin(struct asp_edit *edit, const struct asp_edit_ops *ops, struct asp_pool *nodes,
		    struct asp_pool *records, struct asp_node *base, uint64_t version)
{
	/* One by one: most of the finger need not be anything. */
	edit->ops = ops;
	edit->nodes = nodes;
	edit->records = records;
	edit->root = base;
	edit->version = version;
	edit->retired = (struct aspace_record_list){0};
	edit->areas = edit->leaving = edit->node_count = 0;
	edit->bytes = 0;
	edit->even = false;
	lift_finger(edit);
}

/* Private nodes hang together from the root (T6), so the walk need not look below
 * a node that is not. */
static void discard_below(struct asp_edit *edit, struct asp_node *node)
{
	if (node->birth != edit->version)
		return;
	if (node->level) {
		for (unsigned i = 0; i < node->count; i++)
			discard_below(edit, node->inner.child[i]);
	}
	asp_nodes_put(edit->nodes, node);
}

void asp_edit_discard(struct asp_edit *edit)
{
	struct aspace_record *record;

	discard_below(edit, edit->root);
	edit->root = NULL;
	while ((record = asp_list_pop_nodes(&edit->retired)) != NULL)
		asp_pool_put(edit->records, record, sizeof(*record));
}

#ifdef ASPACE_FROZEN
/* As in discard_below(). */
static void freeze_below(const struct asp_edit *edit, struct asp_node *node)
{
	if (node->birth != edit->version)
		return;
	for (unsigned i = 0; node->level && i < node->count; i++)
		freeze_below(edit, node->inner.child[i]);
	asp_freeze(node, sizeof(*node));
}

void asp_edit_freeze(const struct asp_edit *edit)
{
	freeze_below(edit, edit->root);
}
#endif

bool asp_unpack_records(struct asp_pool *nodes, size_t count)
{
	if (!nodes->ready || asp_pool_has(nodes->records, count))
		return false; /* not that was it */
	asp_nodes_unpack(nodes);
	return asp_pool_has(nodes->records, count);
}

static void count_in(struct asp_edit *edit, uint64_t start, uint64_t end, uint64_t flags)
{
	if (flags & ASP_FLAG_LEAVING) {
		edit->leaving++;
	} else {
		edit->areas++;
		edit->bytes += end - start;
	}
}

static void count_out(struct asp_edit *edit, const struct asp_node *leaf, unsigned at)
{
	const struct asp_slot *slot = &leaf->leaf.slot[at];

	if (slot->flags & ASP_FLAG_LEAVING) {
		edit->leaving--;
	} else {
		edit->areas--;
		edit->bytes -= slot->end - leaf->leaf.start[at];
	}
}

/* ---- Insert --------------------------------------------------------------- */

/* Splits a full node before an insertion at *at; answers the node to the right of
 * it, and moves *into and *at to where the new entry goes. Appending at the right
 * end of the tree leaves the left node full: ascending insertion then fills
 * every node. */
static struct asp_node *split(struct asp_edit *edit, struct asp_node *node, bool spine,
			      struct asp_node **into, unsigned *at)
{
	struct asp_node *right = make_node(edit, node->level);
	bool append = spine && *at == node->count && !edit->even;
	unsigned half = append ? node->count : node->count / 2;
	unsigned moved = node->count - half;

	move_entries(right, 0, node, half, moved);
	right->count = (uint16_t)moved;
	set_count(node, half);
	*into = node;
	if (*at > half || half == asp_node_max(node)) {
		*into = right;
		*at -= half;
	}
	return right;
}

/* Splits a full leaf, and puts the area into one of the two; answers the right one. */
static struct asp_node *insert_area(struct asp_edit *edit, struct asp_node *leaf, unsigned at,
				    const struct aspace_area *area, bool spine)
{
	struct asp_node *into, *right = split(edit, leaf, spine, &into, &at);

	open_entry(into, at);
	asp_leaf_set(into, at, area);
	return right;
}

static struct asp_node *insert_child(struct asp_edit *edit, struct asp_node *node, unsigned at,
				     struct asp_node *child, bool spine)
{
	struct asp_node *right = NULL, *into = node;

	if (node->count == ASP_INNER_MAX)
		right = split(edit, node, spine, &into, &at);
	open_entry(into, at);
	into->inner.child[at] = child;
	refresh(edit, into, at);
	return right;
}

void asp_edit_insert(struct asp_edit *edit, const struct aspace_area *area)
{
	struct asp_finger *finger = &edit->finger;
	struct asp_cursor cursor;
	struct asp_node *leaf, *right, *root;
	uint64_t gap, below, above;
	unsigned at;

	count_in(edit, area->start.value, area->end.value, area->flags);
	asp_edit_seek(edit, &cursor, area->start.value);
	leaf = finger->node[0];
	at = finger->slot;
	below = at ? area->start.value - leaf->leaf.slot[at - 1].end : 0;
	above = at < leaf->count ? leaf->leaf.start[at] - area->end.value : 0;
	gap = at && at < leaf->count ? leaf->leaf.start[at] - leaf->leaf.slot[at - 1].end : 0;
	if (leaf->count < ASP_LEAF_MAX) {
		edit->ops->put_in(edit, at, area);
		leaf_changed(edit, gap, asp_greater(below, above));
		return;
	}
	right = insert_area(edit, own_path(edit), at, area, finger->spine);
	for (unsigned level = 1; level <= edit->root->level; level++) {
		struct asp_node *node = finger->node[level];
		unsigned i = finger->index[level];

		refresh(edit, node, i);
		if (right)
			right = insert_child(edit, node, i + 1, right, finger->spine);
	}
	if (right) {
		root = make_node(edit, edit->root->level + 1u);
		root->count = 2;
		root->inner.child[0] = edit->root;
		root->inner.child[1] = right;
		refresh(edit, root, 0);
		refresh(edit, root, 1);
		edit->root = root;
	}
	lift_finger(edit);
}

/* ---- Update --------------------------------------------------------------- */

/* The gap between an area that ends there and the next of its leaf. */
static uint64_t gap_behind(const struct asp_node *leaf, unsigned at, uint64_t end)
{
	return at + 1u < leaf->count ? leaf->leaf.start[at + 1] - end : 0;
}

void asp_edit_update(struct asp_edit *edit, uint64_t start, uint64_t end, uint64_t flags,
		     void *user)
{
	struct asp_cursor cursor;
	struct asp_node *leaf;
	struct asp_slot *slot;
	uint64_t old_end;
	unsigned at;

	asp_edit_seek(edit, &cursor, start);
	leaf = own_path(edit);
	at = edit->finger.slot;
	slot = &leaf->leaf.slot[at];
	old_end = slot->end;
	if (__builtin_expect(!!((slot->flags ^ flags) & ASP_FLAG_LEAVING), 0)) {
		count_out(edit, leaf, at);
		count_in(edit, start, end, flags);
	} else if (!(flags & ASP_FLAG_LEAVING)) {
		edit->bytes += end - old_end;
	}
	slot->end = end;
	slot->flags = flags;
	slot->user = user;
	if (end != old_end)
		leaf_changed(edit, gap_behind(leaf, at, old_end), gap_behind(leaf, at, end));
}

/* ---- Remove --------------------------------------------------------------- */

static void drop_subtree(struct asp_edit *edit, struct asp_node *node)
{
	for (unsigned i = 0; i < node->count; i++) {
		if (node->level)
			drop_subtree(edit, node->inner.child[i]);
		else
			count_out(edit, node, i);
	}
	drop_node(edit, node);
}

static bool underfull(const struct asp_node *node, unsigned i)
{
	const struct asp_node *child = node->inner.child[i];

	return child->count < asp_node_min(child);
}

static void rebalance(struct asp_edit *edit, struct asp_node *node, unsigned i);

/* A node that was the only child of its parent could not be filled up there; after
 * the parent has merged with a neighbour it can. */
static void mend_children(struct asp_edit *edit, struct asp_node *node)
{
	if (!node->level)
		return;
	for (unsigned i = node->count; i-- > 0;) {
		if (i < node->count && underfull(node, i))
			rebalance(edit, node, i);
	}
}

/* Shares the entries of two neighbours evenly. */
static void share_entries(struct asp_node *left, struct asp_node *right)
{
	unsigned total = left->count + right->count, half = total / 2, by;

	if (left->count < half) {
		by = half - left->count;
		move_entries(left, left->count, right, 0, by);
		left->count = (uint16_t)half;
		cut_entries(right, 0, by);
	} else {
		by = left->count - half;
		move_entries(right, by, right, 0, right->count);
		move_entries(right, 0, left, half, by);
		right->count = (uint16_t)(right->count + by);
		set_count(left, half);
	}
}

/* Fills child i of a private node up to the minimum, with a neighbour's help. Does
 * nothing where there is no neighbour: the caller's own level will see to it. */
static void rebalance(struct asp_edit *edit, struct asp_node *node, unsigned i)
{
	while (node->count > 1 && i < node->count && underfull(node, i)) {
		unsigned at = i ? i - 1 : 0;
		struct asp_node *left = own(edit, &node->inner.child[at]);
		struct asp_node *right = node->inner.child[at + 1];

		if (left->count + right->count <= (int)asp_node_max(left)) {
			move_entries(left, left->count, right, 0, right->count);
			left->count = (uint16_t)(left->count + right->count);
			drop_node(edit, right);
			cut_entries(node, at + 1, at + 2);
			mend_children(edit, left);
			refresh(edit, node, at);
			i = at;
		} else {
			right = own(edit, &node->inner.child[at + 1]);
			share_entries(left, right);
			mend_children(edit, left);
			mend_children(edit, right);
			refresh(edit, node, at);
			refresh(edit, node, at + 1);
		}
	}
}

/* Removes what starts in [lo, hi), hi > lo, below *ref, which may end up empty. */
static void remove_below(struct asp_edit *edit, struct asp_node **ref, uint64_t lo, uint64_t hi)
{
	struct asp_node *node = own(edit, ref);
	unsigned from, to, kept;

	if (!node->level) {
		from = lo ? asp_leaf_count_le(node, lo - 1) : 0;
		to = asp_leaf_count_le(node, hi - 1);
		for (unsigned i = from; i < to; i++)
			count_out(edit, node, i);
		cut_entries(node, from, to);
		return;
	}

	/* Children [from, to) may hold such areas; those between the borders hold
	 * nothing else. */
	from = asp_inner_count_le(node, lo);
	if (from)
		from--;
	to = asp_inner_count_le(node, hi - 1);
	kept = from;
	for (unsigned i = from; i < to; i++) {
		bool whole =
			node->inner.first[i] >= lo && (i + 1 < to || node->inner.last[i] <= hi);

		if (whole) {
			drop_subtree(edit, node->inner.child[i]);
			continue;
		}
		remove_below(edit, &node->inner.child[i], lo, hi);
		if (!node->inner.child[i]->count) {
			drop_node(edit, node->inner.child[i]);
			continue;
		}
		refresh(edit, node, i);
		move_entries(node, kept++, node, i, 1);
	}
	cut_entries(node, kept, to > kept ? to : kept);

	/* At most the children at both borders have been touched and are left. */
	if (from + 1 < node->count)
		rebalance(edit, node, from + 1);
	rebalance(edit, node, from);
}

/* A root with one child is none; a root without is an empty leaf. */
static void lower_root(struct asp_edit *edit)
{
	struct asp_node *root;

	while (edit->root->level && edit->root->count <= 1) {
		root = edit->root;
		edit->root = root->count ? root->inner.child[0] : make_node(edit, 0);
		drop_node(edit, root);
	}
	own(edit, &edit->root);
}

/* The start of the first area behind the finger's leaf. */
static uint64_t start_behind(const struct asp_edit *edit)
{
	const struct asp_finger *finger = &edit->finger;

	for (unsigned level = 1; level <= edit->root->level; level++) {
		const struct asp_node *node = finger->node[level];

		if (finger->index[level] + 1u < node->count)
			return node->inner.first[finger->index[level] + 1];
	}
	return ASP_NO_KEY;
}

/* The finger's leaf has lost what was before area `at`. */
static void has_lost(struct asp_edit *edit, unsigned at)
{
	const struct asp_node *leaf = edit->finger.node[0];

	/* Between two that are left, one gap has swallowed the others, and is greater. */
	if (at && at < leaf->count)
		leaf_changed(edit, 0, leaf->leaf.start[at] - leaf->leaf.slot[at - 1].end);
	else
		leaf_changed(edit, UINT64_MAX, 0);
}

/* The same where it all happens in one leaf, which keeps enough; else false. */
static bool remove_in_leaf(struct asp_edit *edit, uint64_t lo, uint64_t hi)
{
	struct asp_finger *finger = &edit->finger;
	struct asp_cursor cursor;
	struct asp_node *leaf;
	unsigned from, to;

	asp_edit_seek(edit, &cursor, lo);
	leaf = finger->node[0];
	from = to = finger->slot;
	if (from < leaf->count && leaf->leaf.start[from] < lo)
		from = to = from + 1;
	while (to < leaf->count && leaf->leaf.start[to] < hi)
		to++;
	if (edit->root->level && (leaf->count - (to - from) < ASP_LEAF_MIN ||
				  (to == leaf->count && start_behind(edit) < hi)))
		return false;
	for (unsigned i = from; i < to; i++)
		count_out(edit, leaf, i);
	cut_entries(own_path(edit), from, to);
	has_lost(edit, from);
	return true;
}

void asp_edit_remove(struct asp_edit *edit, uint64_t lo, uint64_t hi)
{
	if (remove_in_leaf(edit, lo, hi))
		return;
	asp_edit_tell(edit);
	lift_finger(edit);
	remove_below(edit, &edit->root, lo, hi);
	lower_root(edit);
}

void asp_edit_remove_area(struct asp_edit *edit, uint64_t start)
{
	struct asp_cursor cursor;
	const struct asp_node *leaf;
	unsigned at;

	asp_edit_seek(edit, &cursor, start);
	leaf = edit->finger.node[0];
	at = edit->finger.slot;
	if (edit->root->level && leaf->count <= ASP_LEAF_MIN) {
		asp_edit_remove(edit, start, start + 1);
		return;
	}
	count_out(edit, leaf, at);
	edit->ops->take_out(edit, at);
	has_lost(edit, at);
}
