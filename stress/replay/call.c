/* SPDX-License-Identifier: MIT */
/*
 * From the text of one whole call to its numbers. Only the calls that matter to
 * an address space are looked into; they are looked into closely, because a
 * trace that says what no kernel can have done is better refused than replayed.
 */
#include <stdio.h>
#include <string.h>

#include "fields.h"

enum {
	SEGMENT_REMAP = 1024, /* flag of shmat, beside protections */
};

static const struct flag_name protections[] = {
	{"PROT_READ", 1, TRACE_READ}, {"PROT_WRITE", 2, TRACE_WRITE},
	{"PROT_EXEC", 4, TRACE_EXEC}, {"PROT_NONE", 0, 0},
	{"PROT_SEM", 0, 0},           {"PROT_GROWSDOWN", 0, 0},
	{"PROT_GROWSUP", 0, 0},       {"PROT_BTI", 0, 0},
	{"PROT_MTE", 0, 0},           {"PROT_SAO", 0, 0},
	{"PROT_ADI", 0, 0},           {NULL, 0, 0},
};

static const struct flag_name map_flags[] = {
	{"MAP_FIXED", 0x10, TRACE_FIXED},
	{"MAP_FIXED_NOREPLACE", 0x100000, TRACE_NOREPLACE},
	{"MAP_ANONYMOUS", 0, 0},
	{"MAP_ANON", 0, 0},
	{"MAP_FILE", 0, 0},
	{"MAP_SHARED", 0, 0},
	{"MAP_PRIVATE", 0, 0},
	{"MAP_SHARED_VALIDATE", 0, 0},
	{"MAP_32BIT", 0, 0},
	{"MAP_ABOVE4G", 0, 0},
	{"MAP_GROWSDOWN", 0, 0},
	{"MAP_DENYWRITE", 0, 0},
	{"MAP_EXECUTABLE", 0, 0},
	{"MAP_LOCKED", 0, 0},
	{"MAP_NORESERVE", 0, 0},
	{"MAP_POPULATE", 0, 0},
	{"MAP_NONBLOCK", 0, 0},
	{"MAP_STACK", 0, 0},
	{"MAP_HUGETLB", 0, 0},
	{"MAP_SYNC", 0, 0},
	{"MAP_UNINITIALIZED", 0, 0},
	{"MAP_DROPPABLE", 0, 0},
	{"MAP_HUGE_2MB", 0, 0},
	{"MAP_HUGE_1GB", 0, 0},
	{NULL, 0, 0},
};

static const struct flag_name clone_flags[] = {
	{"CLONE_VM", 0x100, TRACE_VM},
	{"CLONE_THREAD", 0x10000, TRACE_THREAD},
	{NULL, 0, 0},
};

static const struct flag_name segment_flags[] = {
	{"SHM_RDONLY", 0x1000, TRACE_READ},
	{"SHM_REMAP", 0x4000, SEGMENT_REMAP},
	{"SHM_EXEC", 0x8000, TRACE_EXEC},
	{"SHM_RND", 0, 0},
	{NULL, 0, 0},
};

static const struct flag_name remap_flags[] = {
	{"MREMAP_MAYMOVE", 1, TRACE_MAYMOVE},
	{"MREMAP_FIXED", 2, TRACE_FIXED},
	{"MREMAP_DONTUNMAP", 4, TRACE_DONTUNMAP},
	{NULL, 0, 0},
};

/* Is it a call that is complete? What strace prints of others is manifold: where their arguments
 * cannot be told apart, it is enough that there is a result at the end. */
static bool other_is_whole(struct span text, struct trace_call *call, char reason[200])
{
	struct arguments arguments;
	struct span rest;

	if (span_find(text, "<unfinished ...>) = ?") != SIZE_MAX) {
		call->end = TRACE_UNKNOWN;
		return true;
	}
	if (fields_split(text, &arguments, &rest, reason)) {
		if (!field_result(rest, call, reason))
			return false;
		/* A mailer has broken the line within. */
		return !field_is_open(rest) || field_fail(reason, "an error's text without an end");
	}
	for (size_t at = text.length; at--;) {
		if (text.text[at] == ')' && span_begins(span_trim(span_after(text, at + 1)), "=") &&
		    field_result(span_after(text, at + 1), call, reason))
			return true;
	}
	return false;
}

bool call_is_whole(struct span text)
{
	/* Of a kind whose results are looked at closely. */
	struct trace_call call = {.kind = TRACE_MUNMAP};
	struct arguments arguments;
	struct span rest;
	char reason[200];

	return fields_split(text, &arguments, &rest, reason) && field_result(rest, &call, reason);
}

static bool want_arguments(const struct arguments *arguments, int least, int most, struct span name,
			   char reason[200])
{
	if (arguments->count >= least && arguments->count <= most)
		return true;
	return field_fail(reason, "%.*s with %d argument%s", field_shown(name), name.text,
			  arguments->count, arguments->count == 1 ? "" : "s");
}

/* Round *length up to pages and see that [address, address + *length) is a range. */
static bool check_range(uint64_t address, uint64_t *length, uint64_t page, char reason[200])
{
	/* Two pages below the end of the address space, so that a page beyond any
	 * range can still be named. */
	if (*length > UINT64_MAX - 2 * page || address > UINT64_MAX - 2 * page - *length)
		return field_fail(reason, "the range reaches the top of the address space");
	*length = (*length + page - 1) & ~(page - 1);
	return true;
}

static bool check_aligned(uint64_t address, uint64_t page, const char *what, char reason[200])
{
	if (!(address & (page - 1)))
		return true;
	return field_fail(reason, "%s 0x%llx is not page-aligned, and yet the call succeeded", what,
			  (unsigned long long)address);
}

/* Of munmap and the like. */
static bool check_zero(const struct trace_call *call, char reason[200])
{
	return !call->result || field_fail(reason, "the result 0x%llx of a call that has none",
					   (unsigned long long)call->result);
}

static bool check_length(uint64_t length, char reason[200])
{
	return length || field_fail(reason, "the length is 0, and yet the call succeeded");
}

/* map_shadow_stack(address, length, flags): for the space, one more mapping. */
static bool decode_shadow(const struct arguments *a, uint64_t page, struct trace_call *call,
			  char reason[200])
{
	uint64_t hint;

	call->flags = TRACE_SHADOW;
	call->protection = TRACE_READ | TRACE_WRITE;
	call->address = call->result;
	return field_number(a->at[0], "the address", &hint, reason) &&
	       field_number(a->at[1], "the length", &call->length, reason) &&
	       check_length(call->length, reason) &&
	       check_aligned(call->result, page, "the result", reason) &&
	       check_range(call->address, &call->length, page, reason);
}

static bool decode_shmat(const struct arguments *a, uint64_t page, struct trace_call *call,
			 char reason[200])
{
	uint64_t hint, none = 0;
	unsigned flags = 0;

	if (!field_number(a->at[0], "the segment", &call->new_length, reason) ||
	    !field_number(a->at[1], "the address", &hint, reason) ||
	    !field_flags(a->at[2], segment_flags, "flag of shmat", &flags, reason))
		return false;
	call->address = call->result;
	call->protection =
		TRACE_READ | (flags & TRACE_READ ? 0 : TRACE_WRITE) | (flags & TRACE_EXEC);
	call->flags = flags & SEGMENT_REMAP ? TRACE_FIXED : 0;
	return check_aligned(call->result, page, "the result", reason) &&
	       check_range(call->address, &none, page, reason);
}

static bool decode_shmdt(const struct arguments *a, uint64_t page, struct trace_call *call,
			 char reason[200])
{
	uint64_t none = 0;

	return field_number(a->at[0], "the address", &call->address, reason) &&
	       check_aligned(call->address, page, "the address", reason) &&
	       check_range(call->address, &none, page, reason);
}

/* How long a segment is, as far as shmget or shmctl says so: result is the segment. */
static void decode_segment(struct span name, struct span text, struct trace_call *call)
{
	static const char key[] = "shm_segsz=";
	char reason[200];
	struct arguments a;
	struct span rest;

	if (!fields_split(text, &a, &rest, reason) || a.count < 2 ||
	    !field_result(rest, call, reason) || call->end != TRACE_DONE)
		return;
	if (span_is(name, "shmget")) {
		field_number(a.at[1], "the length", &call->length, reason);
	} else if (span_find(text, key) != SIZE_MAX &&
		   field_number(a.at[0], "the segment", &call->result, reason)) {
		rest = span_after(text, span_find(text, key) + strlen(key));
		field_take_value(&rest, &call->length);
	}
}

/* Is it a descriptor, not -1 or that in raw numbers? */
static bool is_file(struct span text)
{
	uint64_t value;

	if (span_begins(text, "-"))
		return false;
	return !field_take_value(&text, &value) || (value != UINT32_MAX && value != UINT64_MAX);
}

static bool decode_mmap(const struct arguments *a, uint64_t page, struct trace_call *call,
			char reason[200])
{
	uint64_t hint;

	if (!field_number(a->at[0], "the address", &hint, reason) ||
	    !field_number(a->at[1], "the length", &call->length, reason) ||
	    !field_flags(a->at[2], protections, "protection", &call->protection, reason) ||
	    !field_flags(a->at[3], map_flags, "flag of mmap", &call->flags, reason))
		return false;
	if (is_file(a->at[4]))
		call->flags |= TRACE_FILE;
	call->address = call->result;
	if ((call->flags & (TRACE_FIXED | TRACE_NOREPLACE)) == TRACE_FIXED && hint != call->result)
		return field_fail(reason, "a fixed mapping that is not where it was asked for");
	return check_length(call->length, reason) &&
	       check_aligned(call->result, page, "the result", reason) &&
	       check_range(call->address, &call->length, page, reason);
}

/* The address and length that munmap, mprotect and madvise begin with. */
static bool decode_range(const struct arguments *a, uint64_t page, struct trace_call *call,
			 char reason[200])
{
	if (!field_number(a->at[0], "the address", &call->address, reason) ||
	    !field_number(a->at[1], "the length", &call->length, reason))
		return false;
	return check_aligned(call->address, page, "the address", reason) &&
	       check_range(call->address, &call->length, page, reason);
}

static bool decode_mremap(const struct arguments *a, uint64_t page, struct trace_call *call,
			  char reason[200])
{
	uint64_t target = 0;

	if (!field_number(a->at[0], "the address", &call->address, reason) ||
	    !field_number(a->at[1], "the old length", &call->length, reason) ||
	    !field_number(a->at[2], "the new length", &call->new_length, reason) ||
	    !field_flags(a->at[3], remap_flags, "flag of mremap", &call->flags, reason) ||
	    (a->count == 5 && !field_number(a->at[4], "the new address", &target, reason)))
		return false;
	if ((call->flags & TRACE_FIXED) && (a->count < 5 || target != call->result))
		return field_fail(reason, "a fixed mapping that is not where it was asked for");
	if (!(call->flags & TRACE_MAYMOVE) && call->result != call->address)
		return field_fail(reason, "mremap moved without MREMAP_MAYMOVE");
	if (!check_length(call->new_length, reason) ||
	    !check_aligned(call->address, page, "the address", reason) ||
	    !check_aligned(call->result, page, "the result", reason) ||
	    !check_range(call->address, &call->length, page, reason) ||
	    !check_range(call->result, &call->new_length, page, reason))
		return false;
	if (call->result != call->address && call->result < call->address + call->length &&
	    call->address < call->result + call->new_length)
		return field_fail(reason, "mremap onto itself");
	if (call->result == call->address && !call->length)
		return field_fail(reason, "mremap copied onto itself");
	return true;
}

static bool decode_brk(const struct arguments *a, uint64_t page, struct trace_call *call,
		       char reason[200])
{
	uint64_t none = 0;

	if (!field_number(a->at[0], "the address", &call->address, reason))
		return false;
	/* brk never fails: it answers the break, moved or not. */
	return check_range(call->result, &none, page, reason);
}

/*
 * The flags of clone and clone3: behind "flags=" (names, numbers, or numbers with names in a comment),
 * or the first argument of a clone of which nothing is decoded (-e raw). clone3 has a
 * pointer there.
 */
static bool find_clone_flags(struct span name, struct span text, struct span *out)
{
	static const char key[] = "flags=";
	size_t at = span_find(text, key);

	if (at == SIZE_MAX && !span_is(name, "clone") && !span_is(name, "clone2"))
		return false;
	*out = at == SIZE_MAX ? text : span_after(text, at + strlen(key));
	return true;
}

static void decode_clone(struct span name, struct span arguments, struct trace_call *call)
{
	struct span text, word;
	uint64_t number;
	bool shown = false, spoilt = false;

	call->child = call->result <= UINT32_MAX ? (uint32_t)call->result : 0;
	if (span_is(name, "vfork"))
		call->flags = TRACE_VM;
	if (span_is(name, "fork") || span_is(name, "vfork"))
		return;
	if (!find_clone_flags(name, arguments, &text)) {
		call->flags = TRACE_UNSURE;
		return;
	}
	while (field_next_flag(&text, &word)) {
		struct span rest = word;

		shown = shown || span_begins(word, "CLONE_") || span_begins(word, "SIG") ||
			(field_take_value(&rest, &number) && !rest.length);
		/* What has been printed into a name makes another of it. */
		for (size_t i = 0; i < word.length; i++)
			spoilt = spoilt || !field_is_word(word.text[i]);
		field_flag(word, clone_flags, &call->flags);
		if (!span_begins(text, "|"))
			break;
		text = span_after(text, 1);
	}
	if (!shown || spoilt)
		call->flags = TRACE_UNSURE;
}

bool call_decode(struct span name, struct span text, uint64_t page, struct trace_call *call,
		 char reason[200])
{
	struct arguments a = {.count = 0};
	struct span rest;

	call->kind = call_kind(name);
	call->end = TRACE_DONE;
	call->why = WHY_NONE;
	if (call->kind == TRACE_OTHER) {
		if (call_runs_on(name))
			return field_fail(reason, "something before a call: '%.*s'",
					  field_shown(name), name.text);
		/* Something in the middle of a name has made another of it. */
		if (!call_is_memory(name) && field_has_flag(text))
			return field_fail(reason, "'%.*s' with flags of a call about memory",
					  field_shown(name), name.text);
		if (!other_is_whole(text, call, reason))
			return false;
		if (call->end != TRACE_DONE)
			return true;
		if (span_is(name, "shmget") || span_is(name, "shmctl"))
			decode_segment(name, text, call);
		if (!call_is_memory(name))
			call->why = WHY_NONE;
		else if (call->why == WHY_NONE)
			call->why = WHY_NOT_FOLLOWED;
		return true;
	}
	/* "name(... <unfinished ...>) = ?": the thread died within. */
	if (span_find(text, "<unfinished ...>) = ?") != SIZE_MAX) {
		call->end = TRACE_UNKNOWN;
		return true;
	}
	if (!fields_split(text, &a, &rest, reason) || !field_result(rest, call, reason))
		return false;
	/* Then it may have been anything that was asked for, or cannot even be read. */
	if (call->end != TRACE_DONE || call->why == WHY_INJECTED)
		return true;

	switch (call->kind) {
	case TRACE_MMAP:
		if (span_is(name, "map_shadow_stack") || span_begins(name, "syscall_"))
			return want_arguments(&a, 3, 6, name, reason) &&
			       decode_shadow(&a, page, call, reason);
		if (a.count == 1) {
			/* Of an old 32-bit machine, and -e raw: a pointer to the six. */
			call->why = WHY_NO_ARGUMENTS;
			return true;
		}
		return want_arguments(&a, 6, 6, name, reason) &&
		       decode_mmap(&a, page, call, reason);
	case TRACE_MUNMAP:
		return want_arguments(&a, 2, 2, name, reason) &&
		       decode_range(&a, page, call, reason) && check_zero(call, reason) &&
		       check_length(call->length, reason);
	case TRACE_MPROTECT:
		return want_arguments(&a, 3, 4, name, reason) &&
		       decode_range(&a, page, call, reason) && check_zero(call, reason) &&
		       field_flags(a.at[2], protections, "protection", &call->protection, reason);
	case TRACE_MREMAP:
		return want_arguments(&a, 4, 5, name, reason) &&
		       decode_mremap(&a, page, call, reason);
	case TRACE_BRK:
		return want_arguments(&a, 1, 1, name, reason) && decode_brk(&a, page, call, reason);
	case TRACE_SHMAT:
		return want_arguments(&a, 3, 3, name, reason) &&
		       decode_shmat(&a, page, call, reason);
	case TRACE_SHMDT:
		return want_arguments(&a, 1, 1, name, reason) && check_zero(call, reason) &&
		       decode_shmdt(&a, page, call, reason);
	case TRACE_MADVISE:
		if (!span_is(name, "madvise"))
			call->why = WHY_NOT_FOLLOWED;
		return want_arguments(&a, 3, 5, name, reason) &&
		       decode_range(&a, page, call, reason);
	case TRACE_CLONE:
		decode_clone(name, text, call);
		return true;
	default:
		return true;
	}
}

bool call_is_closed(struct span name, struct span text)
{
	enum trace_kind kind = call_kind(name);
	struct arguments arguments;
	struct span rest;
	char reason[200];

	return (kind <= TRACE_MADVISE || kind == TRACE_CLONE) &&
	       fields_split(text, &arguments, &rest, reason);
}

bool call_may_go_on(struct span name, struct span text, uint64_t page)
{
	enum trace_kind kind = call_kind(name);
	struct arguments a = {.count = 0};
	struct span results[] = {{"0", 1}, {"0", 1}, {"0", 1}}, rest;
	char whole[512], reason[200];
	int length;

	if (kind > TRACE_MADVISE || kind == TRACE_SHMAT)
		return true;
	length = snprintf(whole, sizeof(whole), "%.*s)", (int)text.length, text.text);
	if (length >= (int)sizeof(whole))
		return true;
	if (!fields_split((struct span){whole, (size_t)length}, &a, &rest, reason))
		return false;
	/* It goes where it asks to, if it must, or just anywhere. */
	if (a.count > 0)
		results[1] = a.at[0];
	if (a.count > 4)
		results[2] = a.at[4];
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		struct trace_call call = {.kind = kind};

		length = snprintf(whole, sizeof(whole), "%.*s) = %.*s", (int)text.length, text.text,
				  (int)results[i].length, results[i].text);
		if (length < (int)sizeof(whole) &&
		    call_decode(name, (struct span){whole, (size_t)length}, page, &call, reason))
			return true;
	}
	return false;
}
