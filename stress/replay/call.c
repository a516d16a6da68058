/* SPDX-License-Identifier: MIT */
/*
 * From the text of one whole call to its numbers. Only the calls that matter to
 * an address space are looked into; they are looked into closely, because a
 * trace that says what no kernel can have done is better refused than replayed.
 */
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	ARGUMENTS_MOST = 7,
};

struct arguments {
	struct span at[ARGUMENTS_MOST];
	int count;
};

/* A name that may stand in a flags argument, and what it means here (mostly nothing). */
struct flag_name {
	const char *name;
	unsigned bit;
};

static const struct flag_name protections[] = {
	{"PROT_READ", TRACE_READ}, {"PROT_WRITE", TRACE_WRITE},
	{"PROT_EXEC", TRACE_EXEC}, {"PROT_NONE", 0},
	{"PROT_SEM", 0},           {"PROT_GROWSDOWN", 0},
	{"PROT_GROWSUP", 0},       {"PROT_BTI", 0},
	{"PROT_MTE", 0},           {"PROT_SAO", 0},
	{"PROT_ADI", 0},           {NULL, 0},
};

static const struct flag_name map_flags[] = {
	{"MAP_FIXED", TRACE_FIXED},
	{"MAP_FIXED_NOREPLACE", TRACE_NOREPLACE},
	{"MAP_ANONYMOUS", 0},
	{"MAP_ANON", 0},
	{"MAP_FILE", 0},
	{"MAP_SHARED", 0},
	{"MAP_PRIVATE", 0},
	{"MAP_SHARED_VALIDATE", 0},
	{"MAP_32BIT", 0},
	{"MAP_ABOVE4G", 0},
	{"MAP_GROWSDOWN", 0},
	{"MAP_DENYWRITE", 0},
	{"MAP_EXECUTABLE", 0},
	{"MAP_LOCKED", 0},
	{"MAP_NORESERVE", 0},
	{"MAP_POPULATE", 0},
	{"MAP_NONBLOCK", 0},
	{"MAP_STACK", 0},
	{"MAP_HUGETLB", 0},
	{"MAP_SYNC", 0},
	{"MAP_UNINITIALIZED", 0},
	{"MAP_DROPPABLE", 0},
	{"MAP_HUGE_2MB", 0},
	{"MAP_HUGE_1GB", 0},
	{NULL, 0},
};

static const struct flag_name remap_flags[] = {
	{"MREMAP_MAYMOVE", TRACE_MAYMOVE},
	{"MREMAP_FIXED", TRACE_FIXED},
	{"MREMAP_DONTUNMAP", TRACE_DONTUNMAP},
	{NULL, 0},
};

/* Flags that print as plain numbers (-X raw), in Linux's numbering. */
static const struct {
	const struct flag_name *names;
	unsigned long number;
	unsigned bit;
} flag_numbers[] = {
	{protections, 1, TRACE_READ},           {protections, 2, TRACE_WRITE},
	{protections, 4, TRACE_EXEC},           {map_flags, 0x10, TRACE_FIXED},
	{map_flags, 0x100000, TRACE_NOREPLACE}, {remap_flags, 1, TRACE_MAYMOVE},
	{remap_flags, 2, TRACE_FIXED},          {remap_flags, 4, TRACE_DONTUNMAP},
};

static const struct {
	const char *name;
	enum trace_kind kind;
} kinds[] = {
	{"mmap", TRACE_MMAP},
	{"mmap2", TRACE_MMAP},
	{"munmap", TRACE_MUNMAP},
	{"mprotect", TRACE_MPROTECT},
	{"pkey_mprotect", TRACE_MPROTECT},
	{"mremap", TRACE_MREMAP},
	{"brk", TRACE_BRK},
	{"madvise", TRACE_MADVISE},
	{"execve", TRACE_EXECVE},
	{"execveat", TRACE_EXECVE},
	{"clone", TRACE_CLONE},
	{"clone3", TRACE_CLONE},
	{"fork", TRACE_CLONE},
	{"vfork", TRACE_CLONE},
};

static bool fail(char reason[200], const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(char reason[200], const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(reason, 200, format, list);
	va_end(list);
	return false;
}

/* For "%.*s": as much of a span as a message has room for. */
static int shown(struct span span)
{
	return span.length > 40 ? 40 : (int)span.length;
}

enum trace_kind call_kind(struct span name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (span_is(name, kinds[i].name))
			return kinds[i].kind;
	}
	return TRACE_OTHER;
}

const char *trace_kind_name(enum trace_kind kind)
{
	static const char *const names[TRACE_KINDS] = {
		[TRACE_MMAP] = "mmap",         [TRACE_MUNMAP] = "munmap",
		[TRACE_MPROTECT] = "mprotect", [TRACE_MREMAP] = "mremap",
		[TRACE_BRK] = "brk",           [TRACE_MADVISE] = "madvise",
		[TRACE_EXECVE] = "execve",     [TRACE_CLONE] = "clone",
		[TRACE_EXIT] = "exit",         [TRACE_SUPERSEDED] = "superseded",
		[TRACE_OTHER] = "other",
	};

	return names[kind];
}

/* The length of what must not be looked into at `text`: a string, a comment, the
 * path that -y prints behind a file descriptor; 0 for anything else; SIZE_MAX
 * where it does not end. */
static size_t opaque_length(struct span text, char before)
{
	size_t at = 1;
	const char *close;

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
		if (before < '0' || before > '9' || text.length < 2 || text.text[1] == '<')
			return 0;
		close = memchr(text.text, '>', text.length);
		/* "<TCP:[a:1->b:2]>": the arrow is no end. */
		while (close && close[-1] == '-')
			close = memchr(close + 1, '>',
				       text.length - (size_t)(close + 1 - text.text));
		return close ? (size_t)(close - text.text) + 1 : SIZE_MAX;
	default:
		return 0;
	}
}

/* Cut the arguments apart, up to the closing parenthesis; *rest is what follows it. */
static bool split_arguments(struct span text, struct arguments *out, struct span *rest,
			    char reason[200])
{
	size_t from = 0, at = 0;
	int depth = 0;

	out->count = 0;
	while (at < text.length) {
		char c = text.text[at];
		size_t skip = opaque_length(span_after(text, at), at ? text.text[at - 1] : ' ');

		if (skip == SIZE_MAX)
			return fail(reason, "a string or comment among the arguments has no end");
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
				return fail(reason, "'%c' closes nothing among the arguments", c);
		}
		at++;
	}
	return fail(reason, "the arguments have no end");
}

/* Read a decimal or hexadecimal number (or NULL) at the front of *text. */
static bool take_value(struct span *text, uint64_t *out)
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

/* A whole argument that is a number, with a comment at most behind it. */
static bool read_number(struct span text, const char *what, uint64_t *out, char reason[200])
{
	struct span rest = text;

	if (take_value(&rest, out)) {
		rest = span_trim(rest);
		if (!rest.length || span_begins(rest, "/*"))
			return true;
	}
	return fail(reason, "%s is no number: '%.*s'", what, shown(text), text.text);
}

/* One of the parts that '|' separates. */
static bool read_flag(struct span word, const struct flag_name *names, unsigned *out)
{
	uint64_t number;
	struct span rest = word;

	if (take_value(&rest, &number)) {
		/* "21<<MAP_HUGE_SHIFT" is a page size. */
		if (rest.length)
			return names == map_flags && span_is(rest, "<<MAP_HUGE_SHIFT");
		for (size_t i = 0; i < sizeof(flag_numbers) / sizeof(flag_numbers[0]); i++) {
			if (flag_numbers[i].names == names && (number & flag_numbers[i].number))
				*out |= flag_numbers[i].bit;
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

static bool read_flags(struct span text, const struct flag_name *names, const char *what,
		       unsigned *out, char reason[200])
{
	/* Behind flags that strace cannot name it puts a comment. */
	for (size_t i = 0; i + 1 < text.length; i++) {
		if (text.text[i] == '/' && text.text[i + 1] == '*') {
			text.length = i;
			break;
		}
	}
	text = span_trim(text);
	*out = 0;
	for (;;) {
		const char *bar = text.length ? memchr(text.text, '|', text.length) : NULL;
		struct span word = text;

		if (bar)
			word.length = (size_t)(bar - text.text);
		if (!read_flag(word, names, out))
			return fail(reason, "unknown %s '%.*s'", what, shown(word), word.text);
		if (!bar)
			return true;
		text = span_after(text, word.length + 1);
	}
}

/* "= 0x7f...", "= -1 ENOMEM (...)", "= ?", each with anything behind it. */
static bool read_result(struct span rest, struct trace_call *call, char reason[200])
{
	struct span text = span_trim(rest);
	bool negative = false;

	if (!text.length || *text.text != '=')
		return fail(reason, "no result after the call");
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
	if (!take_value(&text, &call->result) ||
	    (text.length && *text.text != ' ' && *text.text != '\t'))
		return fail(reason, "the result is no number: '%.*s'", shown(rest), rest.text);
	call->end = negative ? TRACE_FAILED : TRACE_DONE;
	return true;
}

static bool want_arguments(const struct arguments *arguments, int least, int most, struct span name,
			   char reason[200])
{
	if (arguments->count >= least && arguments->count <= most)
		return true;
	return fail(reason, "%.*s with %d argument%s", shown(name), name.text, arguments->count,
		    arguments->count == 1 ? "" : "s");
}

/* Round *length up to pages and see that [address, address + *length) is a range. */
static bool check_range(uint64_t address, uint64_t *length, uint64_t page, char reason[200])
{
	/* Two pages below the end of the address space, so that a page beyond any
	 * range can still be named. */
	if (*length > UINT64_MAX - 2 * page || address > UINT64_MAX - 2 * page - *length)
		return fail(reason, "the range reaches the top of the address space");
	*length = (*length + page - 1) & ~(page - 1);
	return true;
}

static bool check_aligned(uint64_t address, uint64_t page, const char *what, char reason[200])
{
	if (!(address & (page - 1)))
		return true;
	return fail(reason, "%s 0x%llx is not page-aligned, and yet the call succeeded", what,
		    (unsigned long long)address);
}

static bool check_length(uint64_t length, char reason[200])
{
	return length || fail(reason, "the length is 0, and yet the call succeeded");
}

static bool decode_mmap(const struct arguments *a, uint64_t page, struct trace_call *call,
			char reason[200])
{
	uint64_t hint;

	if (!read_number(a->at[0], "the address", &hint, reason) ||
	    !read_number(a->at[1], "the length", &call->length, reason) ||
	    !read_flags(a->at[2], protections, "protection", &call->protection, reason) ||
	    !read_flags(a->at[3], map_flags, "flag of mmap", &call->flags, reason))
		return false;
	if (a->at[4].length && a->at[4].text[0] != '-')
		call->flags |= TRACE_FILE;
	call->address = call->result;
	if (call->end != TRACE_DONE)
		return true;
	if ((call->flags & (TRACE_FIXED | TRACE_NOREPLACE)) == TRACE_FIXED && hint != call->result)
		return fail(reason, "a fixed mapping that is not where it was asked for");
	return check_length(call->length, reason) &&
	       check_aligned(call->result, page, "the result", reason) &&
	       check_range(call->address, &call->length, page, reason);
}

/* The address and length that munmap, mprotect and madvise begin with. */
static bool decode_range(const struct arguments *a, uint64_t page, struct trace_call *call,
			 char reason[200])
{
	if (!read_number(a->at[0], "the address", &call->address, reason) ||
	    !read_number(a->at[1], "the length", &call->length, reason))
		return false;
	if (call->end != TRACE_DONE)
		return true;
	return check_aligned(call->address, page, "the address", reason) &&
	       check_range(call->address, &call->length, page, reason);
}

static bool decode_mremap(const struct arguments *a, uint64_t page, struct trace_call *call,
			  char reason[200])
{
	uint64_t target = 0;

	if (!read_number(a->at[0], "the address", &call->address, reason) ||
	    !read_number(a->at[1], "the old length", &call->length, reason) ||
	    !read_number(a->at[2], "the new length", &call->new_length, reason) ||
	    !read_flags(a->at[3], remap_flags, "flag of mremap", &call->flags, reason) ||
	    (a->count == 5 && !read_number(a->at[4], "the new address", &target, reason)))
		return false;
	if (call->end != TRACE_DONE)
		return true;
	if ((call->flags & TRACE_FIXED) && (a->count < 5 || target != call->result))
		return fail(reason, "a fixed mapping that is not where it was asked for");
	if (!(call->flags & TRACE_MAYMOVE) && call->result != call->address)
		return fail(reason, "mremap moved without MREMAP_MAYMOVE");
	if (!check_length(call->new_length, reason) ||
	    !check_aligned(call->address, page, "the address", reason) ||
	    !check_aligned(call->result, page, "the result", reason) ||
	    !check_range(call->address, &call->length, page, reason) ||
	    !check_range(call->result, &call->new_length, page, reason))
		return false;
	if (call->result != call->address && call->result < call->address + call->length &&
	    call->address < call->result + call->new_length)
		return fail(reason, "mremap onto itself");
	if (call->result == call->address && !call->length)
		return fail(reason, "mremap copied onto itself");
	return true;
}

static bool decode_brk(const struct arguments *a, uint64_t page, struct trace_call *call,
		       char reason[200])
{
	uint64_t none = 0;

	if (!read_number(a->at[0], "the address", &call->address, reason))
		return false;
	/* brk never fails: it answers the break, moved or not. */
	return call->end == TRACE_UNKNOWN || check_range(call->result, &none, page, reason);
}

/* What follows "flags=" among the arguments of clone and clone3, if they show it. */
static struct span find_clone_flags(struct span text)
{
	static const char key[] = "flags=";

	while (text.length && !span_begins(text, key))
		text = span_after(text, 1);
	return text.length ? span_after(text, strlen(key)) : text;
}

static void decode_clone(struct span name, struct span arguments, struct trace_call *call)
{
	struct span text = find_clone_flags(arguments);

	call->child = call->result <= UINT32_MAX ? (uint32_t)call->result : 0;
	if (span_is(name, "vfork"))
		call->flags = TRACE_VM;
	while (text.length) {
		struct span word = {text.text, 0};

		while (word.length < text.length && !strchr("|,})", text.text[word.length]))
			word.length++;
		if (span_is(word, "CLONE_VM"))
			call->flags |= TRACE_VM;
		if (span_is(word, "CLONE_THREAD"))
			call->flags |= TRACE_THREAD;
		if (word.length == text.length || text.text[word.length] != '|')
			return;
		text = span_after(text, word.length + 1);
	}
}

bool call_decode(struct span name, struct span text, uint64_t page, struct trace_call *call,
		 char reason[200])
{
	struct arguments a = {.count = 0};
	struct span rest;

	call->kind = call_kind(name);
	call->end = TRACE_DONE;
	/* Anything may stand in a call that means nothing here. */
	if (call->kind == TRACE_OTHER)
		return true;
	/* "name(... <unfinished ...>) = ?": the thread died within. */
	for (size_t i = 0; i < text.length; i++) {
		if (span_begins(span_after(text, i), "<unfinished ...>) = ?")) {
			call->end = TRACE_UNKNOWN;
			return true;
		}
	}
	if (!split_arguments(text, &a, &rest, reason) || !read_result(rest, call, reason))
		return false;

	switch (call->kind) {
	case TRACE_MMAP:
		return want_arguments(&a, 6, 6, name, reason) &&
		       decode_mmap(&a, page, call, reason);
	case TRACE_MUNMAP:
		return want_arguments(&a, 2, 2, name, reason) &&
		       decode_range(&a, page, call, reason) &&
		       (call->end != TRACE_DONE || check_length(call->length, reason));
	case TRACE_MPROTECT:
		return want_arguments(&a, 3, 4, name, reason) &&
		       decode_range(&a, page, call, reason) &&
		       read_flags(a.at[2], protections, "protection", &call->protection, reason);
	case TRACE_MREMAP:
		return want_arguments(&a, 4, 5, name, reason) &&
		       decode_mremap(&a, page, call, reason);
	case TRACE_BRK:
		return want_arguments(&a, 1, 1, name, reason) && decode_brk(&a, page, call, reason);
	case TRACE_MADVISE:
		return want_arguments(&a, 3, 3, name, reason) &&
		       decode_range(&a, page, call, reason);
	case TRACE_CLONE:
		decode_clone(name, text, call);
		return true;
	default:
		return true;
	}
}
