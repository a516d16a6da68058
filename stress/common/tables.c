/* SPDX-License-Identifier: MIT */
#include "tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The machine ------------------------------------------------------------------ */

static bool table_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	struct tables *tables = ctx;
	void *memory = aligned_alloc(size, size);

	if (!memory)
		return false;
	memset(memory, 0, size);
	tables->pages++;
	*table = aspace_pa((uintptr_t)memory);
	return true;
}

static void table_free(void *ctx, struct aspace_paddr table, size_t size)
{
	struct tables *tables = ctx;

	(void)size;
	tables->pages--;
	free((void *)(uintptr_t)table.value);
}

static uint64_t *table_pointer(void *ctx, struct aspace_paddr table)
{
	(void)ctx;
	return (void *)(uintptr_t)table.value;
}

static void dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		enum aspace_aarch64_shareability shareability)
{
	(void)ctx;
	(void)barrier;
	(void)shareability;
}

static void isb(void *ctx)
{
	(void)ctx;
}

static void tlbi(void *ctx, const struct aspace_aarch64_tlbi *what)
{
	(void)ctx;
	(void)what;
}

static bool frame_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	struct tables *tables = ctx;
	uint64_t at = (tables->next_frame + size - 1) & ~(size - 1);

	if (at + size > UINT64_C(1) << TABLES_BITS)
		return false;
	tables->next_frame = at + size;
	tables->frames += size;
	*frame = aspace_pa(at);
	return true;
}

static void frame_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	struct tables *tables = ctx;

	(void)frame;
	tables->frames -= size;
}

static const struct aspace_aarch64_ops ops = {
	.size = sizeof(ops),
	.table_alloc = table_alloc,
	.table_free = table_free,
	.table_pointer = table_pointer,
	.dsb = dsb,
	.isb = isb,
	.tlbi = tlbi,
	.frame_alloc = frame_alloc,
	.frame_free = frame_free,
};

/* ---- Making and unmaking ----------------------------------------------------------- */

enum aspace_status tables_open(struct tables *tables, uint64_t page)
{
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config =
			{
				.size = sizeof(options.config),
				.regime = ASPACE_AARCH64_STAGE2,
				.granule_shift = (uint8_t)__builtin_ctzll(page),
				.input_bits = TABLES_BITS,
				.output_bits = TABLES_BITS,
				.start_level = ASPACE_AARCH64_START_ANY,
				.ds = page < 65536,
				.xnx = true,
				.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
			},
		.ops = &ops,
		.ctx = tables,
	};
	enum aspace_status status;

	*tables = (struct tables){.tree = NULL};
	status = aspace_aarch64_create(&options, &tables->tree);
	if (status)
		return status;
	return aspace_aarch64_allocated_init(&tables->source, tables->tree, false, 0);
}

bool tables_close(struct tables *tables, char reason[200])
{
	size_t live = aspace_aarch64_table_count(tables->tree);
	bool fine = live == 1 && !tables->frames;

	if (!fine)
		snprintf(reason, 200, "%zu tables and %" PRIu64 " bytes of frames are left", live,
			 tables->frames);
	aspace_aarch64_destroy(tables->tree);
	if (fine && tables->pages) {
		snprintf(reason, 200, "%zu table pages have leaked", tables->pages);
		fine = false;
	}
	return fine;
}

/* ---- Checking ------------------------------------------------------------------------ */

struct walk {
	struct aspace_iter iter;
	struct tables *tables;
};

static bool next_area(void *ctx, struct aspace_area *area)
{
	struct walk *walk = ctx;

	if (!aspace_iter_next(&walk->iter, area))
		return false;
	area->backend = &walk->tables->source.backend;
	return true;
}

bool tables_check(struct tables *tables, struct aspace *space, char reason[200])
{
	struct aspace_aarch64_difference difference;
	enum aspace_status status;
	struct walk walk = {.tables = tables};
	struct aspace_view view;

	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, aspace_va(0), &walk.iter);
	status = aspace_aarch64_check(tables->tree, next_area, &walk, &difference);
	aspace_read_end(&view);
	if (status)
		snprintf(reason, 200, "the tables at %" PRIx64 ": %s", difference.address.value,
			 difference.what);
	return !status;
}

static bool check_address(const struct tables *tables, struct aspace *space, uint64_t address,
			  char reason[200])
{
	struct aspace_aarch64_mapping mapping = {.flags = 0};
	struct aspace_area area = {.flags = 0};
	enum aspace_status found = aspace_find(space, aspace_va(address), &area);
	enum aspace_status walked =
		aspace_aarch64_query(tables->tree, aspace_va(address), &mapping);

	if (found == walked && (found || area.flags == mapping.flags))
		return true;
	snprintf(reason, 200,
		 "at %" PRIx64 " the walker says %s, flags %" PRIx64
		 ", and the space %s, flags %" PRIx64,
		 address, aspace_status_string(walked), mapping.flags, aspace_status_string(found),
		 area.flags);
	return false;
}

bool tables_check_step(struct tables *tables, struct aspace *space, struct aspace_range range,
		       char reason[200])
{
	uint64_t start = range.start.value, end = range.end.value;
	struct aspace_range limits = aspace_limits(space);
	size_t every = 1 + aspace_aarch64_table_count(tables->tree) / 8;

	if (start < end && !(check_address(tables, space, start, reason) &&
			     check_address(tables, space, start + (end - start) / 2, reason) &&
			     check_address(tables, space, end - 1, reason)))
		return false;
	if (start > limits.start.value && !check_address(tables, space, start - 1, reason))
		return false;
	if (end < limits.end.value && !check_address(tables, space, end, reason))
		return false;
	if (tables->steps++ % every)
		return true;
	tables->checks++;
	return tables_check(tables, space, reason);
}
