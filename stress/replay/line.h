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
	LINE_NOTHING,    /* blank, a stack frame of -k, a remark of strace's own */
	LINE_CALL,       /* name(text, complete with its result */
	LINE_UNFINISHED, /* name(text, cut off before " <unfinished ...>" */
	LINE_RESUMED,    /* <... name resumed>text */
	LINE_SIGNAL,     /* --- SIGCHLD {...} --- */
	LINE_EXIT,       /* +++ exited with 0 +++, +++ killed by SIGKILL +++ */
	LINE_SUPERSEDED, /* +++ superseded by execve in pid OTHER +++ */
};

struct line {
	enum line_shape shape;
	uint32_t pid;     /* 0: the line names none */
	uint32_t other;   /* SUPERSEDED: who took over */
	struct span name; /* CALL, UNFINISHED, RESUMED */
	struct span text; /* CALL, UNFINISHED: what follows "name("; RESUMED: what follows ">" */
};

/* Take `text` (no newline) apart. On false, *reason (static) says what is wrong. */
bool line_split(struct span text, struct line *out, const char **reason);

/* Does `text` begin with, equal, the string `word`? */
bool span_begins(struct span text, const char *word);
bool span_is(struct span text, const char *word);
/* `text` without its first `count` bytes. */
struct span span_after(struct span text, size_t count);
/* `text` without blanks at both ends. */
struct span span_trim(struct span text);

#endif
