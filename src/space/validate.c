/* SPDX-License-Identifier: MIT */
/*
 * Are the invariants kept? Those that are checked, and where each is listed, are in docs/design.md.
 */
#include "space/space.h"
#include "update/pins.h"
#include "update/reserve.h"
#include "update/plan.h"
#include "update/pieces.h"
#include "update/births.h"
#include "update/pending.h"

/* Numbers of aspace_violation: T1.. are 101.., P1.. 201.., S1.. 301... */
enum { TREE = 100, POOL = 200, SPACE = 300 };

static bool backend_holds(const struct aspace *space, struct aspace_area area,
			  struct asp_tree_census *census)
{
	struct aspace_backend *backend = area.backend;
	struct aspace_vaddr at = area.start;

	area = asp_public_area(area);
	area.flags = asp_held_flags(space, area.start.value, area.flags);
	if (!asp_op(backend, check_area) ||
	    backend->ops->check_area(backend, &area, &at, &census->what) == ASPACE_OK)
		return true;
	census->at = at.value;
	return false;
}

static unsigned check_areas(struct aspace *space, const struct asp_node *root,
			    struct asp_tree_census *census)
{
	struct asp_cursor cursor;
	struct aspace_area area, before = {0};

	for (bool more = asp_cursor_seek(&cursor, root, 0); more; more = asp_cursor_next(&cursor)) {
		uint64_t granule = space->granule;

		area = asp_cursor_area(&cursor);
		census->at = area.start.value;
		if (granule < area.backend->granule)
			granule = area.backend->granule;
		census->what = "an area is outside the limits or off its granule";
		if (!asp_range_usable(space, (struct aspace_range){area.start, area.end}, granule))
			return SPACE + 4;
		census->what = "an area has flags that its backend does not declare";
		if (area.flags & ~area.backend->flags_mask & ~ASP_FLAG_LEAVING)
			return SPACE + 4;
		census->what = "equal neighbours have not been merged";
		if (before.backend && asp_mergeable(space, &before, &area))
			return SPACE + 5;
		census->what = "a backend does not hold what an area says";
		if (!backend_holds(space, area, census))
			return SPACE + 7;
		before = area;
	}
	return 0;
}

/* What the list of leaving areas says. */
struct late_areas {
	uint64_t leaving, pending;
	uint64_t sum;   /* of the starts of leaving areas */
	uint64_t bytes; /* of memory that leaves */
};

/* Is the area there that the record is about, and as the record says? (Q1 and Q4, for a pending one.) */
static bool check_late(struct aspace *space, const struct asp_node *root,
		       const struct aspace_record *record, struct late_areas *late)
{
	uint64_t start = asp_late_start(record);
	int at;
	const struct asp_node *leaf = asp_tree_find(root, start, &at);
	const struct asp_slot *slot;

	if (!leaf || leaf->leaf.start[at] != start)
		return false;
	slot = &leaf->leaf.slot[at];
	if (!record->pending || record->drops)
		late->bytes += slot->end - start;
	if (!record->pending) {
		late->leaving++;
		late->sum += start;
		return slot->flags & ASP_FLAG_LEAVING;
	}
	late->pending++;
	return !(slot->flags & ASPACE_FLAGS_RESERVED) &&
	       asp_notes_in_place(space->pending.root, &record->note);
}

static unsigned check_deferred(struct aspace *space, const struct asp_node *root,
			       struct asp_tree_census *census)
{
	/* Those of pins are changed under the writer lock only, too, which we have. */
	const struct aspace_record_list *references[] = {&space->deferred, &space->pins.deferred};
	const struct aspace_record_list *areas[] = {&space->leaving, &space->pins.leaving};
	struct aspace_record *record;
	struct late_areas late = {0};
	uint64_t count = 0;

	for (unsigned i = 0; i < 2; i++) {
		for (record = references[i]->head; record; record = record->next)
			count++;
		for (record = areas[i]->head; record; record = record->next) {
			census->at = asp_late_start(record);
			census->what = "a leaving record is for no leaving or pending area";
			if (!check_late(space, root, record, &late))
				return SPACE + 3;
		}
	}
	census->what = "deferred records are not what was counted";
	if (count != space->deferred.count + space->pins.deferred.count)
		return SPACE + 3;
	/* Not two records for one area and none for another, either. */
	census->what = "leaving areas and their records differ";
	if (late.leaving != census->leaving || late.sum != census->leaving_sum ||
	    late.leaving + late.pending != space->leaving.count + space->pins.leaving.count ||
	    late.pending != atomic_load_explicit(&space->pending.count, memory_order_relaxed) ||
	    late.bytes != space->leaving_bytes)
		return SPACE + 3;
	return 0;
}

/* How many records a list of nodes has; SIZE_MAX if its count of nodes is wrong. */
static size_t records_of(const struct aspace_record_list *list)
{
	size_t records = 0, nodes = 0;

	for (const struct aspace_record *record = list->head; record; record = record->next) {
		records++;
		nodes += record->nodes;
	}
	return nodes == list->count ? records : SIZE_MAX;
}

/* Under both locks. */
static unsigned check_counts(struct aspace *space, struct asp_tree_census *census)
{
	struct aspace_snapshot *snapshot;
	uint64_t held = 0, records = 0, version = 0;

	census->what = "snapshots are not in order";
	if (!asp_snapshots_in_order(space))
		return SPACE + 6;
	for (snapshot = space->oldest; snapshot; snapshot = snapshot->newer) {
		if (snapshot->version < version)
			return SPACE + 6;
		version = snapshot->version;
		if (version > atomic_load_explicit(&space->version, memory_order_relaxed))
			return SPACE + 6;
		held += snapshot->nodes.count;
		records += records_of(&snapshot->nodes) + snapshot->objects.count;
	}
	census->what = "areas, their bytes, nodes or records are not what was counted";
	if (census->areas != aspace_count(space) || census->bytes != aspace_bytes(space) ||
	    census->nodes != space->node_count || held != space->snapshot_nodes)
		return SPACE + 2;
	held += space->retired.count + space->waiting.count + space->freed_nodes.count;
	if (asp_pool_in_use(&space->nodes) != census->nodes + held)
		return SPACE + 2;
	records += records_of(&space->retired) + records_of(&space->waiting) +
		   records_of(&space->freed_nodes);
	for (const struct aspace_record *ready = space->nodes.ready; ready; ready = ready->next)
		records++;
	if (asp_pool_in_use(&space->records) !=
	    records + space->freed_objects.count + space->leaving.count + space->deferred.count +
		    space->pins.leaving.count + space->pins.deferred.count + space->births.count)
		return SPACE + 2;
	census->what = "a birth is noted where no reference is, or out of order";
	return asp_births_valid(space, &census->at) ? 0 : SPACE + 8;
}

/* How many nodes of the list no snapshot shows. */
static uint64_t count_unpinned(const struct aspace *space, const struct aspace_record_list *list)
{
	uint64_t count = 0;

	for (const struct aspace_record *record = list->head; record; record = record->next) {
		const struct aspace_snapshot *holder =
			asp_snapshot_before(space, NULL, record->retired);

		for (size_t i = 0; i < record->nodes; i++)
			count += !holder || record->node[i]->birth > holder->version;
	}
	return count;
}

/* How many nodes of the tree are not younger than the version. */
static uint64_t count_older(const struct asp_node *node, uint64_t version)
{
	uint64_t count = node->birth <= version;

	for (unsigned i = 0; node->level && i < node->count; i++)
		count += count_older(node->inner.child[i], version);
	return count;
}

/* Under both locks. (Of records, which several things have in common, the tests see it.) */
static unsigned check_held_back(struct aspace *space, struct asp_tree_census *census)
{
	const struct asp_node *root = asp_root(space);
	uint64_t nodes = space->nodes.available, beside = 0;

#ifdef ASPACE_TESTING
	nodes -= space->nodes.hidden;
#endif
	nodes += count_unpinned(space, &space->retired) + count_unpinned(space, &space->waiting) +
		 count_unpinned(space, &space->freed_nodes);
	asp_hold_back(space, asp_tree_height(root), space->node_count, aspace_count(space));
	if (space->covered)
		beside = space->copy;
	else if (space->newest)
		beside = count_older(root, space->newest->version);
	census->what = "unmapping everything takes more than is held back";
	return nodes < space->nodes.held - space->copy + beside ? SPACE + 9 : 0;
}

static unsigned check_pools(struct aspace *space, struct asp_tree_census *census)
{
	unsigned bad = asp_pool_validate(&space->nodes);

	if (!bad)
		bad = asp_pool_validate(&space->records);
	if (!bad)
		bad = asp_pool_validate(&space->actions);
	census->what = "a pool's free list is damaged";
	return bad ? POOL + bad : 0;
}

static unsigned check_all(struct aspace *space, struct asp_tree_census *census)
{
	const struct asp_node *root = asp_root(space);
	unsigned bad = asp_tree_validate(root, census);

	if (bad)
		return TREE + bad;
	bad = check_pools(space, census);
	if (bad)
		return bad;
	census->what = "the newest version has another number, or an action is left";
	if (root->birth != atomic_load_explicit(&space->version, memory_order_relaxed) ||
	    asp_pool_in_use(&space->actions))
		return SPACE + 1;
	bad = check_deferred(space, root, census);
	if (!bad) {
		asp_lock_acquire(&space->snap_lock);
		bad = check_counts(space, census);
		if (!bad)
			bad = check_held_back(space, census);
		asp_lock_release(&space->snap_lock);
	}
	if (!bad) {
		const char *what = asp_pins_check(space, &census->at);

		if (what) {
			census->what = what;
			return SPACE + 10;
		}
		bad = check_areas(space, root, census);
	}
	return bad;
}

enum aspace_status aspace_validate(struct aspace *space, struct aspace_violation *violation,
				   unsigned how)
{
	struct asp_tree_census census;
	enum aspace_status status;
	unsigned bad;

	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	bad = check_all(space, &census);
	asp_writer_leave(space);
	if (!bad)
		return ASPACE_OK;
	if (violation)
		*violation = (struct aspace_violation){bad, {census.at}, census.what};
	return ASPACE_BAD_STATE;
}
