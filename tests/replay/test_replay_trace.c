/* SPDX-License-Identifier: MIT */
/*
 * The parser: what strace prints, in all its forms, and each way in which a line
 * can be wrong, with the number of the line and the reason.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trace.h"

#define ANONYMOUS "MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"

static void parse(struct trace *trace, const char *text)
{
	struct trace_error error;

	if (!trace_parse(trace, text, strlen(text), &(struct trace_rules){.page = 4096}, &error))
		fail_msg("line %zu: %s", error.line, error.reason);
}

/* The only call of a text. */
static struct trace_call parse_one(const char *text)
{
	struct trace_call call;
	struct trace trace;

	parse(&trace, text);
	assert_int_equal(trace.calls_count, 1);
	call = trace.calls[0];
	trace_free(&trace);
	return call;
}

static void refuse(const char *text, size_t line, const char *reason)
{
	struct trace_error error;
	struct trace trace;

	if (trace_parse(&trace, text, strlen(text), &(struct trace_rules){.page = 4096}, &error))
		fail_msg("accepted: %s", text);
	if (error.line != line || !strstr(error.reason, reason))
		fail_msg("'%s': line %zu: %s (wanted line %zu: %s)", text, error.line, error.reason,
			 line, reason);
	assert_int_equal(trace.calls_count, 0);
}

static void mmap_is_read(void **state)
{
	struct trace_call call;

	(void)state;
	call = parse_one(
		"11 mmap(NULL, 51611, PROT_READ, MAP_PRIVATE, 3, 0x1000) = 0x7f64f6d85000\n");
	assert_int_equal(call.kind, TRACE_MMAP);
	assert_int_equal(call.pid, 11);
	assert_int_equal(call.line, 1);
	assert_int_equal(call.address, 0x7f64f6d85000);
	assert_int_equal(call.length, 13 * 4096); /* rounded up */
	assert_int_equal(call.protection, TRACE_READ);
	assert_int_equal(call.flags, TRACE_FILE);

	/* A hint is no address. */
	call = parse_one("mmap(0x1000, 4096, PROT_NONE, " ANONYMOUS ") = 0x2000");
	assert_int_equal(call.pid, 0);
	assert_int_equal(call.address, 0x2000);
	assert_int_equal(call.protection, 0);
	assert_int_equal(call.flags, 0);

	call = parse_one("mmap(0x2000, 4096, PROT_WRITE|PROT_EXEC, MAP_FIXED|" ANONYMOUS
			 ") = 0x2000");
	assert_int_equal(call.protection, TRACE_WRITE | TRACE_EXEC);
	assert_int_equal(call.flags, TRACE_FIXED);

	/* An old kernel takes NOREPLACE for a hint. */
	call = parse_one("mmap(0x2000, 4096, PROT_READ, MAP_FIXED_NOREPLACE|" ANONYMOUS
			 ") = 0x3000");
	assert_int_equal(call.flags, TRACE_NOREPLACE);

	/* Numbers (-X raw), comments (-X verbose), paths (-y), unknown bits. */
	call = parse_one("mmap(NULL, 0x1000, 0x5, 0x32, -1, 0) = 0x0");
	assert_int_equal(call.protection, TRACE_READ | TRACE_EXEC);
	assert_int_equal(call.flags, TRACE_FIXED);
	call = parse_one("mmap(NULL, 0x1000, 0x3 /* PROT_READ|PROT_WRITE */, "
			 "0x22 /* MAP_PRIVATE|MAP_ANONYMOUS */, 3</lib/a,(b>, 0) = 0x1000");
	assert_int_equal(call.protection, TRACE_READ | TRACE_WRITE);
	call = parse_one("mmap(NULL, 1, PROT_READ|0x40, MAP_PRIVATE|MAP_HUGETLB|21<<MAP_HUGE_SHIFT"
			 "|0x2000000, -1, 0) = 0x1000 (DELAYED)");
	assert_int_equal(call.protection, TRACE_READ);
}

static void others_are_read(void **state)
{
	struct trace_call call;

	(void)state;
	call = parse_one("munmap(0x1000, 5000)                  = 0");
	assert_int_equal(call.kind, TRACE_MUNMAP);
	assert_int_equal(call.address, 0x1000);
	assert_int_equal(call.length, 8192);

	call = parse_one("mprotect(0x1000, 4096, PROT_READ|PROT_GROWSDOWN) = 0 <0.000017>");
	assert_int_equal(call.kind, TRACE_MPROTECT);
	assert_int_equal(call.protection, TRACE_READ);
	call = parse_one("pkey_mprotect(0x1000, 4096, PROT_READ, 1) = 0");
	assert_int_equal(call.kind, TRACE_MPROTECT);

	call = parse_one(
		"mremap(0x1000, 4096, 8192, MREMAP_MAYMOVE|MREMAP_FIXED, 0x5000) = 0x5000");
	assert_int_equal(call.kind, TRACE_MREMAP);
	assert_int_equal(call.address, 0x1000);
	assert_int_equal(call.length, 4096);
	assert_int_equal(call.new_length, 8192);
	assert_int_equal(call.result, 0x5000);
	assert_int_equal(call.flags, TRACE_MAYMOVE | TRACE_FIXED);

	call = parse_one("brk(0x1800) = 0x1800");
	assert_int_equal(call.kind, TRACE_BRK);
	assert_int_equal(call.address, 0x1800);
	assert_int_equal(call.result, 0x1800);

	call = parse_one("madvise(0x1000, 4096, MADV_DONTNEED) = 0");
	assert_int_equal(call.kind, TRACE_MADVISE);

	call = parse_one("execve(\"/bin/a)\\\"\", [\"x\", \"= -1\"], 0x7ffd /* 3 vars */) = 0");
	assert_int_equal(call.kind, TRACE_EXECVE);
	call = parse_one("execve(...) = 0");
	assert_int_equal(call.kind, TRACE_EXECVE);

	call = parse_one("7 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD, stack=0x7f00} => "
			 "{parent_tid=[8]}, 88) = 8");
	assert_int_equal(call.kind, TRACE_CLONE);
	assert_int_equal(call.flags, TRACE_VM | TRACE_THREAD);
	assert_int_equal(call.child, 8);
	call = parse_one(
		"clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, tidptr=0x1) = 8");
	assert_int_equal(call.flags, 0);
	call = parse_one("vfork() = 8");
	assert_int_equal(call.flags, TRACE_VM);
	call = parse_one("fork() = 8");
	assert_int_equal(call.flags, 0);
}

static void prefixes_are_skipped(void **state)
{
	static const struct {
		const char *prefix;
		uint32_t pid;
	} cases[] = {
		{"", 0},
		{"123 ", 123},
		{"  123   ", 123},
		{"[pid   123] ", 123},
		{"12:34:56 ", 0},
		{"12:34:56.789012 ", 0},
		{"1699999999.123456 ", 0},
		{"1699999999 ", 0}, /* greater than any pid */
		{"     0.000012 ", 0},
		{"123 12:34:56.789012 ", 123},
		{"123      0.000012 ", 123},
		{"123 1699999999 ", 123},
		{"[pid 123] 1699999999.123456 ", 123},
		{"12:34:56 (+     0.000012) ", 0},
		{"123 [00007f12a4e3c2a7] ", 123},
		{"123 [   9] ", 123},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trace_call call;
		char text[120];

		snprintf(text, sizeof(text), "%smunmap(0x1000, 4096) = 0\r\n", cases[i].prefix);
		call = parse_one(text);
		assert_int_equal(call.pid, cases[i].pid);
		assert_int_equal(call.address, 0x1000);
	}
}

static void everything_is_counted(void **state)
{
	struct trace trace;

	(void)state;
	parse(&trace, "strace: Process 9 attached\n"
		      "\n"
		      "[ Process PID=9 runs in 32 bit mode. ]\n"
		      "1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x1000\n"
		      "1 mmap(NULL, 0, PROT_READ, " ANONYMOUS ") = -1 EINVAL (Invalid argument)\n"
		      "1 munmap(0x1001, 4096) = -1 EINVAL (Invalid argument)\n"
		      "1 munmap(0x1000, 4096) = ? ERESTARTNOINTR (To be restarted)\n"
		      "1 madvise(0x1000, 4096, MADV_FREE) = 0\n"
		      "1 read(3, \"mmap(\", 5) = 5\n"
		      "1 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---\n"
		      " > /usr/lib/libc.so.6(__mmap+0x26) [0x11aa26]\n"
		      "1 exit_group(0) = ?\n"
		      "1 futex(0x1, FUTEX_WAIT <unfinished ...>) = ?\n"
		      "1 mmap(NULL, 1 <unfinished ...>) = ?\n"
		      "1 +++ exited with 0 +++");
	assert_int_equal(trace.lines, 15);
	assert_int_equal(trace.done[TRACE_MMAP], 1);
	assert_int_equal(trace.files, 1);
	assert_int_equal(trace.failed[TRACE_MMAP], 1);
	assert_int_equal(trace.unknown[TRACE_MMAP], 1);
	assert_int_equal(trace.failed[TRACE_MUNMAP], 1);
	assert_int_equal(trace.unknown[TRACE_MUNMAP], 1);
	assert_int_equal(trace.advice, 1);
	assert_int_equal(trace.done[TRACE_OTHER], 1);
	assert_int_equal(trace.unknown[TRACE_OTHER], 2);
	assert_int_equal(trace.remarks, 3);
	assert_int_equal(trace.signals, 1);
	assert_int_equal(trace.calls_count, 4); /* attached, mmap, madvise, exit */
	assert_int_equal(trace.calls[3].kind, TRACE_EXIT);
	trace_free(&trace);
}

static void cut_calls_are_joined(void **state)
{
	struct trace trace;

	(void)state;
	/* munmap counts from its beginning: its pages are what mmap was given. */
	parse(&trace, "1 munmap(0x7000, 4096 <unfinished ...>\n"
		      "2 mmap(NULL, 4096, PROT_READ, " ANONYMOUS " <unfinished ...>\n"
		      "3 write(1, \"a <unfinished ...>\", 3 <unfinished ...>\n"
		      "1 <... munmap resumed>)                = 0\n"
		      "2 <... mmap resumed> ) = 0x7000\n"
		      "3 <... write resumed>) = 3\n"
		      "3 mprotect(0x9000, 4096, PROT_NONE <unfinished ...>\n");
	assert_int_equal(trace.calls_count, 2);
	assert_int_equal(trace.calls[0].kind, TRACE_MUNMAP);
	assert_int_equal(trace.calls[0].begin, 1);
	assert_int_equal(trace.calls[0].line, 4);
	assert_int_equal(trace.calls[1].kind, TRACE_MMAP);
	assert_int_equal(trace.calls[1].line, 5);
	assert_int_equal(trace.cut, 3);
	assert_int_equal(trace.unresumed, 1);
	trace_free(&trace);

	/* And mmap from its end, even if it began before that munmap. */
	parse(&trace, "2 mmap(NULL, 4096, PROT_READ, " ANONYMOUS " <unfinished ...>\n"
		      "1 munmap(0x7000, 4096) = 0\n"
		      "2 <... mmap resumed>) = 0x7000\n");
	assert_int_equal(trace.calls[0].kind, TRACE_MUNMAP);
	assert_int_equal(trace.calls[1].kind, TRACE_MMAP);
	trace_free(&trace);

	/* A child may be seen before its parent is seen to have made it. */
	parse(&trace, "1 clone3({flags=CLONE_VM|CLONE_THREAD} <unfinished ...>\n"
		      "2 mmap(NULL, 4096, PROT_READ, " ANONYMOUS ") = 0x7000\n"
		      "1 <... clone3 resumed> => {parent_tid=[2]}, 88) = 2\n");
	assert_int_equal(trace.calls[0].kind, TRACE_CLONE);
	assert_int_equal(trace.calls[0].flags, TRACE_VM | TRACE_THREAD);
	assert_int_equal(trace.calls[0].child, 2);
	assert_int_equal(trace.calls[1].kind, TRACE_MMAP);
	trace_free(&trace);

	/* A thread ends within a call; what is begun in the middle of others' is fine. */
	parse(&trace, "1 munmap(0x7000, 4096 <unfinished ...>\n"
		      "1 +++ killed by SIGKILL +++\n"
		      "5 <... futex resumed>) = 0\n"
		      "5 <... restart_syscall resumed>) = 0\n");
	assert_int_equal(trace.unresumed, 1);
	assert_int_equal(trace.calls_count, 1);
	trace_free(&trace);

	/* On a terminal the pid is named only while there are two. */
	parse(&trace, "mmap(NULL, 4096, PROT_READ, " ANONYMOUS " <unfinished ...>\n"
		      "[pid 2] +++ exited with 0 +++\n"
		      "[pid 1] <... mmap resumed>) = 0x7000\n"
		      "[pid 1] mmap(NULL, 4096, PROT_READ, " ANONYMOUS " <unfinished ...>\n"
		      "<... mmap resumed>) = 0x8000\n");
	assert_int_equal(trace.calls_count, 3);
	assert_int_equal(trace.calls[2].pid, 1);
	trace_free(&trace);

	/* execve by a thread that is not the first goes on under the first's pid. */
	parse(&trace, "2 execve(\"/bin/x\", [], 0x0 <unfinished ...>\n"
		      "1 +++ superseded by execve in pid 2 +++\n"
		      "1 <... execve resumed>) = 0\n");
	assert_int_equal(trace.calls_count, 2);
	assert_int_equal(trace.calls[0].kind, TRACE_SUPERSEDED);
	assert_int_equal(trace.calls[0].child, 2);
	assert_int_equal(trace.calls[1].kind, TRACE_EXECVE);
	assert_int_equal(trace.calls[1].pid, 1);
	trace_free(&trace);
}

static void wrong_lines_are_refused(void **state)
{
	static const struct {
		const char *line, *reason;
	} cases[] = {
		{"hello", "neither a call"},
		{"123", "neither a call"},
		{"12x mmap(", "neither a pid nor a time"},
		{"99999999999999999999 brk(NULL) = 0x0", "neither a pid nor a time"},
		{"[pid x] brk(NULL) = 0x0", "neither a pid nor a time"},
		{"[pid 1 brk(NULL) = 0x0", "neither a pid nor a time"},
		{"12:00:00 (+ 0.1 brk", "neither a pid nor a time"},
		{"brk(\001) = 0", "a control character"},
		{"--- SIGCHLD {}", "does not end with it"},
		{"+++ exited with 0", "does not end with it"},
		{"+++ vanished +++", "unknown kind"},
		{"+++ superseded by execve in pid x +++", "unknown kind"},
		{"<... resumed>) = 0", "without \"NAME resumed>\""},
		{"<... mmap>) = 0", "without \"NAME resumed>\""},
		{"<... mmap resumed>) = 0", "never begun"},
		{"mmap(NULL, 4096", "the arguments have no end"},
		{"execve(\"a", "a string or comment"},
		{"execve(a /* b", "a string or comment"},
		{"munmap(0x1000, 4096})", "'}' closes nothing"},
		{"munmap(0x1000, 4096)", "no result"},
		{"munmap(0x1000, 4096) =", "the result is no number"},
		{"munmap(0x1000, 4096) = x", "the result is no number: 'x'"},
		{"munmap(0x1000, 4096) = 0x", "the result is no number"},
		{"munmap(0x1000, 4096) = 0z", "the result is no number"},
		{"munmap(0x1000, 4096) = 99999999999999999999", "the result is no number"},
		{"munmap(0x1000) = 0", "munmap with 1 argument"},
		{"munmap() = 0", "munmap with 0 arguments"},
		{"mmap(1, 2, 3) = 0", "mmap with 3 arguments"},
		{"mmap(1, 2, 3, 4, 5, 6, 7, 8, 9) = 0", "mmap with 7 arguments"},
		{"brk() = 0", "brk with 0 arguments"},
		{"madvise(0x1000, 4096) = 0", "madvise with 2 arguments"},
		{"mprotect(0x1000, 4096) = 0", "mprotect with 2 arguments"},
		{"mremap(0x1000, 4096, 4096) = 0", "mremap with 3 arguments"},
		{"munmap(here, 4096) = 0", "the address is no number: 'here'"},
		{"munmap(0x1000, many) = 0", "the length is no number"},
		{"munmap(0x1000, 4096 pages) = 0", "the length is no number"},
		{"mremap(0x1000, x, 4096, 0) = 0x1000", "the old length is no number"},
		{"mremap(0x1000, 4096, x, 0) = 0x1000", "the new length is no number"},
		{"mremap(0x1000, 4096, 4096, 3, x) = 0x2000", "the new address is no number"},
		{"brk(x) = 0x1000", "the address is no number"},
		{"mmap(NULL, 4096, PROT_REED, MAP_PRIVATE, 3, 0) = 0x1000",
		 "unknown protection 'PROT_REED'"},
		{"mmap(NULL, 4096, , MAP_PRIVATE, 3, 0) = 0x1000", "unknown protection"},
		{"mprotect(0x1000, 4096, PROT_READ|) = 0", "unknown protection"},
		{"mmap(NULL, 4096, PROT_READ, MAP_FXIED, 3, 0) = 0x1000", "unknown flag of mmap"},
		{"mremap(0x1000, 4096, 4096, MREMAP_UP) = 0x1000", "unknown flag of mremap"},
		{"mmap(NULL, 0, PROT_READ, MAP_PRIVATE, 3, 0) = 0x1000", "the length is 0"},
		{"munmap(0x1000, 0) = 0", "the length is 0"},
		{"mremap(0x1000, 4096, 0, 0) = 0x1000", "the length is 0"},
		{"mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x1001", "not page-aligned"},
		{"munmap(0x1001, 4096) = 0", "not page-aligned"},
		{"mprotect(0x1001, 4096, PROT_READ) = 0", "not page-aligned"},
		{"madvise(0x1001, 4096, MADV_FREE) = 0", "not page-aligned"},
		{"mremap(0x1001, 4096, 4096, 0) = 0x1001", "not page-aligned"},
		{"mmap(0x1000, 4096, PROT_READ, MAP_FIXED, 3, 0) = 0x2000", "fixed mapping"},
		{"mremap(0x1000, 4096, 4096, 3, 0x4000) = 0x5000", "fixed mapping"},
		{"mremap(0x1000, 4096, 4096, MREMAP_FIXED) = 0x5000", "fixed mapping"},
		{"mremap(0x1000, 4096, 8192, 0) = 0x5000", "without MREMAP_MAYMOVE"},
		{"mremap(0x1000, 8192, 8192, 1) = 0x2000", "onto itself"},
		{"mremap(0x1000, 0, 8192, 1) = 0x1000", "onto itself"},
		{"munmap(0x1000, 18446744073709551615) = 0", "top of the address space"},
		{"munmap(0, 0xfffffffffffff000) = 0", "top of the address space"},
		{"munmap(0xfffffffffffff000, 4096) = 0", "top of the address space"},
		{"mmap(NULL, 0x8000000000000000, PROT_READ, MAP_PRIVATE, 3, 0) = "
		 "0x8000000000000000",
		 "top of the address space"},
		{"brk(0xffffffffffffffff) = 0xffffffffffffffff", "top of the address space"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[300];

		snprintf(text, sizeof(text), "1 brk(NULL) = 0x1000\n\n%s\nnonsense\n",
			 cases[i].line);
		refuse(text, 3, cases[i].reason);
	}
}

static void wrong_sequences_are_refused(void **state)
{
	(void)state;
	refuse("1 mmap(NULL, 4096, PROT_READ <unfinished ...>\n"
	       "1 munmap(0x1000, 4096 <unfinished ...>\n",
	       2, "another call unfinished");
	refuse("1 mmap(NULL, 4096, PROT_READ <unfinished ...>\n"
	       "1 <... munmap resumed>) = 0\n",
	       2, "resumes another call");
	refuse("1 mmap(NULL, 4096, PROT_READ <unfinished ...>\n"
	       "2 <... mmap resumed>) = 0\n",
	       2, "never begun");
	/* What is wrong with the whole is said of the line that completes it. */
	refuse("1 mmap(NULL, 4096, PROT_READ <unfinished ...>\n"
	       "\n"
	       "1 <... mmap resumed>) = 0x1000\n",
	       3, "mmap with 3 arguments");
}

static void files_are_read(void **state)
{
	struct trace_error error;
	struct trace trace;

	(void)state;
	assert_false(trace_load(&trace, "/nonexistent/trace", &(struct trace_rules){.page = 4096},
				&error));
	assert_int_equal(error.line, 0);
	assert_non_null(strstr(error.reason, "No such file"));
	assert_false(trace_load(&trace, "/", &(struct trace_rules){.page = 4096}, &error));
	assert_int_equal(error.line, 0);

	parse(&trace, "");
	assert_int_equal(trace.lines, 0);
	assert_int_equal(trace.calls_count, 0);
	trace_free(&trace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mmap_is_read),
		cmocka_unit_test(others_are_read),
		cmocka_unit_test(prefixes_are_skipped),
		cmocka_unit_test(everything_is_counted),
		cmocka_unit_test(cut_calls_are_joined),
		cmocka_unit_test(wrong_lines_are_refused),
		cmocka_unit_test(wrong_sequences_are_refused),
		cmocka_unit_test(files_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
