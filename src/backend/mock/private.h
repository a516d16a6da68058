/* SPDX-License-Identifier: MIT */
/*
 * The mock backend's parts to each other: a page table that one writer changes and any thread
 * reads.
 *
 *   mock.c      making and unmaking
 *   change.c    what each kind of change does, prepare and flush
 *   fault.c     faults
 *   advise.c    advice
 *   object.c    user objects whose references are counted
 *   answer.c    calls counted, refused on command, or told that they break the contract
 *   log.c       the log
 *   query.c     what tests ask
 *   pages.c     pages, one by one and by ranges
 *   table.c     the page table
 *   arena.c     memory
 *
 * A page word is zero (unmapped) or ASP_MOCK_MAPPED, maybe ASP_MOCK_POPULATED, and the flags, which
 * leave the top byte free (ASPACE_FLAGS_RESERVED).
 *
 * Invariants:
 *  1. Only the holder of `lock` writes the table, the log, the injections and the object list.
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
#ifndef ASPACE_BACKEND_MOCK_PRIVATE_H
#define ASPACE_BACKEND_MOCK_PRIVATE_H

#include <aspace/backend/mock.h>

#include <ck_ht.h>
#include <pthread.h>
#include <stdatomic.h>

#define ASP_MOCK_BLOCK_SHIFT 6
#define ASP_MOCK_BLOCK_PAGES (UINT64_C(1) << ASP_MOCK_BLOCK_SHIFT)

#define ASP_MOCK_MAPPED    (UINT64_C(1) << 63)
#define ASP_MOCK_POPULATED (UINT64_C(1) << 62)

struct asp_mock_block {
	_Atomic uint64_t word[ASP_MOCK_BLOCK_PAGES]; /* see asp_mock_word_load() */
};

/* What mmap gave, all of one purpose: blocks, objects, or ck_ht's maps. */
struct asp_mock_chunk {
	struct asp_mock_chunk *next;
	uint64_t size;
	uint64_t used;
	char pad[40]; /* keep what follows on cache lines of its own */
};

struct asp_mock_arena {
	struct asp_mock_chunk *newest;
	_Atomic uint64_t bytes; /* a figure; read without the lock, and pairs with nothing */
};

struct asp_mock_table {
	ck_ht_t ht;
	struct asp_mock_arena maps;
	struct asp_mock_arena blocks;
};

/* What the test has asked to be refused. */
struct asp_mock_injection {
	uint64_t countdown; /* calls until the refusal, it included; 0: none */
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
	struct aspace_backend backend; /* first: see asp_mock_of() */
	struct aspace_backend_ops ops; /* without what `mode` leaves out */
	pthread_mutex_t lock;
	unsigned mode;
	unsigned shift;
	uint64_t pages_max;

	/* Behind pointers, so that queries can take a const mock. */
	struct asp_mock_table *table;
	struct asp_mock_table table_storage;
	/* This and the following: counts, changed under the lock and read without it.
	 * Nothing is read because of what they say. */
	_Atomic uint64_t pages;

	_Atomic uint64_t calls[ASPACE_MOCK_CALLS];
	_Atomic uint64_t injected[ASPACE_MOCK_CALLS];
	struct asp_mock_injection injection[ASPACE_MOCK_CALLS];
	_Atomic uint64_t violations;
	/* Set once, before the first violation is counted: who sees the count sees it. */
	_Atomic(const char *) first_violation;

	/* CHECK_ORDER: the batch that is open. */
	uint64_t prepared;
	bool changed;

	struct aspace_mock_entry *log;
	uint64_t log_capacity;
	uint64_t log_count;

	struct asp_mock_arena objects;
	struct aspace_mock_object *quarantine_head, *quarantine_tail;
	uint64_t quarantined;
	uint64_t next_id;
	_Atomic uint64_t references; /* a count, too */
};

static inline struct aspace_mock *asp_mock_of(struct aspace_backend *backend)
{
	return (struct aspace_mock *)backend;
}

static inline uint64_t asp_mock_round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

/* ---- arena.c ---- */

/* Zeroed pages; NULL without memory. */
void *asp_mock_memory(uint64_t size);
void asp_mock_memory_free(void *memory, uint64_t size);
/* A new chunk for at least @payload bytes. */
struct asp_mock_chunk *asp_mock_arena_grow(struct asp_mock_arena *arena, uint64_t payload);
/* Zeroed; freed with the arena. @size is a multiple of 32. */
void *asp_mock_arena_alloc(struct asp_mock_arena *arena, uint64_t size);
void asp_mock_arena_free(struct asp_mock_arena *arena);

/* ---- table.c ---- */

bool asp_mock_table_init(struct asp_mock_table *table, uint64_t blocks);
void asp_mock_table_free(struct asp_mock_table *table);
/* The block of number @number, NULL if there is none. Any thread. */
struct asp_mock_block *asp_mock_table_get(struct asp_mock_table *table, uint64_t number);
/* The same, made where it is missing; NULL without memory. */
struct asp_mock_block *asp_mock_table_make(struct asp_mock_table *table, uint64_t number);
/* Copy the blocks of @from that hold anything to the new table @to. */
bool asp_mock_table_copy(struct asp_mock_table *to, struct asp_mock_table *from);

static inline uint64_t asp_mock_word_load(const _Atomic uint64_t *word)
{
	return word ? atomic_load_explicit(word, memory_order_acquire) : 0;
}

/* Release: who sees the page's new state also sees what its writer did before. */
static inline void asp_mock_word_store(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

/* ---- pages.c ---- */

/* The word of the page that the address is in; NULL where its block does not exist. */
_Atomic uint64_t *asp_mock_page(const struct aspace_mock *mock, struct aspace_vaddr address);

/* Pages [at, end), which is not empty; the block of `at` is looked up once. */
struct asp_mock_cursor {
	struct asp_mock_table *table;
	uint64_t at, end;
	struct asp_mock_block *block;
	bool looked;
};

struct asp_mock_cursor asp_mock_cursor_over(struct aspace_mock *mock, struct aspace_range range);
/* The page's word; NULL where its block does not exist. */
_Atomic uint64_t *asp_mock_cursor_word(struct asp_mock_cursor *cursor);
void asp_mock_cursor_step(struct asp_mock_cursor *cursor);
/* From an unmapped page on: to the next block where this one does not exist. */
void asp_mock_cursor_step_hole(struct asp_mock_cursor *cursor);

/* Whole pages, and not none? */
static inline bool asp_mock_range_usable(const struct aspace_mock *mock, struct aspace_range range)
{
	uint64_t mask = (UINT64_C(1) << mock->shift) - 1;

	return range.start.value < range.end.value && !(range.start.value & mask) &&
	       !(range.end.value & mask);
}

/* Is every page's word, populated or not, @expected (0: is none mapped)? */
bool asp_mock_range_is(struct aspace_mock *mock, struct aspace_range range, uint64_t expected);
/* Make the blocks of all its pages; false without memory. */
bool asp_mock_range_reserve(struct aspace_mock *mock, struct aspace_range range);
/* Store @word in every page; answers how many were mapped before. The blocks exist. */
uint64_t asp_mock_range_fill(struct aspace_mock *mock, struct aspace_range range, uint64_t word);

static inline uint64_t asp_mock_range_pages(const struct aspace_mock *mock,
					    struct aspace_range range)
{
	return (range.end.value - range.start.value) >> mock->shift;
}

/* ---- answer.c ---- */

/* The call breaks the contract, and is told so. */
enum aspace_status asp_mock_violate(struct aspace_mock *mock, const char *what);
/* Count a call that may fail; the status that it is to fail with, or ASPACE_OK. */
enum aspace_status asp_mock_enter(struct aspace_mock *mock, enum aspace_mock_call call);

/* ---- log.c ---- */

void asp_mock_log(struct aspace_mock *mock, const struct aspace_mock_entry *entry);
void asp_mock_log_change(struct aspace_mock *mock, enum aspace_mock_call call,
			 const struct aspace_change *change, enum aspace_status status);
uint64_t asp_mock_log_bytes(uint64_t capacity);

/* ---- the backend's operations ---- */

enum aspace_status asp_mock_map(struct aspace_backend *backend, const struct aspace_change *change);
enum aspace_status asp_mock_unmap(struct aspace_backend *backend,
				  const struct aspace_change *change);
enum aspace_status asp_mock_protect(struct aspace_backend *backend,
				    const struct aspace_change *change);
enum aspace_status asp_mock_replace(struct aspace_backend *backend,
				    const struct aspace_change *change);
enum aspace_status asp_mock_move(struct aspace_backend *backend,
				 const struct aspace_change *change);
enum aspace_status asp_mock_prepare(struct aspace_backend *backend,
				    const struct aspace_change *change);
void asp_mock_flush(struct aspace_backend *backend);
enum aspace_status asp_mock_fault(struct aspace_backend *backend, const struct aspace_area *area,
				  struct aspace_vaddr address, unsigned access);
uint64_t asp_mock_fault_span(struct aspace_backend *backend, const struct aspace_area *area);
enum aspace_status asp_mock_advise(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_range range, enum aspace_advice advice,
				   struct aspace_vaddr *reached);
unsigned asp_mock_loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
			uint64_t *meanwhile);
enum aspace_status asp_mock_clone(struct aspace_backend *backend, void *user, void **copy);
void asp_mock_release(struct aspace_backend *backend, void *user);

#endif
