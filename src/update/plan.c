/* SPDX-License-Identifier: MIT */
/*
 * Planning: what an operation does to the tree, and what it asks of backends.
 *
 * Each asp_plan_*() works in three steps: look (check everything that can be
 * refused, count what is touched), reserve (nodes, records, actions, cloned
 * references), edit (the private tree; cannot fail). Nobody but this thread sees the
 * result until asp_commit().
 *
 * References: an area owns one to its user object. Cutting an area in two takes a
 * cloned one for the second piece; an area that goes gives its own up; one whose head is cut
 * off keeps it, at another start. All of it is noted in txn->references, and only counts when
 * the plan is published.
 */
#include "options.h"
#include "space/space.h"

/* ---- A transaction's life ------------------------------------------------- */

void asp_txn_begin(struct aspace *space)
{
	struct aspace_txn *txn = &space->txn;
	struct asp_node *base = atomic_load_explicit(&space->root, memory_order_relaxed);

	/* Relaxed: the writer reads back what a writer before it stored, under the lock. */
	txn->space = space;
	txn->base = base;
	txn->busy = txn->leaving_in_way = txn->all_spent = false;
	txn->action_count = txn->insertions = txn->borders = 0;
	txn->sweep.end.value = 0;
	txn->held_for = 0;
	asp_edit_begin(&txn->edit, &space->lookup->edit, &space->nodes, &space->records, base,
		       base->birth + 1);
}

void asp_put_records(struct aspace *space, struct aspace_record_list *list)
{
	struct aspace_record *record;

	while ((record = asp_list_pop(list)) != NULL)
		asp_pool_put(&space->records, record, sizeof(*record));
}

static void put_list(struct aspace_txn *txn, struct asp_actions *list)
{
	struct asp_action *action;

	while ((action = list->head) != NULL) {
		list->head = action->next;
		if (action != &txn->first)
			asp_pool_put(&txn->space->actions, action, sizeof(*action));
	}
	list->tail = NULL;
}

static void put_actions(struct aspace_txn *txn)
{
	for (; txn->phases; txn->phases &= txn->phases - 1)
		put_list(txn, &txn->actions[__builtin_ctz(txn->phases)]);
	txn->action_count = txn->insertions = 0;
}

/* What a plan leaves behind, whether it was published or dropped: empty lists, for the
 * next. */
static void clean_up(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;

	put_actions(txn);
	if (txn->references.head || txn->leaving.head) {
		asp_put_records(space, &txn->references);
		asp_put_records(space, &txn->leaving);
	}
	txn->born = 0;
	if (txn->clones_used.head || txn->clones_spare.head) {
		asp_put_records(space, &txn->clones_used);
		asp_reclaim_add_unseen(space, &txn->clones_spare);
	}
	if (!txn->open)
		return;
	put_list(txn, &txn->touched);
	txn->open = false;
	atomic_store_explicit(&space->txn_open, false, memory_order_relaxed);
}

void asp_txn_drop(struct aspace_txn *txn)
{
	asp_edit_discard(&txn->edit);
	asp_list_splice(&txn->clones_spare, &txn->clones_used);
	clean_up(txn);
}

/* How many notes of births go, for each that comes. */
#define FORGOTTEN_AT_ONCE 2

/* The version has been published. What is born in it is noted if a snapshot is open, all of
 * which are older; what is gone stays on the list, with its birth. */
static void settle_references(struct aspace_txn *txn, bool any_snapshot)
{
	struct aspace *space = txn->space;
	struct aspace_record_list gone = {0};
	struct aspace_record *record;

	while ((record = asp_list_pop(&txn->references)) != NULL) {
		switch (record->event) {
		case ASP_REFERENCE_BORN:
			if (any_snapshot)
				asp_births_add(space, record, record->address, txn->edit.stamp);
			else
				asp_pool_put(&space->records, record, sizeof(*record));
			break;
		case ASP_REFERENCE_MOVED:
			asp_births_move(space, record->address, record->to);
			asp_pool_put(&space->records, record, sizeof(*record));
			break;
		case ASP_REFERENCE_GONE:
			record->birth = asp_births_take(space, record->address);
			asp_list_push(&gone, record);
			break;
		}
	}
	txn->references = gone;
}

/* The one store. Release: whoever reads this root (acquire, asp_root()) sees every
 * node below it as it was filled in. Weaker, and a reader could meet a node whose
 * keys it sees and whose children it does not. */
static void store_root(struct aspace_txn *txn)
{
	atomic_store_explicit(&txn->space->root, txn->edit.root, memory_order_release);
}

/* With births: no snapshot of the version before is taken between the store and the look. */
static void store_root_with_births(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;
	bool any;
	uint64_t oldest;

	asp_lock_acquire(&space->snap_lock);
	store_root(txn);
	any = space->oldest;
	oldest = any ? space->oldest->version : UINT64_MAX;
	asp_lock_release(&space->snap_lock);
	asp_births_forget(space, oldest, FORGOTTEN_AT_ONCE * txn->born);
	settle_references(txn, any);
}

void asp_publish(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);

	atomic_store_explicit(&space->areas, areas + (uint64_t)txn->edit.areas,
			      memory_order_relaxed);
	space->node_count += (uint64_t)txn->edit.node_count;
	asp_edit_tell(&txn->edit);

	/* Before the root: while the old number is read, the old version is the newest. */
	atomic_store_explicit(&space->version, txn->edit.stamp, memory_order_relaxed);
	if (txn->born) {
		store_root_with_births(txn);
	} else {
		store_root(txn);
		if (txn->references.head)
			settle_references(txn, false);
	}
	asp_reclaim_add(space, &txn->edit.retired, &txn->references, &txn->leaving);
	clean_up(txn);
}

/* ---- References ----------------------------------------------------------- */

static bool counts_references(const struct aspace_backend *backend, const void *user)
{
	return user && asp_op(backend, clone);
}

/* One more reference, for a piece that asp_plan_cut() or asp_plan_set_flags() will make;
 * the record has been reserved. */
static enum aspace_status clone_ahead(struct aspace_txn *txn, struct aspace_backend *backend,
				      void *user)
{
	struct aspace_record *record;
	enum aspace_status status;
	void *copy;

	if (!counts_references(backend, user))
		return ASPACE_OK;
	status = backend->ops->clone(backend, user, &copy);
	if (status != ASPACE_OK)
		return status;
	record = asp_pool_get(&txn->space->records, sizeof(*record));
	record->backend = backend;
	record->user = copy;
	record->address = (uintptr_t)user;
	asp_list_push(&txn->clones_spare, record);
	return ASPACE_OK;
}

/* A reference for a new piece of an area: the one that was cloned ahead. Only the
 * repair of a failed commit may have to clone anew; a piece without a reference is
 * then the best that is left. */
static void *take_clone(struct aspace_txn *txn, struct aspace_backend *backend, void *user)
{
	struct aspace_record *record, *before = NULL;
	void *copy;

	if (!counts_references(backend, user))
		return user;
	for (record = txn->clones_spare.head; record; before = record, record = record->next) {
		if (record->backend != backend || record->address != (uintptr_t)user)
			continue;
		if (before)
			before->next = record->next;
		else
			txn->clones_spare.head = record->next;
		if (txn->clones_spare.tail == record)
			txn->clones_spare.tail = before;
		txn->clones_spare.count--;
		asp_list_push(&txn->clones_used, record);
		return record->user;
	}
	return backend->ops->clone(backend, user, &copy) == ASPACE_OK ? copy : NULL;
}

static bool will_be_released(const struct aspace_backend *backend, const void *user)
{
	return user && asp_op(backend, release);
}

/* Notes what becomes of an area's reference; the record has been reserved. */
static struct aspace_record *note_reference(struct aspace_txn *txn, enum asp_reference_event event,
					    uint64_t start)
{
	struct aspace_record *record =
		asp_pool_get(&txn->space->records, sizeof(struct aspace_record));

	record->event = event;
	record->address = start;
	asp_list_push(&txn->references, record);
	return record;
}

/* The area has a reference that is new. */
static void note_birth(struct aspace_txn *txn, const struct aspace_area *area)
{
	if (!will_be_released(area->backend, area->user))
		return;
	note_reference(txn, ASP_REFERENCE_BORN, area->start.value);
	txn->born++;
}

/* The area starts elsewhere, with the reference that it had. */
static void note_move(struct aspace_txn *txn, const struct aspace_area *area, uint64_t start)
{
	if (will_be_released(area->backend, area->user))
		note_reference(txn, ASP_REFERENCE_MOVED, area->start.value)->to = start;
}

/* The area is going, and its reference with it. */
static void give_up_reference(struct aspace_txn *txn, const struct aspace_area *area)
{
	struct aspace_record *record;

	if (!will_be_released(area->backend, area->user))
		return;
	record = note_reference(txn, ASP_REFERENCE_GONE, area->start.value);
	record->backend = area->backend;
	record->user = area->user;
	record->retired = txn->edit.stamp;
}

/* ---- Looking -------------------------------------------------------------- */

bool asp_range_usable(const struct aspace *space, struct aspace_range range, uint64_t granule)
{
	uint64_t lo = range.start.value, hi = range.end.value;

	return lo < hi && lo >= space->lo && hi <= space->hi && !((lo | hi) & (granule - 1));
}

static uint64_t granule_of(const struct aspace *space, const struct aspace_backend *backend)
{
	return backend->granule > space->granule ? backend->granule : space->granule;
}

static bool backend_usable(const struct aspace_backend *backend)
{
	const struct aspace_backend_ops *ops;

	if (!backend || !backend->ops || backend->flags_mask & ASPACE_FLAGS_RESERVED ||
	    backend->granule & (backend->granule - 1))
		return false;
	ops = backend->ops;
	return ops->size >= offsetof(struct aspace_backend_ops, prepare) &&
	       ops->size <= ASP_STRUCT_BYTES_MAX &&
	       !(ops->size & (_Alignof(struct aspace_backend_ops) - 1)) && ops->map && ops->unmap &&
	       ops->protect;
}

/* The parts of areas inside a range, in order. Leaving areas are holes here. */
struct pieces {
	struct asp_cursor cursor;
	uint64_t lo, hi; /* what is left of the range */
	bool started;
	bool hole;               /* a hole has been passed */
	struct aspace_area area; /* the whole area of the piece, own flag bits included */
	uint64_t from, to;       /* the piece */
};

/* Sets what must be set, and no more: this is on the way of every operation. */
static void begin_pieces(struct pieces *pieces, struct aspace_range range)
{
	pieces->lo = range.start.value;
	pieces->hi = range.end.value;
	pieces->started = pieces->hole = false;
}

/* False: there is no more, and the piece is what it was. */
static bool next_piece(struct aspace_txn *txn, struct pieces *pieces)
{
	if (pieces->started && pieces->lo >= pieces->hi)
		return false;
	for (;;) {
		bool found = pieces->started
				     ? asp_edit_next(&txn->edit, &pieces->cursor)
				     : asp_edit_seek(&txn->edit, &pieces->cursor, pieces->lo);

		pieces->started = true;
		if (!found || asp_cursor_start(&pieces->cursor) >= pieces->hi) {
			pieces->hole |= pieces->lo < pieces->hi;
			return false;
		}
		if (!(asp_cursor_slot(&pieces->cursor)->flags & ASP_FLAG_LEAVING))
			break;
	}
	pieces->area = asp_cursor_area(&pieces->cursor);
	pieces->from =
		pieces->area.start.value > pieces->lo ? pieces->area.start.value : pieces->lo;
	pieces->to = pieces->area.end.value < pieces->hi ? pieces->area.end.value : pieces->hi;
	pieces->hole |= pieces->from > pieces->lo;
	pieces->lo = pieces->to;
	return true;
}

/* An edit has moved things: find the place again. */
static void restart_pieces(struct pieces *pieces)
{
	pieces->started = false;
}

/* How many pieces more than one the area falls into if [from, to) becomes different
 * from the rest of it. */
static unsigned extra_pieces(const struct pieces *pieces)
{
	return (pieces->from > pieces->area.start.value) + (pieces->to < pieces->area.end.value);
}

static bool piece_on_granule(const struct pieces *pieces)
{
	uint64_t granule = pieces->area.backend->granule;

	return !granule || !((pieces->from | pieces->to) & (granule - 1));
}

static bool has_holes(struct aspace_txn *txn, struct aspace_range range)
{
	struct pieces pieces;

	begin_pieces(&pieces, range);
	while (next_piece(txn, &pieces))
		;
	return pieces.hole;
}

/* ---- Editing -------------------------------------------------------------- */

/* A piece with a reference of its own. */
static void insert_piece(struct aspace_txn *txn, const struct aspace_area *of, uint64_t lo,
			 uint64_t hi, uint64_t flags, void *user)
{
	struct aspace_area piece = {
		.start = {lo},
		.end = {hi},
		.flags = flags,
		.backend = of->backend,
		.user = user,
	};

	asp_edit_insert(&txn->edit, &piece);
	note_birth(txn, &piece);
}

/* Nothing is left in [lo, hi). */
void asp_plan_cut(struct aspace_txn *txn, uint64_t lo, uint64_t hi)
{
	struct asp_edit *edit = &txn->edit;
	struct asp_cursor cursor;
	struct aspace_area area = {.flags = 0};
	bool more = asp_edit_seek(edit, &cursor, lo), out = false, any = false;

	/* The area that reaches in from below keeps its reference. */
	if (more && asp_cursor_start(&cursor) < lo) {
		area = asp_cursor_area(&cursor);
		asp_edit_update(edit, area.start.value, lo, area.flags, area.user);
		if (area.end.value > hi) {
			insert_piece(txn, &area, hi, area.end.value, area.flags,
				     take_clone(txn, area.backend, area.user));
			return;
		}
		more = asp_edit_seek(edit, &cursor, lo);
	}
	/* The others lose theirs, but for one that reaches out above. */
	for (; more && asp_cursor_start(&cursor) < hi; more = asp_edit_next(edit, &cursor)) {
		any = true;
		area = asp_cursor_area(&cursor);
		out = area.end.value > hi;
		if (out)
			break;
		give_up_reference(txn, &area);
		if (area.end.value == hi)
			break;
	}
	if (any)
		asp_edit_remove(edit, lo, hi);
	if (out) {
		note_move(txn, &area, hi);
		area.start.value = hi;
		asp_edit_insert(edit, &area);
	}
}

/* [lo, hi), inside one area, gets these flags. The first piece keeps the reference. */
void asp_plan_set_flags(struct aspace_txn *txn, uint64_t lo, uint64_t hi, uint64_t flags)
{
	struct asp_edit *edit = &txn->edit;
	struct asp_cursor cursor;
	struct aspace_area area;

	asp_edit_seek(edit, &cursor, lo);
	area = asp_cursor_area(&cursor);
	if (area.start.value < lo) {
		asp_edit_update(edit, area.start.value, lo, area.flags, area.user);
		insert_piece(txn, &area, lo, hi, flags, take_clone(txn, area.backend, area.user));
	} else {
		asp_edit_update(edit, lo, hi, flags, area.user);
	}
	if (hi < area.end.value)
		insert_piece(txn, &area, hi, area.end.value, area.flags,
			     take_clone(txn, area.backend, area.user));
}

/* A piece of one area goes to another place, where nothing is. */
void asp_plan_carry(struct aspace_txn *txn, const struct aspace_change *move)
{
	uint64_t lo = move->range.start.value, hi = move->range.end.value;
	struct asp_cursor cursor;
	struct aspace_area area;
	void *user;

	asp_edit_seek(&txn->edit, &cursor, lo);
	area = asp_cursor_area(&cursor);
	user = take_clone(txn, area.backend, area.user);
	asp_plan_cut(txn, lo, hi);
	insert_piece(txn, &area, move->destination.value, move->destination.value + (hi - lo),
		     area.flags, user);
}

bool asp_mergeable(const struct aspace *space, const struct aspace_area *left,
		   const struct aspace_area *right)
{
	struct aspace_area public_left, public_right;

	if (left->end.value != right->start.value || left->flags != right->flags ||
	    left->backend != right->backend || left->flags & ASP_FLAG_LEAVING ||
	    space->mode & ASPACE_NEVER_MERGE)
		return false;
	if (!asp_op(left->backend, can_merge))
		return left->user == right->user;
	public_left = asp_public_area(*left);
	public_right = asp_public_area(*right);
	return left->backend->ops->can_merge(left->backend, &public_left, &public_right);
}

/* Merges equal neighbours that meet at an address in [lo, hi]. */
void asp_plan_merge(struct aspace_txn *txn, uint64_t lo, uint64_t hi)
{
	struct asp_edit *edit = &txn->edit;
	struct asp_cursor cursor;
	struct aspace_area left, right;
	uint64_t at = lo;

	while (asp_edit_seek(edit, &cursor, at)) {
		if (asp_cursor_start(&cursor) < at && !asp_edit_next(edit, &cursor))
			return;
		right = asp_cursor_area(&cursor);
		if (right.start.value > hi)
			return;
		at = right.end.value;
		if (!asp_edit_prev(edit, &cursor))
			continue;
		left = asp_cursor_area(&cursor);
		if (!asp_mergeable(txn->space, &left, &right))
			continue;
		give_up_reference(txn, &right);
		asp_edit_remove_area(edit, right.start.value);
		asp_edit_update(edit, left.start.value, right.end.value, left.flags, left.user);
	}
}

static inline void fill_action(struct asp_action *action, struct aspace_backend *backend,
			       enum aspace_change_kind kind, uint64_t lo, uint64_t hi)
{
	/* One by one: compilers clear a structure of this size by slow means. */
	action->backend = backend;
	action->done = action->touches = action->alone = false;
	action->change.kind = kind;
	action->change.undo = false;
	action->change.range = aspace_range_of(lo, hi);
	action->change.destination.value = action->change.old_flags = action->change.new_flags = 0;
	action->change.user = NULL;
	action->change.borders = action->change.cuts = 0;
}

void asp_plan_add(struct aspace_txn *txn, enum asp_phase phase, struct asp_action *action)
{
	enum aspace_change_kind kind = action->change.kind;

	asp_actions_push(&txn->actions[phase], action);
	txn->phases |= 1u << phase;
	txn->action_count++;
	if (kind != ASPACE_CHANGE_UNMAP && kind != ASPACE_CHANGE_PROTECT)
		txn->insertions++;
}

struct asp_action *asp_plan_action(struct aspace_txn *txn, enum asp_phase phase,
				   struct aspace_backend *backend, enum aspace_change_kind kind,
				   uint64_t lo, uint64_t hi)
{
	struct asp_action *action = &txn->first;

	if (txn->action_count)
		action = asp_pool_get(&txn->space->actions, sizeof(*action));
	fill_action(action, backend, kind, lo, hi);
	asp_plan_add(txn, phase, action);
	return action;
}

/* In an open transaction the action only says what the operation did. */
static struct asp_action *touch(struct aspace_txn *txn, struct aspace_backend *backend,
				enum aspace_change_kind kind, struct aspace_range range)
{
	struct asp_action *action = asp_pool_get(&txn->space->actions, sizeof(*action));

	fill_action(action, backend, kind, range.start.value, range.end.value);
	asp_actions_push(&txn->touched, action);
	return action;
}

static void plan_unmap_action(struct aspace_txn *txn, const struct pieces *pieces)
{
	struct asp_action *action = asp_plan_action(txn, ASP_PHASE_UNMAP, pieces->area.backend,
						    ASPACE_CHANGE_UNMAP, pieces->from, pieces->to);

	action->change.old_flags = pieces->area.flags & ~ASPACE_FLAGS_RESERVED;
	action->change.user = pieces->area.user;
	action->change.cuts = extra_pieces(pieces);
}

/* Everything in the range is unmapped. */
static void plan_sweep(struct aspace_txn *txn, uint64_t lo, uint64_t hi)
{
	txn->sweep = aspace_range_of(lo, hi);
	txn->swept = lo;
}

/* ---- Reserving ------------------------------------------------------------ */

/* How many operations of a transaction are reckoned with at once. */
#define HELD_FOR 16

static size_t height_of(const struct aspace_txn *txn)
{
	return asp_tree_height(txn->edit.root);
}

/* Nodes of the base that the private tree has still; no edit can copy or drop more. */
static size_t shared_nodes(const struct aspace_txn *txn)
{
	return txn->space->node_count - txn->edit.retired.count;
}

static size_t all_nodes(const struct aspace_txn *txn)
{
	return txn->space->node_count + (size_t)txn->edit.node_count;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* So many areas are changed where they are: that a leaf holds several of them cannot be counted
 * on, for others that are leaving already may be between them. */
static size_t copies_for(const struct aspace_txn *txn, size_t areas)
{
	return least(height_of(txn) * areas, shared_nodes(txn));
}

/* For the private tree with so many nodes more; in an open transaction mostly for the operations
 * to come as well, because these are many and small. */
static inline __attribute__((always_inline)) void hold_back_for(struct aspace_txn *txn,
								const struct asp_edit_need *need,
								size_t nodes, size_t ops)
{
	struct aspace *space = txn->space;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);

	/* The root may rise, and a place has few more areas than before. */
	asp_hold_back(space, height_of(txn) + (ops > 1 ? 2 : 1), all_nodes(txn) + ops * nodes,
		      areas + (size_t)txn->edit.areas + 4 * ops - need->removed);
}

static __attribute__((noinline)) void hold_back_in_open(struct aspace_txn *txn,
							const struct asp_edit_need *need)
{
	size_t place = asp_nodes_for_place(height_of(txn));

	/* A large one stands for itself; and where the tree is copied, each node more is one
	 * more to be held. */
	if (need->nodes > place || txn->space->mode & ASPACE_GRACE_UNMAP ||
	    asp_has_snapshots(txn->space)) {
		txn->held_for = 0;
		hold_back_for(txn, need, need->nodes - need->copies, 1);
		return;
	}
	hold_back_for(txn, need, place, HELD_FOR);
	txn->held_for = HELD_FOR - 1;
}

/* Inlined where most of the need is constant. */
static inline __attribute__((always_inline)) bool plan_reserve(struct aspace_txn *txn,
							       const struct asp_edit_need *need)
{
	/* A snapshot may have been taken meanwhile. */
	if (txn->held_for && !asp_has_snapshots(txn->space))
		txn->held_for--;
	else if (txn->open)
		hold_back_in_open(txn, need);
	else
		hold_back_for(txn, need, need->nodes - need->copies, 1);
	return asp_edit_reserve(&txn->edit, need);
}

bool asp_plan_reserve(struct aspace_txn *txn, const struct asp_edit_need *need)
{
	return plan_reserve(txn, need);
}

/* So many references, given up or cloned: where no area has any, none. */
static size_t references(const struct aspace_txn *txn, size_t count)
{
	return txn->space->counts ? count : 0;
}

/* All that an operation may take that removes so many areas, neighbours of each other, and
 * changes one place; merging included. */
static inline bool reserve_place(struct aspace_txn *txn, size_t removed)
{
	const struct asp_edit_need need = {
		.nodes = asp_nodes_for_place(height_of(txn)),
		.dropped = removed ? least(asp_nodes_of_areas(removed), shared_nodes(txn)) : 0,
		.records = references(txn, removed) + 8,
		.removed = removed,
	};

	/* An open transaction notes what it touches. */
	return plan_reserve(txn, &need) &&
	       (!txn->open || asp_pool_reserve(&txn->space->actions, 1));
}

/* Unmaps `count` whole areas. Leaving ones stay in the tree, changed, and have records. */
static bool reserve_giving_back(struct aspace_txn *txn, size_t count, bool leaving)
{
	struct aspace *space = txn->space;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);
	size_t height = height_of(txn), rest = areas - count;
	size_t some = rest ? asp_nodes_for_removal(height) : asp_nodes_for_border(height);
	const struct asp_edit_need need = {
		.nodes = leaving ? copies_for(txn, count) : some,
		.dropped = leaving ? 0 : least(asp_nodes_of_areas(count), shared_nodes(txn)),
		.records = leaving ? count : references(txn, count),
	};

	if (rest && asp_has_snapshots(space))
		asp_hold_for_all(space, height, space->node_count, rest);
	else
		asp_spend(space);
	txn->all_spent = !asp_edit_reserve(&txn->edit, &need);
	return !txn->all_spent;
}

/* The same where two areas are cut, or in an open transaction; what leaves does so in `parts`,
 * of which those that are not all of an area become one. */
static bool reserve_cut(struct aspace_txn *txn, size_t count, size_t parts)
{
	size_t more = parts > count ? parts - count : 0;
	struct asp_edit_need need = {
		.nodes = asp_nodes_for_place(height_of(txn)),
		.dropped = least(asp_nodes_of_areas(count), shared_nodes(txn)),
		.records = parts + references(txn, count + 3 * more) + 8,
		.removed = parts ? 0 : count,
	};

	if (parts) {
		need.copies = copies_for(txn, count);
		need.nodes += need.copies;
	}
	/* A node that is full may be split for each of them, one that is private already, too. */
	if (more)
		need.nodes +=
			least(more * height_of(txn), all_nodes(txn)) + asp_nodes_for_areas(more);

	return plan_reserve(txn, &need) &&
	       (!txn->open || asp_pool_reserve(&txn->space->actions, 1));
}

/* `count` areas go elsewhere, and get references of their own. */
static bool reserve_move(struct aspace_txn *txn, size_t count)
{
	const struct asp_edit_need need = {
		.nodes = asp_nodes_for_removal(height_of(txn)) +
			 asp_nodes_for_place(height_of(txn)) + asp_nodes_for_areas(count),
		.dropped = least(asp_nodes_of_areas(count), shared_nodes(txn)),
		.records = references(txn, 4 * count) + 8,
	};

	return asp_plan_reserve(txn, &need) &&
	       (count < 2 || asp_pool_reserve(&txn->space->actions, count - 1));
}

/* For each area a path, and what its removal takes, if it merges. */
static bool reserve_scattered(struct aspace_txn *txn, size_t areas)
{
	size_t height = height_of(txn);
	size_t nodes = least(6 * height * areas, shared_nodes(txn));
	const struct asp_edit_need need = {
		.nodes = nodes + asp_nodes_for_place(height),
		.copies = nodes,
		.dropped = nodes,
		.records = references(txn, 3 * areas) + 8,
	};

	return asp_plan_reserve(txn, &need);
}

/* ---- Map ------------------------------------------------------------------ */

/* What is in the way of a map. */
struct obstacles {
	size_t count;
	bool leaving;
	bool foreign; /* not all of them are the new area's backend's */
	bool cut;     /* one area reaches out above */
	bool touches; /* an area ends or starts at the border: perhaps to be merged */
	struct aspace_area cut_area;
};

static void look_for_obstacles(struct aspace_txn *txn, uint64_t lo, uint64_t hi,
			       const struct aspace_backend *backend, struct obstacles *found)
{
	struct asp_cursor cursor;
	bool more = asp_edit_seek(&txn->edit, &cursor, lo);

	found->count = 0;
	found->leaving = found->foreign = found->cut = false;
	found->touches = lo && asp_edit_end_below(&txn->edit) == lo;
	for (; more && asp_cursor_start(&cursor) < hi; more = asp_edit_next(&txn->edit, &cursor)) {
		const struct asp_slot *slot = asp_cursor_slot(&cursor);

		if (slot->flags & ASP_FLAG_LEAVING) {
			found->leaving = true;
			continue;
		}
		found->count++;
		found->foreign |= slot->backend != backend;
		if (slot->end > hi) {
			found->cut = true;
			found->cut_area = asp_cursor_area(&cursor);
		}
	}
	found->touches |= more && asp_cursor_start(&cursor) == hi;
}

static void plan_map_actions(struct aspace_txn *txn, const struct aspace_area *area,
			     const struct obstacles *obstacles)
{
	uint64_t lo = area->start.value, hi = area->end.value;
	enum asp_phase phase = ASP_PHASE_MAP;
	enum aspace_change_kind kind = ASPACE_CHANGE_MAP;
	struct asp_action *action;

	if (obstacles->count && !obstacles->foreign && asp_op(area->backend, replace)) {
		phase = ASP_PHASE_REPLACE;
		kind = ASPACE_CHANGE_REPLACE;
	} else if (obstacles->count) {
		plan_sweep(txn, lo, hi);
		phase = ASP_PHASE_REMAP;
	}
	action = asp_plan_action(txn, phase, area->backend, kind, lo, hi);
	action->change.new_flags = area->flags;
	action->change.user = area->user;
}

enum aspace_status asp_plan_map(struct aspace_txn *txn, struct aspace_range range, uint64_t flags,
				struct aspace_backend *backend, void *user, unsigned how)
{
	struct aspace *space = txn->space;
	struct aspace_area area = {range.start, range.end, flags, backend, user};
	uint64_t lo = range.start.value, hi = range.end.value;
	struct obstacles obstacles;
	enum aspace_status status;
	bool counted;

	if (!backend_usable(backend) || flags & ~backend->flags_mask ||
	    !asp_range_usable(space, range, granule_of(space, backend)))
		return ASPACE_INVALID_PARAM;
	if ((how & ASPACE_REPLACE) && (space->mode & ASPACE_GRACE_UNMAP))
		return ASPACE_NOT_SUPPORTED;
	look_for_obstacles(txn, lo, hi, backend, &obstacles);
	if (obstacles.count && !(how & ASPACE_REPLACE))
		return ASPACE_ALREADY_EXISTS;
	if (obstacles.leaving) {
		txn->leaving_in_way = true;
		return ASPACE_BUSY;
	}
	if (obstacles.count) {
		struct pieces pieces;

		begin_pieces(&pieces, range);
		while (next_piece(txn, &pieces)) {
			if (!piece_on_granule(&pieces))
				return ASPACE_INVALID_PARAM;
		}
	}

	counted = space->counts;
	if (user && !counted && (asp_op(backend, clone) || asp_op(backend, release))) {
		space->counts = true;
		txn->held_for = 0;
	}
	if (!reserve_place(txn, obstacles.count)) {
		space->counts = counted; /* nothing has been held back for references */
		return ASPACE_NO_MEMORY;
	}
	if (obstacles.cut && obstacles.cut_area.start.value < lo) {
		status = clone_ahead(txn, obstacles.cut_area.backend, obstacles.cut_area.user);
		if (status != ASPACE_OK)
			return status;
	}

	if (!txn->open)
		plan_map_actions(txn, &area, &obstacles);
	if (obstacles.count)
		asp_plan_cut(txn, lo, hi);
	asp_edit_insert(&txn->edit, &area);
	note_birth(txn, &area);
	if (obstacles.touches || obstacles.count)
		asp_plan_merge(txn, lo, hi);
	if (txn->open) {
		struct asp_action *action = touch(txn, backend, ASPACE_CHANGE_MAP, range);

		action->change.new_flags = flags;
		action->change.user = user;
		action->touches = obstacles.touches;
		action->alone = !obstacles.count;
	}
	return ASPACE_OK;
}

/* ---- Unmap ---------------------------------------------------------------- */

/* A piece that is to leave is one part to its backend. Not so in an open transaction: what
 * lies there now may be several areas of the base, which the backend still holds with their
 * own flags, and what the transaction has mapped itself, of which nobody knows. (Nothing is
 * mapped over anything in a grace-unmap space: what the base holds there is what it held.) */

/* Where what nobody knows ends, if the piece begins with that. */
static uint64_t end_of_unknown(const struct aspace_txn *txn, const struct pieces *pieces)
{
	struct asp_cursor cursor;
	uint64_t start = pieces->to;

	if (!txn->open)
		return pieces->from;
	if (asp_cursor_seek(&cursor, txn->base, pieces->from) && asp_cursor_start(&cursor) < start)
		start = asp_cursor_start(&cursor);
	return start > pieces->from ? start : pieces->from;
}

/* The last part of [lo, hi), which lies in the piece: where it starts, and with which flags it
 * is known; false if it is not. */
static bool last_part(const struct aspace_txn *txn, const struct pieces *pieces, uint64_t lo,
		      uint64_t hi, uint64_t *start, uint64_t *flags)
{
	struct asp_cursor cursor;
	uint64_t end;

	*start = lo;
	*flags = pieces->area.flags;
	if (!txn->open)
		return true;
	if (!asp_cursor_seek_below(&cursor, txn->base, hi))
		return false;
	end = asp_cursor_slot(&cursor)->end;
	if (end < hi) {
		*start = end > lo ? end : lo;
		return false;
	}
	*start = asp_cursor_start(&cursor) > lo ? asp_cursor_start(&cursor) : lo;
	*flags = asp_cursor_slot(&cursor)->flags;
	return true;
}

/* How many parts the piece has, and how many references more than one its area will need when
 * each is an area of its own, or gone. */
static size_t count_parts(const struct aspace_txn *txn, const struct pieces *pieces, size_t *clones)
{
	size_t parts = 0, left = extra_pieces(pieces);
	uint64_t start, flags;

	for (uint64_t hi = pieces->to; hi > pieces->from; hi = start, parts++)
		left += last_part(txn, pieces, pieces->from, hi, &start, &flags);
	*clones = left ? left - 1 : 0;
	return parts;
}

static void plan_leaving_part(struct aspace_txn *txn, uint64_t lo, uint64_t hi, uint64_t flags)
{
	struct aspace_record *record = asp_pool_get(&txn->space->records, sizeof(*record));

	record->address = lo;
	record->retired = txn->edit.stamp;
	asp_list_push(&txn->leaving, record);
	asp_plan_set_flags(txn, lo, hi, flags | ASP_FLAG_LEAVING);
}

/* Marks a piece leaving. Its memory is touched only after a grace period; what this
 * transaction has mapped itself nobody has seen: it just goes. */
static void plan_leaving(struct aspace_txn *txn, const struct pieces *pieces)
{
	uint64_t lo = pieces->from, hi = pieces->to, start, flags;

	/* From the last part to the first, so that the area keeps its own reference and all
	 * others are cloned from that; but what begins it and just goes hands it on. */
	if (lo == pieces->area.start.value) {
		lo = end_of_unknown(txn, pieces);
		if (lo > pieces->from)
			asp_plan_cut(txn, pieces->from, lo);
	}
	for (; hi > lo; hi = start) {
		if (last_part(txn, pieces, lo, hi, &start, &flags))
			plan_leaving_part(txn, start, hi, flags);
		else
			asp_plan_cut(txn, start, hi);
	}
}

enum aspace_status asp_plan_unmap(struct aspace_txn *txn, struct aspace_range range, unsigned how)
{
	struct aspace *space = txn->space;
	bool grace = space->mode & ASPACE_GRACE_UNMAP;
	struct pieces pieces;
	size_t count = 0, parts = 0;
	size_t clones;
	enum aspace_status status;
	unsigned cuts = 0;
	bool whole;

	if (!asp_range_usable(space, range, space->granule))
		return ASPACE_INVALID_PARAM;
	for (begin_pieces(&pieces, range); next_piece(txn, &pieces); count++) {
		if (!piece_on_granule(&pieces))
			return ASPACE_INVALID_PARAM;
		if (grace)
			parts += count_parts(txn, &pieces, &clones);
		cuts += extra_pieces(&pieces);
	}
	if (pieces.hole && asp_is_strict(space, how))
		return ASPACE_NOT_MAPPED;
	if (!count)
		return ASPACE_OK;

	if (!(cuts || txn->open ? reserve_cut(txn, count, parts)
				: reserve_giving_back(txn, count, grace)))
		return ASPACE_NO_MEMORY;
	/* Mostly there is one, which need not be looked for again, and all of it goes. */
	whole = !grace && pieces.area.start.value == range.start.value &&
		pieces.area.end.value == range.end.value;
	if (count > 1) {
		begin_pieces(&pieces, range);
		next_piece(txn, &pieces);
	}
	do {
		/* A cut in the middle leaves two; a leaving piece is always one more. */
		if (grace)
			count_parts(txn, &pieces, &clones);
		else
			clones = extra_pieces(&pieces) == 2;
		for (; clones > 0; clones--) {
			status = clone_ahead(txn, pieces.area.backend, pieces.area.user);
			if (status != ASPACE_OK)
				return status;
		}
	} while (count > 1 && next_piece(txn, &pieces));
	if (!txn->open && !grace) {
		if (count == 1)
			plan_unmap_action(txn, &pieces);
		else
			plan_sweep(txn, range.start.value, range.end.value);
	}

	if (grace) {
		begin_pieces(&pieces, range);
		while (next_piece(txn, &pieces)) {
			plan_leaving(txn, &pieces);
			restart_pieces(&pieces);
		}
	} else if (whole) {
		give_up_reference(txn, &pieces.area);
		asp_edit_remove_area(&txn->edit, pieces.from);
	} else {
		asp_plan_cut(txn, range.start.value, range.end.value);
	}
	/* Nothing to merge: what is left has the neighbours that it had, or none. */
	if (txn->open) {
		struct asp_action *action =
			touch(txn, pieces.area.backend, ASPACE_CHANGE_UNMAP, range);

		action->change.old_flags = pieces.area.flags;
		action->change.user = pieces.area.user;
		action->alone = whole;
	}
	return ASPACE_OK;
}

/* ---- Protect -------------------------------------------------------------- */

/* Asks the callback about every piece, and notes those that change as actions.
 * `clones`: references that will be needed. */
static enum aspace_status decide_pieces(struct aspace_txn *txn, struct aspace_range range,
					aspace_protect_fn *decide, void *ctx, size_t *count)
{
	struct pieces pieces;

	begin_pieces(&pieces, range);
	while (next_piece(txn, &pieces)) {
		struct aspace_area seen = asp_public_area(pieces.area);
		uint64_t flags = seen.flags;
		struct asp_action *action;

		seen.start.value = pieces.from;
		seen.end.value = pieces.to;
		if (!decide(ctx, &seen, &flags) || flags == seen.flags)
			continue;
		if (flags & ~seen.backend->flags_mask || !piece_on_granule(&pieces))
			return ASPACE_INVALID_PARAM;
		if (txn->action_count && !asp_pool_reserve(&txn->space->actions, 1))
			return ASPACE_NO_MEMORY;
		action = asp_plan_action(txn, ASP_PHASE_PROTECT, seen.backend,
					 ASPACE_CHANGE_PROTECT, pieces.from, pieces.to);
		action->change.old_flags = seen.flags;
		action->change.new_flags = flags;
		action->change.user = seen.user;
		(*count)++;
	}
	return ASPACE_OK;
}

/* References for the pieces that the noted changes make. */
static enum aspace_status clone_for_pieces(struct aspace_txn *txn)
{
	for (struct asp_action *action = txn->actions[ASP_PHASE_PROTECT].head; action;
	     action = action->next) {
		struct pieces pieces;

		begin_pieces(&pieces, action->change.range);
		next_piece(txn, &pieces);
		for (unsigned i = extra_pieces(&pieces); i > 0; i--) {
			enum aspace_status status =
				clone_ahead(txn, pieces.area.backend, pieces.area.user);

			if (status != ASPACE_OK)
				return status;
		}
	}
	return ASPACE_OK;
}

enum aspace_status asp_plan_protect(struct aspace_txn *txn, struct aspace_range range,
				    aspace_protect_fn *decide, void *ctx, unsigned how)
{
	struct aspace *space = txn->space;
	struct asp_action *action;
	enum aspace_status status;
	size_t count = 0;

	if (!decide)
		return ASPACE_INVALID_PARAM;
	if (range.start.value == range.end.value)
		return ASPACE_OK;
	if (!asp_range_usable(space, range, space->granule))
		return ASPACE_INVALID_PARAM;
	if (asp_is_strict(space, how) && has_holes(txn, range))
		return ASPACE_NOT_MAPPED;

	status = decide_pieces(txn, range, decide, ctx, &count);
	if (status == ASPACE_OK && count) {
		status = reserve_scattered(txn, count) &&
					 (!txn->open || asp_pool_reserve(&space->actions, 1))
				 ? clone_for_pieces(txn)
				 : ASPACE_NO_MEMORY;
		if (status == ASPACE_OK) {
			for (action = txn->actions[ASP_PHASE_PROTECT].head; action;
			     action = action->next) {
				asp_plan_set_flags(txn, action->change.range.start.value,
						   action->change.range.end.value,
						   action->change.new_flags);
			}
			asp_plan_merge(txn, range.start.value, range.end.value);
			if (txn->open)
				touch(txn, NULL, ASPACE_CHANGE_PROTECT, range);
		}
	}
	/* An open transaction works its actions out anew at commit. */
	if (txn->open)
		put_actions(txn);
	return status;
}

/* ---- Move and resize ------------------------------------------------------ */

enum aspace_status asp_plan_move(struct aspace_txn *txn, struct aspace_range from,
				 struct aspace_vaddr to)
{
	struct aspace *space = txn->space;
	uint64_t size = from.end.value - from.start.value;
	struct aspace_range dest = {to, {to.value + size}};
	struct pieces pieces;
	struct obstacles obstacles;
	struct asp_action *action;
	enum aspace_status status;
	size_t count = 0;

	if (!asp_range_usable(space, from, space->granule) || to.value + size < to.value ||
	    !asp_range_usable(space, dest, space->granule) ||
	    (dest.start.value < from.end.value && from.start.value < dest.end.value))
		return ASPACE_INVALID_PARAM;
	if (space->mode & ASPACE_GRACE_UNMAP)
		return ASPACE_NOT_SUPPORTED;
	begin_pieces(&pieces, from);
	while (next_piece(txn, &pieces)) {
		uint64_t granule = pieces.area.backend->granule;

		if (!piece_on_granule(&pieces) ||
		    (granule && (to.value - from.start.value) & (granule - 1)))
			return ASPACE_INVALID_PARAM;
		if (!asp_op(pieces.area.backend, move))
			return ASPACE_NOT_SUPPORTED;
		count++;
	}
	if (pieces.hole)
		return ASPACE_NOT_MAPPED;
	look_for_obstacles(txn, dest.start.value, dest.end.value, NULL, &obstacles);
	if (obstacles.count)
		return ASPACE_ALREADY_EXISTS;

	/* The moved area gets a reference of its own. */
	if (!reserve_move(txn, count))
		return ASPACE_NO_MEMORY;
	begin_pieces(&pieces, from);
	while (next_piece(txn, &pieces)) {
		unsigned clones = extra_pieces(&pieces) == 2 ? 2 : 1;

		for (unsigned i = 0; i < clones; i++) {
			status = clone_ahead(txn, pieces.area.backend, pieces.area.user);
			if (status != ASPACE_OK)
				return status;
		}
		action = asp_plan_action(txn, ASP_PHASE_MOVE, pieces.area.backend,
					 ASPACE_CHANGE_MOVE, pieces.from, pieces.to);
		action->change.destination.value = to.value + (pieces.from - from.start.value);
		action->change.old_flags = action->change.new_flags = pieces.area.flags;
		action->change.user = pieces.area.user;
	}
	for (action = txn->actions[ASP_PHASE_MOVE].head; action; action = action->next)
		asp_plan_carry(txn, &action->change);
	asp_plan_merge(txn, to.value, dest.end.value);
	return ASPACE_OK;
}

enum aspace_status asp_plan_resize(struct aspace_txn *txn, struct aspace_vaddr start, uint64_t size,
				   unsigned how)
{
	struct aspace *space = txn->space;
	struct asp_cursor cursor;
	struct aspace_area area;
	struct obstacles obstacles;
	struct asp_action *action;
	uint64_t end = start.value + size;

	if (!asp_range_usable(space, aspace_range_of(start.value, end), space->granule))
		return ASPACE_INVALID_PARAM;
	if (!asp_edit_seek(&txn->edit, &cursor, start.value) ||
	    asp_cursor_start(&cursor) != start.value)
		return ASPACE_NOT_MAPPED;
	area = asp_cursor_area(&cursor);
	if (area.flags & ASP_FLAG_LEAVING)
		return ASPACE_NOT_MAPPED;
	if (end <= area.end.value)
		return end == area.end.value
			       ? ASPACE_OK
			       : asp_plan_unmap(txn, aspace_range_of(end, area.end.value), how);
	if (area.backend->granule && end & (area.backend->granule - 1))
		return ASPACE_INVALID_PARAM;
	look_for_obstacles(txn, area.end.value, end, area.backend, &obstacles);
	if (obstacles.count)
		return ASPACE_ALREADY_EXISTS;
	if (obstacles.leaving) {
		txn->leaving_in_way = true;
		return ASPACE_BUSY;
	}

	if (!reserve_place(txn, 0))
		return ASPACE_NO_MEMORY;
	action = asp_plan_action(txn, ASP_PHASE_MAP, area.backend, ASPACE_CHANGE_MAP,
				 area.end.value, end);
	action->change.new_flags = area.flags;
	action->change.user = area.user;
	asp_edit_update(&txn->edit, start.value, end, area.flags, area.user);
	asp_plan_merge(txn, end, end);
	return ASPACE_OK;
}
