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
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"

/* What is known of a thread while reading. */
struct reader_thread {
	uint32_t pid;
	bool used;
	bool ended;
	bool pending; /* a call of it is cut; name, text and line are its beginning */
	size_t line;
	size_t first; /* its first line since it was born */
	struct span name, text;
};

struct parser {
	struct trace *trace;
	uint64_t page;
	struct reader_thread *threads; /* hash table, open addressing, a power of two */
	size_t threads_size, threads_used;
	char *joined; /* room for a call put together from two lines */
	size_t joined_capacity;
	struct trace_error *error;
	size_t line;
};

static bool parse_error(struct parser *p, const char *reason)
{
	p->error->line = p->line;
	snprintf(p->error->reason, sizeof(p->error->reason), "%s", reason);
	return false;
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

/* The thread `pid`, which has the line at hand. */
static struct reader_thread *thread_of(struct parser *p, uint32_t pid)
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
		thread->first = p->line;
	}
	return thread;
}

static struct reader_thread *thread_known(struct parser *p, uint32_t pid)
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
static struct reader_thread *thread_of_resumed(struct parser *p, const struct line *line)
{
	struct reader_thread *own = thread_of(p, line->pid), *found = NULL;

	if (own->pending)
		return own;
	for (size_t i = 0; i < p->threads_size; i++) {
		struct reader_thread *thread = &p->threads[i];

		if (!thread->used || !thread->pending || (line->pid && thread->pid))
			continue;
		if (thread->name.length != line->name.length ||
		    memcmp(thread->name.text, line->name.text, line->name.length))
			continue;
		if (found)
			return own;
		found = thread;
	}
	return found ? found : own;
}

static void keep(struct parser *p, struct trace_call *call)
{
	struct trace *trace = p->trace;

	call->line = p->line;
	call->order = 2 * (uint64_t)(call->kind == TRACE_MUNMAP ? call->begin : call->line);
	if (call->kind == TRACE_CLONE && call->begin != call->line) {
		const struct reader_thread *child = thread_known(p, call->child);

		/* The child may be seen before its parent is seen to have made it. */
		if (child && child->first > call->begin && child->first < call->line)
			call->order = 2 * (uint64_t)child->first - 1;
	}
	ARRAY_PUSH(trace->calls, *call);
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
		return true;
	}
	trace->done[call.kind]++;
	if (call.kind == TRACE_OTHER)
		return true;
	if (call.kind == TRACE_MADVISE)
		trace->advice++;
	if (call.kind == TRACE_MMAP && (call.flags & TRACE_FILE))
		trace->files++;
	keep(p, &call);
	return true;
}

static bool take_unfinished(struct parser *p, const struct line *line)
{
	struct reader_thread *thread = thread_of(p, line->pid);

	/* strace may lose sight of how some call ended (a signal's restart), but
	 * one that changes the memory cannot be missed. */
	if (thread->pending && call_kind(thread->name) != TRACE_OTHER)
		return parse_error(p, "the thread has another call unfinished");
	thread->pending = true;
	thread->name = line->name;
	thread->text = line->text;
	thread->line = p->line;
	return true;
}

static bool take_resumed(struct parser *p, const struct line *line)
{
	struct reader_thread *thread = thread_of_resumed(p, line);
	struct line whole = *line;
	struct span text;

	if (!thread->pending || thread->name.length != line->name.length ||
	    memcmp(thread->name.text, line->name.text, line->name.length)) {
		/* A trace that was begun in the middle (strace -p) has such lines. */
		if (call_kind(line->name) == TRACE_OTHER) {
			p->trace->done[TRACE_OTHER]++;
			return true;
		}
		return parse_error(
			p, thread->pending ? "resumes another call than the one that is unfinished"
					   : "resumes a call that was never begun");
	}
	thread->pending = false;
	if (!whole.pid)
		whole.pid = thread->pid;
	p->trace->cut++;

	text.length = thread->text.length + 1 + line->text.length;
	p->joined = array_reserve(p->joined, &p->joined_capacity, text.length, 1);
	memcpy(p->joined, thread->text.text, thread->text.length);
	p->joined[thread->text.length] = ' ';
	memcpy(p->joined + thread->text.length + 1, line->text.text, line->text.length);
	text.text = p->joined;
	return take_call(p, &whole, text, thread->line);
}

static void take_end(struct parser *p, const struct line *line)
{
	struct reader_thread *thread = thread_of(p, line->pid);
	struct trace_call call = {.kind = TRACE_EXIT, .pid = line->pid, .begin = p->line};

	if (line->shape == LINE_SUPERSEDED) {
		/* execve of a thread that is not the first: it goes on under the pid
		 * of the first, and there its unfinished execve will be resumed. */
		struct reader_thread *heir = thread_known(p, line->other);

		call.kind = TRACE_SUPERSEDED;
		call.child = line->other;
		if (heir && heir != thread) {
			thread->pending = heir->pending;
			thread->name = heir->name;
			thread->text = heir->text;
			thread->line = heir->line;
			heir->pending = false;
			heir->ended = true;
		}
	} else {
		p->trace->unresumed += thread->pending;
		thread->pending = false;
		thread->ended = true;
	}
	keep(p, &call);
}

static bool take_line(struct parser *p, struct span text)
{
	struct line line;
	const char *reason;

	if (!line_split(text, &line, &reason))
		return parse_error(p, reason);
	switch (line.shape) {
	case LINE_NOTHING:
		return true;
	case LINE_CALL:
		thread_of(p, line.pid);
		return take_call(p, &line, line.text, p->line);
	case LINE_UNFINISHED:
		return take_unfinished(p, &line);
	case LINE_RESUMED:
		return take_resumed(p, &line);
	case LINE_SIGNAL:
		p->trace->signals++;
		return true;
	case LINE_EXIT:
	case LINE_SUPERSEDED:
		take_end(p, &line);
		return true;
	}
	return true;
}

static int compare_order(const void *a, const void *b)
{
	const struct trace_call *left = a, *right = b;

	if (left->order != right->order)
		return left->order < right->order ? -1 : 1;
	return (left->line > right->line) - (left->line < right->line);
}

bool trace_parse(struct trace *trace, const char *text, size_t length, uint64_t page,
		 struct trace_error *error)
{
	struct parser p = {.trace = trace, .page = page, .error = error};
	bool fine = true;

	*trace = (struct trace){.calls = NULL};
	*error = (struct trace_error){.line = 0};
	while (fine && length) {
		const char *newline = memchr(text, '\n', length);
		size_t count = newline ? (size_t)(newline - text) : length;
		struct span line = {text, count};

		if (count && text[count - 1] == '\r')
			line.length--;
		p.line++;
		fine = take_line(&p, line);
		count += newline != NULL;
		text += count;
		length -= count;
	}
	trace->lines = p.line;
	for (size_t i = 0; i < p.threads_size; i++)
		trace->unresumed += p.threads[i].pending;
	free(p.threads);
	free(p.joined);
	if (!fine) {
		trace_free(trace);
		return false;
	}
	if (trace->calls_count)
		qsort(trace->calls, trace->calls_count, sizeof(*trace->calls), compare_order);
	return true;
}

static bool read_all(int fd, char **text, size_t *length)
{
	size_t capacity = 0;

	*text = NULL;
	*length = 0;
	for (;;) {
		ssize_t got;

		*text = array_reserve(*text, &capacity, *length + 65536, 1);
		got = read(fd, *text + *length, 65536);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return false;
		if (!got)
			return true;
		*length += (size_t)got;
	}
}

bool trace_load(struct trace *trace, const char *path, uint64_t page, struct trace_error *error)
{
	bool standard = !strcmp(path, "-");
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	size_t length;
	bool fine;

	*trace = (struct trace){.calls = NULL};
	if (fd < 0 || !read_all(fd, &text, &length)) {
		error->line = 0;
		snprintf(error->reason, sizeof(error->reason), "%s", strerror(errno));
		fine = false;
	} else {
		fine = trace_parse(trace, text, length, page, error);
	}
	free(text);
	if (fd >= 0 && !standard)
		close(fd);
	return fine;
}

void trace_free(struct trace *trace)
{
	free(trace->calls);
	*trace = (struct trace){.calls = NULL};
}
