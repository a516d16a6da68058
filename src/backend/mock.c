/* SPDX-License-Identifier: MIT */
/*
 * The mock backend: a page table that one writer changes and any thread reads.
 *
 * The table is a ConcurrencyKit ck_ht (one writer, many readers, direct mode) from
 * block number + 1 to a block of 64 page words. You might wonder why the hash table
 * does not hold the pages themselves. Three reasons:
 *  - 2^64 - 1 pages of one byte do not fit into its keys, of which two mean "empty" and
 *    "removed"; block numbers leave room for both.
 *  - In direct mode a reader may pair a removed entry's key with the value of the entry
 *    that took its slot. We never remove, so there is no such reader.
 *  - Removals leave tombstones, which lengthen every later probe: after millions of
 *    map and unmap calls the table would crawl.
 * And a change of many pages looks up one block in 64 pages.
 *
 * A page word is zero (unmapped) or WORD_MAPPED, maybe WORD_POPULATED, and the flags, which
 * leave the top byte free (ASPACE_FLAGS_RESERVED).
 *
 * Invariants:
 *  1. Only the holder of `lock` writes the table, the log, the plans and the object list.
 *  2. A block, once in the table, stays there, under its key and at its address, until
 *     destroy or compact. So a reader needs no read section: what it found stays.
 *  3. A page word is one atomic: a reader sees a page's state of before or after a
 *     change, with flags that belong to it.
 *  4. A change checks everything, then reserves the blocks that it needs, then stores:
 *     what can fail comes before the first store.
 *  5. `pages` is the number of page words that are not zero.
 *  6. A hash map that the table has outgrown is kept until destroy or compact (readers
 *     may be in it). Sizes double, so the old ones together are no larger than the new.
 *  7. The references of all objects add up to `references`; an object with none has id 0.
 */
#include <aspace/backend/mock.h>

#include <ck_ht.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "options.h"

#define BLOCK_SHIFT 6
#define BLOCK_PAGES (UINT64_C(1) << BLOCK_SHIFT)

#define WORD_MAPPED    (UINT64_C(1) << 63)
#define WORD_POPULATED (UINT64_C(1) << 62)

#define PAGES_MAX_DEFAULT (UINT64_C(1) << 28)
#define LOG_MAX           (UINT64_C(1) << 32)

/* So many dead objects wait before the first of them is used again. */
#define QUARANTINE 4096

#define ARENA_CHUNK_MIN (UINT64_C(64) << 10)
#define ARENA_CHUNK_MAX (UINT64_C(4) << 20)

struct block {
	_Atomic uint64_t word[BLOCK_PAGES]; /* see word_load() */
};

/* What mmap gave, all of one purpose: blocks, objects, or ck_ht's maps. */
struct chunk {
	struct chunk *next;
	uint64_t size;
	uint64_t used;
	char pad[40]; /* keep what follows on cache lines of its own */
};

struct arena {
	struct chunk *newest;
	_Atomic uint64_t bytes; /* a figure; read without the lock, and pairs with nothing */
};

struct table {
	ck_ht_t ht;
	struct arena maps;
	struct arena blocks;
};

struct plan {
	uint64_t countdown; /* calls until the refusal, it included; 0: no plan */
	bool forever;
	enum aspace_status status;
};

struct aspace_mock_object {
	/* Sequentially consistent, as the default is: a mock is to be right rather than fast.
	 * Who takes the last reference away must see what the others did before they gave
	 * theirs up; the id is 0 from then on, for whoever looks at it too late. */
	_Atomic uint64_t references;
	_Atomic uint64_t id;
	struct aspace_mock *owner;
	struct aspace_mock_object *next; /* in quarantine */
};

struct aspace_mock {
	struct aspace_backend backend; /* first: see mock_of() */
	struct aspace_backend_ops ops; /* without what `mode` leaves out */
	pthread_mutex_t lock;
	unsigned mode;
	unsigned shift;
	uint64_t pages_max;

	/* Behind pointers, so that queries can take a const mock. */
	struct table *table;
	struct table table_storage;
	/* This and the following: counts, changed under the lock and read without it.
	 * Nothing is read because of what they say. */
	_Atomic uint64_t pages;

	_Atomic uint64_t calls[ASPACE_MOCK_CALLS];
	_Atomic uint64_t injected[ASPACE_MOCK_CALLS];
	struct plan plan[ASPACE_MOCK_CALLS];
	_Atomic uint64_t violations;
	/* Set once, before the first violation is counted: who sees the count sees it. */
	_Atomic(const char *) first_violation;

	/* CHECK_ORDER: the batch that is open. */
	uint64_t prepared;
	bool changed;

	struct aspace_mock_entry *log;
	uint64_t log_capacity;
	uint64_t log_count;

	struct arena objects;
	struct aspace_mock_object *quarantine_head, *quarantine_tail;
	uint64_t quarantined;
	uint64_t next_id;
	_Atomic uint64_t references; /* a count, too */
};

static struct aspace_mock *mock_of(struct aspace_backend *backend)
{
	return (struct aspace_mock *)backend;
}

/* ---- Memory ----------------------------------------------------------------- */

static void *pages_alloc(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

/* A new chunk for at least @payload bytes. */
static struct chunk *arena_grow(struct arena *arena, uint64_t payload)
{
	uint64_t size = arena->newest ? arena->newest->size * 2 : ARENA_CHUNK_MIN;
	struct chunk *chunk;

	if (size > ARENA_CHUNK_MAX)
		size = ARENA_CHUNK_MAX;
	if (size < payload + sizeof(*chunk))
		size = round_up(payload + sizeof(*chunk), 4096);
	chunk = pages_alloc(size);
	if (!chunk)
		return NULL;
	chunk->size = size;
	chunk->used = sizeof(*chunk);
	chunk->next = arena->newest;
	arena->newest = chunk;
	atomic_fetch_add_explicit(&arena->bytes, size, memory_order_relaxed);
	return chunk;
}

/* Zeroed; freed with the arena. @size is a multiple of 32. */
static void *arena_alloc(struct arena *arena, uint64_t size)
{
	struct chunk *chunk = arena->newest;
	void *p;

	if (!chunk || chunk->size - chunk->used < size) {
		chunk = arena_grow(arena, size);
		if (!chunk)
			return NULL;
	}
	p = (char *)chunk + chunk->used;
	chunk->used += size;
	return p;
}

static void arena_free(struct arena *arena)
{
	while (arena->newest) {
		struct chunk *chunk = arena->newest;

		arena->newest = chunk->next;
		munmap(chunk, chunk->size);
	}
	atomic_store_explicit(&arena->bytes, 0, memory_order_relaxed);
}

/*
 * ck_ht's hooks get no context, so the table that is being worked on is named here.
 * All its memory is freed at once, with the table: invariant 6, and no list to keep.
 */
static _Thread_local struct arena *ck_arena;

static void *ck_alloc(size_t size)
{
	struct chunk *chunk = arena_grow(ck_arena, size);

	return chunk ? chunk + 1 : NULL;
}

static void ck_free(void *p, size_t size, bool defer)
{
	(void)p;
	(void)size;
	(void)defer;
}

static struct ck_malloc ck_hooks = {.malloc = ck_alloc, .free = ck_free};

/* ---- The table ---------------------------------------------------------------- */

static bool table_init(struct table *table, uint64_t blocks)
{
	bool made;

	memset(table, 0, sizeof(*table));
	ck_arena = &table->maps;
	made = ck_ht_init(&table->ht, CK_HT_MODE_DIRECT, NULL, &ck_hooks, blocks,
			  UINT64_C(0x9e3779b97f4a7c15));

	ck_arena = NULL;
	return made;
}

static void table_free(struct table *table)
{
	arena_free(&table->maps);
	arena_free(&table->blocks);
}

/* The block of number @number, NULL if there is none. Any thread. */
static struct block *table_get(struct table *table, uint64_t number)
{
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	ck_ht_hash_direct(&hash, &table->ht, number + 1);
	ck_ht_entry_key_set_direct(&entry, number + 1);
	if (!ck_ht_get_spmc(&table->ht, hash, &entry))
		return NULL;
	return (struct block *)ck_ht_entry_value_direct(&entry);
}

/* The same, made where it is missing; NULL without memory. */
static struct block *table_make(struct table *table, uint64_t number)
{
	struct block *block = table_get(table, number);
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	if (block)
		return block;
	block = arena_alloc(&table->blocks, sizeof(*block));
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

/* Pages [at, end), which is not empty; the block of `at` is looked up once. */
struct cursor {
	struct table *table;
	uint64_t at, end;
	struct block *block;
	bool looked;
};

static struct cursor cursor_over(struct aspace_mock *mock, struct aspace_range range)
{
	return (struct cursor){
		.table = mock->table,
		.at = range.start.value >> mock->shift,
		.end = range.end.value >> mock->shift,
	};
}

static _Atomic uint64_t *cursor_word(struct cursor *cursor)
{
	if (!cursor->looked) {
		cursor->block = table_get(cursor->table, cursor->at >> BLOCK_SHIFT);
		cursor->looked = true;
	}
	return cursor->block ? &cursor->block->word[cursor->at & (BLOCK_PAGES - 1)] : NULL;
}

static void cursor_step(struct cursor *cursor)
{
	cursor->at++;
	if (!(cursor->at & (BLOCK_PAGES - 1)))
		cursor->looked = false;
}

/* From an unmapped page on: to the next block where this one does not exist. */
static void cursor_step_hole(struct cursor *cursor)
{
	if (cursor->block) {
		cursor_step(cursor);
		return;
	}
	cursor->looked = false;
	cursor->at = (cursor->at | (BLOCK_PAGES - 1)) + 1;
	if (cursor->at > cursor->end || !cursor->at)
		cursor->at = cursor->end;
}

static uint64_t word_load(const _Atomic uint64_t *word)
{
	return word ? atomic_load_explicit(word, memory_order_acquire) : 0;
}

/* Release: who sees the page's new state also sees what its writer did before. */
static void word_store(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

/* Is every page's word, populated or not, @expected (0: is none mapped)? */
static bool range_is(struct aspace_mock *mock, struct aspace_range range, uint64_t expected)
{
	struct cursor cursor = cursor_over(mock, range);

	while (cursor.at < cursor.end) {
		if ((word_load(cursor_word(&cursor)) & ~WORD_POPULATED) != expected)
			return false;
		if (expected)
			cursor_step(&cursor);
		else
			cursor_step_hole(&cursor);
	}
	return true;
}

static bool range_reserve(struct aspace_mock *mock, struct aspace_range range)
{
	uint64_t first = range.start.value >> mock->shift;
	uint64_t last = (range.end.value >> mock->shift) - 1;

	for (uint64_t n = first >> BLOCK_SHIFT; n <= last >> BLOCK_SHIFT; n++) {
		if (!table_make(mock->table, n))
			return false;
	}
	return true;
}

/* Store @word in every page; answers how many were mapped before. The blocks exist. */
static uint64_t range_fill(struct aspace_mock *mock, struct aspace_range range, uint64_t word)
{
	uint64_t mapped = 0;

	for (struct cursor c = cursor_over(mock, range); c.at < c.end; cursor_step(&c)) {
		_Atomic uint64_t *p = cursor_word(&c);

		mapped += word_load(p) != 0;
		word_store(p, word);
	}
	return mapped;
}

static uint64_t range_pages(const struct aspace_mock *mock, struct aspace_range range)
{
	return (range.end.value - range.start.value) >> mock->shift;
}

/* ---- Counting, refusing, logging ------------------------------------------------ */

static enum aspace_status violate(struct aspace_mock *mock, const char *what)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&mock->first_violation, &none, what);
	atomic_fetch_add(&mock->violations, 1);
	return ASPACE_BAD_STATE;
}

static bool plan_fires(struct plan *plan)
{
	if (!plan->countdown)
		return false;
	if (plan->countdown > 1) {
		plan->countdown--;
		return false;
	}
	if (!plan->forever)
		plan->countdown = 0;
	return true;
}

/* Count a call that may fail; the status that it is to fail with, or ASPACE_OK. */
static enum aspace_status enter(struct aspace_mock *mock, enum aspace_mock_call call)
{
	const enum aspace_mock_call order[] = {ASPACE_MOCK_ANY, call};
	enum aspace_status status = ASPACE_OK;

	for (int i = 0; i < 2; i++) {
		enum aspace_mock_call kind = order[i];

		atomic_fetch_add(&mock->calls[kind], 1);
		/* Both plans count every call, also one that the other refuses. */
		if (plan_fires(&mock->plan[kind]) && status == ASPACE_OK) {
			status = mock->plan[kind].status;
			atomic_fetch_add(&mock->injected[kind], 1);
		}
	}
	return status;
}

static void log_entry(struct aspace_mock *mock, const struct aspace_mock_entry *entry)
{
	if (mock->log)
		mock->log[mock->log_count % mock->log_capacity] = *entry;
	mock->log_count++;
}

static void log_change(struct aspace_mock *mock, enum aspace_mock_call call,
		       const struct aspace_change *change, enum aspace_status status)
{
	const struct aspace_mock_entry entry = {
		.call = call,
		.status = status,
		.undo = change->undo,
		.kind = change->kind,
		.range = change->range,
		.destination = change->destination,
		.old_flags = change->old_flags,
		.new_flags = change->new_flags,
	};

	log_entry(mock, &entry);
}

/* ---- Changes ---------------------------------------------------------------------- */

static bool range_usable(const struct aspace_mock *mock, struct aspace_range range)
{
	uint64_t mask = (UINT64_C(1) << mock->shift) - 1;

	return range.start.value < range.end.value && !(range.start.value & mask) &&
	       !(range.end.value & mask);
}

static struct aspace_range range_at(struct aspace_range range, struct aspace_vaddr start)
{
	return aspace_range_of(start.value, start.value + (range.end.value - range.start.value));
}

/* Is the change one that the library may send at all? */
static enum aspace_status check_form(struct aspace_mock *mock, const struct aspace_change *change)
{
	bool uses_old = change->kind != ASPACE_CHANGE_MAP && change->kind != ASPACE_CHANGE_REPLACE;
	bool uses_new = change->kind != ASPACE_CHANGE_UNMAP && change->kind != ASPACE_CHANGE_MOVE;
	struct aspace_range to;

	if (!range_usable(mock, change->range))
		return violate(mock, "an empty, wrapping or misaligned range");
	if ((uses_old && (change->old_flags & ~mock->backend.flags_mask)) ||
	    (uses_new && (change->new_flags & ~mock->backend.flags_mask)))
		return violate(mock, "flags that were not declared");
	if (change->kind == ASPACE_CHANGE_MOVE) {
		to = range_at(change->range, change->destination);
		if (!range_usable(mock, to))
			return violate(mock, "a wrapping or misaligned destination");
		if (to.start.value < change->range.end.value &&
		    change->range.start.value < to.end.value)
			return violate(mock, "a move onto itself");
	}
	return ASPACE_OK;
}

static enum aspace_status check_order(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!(mock->mode & ASPACE_MOCK_CHECK_ORDER))
		return ASPACE_OK;
	mock->changed = true;
	if (change->undo)
		return ASPACE_OK;
	if (!mock->prepared)
		return violate(mock, "a change without a prepare");
	mock->prepared--;
	return ASPACE_OK;
}

static uint64_t fresh_word(const struct aspace_mock *mock, uint64_t flags)
{
	return WORD_MAPPED | flags | (mock->mode & ASPACE_MOCK_LAZY ? 0 : WORD_POPULATED);
}

static enum aspace_status do_map(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!range_is(mock, change->range, 0))
		return violate(mock, "map of a mapped page");
	if (!range_reserve(mock, change->range))
		return ASPACE_NO_MEMORY;
	range_fill(mock, change->range, fresh_word(mock, change->new_flags));
	atomic_fetch_add(&mock->pages, range_pages(mock, change->range));
	return ASPACE_OK;
}

static enum aspace_status do_unmap(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!range_is(mock, change->range, WORD_MAPPED | change->old_flags))
		return violate(mock, "unmap of what is not mapped so");
	range_fill(mock, change->range, 0);
	atomic_fetch_sub(&mock->pages, range_pages(mock, change->range));
	return ASPACE_OK;
}

static enum aspace_status do_protect(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!range_is(mock, change->range, WORD_MAPPED | change->old_flags))
		return violate(mock, "protect of what is not mapped so");
	for (struct cursor c = cursor_over(mock, change->range); c.at < c.end; cursor_step(&c)) {
		_Atomic uint64_t *word = cursor_word(&c);

		word_store(word,
			   WORD_MAPPED | change->new_flags | (word_load(word) & WORD_POPULATED));
	}
	return ASPACE_OK;
}

static enum aspace_status do_replace(struct aspace_mock *mock, const struct aspace_change *change)
{
	uint64_t mapped;

	if (range_is(mock, change->range, 0))
		return violate(mock, "replace where nothing is mapped");
	if (!range_reserve(mock, change->range))
		return ASPACE_NO_MEMORY;
	mapped = range_fill(mock, change->range, fresh_word(mock, change->new_flags));
	atomic_fetch_add(&mock->pages, range_pages(mock, change->range) - mapped);
	return ASPACE_OK;
}

static enum aspace_status do_move(struct aspace_mock *mock, const struct aspace_change *change)
{
	struct aspace_range range = range_at(change->range, change->destination);
	struct cursor to = cursor_over(mock, range);

	if (!range_is(mock, change->range, WORD_MAPPED | change->old_flags))
		return violate(mock, "move of what is not mapped so");
	if (!range_is(mock, range, 0))
		return violate(mock, "move to a mapped page");
	if (!range_reserve(mock, range))
		return ASPACE_NO_MEMORY;
	for (struct cursor c = cursor_over(mock, change->range); c.at < c.end; cursor_step(&c)) {
		word_store(cursor_word(&to), word_load(cursor_word(&c)));
		cursor_step(&to);
	}
	range_fill(mock, change->range, 0);
	return ASPACE_OK;
}

typedef enum aspace_status change_fn(struct aspace_mock *mock, const struct aspace_change *change);

/* What all changes have in common around @apply. */
static enum aspace_status change_with(struct aspace_backend *backend,
				      const struct aspace_change *change,
				      enum aspace_mock_call call, enum aspace_change_kind kind,
				      change_fn *apply)
{
	struct aspace_mock *mock = mock_of(backend);
	enum aspace_status status, refusal;

	pthread_mutex_lock(&mock->lock);
	/* A bad call is told even where a refusal is planned. */
	status = change->kind == kind ? check_form(mock, change)
				      : violate(mock, "a change of another kind than the call");
	if (status == ASPACE_OK)
		status = check_order(mock, change);
	refusal = enter(mock, call);
	if (status == ASPACE_OK)
		status = refusal;
	/* Before anything walks the pages: they may be 2^64. */
	if (status == ASPACE_OK && range_pages(mock, change->range) > mock->pages_max)
		status = ASPACE_NO_MEMORY;
	if (status == ASPACE_OK)
		status = apply(mock, change);
	log_change(mock, call, change, status);
	pthread_mutex_unlock(&mock->lock);
	return status;
}

static enum aspace_status mock_map(struct aspace_backend *backend,
				   const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_MAP, ASPACE_CHANGE_MAP, do_map);
}

static enum aspace_status mock_unmap(struct aspace_backend *backend,
				     const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_UNMAP, ASPACE_CHANGE_UNMAP, do_unmap);
}

static enum aspace_status mock_protect(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_PROTECT, ASPACE_CHANGE_PROTECT, do_protect);
}

static enum aspace_status mock_replace(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_REPLACE, ASPACE_CHANGE_REPLACE, do_replace);
}

static enum aspace_status mock_move(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_MOVE, ASPACE_CHANGE_MOVE, do_move);
}

/* The blocks that the change will need. Those of an operation that fails stay: empty
 * blocks are no more than memory (invariant 2). */
static enum aspace_status reserve_for(struct aspace_mock *mock, const struct aspace_change *change)
{
	struct aspace_range range = change->range;

	if (change->kind == ASPACE_CHANGE_MOVE)
		range = range_at(range, change->destination);
	else if (change->kind != ASPACE_CHANGE_MAP && change->kind != ASPACE_CHANGE_REPLACE)
		return ASPACE_OK;
	return range_reserve(mock, range) ? ASPACE_OK : ASPACE_NO_MEMORY;
}

static enum aspace_status mock_prepare(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	struct aspace_mock *mock = mock_of(backend);
	enum aspace_status status, refusal;

	pthread_mutex_lock(&mock->lock);
	status = check_form(mock, change);
	if (status == ASPACE_OK && (mock->mode & ASPACE_MOCK_CHECK_ORDER) && mock->changed)
		status = violate(mock, "a prepare after a change");
	refusal = enter(mock, ASPACE_MOCK_PREPARE);
	if (status == ASPACE_OK)
		status = refusal;
	if (status == ASPACE_OK && range_pages(mock, change->range) > mock->pages_max)
		status = ASPACE_NO_MEMORY;
	if (status == ASPACE_OK)
		status = reserve_for(mock, change);
	if (status == ASPACE_OK)
		mock->prepared++;
	log_change(mock, ASPACE_MOCK_PREPARE, change, status);
	pthread_mutex_unlock(&mock->lock);
	return status;
}

static void mock_flush(struct aspace_backend *backend)
{
	struct aspace_mock *mock = mock_of(backend);
	const struct aspace_mock_entry entry = {.call = ASPACE_MOCK_FLUSH};

	pthread_mutex_lock(&mock->lock);
	atomic_fetch_add(&mock->calls[ASPACE_MOCK_FLUSH], 1);
	mock->prepared = 0;
	mock->changed = false;
	log_entry(mock, &entry);
	pthread_mutex_unlock(&mock->lock);
}

static enum aspace_status do_fault(struct aspace_mock *mock, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	struct block *block;
	_Atomic uint64_t *word;
	uint64_t page = address.value >> mock->shift;

	if (address.value < area->start.value || address.value >= area->end.value)
		return violate(mock, "fault outside of the area");
	if (area->backend != &mock->backend)
		return violate(mock, "fault in another backend's area");
	block = table_get(mock->table, page >> BLOCK_SHIFT);
	word = block ? &block->word[page & (BLOCK_PAGES - 1)] : NULL;
	if ((word_load(word) & ~WORD_POPULATED) != (WORD_MAPPED | area->flags))
		return violate(mock, "fault in what is not mapped so");
	if ((mock->mode & ASPACE_MOCK_CHECK_ACCESS) && (access & ~area->flags & 7))
		return ASPACE_ACCESS_DENIED;
	word_store(word, word_load(word) | WORD_POPULATED);
	return ASPACE_OK;
}

static enum aspace_status mock_fault(struct aspace_backend *backend, const struct aspace_area *area,
				     struct aspace_vaddr address, unsigned access)
{
	struct aspace_mock *mock = mock_of(backend);
	struct aspace_mock_entry entry = {
		.call = ASPACE_MOCK_FAULT,
		.range = {address, address},
		.old_flags = area->flags,
		.new_flags = access,
	};

	pthread_mutex_lock(&mock->lock);
	entry.status = enter(mock, ASPACE_MOCK_FAULT);
	if (entry.status == ASPACE_OK)
		entry.status = do_fault(mock, area, address, access);
	log_entry(mock, &entry);
	pthread_mutex_unlock(&mock->lock);
	return entry.status;
}

static uint64_t mock_fault_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)area;
	return UINT64_C(1) << mock_of(backend)->shift;
}

static bool mock_can_merge(struct aspace_backend *backend, const struct aspace_area *left,
			   const struct aspace_area *right)
{
	struct aspace_mock *mock = mock_of(backend);

	atomic_fetch_add(&mock->calls[ASPACE_MOCK_CAN_MERGE], 1);
	if (left->backend != backend || right->backend != backend || left->flags != right->flags ||
	    left->end.value != right->start.value)
		violate(mock, "can_merge of areas that are no equal neighbours");
	return mock->mode & ASPACE_MOCK_MERGE_ALWAYS;
}

/* ---- Objects ------------------------------------------------------------------------ */

static void object_put(struct aspace_mock *mock, struct aspace_mock_object *object)
{
	if (object->owner != mock || !atomic_load(&object->references)) {
		violate(mock, "release of a reference that does not exist");
		return;
	}
	atomic_fetch_sub(&mock->references, 1);
	if (atomic_fetch_sub(&object->references, 1) > 1)
		return;
	atomic_store(&object->id, 0);
	object->next = NULL;
	if (mock->quarantine_tail)
		mock->quarantine_tail->next = object;
	else
		mock->quarantine_head = object;
	mock->quarantine_tail = object;
	mock->quarantined++;
}

static struct aspace_mock_object *object_get(struct aspace_mock *mock)
{
	struct aspace_mock_object *object = mock->quarantine_head;

	if (mock->quarantined <= QUARANTINE)
		return arena_alloc(&mock->objects, sizeof(*object));
	mock->quarantine_head = object->next;
	mock->quarantined--;
	return object;
}

static enum aspace_status do_clone(struct aspace_mock *mock, struct aspace_mock_object *object)
{
	if (object->owner != mock || !atomic_load(&object->references))
		return violate(mock, "clone of a dead object");
	atomic_fetch_add(&object->references, 1);
	atomic_fetch_add(&mock->references, 1);
	return ASPACE_OK;
}

static enum aspace_status mock_clone(struct aspace_backend *backend, void *user, void **copy)
{
	struct aspace_mock *mock = mock_of(backend);
	enum aspace_status status;

	pthread_mutex_lock(&mock->lock);
	status = enter(mock, ASPACE_MOCK_CLONE);
	if (status == ASPACE_OK)
		status = do_clone(mock, user);
	if (status == ASPACE_OK)
		*copy = user;
	pthread_mutex_unlock(&mock->lock);
	return status;
}

static void mock_release(struct aspace_backend *backend, void *user)
{
	struct aspace_mock *mock = mock_of(backend);

	pthread_mutex_lock(&mock->lock);
	atomic_fetch_add(&mock->calls[ASPACE_MOCK_RELEASE], 1);
	object_put(mock, user);
	pthread_mutex_unlock(&mock->lock);
}

enum aspace_status aspace_mock_object_create(struct aspace_mock *mock,
					     struct aspace_mock_object **out)
{
	struct aspace_mock_object *object;

	if (!(mock->mode & ASPACE_MOCK_OBJECTS))
		return ASPACE_NOT_SUPPORTED;
	pthread_mutex_lock(&mock->lock);
	object = object_get(mock);
	if (object) {
		object->owner = mock;
		atomic_store(&object->references, 1);
		atomic_store(&object->id, ++mock->next_id);
		atomic_fetch_add(&mock->references, 1);
	}
	pthread_mutex_unlock(&mock->lock);
	if (!object)
		return ASPACE_NO_MEMORY;
	*out = object;
	return ASPACE_OK;
}

void aspace_mock_object_put(struct aspace_mock *mock, struct aspace_mock_object *object)
{
	pthread_mutex_lock(&mock->lock);
	object_put(mock, object);
	pthread_mutex_unlock(&mock->lock);
}

uint64_t aspace_mock_object_id(const struct aspace_mock_object *object)
{
	return atomic_load(&object->id);
}

uint64_t aspace_mock_object_references(const struct aspace_mock_object *object)
{
	return atomic_load(&object->references);
}

uint64_t aspace_mock_references(const struct aspace_mock *mock)
{
	return atomic_load(&mock->references);
}

/* ---- Making and unmaking --------------------------------------------------------------- */

static bool options_usable(const struct aspace_mock_options *o)
{
	const unsigned order = ASPACE_MOCK_CHECK_ORDER;
	const unsigned merge = ASPACE_MOCK_MERGE_ALWAYS | ASPACE_MOCK_MERGE_NEVER;

	if ((o->granule & (o->granule - 1)) || (o->flags_mask & ASPACE_FLAGS_RESERVED) ||
	    o->log_capacity > LOG_MAX || o->mode >= ASPACE_MOCK_CHECK_ORDER << 1)
		return false;
	if ((o->mode & merge) == merge)
		return false;
	return !(o->mode & order) || !(o->mode & (ASPACE_MOCK_NO_PREPARE | ASPACE_MOCK_NO_FLUSH));
}

static struct aspace_backend_ops ops_for(unsigned mode)
{
	return (struct aspace_backend_ops){
		.size = sizeof(struct aspace_backend_ops),
		.map = mock_map,
		.unmap = mock_unmap,
		.protect = mock_protect,
		.prepare = mode & ASPACE_MOCK_NO_PREPARE ? NULL : mock_prepare,
		.replace = mode & ASPACE_MOCK_NO_REPLACE ? NULL : mock_replace,
		.move = mode & ASPACE_MOCK_NO_MOVE ? NULL : mock_move,
		.flush = mode & ASPACE_MOCK_NO_FLUSH ? NULL : mock_flush,
		.fault = mode & ASPACE_MOCK_NO_FAULT ? NULL : mock_fault,
		.fault_span = mock_fault_span,
		.can_merge = mode & (ASPACE_MOCK_MERGE_ALWAYS | ASPACE_MOCK_MERGE_NEVER)
				     ? mock_can_merge
				     : NULL,
		.clone = mode & ASPACE_MOCK_OBJECTS ? mock_clone : NULL,
		.release = mode & ASPACE_MOCK_OBJECTS ? mock_release : NULL,
	};
}

static void mock_init(struct aspace_mock *mock, const struct aspace_mock_options *o)
{
	uint64_t granule = o->granule ? o->granule : 4096;

	mock->ops = ops_for(o->mode);
	mock->backend.ops = &mock->ops;
	mock->backend.flags_mask = o->flags_mask ? o->flags_mask : ~ASPACE_FLAGS_RESERVED;
	mock->backend.granule = granule;
	mock->backend.remap_restores = o->mode & ASPACE_MOCK_REMAP_RESTORES;
	mock->mode = o->mode;
	mock->shift = (unsigned)__builtin_ctzll(granule);
	mock->pages_max = o->pages_max ? o->pages_max : PAGES_MAX_DEFAULT;
	mock->table = &mock->table_storage;
	pthread_mutex_init(&mock->lock, NULL);
}

static uint64_t log_bytes(uint64_t capacity)
{
	return capacity * sizeof(struct aspace_mock_entry);
}

enum aspace_status aspace_mock_create(const struct aspace_mock_options *options,
				      struct aspace_mock **out)
{
	struct aspace_mock_options known = {0};
	const struct aspace_mock_options *o = &known;
	struct aspace_mock *mock;

	if (!out ||
	    (options && !asp_copy_options(&known, sizeof(known), options,
					  offsetof(struct aspace_mock_options, flags_mask))))
		return ASPACE_INVALID_PARAM;
	if (!options_usable(o))
		return ASPACE_INVALID_PARAM;
	mock = pages_alloc(sizeof(*mock));
	if (!mock)
		return ASPACE_NO_MEMORY;
	mock_init(mock, o);
	if (!table_init(mock->table, 1024))
		goto fail;
	if (o->log_capacity) {
		mock->log = pages_alloc(log_bytes(o->log_capacity));
		if (!mock->log)
			goto fail;
		mock->log_capacity = o->log_capacity;
	}
	*out = mock;
	return ASPACE_OK;

fail:
	aspace_mock_destroy(mock);
	return ASPACE_NO_MEMORY;
}

void aspace_mock_destroy(struct aspace_mock *mock)
{
	if (!mock)
		return;
	table_free(mock->table);
	arena_free(&mock->objects);
	if (mock->log)
		munmap(mock->log, log_bytes(mock->log_capacity));
	pthread_mutex_destroy(&mock->lock);
	munmap(mock, sizeof(*mock));
}

struct aspace_backend *aspace_mock_backend(struct aspace_mock *mock)
{
	return &mock->backend;
}

/* ---- Asking ------------------------------------------------------------------------------- */

static uint64_t query_word(const struct aspace_mock *mock, struct aspace_vaddr address)
{
	uint64_t page = address.value >> mock->shift;
	struct block *block = table_get(mock->table, page >> BLOCK_SHIFT);

	return block ? word_load(&block->word[page & (BLOCK_PAGES - 1)]) : 0;
}

bool aspace_mock_query(const struct aspace_mock *mock, struct aspace_vaddr address, uint64_t *flags)
{
	uint64_t word = query_word(mock, address);

	if (word && flags)
		*flags = word & ~ASPACE_FLAGS_RESERVED;
	return word;
}

bool aspace_mock_populated(const struct aspace_mock *mock, struct aspace_vaddr address)
{
	return query_word(mock, address) & WORD_POPULATED;
}

uint64_t aspace_mock_pages(const struct aspace_mock *mock)
{
	return atomic_load(&mock->pages);
}

uint64_t aspace_mock_bytes(const struct aspace_mock *mock)
{
	return atomic_load(&mock->table->maps.bytes) + atomic_load(&mock->table->blocks.bytes) +
	       atomic_load(&mock->objects.bytes) + log_bytes(mock->log_capacity) +
	       round_up(sizeof(*mock), 4096);
}

void aspace_mock_visit(struct aspace_mock *mock, struct aspace_range range,
		       aspace_mock_visit_fn *visit, void *ctx)
{
	uint64_t mask = (UINT64_C(1) << mock->shift) - 1;
	struct cursor cursor;

	if (range.start.value >= range.end.value)
		return;
	pthread_mutex_lock(&mock->lock);
	cursor = cursor_over(mock, range);
	if (range.end.value & mask)
		cursor.end++;
	while (cursor.at < cursor.end) {
		uint64_t word = word_load(cursor_word(&cursor)) & ~WORD_POPULATED;
		uint64_t first = cursor.at;

		if (!word) {
			cursor_step_hole(&cursor);
			continue;
		}
		do {
			cursor_step(&cursor);
		} while (cursor.at < cursor.end &&
			 (word_load(cursor_word(&cursor)) & ~WORD_POPULATED) == word);
		range = aspace_range_of(first << mock->shift, cursor.at << mock->shift);
		if (!visit(ctx, range, word & ~ASPACE_FLAGS_RESERVED))
			break;
	}
	pthread_mutex_unlock(&mock->lock);
}

static bool block_empty(struct block *block)
{
	for (uint64_t i = 0; i < BLOCK_PAGES; i++) {
		if (word_load(&block->word[i]))
			return false;
	}
	return true;
}

/* Copy the blocks of @from that hold anything to the new table @to. */
static bool table_copy(struct table *to, struct table *from)
{
	ck_ht_iterator_t iterator = CK_HT_ITERATOR_INITIALIZER;
	ck_ht_entry_t *entry;

	while (ck_ht_next(&from->ht, &iterator, &entry)) {
		struct block *old = (struct block *)ck_ht_entry_value_direct(entry);
		struct block *block;

		if (block_empty(old))
			continue;
		block = table_make(to, ck_ht_entry_key_direct(entry) - 1);
		if (!block)
			return false;
		for (uint64_t i = 0; i < BLOCK_PAGES; i++)
			word_store(&block->word[i], word_load(&old->word[i]));
	}
	return true;
}

enum aspace_status aspace_mock_compact(struct aspace_mock *mock)
{
	enum aspace_status status = ASPACE_NO_MEMORY;
	struct table fresh;

	pthread_mutex_lock(&mock->lock);
	if (table_init(&fresh, 1024) && table_copy(&fresh, mock->table)) {
		table_free(mock->table);
		*mock->table = fresh;
		status = ASPACE_OK;
	} else {
		table_free(&fresh);
	}
	pthread_mutex_unlock(&mock->lock);
	return status;
}

enum aspace_status aspace_mock_inject(struct aspace_mock *mock, enum aspace_mock_call call,
				      uint64_t nth, bool forever, enum aspace_status status)
{
	if ((unsigned)call > ASPACE_MOCK_ANY)
		return ASPACE_INVALID_PARAM;
	if (status == ASPACE_OK)
		nth = 0;
	pthread_mutex_lock(&mock->lock);
	mock->plan[call] = (struct plan){nth, forever, status};
	pthread_mutex_unlock(&mock->lock);
	return ASPACE_OK;
}

void aspace_mock_heal(struct aspace_mock *mock)
{
	pthread_mutex_lock(&mock->lock);
	memset(mock->plan, 0, sizeof(mock->plan));
	pthread_mutex_unlock(&mock->lock);
}

static uint64_t count_of(const _Atomic uint64_t *counts, enum aspace_mock_call call)
{
	return (unsigned)call < ASPACE_MOCK_CALLS ? atomic_load(&counts[call]) : 0;
}

uint64_t aspace_mock_calls(const struct aspace_mock *mock, enum aspace_mock_call call)
{
	return count_of(mock->calls, call);
}

uint64_t aspace_mock_injected(const struct aspace_mock *mock, enum aspace_mock_call call)
{
	return count_of(mock->injected, call);
}

uint64_t aspace_mock_violations(const struct aspace_mock *mock, const char **what)
{
	if (what)
		*what = atomic_load(&mock->first_violation);
	return atomic_load(&mock->violations);
}

uint64_t aspace_mock_log_count(struct aspace_mock *mock)
{
	uint64_t count;

	pthread_mutex_lock(&mock->lock);
	count = mock->log_count;
	pthread_mutex_unlock(&mock->lock);
	return count;
}

bool aspace_mock_log_get(struct aspace_mock *mock, uint64_t index, struct aspace_mock_entry *entry)
{
	bool there;

	pthread_mutex_lock(&mock->lock);
	there = mock->log && index < mock->log_count &&
		mock->log_count - index <= mock->log_capacity;
	if (there)
		*entry = mock->log[index % mock->log_capacity];
	pthread_mutex_unlock(&mock->lock);
	return there;
}

void aspace_mock_log_clear(struct aspace_mock *mock)
{
	pthread_mutex_lock(&mock->lock);
	mock->log_count = 0;
	pthread_mutex_unlock(&mock->lock);
}
