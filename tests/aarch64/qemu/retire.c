/* SPDX-License-Identifier: MIT */
/*
 * Retired tables wait in a ring, in the order of their stamps. See retire.h.
 */
#include "retire.h"

#include "platform/platform.h"

#define RING 4096

static struct asp_grace *grace;
static struct asp_grace_client client;
static struct {
	struct aspace_paddr table;
	size_t size;
	uint64_t stamp;
} ring[RING];
size_t tables_retired, tables_reclaimed;

void retire_init(void)
{
	if (asp_grace_attach(NULL, &client, &grace) != ASPACE_OK)
		fail("no grace periods");
}

void retire_poll(void)
{
	while (tables_reclaimed < tables_retired &&
	       asp_grace_elapsed(grace, ring[tables_reclaimed % RING].stamp)) {
		table_free(NULL, ring[tables_reclaimed % RING].table,
			   ring[tables_reclaimed % RING].size);
		tables_reclaimed++;
	}
}

static void table_retire(void *ctx, struct aspace_paddr table, size_t size)
{
	size_t at = tables_retired % RING;

	(void)ctx;
	while (tables_retired - tables_reclaimed == RING)
		retire_poll(); /* no reader waits for us */
	ring[at].table = table;
	ring[at].size = size;
	ring[at].stamp = asp_grace_stamp(grace);
	asp_grace_request(grace, &client, ring[at].stamp);
	tables_retired++;
}

static bool table_alloc_polled(void *ctx, size_t size, struct aspace_paddr *table)
{
	/* Not in a fault on another CPU: the ring is the writer's. */
	if (!cpu_number())
		retire_poll();
	return table_alloc(ctx, size, table);
}

static void read_enter(void *ctx)
{
	(void)ctx;
	asp_read_lock(grace);
}

static void read_leave(void *ctx)
{
	(void)ctx;
	asp_read_unlock(grace);
}

const struct aspace_aarch64_ops retire_ops = {
	.size = sizeof(retire_ops),
	.table_alloc = table_alloc_polled,
	.table_free = table_free,
	.table_retire = table_retire,
	.table_pointer = table_pointer,
	.dsb = aspace_aarch64_cpu_dsb,
	.isb = aspace_aarch64_cpu_isb,
	.tlbi = aspace_aarch64_cpu_tlbi,
	.read_enter = read_enter,
	.read_leave = read_leave,
};

/* ---- What <aspace/bare_metal.h> asks for ----------------------------------------------- */

unsigned aspace_bare_cpu(void)
{
	return cpu_number();
}

/* Blocks of any size, under a writer lock, from the pool of tables. */
void *aspace_bare_pages_alloc(size_t size)
{
	struct aspace_paddr block;

	return table_alloc(NULL, size, &block) ? table_pointer(NULL, block) : NULL;
}

void aspace_bare_pages_free(void *block, size_t size)
{
	table_free(NULL, aspace_pa((uint64_t)(uintptr_t)block), size);
}
