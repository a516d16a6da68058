/* SPDX-License-Identifier: MIT */
/*
 * Lines that are not whole, because something else stands in them, or because a part of them
 * stands in others. What stands in a line is passed over: its beginning becomes the head, and what
 * follows is read as what the head goes on with. So it may be cut again.
 */
#include "parser.h"

#include <string.h>

#include "fields.h"
#include "printed.h"
#include "remark.h"

enum {
	EXTENDED_MOST = 16384, /* bytes of a line that goes on in others */
	WRAPPED_MOST = 8,      /* lines that a mailer makes of one */
	PRINTED_MOST = 256,    /* lines that are printed into a call */
	PRINTED_LEAST = 8,     /* bytes, to be told from a line of strace's */
	TRIES_MOST =
		16, /* of them, such as may be the call's end; places of one output in a line */
};

/* Go on behind something that stands in a line, and is not strace's: `before` is the line's
 * beginning, `at` where it goes on. */
static void pass_over(struct parser *p, struct span before, const char *at)
{
	append(&p->head, &p->head_capacity, 0, before);
	p->head_count = before.length;
	text_skip(&p->text, (size_t)(at - p->text.bytes));
}

/* From `from` to the end of the trace. */
static struct span all_from(const struct parser *p, const char *from)
{
	return (struct span){from, p->text.length - (size_t)(from - p->text.bytes)};
}

/*
 * Is `line`, the rest of the line at hand, one of a call that prints, with what it
 * has printed in it? A call whose beginning is in the head is not looked at: a remark has cut it,
 * before anything was printed.
 */
bool mend_own_print(struct parser *p, struct span line, bool blind)
{
	size_t start, end, offset;
	struct line split;
	const char *reason;

	if (p->head_count || span_find(line, "write") == SIZE_MAX ||
	    !line_split(line, &split, &reason) || split.shape == LINE_RESUMED ||
	    !printed_call(split.name))
		return false;
	offset = (size_t)(split.text.text - line.text);
	if (!printed_begins(all_from(p, split.text.text), line.length - offset, blind, &start,
			    &end))
		return false;
	line.length = offset + start;
	pass_over(p, line, split.text.text + end);
	return true;
}

/* What the thread's call has printed, if it is cut and that is still to be found. */
static bool is_printing(const struct reader_thread *thread, struct printed *out)
{
	return thread->pending && !thread->printed && printed_call(thread->name) &&
	       printed_decode(thread->text, out);
}

/* A mark of strace's, whole, in which nothing is that was printed (one dot is in all of them). */
static size_t mark_length(struct span text)
{
	static const char *const marks[] = {"<unfinished ...>", "<detached ...>", "<... "};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		if (span_begins(text, marks[i]))
			return strlen(marks[i]);
	}
	return 0;
}

/* May a line be what it is, as far as that is known before a cut call is resumed? */
static bool may_be_whole(const struct parser *p, struct span line)
{
	struct line split;
	const char *reason;

	return line_split(line, &split, &reason) &&
	       (split.shape != LINE_UNFINISHED || call_may_go_on(split.name, split.text, p->page));
}

/* Is what was printed so short, and of digits, that in the middle of a number it can be anywhere? */
static bool is_lost_in_number(const struct printed *printed, char before)
{
	for (size_t i = 0; i < printed->known_length; i++) {
		if (!memchr("0123456789abcdef", printed->known[i], 16))
			return false;
	}
	return printed->known_length < PRINTED_LEAST && field_is_word(before);
}

/* The line at hand without the `count` bytes at `at` of `line`, if it is whole then. */
static bool take_without(struct parser *p, struct span line, size_t at, size_t count)
{
	struct span whole = {p->head, p->head_count};

	if (count > line.length - at)
		return false;
	whole = append(&p->tried, &p->tried_capacity, 0, whole);
	whole = append(&p->tried, &p->tried_capacity, whole.length, (struct span){line.text, at});
	whole = append(&p->tried, &p->tried_capacity, whole.length, span_after(line, at + count));
	if (!may_be_whole(p, whole) || !take_line(p, whole))
		return false;
	p->head_count = 0;
	return true;
}

/*
 * Does `line` contain what a call that is cut, of whatever thread, has printed? Where it is within the line, at whatever
 * place makes the line whole; else at the first.
 */
static bool pass_print(struct parser *p, struct span line)
{
	for (size_t i = 0; i < p->threads_size; i++) {
		struct reader_thread *thread = &p->threads[i];
		size_t first = SIZE_MAX, first_count = 0;
		int tries = 0;
		uint32_t pid = thread->pid;
		struct printed printed;
		struct span before;

		if (!is_printing(thread, &printed))
			continue;
		for (size_t at = 0; at < line.length && tries < TRIES_MOST; at++) {
			size_t count = mark_length(span_after(line, at));

			if (count) {
				at += count - 1;
				continue;
			}
			count = printed_match(&printed, all_from(p, line.text + at));
			if (!count || (at && is_lost_in_number(&printed, line.text[at - 1])))
				continue;
			tries++;
			if (take_without(p, line, at, count)) {
				/* The table may have grown. */
				thread_of(p, pid)->printed = true;
				return true;
			}
			if (first == SIZE_MAX) {
				first = at;
				first_count = count;
			}
		}
		if (first == SIZE_MAX)
			continue;
		thread->printed = true;
		before = (struct span){p->head, p->head_count};
		before = append(&p->tried, &p->tried_capacity, 0, before);
		before = append(&p->tried, &p->tried_capacity, before.length,
				(struct span){line.text, first});
		pass_over(p, before, line.text + first + first_count);
		return true;
	}
	return false;
}

bool mend_cut_print(struct parser *p, struct span line)
{
	struct line split;
	const char *reason;

	return !p->head_count && line_split(line, &split, &reason) &&
	       split.shape == LINE_UNFINISHED && !may_be_whole(p, line) && pass_print(p, line);
}

bool mend_printed_call(struct parser *p, struct span line)
{
	/* With a pid before it, it is strace's: while calls are cut there are several. */
	if (p->head_count || !call_begins(line))
		return false;
	for (size_t i = 0; i < p->threads_size; i++) {
		struct reader_thread *thread = &p->threads[i];
		struct printed printed;
		size_t count;

		if (!is_printing(thread, &printed) || printed.known_length < PRINTED_LEAST)
			continue;
		count = printed_match(&printed, all_from(p, line.text));
		if (!count)
			continue;
		thread->printed = true;
		pass_over(p, (struct span){line.text, 0}, line.text + count);
		return true;
	}
	return false;
}

/*
 * strace -z shows a call when it has returned: what it printed stands before it. Does `line` begin with
 * what a call prints that is shown a little later?
 */
static bool pass_print_before(struct parser *p, struct span line)
{
	const char *from = p->text.bytes + p->later;
	struct span rest;

	if (p->head_count)
		return false;
	rest = all_from(p, from > line.text ? from : line.text);
	if (rest.length > EXTENDED_MOST)
		rest.length = EXTENDED_MOST;
	for (;;) {
		size_t at = span_find(rest, "write"), open;
		struct printed printed;
		size_t count;

		if (at == SIZE_MAX)
			return false;
		rest = span_after(rest, at);
		open = span_begins(rest, "writev(") ? 7 : 6;
		if ((open == 7 || span_begins(rest, "write(")) &&
		    printed_decode(span_after(rest, open), &printed) &&
		    /* One character is somewhere soon: it must be in the call's own line, or before
		     * what can be no output. */
		    (printed.known_length > 1 || rest.text < line.text + line.length ||
		     (line.length && line_names_pid(span_after(line, 1))))) {
			count = printed_match(&printed, all_from(p, line.text));
			if (count) {
				p->later = (size_t)(rest.text + open - p->text.bytes);
				pass_over(p, (struct span){line.text, 0}, line.text + count);
				return true;
			}
		}
		rest = span_after(rest, 5);
	}
}

/*
 * strace -f -z cuts calls that nothing comes between, and does not name them again: "close(3 <unfinished ...>",
 * ") = 0". Such a rest stands in the next line, and makes the call whole to the last character. What has a
 * line of another in it is none: other traces cut calls too, and then any line may follow.
 */
bool mend_rest(struct parser *p, struct span line)
{
	struct reader_thread *thread = thread_known(p, p->cut_pid);
	struct line rest = {.shape = LINE_RESUMED, .pid = p->cut_pid, .text = line};
	struct span whole;

	if (p->head_count || p->cut_number + 1 != p->text.number || !thread || !thread->pending ||
	    call_may_be_in(line) || span_find(line, "<... ") != SIZE_MAX ||
	    span_find(line, "[pid ") != SIZE_MAX)
		return false;
	/* Only behind a comma may the next argument be to come. */
	if (thread->text.length && !span_ends(thread->text, ",") && !span_begins(line, ")") &&
	    !span_begins(line, ",") && !span_begins(span_trim(line), "=>"))
		return false;
	whole = append(&p->tried, &p->tried_capacity, 0, thread->text);
	if (!call_is_whole(append(&p->tried, &p->tried_capacity, whole.length, line)))
		return false;
	rest.name = thread->name;
	if (!take_resumed(p, &rest))
		return false;
	thread->guessed = true;
	return true;
}

bool mend_print(struct parser *p, struct span line)
{
	return pass_print(p, line) || pass_print_before(p, line);
}

/* Keys that were pressed are shown by the terminal: ^C, ^Z, ^\. */
bool mend_keys(struct parser *p, struct span line)
{
	bool open = false, found = false;
	size_t count = 0;

	append(&p->tried, &p->tried_capacity, 0, line);
	for (size_t i = 0; i < line.length; i++) {
		char c = line.text[i];

		if (!open && c == '^' && i + 1 < line.length &&
		    memchr("CZ\\", line.text[i + 1], 3)) {
			found = true;
			i++;
			continue;
		}
		if (c == '"')
			open = !open;
		p->tried[count++] = c;
		if (c == '\\' && open && i + 1 < line.length)
			p->tried[count++] = line.text[++i];
	}
	return found && (!span_trim((struct span){p->tried, count}).length ||
			 take_line(p, (struct span){p->tried, count}));
}

/* Is there ") = " in it, or the mark of one that is cut? */
static bool may_end_call(struct span line)
{
	for (size_t at = 0; at < line.length; at++) {
		struct span rest = span_after(line, at);

		if ((*rest.text == ')' && span_begins(span_trim(span_after(rest, 1)), "=")) ||
		    (*rest.text == '<' && (span_begins(rest, "<unfinished ...>") ||
					   span_begins(rest, "<detached ...>"))))
			return true;
	}
	return false;
}

/*
 * A mailer has broken a line, or something has printed into a call that is not of memory: the
 * lines up to that which completes it are its own. `line` is the beginning.
 */
bool mend_broken(struct parser *p, struct span line)
{
	struct text before = p->text;
	struct line split;
	const char *reason;
	bool other = false, has_result;
	struct span next;
	int tries = 0;

	if (!line_split(line, &split, &reason)) {
		/* Long lines of other kinds are broken too. */
		if (span_find(line, "---") == SIZE_MAX && span_find(line, "+++") == SIZE_MAX &&
		    span_find(line, "<...") == SIZE_MAX)
			return false;
	} else if (split.shape == LINE_UNFINISHED) {
		return false;
	} else {
		other = call_kind(split.name) == TRACE_OTHER && !call_is_memory(split.name);
	}
	if (other && before.at < p->barren)
		return false;
	has_result = may_end_call(line);
	line = append(&p->tried, &p->tried_capacity, 0, line);
	for (size_t i = 0; i < (other ? PRINTED_MOST : WRAPPED_MOST); i++) {
		struct remark remark;

		if (line.length > EXTENDED_MOST || !text_next(&p->text, &next) ||
		    remark_find(next, &remark) || line_names_pid(next) ||
		    span_find(next, "+++ ") != SIZE_MAX ||
		    (other ? call_may_be_in(next) : line_split(next, &split, &reason)))
			break;
		line = append(&p->tried, &p->tried_capacity, line.length, (struct span){" ", 1});
		line = append(&p->tried, &p->tried_capacity, line.length, span_trim(next));
		if (other && ((!has_result && !may_end_call(next)) || ++tries > TRIES_MOST))
			continue;
		if (take_line(p, line))
			return true;
	}
	if (other && !tries)
		p->barren = p->text.at;
	p->text.at = before.at;
	p->text.number = before.number;
	return false;
}
