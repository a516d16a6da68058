/* SPDX-License-Identifier: MIT */
/*
 * What the files of src/update have in common: a plan (struct asp_plan), from its begin to its
 * publication. All of it under the writer lock.
 */
#ifndef ASPACE_UPDATE_PLAN_H
#define ASPACE_UPDATE_PLAN_H

#include "update/line.h"

/* ---- plan.c --------------------------------------------------------------- */

void asp_plan_begin(struct aspace *space);
/* Drop the private tree and everything that belongs to it. */
void asp_plan_drop(struct asp_plan *plan);
/* What a plan leaves behind, whether it was published or dropped: empty lists, for the
 * next. */
void asp_plan_clean_up(struct asp_plan *plan);
/* Give the records of a list back to their pool. */
void asp_put_records(struct aspace *space, struct aspace_record_list *list);

struct asp_action *asp_plan_action(struct asp_plan *plan, enum asp_phase phase,
				   struct aspace_backend *backend, enum aspace_change_kind kind,
				   uint64_t lo, uint64_t hi);
/* Put it on the list of its phase. */
void asp_plan_add(struct asp_plan *plan, enum asp_phase phase, struct asp_action *action);
/* In an open transaction: says what the operation did. */
struct asp_touched *asp_plan_touch(struct asp_plan *plan, struct aspace_backend *backend,
				   enum aspace_change_kind kind, struct aspace_range range);
/* Everything in the range is unmapped. */
static inline void asp_plan_sweep(struct asp_plan *plan, uint64_t lo, uint64_t hi)
{
	plan->sweep = aspace_range_of(lo, hi);
	plan->swept = lo;
}
void asp_plan_put_actions(struct asp_plan *plan);
/* One that is on no list. */
void asp_plan_put_action(struct asp_plan *plan, struct asp_action *action);

/* Must the plan leave what it would use to somebody before it, who waits for that? Then plan->behind. */
static inline bool asp_plan_is_behind(struct asp_plan *plan, unsigned wants)
{
	if (!plan->passes_by && asp_line_holds_up(plan->space, plan->waiter, wants))
		plan->behind = true;
	return plan->behind;
}

/* ---- map.c, unmap.c, protect.c, move.c -------------------------------------- */

/* Each plans one operation on the private tree: all or nothing. In an open
 * transaction the actions are left for commit. */
enum aspace_status asp_plan_map(struct asp_plan *plan, struct aspace_range range, uint64_t flags,
				struct aspace_backend *backend, void *user, unsigned how);
enum aspace_status asp_plan_map_anywhere(struct asp_plan *plan, const struct aspace_gap *gap,
					 uint64_t flags, struct aspace_backend *backend, void *user,
					 unsigned how, struct aspace_vaddr *start);
enum aspace_status asp_plan_unmap(struct asp_plan *plan, struct aspace_range range, unsigned how);
enum aspace_status asp_plan_protect(struct asp_plan *plan, struct aspace_range range,
				    aspace_protect_fn *decide, void *ctx, unsigned how);
enum aspace_status asp_plan_move(struct asp_plan *plan, struct aspace_range from,
				 struct aspace_vaddr to);
enum aspace_status asp_plan_resize(struct asp_plan *plan, struct aspace_vaddr start, uint64_t size,
				   unsigned how);
/* An aspace_protect_fn: the flags that ctx points to. */
bool asp_same_flags(void *ctx, const struct aspace_area *area, uint64_t *flags);

/* ---- edits.c, after a reservation -------------------------------------------- */

/* Nothing is left in [lo, hi). */
void asp_plan_cut(struct asp_plan *plan, uint64_t lo, uint64_t hi);
/* [lo, hi), inside one area, gets these flags. The first piece keeps the reference. */
void asp_plan_set_flags(struct asp_plan *plan, uint64_t lo, uint64_t hi, uint64_t flags);
/* A piece of one area goes to another place, where nothing is. */
void asp_plan_carry(struct asp_plan *plan, const struct aspace_change *move);
/* Merges equal neighbours that meet at an address in [lo, hi]. */
void asp_plan_merge(struct asp_plan *plan, uint64_t lo, uint64_t hi);
bool asp_mergeable(const struct aspace *space, const struct aspace_area *left,
		   const struct aspace_area *right);

/* At how many ends of a range that is unmapped there is an area in the private tree (see struct
 * aspace_change). `from`: the start of the range, if what has been mapped there again counts; its
 * end, if what is unmapped is still in the tree. */
unsigned asp_count_borders(struct asp_edit *edit, struct aspace_range range, uint64_t from);

/* ---- verbs.c --------------------------------------------------------------- */

/* Unmaps what is in the range, for who has just entered, and waits for faults there as any operation
 * does. False: that was not to be waited for; the lock has been given back. */
bool asp_unmap_entered(struct aspace *space, struct aspace_range range, enum aspace_status *status);

/* Leaving or pending areas were in the way, the last plan has said. Waits for them; called with the lock
 * held, which it gives back. False: it may not wait. `place`: of the operation, on the line; NULL: it takes
 * none. */
bool asp_wait_for_leaving(struct aspace *space, unsigned how, struct asp_waiter *place);

/* ---- commit.c, publish.c, txn.c ----------------------------------------------- */

/* Make the planned changes and publish; or drop the plan. The lock stays held. */
enum aspace_status asp_commit(struct asp_plan *plan);
/* The same for an open transaction. */
enum aspace_status asp_commit_open(struct asp_plan *plan);
/* Publish the private tree. Cannot fail. */
void asp_publish(struct asp_plan *plan);
/* Work the actions of an open transaction out from what it has touched. */
enum aspace_status asp_plan_settle(struct asp_plan *plan);

#endif
