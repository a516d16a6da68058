/* SPDX-License-Identifier: MIT */
/*
 * Table pages: from the program to the reserve, from there into the tree, out of it by
 * way of the unlinked list, and back to the program.
 *
 * And access to descriptors, through the program's operations or by C11 atomics. A descriptor is
 * shared by the writer, faults beside it, lockless readers, and the processor's walks:
 *  - Each load acquires. It pairs with the release of the store or exchange that put there what it
 *    finds: who finds a table sees what was in it before it was linked, and who finds that the last
 *    fault has left a table sees what it has mapped there.
 *  - Each exchange acquires and releases. Release: as a store. Acquire: what was exchanged may be
 *    the processor's, which has noted an access, or a fault's.
 *  - Relaxed would be wrong for each of them. Sequential consistency is needed nowhere: whatever two
 *    parties must agree on, they exchange in one and the same descriptor.
 *  - The processor's walks are ordered by DSB (B2.3.12, D8.2.6): of a new table before it is
 *    linked. From invalid to valid a descriptor may go without one; until there is one, a walk may
 *    go on to find the old descriptor, and fault. FEAT_ETS2 narrows that to accesses that come before
 *    in the same thread; nothing here counts on it.
 */
#include "tables.h"

/* ---- Access -------------------------------------------------------------------------- */

uint64_t *asp_a64_pointer(const struct aspace_aarch64 *t, uint64_t table)
{
	return t->ops->table_pointer(t->ctx, aspace_pa(table));
}

/* The program's memory, and the processor's: not declared _Atomic by anybody. The built-in
 * functions are what stdatomic.h is made of, and take plain integers. */
uint64_t asp_a64_load(const struct aspace_aarch64 *t, const uint64_t *entry)
{
	if (t->ops->load)
		return t->ops->load(t->ctx, entry);
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

void asp_a64_clean_memory(const struct aspace_aarch64 *t, const void *start, size_t size)
{
	if (t->ops->clean)
		t->ops->clean(t->ctx, start, size);
}

void asp_a64_store(struct aspace_aarch64 *t, uint64_t *entry, uint64_t value)
{
	if (t->ops->store)
		t->ops->store(t->ctx, entry, value);
	else
		__atomic_store_n(entry, value, __ATOMIC_RELEASE);
	asp_a64_clean_memory(t, entry, sizeof(*entry));
	t->stored = true;
}

bool asp_a64_exchange(const struct aspace_aarch64 *t, uint64_t *entry, uint64_t expected,
		      uint64_t value)
{
	bool done;

	if (t->ops->swap)
		done = t->ops->swap(t->ctx, entry, expected, value);
	else
		done = __atomic_compare_exchange_n(entry, &expected, value, false, __ATOMIC_ACQ_REL,
						   __ATOMIC_ACQUIRE);
	if (done)
		asp_a64_clean_memory(t, entry, sizeof(*entry));
	return done;
}

bool asp_a64_swap(struct aspace_aarch64 *t, uint64_t *entry, uint64_t expected, uint64_t value)
{
	bool done = asp_a64_exchange(t, entry, expected, value);

	t->stored = t->stored || done;
	return done;
}

/* ---- Pages ------------------------------------------------------------------------------- */

static size_t granule(const struct aspace_aarch64 *t)
{
	return (size_t)1 << t->geometry.granule_shift;
}

/* The first entry of a list's last table, and the second one's of a table that had no slot. As a
 * descriptor it is one that leads nowhere, and that nobody takes for free. */
#define LIST_END UINT64_C(4)

static void list_push(struct aspace_aarch64 *t, uint64_t *list, uint64_t table)
{
	asp_a64_store(t, asp_a64_pointer(t, table), *list == ASP_A64_NO_TABLE ? LIST_END : *list);
	*list = table;
}

static uint64_t list_next(const struct aspace_aarch64 *t, uint64_t table)
{
	uint64_t next = asp_a64_load(t, asp_a64_pointer(t, table));

	return next == LIST_END ? ASP_A64_NO_TABLE : next;
}

static uint64_t list_pop(const struct aspace_aarch64 *t, uint64_t *list)
{
	uint64_t table = *list;

	*list = list_next(t, table);
	return table;
}

bool asp_a64_table_alloc(const struct aspace_aarch64 *t, uint64_t *table)
{
	struct aspace_paddr got;

	if (!t->ops->table_alloc(t->ctx, granule(t), &got))
		return false;
	/* Not one that a descriptor cannot say, nor the address that no list and no pending
	 * descriptor can hold. */
	if (!got.value || got.value >> t->config.output_bits) {
		asp_a64_table_free(t, got.value);
		return false;
	}
	*table = got.value;
	return true;
}

void asp_a64_table_free(const struct aspace_aarch64 *t, uint64_t table)
{
	t->ops->table_free(t->ctx, aspace_pa(table), granule(t));
}

bool asp_a64_reserve(struct aspace_aarch64 *t, size_t count)
{
	while (t->reserve_count < count) {
		uint64_t table;

		if (!asp_a64_table_alloc(t, &table))
			return false;
		list_push(t, &t->reserve, table);
		t->reserve_count++;
	}
	return true;
}

uint64_t asp_a64_take(struct aspace_aarch64 *t)
{
	uint64_t table = list_pop(t, &t->reserve);
	uint64_t *entries = asp_a64_pointer(t, table);

	asp_a64_store(t, entries, 0);
	asp_a64_clean_memory(t, entries, granule(t));
	t->reserve_count--;
	asp_a64_count_table(t);
	return table;
}

void asp_a64_put_back(struct aspace_aarch64 *t, uint64_t table)
{
	list_push(t, &t->reserve, table);
	t->reserve_count++;
	atomic_fetch_sub_explicit(&t->table_count, 1, memory_order_relaxed);
}

void asp_a64_count_table(struct aspace_aarch64 *t)
{
	atomic_fetch_add_explicit(&t->table_count, 1, memory_order_relaxed);
}

void asp_a64_drop_reserve(struct aspace_aarch64 *t)
{
	while (t->reserve != ASP_A64_NO_TABLE)
		asp_a64_table_free(t, list_pop(t, &t->reserve));
	t->reserve_count = 0;
	t->promised = 0;
}

void asp_a64_unlink(struct aspace_aarch64 *t, uint64_t table, uint64_t parent, size_t index)
{
	uint64_t *entries = asp_a64_pointer(t, table);

	/* Numbers with bit 0 clear: for walks that are still inside, invalid descriptors. */
	asp_a64_store(t, &entries[1], parent == ASP_A64_NO_TABLE ? LIST_END : parent);
	if (parent != ASP_A64_NO_TABLE)
		asp_a64_store(t, &entries[2], (uint64_t)index << 3);
	list_push(t, &t->unlinked, table);
	atomic_fetch_sub_explicit(&t->table_count, 1, memory_order_relaxed);
}

/* Nothing is left of the pointer that was in the slot: it is like any other free one again. Unless
 * a fault has found that out by itself, or the slot is in a table that was unlinked as well. No
 * walk can tell the one invalid descriptor from the other, so no barrier comes after it. */
static void free_slot(const struct aspace_aarch64 *t, uint64_t table)
{
	const uint64_t *entries = asp_a64_pointer(t, table);
	uint64_t parent = asp_a64_load(t, &entries[1]);

	if (parent != LIST_END)
		asp_a64_exchange(t, &asp_a64_pointer(t, parent)[asp_a64_load(t, &entries[2]) >> 3],
				 ASP_A64_VACATED, 0);
}

void asp_a64_retire_unlinked(struct aspace_aarch64 *t)
{
	for (uint64_t table = t->unlinked; table != ASP_A64_NO_TABLE; table = list_next(t, table))
		free_slot(t, table);
	while (t->unlinked != ASP_A64_NO_TABLE) {
		struct aspace_paddr table = aspace_pa(list_pop(t, &t->unlinked));

		if (t->ops->table_retire)
			t->ops->table_retire(t->ctx, table, granule(t));
		else
			t->ops->table_free(t->ctx, table, granule(t));
	}
}
