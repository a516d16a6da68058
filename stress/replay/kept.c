/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "kept.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

/* At the begin of a block that is kept. */
struct kept {
	struct kept *next;
	size_t size;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept *blocks;

static void *take(void *ctx, size_t size)
{
	struct kept **link, *block;
	void *fresh;

	(void)ctx;
	pthread_mutex_lock(&lock);
	for (link = &blocks; (block = *link) != NULL && block->size != size; link = &block->next)
		;
	if (block)
		*link = block->next;
	pthread_mutex_unlock(&lock);
	if (block)
		return block;
	fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fresh == MAP_FAILED)
		return NULL;
	return memset(fresh, 0, size);
}

static void keep(void *ctx, void *memory, size_t size)
{
	struct kept *block = memory;

	(void)ctx;
	block->size = size;
	pthread_mutex_lock(&lock);
	block->next = blocks;
	blocks = block;
	pthread_mutex_unlock(&lock);
}

const struct aspace_page_ops *kept_pages(void)
{
	static const struct aspace_page_ops ops = {.alloc = take, .free = keep};

	return &ops;
}

void kept_release(void)
{
	struct kept *block;

	while ((block = blocks) != NULL) {
		blocks = block->next;
		munmap(block, block->size);
	}
}
