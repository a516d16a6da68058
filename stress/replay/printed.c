/* SPDX-License-Identifier: MIT */
#include "printed.h"

#include <string.h>

enum {
	KNOWN_LEAST = 4, /* bytes that tell it from strace's own */
};

bool printed_call(struct span name)
{
	return span_is(name, "write") || span_is(name, "writev");
}

static int digit_of(char c, int base)
{
	int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;

	return value < base ? value : -1;
}

/* One character of a string in quotes, which may be an escape. */
static char take_escaped(struct span *text)
{
	static const char letters[] = "n\nt\tr\rv\vf\fa\ab\b";
	int base = 8, most = 3, value = 0;
	char c = *text->text;
	size_t at = 1;

	if (c != '\\' || text->length < 2) {
		*text = span_after(*text, 1);
		return c;
	}
	c = text->text[1];
	for (size_t i = 0; i + 1 < sizeof(letters); i += 2) {
		if (letters[i] == c) {
			*text = span_after(*text, 2);
			return letters[i + 1];
		}
	}
	if (c == 'x') {
		base = 16;
		most = 2;
		at = 2;
	} else if (digit_of(c, 8) < 0) {
		*text = span_after(*text, 2);
		return c; /* a quote, a backslash */
	}
	for (; most && at < text->length && digit_of(text->text[at], base) >= 0; most--)
		value = value * base + digit_of(text->text[at++], base);
	*text = span_after(*text, at);
	return (char)value;
}

/* A string at the front of *text, with the "..." of one that is cut. */
static bool take_string(struct span *text, struct printed *out, bool *whole)
{
	if (!span_begins(*text, "\""))
		return false;
	*text = span_after(*text, 1);
	*whole = true;
	while (text->length && *text->text != '"') {
		char c = take_escaped(text);

		if (out->known_length < sizeof(out->known))
			out->known[out->known_length++] = c;
		else
			*whole = false;
	}
	if (!text->length)
		return false;
	*text = span_after(*text, 1);
	if (span_begins(*text, "...")) {
		*text = span_after(*text, 3);
		*whole = false;
	}
	return true;
}

/* A number of `digits` digits at the front of `text`, hexadecimal behind "0x". False:
 * there are not so many. */
static bool read_digits(struct span text, size_t digits, size_t *used, uint64_t *out)
{
	int base = 10;

	*used = 0;
	if (span_begins(text, "0x")) {
		base = 16;
		*used = 2;
	}
	*out = 0;
	while (digits--) {
		int digit = *used < text.length ? digit_of(text.text[*used], base) : -1;

		if (digit < 0 || *out > UINT32_MAX)
			return false;
		*out = *out * (uint64_t)base + (uint64_t)digit;
		++*used;
	}
	return true;
}

/* Everything up to what was printed, and of it what the arguments say. */
struct arguments {
	struct printed printed;
	bool whole; /* known is all */
	size_t end; /* where in the text the length is (write), or the last argument begins */
	bool vector;
};

/* "1, ": a descriptor, with a path in angle brackets (-y). */
static bool skip_descriptor(struct span *text)
{
	for (size_t i = 0; i < text->length && text->text[i] != '\n'; i++) {
		if (span_begins(span_after(*text, i), ", ")) {
			*text = span_after(*text, i + 2);
			return true;
		}
	}
	return false;
}

/* [{iov_base="a", iov_len=1}, {iov_base="b", iov_len=1}], or [{"a", 1}, ...] */
static bool take_vector(struct span *text, struct arguments *out)
{
	out->whole = true;
	while (text->length && *text->text != ']') {
		struct span rest;
		uint64_t length;
		size_t used = 0, digits = 0;
		bool whole;

		if (*text->text != '"') {
			if (span_begins(*text, "...") || *text->text == '\n')
				return false;
			*text = span_after(*text, 1);
			continue;
		}
		if (!out->whole) {
			struct printed ignored = {.length = 0};

			if (!take_string(text, &ignored, &whole))
				return false;
		} else if (!take_string(text, &out->printed, &out->whole)) {
			return false;
		}
		rest = *text;
		if (span_begins(rest, ", iov_len="))
			rest = span_after(rest, strlen(", iov_len="));
		else if (span_begins(rest, ", "))
			rest = span_after(rest, 2);
		while (read_digits(rest, digits + 1, &used, &length))
			digits++;
		if (!digits || !read_digits(rest, digits, &used, &length))
			return false;
		out->printed.length += length;
		*text = span_after(rest, used);
	}
	return text->length > 0;
}

static bool read_arguments(struct span text, struct arguments *out)
{
	struct span rest = text;

	*out = (struct arguments){.whole = false};
	if (!skip_descriptor(&rest))
		return false;
	if (span_begins(rest, "[")) {
		out->vector = true;
		if (!take_vector(&rest, out) || !span_begins(rest, "], "))
			return false;
		rest = span_after(rest, 3);
	} else if (span_begins(rest, "\"")) {
		if (!take_string(&rest, &out->printed, &out->whole) || !span_begins(rest, ", "))
			return false;
		rest = span_after(rest, 2);
	} else if (!skip_descriptor(&rest)) { /* an address (-e raw) */
		return false;
	}
	out->end = text.length - rest.length;
	return true;
}

/* What may follow what was printed: the rest of the line, or a remark in it. */
static bool may_follow(struct span text)
{
	static const char *const words[] = {
		")", " <unfinished ...>", " <detached ...>", "strace: ", "Process ",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (span_begins(text, words[i]))
			return true;
	}
	return false;
}

/* May what is known of what was printed be strace's own, ") = 1" or " <unfinished ...>"? */
static bool is_unclear(const struct arguments *arguments)
{
	const struct printed *printed = &arguments->printed;

	if (arguments->whole || printed->known_length >= KNOWN_LEAST)
		return false;
	return !printed->known_length || printed->known[0] == ')' || printed->known[0] == ' ';
}

bool printed_begins(struct span text, size_t line, bool blind, size_t *start, size_t *end)
{
	struct arguments arguments;
	uint64_t length;
	size_t used;

	if (!read_arguments((struct span){text.text, line}, &arguments) ||
	    (!blind && is_unclear(&arguments)))
		return false;
	/* "95 apples" is 9 bytes of "5 apples", or 95 of others: what follows tells. */
	for (size_t digits = 1;
	     read_digits(span_after(text, arguments.end), digits, &used, &length); digits++) {
		struct printed printed = arguments.printed;
		size_t from = arguments.end + used, count;

		if (!arguments.vector)
			printed.length = length;
		if (arguments.whole && printed.known_length != printed.length)
			continue;
		count = printed_match(&printed, span_after(text, from));
		if (count && may_follow(span_after(text, from + count))) {
			*start = from;
			*end = from + count;
			return true;
		}
	}
	return false;
}

bool printed_decode(struct span text, struct printed *out)
{
	struct arguments arguments;
	uint64_t length = 0;
	size_t used, digits = 0;

	if (!read_arguments(text, &arguments))
		return false;
	*out = arguments.printed;
	if (!arguments.vector) {
		while (read_digits(span_after(text, arguments.end), digits + 1, &used, &length))
			digits++;
		/* The last try has left its own. */
		if (!digits ||
		    !read_digits(span_after(text, arguments.end), digits, &used, &length))
			return false;
		out->length = length;
	}
	/* Of what is not shown at all nothing can be found. */
	return out->known_length && out->known_length <= out->length &&
	       (!arguments.whole || out->known_length == out->length);
}

size_t printed_match(const struct printed *printed, struct span text)
{
	uint64_t count = 0;
	size_t at = 0;

	/* The text has lost the returns at the ends of lines, and a terminal adds some. */
	while (count < printed->length) {
		char c;

		if (count < printed->known_length && printed->known[count] == '\r') {
			count++;
			at += at < text.length && text.text[at] == '\r';
			continue;
		}
		if (at == text.length)
			return 0;
		c = text.text[at++];
		if (c == '\r' && (count >= printed->known_length || printed->known[count] != c))
			continue;
		if (count < printed->known_length && printed->known[count] != c)
			return 0;
		count++;
	}
	return at;
}
