/* SPDX-License-Identifier: MIT */
/*
 * strace's output as people have it: remarks and the program's output in the middle of lines, old
 * and new wordings, numbers in the place of names, what editors, mailers and terminals add.
 * Many of the tests put a thing at every place of a trace: it must not make a difference.
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

enum {
	TEXT_MOST = 8192,
};

#define ANON "MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"
#define RW   "PROT_READ|PROT_WRITE"

static bool parse(struct trace *trace, const char *text, bool lenient, struct trace_error *error)
{
	struct trace_rules rules = {.page = 4096, .lenient = lenient};

	return trace_parse(trace, text, strlen(text), &rules, error);
}

static void add(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(char *out, const char *format, ...)
{
	size_t length = strlen(out);
	va_list list;

	va_start(list, format);
	vsnprintf(out + length, TEXT_MOST - length, format, list);
	va_end(list);
}

/* What has been read, in short: calls, then those that are not played. */
static void describe(const struct trace *trace, char out[TEXT_MOST])
{
	*out = 0;
	for (size_t i = 0; i < trace->calls_count; i++) {
		const struct trace_call *call = &trace->calls[i];

		if (call->kind == TRACE_ATTACHED)
			continue; /* of what is put in by the tests */
		add(out, "%s%" PRIu32 " %s", *out ? "; " : "", call->pid,
		    trace_kind_name(call->kind));
		if (call->kind == TRACE_MREMAP)
			add(out, " %" PRIx64 "+%" PRIx64 ">%" PRIx64 "+%" PRIx64, call->address,
			    call->length, call->result, call->new_length);
		else if (call->kind == TRACE_BRK)
			add(out, " %" PRIx64, call->result);
		else if (call->kind == TRACE_CLONE)
			add(out, " %" PRIu32 "%s%s%s", call->child,
			    call->flags & TRACE_VM ? " vm" : "",
			    call->flags & TRACE_THREAD ? " thread" : "",
			    call->flags & TRACE_UNSURE ? " unsure" : "");
		else if (call->kind == TRACE_SUPERSEDED)
			add(out, " by %" PRIu32, call->child);
		else if (call->kind != TRACE_EXECVE && call->kind != TRACE_EXIT)
			add(out, " %" PRIx64 "+%" PRIx64, call->address, call->length);
		if (call->kind == TRACE_MMAP || call->kind == TRACE_MPROTECT ||
		    call->kind == TRACE_SHMAT)
			add(out, ":%u", call->protection);
		if (call->kind == TRACE_MMAP && (call->flags & TRACE_FIXED))
			add(out, " fixed");
	}
	for (size_t i = 0; i < trace->unplayed_count; i++)
		add(out, " | %s %zu %s", trace->unplayed[i].name, trace->unplayed[i].count,
		    trace_why_name(trace->unplayed[i].why));
}

static void reads_as(const char *text, const char *wanted)
{
	char got[TEXT_MOST];
	struct trace_error error;
	struct trace trace;

	if (!parse(&trace, text, false, &error))
		fail_msg("line %zu: %s, in:\n%s", error.line, error.reason, text);
	describe(&trace, got);
	trace_free(&trace);
	if (strcmp(got, wanted))
		fail_msg("read as\n%s\nnot as\n%s\nwas:\n%s", got, wanted, text);
}

/* ---- Forms, one by one ------------------------------------------------------- */

static const struct form {
	const char *what, *text, *wanted;
} forms[] = {
	{"a remark in a clone, on a terminal",
	 "clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}strace: Process 102 attached\n"
	 " => {parent_tid=[102]}, 88) = 102\n",
	 "0 clone 102 vm thread"},
	{"two of them, of an old strace",
	 "vfork(Process 31990 attached (waiting for parent)\n"
	 "Process 31990 resumed (parent 31989 ready)\n"
	 ")                                 = 31990\n"
	 "[pid 31989] wait4(31990, Process 31989 suspended\n"
	 " <unfinished ...>\n"
	 "[pid 31990] munmap(0x1000, 4096) = 0\n"
	 "Process 31989 resumed\n"
	 "Process 31990 detached\n"
	 "<... wait4 resumed> [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 31990\n",
	 "0 clone 31990 vm; 31990 munmap 1000+1000; 31990 exit"},
	{"and what follows it goes on in another thread",
	 "clone(child_stack=NULL, flags=SIGCHLDstrace: Process 9 attached\n"
	 "[pid 9] munmap(0x1000, 4096) = 0\n"
	 "[pid 8] <... clone resumed>) = 9\n",
	 "8 clone 9; 9 munmap 1000+1000"},
	{"strace called by its path, attaching to many",
	 "/usr/bin/strace: Process 9 attached with 3 threads\n"
	 "[pid 9] munmap(0x1000, 4096/usr/bin/strace: Process 10 attached\n"
	 ") = 0\n",
	 "9 munmap 1000+1000"},
	{"strace lets go", "munmap(0x1000, 4096^Cstrace: Process 9 detached\n <detached ...>\n",
	 " | munmap 1 never ended"},
	{"strace loses sight", "1 munmap(0x1000, 4096 <ptrace(SYSCALL):No such process>\n",
	 " | munmap 1 never ended"},
	{"and says so in other words", "1 munmap( <unavailable>) = ? <unavailable>\n",
	 " | munmap 1 without a result"},
	{"failed, with what nobody knows",
	 "1 mmap(NULL, -1, PROT_READ|PROT_NEW, 0x7fffffff, -1) = -1 EINVAL (Invalid argument)\n"
	 "1 mremap(0x1) = -1 (errno 14)\n1 brk(NULL) = 0x1000\n",
	 "1 brk 1000"},
	{"strace lets go of a call that is cut",
	 "[pid 1] mmap(NULL, 4096 <unfinished ...>\n"
	 "[pid 2] brk(NULL) = 0x1000\n"
	 "[pid 1] <... mmap resumed> <detached ...>\n",
	 "2 brk 1000 | mmap 1 never ended"},
	{"the trace ends where a remark cut a line",
	 "brk(NULL) = 0x1000\nmunmap(0x1000, 4096strace: Process 9 detached\n",
	 "0 brk 1000 | munmap 1 never ended"},
	{"execve by a thread, and what strace says of it",
	 "102 execve(\"/bin/x\", [\"x\"], 0x7ffc /* 3 vars */ <pid changed to 101 ...>\n"
	 "101 +++ superseded by execve in pid 102 +++\n"
	 "101 <... execve resumed>) = 0\n",
	 "101 superseded by 102; 101 superseded by 102; 101 execve"},
	{"the same where it does not say it twice (--quiet=thread-execve)",
	 "102 execve(\"/bin/x\", [\"x\"], 0x7ffc /* 3 vars */ <pid changed to 101 ...>\n"
	 "101 <... execve resumed>) = 0\n",
	 "101 superseded by 102; 101 execve"},
	{"the same where it does not show its beginning (-f -z)",
	 "101 +++ superseded by execve in pid 102 +++\n101 <... execve resumed>) = 0\n",
	 "101 superseded by 102; 101 execve"},
	{"the same with names (-Y), the leader in a call",
	 "101<a b> munmap(0x1000, 4096 <unfinished ...>\n"
	 "102<t> execve(\"/bin/x\", [\"x\"], 0x7ffc /* 3 vars */ <pid changed to 101<a b> ...>\n"
	 "101<x> +++ superseded by execve in pid 102<t> +++\n"
	 "101<x> <... execve resumed>) = 0\n",
	 "101 superseded by 102; 101 superseded by 102; 101 execve | munmap 1 never ended"},
	{"execve by a thread, others in calls that it ends: as results strace shows what is in a "
	 "register",
	 "102 execve(\"/bin/x\", [\"x\"], 0x7ffc /* 3 vars */ <unfinished ...>\n"
	 "103 munmap(0x1000, 4096 <unfinished ...>\n104 brk(0x9000 <unfinished ...>\n"
	 "101 mmap(NULL, 8192, " RW ", " ANON " <unfinished ...>\n"
	 "105 mremap(0x1000, 4096, 8192, MREMAP_MAYMOVE <unfinished ...>\n"
	 "106 mprotect(0x1000, 4096, PROT_READ <unfinished ...>\n"
	 "103 <... munmap resumed>) = 11\n104 <... brk resumed>) = 0xb\n"
	 "101 <... mmap resumed>) = 0xb\n105 <... mremap resumed>) = 0xb\n"
	 "106 <... mprotect resumed>) = 11\n"
	 "102 <... execve resumed> <pid changed to 101 ...>\n"
	 "103 +++ exited with 0 +++\n101 +++ superseded by execve in pid 102 +++\n"
	 "101 <... execve resumed>) = 0\n",
	 "101 superseded by 102; 103 exit; 101 superseded by 102; 101 execve | munmap 1 never "
	 "ended | brk 1 never ended"
	 " | mmap 1 never ended | mremap 1 never ended | mprotect 1 never ended"},
	{"old_mmap", "old_mmap(NULL, 65536, PROT_READ, MAP_PRIVATE, 3, 0) = 0x40018000\n",
	 "0 mmap 40018000+10000:1"},
	{"old_mmap with a pointer", "brk(0) = 0x1000\nold_mmap(0xbffff5a4) = 0x40018000\n",
	 "0 brk 1000 | old_mmap 1 without arguments"},
	{"flags of clone3 in numbers", "1 clone3({flags=0x3d0f00, exit_signal=0}, 88) = 9\n",
	 "1 clone 9 vm thread"},
	{"flags of clone in numbers and a signal",
	 "1 clone(child_stack=NULL, flags=0x1200000|17, child_tidptr=0x7f) = 9\n", "1 clone 9"},
	{"and their names in comments (-X verbose)",
	 "1 clone(child_stack=NULL, flags=0x1200100 /* CLONE_CHILD_CLEARTID|CLONE_VM */|17 /* "
	 "SIGCHLD */, child_tidptr=0x7f) = 9\n",
	 "1 clone 9 vm"},
	{"a number in decimal", "1 clone(child_stack=NULL, flags=4001536) = 9\n",
	 "1 clone 9 vm thread"},
	{"names and numbers", "1 clone(child_stack=NULL, flags=CLONE_FS|0x10100|SIGCHLD) = 9\n",
	 "1 clone 9 vm thread"},
	{"nothing decoded (-e raw)", "1 clone(0x3d0f00, 0x7f00, 0x7f01, 0x7f02, 0x7f03) = 0x9\n",
	 "1 clone 9 vm thread"},
	{"nothing shown (-e verbose=none)", "1 clone3(0x7ffc6d9624c0, 88) = 9\n",
	 "1 clone 9 unsure | clone3 1 without arguments"},
	{"a child in another namespace",
	 "1 clone(child_stack=NULL, flags=SIGCHLD) = 2 /* 102 in strace's PID NS */\n",
	 "1 clone 102"},
	{"names of programs (-Y)",
	 "101<prog> munmap(0x1000, 4096) = 0\n[pid 102<Web Content>] munmap(0x2000, 4096) = 0\n"
	 "103<a>b> vfork() = 104<a]b>\n[pid 105<a]b>] brk(NULL) = 0x1000\n",
	 "101 munmap 1000+1000; 102 munmap 2000+1000; 103 clone 104 vm; 105 brk 1000"},
	{"a table at the end (-C)",
	 "1 munmap(0x1000, 4096) = 0\n"
	 "% time     seconds  usecs/call     calls    errors syscall\n"
	 "------ ----------- ----------- --------- --------- ----------------\n"
	 " 50.00    0.000010          10         1           munmap\n"
	 "  0.00    0.000000           0         1         1 access\n"
	 "------ ----------- ----------- --------- --------- ----------------\n"
	 "100.00    0.000020          10         2         1 total\n",
	 "1 munmap 1000+1000"},
	{"tables of two kinds of programs, other columns (-U), the trace going on (-A)",
	 "System call usage summary for 32 bit mode:\n"
	 "syscall              calls     seconds\n"
	 "---------------- --------- -----------\n"
	 "mmap                     3    0.000010\n"
	 "---------------- --------- -----------\n"
	 "total                    3    0.000010\n"
	 "1 munmap(0x1000, 4096) = 0\n",
	 "1 munmap 1000+1000"},
	{"a table that is cut", "% time     seconds\n------ --------\n1 munmap(0x1000, 4096) = 0\n",
	 "1 munmap 1000+1000"},
	{"an injected success", "1 munmap(0x1000, 4096) = 0 (INJECTED)\n1 brk(NULL) = 0x1000\n",
	 "1 brk 1000 | munmap 1 injected"},
	{"an injected result that no kernel can give, the time behind it",
	 "1 mmap(NULL, 4096, PROT_READ, " ANON ") = 0x7 (INJECTED: args, retval) (DELAYED) <0.1>\n",
	 " | mmap 1 injected"},
	{"an injected child", "1 vfork() = 9 (INJECTED)\n", " | vfork 1 injected"},
	{"injected arguments: the call was made", "1 munmap(0x1000, 4096) = 0 (INJECTED: args)\n",
	 "1 munmap 1000+1000"},
	{"a call that was delayed", "1 munmap(0x1000, 4096) = 0 (DELAYED)\n", "1 munmap 1000+1000"},
	{"a path that ends in a dash (-y)",
	 "1 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 5</var/index->, 0) = 0x1000\n",
	 "1 mmap 1000+1000:1"},
	{"a path with an arrow",
	 "1 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 5</var/a->b>, 0) = 0x1000\n",
	 "1 mmap 1000+1000:1"},
	{"a device, a file that is gone (-yy)",
	 "1 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 5</dev/zero<char 1:5>>, 0) = 0x1000\n"
	 "1 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 5</memfd:a, (b>(deleted), 0) = 0x2000\n",
	 "1 mmap 1000+1000:1; 1 mmap 2000+1000:1"},
	{"sockets",
	 "1 read(3<TCP:[1.2.3.4:5->6.7.8.9:10]>, \"\", 1) = 0\n"
	 "1 read(3<TCPv6:[[::1]:5->[::1]:6]>, \"\", 1) = 0\n"
	 "1 read(3<UNIX-STREAM:[1->2, \"/a(\"]>, \"\", 1) = 0\n"
	 "1 openat(AT_FDCWD</a(b>, \"x\", O_RDONLY) = 3</x->y>\n"
	 "1 brk(NULL) = 0x1000\n",
	 "1 brk 1000"},
	{"an output of two lines in a write, and one without an end",
	 "write(1, \"one\\ntwo\\n\", 8one\ntwo\n)                 = 8\n"
	 "write(1, \"no\", 2no)                         = 2\nbrk(NULL) = 0x1000\n",
	 "0 brk 1000"},
	{"output that begins with a digit",
	 "write(1, \"5 apples\\n\", 95 apples\n)   = 9\n"
	 "brk(NULL) = 0x1000\n",
	 "0 brk 1000"},
	{"output that looks like a call",
	 "write(1, \"munmap(0x1000, 4096) = 0\\n\", 25munmap(0x1000, 4096) = 0\n) = 25\n"
	 "write(1, \"a) = 6\\n\", 7a) = 6\n) = 7\nbrk(NULL) = 0x1000\n",
	 "0 brk 1000"},
	{"and is printed while the call is cut",
	 "[pid 1] write(1, \"munmap(0x1000, 4096) = 0\\n\", 25 <unfinished ...>\n"
	 "munmap(0x1000, 4096) = 0\n[pid 2] brk(NULL) = 0x1000\n"
	 "[pid 1] <... write resumed>) = 25\n",
	 "2 brk 1000"},
	{"output of which the call shows the beginning only",
	 "write(1, \"ab\"..., 11ab) = 3\n,;\n) = 11\n"
	 "write(1, \"\"..., 4abc\n) = 4\n"
	 "write(0x1, 0x5628d133a004, 0x4thr\n) = 0x4\nbrk(NULL) = 0x1000\n",
	 "0 brk 1000"},
	{"calls that are cut by nothing (-f -z)",
	 "1 munmap(0x1000, 4096 <unfinished ...>\n)                 = 0\n"
	 "1 read(0,  <unfinished ...>\n\"2\", 1) = 1\n"
	 "1 write(1, \"1\", 1 <unfinished ...>\n)                   = 1\n",
	 "1 munmap 1000+1000"},
	{"output before the call (-z), and without a newline",
	 "one\ntwo\nthreewrite(1, \"one\\ntwo\\n\", 8) = 8\nwrite(1, \"three\", 5) = 5\n"
	 "fourbrk(NULL) = 0x1000\nwrite(1, \"four\", 4) = 4\n"
	 "1write(1, \"1\", 1) = 1\n\nwrite(1, \"\\n\", 1) = 1\n",
	 "0 brk 1000"},
	{"the same of a thread, before another's call",
	 ".[pid 2] munmap(0x1000, 4096) = 0\n[pid 1] write(1, \".\", 1) = 1\n"
	 ".[pid 1] write(1, \".\", 1) = 1\n.[pid 2] brk(NULL) = 0x1000\n"
	 "[pid 1] write(1, \".\", 1) = 1\n",
	 "2 munmap 1000+1000; 2 brk 1000"},
	{"no output, though so many bytes end before a parenthesis",
	 "1 write(1, \"\"..., 28) = 28\n1 munmap(0x1000, 4096) = 0\n"
	 "1 write(1, \"\"..., 38 <unfinished ...>\n2 munmap(0x1000, 4096) = 0\n"
	 "1 <... write resumed>) = 38\n",
	 "1 munmap 1000+1000; 2 munmap 1000+1000"},
	{"output of a vector",
	 "writev(1, [{iov_base=\"a\\t\", iov_len=2}, {iov_base=\"\\33\\x41\\n\", iov_len=3}], 2a\t"
	 "\033A\n) = 5\n"
	 "writev(1, [{\"a\", 1}, {\"\\n\", 1}], 2a\n) = 2\nbrk(NULL) = 0x1000\n",
	 "0 brk 1000"},
	{"output, and a remark behind it",
	 "write(1, \"a\\n\", 2a\nstrace: Process 9 attached\n <unfinished ...>\n"
	 "[pid 9] munmap(0x1000, 4096) = 0\n[pid 8] <... write resumed>) = 2\n",
	 "9 munmap 1000+1000"},
	{"a child's output in what its parent waits for",
	 "wait4(-1, hello\n[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 102\n"
	 "brk(NULL) = 0x1000\n",
	 "0 brk 1000"},
	{"keys that were pressed",
	 "read(0, hello\n\"hello\\n\", 1024) = 6\n"
	 "pause(^C) = ? ERESTARTNOHAND (To be restarted if no handler)\n"
	 "^C--- SIGINT {si_signo=SIGINT, si_code=SI_KERNEL} ---\n"
	 "munmap(0x1000, 40^Z96) = 0\n",
	 "0 munmap 1000+1000"},
	{"bytes in hexadecimal (-e write)",
	 "write(1, \"hi\\n\", 3) = 3\n"
	 " | 00000  68 69 0a                                          hi.              |\n"
	 " * 3 bytes in buffer 0\nbrk(NULL) = 0x1000\n",
	 "0 brk 1000"},
	{"stack frames (-k)",
	 "brk(NULL) = 0x1000\n > /usr/lib/libc.so.6(brk+0x1b) [0x11aa26]\n"
	 " > unexpected_backtracing_error [0x1]\n > /bin/a(main+0x1) [0x1] /src/a.c:7\n",
	 "0 brk 1000"},
	{"modes, in a line as well",
	 "[ Process PID=9 runs in 32 bit mode. ]\n"
	 "execve(\"/bin/x\", [\"x\"], 0x7ffc /* 3 vars */strace: [ Process PID=9 runs in x32 mode. "
	 "]\n"
	 ") = 0\n",
	 "0 execve"},
	{"shared memory",
	 "1 shmget(IPC_PRIVATE, 5000, IPC_CREAT|0600) = 5\n"
	 "1 shmat(5, NULL, SHM_RDONLY) = 0x1000\n1 shmat(5, 0x4000, SHM_EXEC) = 0x4000\n"
	 "1 shmat(6, NULL, 0x1000) = 0x8000\n1 shmdt(0x1000) = 0\n1 shmdt(0x3) = -1 EINVAL (x)\n",
	 "1 shmat 1000+2000:1; 1 shmat 4000+2000:7; 1 shmat 8000+0:1; 1 shmdt 1000+0"},
	{"a segment's length from another call",
	 "1 shmctl(5, IPC_STAT, {shm_perm={uid=0}, shm_segsz=8192, shm_cpid=1}) = 0\n"
	 "1 shmat(5, NULL, 0) = 0x1000\n",
	 "1 shmat 1000+2000:3"},
	{"a shadow stack, also to a strace that does not know it",
	 "1 map_shadow_stack(NULL, 8192, SHADOW_STACK_SET_TOKEN) = 0x1000\n"
	 "1 syscall_0x1c5(0, 0x1000, 0x1, 0, 0, 0) = 0x4000\n",
	 "1 mmap 1000+2000:3; 1 mmap 4000+1000:3"},
	{"calls about memory that are not played",
	 "1 remap_file_pages(0x1000, 4096, 0, 1, 0) = 0\n1 mlock(0x1000, 4096) = 0\n"
	 "1 process_madvise(3, 0x1000, 1, MADV_COLD, 0) = 4096\n1 io_setup(128, [0x7f00]) = 0\n"
	 "1 ipc(0x15, 1, 0, 0, 0) = 0\n1 osf_mmap(0x1000) = 0x2000\n1 brk(NULL) = 0x1000\n"
	 "1 mremap(0x1000, 4096, 8192, 0) = ?\n1 mlock(0x1000, 8) = 0\n",
	 "1 madvise 1000+1000; 1 brk 1000 | remap_file_pages 1 not followed | mlock 2 not followed"
	 " | process_madvise 1 not followed | io_setup 1 not followed | ipc 1 not followed"
	 " | osf_mmap 1 not followed | mremap 1 without a result"},
	{"numbers of all kinds",
	 "1 mmap(0, 0x2000, 3 /* PROT_READ|PROT_WRITE */, 0x32 /* MAP_PRIVATE|MAP_FIXED */, "
	 "4294967295, 0) = 0\n"
	 "1 mmap(NULL, 8192, 0x5, 0x22, -1, 0) = 140187732541440\n"
	 "1 mremap(0x7F8000000000, 4096, 8192, 0x1) = 0x7F8000001000\n"
	 "1 mprotect(0x1000, 0x1000, 0) = 0\n1 brk(0) = 93824992231424\n",
	 "1 mmap 0+2000:3 fixed; 1 mmap 7f8000000000+2000:5; "
	 "1 mremap 7f8000000000+1000>7f8000001000+2000; 1 mprotect 1000+1000:0; "
	 "1 brk 555555554000"},
	{"a terminal's recording (script)",
	 "Script started on 2026-11-29 11:07:14+00:00 [COMMAND=\"strace\" TERM=\"xterm\"]\r\n"
	 "brk(NULL) = 0x1000\r\r\n+++ killed by SIGSEGV (core dumped) +++\r\n"
	 "Segmentation fault (core dumped)\r\nScript done on 2026-11-29 "
	 "[COMMAND_EXIT_CODE=\"0\"]\n",
	 "0 brk 1000; 0 exit"},
	{"no quotation",
	 "1 munmap(0x1000, 4096 <unfinished ...strace: Process 9 attached\n>\n"
	 "1 <... munmap resumed>) = 0\n",
	 "1 munmap 1000+1000"},
	{"an error's text that a mailer has broken, of any call",
	 "1 access(\"/etc/ld.so.preload\", R_OK) = -1 ENOENT (No such file or\ndirectory)\n"
	 "1 openat(3, \"x\", O_RDONLY) = -1 ENOENT (No such\nfile or\n\ndirectory) <0.00001>\n"
	 "1 pause() = ? ERESTARTNOHAND (To be restarted\nif no handler)\n"
	 "1 access(\"x\", R_OK <unfinished ...>\n2 brk(NULL) = 0x1000\n"
	 "1 <... access resumed>) = -1 ENOENT (No such file\nor directory)\n",
	 "2 brk 1000"},
	{"heads of recordings with a call's name in them",
	 "Script started on 2026-11-29 12:40:49+00:00 [COMMAND=\"strace -f sh -c 'grep munmap( "
	 "x'\" "
	 "<not executed on terminal>]\nbrk(NULL) = 0x1000\n\n"
	 "Script done on 2026-11-29 12:40:49+00:00 [COMMAND_EXIT_CODE=\"0\"]\n",
	 "0 brk 1000"},
	{"a result that a mailer has broken, a time too",
	 "> 1 brk(0x1000) = 0x1000\n> <0.000012>\n"
	 "> 1 munmap(0x1000, 4096) = -1 EINVAL (Invalid\n> argument)\n"
	 "> 1 --- SIGCHLD {si_signo=SIGCHLD,\n> si_status=0} ---\n",
	 "1 brk 1000"},
};

static void forms_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		char got[TEXT_MOST];
		struct trace_error error;
		struct trace trace;

		if (!parse(&trace, forms[i].text, false, &error))
			fail_msg("%s: line %zu: %s", forms[i].what, error.line, error.reason);
		describe(&trace, got);
		trace_free(&trace);
		if (strcmp(got, forms[i].wanted))
			fail_msg("%s:\n%s\nnot\n%s", forms[i].what, got, forms[i].wanted);
	}
}

/* ---- At every place ---------------------------------------------------------- */

/* Of each kind of line one. */
static const char sample[] =
	"[pid   101] execve(\"/bin/prog\", [\"prog\", \"a \\\"b\\\"\"], 0x7ffc /* 3 vars */) = 0\n"
	"[pid   101] 12:00:01.000002 mmap(NULL, 8192, " RW ", " ANON ") = 0x7f0000000000 <0.1>\n"
	"[pid   101] clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x1} => {parent_tid=[102]}, 88) = "
	"102\n"
	"[pid   102] munmap(0x7f0000000000, 4096 <unfinished ...>\n"
	"[pid   101] mmap(0x7f0000010000, 4096, PROT_READ, MAP_SHARED|MAP_FIXED, 3</a->, 0) = "
	"0x7f0000010000\n"
	"[pid   102] <... munmap resumed>)       = 0\n"
	"[pid   101] read(3, \"mmap(\", 5) = 5\n"
	"[pid   101] mremap(0x7f0000010000, 4096, 8192, MREMAP_MAYMOVE) = 0x7f0000020000\n"
	"[pid   102] mmap(NULL, 4096, PROT_READ, " ANON ") = -1 ENOMEM (Cannot allocate memory)\n"
	"[pid   102] mprotect(0x7f0000001000, 4096, PROT_NONE) = 0 (DELAYED)\n"
	"[pid   102] +++ exited with 0 +++\n"
	"[pid   101] --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=102} ---\n"
	"[pid   101] brk(0x555555575000) = 0x555555575000\n"
	"[pid   101] +++ killed by SIGKILL +++\n";

static const char sample_wanted[] =
	"101 execve; 101 mmap 7f0000000000+2000:3; 101 clone 102 vm thread; "
	"102 munmap 7f0000000000+1000; 101 mmap 7f0000010000+1000:1 fixed; "
	"101 mremap 7f0000010000+1000>7f0000020000+2000; 102 mprotect 7f0000001000+1000:0; 102 "
	"exit; "
	"101 brk 555555575000; 101 exit";

static void put_in(const char *what, size_t at)
{
	char text[TEXT_MOST];

	snprintf(text, sizeof(text), "%.*s%s%s", (int)at, sample, what, sample + at);
	reads_as(text, sample_wanted);
}

static void remarks_may_be_anywhere(void **state)
{
	static const char *const remarks[] = {
		"strace: Process 77 attached\n",
		"strace: Process 77<a b> attached\n",
		"/usr/bin/strace: Process 77 attached\n",
		"strace: Process 77 detached\n",
		"Process 77 attached\n",
		"Process 77 attached (waiting for parent)\n",
		"Process 77 attached - interrupt to quit\n",
		"Process 77 attached with 5 threads - interrupt to quit\n",
		"Process 77 resumed (parent 101 ready)\n",
		"Process 77 resumed\nProcess 101 suspended\n",
		"Process 77 detached\n",
		"[ Process PID=77 runs in 32 bit mode. ]\n",
		"strace: [ Process PID=77 runs in x32 mode. ]\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(remarks) / sizeof(remarks[0]); i++) {
		for (size_t at = 0; at <= strlen(sample); at++) {
			/* A path would be taken for a part of what stands before it. */
			if (remarks[i][0] == '/' && at && strchr("/prog", sample[at - 1]))
				continue;
			put_in(remarks[i], at);
		}
	}
}

/* Other words of strace's are remarks where no string is open. */
static void words_may_be_anywhere(void **state)
{
	bool open = false;

	(void)state;
	for (size_t at = 0; at <= strlen(sample); at++) {
		if (!open)
			put_in("strace: umovestr: short read (20 < 33) @0x7ffc\n", at);
		if (sample[at] == '"' && sample[at - 1] != '\\')
			open = !open;
	}
}

/* What a call prints that is cut meanwhile. */
static void output_may_be_anywhere(void **state)
{
	static const struct {
		const char *call, *output;
	} cases[] = {
		{"[pid 99] write(1, \"one\\ttwo \\\"3\\\"\\n\", 12 <unfinished ...>\n",
		 "one\ttwo \"3\"\n"},
		{"[pid 99] write(1, \"one\\nt\"..., 8 <unfinished ...>\n", "one\ntwo\n"},
		{"[pid 99] write(1, \".\", 1 <unfinished ...>\n", "."},
		{"[pid 99] write(1, \"x0.1\", 4 <unfinished ...>\n", "x0.1"},
		{"[pid 99] writev(1, [{iov_base=\"one\\n\", iov_len=4}, {iov_base=\"two\", "
		 "iov_len=3}], 2"
		 " <unfinished ...>\n",
		 "one\r\ntwo"},
	};
	char text[TEXT_MOST];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t at = 0; at < strlen(sample); at++) {
			/* In a string it would be a part of it. */
			const char *line = sample + at;

			while (line > sample && line[-1] != '\n')
				line--;
			if (memchr(line, '"', strcspn(line, "\n")))
				continue;
			/* Within a line it may be of a time; and of clone's arguments not all are looked at. */
			if (!strchr(cases[i].output, '\n') &&
			    (strstr(line, "12:00:01") == line + 12 ||
			     strstr(line, "clone3") == line + 12))
				continue;
			snprintf(text, sizeof(text),
				 "%s%.*s%s%s[pid 99] <... write%s resumed>) = 8\n", cases[i].call,
				 (int)at, sample, cases[i].output, sample + at,
				 strstr(cases[i].call, "writev") ? "v" : "");
			reads_as(text, sample_wanted);
		}
	}
}

/* A mailer breaks lines where there is a blank; and it puts a "> " before each. */
static void lines_may_be_broken(void **state)
{
	char text[TEXT_MOST], quoted[TEXT_MOST];

	(void)state;
	for (size_t at = 0; at < strlen(sample); at++) {
		const char *line = sample + at;
		size_t length = 0;

		while (line > sample && line[-1] != '\n')
			line--;
		/* Neither what stands before the call, nor in a string, nor what may be left out. */
		if (sample[at] != ' ' || line + strcspn(line, "(<+-") >= sample + at ||
		    memchr(line, '"', strcspn(line, "\n")) || !strncmp(sample + at, " <0", 3) ||
		    !strncmp(sample + at, " (D", 3))
			continue;
		snprintf(text, sizeof(text), "%s", sample);
		text[at] = '\n';
		reads_as(text, sample_wanted);
		for (const char *from = text; *from; from++) {
			if (from == text || from[-1] == '\n')
				length += (size_t)snprintf(quoted + length, 5, ">%s",
							   at % 2 ? " " : "> ");
			if (*from == '\n')
				quoted[length++] = '\r';
			quoted[length++] = *from;
		}
		quoted[length] = 0;
		reads_as(quoted, sample_wanted);
	}
}

/* Each line with something before or behind it. */
static void dress(const char *before, const char *behind, const char *first)
{
	char text[TEXT_MOST];

	snprintf(text, sizeof(text), "%s", first);
	for (const char *line = sample; *line;) {
		size_t length = strcspn(line, "\n");

		add(text, "%s%.*s%s\n", before, (int)length, line, behind);
		line += length + 1;
	}
	reads_as(text, sample_wanted);
}

static void every_line_may_be_dressed(void **state)
{
	(void)state;
	dress("", "\r", "");
	dress("", " \r\r", "\xef\xbb\xbf");
	dress("> ", "", "");
	dress(">> ", "\r", "");
	dress("> > ", "", ">\n");
	dress(" > ", "", "");
	dress("\t> >", "", "");
	dress("", "\n > /usr/lib/libc.so.6(__mmap+0x26) [0x11aa26]", "");
	dress("> ", "\n>  > /usr/lib/libc.so.6(__mmap+0x26) [0x11aa26]", "");
	dress("", "\n[ Process PID=101 runs in 32 bit mode. ]", "");
	dress(" ", "\n\n", "");
}

/* What stands before a call, in every combination that options make. */
static void prefixes_may_be_combined(void **state)
{
	static const char *const pids[] = {"101 ", "[pid   101] ", "101<a b> ", "[pid 101<a>] "};
	static const char *const stamps[] = {
		"",
		"12:34:56 ",
		"12:34:56.789012 ",
		"1699999999.123456789 ",
		"     0.000012 ",
		"12:34:56 (+     0.000012) ",
	};
	static const char *const brackets[] = {"", "[  11] ", "[00007f12a4e3c2a7] ",
					       "[   9] [????????????????] "};
	static const char *const calls[][2] = {
		{"munmap(0x1000, 4096) = 0", "101 munmap 1000+1000"},
		{"+++ exited with 0 +++", "101 exit"},
		{"--- SIGINT (Interrupt) ---", ""},
		{"--- stopped by SIGSTOP ---", ""},
		{"munmap(0x1000, 4096 <unfinished ...>", " | munmap 1 never ended"},
		{"+++ superseded by execve in pid 102 +++", "101 superseded by 102"},
		{"???\?( <unfinished ...>", ""},
		{"_exit(0) = ?", ""},
	};
	char text[400];

	(void)state;
	for (size_t a = 0; a < sizeof(pids) / sizeof(pids[0]); a++) {
		for (size_t b = 0; b < sizeof(stamps) / sizeof(stamps[0]); b++) {
			for (size_t c = 0; c < sizeof(brackets) / sizeof(brackets[0]); c++) {
				for (size_t d = 0; d < sizeof(calls) / sizeof(calls[0]); d++) {
					snprintf(text, sizeof(text), "%s%s%s%s\n", pids[a],
						 stamps[b], brackets[c], calls[d][0]);
					reads_as(text, calls[d][1]);
				}
			}
		}
	}
}

/* ---- What is not strace's ---------------------------------------------------- */

static const struct {
	const char *text;
	size_t line; /* where it is refused */
	const char *reason;
	size_t skipped, memory; /* --lenient: lines */
	const char *wanted;
} strange[] = {
	{"1 brk(NULL) = 0x1000\nhello\n", 2, "neither a call", 1, 0, "1 brk 1000"},
	{"hello\nHello again\n1 brk(NULL) = 0x1000\nbye\n", 1, "neither a call", 3, 0,
	 "1 brk 1000"},
	{"\033[1mhello\n1 brk(NULL) = 0x1000\n", 1, "a control character", 1, 0, "1 brk 1000"},
	/* Not ended by a newline, so that strace's line follows in the same. */
	{"hello[pid 1] brk(NULL) = 0x1000\n", 1, "neither", 1, 0, "1 brk 1000"},
	{"hellobrk(NULL) = 0x1000\n", 1, "something before a call", 1, 0, "0 brk 1000"},
	{"hello, world!munmap(0x1000, 4096) = 0\n", 1, "neither", 1, 0, "0 munmap 1000+1000"},
	{"1 brk(NULL) = 0x1000\nhello+++ exited with 0 +++\n", 2, "neither", 1, 0,
	 "1 brk 1000; 0 exit"},
	{"100%--- SIGINT {} ---\n1 brk(NULL) = 0x1000\n", 1, "neither", 1, 0, "1 brk 1000"},
	{"x(a) munmap(0x1000, 4096) = 0\nbrk(NULL) = 0x1000\n", 1, "two calls", 1, 1, "0 brk 1000"},
	{"hellostrace: Process 9 attached\n[pid 1] brk(NULL) = 0x1000\n", 1, "neither", 1, 0,
	 "1 brk 1000"},
	/* Quoted, it seems: not played, and not forgotten. */
	{"he calls brk(NULL) = 0x1000\n1 brk(NULL) = 0x2000\n", 1, "neither", 1, 1, "1 brk 2000"},
	/* Cut by what nobody knows. */
	{"munmap(0x1000, 40hello\n96) = 0\nbrk(NULL) = 0x1000\n", 1, "no end", 2, 1, "0 brk 1000"},
	{"1 brk(NULL) = 0x1000\n1 mmap(NULL, 4096, PROT_READ", 2, "no end", 1, 1, "1 brk 1000"},
	{"1 brk(NULL) = 0x1000\nPROT_READ, MAP_PRIVATE, 3, 0) = 0x7000\n", 2, "neither", 1, 1,
	 "1 brk 1000"},
	{"1 brk(NULL) = 0x1000\n1 <... munmap resumed>) = 0\n", 2, "never begun", 1, 1,
	 "1 brk 1000"},
	{"1 brk(NULL) = 0x1000\n1 <... mlock resumed>) = 0\n", 2, "never begun", 1, 1,
	 "1 brk 1000"},
	{"1 munmap(0x1000, 4096 <unfinished ...>\n1 munmap(0x2000, 4096 <unfinished ...>\n"
	 "1 <... munmap resumed>) = 0\n",
	 2, "another call unfinished", 1, 1, "1 munmap 2000+1000 | munmap 1 never ended"},
	{"1 munmap(0x1000, 4096 <unfinished ...>\n1 x( <unfinished ...>\n1 brk(NULL) = 0x1000\n", 2,
	 "another call unfinished", 1, 0, "1 brk 1000 | munmap 1 never ended"},
	/* A call of which one half is spoilt is in nobody's way. */
	{"1 munmap(0x1000, 40x96 <unfinished ...>\n1 <... munmap resumed>) = 0\n"
	 "1 munmap(0x2000, 4096 <unfinished ...>\n1 <... munmap resumed>) = 0\n",
	 2, "no number", 1, 1, "1 munmap 2000+1000"},
	{"1 munmap(0x1001, 4096) = 0\n1 munmap(0x1003, 4096) = 0\n1 brk(NULL) = 0x1000\n", 1,
	 "not page-aligned", 2, 2, "1 brk 1000"},
	/* Nor has munmap another result than 0, nor is anything at 0xb, where no execve ends the thread. */
	{"1 munmap(0x1000, 4096) = 11\n1 brk(NULL) = 0x1000\n", 1, "has none", 1, 1, "1 brk 1000"},
	{"1 mprotect(0x1000, 4096, PROT_READ) = 11\n1 brk(NULL) = 0x1000\n", 1, "has none", 1, 1,
	 "1 brk 1000"},
	{"1 brk(NULL) = 0x1000\n1 mmap(NULL, 8192, PROT_READ, " ANON " <unfinished ...>\n"
	 "1 <... mmap resumed>) = 0xb\n",
	 3, "page-aligned", 1, 1, "1 brk 1000"},
	/* Or of which only the name is left. */
	{"1 brk(NULL) = 0x1000\n1 munmap7fd95e647000, 8192) = 0\n", 2, "neither", 1, 1,
	 "1 brk 1000"},
	/* Behind its end no call is cut: another is. */
	{"[pid 1] brk(NULL) = 0x1000\n[pid 1] munmap(0x1000, 4096) = 0[pid 2] dup2(3, 0 "
	 "<unfinished ...>\n",
	 2, "behind its end", 1, 1, "1 brk 1000"},
	{"[pid 1] vfork( <unfinished ...>\n[pid 2] brk(NULL) = 0x1000\n"
	 "[pid 1] <... vfork resumed>) = 2[pid 2] dup2(3, 0 <unfinished ...>\n",
	 3, "behind its end", 1, 1, "2 brk 1000"},
	/* What is no name of a call about memory any more. */
	{"1 brk(NULL) = 0x1000\n1 mm0p(NULL, 4096, PROT_READ, " ANON ") = 0x7000\n", 2,
	 "with flags", 1, 1, "1 brk 1000"},
	{"1 mhello\nmap(NULL, 4096, PROT_READ, " ANON ") = 0x7000\n1 brk(NULL) = 0x1000\n", 1,
	 "neither", 2, 1, "1 brk 1000"},
	/* Behind what may be read as a remark, or as a stack frame. */
	{"1 brk(NULL) = 0x1000\nstrace: attachedmunmap(0x1000, 4096) = 0\n", 2, "neither", 1, 0,
	 "1 brk 1000; 0 munmap 1000+1000"},
	{"1 brk(NULL) = 0x1000\n2 brk(NULL) = 0x1000\n > munmap(0x1000, 4096) = 0\n", 3, "neither",
	 1, 1, "1 brk 1000; 2 brk 1000"},
	{"foo(bar\n1 brk(NULL) = 0x1000\n", 1, "no end", 1, 0, "1 brk 1000"},
	{"1 clone(\n1 brk(NULL) = 0x1000\n", 1, "no end", 1, 1, "1 brk 1000"},
};

static void strangers_are_refused_or_skipped(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
		const char *text = strange[i].text;
		char got[TEXT_MOST];
		struct trace_error error;
		struct trace trace;
		size_t counted = 0;

		if (parse(&trace, text, false, &error))
			fail_msg("accepted: %s", text);
		assert_int_equal(trace.calls_count, 0);
		if (error.line != strange[i].line || !strstr(error.reason, strange[i].reason))
			fail_msg("%s: line %zu: %s", text, error.line, error.reason);

		assert_true(parse(&trace, text, true, &error));
		describe(&trace, got);
		if (strcmp(got, strange[i].wanted) || trace.skipped_lines != strange[i].skipped ||
		    trace.skipped_memory != strange[i].memory)
			fail_msg("%s: %zu skipped, %zu of memory, read as\n%s", text,
				 trace.skipped_lines, trace.skipped_memory, got);
		for (size_t j = 0; j < trace.skipped_count; j++)
			counted += trace.skipped[j].count;
		assert_int_equal(counted, trace.skipped_lines);
		trace_free(&trace);
	}
}

static void is_not_lost(const char *text, const char *wanted)
{
	char got[TEXT_MOST];
	struct trace_error error;
	struct trace trace;
	bool strict = parse(&trace, text, false, &error);

	if (!strict)
		assert_true(parse(&trace, text, true, &error));
	describe(&trace, got);
	if (!strstr(got, wanted) && (strict || !trace.skipped_memory))
		fail_msg("%s is lost%s:\n%s\n%s", wanted, strict ? "" : ", if lenient", text, got);
	trace_free(&trace);
}

/*
 * A call about memory that has run into another line, for want of a newline or because something has cut it,
 * is played, or stands in the summary, or the line is refused: it is not passed over as a part of the other.
 */
static void nothing_is_lost_in_another_line(void **state)
{
	static const char *const lines[] = {
		"close(3) = 0",
		"close(3) = -1 EBADF (Bad file descriptor)",
		"openat(AT_FDCWD</a>, \"x\", O_RDONLY) = 3</x>",
		"exit_group(0) = ?",
		"pause() = ? ERESTARTNOHAND (To be restarted if no handler)",
		"write(1, \"hello\\n\", 6",
		"write(1, \"hello\\n\", 6hello",
		"read(3, ",
		"read(3, \"",
		"wait4(-1, ",
		"fstat(3, {st_mode=S_IFREG|0644, ",
		"futex(0x7f00, FUTEX_WAIT, 2, NULL <unfinished ...>",
		"<... futex resumed>) = 0",
		"brk(NULL) = 0x1000",
		"brk(NULL) = ?",
		"brk(NULL",
		"mprotect(0x1000, 4096, PROT_READ) = 0 (DELAYED)",
		"mprotect(0x1000, 4096, PROT_READ) = 0 <0.000012>",
		"mprotect(0x1000, 4096, PROT_READ <unfinished ...>) = ?",
		"execve(\"/bin/x\", [\"x\"], 0x7ffc /* 3 vars */) = 0",
		"vfork() = 9",
		"clone(child_stack=NULL, flags=SIGCHLD) = 2 /* 102 in strace's PID NS */",
		"--- SIGCHLD {si_signo=SIGCHLD} ---",
		"+++ exited with 0 +++",
		"+++ superseded by execve in pid 9 +++",
		"strace: Process 9 attached",
		"strace: umovestr: short read (1 < 2) @0x1",
		"Process 9 resumed (parent 8 ready)",
		"[ Process PID=9 runs in 32 bit mode. ]",
		" > /usr/lib/libc.so.6(__mmap+0x26) [0x11aa26]",
		" > unexpected_backtracing_error",
		" | 00000  68 69 0a                                          hi.              |",
		" * 3 bytes in buffer 0",
		"% time     seconds  usecs/call     calls    errors syscall",
		"------ ----------- ----------- --------- --------- ----------------",
		"Script done on 2026-11-29",
		"upeek: ptrace(PTRACE_PEEKUSER)",
		"Killed",
		"EINVAL (Invalid argument)",
		"<0.000012>",
		"hello",
		"hello (world)",
		"1 ",
		"[pid 1] ",
		"12:00:01 ",
		".",
		"junk",
		"[pid 9] <... futex resumed>) = 0",
		"[pid 9] <... ioctl resumed>, 0x7f9b) = -1 ENOTTY (Inappropriate ioctl for device)",
		"Script started on 2026-11-29 12:40:49+00:00 [COMMAND=\"strace ls\"]",
		"Script done on 2026-11-29 12:40:49+00:00 [COMMAND_EXIT_CODE=\"0\"]",
	};
	static const char *const between[] = {"",          " ",       ")",          ") ",
					      "\n) = 0\n", " hello ", "\n[pid 9] ", "\n.[pid 9] "};
	/* What stands before: calls that are cut, the rest of which might be taken for anything. */
	static const char *const before[] = {
		"",
		"[pid 7] futex(0x7f00, FUTEX_WAIT, 2, NULL <unfinished ...>\n",
		"[pid 7] write(1, \".\", 1 <unfinished ...>\n",
		"[pid 9] ioctl(1, TCGETS <unfinished ...>\n",
		"[pid 7] read(3,  <unfinished ...>\n",
	};
	static const struct {
		const char *text, *wanted;
	} pieces[] = {
		{"munmap(0x5000, 4096) = 0\n", "munmap"},
		{"munmap(0x5000, 4096) = 0\n) = 3\n", "munmap"},
		{"munmap(0x5000, 4096 <unfinished ...>\n", "munmap"},
		{"<... munmap resumed>) = 0\n", "munmap"},
		{"<... munmap resumed) = 0\n", "munmap"},
		{".<... munmap resumed) = 0\n", "munmap"},
		{"clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 102\n", "clone 102"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		for (size_t j = 0; j < sizeof(between) / sizeof(between[0]); j++) {
			for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++) {
				for (size_t l = 0; l < sizeof(before) / sizeof(before[0]); l++) {
					char text[1000];

					snprintf(text, sizeof(text), "brk(NULL) = 0x2000\n%s%s%s%s",
						 before[l], lines[i], between[j], pieces[k].text);
					is_not_lost(text, pieces[k].wanted);
					if (!strncmp(lines[i], "mprotect", 8))
						is_not_lost(text, "mprotect");
					else if (!strcmp(lines[i], "brk(NULL) = 0x1000"))
						is_not_lost(text, "brk 1000");
					else if (!strncmp(lines[i], "vfork", 5))
						is_not_lost(text, "clone 9");
					else if (!strncmp(lines[i], "execve", 6))
						is_not_lost(text, "execve");
				}
			}
		}
	}
}

/* Not what the wrong call is taken for, where another line is between. */
static void a_rest_is_not_guessed_twice(void **state)
{
	struct trace_error error;
	struct trace trace;

	(void)state;
	assert_false(parse(&trace,
			   "1 brk(NULL) = 0x1000\n1 read(0,  <unfinished ...>\n\"2\", 1) = 1\n"
			   "1 <... read resumed>\"3\", 1) = 1\n",
			   false, &error));
	assert_int_equal(error.line, 4);
	/* What is left of another line. */
	assert_false(parse(&trace,
			   "1 brk(NULL) = 0x1000\n1 futex(0x7f00, FUTEX_WAIT, 2 <unfinished ...>\n"
			   "000, 4096) = 0\n",
			   false, &error));
	assert_int_equal(error.line, 3);
	assert_false(parse(&trace,
			   "1 brk(NULL) = 0x1000\n1 futex(0x7f00, FUTEX_WAIT, 2 <unfinished ...>\n"
			   "sumed>) = 0\n",
			   false, &error));
	assert_int_equal(error.line, 3);
	reads_as("1 brk(NULL) = 0x1000\n1 read(0,  <unfinished ...>\n\n\"2\", 1) = 1\n",
		 "1 brk 1000");
}

/* By reason, with the first of each. */
static void what_is_skipped_is_counted(void **state)
{
	struct trace_error error;
	struct trace trace;

	(void)state;
	assert_true(parse(&trace,
			  "hello\n1 brk(NULL) = 0x1000\n1 munmap(0x1001, 1) = 0\nbye\t\n"
			  "1 munmap(0x2002, 1) = 0\n\001\n",
			  true, &error));
	assert_int_equal(trace.skipped_count, 3);
	assert_int_equal(trace.skipped[0].count, 2);
	assert_int_equal(trace.skipped[0].line, 1);
	assert_string_equal(trace.skipped[0].text, "hello");
	assert_int_equal(trace.skipped[1].count, 2);
	assert_int_equal(trace.skipped[1].line, 3);
	assert_string_equal(trace.skipped[1].text, "1 munmap(0x1001, 1) = 0");
	assert_int_equal(trace.skipped[2].count, 1);
	assert_string_equal(trace.skipped[2].text, "?");
	assert_int_equal(trace.skipped_lines, 5);
	assert_int_equal(trace.skipped_memory, 2);
	assert_int_equal(trace.skipped_first, 3);
	trace_free(&trace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_are_read),
		cmocka_unit_test(remarks_may_be_anywhere),
		cmocka_unit_test(words_may_be_anywhere),
		cmocka_unit_test(output_may_be_anywhere),
		cmocka_unit_test(lines_may_be_broken),
		cmocka_unit_test(every_line_may_be_dressed),
		cmocka_unit_test(prefixes_may_be_combined),
		cmocka_unit_test(strangers_are_refused_or_skipped),
		cmocka_unit_test(nothing_is_lost_in_another_line),
		cmocka_unit_test(a_rest_is_not_guessed_twice),
		cmocka_unit_test(what_is_skipped_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
