/* SPDX-License-Identifier: MIT */
/*
 * From the lines of a file to a trace. A line of the file mostly is a line of strace's. But remarks, and what the
 * program prints, may stand in it; then what is before them is the *head*, and the line goes on in the
 * next of the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "parser.h"
#include "remark.h"

static void take_remark(struct parser *p, const struct remark *remark)
{
	struct reader_thread *thread = thread_known(p, remark->pid);
	struct trace_call call = {
		.kind = TRACE_ATTACHED, .pid = remark->pid, .begin = p->text.number};

	p->trace->remarks++;
	if (remark->kind == REMARK_TABLE)
		p->in_table = true;
	else if (remark->kind == REMARK_ATTACHED)
		keep_call(p, &call);
	else if (remark->kind == REMARK_DETACHED && thread && !thread->ended)
		take_exit(p, remark->pid);
}

/* A line, or what a line has to add to the head. */
static bool take_piece(struct parser *p, struct span line, bool lenient)
{
	struct trace_error error;
	struct span whole = line;

	if (!p->head_count)
		p->first = p->text.number;
	if (p->head_count && line_names_pid(line)) {
		/* The head is not gone on with here. */
		whole = (struct span){p->head, p->head_count};
		whole = append(&p->joined, &p->joined_capacity, 0, whole);
		whole = append(&p->joined, &p->joined_capacity, whole.length,
			       (struct span){" <unfinished ...>", 17});
		whole = keep_text(p, whole);
		if (take_line(p, whole)) {
			p->head_count = 0;
			return take_piece(p, line, lenient);
		}
		whole = line;
	}
	if (p->head_count) {
		whole = append(&p->head, &p->head_capacity, p->head_count, line);
	} else if (mend_own_print(p, line, false) || mend_printed_call(p, line) ||
		   mend_cut_print(p, line)) {
		return true;
	}
	if (take_line(p, whole)) {
		p->head_count = 0;
		return true;
	}
	error = *p->error;
	if (mend_rest(p, line) || mend_own_print(p, line, true) || mend_print(p, line))
		return true;
	if (mend_keys(p, whole) || mend_broken(p, whole)) {
		p->head_count = 0;
		return true;
	}
	if (p->head_count) {
		/* Perhaps they are two. */
		struct span head = {p->head, p->head_count};

		p->head_count = 0;
		if (take_line(p, head))
			return take_piece(p, line, lenient);
		if (lenient) {
			skip_line(p, head, *p->error);
			return take_piece(p, line, lenient);
		}
	}
	if (lenient)
		skip_line(p, whole, error);
	else
		*p->error = error;
	return lenient;
}

static bool take_text(struct parser *p, struct span line, bool lenient)
{
	struct remark remark;
	bool last;

	if (p->in_table) {
		if (remark_is_row(line, &last)) {
			p->in_table = !last;
			p->trace->remarks++;
			return true;
		}
		p->in_table = false;
	}
	if (remark_find(line, &remark)) {
		take_remark(p, &remark);
		line.length = remark.start;
		if (!span_trim(line).length)
			return true;
		if (!p->head_count)
			p->first = p->text.number;
		append(&p->head, &p->head_capacity, p->head_count, line);
		p->head_count += line.length;
		return true;
	}
	if (!p->head_count && remark_is_line(line)) {
		if (span_trim(line).length)
			p->trace->remarks++;
		else if (p->cut_number + 1 == p->text.number)
			p->cut_number++; /* nothing is between */
		return true;
	}
	return take_piece(p, line, lenient);
}

/* The trace ends in a line that a remark has cut. */
static bool take_last_head(struct parser *p, bool lenient)
{
	struct span head = {p->head, p->head_count};
	struct trace_error error;

	p->head_count = 0;
	if (take_line(p, head))
		return true;
	error = *p->error;
	head = append(&p->joined, &p->joined_capacity, 0, head);
	head = append(&p->joined, &p->joined_capacity, head.length,
		      (struct span){" <unfinished ...>", 17});
	if (take_line(p, keep_text(p, head)))
		return true;
	*p->error = error;
	if (lenient)
		skip_line(p, head, error);
	return lenient;
}

static int compare_order(const void *a, const void *b)
{
	const struct trace_call *left = a, *right = b;

	if (left->order != right->order)
		return left->order < right->order ? -1 : 1;
	if (left->line != right->line)
		return left->line < right->line ? -1 : 1;
	return (left->number > right->number) - (left->number < right->number);
}

bool trace_parse(struct trace *trace, const char *text, size_t length,
		 const struct trace_rules *rules, struct trace_error *error)
{
	struct parser p = {.trace = trace, .page = rules->page, .error = error};
	bool fine = true;
	struct span line;

	*trace = (struct trace){.calls = NULL};
	*error = (struct trace_error){.line = 0};
	text_open(&p.text, text, length);
	while (fine && text_next(&p.text, &line))
		fine = take_text(&p, line, rules->lenient);
	if (fine && p.head_count)
		fine = take_last_head(&p, rules->lenient);
	trace->lines = p.text.number;
	for (size_t i = 0; i < p.threads_size; i++)
		drop_pending(&p, &p.threads[i]);
	for (size_t i = 0; i < p.kept_count; i++)
		free(p.kept[i]);
	free(p.kept);
	free(p.threads);
	free(p.segments);
	free(p.head);
	free(p.joined);
	free(p.tried);
	text_close(&p.text);
	if (!fine) {
		trace_free(trace);
		return false;
	}
	*error = (struct trace_error){.line = 0};
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

bool trace_load(struct trace *trace, const char *path, const struct trace_rules *rules,
		struct trace_error *error)
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
		fine = trace_parse(trace, text, length, rules, error);
	}
	free(text);
	if (fd >= 0 && !standard)
		close(fd);
	return fine;
}

void trace_free(struct trace *trace)
{
	free(trace->calls);
	free(trace->unplayed);
	free(trace->skipped);
	*trace = (struct trace){.calls = NULL};
}
