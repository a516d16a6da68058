/* SPDX-License-Identifier: MIT */
/*
 * Joins the lines of a trace to whole calls and puts these in the order of their
 * effects.
 *
 * strace prints a call where it returned, unless another thread's line comes
 * first: then it prints the beginning there and the end later. The effect lies
 * somewhere between the two. A program cannot use an address before the call
 * that gave it has returned, so the end is the place that fits what the program
 * does; but the kernel can give to one thread what another's munmap has freed
 * before that munmap is seen to return. So munmap counts from its beginning and
 * everything else from its end (the planner moves other calls forward where an
 * address shows that it must; see plan.c).
 */
#include "parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "fields.h"

static bool parse_error(struct parser *p, const char *reason)
{
	p->error->line = p->first;
	snprintf(p->error->reason, sizeof(p->error->reason), "%s", reason);
	return false;
}

struct span keep_text(struct parser *p, struct span text)
{
	char *copy;

	if (text.text >= p->text.bytes && text.text <= p->text.bytes + p->text.length)
		return text;
	copy = array_zeroed(text.length + 1, 1);
	memcpy(copy, text.text, text.length);
	ARRAY_PUSH(p->kept, copy);
	return (struct span){copy, text.length};
}

struct span append(char **buffer, size_t *capacity, size_t length, struct span text)
{
	*buffer = array_reserve(*buffer, capacity, length + text.length + 1, 1);
	if (text.length)
		memmove(*buffer + length, text.text, text.length);
	return (struct span){*buffer, length + text.length};
}

static struct reader_thread *table_slot(struct reader_thread *table, size_t size, uint32_t pid)
{
	size_t at = (pid * UINT32_C(2654435761)) & (size - 1);

	while (table[at].used && table[at].pid != pid)
		at = (at + 1) & (size - 1);
	return &table[at];
}

static void table_grow(struct parser *p)
{
	size_t size = p->threads_size ? p->threads_size * 2 : 64;
	struct reader_thread *table = array_zeroed(size, sizeof(*table));

	for (size_t i = 0; i < p->threads_size; i++) {
		if (p->threads[i].used)
			*table_slot(table, size, p->threads[i].pid) = p->threads[i];
	}
	free(p->threads);
	p->threads = table;
	p->threads_size = size;
}

struct reader_thread *thread_of(struct parser *p, uint32_t pid)
{
	struct reader_thread *thread;

	if (p->threads_used * 2 >= p->threads_size)
		table_grow(p);
	thread = table_slot(p->threads, p->threads_size, pid);
	if (!thread->used) {
		*thread = (struct reader_thread){.pid = pid, .used = true, .ended = true};
		p->threads_used++;
	}
	if (thread->ended) {
		thread->ended = false;
		thread->first = p->first;
	}
	return thread;
}

struct reader_thread *thread_known(struct parser *p, uint32_t pid)
{
	struct reader_thread *thread;

	if (!p->threads_size)
		return NULL;
	thread = table_slot(p->threads, p->threads_size, pid);
	return thread->used ? thread : NULL;
}

/*
 * The thread whose call `line` resumes. strace on a terminal names no pid while
 * there is one process only, so a call may begin without a pid and go on with
 * one, or the other way round: then its name decides, if it does.
 */
struct reader_thread *thread_of_resumed(struct parser *p, const struct line *line)
{
	struct reader_thread *own = thread_of(p, line->pid), *found = NULL;

	if (own->pending)
		return own;
	for (size_t i = 0; i < p->threads_size; i++) {
		struct reader_thread *thread = &p->threads[i];

		if (!thread->used || !thread->pending || (line->pid && thread->pid))
			continue;
		if (!span_equal(thread->name, line->name))
			continue;
		if (found)
			return own;
		found = thread;
	}
	return found ? found : own;
}

void keep_call(struct parser *p, struct trace_call *call)
{
	struct trace *trace = p->trace;
	bool early = call->kind == TRACE_MUNMAP || call->kind == TRACE_SHMDT;

	call->line = p->text.number;
	call->order = 2 * (uint64_t)(early ? call->begin : call->line);
	if (call->kind == TRACE_CLONE && call->begin != call->line) {
		const struct reader_thread *child = thread_known(p, call->child);

		/* The child may be seen before its parent is seen to have made it. */
		if (child && child->first > call->begin && child->first < call->line)
			call->order = 2 * (uint64_t)child->first - 1;
	}
	call->number = trace->calls_count;
	ARRAY_PUSH(trace->calls, *call);
}

/* A call about memory is not played: it is kept in mind by its name. */
static void note_unplayed(struct parser *p, struct span name, enum trace_why why)
{
	struct trace *trace = p->trace;
	struct trace_unplayed new = {.why = why, .count = 1, .line = p->text.number};
	int most = (int)sizeof(new.name) - 1;

	snprintf(new.name, sizeof(new.name), "%.*s",
		 name.length < sizeof(new.name) ? (int)name.length : most, name.text);
	for (size_t i = 0; i < trace->unplayed_count; i++) {
		struct trace_unplayed *old = &trace->unplayed[i];

		if (old->why == why && !strcmp(old->name, new.name)) {
			old->count++;
			return;
		}
	}
	ARRAY_PUSH(trace->unplayed, new);
}

void drop_pending(struct parser *p, struct reader_thread *thread)
{
	if (!thread->pending)
		return;
	thread->pending = false;
	p->trace->unresumed++;
	if (call_is_memory(thread->name))
		note_unplayed(p, thread->name, WHY_NO_END);
}

static struct segment *find_segment(struct parser *p, uint64_t id)
{
	for (size_t i = 0; i < p->segments_count; i++) {
		if (p->segments[i].id == id)
			return &p->segments[i];
	}
	return NULL;
}

static void note_segment(struct parser *p, const struct trace_call *call)
{
	struct segment segment = {call->result, call->length}, *old = find_segment(p, call->result);

	/* What exists already may be asked for with less, or with 0. */
	if (old && old->length < call->length)
		old->length = call->length;
	else if (!old)
		ARRAY_PUSH(p->segments, segment);
}

/* The length of what shmat has attached, if the trace shows it. */
static void size_segment(struct parser *p, struct trace_call *call)
{
	const struct segment *segment = find_segment(p, call->new_length);
	uint64_t most = UINT64_MAX - 2 * p->page;

	if (segment && segment->length <= most && call->address <= most - segment->length)
		call->length = (segment->length + p->page - 1) & ~(p->page - 1);
}

static bool take_call(struct parser *p, const struct line *line, struct span text, size_t begin)
{
	struct trace_call call = {.pid = line->pid, .begin = begin};
	struct trace *trace = p->trace;
	char reason[200];

	if (!call_decode(line->name, text, p->page, &call, reason))
		return parse_error(p, reason);
	if (call.end == TRACE_FAILED) {
		trace->failed[call.kind]++;
		return true;
	}
	if (call.end == TRACE_UNKNOWN) {
		trace->unknown[call.kind]++;
		if (call_is_memory(line->name))
			note_unplayed(p, line->name, WHY_NO_RESULT);
		return true;
	}
	trace->done[call.kind]++;
	if (call.why != WHY_NONE)
		note_unplayed(p, line->name, call.why);
	if (call.kind == TRACE_OTHER) {
		trace->memory += call.why != WHY_NONE;
		if (call.length)
			note_segment(p, &call);
		return true;
	}
	if (call.why == WHY_INJECTED || call.why == WHY_NO_ARGUMENTS) {
		trace->done[call.kind]--;
		return true;
	}
	if (call.kind == TRACE_MADVISE && call.why == WHY_NONE)
		trace->advice++;
	if (call.kind == TRACE_MMAP && (call.flags & TRACE_FILE))
		trace->files++;
	if (call.kind == TRACE_MMAP && (call.flags & TRACE_SHADOW))
		trace->shadows++;
	if (call.kind == TRACE_CLONE && (call.flags & TRACE_UNSURE))
		note_unplayed(p, line->name, WHY_NO_ARGUMENTS);
	if (call.kind == TRACE_SHMAT)
		size_segment(p, &call);
	keep_call(p, &call);
	return true;
}

/* execve by a thread that is not the first goes on under the pid of the first, `leader`, and
 * there it is resumed. */
static void supersede(struct parser *p, uint32_t leader, uint32_t heir)
{
	struct trace_call call = {
		.kind = TRACE_SUPERSEDED, .pid = leader, .child = heir, .begin = p->first};
	struct reader_thread *to = thread_of(p, leader), *from = thread_known(p, heir);

	if (from && from != to && from->pending) {
		uint32_t pid = to->pid;

		drop_pending(p, to);
		*to = *from;
		to->pid = pid;
		from->pending = false;
		from->ended = true;
	}
	keep_call(p, &call);
}

bool take_unfinished(struct parser *p, const struct line *line)
{
	struct reader_thread *thread = thread_of(p, line->pid);

	/* strace may lose sight of how some call ended (a signal's restart), but
	 * one that changes the memory cannot be missed. */
	if (thread->pending && call_kind(thread->name) != TRACE_OTHER)
		return parse_error(p, "the thread has another call unfinished");
	if (call_is_closed(line->name, line->text))
		return parse_error(p, "a call that is cut behind its end");
	drop_pending(p, thread);
	thread->pending = true;
	thread->printed = false;
	thread->guessed = false;
	thread->name = keep_text(p, line->name);
	thread->text = keep_text(p, line->text);
	thread->line = p->first;
	p->cut_pid = line->pid;
	p->cut_number = p->text.number;
	if (line->other)
		supersede(p, line->other, line->pid);
	return true;
}

/*
 * Did an execve of another thread kill this one within the call? Then strace shows as its result what happens to
 * be in the register ("= 0xb", "= 11"), or "= ?". Nothing is mapped in the lowest page, nor has any
 * of the others a result.
 */
static bool was_killed(struct parser *p, const struct reader_thread *thread, struct span text)
{
	enum trace_kind kind = call_kind(thread->name);
	struct trace_call call = {.kind = kind};
	char reason[200];

	if (kind > TRACE_SHMDT || !span_begins(text, ")") ||
	    !field_result(span_after(text, 1), &call, reason) || call.end != TRACE_DONE ||
	    call.why != WHY_NONE || !call.result || call.result >= p->page)
		return false;
	for (size_t i = 0; i < p->threads_size; i++) {
		const struct reader_thread *other = &p->threads[i];

		if (other != thread && other->pending && call_kind(other->name) == TRACE_EXECVE)
			return true;
	}
	return false;
}

bool take_resumed(struct parser *p, const struct line *line)
{
	struct reader_thread *thread = thread_of_resumed(p, line);
	struct line whole = *line;
	struct span text;

	if (!thread->pending || !span_equal(thread->name, line->name)) {
		if (thread->guessed && span_equal(thread->name, line->name))
			return parse_error(p, "resumes a call that a line before has ended");
		/* A trace that was begun in the middle (strace -p) has such lines. */
		if (call_kind(line->name) == TRACE_OTHER && !call_is_memory(line->name)) {
			p->trace->done[TRACE_OTHER]++;
			return true;
		}
		/* strace -f -z does not show where a thread begins it; and of its arguments
		 * nothing matters. */
		if (call_kind(line->name) == TRACE_EXECVE && !thread->pending && !line->again)
			return take_call(p, line, line->text, p->first);
		return parse_error(
			p, thread->pending ? "resumes another call than the one that is unfinished"
					   : "resumes a call that was never begun");
	}
	if (line->shape == LINE_LEFT || was_killed(p, thread, line->text)) {
		drop_pending(p, thread);
		return true;
	}
	if (!whole.pid)
		whole.pid = thread->pid;

	text = append(&p->joined, &p->joined_capacity, 0, thread->text);
	text = append(&p->joined, &p->joined_capacity, text.length, (struct span){" ", 1});
	text = append(&p->joined, &p->joined_capacity, text.length, line->text);
	if (line->again) {
		if (call_is_closed(line->name, text))
			return parse_error(p, "a call that is cut behind its end");
		thread->text = keep_text(p, text);
		if (line->other)
			supersede(p, line->other, whole.pid);
		return true;
	}
	if (!take_call(p, &whole, text, thread->line))
		return false;
	thread->pending = false;
	p->trace->cut++;
	return true;
}

/* strace saw the beginning of a call and then let go of the process, or lost it. */
static void take_left(struct parser *p, const struct line *line)
{
	struct reader_thread *thread = thread_of(p, line->pid);

	drop_pending(p, thread);
	thread->pending = true;
	thread->name = line->name;
	drop_pending(p, thread);
}

void take_exit(struct parser *p, uint32_t pid)
{
	struct reader_thread *thread = thread_of(p, pid);
	struct trace_call call = {.kind = TRACE_EXIT, .pid = pid, .begin = p->first};

	drop_pending(p, thread);
	thread->ended = true;
	keep_call(p, &call);
}

/* strace escapes what it prints of strings. */
static bool has_control(struct span text)
{
	for (size_t i = 0; i < text.length; i++) {
		unsigned char c = (unsigned char)text.text[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

bool take_line(struct parser *p, struct span text)
{
	struct line line;
	const char *reason;

	if (has_control(text))
		return parse_error(p, "a control character");
	if (!line_split(text, &line, &reason))
		return parse_error(p, reason);
	/* Output, or the lack of a newline, may have brought them together. */
	if (field_has_call(line.text))
		return parse_error(p, "two calls in one line");
	switch (line.shape) {
	case LINE_CALL:
		if (!take_call(p, &line, line.text, p->first))
			return false;
		thread_of(p, line.pid);
		return true;
	case LINE_UNFINISHED:
		return take_unfinished(p, &line);
	case LINE_RESUMED:
		return take_resumed(p, &line);
	case LINE_LEFT:
		if (line.resumed)
			return take_resumed(p, &line);
		take_left(p, &line);
		return true;
	case LINE_SIGNAL:
		p->trace->signals++;
		return true;
	case LINE_EXIT:
		take_exit(p, line.pid);
		return true;
	case LINE_SUPERSEDED:
		supersede(p, line.pid, line.other);
		return true;
	}
	return true;
}
