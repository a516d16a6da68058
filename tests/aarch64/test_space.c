/* SPDX-License-Identifier: MIT */
/*
 * Tables under a space: what the library makes of its operations, on the adversarial machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <aspace/aspace.h>

#include "machine.h"

#include <stdio.h>
#include <string.h>

#define PAGE   UINT64_C(0x1000)
#define GIGA   UINT64_C(0x40000000)
#define OFFSET UINT64_C(0x80000000)

#define R  ((uint64_t)ASPACE_AARCH64_READ)
#define RW (R | ASPACE_AARCH64_WRITE)

static struct machine *machine;
static struct aspace_aarch64_linear source;

/* Nobody walks here: the machine checks the order of what it is asked to do, and counts. */
static void expect_nothing(void *ctx, uint64_t address, bool after, struct expectation *e)
{
	(void)ctx;
	(void)address;
	(void)after;
	memset(e, 0, sizeof(*e));
}

static struct aspace *make_like(unsigned mode)
{
	const struct aspace_aarch64_config config = {
		.size = sizeof(config),
		.regime = ASPACE_AARCH64_EL1_LOWER,
		.granule_shift = 12,
		.input_bits = 39,
		.output_bits = 48,
		.start_level = ASPACE_AARCH64_START_ANY,
		.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
	};
	struct aspace_options options = {
		.size = sizeof(options),
		.granule = PAGE,
		.limits = aspace_aarch64_range(&config),
		.mode = mode,
	};
	struct aspace *space = NULL;

	machine = machine_create(&config, 1, expect_nothing, NULL);
	assert_int_equal(aspace_aarch64_linear_init(&source, machine_tables(machine), OFFSET),
			 ASPACE_OK);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	return space;
}

static struct aspace *make(void)
{
	return make_like(0);
}

static void unmake(struct aspace *space)
{
	assert_int_equal(aspace_unmap(space, aspace_range_of(0, UINT64_C(1) << 39), 0), ASPACE_OK);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_int_equal(aspace_aarch64_table_count(machine_tables(machine)), 1);
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	if (machine_violation(machine))
		fail_msg("%s", machine_violation(machine));
	assert_int_equal(machine_destroy(machine), 0);
}

static uint64_t rights_at(uint64_t address)
{
	struct aspace_aarch64_mapping mapping;

	assert_int_equal(
		aspace_aarch64_query(machine_tables(machine), aspace_va(address), &mapping),
		ASPACE_OK);
	assert_int_equal(mapping.output.value, address + OFFSET);
	return mapping.flags & RW;
}

static void test_operations(void **state)
{
	struct aspace *space = make();

	(void)state;
	assert_int_equal(
		aspace_map(space, aspace_range_of(0x10000, GIGA), RW, &source.backend, NULL, 0),
		ASPACE_OK);
	assert_int_equal(aspace_protect(space, aspace_range_of(0x20000, 0x30000), R, 0), ASPACE_OK);
	/* Unmaps, and maps before the flush. */
	assert_int_equal(aspace_map(space, aspace_range_of(0x28000, 0x40000), RW, &source.backend,
				    NULL, ASPACE_REPLACE),
			 ASPACE_OK);
	assert_int_equal(rights_at(0x1f000), RW);
	assert_int_equal(rights_at(0x27000), R);
	assert_int_equal(rights_at(0x28000), RW);
	/* Flags that nothing can say: the old areas stay. */
	assert_int_equal(aspace_map(space, aspace_range_of(0x10000, GIGA), ASPACE_AARCH64_WRITE,
				    &source.backend, NULL, ASPACE_REPLACE),
			 ASPACE_INVALID_PARAM);
	assert_int_equal(rights_at(0x27000), R);
	assert_int_equal(aspace_count(space), 3);
	unmake(space);
}

enum {
	SETS = 32, /* of READ to USER_EXECUTE */
};

/* EL1 and EL0, each: reads, writes, executes; by the tables as they are. */
static unsigned access_at(uint64_t address)
{
	struct rights rights;
	uint64_t output;

	if (!machine_translate(machine, address, &output, &rights))
		return 0;
	assert_int_equal(output, address + OFFSET);
	return (unsigned)rights.read | (unsigned)rights.write << 1 | (unsigned)rights.execute << 2 |
	       (unsigned)rights.user_read << 3 | (unsigned)rights.user_write << 4 |
	       (unsigned)rights.user_execute << 5;
}

/* A reader has found a group of pages with flags that are taken away now, by a protect of the middle of it: as
 * long as the section is open all of them allow what they did, and what is given. */
static void protect_under_reader(struct aspace *space, uint64_t from, uint64_t to,
				 const unsigned *access, unsigned long tally[2])
{
	const struct aspace_range middle = aspace_range_of(5 * PAGE, 11 * PAGE);
	struct aspace_vaddr at = aspace_va(7 * PAGE);
	uint64_t meanwhile = from;
	unsigned loses = source.backend.ops->loses(&source.backend, from, to, &meanwhile);
	struct aspace_area found, newest;
	struct aspace_view view;

	assert_int_equal(
		aspace_map(space, aspace_range_of(0, 16 * PAGE), from, &source.backend, NULL, 0),
		ASPACE_OK);
	aspace_read_begin(space, &view);
	assert_int_equal(aspace_view_find(&view, at, &found), ASPACE_OK);
	assert_int_equal(aspace_protect(space, middle, to, 0), ASPACE_OK);
	assert_int_equal(aspace_find(space, at, &newest), ASPACE_OK);
	assert_int_equal(newest.flags, to);
	assert_int_equal(aspace_view_find(&view, at, &found), ASPACE_OK);
	assert_int_equal(found.flags, from);
	for (uint64_t page = 0; page < 16; page++) {
		uint64_t address = page * PAGE;
		bool inside = page >= 5 && page < 11;

		assert_int_equal(access_at(address), access[!inside ? from
							    : loses ? meanwhile
								    : to]);
		if (loses)
			assert_int_equal(access[from] & ~access_at(address), 0);
		if (inside && (!loses || meanwhile != from))
			assert_int_equal(access[to] & ~access_at(address), 0);
	}
	/* Whoever would change it is told that somebody reads. */
	assert_int_equal(aspace_unmap(space, middle, ASPACE_NOWAIT),
			 loses ? ASPACE_BUSY : ASPACE_OK);
	tally[loses ? 0 : 1]++;
	aspace_read_end(&view);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	if (loses)
		assert_int_equal(access_at(at.value), access[to]);
	assert_int_equal(access_at(4 * PAGE), access[from]);
	assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
}

static void test_protect_under_reader(void **state)
{
	struct aspace *space = make_like(ASPACE_GRACE_UNMAP);
	unsigned long tally[2] = {0};
	unsigned access[SETS];
	bool can_be[SETS];

	(void)state;
	for (uint64_t flags = 0; flags < SETS; flags++) {
		can_be[flags] = aspace_map(space, aspace_range_of(0, PAGE), flags, &source.backend,
					   NULL, 0) == ASPACE_OK;
		access[flags] = access_at(0);
		assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
		assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	}
	for (uint64_t from = 0; from < SETS; from++) {
		for (uint64_t to = 0; to < SETS; to++) {
			if (can_be[from] && can_be[to] && from != to)
				protect_under_reader(space, from, to, access, tally);
		}
	}
	assert_true(tally[0] > 100 && tally[1] > 20);
	unmake(space);
}

static bool next_area(void *ctx, struct aspace_area *area)
{
	return aspace_iter_next(ctx, area);
}

/* Areas and tables agree? */
static enum aspace_status check(struct aspace *space, struct aspace_aarch64_difference *difference)
{
	enum aspace_status status;
	struct aspace_view view;
	struct aspace_iter iter;

	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	status = aspace_aarch64_check(machine_tables(machine), next_area, &iter, difference);
	aspace_read_end(&view);
	return status;
}

static void compare(struct aspace *space)
{
	struct aspace_aarch64_difference difference;

	if (check(space, &difference) != ASPACE_OK)
		fail_msg("%#llx: %s", (unsigned long long)difference.address.value,
			 difference.what);
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
}

static void change_behind(const struct aspace_change *change)
{
	const struct aspace_backend_ops *ops = source.backend.ops;
	enum aspace_status status;

	if (change->kind == ASPACE_CHANGE_MAP)
		status = ops->map(&source.backend, change);
	else if (change->kind == ASPACE_CHANGE_UNMAP)
		status = ops->unmap(&source.backend, change);
	else
		status = ops->protect(&source.backend, change);
	assert_int_equal(status, ASPACE_OK);
	ops->flush(&source.backend);
}

/* aspace_validate() asks about areas only. */
static void expect_invalid(struct aspace *space, const struct aspace_aarch64_difference *found)
{
	struct aspace_violation violation;

	assert_int_equal(aspace_validate(space, &violation, 0), ASPACE_BAD_STATE);
	assert_int_equal(violation.invariant, 307);
	assert_int_equal(violation.address.value, found->address.value);
	assert_string_equal(violation.what, found->what);
}

/* What is done behind the space's back is found. */
static void test_check(void **state)
{
	static const struct {
		enum aspace_change_kind kind;
		uint64_t start, end, flags;
		const char *what;
	} behind[] = {
		{ASPACE_CHANGE_MAP, 0, PAGE, RW, "something is mapped where no area is"},
		{ASPACE_CHANGE_MAP, 40 * PAGE, 41 * PAGE, RW,
		 "something is mapped where no area is"},
		{ASPACE_CHANGE_UNMAP, 12 * PAGE, 13 * PAGE, 0, "a part of an area is not mapped"},
		{ASPACE_CHANGE_PROTECT, 12 * PAGE, 13 * PAGE, R,
		 "a leaf has other flags than its area"},
		{ASPACE_CHANGE_PROTECT, 12 * PAGE, 13 * PAGE, RW | ASPACE_AARCH64_OUTER_SHARED,
		 "a leaf has other flags than its area"},
	};

	(void)state;
	for (size_t i = 0; i <= sizeof(behind) / sizeof(behind[0]); i++) {
		struct aspace_range area = aspace_range_of(10 * PAGE, 20 * PAGE);
		struct aspace *space = make();
		struct aspace_aarch64_difference difference;

		assert_int_equal(aspace_map(space, area, RW, &source.backend, NULL, 0), ASPACE_OK);
		compare(space);
		if (i < sizeof(behind) / sizeof(behind[0])) {
			const struct aspace_change change = {
				.kind = behind[i].kind,
				.range = aspace_range_of(behind[i].start, behind[i].end),
				.new_flags = behind[i].flags,
			};

			struct aspace_change back = change;

			back.kind = change.kind == ASPACE_CHANGE_MAP ? ASPACE_CHANGE_UNMAP
								     : ASPACE_CHANGE_MAP;
			back.new_flags = RW;
			change_behind(&change);
			assert_int_equal(check(space, &difference), ASPACE_BAD_STATE);
			assert_string_equal(difference.what, behind[i].what);
			assert_int_equal(difference.address.value, behind[i].start);
			assert_int_equal(check(space, NULL), ASPACE_BAD_STATE);
			if (change.kind == ASPACE_CHANGE_MAP)
				assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
			else
				expect_invalid(space, &difference);
			if (change.kind != ASPACE_CHANGE_PROTECT)
				change_behind(&back);
		} else {
			source.offset += PAGE;
			assert_int_equal(check(space, &difference), ASPACE_BAD_STATE);
			assert_string_equal(difference.what,
					    "a leaf leads to a frame that is not its own");
			expect_invalid(space, &difference);
			source.offset -= PAGE;
		}
		assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
		assert_null(machine_violation(machine));
		machine_destroy(machine);
	}
}

/* Everything together: two kinds of sources, areas populated now and later, moved, replaced, and
 * memory that runs out anywhere. */
static void test_sources(void **state)
{
	struct aspace *space = make();
	struct aspace_aarch64_allocated eager, lazy;
	struct aspace_backend *backends[] = {&source.backend, &eager.backend, &lazy.backend};
	static const uint64_t flags[] = {RW, R, 0};
	unsigned statuses[32] = {0}, moves = 0, faults = 0;
	uint64_t random = 1;

	(void)state;
	assert_int_equal(aspace_aarch64_allocated_init(&eager, machine_tables(machine), false, 0),
			 ASPACE_OK);
	assert_int_equal(
		aspace_aarch64_allocated_init(&lazy, machine_tables(machine), true, 16 * PAGE),
		ASPACE_OK);
	for (unsigned i = 0; i < 4000; i++) {
		uint64_t start, size;
		struct aspace_range range;
		struct aspace_area area;
		enum aspace_status status = ASPACE_OK;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		start = (random >> 40) % 2000;
		size = 1 + (random >> 20) % (random >> 19 & 1 ? 8 : 530);
		range = aspace_range_of(start * PAGE, (start + size) * PAGE);
		machine_refuse(machine, (random >> 56) % 8 == 0 ? 1 + (random >> 59) % 2 : 0);
		machine_refuse_frames(machine, (random >> 56) % 8 == 1 ? 1 + (random >> 59) : 0, 0);
		switch (i % 6) {
		case 0:
			status = aspace_map(space, range, flags[(random >> 30) % 3],
					    backends[(random >> 32) % 3], NULL, ASPACE_REPLACE);
			break;
		case 1:
			status = aspace_protect(space, range, flags[(random >> 30) % 3], 0);
			break;
		case 2:
			if (aspace_find(space, range.start, &area) == ASPACE_OK &&
			    range.end.value > area.end.value)
				range.end = area.end;
			status = aspace_move(space, range,
					     aspace_va(((random >> 12) % 2500) * PAGE), 0);
			moves += status == ASPACE_OK;
			break;
		case 3:
			status = aspace_unmap(space, range, 0);
			break;
		default:
			status = aspace_fault(space, range.start, ASPACE_ACCESS_READ, 0);
			faults += status == ASPACE_OK;
			break;
		}
		assert_true(status < 32 && status != ASPACE_BAD_STATE);
		statuses[status]++;
		machine_refuse(machine, 0);
		machine_refuse_frames(machine, 0, 0);
		compare(space);
	}
	printf("%u moves, %u faults, %u times no memory\n", moves, faults,
	       statuses[ASPACE_NO_MEMORY]);
	assert_true(moves > 10 && faults > 100 && statuses[ASPACE_NO_MEMORY] > 10);
	unmake(space);
}

/* Transactions, and tables that are refused in the middle of anything. */
static void test_refusals(void **state)
{
	struct aspace *space = make();
	uint64_t random = 1;
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t start, size;
		enum aspace_status status;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		start = (random >> 40) % 65000;
		size = 1 + (random >> 20) % (random >> 19 & 1 ? 8 : 530);
		machine_refuse(machine, random >> 63 ? 1 + (random >> 62) % 2 : 0);
		if (i % 3 == 0)
			status = aspace_map(space,
					    aspace_range_of(start * PAGE, (start + size) * PAGE),
					    RW, &source.backend, NULL, ASPACE_REPLACE);
		else if (i % 3 == 1)
			status = aspace_protect(
				space, aspace_range_of(start * PAGE, (start + size) * PAGE),
				random >> 30 & 1 ? R : RW, 0);
		else
			status = aspace_unmap(
				space, aspace_range_of(start * PAGE, (start + size) * PAGE), 0);
		machine_refuse(machine, 0);
		if (status == ASPACE_NO_MEMORY)
			refused++;
		else
			assert_int_equal(status, ASPACE_OK);
		if (i % 16 == 0)
			compare(space);
	}
	assert_true(refused > 20);
	compare(space);
	unmake(space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations), cmocka_unit_test(test_protect_under_reader),
		cmocka_unit_test(test_refusals),   cmocka_unit_test(test_check),
		cmocka_unit_test(test_sources),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
