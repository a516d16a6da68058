/* SPDX-License-Identifier: MIT */
/*
 * Scenarios: one mixture of operations and one hazard each, with a name.
 */
#ifndef TORTURE_SCENARIO_H
#define TORTURE_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a thread may do next. Readers choose among the first, writers among the others. */
enum action {
	ACTION_FIND,
	ACTION_OVERLAPS,
	ACTION_GAP,
	ACTION_VIEW,
	ACTION_SNAPSHOT,
	ACTION_COUNT,
	ACTION_DUMP,
	ACTION_FAULT,
	ACTION_ADVISE,
	ACTION_READS, /* how many of them read */
	ACTION_MAP = ACTION_READS,
	ACTION_REPLACE,
	ACTION_ANYWHERE,
	ACTION_UNMAP,
	ACTION_PROTECT,
	ACTION_MOVE,
	ACTION_RESIZE,
	ACTION_CLEAR,
	ACTION_TXN,
	ACTIONS,
};

struct worker;

struct scenario {
	const char *name;
	const char *about; /* one line */
	unsigned weights[ACTIONS];
	unsigned pages;   /* of the space */
	unsigned longest; /* pages of an operation's range */
	unsigned mode;    /* enum aspace_mode */
	bool objects;     /* areas have user objects; else one of four words, and they merge */
	bool keeps;       /* the backend says what a protect takes away: readers keep it */
	bool band;        /* work goes on in a narrow band that wanders */
	size_t garbage_max;
	unsigned refuse_each; /* backend calls */
	unsigned writers;     /* beside those that were asked for */
	/* Of the space; 0: 1. A bound on releases is not kept beyond it. */
	unsigned stall_ms;
	/* What one more thread does, again and again; may be NULL. */
	void (*hazard)(struct worker *worker);
	const char *hazard_name; /* of what it counts */
};

/* Ends with a NULL name. */
extern const struct scenario scenarios[];

const struct scenario *scenario_find(const char *name);
const char *action_name(enum action action);

#endif
