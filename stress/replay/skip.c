/* SPDX-License-Identifier: MIT */
/*
 * Lines that are not strace's, or not as strace writes them (--lenient).
 */
#include "parser.h"

#include <stdio.h>
#include <string.h>

#include "array.h"

enum {
	RECOVERED_MOST = 8, /* places in a line at which to look for a call */
	NAME_MOST = 24,     /* bytes of a call's name */
};

/* Reasons are one if they differ in what they quote and count only. */
static bool same_reason(const char *a, const char *b)
{
	size_t i = 0;

	while (a[i] && a[i] == b[i] && a[i] != '\'' && (a[i] < '0' || a[i] > '9'))
		i++;
	return a[i] == b[i] || (a[i] >= '0' && a[i] <= '9' && b[i] >= '0' && b[i] <= '9');
}

static void note_skipped(struct parser *p, struct span text, const struct trace_error *error)
{
	struct trace *trace = p->trace;
	struct trace_skipped new = {.count = 1, .line = error->line};
	size_t count = 0;

	trace->skipped_lines++;
	for (size_t i = 0; i < trace->skipped_count; i++) {
		if (same_reason(trace->skipped[i].reason, error->reason)) {
			trace->skipped[i].count++;
			return;
		}
	}
	snprintf(new.reason, sizeof(new.reason), "%s", error->reason);
	text = span_trim(text);
	for (; count < text.length && count + 1 < sizeof(new.text); count++) {
		char c = text.text[count];

		new.text[count] = (char)(c < ' ' || c > '~' ? '?' : c);
	}
	ARRAY_PUSH(trace->skipped, new);
}

/* What a program printed without ending its line is followed by a line of strace's; *before is the first. */
static bool recover(struct parser *p, struct span line, struct span *before)
{
	static const char *const beginnings[] = {"[pid ", "+++ ", "--- ", "<... "};
	int tries = 0;

	for (size_t at = 1; at < line.length && tries < RECOVERED_MOST; at++) {
		struct span rest = span_after(line, at), name = {rest.text, 0};
		bool begins = false;

		for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
			begins = begins || span_begins(rest, beginnings[i]);
		while (name.length < rest.length && name.length < NAME_MOST &&
		       rest.text[name.length] != '(')
			name.length++;
		/* Behind a blank it is more likely to be quoted. */
		begins = begins ||
			 (!memchr(" _\t\"", line.text[at - 1], 4) && name.length < rest.length &&
			  rest.text[name.length] == '(' && call_kind(name) != TRACE_OTHER);
		if (!begins)
			continue;
		tries++;
		*before = (struct span){line.text, at};
		if (take_line(p, rest))
			return true;
	}
	return false;
}

/* The call of which a line is skipped is not to be waited for, nor in the way of the next. */
static void abandon(struct parser *p, struct span text)
{
	struct reader_thread *thread;
	struct line line;
	const char *reason;

	if (!line_split(text, &line, &reason))
		return;
	if (line.shape == LINE_RESUMED) {
		thread = thread_of_resumed(p, &line);
		if (thread->pending && span_equal(thread->name, line.name))
			thread->pending = false;
	} else if (line.shape == LINE_UNFINISHED) {
		drop_pending(p, thread_of(p, line.pid));
		take_unfinished(p, &line);
	}
}

void skip_line(struct parser *p, struct span line, struct trace_error error)
{
	struct trace_error printed = {.line = error.line,
				      .reason = "the program's output before a line of strace's"};

	struct span lost;
	bool recovered = recover(p, line, &lost);

	if (!recovered)
		lost = line;
	note_skipped(p, line, recovered ? &printed : &error);
	if (call_is_named_in(lost) && !p->trace->skipped_memory++)
		p->trace->skipped_first = error.line;
	if (!recovered)
		abandon(p, line);
}
