/* SPDX-License-Identifier: MIT */
/*
 * Reserving: what an operation may take, and what is to be held back when it has.
 */
#include "update/plan.h"
#include "update/reserve.h"

/* How many operations of a transaction are reckoned with at once. */
#define HELD_FOR 16

static size_t height_of(const struct asp_plan *plan)
{
	return asp_tree_height(plan->edit.root);
}

/* Nodes of the base that the private tree has still; no edit can copy or drop more. */
static size_t shared_nodes(const struct asp_plan *plan)
{
	return plan->space->node_count - plan->edit.retired.count;
}

static size_t all_nodes(const struct asp_plan *plan)
{
	return plan->space->node_count + (size_t)plan->edit.node_count;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* So many areas are changed where they are: that a leaf holds several of them cannot be counted
 * on, for others that are leaving already may be between them. */
static size_t copies_for(const struct asp_plan *plan, size_t areas)
{
	return least(height_of(plan) * areas, shared_nodes(plan));
}

/* ---- Holding back ----------------------------------------------------------- */

/* Written under both locks. */
static void set_covered(struct aspace *space, bool covered)
{
	asp_lock_acquire(&space->snap_lock);
	space->covered = covered;
	asp_lock_release(&space->snap_lock);
}

bool asp_uncover(struct aspace *space)
{
	bool any;

	asp_lock_acquire(&space->snap_lock);
	any = space->oldest;
	if (!any)
		space->covered = false;
	asp_lock_release(&space->snap_lock);
	if (any)
		return false;
	space->nodes.held -= space->copy;
	space->records.held -= space->copy / ASP_RECORD_NODES;
	space->copy = 0;
	space->plan.held_for = 0; /* the next of a transaction reckons anew */
	return true;
}

/* Nothing is held back, nor for snapshots to come: for who gives back. */
static void spend(struct aspace *space)
{
	if (space->covered)
		set_covered(space, false);
	space->nodes.held = space->records.held = 0;
}

void asp_spend_for_truth(struct aspace *space)
{
	size_t copy = space->covered ? space->copy : 0;

	space->nodes.held = copy;
	space->records.held = copy / ASP_RECORD_NODES;
}

void asp_hold_for_truth(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	const struct asp_edit_need none = {.nodes = 0};

	asp_hold_back(space, height_of(plan), all_nodes(plan),
		      atomic_load_explicit(&space->areas, memory_order_relaxed) +
			      (size_t)plan->edit.areas);
	if (!asp_has_room(space, &none) && !asp_make_room(space, &none) && space->covered)
		set_covered(space, false);
}

bool asp_make_room(struct aspace *space, const struct asp_edit_need *need)
{
	size_t records = asp_edit_records(need);

	if (!asp_pool_has(&space->nodes, need->nodes) && !asp_pool_grow(&space->nodes, need->nodes))
		return false;
	if (!asp_pool_has(&space->records, records) && !asp_pool_grow(&space->records, records) &&
	    !asp_unpack_records(&space->nodes, records))
		return false;
	if (!space->covered)
		set_covered(space, true);
	return true;
}

bool asp_cover(struct aspace *space)
{
	bool covered;

	if (asp_writer_enter_now(space, ASPACE_NOWAIT) != ASPACE_OK)
		return false;
	asp_hold_back(space, asp_tree_height(asp_root(space)), space->node_count,
		      aspace_count(space));
	covered = asp_make_room(space, &(struct asp_edit_need){0});
	asp_writer_leave(space);
	return covered;
}

bool asp_reserve_or_spend(struct asp_plan *plan, const struct asp_edit_need *need)
{
	struct aspace *space = plan->space;

	asp_hold_back(space, asp_tree_height(plan->base), space->node_count,
		      atomic_load_explicit(&space->areas, memory_order_relaxed));
	if (__builtin_expect(asp_has_room(space, need), 1))
		return asp_edit_reserve_had(&plan->edit, need);
	if (!asp_make_room(space, need)) {
		if (asp_plan_is_behind(plan, ASP_FOR_MEMORY))
			return false;
		spend(space);
	}
	return asp_edit_reserve(&plan->edit, need);
}

/* For the private tree with so many nodes more; in an open transaction mostly for the operations
 * to come as well, because these are many and small. */
static inline __attribute__((always_inline)) void hold_back_for(struct asp_plan *plan,
								const struct asp_edit_need *need,
								size_t nodes, size_t ops)
{
	struct aspace *space = plan->space;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);

	/* The root may rise, and a place has few more areas than before. */
	asp_hold_back(space, height_of(plan) + (ops > 1 ? 2 : 1), all_nodes(plan) + ops * nodes,
		      areas + (size_t)plan->edit.areas + 4 * ops + need->added - need->removed);
}

static __attribute__((noinline)) void hold_back_in_open(struct asp_plan *plan,
							const struct asp_edit_need *need)
{
	size_t height = height_of(plan);

	/* A large one stands for itself. */
	if (need->nodes > asp_nodes_for_place(height)) {
		plan->held_for = 0;
		hold_back_for(plan, need, need->nodes - need->copies, 1);
		return;
	}
	hold_back_for(plan, need, asp_nodes_more_in_place(height), HELD_FOR);
	plan->held_for = HELD_FOR - 1;
}

/* Leaves what is held back; not for snapshots, if it must be and there is none. */
static inline bool reserve(struct asp_plan *plan, const struct asp_edit_need *need)
{
	struct aspace *space = plan->space;

	if (__builtin_expect(asp_has_room(space, need), 1))
		return asp_edit_reserve_had(&plan->edit, need);
	if (!asp_make_room(space, need) && !asp_uncover(space))
		return false;
	return asp_edit_reserve(&plan->edit, need);
}

/* Inlined where most of the need is constant. */
static inline __attribute__((always_inline)) bool plan_reserve(struct asp_plan *plan,
							       const struct asp_edit_need *need)
{
	if (plan->held_for)
		plan->held_for--;
	else if (plan->open)
		hold_back_in_open(plan, need);
	else
		hold_back_for(plan, need, need->nodes - need->copies, 1);
	return reserve(plan, need);
}

/* The snapshots that there are then show the base at most; and for those to come nothing is held
 * back any more. */
bool asp_reserve_truth(struct asp_plan *plan, const struct asp_edit_need *need, size_t more)
{
	struct aspace *space = plan->space;
	size_t nodes = all_nodes(plan), base = space->node_count;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);

	asp_hold_back_beside(space, height_of(plan) + 1, nodes + need->nodes, areas + more,
			     nodes < base ? base : nodes);
	return reserve(plan, need);
}

/* So many references, given up or cloned: where no area has any, none. */
static size_t references(const struct asp_plan *plan, size_t count)
{
	return plan->space->counts ? count : 0;
}

bool asp_reserve_place(struct asp_plan *plan, size_t removed)
{
	size_t height = height_of(plan), nodes = asp_nodes_for_place(height);
	const struct asp_edit_need need = {
		.nodes = nodes,
		.copies = nodes - asp_nodes_more_in_place(height),
		.dropped = removed ? least(asp_nodes_of_areas(removed), shared_nodes(plan)) : 0,
		.records = references(plan, removed) + 8,
		.removed = removed,
	};

	/* An open transaction notes what it touches. */
	return plan_reserve(plan, &need) &&
	       (!plan->open || asp_pool_reserve(&plan->space->actions, 1));
}

bool asp_reserve_giving_back(struct asp_plan *plan, size_t count, bool leaving)
{
	struct aspace *space = plan->space;
	uint64_t areas = atomic_load_explicit(&space->areas, memory_order_relaxed);
	size_t height = height_of(plan), rest = areas - count;
	size_t some = rest ? asp_nodes_for_removal(height) : asp_nodes_for_border(height);
	const struct asp_edit_need need = {
		.nodes = leaving ? copies_for(plan, count) : some,
		.dropped = leaving ? 0 : least(asp_nodes_of_areas(count), shared_nodes(plan)),
		.records = leaving ? count : references(plan, count),
	};

	plan->all_spent = !asp_reserve_or_spend(plan, &need);
	return !plan->all_spent;
}

bool asp_reserve_cut(struct asp_plan *plan, size_t count, size_t parts)
{
	size_t more = parts > count ? parts - count : 0;
	struct asp_edit_need need = {
		.nodes = asp_nodes_for_place(height_of(plan)),
		.dropped = least(asp_nodes_of_areas(count), shared_nodes(plan)),
		.records = parts + references(plan, count + 3 * more) + 8,
		.removed = parts ? 0 : count,
	};

	if (parts) {
		need.copies = copies_for(plan, count);
		need.nodes += need.copies;
	}
	/* A node that is full may be split for each of them, one that is private already, too. */
	if (more)
		need.nodes +=
			least(more * height_of(plan), all_nodes(plan)) + asp_nodes_for_areas(more);

	return plan_reserve(plan, &need) &&
	       (!plan->open || asp_pool_reserve(&plan->space->actions, 1));
}

bool asp_reserve_move(struct asp_plan *plan, size_t count)
{
	const struct asp_edit_need need = {
		.nodes = asp_nodes_for_removal(height_of(plan)) +
			 asp_nodes_for_place(height_of(plan)) + asp_nodes_for_areas(count),
		.dropped = least(asp_nodes_of_areas(count), shared_nodes(plan)),
		.records = references(plan, 4 * count) + 8,
	};

	return plan_reserve(plan, &need) &&
	       (count < 2 || asp_pool_reserve(&plan->space->actions, count - 1));
}

bool asp_reserve_scattered(struct asp_plan *plan, size_t areas, size_t parts)
{
	size_t height = height_of(plan), more = parts > areas ? parts - areas : 0;
	size_t nodes = least(6 * height * areas, shared_nodes(plan));
	struct asp_edit_need need = {
		.nodes = nodes + asp_nodes_for_place(height),
		.copies = nodes,
		.dropped = nodes,
		.records = references(plan, 3 * (areas + more)) + parts + 8,
		.added = more,
	};

	if (more)
		need.nodes += least(more * height, all_nodes(plan)) + asp_nodes_for_areas(more);
	return plan_reserve(plan, &need);
}

bool asp_reserve_note(struct asp_plan *plan)
{
	return plan_reserve(plan, &(struct asp_edit_need){.records = 1});
}
