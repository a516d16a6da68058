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
static struct asp_action *next_action(struct asp_plan *plan, struct asp_action *action,
				      unsigned *phase)
{
	unsigned rest;

	if (action) {
		if (action->next)
			return action->next;
		(*phase)++;
	}
	rest = plan->phases >> *phase;
	if (!rest)
		return NULL;
	*phase += (unsigned)__builtin_ctz(rest);
	return plan->actions[*phase].head;
}

#define for_each_action(plan, action, phase)                                                       \
	for (phase = 0, action = next_action(plan, NULL, &phase); action;                          \
	     action = next_action(plan, action, &phase))

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
static bool sweep_at(const struct asp_plan *plan, const struct asp_cursor *cursor,
		     struct asp_action *action)
{
	uint64_t lo = plan->sweep.start.value, hi = plan->sweep.end.value;
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

#define for_each_swept(plan, cursor, action)                                                       \
	for (bool more_ = plan->sweep.end.value &&                                                 \
			  asp_cursor_seek(&cursor, plan->base, plan->sweep.start.value);           \
	     more_ && sweep_at(plan, &cursor, &action); more_ = asp_cursor_next(&cursor))

/* The truth begins with the version before. What the plan had is there again. */
static void begin_truth(struct asp_plan *plan)
{
	struct aspace *space = plan->space;

	asp_spend_for_truth(space);
	asp_edit_discard(&plan->edit);
	asp_put_records(space, &plan->references);
	asp_put_records(space, &plan->leaving);
	plan->leaving_bytes = 0;
	plan->born = 0;
	asp_list_splice(&plan->clones_spare, &plan->clones_used);
	asp_edit_begin(&plan->edit, &space->vector->edit, &space->nodes, &space->records,
		       plan->base, plan->base->birth + 1);
	plan->edit.even = true; /* as reserve_truth() counts */
}

/* Does what is in the pools do for a truth in which any of the swept areas are gone? */
static bool can_tell_any(const struct asp_plan *plan, size_t areas)
{
	struct aspace *space = plan->space;
	size_t nodes = space->node_count + asp_nodes_for_place(asp_tree_height(plan->base));
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
static bool unsweep(struct asp_plan *plan)
{
	uint64_t lo = plan->sweep.start.value;
	bool any, more = plan->sweep.end.value && plan->swept > lo;
	struct asp_action action;
	struct aspace_change change;
	struct asp_cursor cursor;

	if (!more)
		return false;
	begin_truth(plan);
	any = can_tell_any(plan, aspace_count(plan->space));
	more = any ? asp_cursor_seek(&cursor, plan->base, lo)
		   : asp_cursor_seek_below(&cursor, plan->base, plan->swept);
	while (more && sweep_at(plan, &cursor, &action) &&
	       action.change.range.start.value < plan->swept) {
		if (!inverse(&action, &change) || call(&action, &change) != ASPACE_OK) {
			uint64_t from = any ? action.change.range.start.value : lo;

			asp_plan_cut(plan, from, action.change.range.end.value);
			if (!any)
				break;
		}
		more = any ? asp_cursor_next(&cursor) : asp_cursor_prev(&cursor);
	}
	return plan->edit.root != plan->base;
}

/* ---- All changes ---------------------------------------------------------- */

static inline enum aspace_status prepare_change(struct asp_plan *plan, struct asp_action *action)
{
	const struct aspace_backend_ops *ops = action->backend->ops;

	if (!asp_op(action->backend, prepare))
		return ASPACE_OK;
	if (action->change.kind == ASPACE_CHANGE_UNMAP)
		action->change.borders = asp_count_borders(&plan->edit, action->change.range,
							   action->change.range.start.value);
	return ops->prepare(action->backend, &action->change);
}

static enum aspace_status prepare(struct asp_plan *plan)
{
	struct asp_action *action, swept;
	enum aspace_status status;
	struct asp_cursor cursor;
	unsigned phase;

	for_each_swept(plan, cursor, swept)
	{
		status = prepare_change(plan, &swept);
		if (status != ASPACE_OK)
			return status;
	}
	for_each_action(plan, action, phase)
	{
		status = prepare_change(plan, action);
		if (status != ASPACE_OK)
			return status;
	}
	return ASPACE_OK;
}

static enum aspace_status make_changes(struct asp_plan *plan)
{
	struct asp_action *action, swept;
	enum aspace_status status;
	struct asp_cursor cursor;
	unsigned phase;

	for_each_swept(plan, cursor, swept)
	{
		status = call(&swept, &swept.change);
		if (status != ASPACE_OK)
			return status;
		plan->swept = swept.change.range.end.value;
	}
	for_each_action(plan, action, phase)
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

static void flush(struct asp_plan *plan)
{
	struct flushed flushed = {.count = 0};
	struct asp_action *action, swept;
	struct asp_cursor cursor;
	unsigned phase;

	for_each_swept(plan, cursor, swept) flush_backend(&flushed, swept.backend);
	for_each_action(plan, action, phase) flush_backend(&flushed, action->backend);
}

/* Is something mapped, for good, where the action has unmapped? Were that mapped again,
 * perhaps by another backend, one address would be held twice, which no tree can say. */
static bool is_taken(const struct asp_plan *plan, const struct asp_action *action)
{
	const struct aspace_range *range = &action->change.range;

	if (action->change.kind != ASPACE_CHANGE_UNMAP)
		return false;
	for (struct asp_action *map = plan->actions[ASP_PHASE_REMAP].head; map; map = map->next) {
		if (map->done && map->change.range.start.value < range->end.value &&
		    range->start.value < map->change.range.end.value)
			return true;
	}
	return false;
}

/* Takes back what was done, last phase first: a map onto what was unmapped goes
 * before that is mapped again. Answers how many changes stand. */
static size_t undo(struct asp_plan *plan)
{
	struct asp_action *action;
	struct aspace_change change;
	size_t standing = 0;

	for (unsigned phase = ASP_PHASES; phase-- > 0;) {
		for (action = plan->actions[phase].head; action; action = action->next) {
			if (!action->done)
				continue;
			if (inverse(action, &change) && !(standing && is_taken(plan, action)) &&
			    call(action, &change) == ASPACE_OK)
				action->done = false;
			else
				standing++;
		}
	}
	return standing + unsweep(plan);
}

static void tell_change(struct asp_plan *plan, const struct asp_action *action)
{
	const struct aspace_change *change = &action->change;
	uint64_t lo = change->range.start.value, hi = change->range.end.value;
	/* The caller still owns what it passed: the area has no user object. */
	struct aspace_area area = {
		change->range.start, change->range.end, change->new_flags, action->backend, NULL,
	};

	switch (change->kind) {
	case ASPACE_CHANGE_REPLACE:
		asp_plan_cut(plan, lo, hi);
		asp_edit_insert(&plan->edit, &area);
		break;
	case ASPACE_CHANGE_MAP:
		asp_edit_insert(&plan->edit, &area);
		break;
	case ASPACE_CHANGE_UNMAP:
		asp_plan_cut(plan, lo, hi);
		break;
	case ASPACE_CHANGE_PROTECT:
		asp_plan_set_flags(plan, lo, hi, change->new_flags);
		break;
	case ASPACE_CHANGE_MOVE:
		asp_plan_carry(plan, change);
		break;
	}
}

/* Not before all changes are told: what lies between two of them never was a version. */
static void merge_around(struct asp_plan *plan, const struct asp_action *action)
{
	const struct aspace_change *change = &action->change;
	uint64_t lo = change->range.start.value, hi = change->range.end.value;

	if (change->kind == ASPACE_CHANGE_MOVE) {
		hi = change->destination.value + (hi - lo);
		lo = change->destination.value;
	}
	asp_plan_merge(plan, lo, hi);
}

/* Publishes the version before plus the changes that stand. */
static void tell_truth(struct asp_plan *plan)
{
	struct asp_action *action;
	unsigned phase;

	if (!plan->sweep.end.value) /* else unsweep() has begun */
		begin_truth(plan);
	for (unsigned i = 0; i < ASP_PHASES; i++) {
		action = plan->actions[order_of_truth[i]].head;
		for (; action; action = action->next) {
			if (action->done)
				tell_change(plan, action);
		}
	}
	for_each_action(plan, action, phase)
	{
		if (action->done)
			merge_around(plan, action);
	}
	asp_hold_for_truth(plan);
	asp_publish(plan);
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
static __attribute__((noinline)) bool reserve_truth(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	size_t height = asp_tree_height(plan->base), lost = plan->edit.retired.count;
	/* An operation that inserts several carries them, with references of their own. */
	size_t cut = plan->open ? plan->borders : 2 + plan->insertions;
	size_t inserted = plan->open ? plan->insertions + cut : cut;
	size_t owned = 2 * lost < space->node_count ? 2 * lost : space->node_count;
	size_t split = 2 * (lost < height * inserted ? lost : height * inserted);
	/* What becomes of references: of each that there is, and of those of pieces. (What is mapped
	 * and stands has none.) */
	size_t events = plan->references.count + 6 * plan->action_count + 2 * inserted;
	size_t most = space->counts ? aspace_count(space) + 4 * cut : 0;
	size_t nodes = owned + split + asp_nodes_for_areas(inserted) + asp_nodes_for_place(height);
	const struct asp_edit_need need = {
		.nodes = beyond(nodes, lost + (size_t)plan->edit.node_count),
		.dropped = owned,
		.records = beyond(nodes / ASP_RECORD_NODES + (events < most ? events : most) + 8,
				  plan->references.count + plan->leaving.count),
	};

	return asp_reserve_truth(plan, &need, inserted);
}

/* Prepares all, then makes them; `standing`: how many could not be taken back. */
static enum aspace_status make_all_changes(struct asp_plan *plan, size_t *standing)
{
	enum aspace_status status = prepare(plan);

	if (status == ASPACE_OK) {
		status = make_changes(plan);
		if (status != ASPACE_OK)
			*standing = undo(plan);
	}
	flush(plan);
	return status;
}

/* Where there is no other. If it is refused, nothing stands. */
static enum aspace_status make_only_change(struct asp_plan *plan, struct asp_action *action)
{
	const struct aspace_backend_ops *ops = action->backend->ops;
	enum aspace_status status = prepare_change(plan, action);

	if (status == ASPACE_OK)
		status = call(action, &action->change);
	if (asp_op(action->backend, flush))
		ops->flush(action->backend);
	return status;
}

/* Can the plan be committed? False: it has been dropped, and *status says why it need not be. */
static inline bool is_to_be_made(struct asp_plan *plan, enum aspace_status *status)
{
	if (plan->action_count > 1 && !reserve_truth(plan)) {
		*status = ASPACE_NO_MEMORY;
	} else if (plan->edit.root == plan->base) { /* nothing to do */
		*status = ASPACE_OK;
	} else {
		return true;
	}
	asp_plan_drop(plan);
	return false;
}

/* `claim`: of an open transaction, else NULL. */
static __attribute__((noinline)) enum aspace_status change_and_publish(struct asp_plan *plan,
								       struct asp_pin *claim)
{
	enum aspace_status status;
	size_t standing = 0;

	if (plan->action_count == 1 && !plan->sweep.end.value)
		status = make_only_change(plan, plan->actions[__builtin_ctz(plan->phases)].head);
	else
		status = make_all_changes(plan, &standing);
	if (claim)
		asp_pins_close(plan->space, claim);
	if (standing) {
		tell_truth(plan);
		return ASPACE_BAD_STATE;
	}
	if (status == ASPACE_OK)
		asp_publish(plan);
	else
		asp_plan_drop(plan);
	return status;
}

/* Is a backend asked for anything? What waits for a grace period holds nobody off until then. */
static bool asks_backends(const struct asp_plan *plan)
{
	return plan->phases || plan->sweep.end.value;
}

enum aspace_status asp_commit(struct asp_plan *plan)
{
	enum aspace_status status;

	if (!is_to_be_made(plan, &status))
		return status;
	if (__builtin_expect(asp_pins_any(plan->space), 0) && asks_backends(plan) &&
	    !asp_pins_hold_off(plan)) {
		asp_plan_drop(plan);
		return ASPACE_BUSY;
	}
	return change_and_publish(plan, NULL);
}

enum aspace_status asp_commit_open(struct asp_plan *plan)
{
	enum aspace_status status = asp_plan_settle(plan);
	struct aspace *space = plan->space;
	struct asp_pin claim;

	if (status != ASPACE_OK) {
		asp_plan_drop(plan);
		return status;
	}
	if (!is_to_be_made(plan, &status))
		return status;
	if (!asp_pins_claim_plan(plan, &claim)) {
		asp_plan_drop(plan);
		return ASPACE_BUSY;
	}
	status = change_and_publish(plan, &claim);
	asp_pins_drop(space, &claim);
	return status;
}
