/* SPDX-License-Identifier: MIT */
/**
 * @file
 * The real instructions for struct aspace_aarch64_ops: barriers, TLB maintenance, ID registers.
 *
 * All inline, and empty on other machines. Where the regime's tables are kept by EL1, the
 * EL1 forms are executed there; those of stage 2 and of EL2 need EL2. Instructions that older
 * assemblers do not know are written as the SYS instructions that they are (C5.5).
 */
#ifndef ASPACE_BACKEND_AARCH64_CPU_H
#define ASPACE_BACKEND_AARCH64_CPU_H

#include <aspace/backend/aarch64.h>

#if defined(__aarch64__) && defined(__GNUC__)

#ifdef __cplusplus
extern "C" {
#endif

/** Read a system register by its encoding, such as S3_0_C0_C7_0. */
#define ASPACE_AARCH64_MRS(name)                                                                   \
	__extension__({                                                                            \
		uint64_t aspace_mrs_value;                                                         \
		__asm__ volatile("mrs %0, " #name : "=r"(aspace_mrs_value));                       \
		aspace_mrs_value;                                                                  \
	})

/** The ID registers of the processor that calls. Context: EL1 and above. */
static inline struct aspace_aarch64_id aspace_aarch64_cpu_id(void)
{
	struct aspace_aarch64_id id;

	id.mmfr0 = ASPACE_AARCH64_MRS(S3_0_C0_C7_0);
	id.mmfr1 = ASPACE_AARCH64_MRS(S3_0_C0_C7_1);
	id.mmfr2 = ASPACE_AARCH64_MRS(S3_0_C0_C7_2);
	id.isar0 = ASPACE_AARCH64_MRS(S3_0_C0_C6_0);
	id.pfr1 = ASPACE_AARCH64_MRS(S3_0_C0_C4_1);
	return id;
}

/** For aspace_aarch64_ops.isb. */
static inline void aspace_aarch64_cpu_isb(void *ctx)
{
	(void)ctx;
	__asm__ volatile("isb" ::: "memory");
}

/** For aspace_aarch64_ops.dsb. */
static inline void aspace_aarch64_cpu_dsb(void *ctx, enum aspace_aarch64_barrier barrier,
					  enum aspace_aarch64_shareability shareability)
{
	bool stores = barrier == ASPACE_AARCH64_BARRIER_STORES;

	(void)ctx;
	if (barrier == ASPACE_AARCH64_BARRIER_SYSTEM) {
		__asm__ volatile("dsb sy" ::: "memory");
		return;
	}
	switch (shareability) {
	case ASPACE_AARCH64_NON_SHAREABLE:
		if (stores)
			__asm__ volatile("dsb nshst" ::: "memory");
		else
			__asm__ volatile("dsb nsh" ::: "memory");
		break;
	case ASPACE_AARCH64_OUTER_SHAREABLE:
		if (stores)
			__asm__ volatile("dsb oshst" ::: "memory");
		else
			__asm__ volatile("dsb osh" ::: "memory");
		break;
	case ASPACE_AARCH64_INNER_SHAREABLE:
		if (stores)
			__asm__ volatile("dsb ishst" ::: "memory");
		else
			__asm__ volatile("dsb ish" ::: "memory");
		break;
	}
}

/** One TLBI as the SYS instruction that it is; CRn is 8 for all. */
#define ASPACE_AARCH64_SYS(op1, crm, op2, operand)                                                 \
	__asm__ volatile("sys #" #op1 ", c8, c" #crm ", #" #op2 ", %0" ::"r"(operand) : "memory")

/** One that takes no operand. Its Xt field is to be 31: with anything else what it does is
 * CONSTRAINED UNPREDICTABLE (DDI 0601, at each of them). That is what the assembler makes of a SYS
 * without a register. */
#define ASPACE_AARCH64_SYS_ALL(op1, crm, op2)                                                      \
	__asm__ volatile("sys #" #op1 ", c8, c" #crm ", #" #op2 ::: "memory")

/** Both in their three reaches. */
#define ASPACE_AARCH64_REACH(shareability, op1, inner, outer, local, op2, operand)                 \
	do {                                                                                       \
		if ((shareability) == ASPACE_AARCH64_INNER_SHAREABLE)                              \
			ASPACE_AARCH64_SYS(op1, inner, op2, operand);                              \
		else if ((shareability) == ASPACE_AARCH64_OUTER_SHAREABLE)                         \
			ASPACE_AARCH64_SYS(op1, outer, op2, operand);                              \
		else                                                                               \
			ASPACE_AARCH64_SYS(op1, local, op2, operand);                              \
	} while (0)
/** The same for those without an operand. */
#define ASPACE_AARCH64_REACH_ALL(shareability, op1, inner, outer, local, op2)                      \
	do {                                                                                       \
		if ((shareability) == ASPACE_AARCH64_INNER_SHAREABLE)                              \
			ASPACE_AARCH64_SYS_ALL(op1, inner, op2);                                   \
		else if ((shareability) == ASPACE_AARCH64_OUTER_SHAREABLE)                         \
			ASPACE_AARCH64_SYS_ALL(op1, outer, op2);                                   \
		else                                                                               \
			ASPACE_AARCH64_SYS_ALL(op1, local, op2);                                   \
	} while (0)

/** Invalidation by address, or of everything, in the EL2 regime. */
static inline void aspace_aarch64_cpu_tlbi_el2(const struct aspace_aarch64_tlbi *t)
{
	enum aspace_aarch64_shareability sh = t->shareability;

	switch (t->kind) {
	case ASPACE_AARCH64_TLBI_VA:
		if (t->leaf)
			ASPACE_AARCH64_REACH(sh, 4, 3, 1, 7, 5, t->operand);
		else
			ASPACE_AARCH64_REACH(sh, 4, 3, 1, 7, 1, t->operand);
		break;
	case ASPACE_AARCH64_TLBI_RANGE:
		if (t->leaf)
			ASPACE_AARCH64_REACH(sh, 4, 2, 5, 6, 5, t->operand);
		else
			ASPACE_AARCH64_REACH(sh, 4, 2, 5, 6, 1, t->operand);
		break;
	default: /* ALLE2 */
		ASPACE_AARCH64_REACH_ALL(sh, 4, 3, 1, 7, 0);
		break;
	}
}

/** Invalidation of stage 2, by IPA or by VMID. */
static inline void aspace_aarch64_cpu_tlbi_stage2(const struct aspace_aarch64_tlbi *t)
{
	enum aspace_aarch64_shareability sh = t->shareability;

	switch (t->kind) {
	case ASPACE_AARCH64_TLBI_IPA:
		/* The outer forms have other op2s. */
		if (sh == ASPACE_AARCH64_OUTER_SHAREABLE) {
			if (t->leaf)
				ASPACE_AARCH64_SYS(4, 4, 4, t->operand);
			else
				ASPACE_AARCH64_SYS(4, 4, 0, t->operand);
		} else if (t->leaf) {
			ASPACE_AARCH64_REACH(sh, 4, 0, 0, 4, 5, t->operand);
		} else {
			ASPACE_AARCH64_REACH(sh, 4, 0, 0, 4, 1, t->operand);
		}
		break;
	case ASPACE_AARCH64_TLBI_IPA_RANGE:
		if (sh == ASPACE_AARCH64_OUTER_SHAREABLE) {
			if (t->leaf)
				ASPACE_AARCH64_SYS(4, 4, 7, t->operand);
			else
				ASPACE_AARCH64_SYS(4, 4, 3, t->operand);
		} else if (t->leaf) {
			ASPACE_AARCH64_REACH(sh, 4, 0, 0, 4, 6, t->operand);
		} else {
			ASPACE_AARCH64_REACH(sh, 4, 0, 0, 4, 2, t->operand);
		}
		break;
	case ASPACE_AARCH64_TLBI_VMID:
		ASPACE_AARCH64_REACH_ALL(sh, 4, 3, 1, 7, 6);
		break;
	default: /* VMALLE1 */
		ASPACE_AARCH64_REACH_ALL(sh, 0, 3, 1, 7, 0);
		break;
	}
}

/** Invalidation of stage 1 of EL1&0, or of EL2&0. */
static inline void aspace_aarch64_cpu_tlbi_stage1(const struct aspace_aarch64_tlbi *t)
{
	enum aspace_aarch64_shareability sh = t->shareability;

	switch (t->kind) {
	case ASPACE_AARCH64_TLBI_VA:
		if (t->leaf)
			ASPACE_AARCH64_REACH(sh, 0, 3, 1, 7, 5, t->operand);
		else
			ASPACE_AARCH64_REACH(sh, 0, 3, 1, 7, 1, t->operand);
		break;
	case ASPACE_AARCH64_TLBI_VA_ALL_IDS:
		if (t->leaf)
			ASPACE_AARCH64_REACH(sh, 0, 3, 1, 7, 7, t->operand);
		else
			ASPACE_AARCH64_REACH(sh, 0, 3, 1, 7, 3, t->operand);
		break;
	case ASPACE_AARCH64_TLBI_RANGE:
		if (t->leaf)
			ASPACE_AARCH64_REACH(sh, 0, 2, 5, 6, 5, t->operand);
		else
			ASPACE_AARCH64_REACH(sh, 0, 2, 5, 6, 1, t->operand);
		break;
	case ASPACE_AARCH64_TLBI_RANGE_ALL_IDS:
		if (t->leaf)
			ASPACE_AARCH64_REACH(sh, 0, 2, 5, 6, 7, t->operand);
		else
			ASPACE_AARCH64_REACH(sh, 0, 2, 5, 6, 3, t->operand);
		break;
	case ASPACE_AARCH64_TLBI_ID:
		ASPACE_AARCH64_REACH(sh, 0, 3, 1, 7, 2, t->operand);
		break;
	default: /* VMALLE1 */
		ASPACE_AARCH64_REACH_ALL(sh, 0, 3, 1, 7, 0);
		break;
	}
}

/** For aspace_aarch64_ops.tlbi. */
static inline void aspace_aarch64_cpu_tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi)
{
	(void)ctx;
	if (tlbi->regime == ASPACE_AARCH64_STAGE2)
		aspace_aarch64_cpu_tlbi_stage2(tlbi);
	else if (tlbi->regime == ASPACE_AARCH64_EL2)
		aspace_aarch64_cpu_tlbi_el2(tlbi);
	else
		aspace_aarch64_cpu_tlbi_stage1(tlbi);
}

#ifdef __cplusplus
}
#endif

#endif
#endif
