/* SPDX-License-Identifier: MIT */
/*
 * What the traced program printed. Where it prints to the terminal that strace prints to as well,
 * that stands in the middle of strace's lines:
 *
 *     write(1, "one\n", 4one
 *     ) = 4
 *
 * The call says what was printed, or the beginning of it, and how many bytes: enough
 * to find it, even where it looks like a line of strace's.
 */
#ifndef REPLAY_PRINTED_H
#define REPLAY_PRINTED_H

#include "line.h"

struct printed {
	char known[256];     /* the beginning of what was printed */
	size_t known_length; /* all of it, if this is the length */
	uint64_t length;     /* bytes printed */
};

/* Can this call print? */
bool printed_call(struct span name);

/*
 * A call that prints was begun by `text`, which follows "NAME(" and goes on to the end
 * of the whole trace. On true, what was printed stands in it from *start to *end. `line`
 * is how much of `text` is its first line. `blind`: also if next to nothing of what was printed is
 * shown, so that it is known by its length alone; that is for calls that else have no end.
 */
bool printed_begins(struct span text, size_t line, bool blind, size_t *start, size_t *end);

/* What a call printed whose arguments are `text`. False: they do not say. */
bool printed_decode(struct span text, struct printed *out);

/* The length in `text` of what was printed, if `text` begins with it, else 0. */
size_t printed_match(const struct printed *printed, struct span text);

#endif
