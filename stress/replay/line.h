/* SPDX-License-Identifier: MIT */
/*
 * One line of strace's output, taken apart as far as that is possible without
 * knowing the calls: who (pid), which kind of line, which call, and the text
 * that belongs to it.
 */
#ifndef REPLAY_LINE_H
#define REPLAY_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of somebody else's text; not terminated. */
struct span {
	const char *text;
	size_t length;
};

enum line_shape {
	LINE_CALL,       /* name(text, complete with its result */
	LINE_UNFINISHED, /* name(text, cut off before " <unfinished ...>" */
	LINE_RESUMED,    /* <... name resumed>text */
	LINE_LEFT,       /* either of the two: strace let go of the process in the call */
	LINE_SIGNAL,     /* --- SIGCHLD {...} --- */
	LINE_EXIT,       /* +++ exited with 0 +++, +++ killed by SIGKILL +++ */
	LINE_SUPERSEDED, /* +++ superseded by execve in pid OTHER +++ */
};

struct line {
	enum line_shape shape;
	uint32_t pid; /* 0: the line names none */
	uint32_t
		other; /* SUPERSEDED: who took over; UNFINISHED, again: the pid that is resumed, or 0 */
	bool resumed;     /* LEFT: of the second kind */
	bool again;       /* RESUMED: and cut once more */
	struct span name; /* CALL, UNFINISHED, RESUMED, LEFT */
	struct span text; /* CALL, UNFINISHED: what follows "name("; RESUMED: what follows ">" */
};

/* Take `text` (no newline, not blank) apart. On false, *reason (static) says what is wrong. */
bool line_split(struct span text, struct line *out, const char **reason);
/* Does `text` begin with the pid of a process of several, "[pid"? */
bool line_names_pid(struct span text);

/* Does `text` begin with, equal, the string `word`? */
bool span_begins(struct span text, const char *word);
bool span_is(struct span text, const char *word);
bool span_equal(struct span a, struct span b);
/* `text` without its first `count` bytes. */
struct span span_after(struct span text, size_t count);
/* `text` without blanks at both ends. */
struct span span_trim(struct span text);
bool span_ends(struct span text, const char *word);
/* Where `word` first stands in `text`; SIZE_MAX: nowhere. */
size_t span_find(struct span text, const char *word);
/* Read a decimal number below 2^32 at the front of *text. */
bool span_take_number(struct span *text, uint32_t *out);
/* The same for a pid, with the program's name behind it (strace -Y). */
bool span_take_pid(struct span *text, uint32_t *out);

#endif
