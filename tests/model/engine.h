/* SPDX-License-Identifier: MIT */
/*
 * Random operations on a space, checked against an array.
 *
 * The model is one cell for each unit of a small stretch of addresses. Every
 * operation is made on the space and, in its simplest form, on the cells; then the
 * space is iterated and compared, and so is what its backends were told. The
 * numbers come from a source: a random generator (model.c) or a fuzzer's bytes.
 */
#ifndef TESTS_MODEL_ENGINE_H
#define TESTS_MODEL_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct source {
	/* A number from 0 to n - 1. */
	uint32_t (*draw)(struct source *source, uint32_t n);
	uint64_t state;
	const uint8_t *bytes;
	size_t left;
	bool dry; /* a source of bytes has come to its end */
};

struct config {
	uint32_t cells;
	uint64_t unit;       /* bytes a cell: the granule of the space */
	uint64_t base;       /* address of the first cell */
	unsigned mode;       /* of the space */
	bool users;          /* areas have user objects, with references that are counted */
	bool refusals;       /* backends and clones refuse now and then */
	bool full;           /* begins with every second cell mapped, and stays large */
	uint64_t operations; /* 0: until the source is dry */
	uint64_t check_every;
};

struct tally {
	uint64_t operations;
	uint64_t checks;
	uint64_t refused;
	uint64_t bad_states;
	uint64_t came_back;  /* areas whose deferred unmap or protect was refused, */
	uint64_t kept_flags; /* of these, protect */
	uint64_t pending;    /* cells that were protected later */
	uint64_t gap_searches;
	uint64_t commits;
	uint64_t snapshots;
	uint64_t merges;                   /* of areas with different user objects */
	uint64_t counted_beside_snapshots; /* references, exactly */
	uint64_t advised;                  /* pieces */
	uint64_t advice_stops;             /* half way */
	uint64_t guests;                   /* faults and advice that stayed inside: */
	uint64_t queued;                   /* behind another; */
	uint64_t served;                   /* and done by that; */
	uint64_t waited;                   /* operations that waited for some, */
	uint64_t told_busy;                /* that might not, */
	uint64_t passed;                   /* and that went on beside them */
	uint64_t invalid;
	uint64_t height;       /* the greatest that was seen */
	uint64_t grace_height; /* in grace-unmap spaces, with areas leaving */
};

/* Aborts, after printing what differs, where space and model do not agree. `label`
 * says how to see it again. */
void model_run(const struct config *config, struct source *source, const char *label,
	       struct tally *tally);

#endif
