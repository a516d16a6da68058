/* SPDX-License-Identifier: MIT */
/*
 * What follows from the comparisons of a set; included by the header of each.
 */
#define ASP_OF_VECTOR_(name, vector) asp_##name##_##vector
#define ASP_OF_VECTOR(name, vector)  ASP_OF_VECTOR_(name, vector)
/* What the set calls its `name` where others see it. */
#define OF_VECTOR(name) ASP_OF_VECTOR(name, VECTOR)

/* From this level of the root on, leaves are likely not to be in a near cache. */
#define TALL 4u

/* On the way of every lookup; the compiler would make calls of them. */
#define INLINE VECTOR_TARGET static inline __attribute__((always_inline))

/* Off that way. */
#define NOINLINE VECTOR_TARGET static __attribute__((noinline))

/* The first key of all. */
VECTOR_TARGET static inline uint64_t first_key(const struct asp_node *root)
{
	return root->level ? root->inner.first[0] : root->leaf.start[0];
}

/* How many keys are at most the address, which is below ASP_NO_KEY. */
VECTOR_TARGET static inline unsigned count_le(const uint64_t *key, unsigned total, uint64_t address)
{
	return (unsigned)count_below(key, total, spread(address + 1));
}

/* The lines of a leaf that hold one array or the other. */
VECTOR_TARGET static inline void prefetch_slots(const struct asp_node *leaf)
{
	for (unsigned i = 0; i < ASP_LEAF_MAX; i += 64 / sizeof(struct asp_slot))
		__builtin_prefetch(&leaf->leaf.slot[i]);
}

VECTOR_TARGET static inline void prefetch_children(const struct asp_node *node)
{
	__builtin_prefetch(&node->inner.child[0]);
	__builtin_prefetch(&node->inner.child[ASP_INNER_MAX / 2]);
}
