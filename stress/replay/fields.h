/* SPDX-License-Identifier: MIT */
/*
 * What a call's text consists of: arguments, numbers, flags, the result. All of these answer false where
 * the text is wrong, and then `reason` says how.
 */
#ifndef REPLAY_FIELDS_H
#define REPLAY_FIELDS_H

#include "trace.h"

enum {
	ARGUMENTS_MOST = 7,
};

struct arguments {
	struct span at[ARGUMENTS_MOST];
	int count; /* of more, the last has the last one */
};

/* A name that may stand in a flags argument, the number that may stand in its place (-X raw, 0: none
 * that matters), in Linux's numbering, and what it means here (mostly nothing). */
struct flag_name {
	const char *name;
	unsigned long number;
	unsigned bit;
};

/* Set the reason; answers false. */
bool field_fail(char reason[200], const char *format, ...) __attribute__((format(printf, 2, 3)));
/* For "%.*s": as much of a span as a message has room for. */
int field_shown(struct span span);
/* Is `c` of a name? */
bool field_is_word(char c);

/* Cut the arguments apart, up to the closing parenthesis; *rest is what follows it. */
bool fields_split(struct span text, struct arguments *out, struct span *rest, char reason[200]);
/* Read a decimal or hexadecimal number (or NULL) at the front of *text. */
bool field_take_value(struct span *text, uint64_t *out);
/* A whole argument that is a number, with a comment at most behind it. */
bool field_number(struct span text, const char *what, uint64_t *out, char reason[200]);
/* A whole argument of flags. `names` ends with an empty one. */
bool field_flags(struct span text, const struct flag_name *names, const char *what, unsigned *out,
		 char reason[200]);
/* The front of *text, up to the next '|' or the end of the argument, with a comment behind it; false:
 * nothing is left. */
bool field_next_flag(struct span *text, struct span *word);
/* Is `word` a number, or one of the names? */
bool field_flag(struct span word, const struct flag_name *names, unsigned *out);
/* What follows the arguments: "= 0x7f...", "= -1 ENOMEM (...)", "= ?", "= 9<prog>". Sets end, result and,
 * if it was injected, why. */
bool field_result(struct span text, struct trace_call *call, char reason[200]);

/* Can the call `name` have begun with `text`, all of its arguments, and succeed? True as well where that is
 * not known. */
bool call_may_go_on(struct span name, struct span text, uint64_t page);
/* Are the arguments of a call about memory at their end in `text`, so that it cannot be cut behind that? */
bool call_is_closed(struct span name, struct span text);
/* Is `text`, which follows "NAME(", all of a call, with a result and nothing behind that but what strace prints there? */
bool call_is_whole(struct span text);
/* Is `text`, which follows the arguments of a call that failed, cut in the error's text: "= -1 ENOENT (No such"? */
bool field_is_open(struct span text);
/* Does a call about memory begin in `text`, outside of strings, comments and paths? */
bool field_has_call(struct span text);
/* Is there a flag in it that only calls about memory have? */
bool field_has_flag(struct span text);

/* Does `text` begin with the name of a call about memory, and go on as calls do? */
bool call_begins(struct span text);
/* Is `name` another call's, with something in front of it that is none: "hellommap"? */
bool call_runs_on(struct span name);

#endif
