/* SPDX-License-Identifier: MIT */
/*
 * The truth: the version that says what backends hold, where changes stand that could not be undone.
 *
 * Invariants:
 *  1. It is the version before, plus the changes that stand; the plan's own tree is dropped.
 *  2. Telling it takes no more than has been provided before the first change was made, or, for a
 *     sweep of which single areas are to be told, than is in the pools.
 */
#include "update/truth.h"
#include "update/changes.h"
#include "update/reserve.h"

/* In which order the changes that stand are put into the tree: what makes room
 * before what fills it. */
static const enum asp_phase order_of_truth[] = {
	ASP_PHASE_PROTECT, ASP_PHASE_UNMAP, ASP_PHASE_REPLACE,
	ASP_PHASE_MAP,     ASP_PHASE_REMAP, ASP_PHASE_MOVE,
};

void asp_truth_begin(struct asp_plan *plan)
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
	plan->edit.even = true; /* as asp_truth_provide() counts */
}

bool asp_truth_can_tell_any(const struct asp_plan *plan, size_t areas)
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

void asp_truth_tell(struct asp_plan *plan)
{
	struct asp_action *action;
	unsigned phase;

	if (!plan->sweep.end.value) /* else undo.c has begun */
		asp_truth_begin(plan);
	for (unsigned i = 0; i < ASP_PHASES; i++) {
		action = plan->actions[order_of_truth[i]].head;
		for (; action; action = action->next) {
			if (action->done)
				tell_change(plan, action);
		}
	}
	asp_for_each_action(plan, action, phase)
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

/* What asp_truth_tell() may take: the changes that stand are some of the plan's, so it owns
 * no nodes but those that the plan has lost, each with a neighbour; and it inserts what the
 * plan inserts, and the rest of what it cuts. Each full node that it owns may be split.
 * References it gives up are at most two for each change, beside what the plan gives up, and
 * there are no more than areas own. A single change leaves nothing standing when it is refused;
 * what stands of a sweep is the beginning of the same removal, and takes no more than that. */
bool asp_truth_provide(struct asp_plan *plan)
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
