/* SPDX-License-Identifier: MIT */
/*
 * Births of references: noted while a snapshot is open, found and moved like an array would
 * do it, and forgotten when no snapshot is left that is older.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "space/space.h"
#include "update/births.h"

static char object;

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static void release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.release = release,
};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 1};

#define assert_ok(call) assert_int_equal(call, ASPACE_OK)

static void put(struct aspace *space, uint64_t i, unsigned how)
{
	assert_ok(
		aspace_map(space, aspace_range_of(20 * i, 20 * i + 10), 1, &backend, &object, how));
}

/* ---- The notes by themselves ------------------------------------------------------ */

enum { PLACES = 200 };

static void add(struct aspace *space, uint64_t start, uint64_t version)
{
	assert_true(asp_pool_reserve(&space->records, 1));
	asp_births_add(space, asp_pool_get(&space->records, sizeof(struct aspace_record)), start,
		       version);
}

/* Against an array, with few starts and with starts of all sizes. */
static void notes_are_found_moved_and_forgotten(void **state)
{
	uint64_t since[PLACES] = {0}, version = 1, oldest = 0, random = 1;
	struct aspace *space;
	size_t count = 0, most = 0;

	(void)state;
	assert_ok(aspace_create(NULL, &space));
	for (unsigned step = 0; step < 50000; step++) {
		uint64_t place, to, factor = step < 25000 ? 1 : UINT64_C(0x0123456789abcdf);

		if (step == 25000) {
			asp_births_forget(space, UINT64_MAX, SIZE_MAX);
			assert_int_equal(space->births.count, 0);
			assert_null(space->births.root);
			for (unsigned i = 0; i < PLACES; i++)
				since[i] = 0;
			count = 0;
		}
		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		place = (random >> 33) % PLACES;
		to = (random >> 43) % PLACES;
		switch (random >> 60) {
		case 0:
		case 1:
		case 2:
		case 3:
		case 4:
		case 5:
			if (since[place])
				break;
			add(space, place * factor, ++version);
			since[place] = version;
			count++;
			break;
		case 6:
		case 7:
		case 8:
			if (since[to])
				break;
			asp_births_move(space, place * factor, to * factor);
			since[to] = since[place];
			since[place] = 0;
			break;
		case 15:
			if (random >> 56 & 7)
				break;
			oldest = version - version % 64;
			asp_births_forget(space, oldest, SIZE_MAX);
			for (unsigned i = 0; i < PLACES; i++) {
				count -= since[i] && since[i] <= oldest;
				since[i] = since[i] <= oldest ? 0 : since[i];
			}
			break;
		default:
			assert_int_equal(asp_births_take(space, place * factor), since[place]);
			count -= since[place] != 0;
			since[place] = 0;
		}
		assert_int_equal(space->births.count, count);
		most = most < count ? count : most;
	}
	assert_true(most > PLACES / 4);
	for (unsigned i = 0; i < PLACES; i++)
		assert_int_equal(asp_births_take(space, i * UINT64_C(0x0123456789abcdf)), since[i]);
	assert_null(space->births.root);
	assert_null(space->births.oldest);
	assert_null(space->births.youngest);
	assert_ok(aspace_destroy(space, 0));
}

/* ---- When they are made, and how long they stay -------------------------------------- */

static void without_a_snapshot_nothing_is_noted(void **state)
{
	struct aspace *space;

	(void)state;
	assert_ok(aspace_create(NULL, &space));
	for (uint64_t i = 0; i < 100; i++)
		put(space, i, 0);
	assert_int_equal(space->births.count, 0);
	assert_ok(aspace_destroy(space, 0));
}

static void births_are_forgotten_with_the_snapshots_that_want_them(void **state)
{
	enum { AREAS = 1000 };
	struct aspace_snapshot older, newer;
	struct aspace *space;

	(void)state;
	assert_ok(aspace_create(NULL, &space));
	assert_ok(aspace_snapshot_take(space, &older));
	for (uint64_t i = 0; i < AREAS; i++) {
		if (i == AREAS / 4)
			assert_ok(aspace_snapshot_take(space, &newer));
		put(space, i, 0);
	}
	assert_int_equal(space->births.count, AREAS);
	assert_ok(aspace_validate(space, NULL, 0));
	/* To the newer snapshot the first quarter has always been there. */
	aspace_snapshot_release(&older);
	assert_ok(aspace_trim(space, 0));
	assert_int_equal(space->births.count, AREAS - AREAS / 4);
	/* With no snapshot each birth takes some older ones with it. */
	aspace_snapshot_release(&newer);
	for (uint64_t i = 0; i < AREAS / 2; i++)
		put(space, AREAS + i, 0);
	assert_int_equal(space->births.count, 0);
	assert_ok(aspace_validate(space, NULL, 0));
	assert_ok(aspace_destroy(space, 0));
}

/* What validation says of notes that are wrong (S8). */
static void wrong_notes_are_seen(void **state)
{
	struct aspace_violation violation;
	struct aspace_snapshot snapshot;
	struct asp_birth *birth;
	struct aspace *space;

	(void)state;
	assert_ok(aspace_create(NULL, &space));
	assert_ok(aspace_snapshot_take(space, &snapshot));
	for (uint64_t i = 0; i < 20; i++)
		put(space, i, 0);
	assert_ok(aspace_validate(space, &violation, 0));
	birth = space->births.oldest->younger;
	for (unsigned wrong = 0; wrong < 4; wrong++) {
		struct asp_birth saved = *birth;

		if (wrong == 0) /* where no area begins */
			asp_births_move(space, birth->note.start, birth->note.start + 1);
		else if (wrong == 1) /* older than the one before it */
			birth->since = 1;
		else if (wrong == 2)
			birth->older = NULL;
		else /* not where a search finds it */
			birth->note.start += 20 * 20;
		assert_int_equal(aspace_validate(space, &violation, 0), ASPACE_BAD_STATE);
		assert_int_equal(violation.invariant, 308);
		if (wrong == 0)
			asp_births_move(space, birth->note.start, saved.note.start);
		else
			*birth = saved;
		assert_ok(aspace_validate(space, &violation, 0));
	}
	aspace_snapshot_release(&snapshot);
	assert_ok(aspace_destroy(space, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notes_are_found_moved_and_forgotten),
		cmocka_unit_test(without_a_snapshot_nothing_is_noted),
		cmocka_unit_test(births_are_forgotten_with_the_snapshots_that_want_them),
		cmocka_unit_test(wrong_notes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
