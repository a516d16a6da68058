/* SPDX-License-Identifier: MIT */
/*
 * Memory of the mock: pages of its own, of which pieces are handed out and all are given back
 * at once. Never malloc's.
 */
#include "private.h"

#include <sys/mman.h>

#define ARENA_CHUNK_MIN (UINT64_C(64) << 10)
#define ARENA_CHUNK_MAX (UINT64_C(4) << 20)

void *asp_mock_memory(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void asp_mock_memory_free(void *memory, uint64_t size)
{
	munmap(memory, size);
}

struct asp_mock_chunk *asp_mock_arena_grow(struct asp_mock_arena *arena, uint64_t payload)
{
	uint64_t size = arena->newest ? arena->newest->size * 2 : ARENA_CHUNK_MIN;
	struct asp_mock_chunk *chunk;

	if (size > ARENA_CHUNK_MAX)
		size = ARENA_CHUNK_MAX;
	if (size < payload + sizeof(*chunk))
		size = asp_mock_round_up(payload + sizeof(*chunk), 4096);
	chunk = asp_mock_memory(size);
	if (!chunk)
		return NULL;
	chunk->size = size;
	chunk->used = sizeof(*chunk);
	chunk->next = arena->newest;
	arena->newest = chunk;
	atomic_fetch_add_explicit(&arena->bytes, size, memory_order_relaxed);
	return chunk;
}

void *asp_mock_arena_alloc(struct asp_mock_arena *arena, uint64_t size)
{
	struct asp_mock_chunk *chunk = arena->newest;
	void *p;

	if (!chunk || chunk->size - chunk->used < size) {
		chunk = asp_mock_arena_grow(arena, size);
		if (!chunk)
			return NULL;
	}
	p = (char *)chunk + chunk->used;
	chunk->used += size;
	return p;
}

void asp_mock_arena_free(struct asp_mock_arena *arena)
{
	while (arena->newest) {
		struct asp_mock_chunk *chunk = arena->newest;

		arena->newest = chunk->next;
		munmap(chunk, chunk->size);
	}
	atomic_store_explicit(&arena->bytes, 0, memory_order_relaxed);
}
