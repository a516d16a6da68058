/* SPDX-License-Identifier: MIT */
/*
 * The shape of a tree: which bits of an address each level resolves (D8.2).
 *
 * Level 3 resolves the `stride` bits above the page offset, each level above it the
 * next ones. The start level may resolve fewer, and at stage 2 up to four more
 * (concatenated tables); it is one block of memory all the same.
 *
 * Invariants:
 *  1. -1 <= start <= 3.
 *  2. A block exists only at a level for which asp_a64_leaf_allowed() answers true, and a
 *     contiguous group only of the size that asp_a64_group() answers.
 */
#ifndef ASPACE_AARCH64_GEOMETRY_H
#define ASPACE_AARCH64_GEOMETRY_H

#include <aspace/backend/aarch64.h>

#define ASP_A64_LAST_LEVEL 3

struct asp_a64_geometry {
	unsigned granule_shift;
	unsigned stride;     /* bits that one table resolves */
	unsigned input_bits; /* of an address within the tree */
	int start;           /* the level of the root */
	uint64_t base;       /* the first input address */
	unsigned root_bits;  /* bits that the root resolves */
	size_t root_size;    /* bytes of its memory: at least a granule */
};

/* Which shape does a configuration have? Answers NULL, or why it has none. */
const char *asp_a64_geometry_of(const struct aspace_aarch64_config *config,
				struct asp_a64_geometry *geometry);

static inline bool asp_a64_is_upper(enum aspace_aarch64_regime regime)
{
	return regime == ASPACE_AARCH64_EL1_UPPER || regime == ASPACE_AARCH64_EL2_UPPER;
}

static inline bool asp_a64_has_two_halves(enum aspace_aarch64_regime regime)
{
	return regime != ASPACE_AARCH64_EL2 && regime != ASPACE_AARCH64_STAGE2;
}

/* Says why something is refused, if it is: `why` is not NULL then. `reason` may be. */
static inline enum aspace_status asp_a64_answer(enum aspace_status status, const char *why,
						const char **reason)
{
	if (reason)
		*reason = why;
	return why ? status : ASPACE_OK;
}

/* log2 of what one descriptor at `level` translates. */
static inline unsigned asp_a64_shift(const struct asp_a64_geometry *geometry, int level)
{
	return geometry->granule_shift + (unsigned)(ASP_A64_LAST_LEVEL - level) * geometry->stride;
}

static inline uint64_t asp_a64_size(const struct asp_a64_geometry *geometry, int level)
{
	return UINT64_C(1) << asp_a64_shift(geometry, level);
}

static inline size_t asp_a64_entries(const struct asp_a64_geometry *geometry, int level)
{
	return (size_t)1 << (level == geometry->start ? geometry->root_bits : geometry->stride);
}

static inline size_t asp_a64_index(const struct asp_a64_geometry *geometry, int level,
				   uint64_t address)
{
	return (size_t)(address >> asp_a64_shift(geometry, level)) &
	       (asp_a64_entries(geometry, level) - 1);
}

/* The end of the slot of `address` at `level`, or `end` if that comes first. Written so
 * that the top of the 64-bit space does not wrap. */
static inline uint64_t asp_a64_slot_end(const struct asp_a64_geometry *geometry, int level,
					uint64_t address, uint64_t end)
{
	uint64_t last = address | (asp_a64_size(geometry, level) - 1);

	return last < end - 1 ? last + 1 : end;
}

/*
 * May a descriptor at `level` be a leaf? Blocks at level 2 always; at level 1 for 4K, for 16K
 * with DS, for 64K with 52-bit outputs; at level 0 for 4K with DS (D8.3.1). For 64K the
 * architecture asks for an implemented, not a configured, 52-bit output: we are narrower.
 */
static inline bool asp_a64_leaf_allowed(const struct aspace_aarch64_config *config, int level)
{
	switch (level) {
	case 3:
	case 2:
		return true;
	case 1:
		return config->granule_shift == 12 || config->ds ||
		       (config->granule_shift == 16 && config->output_bits == 52);
	case 0:
		return config->granule_shift == 12 && config->ds;
	default:
		return false;
	}
}

/* How many descriptors make a contiguous group at `level`? 1: there are none (D8.7.1). */
static inline unsigned asp_a64_group(const struct aspace_aarch64_config *config, int level)
{
	switch (config->granule_shift) {
	case 12:
		return level >= 1 ? 16 : 1;
	case 14:
		return level == 3 ? 128 : level == 2 ? 32 : 1;
	default:
		return level >= 2 ? 32 : 1;
	}
}

#endif
