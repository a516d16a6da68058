/* SPDX-License-Identifier: MIT */
/*
 * Making and unmaking trees and their sources.
 *
 * The structure itself lives in a page of table_alloc: no other allocator is needed.
 */
#include "tables.h"

#include <stddef.h>

#define OPS_BYTES_MAX 4096

/* What the library knows of a program's table, which may be shorter or longer: by its size. False:
 * that cannot be the size of one. */
static bool copy_ops(struct aspace_aarch64_ops *ops, const struct aspace_aarch64_ops *theirs)
{
	size_t known = sizeof(*ops);
	const char *from = (const char *)theirs;
	char *to = (char *)ops;

	*ops = (struct aspace_aarch64_ops){.size = 0};
	if (theirs->size < offsetof(struct aspace_aarch64_ops, vmid_enter) ||
	    theirs->size > OPS_BYTES_MAX || theirs->size % sizeof(void *))
		return false;
	if (theirs->size < known)
		known = theirs->size;
	for (size_t i = 0; i < known; i++)
		to[i] = from[i];
	return true;
}

static bool ops_usable(const struct aspace_aarch64_ops *ops)
{
	bool access = ops->load && ops->store && ops->swap;
	bool no_access = !ops->load && !ops->store && !ops->swap;

	return ops->table_alloc && ops->table_free && ops->table_pointer && ops->dsb && ops->isb &&
	       ops->tlbi && (access || no_access) && !ops->read_enter == !ops->read_leave &&
	       !ops->vmid_enter == !ops->vmid_leave && !ops->frame_alloc == !ops->frame_free &&
	       (ops->frame_alloc || (!ops->frame_retire && !ops->frame_split && !ops->frame_clear));
}

static size_t self_size(const struct asp_a64_geometry *geometry)
{
	_Static_assert(sizeof(struct aspace_aarch64) <= 4096, "the smallest granule");
	return (size_t)1 << geometry->granule_shift;
}

enum aspace_status aspace_aarch64_create(const struct aspace_aarch64_options *options,
					 struct aspace_aarch64 **out)
{
	struct aspace_aarch64_ops own;
	const struct aspace_aarch64_ops *ops = &own;
	struct asp_a64_geometry geometry;
	struct aspace_paddr page, root;
	struct aspace_aarch64 *t;

	if (options->size != sizeof(*options) || !options->ops || !copy_ops(&own, options->ops) ||
	    !ops_usable(&own) ||
	    aspace_aarch64_config_check(&options->config, NULL, NULL) != ASPACE_OK ||
	    asp_a64_geometry_of(&options->config, &geometry))
		return ASPACE_INVALID_PARAM;
	if (!ops->table_alloc(options->ctx, self_size(&geometry), &page))
		return ASPACE_NO_MEMORY;
	if (!ops->table_alloc(options->ctx, geometry.root_size, &root)) {
		ops->table_free(options->ctx, page, self_size(&geometry));
		return ASPACE_NO_MEMORY;
	}
	if (root.value >> options->config.output_bits) {
		ops->table_free(options->ctx, root, geometry.root_size);
		ops->table_free(options->ctx, page, self_size(&geometry));
		return ASPACE_NO_MEMORY;
	}
	t = (struct aspace_aarch64 *)(void *)ops->table_pointer(options->ctx, page);
	*t = (struct aspace_aarch64){
		.config = options->config,
		.geometry = geometry,
		.own_ops = own,
		.ops = &t->own_ops,
		.ctx = options->ctx,
		.self = page,
		.root = root.value,
		.table_count = 1,
		.reserve = ASP_A64_NO_TABLE,
		.unlinked = ASP_A64_NO_TABLE,
		.stash_first = ASP_A64_NO_TABLE,
		.stash_last = ASP_A64_NO_TABLE,
		.stored = true, /* the zeroes of the root */
	};
	if (ops->clean)
		ops->clean(options->ctx, asp_a64_pointer(t, t->root), geometry.root_size);
	asp_a64_synchronize(t);
	*out = t;
	return ASPACE_OK;
}

static void free_tables(struct aspace_aarch64 *t, int level, uint64_t table)
{
	const uint64_t *entries = asp_a64_pointer(t, table);
	size_t count = asp_a64_entries(&t->geometry, level);

	for (size_t i = 0; level < ASP_A64_LAST_LEVEL && i < count; i++) {
		uint64_t entry = asp_a64_load(t, &entries[i]);

		if (asp_a64_is_table(level, entry))
			free_tables(t, level + 1, asp_a64_next_table(t, entry));
	}
	t->ops->table_free(t->ctx, aspace_pa(table),
			   level == t->geometry.start ? t->geometry.root_size
						      : (size_t)1 << t->geometry.granule_shift);
}

void aspace_aarch64_destroy(struct aspace_aarch64 *tables)
{
	if (!tables)
		return;
	free_tables(tables, tables->geometry.start, tables->root);
	tables->ops->table_free(tables->ctx, tables->self, self_size(&tables->geometry));
}

uint64_t aspace_aarch64_ttbr(const struct aspace_aarch64 *t)
{
	uint64_t base = t->root;

	if (t->config.output_bits == 52) /* bits 5 to 2 are address bits 51 to 48 (D8.2.3) */
		base = (base & ((UINT64_C(1) << 48) - 1)) | (base >> 48) << 2;
	return base | (uint64_t)t->config.id << 48 | (t->config.cnp ? 1 : 0);
}

size_t aspace_aarch64_table_count(const struct aspace_aarch64 *t)
{
	return atomic_load_explicit(&t->table_count, memory_order_relaxed);
}

enum aspace_status aspace_aarch64_linear_init(struct aspace_aarch64_linear *source,
					      struct aspace_aarch64 *tables, uint64_t offset)
{
	uint64_t granule = UINT64_C(1) << tables->geometry.granule_shift;

	if (!aspace_is_aligned(offset, granule))
		return ASPACE_INVALID_PARAM;
	*source = (struct aspace_aarch64_linear){
		.backend =
			{
				.ops = &asp_a64_linear_ops,
				.flags_mask = asp_a64_flags_mask(&tables->config),
				.granule = granule,
				.remap_restores = true,
			},
		.tables = tables,
		.offset = offset,
	};
	return ASPACE_OK;
}

enum aspace_status aspace_aarch64_allocated_init(struct aspace_aarch64_allocated *source,
						 struct aspace_aarch64 *tables, bool lazy,
						 uint64_t fault_max)
{
	uint64_t granule = UINT64_C(1) << tables->geometry.granule_shift;

	if (!tables->ops->frame_alloc)
		return ASPACE_NOT_SUPPORTED;
	*source = (struct aspace_aarch64_allocated){
		.backend =
			{
				.ops = &asp_a64_allocated_ops,
				.flags_mask = asp_a64_flags_mask(&tables->config),
				.granule = granule,
				.remap_restores = true,
			},
		.tables = tables,
		.lazy = lazy,
		.fault_max = fault_max > granule ? fault_max : granule,
	};
	return ASPACE_OK;
}
