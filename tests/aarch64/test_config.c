/* SPDX-License-Identifier: MIT */
/*
 * Configurations: the architecture's limits, processors' limits, register values.
 *
 * The processors are the ID register values of real ones, as their manuals give them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/aarch64/geometry.h"

#include <string.h>

/* Cortex-A57: 44 bits, 4K and 64K, nothing else. */
static const struct aspace_aarch64_id a57 = {.mmfr0 = 0x00001124};
/* Neoverse N1: 48 bits, all granules, VHE, hardware AF and dirty state, 16-bit VMIDs. */
static const struct aspace_aarch64_id n1 = {
	.mmfr0 = 0x00101125,
	.mmfr1 = 0x10212122,
	.mmfr2 = 0x00001011,
	.isar0 = UINT64_C(0x0000100010211120),
};
/* All that QEMU's `max` has that matters here: LPA2 everywhere, 52 bits, BBM 2. */
static const struct aspace_aarch64_id all = {
	.mmfr0 = UINT64_C(0x0000032310201126),
	.mmfr1 = UINT64_C(0x0000000010112122),
	.mmfr2 = UINT64_C(0x1221011110011011),
	.isar0 = UINT64_C(0x1221111110212120),
	.pfr1 = 0x0000000000000321,
};

static struct aspace_aarch64_config of(enum aspace_aarch64_regime regime, unsigned granule,
				       unsigned input, unsigned output)
{
	return (struct aspace_aarch64_config){
		.size = sizeof(struct aspace_aarch64_config),
		.regime = regime,
		.granule_shift = (uint8_t)granule,
		.input_bits = (uint8_t)input,
		.output_bits = (uint8_t)output,
		.start_level = ASPACE_AARCH64_START_ANY,
		.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
	};
}

static void assert_refused(const struct aspace_aarch64_config *c,
			   const struct aspace_aarch64_id *id, enum aspace_status status,
			   const char *part)
{
	const char *reason = NULL;

	assert_int_equal(aspace_aarch64_config_check(c, id, &reason), status);
	assert_non_null(reason);
	if (!strstr(reason, part))
		fail_msg("\"%s\" does not say \"%s\"", reason, part);
}

static void assert_accepted(const struct aspace_aarch64_config *c,
			    const struct aspace_aarch64_id *id)
{
	const char *reason = "";

	if (aspace_aarch64_config_check(c, id, &reason) != ASPACE_OK)
		fail_msg("refused: %s", reason);
	assert_null(reason);
}

static void test_sizes(void **state)
{
	struct aspace_aarch64_config c;

	(void)state;
	/* granule, DS, the largest and the smallest input */
	static const unsigned limits[][4] = {
		{12, 0, 48, 16}, {12, 1, 52, 16}, {14, 0, 48, 16}, {14, 1, 52, 16}, {16, 0, 52, 17},
	};

	for (size_t i = 0; i < 5; i++) {
		c = of(ASPACE_AARCH64_EL1_LOWER, limits[i][0], limits[i][2], 48);
		c.ds = limits[i][1];
		assert_accepted(&c, NULL);
		c.input_bits++;
		assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "too large");
		c.input_bits = (uint8_t)limits[i][3];
		assert_accepted(&c, NULL);
		c.input_bits--;
		assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "too small");
	}
	c = of(ASPACE_AARCH64_EL1_LOWER, 13, 40, 48);
	assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "granule");
	c = of(ASPACE_AARCH64_EL1_LOWER, 16, 40, 48);
	c.ds = true;
	assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "DS");
	c = of(ASPACE_AARCH64_EL1_LOWER, 12, 40, 41);
	assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "output size");
	c = of(ASPACE_AARCH64_EL1_LOWER, 12, 40, 52);
	assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "52-bit outputs");
	c.ds = true;
	assert_accepted(&c, NULL);
	c = of(ASPACE_AARCH64_EL1_LOWER, 16, 40, 52);
	assert_accepted(&c, NULL);
	c.size--;
	assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "size");
}

static void test_start_levels_of_stage_1(void **state)
{
	/* granule, input, start: the table in D8.2.9. */
	static const int starts[][3] = {
		{12, 16, 3}, {12, 21, 3}, {12, 22, 2},  {12, 30, 2},  {12, 31, 1}, {12, 39, 1},
		{12, 40, 0}, {12, 48, 0}, {12, 49, -1}, {12, 52, -1}, {14, 16, 3}, {14, 25, 3},
		{14, 26, 2}, {14, 36, 2}, {14, 37, 1},  {14, 47, 1},  {14, 48, 0}, {14, 52, 0},
		{16, 17, 3}, {16, 29, 3}, {16, 30, 2},  {16, 42, 2},  {16, 43, 1}, {16, 52, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		struct aspace_aarch64_config c =
			of(ASPACE_AARCH64_EL1_LOWER, (unsigned)starts[i][0], (unsigned)starts[i][1],
			   48);
		struct asp_a64_geometry geometry;

		c.ds = starts[i][1] > 48 && starts[i][0] != 16;
		assert_accepted(&c, NULL);
		assert_null(asp_a64_geometry_of(&c, &geometry));
		assert_int_equal(geometry.start, starts[i][2]);
		c.start_level = starts[i][2] == 3 ? 2 : starts[i][2] + 1;
		assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "follows from");
	}
}

static void test_start_levels_of_stage_2(void **state)
{
	/* granule, DS, start, the smallest and the largest input: one bit at the root, and
	 * sixteen tables side by side; no more than the granule has. */
	static const int starts[][5] = {
		{12, 0, 3, 16, 25},  {12, 0, 2, 22, 34}, {12, 0, 1, 31, 43}, {12, 0, 0, 40, 48},
		{12, 1, -1, 49, 52}, {14, 0, 3, 16, 29}, {14, 0, 2, 26, 40}, {14, 0, 1, 37, 48},
		{14, 1, 0, 48, 52},  {16, 0, 3, 17, 33}, {16, 0, 2, 30, 46}, {16, 0, 1, 43, 52},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		for (int input = 16; input <= 52; input++) {
			struct aspace_aarch64_config c = of(
				ASPACE_AARCH64_STAGE2, (unsigned)starts[i][0], (unsigned)input, 48);
			bool fits = input >= starts[i][3] && input <= starts[i][4];

			c.ds = starts[i][1];
			c.output_bits = c.ds || starts[i][0] == 16 ? 52 : 48;
			c.start_level = starts[i][2];
			if ((aspace_aarch64_config_check(&c, NULL, NULL) == ASPACE_OK) != fits)
				fail_msg("granule %d start %d input %d", starts[i][0], starts[i][2],
					 input);
		}
	}
}

static void test_concatenation(void **state)
{
	/* A 40-bit stage 2 with 4K: two tables at level 1, rather than another level. */
	struct aspace_aarch64_config c = of(ASPACE_AARCH64_STAGE2, 12, 40, 40);
	struct asp_a64_geometry geometry;
	uint64_t mask;

	(void)state;
	assert_null(asp_a64_geometry_of(&c, &geometry));
	assert_int_equal(geometry.start, 1);
	assert_int_equal(geometry.root_size, 2 * 4096);
	assert_int_equal((aspace_aarch64_tcr(&c, &mask) >> 6) & 3, 1);
	c.start_level = 0;
	assert_refused(&c, NULL, ASPACE_INVALID_PARAM, "44-bit");
	c.output_bits = 44;
	assert_accepted(&c, NULL);
	assert_null(asp_a64_geometry_of(&c, &geometry));
	assert_int_equal(geometry.root_size, 4096);
	assert_int_equal((aspace_aarch64_tcr(&c, &mask) >> 6) & 3, 2);
	c.input_bits = 43;
	c.start_level = ASPACE_AARCH64_START_ANY;
	assert_null(asp_a64_geometry_of(&c, &geometry));
	assert_int_equal(geometry.root_size, 16 * 4096);
}

static void test_processors(void **state)
{
	struct aspace_aarch64_config c;
	const char *reason;

	(void)state;
	assert_int_equal(aspace_aarch64_config_for(&a57, ASPACE_AARCH64_EL1_LOWER, 12, &c, &reason),
			 ASPACE_OK);
	assert_int_equal(c.output_bits, 44);
	assert_int_equal(c.input_bits, 48);
	assert_false(c.ds || c.range_tlbi || c.ttl || c.bbm_level || c.cnp);
	assert_int_equal(aspace_aarch64_config_for(&a57, ASPACE_AARCH64_EL1_LOWER, 14, &c, &reason),
			 ASPACE_NOT_SUPPORTED);
	assert_string_equal(reason, "the processor lacks the granule");
	assert_int_equal(aspace_aarch64_config_for(&a57, ASPACE_AARCH64_EL2_UPPER, 12, &c, &reason),
			 ASPACE_NOT_SUPPORTED);
	assert_string_equal(reason, "the processor lacks FEAT_VHE");

	assert_int_equal(aspace_aarch64_config_for(&n1, ASPACE_AARCH64_STAGE2, 14, &c, &reason),
			 ASPACE_OK);
	assert_int_equal(c.output_bits, 48);
	assert_int_equal(c.input_bits, 48);
	assert_true(c.id_16_bits && !c.ds && c.xnx);

	for (unsigned granule = 12; granule <= 16; granule += 2) {
		for (int r = 0; r <= ASPACE_AARCH64_STAGE2; r++) {
			assert_int_equal(aspace_aarch64_config_for(&all,
								   (enum aspace_aarch64_regime)r,
								   granule, &c, &reason),
					 ASPACE_OK);
			assert_int_equal(c.output_bits, 52);
			assert_int_equal(c.input_bits, 52);
			assert_int_equal(c.ds, granule != 16);
			assert_true(c.range_tlbi && c.ttl && c.bbm_level == 2);
		}
	}
}

/* Each feature, asked of a processor that lacks it. */
static void test_missing_features(void **state)
{
	struct aspace_aarch64_config c = of(ASPACE_AARCH64_EL1_LOWER, 12, 39, 40);

	(void)state;
	assert_accepted(&c, &a57);
#define REFUSED(field, value, part)                                                                \
	do {                                                                                       \
		struct aspace_aarch64_config d = c;                                                \
		d.field = value;                                                                   \
		assert_refused(&d, &a57, ASPACE_NOT_SUPPORTED, part);                              \
	} while (0)
	REFUSED(hardware_access, true, "access flag");
	REFUSED(bti, true, "FEAT_BTI");
	REFUSED(tagged, true, "FEAT_MTE2");
	REFUSED(range_tlbi, true, "FEAT_TLBIRANGE");
	REFUSED(ttl, true, "FEAT_TTL");
	REFUSED(cnp, true, "FEAT_TTCNP");
	REFUSED(bbm_level, 1, "FEAT_BBM");
	REFUSED(input_bits, 24, "FEAT_TTST");
	REFUSED(output_bits, 48, "fewer physical");
	REFUSED(ds, true, "FEAT_LPA2");
	REFUSED(shareability, ASPACE_AARCH64_OUTER_SHAREABLE, "FEAT_TLBIOS");
	c = of(ASPACE_AARCH64_STAGE2, 12, 40, 40);
	REFUSED(xnx, true, "FEAT_XNX");
	REFUSED(fwb, true, "FEAT_S2FWB");
	REFUSED(id_16_bits, true, "8-bit VMIDs");
	REFUSED(input_bits, 24, "FEAT_TTST");
	c = of(ASPACE_AARCH64_EL1_LOWER, 16, 49, 44);
	assert_refused(&c, &a57, ASPACE_NOT_SUPPORTED, "FEAT_LVA");
#undef REFUSED
}

static void test_contradictions(void **state)
{
	struct aspace_aarch64_config c = of(ASPACE_AARCH64_EL1_LOWER, 12, 39, 40);

	(void)state;
#define REFUSED(field, value, part)                                                                \
	do {                                                                                       \
		struct aspace_aarch64_config d = c;                                                \
		d.field = value;                                                                   \
		assert_refused(&d, NULL, ASPACE_INVALID_PARAM, part);                              \
	} while (0)
	REFUSED(regime, (enum aspace_aarch64_regime)17, "regime");
	REFUSED(hardware_dirty, true, "needs the hardware access flag");
	REFUSED(bbm_level, 3, "0 to 2");
	REFUSED(shareability, (enum aspace_aarch64_shareability)1, "shareability");
	REFUSED(xnx, true, "stage 2");
	REFUSED(fwb, true, "stage 2");
	REFUSED(id, 256, "8 bits");
	c.regime = ASPACE_AARCH64_EL2;
	REFUSED(id, 1, "no ASID");
	REFUSED(all_asids, true, "ASIDs");
	c.regime = ASPACE_AARCH64_STAGE2;
	REFUSED(bti, true, "stage 1");
	REFUSED(tagged, true, "stage 1");
	REFUSED(secure, true, "stage 1");
	REFUSED(input_bits, 41, "no more input");
	REFUSED(mair, 1, "stage 1");
#undef REFUSED
}

/* Values written out by hand from the registers' descriptions (D24.2). */
static void test_registers(void **state)
{
	struct aspace_aarch64_config c = of(ASPACE_AARCH64_EL1_LOWER, 12, 48, 48);
	uint64_t lower, upper, mask, upper_mask;

	(void)state;
	/* T0SZ 16, write-back inner shareable walks, 4K, IPS 5. */
	lower = aspace_aarch64_tcr(&c, &mask);
	assert_int_equal(lower, UINT64_C(0x500003510));
	c.regime = ASPACE_AARCH64_EL1_UPPER;
	upper = aspace_aarch64_tcr(&c, &upper_mask);
	/* T1SZ 16, the same, TG1 2. */
	assert_int_equal(upper, UINT64_C(0x5b5100000));
	/* Only what both halves share is in both masks. */
	assert_int_equal(mask & upper_mask, UINT64_C(0x0800019700000000));
	c = of(ASPACE_AARCH64_EL2, 14, 47, 40);
	assert_int_equal(aspace_aarch64_tcr(&c, &mask), UINT64_C(0x8082b511));
	c = of(ASPACE_AARCH64_STAGE2, 12, 52, 52);
	c.ds = true;
	c.start_level = -1;
	/* T0SZ 12, SL2, DS, PS 6, RES1. */
	assert_int_equal(aspace_aarch64_tcr(&c, &mask), UINT64_C(0x38006350c));
	c = of(ASPACE_AARCH64_EL1_LOWER, 12, 48, 48);
	assert_int_equal(aspace_aarch64_mair(&c), UINT64_C(0xf00c08040044bbff));
	c.mair = 0xff;
	assert_int_equal(aspace_aarch64_mair(&c), 0xff);
}

static void test_ranges(void **state)
{
	struct aspace_aarch64_config c = of(ASPACE_AARCH64_EL1_UPPER, 14, 48, 48);

	(void)state;
	assert_int_equal(aspace_aarch64_range(&c).start.value, UINT64_C(0xffff000000000000));
	assert_int_equal(aspace_aarch64_range(&c).end.value, UINT64_C(0xffffffffffffc000));
	c.regime = ASPACE_AARCH64_EL1_LOWER;
	assert_int_equal(aspace_aarch64_range(&c).start.value, 0);
	assert_int_equal(aspace_aarch64_range(&c).end.value, UINT64_C(0x1000000000000));
}

/* Two halves under one TCR: each field that is for both, by itself, is diagnosed. */
static void test_two_trees(void **state)
{
	struct aspace_aarch64_config lower = of(ASPACE_AARCH64_EL1_LOWER, 12, 39, 48);
	struct aspace_aarch64_config upper = of(ASPACE_AARCH64_EL1_UPPER, 16, 48, 48), other;
	uint64_t tcr = 1, mask = 1, masks[2], values[2];
	const char *reason = "";

	(void)state;
	lower.id = 7;
	upper.all_asids = true;
	upper.shareability = ASPACE_AARCH64_OUTER_SHAREABLE;
	assert_int_equal(aspace_aarch64_tcr_pair(&lower, &upper, &tcr, &mask, &reason), ASPACE_OK);
	assert_null(reason);
	values[0] = aspace_aarch64_tcr(&lower, &masks[0]);
	values[1] = aspace_aarch64_tcr(&upper, &masks[1]);
	/* Whoever writes first, the other changes nothing of it. */
	assert_int_equal(tcr & masks[0], values[0]);
	assert_int_equal(tcr & masks[1], values[1]);
	assert_int_equal(mask, masks[0] | masks[1]);
	/* T0SZ 25, T1SZ 16; 4K in TG0, 64K in TG1; SH0 inner, SH1 outer. */
	assert_int_equal(tcr & 0x3f, 25);
	assert_int_equal(tcr >> 16 & 0x3f, 16);
	assert_int_equal(tcr >> 14 & 3, 0);
	assert_int_equal(tcr >> 30 & 3, 3);
	assert_int_equal(tcr >> 12 & 3, 3);
	assert_int_equal(tcr >> 28 & 3, 2);

	for (unsigned i = 0; i < 12; i++) {
		static const char *const parts[] = {"output size", "ASIDs",  "hardware", "hardware",
						    "DS",          "secure", "MAIR",     "TTBR0",
						    "half",        "half",   "half",     "granule"};
		struct aspace_aarch64_config first = lower;

		other = upper;
		switch (i) {
		case 0:
			other.output_bits = 40;
			break;
		case 1:
			other.id_16_bits = true;
			break;
		case 2:
			other.hardware_access = true;
			break;
		case 3:
			first.hardware_access = other.hardware_access = other.hardware_dirty = true;
			break;
		case 4:
			first = of(ASPACE_AARCH64_EL1_LOWER, 12, 48, 52);
			first.ds = true;
			other.output_bits = 52;
			break;
		case 5:
			other.secure = true;
			break;
		case 6:
			other.mair = UINT64_C(0xff00);
			break;
		case 7:
			other.all_asids = false;
			break;
		case 8:
			other.regime = ASPACE_AARCH64_EL2_UPPER;
			break;
		case 9:
			first = upper;
			other = lower;
			break;
		case 10:
			first.regime = ASPACE_AARCH64_STAGE2;
			break;
		default:
			other.granule_shift = 13;
			break;
		}
		tcr = mask = 1;
		assert_int_equal(aspace_aarch64_tcr_pair(&first, &other, &tcr, &mask, &reason),
				 ASPACE_INVALID_PARAM);
		assert_non_null(reason);
		if (!strstr(reason, parts[i]))
			fail_msg("\"%s\" does not say \"%s\"", reason, parts[i]);
		assert_int_equal(tcr, 1);
		assert_int_equal(mask, 1);
	}
	/* One ASID for both will do, and nobody need ask for the reason. */
	upper.all_asids = false;
	upper.id = 7;
	assert_int_equal(aspace_aarch64_tcr_pair(&lower, &upper, &tcr, &mask, NULL), ASPACE_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_start_levels_of_stage_1),
		cmocka_unit_test(test_start_levels_of_stage_2),
		cmocka_unit_test(test_concatenation),
		cmocka_unit_test(test_processors),
		cmocka_unit_test(test_missing_features),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_two_trees),
		cmocka_unit_test(test_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
