/* SPDX-License-Identifier: MIT */
/*
 * Protects that take something away, in a grace-unmap space, step by step: what readers keep, what
 * is shown, who waits, and what a refusal leaves. Short: it is here to meet the faults of this directory;
 * tests/conformance has all of it.
 */
#include <aspace/backend/mock.h>

#include "../threads/crew.h"

static struct aspace *space;
static struct aspace_mock *mock;
static struct aspace_view section;

static uint64_t shown(uint64_t page)
{
	struct aspace_area area = {0};

	check_ok(aspace_find(space, aspace_va(page * 4096), &area));
	return area.flags;
}

static uint64_t held(uint64_t page)
{
	uint64_t flags = UINT64_MAX;

	check(aspace_mock_query(mock, aspace_va(page * 4096), &flags));
	return flags;
}

static struct aspace_range pages(uint64_t from, uint64_t to)
{
	return aspace_range_of(from * 4096, to * 4096);
}

static void map(uint64_t from, uint64_t to)
{
	check_ok(aspace_map(space, pages(from, to), 3, aspace_mock_backend(mock), NULL, 0));
}

static void check_valid(void)
{
	struct aspace_violation wrong = {0};

	if (aspace_validate(space, &wrong, 0) != ASPACE_OK)
		fail("%u: %s", wrong.invariant, wrong.what);
}

/* Pages 4 to 8 lose write access while somebody reads. */
static void protect_under_reader(void)
{
	map(0, 12);
	aspace_read_begin(space, &section);
	check_ok(aspace_protect(space, pages(4, 8), 1, 0));
	check(shown(5) == 1 && held(5) == 3);
	check_valid();
}

static void readers_keep_it(void)
{
	protect_under_reader();
	/* A neighbour that becomes equal stays apart. */
	check_ok(aspace_protect(space, pages(8, 12), 1, 0));
	check(aspace_count(space) == 3);
	check_valid();
	/* Nobody changes it before its time. */
	check(aspace_unmap(space, pages(4, 8), ASPACE_NOWAIT) == ASPACE_BUSY);
	check(aspace_protect(space, pages(5, 6), 0, 0) == ASPACE_BUSY);
	/* A fault finds what the backend holds. */
	check_ok(aspace_fault(space, pages(5, 6).start, ASPACE_ACCESS_WRITE, 0));
	check(held(5) == 3);
	aspace_read_end(&section);
	check_ok(aspace_quiesce(space, 0));
	check(held(5) == 1 && held(9) == 1 && aspace_count(space) == 2);
	check_valid();
	check_ok(aspace_clear(space, 0));
	check_ok(aspace_quiesce(space, 0));
}

static void refusals_are_told(void)
{
	protect_under_reader();
	check_ok(aspace_mock_inject(mock, ASPACE_MOCK_PROTECT, 1, false, ASPACE_NO_MEMORY));
	aspace_read_end(&section);
	check(aspace_quiesce(space, 0) == ASPACE_BAD_STATE);
	check(shown(5) == 3 && held(5) == 3 && aspace_count(space) == 1);
	check_valid();
	check_ok(aspace_clear(space, 0));
	check_ok(aspace_quiesce(space, 0));
}

/* And of an unmap. */
static void refused_unmaps_are_told(void)
{
	map(0, 4);
	check_ok(aspace_mock_inject(mock, ASPACE_MOCK_UNMAP, 1, false, ASPACE_NO_MEMORY));
	check_ok(aspace_unmap(space, pages(0, 4), 0));
	check(aspace_quiesce(space, 0) == ASPACE_BAD_STATE);
	check(shown(2) == 3 && held(2) == 3 && aspace_count(space) == 1);
	check_valid();
	check_ok(aspace_clear(space, 0));
	check_ok(aspace_quiesce(space, 0));
}

/* There and back in a transaction is nothing; what was mapped in it nobody has found. */
static void transactions(void)
{
	struct aspace_txn *txn;

	map(0, 4);
	aspace_read_begin(space, &section);
	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_map(txn, pages(4, 8), 3, aspace_mock_backend(mock), NULL, 0));
	check_ok(aspace_txn_protect(txn, pages(2, 6), 1, 0));
	check_ok(aspace_txn_protect(txn, pages(2, 3), 3, 0));
	check_ok(aspace_txn_commit(txn));
	check(shown(3) == 1 && held(3) == 3 && held(2) == 3 && held(4) == 1);
	check(stats_of(space).pending == 1);
	check_valid();
	aspace_read_end(&section);
	check_ok(aspace_quiesce(space, 0));
	check(held(3) == 1);
	check_valid();
}

/* Above the bound nothing more leaves while somebody reads. */
static void bound(void)
{
	check_ok(aspace_clear(space, 0));
	check_ok(aspace_quiesce(space, 0));
	map(0, 12);
	aspace_read_begin(space, &section);
	check_ok(aspace_unmap(space, pages(0, 9), 0));
	check(stats_of(space).bytes_leaving == UINT64_C(9) * 4096);
	check(aspace_unmap(space, pages(9, 10), 0) == ASPACE_BUSY);
	check_valid();
	aspace_read_end(&section);
	check_ok(aspace_unmap(space, pages(9, 10), 0));
	check_ok(aspace_quiesce(space, 0));
	check(stats_of(space).bytes_leaving == 0);
}

int main(void)
{
	struct aspace_mock_options options = {
		.size = sizeof(options),
		.mode = ASPACE_MOCK_LOSES | ASPACE_MOCK_LAZY | ASPACE_MOCK_CHECK_ACCESS,
	};

	check_ok(aspace_mock_create(&options, &mock));
	space = make_space(&(struct aspace_options){
		.granule = 4096, .mode = ASPACE_GRACE_UNMAP, .leaving_max = (size_t)8 * 4096});
	readers_keep_it();
	refusals_are_told();
	refused_unmaps_are_told();
	transactions();
	bound();
	end_space(space);
	if (aspace_mock_violations(mock, NULL))
		fail("the backend's contract was broken");
	aspace_mock_destroy(mock);
	return 0;
}
