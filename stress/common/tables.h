/* SPDX-License-Identifier: MIT */
/*
 * AArch64 translation tables in plain memory: what areas mean with --backend=aarch64.
 *
 * A stage 2 of 52 bits, because it can say every protection that a trace has. No processor walks
 * it: barriers and invalidations do nothing. Frames are numbers; nothing is behind them.
 */
#ifndef STRESS_TABLES_H
#define STRESS_TABLES_H

#include <aspace/aspace.h>
#include <aspace/backend/aarch64.h>

/* Bits of an address. */
#define TABLES_BITS 52

struct tables {
	struct aspace_aarch64 *tree;
	struct aspace_aarch64_allocated source;
	uint64_t next_frame; /* never used before */
	uint64_t frames;     /* bytes allocated now */
	size_t pages;        /* table pages allocated now */
	uint64_t steps, checks;
};

/* `page`: 4096, 16384 or 65536. */
enum aspace_status tables_open(struct tables *tables, uint64_t page);
/* Free all. False: something was left of an empty space; see `reason`. */
bool tables_close(struct tables *tables, char reason[200]);

/* Compare all of the tables with the areas of the space, both ways. All areas count as the
 * source's, whatever backend the space knows them by. */
bool tables_check(struct tables *tables, struct aspace *space, char reason[200]);
/* A step has changed [start, end). The software walker must find at its edges what the space
 * has there; and all is compared, of large tables every so often only, so that it costs a
 * bounded number of descriptors a step. */
bool tables_check_step(struct tables *tables, struct aspace *space, struct aspace_range range,
		       char reason[200]);

#endif
