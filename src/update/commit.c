/* SPDX-License-Identifier: MIT */
/*
 * Commit: from a plan to a version.
 *
 *   settle      an open transaction works out what it asks of backends (txn.c)
 *   reserve     what telling the truth would take, should undo fail
 *   hold off    who is at work in what is going to change (pins.c), or wait for them
 *   prepare     every change, before the first one is made
 *   change      phase by phase (enum asp_phase): what can be refused and taken back
 *               first, what loses contents last
 *   flush       the backends
 *   publish     one store
 *
 * If a change is refused, those before it are undone. If one of these cannot be
 * undone, the plan is dropped and a tree is built and published that says what
 * backends hold: the version before, plus the changes that stand.
 *
 * Nothing after `prepare` depends on an allocation.
 */
#include "update/pins.h"
#include "update/plan.h"
#include "update/reserve.h"

/* In which order the changes that stand are put into the tree: what makes room
 * before what fills it. */
static const enum asp_phase order_of_truth[] = {
	ASP_PHASE_PROTECT, ASP_PHASE_UNMAP, ASP_PHASE_REPLACE,
	ASP_PHASE_MAP,     ASP_PHASE_REMAP, ASP_PHASE_MOVE,
};

static enum aspace_status call(struct asp_action *action, const struct aspace_change *change)
{
	struct aspace_backend *backend = action->backend;
	const struct aspace_backend_ops *ops = backend->ops;

	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
		return ops->map(backend, change);
	case ASPACE_CHANGE_UNMAP:
		return ops->unmap(backend, change);
	case ASPACE_CHANGE_PROTECT:
		return ops->protect(backend, change);
	case ASPACE_CHANGE_REPLACE:
		return ops->replace(backend, change);
	case ASPACE_CHANGE_MOVE:
		return ops->move(backend, change);
	}
	return ASPACE_NOT_SUPPORTED;
}

/* The actions of all phases, one after the other. */
static struct asp_action *next_action(struct aspace_txn *txn, struct asp_action *action,
				      unsigned *phase)
{
	unsigned rest;

	if (action) {
		if (action->next)
			return action->next;
		(*phase)++;
	}
	rest = txn->phases >> *phase;
	if (!rest)
		return NULL;
	*phase += (unsigned)__builtin_ctz(rest);
	return txn->actions[*phase].head;
}

#define for_each_action(txn, action, phase)                                                        \
	for (phase = 0, action = next_action(txn, NULL, &phase); action;                           \
	     action = next_action(txn, action, &phase))

/* The change that takes this one back; false if none does. */
static bool inverse(const struct asp_action *action, struct aspace_change *change)
{
	*change = action->change;
	change->undo = true;
	change->old_flags = action->change.new_flags;
	change->new_flags = action->change.old_flags;
	switch (action->change.kind) {
	case ASPACE_CHANGE_MAP:
		change->kind = ASPACE_CHANGE_UNMAP;
		return true;
	case ASPACE_CHANGE_UNMAP:
		change->kind = ASPACE_CHANGE_MAP;
		return action->backend->remap_restores;
	case ASPACE_CHANGE_PROTECT:
		return true;
	case ASPACE_CHANGE_REPLACE:
		return false;
	case ASPACE_CHANGE_MOVE:
		change->destination = action->change.range.start;
		change->range.start = action->change.destination;
		change->range.end.value =
			action->change.destination.value +
			(action->change.range.end.value - action->change.range.start.value);
		return true;
	}
	return false;
}

/* ---- The sweep ------------------------------------------------------------ */

/* What is to be unmapped of the area at the cursor; false: none of it. */
static bool sweep_at(const struct aspace_txn *txn, const struct asp_cursor *cursor,
		     struct asp_action *action)
{
	uint64_t lo = txn->sweep.start.value, hi = txn->sweep.end.value;
	struct aspace_area area = asp_cursor_area(cursor);

	if (area.start.value >= hi || area.end.value <= lo)
		return false;
	*action = (struct asp_action){
		.backend = area.backend,
		.change =
			{
				.kind = ASPACE_CHANGE_UNMAP,
				.range = aspace_range_of(area.start.value > lo ? area.start.value
									       : lo,
							 area.end.value < hi ? area.end.value : hi),
				.old_flags = area.flags,
				.user = area.user,
				.cuts = (area.start.value < lo) + (area.end.value > hi),
			},
	};
	return true;
}

#define for_each_swept(txn, cursor, action)                                                        \
	for (bool more_ = txn->sweep.end.value &&                                                  \
			  asp_cursor_seek(&cursor, txn->base, txn->sweep.start.value);             \
	     more_ && sweep_at(txn, &cursor, &action); more_ = asp_cursor_next(&cursor))

/* The truth begins with the version before. What the plan had is there again. */
static void begin_truth(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;

	asp_spend_for_truth(space);
	asp_edit_discard(&txn->edit);
	asp_put_records(space, &txn->references);
	asp_put_records(space, &txn->leaving);
	txn->leaving_bytes = 0;
	txn->born = 0;
	asp_list_splice(&txn->clones_spare, &txn->clones_used);
	asp_edit_begin(&txn->edit, &space->vector->edit, &space->nodes, &space->records, txn->base,
		       txn->base->birth + 1);
	txn->edit.even = true; /* as reserve_truth() counts */
}

/* Does what is in the pools do for a truth in which any of the swept areas are gone? */
static bool can_tell_any(const struct aspace_txn *txn, size_t areas)
{
	struct aspace *space = txn->space;
	size_t nodes = space->node_count + asp_nodes_for_place(asp_tree_height(txn->base));
	size_t records = 2 * nodes / ASP_RECORD_NODES + 8 + (space->counts ? areas : 0);

	if (!asp_pool_has(&space->nodes, nodes) || !asp_pool_has(&space->records, records))
		return false;
#ifdef ASPACE_TESTING
	space->nodes.promised = nodes;
	space->records.promised = records;
#endif
	return true;
}

/* Maps again what has been swept, and tells which of it could not be. Is anything left? Where
 * there is no memory to tell that, it goes downward, and not beyond the first that cannot be
 * mapped: then all that is left is one range. */
static bool unsweep(struct aspace_txn *txn)
{
	uint64_t lo = txn->sweep.start.value;
	bool any, more = txn->sweep.end.value && txn->swept > lo;
	struct asp_action action;
	struct aspace_change change;
	struct asp_cursor cursor;

	if (!more)
		return false;
	begin_truth(txn);
	any = can_tell_any(txn, aspace_count(txn->space));
	more = any ? asp_cursor_seek(&cursor, txn->base, lo)
		   : asp_cursor_seek_below(&cursor, txn->base, txn->swept);
	while (more && sweep_at(txn, &cursor, &action) &&
	       action.change.range.start.value < txn->swept) {
		if (!inverse(&action, &change) || call(&action, &change) != ASPACE_OK) {
			uint64_t from = any ? action.change.range.start.value : lo;

			asp_plan_cut(txn, from, action.change.range.end.value);
			if (!any)
				break;
		}
		more = any ? asp_cursor_next(&cursor) : asp_cursor_prev(&cursor);
	}
	return txn->edit.root != txn->base;
}

/* ---- All changes ---------------------------------------------------------- */

static inline enum aspace_status prepare_change(struct aspace_txn *txn, struct asp_action *action)
{
	const struct aspace_backend_ops *ops = action->backend->ops;

	if (!asp_op(action->backend, prepare))
		return ASPACE_OK;
	if (action->change.kind == ASPACE_CHANGE_UNMAP)
		action->change.borders = asp_count_borders(&txn->edit, action->change.range,
							   action->change.range.start.value);
	return ops->prepare(action->backend, &action->change);
}

static enum aspace_status prepare(struct aspace_txn *txn)
{
	struct asp_action *action, swept;
	enum aspace_status status;
	struct asp_cursor cursor;
	unsigned phase;

	for_each_swept(txn, cursor, swept)
	{
		status = prepare_change(txn, &swept);
		if (status != ASPACE_OK)
			return status;
	}
	for_each_action(txn, action, phase)
	{
		status = prepare_change(txn, action);
		if (status != ASPACE_OK)
			return status;
	}
	return ASPACE_OK;
}

static enum aspace_status make_changes(struct aspace_txn *txn)
{
	struct asp_action *action, swept;
	enum aspace_status status;
	struct asp_cursor cursor;
	unsigned phase;

	for_each_swept(txn, cursor, swept)
	{
		status = call(&swept, &swept.change);
		if (status != ASPACE_OK)
			return status;
		txn->swept = swept.change.range.end.value;
	}
	for_each_action(txn, action, phase)
	{
		status = call(action, &action->change);
		if (status != ASPACE_OK)
			return status;
		action->done = true;
	}
	return ASPACE_OK;
}

/* Every backend of the operation once; one that comes up again after eight others
 * may be told again. */
struct flushed {
	struct aspace_backend *told[8];
	unsigned count;
};

static inline void flush_backend(struct flushed *flushed, struct aspace_backend *backend)
{
	unsigned i = 0;

	if (!asp_op(backend, flush))
		return;
	while (i < flushed->count && flushed->told[i] != backend)
		i++;
	if (i < flushed->count)
		return;
	backend->ops->flush(backend);
	if (flushed->count < sizeof(flushed->told) / sizeof(flushed->told[0]))
		flushed->told[flushed->count++] = backend;
	else
		flushed->told[0] = backend;
}

static void flush(struct aspace_txn *txn)
{
	struct flushed flushed = {.count = 0};
	struct asp_action *action, swept;
	struct asp_cursor cursor;
	unsigned phase;

	for_each_swept(txn, cursor, swept) flush_backend(&flushed, swept.backend);
	for_each_action(txn, action, phase) flush_backend(&flushed, action->backend);
}

/* Is something mapped, for good, where the action has unmapped? Were that mapped again,
 * perhaps by another backend, one address would be held twice, which no tree can say. */
static bool is_taken(const struct aspace_txn *txn, const struct asp_action *action)
{
	const struct aspace_range *range = &action->change.range;

	if (action->change.kind != ASPACE_CHANGE_UNMAP)
		return false;
	for (struct asp_action *map = txn->actions[ASP_PHASE_REMAP].head; map; map = map->next) {
		if (map->done && map->change.range.start.value < range->end.value &&
		    range->start.value < map->change.range.end.value)
			return true;
	}
	return false;
}

/* Takes back what was done, last phase first: a map onto what was unmapped goes
 * before that is mapped again. Answers how many changes stand. */
static size_t undo(struct aspace_txn *txn)
{
	struct asp_action *action;
	struct aspace_change change;
	size_t standing = 0;

	for (unsigned phase = ASP_PHASES; phase-- > 0;) {
		for (action = txn->actions[phase].head; action; action = action->next) {
			if (!action->done)
				continue;
			if (inverse(action, &change) && !(standing && is_taken(txn, action)) &&
			    call(action, &change) == ASPACE_OK)
				action->done = false;
			else
				standing++;
		}
	}
	return standing + unsweep(txn);
}

static void tell_change(struct aspace_txn *txn, const struct asp_action *action)
{
	const struct aspace_change *change = &action->change;
	uint64_t lo = change->range.start.value, hi = change->range.end.value;
	/* The caller still owns what it passed: the area has no user object. */
	struct aspace_area area = {
		change->range.start, change->range.end, change->new_flags, action->backend, NULL,
	};

	switch (change->kind) {
	case ASPACE_CHANGE_REPLACE:
		asp_plan_cut(txn, lo, hi);
		asp_edit_insert(&txn->edit, &area);
		break;
	case ASPACE_CHANGE_MAP:
		asp_edit_insert(&txn->edit, &area);
		break;
	case ASPACE_CHANGE_UNMAP:
		asp_plan_cut(txn, lo, hi);
		break;
	case ASPACE_CHANGE_PROTECT:
		asp_plan_set_flags(txn, lo, hi, change->new_flags);
		break;
	case ASPACE_CHANGE_MOVE:
		asp_plan_carry(txn, change);
		break;
	}
}

/* Not before all changes are told: what lies between two of them never was a version. */
static void merge_around(struct aspace_txn *txn, const struct asp_action *action)
{
	const struct aspace_change *change = &action->change;
	uint64_t lo = change->range.start.value, hi = change->range.end.value;

	if (change->kind == ASPACE_CHANGE_MOVE) {
		hi = change->destination.value + (hi - lo);
		lo = change->destination.value;
	}
	asp_plan_merge(txn, lo, hi);
}

/* Publishes the version before plus the changes that stand. */
static void tell_truth(struct aspace_txn *txn)
{
	struct asp_action *action;
	unsigned phase;

	if (!txn->sweep.end.value) /* else unsweep() has begun */
		begin_truth(txn);
	for (unsigned i = 0; i < ASP_PHASES; i++) {
		action = txn->actions[order_of_truth[i]].head;
		for (; action; action = action->next) {
			if (action->done)
				tell_change(txn, action);
		}
	}
	for_each_action(txn, action, phase)
	{
		if (action->done)
			merge_around(txn, action);
	}
	asp_hold_for_truth(txn);
	asp_publish(txn);
}

/* How many more than `back`, which come back when the plan is dropped. */
static size_t beyond(size_t need, size_t back)
{
	return need > back ? need - back : 0;
}

/* What tell_truth() may take: the changes that stand are some of the plan's, so it owns
 * no nodes but those that the plan has lost, each with a neighbour; and it inserts what the
 * plan inserts, and the rest of what it cuts. Each full node that it owns may be split.
 * References it gives up are at most two for each change, beside what the plan gives up, and
 * there are no more than areas own. A single change leaves nothing standing when it is refused;
 * what stands of a sweep is the beginning of the same removal, and takes no more than that. */
static bool reserve_truth(struct aspace_txn *txn)
{
	struct aspace *space = txn->space;
	size_t height = asp_tree_height(txn->base), lost = txn->edit.retired.count;
	/* An operation that inserts several carries them, with references of their own. */
	size_t cut = txn->open ? txn->borders : 2 + txn->insertions;
	size_t inserted = txn->open ? txn->insertions + cut : cut;
	size_t owned = 2 * lost < space->node_count ? 2 * lost : space->node_count;
	size_t split = 2 * (lost < height * inserted ? lost : height * inserted);
	/* What becomes of references: of each that there is, and of those of pieces. (What is mapped
	 * and stands has none.) */
	size_t events = txn->references.count + 6 * txn->action_count + 2 * inserted;
	size_t most = space->counts ? aspace_count(space) + 4 * cut : 0;
	size_t nodes = owned + split + asp_nodes_for_areas(inserted) + asp_nodes_for_place(height);
	struct asp_edit_need need;

	if (txn->action_count < 2)
		return true;
	need = (struct asp_edit_need){
		.nodes = beyond(nodes, lost + (size_t)txn->edit.node_count),
		.dropped = owned,
		.records = beyond(nodes / ASP_RECORD_NODES + (events < most ? events : most) + 8,
				  txn->references.count + txn->leaving.count),
	};
	return asp_reserve_truth(txn, &need, inserted);
}

/* Prepares all, then makes them; `standing`: how many could not be taken back. */
static enum aspace_status make_all_changes(struct aspace_txn *txn, size_t *standing)
{
	enum aspace_status status = prepare(txn);

	if (status == ASPACE_OK) {
		status = make_changes(txn);
		if (status != ASPACE_OK)
			*standing = undo(txn);
	}
	flush(txn);
	return status;
}

/* Where there is no other. If it is refused, nothing stands. */
static enum aspace_status make_only_change(struct aspace_txn *txn, struct asp_action *action)
{
	const struct aspace_backend_ops *ops = action->backend->ops;
	enum aspace_status status = prepare_change(txn, action);

	if (status == ASPACE_OK)
		status = call(action, &action->change);
	if (asp_op(action->backend, flush))
		ops->flush(action->backend);
	return status;
}

/* Can the plan be committed? False: it has been dropped, and *status says why it need not be. */
static inline bool is_to_be_made(struct aspace_txn *txn, enum aspace_status *status)
{
	if (!reserve_truth(txn)) {
		*status = ASPACE_NO_MEMORY;
	} else if (txn->edit.root == txn->base) { /* nothing to do */
		*status = ASPACE_OK;
	} else {
		return true;
	}
	asp_txn_drop(txn);
	return false;
}

/* `claim`: of an open transaction, else NULL. */
static __attribute__((noinline)) enum aspace_status change_and_publish(struct aspace_txn *txn,
								       struct asp_pin *claim)
{
	enum aspace_status status;
	size_t standing = 0;

	if (txn->action_count == 1 && !txn->sweep.end.value)
		status = make_only_change(txn, txn->actions[__builtin_ctz(txn->phases)].head);
	else
		status = make_all_changes(txn, &standing);
	if (claim)
		asp_pins_close(txn->space, claim);
	if (standing) {
		tell_truth(txn);
		return ASPACE_BAD_STATE;
	}
	if (status == ASPACE_OK)
		asp_publish(txn);
	else
		asp_txn_drop(txn);
	return status;
}

/* Is a backend asked for anything? What waits for a grace period holds nobody off until then. */
static bool asks_backends(const struct aspace_txn *txn)
{
	return txn->phases || txn->sweep.end.value;
}

enum aspace_status asp_commit(struct aspace_txn *txn)
{
	enum aspace_status status;

	if (!is_to_be_made(txn, &status))
		return status;
	if (__builtin_expect(asp_pins_any(txn->space), 0) && asks_backends(txn) &&
	    !asp_pins_hold_off(txn)) {
		asp_txn_drop(txn);
		return ASPACE_BUSY;
	}
	return change_and_publish(txn, NULL);
}

enum aspace_status asp_commit_open(struct aspace_txn *txn)
{
	enum aspace_status status = asp_txn_settle(txn);
	struct aspace *space = txn->space;
	struct asp_pin claim;

	if (status != ASPACE_OK) {
		asp_txn_drop(txn);
		return status;
	}
	if (!is_to_be_made(txn, &status))
		return status;
	if (!asp_pins_claim_plan(txn, &claim)) {
		asp_txn_drop(txn);
		return ASPACE_BUSY;
	}
	status = change_and_publish(txn, &claim);
	asp_pins_drop(space, &claim);
	return status;
}
