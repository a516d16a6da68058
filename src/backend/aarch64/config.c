/* SPDX-License-Identifier: MIT */
/*
 * Configurations: what the architecture has, and what a processor has.
 *
 * Everything is a pure function of the configuration and of the ID registers' raw
 * values. Each refusal has a reason in words.
 *
 * Invariants:
 *  1. What aspace_aarch64_config_for() answers, aspace_aarch64_config_check() accepts.
 *  2. A processor's limits never make possible what the architecture has not.
 */
#include "geometry.h"

#include <stddef.h>

/* ---- What a processor has ------------------------------------------------------ */

struct features {
	unsigned pa_bits;
	bool granule, lpa2; /* of the granule and stage in question */
	bool large_va;      /* FEAT_LVA: 52-bit inputs for 64K */
	bool small_tables;  /* FEAT_TTST */
	bool vhe;
};

static unsigned field(uint64_t value, unsigned shift)
{
	return (unsigned)(value >> shift) & 15;
}

static unsigned pa_bits_of(const struct aspace_aarch64_id *id)
{
	static const uint8_t bits[] = {32, 36, 40, 42, 44, 48, 52};
	unsigned range = field(id->mmfr0, 0);

	/* 56 bits (FEAT_D128's) are not for these descriptors. */
	return range < sizeof(bits) ? bits[range] : 52;
}

/* ID_AA64MMFR0_EL1.TGran4, TGran16, TGran64 and, for stage 2, TGran4_2 and so on. */
static void read_granule(const struct aspace_aarch64_id *id, bool stage2, unsigned granule_shift,
			 struct features *f)
{
	unsigned s1 = field(id->mmfr0, granule_shift == 12 ? 28 : granule_shift == 14 ? 20 : 24);
	unsigned s2 = field(id->mmfr0, granule_shift == 12 ? 40 : granule_shift == 14 ? 32 : 36);

	/* Signed for 4K and 64K: 15 is "none". For 16K, 0 is. */
	f->granule = granule_shift == 14 ? s1 != 0 : s1 < 8;
	f->lpa2 = f->granule && (granule_shift == 14 ? s1 >= 2 : granule_shift == 12 && s1 >= 1);
	if (stage2 && s2 != 0) { /* 0: as at stage 1 */
		f->granule = s2 >= 2;
		f->lpa2 = granule_shift != 16 && s2 >= 3;
	}
}

static void read_features(const struct aspace_aarch64_id *id, enum aspace_aarch64_regime regime,
			  unsigned granule_shift, struct features *f)
{
	read_granule(id, regime == ASPACE_AARCH64_STAGE2, granule_shift, f);
	f->pa_bits = pa_bits_of(id);
	f->large_va = field(id->mmfr2, 16) >= 1;
	f->small_tables = field(id->mmfr2, 28) >= 1;
	f->vhe = field(id->mmfr1, 8) >= 1;
}

/* ---- Shape --------------------------------------------------------------------- */

/* Stage 2: from the start level to the end, at least one bit at the root, and at most
 * 16 tables side by side (AArch64.S2InconsistentSL() in the manual's pseudocode). */
static bool start_fits(const struct asp_a64_geometry *g, int level, unsigned input_bits)
{
	unsigned below = asp_a64_shift(g, level);

	return input_bits >= below + 1 && input_bits <= below + g->stride + 4;
}

static int lowest_start(const struct aspace_aarch64_config *c)
{
	if (c->granule_shift == 12)
		return c->ds ? -1 : 0;
	return c->granule_shift == 14 && c->ds ? 0 : 1;
}

static const char *find_start(const struct aspace_aarch64_config *c, struct asp_a64_geometry *g)
{
	int lowest = lowest_start(c);

	if (c->regime != ASPACE_AARCH64_STAGE2) {
		g->start = ASP_A64_LAST_LEVEL -
			   (int)((c->input_bits - 1 - g->granule_shift) / g->stride);
		if (c->start_level != ASPACE_AARCH64_START_ANY && c->start_level != g->start)
			return "the start level of stage 1 follows from the input size";
		return NULL;
	}
	if (c->start_level == ASPACE_AARCH64_START_ANY) {
		for (g->start = ASP_A64_LAST_LEVEL; g->start > lowest; g->start--) {
			/* Level 3 with 4K needs FEAT_TTST, and only inputs that do get there. */
			if (start_fits(g, g->start, c->input_bits) &&
			    (g->start < 3 || g->granule_shift != 12 || c->input_bits < 25))
				break;
		}
	} else {
		g->start = c->start_level;
	}
	if (g->start < lowest || g->start > ASP_A64_LAST_LEVEL)
		return "the granule has no such start level";
	if (!start_fits(g, g->start, c->input_bits))
		return "the start level and the input size do not go together";
	return NULL;
}

const char *asp_a64_geometry_of(const struct aspace_aarch64_config *c, struct asp_a64_geometry *g)
{
	const char *why;

	g->granule_shift = c->granule_shift;
	g->stride = g->granule_shift - 3;
	g->input_bits = c->input_bits;
	g->base = asp_a64_is_upper(c->regime) ? UINT64_MAX << c->input_bits : 0;
	why = find_start(c, g);
	if (why)
		return why;
	g->root_bits = c->input_bits - asp_a64_shift(g, g->start);
	g->root_size = g->root_bits > g->stride ? (size_t)8 << g->root_bits
						: (size_t)1 << g->granule_shift;
	return NULL;
}

/* ---- Checking ------------------------------------------------------------------ */

static const char *check_sizes(const struct aspace_aarch64_config *c)
{
	static const uint8_t sizes[] = {32, 36, 40, 42, 44, 48, 52};
	bool large_output = c->ds || c->granule_shift == 16;
	bool known = false;

	if (c->granule_shift != 12 && c->granule_shift != 14 && c->granule_shift != 16)
		return "the granule is 4K, 16K or 64K";
	if (c->ds && c->granule_shift == 16)
		return "DS is for 4K and 16K";
	if (c->input_bits > (large_output ? 52 : 48))
		return "the input size is too large";
	if (c->input_bits < (c->granule_shift == 16 ? 17 : 16))
		return "the input size is too small";
	for (size_t i = 0; i < sizeof(sizes); i++)
		known = known || sizes[i] == c->output_bits;
	if (!known)
		return "the output size is 32, 36, 40, 42, 44, 48 or 52 bits";
	if (c->output_bits == 52 && !large_output)
		return "52-bit outputs need 64K, or DS";
	/* Constrained unpredictable (D8.2.8). */
	if (c->regime == ASPACE_AARCH64_STAGE2 && c->input_bits > c->output_bits)
		return "a stage 2 has no more input than output bits";
	return NULL;
}

static const char *check_attributes(const struct aspace_aarch64_config *c)
{
	bool stage2 = c->regime == ASPACE_AARCH64_STAGE2;

	if (c->hardware_dirty && !c->hardware_access)
		return "hardware dirty state needs the hardware access flag";
	if (c->bbm_level > 2)
		return "there are BBM levels 0 to 2";
	if (c->shareability != ASPACE_AARCH64_NON_SHAREABLE &&
	    c->shareability != ASPACE_AARCH64_INNER_SHAREABLE &&
	    c->shareability != ASPACE_AARCH64_OUTER_SHAREABLE)
		return "there is no such shareability";
	if ((c->xnx || c->fwb) && !stage2)
		return "XNX and FWB are of stage 2";
	if ((c->bti || c->tagged || c->secure || c->mair) && stage2)
		return "BTI, tags, NS and MAIR are of stage 1";
	if (!c->id_16_bits && c->id > 255)
		return "the ASID or VMID has more than 8 bits";
	if (c->regime == ASPACE_AARCH64_EL2 && c->id)
		return "the EL2 regime has no ASID";
	if (c->all_asids && !asp_a64_has_two_halves(c->regime))
		return "only EL1&0 and EL2&0 have ASIDs";
	return NULL;
}

/* AArch64.S2InvalidSL() in the manual's pseudocode, with the configured output size for the
 * implemented one: some processors ask for that, and it is never larger. */
static const char *check_start(const struct aspace_aarch64_config *c, int start)
{
	if (c->regime != ASPACE_AARCH64_STAGE2)
		return NULL;
	if (c->granule_shift == 12 && start == 0 && c->output_bits < 44)
		return "start level 0 needs 44-bit physical addresses";
	if (c->granule_shift == 14 && start == 1 && c->output_bits < 42)
		return "start level 1 needs 42-bit physical addresses";
	if (c->granule_shift == 16 && start == 1 && c->output_bits < 44)
		return "start level 1 needs 44-bit physical addresses";
	return NULL;
}

static const char *check_features(const struct aspace_aarch64_config *c,
				  const struct aspace_aarch64_id *id)
{
	bool stage2 = c->regime == ASPACE_AARCH64_STAGE2;
	unsigned dirty = field(id->mmfr1, 0);
	bool has_16 = field(stage2 ? id->mmfr1 : id->mmfr0, 4) >= 2;

	if (c->hardware_access && dirty < 1)
		return "the processor has no hardware access flag";
	if (c->hardware_dirty && dirty < 2)
		return "the processor has no hardware dirty state";
	if (c->id_16_bits && !has_16)
		return stage2 ? "the processor has 8-bit VMIDs" : "the processor has 8-bit ASIDs";
	if (c->xnx && field(id->mmfr1, 28) < 1)
		return "the processor lacks FEAT_XNX";
	if (c->fwb && field(id->mmfr2, 40) < 1)
		return "the processor lacks FEAT_S2FWB";
	if (c->bti && field(id->pfr1, 0) < 1)
		return "the processor lacks FEAT_BTI";
	if (c->tagged && field(id->pfr1, 8) < 2)
		return "the processor lacks FEAT_MTE2";
	if (c->range_tlbi && field(id->isar0, 56) < 2)
		return "the processor lacks FEAT_TLBIRANGE";
	if (c->ttl && field(id->mmfr2, 48) < 1)
		return "the processor lacks FEAT_TTL";
	if (c->shareability == ASPACE_AARCH64_OUTER_SHAREABLE && field(id->isar0, 56) < 1)
		return "the processor lacks FEAT_TLBIOS";
	if (c->cnp && field(id->mmfr2, 0) < 1)
		return "the processor lacks FEAT_TTCNP";
	if (c->bbm_level > field(id->mmfr2, 52))
		return "the processor has a lower level of FEAT_BBM";
	return NULL;
}

static const char *check_processor(const struct aspace_aarch64_config *c,
				   const struct aspace_aarch64_id *id, int start)
{
	bool stage2 = c->regime == ASPACE_AARCH64_STAGE2;
	struct features f;

	read_features(id, c->regime, c->granule_shift, &f);
	if (!f.granule)
		return "the processor lacks the granule";
	if (c->ds && !f.lpa2)
		return "the processor lacks FEAT_LPA2 for the granule";
	if (c->output_bits > f.pa_bits)
		return "the processor has fewer physical address bits";
	if (c->input_bits < 25 && !f.small_tables)
		return "input sizes below 25 bits need FEAT_TTST";
	if (!stage2 && c->granule_shift == 16 && c->input_bits > 48 && !f.large_va)
		return "52-bit inputs with 64K need FEAT_LVA";
	if (stage2 && c->granule_shift == 12 && start == 3 && !f.small_tables)
		return "start level 3 with 4K needs FEAT_TTST";
	if ((c->regime == ASPACE_AARCH64_EL2_LOWER || c->regime == ASPACE_AARCH64_EL2_UPPER) &&
	    !f.vhe)
		return "the processor lacks FEAT_VHE";
	return check_features(c, id);
}

enum aspace_status aspace_aarch64_config_check(const struct aspace_aarch64_config *c,
					       const struct aspace_aarch64_id *id,
					       const char **reason)
{
	struct asp_a64_geometry geometry;
	const char *why;

	if (c->size != sizeof(*c))
		why = "size is not that of the structure";
	else if (c->regime < ASPACE_AARCH64_EL1_LOWER || c->regime > ASPACE_AARCH64_STAGE2)
		why = "there is no such regime";
	else
		why = check_sizes(c);
	if (!why)
		why = check_attributes(c);
	if (!why)
		why = asp_a64_geometry_of(c, &geometry);
	if (!why)
		why = check_start(c, geometry.start);
	if (why || !id)
		return asp_a64_answer(ASPACE_INVALID_PARAM, why, reason);
	return asp_a64_answer(ASPACE_NOT_SUPPORTED, check_processor(c, id, geometry.start), reason);
}

enum aspace_status aspace_aarch64_config_for(const struct aspace_aarch64_id *id,
					     enum aspace_aarch64_regime regime,
					     unsigned granule_shift,
					     struct aspace_aarch64_config *config,
					     const char **reason)
{
	bool stage2 = regime == ASPACE_AARCH64_STAGE2;
	struct features f;

	read_features(id, regime, granule_shift, &f);
	*config = (struct aspace_aarch64_config){
		.size = sizeof(*config),
		.regime = regime,
		.granule_shift = (uint8_t)granule_shift,
		.start_level = ASPACE_AARCH64_START_ANY,
		.ds = f.lpa2,
		.id_16_bits = field(stage2 ? id->mmfr1 : id->mmfr0, 4) >= 2,
		.xnx = stage2 && field(id->mmfr1, 28) >= 1,
		.fwb = stage2 && field(id->mmfr2, 40) >= 1,
		.bti = !stage2 && field(id->pfr1, 0) >= 1,
		.tagged = !stage2 && field(id->pfr1, 8) >= 2,
		.range_tlbi = field(id->isar0, 56) >= 2,
		.ttl = field(id->mmfr2, 48) >= 1,
		.bbm_level = (uint8_t)(field(id->mmfr2, 52) > 2 ? 2 : field(id->mmfr2, 52)),
		.all_asids = asp_a64_is_upper(regime),
		.cnp = field(id->mmfr2, 0) >= 1,
		.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
	};
	/* Without DS, 4K and 16K stop at 48 bits whatever the processor has. */
	config->output_bits =
		(uint8_t)(f.pa_bits > 48 && !f.lpa2 && granule_shift != 16 ? 48 : f.pa_bits);
	if (stage2)
		config->input_bits = config->output_bits;
	else
		config->input_bits = f.lpa2 || (granule_shift == 16 && f.large_va) ? 52 : 48;
	return aspace_aarch64_config_check(config, id, reason);
}

struct aspace_range aspace_aarch64_range(const struct aspace_aarch64_config *config)
{
	uint64_t granule = UINT64_C(1) << config->granule_shift;

	if (asp_a64_is_upper(config->regime))
		return aspace_range_of(UINT64_MAX << config->input_bits, 0 - granule);
	return aspace_range_of(0, UINT64_C(1) << config->input_bits);
}
