/* SPDX-License-Identifier: MIT */
/*
 * The rules of D8.16.1, "Using break-before-make when updating translation table
 * entries", and of D8.16.2 on the levels of FEAT_BBM.
 *
 * Break-before-make is asked for where the manual demands it, and in three places beyond:
 *  - any other output address, also between two read-only pages with equal contents;
 *  - any change of nG, though only the step to "global" can leave two entries for one address;
 *  - level 1 of FEAT_BBM counts as level 0: a block with nT set may fault itself, so it
 *    saves nothing.
 * And it is not asked for where the permissions of a whole contiguous group change, descriptor
 * by descriptor: until the invalidation, accesses may go by the old ones or by the new ones,
 * as they may for a single page. That is Linux's reading too (contpte_wrprotect_ptes()).
 */
#include "classify.h"

/* Bits that only software reads. */
#define SOFTWARE (ASP_A64_SW_MASK | ASP_A64_SW_DIRTY | ASP_A64_PIECE_MASK)

/* Who may do what: a TLB entry with the old answer is wrong only until the invalidation. */
static uint64_t permissions(const struct aspace_aarch64_config *config)
{
	uint64_t mask = ASP_A64_AP_USER | ASP_A64_AP_RO | ASP_A64_DBM | ASP_A64_AF | ASP_A64_PXN |
			ASP_A64_XN;

	return config->regime == ASPACE_AARCH64_STAGE2 ? mask : mask | ASP_A64_GP;
}

/* May a size change without a break? */
static bool size_may_change(const struct aspace_aarch64_config *config)
{
	return config->bbm_level >= 2 && config->conflicts_tolerated;
}

static enum asp_a64_action classify_leaves(const struct aspace_aarch64_config *config, uint64_t old,
					   uint64_t next)
{
	uint64_t changed = old ^ next;
	uint64_t harmless = permissions(config) | SOFTWARE;

	if (size_may_change(config))
		harmless |= ASP_A64_CONTIGUOUS;
	if (changed & ~harmless)
		return ASP_A64_BREAK;
	if (!(changed & ~SOFTWARE))
		return ASP_A64_STORE;
	/* A leaf without AF is in no TLB (D8.4.6); where the processor sets AF by itself, the
	 * exchange of the descriptor has just found that it did not. */
	if ((changed & ~SOFTWARE) == ASP_A64_AF && !(old & ASP_A64_AF))
		return ASP_A64_STORE;
	return ASP_A64_STORE_INVALIDATE;
}

enum asp_a64_action asp_a64_classify(const struct aspace_aarch64_config *config, int level,
				     uint64_t old, uint64_t next)
{
	if (old == next)
		return ASP_A64_NOTHING;
	if (!asp_a64_is_valid(old)) /* never in a TLB */
		return ASP_A64_STORE;
	if (!asp_a64_is_valid(next))
		return ASP_A64_STORE_INVALIDATE;
	if (asp_a64_is_table(level, old) != asp_a64_is_table(level, next))
		return size_may_change(config) ? ASP_A64_STORE_INVALIDATE : ASP_A64_BREAK;
	if (asp_a64_is_table(level, old))
		return ASP_A64_BREAK;
	return classify_leaves(config, old, next);
}
