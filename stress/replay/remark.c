/* SPDX-License-Identifier: MIT */
/*
 * Wordings of strace 4.5 to 6.12. Those that may stand in the middle of a line are
 * known to the last word, for there they must not be taken for what a program's strings
 * say; "strace: " with anything behind it is one wherever no string is open.
 */
#include "remark.h"

#include <string.h>

#include "trace.h"

static bool take_word(struct span *text, const char *word)
{
	if (!span_begins(*text, word))
		return false;
	*text = span_after(*text, strlen(word));
	return true;
}

/* What follows the verb: nothing, or one of the additions that there have been. */
static bool is_addition(struct span text)
{
	static const char *const whole[] = {
		"",
		" (waiting for parent)",
		" - interrupt to quit",
		" in 32-bit mode",
		" in 64-bit mode",
	};
	uint32_t number;

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		if (span_is(text, whole[i]))
			return true;
	}
	if (take_word(&text, " with "))
		return span_take_pid(&text, &number) &&
		       (take_word(&text, " threads") || take_word(&text, " thread")) &&
		       (!text.length || span_is(text, " - interrupt to quit"));
	if (take_word(&text, " (parent "))
		return span_take_pid(&text, &number) && span_is(text, " ready)");
	return false;
}

/* "Process 9 attached" and its like. */
static bool is_process(struct span text, struct remark *out)
{
	static const struct {
		const char *word;
		enum remark_kind kind;
	} verbs[] = {
		{" attached", REMARK_ATTACHED}, {" detached", REMARK_DETACHED},
		{" resumed", REMARK_OTHER},     {" suspended", REMARK_OTHER},
		{" stopped", REMARK_OTHER},     {" continued", REMARK_OTHER},
		{" exited", REMARK_DETACHED},   {" terminated", REMARK_DETACHED},
	};

	if (!take_word(&text, "Process ") || !span_take_pid(&text, &out->pid))
		return false;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		struct span rest = text;

		if (take_word(&rest, verbs[i].word) && is_addition(rest)) {
			out->kind = verbs[i].kind;
			return true;
		}
	}
	return false;
}

/* "[ Process PID=9 runs in 32 bit mode. ]" */
static bool is_mode(struct span text)
{
	uint32_t pid;

	return take_word(&text, "[ Process PID=") && span_take_pid(&text, &pid) &&
	       take_word(&text, " runs in ") && span_ends(text, " mode. ]");
}

/* Is a string open at the end of `text`? */
static bool in_string(struct span text)
{
	bool open = false;

	for (size_t i = 0; i < text.length; i++) {
		if (text.text[i] == '\\' && open)
			i++;
		else if (text.text[i] == '"')
			open = !open;
	}
	return open;
}

/* Where "strace: " at `at` begins: at the path that it was called by, if there is one. */
static size_t name_start(struct span line, size_t at)
{
	static const char of_path[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-+./";
	size_t start = at;

	if (!at || line.text[at - 1] != '/')
		return at;
	while (at && memchr(of_path, line.text[at - 1], sizeof(of_path) - 1)) {
		if (line.text[--at] == '/')
			start = at;
	}
	/* The end of a comment is none of it. */
	return start && line.text[start - 1] == '*' ? start + 1 : start;
}

static const char *const titles[] = {
	"%",      "time",    "seconds", "usecs/call", "shortest", "longest", "calls",
	"errors", "syscall", "min",     "max",        "avg",      "total",
};

static bool next_word(struct span *text, struct span *word)
{
	*text = span_trim(*text);
	word->text = text->text;
	word->length = 0;
	while (word->length < text->length && text->text[word->length] != ' ' &&
	       text->text[word->length] != '\t')
		word->length++;
	*text = span_after(*text, word->length);
	return word->length > 0;
}

/* The titles of a table, with at least those of two columns. */
static bool is_titles(struct span text)
{
	struct span word;
	int count = 0;
	bool known = true;

	while (known && next_word(&text, &word)) {
		known = false;
		for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
			known = known || span_is(word, titles[i]);
		count += known && !span_is(word, "%");
	}
	return known && count >= 2;
}

static bool find_table(struct span line, struct remark *out)
{
	static const char head[] = "% time ";
	size_t at = span_find(line, head);

	*out = (struct remark){.kind = REMARK_TABLE, .start = at};
	if (at != SIZE_MAX && is_titles(span_after(line, at)))
		return true;
	/* -U: another column is the first. */
	out->start = 0;
	return span_begins(span_trim(line), "System call usage summary for ") || is_titles(line);
}

bool remark_find(struct span line, struct remark *out)
{
	static const char name[] = "strace: ";
	struct span all = line;

	line = span_trim(line);
	*out = (struct remark){.kind = REMARK_OTHER};
	if (span_find(line, "rocess ") == SIZE_MAX && span_find(line, name) == SIZE_MAX)
		return find_table(all, out);
	for (size_t i = 0; i < line.length; i++) {
		struct span rest = span_after(line, i);

		if (*rest.text != 's' && *rest.text != 'P' && *rest.text != '[')
			continue;
		out->start = (size_t)(rest.text - all.text);
		if (take_word(&rest, name)) {
			out->start = (size_t)(line.text + name_start(line, i) - all.text);
			/* Not what has run into a call, which must not be lost with it. */
			if (is_process(rest, out) || is_mode(rest) ||
			    (!in_string((struct span){all.text, out->start}) &&
			     !call_may_be_in(rest)))
				return true;
		} else if (is_process(rest, out) || is_mode(rest)) {
			return true;
		}
	}
	return find_table(all, out);
}

/* "/usr/lib/libc.so.6(__mmap+0x26) [0x11aa26]", perhaps with a place in the source behind. */
static bool is_frame(struct span text)
{
	size_t address;
	bool marked = take_word(&text, "> ");

	address = span_find(text, " [0x");
	if (address == SIZE_MAX)
		return marked && !call_may_be_in(text);
	return (marked || *text.text == '/' || *text.text == '[') &&
	       memchr(text.text + address, ']', text.length - address) &&
	       !call_may_be_in(span_after(text, address));
}

/* " | 00000  68 69 0a   hi.  |", " * 3 bytes in buffer 0" */
static bool is_dump(struct span text)
{
	uint32_t number;

	if (take_word(&text, "* "))
		return span_take_number(&text, &number) && take_word(&text, " bytes in buffer ") &&
		       span_take_number(&text, &number) && !text.length;
	if (!take_word(&text, "| ") || !span_ends(text, "|") || text.length < 5)
		return false;
	for (size_t i = 0; i < 5; i++) {
		if (!memchr("0123456789abcdef", text.text[i], 16))
			return false;
	}
	return true;
}

/* Consists `word` of characters of `set` alone? */
static bool is_of(struct span word, const char *set)
{
	for (size_t i = 0; i < word.length; i++) {
		if (!memchr(set, word.text[i], strlen(set)))
			return false;
	}
	return true;
}

/*
 * What may be left out behind the result of a call, and stand in a line of its own because a
 * mailer has put it there: "ENOMEM (Cannot allocate memory)", "<0.000012>".
 */
static bool is_rest(struct span text)
{
	struct span word;

	if (span_begins(text, "<") && span_ends(text, ">") && text.length > 2 &&
	    is_of((struct span){text.text + 1, text.length - 2}, "0123456789."))
		return true;
	if (span_begins(text, "E")) {
		next_word(&text, &word);
		if (!is_of(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
			return false;
		text = span_trim(text);
	}
	/* Of "(INJECTED)" the call must know. */
	return span_begins(text, "(") && !span_begins(text, "(INJECTED") && text.length > 2 &&
	       text.text[1] >= 'A' && text.text[1] <= 'Z' &&
	       (span_ends(text, ")") || span_ends(text, ">"));
}

/*
 * "Script started on 2026-11-29 12:40:49+00:00 [COMMAND="munmap(" TERM="xterm"]": whatever the command. What has run
 * into the line stands before the bracket or behind it.
 */
static bool is_script_head(struct span text)
{
	size_t open = span_find(text, " [");

	return open != SIZE_MAX && span_ends(text, "]") &&
	       (span_begins(text, "Script started on ") || span_begins(text, "Script done on ")) &&
	       !call_may_be_in((struct span){text.text, open});
}

bool remark_is_line(struct span line)
{
	/* What else may stand in a terminal's recording, to the letter or at the beginning. */
	static const char *const words[] = {
		"Killed",
		"Terminated",
		"Hangup",
		"Aborted",
		"Segmentation fault",
		"Bus error",
		"Quit",
		"Illegal instruction",
		"Trace/breakpoint trap",
		"Alarm clock",
		"Interrupt",
		"Broken pipe",
		"Floating point exception",
		"User defined signal 1",
		"User defined signal 2",
	};
	static const char *const beginnings[] = {
		"Script started on ",
		"Script done on ",
		"Script started, ",
		"Script done",
		"upeek: ",
		"umoven: ",
		"umovestr: ",
		"ptrace: ",
		"detach: ",
		"attach: ",
		"PANIC: ",
		"Exit of unknown pid ",
		"Detached unknown pid ",
	};
	struct span text = span_trim(line);

	if (!text.length || is_frame(text) || is_dump(text) || is_script_head(text))
		return true;
	/* None of the others hides a call. */
	if (call_may_be_in(text))
		return false;
	if (is_rest(text))
		return true;
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
		if (span_begins(text, beginnings[i]))
			return true;
	}
	if (span_ends(text, " (core dumped)"))
		text.length -= strlen(" (core dumped)");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (span_is(text, words[i]))
			return true;
	}
	return false;
}

bool remark_is_row(struct span line, bool *last)
{
	struct span word;
	int figures = 0, names = 0;

	*last = false;
	if (is_titles(line))
		return true;
	while (next_word(&line, &word)) {
		if (is_of(word, "0123456789.,-"))
			figures++;
		else if (names++ || !is_of(word, "abcdefghijklmnopqrstuvwxyz_0123456789?"))
			return false;
		if (span_is(word, "total"))
			*last = true;
	}
	return !names || figures;
}
