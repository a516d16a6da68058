/* SPDX-License-Identifier: MIT */
/*
 * A pool of objects of one size over large blocks from the page operations.
 *
 * Reservation and use are apart: asp_pool_reserve() may fail, asp_pool_get() after
 * it cannot. That is how an operation acquires first and acts later. All calls
 * are made under the writer lock of the space that owns the pool.
 *
 * Freed objects come back last in, first out: the node that a grace period
 * has just given back is the one most likely still in cache.
 *
 * Invariants (numbers for asp_pool_validate):
 *  P1  available == length of the free list + objects never handed out + nodes in `ready`
 *  P2  every free object lies in a block of the pool, on an object boundary
 */
#ifndef ASPACE_MEMORY_POOL_H
#define ASPACE_MEMORY_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <aspace/aspace.h>

#include "platform/platform.h"

struct asp_block;

struct asp_pool {
	size_t object_size;
	void *free;       /* the first word of a free object is the next one */
	size_t available; /* objects that get can hand out */
	size_t held;      /* objects that reserve leaves alone: for what must not fail later */
	size_t total;     /* objects of all blocks */
	size_t bytes_mapped;
	struct asp_block *blocks;
	struct asp_block *fresh; /* the block whose never-used part get cuts from */
	/* tree/nodes.h: records of free objects, and where the records belong. */
	struct aspace_record *ready;
	struct asp_pool *records;
	const struct aspace_page_ops *pages;
	void *pages_ctx;
#ifdef ASPACE_TESTING
	size_t promised; /* by the last reservation: get must not take more */
	size_t hidden;   /* objects that reserve does not see */
#endif
};

void asp_pool_init(struct asp_pool *pool, size_t object_size, const struct aspace_page_ops *pages,
		   void *pages_ctx);

/* Gives every block back, objects in use included. */
void asp_pool_destroy(struct asp_pool *pool);

bool asp_pool_grow(struct asp_pool *pool, size_t count);

/* Could get hand out so many without touching those held? */
static inline bool asp_pool_has(const struct asp_pool *pool, size_t count)
{
#ifdef ASPACE_TESTING
	count += pool->hidden;
#endif
	return pool->available >= count + pool->held;
}

/* After true, `count` calls of asp_pool_get succeed, and `held` objects remain. */
static inline bool asp_pool_reserve(struct asp_pool *pool, size_t count)
{
#ifdef ASPACE_TESTING
	extern bool asp_test_fail(void);
	if (asp_test_fail())
		return false;
	pool->promised = count;
#endif
	if (__builtin_expect(asp_pool_has(pool, count), 1))
		return true;
	return asp_pool_grow(pool, count);
}

/* The next object has been out of use for a grace period, and may have left the cache.
 * Its memory is fetched while the one before it is filled in. */
static inline void asp_pool_prefetch(const void *object, size_t size)
{
#pragma GCC unroll 9
	for (size_t at = 0; at < size; at += 64) /* numbers: there may be none */
		__builtin_prefetch((const void *)((uintptr_t)object + at), 1);
}

void *asp_pool_get_fresh(struct asp_pool *pool);

/* Never NULL after a reservation. The contents are whatever they were. `size` is the
 * pool's, and a constant. */
static inline void *asp_pool_get(struct asp_pool *pool, size_t size)
{
	void *object = pool->free;

#ifdef ASPACE_TESTING
	if (!pool->promised--)
		__builtin_trap();
#endif
	if (__builtin_expect(!object, 0))
		return asp_pool_get_fresh(pool);
	asp_unpoison(object, size);
	pool->free = *(void **)object;
	asp_pool_prefetch(pool->free, size);
	pool->available--;
	return object;
}

static inline void asp_pool_put(struct asp_pool *pool, void *object, size_t size)
{
	*(void **)object = pool->free;
	asp_poison(object, size);
	pool->free = object;
	pool->available++;
#ifdef ASPACE_TESTING
	pool->promised++;
#endif
}

/* How many objects are handed out. */
static inline size_t asp_pool_in_use(const struct asp_pool *pool)
{
	return pool->total - pool->available;
}

/* Gives blocks without an object in use back; not those that `held` needs. O(objects free): each
 * is looked up among the blocks, whose number's logarithm is what a few steps take. */
void asp_pool_trim(struct asp_pool *pool);

/* The number of the first invariant that does not hold, or 0. */
unsigned asp_pool_validate(struct asp_pool *pool);

#endif
