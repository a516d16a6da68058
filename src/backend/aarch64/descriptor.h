/* SPDX-License-Identifier: MIT */
/*
 * Descriptors: the 64 bits of a translation table entry (D8.3), and what areas' flags
 * become in them.
 *
 * The processor ignores all of an invalid descriptor but bit 0. We use six kinds:
 *
 *     0                   nothing is mapped
 *     a leaf, bit 0 off   *broken*: between the two halves of break-before-make; the rest
 *                         of the descriptor is kept in its place
 *     a table, bit 0 off  *pending*: a table that is linked as soon as its contents are
 *                         ordered; nothing is mapped there yet
 *     a leaf, bit 0 off,  *closed*: mapped, at a stage 1, for nobody to access; all other bits
 *     bit 62 on           are those of a leaf
 *     a leaf, bit 0 off,  *condemned*: unmapped, and its frame is to be freed as soon as
 *     bit 63 on           no TLB has it any more
 *     bits 63 and 62      *vacated*: a table was here, and walks may still go by the pointer to it;
 *     alone               whoever maps something here invalidates that pointer first
 *
 * So neither break-before-make nor the linking of many tables at once nor the freeing of
 * frames needs memory to remember what comes next.
 *
 * And bits 58 to 51 of a pointer to a table, which the processor ignores (D8.3.1, "Table descriptor
 * format"), are ours: how many faults are at work in that table, or below it, and whether there was
 * one since a writer has looked. way.c says what for.
 *
 * Invariants:
 *  1. Outside of a call of the backend no descriptor is broken or pending; outside of a batch,
 *     none is condemned or vacated.
 *  2. asp_a64_flags() of what asp_a64_attributes() made is flags & KEPT_MASK.
 */
#ifndef ASPACE_AARCH64_DESCRIPTOR_H
#define ASPACE_AARCH64_DESCRIPTOR_H

#include "geometry.h"

#define ASP_A64_VALID      UINT64_C(1)
#define ASP_A64_TABLE      UINT64_C(2) /* at level 3: a page */
#define ASP_A64_AP_USER    (UINT64_C(1) << 6)
#define ASP_A64_AP_RO      (UINT64_C(1) << 7)
#define ASP_A64_S2AP_READ  (UINT64_C(1) << 6)
#define ASP_A64_S2AP_WRITE (UINT64_C(1) << 7)
#define ASP_A64_SH_SHIFT   8
#define ASP_A64_AF         (UINT64_C(1) << 10)
#define ASP_A64_NG         (UINT64_C(1) << 11)
#define ASP_A64_GP         (UINT64_C(1) << 50)
#define ASP_A64_DBM        (UINT64_C(1) << 51)
#define ASP_A64_CONTIGUOUS (UINT64_C(1) << 52)
#define ASP_A64_PXN        (UINT64_C(1) << 53)
#define ASP_A64_XN         (UINT64_C(1) << 54) /* UXN where there are two */
#define ASP_A64_SW_SHIFT   55
#define ASP_A64_SW_MASK    (UINT64_C(7) << ASP_A64_SW_SHIFT)
/* Was written before it lost the bits by which the processor would say so. */
#define ASP_A64_SW_DIRTY (UINT64_C(1) << 58)
/* In which size frame_alloc has handed out the frame: a number that asp_a64_piece_size() reads; 0:
 * it did not. Bits that are PBHA for who sets HWU in TCR; ours is 0 there, and they are ignored
 * (D8.3). */
#define ASP_A64_PIECE_SHIFT 59
#define ASP_A64_PIECE_MASK  (UINT64_C(7) << ASP_A64_PIECE_SHIFT)
/* Only in an invalid descriptor, of which all other bits are ours. */
#define ASP_A64_CLOSED    (UINT64_C(1) << 62)
#define ASP_A64_CONDEMNED (UINT64_C(1) << 63)
/* All of the descriptor. No condemned leaf is like this: it says in which size its frame came. */
#define ASP_A64_VACATED (ASP_A64_CLOSED | ASP_A64_CONDEMNED)

/* In a pointer to a table. */
#define ASP_A64_VISITED   (UINT64_C(1) << 51)
#define ASP_A64_PIN_ONE   (UINT64_C(1) << 52)
#define ASP_A64_PINS_MASK (UINT64_C(127) << 52)

static inline bool asp_a64_is_valid(uint64_t descriptor)
{
	return descriptor & ASP_A64_VALID;
}

static inline bool asp_a64_is_table(int level, uint64_t descriptor)
{
	return (descriptor & (ASP_A64_VALID | ASP_A64_TABLE)) == (ASP_A64_VALID | ASP_A64_TABLE) &&
	       level < ASP_A64_LAST_LEVEL;
}

static inline bool asp_a64_is_leaf(int level, uint64_t descriptor)
{
	return asp_a64_is_valid(descriptor) && !asp_a64_is_table(level, descriptor);
}

static inline bool asp_a64_is_pending(int level, uint64_t descriptor)
{
	return (descriptor & (ASP_A64_VALID | ASP_A64_TABLE)) == ASP_A64_TABLE &&
	       level < ASP_A64_LAST_LEVEL;
}

static inline bool asp_a64_is_broken(int level, uint64_t descriptor)
{
	return descriptor && !asp_a64_is_valid(descriptor) &&
	       !(descriptor & (ASP_A64_CONDEMNED | ASP_A64_CLOSED)) &&
	       !asp_a64_is_pending(level, descriptor);
}

static inline bool asp_a64_is_condemned(uint64_t descriptor)
{
	return !asp_a64_is_valid(descriptor) && (descriptor & ASP_A64_CONDEMNED) &&
	       descriptor != ASP_A64_VACATED;
}

/* Nothing is mapped there, nor about to be. */
static inline bool asp_a64_is_free(uint64_t descriptor)
{
	return !descriptor || descriptor == ASP_A64_VACATED;
}

/* A leaf with its valid bit as it should be. */
static inline uint64_t asp_a64_open(uint64_t leaf)
{
	return leaf & ASP_A64_CLOSED ? leaf & ~ASP_A64_VALID : leaf | ASP_A64_VALID;
}

/* A leaf, or a table, that is there: not broken, pending or condemned. */
static inline bool asp_a64_is_mapped(uint64_t descriptor)
{
	return asp_a64_is_valid(descriptor) ||
	       (descriptor & (ASP_A64_CLOSED | ASP_A64_CONDEMNED)) == ASP_A64_CLOSED;
}

/* The bits of a descriptor that hold an output or a next-level address. */
uint64_t asp_a64_output_mask(const struct aspace_aarch64_config *config);
uint64_t asp_a64_encode_output(const struct aspace_aarch64_config *config, uint64_t output);
uint64_t asp_a64_decode_output(const struct aspace_aarch64_config *config, uint64_t descriptor);

/* The bits of a leaf, but for its address, its type, its valid bit, which is on unless they say
 * closed, and whether it is contiguous. False: no descriptor says this. */
bool asp_a64_attributes(const struct aspace_aarch64_config *config, uint64_t flags,
			uint64_t *attributes);
/* The flags that a leaf says. */
uint64_t asp_a64_flags(const struct aspace_aarch64_config *config, uint64_t descriptor);
enum aspace_aarch64_shareability asp_a64_shareability(const struct aspace_aarch64_config *config,
						      uint64_t descriptor);
/* The flags that areas may have. */
uint64_t asp_a64_flags_mask(const struct aspace_aarch64_config *config);

/* A leaf with other attributes: address, size, piece, access flag and dirty state stay. */
uint64_t asp_a64_with_attributes(const struct aspace_aarch64_config *config, uint64_t descriptor,
				 uint64_t attributes);
/* History is what the processor notes: access flag and dirty state. A leaf that was never accessed,
 * with no address and in no group; and a leaf that has its own history and another's. */
uint64_t asp_a64_without_history(const struct aspace_aarch64_config *config, uint64_t descriptor);
uint64_t asp_a64_with_history(const struct aspace_aarch64_config *config, uint64_t descriptor,
			      uint64_t other);
/* A leaf that was not written. */
uint64_t asp_a64_clean(const struct aspace_aarch64_config *config, uint64_t descriptor);
/* A leaf that was written. */
uint64_t asp_a64_mark_written(const struct aspace_aarch64_config *config, uint64_t descriptor);
/* The attributes of a leaf that was perhaps accessed, and written: as far as the processor notes such
 * things, it says that it was. */
uint64_t asp_a64_mark_touched(const struct aspace_aarch64_config *config, uint64_t attributes);
bool asp_a64_is_dirty(const struct aspace_aarch64_config *config, uint64_t descriptor);

static inline bool asp_a64_has_asids(const struct aspace_aarch64_config *config)
{
	return config->regime != ASPACE_AARCH64_EL2 && config->regime != ASPACE_AARCH64_STAGE2;
}

static inline bool asp_a64_is_global(const struct aspace_aarch64_config *config,
				     uint64_t descriptor)
{
	return asp_a64_has_asids(config) && !(descriptor & ASP_A64_NG);
}

#endif
