/* SPDX-License-Identifier: MIT */
/*
 * Which calls there are, to judge by their names.
 */
#include <string.h>

#include "fields.h"

static const struct {
	const char *name;
	enum trace_kind kind;
} kinds[] = {
	{"mmap", TRACE_MMAP},
	{"mmap2", TRACE_MMAP},
	{"old_mmap", TRACE_MMAP},
	{"old_mmap_pgoff", TRACE_MMAP},
	{"mmap_pgoff", TRACE_MMAP},
	{"map_shadow_stack", TRACE_MMAP},
	{"syscall_0x1c5", TRACE_MMAP}, /* the same, to a strace that is older */
	{"munmap", TRACE_MUNMAP},
	{"mprotect", TRACE_MPROTECT},
	{"pkey_mprotect", TRACE_MPROTECT},
	{"mremap", TRACE_MREMAP},
	{"brk", TRACE_BRK},
	{"shmat", TRACE_SHMAT},
	{"shmdt", TRACE_SHMDT},
	{"madvise", TRACE_MADVISE},
	{"remap_file_pages", TRACE_MADVISE},
	{"mseal", TRACE_MADVISE},
	{"execve", TRACE_EXECVE},
	{"execveat", TRACE_EXECVE},
	{"execv", TRACE_EXECVE},
	{"clone", TRACE_CLONE},
	{"clone2", TRACE_CLONE},
	{"clone3", TRACE_CLONE},
	{"fork", TRACE_CLONE},
	{"vfork", TRACE_CLONE},
};

enum trace_kind call_kind(struct span name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (span_is(name, kinds[i].name))
			return kinds[i].kind;
	}
	return TRACE_OTHER;
}

/*
 * Calls about memory that are none of the kinds above. They are looked for by what their names have
 * in common, so that those which are still to come are found too.
 */
static const char *const memory_parts[] = {
	"mmap",        "munmap",  "mprotect",     "mremap",     "remap_",   "brk",
	"madvise",     "shm",     "shadow_stack", "mlock",      "munlock",  "msync",
	"mbind",       "mincore", "mseal",        "mempolicy",  "_pages",   "pkey_",
	"userfaultfd", "uselib",  "io_setup",     "io_destroy", "mrelease",
};

static bool in_name(struct span name, const char *part)
{
	return span_find(name, part) != SIZE_MAX;
}

bool call_is_memory(struct span name)
{
	enum trace_kind kind = call_kind(name);

	if (span_is(name, "ipc")) /* shmat and others of an old 32-bit machine, not decoded */
		return true;
	if (kind != TRACE_OTHER)
		return kind != TRACE_EXECVE && kind != TRACE_CLONE;
	for (size_t i = 0; i < sizeof(memory_parts) / sizeof(memory_parts[0]); i++) {
		/* What only makes or asks a segment maps nothing. */
		if (in_name(name, memory_parts[i]))
			return !span_is(name, "shmget") && !span_is(name, "shmctl");
	}
	return false;
}

/* Is `name` another call's, with something in front of it that is none: "hellommap"? */
bool call_runs_on(struct span name)
{
	if (call_kind(name) != TRACE_OTHER)
		return false;
	for (size_t at = 1; at < name.length; at++) {
		if (name.text[at - 1] != '_' && call_kind(span_after(name, at)) != TRACE_OTHER)
			return true;
	}
	return false;
}

bool call_begins(struct span text)
{
	struct span name = {text.text, 0};

	while (name.length < text.length && field_is_word(text.text[name.length]))
		name.length++;
	text = span_after(text, name.length);
	return name.length && (span_begins(text, "(") || span_begins(text, " resumed")) &&
	       (call_kind(name) != TRACE_OTHER || call_is_memory(name) || call_runs_on(name));
}

bool call_may_be_in(struct span text)
{
	static const char *const flags[] = {"PROT_", "MAP_", "MREMAP_", "MADV_", "CLONE_"};

	for (size_t at = 0; at < text.length; at++) {
		struct span rest = span_after(text, at);

		if (at && field_is_word(text.text[at - 1]))
			continue;
		for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
			if (span_begins(rest, flags[i]))
				return true;
		}
		if (call_begins(rest))
			return true;
	}
	return false;
}

bool call_is_named_in(struct span text)
{
	for (size_t i = 0; i < sizeof(memory_parts) / sizeof(memory_parts[0]); i++) {
		if (in_name(text, memory_parts[i]))
			return true;
	}
	return call_may_be_in(text);
}

const char *trace_why_name(enum trace_why why)
{
	static const char *const names[] = {
		[WHY_NONE] = "",
		[WHY_NOT_FOLLOWED] = "not followed",
		[WHY_INJECTED] = "injected",
		[WHY_NO_RESULT] = "without a result",
		[WHY_NO_END] = "never ended",
		[WHY_NO_ARGUMENTS] = "without arguments",
	};

	return names[why];
}

const char *trace_kind_name(enum trace_kind kind)
{
	static const char *const names[TRACE_KINDS] = {
		[TRACE_MMAP] = "mmap",
		[TRACE_MUNMAP] = "munmap",
		[TRACE_MPROTECT] = "mprotect",
		[TRACE_MREMAP] = "mremap",
		[TRACE_BRK] = "brk",
		[TRACE_MADVISE] = "madvise",
		[TRACE_SHMAT] = "shmat",
		[TRACE_SHMDT] = "shmdt",
		[TRACE_ATTACHED] = "attached",
		[TRACE_EXECVE] = "execve",
		[TRACE_CLONE] = "clone",
		[TRACE_EXIT] = "exit",
		[TRACE_SUPERSEDED] = "superseded",
		[TRACE_OTHER] = "other",
	};

	return names[kind];
}
