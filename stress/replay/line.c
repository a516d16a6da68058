/* SPDX-License-Identifier: MIT */
#include "line.h"

#include <string.h>

/* Linux never gives out a greater one (PID_MAX_LIMIT is 2^22): a greater number
 * at the start of a line is a time stamp in seconds. */
#define PID_MOST 4194304

static const char unfinished[] = "<unfinished ...>";

bool span_begins(struct span text, const char *word)
{
	size_t at = 0;

	/* Mostly the first character decides. */
	while (word[at] && at < text.length && text.text[at] == word[at])
		at++;
	return !word[at];
}

bool span_is(struct span text, const char *word)
{
	return span_begins(text, word) && text.length == strlen(word);
}

bool span_equal(struct span a, struct span b)
{
	return a.length == b.length && (!a.length || !memcmp(a.text, b.text, a.length));
}

struct span span_after(struct span text, size_t count)
{
	/* Of nothing there may be no address either. */
	return count ? (struct span){text.text + count, text.length - count} : text;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_name(char c)
{
	/* '?' because a call that strace came upon half way is "????". */
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '?';
}

static struct span skip_blanks(struct span text)
{
	while (text.length && is_blank(*text.text))
		text = span_after(text, 1);
	return text;
}

struct span span_trim(struct span text)
{
	text = skip_blanks(text);
	while (text.length && is_blank(text.text[text.length - 1]))
		text.length--;
	return text;
}

bool span_ends(struct span text, const char *word)
{
	size_t length = strlen(word);

	return text.length >= length && !memcmp(text.text + text.length - length, word, length);
}

size_t span_find(struct span text, const char *word)
{
	size_t length = strlen(word);

	for (size_t at = 0; at + length <= text.length; at++) {
		const char *found = memchr(text.text + at, *word, text.length - length - at + 1);

		if (!found)
			break;
		at = (size_t)(found - text.text);
		if (!memcmp(found, word, length))
			return at;
	}
	return SIZE_MAX;
}

bool span_take_number(struct span *text, uint32_t *out)
{
	uint64_t value = 0;
	size_t count = 0;

	while (count < text->length && is_digit(text->text[count])) {
		value = value * 10 + (uint64_t)(text->text[count] - '0');
		if (value > UINT32_MAX)
			return false;
		count++;
	}
	*text = span_after(*text, count);
	*out = (uint32_t)value;
	return count > 0;
}

/* The program's name: "<prog>", "<Web Content>", "<a>b>". What it ends with is followed by
 * a blank, a bracket or what else may follow a pid. */
static bool take_program(struct span *text)
{
	for (size_t i = 1; i < text->length; i++) {
		if (text->text[i] == '>' &&
		    (i + 1 == text->length || memchr(" ],)}", text->text[i + 1], 5))) {
			*text = span_after(*text, i + 1);
			return true;
		}
	}
	return false;
}

bool span_take_pid(struct span *text, uint32_t *out)
{
	return span_take_number(text, out) && (!span_begins(*text, "<") || take_program(text));
}

bool line_names_pid(struct span text)
{
	return span_begins(span_trim(text), "[pid ");
}

/* "[pid  123] ", "[pid 123<prog>] " (-Y), "[00007f12a4e3c2a7] " (-i), "[   9] " (-n). */
static bool take_bracket(struct span *text, struct line *out)
{
	const char *close;

	if (span_begins(*text, "[pid ")) {
		*text = skip_blanks(span_after(*text, 5));
		if (!span_take_pid(text, &out->pid) || !out->pid || !span_begins(*text, "]"))
			return false;
		*text = skip_blanks(span_after(*text, 1));
		return true;
	}
	close = memchr(text->text, ']', text->length);
	if (!close)
		return false;
	for (const char *at = text->text + 1; at < close; at++) {
		if (!memchr("0123456789abcdef? ", *at, 18))
			return false;
	}
	*text = skip_blanks(span_after(*text, (size_t)(close - text->text) + 1));
	return true;
}

/* "123<prog> " (-Y) */
static bool take_named_pid(struct span *text, struct line *out)
{
	struct span rest = *text;
	uint32_t pid;

	if (!span_take_number(&rest, &pid) || !span_begins(rest, "<") || !take_program(&rest))
		return false;
	out->pid = pid;
	*text = skip_blanks(rest);
	return true;
}

/*
 * What stands before the call: a pid, time stamps (-r, -t, -tt, -ttt, also two of
 * them) and brackets, in this order or another.
 */
static bool take_prefix(struct span *text, struct line *out)
{
	for (;;) {
		struct span word = *text;
		bool stamp = false;

		if (word.length && *word.text == '[') {
			if (!take_bracket(text, out))
				return false;
			continue;
		}
		if (span_begins(word, "(+")) {
			/* The relative stamp beside an absolute one. */
			const char *close = memchr(word.text, ')', word.length);

			if (!close)
				return false;
			*text = skip_blanks(span_after(word, (size_t)(close - word.text) + 1));
			continue;
		}
		if (!word.length || !is_digit(*word.text))
			return true;

		if (take_named_pid(text, out))
			continue;
		word.length = 0;
		while (word.length < text->length && !is_blank(text->text[word.length])) {
			char c = text->text[word.length++];

			if (c == '.' || c == ':')
				stamp = true;
			else if (!is_digit(c))
				return false;
		}
		*text = skip_blanks(span_after(*text, word.length));
		if (!stamp && !out->pid && !span_take_number(&word, &out->pid))
			return false;
		if (out->pid > PID_MOST)
			out->pid = 0;
	}
}

static bool split_end(struct span text, struct line *out, const char **reason)
{
	static const char superseded[] = "+++ superseded by execve in pid ";

	if (!span_ends(text, " +++")) {
		*reason = "a line that begins with +++ does not end with it";
		return false;
	}
	if (span_begins(text, "+++ exited with ") || span_begins(text, "+++ killed by ")) {
		out->shape = LINE_EXIT;
		return true;
	}
	if (span_begins(text, superseded)) {
		struct span rest = span_after(text, strlen(superseded));

		out->shape = LINE_SUPERSEDED;
		if (span_take_pid(&rest, &out->other) && span_is(rest, " +++"))
			return true;
	}
	*reason = "an end (+++) of an unknown kind";
	return false;
}

/* Take `mark` off the end of the line's text. */
static bool take_mark(struct line *out, const char *mark)
{
	if (!span_ends(out->text, mark))
		return false;
	out->text.length -= strlen(mark);
	out->text = span_trim(out->text);
	return true;
}

/* "<pid changed to 9 ...>": execve by a thread that is not the first. */
static bool take_pid_change(struct line *out)
{
	static const char mark[] = "<pid changed to ";
	size_t at = span_ends(out->text, " ...>") ? span_find(out->text, mark) : SIZE_MAX;
	struct span rest;

	if (at == SIZE_MAX)
		return false;
	rest = span_after(out->text, at + strlen(mark));
	if (!span_take_pid(&rest, &out->other) || !span_is(rest, " ...>"))
		return false;
	out->text = span_trim((struct span){out->text.text, at});
	return true;
}

/* Did strace lose the process within the call, or let it go? */
static bool was_left(struct span text)
{
	static const char *const marks[] = {"<detached ...>", "<ptrace(", "<Cannot restart pid "};

	if (!span_ends(text, ">"))
		return false;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		size_t at = span_find(text, marks[i]), last;

		if (at == SIZE_MAX)
			continue;
		/* Up to its end, and not in a string. */
		last = span_find(span_after(text, at), ">");
		if (at + last + 1 == text.length)
			return true;
	}
	return false;
}

static bool split_resumed(struct span text, struct line *out, const char **reason)
{
	size_t count = 0;

	text = span_after(text, strlen("<... "));
	while (count < text.length && (is_name(text.text[count]) || is_digit(text.text[count])))
		count++;
	out->name = (struct span){text.text, count};
	text = span_after(text, count);
	if (!count || !span_begins(text, " resumed>")) {
		*reason = "\"<...\" without \"NAME resumed>\"";
		return false;
	}
	out->shape = LINE_RESUMED;
	out->resumed = true;
	out->text = span_after(text, strlen(" resumed>"));
	out->again = take_mark(out, unfinished) || take_pid_change(out);
	if (!out->again && was_left(out->text))
		out->shape = LINE_LEFT;
	return true;
}

static bool split_call(struct span text, struct line *out, const char **reason)
{
	size_t count = 0;

	while (count < text.length &&
	       (is_name(text.text[count]) || (count && is_digit(text.text[count]))))
		count++;
	if (!count || count == text.length || text.text[count] != '(') {
		*reason = "neither a call, nor a signal, nor an end";
		return false;
	}
	out->name = (struct span){text.text, count};
	out->text = span_after(text, count + 1);
	out->shape = LINE_CALL;
	if (take_mark(out, unfinished) || take_pid_change(out))
		out->shape = LINE_UNFINISHED;
	else if (was_left(out->text))
		out->shape = LINE_LEFT;
	return true;
}

bool line_split(struct span text, struct line *out, const char **reason)
{
	struct span rest;

	*out = (struct line){.shape = LINE_CALL};
	text = span_trim(text);
	rest = text;
	if (!take_prefix(&rest, out)) {
		*reason = "the line begins with neither a pid nor a time nor a call";
		return false;
	}
	if (span_begins(rest, "+++ "))
		return split_end(rest, out, reason);
	if (span_begins(rest, "--- ")) {
		out->shape = LINE_SIGNAL;
		if (rest.length > 7 && span_ends(rest, " ---"))
			return true;
		*reason = "a line that begins with --- does not end with it";
		return false;
	}
	if (span_begins(rest, "<... "))
		return split_resumed(rest, out, reason);
	return split_call(rest, out, reason);
}
