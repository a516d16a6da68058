/* SPDX-License-Identifier: MIT */
/*
 * What strace says besides calls. On a terminal it says it in the middle of a line,
 * if one is not finished, and goes on with that line afterwards:
 *
 *     clone(child_stack=NULL, flags=SIGCHLDstrace: Process 9 attached
 *     ) = 9
 */
#ifndef REPLAY_REMARK_H
#define REPLAY_REMARK_H

#include "line.h"

enum remark_kind {
	REMARK_OTHER,
	REMARK_ATTACHED, /* `pid` is new here */
	REMARK_DETACHED, /* `pid` is gone, or traced no longer */
	REMARK_TABLE,    /* the head of a table (-c, -C) */
};

struct remark {
	enum remark_kind kind;
	uint32_t pid;
	size_t start; /* where in the line it begins; it goes to the line's end */
};

/* Does `line` end with a remark? It may be the whole line. */
bool remark_find(struct span line, struct remark *out);
/* Is `line` as a whole something that is no call: blank, a stack frame (-k), bytes in
 * hexadecimal (-e read, -e write), what script(1) or the shell adds? */
bool remark_is_line(struct span line);
/* Can `line` be of a table? One with "total" is its last. */
bool remark_is_row(struct span line, bool *last);

#endif
