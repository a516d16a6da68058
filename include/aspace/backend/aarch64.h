/* SPDX-License-Identifier: MIT */
/**
 * @file
 * A backend over AArch64 translation tables: stage 1 and stage 2, VMSAv8-64.
 *
 * *Tables* (struct aspace_aarch64) are one tree of translation tables, that of one
 * TTBR or VTTBR. A *source* (struct aspace_aarch64_linear, struct aspace_aarch64_allocated)
 * says which frames stand behind an area's addresses, and is the backend that is given to
 * aspace_map(). Any number of sources share one tree.
 *
 * Nothing is chosen by the preprocessor and no instruction is issued here: what the
 * processor is asked to do goes through struct aspace_aarch64_ops, so the same objects run
 * in a kernel, in a hypervisor and in a test on any machine. <aspace/backend/aarch64_cpu.h>
 * has the real instructions.
 *
 * One writer at a time changes a tree: the space's writer lock sees to it, if all its areas
 * are in one space. Beside it, any number of faults populate areas that it does not change, at once:
 * struct aspace_aarch64_ops says which operations they call. aspace_aarch64_query() and
 * aspace_aarch64_walk() take no lock; beside a writer they need the operations read_enter, read_leave
 * and table_retire.
 *
 * Section numbers are those of the Arm Architecture Reference Manual, DDI 0487.
 */
#ifndef ASPACE_BACKEND_AARCH64_H
#define ASPACE_BACKEND_AARCH64_H

#include <aspace/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One tree of translation tables. */
struct aspace_aarch64;

/* ---- Flags of an area -------------------------------------------------------- */

/** Flags of areas in AArch64 tables. The first three are enum aspace_access. */
enum aspace_aarch64_flag {
	/** May be read. At stage 1 required for WRITE, EXECUTE and USER_EXECUTE; without any of the
	 * four the area is mapped, and every access faults. */
	ASPACE_AARCH64_READ = 1,
	/** May be written. */
	ASPACE_AARCH64_WRITE = 2,
	/** Instructions may be fetched at EL1 (EL2 in its regimes). Stage 1: not together
	 * with USER and WRITE, where the architecture forbids it. */
	ASPACE_AARCH64_EXECUTE = 4,
	/** READ and WRITE hold at EL0 too. Only in the EL1&0 and EL2&0 regimes. */
	ASPACE_AARCH64_USER = 8,
	/** Instructions may be fetched at EL0. Not in the EL2 regime; at stage 2 it differs
	 * from EXECUTE only with FEAT_XNX. */
	ASPACE_AARCH64_USER_EXECUTE = 16,
	/** The translation holds for all ASIDs. Only in the EL1&0 and EL2&0 regimes. */
	ASPACE_AARCH64_GLOBAL = 32,
	/** Guarded page: indirect branches must find a landing pad (FEAT_BTI). Stage 1. */
	ASPACE_AARCH64_BTI = 64,
	/** The output address is non-secure. Stage 1 of a secure regime. */
	ASPACE_AARCH64_NONSECURE = 128,
	/** At most this large: 0 is any size. The value is not kept in the tables. An aspace_protect
	 * that brings a lower cap, or NO_CONTIGUOUS, makes what is larger smaller, as an operation
	 * does that cuts it; one that brings a higher cap changes no size. */
	ASPACE_AARCH64_LEVEL_1 = 1 << 16,
	/** No leaf above level 2. */
	ASPACE_AARCH64_LEVEL_2 = 2 << 16,
	/** Pages only. */
	ASPACE_AARCH64_LEVEL_3 = 3 << 16,
	/** No contiguous groups. Not kept in the tables. */
	ASPACE_AARCH64_NO_CONTIGUOUS = 1 << 18,
	/** Another shareability than the configuration's. With DS the descriptor has no room for
	 * one: only the configuration's own is allowed there. Not among the flags that a query
	 * answers; struct aspace_aarch64_mapping has it. */
	ASPACE_AARCH64_NON_SHARED = 1 << 19,
	ASPACE_AARCH64_OUTER_SHARED = 2 << 19, /**< the same */
	ASPACE_AARCH64_INNER_SHARED = 3 << 19, /**< the same */
};

/** The memory type's place in the flags; ASPACE_AARCH64_TYPE(). */
#define ASPACE_AARCH64_TYPE_SHIFT 8
/** All of it. */
#define ASPACE_AARCH64_TYPE_MASK UINT64_C(0x700)
/** The flags for a memory type, an enum aspace_aarch64_type. */
#define ASPACE_AARCH64_TYPE(type) (ASPACE_CAST(uint64_t, type) << ASPACE_AARCH64_TYPE_SHIFT)
/** Three bits for the program, kept in the descriptor's bits 57 to 55. */
#define ASPACE_AARCH64_SOFTWARE_MASK UINT64_C(0x7000)
/** The cap on the size of a leaf. */
#define ASPACE_AARCH64_LEVEL_MASK UINT64_C(0x30000)
/** The shareability's place in the flags. */
#define ASPACE_AARCH64_SHARED_MASK UINT64_C(0x180000)
/** The flags that a descriptor keeps, and aspace_aarch64_query() answers. */
#define ASPACE_AARCH64_KEPT_MASK UINT64_C(0x77ff)

/** Memory types. The numbers are also the slots of the MAIR that this library makes. */
enum aspace_aarch64_type {
	ASPACE_AARCH64_NORMAL,        /**< write-back, allocating */
	ASPACE_AARCH64_WRITE_THROUGH, /**< not at stage 2 with FEAT_S2FWB */
	ASPACE_AARCH64_NON_CACHEABLE,
	ASPACE_AARCH64_DEVICE_nGnRnE,
	ASPACE_AARCH64_DEVICE_nGnRE,
	ASPACE_AARCH64_DEVICE_nGRE,
	ASPACE_AARCH64_DEVICE_GRE,
	ASPACE_AARCH64_TAGGED, /**< write-back with allocation tags (FEAT_MTE2); stage 1 */
};

/* ---- Configuration ----------------------------------------------------------- */

/** Which walks the tables are for. */
enum aspace_aarch64_regime {
	ASPACE_AARCH64_EL1_LOWER, /**< EL1&0, TTBR0_EL1 */
	ASPACE_AARCH64_EL1_UPPER, /**< EL1&0, TTBR1_EL1: addresses at the top */
	ASPACE_AARCH64_EL2,       /**< EL2 without HCR_EL2.E2H */
	ASPACE_AARCH64_EL2_LOWER, /**< EL2&0 (HCR_EL2.E2H and TGE), TTBR0_EL2 */
	ASPACE_AARCH64_EL2_UPPER, /**< EL2&0, TTBR1_EL2 */
	ASPACE_AARCH64_STAGE2,    /**< stage 2 of EL1&0, VTTBR_EL2 */
};

/** Raw values of the ID registers that matter here (D24.2). */
struct aspace_aarch64_id {
	uint64_t mmfr0; /**< ID_AA64MMFR0_EL1 */
	uint64_t mmfr1; /**< ID_AA64MMFR1_EL1 */
	uint64_t mmfr2; /**< ID_AA64MMFR2_EL1 */
	uint64_t isar0; /**< ID_AA64ISAR0_EL1 */
	uint64_t pfr1;  /**< ID_AA64PFR1_EL1 */
};

/** Who shares the tables and the memory, and how far barriers and invalidations reach. The
 * numbers are the architecture's (SH). */
enum aspace_aarch64_shareability {
	ASPACE_AARCH64_NON_SHAREABLE = 0, /**< one processor: invalidations stay local */
	ASPACE_AARCH64_OUTER_SHAREABLE = 2,
	ASPACE_AARCH64_INNER_SHAREABLE = 3,
};

/** The start level of a stage 2 that the library chooses: the fewest levels. */
#define ASPACE_AARCH64_START_ANY (-128)

/** Everything about a tree that does not change. aspace_aarch64_config_for() fills it in. */
struct aspace_aarch64_config {
	/** sizeof(struct aspace_aarch64_config); required. */
	size_t size;
	/** Which walks. */
	enum aspace_aarch64_regime regime;
	/** log2 of the granule: 12, 14 or 16. */
	uint8_t granule_shift;
	/** Bits of an input address, 64 - TxSZ. */
	uint8_t input_bits;
	/** Bits of an output address: 32, 36, 40, 42, 44, 48 or 52. */
	uint8_t output_bits;
	/** -1 to 3, or ::ASPACE_AARCH64_START_ANY. Stage 1: it follows from input_bits. */
	int start_level;
	/** FEAT_LPA2 is used: TCR_ELx.DS, VTCR_EL2.DS. Descriptors have no SH then. */
	bool ds;
	/** ASIDs and VMIDs have 16 bits, not 8. */
	bool id_16_bits;
	/** The processor sets the access flag (FEAT_HAFDBS); leaves begin with AF = 0. */
	bool hardware_access;
	/** The processor keeps dirty state in the descriptor; needs hardware_access. */
	bool hardware_dirty;
	/** FEAT_XNX. */
	bool xnx;
	/** FEAT_S2FWB is used: HCR_EL2.FWB. */
	bool fwb;
	/** FEAT_BTI, so that ::ASPACE_AARCH64_BTI is a valid flag. */
	bool bti;
	/** FEAT_MTE2, so that ::ASPACE_AARCH64_TAGGED is a valid type. */
	bool tagged;
	/** FEAT_TLBIRANGE may be used. */
	bool range_tlbi;
	/** FEAT_TTL may be used. */
	bool ttl;
	/** FEAT_BBM's level, 0 to 2 (D8.16). */
	uint8_t bbm_level;
	/** No TLB conflict abort is raised where level 2 permits one, or the program handles
	 * it; without this, level 2 counts as level 0. */
	bool conflicts_tolerated;
	/** No address that stays mapped may fault for a moment: an operation that would need
	 * break-before-make answers ::ASPACE_NOT_SUPPORTED and changes nothing. */
	bool no_transient_faults;
	/** WRITE together with EXECUTE or USER_EXECUTE is refused. */
	bool write_xor_execute;
	/** A secure regime: ::ASPACE_AARCH64_NONSECURE is a valid flag. */
	bool secure;
	/** Several ASIDs use the tables (as all do a kernel's half): invalidations are for
	 * all of them. */
	bool all_asids;
	/** CnP is set in the TTBR or VTTBR (FEAT_TTCNP). */
	bool cnp;
	/** The ASID or VMID. */
	uint16_t id;
	/** Of tables and memory. */
	enum aspace_aarch64_shareability shareability;
	/** MAIR_ELx; 0: aspace_aarch64_mair()'s own layout. A type that it lacks is refused. */
	uint64_t mair;
	/** Operations that need more invalidations than this invalidate the ASID, the VMID or
	 * everything instead; 0: 64. */
	uint32_t tlbi_max;
};

/**
 * The best configuration for a processor: the largest addresses, all that it offers but
 * hardware_access, hardware_dirty and conflicts_tolerated, which are decisions.
 *
 * Errors: ASPACE_NOT_SUPPORTED: the processor lacks the granule or the regime. @p reason, if not
 * NULL, gets why (a static string).
 * Context: anywhere. O(1).
 */
ASPACE_API enum aspace_status aspace_aarch64_config_for(const struct aspace_aarch64_id *id,
							enum aspace_aarch64_regime regime,
							unsigned granule_shift,
							struct aspace_aarch64_config *config,
							const char **reason);

/**
 * Is this a configuration that the architecture has and, unless @p id is NULL, the processor?
 *
 * Errors: ASPACE_INVALID_PARAM: no processor has it; ASPACE_NOT_SUPPORTED: this one lacks it.
 * @p reason, if not NULL, gets why (a static string), or NULL.
 * Context: anywhere. O(1).
 */
ASPACE_API enum aspace_status aspace_aarch64_config_check(
	const struct aspace_aarch64_config *config, const struct aspace_aarch64_id *id,
	const char **reason);

/**
 * TCR_EL1, TCR_EL2 or VTCR_EL2 for a configuration that aspace_aarch64_config_check() accepts.
 *
 * @p mask gets the bits that this tree decides; with two trees in one register (TTBR0 and TTBR1),
 * aspace_aarch64_tcr_pair() combines them.
 * Context: anywhere. O(1).
 */
ASPACE_API uint64_t aspace_aarch64_tcr(const struct aspace_aarch64_config *config, uint64_t *mask);

/**
 * TCR_EL1, or TCR_EL2 of EL2&0, for two trees at once: do they agree in what one register says for
 * both?
 *
 * That is: one regime's lower and upper half; output_bits, id_16_bits, hardware_access,
 * hardware_dirty, ds, secure, and aspace_aarch64_mair(). And the upper tree invalidates for all ASIDs
 * (all_asids), or for the one that TTBR0 sets, the lower's @c id: TCR.A1 is 0. Their granules, sizes
 * and shareability may differ.
 *
 * @p tcr and @p mask: as aspace_aarch64_tcr() gives them for each, together; not touched on failure.
 * Errors: ASPACE_INVALID_PARAM: they disagree, or one is not valid by itself. @p reason, if not NULL, gets
 * in what (a static string), or NULL.
 * Context: anywhere. O(1).
 */
ASPACE_API enum aspace_status aspace_aarch64_tcr_pair(const struct aspace_aarch64_config *lower,
						      const struct aspace_aarch64_config *upper,
						      uint64_t *tcr, uint64_t *mask,
						      const char **reason);

/** MAIR_ELx for the configuration: its own, or the library's layout. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_aarch64_mair(const struct aspace_aarch64_config *config);

/** The addresses that a walk of such tables translates: limits for a space. In the upper half
 * the topmost page is missing: no range reaches it. Context: anywhere. O(1). */
ASPACE_API struct aspace_range aspace_aarch64_range(const struct aspace_aarch64_config *config);

/* ---- What the tables ask of the machine --------------------------------------- */

/** A data synchronization barrier: what it waits for. */
enum aspace_aarch64_barrier {
	/** Stores (DSB ISHST): the walker sees what was written. */
	ASPACE_AARCH64_BARRIER_STORES,
	/** Everything (DSB ISH): invalidations have completed on all processors. */
	ASPACE_AARCH64_BARRIER_ALL,
	/** Everything, in the whole system (DSB SY): what clean has begun has completed as well. In
	 * place of BARRIER_STORES where there is a clean, for a barrier of stores alone does
	 * not wait for cache maintenance (D7.5, "Ordering and completion of data and
	 * instruction cache instructions"). */
	ASPACE_AARCH64_BARRIER_SYSTEM,
};

/** What an invalidation takes away (D8.17). "IS" stands for the shareability in the struct. */
enum aspace_aarch64_tlbi_kind {
	ASPACE_AARCH64_TLBI_VA,            /**< VAE1IS; VAE2IS in the EL2 regime */
	ASPACE_AARCH64_TLBI_VA_ALL_IDS,    /**< VAAE1IS */
	ASPACE_AARCH64_TLBI_RANGE,         /**< RVAE1IS, RVAE2IS */
	ASPACE_AARCH64_TLBI_RANGE_ALL_IDS, /**< RVAAE1IS */
	ASPACE_AARCH64_TLBI_ID,            /**< ASIDE1IS: all but global entries of an ASID */
	ASPACE_AARCH64_TLBI_ALL,       /**< VMALLE1IS, ALLE2IS. After stage 2: combined entries */
	ASPACE_AARCH64_TLBI_IPA,       /**< IPAS2E1IS */
	ASPACE_AARCH64_TLBI_IPA_RANGE, /**< RIPAS2E1IS */
	ASPACE_AARCH64_TLBI_VMID,      /**< VMALLS12E1IS */
};

/** One TLB invalidation instruction. */
struct aspace_aarch64_tlbi {
	/** Which instruction. */
	enum aspace_aarch64_tlbi_kind kind;
	/** Of which regime; EL2&0 uses the EL1 forms, at EL2 with E2H and TGE set. */
	enum aspace_aarch64_regime regime;
	/** Only last-level entries (the forms with an L): VALE1IS and so on. */
	bool leaf;
	/** How far: local, OS or IS. */
	enum aspace_aarch64_shareability shareability;
	/** The register operand, ready to use; 0 where the instruction has none. */
	uint64_t operand;
	/** What it covers, for those who do not decode the operand (logs). */
	struct aspace_range range;
};

/**
 * What the tables ask of the machine.
 *
 * Where it says "any thread", a call may come from several threads at once; else from the
 * space's writer alone, with its lock held. *Faults* come beside the writer and beside each other, with no
 * lock held, or in the middle of the writer's batch or of another fault on the same processor: in a
 * handler, where the program calls aspace_fault() there. They call table_alloc and table_free,
 * frame_alloc and frame_free, which may sleep or do I/O: no table is held meanwhile; and load, swap,
 * clean, table_pointer, dsb, isb, tlbi, vmid_enter and vmid_leave, which may not. *Advice* comes in
 * the same way, and calls the latter, and frame_clear; then frame_retire or frame_free. So an allocator that
 * serves a lazy source has a lock of its own, or is lock-free, and the writer's calls of it are
 * among those that it is to expect at the same time.
 */
struct aspace_aarch64_ops {
	/** sizeof(struct aspace_aarch64_ops), so that the table can grow: of a table that is shorter
	 * than the library's, as one that was built against an older header, the operations behind
	 * its end are NULL, and are not looked at; of one that is longer, those that the library does
	 * not know are never called. Not below the required ones; 4096 at most. */
	size_t size;

	/** Memory for a table: @p size bytes (a granule; for the root of a stage 2 up to 16),
	 * aligned to that, zeroed, within output_bits. False: there is none. Any thread. */
	bool (*table_alloc)(void *ctx, size_t size, struct aspace_paddr *table);
	/** Takes back a table that no walker can be in. From a fault, one that was never linked, zero
	 * as it came. Any thread. */
	void (*table_free)(void *ctx, struct aspace_paddr table, size_t size);
	/** Optional: the same for one that lockless readers of this library may be in: free
	 * it after a grace period. Unlinked, and invalidated in all TLBs. Without it,
	 * table_free, and nobody may read beside a writer. */
	void (*table_retire)(void *ctx, struct aspace_paddr table, size_t size);
	/** Where the processor that calls sees a table. Any thread. */
	uint64_t *(*table_pointer)(void *ctx, struct aspace_paddr table);

	/** Optional, this and the next two, all or none: access to a descriptor; without
	 * them, C11 atomics. At least acquires. Any thread. */
	uint64_t (*load)(void *ctx, const uint64_t *entry);
	/** At least releases: who follows a pointer sees the table behind it. */
	void (*store)(void *ctx, uint64_t *entry, uint64_t value);
	/** Compare, and exchange if equal: did it? Acquires and releases. Any thread. */
	bool (*swap)(void *ctx, uint64_t *entry, uint64_t expected, uint64_t value);

	/** A data synchronization barrier. Any thread, this and the next two. */
	void (*dsb)(void *ctx, enum aspace_aarch64_barrier barrier,
		    enum aspace_aarch64_shareability shareability);
	/** An instruction synchronization barrier. */
	void (*isb)(void *ctx);
	/** One invalidation. */
	void (*tlbi)(void *ctx, const struct aspace_aarch64_tlbi *tlbi);
	/** Optional, with the next: before the invalidations of a stage 2. Make @p vmid the
	 * current one, with HCR_EL2 such that they hit EL1&0 of a guest. On the processor that
	 * calls; several may be inside, and one twice, where a fault interrupts the writer. */
	void (*vmid_enter)(void *ctx, uint16_t vmid);
	/** After them: put back what was. */
	void (*vmid_leave)(void *ctx);
	/** Optional: walks are not coherent with the data cache; clean these bytes to where
	 * the walker reads. Called after each store; it need not wait for the cleaning to
	 * complete, since a BARRIER_SYSTEM follows before the next store that counts on it:
	 * before a table is linked, before an invalidation, and at the end. Any thread. */
	void (*clean)(void *ctx, const void *start, size_t size);

	/** Optional, with the next: a lockless read begins. Any thread. */
	void (*read_enter)(void *ctx);
	/** It ends. What table_retire gets is free when all that had begun before have ended. */
	void (*read_leave)(void *ctx);

	/** Optional, with the next: a frame for an area of struct aspace_aarch64_allocated. @p size
	 * bytes (a granule, a block or a contiguous group) aligned to that, within output_bits, with
	 * the contents that new memory is to have. False: there is none of that size; it is asked
	 * for smaller ones then, down to a granule. Any thread: a fault calls it. */
	bool (*frame_alloc)(void *ctx, uint64_t size, struct aspace_paddr *frame);
	/** Takes back a frame: exactly one that came in one allocation, whatever was made of its
	 * descriptors meanwhile (aspace_aarch64_compact() included), or a part that frame_split
	 * has told of. No TLB has it. Any thread: a fault gives back a frame for which it finds no
	 * table, or no place any more, and an advice what it drops. */
	void (*frame_free)(void *ctx, struct aspace_paddr frame, uint64_t size);
	/** Optional: the same for one that was mapped, and that lockless readers may have learnt
	 * of: free it after a grace period. Any thread. Without it, frame_free. */
	void (*frame_retire)(void *ctx, struct aspace_paddr frame, uint64_t size);
	/** Optional: what came as one frame of @p size bytes will come back as frames of @p part
	 * bytes, the next smaller size that frame_alloc can be asked for; one of these, perhaps,
	 * as smaller ones still, after another call. It comes before an operation takes, moves or
	 * replaces only a part of a frame, and stays true if that operation is undone. Who counts
	 * granules by itself need not listen: without it, the parts come back all the same. */
	void (*frame_split)(void *ctx, struct aspace_paddr frame, uint64_t size, uint64_t part);
	/** Optional: give @p size bytes at @p start, granules of a frame that stays mapped, the contents that
	 * new memory is to have. For ::ASPACE_ADVICE_DROP of less than a frame; see
	 * aspace_aarch64_allocated_init(). Processors may access them meanwhile. Any thread. */
	void (*frame_clear)(void *ctx, struct aspace_paddr start, uint64_t size);
};

/* ---- Tables -------------------------------------------------------------------- */

/** Options of aspace_aarch64_create(). */
struct aspace_aarch64_options {
	/** sizeof(struct aspace_aarch64_options); required. */
	size_t size;
	/** Copied. */
	struct aspace_aarch64_config config;
	/** Copied. */
	const struct aspace_aarch64_ops *ops;
	/** Handed to each of them. */
	void *ctx;
};

/**
 * Make an empty tree: a root, and a page of the same kind for the structure itself.
 *
 * Errors: ASPACE_INVALID_PARAM: a configuration that aspace_aarch64_config_check() refuses (the
 * processor is not asked), or ops that lack something; ASPACE_NO_MEMORY.
 * Context: calls table_alloc; not from a callback. O(entries of the root).
 * Ownership: the caller's, until aspace_aarch64_destroy(); @p *out is not touched on failure.
 */
ASPACE_API enum aspace_status aspace_aarch64_create(const struct aspace_aarch64_options *options,
						    struct aspace_aarch64 **out);

/**
 * Free all tables, whatever they map. NULL is allowed.
 *
 * Context: no space shows an area of it, no processor and no reader walks it, and its ASID or VMID
 * has been invalidated. O(tables).
 */
ASPACE_API void aspace_aarch64_destroy(struct aspace_aarch64 *tables);

/*
 * The place of a writer. Calls that change a tree by themselves, or must find it at rest, belong where
 * an update of the space would be: at any moment, one update, or one such call, is at work on the
 * tree. Who has an open transaction of each space that shows areas of the tree is there: from
 * aspace_txn_begin() on to commit or abort the thread has the writer lock, and the backend is not
 * called before the commit, but for faults. So is who sees to it in another way that nobody updates the
 * space, its helper included. A callback of the backend is not there: its own change is
 * under way.
 */

/** The value for TTBR0_ELx, TTBR1_ELx or VTTBR_EL2: root, ASID or VMID, CnP. With
 * TCR_EL1.A1 = 0, only the one of TTBR0 counts. Context: anywhere. O(1). */
ASPACE_API uint64_t aspace_aarch64_ttbr(const struct aspace_aarch64 *tables);

/** How many tables there are, root included; those in reserve are not counted. Context: beside a
 * writer the answer may be old. O(1). */
ASPACE_API size_t aspace_aarch64_table_count(const struct aspace_aarch64 *tables);

/** A source of frames: each address is mapped to the one at a fixed distance. The caller's
 * memory; aspace_aarch64_linear_init() fills it in. */
struct aspace_aarch64_linear {
	/** To be given to aspace_map(). */
	struct aspace_backend backend;
	/** Where. */
	struct aspace_aarch64 *tables;
	/** Physical minus virtual address, modulo 2^64; a multiple of the granule. */
	uint64_t offset;
};

/**
 * Make a linear source.
 *
 * Unmapping can be undone by mapping again (remap_restores): what comes back says that it was accessed
 * and written, since what it said before is gone. There is no `move`, since a frame belongs to
 * its address; `replace` changes what is mapped in place. map, unmap, protect and replace answer
 * ASPACE_INVALID_PARAM for a range that the tables do not cover, a frame outside output_bits, and
 * flags that no descriptor can say; ASPACE_ALREADY_EXISTS or ASPACE_NOT_MAPPED where the tables do
 * not hold what the change says; ASPACE_NOT_SUPPORTED where no_transient_faults forbids; ASPACE_NO_MEMORY.
 *
 * Errors: ASPACE_INVALID_PARAM for an offset that is not a multiple of the granule.
 * Context: anywhere. O(1). Ownership: the caller's; it must live as long as a backend must.
 */
ASPACE_API enum aspace_status aspace_aarch64_linear_init(struct aspace_aarch64_linear *source,
							 struct aspace_aarch64 *tables,
							 uint64_t offset);

/** A source of frames that are allocated, by frame_alloc. The caller's memory;
 * aspace_aarch64_allocated_init() fills it in. */
struct aspace_aarch64_allocated {
	/** To be given to aspace_map(). */
	struct aspace_backend backend;
	/** Where. */
	struct aspace_aarch64 *tables;
	/** Areas are populated on access, by aspace_fault(); else when they are mapped. */
	bool lazy;
	/** What one fault populates at most, in bytes. */
	uint64_t fault_max;
};

/**
 * Make a source of allocated frames.
 *
 * Its areas' memory is the program's frames, the largest that frame_alloc has and that fit. Unless
 * @p lazy, `prepare` allocates all of them, and a map that is refused has taken none. When
 * something is unmapped, its frames are retired in `flush`: until then an undo puts them back,
 * unless something else was mapped in their place; then the undo answers ASPACE_NO_MEMORY.
 *
 * `fault` populates what surrounds the address: the largest block, group or page that is free, inside
 * the area and no larger than @p fault_max or the area's cap. Its leaf begins as accessed, and as
 * written where @p access says so. ASPACE_ACCESS_DENIED: the area's flags do not allow the access;
 * ASPACE_NO_MEMORY: nothing has changed; ASPACE_OK also where it was populated already, and in a source
 * that is not lazy. It calls nothing but the operations: whether it may run in a signal handler is theirs
 * to say.
 *
 * Faults run beside each other, in different spans, and beside changes of other areas of the tables, a
 * compaction, a harvest or a walk included; they take no lock and wait for nobody. A *span* is the
 * largest size of a frame that is not above @p fault_max: two faults in one must not run at the same
 * time, nor a fault and a change of its area; the library sees to that. A table that a batch would free
 * while a fault is at work in it, and that then stays empty, since the fault was refused memory, is freed
 * with the next change that passes there, at the latest when the area is unmapped.
 *
 * `advise` knows ::ASPACE_ADVICE_DROP, and takes ::ASPACE_ADVICE_FREE for the same, where areas are
 * populated on access; all else is ASPACE_NOT_SUPPORTED. Frames in the range go back when no TLB has
 * them any more, some dozens at a time; the next access faults. What shares its frame (as that was handed
 * out), its leaf or its contiguous group with something outside of the range stays: FREE leaves it as it is, DROP
 * has its contents cleared by frame_clear, and without that ends there with ASPACE_NOT_SUPPORTED. Beside faults, and
 * beside changes of other areas; but while one of these cuts a leaf or a group that is an area's in part, and
 * during a compaction, nothing is dropped, and the answer is ASPACE_BUSY. It allocates nothing, waits for
 * nobody, and leaves the tables, which are freed when the area is unmapped.
 *
 * Frames come back in the pieces in which frame_alloc has handed them out, or in which frame_split has
 * cut them. Leaves say in bits 61 to 59 which these are: TCR or VTCR must not give these bits to the
 * processor (HWU59 to HWU61 are 0, as aspace_aarch64_tcr() has them).
 *
 * Its changes answer as those of a linear source. All areas are to be unmapped before the tables
 * are destroyed, or their frames are lost.
 *
 * @p fault_max: bytes; less than a granule means a granule.
 * Errors: ASPACE_NOT_SUPPORTED: the operations have no frame_alloc.
 * Context: anywhere. O(1). Ownership: the caller's; it must live as long as a backend must.
 */
ASPACE_API enum aspace_status aspace_aarch64_allocated_init(struct aspace_aarch64_allocated *source,
							    struct aspace_aarch64 *tables,
							    bool lazy, uint64_t fault_max);

/**
 * Make the leaves in @p range as large as they can be: tables of equal leaves become blocks, whatever
 * lies between, runs of them contiguous groups. No translation changes; tables become free. Nothing is
 * made that would be replaced in the same pass. A table in which a fault is at work at the moment is left
 * as it is.
 *
 * @p flags: caps on the size, as for an area: ::ASPACE_AARCH64_LEVEL_1 and so on, and
 * ::ASPACE_AARCH64_NO_CONTIGUOUS. The areas' own caps are not known here.
 *
 * Takes a break-before-make for each block and each group, one after the other; none with
 * bbm_level 2, conflicts_tolerated and without hardware_access.
 * Errors: ASPACE_INVALID_PARAM; ASPACE_NOT_SUPPORTED: no_transient_faults forbids it.
 * Context: the place of a writer (above): with an open transaction of each space that shows areas of the
 * tables, or where no update of these runs at the same time; faults may. Allocates nothing. O(tables and descriptors
 * of the range).
 */
ASPACE_API enum aspace_status aspace_aarch64_compact(struct aspace_aarch64 *tables,
						     struct aspace_range range, uint64_t flags);

/* ---- Reading the tables -------------------------------------------------------- */

/** What a walk finds. */
struct aspace_aarch64_mapping {
	/** The addresses that one descriptor translates. */
	struct aspace_range range;
	/** Where @c range begins in physical memory (aspace_aarch64_query: the address's own). */
	struct aspace_paddr output;
	/** Those of ::ASPACE_AARCH64_KEPT_MASK. */
	uint64_t flags;
	/** The descriptor itself; what else is said here of a contiguous group may stand in others. */
	uint64_t descriptor;
	/** Of the descriptor, -1 to 3. */
	int level;
	/** One of a contiguous group. */
	bool contiguous;
	/** Accessed since it was mapped or harvested; without hardware_access always true. Of a
	 * contiguous group the processor says this, and what comes next, for all of it at once: in
	 * any of its descriptors (D8.7.1), so what is here is true of some page of the group. */
	bool accessed;
	/** Written since it was mapped or harvested; only with hardware_dirty. */
	bool dirty;
	/** Who shares the memory. */
	enum aspace_aarch64_shareability shareability;
};

/**
 * What does @p address translate to?
 *
 * Errors: ASPACE_NOT_MAPPED; ASPACE_INVALID_PARAM: outside of the tables; ASPACE_BUSY: met a
 * break-before-make in progress: try again.
 * Context: any thread, beside a writer; takes no lock, never waits. O(levels, and descriptors of a
 * contiguous group). Beside an operation that takes a group apart, @c accessed and @c dirty may lack
 * what the processor notes meanwhile; after it they do not.
 */
ASPACE_API enum aspace_status aspace_aarch64_query(const struct aspace_aarch64 *tables,
						   struct aspace_vaddr address,
						   struct aspace_aarch64_mapping *mapping);

/** Receives a mapping; answers false to stop. */
typedef bool aspace_aarch64_visit_fn(void *ctx, const struct aspace_aarch64_mapping *mapping);

/**
 * Visit each descriptor that maps an address of @p range, upward.
 *
 * Beside a writer the whole is no snapshot: each descriptor is what it was when it was read.
 *
 * Errors: ASPACE_INVALID_PARAM; ASPACE_BUSY as in aspace_aarch64_query(), after some visits.
 * Context: any thread, beside a writer; is one read section. O(tables and descriptors of the range).
 */
ASPACE_API enum aspace_status aspace_aarch64_walk(const struct aspace_aarch64 *tables,
						  struct aspace_range range,
						  aspace_aarch64_visit_fn *visit, void *ctx);

/** Fills in the next area, upward; false: there is none. */
typedef bool aspace_aarch64_next_area_fn(void *ctx, struct aspace_area *area);

/** Where areas and tables differ. */
struct aspace_aarch64_difference {
	/** The address. */
	struct aspace_vaddr address;
	/** What differs, in words; static. */
	const char *what;
};

/**
 * Do the tables hold what the areas say, and nothing else?
 *
 * @p next gives all areas of the tables, as aspace_iter_next() does for a space; those of other
 * backends are passed over. Compared are the addresses, the flags that descriptors keep, the
 * shareability, and a linear source's frames; lazy areas may have holes.
 *
 * Errors: ASPACE_BAD_STATE, with the first difference in @p difference (which may be NULL).
 * Context: the place of a writer, as for aspace_aarch64_compact(). Calls the operations load and
 * table_pointer only. O(tables and descriptors).
 */
ASPACE_API enum aspace_status aspace_aarch64_check(const struct aspace_aarch64 *tables,
						   aspace_aarch64_next_area_fn *next, void *ctx,
						   struct aspace_aarch64_difference *difference);

/** What aspace_aarch64_harvest() takes. */
enum aspace_aarch64_history {
	/** The access flag; needs hardware_access. */
	ASPACE_AARCH64_ACCESSED = 1,
	/** Dirty state; needs hardware_dirty. */
	ASPACE_AARCH64_DIRTY = 2,
};

/**
 * Take access flags or dirty state from the descriptors in @p range: each leaf that has some is
 * reported, and has none afterwards.
 *
 * A contiguous group is reported once, as a whole, also where it reaches beyond the range: its
 * mapping's range is the group's. An access that is not reported will be at the next time.
 *
 * @p what: a mask of enum aspace_aarch64_history.
 * @p visit answers false to stop: what follows keeps its state. It may run before other
 * processors have stopped writing to the page by the state that was taken; on return they have.
 * Errors: ASPACE_INVALID_PARAM; ASPACE_NOT_SUPPORTED: the configuration keeps no such state.
 * Context: the place of a writer, as for aspace_aarch64_compact(). @p visit calls neither tables nor
 * space. Allocates nothing. O(tables and descriptors of the range).
 */
ASPACE_API enum aspace_status aspace_aarch64_harvest(struct aspace_aarch64 *tables,
						     struct aspace_range range, unsigned what,
						     aspace_aarch64_visit_fn *visit, void *ctx);

#ifdef __cplusplus
}
#endif

#endif
