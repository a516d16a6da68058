/* SPDX-License-Identifier: MIT */
/*
 * The object pool; see pool.h for its invariants.
 */
#include "memory/pool.h"
#include "memory/record.h"

#include <aspace/aspace.h>

#define BLOCK_UNIT ((size_t)64 << 10)
#define BLOCK_HUGE ((size_t)2 << 20)

/* The head of a block; objects follow at multiples of object_size from BLOCK_HEAD on. */
struct asp_block {
	struct asp_block *next;
	size_t size;
	size_t total; /* objects that fit */
	size_t used;  /* objects handed out at least once: the rest is untouched memory */
	size_t idle;  /* trim: how many of its objects are free */
	struct asp_block *below[2]; /* index_blocks(): those at lower and at higher addresses */
};

#ifdef ASPACE_FROZEN
#define BLOCK_HEAD 4096 /* what is behind it may be pages that are frozen */
#else
#define BLOCK_HEAD 64
#endif

_Static_assert(sizeof(struct asp_block) <= BLOCK_HEAD, "block head grew");

#ifdef ASPACE_TESTING
/* Failure injection: the n-th reservation from now fails, once or from then on. */
long asp_test_fail_at = -1;
bool asp_test_fail_forever;
unsigned long asp_test_reservations;
unsigned long asp_test_failures;

bool asp_test_fail(void);
bool asp_test_fail(void)
{
	/* Relaxed: spaces of a program share them, and nothing fails but in one thread. */
	__atomic_add_fetch(&asp_test_reservations, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&asp_test_fail_at, __ATOMIC_RELAXED) < 0)
		return false;
	if (asp_test_fail_at > 0) {
		asp_test_fail_at--;
		return false;
	}
	if (!asp_test_fail_forever)
		asp_test_fail_at = -1;
	asp_test_failures++;
	return true;
}
#endif

static char *object_at(const struct asp_pool *pool, struct asp_block *block, size_t index)
{
	return (char *)block + BLOCK_HEAD + index * pool->object_size;
}

void asp_pool_init(struct asp_pool *pool, size_t object_size, const struct aspace_page_ops *pages,
		   void *pages_ctx)
{
	asp_watch();
	*pool = (struct asp_pool){
		.object_size = object_size,
		.pages = pages,
		.pages_ctx = pages_ctx,
	};
}

static void block_free(struct asp_pool *pool, struct asp_block *block)
{
	size_t size = block->size;

	asp_thaw(block, size);
	asp_unpoison(block, size);
	pool->bytes_mapped -= size;
	pool->pages->free(pool->pages_ctx, block, size);
}

void asp_pool_destroy(struct asp_pool *pool)
{
	while (pool->blocks) {
		struct asp_block *block = pool->blocks;

		pool->blocks = block->next;
		block_free(pool, block);
	}
	asp_pool_init(pool, pool->object_size, pool->pages, pool->pages_ctx);
}

/* Each block doubles the pool, so that there are few of them, up to a size that huge pages
 * serve well; a large request gets one block of its own. */
bool asp_pool_grow(struct asp_pool *pool, size_t count)
{
	size_t need =
		count + pool->held > pool->available ? count + pool->held - pool->available : 1;
	size_t size = pool->bytes_mapped < BLOCK_HUGE ? pool->bytes_mapped : 2 * BLOCK_HUGE;
	struct asp_block *block;

	if (need > (SIZE_MAX / 2) / pool->object_size)
		return false;
	if (size < BLOCK_HEAD + need * pool->object_size)
		size = BLOCK_HEAD + need * pool->object_size;
	size = (size + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT;

	block = pool->pages->alloc(pool->pages_ctx, size);
	if (!block)
		return false;
	*block = (struct asp_block){
		.next = pool->blocks,
		.size = size,
		.total = (size - BLOCK_HEAD) / pool->object_size,
	};
	asp_poison((char *)block + BLOCK_HEAD, size - BLOCK_HEAD);
	pool->blocks = block;
	if (!pool->fresh)
		pool->fresh = block;
	pool->available += block->total;
	pool->total += block->total;
	pool->bytes_mapped += size;
	return true;
}

/* The block to cut never-used objects from. Any with room will do: they all
 * count as available. */
static struct asp_block *fresh_block(struct asp_pool *pool)
{
	if (!pool->fresh || pool->fresh->used == pool->fresh->total) {
		struct asp_block *block = pool->blocks;

		while (block && block->used == block->total)
			block = block->next;
		pool->fresh = block;
	}
	return pool->fresh;
}

void *asp_pool_get_fresh(struct asp_pool *pool)
{
	struct asp_block *block = fresh_block(pool);
	void *object;

	if (!block)
		return NULL;
	object = object_at(pool, block, block->used++);
	asp_unpoison(object, pool->object_size);
	pool->available--;
	return object;
}

static void *next_free(const struct asp_pool *pool, void *object)
{
	void *next;

	asp_unpoison(object, pool->object_size);
	next = *(void **)object;
	asp_poison(object, pool->object_size);
	return next;
}

/* ---- Which block an object is in ------------------------------------------ */

static bool is_sorted(const struct asp_block *a, const struct asp_block *b)
{
	return (uintptr_t)a < (uintptr_t)b;
}

#define SORT_TYPE struct asp_block
#include "memory/sort_body.h"

/* The first `count` blocks of the list as a balanced tree; *list moves on. */
static struct asp_block *plant_blocks(struct asp_block **list, size_t count)
{
	struct asp_block *lower, *top;

	if (!count)
		return NULL;
	lower = plant_blocks(list, count / 2);
	top = *list;
	*list = top->next;
	top->below[0] = lower;
	top->below[1] = plant_blocks(list, count - count / 2 - 1);
	return top;
}

/* The blocks as a tree for block_of(), until one comes or goes. */
static struct asp_block *index_blocks(struct asp_pool *pool)
{
	struct asp_block *rest;
	size_t count = 0;

	rest = pool->blocks = sort(pool->blocks);
	for (struct asp_block *block = rest; block; block = block->next)
		count++;
	return plant_blocks(&rest, count);
}

static bool is_in(const struct asp_block *block, const void *object)
{
	return (uintptr_t)object - (uintptr_t)block < block->size;
}

/* `guess`: mostly an object is in the same block as the one before it. */
static struct asp_block *block_of(struct asp_block *index, struct asp_block *guess,
				  const void *object)
{
	if (guess && is_in(guess, object))
		return guess;
	while (index && !is_in(index, object))
		index = index->below[(uintptr_t)object > (uintptr_t)index];
	return index;
}

/* ---- Trimming ------------------------------------------------------------- */

void asp_pool_trim(struct asp_pool *pool)
{
	struct asp_block *index = index_blocks(pool), *block, **link;
	void *object, *kept = NULL, *next;
	size_t spare = pool->available > pool->held ? pool->available - pool->held : 0;

	for (block = pool->blocks; block; block = block->next)
		block->idle = block->total - block->used;
	for (object = pool->free; object; object = next_free(pool, object)) {
		block = block_of(index, block, object);
		block->idle++;
	}

	/* A block goes if nothing in it is in use and what is held stays covered;
	 * idle becomes SIZE_MAX for those that go. */
	for (block = pool->blocks; block; block = block->next) {
		if (block->idle == block->total && block->total <= spare) {
			spare -= block->total;
			pool->available -= block->total;
			pool->total -= block->total;
			block->idle = SIZE_MAX;
		}
	}

	for (object = pool->free; object; object = next) {
		next = next_free(pool, object);
		block = block_of(index, block, object);
		if (block->idle == SIZE_MAX)
			continue;
		asp_unpoison(object, pool->object_size);
		*(void **)object = kept;
		asp_poison(object, pool->object_size);
		kept = object;
	}
	pool->free = kept;
	pool->fresh = NULL;

	for (link = &pool->blocks; (block = *link) != NULL;) {
		if (block->idle == SIZE_MAX) {
			*link = block->next;
			block_free(pool, block);
		} else {
			link = &block->next;
		}
	}
}

unsigned asp_pool_validate(struct asp_pool *pool)
{
	struct asp_block *index = index_blocks(pool), *block;
	size_t count = 0;
	void *object;

	for (block = pool->blocks; block; block = block->next)
		count += block->total - block->used;
	for (const struct aspace_record *record = pool->ready; record; record = record->next)
		count += record->nodes;
	for (object = pool->free; object; object = next_free(pool, object)) {
		block = block_of(index, block, object);
		if (!block || (uintptr_t)object < (uintptr_t)block + BLOCK_HEAD ||
		    ((uintptr_t)object - (uintptr_t)block - BLOCK_HEAD) % pool->object_size != 0)
			return 2;
		if (++count > pool->available)
			return 1;
	}
	if (count != pool->available)
		return 1;
	return 0;
}
