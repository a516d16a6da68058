/* SPDX-License-Identifier: MIT */
#include "scenario.h"

#include <aspace/aspace.h>
#include <string.h>

#include "hazards.h"

static const char *const names[ACTIONS] = {
	"find", "overlaps", "gap",      "view",  "snapshot", "count", "dump",   "fault", "advise",
	"map",  "replace",  "anywhere", "unmap", "protect",  "move",  "resize", "clear", "txn",
};

const char *action_name(enum action action)
{
	return names[action];
}

#define LOOKING                                                                                    \
	[ACTION_FIND] = 80, [ACTION_OVERLAPS] = 4, [ACTION_GAP] = 6, [ACTION_SNAPSHOT] = 2,        \
	[ACTION_COUNT] = 2, [ACTION_DUMP] = 1, [ACTION_FAULT] = 4, [ACTION_ADVISE] = 2

#define READING LOOKING, [ACTION_VIEW] = 8

#define WRITING                                                                                    \
	[ACTION_MAP] = 20, [ACTION_REPLACE] = 20, [ACTION_ANYWHERE] = 8, [ACTION_UNMAP] = 24,      \
	[ACTION_PROTECT] = 14, [ACTION_MOVE] = 4, [ACTION_RESIZE] = 4, [ACTION_TXN] = 10

const struct scenario scenarios[] = {
	{
		.name = "mixed",
		.about = "every operation, on areas that merge",
		.weights = {READING, WRITING, [ACTION_CLEAR] = 1},
		.pages = 1024,
		.longest = 8,
	},
	{
		.name = "objects",
		.about = "every operation, on areas with user objects, which readers follow",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.objects = true,
	},
	{
		.name = "boundary",
		.about = "nodes that fill and empty: single pages of a narrow band that wanders",
		.weights = {READING, [ACTION_MAP] = 48, [ACTION_UNMAP] = 40, [ACTION_TXN] = 12},
		.pages = 4096,
		.longest = 1,
		.objects = true,
		.band = true,
	},
	{
		.name = "storm",
		.about = "replaces over many areas at once",
		.weights = {READING, [ACTION_REPLACE] = 90, [ACTION_PROTECT] = 10},
		.pages = 512,
		.longest = 64,
	},
	{
		.name = "apart",
		.about = "every operation, on areas that never merge",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.objects = true,
		.mode = ASPACE_NEVER_MERGE,
	},
	{
		.name = "sleeper",
		.about = "a reader that sleeps inside its section, and looks again",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.objects = true,
		/* A section over the end of a round must not make writers wait for it. */
		.garbage_max = (size_t)1 << 30,
		.hazard = hazard_sleep,
		.hazard_name = "sleeps inside a section",
	},
	{
		.name = "pinned",
		.about = "a snapshot that is held during a storm of writes",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 16,
		.objects = true,
		.hazard = hazard_pin,
		.hazard_name = "snapshots held for three rounds",
	},
	{
		.name = "churn",
		.about = "threads that start, look up once, and exit",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.hazard = hazard_churn,
		.hazard_name = "threads that looked up once",
	},
	{
		.name = "cancel",
		.about = "threads that are cancelled while they update, or wait",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.garbage_max = 64 * 1024,
		.hazard = hazard_cancel,
		.hazard_name = "threads cancelled in a call",
	},
	{
		.name = "fork",
		.about = "forks amid all of it; the child looks, updates, destroys the space",
		/* No snapshots: who took them is gone in the child, which could not destroy. */
		.weights = {[ACTION_FIND] = 80,
			    [ACTION_GAP] = 10,
			    [ACTION_VIEW] = 10,
			    [ACTION_FAULT] = 4,
			    [ACTION_ADVISE] = 2,
			    WRITING},
		.pages = 512,
		.longest = 8,
		.hazard = hazard_fork,
		.hazard_name = "forks",
	},
	{
		.name = "signal",
		.about = "signals whose handlers look up",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.hazard = hazard_shoot,
		.hazard_name = "signals handled",
	},
	{
		.name = "refusal",
		.about = "backends that refuse",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.objects = true,
		.refuse_each = 20,
	},
	{
		.name = "beside",
		.about = "spaces that are created and destroyed beside",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.hazard = hazard_beside,
		.hazard_name = "spaces created and destroyed",
	},
	{
		.name = "bound",
		.about = "garbage at its bound, held there by a reader",
		.weights = {READING, WRITING},
		.pages = 1024,
		.longest = 8,
		.objects = true,
		.garbage_max = 128 * 1024,
		.hazard = hazard_hold,
		.hazard_name = "sections held until writers waited",
	},
	{
		.name = "grace",
		.about = "memory, access and contents that outlive the sections: a grace-unmap "
			 "space",
		.weights = {LOOKING, [ACTION_VIEW] = 24, [ACTION_MAP] = 36, [ACTION_ANYWHERE] = 8,
			    [ACTION_UNMAP] = 30, [ACTION_PROTECT] = 24, [ACTION_CLEAR] = 1,
			    [ACTION_TXN] = 12},
		.pages = 256,
		.longest = 4,
		.objects = true,
		.mode = ASPACE_GRACE_UNMAP,
		.keeps = true,
	},
	{
		.name = "return",
		.about = "areas that come back, flags that stay: deferred calls that are refused",
		.weights = {READING, [ACTION_MAP] = 36, [ACTION_ANYWHERE] = 8, [ACTION_UNMAP] = 30,
			    [ACTION_PROTECT] = 24, [ACTION_TXN] = 12},
		.pages = 512,
		.longest = 4,
		.objects = true,
		.mode = ASPACE_GRACE_UNMAP,
		.keeps = true,
		.refuse_each = 6,
	},
	{
		.name = "crowd",
		.about = "many writers who leave no time for what is deferred",
		.weights = {[ACTION_FIND] = 80,
			    [ACTION_GAP] = 10,
			    [ACTION_VIEW] = 10,
			    [ACTION_FAULT] = 4,
			    [ACTION_ADVISE] = 2,
			    [ACTION_MAP] = 30,
			    [ACTION_REPLACE] = 40,
			    [ACTION_UNMAP] = 30},
		.pages = 1024,
		.longest = 4,
		.objects = true,
		.writers = 16,
		.stall_ms = 3600000,
		.hazard = hazard_audit,
		.hazard_name = "looks whether anything was late",
	},
	{.name = NULL},
};

const struct scenario *scenario_find(const char *name)
{
	const struct scenario *scenario = scenarios;

	while (scenario->name && strcmp(scenario->name, name))
		scenario++;
	return scenario->name ? scenario : NULL;
}
