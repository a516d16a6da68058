/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fault/world.h"
#include "space/space.h"
#include "update/reserve.h"

#define FILLERS 24

/* ---- Pages ------------------------------------------------------------- */

static void *pages_alloc(void *ctx, size_t size)
{
	struct pages *pages = ctx;
	void *block;

	pages->calls++;
	if (pages->fail_at == 0) {
		if (!pages->fail_forever)
			pages->fail_at = -1;
		pages->refusals++;
		return NULL;
	}
	if (pages->fail_at > 0)
		pages->fail_at--;
	block = aligned_alloc(4096, size);
	if (block)
		pages->blocks++;
	return block;
}

static void pages_free(void *ctx, void *block, size_t size)
{
	struct pages *pages = ctx;

	(void)size;
	pages->blocks--;
	free(block);
}

static const struct aspace_page_ops page_ops = {pages_alloc, pages_free};

/* What is there beyond what must be held back is not to be had. */
static void hide(struct asp_pool *pool)
{
	pool->hidden = pool->available > pool->held ? pool->available - pool->held : 0;
}

void tighten_pools(struct world *world)
{
	struct aspace *space = world->space;

	/* Not what is held back for snapshots, unless one is open: that can be done without. */
	asp_hold_back(space, asp_tree_height(asp_root(space)), space->node_count,
		      aspace_count(space));
	asp_uncover(space);
	hide(&space->nodes);
	hide(&space->records);
	hide(&space->actions);
}

void loosen_pools(struct world *world)
{
	struct aspace *space = world->space;

	space->nodes.hidden = space->records.hidden = space->actions.hidden = 0;
}

/* ---- A world ----------------------------------------------------------- */

struct aspace_backend *backend_of(const struct world *world, unsigned mock)
{
	return aspace_mock_backend(world->mock[mock]);
}

static unsigned make_object(struct world *world, unsigned mock)
{
	unsigned i = world->objects++;

	assert_in_range(i, 0, OBJECTS_MAX - 1);
	assert_int_equal(aspace_mock_object_create(world->mock[mock], &world->object[i]),
			 ASPACE_OK);
	world->held[i] = 1;
	return i;
}

static unsigned put_at(struct world *world, unsigned mock, struct aspace_range range,
		       uint64_t flags)
{
	unsigned i = make_object(world, mock);

	assert_int_equal(aspace_map(world->space, range, flags, backend_of(world, mock),
				    world->object[i], 0),
			 ASPACE_OK);
	world->held[i] = 0;
	return i;
}

unsigned put(struct world *world, unsigned mock, uint64_t from, uint64_t to, uint64_t flags)
{
	return put_at(world, mock, pages_between(from, to), flags);
}

void give(struct world *world, unsigned mock)
{
	world->given[world->givens++] = make_object(world, mock);
}

void *given(const struct world *world, unsigned i)
{
	return world->object[world->given[i]];
}

void world_open(struct world *world, const struct operation *operation)
{
	struct aspace_options options = {
		.size = sizeof(options),
		.granule = 4096,
		.mode = operation->space_mode,
		.pages = &page_ops,
		.pages_ctx = &world->pages,
	};

	*world = (struct world){.operation = operation, .pages.fail_at = -1};
	for (unsigned m = 0; m < MOCKS; m++) {
		struct aspace_mock_options mock_options = {
			.size = sizeof(mock_options),
			.mode = operation->mock_mode[m] | ASPACE_MOCK_OBJECTS,
		};

		assert_int_equal(aspace_mock_create(&mock_options, &world->mock[m]), ASPACE_OK);
	}
	assert_int_equal(aspace_create(&options, &world->space), ASPACE_OK);
	for (unsigned i = 0; i < FILLERS; i++)
		put_at(world, i % MOCKS, aspace_range_of(0x1000 + i * 0x2000, 0x2000 + i * 0x2000),
		       1);
	for (unsigned i = 0; i < FILLERS / 2; i++)
		put_at(world, i % MOCKS, aspace_range_of(page(1000 + i * 2), page(1001 + i * 2)),
		       1);
	operation->setup(world);
	if (!(operation->properties & UNSETTLED))
		assert_int_equal(aspace_quiesce(world->space, 0), ASPACE_OK);
	aspace_trim(world->space, 0);
}

void world_close(struct world *world)
{
	assert_int_equal(aspace_destroy(world->space, 0), ASPACE_OK);
	assert_int_equal(world->pages.blocks, 0);
	for (unsigned i = 0; i < world->objects; i++) {
		assert_int_equal(aspace_mock_object_references(world->object[i]), world->held[i]);
		if (world->held[i])
			assert_int_not_equal(aspace_mock_object_id(world->object[i]), 0);
		else
			assert_int_equal(aspace_mock_object_id(world->object[i]), 0);
	}
	for (unsigned m = 0; m < MOCKS; m++) {
		const char *what = "";

		if (aspace_mock_violations(world->mock[m], &what))
			fail_msg("mock %c: %s", "AB"[m], what);
		assert_int_equal(aspace_mock_pages(world->mock[m]), 0);
		aspace_mock_destroy(world->mock[m]);
	}
}

/* ---- Pictures ---------------------------------------------------------- */

static int object_index(const struct world *world, const void *user)
{
	if (!user)
		return -1;
	for (unsigned i = 0; i < world->objects; i++) {
		if (world->object[i] == user)
			return (int)i;
	}
	fail_msg("an area has a user object that nobody made");
	return -1;
}

static struct area_picture picture_of(const struct world *world, const struct aspace_area *area)
{
	return (struct area_picture){
		.start = area->start.value,
		.end = area->end.value,
		.flags = area->flags,
		.mock = area->backend == backend_of(world, A) ? A : B,
		.object = object_index(world, area->user),
	};
}

struct visit {
	struct picture *picture;
	unsigned mock;
};

static bool note_run(void *ctx, struct aspace_range range, uint64_t flags)
{
	struct visit *visit = ctx;
	size_t i = visit->picture->runs[visit->mock]++;

	assert_in_range(i, 0, AREAS_MAX - 1);
	visit->picture->run[visit->mock][i] =
		(struct run_picture){range.start.value, range.end.value, flags};
	return true;
}

void take_picture(struct world *world, struct picture *picture)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	size_t back;

	memset(picture, 0, sizeof(*picture));
	aspace_read_begin(world->space, &view);
	aspace_iter_begin(&view, (struct aspace_vaddr){0}, &iter);
	while (aspace_iter_next(&iter, &area)) {
		assert_in_range(picture->areas, 0, AREAS_MAX - 1);
		picture->area[picture->areas++] = picture_of(world, &area);
	}
	back = picture->areas;
	aspace_iter_begin(&view, (struct aspace_vaddr){UINT64_MAX}, &iter);
	while (aspace_iter_prev(&iter, &area)) {
		struct area_picture seen = picture_of(world, &area);

		assert_in_range(back, 1, AREAS_MAX);
		assert_memory_equal(&seen, &picture->area[--back], sizeof(seen));
	}
	assert_int_equal(back, 0);
	aspace_read_end(&view);
	assert_int_equal(aspace_count(world->space), picture->areas);

	for (unsigned m = 0; m < MOCKS; m++) {
		struct visit visit = {picture, m};
		uint64_t pages = 0;

		/* All that operations use; the number of pages says if there is more. */
		aspace_mock_visit(world->mock[m], aspace_range_of(0, 0x100000), note_run, &visit);
		aspace_mock_visit(world->mock[m], pages_between(0, 2000), note_run, &visit);
		for (size_t i = 0; i < picture->runs[m]; i++)
			pages += (picture->run[m][i].end - picture->run[m][i].start) / 4096;
		assert_int_equal(pages, aspace_mock_pages(world->mock[m]));
	}
	picture->objects = world->objects;
	for (unsigned i = 0; i < world->objects; i++)
		picture->references[i] = aspace_mock_object_references(world->object[i]);
}

const char *areas_differ(const struct picture *a, const struct picture *b)
{
	if (a->areas != b->areas)
		return "the number of areas";
	if (memcmp(a->area, b->area, a->areas * sizeof(a->area[0])) != 0)
		return "an area";
	return NULL;
}

const char *tables_differ(const struct picture *a, const struct picture *b)
{
	for (unsigned m = 0; m < MOCKS; m++) {
		if (a->runs[m] != b->runs[m] ||
		    memcmp(a->run[m], b->run[m], a->runs[m] * sizeof(a->run[m][0])) != 0)
			return "a page table";
	}
	return NULL;
}

const char *references_differ(const struct picture *a, const struct picture *b)
{
	if (a->objects != b->objects)
		return "the number of objects";
	if (memcmp(a->references, b->references, a->objects * sizeof(a->references[0])) != 0)
		return "the references of an object";
	return NULL;
}

const char *tree_differs_from_tables(const struct picture *picture)
{
	for (unsigned m = 0; m < MOCKS; m++) {
		struct run_picture runs[AREAS_MAX];
		size_t count = 0;

		for (size_t i = 0; i < picture->areas; i++) {
			const struct area_picture *area = &picture->area[i];

			if (area->mock != (int)m)
				continue;
			if (count && runs[count - 1].end == area->start &&
			    runs[count - 1].flags == area->flags)
				runs[count - 1].end = area->end;
			else
				runs[count++] =
					(struct run_picture){area->start, area->end, area->flags};
		}
		if (count != picture->runs[m] ||
		    memcmp(runs, picture->run[m], count * sizeof(runs[0])) != 0)
			return m == A ? "mock A holds something else"
				      : "mock B holds something else";
	}
	return NULL;
}

const char *references_are_wrong(const struct world *world, const struct picture *picture)
{
	uint64_t expected[OBJECTS_MAX] = {0};

	for (unsigned i = 0; i < world->objects; i++)
		expected[i] = world->held[i];
	for (size_t i = 0; i < picture->areas; i++) {
		if (picture->area[i].object >= 0)
			expected[picture->area[i].object]++;
	}
	for (unsigned i = 0; i < world->objects; i++) {
		if (expected[i] != picture->references[i])
			return expected[i] < picture->references[i] ? "a reference has leaked"
								    : "a reference is missing";
	}
	return NULL;
}
