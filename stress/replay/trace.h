/* SPDX-License-Identifier: MIT */
/*
 * A recorded trace: the calls of strace's output, decoded, each whole (a call
 * that another thread's cut in two is joined), in the order of their effects.
 */
#ifndef REPLAY_TRACE_H
#define REPLAY_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "line.h"

enum trace_kind {
	TRACE_MMAP,
	TRACE_MUNMAP,
	TRACE_MPROTECT,
	TRACE_MREMAP,
	TRACE_BRK,
	TRACE_SHMAT,
	TRACE_SHMDT,
	TRACE_MADVISE, /* and what else only needs that something is mapped */
	TRACE_EXECVE,
	TRACE_CLONE,      /* clone, clone3, fork, vfork */
	TRACE_EXIT,       /* not a call: the thread is gone */
	TRACE_SUPERSEDED, /* not a call: the thread's pid now is another thread's */
	TRACE_ATTACHED,   /* not a call: the thread is new here */
	TRACE_OTHER,
	TRACE_KINDS,
};

/* Protections, in the numbers of Linux. */
enum {
	TRACE_READ = 1,
	TRACE_WRITE = 2,
	TRACE_EXEC = 4,
};

enum trace_flag {
	TRACE_FIXED = 1,     /* mmap, mremap: just there, whatever is there */
	TRACE_NOREPLACE = 2, /* mmap: just there, if nothing is there */
	TRACE_MAYMOVE = 4,   /* mremap */
	TRACE_DONTUNMAP = 8, /* mremap */
	TRACE_FILE = 16,     /* mmap: of a file */
	TRACE_VM = 32,       /* clone: shares the address space */
	TRACE_THREAD = 64,   /* clone: a thread */
	TRACE_UNSURE = 128,  /* clone: which of the two is not shown */
	TRACE_SHADOW = 256,  /* map_shadow_stack, which else is an mmap */
};

/* What is known of how a call ended. */
enum trace_end {
	TRACE_DONE,    /* with success */
	TRACE_FAILED,  /* no effect */
	TRACE_UNKNOWN, /* "= ?": it did not return, or will be made again; no effect */
};

/* Why a call that looks like memory is not played. */
enum trace_why {
	WHY_NONE,         /* it is, or it does not */
	WHY_NOT_FOLLOWED, /* it is none that can be played */
	WHY_INJECTED,     /* strace answered in the kernel's place (-e inject) */
	WHY_NO_RESULT,    /* "= ?" */
	WHY_NO_END,       /* never resumed, or strace let go of the process */
	WHY_NO_ARGUMENTS, /* it has a pointer to them, and strace does not follow it */
};

struct trace_call {
	enum trace_kind kind;
	enum trace_end end;
	enum trace_why why;
	uint32_t pid;        /* 0: the trace names none */
	uint32_t child;      /* CLONE: the new one; SUPERSEDED: who goes on under this pid */
	unsigned protection; /* MMAP, MPROTECT */
	unsigned flags;      /* enum trace_flag */
	/*
	 * MMAP: address is where it is. MREMAP: old at address, new at result.
	 * BRK: address is what was asked for, result what the break is now.
	 * Lengths are whole pages.
	 * SHMAT: its length is 0 where the trace does not show it; new_length is the segment.
	 */
	uint64_t address, length, new_length, result;
	size_t line;    /* where the call ends, counted from 1 */
	size_t begin;   /* where it begins */
	uint64_t order; /* sorts calls by effect */
	size_t number;  /* and those that are equal in this, as they were read */
};

/* Calls of one name that were not played for one reason. */
struct trace_unplayed {
	char name[24];
	enum trace_why why;
	size_t count;
	size_t line; /* of the first */
};

/* Lines that were skipped (--lenient) for one reason. */
struct trace_skipped {
	char reason[200];
	size_t count;
	size_t line; /* the first, and how it begins */
	char text[64];
};

struct trace {
	struct trace_call *calls; /* all but OTHER and calls without effect */
	size_t calls_count, calls_capacity;
	size_t lines;
	size_t done[TRACE_KINDS]; /* successful calls by kind */
	size_t failed[TRACE_KINDS];
	size_t unknown[TRACE_KINDS];
	size_t advice;  /* successful madvise: read, never played */
	size_t files;   /* mmap of a file, played as anonymous */
	size_t shadows; /* map_shadow_stack, counted under mmap as well */
	size_t signals;
	size_t remarks;   /* lines, or parts of them, in which strace says no call */
	size_t cut;       /* calls that were unfinished and resumed */
	size_t unresumed; /* calls that the trace, or their thread, ended within */
	size_t memory;    /* of OTHER: calls about memory */
	struct trace_unplayed *unplayed;
	size_t unplayed_count, unplayed_capacity;
	struct trace_skipped *skipped;
	size_t skipped_count, skipped_capacity;
	size_t skipped_lines;
	size_t skipped_memory; /* of these, such as may concern memory */
	size_t skipped_first;  /* the line of the first of those */
};

struct trace_rules {
	uint64_t page; /* the page size of the traced machine */
	bool lenient;  /* skip what is not strace's, instead of refusing all */
};

struct trace_error {
	size_t line;
	char reason[200];
};

/*
 * Read the `length` bytes at `text`. On false, *error names the first bad line
 * and *trace is empty; with `lenient` there is none.
 */
bool trace_parse(struct trace *trace, const char *text, size_t length,
		 const struct trace_rules *rules, struct trace_error *error);
/* The same for a file, "-" for the standard input. A file that cannot be read is
 * an error in line 0. */
bool trace_load(struct trace *trace, const char *path, const struct trace_rules *rules,
		struct trace_error *error);
void trace_free(struct trace *trace);

const char *trace_kind_name(enum trace_kind kind);
const char *trace_why_name(enum trace_why why);

/* The pieces, for tests. call_kind() knows a call by its name; call_decode()
 * reads `text`, which follows "name(", into *call. On false, `reason` says why. */
enum trace_kind call_kind(struct span name);
bool call_decode(struct span name, struct span text, uint64_t page, struct trace_call *call,
		 char reason[200]);
/* Is it a call that has to do with address spaces, to judge by its name? */
bool call_is_memory(struct span name);
/* Does `text`, whatever it is, contain what looks like such a call or a part of one? */
bool call_may_be_in(struct span text);
/* The same, or only what names of such calls have in common. */
bool call_is_named_in(struct span text);

#endif
