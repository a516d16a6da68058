/* SPDX-License-Identifier: MIT */
/* Figures of a space, and unused memory given back. */
#include "tree/nodes.h"
#include "options.h"
#include "reclaim/calls.h"
#include "space/space.h"
#include "update/reserve.h"
#include "update/births.h"

enum aspace_status aspace_trim(struct aspace *space, unsigned how)
{
	enum aspace_status status;
	uint64_t oldest;

	if (how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	asp_lock_acquire(&space->snap_lock);
	oldest = space->oldest ? space->oldest->version : UINT64_MAX;
	asp_lock_release(&space->snap_lock);
	asp_births_forget(space, oldest, SIZE_MAX);
	asp_hold_back(space, asp_tree_height(asp_root(space)), space->node_count,
		      aspace_count(space));
	asp_nodes_unpack(&space->nodes);
	asp_pool_trim(&space->nodes);
	asp_pool_trim(&space->records);
	asp_pool_trim(&space->actions);
	asp_writer_leave(space);
	return ASPACE_OK;
}

static uint64_t pooled(const struct asp_pool *pool)
{
	return pool->available * pool->object_size;
}

enum aspace_status aspace_stats(struct aspace *space, struct aspace_stats *given, unsigned how)
{
	struct aspace_stats stats;
	enum aspace_status status;
	uint64_t pending;

	if (!given || given->size < offsetof(struct aspace_stats, leaving) ||
	    given->size > ASP_STRUCT_BYTES_MAX || how & ~ASP_HOW_PUBLIC)
		return ASPACE_INVALID_PARAM;
	status = asp_writer_enter_now(space, how);
	if (status != ASPACE_OK)
		return status;
	/* Relaxed: it changes under the writer lock. */
	pending = atomic_load_explicit(&space->pending.count, memory_order_relaxed);
	stats = (struct aspace_stats){
		.size = given->size,
		.areas = aspace_count(space),
		.bytes_areas = aspace_bytes(space),
		.leaving = space->leaving.count + space->pins.leaving.count - pending,
		.pending = pending,
		.bytes_leaving = space->leaving_bytes,
		.bytes_leaving_max = space->leaving_bytes_max,
		.height = asp_tree_height(asp_root(space)),
		.nodes = space->node_count,
		.bytes_live = space->node_count * sizeof(struct asp_node),
		.bytes_retired = asp_retired_bytes(space),
		.bytes_pooled =
			pooled(&space->nodes) + pooled(&space->records) + pooled(&space->actions),
		.bytes_mapped = space->nodes.bytes_mapped + space->records.bytes_mapped +
				space->actions.bytes_mapped + ASP_SPACE_BYTES,
		.version = asp_root(space)->birth,
		.grace_periods = asp_grace_count(space->grace),
		.releases_pending = space->deferred.count + space->pins.deferred.count +
				    asp_calls_pending(&space->calls),
		.releases_due = asp_calls_pending(&space->calls),
		.late_max = space->latest.any,
		.late_nodes = space->latest.nodes,
		.late_releases = space->latest.releases,
		.late_leaving = space->latest.leaving,
		.late_memory = space->latest.memory,
		.releases_waiting_max = space->releases_max,
		.changes_waiting_max = space->areas_max,
	};
	asp_lock_acquire(&space->snap_lock);
	stats.bytes_retired += space->freed_nodes.count * sizeof(struct asp_node);
	stats.bytes_snapshots = space->snapshot_nodes * sizeof(struct asp_node);
	stats.snapshots = space->snapshot_count;
	asp_lock_release(&space->snap_lock);
	/* What a snapshot has just let go of has not been noted yet. */
	asp_note_retired(space, stats.bytes_retired);
	stats.bytes_retired_max = space->retired_max;
	asp_writer_leave(space);
	/* A caller that knows more fields than we do gets zeroes for them; one that knows
	 * fewer, those. */
	__builtin_memset(given, 0, given->size);
	__builtin_memcpy(given, &stats, stats.size < sizeof(stats) ? stats.size : sizeof(stats));
	return ASPACE_OK;
}
