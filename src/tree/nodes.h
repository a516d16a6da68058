/* SPDX-License-Identifier: MIT */
/*
 * The pool of nodes, fed by records.
 *
 * Nodes whose grace period is over stay in their records and are used from there: nothing
 * is written to a node, and nothing done for each of them, between its retirement and its
 * next use. A record also tells of several nodes at once, so that they can be fetched into
 * the cache some uses ahead.
 */
#ifndef ASPACE_TREE_NODES_H
#define ASPACE_TREE_NODES_H

#include "memory/pool.h"
#include "memory/record.h"
#include "tree/node.h"

static inline struct asp_node *asp_nodes_get(struct asp_pool *nodes)
{
	struct aspace_record *record = nodes->ready, *next;
	struct asp_node *node;

	if (!record)
		return (struct asp_node *)asp_pool_get(nodes, sizeof(*node));
#ifdef ASPACE_TESTING
	if (!nodes->promised--)
		__builtin_trap();
#endif
	node = record->node[--record->nodes];
	next = record->next;
	if (next && record->nodes < next->nodes)
		asp_pool_prefetch(next->node[record->nodes], sizeof(*node));
	nodes->available--;
	if (!record->nodes) {
		nodes->ready = next;
		/* Its nodes are fetched an update from now: so it must be here by then. */
		if (next)
			asp_pool_prefetch(next->next, sizeof(*next));
		asp_pool_put(nodes->records, record, sizeof(*record));
	}
	asp_thaw(node, sizeof(*node));
	asp_unpoison(node, sizeof(*node));
	return node;
}

static inline void asp_nodes_put(struct asp_pool *nodes, struct asp_node *node)
{
	asp_thaw(node, sizeof(*node));
	asp_pool_put(nodes, node, sizeof(*node));
}

/* Takes all nodes of the list back, with their records. */
static inline void asp_nodes_put_all(struct asp_pool *nodes, struct aspace_record_list *list)
{
	if (!list->head)
		return;
	nodes->available += list->count;
	if (atomic_load_explicit(&asp_watched, memory_order_relaxed)) {
		for (struct aspace_record *record = list->head; record; record = record->next) {
			for (size_t i = 0; i < record->nodes; i++)
				asp_poison(record->node[i], sizeof(*record->node[i]));
		}
	}
	/* In front: what has been out of use for the shortest time is used first. */
	list->tail->next = nodes->ready;
	nodes->ready = list->head;
	*list = (struct aspace_record_list){0};
}

/* Moves those in records to where trimming finds them. */
static inline void asp_nodes_unpack(struct asp_pool *nodes)
{
	struct aspace_record *record;

	while ((record = nodes->ready) != NULL) {
		nodes->ready = record->next;
		nodes->available -= record->nodes;
		for (size_t i = 0; i < record->nodes; i++) {
			asp_unpoison(record->node[i], sizeof(*record->node[i]));
			asp_nodes_put(nodes, record->node[i]);
		}
		asp_pool_put(nodes->records, record, sizeof(*record));
	}
}

#endif
