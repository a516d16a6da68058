/* SPDX-License-Identifier: MIT */
/*
 * What a configuration is in the registers of the processor: TCR, VTCR, MAIR.
 *
 * Invariants:
 *  1. A mask has the bits that the configuration says something of, and a value no others.
 *  2. What two halves have in one field is the same, or aspace_aarch64_tcr_pair() refuses.
 */
#include "geometry.h"

static uint64_t ps_of(unsigned output_bits)
{
	switch (output_bits) {
	case 32:
		return 0;
	case 36:
		return 1;
	case 40:
		return 2;
	case 42:
		return 3;
	case 44:
		return 4;
	case 48:
		return 5;
	default:
		return 6;
	}
}

/* Adds a field to a value and to its mask. */
struct fields {
	uint64_t value, mask;
};

static void put(struct fields *f, unsigned shift, unsigned width, uint64_t value)
{
	f->value |= value << shift;
	f->mask |= ((UINT64_C(1) << width) - 1) << shift;
}

/* TxSZ, IRGNx, ORGNx and SHx: the same in all of them, 16 bits further up for TTBR1. Walks are
 * write-back cacheable. */
static void put_walk(struct fields *f, const struct aspace_aarch64_config *c, unsigned shift)
{
	put(f, shift, 6, 64u - c->input_bits);
	put(f, shift + 8, 2, 1);
	put(f, shift + 10, 2, 1);
	put(f, shift + 12, 2, (uint64_t)c->shareability);
}

static uint64_t tg0_of(unsigned granule_shift)
{
	return granule_shift == 12 ? 0 : granule_shift == 16 ? 1 : 2;
}

static uint64_t tg1_of(unsigned granule_shift)
{
	return granule_shift == 14 ? 1 : granule_shift == 12 ? 2 : 3;
}

/* TCR_EL1, and TCR_EL2 with HCR_EL2.E2H (D24.2.175). */
static void put_tcr_halves(struct fields *f, const struct aspace_aarch64_config *c)
{
	bool upper = asp_a64_is_upper(c->regime);

	put_walk(f, c, upper ? 16 : 0);
	put(f, upper ? 23 : 7, 1, 0);  /* EPDx */
	put(f, upper ? 47 : 43, 3, 0); /* HWUx59 to HWUx61: see ASP_A64_PIECE_SHIFT */
	put(f, upper ? 30 : 14, 2, upper ? tg1_of(c->granule_shift) : tg0_of(c->granule_shift));
	put(f, 32, 3, ps_of(c->output_bits));
	put(f, 36, 1, c->id_16_bits);
	put(f, 39, 1, c->hardware_access);
	put(f, 40, 1, c->hardware_dirty);
	put(f, 59, 1, c->ds);
}

/* TCR_EL2 without E2H (D24.2.176). */
static void put_tcr_el2(struct fields *f, const struct aspace_aarch64_config *c)
{
	put_walk(f, c, 0);
	put(f, 14, 2, tg0_of(c->granule_shift));
	put(f, 16, 3, ps_of(c->output_bits));
	put(f, 21, 1, c->hardware_access);
	put(f, 22, 1, c->hardware_dirty);
	put(f, 23, 1, 1); /* RES1 */
	put(f, 25, 3, 0); /* HWU59 to HWU61 */
	put(f, 31, 1, 1); /* RES1 */
	put(f, 32, 1, c->ds);
}

/* VTCR_EL2.SL2 and SL0, as three bits (D24.2.198). */
static unsigned sl_of(const struct aspace_aarch64_config *c, int start)
{
	if (c->granule_shift != 12)
		return (unsigned)(3 - start);
	return start == -1 ? 4 : start == 3 ? 3 : (unsigned)(2 - start);
}

static void put_vtcr(struct fields *f, const struct aspace_aarch64_config *c)
{
	struct asp_a64_geometry geometry;
	unsigned sl = asp_a64_geometry_of(c, &geometry) ? 0 : sl_of(c, geometry.start);

	put_walk(f, c, 0);
	put(f, 6, 2, sl & 3);
	put(f, 14, 2, tg0_of(c->granule_shift));
	put(f, 16, 3, ps_of(c->output_bits));
	put(f, 19, 1, c->id_16_bits);
	put(f, 21, 1, c->hardware_access);
	put(f, 22, 1, c->hardware_dirty);
	put(f, 25, 3, 0); /* HWU59 to HWU61 */
	put(f, 31, 1, 1); /* RES1 */
	put(f, 32, 1, c->ds);
	put(f, 33, 1, sl >> 2);
}

uint64_t aspace_aarch64_tcr(const struct aspace_aarch64_config *config, uint64_t *mask)
{
	struct fields fields = {0, 0};

	if (config->regime == ASPACE_AARCH64_STAGE2)
		put_vtcr(&fields, config);
	else if (config->regime == ASPACE_AARCH64_EL2)
		put_tcr_el2(&fields, config);
	else
		put_tcr_halves(&fields, config);
	*mask = fields.mask;
	return fields.value;
}

/* In what do two trees disagree of which one register speaks? NULL: in nothing. */
static const char *find_disagreement(const struct aspace_aarch64_config *lower,
				     const struct aspace_aarch64_config *upper)
{
	if (!asp_a64_has_two_halves(lower->regime) || asp_a64_is_upper(lower->regime) ||
	    upper->regime != lower->regime + 1)
		return "they are not the lower and the upper half of one regime";
	if (lower->output_bits != upper->output_bits)
		return "the output size is that of both";
	if (lower->id_16_bits != upper->id_16_bits)
		return "the size of ASIDs is that of both";
	if (lower->hardware_access != upper->hardware_access ||
	    lower->hardware_dirty != upper->hardware_dirty)
		return "hardware access flag and dirty state are kept for both or for none";
	if (lower->ds != upper->ds)
		return "DS is set for both or for none";
	if (lower->secure != upper->secure)
		return "both are secure or none is";
	if (aspace_aarch64_mair(lower) != aspace_aarch64_mair(upper))
		return "they have one MAIR";
	if (!upper->all_asids && upper->id != lower->id)
		return "the ASID is that of TTBR0";
	return NULL;
}

enum aspace_status aspace_aarch64_tcr_pair(const struct aspace_aarch64_config *lower,
					   const struct aspace_aarch64_config *upper, uint64_t *tcr,
					   uint64_t *mask, const char **reason)
{
	enum aspace_status status = aspace_aarch64_config_check(lower, NULL, reason);
	uint64_t masks[2], values[2];

	if (status == ASPACE_OK)
		status = aspace_aarch64_config_check(upper, NULL, reason);
	if (status == ASPACE_OK)
		status = asp_a64_answer(ASPACE_INVALID_PARAM, find_disagreement(lower, upper),
					reason);
	if (status != ASPACE_OK)
		return status;
	values[0] = aspace_aarch64_tcr(lower, &masks[0]);
	values[1] = aspace_aarch64_tcr(upper, &masks[1]);
	*tcr = values[0] | values[1];
	*mask = masks[0] | masks[1];
	return ASPACE_OK;
}

uint64_t aspace_aarch64_mair(const struct aspace_aarch64_config *config)
{
	/* Slot by slot, enum aspace_aarch64_type: write-back 0xff, write-through 0xbb,
	 * non-cacheable 0x44, devices 0x00 0x04 0x08 0x0c, tagged 0xf0 (D24.2.111). */
	return config->mair ? config->mair : UINT64_C(0xf00c08040044bbff);
}
