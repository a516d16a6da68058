/* SPDX-License-Identifier: MIT */
/*
 * What is invalidated: operands, the splitting of ranges, thresholds, and how many barriers an
 * operation takes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/aarch64/tables.h"

#include <stdlib.h>
#include <string.h>

/* ---- A machine that only takes notes -------------------------------------------------- */

#define NOTES_MAX 256

static struct aspace_aarch64_tlbi notes[NOTES_MAX];
static size_t note_count;
static char order[4096]; /* s: stores ordered, a: DSB for all, i: ISB, t: TLBI */
static size_t order_count;

static void took(char what)
{
	if (order_count < sizeof(order) - 1)
		order[order_count++] = what;
}

static bool page_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	void *page = aligned_alloc(size, size);

	(void)ctx;
	if (!page)
		return false;
	memset(page, 0, size);
	*table = aspace_pa((uintptr_t)page);
	return true;
}

static void page_free(void *ctx, struct aspace_paddr table, size_t size)
{
	(void)ctx;
	(void)size;
	free((void *)(uintptr_t)table.value);
}

static uint64_t *page_pointer(void *ctx, struct aspace_paddr table)
{
	(void)ctx;
	return (uint64_t *)(uintptr_t)table.value;
}

static void dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		enum aspace_aarch64_shareability shareability)
{
	(void)ctx;
	(void)shareability;
	took(barrier == ASPACE_AARCH64_BARRIER_STORES ? 's' : 'a');
}

static void isb(void *ctx)
{
	(void)ctx;
	took('i');
}

static void tlbi(void *ctx, const struct aspace_aarch64_tlbi *note)
{
	(void)ctx;
	if (note_count < NOTES_MAX)
		notes[note_count++] = *note;
	took('t');
}

static const struct aspace_aarch64_ops ops = {
	.size = sizeof(ops),
	.table_alloc = page_alloc,
	.table_free = page_free,
	.table_pointer = page_pointer,
	.dsb = dsb,
	.isb = isb,
	.tlbi = tlbi,
};

static void forget(void)
{
	note_count = order_count = 0;
	memset(order, 0, sizeof(order));
}

static struct aspace_aarch64_config config_of(enum aspace_aarch64_regime regime, unsigned granule)
{
	return (struct aspace_aarch64_config){
		.size = sizeof(struct aspace_aarch64_config),
		.regime = regime,
		.granule_shift = (uint8_t)granule,
		.input_bits = 48,
		.output_bits = 48,
		.start_level = ASPACE_AARCH64_START_ANY,
		.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
		.range_tlbi = true,
		.ttl = true,
		.id = regime == ASPACE_AARCH64_EL2 ? 0 : 0x5a,
		.tlbi_max = NOTES_MAX,
	};
}

static struct aspace_aarch64 *make(const struct aspace_aarch64_config *config)
{
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config = *config,
		.ops = &ops,
	};
	struct aspace_aarch64 *tables = NULL;

	assert_int_equal(aspace_aarch64_create(&options, &tables), ASPACE_OK);
	forget();
	return tables;
}

/* ---- The splitter ------------------------------------------------------------------------ */

static uint64_t field(uint64_t value, unsigned high, unsigned low)
{
	return (value >> low) & ((UINT64_C(2) << (high - low)) - 1);
}

/* The pages [first, first + count) that an operand says. No assertion of cmocka's here, nor below:
 * they are calls, and this runs a hundred million times. */
static bool pages_of(const struct aspace_aarch64_config *c, const struct aspace_aarch64_tlbi *note,
		     uint64_t *first, uint64_t *count)
{
	unsigned shift = c->ds ? 16 : c->granule_shift;

	if (note->kind == ASPACE_AARCH64_TLBI_VA || note->kind == ASPACE_AARCH64_TLBI_IPA) {
		*first = field(note->operand, 43, 0) << 12 >> c->granule_shift;
		*count = 1;
		return true;
	}
	*first = field(note->operand, 36, 0) << shift >> c->granule_shift;
	*count = (field(note->operand, 43, 39) + 1) << (5 * field(note->operand, 45, 44) + 1);
	return (note->kind == ASPACE_AARCH64_TLBI_RANGE ||
		note->kind == ASPACE_AARCH64_TLBI_IPA_RANGE) &&
	       field(note->operand, 47, 46) == (c->granule_shift - 12u) / 2 + 1;
}

static uint64_t split(struct aspace_aarch64 *t, uint64_t first, uint64_t pages)
{
	const struct aspace_aarch64_config *c = &t->config;
	uint64_t at = first;

	note_count = order_count = 0;
	t->gathered[0] = (struct asp_a64_gathered){first << c->granule_shift,
						   (first + pages) << c->granule_shift, 3, true};
	t->gathered_count = 1;
	asp_a64_invalidate(t);
	for (size_t i = 0; i < note_count; i++) {
		uint64_t start, count;

		if (notes[i].kind == ASPACE_AARCH64_TLBI_ALL)
			continue; /* the second half of stage 2 */
		if (!pages_of(c, &notes[i], &start, &count) || start != at || !count)
			fail_msg("%llu pages at %llu: %llu at %llu does not follow",
				 (unsigned long long)pages, (unsigned long long)first,
				 (unsigned long long)count, (unsigned long long)start);
		at += count;
	}
	if (at != first + pages)
		fail_msg("%llu pages at %llu: %llu are covered", (unsigned long long)pages,
			 (unsigned long long)first, (unsigned long long)(at - first));
	return note_count;
}

/* Every length up to one more than the largest range, at every residue that makes a
 * difference: with DS, of 64 KB. */
static void test_every_length(void **state)
{
	static const struct {
		enum aspace_aarch64_regime regime;
		unsigned granule;
		bool ds;
	} shapes[] = {
		{ASPACE_AARCH64_EL1_LOWER, 12, false}, {ASPACE_AARCH64_EL1_LOWER, 12, true},
		{ASPACE_AARCH64_EL1_LOWER, 14, true},  {ASPACE_AARCH64_EL1_LOWER, 16, false},
		{ASPACE_AARCH64_STAGE2, 14, false},
	};

	(void)state;
	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		struct aspace_aarch64_config c = config_of(shapes[s].regime, shapes[s].granule);
		unsigned residues = shapes[s].ds ? 1u << (16 - shapes[s].granule) : 1;
		struct aspace_aarch64 *t;
		uint64_t most = 0;

		c.ds = shapes[s].ds;
		t = make(&c);
		for (uint64_t first = 0x10000; first < 0x10000 + residues; first++) {
			for (uint64_t pages = 1; pages <= (1 << 21) + 1; pages++) {
				uint64_t count = split(t, first, pages);

				most = count > most ? count : most;
			}
		}
		/* Five scales at most, and single pages up to a boundary and at the end. */
		assert_true(most <= 5 + residues + 1 + (c.regime == ASPACE_AARCH64_STAGE2));
		aspace_aarch64_destroy(t);
	}
}

/* Blocks of each level, by whatever forms: covered, and with a TTL from a multiple of their size. */
static void test_blocks(void **state)
{
	static const struct {
		unsigned granule;
		bool ds;
	} shapes[] = {{12, false}, {12, true}, {14, false}, {14, true}, {16, false}};
	unsigned ranges = 0;

	(void)state;
	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		struct aspace_aarch64_config c =
			config_of(ASPACE_AARCH64_EL1_LOWER, shapes[s].granule);
		struct aspace_aarch64 *t;

		c.ds = shapes[s].ds;
		if (c.ds || c.granule_shift == 16)
			c.output_bits = c.input_bits = 52;
		t = make(&c);
		for (int level = c.ds && c.granule_shift == 12 ? 0 : 1; level < 3; level++) {
			uint64_t size = asp_a64_size(&t->geometry, level);

			if (!asp_a64_leaf_allowed(&c, level))
				continue;
			for (uint64_t first = 0; first < 3; first++) {
				for (uint64_t blocks = 1; blocks < (level ? 300 : 4); blocks++) {
					uint64_t at = first * size;

					if ((first + blocks) * size > UINT64_C(1) << c.input_bits)
						break;
					forget();
					asp_a64_gather(t, level, at, at + blocks * size,
						       1 | ASP_A64_NG);
					asp_a64_invalidate(t);
					if (notes[0].kind == ASPACE_AARCH64_TLBI_ID)
						continue;
					for (size_t i = 0; i < note_count; i++) {
						bool range =
							notes[i].kind == ASPACE_AARCH64_TLBI_RANGE;

						assert_int_equal(notes[i].range.start.value, at);
						if (range && field(notes[i].operand, 38, 37))
							assert_int_equal(at % size, 0);
						ranges += range;
						at = notes[i].range.end.value;
					}
					assert_int_equal(at, (first + blocks) * size);
				}
			}
		}
		aspace_aarch64_destroy(t);
	}
	assert_true(ranges > 1000);
}

/* ---- Operands ------------------------------------------------------------------------------ */

static struct aspace_aarch64_tlbi one(struct aspace_aarch64 *t, int level, uint64_t start,
				      uint64_t size, uint64_t old)
{
	forget();
	asp_a64_gather(t, level, start, start + size, old);
	asp_a64_invalidate(t);
	assert_int_equal(note_count, 1);
	return notes[0];
}

static void test_operands(void **state)
{
	struct aspace_aarch64_config c = config_of(ASPACE_AARCH64_EL1_UPPER, 12);
	struct aspace_aarch64 *t = make(&c);
	struct aspace_aarch64_tlbi note;
	uint64_t page = 3 | ASP_A64_NG, block = 1 | ASP_A64_NG, table = 3;

	(void)state;
	/* ASID, TTL 4K level 3, address bits 55 to 12. */
	note = one(t, 3, UINT64_C(0xffff800012345000), 0x1000, page);
	assert_int_equal(note.operand, UINT64_C(0x005a7ff800012345));
	assert_true(note.leaf && note.kind == ASPACE_AARCH64_TLBI_VA);
	note = one(t, 2, UINT64_C(0xffff800012200000), 0x200000, block);
	assert_int_equal(note.operand, UINT64_C(0x005a6ff800012200));
	/* A table: no hint, not only leaves. */
	note = one(t, 2, UINT64_C(0xffff800012200000), 0x200000, table);
	assert_int_equal(note.operand, UINT64_C(0x005a0ff800012200));
	assert_false(note.leaf);
	/* Two pages: TG 1, scale 0, num 0, TTL 3. */
	note = one(t, 3, UINT64_C(0xffff800012345000), 0x2000, page);
	assert_int_equal(note.kind, ASPACE_AARCH64_TLBI_RANGE);
	assert_int_equal(note.operand, UINT64_C(0x005a407800012345) | UINT64_C(1) << 36);
	aspace_aarch64_destroy(t);

	c = config_of(ASPACE_AARCH64_EL1_LOWER, 16);
	c.all_asids = true;
	t = make(&c);
	/* 64K: the same bits 55 to 12; no ASID in the forms for all. */
	note = one(t, 3, UINT64_C(0x123450000), 0x10000, page);
	assert_int_equal(note.kind, ASPACE_AARCH64_TLBI_VA_ALL_IDS);
	assert_int_equal(note.operand, UINT64_C(0x0000f00000123450));
	note = one(t, 3, UINT64_C(0x123450000), 0x20000, page);
	assert_int_equal(note.kind, ASPACE_AARCH64_TLBI_RANGE_ALL_IDS);
	assert_int_equal(note.operand, UINT64_C(0x0000c06000012345));
	aspace_aarch64_destroy(t);
}

/* ---- Thresholds ------------------------------------------------------------------------------ */

static void gather_pages(struct aspace_aarch64 *t, unsigned count, uint64_t old)
{
	forget();
	for (uint64_t i = 0; i < count; i++)
		asp_a64_gather(t, 3, i << 20, (i << 20) + 0x1000, old);
	asp_a64_invalidate(t);
}

static void test_thresholds(void **state)
{
	struct aspace_aarch64_config c = config_of(ASPACE_AARCH64_EL1_LOWER, 12);
	struct aspace_aarch64 *t;
	uint64_t page = 3 | ASP_A64_NG, global = 3;

	(void)state;
	c.tlbi_max = 4;
	t = make(&c);
	gather_pages(t, 4, page);
	assert_int_equal(note_count, 4);
	gather_pages(t, 5, page);
	assert_int_equal(note_count, 1);
	assert_int_equal(notes[0].kind, ASPACE_AARCH64_TLBI_ID);
	assert_int_equal(notes[0].operand, UINT64_C(0x5a) << 48);
	/* Global entries have no ASID. */
	gather_pages(t, 5, global);
	assert_int_equal(note_count, 1);
	assert_int_equal(notes[0].kind, ASPACE_AARCH64_TLBI_ALL);
	/* And are forgotten afterwards. */
	gather_pages(t, 5, page);
	assert_int_equal(notes[0].kind, ASPACE_AARCH64_TLBI_ID);
	aspace_aarch64_destroy(t);

	/* More than the list holds. */
	c.tlbi_max = 0;
	t = make(&c);
	gather_pages(t, ASP_A64_GATHERED_MAX, page);
	assert_int_equal(note_count, ASP_A64_GATHERED_MAX);
	gather_pages(t, ASP_A64_GATHERED_MAX + 1, page);
	assert_int_equal(note_count, 1);
	aspace_aarch64_destroy(t);

	c = config_of(ASPACE_AARCH64_STAGE2, 12);
	c.tlbi_max = 4;
	t = make(&c);
	gather_pages(t, 5, page);
	assert_int_equal(note_count, 1);
	assert_int_equal(notes[0].kind, ASPACE_AARCH64_TLBI_VMID);
	aspace_aarch64_destroy(t);
}

/* ---- How many barriers ------------------------------------------------------------------------- */

static struct aspace_aarch64_linear source;

static void make_source(struct aspace_aarch64 *t)
{
	assert_int_equal(aspace_aarch64_linear_init(&source, t, UINT64_C(0x40000000)), ASPACE_OK);
}

static void change(enum aspace_change_kind kind, uint64_t start, uint64_t end, uint64_t flags,
		   const char *expected)
{
	const struct aspace_change c = {
		.kind = kind,
		.range = aspace_range_of(start, end),
		.new_flags = flags,
	};
	const struct aspace_backend_ops *o = source.backend.ops;

	forget();
	assert_int_equal(o->prepare(&source.backend, &c), ASPACE_OK);
	assert_int_equal(kind == ASPACE_CHANGE_MAP     ? o->map(&source.backend, &c)
			 : kind == ASPACE_CHANGE_UNMAP ? o->unmap(&source.backend, &c)
						       : o->protect(&source.backend, &c),
			 ASPACE_OK);
	o->flush(&source.backend);
	assert_string_equal(order, expected);
}

static void test_barriers(void **state)
{
	struct aspace_aarch64_config c = config_of(ASPACE_AARCH64_EL1_LOWER, 12);
	struct aspace_aarch64 *t = make(&c);
	uint64_t rw = 3, ro = 1;

	(void)state;
	make_source(t);
	/* New tables: one barrier before the link, one at the end. */
	change(ASPACE_CHANGE_MAP, 0x1000, 0x9000, rw, "ssi");
	/* None: one. */
	change(ASPACE_CHANGE_MAP, 0x9000, 0xa000, rw, "si");
	change(ASPACE_CHANGE_PROTECT, 0x1000, 0x3000, ro, "stai");
	change(ASPACE_CHANGE_UNMAP, 0x1000, 0x3000, 0, "stai");
	/* Seven pages are a range and a page; three tables go with the lowest of them. */
	change(ASPACE_CHANGE_UNMAP, 0x3000, 0xa000, 0, "stttai");
	/* A block cut at both ends: break, barrier, invalidate, barrier; make. */
	change(ASPACE_CHANGE_MAP, 0, 0x200000, rw, "ssi");
	change(ASPACE_CHANGE_PROTECT, 0x1000, 0x3000, ro, "stasi");
	change(ASPACE_CHANGE_UNMAP, 0, 0x200000, 0, "sttai");
	aspace_aarch64_destroy(t);

	c.regime = ASPACE_AARCH64_STAGE2;
	t = make(&c);
	make_source(t);
	change(ASPACE_CHANGE_MAP, 0x1000, 0x9000, rw, "ssi");
	/* By IPA, complete, then what combines both stages. */
	change(ASPACE_CHANGE_PROTECT, 0x1000, 0x3000, ro, "statai");
	aspace_aarch64_destroy(t);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_length), cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_operands),     cmocka_unit_test(test_thresholds),
		cmocka_unit_test(test_barriers),
	};

	if (argc > 1) /* one of them */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
