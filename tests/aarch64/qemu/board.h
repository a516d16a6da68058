/* SPDX-License-Identifier: MIT */
/*
 * What the bare-metal images share: talking to QEMU, memory for tables, translation regimes
 * switched on and off, and accesses that may fault.
 *
 * Virtual addresses of the image are physical ones, with the MMU on as with it off.
 */
#ifndef ASPACE_QEMU_BOARD_H
#define ASPACE_QEMU_BOARD_H

#include <aspace/backend/aarch64_cpu.h>

#define CPUS_MAX 4

/* ---- Talking to QEMU ------------------------------------------------------------------- */

uint64_t semihosting(uint64_t operation, const void *argument);
/* Ends the run: QEMU's exit status. */
void finish(int status) __attribute__((noreturn));
/* %s, %d, %u, %lu and %lx (with 0x). */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says "FAIL: ", the rest, and ends with 1. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Was this word given to the image (run.sh --arg)? */
bool argument(const char *word);
/* The same numbers in each run. */
uint64_t draw(uint64_t n);

/* ---- CPUs -------------------------------------------------------------------------------- */

static inline unsigned cpu_number(void)
{
	return (unsigned)(ASPACE_AARCH64_MRS(mpidr_el1) & 0xff);
}

static inline unsigned current_el(void)
{
	return (unsigned)(ASPACE_AARCH64_MRS(CurrentEL) >> 2) & 3;
}

/* PSCI CPU_ON, from EL1 or EL2: the CPU runs other_main(). False: there is no such CPU. */
bool start_cpu(unsigned cpu);
int main(void);
void other_main(void);
/* Numbers of what each CPU has met, that any CPU may sum up. */
#define COUNTERS 16
void count(unsigned which);
uint64_t sum(unsigned which);

/* ---- Memory -------------------------------------------------------------------------------- */

/* Operations of the tables: a pool, and the processor's own instructions. */
extern const struct aspace_aarch64_ops board_ops;
/* In place of its tlbi, for variants that must fail: nothing, and not beyond this CPU. */
void ignore_tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi);
void local_tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi);
/* What a free table is filled with; 0 at first. */
extern uint64_t free_table_filling;
/* Tables that are in use; how many were ever taken. */
extern size_t pool_used, pool_taken;

/* Around what several CPUs take from at once: frames, and in these calls tables. */
void memory_lock(void);
void memory_unlock(void);

bool table_alloc(void *ctx, size_t size, struct aspace_paddr *table);
void table_free(void *ctx, struct aspace_paddr table, size_t size);
uint64_t *table_pointer(void *ctx, struct aspace_paddr table);

/* Frames for what the images map: RAM beyond the image; 32 MB, aligned to that. */
#define FRAMES      UINT64_C(0x48000000)
#define FRAMES_SIZE (UINT64_C(32) << 20)

/* The pieces that the image consists of, with the flags that each needs. */
struct piece {
	const char *name;
	struct aspace_range range;
	uint64_t flags;
};
extern char text_start[], text_end[], user_end[], rodata_end[], data_end[], stacks_end[];
/* Stack n ends at data_end + (n + 1) * 2 * STACK_SIZE; below it is a hole. */
#define STACK_SIZE 0x10000
#define PIECES     (6 + CPUS_MAX)
/* Fills in PIECES pieces; answers how many. EL0 may execute the one of user_load(). */
size_t image_pieces(struct piece *pieces, bool el0);

extern const char *const regime_names[];

/* ---- Registers ------------------------------------------------------------------------------ */

#define MSR(name, value) __asm__ volatile("msr " #name ", %0" ::"r"((uint64_t)(value)) : "memory")
#define ISB()            __asm__ volatile("isb" ::: "memory")

/* This CPU's stage 1, of EL1&0 or EL2 as the tables say: registers set, TLBs empty, MMU on. With
 * sctlr: more bits of SCTLR_ELx. */
void mmu_on(const struct aspace_aarch64_config *config, const struct aspace_aarch64 *tables,
	    uint64_t sctlr);
/* Then, of EL1&0 or EL2&0: the upper half, whose tables agree with the lower ones in what they
 * share in TCR_ELx. */
void mmu_upper(const struct aspace_aarch64_config *config, const struct aspace_aarch64 *tables);
void mmu_off(void);
/* Stage 2 of a guest at EL1 that has no stage 1; at EL2. */
void stage2_on(const struct aspace_aarch64_config *config, const struct aspace_aarch64 *tables);
void stage2_off(void);
/* Before 8.0, QEMU has no stage 2 with 16K from level 0, and from level -1 only with 52 bits. */
bool qemu_refuses(const struct aspace_aarch64_config *config);

/* ---- Accesses that may fault ------------------------------------------------------------------ */

struct frame {
	uint64_t x[31], elr, spsr, esr, far, unused;
};

enum access { LOAD, STORE, FETCH };

/* What became of an access, from ESR_ELx and FAR_ELx (D24.2.40). */
struct outcome {
	bool faulted;
	uint64_t value; /* loaded, or returned by what was fetched */
	uint64_t esr, far;
};

enum fault_kind { NO_FAULT, TRANSLATION, ACCESS_FLAG, PERMISSION, BRANCH_TARGET, UNDEFINED, OTHER };

struct fault {
	enum fault_kind kind;
	int level;
	bool fetch, write, below; /* from a lower exception level */
};

extern const char *const fault_names[];

/* At this exception level, or at EL0. */
struct outcome attempt(enum access access, bool el0, uint64_t address, uint64_t value);
/* By a guest at EL1, or at EL0, under stage 2. */
struct outcome attempt_guest(enum access access, bool el0, uint64_t address, uint64_t value);
/* At a level below, given by SPSR: until it comes back by SVC or HVC, or faults. */
struct outcome run_below(uint64_t pc, uint64_t spsr, uint64_t x0, uint64_t x1);
/* Some instructions that may be undefined, as a function. */
struct outcome attempt_call(void (*call)(const void *), const void *argument);
struct fault decode(uint64_t esr);

/* If not NULL, called first with each exception of the current level: did it handle it? */
extern bool (*exception_hook)(struct frame *frame);
void on_exception(uint64_t vector, struct frame *frame);

/* Code that returns n; its first 8 bytes are code_word(n). */
static inline uint64_t code_word(unsigned n)
{
	return UINT64_C(0xd65f03c0) << 32 | 0xd2800000u | (n & 0xffff) << 5; /* mov x0, #n; ret */
}
/* Written by data accesses, to be fetched. */
void sync_code(uint64_t address);

/* ---- One change of the tables, as the service would ask for it ------------------------------------ */

enum aspace_status change(struct aspace_aarch64_linear *source, enum aspace_change_kind kind,
			  uint64_t start, uint64_t end, uint64_t old_flags, uint64_t new_flags);
/* Must succeed. */
void map_pages(struct aspace_aarch64_linear *source, uint64_t start, uint64_t end, uint64_t flags);
void unmap_pages(struct aspace_aarch64_linear *source, uint64_t start, uint64_t end,
		 uint64_t flags);
void protect_pages(struct aspace_aarch64_linear *source, uint64_t start, uint64_t end,
		   uint64_t old_flags, uint64_t new_flags);
/* Tables of a configuration, with the image in them. */
struct aspace_aarch64 *make_tables(const struct aspace_aarch64_config *config,
				   const struct aspace_aarch64_ops *ops);
void map_image(struct aspace_aarch64_linear *identity, const struct aspace_aarch64_config *config);

/* A second reading of the tables: down to which level does a walk go, and what is there? Addresses
 * below 2^48, as all memory here has. */
volatile uint64_t *naive_entry(const struct aspace_aarch64_config *config,
			       const struct aspace_aarch64 *tables, uint64_t address, int *level);

#endif
