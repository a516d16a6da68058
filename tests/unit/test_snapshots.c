/* SPDX-License-Identifier: MIT */
/*
 * The tree by which snapshots are searched: it answers as the list does, whatever has been
 * released in whatever order, and stays flat.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "space/space.h"

#define SNAPSHOTS 20000u

static struct aspace *space;
static struct aspace_snapshot *snapshots;
static uint64_t seed;

static uint32_t draw(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

static void change_something(void)
{
	struct aspace_range range = aspace_range_of(1, 2);

	if (aspace_unmap(space, range, ASPACE_STRICT) != ASPACE_OK)
		assert_int_equal(aspace_map(space, range, 1, aspace_null_backend(), NULL, 0),
				 ASPACE_OK);
}

static int open_space(void **state)
{
	(void)state;
	seed = 1; /* ranks come of addresses, which differ from run to run */
	snapshots = calloc(SNAPSHOTS, sizeof(*snapshots));
	return !snapshots || aspace_create(NULL, &space) != ASPACE_OK;
}

static int close_space(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SNAPSHOTS; i++)
		aspace_snapshot_release(&snapshots[i]);
	free(snapshots);
	return aspace_destroy(space, 0) != ASPACE_OK;
}

/* Some of them of one version. */
static void take_all(void)
{
	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		if (draw(4))
			change_something();
		if (!snapshots[i].space)
			assert_int_equal(aspace_snapshot_take(space, &snapshots[i]), ASPACE_OK);
	}
}

static unsigned depth(void)
{
	unsigned greatest = 0;

	for (struct aspace_snapshot *s = space->oldest; s; s = s->newer) {
		unsigned steps = 0;

		for (struct aspace_snapshot *at = s; at; at = at->above)
			steps++;
		if (greatest < steps)
			greatest = steps;
	}
	return greatest;
}

static void expect_right(const char *when)
{
	struct aspace_snapshot *newest = NULL, *s = space->oldest;
	uint64_t last = space->newest ? space->newest->version : 0;
	unsigned deepest = depth();

	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	for (uint64_t version = 0; version <= last + 1; version++) {
		for (; s && s->version < version; s = s->newer)
			newest = s;
		assert_ptr_equal(asp_snapshot_before(space, NULL, version), newest);
		/* A guess never changes the answer. */
		assert_ptr_equal(asp_snapshot_before(space, newest, version), newest);
		assert_ptr_equal(asp_snapshot_before(space, space->oldest, version), newest);
	}
	printf("%s: %llu snapshots, %u deep\n", when, (unsigned long long)space->snapshot_count,
	       deepest);
	/* 2 log n on average; a path twice as long has odds of less than one in a billion. */
	assert_in_range(deepest, 0, 60);
}

static void every_second(void **state)
{
	(void)state;
	take_all();
	expect_right("all");
	for (unsigned i = SNAPSHOTS; i >= 2; i -= 2)
		aspace_snapshot_release(&snapshots[i - 1]);
	expect_right("every second, the newest first");
	take_all();
	expect_right("all again");
	for (unsigned i = 0; i < SNAPSHOTS - 100; i++)
		aspace_snapshot_release(&snapshots[i]);
	expect_right("some of them left");
}

static void in_any_order(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		take_all();
		for (unsigned i = 0; i < SNAPSHOTS; i++)
			aspace_snapshot_release(&snapshots[draw(SNAPSHOTS)]);
		expect_right("after random releases");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_second, open_space, close_space),
		cmocka_unit_test_setup_teardown(in_any_order, open_space, close_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
