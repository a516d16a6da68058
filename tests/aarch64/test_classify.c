/* SPDX-License-Identifier: MIT */
/*
 * The classifier over all its inputs.
 *
 * A descriptor is the product of what the classifier can tell apart; every pair of them is
 * asked for every regime, BBM level and tolerance, and compared with a second reading of
 * the rules in D8.16, written as a list of questions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/aarch64/classify.h"

#include <stdio.h>

/* One bit, or one value, of each kind. */
enum {
	VALID = 1,
	LEAF = 2,
	OUTPUT = 4,     /* another address */
	MEMORY = 8,     /* another memory type */
	SHAREABLE = 16, /* another shareability */
	READ_ONLY = 32,
	ACCESSED = 64,
	NON_GLOBAL = 128,
	CONTIGUOUS = 256,
	NO_EXECUTE = 512,
	MODIFIER = 1024, /* DBM */
	SOFTWARE = 2048,
	KINDS = 4096
};

static uint64_t descriptor_of(unsigned kind)
{
	uint64_t d = UINT64_C(0x40000000);

	d |= kind & VALID ? 1 : 0;
	d |= kind & LEAF ? 0 : 2;
	d ^= kind & OUTPUT ? UINT64_C(0x80000000) : 0;
	d |= kind & MEMORY ? 4 : 0;
	d |= kind & SHAREABLE ? UINT64_C(3) << 8 : 0;
	d |= kind & READ_ONLY ? 1 << 7 : 0;
	d |= kind & ACCESSED ? 1 << 10 : 0;
	d |= kind & NON_GLOBAL ? 1 << 11 : 0;
	d |= kind & CONTIGUOUS ? UINT64_C(1) << 52 : 0;
	d |= kind & NO_EXECUTE ? UINT64_C(1) << 54 : 0;
	d |= kind & MODIFIER ? UINT64_C(1) << 51 : 0;
	d |= kind & SOFTWARE ? UINT64_C(1) << 55 : 0;
	return d;
}

/* The questions of D8.16.1, one after the other. */
static enum asp_a64_action answer(const struct aspace_aarch64_config *c, unsigned old,
				  unsigned next)
{
	bool size_is_free = c->bbm_level == 2 && c->conflicts_tolerated;
	unsigned changed = old ^ next;

	if (!changed)
		return ASP_A64_NOTHING;
	if (!(old & VALID))
		return ASP_A64_STORE; /* "never held in a TLB" */
	if (!(next & VALID))
		return ASP_A64_STORE_INVALIDATE;
	if (changed & LEAF) /* block to table, table to block */
		return size_is_free ? ASP_A64_STORE_INVALIDATE : ASP_A64_BREAK;
	if (!(old & LEAF))
		return ASP_A64_BREAK; /* another table */
	if (changed & (OUTPUT | MEMORY | SHAREABLE | NON_GLOBAL))
		return ASP_A64_BREAK;
	if ((changed & CONTIGUOUS) && !size_is_free)
		return ASP_A64_BREAK;
	if (!(changed & ~(unsigned)SOFTWARE))
		return ASP_A64_STORE;
	if ((changed & ~(unsigned)SOFTWARE) == ACCESSED && (next & ACCESSED))
		return ASP_A64_STORE;
	return ASP_A64_STORE_INVALIDATE;
}

static void test_every_change(void **state)
{
	uint64_t asked = 0, count[4] = {0};

	(void)state;
	for (int regime = 0; regime <= ASPACE_AARCH64_STAGE2; regime++) {
		for (unsigned bbm = 0; bbm < 6; bbm++) {
			struct aspace_aarch64_config c = {
				.regime = (enum aspace_aarch64_regime)regime,
				.granule_shift = 12,
				.bbm_level = (uint8_t)(bbm / 2),
				.conflicts_tolerated = bbm % 2,
			};

			for (unsigned old = 0; old < KINDS; old++) {
				for (unsigned next = 0; next < KINDS; next++) {
					enum asp_a64_action is = asp_a64_classify(
						&c, 2, descriptor_of(old), descriptor_of(next));

					if (is != answer(&c, old, next))
						fail_msg("regime %d bbm %u/%u: %#x -> %#x: %d",
							 regime, bbm / 2, bbm % 2, old, next, is);
					asked++;
					count[is]++;
				}
			}
		}
	}
	for (int i = 0; i < 4; i++)
		assert_true(count[i] > 0);
	printf("%llu changes asked for\n", (unsigned long long)asked);
}

/* At level 3, bit 1 is of every descriptor: nothing there is a table. */
static void test_level_3(void **state)
{
	struct aspace_aarch64_config c = {.granule_shift = 12};
	uint64_t page = UINT64_C(0x40000000) | 3 | 1 << 10;

	(void)state;
	assert_int_equal(asp_a64_classify(&c, 3, page, page | 1 << 7), ASP_A64_STORE_INVALIDATE);
	assert_int_equal(asp_a64_classify(&c, 2, page, page | 1 << 7), ASP_A64_BREAK);
	assert_int_equal(asp_a64_classify(&c, 3, page, page ^ 0x1000), ASP_A64_BREAK);
}

/* With DS, the bits of SH are address bits; with 64K, bits 15 to 12 are. */
static void test_address_bits(void **state)
{
	struct aspace_aarch64_config c = {.granule_shift = 12, .ds = true};
	uint64_t page = UINT64_C(0x40000000) | 3 | 1 << 10;

	(void)state;
	assert_int_equal(asp_a64_classify(&c, 3, page, page | 1 << 8), ASP_A64_BREAK);
	assert_int_equal(asp_a64_decode_output(&c, page | 3 << 8), UINT64_C(0xc000040000000));
	c = (struct aspace_aarch64_config){.granule_shift = 16};
	assert_int_equal(asp_a64_classify(&c, 3, page, page | 1 << 12), ASP_A64_BREAK);
	assert_int_equal(asp_a64_decode_output(&c, page | 0xf000), UINT64_C(0xf000040000000));
}

/* All flags that can be said come back from the descriptor, in every regime. */
static void test_flags_round_trip(void **state)
{
	uint64_t said = 0;

	(void)state;
	for (int regime = 0; regime <= ASPACE_AARCH64_STAGE2; regime++) {
		for (unsigned features = 0; features < 32; features++) {
			bool stage2 = regime == ASPACE_AARCH64_STAGE2;
			struct aspace_aarch64_config c = {
				.regime = (enum aspace_aarch64_regime)regime,
				.granule_shift = 12,
				.hardware_access = features & 1,
				.hardware_dirty = features & 1,
				.xnx = stage2 && (features & 2),
				.fwb = stage2 && (features & 4),
				.bti = !stage2 && (features & 2),
				.tagged = !stage2 && (features & 4),
				.secure = !stage2 && (features & 8),
				.write_xor_execute = features & 16,
				.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
			};

			for (uint64_t flags = 0; flags < 0x8000; flags++) {
				uint64_t bits;

				if (!asp_a64_attributes(&c, flags, &bits))
					continue;
				said++;
				if (asp_a64_flags(&c, bits) != (flags & ASPACE_AARCH64_KEPT_MASK))
					fail_msg("regime %d features %u: %#llx", regime, features,
						 (unsigned long long)flags);
			}
		}
	}
	printf("%llu combinations said\n", (unsigned long long)said);
	assert_true(said > 10000);
}

static void test_flags_refused(void **state)
{
	struct aspace_aarch64_config c = {.granule_shift = 12};
	uint64_t bits;

	(void)state;
	/* READ, or nothing at all. */
	assert_false(asp_a64_attributes(&c, 2, &bits));
	assert_false(asp_a64_attributes(&c, 4, &bits));
	assert_true(asp_a64_attributes(&c, 0, &bits));
	assert_false(asp_a64_is_valid(asp_a64_open(bits)));
	/* Shareability where there is room for it. */
	assert_true(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_OUTER_SHARED, &bits));
	assert_int_equal(asp_a64_shareability(&c, bits), ASPACE_AARCH64_OUTER_SHAREABLE);
	c.ds = true;
	c.shareability = ASPACE_AARCH64_INNER_SHAREABLE;
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_OUTER_SHARED, &bits));
	assert_true(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_INNER_SHARED, &bits));
	c = (struct aspace_aarch64_config){.granule_shift = 12};
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_BTI, &bits));
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_NONSECURE, &bits));
	assert_false(asp_a64_attributes(&c, 1 | 2 | 4 | 8, &bits)); /* EL0 writes, EL1 executes */
	assert_true(asp_a64_attributes(&c, 1 | 2 | 4, &bits));
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_TYPE(ASPACE_AARCH64_TAGGED), &bits));
	c.write_xor_execute = true;
	assert_false(asp_a64_attributes(&c, 1 | 2 | 4, &bits));
	assert_false(asp_a64_attributes(&c, 1 | 2 | 16, &bits));
	assert_true(asp_a64_attributes(&c, 1 | 4, &bits));
	c = (struct aspace_aarch64_config){.granule_shift = 12, .regime = ASPACE_AARCH64_EL2};
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_USER, &bits));
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_GLOBAL, &bits));
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_USER_EXECUTE, &bits));
	assert_true(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_EXECUTE, &bits));
	c.regime = ASPACE_AARCH64_STAGE2;
	assert_true(asp_a64_attributes(&c, 0, &bits));
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_EXECUTE, &bits)); /* no XNX */
	c.fwb = true;
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_TYPE(ASPACE_AARCH64_WRITE_THROUGH),
					&bits));
	/* A MAIR of the program's own: device memory only in slot 3. */
	c = (struct aspace_aarch64_config){.granule_shift = 12, .mair = 0x04ff4400};
	assert_true(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_TYPE(ASPACE_AARCH64_DEVICE_nGnRE),
				       &bits));
	assert_int_equal(bits >> 2 & 7, 3);
	assert_false(asp_a64_attributes(&c, 1 | ASPACE_AARCH64_TYPE(ASPACE_AARCH64_WRITE_THROUGH),
					&bits));
}

/* A dirty leaf that loses WRITE says so in a software bit, and gets its dirty state back. */
static void test_dirty_state_is_kept(void **state)
{
	(void)state;
	for (int stage2 = 0; stage2 < 2; stage2++) {
		struct aspace_aarch64_config c = {
			.regime = stage2 ? ASPACE_AARCH64_STAGE2 : ASPACE_AARCH64_EL1_LOWER,
			.granule_shift = 12,
			.hardware_access = true,
			.hardware_dirty = true,
		};
		uint64_t writable, read_only, d;

		assert_true(asp_a64_attributes(&c, 3, &writable));
		assert_true(asp_a64_attributes(&c, 1, &read_only));
		d = writable | 3 | UINT64_C(0x40000000);
		assert_false(asp_a64_is_dirty(&c, d));
		d ^= 1 << 7; /* what the processor does, at both stages */
		assert_true(asp_a64_is_dirty(&c, d));
		d = asp_a64_with_attributes(&c, d, read_only);
		assert_true(asp_a64_is_dirty(&c, d));
		assert_int_equal(asp_a64_flags(&c, d) & 3, 1);
		d = asp_a64_with_attributes(&c, d, writable);
		assert_true(asp_a64_is_dirty(&c, d));
		assert_int_equal(asp_a64_flags(&c, d) & 3, 3);
		assert_int_equal(asp_a64_decode_output(&c, d), UINT64_C(0x40000000));
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_change),  cmocka_unit_test(test_level_3),
		cmocka_unit_test(test_address_bits),  cmocka_unit_test(test_flags_round_trip),
		cmocka_unit_test(test_flags_refused), cmocka_unit_test(test_dirty_state_is_kept),
	};

	if (argc > 1) /* one of them */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
