/* SPDX-License-Identifier: MIT */
/*
 * Random operations of one thread against an array of pages, with backend calls that fail:
 * after each, the space, its invariants, the backend and gap searches are compared with
 * the array. Short: it is here to meet the faults of this directory, not to test the
 * library (tests/model and tests/fault do that).
 */
#include <aspace/backend/mock.h>

#include "../threads/crew.h"

#define PAGES 160
#define LO    UINT64_C(0x10000)

static struct aspace *space;
static struct aspace_mock *mock;
static int64_t model[PAGES]; /* flags, -1: a hole */

static uint64_t at(uint64_t page)
{
	return LO + page * 0x1000;
}

static void compare_pages(void)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		struct aspace_area area;
		uint64_t flags = 0;
		enum aspace_status status = aspace_find(space, aspace_va(at(i)), &area);
		bool held = aspace_mock_query(mock, aspace_va(at(i)), &flags);

		if (status != (model[i] < 0 ? ASPACE_NOT_MAPPED : ASPACE_OK) ||
		    (model[i] >= 0 && (int64_t)area.flags != model[i]))
			fail("page %llu: the space says otherwise", (unsigned long long)i);
		if (held != (model[i] >= 0) || (held && (int64_t)flags != model[i]))
			fail("page %llu: the backend holds something else", (unsigned long long)i);
	}
}

static void compare_gap(uint64_t pages)
{
	struct aspace_gap gap = {.size = pages * 0x1000};
	struct aspace_vaddr start = {0};
	enum aspace_status status = aspace_find_free(space, &gap, &start);
	uint64_t run = 0, page = 0;

	while (page < PAGES && run < pages)
		run = model[page++] < 0 ? run + 1 : 0;
	if (run < pages ? status != ASPACE_NO_SPACE
			: status != ASPACE_OK || start.value != at(page - pages))
		fail("a gap of %llu pages: %s at %#llx", (unsigned long long)pages,
		     aspace_status_string(status), (unsigned long long)start.value);
}

/* What was not refused is in the model. A replace that was half done is not undone: the
 * backend has the last word. */
static void settle(enum aspace_status status, uint64_t from, uint64_t to, int64_t flags,
		   bool only_mapped)
{
	if (status == ASPACE_OK) {
		for (uint64_t i = from; i < to; i++)
			model[i] = only_mapped && model[i] < 0 ? -1 : flags;
	} else if (status == ASPACE_BAD_STATE) {
		for (uint64_t i = 0; i < PAGES; i++) {
			uint64_t held;

			model[i] = aspace_mock_query(mock, aspace_va(at(i)), &held) ? (int64_t)held
										    : -1;
		}
	}
}

static void step(struct dice *dice)
{
	uint64_t from = roll_below(dice, PAGES), to = from + 1 + roll_below(dice, 12);
	int64_t flags = (int64_t)roll_below(dice, 6);
	struct aspace_range range;
	enum aspace_status status;

	if (roll_below(dice, 2))
		to = from + 1; /* many small areas: a higher tree */
	to = to > PAGES ? PAGES : to;
	range = aspace_range_of(at(from), at(to));
	aspace_mock_heal(mock);
	if (!roll_below(dice, 3))
		check_ok(aspace_mock_inject(mock, ASPACE_MOCK_ANY, 1 + roll_below(dice, 12), false,
					    ASPACE_NO_MEMORY));
	switch (roll_below(dice, 6)) {
	case 0:
	case 1:
	case 2:
		status = aspace_map(space, range, (uint64_t)flags, aspace_mock_backend(mock), NULL,
				    ASPACE_REPLACE);
		settle(status, from, to, flags, false);
		break;
	case 3:
	case 4:
		status = aspace_unmap(space, range, 0);
		settle(status, from, to, -1, false);
		break;
	default:
		status = aspace_protect(space, range, (uint64_t)flags, 0);
		settle(status, from, to, flags, true);
		break;
	}
	aspace_mock_heal(mock);
}

int main(int argc, char **argv)
{
	struct aspace_mock_options options = {
		.size = sizeof(options),
		.mode = ASPACE_MOCK_REMAP_RESTORES | ASPACE_MOCK_NO_PREPARE,
	};
	struct dice dice = {seed_from(argc, argv)};

	check_ok(aspace_mock_create(&options, &mock));
	space = make_space(&(struct aspace_options){
		.granule = 4096,
		.limits = aspace_range_of(LO, at(PAGES)),
	});
	for (int i = 0; i < PAGES; i++)
		model[i] = -1;
	for (int i = 0; i < 6000; i++) {
		step(&dice);
		check_space(space);
		compare_pages();
		compare_gap(1 + roll_below(&dice, 20));
	}
	check(aspace_mock_violations(mock, NULL) == 0);
	end_space(space);
	aspace_mock_destroy(mock);
	return 0;
}
