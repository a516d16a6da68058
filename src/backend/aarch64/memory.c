/* SPDX-License-Identifier: MIT */
/*
 * Table pages: from the program to the reserve, from there into the tree, out of it by
 * way of the unlinked list, and back to the program.
 *
 * And access to descriptors, through the program's operations or by C11 atomics.
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
	/* Acquire: pairs with the release below. Who finds a table sees its contents. */
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static void after_store(struct aspace_aarch64 *t, const uint64_t *entry)
{
	t->stored = true;
	if (t->ops->clean)
		t->ops->clean(t->ctx, entry, sizeof(*entry));
}

void asp_a64_store(struct aspace_aarch64 *t, uint64_t *entry, uint64_t value)
{
	if (t->ops->store)
		t->ops->store(t->ctx, entry, value);
	else
		/* For readers of this library; the processor's walks are ordered by DSB. */
		__atomic_store_n(entry, value, __ATOMIC_RELEASE);
	after_store(t, entry);
}

bool asp_a64_swap(struct aspace_aarch64 *t, uint64_t *entry, uint64_t expected, uint64_t value)
{
	bool done;

	if (t->ops->swap)
		done = t->ops->swap(t->ctx, entry, expected, value);
	else
		/* Acquire too: the processor's update of AF or dirty state comes with what it
		 * has written. */
		done = __atomic_compare_exchange_n(entry, &expected, value, false, __ATOMIC_ACQ_REL,
						   __ATOMIC_ACQUIRE);
	if (done)
		after_store(t, entry);
	return done;
}

/* ---- Pages ------------------------------------------------------------------------------- */

static size_t granule(const struct aspace_aarch64 *t)
{
	return (size_t)1 << t->geometry.granule_shift;
}

static void list_push(struct aspace_aarch64 *t, uint64_t *list, uint64_t table)
{
	asp_a64_store(t, asp_a64_pointer(t, table), *list == ASP_A64_NO_TABLE ? 0 : *list);
	*list = table;
}

/* The first entry of a list's last table is 0: see the rule for ASP_A64_NO_TABLE. */
static uint64_t list_pop(struct aspace_aarch64 *t, uint64_t *list)
{
	uint64_t table = *list;
	uint64_t next = asp_a64_load(t, asp_a64_pointer(t, table));

	*list = next ? next : ASP_A64_NO_TABLE;
	return table;
}

bool asp_a64_reserve(struct aspace_aarch64 *t, size_t count)
{
	while (t->reserve_count < count) {
		struct aspace_paddr table;

		if (!t->ops->table_alloc(t->ctx, granule(t), &table))
			return false;
		/* Not one that a descriptor cannot say, nor the address that means "end". */
		if (!table.value || table.value >> t->config.output_bits) {
			t->ops->table_free(t->ctx, table, granule(t));
			return false;
		}
		list_push(t, &t->reserve, table.value);
		t->reserve_count++;
	}
	return true;
}

uint64_t asp_a64_take(struct aspace_aarch64 *t)
{
	uint64_t table = list_pop(t, &t->reserve);
	uint64_t *entries = asp_a64_pointer(t, table);

	asp_a64_store(t, entries, 0);
	if (t->ops->clean)
		t->ops->clean(t->ctx, entries, granule(t));
	t->reserve_count--;
	atomic_fetch_add_explicit(&t->table_count, 1, memory_order_relaxed);
	return table;
}

void asp_a64_drop_reserve(struct aspace_aarch64 *t)
{
	while (t->reserve != ASP_A64_NO_TABLE)
		t->ops->table_free(t->ctx, aspace_pa(list_pop(t, &t->reserve)), granule(t));
	t->reserve_count = 0;
	t->promised = 0;
}

void asp_a64_unlink(struct aspace_aarch64 *t, uint64_t table)
{
	list_push(t, &t->unlinked, table);
	atomic_fetch_sub_explicit(&t->table_count, 1, memory_order_relaxed);
}

void asp_a64_retire_unlinked(struct aspace_aarch64 *t)
{
	while (t->unlinked != ASP_A64_NO_TABLE) {
		struct aspace_paddr table = aspace_pa(list_pop(t, &t->unlinked));

		if (t->ops->table_retire)
			t->ops->table_retire(t->ctx, table, granule(t));
		else
			t->ops->table_free(t->ctx, table, granule(t));
	}
}
