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
 *  P1  available == length of the free list + objects never handed out
 *  P2  every free object lies in a block of the pool, on an object boundary
 */
#ifndef ASPACE_MEMORY_POOL_H
#define ASPACE_MEMORY_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aspace_page_ops;
struct asp_block;

struct asp_pool {
	size_t object_size;
	void *free;       /* the first word of a free object is the next one */
	size_t available; /* objects that get can hand out */
	size_t held;      /* objects that reserve leaves alone: for work that must not fail later */
	size_t in_use;
	size_t bytes_mapped;
	struct asp_block *blocks;
	struct asp_block *fresh; /* the block whose never-used part get cuts from */
	const struct aspace_page_ops *pages;
	void *pages_ctx;
#ifdef ASPACE_TESTING
	size_t promised; /* by the last reservation: get must not take more */
#endif
};

void asp_pool_init(struct asp_pool *pool, size_t object_size, const struct aspace_page_ops *pages,
		   void *pages_ctx);

/* Gives every block back, objects in use included. */
void asp_pool_destroy(struct asp_pool *pool);

bool asp_pool_grow(struct asp_pool *pool, size_t count);

/* After true, `count` calls of asp_pool_get succeed, and `held` objects remain. */
static inline bool asp_pool_reserve(struct asp_pool *pool, size_t count)
{
#ifdef ASPACE_TESTING
	extern bool asp_test_fail(void);
	if (asp_test_fail())
		return false;
	pool->promised = count;
#endif
	if (__builtin_expect(pool->available >= count + pool->held, 1))
		return true;
	return asp_pool_grow(pool, count);
}

/* Never NULL after a reservation. The contents are whatever they were. */
void *asp_pool_get(struct asp_pool *pool);

void asp_pool_put(struct asp_pool *pool, void *object);

/* Gives blocks without an object in use back. O(objects free). */
void asp_pool_trim(struct asp_pool *pool);

/* The number of the first invariant that does not hold, or 0. */
unsigned asp_pool_validate(const struct asp_pool *pool);

#endif
