/* SPDX-License-Identifier: MIT */
/*
 * What the treaps of the library share (Seidel and Aragon, "Randomized search trees", 1996): a
 * search tree in which nobody ranks below what is below it. With ranks that are as good as random it
 * is as flat as a tree that was filled in random order, and it needs no memory of its own.
 */
#ifndef ASPACE_MEMORY_TREAP_H
#define ASPACE_MEMORY_TREAP_H

#include <stdint.h>

/* The mixing of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
 * 2014): no two keys have the same rank. */
static inline uint64_t asp_treap_rank(uint64_t key)
{
	key = (key ^ (key >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	key = (key ^ (key >> 27)) * UINT64_C(0x94d049bb133111eb);
	return key ^ (key >> 31);
}

#endif
