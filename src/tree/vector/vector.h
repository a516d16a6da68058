/* SPDX-License-Identifier: MIT */
/*
 * What the tree does by the widest registers that the CPU has: searches of nodes, of which lookups
 * inline the comparisons, gap searches, and what edits do to whole nodes.
 *
 * There is a set of functions for each kind of registers. NAME.h, for those who compile something
 * of their own for the set, defines
 *
 *   VECTOR          the set's name
 *   VECTOR_TARGET   the attribute by which the compiler may use its registers
 *   VECTOR_WIDTH    how many bytes they have
 *   asp_bound       what keys are compared with, in the form in which it is wanted
 *   static inline asp_bound spread(uint64_t bound)
 *   static inline size_t count_below(const uint64_t *key, unsigned total, asp_bound bound)
 *                   how many keys are below the bound; total: ASP_LEAF_MAX or ASP_INNER_MAX
 *   static inline struct asp_offers inner_offers(const struct asp_node *node, uint64_t need)
 *   static inline unsigned leaf_offers(const struct asp_node *leaf, uint64_t need)
 *   static inline uint64_t inner_gap(const struct asp_node *node)
 *                   as those of tree/search.h
 *
 * and what follows from these (common.h). NAME.c compiles edit_body.h and gap_body.h with it
 * (body.h).
 */
#ifndef ASPACE_TREE_VECTOR_H
#define ASPACE_TREE_VECTOR_H

#include "tree/tree.h"

struct asp_vector {
	const char *name;
	struct asp_edit_ops edit;
	/* The lowest and the highest place where the query fits, in any version; false: none. */
	bool (*find_lowest)(const struct asp_gap_query *query, const struct asp_node *root,
			    uint64_t *answer);
	bool (*find_highest)(const struct asp_gap_query *query, const struct asp_node *root,
			     uint64_t *answer);
};

extern const struct asp_vector asp_vector_portable;
#if defined(__x86_64__) && !defined(ASPACE_FANOUT) && !defined(ASPACE_BARE_METAL)
#define ASP_VECTOR_X86 1
extern const struct asp_vector asp_vector_avx2, asp_vector_avx512;
#endif
/* Advanced SIMD is part of the architecture; a kernel's build may do without. */
#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(ASPACE_FANOUT) &&                      \
	!defined(ASPACE_BARE_METAL)
#define ASP_VECTOR_NEON 1
extern const struct asp_vector asp_vector_neon;
#endif

/* Can this CPU run the set? */
bool asp_vector_runs(const struct asp_vector *vector);

#endif
