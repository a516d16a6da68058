/* SPDX-License-Identifier: MIT */
/*
 * A line on the terminal that says how far it is; nothing where the standard
 * error is no terminal.
 */
#ifndef STRESS_PROGRESS_H
#define STRESS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	bool shown;
	uint64_t next; /* when the line is due again */
};

void progress_begin(struct progress *progress, bool quiet);
/* Is it time? `now` is clock_now(). */
bool progress_due(struct progress *progress, uint64_t now);
void progress_show(struct progress *progress, const char *text);
/* Wipe the line. */
void progress_end(struct progress *progress);

#endif
