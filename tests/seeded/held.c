/* SPDX-License-Identifier: MIT */
/*
 * Areas until there is no memory; then all of it is given back, beside as many snapshots as can be had,
 * and beside a backend that refuses. Short: it is here to meet the faults of this directory
 * (tests/fault and tests/unit/test_reserve.c do the testing).
 */
#include "../threads/crew.h"

enum { AREAS_MAX = 20000, SNAPSHOTS = 200, MANY = 40 };

static struct aspace *space;
static unsigned areas, blocks_left;

/* What the backend holds; and which calls it refuses, counting down. */
static bool held[AREAS_MAX];
static unsigned refuse_unmap, refuse_map;

static void *get_pages(void *ctx, size_t size)
{
	(void)ctx;
	if (!blocks_left)
		return NULL;
	blocks_left--;
	return aligned_alloc(4096, size);
}

static void put_pages(void *ctx, void *block, size_t size)
{
	(void)ctx;
	(void)size;
	free(block);
}

static struct aspace_range nth(unsigned i)
{
	return aspace_range_of(0x1000 + i * UINT64_C(32), 0x1000 + i * UINT64_C(32) + 16);
}

static enum aspace_status map_or_refuse(struct aspace_backend *backend,
					const struct aspace_change *change)
{
	unsigned i = (unsigned)((change->range.start.value - 0x1000) / 32);

	(void)backend;
	check(!held[i]);
	if (refuse_map && !--refuse_map)
		return ASPACE_ACCESS_DENIED;
	held[i] = true;
	return ASPACE_OK;
}

static enum aspace_status unmap_or_refuse(struct aspace_backend *backend,
					  const struct aspace_change *change)
{
	unsigned i = (unsigned)((change->range.start.value - 0x1000) / 32);

	(void)backend;
	check(held[i]);
	if (refuse_unmap && !--refuse_unmap)
		return ASPACE_ACCESS_DENIED;
	held[i] = false;
	return ASPACE_OK;
}

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = map_or_refuse,
	.unmap = unmap_or_refuse,
	.protect = accept,
};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 1, .remap_restores = true};

static void fill(unsigned mode, unsigned blocks)
{
	static const struct aspace_page_ops pages = {get_pages, put_pages};

	blocks_left = blocks;
	space = make_space(&(struct aspace_options){.mode = mode, .pages = &pages});
	/* Once more when all has come back that can. */
	for (unsigned refusals = areas = 0; refusals < 2 && areas < AREAS_MAX;) {
		enum aspace_status status = aspace_map(space, nth(areas), 0, &backend, NULL, 0);

		check(status == ASPACE_OK || status == ASPACE_NO_MEMORY);
		check_ok(status == ASPACE_OK ? ASPACE_OK : aspace_quiesce(space, 0));
		refusals = status == ASPACE_OK ? 0 : refusals + 1;
		areas += status == ASPACE_OK;
	}
	check(areas > MANY && areas < AREAS_MAX);
	blocks_left = 0;
	check_ok(aspace_quiesce(space, 0));
}

/* From far apart, so that each is in another leaf. */
static void unmap_beside_snapshots(unsigned mode)
{
	static struct aspace_snapshot snapshots[SNAPSHOTS];
	unsigned taken = 0;

	fill(mode, 5);
	for (unsigned i = 0; i < areas / 2; i++) {
		if (taken < SNAPSHOTS &&
		    aspace_snapshot_take(space, &snapshots[taken]) == ASPACE_OK)
			taken++;
		check_ok(aspace_unmap(space, nth(i * 17 % areas), 0));
	}
	check_ok(aspace_clear(space, 0));
	check(!aspace_count(space));
	check_ok(aspace_quiesce(space, 0));
	check_space(space);
	while (taken)
		aspace_snapshot_release(&snapshots[--taken]);
	end_space(space);
}

static void compare(void)
{
	for (unsigned i = 0; i < areas; i++)
		check((aspace_find(space, nth(i).start, NULL) == ASPACE_OK) == held[i]);
	check_space(space);
}

/* One of many is refused, and one of those that are to be mapped again. */
static void unmap_and_be_refused(void)
{
	struct aspace_range many = aspace_range_of(nth(3).start.value, nth(3 + MANY).end.value);
	unsigned lost = 0;

	for (unsigned i = 2; i < MANY; i++) {
		enum aspace_status status;

		fill(0, 4);
		refuse_unmap = i;
		refuse_map = 1 + i / 3;
		status = aspace_unmap(space, many, 0);
		check(status == ASPACE_ACCESS_DENIED || status == ASPACE_BAD_STATE);
		lost += status == ASPACE_BAD_STATE;
		refuse_unmap = refuse_map = 0;
		compare();
		end_space(space);
	}
	check(lost);
}

int main(void)
{
	unmap_beside_snapshots(0);
	unmap_beside_snapshots(ASPACE_GRACE_UNMAP);
	unmap_and_be_refused();
	return 0;
}
