/* SPDX-License-Identifier: MIT */
/*
 * An adversarial machine: the memory, the walker and the TLBs that AArch64 tables are tested
 * on.
 *
 * It does whatever the architecture permits, as early or as late as is worst for the tables:
 *  - A store is seen old or new by walks until a barrier orders it. The memory of a new table
 *    holds rubbish until then, whatever its allocator has written.
 *  - Where its walks are not coherent, the barrier must be one that waits for cache maintenance,
 *    and each store, and all of a new table, must have been cleaned before it.
 *  - A barrier is its CPU's alone, where a test has several at work by turns (machine_on_cpu).
 *  - Each of two processors walks all the time, and keeps every entry of every level that it
 *    could have: leaves, pointers to tables, and at stage 2 entries that combine both
 *    stages. None is ever evicted but by an invalidation, and only at the barrier
 *    after it. An invalidation takes away what its operand's bits say, and nothing that a
 *    store that was not ordered before it could bring back.
 *  - The walker goes on from any pointer that it has kept, into memory as it is now.
 *  - It notes accesses and writes where the registers say so, at any time: of a contiguous group
 *    in any of its descriptors, and by what a TLB has kept until the invalidation is complete.
 *
 * What it walks for, a test says: the probes. It reads nothing of the library's but the
 * register values (TCR, TTBR, MAIR) and the tables' memory.
 *
 * Whatever breaks a rule is a violation: two entries for one address that differ in more than
 * permissions, a frame that does not come back as it was handed out, a translation that holds neither before nor after the operation, a fault where
 * none is allowed, a table freed that a walk can still reach, an entry that should be gone.
 */
#ifndef TESTS_AARCH64_MACHINE_H
#define TESTS_AARCH64_MACHINE_H

#include <aspace/backend/aarch64.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Who may do what with which memory: the architecture's answer, in its own words. */
struct rights {
	bool read, write, execute; /* EL1, or EL2 */
	bool user_read, user_write, user_execute;
	uint8_t memory; /* the MAIR byte; at stage 2 MemAttr */
	uint8_t shareability;
	bool global, guarded, nonsecure;
};

/* What an address should translate to. */
struct expectation {
	bool mapped;
	bool anywhere; /* any frame of the machine's that is allocated */
	uint64_t output;
	struct rights rights;
};

/* Before or after the operation in progress? */
typedef void machine_expect_fn(void *ctx, uint64_t address, bool after,
			       struct expectation *expectation);

/* How often things happened: a test that provokes something asserts that it did. */
struct machine_tally {
	uint64_t walks, entries, stores, barriers, isbs, tlbis, invalidated;
	uint64_t ranges, alls, retired, frames_retired, transients, hardware_updates;
	uint64_t split;      /* frames that were cut */
	uint64_t cleared;    /* granules that were cleared */
	uint64_t elsewhere;  /* of these, in another descriptor of a group than the page's */
	uint64_t by_entries; /* accesses by an entry that a TLB has kept */
};

struct machine;

/* A machine whose tables have this configuration. Aborts if it cannot be. */
struct machine *machine_create(const struct aspace_aarch64_config *config, uint64_t seed,
			       machine_expect_fn *expect, void *ctx);
/* Are the walks of the machines that are made from now on not coherent with the data cache? */
void machine_incoherent(bool incoherent);
/* The machines that are made from now on write their events, one a line, to the file of that
 * name, "-": to the standard output. Answers the file; ends the program if there can be none. */
FILE *machine_log_to(const char *path);

/* Frees it; answers the number of table pages that were never freed. */
size_t machine_destroy(struct machine *machine);

struct aspace_aarch64 *machine_tables(struct machine *machine);
const struct aspace_aarch64_ops *machine_ops(void);

/* An operation begins: everybody walks for the probes from here on. The operation and the flush
 * are what the test then calls; afterwards all must be as expected. */
void machine_begin(struct machine *machine, const uint64_t *probes, size_t count);
void machine_end(struct machine *machine);
/* The operation in progress is being undone: what comes after is what was before; ask again. */
void machine_turn_back(struct machine *machine);

/* Who calls operations from here on: CPU 0 to 3; 0 at first. A barrier orders what its CPU has stored,
 * and has loaded or exchanged of what others have stored; it waits for its own invalidations and
 * cleaning alone. One call at a time, all the same. */
void machine_on_cpu(struct machine *machine, unsigned cpu);

/* The nth table from now on, and all later ones, are refused; 0: none. */
void machine_refuse(struct machine *machine, size_t nth);
size_t machine_tables_in_use(const struct machine *machine);

/* The same for frames; and frames larger than this are never to be had, 0: all are. */
void machine_refuse_frames(struct machine *machine, size_t nth, uint64_t largest);
uint64_t machine_frames_in_use(const struct machine *machine); /* bytes */

/* The first violation, or NULL. */
const char *machine_violation(const struct machine *machine);
const struct machine_tally *machine_tally(const struct machine *machine);

/* Has the hardware noted an access to, or a write of, the page of `address` in its descriptor, and
 * it has not been forgotten since? */
bool machine_accessed(const struct machine *machine, uint64_t address);
bool machine_wrote(const struct machine *machine, uint64_t address);
void machine_forget_accesses(struct machine *machine, uint64_t start, uint64_t end);
/* Each page of which something is noted; keep answers what is to stay noted. */
typedef void machine_access_fn(void *ctx, uint64_t page, bool *accessed, bool *wrote);
void machine_revise_accesses(struct machine *machine, machine_access_fn *keep, void *ctx);

/* What the architecture makes of a walk from memory as it is: no TLB, nothing pending. */
bool machine_translate(struct machine *machine, uint64_t address, uint64_t *output,
		       struct rights *rights);

#endif
