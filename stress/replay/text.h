/* SPDX-License-Identifier: MIT */
/*
 * The text of a trace, line by line, without what it got on its way: carriage
 * returns (Windows, a terminal's recording), the "> " of a quoted mail, a byte order
 * mark. The lines are the file's: none is joined, added or left out.
 */
#ifndef REPLAY_TEXT_H
#define REPLAY_TEXT_H

#include "line.h"

struct text {
	char *bytes;
	size_t length;
	size_t at;     /* where the next line begins, or the rest of one */
	size_t number; /* of the line that was given out last; from 1 */
};

void text_open(struct text *text, const char *bytes, size_t length);
/* The next line, without its newline; valid until text_close(). False: there is none. */
bool text_next(struct text *text, struct span *line);
/* Go on at `at`, within or behind the line given out last: what text_next() answers
 * then is what is left of a line. */
void text_skip(struct text *text, size_t at);
void text_close(struct text *text);

#endif
