/* SPDX-License-Identifier: MIT */
/*
 * Nodes of the tree: layout and invariants.
 *
 * A copy-on-write B+-tree. Leaves hold the areas themselves; an inner node holds,
 * for each child, its exact bounds and the greatest gap inside it:
 *
 *            first  last  gap  child          first: start of the first area below
 *     [0]     ...    ...  ...   o--> node     last:  end of the last area below
 *     [1]     ...    ...  ...   o--> node     gap:   greatest free stretch between
 *      :                                             two areas that both lie below
 *
 * The gap between two children is first[i + 1] - last[i]; none is stored, so an
 * edit never has to touch a neighbour.
 *
 * A published node is never written again. Whoever edits copies the path from
 * the root (tree/edit.c), so the root is new in every version, and its birth is
 * the version's number.
 *
 * Invariants (numbers for asp_tree_validate):
 *  T1  count is at most the maximum of its kind, and at least 1, except in an
 *      empty root leaf; at least the minimum of its kind, except in the root
 *      and on the right spine (appending splits leave full nodes behind)
 *  T2  start < end in every area; areas ascend and do not overlap
 *  T3  keys beyond count are ASP_NO_KEY
 *  T4  first, last and gap are exactly those of the child
 *  T5  every child's level is one less than its parent's; leaves have level 0
 *  T6  no node is older than a child: birth(child) <= birth(parent)
 *
 * Layout. Keys lie together, because search compares all of them; what belongs to
 * one area lies together, because a lookup needs one area: a cold lookup then
 * touches three lines of a leaf. The head is at the same place in both kinds.
 */
#ifndef ASPACE_TREE_NODE_H
#define ASPACE_TREE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <aspace/area.h>

#ifdef ASPACE_FANOUT
#define ASP_LEAF_MAX  ASPACE_FANOUT
#define ASP_INNER_MAX ASPACE_FANOUT
#define ASP_LEAF_MIN  (ASPACE_FANOUT / 2)
#define ASP_INNER_MIN (ASPACE_FANOUT / 2)
#else
/* 14 areas, their keys and the head fill nine cache lines exactly; an inner node
 * of 16 children fits into the same size. */
#define ASP_LEAF_MAX  14
#define ASP_INNER_MAX 16
/* Below half: a node that has just been split, or filled from a neighbour, is
 * some removals away from the next rebalancing. */
#define ASP_LEAF_MIN  5
#define ASP_INNER_MIN 5
#endif

#ifdef ASPACE_FROZEN
#define ASP_NODE_ALIGN 4096 /* a page of its own: platform.h, asp_freeze() */
#else
#define ASP_NODE_ALIGN 64 /* a line */
#endif

/* Any tree that fits into memory is lower: 4^24 leaves, 2^24 with fan-out 4. */
#define ASP_HEIGHT_MAX 26

/* Fills unused keys. No area starts here: ends are at most 2^64 - 1. Searches clamp
 * the address below it, so it never counts as "less or equal". */
#define ASP_NO_KEY UINT64_MAX

/* The library's own flag bits, inside ASPACE_FLAGS_RESERVED. */
#define ASP_FLAG_LEAVING (UINT64_C(1) << 63) /* unmapped, waits for a grace period */
#define ASP_FLAG_PENDING (UINT64_C(1) << 62) /* private trees only: see update/pending.c */

struct asp_slot {
	uint64_t end;
	uint64_t flags;
	struct aspace_backend *backend;
	void *user;
};

struct asp_node {
	union {
		struct {
			struct asp_slot slot[ASP_LEAF_MAX];
			uint64_t start[ASP_LEAF_MAX];
		} leaf;
		struct {
			uint64_t last[ASP_INNER_MAX];
			uint64_t gap[ASP_INNER_MAX];
			struct asp_node *child[ASP_INNER_MAX];
			uint64_t first[ASP_INNER_MAX];
		} inner;
	};
	uint64_t birth; /* the version that the node was made for */
	uint16_t count;
	uint16_t level; /* 0 is a leaf */
	uint32_t unused;
} __attribute__((aligned(ASP_NODE_ALIGN)));

#if !defined(ASPACE_FANOUT) && !defined(ASPACE_FROZEN)
_Static_assert(sizeof(struct asp_node) == 576, "a node is nine cache lines");
#endif
#ifndef ASPACE_FANOUT
_Static_assert(offsetof(struct asp_node, leaf.start) % 64 == 0, "leaf keys begin a line");
#endif

static inline unsigned asp_node_max(const struct asp_node *node)
{
	return node->level ? ASP_INNER_MAX : ASP_LEAF_MAX;
}

static inline unsigned asp_node_min(const struct asp_node *node)
{
	return node->level ? ASP_INNER_MIN : ASP_LEAF_MIN;
}

#endif
