/* SPDX-License-Identifier: MIT */
#include "fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool field_fail(char reason[200], const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(reason, 200, format, list);
	va_end(list);
	return false;
}

int field_shown(struct span span)
{
	return span.length > 40 ? 40 : (int)span.length;
}

bool field_is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

/* Can `text`, which follows a '>', follow a path? */
static bool follows_path(struct span text)
{
	return !text.length || memchr(",)}]> (|=\t", *text.text, 10) != NULL;
}

/*
 * The path that -y prints behind a descriptor, "<...>" and what may be behind it: "</dev/tty<char
 * 5:0>>", "<TCP:[a:1->b:2]>", "</a->b>" (an old strace does not escape its brackets),
 * "</a->". 0: it is none; SIZE_MAX: it does not end.
 */
static size_t path_end(struct span text, bool plain)
{
	int depth = 0, brackets = 0;

	for (size_t at = 0; at < text.length; at++) {
		char c = text.text[at];

		if (span_begins(span_after(text, at), "<... "))
			return SIZE_MAX; /* of another line */
		if (c == '<')
			depth++;
		else if (c == '[' && !plain)
			brackets++;
		else if (c == ']' && brackets)
			brackets--;
		else if (c == '>' && !brackets && follows_path(span_after(text, at + 1)) &&
			 (--depth <= 0 || plain))
			return at + 1;
	}
	return SIZE_MAX;
}

static size_t path_length(struct span text, char before)
{
	size_t length;

	if (!field_is_word(before) || text.length < 2 || text.text[1] == '<')
		return 0;
	length = path_end(text, text.text[1] == '/');
	return length != SIZE_MAX ? length : path_end(text, true);
}

/* The length of what must not be looked into at `text`: a string, a comment, the
 * path that -y prints behind a file descriptor; 0 for anything else; SIZE_MAX
 * where it does not end. */
static size_t opaque_length(struct span text, char before)
{
	size_t at = 1;

	switch (text.text[0]) {
	case '"':
		while (at < text.length && text.text[at] != '"')
			at += text.text[at] == '\\' ? 2 : 1;
		return at < text.length ? at + 1 : SIZE_MAX;
	case '/':
		if (text.length < 4 || text.text[1] != '*')
			return 0;
		for (at = 3; at < text.length; at++) {
			if (text.text[at - 1] == '*' && text.text[at] == '/')
				return at + 1;
		}
		return SIZE_MAX;
	case '<':
		return path_length(text, before);
	default:
		return 0;
	}
}

bool fields_split(struct span text, struct arguments *out, struct span *rest, char reason[200])
{
	size_t from = 0, at = 0;
	int depth = 0;

	out->count = 0;
	while (at < text.length) {
		char c = text.text[at];
		size_t skip = opaque_length(span_after(text, at), at ? text.text[at - 1] : ' ');

		if (skip == SIZE_MAX)
			return field_fail(reason,
					  "a string or comment among the arguments has no end");
		if (skip) {
			at += skip;
			continue;
		}
		if (depth == 0 && (c == ',' || c == ')')) {
			struct span argument =
				span_trim((struct span){text.text + from, at - from});

			if (argument.length || c == ',' || out->count) {
				/* The last place collects what is too many. */
				if (out->count < ARGUMENTS_MOST)
					out->count++;
				out->at[out->count - 1] = argument;
			}
			from = at + 1;
			if (c == ')') {
				*rest = span_after(text, from);
				return true;
			}
		} else if (c == '(' || c == '[' || c == '{') {
			depth++;
		} else if (c == ')' || c == ']' || c == '}') {
			if (--depth < 0)
				return field_fail(reason, "'%c' closes nothing among the arguments",
						  c);
		}
		at++;
	}
	return field_fail(reason, "the arguments have no end");
}

bool field_take_value(struct span *text, uint64_t *out)
{
	unsigned base = 10;
	size_t at = 0, digits = 0;
	uint64_t value = 0;

	if (span_begins(*text, "NULL")) {
		*text = span_after(*text, 4);
		*out = 0;
		return true;
	}
	if (span_begins(*text, "0x")) {
		base = 16;
		at = 2;
	}
	for (; at < text->length; at++, digits++) {
		char c = text->text[at];
		unsigned digit;

		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f')
			digit = (unsigned)(c - 'a') + 10;
		else if (c >= 'A' && c <= 'F')
			digit = (unsigned)(c - 'A') + 10;
		else
			break;
		if (digit >= base)
			break;
		if (value > (UINT64_MAX - digit) / base)
			return false;
		value = value * base + digit;
	}
	*text = span_after(*text, at);
	*out = value;
	return digits > 0;
}

bool field_number(struct span text, const char *what, uint64_t *out, char reason[200])
{
	struct span rest = text;

	if (field_take_value(&rest, out)) {
		rest = span_trim(rest);
		if (!rest.length || span_begins(rest, "/*"))
			return true;
	}
	return field_fail(reason, "%s is no number: '%.*s'", what, field_shown(text), text.text);
}

bool field_next_flag(struct span *text, struct span *word)
{
	*text = span_trim(*text);
	word->text = text->text;
	word->length = 0;
	if (!text->length)
		return false;
	while (word->length < text->length && !memchr("|,}) ", text->text[word->length], 5) &&
	       !span_begins(span_after(*text, word->length), "/*"))
		word->length++;
	*text = span_trim(span_after(*text, word->length));
	/* Behind a number, or flags that strace cannot name. */
	if (span_begins(*text, "/*")) {
		size_t end = span_find(*text, "*/");

		*text = end == SIZE_MAX ? span_after(*text, text->length)
					: span_trim(span_after(*text, end + 2));
	}
	return true;
}

bool field_flag(struct span word, const struct flag_name *names, unsigned *out)
{
	uint64_t number;
	struct span rest = word;

	if (field_take_value(&rest, &number)) {
		/* "21<<MAP_HUGE_SHIFT" is a page size. */
		if (rest.length)
			return span_is(rest, "<<MAP_HUGE_SHIFT");
		for (; names->name; names++) {
			if (number & names->number)
				*out |= names->bit;
		}
		return true;
	}
	for (; names->name; names++) {
		if (span_is(word, names->name)) {
			*out |= names->bit;
			return true;
		}
	}
	return false;
}

bool field_flags(struct span text, const struct flag_name *names, const char *what, unsigned *out,
		 char reason[200])
{
	struct span word;

	*out = 0;
	for (;;) {
		field_next_flag(&text, &word);
		if (!field_flag(word, names, out))
			return field_fail(reason, "unknown %s '%.*s'", what, field_shown(word),
					  word.text);
		if (!text.length)
			return true;
		if (!span_begins(text, "|"))
			return field_fail(reason, "unknown %s '%.*s'", what, field_shown(text),
					  text.text);
		text = span_after(text, 1);
	}
}

/* "(INJECTED)": the kernel was not asked; "(INJECTED: args)": it was. */
static bool was_injected(struct span text)
{
	return span_find(text, " (INJECTED)") != SIZE_MAX ||
	       span_find(text, " (INJECTED: args, retval)") != SIZE_MAX;
}

/* The length of a piece of what may follow a result: "ENOMEM", "(Cannot allocate memory)", a
 * comment, "<prog>", "<0.000012>". 0: it is none, or has no end. */
static size_t piece_length(struct span text)
{
	size_t at = 0;

	if (*text.text == 'E') {
		while (at < text.length && ((text.text[at] >= 'A' && text.text[at] <= 'Z') ||
					    (text.text[at] >= '0' && text.text[at] <= '9')))
			at++;
	} else if (*text.text == '(') {
		int depth = 0;

		do {
			depth += text.text[at] == '(';
			depth -= text.text[at] == ')';
		} while (++at < text.length && depth);
		if (depth)
			return 0;
	} else if (*text.text == '/') {
		at = opaque_length(text, ' ');
	} else if (*text.text == '<') {
		at = path_end(text, true);
	}
	return at && at <= text.length && (at == text.length || text.text[at] == ' ') ? at : 0;
}

static bool is_tail(struct span text)
{
	for (text = span_trim(text); text.length; text = span_trim(text)) {
		size_t length = piece_length(text);

		if (!length)
			return false;
		text = span_after(text, length);
	}
	return true;
}

bool field_result(struct span rest, struct trace_call *call, char reason[200])
{
	struct span text = span_trim(rest);
	bool negative = false;
	size_t at;

	if (!text.length || *text.text != '=')
		return field_fail(reason, "no result after the call");
	text = span_trim(span_after(text, 1));
	if (text.length && *text.text == '?') {
		call->end = TRACE_UNKNOWN;
		return true;
	}
	if (text.length && *text.text == '-') {
		negative = true;
		text = span_after(text, 1);
	}
	rest = text;
	if (!field_take_value(&text, &call->result) ||
	    (text.length && *text.text != ' ' && *text.text != '\t' && *text.text != '<'))
		return field_fail(reason, "the result is no number: '%.*s'", field_shown(rest),
				  rest.text);
	/* Of others it may be anything. */
	if (call->kind != TRACE_OTHER && !is_tail(text))
		return field_fail(reason, "something behind the result: '%.*s'", field_shown(text),
				  text.text);
	call->end = negative ? TRACE_FAILED : TRACE_DONE;
	if (!negative && was_injected(text))
		call->why = WHY_INJECTED;
	/* Then a comment gives the number that the process has in the lines. */
	at = span_find(text, " in strace's PID NS");
	if (at != SIZE_MAX && call->kind == TRACE_CLONE) {
		struct span comment = {text.text, at};
		size_t open = span_find(comment, "/* ");

		if (open != SIZE_MAX) {
			comment = span_after(comment, open + 3);
			field_take_value(&comment, &call->result);
		}
	}
	return true;
}

bool field_is_open(struct span text)
{
	struct span word = span_trim(span_after(span_trim(text), 1));
	size_t open = span_find(word, " (");

	return (span_begins(word, "-1 E") || span_begins(word, "? E")) && open != SIZE_MAX &&
	       span_find(span_after(word, open), ")") == SIZE_MAX;
}

/* Does anything that begins as `begins` says begin a word in `text`, outside of strings, comments and paths? */
static bool has_word(struct span text, bool (*begins)(struct span))
{
	size_t at = 0;

	while (at < text.length) {
		char before = at ? text.text[at - 1] : ' ';
		struct span rest = span_after(text, at);
		size_t skip = opaque_length(rest, before);

		/* What has no end hides nothing. */
		if (skip == SIZE_MAX)
			skip = 0;
		if (!skip && !field_is_word(before) && begins(rest))
			return true;
		at += skip ? skip : 1;
	}
	return false;
}

static bool flag_begins(struct span text)
{
	return span_begins(text, "PROT_") || span_begins(text, "MAP_") ||
	       span_begins(text, "MREMAP_") || span_begins(text, "MADV_");
}

bool field_has_call(struct span text)
{
	return has_word(text, call_begins);
}

bool field_has_flag(struct span text)
{
	return has_word(text, flag_begins);
}
