/* SPDX-License-Identifier: MIT */
#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "array.h"

static struct span without_returns(struct span line)
{
	while (line.length && line.text[line.length - 1] == '\r')
		line.length--;
	return line;
}

/* How much of the line is the sign of a quotation: "> ", with blanks before it, but not those of a stack
 * frame (-k). */
static size_t quote_length(struct span line)
{
	size_t at = 0;

	while (at < line.length && (line.text[at] == ' ' || line.text[at] == '\t'))
		at++;
	if (at == line.length || line.text[at] != '>' ||
	    (at && span_find(line, " [0x") != SIZE_MAX))
		return 0;
	at++;
	return at + (at < line.length && line.text[at] == ' ');
}

static struct span without_quotes(struct span line)
{
	size_t length;

	while ((length = quote_length(line)))
		line = span_after(line, length);
	return line;
}

/* The line at the front of *rest, which goes on behind it. */
static struct span take_line(struct span *rest, bool *ended)
{
	const char *newline = memchr(rest->text, '\n', rest->length);
	struct span line = {rest->text, newline ? (size_t)(newline - rest->text) : rest->length};

	*ended = newline != NULL;
	*rest = span_after(*rest, line.length + *ended);
	return without_returns(line);
}

/* Is it a quotation, with answers between perhaps? One '>' at a margin is none: a line of strace's may
 * go on there. */
static bool is_quoted(struct span text)
{
	size_t lines = 0, quoted = 0;
	bool ended;

	while (text.length) {
		struct span line = take_line(&text, &ended);

		lines += line.length > 0;
		quoted += quote_length(line) > 0;
	}
	return quoted < 3 ? quoted * 2 > lines : quoted * 5 >= lines;
}

void text_open(struct text *text, const char *bytes, size_t length)
{
	struct span rest = {bytes, length};
	bool quoted, ended;

	*text = (struct text){.bytes = array_zeroed(length + 1, 1)};
	if (span_begins(rest, "\xef\xbb\xbf"))
		rest = span_after(rest, 3);
	quoted = is_quoted(rest);
	while (rest.length) {
		struct span line = take_line(&rest, &ended);

		if (quoted)
			line = without_quotes(line);
		memcpy(text->bytes + text->length, line.text, line.length);
		text->length += line.length;
		if (ended)
			text->bytes[text->length++] = '\n';
	}
}

bool text_next(struct text *text, struct span *line)
{
	const char *from = text->bytes + text->at, *newline;

	if (text->at == text->length)
		return false;
	/* Counted where it begins: the rest of a line is no further one. */
	if (!text->at || from[-1] == '\n')
		text->number++;
	newline = memchr(from, '\n', text->length - text->at);
	line->text = from;
	line->length = newline ? (size_t)(newline - from) : text->length - text->at;
	text->at += line->length + (newline != NULL);
	return true;
}

void text_skip(struct text *text, size_t at)
{
	/* Whole lines that are passed over count; the one that `at` is in as well,
	 * unless text_next() will count it. */
	for (; text->at < at; text->at++) {
		if (!text->at || text->bytes[text->at - 1] == '\n')
			text->number++;
	}
	text->at = at;
}

void text_close(struct text *text)
{
	free(text->bytes);
	*text = (struct text){.bytes = NULL};
}
