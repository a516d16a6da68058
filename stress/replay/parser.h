/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the parser share:
 *
 *     trace.c   the lines of the file, one after the other          trace.h
 *     mend.c    lines that are not whole, or have more in them than their own
 *     skip.c    lines that are not strace's (--lenient)
 *     take.c    whole lines: threads, and their calls, cut or not, in order
 *     call.c    the text of a call: what it asks for
 */
#ifndef REPLAY_PARSER_H
#define REPLAY_PARSER_H

#include "text.h"
#include "trace.h"

/* What is known of a thread while reading. */
struct reader_thread {
	uint32_t pid;
	bool used;
	bool ended;
	bool pending; /* a call of it is cut; name, text and line are its beginning */
	bool printed; /* and what it printed has been found */
	bool guessed; /* the call that was cut last has been ended by a line that does not name it */
	size_t line;
	size_t first; /* its first line since it was born */
	struct span name, text;
};

/* A segment of shared memory (shmget). */
struct segment {
	uint64_t id, length;
};

struct parser {
	struct trace *trace;
	uint64_t page;
	struct reader_thread *threads; /* hash table, open addressing, a power of two */
	size_t threads_size, threads_used;
	struct segment *segments;
	size_t segments_count, segments_capacity;
	struct trace_error *error;

	struct text text;
	/* The line at hand may be made of several of the file's, or parts of them. This is what
	 * has been read of it already, and where it begins. */
	char *head;
	size_t head_count, head_capacity;
	size_t first;
	bool in_table;
	uint32_t cut_pid; /* who has the call that was cut last, and in which line */
	size_t cut_number;
	size_t later;         /* behind the last call that has printed what stands before it */
	size_t barren;        /* up to there nothing has been found that ends a call */
	char *joined, *tried; /* room for lines, and calls, that are put together */
	size_t joined_capacity, tried_capacity;
	char **kept; /* texts that unfinished calls need */
	size_t kept_count, kept_capacity;
};

/* ---- take.c ---- */

/* Take a line that is whole. On false nothing has changed, and the error is set. */
bool take_line(struct parser *p, struct span text);
/* The end of a call whose beginning is not named in the line. */
bool take_resumed(struct parser *p, const struct line *line);
bool take_unfinished(struct parser *p, const struct line *line);
void take_exit(struct parser *p, uint32_t pid);
/* Append a call, or an event, that is complete but for its place in the file. */
void keep_call(struct parser *p, struct trace_call *call);
/* The thread's call, if one is cut, will not be seen to end. */
void drop_pending(struct parser *p, struct reader_thread *thread);
/* The thread `pid`, new or not; the same, or NULL if it is not known; the one whose call is resumed. */
struct reader_thread *thread_of(struct parser *p, uint32_t pid);
struct reader_thread *thread_known(struct parser *p, uint32_t pid);
struct reader_thread *thread_of_resumed(struct parser *p, const struct line *line);
/* `text`, at a place where it stays. */
struct span keep_text(struct parser *p, struct span text);
/* Append to `buffer`, of which `length` bytes are in use; answers all of it. */
struct span append(char **buffer, size_t *capacity, size_t length, struct span text);

/* ---- mend.c: each answers whether it knew what to do with the line ---- */

/* `line` is what the file has, behind the head; the line at hand is the head and it. */

/* Calls that print, with what they have printed in them; see printed_begins(). */
bool mend_own_print(struct parser *p, struct span line, bool blind);
/* What a call has printed that is cut meanwhile, where it is a call to the letter. */
bool mend_printed_call(struct parser *p, struct span line);
/* The same, without a newline, where it has run into the arguments of a call about memory that is cut: "munmap(0x1000,
 * 4096. <unfinished ...>" would be found wrong only when it is resumed. */
bool mend_cut_print(struct parser *p, struct span line);
/* What a call prints that is cut meanwhile, or is shown later (strace -z). */
bool mend_print(struct parser *p, struct span line);
/* The rest of a call that nothing has cut (strace -f -z). */
bool mend_rest(struct parser *p, struct span line);
/* The line at hand as a whole: keys that were pressed, lines that belong to it. */
bool mend_keys(struct parser *p, struct span whole);
bool mend_broken(struct parser *p, struct span whole);

/* ---- skip.c ---- */

/* Skip a line, which may be more than one of the file's, and count it. */
void skip_line(struct parser *p, struct span line, struct trace_error error);

#endif
