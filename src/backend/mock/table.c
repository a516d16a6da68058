/* SPDX-License-Identifier: MIT */
/*
 * The mock's page table: a ConcurrencyKit ck_ht (one writer, many readers, direct mode) from
 * block number + 1 to a block of 64 page words. You might wonder why the hash table
 * does not hold the pages themselves. Three reasons:
 *  - 2^64 - 1 pages of one byte do not fit into its keys, of which two mean "empty" and
 *    "removed"; block numbers leave room for both.
 *  - In direct mode a reader may pair a removed entry's key with the value of the entry
 *    that took its slot. We never remove, so there is no such reader.
 *  - Removals leave tombstones, which lengthen every later probe: after millions of
 *    map and unmap calls the table would crawl.
 * And a change of many pages looks up one block in 64 pages.
 */
#include "private.h"

#include <string.h>

/*
 * ck_ht's hooks get no context, so the table that is being worked on is named here.
 * All its memory is freed at once, with the table: invariant 6, and no list to keep.
 */
static _Thread_local struct asp_mock_arena *ck_arena;

static void *ck_alloc(size_t size)
{
	struct asp_mock_chunk *chunk = asp_mock_arena_grow(ck_arena, size);

	return chunk ? chunk + 1 : NULL;
}

static void ck_free(void *p, size_t size, bool defer)
{
	(void)p;
	(void)size;
	(void)defer;
}

static struct ck_malloc ck_hooks = {.malloc = ck_alloc, .free = ck_free};

bool asp_mock_table_init(struct asp_mock_table *table, uint64_t blocks)
{
	bool made;

	memset(table, 0, sizeof(*table));
	ck_arena = &table->maps;
	made = ck_ht_init(&table->ht, CK_HT_MODE_DIRECT, NULL, &ck_hooks, blocks,
			  UINT64_C(0x9e3779b97f4a7c15));

	ck_arena = NULL;
	return made;
}

void asp_mock_table_free(struct asp_mock_table *table)
{
	asp_mock_arena_free(&table->maps);
	asp_mock_arena_free(&table->blocks);
}

struct asp_mock_block *asp_mock_table_get(struct asp_mock_table *table, uint64_t number)
{
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	ck_ht_hash_direct(&hash, &table->ht, number + 1);
	ck_ht_entry_key_set_direct(&entry, number + 1);
	if (!ck_ht_get_spmc(&table->ht, hash, &entry))
		return NULL;
	return (struct asp_mock_block *)ck_ht_entry_value_direct(&entry);
}

struct asp_mock_block *asp_mock_table_make(struct asp_mock_table *table, uint64_t number)
{
	struct asp_mock_block *block = asp_mock_table_get(table, number);
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	if (block)
		return block;
	block = asp_mock_arena_alloc(&table->blocks, sizeof(*block));
	if (!block)
		return NULL;
	ck_ht_hash_direct(&hash, &table->ht, number + 1);
	ck_ht_entry_set_direct(&entry, hash, number + 1, (uintptr_t)block);
	ck_arena = &table->maps;
	/* The block's zeroes come from the kernel, and its words are atomics: a reader
	 * that finds it needs nothing ordered that ck_ht does not order. */
	if (!ck_ht_put_spmc(&table->ht, hash, &entry)) {
		table->blocks.newest->used -= sizeof(*block);
		block = NULL;
	}
	ck_arena = NULL;
	return block;
}

static bool block_empty(struct asp_mock_block *block)
{
	for (uint64_t i = 0; i < ASP_MOCK_BLOCK_PAGES; i++) {
		if (asp_mock_word_load(&block->word[i]))
			return false;
	}
	return true;
}

bool asp_mock_table_copy(struct asp_mock_table *to, struct asp_mock_table *from)
{
	ck_ht_iterator_t iterator = CK_HT_ITERATOR_INITIALIZER;
	ck_ht_entry_t *entry;

	while (ck_ht_next(&from->ht, &iterator, &entry)) {
		struct asp_mock_block *old =
			(struct asp_mock_block *)ck_ht_entry_value_direct(entry);
		struct asp_mock_block *block;

		if (block_empty(old))
			continue;
		block = asp_mock_table_make(to, ck_ht_entry_key_direct(entry) - 1);
		if (!block)
			return false;
		for (uint64_t i = 0; i < ASP_MOCK_BLOCK_PAGES; i++)
			asp_mock_word_store(&block->word[i], asp_mock_word_load(&old->word[i]));
	}
	return true;
}
