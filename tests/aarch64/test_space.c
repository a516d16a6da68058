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

static struct aspace *make(void)
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
	};
	struct aspace *space = NULL;

	machine = machine_create(&config, 1, expect_nothing, NULL);
	assert_int_equal(aspace_aarch64_linear_init(&source, machine_tables(machine), OFFSET),
			 ASPACE_OK);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	return space;
}

static void unmake(struct aspace *space)
{
	assert_int_equal(aspace_unmap(space, aspace_range_of(0, UINT64_C(1) << 39), 0), ASPACE_OK);
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

/* The areas of a space, one after the other, are what the tables map. */
struct sweep {
	struct aspace *space;
	uint64_t mapped;
};

static bool sweep_one(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	struct sweep *sweep = ctx;
	struct aspace_area area;

	assert_int_equal(aspace_find(sweep->space, mapping->range.start, &area), ASPACE_OK);
	assert_true(mapping->range.end.value <= area.end.value);
	assert_int_equal(mapping->flags, area.flags & ASPACE_AARCH64_KEPT_MASK);
	sweep->mapped += mapping->range.end.value - mapping->range.start.value;
	return true;
}

static void compare(struct aspace *space)
{
	struct sweep sweep = {space, 0};
	struct aspace_area area;
	uint64_t bytes = 0, at = 0;

	assert_int_equal(aspace_aarch64_walk(machine_tables(machine),
					     aspace_range_of(0, UINT64_C(1) << 39), sweep_one,
					     &sweep),
			 ASPACE_OK);
	for (; at < 64 * 1024 * PAGE; at += PAGE)
		bytes += aspace_find(space, aspace_va(at), &area) == ASPACE_OK ? PAGE : 0;
	assert_int_equal(bytes, sweep.mapped);
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
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
