/* SPDX-License-Identifier: MIT */
#include "line.h"

#include <string.h>

/* Linux never gives out a greater one (PID_MAX_LIMIT is 2^22): a greater number
 * at the start of a line is a time stamp in seconds. */
#define PID_MOST 4194304

static const char unfinished[] = "<unfinished ...>";

bool span_begins(struct span text, const char *word)
{
	size_t length = strlen(word);

	return text.length >= length && !memcmp(text.text, word, length);
}

bool span_is(struct span text, const char *word)
{
	return text.length == strlen(word) && span_begins(text, word);
}

struct span span_after(struct span text, size_t count)
{
	return (struct span){text.text + count, text.length - count};
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

static bool ends_with(struct span text, const char *word)
{
	size_t length = strlen(word);

	return text.length >= length && !memcmp(text.text + text.length - length, word, length);
}

/* Read a decimal number below 2^32 at the front of *text. */
static bool take_number(struct span *text, uint32_t *out)
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

/* "[pid  123] ", "[00007f12a4e3c2a7] " (-i), "[   9] " (-n). */
static bool take_bracket(struct span *text, struct line *out)
{
	const char *close = memchr(text->text, ']', text->length);
	struct span inside;

	if (!close)
		return false;
	inside = (struct span){text->text + 1, (size_t)(close - text->text) - 1};
	*text = skip_blanks(span_after(*text, inside.length + 2));
	if (!span_begins(inside, "pid "))
		return true;
	inside = skip_blanks(span_after(inside, 4));
	return take_number(&inside, &out->pid) && !inside.length && out->pid;
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

		word.length = 0;
		while (word.length < text->length && !is_blank(text->text[word.length])) {
			char c = text->text[word.length++];

			if (c == '.' || c == ':')
				stamp = true;
			else if (!is_digit(c))
				return false;
		}
		*text = skip_blanks(span_after(*text, word.length));
		if (!stamp && !out->pid && !take_number(&word, &out->pid))
			return false;
		if (out->pid > PID_MOST)
			out->pid = 0;
	}
}

static bool split_end(struct span text, struct line *out, const char **reason)
{
	static const char superseded[] = "+++ superseded by execve in pid ";

	if (!ends_with(text, " +++")) {
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
		if (take_number(&rest, &out->other) && span_is(rest, " +++"))
			return true;
	}
	*reason = "an end (+++) of an unknown kind";
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
	out->text = span_after(text, strlen(" resumed>"));
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
	if (ends_with(text, unfinished)) {
		out->shape = LINE_UNFINISHED;
		out->text.length -= strlen(unfinished);
		out->text = span_trim(out->text);
	}
	return true;
}

bool line_split(struct span text, struct line *out, const char **reason)
{
	struct span rest;

	*out = (struct line){.shape = LINE_NOTHING};
	for (size_t i = 0; i < text.length; i++) {
		unsigned char c = (unsigned char)text.text[i];

		/* strace escapes what it prints of strings: this is no such file. */
		if ((c < ' ' && c != '\t') || c == 0x7f) {
			*reason = "a control character";
			return false;
		}
	}
	text = span_trim(text);
	if (!text.length || span_begins(text, "strace: ") || span_begins(text, "> ") ||
	    span_begins(text, "[ Process PID="))
		return true;

	rest = text;
	if (!take_prefix(&rest, out)) {
		*reason = "the line begins with neither a pid nor a time nor a call";
		return false;
	}
	if (span_begins(rest, "+++ "))
		return split_end(rest, out, reason);
	if (span_begins(rest, "--- ")) {
		out->shape = LINE_SIGNAL;
		if (rest.length > 7 && ends_with(rest, " ---"))
			return true;
		*reason = "a line that begins with --- does not end with it";
		return false;
	}
	if (span_begins(rest, "<... "))
		return split_resumed(rest, out, reason);
	return split_call(rest, out, reason);
}
