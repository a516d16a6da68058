/* SPDX-License-Identifier: MIT */
/*
 * Flags to descriptors and back; see descriptor.h.
 */
#include "descriptor.h"

/* ---- Addresses ------------------------------------------------------------------- */

/* Bits [at + 3:at] or [at + 1:at] hold the address bits from `from` on. */
struct high_bits {
	unsigned from, count, at;
};

/* Where the address bits are that do not stay in their place (D8.3.1): 64K keeps bits 51 to 48
 * in 15 to 12; with DS, bits 51 and 50 are where SH was. */
static struct high_bits high_bits_of(const struct aspace_aarch64_config *c)
{
	if (c->granule_shift == 16)
		return (struct high_bits){48, 4, 12};
	if (c->ds)
		return (struct high_bits){50, 2, 8};
	return (struct high_bits){48, 0, 0};
}

static uint64_t bits(unsigned low, unsigned count)
{
	return ((UINT64_C(1) << count) - 1) << low;
}

static uint64_t plain_mask(const struct aspace_aarch64_config *c)
{
	return bits(c->granule_shift, high_bits_of(c).from - c->granule_shift);
}

uint64_t asp_a64_output_mask(const struct aspace_aarch64_config *c)
{
	struct high_bits high = high_bits_of(c);

	return plain_mask(c) | bits(high.at, high.count);
}

uint64_t asp_a64_encode_output(const struct aspace_aarch64_config *c, uint64_t output)
{
	struct high_bits high = high_bits_of(c);

	return (output & plain_mask(c)) | ((output >> high.from) & bits(0, high.count)) << high.at;
}

uint64_t asp_a64_decode_output(const struct aspace_aarch64_config *c, uint64_t descriptor)
{
	struct high_bits high = high_bits_of(c);

	return (descriptor & plain_mask(c)) | ((descriptor >> high.at) & bits(0, high.count))
						      << high.from;
}

/* ---- Memory types ------------------------------------------------------------------ */

static const uint8_t mair_bytes[] = {
	[ASPACE_AARCH64_NORMAL] = 0xff,        [ASPACE_AARCH64_WRITE_THROUGH] = 0xbb,
	[ASPACE_AARCH64_NON_CACHEABLE] = 0x44, [ASPACE_AARCH64_DEVICE_nGnRnE] = 0x00,
	[ASPACE_AARCH64_DEVICE_nGnRE] = 0x04,  [ASPACE_AARCH64_DEVICE_nGRE] = 0x08,
	[ASPACE_AARCH64_DEVICE_GRE] = 0x0c,    [ASPACE_AARCH64_TAGGED] = 0xf0,
};

/* MemAttr of a stage 2 (D8.6.5), without and with FWB; NONE: it cannot be said. */
#define NONE 0xff
static const uint8_t s2_plain[] = {15, 10, 5, 0, 1, 2, 3, NONE};
static const uint8_t s2_fwb[] = {6, NONE, 5, 0, 1, 2, 3, NONE};

static uint8_t mair_slot(const struct aspace_aarch64_config *c, unsigned type)
{
	uint64_t mair = aspace_aarch64_mair(c);

	for (uint8_t slot = 0; slot < 8; slot++) {
		if ((uint8_t)(mair >> (8 * slot)) == mair_bytes[type])
			return slot;
	}
	return NONE;
}

/* The value of descriptor bits 5 to 2 for a type. */
static uint8_t encode_type(const struct aspace_aarch64_config *c, unsigned type)
{
	if (c->regime == ASPACE_AARCH64_STAGE2)
		return c->fwb ? s2_fwb[type] : s2_plain[type];
	if (type == ASPACE_AARCH64_TAGGED && !c->tagged)
		return NONE;
	return mair_slot(c, type);
}

static unsigned decode_type(const struct aspace_aarch64_config *c, uint64_t descriptor)
{
	unsigned value =
		(unsigned)(descriptor >> 2) & (c->regime == ASPACE_AARCH64_STAGE2 ? 15 : 7);

	for (unsigned type = 0; type < 8; type++) {
		if (encode_type(c, type) == value)
			return type;
	}
	return ASPACE_AARCH64_DEVICE_nGnRnE;
}

/* ---- Attributes ---------------------------------------------------------------------- */

uint64_t asp_a64_flags_mask(const struct aspace_aarch64_config *c)
{
	uint64_t mask = ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE | ASPACE_AARCH64_EXECUTE |
			ASPACE_AARCH64_TYPE_MASK | ASPACE_AARCH64_SOFTWARE_MASK |
			ASPACE_AARCH64_LEVEL_MASK | ASPACE_AARCH64_NO_CONTIGUOUS |
			ASPACE_AARCH64_SHARED_MASK;

	if (asp_a64_has_asids(c))
		mask |= ASPACE_AARCH64_USER | ASPACE_AARCH64_GLOBAL;
	if (c->regime != ASPACE_AARCH64_EL2)
		mask |= ASPACE_AARCH64_USER_EXECUTE;
	if (c->bti)
		mask |= ASPACE_AARCH64_BTI;
	if (c->secure)
		mask |= ASPACE_AARCH64_NONSECURE;
	return mask;
}

#define ANY_ACCESS                                                                                 \
	(ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE | ASPACE_AARCH64_EXECUTE |                     \
	 ASPACE_AARCH64_USER_EXECUTE)

static enum aspace_aarch64_shareability shareability_of(const struct aspace_aarch64_config *c,
							uint64_t flags)
{
	switch (flags & ASPACE_AARCH64_SHARED_MASK) {
	case ASPACE_AARCH64_NON_SHARED:
		return ASPACE_AARCH64_NON_SHAREABLE;
	case ASPACE_AARCH64_OUTER_SHARED:
		return ASPACE_AARCH64_OUTER_SHAREABLE;
	case ASPACE_AARCH64_INNER_SHARED:
		return ASPACE_AARCH64_INNER_SHAREABLE;
	default:
		return c->shareability;
	}
}

/* Can be said at all? (AP and XN: D8.4.1, D8.4.3.) */
static bool flags_are_sayable(const struct aspace_aarch64_config *c, uint64_t flags)
{
	bool stage2 = c->regime == ASPACE_AARCH64_STAGE2;
	bool writes = flags & ASPACE_AARCH64_WRITE;

	if (flags & ~asp_a64_flags_mask(c))
		return false;
	if (c->ds && shareability_of(c, flags) != c->shareability)
		return false;
	if (c->write_xor_execute && writes &&
	    (flags & (ASPACE_AARCH64_EXECUTE | ASPACE_AARCH64_USER_EXECUTE)))
		return false;
	if (stage2)
		return c->xnx ||
		       !(flags & ASPACE_AARCH64_EXECUTE) == !(flags & ASPACE_AARCH64_USER_EXECUTE);
	if (!(flags & ASPACE_AARCH64_READ))
		return !(flags & ANY_ACCESS);
	/* What EL0 may write, EL1 never executes. */
	return !(writes && (flags & ASPACE_AARCH64_USER) && (flags & ASPACE_AARCH64_EXECUTE));
}

static uint64_t stage1_attributes(const struct aspace_aarch64_config *c, uint64_t flags)
{
	bool two = asp_a64_has_asids(c);
	uint64_t a = 0;

	if (!two || (flags & ASPACE_AARCH64_USER))
		a |= ASP_A64_AP_USER; /* RES1 where there is no EL0 */
	if (!(flags & ASPACE_AARCH64_WRITE))
		a |= ASP_A64_AP_RO;
	else if (c->hardware_dirty)
		a |= ASP_A64_AP_RO | ASP_A64_DBM; /* writable, and clean so far */
	if (two && !(flags & ASPACE_AARCH64_EXECUTE))
		a |= ASP_A64_PXN;
	if (!(flags & (two ? ASPACE_AARCH64_USER_EXECUTE : ASPACE_AARCH64_EXECUTE)))
		a |= ASP_A64_XN;
	if (two && !(flags & ASPACE_AARCH64_GLOBAL))
		a |= ASP_A64_NG;
	if (flags & ASPACE_AARCH64_BTI)
		a |= ASP_A64_GP;
	if (flags & ASPACE_AARCH64_NONSECURE)
		a |= UINT64_C(1) << 5;
	if (!(flags & ANY_ACCESS)) /* no AP says this (D8.4.1) */
		a |= ASP_A64_CLOSED;
	return a;
}

/* XN[1:0], bits 54 and 53 (D8.4.4): 0 both, 1 EL0 only, 2 none, 3 EL1 only. */
static uint64_t stage2_execute(const struct aspace_aarch64_config *c, uint64_t flags)
{
	bool el1 = flags & ASPACE_AARCH64_EXECUTE, el0 = flags & ASPACE_AARCH64_USER_EXECUTE;

	if (!c->xnx)
		return el1 ? 0 : ASP_A64_XN;
	if (el1)
		return el0 ? 0 : ASP_A64_XN | ASP_A64_PXN;
	return el0 ? ASP_A64_PXN : ASP_A64_XN;
}

static uint64_t stage2_attributes(const struct aspace_aarch64_config *c, uint64_t flags)
{
	uint64_t a = stage2_execute(c, flags);

	if (flags & ASPACE_AARCH64_READ)
		a |= ASP_A64_S2AP_READ;
	if (flags & ASPACE_AARCH64_WRITE)
		a |= c->hardware_dirty ? ASP_A64_DBM : ASP_A64_S2AP_WRITE;
	return a;
}

bool asp_a64_attributes(const struct aspace_aarch64_config *c, uint64_t flags, uint64_t *attributes)
{
	unsigned type = (unsigned)((flags & ASPACE_AARCH64_TYPE_MASK) >> ASPACE_AARCH64_TYPE_SHIFT);
	uint8_t code = encode_type(c, type);
	uint64_t a;

	if (!flags_are_sayable(c, flags) || code == NONE)
		return false;
	a = c->regime == ASPACE_AARCH64_STAGE2 ? stage2_attributes(c, flags)
					       : stage1_attributes(c, flags);
	a |= (uint64_t)code << 2;
	if (!c->ds)
		a |= (uint64_t)shareability_of(c, flags) << ASP_A64_SH_SHIFT;
	if (!c->hardware_access)
		a |= ASP_A64_AF;
	a |= (flags & ASPACE_AARCH64_SOFTWARE_MASK) >> 12 << ASP_A64_SW_SHIFT;
	*attributes = a;
	return true;
}

static uint64_t stage1_flags(const struct aspace_aarch64_config *c, uint64_t d)
{
	bool two = asp_a64_has_asids(c);
	uint64_t flags = d & ASP_A64_CLOSED ? 0 : ASPACE_AARCH64_READ;

	if (!(d & ASP_A64_AP_RO) || (d & ASP_A64_DBM))
		flags |= ASPACE_AARCH64_WRITE;
	if (two && (d & ASP_A64_AP_USER))
		flags |= ASPACE_AARCH64_USER;
	if (!(d & (two ? ASP_A64_PXN : ASP_A64_XN)))
		flags |= ASPACE_AARCH64_EXECUTE;
	if (two && !(d & ASP_A64_XN))
		flags |= ASPACE_AARCH64_USER_EXECUTE;
	if (asp_a64_is_global(c, d))
		flags |= ASPACE_AARCH64_GLOBAL;
	if (d & ASP_A64_GP)
		flags |= ASPACE_AARCH64_BTI;
	if (d & (UINT64_C(1) << 5))
		flags |= ASPACE_AARCH64_NONSECURE;
	return flags;
}

static uint64_t stage2_flags(const struct aspace_aarch64_config *c, uint64_t d)
{
	uint64_t xn = d & (c->xnx ? ASP_A64_XN | ASP_A64_PXN : ASP_A64_XN);
	uint64_t flags = 0;

	if (d & ASP_A64_S2AP_READ)
		flags |= ASPACE_AARCH64_READ;
	if (d & (ASP_A64_S2AP_WRITE | ASP_A64_DBM))
		flags |= ASPACE_AARCH64_WRITE;
	if (!xn || xn == (ASP_A64_XN | ASP_A64_PXN))
		flags |= ASPACE_AARCH64_EXECUTE;
	if (!xn || xn == ASP_A64_PXN)
		flags |= ASPACE_AARCH64_USER_EXECUTE;
	return flags;
}

uint64_t asp_a64_flags(const struct aspace_aarch64_config *c, uint64_t d)
{
	uint64_t flags =
		c->regime == ASPACE_AARCH64_STAGE2 ? stage2_flags(c, d) : stage1_flags(c, d);

	flags |= ASPACE_AARCH64_TYPE(decode_type(c, d));
	return flags | ((d & ASP_A64_SW_MASK) >> ASP_A64_SW_SHIFT << 12);
}

enum aspace_aarch64_shareability asp_a64_shareability(const struct aspace_aarch64_config *c,
						      uint64_t d)
{
	return c->ds ? c->shareability
		     : (enum aspace_aarch64_shareability)(d >> ASP_A64_SH_SHIFT & 3);
}

/* ---- Dirty state ------------------------------------------------------------------------ */

/* With DBM, a writable leaf is read-only until it is written; the processor then allows
 * writes (D8.5.2). */
static bool is_written(const struct aspace_aarch64_config *c, uint64_t d)
{
	if (!(d & ASP_A64_DBM))
		return false;
	return c->regime == ASPACE_AARCH64_STAGE2 ? d & ASP_A64_S2AP_WRITE : !(d & ASP_A64_AP_RO);
}

bool asp_a64_is_dirty(const struct aspace_aarch64_config *c, uint64_t d)
{
	return (d & ASP_A64_SW_DIRTY) || is_written(c, d);
}

uint64_t asp_a64_mark_written(const struct aspace_aarch64_config *c, uint64_t d)
{
	if (!(d & ASP_A64_DBM))
		return d | ASP_A64_SW_DIRTY;
	return c->regime == ASPACE_AARCH64_STAGE2 ? d | ASP_A64_S2AP_WRITE : d & ~ASP_A64_AP_RO;
}

uint64_t asp_a64_mark_touched(const struct aspace_aarch64_config *c, uint64_t attributes)
{
	attributes |= ASP_A64_AF;
	return c->hardware_dirty ? asp_a64_mark_written(c, attributes) : attributes;
}

uint64_t asp_a64_with_attributes(const struct aspace_aarch64_config *c, uint64_t d,
				 uint64_t attributes)
{
	uint64_t kept = asp_a64_output_mask(c) | ASP_A64_TABLE | ASP_A64_CONTIGUOUS | ASP_A64_AF |
			ASP_A64_SW_DIRTY | ASP_A64_PIECE_MASK;
	uint64_t changed = asp_a64_open((d & kept) | (attributes & ~kept));

	return is_written(c, d) ? asp_a64_mark_written(c, changed) : changed;
}

uint64_t asp_a64_clean(const struct aspace_aarch64_config *c, uint64_t d)
{
	d &= ~ASP_A64_SW_DIRTY;
	if (!is_written(c, d))
		return d;
	return c->regime == ASPACE_AARCH64_STAGE2 ? d & ~ASP_A64_S2AP_WRITE : d | ASP_A64_AP_RO;
}

uint64_t asp_a64_without_history(const struct aspace_aarch64_config *c, uint64_t d)
{
	return asp_a64_clean(c, d) & ~(asp_a64_output_mask(c) | ASP_A64_CONTIGUOUS | ASP_A64_AF);
}

uint64_t asp_a64_with_history(const struct aspace_aarch64_config *c, uint64_t d, uint64_t other)
{
	d |= other & (ASP_A64_AF | ASP_A64_SW_DIRTY);
	return is_written(c, other) ? asp_a64_mark_written(c, d) : d;
}
