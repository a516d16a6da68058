/* SPDX-License-Identifier: MIT */
/*
 * The backend through its vtable, on the adversarial machine: memory that runs out, changes that
 * are refused, what a reader meets in the middle, what the processor writes there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/aarch64/tables.h"
#include "machine.h"

#include <stdio.h>
#include <string.h>

#define PAGE   UINT64_C(0x1000)
#define BLOCK  UINT64_C(0x200000)
#define GIGA   UINT64_C(0x40000000)
#define OFFSET UINT64_C(0x80000000)

#define R  ((uint64_t)ASPACE_AARCH64_READ)
#define RW (R | ASPACE_AARCH64_WRITE)

static struct aspace_aarch64_config config_4k(void)
{
	return (struct aspace_aarch64_config){
		.size = sizeof(struct aspace_aarch64_config),
		.regime = ASPACE_AARCH64_EL1_LOWER,
		.granule_shift = 12,
		.input_bits = 39,
		.output_bits = 48,
		.start_level = ASPACE_AARCH64_START_ANY,
		.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
		.id = 1,
	};
}

/* What is mapped is what the library's walk says: enough where the machine only watches. */
static void expect_anything(void *ctx, uint64_t address, bool after, struct expectation *e)
{
	(void)ctx;
	(void)address;
	(void)after;
	memset(e, 0, sizeof(*e));
}

/* Below 2 MiB all is mapped, for EL1 to read and write, at OFFSET. */
static void expect_block(void *ctx, uint64_t address, bool after, struct expectation *e)
{
	(void)ctx;
	(void)after;
	*e = (struct expectation){
		.mapped = address < BLOCK,
		.output = address + OFFSET,
		.rights = {.read = true, .write = true, .memory = 0xff, .shareability = 3},
	};
}

struct world {
	struct machine *machine;
	struct aspace_aarch64 *tables;
	struct aspace_aarch64_linear source;
};

static void make_expecting(struct world *w, const struct aspace_aarch64_config *config,
			   machine_expect_fn *expect)
{
	w->machine = machine_create(config, 1, expect, NULL);
	w->tables = machine_tables(w->machine);
	assert_int_equal(aspace_aarch64_linear_init(&w->source, w->tables, OFFSET), ASPACE_OK);
}

static void make(struct world *w, const struct aspace_aarch64_config *config)
{
	make_expecting(w, config, expect_anything);
}

static void unmake(struct world *w)
{
	if (machine_violation(w->machine))
		fail_msg("%s", machine_violation(w->machine));
	assert_int_equal(machine_destroy(w->machine), 0);
}

static enum aspace_status call(struct world *w, enum aspace_change_kind kind, uint64_t start,
			       uint64_t end, uint64_t old_flags, uint64_t new_flags, bool prepare)
{
	const struct aspace_change change = {
		.kind = kind,
		.range = aspace_range_of(start, end),
		.old_flags = old_flags,
		.new_flags = new_flags,
	};
	struct aspace_backend *backend = &w->source.backend;
	enum aspace_status status = ASPACE_OK;

	if (prepare)
		status = backend->ops->prepare(backend, &change);
	if (status == ASPACE_OK)
		status = kind == ASPACE_CHANGE_MAP     ? backend->ops->map(backend, &change)
			 : kind == ASPACE_CHANGE_UNMAP ? backend->ops->unmap(backend, &change)
						       : backend->ops->protect(backend, &change);
	backend->ops->flush(backend);
	return status;
}

static enum aspace_status map(struct world *w, uint64_t start, uint64_t end, uint64_t flags)
{
	return call(w, ASPACE_CHANGE_MAP, start, end, 0, flags, true);
}

static enum aspace_status unmap(struct world *w, uint64_t start, uint64_t end)
{
	return call(w, ASPACE_CHANGE_UNMAP, start, end, 0, 0, true);
}

static enum aspace_status protect(struct world *w, uint64_t start, uint64_t end, uint64_t flags)
{
	return call(w, ASPACE_CHANGE_PROTECT, start, end, 0, flags, true);
}

static struct aspace_aarch64_mapping query(struct world *w, uint64_t address)
{
	struct aspace_aarch64_mapping mapping;

	assert_int_equal(aspace_aarch64_query(w->tables, aspace_va(address), &mapping), ASPACE_OK);
	return mapping;
}

static struct aspace_change change_of(enum aspace_change_kind kind, uint64_t start, uint64_t end,
				      uint64_t flags);

/* ---- Sizes ----------------------------------------------------------------------------- */

static void test_largest_fit(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct world w;

	(void)state;
	make(&w, &config);
	/* A page before a gigabyte, and one after it. */
	assert_int_equal(map(&w, GIGA - PAGE, 2 * GIGA + PAGE, RW), ASPACE_OK);
	assert_int_equal(query(&w, GIGA - PAGE).level, 3);
	assert_int_equal(query(&w, GIGA).level, 1);
	assert_int_equal(query(&w, 2 * GIGA).level, 3);
	/* Root; two tables at level 2 and two at level 3. */
	assert_int_equal(aspace_aarch64_table_count(w.tables), 5);
	assert_int_equal(unmap(&w, GIGA - PAGE, 2 * GIGA + PAGE), ASPACE_OK);
	assert_int_equal(aspace_aarch64_table_count(w.tables), 1);

	/* Sixteen pages are a group, one less is none; and so are sixteen blocks. */
	assert_int_equal(map(&w, 0x10000, 0x20000, RW), ASPACE_OK);
	assert_true(query(&w, 0x1f000).contiguous);
	assert_int_equal(map(&w, 0x30000, 0x3f000, RW), ASPACE_OK);
	assert_false(query(&w, 0x30000).contiguous);
	assert_int_equal(map(&w, 16 * BLOCK, 32 * BLOCK, RW), ASPACE_OK);
	assert_int_equal(query(&w, 17 * BLOCK).level, 2);
	assert_true(query(&w, 17 * BLOCK).contiguous);

	/* Caps. */
	assert_int_equal(map(&w, 4 * GIGA, 5 * GIGA, RW | ASPACE_AARCH64_LEVEL_2), ASPACE_OK);
	assert_int_equal(query(&w, 4 * GIGA).level, 2);
	assert_int_equal(map(&w, 48 * BLOCK, 49 * BLOCK, RW | ASPACE_AARCH64_LEVEL_3), ASPACE_OK);
	assert_int_equal(query(&w, 48 * BLOCK).level, 3);
	assert_true(query(&w, 48 * BLOCK).contiguous);
	assert_int_equal(map(&w, 50 * BLOCK, 51 * BLOCK,
			     RW | ASPACE_AARCH64_LEVEL_3 | ASPACE_AARCH64_NO_CONTIGUOUS),
			 ASPACE_OK);
	assert_false(query(&w, 50 * BLOCK).contiguous);
	unmake(&w);
}

static void test_split_keeps_the_rest_large(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct world w;

	(void)state;
	make(&w, &config);
	assert_int_equal(map(&w, GIGA, 2 * GIGA, RW), ASPACE_OK);
	assert_int_equal(protect(&w, GIGA + BLOCK + PAGE, GIGA + BLOCK + 2 * PAGE, R), ASPACE_OK);
	assert_int_equal(query(&w, GIGA + BLOCK).level, 3);
	assert_int_equal(query(&w, GIGA).level, 2);
	assert_false(query(&w, GIGA).contiguous);
	/* The next sixteen blocks, and the next sixteen pages, are groups again. */
	assert_true(query(&w, GIGA + 16 * BLOCK).contiguous);
	assert_true(query(&w, GIGA + BLOCK + 16 * PAGE).contiguous);
	assert_int_equal(query(&w, GIGA + BLOCK + PAGE).flags & RW, R);
	assert_int_equal(query(&w, GIGA + BLOCK + 2 * PAGE).flags & RW, RW);
	assert_int_equal(aspace_aarch64_table_count(w.tables), 3);
	unmake(&w);
}

static void test_compact(void **state)
{
	uint64_t small = RW | ASPACE_AARCH64_LEVEL_3 | ASPACE_AARCH64_NO_CONTIGUOUS;
	struct aspace_aarch64_config config = config_4k();
	struct aspace_range all = aspace_range_of(0, UINT64_C(1) << 39);
	struct world w;

	(void)state;
	make(&w, &config);
	assert_int_equal(map(&w, 0, 16 * BLOCK + 16 * PAGE, small), ASPACE_OK);
	assert_int_equal(protect(&w, PAGE, 2 * PAGE, R), ASPACE_OK);
	assert_int_equal(aspace_aarch64_table_count(w.tables), 19);
	/* One page stands apart: its block stays a table, and its group single pages. */
	assert_int_equal(aspace_aarch64_compact(w.tables, all, 0), ASPACE_OK);
	assert_int_equal(aspace_aarch64_table_count(w.tables), 4);
	assert_int_equal(query(&w, 0).level, 3);
	assert_false(query(&w, 0).contiguous);
	assert_true(query(&w, 16 * PAGE).contiguous);
	assert_int_equal(query(&w, BLOCK).level, 2);
	assert_false(query(&w, BLOCK).contiguous); /* fifteen of a group of sixteen */
	assert_true(query(&w, 16 * BLOCK).contiguous);
	/* No longer; with a cap, then without. */
	assert_int_equal(protect(&w, PAGE, 2 * PAGE, RW), ASPACE_OK);
	assert_int_equal(aspace_aarch64_compact(w.tables, all, ASPACE_AARCH64_LEVEL_3), ASPACE_OK);
	assert_int_equal(query(&w, 0).level, 3);
	assert_true(query(&w, 0).contiguous);
	assert_int_equal(aspace_aarch64_compact(w.tables, all, ASPACE_AARCH64_NO_CONTIGUOUS),
			 ASPACE_OK);
	assert_int_equal(query(&w, 0).level, 2);
	assert_false(query(&w, 0).contiguous);
	/* A range that cuts the group leaves it alone. */
	assert_int_equal(aspace_aarch64_compact(w.tables, aspace_range_of(PAGE, 16 * BLOCK), 0),
			 ASPACE_OK);
	assert_false(query(&w, 0).contiguous);
	assert_int_equal(aspace_aarch64_compact(w.tables, all, 0), ASPACE_OK);
	assert_true(query(&w, 0).contiguous);
	assert_int_equal(aspace_aarch64_compact(w.tables, aspace_range_of(0, 1), 0),
			 ASPACE_INVALID_PARAM);
	assert_int_equal(aspace_aarch64_compact(w.tables, all, R), ASPACE_INVALID_PARAM);
	unmake(&w);

	config.no_transient_faults = true;
	make(&w, &config);
	assert_int_equal(map(&w, 0, BLOCK, small), ASPACE_OK);
	assert_int_equal(aspace_aarch64_compact(w.tables, all, 0), ASPACE_NOT_SUPPORTED);
	assert_int_equal(query(&w, 0).level, 3);
	unmake(&w);
	config.bbm_level = 2;
	config.conflicts_tolerated = true;
	make_expecting(&w, &config, expect_block);
	assert_int_equal(map(&w, 0, BLOCK, small), ASPACE_OK);
	machine_begin(w.machine, (const uint64_t[]){0, BLOCK - 1}, 2);
	assert_int_equal(aspace_aarch64_compact(w.tables, all, 0), ASPACE_OK);
	machine_end(w.machine);
	assert_int_equal(query(&w, 0).level, 2);
	unmake(&w);
}

/* Each descriptor that a compaction makes is there at its end. */
static struct {
	const uint64_t *entry;
	uint64_t value;
} made[4096];
static size_t made_count;

static void note_made(const uint64_t *entry, uint64_t value)
{
	assert_true(made_count < sizeof(made) / sizeof(made[0]));
	/* Not the lists through tables that have been unlinked. */
	if (asp_a64_is_valid(value)) {
		made[made_count].entry = entry;
		made[made_count++].value = value;
	}
}

static void noting_store(void *ctx, uint64_t *entry, uint64_t value)
{
	note_made(entry, value);
	machine_ops()->store(ctx, entry, value);
}

static bool noting_swap(void *ctx, uint64_t *entry, uint64_t expected, uint64_t value)
{
	note_made(entry, value);
	return machine_ops()->swap(ctx, entry, expected, value);
}

static void keep_table(void *ctx, struct aspace_paddr table, size_t size)
{
	(void)ctx;
	(void)table;
	(void)size;
}

static void test_compact_makes_nothing_in_vain(void **state)
{
	uint64_t small = RW | ASPACE_AARCH64_LEVEL_3 | ASPACE_AARCH64_NO_CONTIGUOUS;
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_ops ops = *machine_ops();
	struct world w;

	(void)state;
	ops.store = noting_store;
	ops.swap = noting_swap;
	ops.table_retire = keep_table; /* so that it can be looked at */
	for (unsigned bbm = 0; bbm < 2; bbm++) {
		config.bbm_level = bbm ? 2 : 0;
		config.conflicts_tolerated = bbm;
		make(&w, &config);
		/* A gigabyte, pages and blocks mixed, for one block at level 1; sixteen blocks and one,
		 * for a group and a block; and sixteen pages. */
		assert_int_equal(map(&w, GIGA, GIGA + 300 * BLOCK, small), ASPACE_OK);
		assert_int_equal(map(&w, GIGA + 300 * BLOCK, 2 * GIGA, RW), ASPACE_OK);
		assert_int_equal(map(&w, 4 * GIGA, 4 * GIGA + 17 * BLOCK + 16 * PAGE, small),
				 ASPACE_OK);
		made_count = 0;
		w.tables->ops = &ops;
		assert_int_equal(
			aspace_aarch64_compact(w.tables, aspace_range_of(0, UINT64_C(1) << 39), 0),
			ASPACE_OK);
		w.tables->ops = machine_ops();
		assert_int_equal(query(&w, GIGA).level, 1);
		assert_int_equal(query(&w, 4 * GIGA).level, 2);
		assert_true(query(&w, 4 * GIGA).contiguous);
		assert_true(query(&w, 4 * GIGA + 17 * BLOCK).contiguous);
		for (size_t i = 0; i < made_count; i++) {
			/* The seventeen blocks come first, and the group is of sixteen of them. */
			bool grouped = !asp_a64_is_table(2, made[i].value) &&
				       (*made[i].entry ^ made[i].value) == ASP_A64_CONTIGUOUS;

			if (*made[i].entry != made[i].value && !grouped)
				fail_msg("%#lx was made, and is %#lx", (unsigned long)made[i].value,
					 (unsigned long)*made[i].entry);
		}
		/* A block, seventeen, a group of sixteen, and one. */
		assert_int_equal(made_count, 1 + 17 + 16 + 16);
		assert_int_equal(machine_destroy(w.machine), 1 + 300 + 17);
	}
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void test_bad_changes(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct world w;

	(void)state;
	make(&w, &config);
	assert_int_equal(map(&w, 0x1000, 0x1000, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(map(&w, 0x1800, 0x3000, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(map(&w, 0x1000, 0x2800, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(map(&w, 0, (UINT64_C(1) << 39) + PAGE, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(map(&w, 0x1000, 0x2000, ASPACE_AARCH64_WRITE), ASPACE_INVALID_PARAM);
	assert_int_equal(map(&w, 0x1000, 0x2000, UINT64_C(1) << 40), ASPACE_INVALID_PARAM);
	/* Frames beyond what can be said. */
	w.source.offset = (UINT64_C(1) << 48) - PAGE;
	assert_int_equal(map(&w, 0, PAGE, RW), ASPACE_OK);
	assert_int_equal(map(&w, PAGE, 2 * PAGE, RW), ASPACE_INVALID_PARAM);
	assert_int_equal(unmap(&w, 0, PAGE), ASPACE_OK);
	w.source.offset = OFFSET;
	/* What is not as the change says. Without prepare: that surveys as well. */
	assert_int_equal(map(&w, 0x1000, 0x3000, RW), ASPACE_OK);
	assert_int_equal(call(&w, ASPACE_CHANGE_MAP, 0, 0x2000, 0, RW, false),
			 ASPACE_ALREADY_EXISTS);
	assert_int_equal(call(&w, ASPACE_CHANGE_UNMAP, 0x2000, 0x4000, RW, 0, false),
			 ASPACE_NOT_MAPPED);
	assert_int_equal(call(&w, ASPACE_CHANGE_PROTECT, 0, 0x2000, RW, R, false),
			 ASPACE_NOT_MAPPED);
	assert_int_equal(query(&w, 0x1000).flags & RW, RW);
	assert_int_equal(query(&w, 0x2000).flags & RW, RW);
	unmake(&w);
}

static void test_no_transient_faults(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	uint64_t device = R | ASPACE_AARCH64_TYPE(ASPACE_AARCH64_DEVICE_nGnRE);
	struct world w;

	(void)state;
	config.no_transient_faults = true;
	make(&w, &config);
	assert_int_equal(map(&w, 0, BLOCK, RW), ASPACE_OK);
	assert_int_equal(protect(&w, 0, PAGE, R), ASPACE_NOT_SUPPORTED);
	assert_int_equal(unmap(&w, 0, PAGE), ASPACE_NOT_SUPPORTED);
	assert_int_equal(protect(&w, 0, BLOCK, device), ASPACE_NOT_SUPPORTED);
	assert_int_equal(query(&w, 0).level, 2);
	assert_int_equal(protect(&w, 0, BLOCK, R), ASPACE_OK);
	assert_int_equal(unmap(&w, 0, BLOCK), ASPACE_OK);
	unmake(&w);

	/* Level 2 alone does not help; without conflict aborts it does. */
	config.bbm_level = 2;
	make(&w, &config);
	assert_int_equal(map(&w, 0, BLOCK, RW), ASPACE_OK);
	assert_int_equal(protect(&w, 0, PAGE, R), ASPACE_NOT_SUPPORTED);
	unmake(&w);
	config.conflicts_tolerated = true;
	make(&w, &config);
	assert_int_equal(map(&w, 0, BLOCK, RW), ASPACE_OK);
	assert_int_equal(protect(&w, 0, PAGE, R), ASPACE_OK);
	assert_int_equal(query(&w, 0).level, 3);
	assert_int_equal(protect(&w, 0, PAGE, device), ASPACE_NOT_SUPPORTED);
	assert_int_equal(unmap(&w, 0x8000, 0x9000), ASPACE_OK);
	unmake(&w);
}

/* ---- Memory that runs out ------------------------------------------------------------------------- */

struct digest {
	uint64_t sum, count;
};

static bool digest_one(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	struct digest *digest = ctx;

	digest->sum = digest->sum * 31 + mapping->range.start.value + 7 * mapping->descriptor +
		      11 * (uint64_t)mapping->level;
	digest->count++;
	return true;
}

static struct digest digest_of(struct world *w)
{
	struct digest digest = {0, 0};

	assert_int_equal(aspace_aarch64_walk(w->tables, aspace_range_of(0, UINT64_C(1) << 39),
					     digest_one, &digest),
			 ASPACE_OK);
	return digest;
}

/* Operations that take tables; each begins from two blocks, a group and some pages. */
static const struct {
	enum aspace_change_kind kind;
	uint64_t start, end;
} hungry[] = {
	{ASPACE_CHANGE_MAP, 3 * GIGA + PAGE, 3 * GIGA + 9 * BLOCK},
	{ASPACE_CHANGE_MAP, 8 * GIGA - PAGE, 8 * GIGA + PAGE},
	{ASPACE_CHANGE_UNMAP, GIGA + BLOCK + PAGE, GIGA + BLOCK + 2 * PAGE},
	{ASPACE_CHANGE_UNMAP, GIGA + PAGE, 3 * GIGA - PAGE},
	{ASPACE_CHANGE_PROTECT, GIGA + BLOCK + PAGE, GIGA + BLOCK + 2 * PAGE},
	{ASPACE_CHANGE_PROTECT, GIGA + BLOCK + PAGE, 2 * GIGA + BLOCK - PAGE},
};

static void test_out_of_memory(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	unsigned refusals = 0;

	(void)state;
	for (unsigned bbm = 0; bbm < 2; bbm++) {
		for (size_t i = 0; i < 2 * sizeof(hungry) / sizeof(hungry[0]); i++) {
			bool prepare = i % 2;
			enum aspace_status status;
			struct world w;
			size_t nth = 0;

			config.bbm_level = bbm ? 2 : 0;
			config.conflicts_tolerated = bbm;
			make(&w, &config);
			assert_int_equal(map(&w, GIGA, 3 * GIGA, RW), ASPACE_OK);
			do {
				struct digest before = digest_of(&w), after;
				size_t count = aspace_aarch64_table_count(w.tables);
				size_t in_use = machine_tables_in_use(w.machine);

				machine_refuse(w.machine, ++nth);
				status = call(&w, hungry[i / 2].kind, hungry[i / 2].start,
					      hungry[i / 2].end, RW, R, prepare);
				machine_refuse(w.machine, 0);
				if (status == ASPACE_OK)
					break;
				assert_int_equal(status, ASPACE_NO_MEMORY);
				after = digest_of(&w);
				assert_int_equal(after.sum, before.sum);
				assert_int_equal(after.count, before.count);
				assert_int_equal(aspace_aarch64_table_count(w.tables), count);
				assert_int_equal(machine_tables_in_use(w.machine), in_use);
				refusals++;
			} while (nth < 100);
			assert_int_equal(status, ASPACE_OK);
			assert_true(nth > 1); /* it did take tables */
			unmake(&w);
		}
	}
	assert_true(refusals > 30);
}

static void test_create_out_of_memory(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config = config,
		.ops = machine_ops(),
	};
	struct aspace_aarch64 *tables = NULL;
	struct world w;
	size_t in_use;

	(void)state;
	make(&w, &config);
	options.ctx = w.machine;
	in_use = machine_tables_in_use(w.machine);
	for (size_t nth = 1; nth <= 2; nth++) {
		machine_refuse(w.machine, nth);
		assert_int_equal(aspace_aarch64_create(&options, &tables), ASPACE_NO_MEMORY);
		assert_null(tables);
		machine_refuse(w.machine, 0);
		assert_int_equal(machine_tables_in_use(w.machine), in_use);
	}
	options.config.input_bits = 60;
	assert_int_equal(aspace_aarch64_create(&options, &tables), ASPACE_INVALID_PARAM);
	options.config.input_bits = 39;
	options.size--;
	assert_int_equal(aspace_aarch64_create(&options, &tables), ASPACE_INVALID_PARAM);
	unmake(&w);
}

/* ---- In the middle ------------------------------------------------------------------------------------ */

/* What a reader answers while pages are broken, or tables pending: asked from inside dsb. */
static struct world *middle_world;
static enum aspace_status seen_inside, seen_outside;
static unsigned seen_busy, seen_unmapped;

static void middle_dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		       enum aspace_aarch64_shareability shareability)
{
	struct aspace_aarch64_mapping mapping;

	machine_ops()->dsb(ctx, barrier, shareability);
	seen_inside = aspace_aarch64_query(middle_world->tables, aspace_va(PAGE), &mapping);
	seen_outside = aspace_aarch64_query(middle_world->tables, aspace_va(4 * PAGE), &mapping);
	seen_busy += seen_inside == ASPACE_BUSY && seen_outside == ASPACE_BUSY;
	seen_unmapped += seen_inside == ASPACE_NOT_MAPPED;
	if (seen_inside == ASPACE_BUSY) {
		assert_int_equal(aspace_aarch64_walk(middle_world->tables,
						     aspace_range_of(0, BLOCK), digest_one,
						     &(struct digest){0, 0}),
				 ASPACE_BUSY);
	}
}

static void test_readers_in_the_middle(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_ops ops = *machine_ops();
	struct world w;

	(void)state;
	make(&w, &config);
	middle_world = &w;
	ops.dsb = middle_dsb;
	w.tables->ops = &ops;
	assert_int_equal(map(&w, 0, 2 * PAGE, RW), ASPACE_OK);
	assert_int_equal(seen_busy, 0); /* a table on its way to nothing: nothing is there yet */
	assert_true(seen_unmapped > 0);
	assert_int_equal(unmap(&w, 0, 2 * PAGE), ASPACE_OK);
	assert_int_equal(map(&w, 0, BLOCK, RW), ASPACE_OK);
	seen_unmapped = 0;
	assert_int_equal(protect(&w, PAGE, 2 * PAGE, R), ASPACE_OK);
	assert_true(seen_busy > 0);
	assert_int_equal(seen_unmapped,
			 0); /* what is mapped before and after is never "not mapped" */
	assert_int_equal(seen_inside, ASPACE_OK);
	w.tables->ops = machine_ops();
	unmake(&w);
}

/* Tables of operations of another size than the library's: behind the end of a shorter one is
 * nothing of it, and of a longer one the rest is not for us. */
static void no_operation(void *ctx, uint16_t vmid)
{
	(void)ctx;
	(void)vmid;
	fail_msg("what is behind the end of the table was called");
}

static void test_sizes_of_ops(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct {
		struct aspace_aarch64_ops ops;
		void (*more[8])(void *ctx, uint16_t vmid);
	} table = {.ops = *machine_ops()};
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config = config,
		.ops = &table.ops,
	};
	const size_t least = offsetof(struct aspace_aarch64_ops, vmid_enter);
	struct aspace_aarch64 *tables = NULL;
	struct aspace_aarch64_linear source;
	struct aspace_aarch64_allocated allocated;
	struct world w;

	(void)state;
	make(&w, &config);
	options.ctx = w.machine;
	for (size_t i = 0; i < 8; i++)
		table.more[i] = no_operation;
	for (size_t size = 0; size <= sizeof(table); size++) {
		struct aspace_change change = change_of(ASPACE_CHANGE_MAP, 0, 2 * PAGE, RW);
		/* Whole operations, and of those that belong together all or none. */
		bool good = size >= least && size % sizeof(void *) == 0 &&
			    (size <= least || size >= offsetof(struct aspace_aarch64_ops, clean)) &&
			    size != offsetof(struct aspace_aarch64_ops, read_leave) &&
			    size != offsetof(struct aspace_aarch64_ops, frame_free);

		table.ops = *machine_ops();
		if (size == offsetof(struct aspace_aarch64_ops, read_leave))
			good = true; /* the machine has neither */
		/* What is behind the end is rubbish. */
		for (size_t at = size; at < sizeof(table.ops); at += sizeof(void *)) {
			void (*rubbish)(void *, uint16_t) = no_operation;

			if (at >= least && at % sizeof(void *) == 0)
				memcpy((char *)&table.ops + at, &rubbish, sizeof(rubbish));
		}
		table.ops.size = size;
		if (!good) {
			assert_int_equal(aspace_aarch64_create(&options, &tables),
					 ASPACE_INVALID_PARAM);
			continue;
		}
		assert_int_equal(aspace_aarch64_create(&options, &tables), ASPACE_OK);
		memset(&table.ops, 0, sizeof(table.ops)); /* it is not looked at again */
		assert_int_equal(aspace_aarch64_linear_init(&source, tables, 0), ASPACE_OK);
		assert_int_equal(source.backend.ops->map(&source.backend, &change), ASPACE_OK);
		change.kind = ASPACE_CHANGE_UNMAP;
		assert_int_equal(source.backend.ops->unmap(&source.backend, &change), ASPACE_OK);
		source.backend.ops->flush(&source.backend);
		assert_int_equal(aspace_aarch64_allocated_init(&allocated, tables, false, 0),
				 size >= offsetof(struct aspace_aarch64_ops, frame_retire)
					 ? ASPACE_OK
					 : ASPACE_NOT_SUPPORTED);
		aspace_aarch64_destroy(tables);
	}
	table.ops = *machine_ops();
	table.ops.size = 4096 + sizeof(void *);
	assert_int_equal(aspace_aarch64_create(&options, &tables), ASPACE_INVALID_PARAM);
	unmake(&w);
}

/* ---- What the processor writes ------------------------------------------------------------------------- */

/* It dirties a leaf at the last moment: when the exchange of what was read is already on its way. */
static unsigned races;

static void race(uint64_t *entry)
{
	bool clean = (*entry & ASP_A64_DBM) && (*entry & ASP_A64_AP_RO);

	if (asp_a64_is_valid(*entry) && clean && races == 0) {
		*entry = (*entry & ~ASP_A64_AP_RO) | ASP_A64_AF;
		races++;
	}
}

static void racing_store(void *ctx, uint64_t *entry, uint64_t value)
{
	race(entry);
	machine_ops()->store(ctx, entry, value);
}

static bool racing_swap(void *ctx, uint64_t *entry, uint64_t expected, uint64_t value)
{
	race(entry);
	return machine_ops()->swap(ctx, entry, expected, value);
}

static void test_no_dirty_state_is_lost(void **state)
{
	static const struct {
		uint64_t start, end, flags, map_flags;
	} edits[] = {
		/* Changed in place, broken, split. */
		{0, BLOCK, R, RW | ASPACE_AARCH64_NO_CONTIGUOUS},
		{0, BLOCK, RW | ASPACE_AARCH64_TYPE(2), RW | ASPACE_AARCH64_NO_CONTIGUOUS},
		{PAGE, 2 * PAGE, R, RW | ASPACE_AARCH64_NO_CONTIGUOUS},
		/* A group changed, taken apart, taken apart and one of it split. */
		{0, 16 * BLOCK, R, RW},
		{17 * BLOCK, 18 * BLOCK, R, RW},
		{BLOCK + PAGE, BLOCK + 2 * PAGE, RW | ASPACE_AARCH64_EXECUTE, RW},
	};
	struct aspace_aarch64_config config = config_4k();

	(void)state;
	config.hardware_access = config.hardware_dirty = true;
	for (unsigned bbm = 0; bbm < 2; bbm++) {
		config.bbm_level = bbm ? 2 : 0;
		config.conflicts_tolerated = bbm;
		for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
			struct aspace_aarch64_ops ops = *machine_ops();
			bool dirty = false;
			struct world w;

			make(&w, &config);
			assert_int_equal(map(&w, 0, 32 * BLOCK, edits[i].map_flags), ASPACE_OK);
			assert_false(query(&w, edits[i].start).dirty);
			ops.store = racing_store;
			ops.swap = racing_swap;
			w.tables->ops = &ops;
			races = 0;
			assert_int_equal(protect(&w, edits[i].start, edits[i].end, edits[i].flags),
					 ASPACE_OK);
			w.tables->ops = machine_ops();
			assert_int_equal(races, 1);
			for (uint64_t at = 0; at < 32 * BLOCK; at += PAGE)
				dirty = dirty || query(&w, at).dirty;
			assert_true(dirty);
			unmake(&w);
		}
	}
}

/* It writes to a page right after the nth load of a descriptor, as long as it still can: until the
 * invalidation of the break has completed. */
static size_t loads_left;

static uint64_t racing_load(void *ctx, const uint64_t *entry)
{
	uint64_t value = machine_ops()->load(ctx, entry);

	if (loads_left && --loads_left == 0)
		race((uint64_t *)(uintptr_t)entry);
	return value;
}

static void racing_dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		       enum aspace_aarch64_shareability shareability)
{
	if (barrier == ASPACE_AARCH64_BARRIER_ALL)
		loads_left = 0;
	machine_ops()->dsb(ctx, barrier, shareability);
}

static void test_compact_loses_no_dirty_state(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_ops ops = *machine_ops();
	unsigned raced = 0, tables_gone = 0;

	(void)state;
	config.hardware_access = config.hardware_dirty = true;
	ops.load = racing_load;
	ops.dsb = racing_dsb;
	/* Nothing in range but one table of pages: some two thousand loads. */
	for (size_t nth = 1; nth < 2500; nth += nth < 16 ? 1 : 7) {
		bool dirty = false;
		struct world w;

		make(&w, &config);
		assert_int_equal(map(&w, 0, BLOCK,
				     RW | ASPACE_AARCH64_LEVEL_3 | ASPACE_AARCH64_NO_CONTIGUOUS),
				 ASPACE_OK);
		w.tables->ops = &ops;
		races = 0;
		loads_left = nth;
		assert_int_equal(aspace_aarch64_compact(w.tables, aspace_range_of(0, BLOCK),
							ASPACE_AARCH64_NO_CONTIGUOUS),
				 ASPACE_OK);
		loads_left = 0;
		w.tables->ops = machine_ops();
		for (uint64_t at = 0; at < BLOCK; at += PAGE)
			dirty = dirty || query(&w, at).dirty;
		assert_int_equal(dirty, races);
		raced += races;
		tables_gone += query(&w, 0).level == 2;
		unmake(&w);
	}
	assert_true(raced > 100 && tables_gone > 100);
}

struct reaped {
	unsigned count;
	struct aspace_aarch64_mapping last;
};

static bool reap(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	struct reaped *reaped = ctx;

	reaped->count++;
	reaped->last = *mapping;
	return true;
}

static struct reaped harvest(struct world *w, uint64_t start, uint64_t end, unsigned what)
{
	struct reaped reaped = {0};

	assert_int_equal(
		aspace_aarch64_harvest(w->tables, aspace_range_of(start, end), what, reap, &reaped),
		ASPACE_OK);
	return reaped;
}

/* The descriptor of a page below 2 MiB, as the processor sees it. */
static uint64_t *page_entry(struct world *w, uint64_t address)
{
	uint64_t table = w->tables->root;

	for (int level = w->tables->geometry.start; level < 3; level++)
		table = asp_a64_next_table(w->tables, asp_a64_pointer(w->tables, table)[0]);
	return &asp_a64_pointer(w->tables, table)[address / PAGE];
}

static void test_harvest(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	unsigned both = ASPACE_AARCH64_ACCESSED | ASPACE_AARCH64_DIRTY;
	struct reaped reaped;
	struct world w;

	(void)state;
	config.hardware_access = config.hardware_dirty = true;
	make(&w, &config);
	assert_int_equal(map(&w, 0, 18 * PAGE, RW), ASPACE_OK);
	assert_int_equal(harvest(&w, 0, 18 * PAGE, both).count, 0);

	/* A page written, harvested by halves. */
	*page_entry(&w, 17 * PAGE) ^= ASP_A64_AF | ASP_A64_AP_RO;
	reaped = harvest(&w, 0, 18 * PAGE, ASPACE_AARCH64_ACCESSED);
	assert_int_equal(reaped.count, 1);
	assert_int_equal(reaped.last.range.start.value, 17 * PAGE);
	assert_int_equal(reaped.last.output.value, OFFSET + 17 * PAGE);
	assert_true(reaped.last.accessed);
	assert_false(query(&w, 17 * PAGE).accessed);
	assert_true(query(&w, 17 * PAGE).dirty);
	reaped = harvest(&w, 0, 18 * PAGE, ASPACE_AARCH64_DIRTY);
	assert_int_equal(reaped.count, 1);
	assert_true(reaped.last.dirty);
	assert_false(query(&w, 17 * PAGE).dirty);
	assert_int_equal(query(&w, 17 * PAGE).flags & RW, RW);

	/* What a lost WRITE has left of it. */
	*page_entry(&w, 17 * PAGE) ^= ASP_A64_AF | ASP_A64_AP_RO;
	assert_int_equal(protect(&w, 17 * PAGE, 18 * PAGE, R), ASPACE_OK);
	assert_int_equal(harvest(&w, 16 * PAGE, 18 * PAGE, ASPACE_AARCH64_DIRTY).count, 1);
	assert_false(query(&w, 17 * PAGE).dirty);
	harvest(&w, 0, 18 * PAGE, both);

	/* A group: noted in one descriptor, asked for by another. */
	assert_true(query(&w, 3 * PAGE).contiguous);
	*page_entry(&w, 3 * PAGE) ^= ASP_A64_AF | ASP_A64_AP_RO;
	*page_entry(&w, 9 * PAGE) ^= ASP_A64_AF;
	reaped = harvest(&w, 5 * PAGE, 6 * PAGE, both);
	assert_int_equal(reaped.count, 1);
	assert_int_equal(reaped.last.range.start.value, 0);
	assert_int_equal(reaped.last.range.end.value, 16 * PAGE);
	assert_true(reaped.last.accessed && reaped.last.dirty);
	assert_int_equal(harvest(&w, 0, 18 * PAGE, both).count, 0);
	unmake(&w);

	config.hardware_dirty = false;
	make(&w, &config);
	assert_int_equal(aspace_aarch64_harvest(w.tables, aspace_range_of(0, PAGE),
						ASPACE_AARCH64_DIRTY, reap, &reaped),
			 ASPACE_NOT_SUPPORTED);
	assert_int_equal(
		aspace_aarch64_harvest(w.tables, aspace_range_of(0, PAGE), 0, reap, &reaped),
		ASPACE_INVALID_PARAM);
	unmake(&w);
}

/* ---- Allocated frames ------------------------------------------------------------------------ */

static struct aspace_change change_of(enum aspace_change_kind kind, uint64_t start, uint64_t end,
				      uint64_t flags)
{
	return (struct aspace_change){
		.kind = kind,
		.range = aspace_range_of(start, end),
		.old_flags = kind == ASPACE_CHANGE_MAP ? 0 : flags,
		.new_flags = kind == ASPACE_CHANGE_UNMAP ? 0 : flags,
	};
}

/* Pages, so many that the stash takes three tables, with each table and each frame refused once. */
/*
 * A write of one page of a group, noted in the descriptor of another: before the operation, or by a
 * stale TLB entry at the last moment, when the invalidation is on its way. Whatever then becomes of
 * the group, the page was written.
 */
#define GROUP 16

/* Bits 10 and 7 of a leaf: an access and a write, at stage 1 or 2. */
static void note(uint64_t *entry, bool stage2)
{
	*entry |= ASP_A64_AF;
	*entry = stage2 ? *entry | ASP_A64_S2AP_WRITE : *entry & ~ASP_A64_AP_RO;
}

static struct {
	uint64_t *entry; /* in which one to note; NULL: nothing left to do */
	bool stage2, done;
} late;

static void late_dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		     enum aspace_aarch64_shareability shareability)
{
	if (barrier == ASPACE_AARCH64_BARRIER_ALL && late.entry) {
		/* An atomic update: not of what is not valid, or not writable, any more. */
		late.done = (*late.entry & ASP_A64_VALID) && (*late.entry & ASP_A64_DBM);
		if (late.done)
			note(late.entry, late.stage2);
		late.entry = NULL;
	}
	machine_ops()->dsb(ctx, barrier, shareability);
}

enum what { QUERY, WALK, PROTECT, UNMAP, COMPACT, MOVE };

static bool walk_dirty(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	unsigned *dirty = ctx;

	*dirty += mapping->dirty && mapping->accessed;
	return true;
}

/* Pages [first, last] of the group; answers where the page `seen` is afterwards. */
static uint64_t treat_group(struct world *w, struct aspace_backend *backend, enum what what,
			    unsigned first, unsigned last, unsigned seen)
{
	struct aspace_change change =
		change_of(what == MOVE      ? ASPACE_CHANGE_MOVE
			  : what == PROTECT ? ASPACE_CHANGE_PROTECT
					    : ASPACE_CHANGE_UNMAP,
			  first * PAGE, (last + 1) * PAGE, what == PROTECT ? R : RW);
	const struct aspace_backend_ops *o = backend->ops;
	unsigned dirty = 0;

	change.old_flags = RW;
	change.destination = aspace_va(BLOCK + first * PAGE);
	switch (what) {
	case QUERY:
		break;
	case WALK:
		assert_int_equal(aspace_aarch64_walk(w->tables, aspace_range_of(0, GROUP * PAGE),
						     walk_dirty, &dirty),
				 ASPACE_OK);
		assert_int_equal(dirty, GROUP);
		break;
	case COMPACT:
		assert_int_equal(aspace_aarch64_compact(w->tables, aspace_range_of(0, BLOCK), 0),
				 ASPACE_OK);
		assert_int_equal(query(w, 0).level, 2);
		break;
	default:
		assert_int_equal(o->prepare(backend, &change), ASPACE_OK);
		assert_int_equal((what == MOVE      ? o->move
				  : what == PROTECT ? o->protect
						    : o->unmap)(backend, &change),
				 ASPACE_OK);
		o->flush(backend);
		if (what == MOVE && seen >= first && seen <= last)
			return BLOCK + seen * PAGE;
	}
	return seen * PAGE;
}

static void test_history_of_a_group(void **state)
{
	static const struct {
		enum what what;
		unsigned first, last, seen;
	} cases[] = {
		{QUERY, 0, 15, 5},    {WALK, 0, 15, 5},   {COMPACT, 0, 15, 5}, {PROTECT, 0, 0, 5},
		{PROTECT, 15, 15, 5}, {PROTECT, 5, 5, 5}, {PROTECT, 0, 15, 5}, {PROTECT, 3, 7, 5},
		{UNMAP, 0, 0, 5},     {UNMAP, 15, 15, 5}, {UNMAP, 6, 15, 5},   {UNMAP, 0, 4, 5},
		{MOVE, 0, 15, 5},     {MOVE, 5, 5, 5},    {MOVE, 0, 3, 5},     {MOVE, 4, 15, 5},
	};
	struct aspace_aarch64_config config = config_4k();
	unsigned noted_late = 0;

	(void)state;
	config.hardware_access = config.hardware_dirty = true;
	for (size_t n = 0; n < 2 * 2 * 2 * GROUP * sizeof(cases) / sizeof(cases[0]); n++) {
		size_t i = n / (8 * GROUP);
		unsigned member = (unsigned)(n / 8 % GROUP);
		bool at_last = n & 1, stage2 = n & 2, bbm = n & 4, seen = true;
		struct aspace_aarch64_ops ops = *machine_ops();
		struct aspace_change change =
			change_of(ASPACE_CHANGE_MAP, 0, BLOCK, RW | ASPACE_AARCH64_LEVEL_3);
		struct aspace_aarch64_allocated source;
		struct aspace_backend *backend;
		struct aspace_aarch64_mapping mapping;
		struct world w;
		uint64_t at;

		config.regime = stage2 ? ASPACE_AARCH64_STAGE2 : ASPACE_AARCH64_EL1_LOWER;
		config.bbm_level = bbm ? 2 : 0;
		config.conflicts_tolerated = bbm;
		make(&w, &config);
		ops.dsb = late_dsb;
		w.tables->ops = &ops;
		/* Only allocated frames move. */
		backend = &w.source.backend;
		if (cases[i].what == MOVE) {
			assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, false, 0),
					 ASPACE_OK);
			backend = &source.backend;
		}
		assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
		backend->ops->flush(backend);
		assert_true(query(&w, 0).contiguous);
		late.stage2 = stage2;
		late.entry = at_last ? page_entry(&w, member * PAGE) : NULL;
		late.done = false;
		if (!at_last)
			note(page_entry(&w, member * PAGE), stage2);
		/* By itself, neither a query nor a walk is a last moment. */
		if (at_last && cases[i].what <= WALK)
			at = cases[i].seen * PAGE;
		else
			at = treat_group(&w, backend, cases[i].what, cases[i].first, cases[i].last,
					 cases[i].seen);
		seen = at_last ? late.done : true;
		noted_late += late.done;
		mapping = query(&w, at);
		if (seen && !(mapping.dirty && mapping.accessed))
			fail_msg("case %zu, noted in %u, late %d, stage 2 %d, BBM %d: lost", i,
				 member, at_last, stage2, bbm);
		assert_int_equal(harvest(&w, at, at + PAGE, ASPACE_AARCH64_DIRTY).count, seen);
		assert_int_equal(harvest(&w, at, at + PAGE, ASPACE_AARCH64_ACCESSED).count, seen);
		w.tables->ops = machine_ops();
		if (cases[i].what != MOVE) {
			unmake(&w);
			continue;
		}
		change = change_of(ASPACE_CHANGE_UNMAP, 0, 2 * BLOCK, 0);
		source.lazy = true; /* holes are right */
		assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
		backend->ops->flush(backend);
		unmake(&w);
	}
	assert_true(noted_late > 100);
}

/* A group that becomes something else in the middle of a walk: small leaves, or a group of other frames.
 * What was noted of the old one is not said of what has come in its place. */
static struct {
	struct world *world;
	struct aspace_aarch64_linear other; /* its frames are elsewhere */
	struct aspace_range range;          /* is mapped afresh at the first leaf */
	struct aspace_backend *backend;
	uint64_t flags;
	unsigned seen, accessed;
} changing;

static bool change_in_the_middle(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	const struct aspace_change fresh = {
		.kind = ASPACE_CHANGE_MAP,
		.range = changing.range,
		.new_flags = changing.flags,
	};

	(void)ctx;
	changing.seen++;
	changing.accessed += mapping->accessed;
	if (changing.seen > 1)
		return changing.seen < 20;
	assert_true(mapping->accessed);
	assert_int_equal(unmap(changing.world, fresh.range.start.value, fresh.range.end.value),
			 ASPACE_OK);
	assert_int_equal(changing.backend->ops->map(changing.backend, &fresh), ASPACE_OK);
	changing.backend->ops->flush(changing.backend);
	return true;
}

static void test_walk_over_a_group_that_changes(void **state)
{
	struct aspace_aarch64_config config = config_4k();

	(void)state;
	config.hardware_access = config.hardware_dirty = true;
	for (unsigned other = 0; other < 2; other++) {
		struct world w;

		make(&w, &config);
		assert_int_equal(aspace_aarch64_linear_init(&changing.other, w.tables, 2 * OFFSET),
				 ASPACE_OK);
		changing.world = &w;
		changing.seen = changing.accessed = 0;
		changing.flags = other ? RW : RW | ASPACE_AARCH64_LEVEL_3;
		changing.backend = other ? &changing.other.backend : &w.source.backend;
		/* Of sixteen blocks, all but the first become pages; of seventeen pages, all but the last
		 * change. What stays keeps the table that the walk is in. */
		if (other) {
			assert_int_equal(map(&w, 0, 17 * PAGE, RW), ASPACE_OK);
			note(page_entry(&w, 3 * PAGE), false);
			changing.range = aspace_range_of(0, 16 * PAGE);
		} else {
			assert_int_equal(map(&w, 0, 16 * BLOCK, RW), ASPACE_OK);
			note(asp_a64_pointer(w.tables,
					     asp_a64_next_table(
						     w.tables,
						     asp_a64_pointer(w.tables, w.tables->root)[0])),
			     false);
			changing.range = aspace_range_of(BLOCK, 16 * BLOCK);
		}
		assert_true(query(&w, 0).contiguous);
		assert_int_equal(aspace_aarch64_walk(w.tables,
						     aspace_range_of(0, other ? BLOCK : 16 * BLOCK),
						     change_in_the_middle, NULL),
				 ASPACE_OK);
		assert_int_equal(changing.seen, other ? 17 : 20);
		assert_int_equal(changing.accessed, 1);
		unmake(&w);
	}
}

/* A reader that is on its way into a table which a compaction takes away: what is mapped before and
 * after is never "not mapped", also where the table's memory has begun to serve as a list. */
static struct {
	struct world *world;
	unsigned loads; /* until the compaction; 0: none */
} on_the_way;

static uint64_t load_on_the_way(void *ctx, const uint64_t *entry)
{
	uint64_t value = machine_ops()->load(ctx, entry);

	if (on_the_way.loads && !--on_the_way.loads)
		assert_int_equal(aspace_aarch64_compact(on_the_way.world->tables,
							aspace_range_of(0, 2 * BLOCK), 0),
				 ASPACE_OK);
	return value;
}

static void test_readers_in_a_table_that_goes(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_ops ops = *machine_ops();
	unsigned busy = 0;

	(void)state;
	ops.load = load_on_the_way;
	ops.table_retire = keep_table; /* as long as a reader is in it */
	for (unsigned page = 0; page < 4; page++) {
		struct aspace_aarch64_mapping mapping;
		enum aspace_status status;
		struct world w;

		make(&w, &config);
		assert_int_equal(map(&w, 0, BLOCK, RW | ASPACE_AARCH64_LEVEL_3), ASPACE_OK);
		w.tables->ops = &ops;
		on_the_way.world = &w;
		on_the_way.loads = 2; /* levels 1 and 2 */
		status = aspace_aarch64_query(w.tables, aspace_va(page * PAGE), &mapping);
		assert_int_equal(on_the_way.loads, 0);
		assert_true(status == ASPACE_OK || status == ASPACE_BUSY);
		busy += status == ASPACE_BUSY;
		w.tables->ops = machine_ops();
		assert_int_equal(query(&w, page * PAGE).level, 2);
		assert_int_equal(machine_destroy(w.machine), 1);
	}
	assert_true(busy > 0);
}

/* What one descriptor of a group has noted, a TLB may hold for any page: a harvest invalidates all. */
static uint64_t invalidated;

static void count_tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi)
{
	invalidated += tlbi->range.end.value - tlbi->range.start.value;
	machine_ops()->tlbi(ctx, tlbi);
}

static void test_harvest_invalidates_the_group(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_ops ops = *machine_ops();
	struct world w;

	(void)state;
	config.hardware_access = config.hardware_dirty = true;
	make(&w, &config);
	assert_int_equal(map(&w, 0, 18 * PAGE, RW), ASPACE_OK);
	note(page_entry(&w, 3 * PAGE), false);
	ops.tlbi = count_tlbi;
	w.tables->ops = &ops;
	invalidated = 0;
	assert_int_equal(harvest(&w, 5 * PAGE, 6 * PAGE, ASPACE_AARCH64_ACCESSED).count, 1);
	assert_int_equal(invalidated, 16 * PAGE);
	w.tables->ops = machine_ops();
	unmake(&w);
}

/* An allocator that knows its frames by where they begin: one after the other, none larger than
 * `largest`; what comes back must be one of them. */
static struct {
	uint64_t next, largest, sizes[4 * 512]; /* by page; 0: no frame begins there */
	unsigned taken, returned, splits, in_use;
	uint64_t last_part;
} store;

#define STORE UINT64_C(0x40000000)

static bool store_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	uint64_t at = aspace_align_down(store.next + size - 1, size);

	(void)ctx;
	if (size > store.largest || (at + size) / PAGE > sizeof(store.sizes) / 8)
		return false;
	store.sizes[at / PAGE] = size;
	store.next = at + size;
	store.taken++;
	store.in_use++;
	*frame = aspace_pa(STORE + at);
	return true;
}

static void store_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	uint64_t *known = &store.sizes[(frame.value - STORE) / PAGE];

	(void)ctx;
	if (*known != size)
		fail_msg("%#lx comes back with %#lx bytes, not %#lx", (unsigned long)frame.value,
			 (unsigned long)size, (unsigned long)*known);
	*known = 0;
	store.returned++;
	store.in_use--;
}

static void store_split(void *ctx, struct aspace_paddr frame, uint64_t size, uint64_t part)
{
	uint64_t *known = &store.sizes[(frame.value - STORE) / PAGE];

	(void)ctx;
	assert_int_equal(*known, size);
	for (uint64_t at = 0; at < size; at += part)
		known[at / PAGE] = part;
	store.splits++;
	store.in_use += (unsigned)(size / part) - 1;
	store.last_part = part;
}

static void change_frames(struct aspace_aarch64_allocated *source, enum aspace_change_kind kind,
			  uint64_t start, uint64_t end, uint64_t flags)
{
	const struct aspace_change change = change_of(kind, start, end, flags);
	const struct aspace_backend_ops *o = source->backend.ops;

	assert_int_equal(o->prepare(&source->backend, &change), ASPACE_OK);
	assert_int_equal(kind == ASPACE_CHANGE_MAP     ? o->map(&source->backend, &change)
			 : kind == ASPACE_CHANGE_UNMAP ? o->unmap(&source->backend, &change)
						       : o->protect(&source->backend, &change),
			 ASPACE_OK);
	o->flush(&source->backend);
}

/* Frames come back as they went out: a group, a block, a block that was cut into pages by a protect,
 * pages of which a block was made; and where a part is unmapped, as told. */
static void test_pieces(void **state)
{
	static const struct {
		uint64_t largest;
		unsigned taken; /* for a block's addresses */
		bool protect;   /* one page of it differs */
		bool compact;   /* afterwards */
		uint64_t first; /* pages that are unmapped before the rest */
		uint64_t last;
		unsigned splits, returned;
	} cases[] = {
		{16 * PAGE, 32, false, false, 0, 0, 0, 32},
		{BLOCK, 1, false, false, 0, 0, 0, 1},
		{BLOCK, 1, true, false, 0, 0, 0, 1},
		{BLOCK, 1, true, true, 0, 0, 0, 1},
		{PAGE, 512, false, true, 0, 0, 0, 512},
		{16 * PAGE, 32, false, true, 0, 0, 0, 32},
		{PAGE, 512, false, true, 3, 4, 0, 512},
		/* A page out of a block: 31 groups, and 15 pages and it. */
		{BLOCK, 1, false, false, 3, 4, 2, 31 + 16},
		{BLOCK, 1, false, false, 511, 512, 2, 31 + 16},
		{16 * PAGE, 32, false, true, 19, 20, 1, 31 + 16},
		/* At the edge of a group; and across one. */
		{BLOCK, 1, false, false, 16, 32, 1, 32},
		{BLOCK, 1, false, false, 15, 33, 3, 30 + 32},
	};
	struct aspace_aarch64_config config = config_4k();

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		bool listens = i % 2;
		struct aspace_aarch64_ops ops = *machine_ops();
		struct aspace_aarch64_allocated source;
		size_t n = i / 2;
		struct world w;

		/* Who does not listen takes any parts: splits are told, or nothing is cut. */
		if (!listens && cases[n].splits)
			continue;
		make(&w, &config);
		memset(&store, 0, sizeof(store));
		store.largest = cases[n].largest;
		ops.frame_alloc = store_alloc;
		ops.frame_free = ops.frame_retire = store_free;
		ops.frame_split = listens ? store_split : NULL;
		w.tables->ops = &ops;
		assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, false, 0),
				 ASPACE_OK);
		change_frames(&source, ASPACE_CHANGE_MAP, 0, BLOCK, RW);
		assert_int_equal(store.taken, cases[n].taken);
		if (cases[n].protect)
			change_frames(&source, ASPACE_CHANGE_PROTECT, 7 * PAGE, 8 * PAGE, R);
		if (cases[n].protect && cases[n].compact)
			change_frames(&source, ASPACE_CHANGE_PROTECT, 7 * PAGE, 8 * PAGE, RW);
		if (cases[n].compact) {
			assert_int_equal(
				aspace_aarch64_compact(w.tables, aspace_range_of(0, BLOCK), 0),
				ASPACE_OK);
			assert_int_equal(query(&w, 0).level, 2);
		}
		if (cases[n].last) {
			change_frames(&source, ASPACE_CHANGE_UNMAP, cases[n].first * PAGE,
				      cases[n].last * PAGE, 0);
			if (cases[n].first)
				change_frames(&source, ASPACE_CHANGE_UNMAP, 0,
					      cases[n].first * PAGE, 0);
		}
		if (cases[n].last * PAGE < BLOCK)
			change_frames(&source, ASPACE_CHANGE_UNMAP, cases[n].last * PAGE, BLOCK, 0);
		assert_int_equal(store.splits, cases[n].splits);
		assert_int_equal(store.returned, cases[n].returned);
		assert_int_equal(store.in_use, 0);
		w.tables->ops = machine_ops();
		unmake(&w);
	}
}

/* Frames of different sizes, side by side: no block is made of them, for it could not say which. */
static void test_unlike_pieces(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_ops ops = *machine_ops();
	struct aspace_aarch64_allocated source;
	struct world w;

	(void)state;
	make(&w, &config);
	memset(&store, 0, sizeof(store));
	ops.frame_alloc = store_alloc;
	ops.frame_free = ops.frame_retire = store_free;
	ops.frame_split = store_split;
	w.tables->ops = &ops;
	assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, false, 0), ASPACE_OK);
	store.largest = PAGE;
	change_frames(&source, ASPACE_CHANGE_MAP, 0, 16 * PAGE, RW);
	store.largest = 16 * PAGE;
	change_frames(&source, ASPACE_CHANGE_MAP, 16 * PAGE, BLOCK, RW);
	assert_int_equal(query(&w, BLOCK - PAGE).output.value, STORE + BLOCK - PAGE);
	assert_int_equal(aspace_aarch64_compact(w.tables, aspace_range_of(0, BLOCK), 0), ASPACE_OK);
	assert_true(query(&w, 0).contiguous);
	assert_int_equal(query(&w, 0).level, 3);
	change_frames(&source, ASPACE_CHANGE_UNMAP, 0, BLOCK, 0);
	assert_int_equal(store.returned, 16 + 31);
	assert_int_equal(store.in_use, 0);
	w.tables->ops = machine_ops();
	unmake(&w);
}

static struct aspace_range cleared[4];
static unsigned clearings;

static void note_cleared(void *ctx, struct aspace_paddr start, uint64_t size)
{
	(void)ctx;
	assert_in_range(clearings, 0, 3);
	cleared[clearings++] = aspace_range_of(start.value, start.value + size);
}

/* Of a frame that an advice has in part the contents go, and nothing else: or the advice ends there. */
static void test_drop_of_parts(void **state)
{
	static const struct {
		uint64_t first, end, reached; /* pages; `reached` without frame_clear */
		uint64_t clear_first, clear_end;
		unsigned returned;
	} cases[] = {
		{3, 4, 3, 3, 4, 0},         {0, 511, 0, 0, 511, 0},        {0, 512, 512, 0, 0, 1},
		{0, 514, 512, 512, 514, 1}, {500, 1024, 500, 500, 512, 1},
	};
	struct aspace_aarch64_config config = config_4k();

	(void)state;
	for (size_t i = 0; i < 3 * sizeof(cases) / sizeof(cases[0]); i++) {
		enum aspace_advice advice = i % 3 == 2 ? ASPACE_ADVICE_FREE : ASPACE_ADVICE_DROP;
		bool clears = i % 3 == 1, whole = advice == ASPACE_ADVICE_FREE || clears;
		struct aspace_aarch64_ops ops = *machine_ops();
		struct aspace_aarch64_allocated source;
		struct aspace_area area = {.end = {2 * BLOCK}, .flags = RW};
		struct aspace_vaddr reached;
		enum aspace_status status;
		size_t n = i / 3;
		struct world w;

		make(&w, &config);
		memset(&store, 0, sizeof(store));
		store.largest = BLOCK;
		clearings = 0;
		ops.frame_alloc = store_alloc;
		ops.frame_free = ops.frame_retire = store_free;
		ops.frame_split = store_split;
		ops.frame_clear = clears ? note_cleared : NULL;
		w.tables->ops = &ops;
		assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, true, BLOCK),
				 ASPACE_OK);
		change_frames(&source, ASPACE_CHANGE_MAP, 0, 2 * BLOCK, RW);
		area.backend = &source.backend;
		for (uint64_t at = 0; at < 2 * BLOCK; at += BLOCK)
			assert_int_equal(source.backend.ops->fault(&source.backend, &area,
								   aspace_va(at),
								   ASPACE_ACCESS_WRITE),
					 ASPACE_OK);
		assert_int_equal(store.taken, 2);
		reached = aspace_va(cases[n].end * PAGE);
		status = source.backend.ops->advise(
			&source.backend, &area,
			aspace_range_of(cases[n].first * PAGE, cases[n].end * PAGE), advice,
			&reached);
		assert_int_equal(reached.value, (whole ? cases[n].end : cases[n].reached) * PAGE);
		assert_int_equal(status, whole || cases[n].reached == cases[n].end
						 ? ASPACE_OK
						 : ASPACE_NOT_SUPPORTED);
		if (whole)
			assert_int_equal(store.returned, cases[n].returned);
		if (clears && cases[n].clear_end) {
			assert_int_equal(clearings, 1);
			assert_int_equal(cleared[0].start.value,
					 STORE + cases[n].clear_first * PAGE);
			assert_int_equal(cleared[0].end.value - cleared[0].start.value,
					 (cases[n].clear_end - cases[n].clear_first) * PAGE);
		} else {
			assert_int_equal(clearings, 0);
		}
		change_frames(&source, ASPACE_CHANGE_UNMAP, 0, 2 * BLOCK, 0);
		assert_int_equal(store.in_use, 0);
		w.tables->ops = machine_ops();
		unmake(&w);
	}
}

/*
 * A protect with a cap makes what is larger smaller: with nothing unmapped, for a moment or for good,
 * where that can be had, nothing of the history lost, and nothing changed where tables are short.
 */
static void test_cap_by_protect(void **state)
{
	uint64_t pages = RW | ASPACE_AARCH64_LEVEL_3 | ASPACE_AARCH64_NO_CONTIGUOUS;
	const uint64_t probes[] = {0, 5 * PAGE, BLOCK - 1};
	struct aspace_aarch64_config config = config_4k();

	(void)state;
	config.hardware_access = config.hardware_dirty = true;
	for (unsigned bbm = 0; bbm < 2; bbm++) {
		struct world w;
		size_t before;

		config.bbm_level = bbm ? 2 : 0;
		config.conflicts_tolerated = config.no_transient_faults = bbm;
		make_expecting(&w, &config, expect_block);
		assert_int_equal(map(&w, 0, BLOCK, RW), ASPACE_OK);
		assert_int_equal(query(&w, 0).level, 2);
		machine_begin(w.machine, probes, 3);
		note((uint64_t *)(uintptr_t)asp_a64_pointer(
			     w.tables,
			     asp_a64_next_table(w.tables,
						*asp_a64_pointer(w.tables, w.tables->root))),
		     false);
		machine_refuse(w.machine, 1);
		assert_int_equal(protect(&w, 0, BLOCK, pages), ASPACE_NO_MEMORY);
		machine_refuse(w.machine, 0);
		assert_int_equal(query(&w, 0).level, 2);
		assert_int_equal(protect(&w, 0, BLOCK, pages), ASPACE_OK);
		machine_end(w.machine);
		for (uint64_t at = 0; at < BLOCK; at += PAGE) {
			struct aspace_aarch64_mapping mapping = query(&w, at);

			assert_int_equal(mapping.level, 3);
			assert_false(mapping.contiguous);
			assert_true(mapping.dirty && mapping.accessed);
			assert_int_equal(mapping.output.value, at + OFFSET);
		}
		if (bbm)
			assert_int_equal(machine_tally(w.machine)->transients, 0);
		unmake(&w);

		/* A group of blocks to blocks; a gigabyte to groups of pages, but for what is not in
		 * the range; where faults are forbidden and not to be avoided, refused. */
		make(&w, &config);
		assert_int_equal(map(&w, 0, 32 * BLOCK, RW), ASPACE_OK);
		assert_int_equal(protect(&w, 0, 32 * BLOCK, RW | ASPACE_AARCH64_NO_CONTIGUOUS),
				 ASPACE_OK);
		assert_int_equal(query(&w, 0).level, 2);
		assert_false(query(&w, 31 * BLOCK).contiguous);
		assert_int_equal(map(&w, GIGA, 2 * GIGA, RW), ASPACE_OK);
		assert_int_equal(protect(&w, GIGA, GIGA + 3 * BLOCK, RW | ASPACE_AARCH64_LEVEL_3),
				 ASPACE_OK);
		assert_int_equal(query(&w, GIGA + 2 * BLOCK).level, 3);
		assert_true(query(&w, GIGA + 2 * BLOCK).contiguous);
		assert_int_equal(query(&w, GIGA + 3 * BLOCK).level, 2);
		assert_false(query(&w, GIGA + 3 * BLOCK).contiguous);
		assert_true(query(&w, GIGA + 16 * BLOCK).contiguous);
		/* All of it: a table for the blocks, and one for the pages of each. */
		assert_int_equal(map(&w, 4 * GIGA, 5 * GIGA, RW), ASPACE_OK);
		assert_int_equal(query(&w, 4 * GIGA).level, 1);
		before = aspace_aarch64_table_count(w.tables);
		assert_int_equal(protect(&w, 4 * GIGA, 5 * GIGA, RW | ASPACE_AARCH64_LEVEL_3),
				 ASPACE_OK);
		assert_int_equal(aspace_aarch64_table_count(w.tables), before + 1 + 512);
		assert_int_equal(query(&w, 5 * GIGA - PAGE).output.value, OFFSET + 5 * GIGA - PAGE);
		unmake(&w);
	}
	config.bbm_level = 0;
	for (unsigned groups = 0; groups < 2; groups++) {
		struct world w;

		make(&w, &config);
		assert_int_equal(map(&w, 0, BLOCK, groups ? RW | ASPACE_AARCH64_LEVEL_3 : RW),
				 ASPACE_OK);
		assert_int_equal(protect(&w, 0, BLOCK, pages), ASPACE_NOT_SUPPORTED);
		assert_int_equal(query(&w, 0).level, groups ? 3 : 2);
		assert_int_equal(query(&w, 0).contiguous, groups);
		unmake(&w);
	}
}

static void test_frames_out_of_memory(void **state)
{
	const struct aspace_change change =
		change_of(ASPACE_CHANGE_MAP, 0x10000, 0x10000 + 1100 * PAGE, RW);
	const struct aspace_change back =
		change_of(ASPACE_CHANGE_UNMAP, 0x10000, 0x10000 + 1100 * PAGE, RW);
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_allocated source;
	struct aspace_backend *backend = &source.backend;
	struct world w;

	(void)state;
	make(&w, &config);
	assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, false, 0), ASPACE_OK);
	for (unsigned frames = 0; frames < 2; frames++) {
		size_t in_use = machine_tables_in_use(w.machine), nth = 0;
		enum aspace_status status;

		do {
			machine_refuse(w.machine, frames ? 0 : ++nth);
			machine_refuse_frames(w.machine, frames ? ++nth : 0, PAGE);
			status = backend->ops->prepare(backend, &change);
			if (status == ASPACE_OK)
				break;
			assert_int_equal(status, ASPACE_NO_MEMORY);
			backend->ops->flush(backend);
			assert_int_equal(machine_tables_in_use(w.machine), in_use);
			assert_int_equal(machine_frames_in_use(w.machine), 0);
		} while (nth < 5000);
		assert_int_equal(status, ASPACE_OK);
		assert_true(nth > (frames ? 1100 : 6));
		/* And what is not used goes back. */
		backend->ops->flush(backend);
		assert_int_equal(machine_tables_in_use(w.machine), in_use);
		assert_int_equal(machine_frames_in_use(w.machine), 0);
	}
	/* Without prepare, too. */
	machine_refuse(w.machine, 0);
	machine_refuse_frames(w.machine, 0, PAGE);
	assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
	backend->ops->flush(backend);
	assert_int_equal(machine_frames_in_use(w.machine), 1100 * PAGE);
	assert_int_equal(backend->ops->unmap(backend, &back), ASPACE_OK);
	backend->ops->flush(backend);
	assert_int_equal(machine_frames_in_use(w.machine), 0);
	unmake(&w);
}

/* Between an unmap and the flush nothing is mapped, though the frame is still there. */
static void test_frames_in_the_middle(void **state)
{
	struct aspace_change change = change_of(ASPACE_CHANGE_MAP, 0, BLOCK, RW);
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_allocated source;
	struct aspace_backend *backend = &source.backend;
	struct aspace_aarch64_mapping mapping;
	struct world w;

	(void)state;
	make(&w, &config);
	assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, false, 0), ASPACE_OK);
	assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
	backend->ops->flush(backend);
	assert_int_equal(query(&w, 0).level, 2);
	change = change_of(ASPACE_CHANGE_UNMAP, PAGE, 3 * PAGE, RW);
	assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	assert_int_equal(aspace_aarch64_query(w.tables, aspace_va(PAGE), &mapping),
			 ASPACE_NOT_MAPPED);
	assert_int_equal(machine_frames_in_use(w.machine), BLOCK);
	backend->ops->flush(backend);
	assert_int_equal(machine_frames_in_use(w.machine), BLOCK - 2 * PAGE);
	change = change_of(ASPACE_CHANGE_UNMAP, 0, BLOCK, RW);
	assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_NOT_MAPPED);
	change = change_of(ASPACE_CHANGE_UNMAP, 3 * PAGE, BLOCK, RW);
	assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	change = change_of(ASPACE_CHANGE_UNMAP, 0, PAGE, RW);
	assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	backend->ops->flush(backend);
	assert_int_equal(machine_frames_in_use(w.machine), 0);
	unmake(&w);
}

static enum aspace_status replace(struct world *w, uint64_t start, uint64_t end, uint64_t flags)
{
	const struct aspace_change change = {
		.kind = ASPACE_CHANGE_REPLACE,
		.range = aspace_range_of(start, end),
		.new_flags = flags,
	};
	struct aspace_backend *backend = &w->source.backend;
	enum aspace_status status = backend->ops->prepare(backend, &change);

	if (status == ASPACE_OK)
		status = backend->ops->replace(backend, &change);
	backend->ops->flush(backend);
	return status;
}

/* The same frames with other flags: nothing faults for a moment, unless a size must change. */
static void test_linear_replace(void **state)
{
	struct aspace_aarch64_config config = config_4k();
	struct world w;

	(void)state;
	for (unsigned forbidden = 0; forbidden < 2; forbidden++) {
		config.no_transient_faults = forbidden;
		make(&w, &config);
		assert_int_equal(map(&w, BLOCK, 2 * BLOCK, RW), ASPACE_OK);
		assert_int_equal(replace(&w, 0, 3 * BLOCK, R), ASPACE_OK);
		for (uint64_t at = 0; at < 3 * BLOCK; at += BLOCK) {
			assert_int_equal(query(&w, at).flags & RW, R);
			assert_int_equal(query(&w, at).level, 2);
		}
		assert_int_equal(replace(&w, 0, 3 * BLOCK, R | ASPACE_AARCH64_LEVEL_3),
				 forbidden ? ASPACE_NOT_SUPPORTED : ASPACE_OK);
		assert_int_equal(query(&w, BLOCK).level, forbidden ? 2 : 3);
		/* A part of a block. */
		assert_int_equal(map(&w, 8 * BLOCK, 9 * BLOCK, RW), ASPACE_OK);
		assert_int_equal(replace(&w, 9 * BLOCK - PAGE, 9 * BLOCK + PAGE, R),
				 forbidden ? ASPACE_NOT_SUPPORTED : ASPACE_OK);
		assert_int_equal(query(&w, 9 * BLOCK - PAGE).flags & RW, forbidden ? RW : R);
		assert_int_equal(query(&w, 8 * BLOCK).flags & RW, RW);
		unmake(&w);
	}
}

/* Other frames: nothing is there for a moment, which can be forbidden. */
static void test_allocated_replace(void **state)
{
	struct aspace_change change = change_of(ASPACE_CHANGE_REPLACE, 0, BLOCK, RW);
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_allocated source;
	struct aspace_backend *backend = &source.backend;
	struct world w;

	(void)state;
	config.no_transient_faults = true;
	make(&w, &config);
	assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, false, 0), ASPACE_OK);
	/* Nothing is there yet; then all of it is. */
	for (unsigned i = 0; i < 2; i++) {
		enum aspace_status wanted = i ? ASPACE_NOT_SUPPORTED : ASPACE_OK;

		assert_int_equal(backend->ops->prepare(backend, &change), wanted);
		assert_int_equal(backend->ops->replace(backend, &change), wanted);
		backend->ops->flush(backend);
		assert_int_equal(machine_frames_in_use(w.machine), BLOCK);
	}
	change.kind = ASPACE_CHANGE_UNMAP;
	assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	backend->ops->flush(backend);
	assert_int_equal(machine_frames_in_use(w.machine), 0);
	unmake(&w);
}

/* A block to where it is a block, and to where it is none, with each table refused once; and back
 * with none to be had. */
static void test_move(void **state)
{
	static const uint64_t to[] = {GIGA, GIGA + BLOCK / 2, GIGA + 3 * PAGE};
	static const int level[] = {2, 3, 3};
	struct aspace_aarch64_config config = config_4k();
	struct aspace_aarch64_allocated source;
	struct aspace_backend *backend = &source.backend;
	struct world w;

	(void)state;
	for (size_t n = 0; n < 6; n++) {
		size_t i = n / 2;
		uint64_t flags = n % 2 ? RW : 0; /* for nobody to access: in no TLB, but there */
		struct aspace_change change = change_of(ASPACE_CHANGE_MAP, 0, 2 * BLOCK, flags);
		struct aspace_change move = change_of(ASPACE_CHANGE_MOVE, BLOCK, 2 * BLOCK, flags);
		struct aspace_change back =
			change_of(ASPACE_CHANGE_MOVE, to[i], to[i] + BLOCK, flags);
		enum aspace_status status;
		uint64_t frame;
		size_t in_use, nth = 0;

		make(&w, &config);
		assert_int_equal(aspace_aarch64_allocated_init(&source, w.tables, false, 0),
				 ASPACE_OK);
		assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
		backend->ops->flush(backend);
		frame = query(&w, BLOCK).output.value;
		in_use = machine_tables_in_use(w.machine);
		move.destination = aspace_va(to[i]);
		back.destination = aspace_va(BLOCK);
		back.undo = true;
		do {
			machine_refuse(w.machine, ++nth);
			status = backend->ops->prepare(backend, &move);
			if (status == ASPACE_OK)
				break;
			assert_int_equal(status, ASPACE_NO_MEMORY);
			backend->ops->flush(backend);
			assert_int_equal(machine_tables_in_use(w.machine), in_use);
		} while (nth < 100);
		assert_int_equal(status, ASPACE_OK);
		assert_true(nth > 1);
		machine_refuse(w.machine, 1);
		assert_int_equal(backend->ops->move(backend, &move), ASPACE_OK);
		assert_int_equal(query(&w, to[i]).output.value, frame);
		assert_int_equal(query(&w, to[i] + BLOCK - PAGE).output.value,
				 frame + BLOCK - PAGE);
		assert_int_equal(query(&w, to[i]).level, level[i]);
		assert_int_equal(backend->ops->move(backend, &back), ASPACE_OK);
		backend->ops->flush(backend);
		assert_int_equal(query(&w, BLOCK).output.value, frame);
		machine_refuse(w.machine, 0);
		change = change_of(ASPACE_CHANGE_UNMAP, 0, 2 * BLOCK, flags);
		assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
		backend->ops->flush(backend);
		assert_int_equal(machine_frames_in_use(w.machine), 0);
		unmake(&w);
	}
}

/* ---- What a change of flags takes away ---------------------------------------------- */

enum {
	FLAG_SETS = 128, /* READ to BTI */
	NO_ACCESS = 1 << 15,
};

/* By the machine's own reading of the descriptor that the tables make of the flags; NO_ACCESS alone where they
 * cannot be said. */
static unsigned access_by(struct world *w, uint64_t at, uint64_t flags)
{
	struct rights rights = {.memory = 0};
	uint64_t output;
	unsigned access;

	if (map(w, at, at + PAGE, flags) != ASPACE_OK)
		return NO_ACCESS;
	if (!machine_translate(w->machine, at, &output, &rights))
		rights = (struct rights){.guarded = true}; /* mapped, and every access faults */
	assert_int_equal(call(w, ASPACE_CHANGE_UNMAP, at, at + PAGE, flags, 0, true), ASPACE_OK);
	access = (unsigned)rights.read | (unsigned)rights.write << 1 |
		 (unsigned)rights.execute << 2 | (unsigned)rights.user_read << 3 |
		 (unsigned)rights.user_write << 4 | (unsigned)rights.user_execute << 5;
	/* And to branch to what is no landing pad. */
	return access | (rights.guarded ? 0 : (access & 044) << 4);
}

/* Every pair of flags. What is given at once must be all that the change gives, and lose nothing. */
static void lose_in(const struct aspace_aarch64_config *config, unsigned long tally[4])
{
	uint64_t at = aspace_aarch64_range(config).start.value;
	unsigned access[FLAG_SETS];
	struct world w;

	make(&w, config);
	w.source.offset = OFFSET - at;
	for (uint64_t flags = 0; flags < FLAG_SETS; flags++)
		access[flags] = access_by(&w, at, flags);
	assert_true(access[R] != NO_ACCESS);
	for (uint64_t from = 0; from < FLAG_SETS; from++) {
		for (uint64_t to = 0; to < FLAG_SETS && access[from] != NO_ACCESS; to++) {
			struct aspace_backend *backend = &w.source.backend;
			uint64_t meanwhile = from;
			unsigned loses = backend->ops->loses(backend, from, to, &meanwhile);
			bool taken = access[from] & ~access[to], said = access[to] != NO_ACCESS;

			if (!said || !loses) {
				/* To be refused, or made, at once. */
				assert_false(loses || (said && taken));
				assert_int_equal(meanwhile, from);
				continue;
			}
			assert_int_equal(loses, ASPACE_LOSES_ACCESS);
			assert_true(meanwhile < FLAG_SETS && access[meanwhile] != NO_ACCESS);
			assert_int_equal(access[from] & ~access[meanwhile], 0);
			/* More than it must, only where nobody had it. */
			tally[taken ? 0 : 1]++;
			tally[2] += meanwhile != from;
			tally[3] += meanwhile == from && access[to] & ~access[from];
			if (meanwhile != from)
				assert_int_equal(access[to] & ~access[meanwhile], 0);
		}
	}
	unmake(&w);
}

static void test_what_flags_lose(void **state)
{
	unsigned long tally[4] = {0};

	(void)state;
	for (int regime = 0; regime <= ASPACE_AARCH64_STAGE2; regime++) {
		for (unsigned kind = 0; kind < 8; kind++) {
			struct aspace_aarch64_config config = config_4k();

			config.regime = (enum aspace_aarch64_regime)regime;
			if (regime == ASPACE_AARCH64_STAGE2)
				config.xnx = kind & 1;
			else
				config.bti = kind & 1;
			config.write_xor_execute = kind & 2;
			config.hardware_access = config.hardware_dirty = kind & 4;
			if (aspace_aarch64_config_check(&config, NULL, NULL) == ASPACE_OK)
				lose_in(&config, tally);
		}
	}
	for (int i = 0; i < 4; i++)
		assert_true(tally[i] > 0);
	printf("%lu changes take something away, %lu what nobody had; %lu give something at once, "
	       "%lu cannot\n",
	       tally[0], tally[1], tally[2], tally[3]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_largest_fit),
		cmocka_unit_test(test_split_keeps_the_rest_large),
		cmocka_unit_test(test_compact),
		cmocka_unit_test(test_compact_makes_nothing_in_vain),
		cmocka_unit_test(test_bad_changes),
		cmocka_unit_test(test_no_transient_faults),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_create_out_of_memory),
		cmocka_unit_test(test_sizes_of_ops),
		cmocka_unit_test(test_readers_in_the_middle),
		cmocka_unit_test(test_no_dirty_state_is_lost),
		cmocka_unit_test(test_compact_loses_no_dirty_state),
		cmocka_unit_test(test_what_flags_lose),
		cmocka_unit_test(test_harvest),
		cmocka_unit_test(test_history_of_a_group),
		cmocka_unit_test(test_walk_over_a_group_that_changes),
		cmocka_unit_test(test_readers_in_a_table_that_goes),
		cmocka_unit_test(test_harvest_invalidates_the_group),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_unlike_pieces),
		cmocka_unit_test(test_drop_of_parts),
		cmocka_unit_test(test_cap_by_protect),
		cmocka_unit_test(test_frames_out_of_memory),
		cmocka_unit_test(test_frames_in_the_middle),
		cmocka_unit_test(test_linear_replace),
		cmocka_unit_test(test_allocated_replace),
		cmocka_unit_test(test_move),
	};

	if (argc > 1) /* one of them */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
