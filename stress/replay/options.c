/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "arguments.h"

static const char help[] =
	"usage: replay [OPTION...] TRACE...\n"
	"       replay [OPTION...] --record -- PROGRAM [ARGUMENT...]\n"
	"\n"
	"Plays the mmap, munmap, mprotect, mremap and brk calls of strace's output on\n"
	"address spaces of libaspace, while other threads look addresses up and check every\n"
	"answer. TRACE is the output of strace -f (\"-\": the standard input).\n"
	"\n"
	"  -b, --backend=mock|host|null|aarch64  what areas mean: a page table in memory\n"
	"                        (the default), real memory, nothing, AArch64 translation\n"
	"                        tables that are walked after each call\n"
	"  -r, --readers=N       threads that look up; default 2\n"
	"  -n, --repeat=N        play each trace N times; default 1\n"
	"  -s, --seconds=T       play each trace again and again for at least T seconds\n"
	"      --overlaps=N      and until so many looks of the readers have overlapped an\n"
	"                        operation\n"
	"  -S, --seed=N          choose the readers' addresses by N; default 1\n"
	"      --page-size=N     bytes in a page of the traced machine; default 4096\n"
	"  -t, --time            measure instead: the kernel's time for the calls, and what the\n"
	"                        library adds to it (host backend, no readers)\n"
	"  -j, --json=FILE       write the summary there too (\"-\": the standard output,\n"
	"                        instead of the text)\n"
	"  -l, --lenient         skip what is not strace's, and say how much that was; without it\n"
	"                        the first such line is an error\n"
	"      --brief           print a few lines for each trace\n"
	"  -q, --quiet           print nothing but what is wrong\n"
	"  -R, --record          record PROGRAM with strace, then replay that\n"
	"      --save=FILE       keep the recorded trace there\n"
	"      --inject-mismatch=history|model|library|kernel\n"
	"                        do one thing wrong, to see that it is found: expect an\n"
	"                        area that never was, in lookups or at the end; unmap a\n"
	"                        page unasked; protect one behind the library's back\n"
	"  -h, --help            this\n"
	"\n"
	"Exit: 0 all answers were right, 1 some were not, 2 bad usage or input (--lenient:\n"
	"something skipped that may concern memory), no memory, or output that could not be\n"
	"written, 130 ended by ^C (with the summary so far).\n";

enum {
	OPTION_PAGE = 256,
	OPTION_OVERLAPS,
	OPTION_SAVE,
	OPTION_BRIEF,
	OPTION_INJECT,
};

static const struct option long_options[] = {
	{"backend", required_argument, NULL, 'b'},
	{"readers", required_argument, NULL, 'r'},
	{"repeat", required_argument, NULL, 'n'},
	{"seconds", required_argument, NULL, 's'},
	{"overlaps", required_argument, NULL, OPTION_OVERLAPS},
	{"seed", required_argument, NULL, 'S'},
	{"page-size", required_argument, NULL, OPTION_PAGE},
	{"time", no_argument, NULL, 't'},
	{"json", required_argument, NULL, 'j'},
	{"lenient", no_argument, NULL, 'l'},
	{"brief", no_argument, NULL, OPTION_BRIEF},
	{"quiet", no_argument, NULL, 'q'},
	{"record", no_argument, NULL, 'R'},
	{"save", required_argument, NULL, OPTION_SAVE},
	{"inject-mismatch", required_argument, NULL, OPTION_INJECT},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static const char *const backends[] = {"mock", "host", "null", "aarch64"};
static const char *const injections[] = {"", "history", "model", "library", "kernel"};

const char *backend_name(enum backend_kind kind)
{
	return backends[kind];
}

const char *injection_name(enum injection inject)
{
	return injections[inject];
}

static bool take_option(struct options *options, int key)
{
	uint64_t number = 0;
	int word = 0;
	bool fine = true;

	switch (key) {
	case 'b':
		fine = argument_word("backend", optarg, backends, 4, &word);
		options->backend = (enum backend_kind)word;
		return fine;
	case 'r':
		fine = argument_number("readers", optarg, 0, 1024, &number);
		options->readers = (unsigned)number;
		return fine;
	case 'n':
		return argument_number("repeat", optarg, 1, UINT64_MAX, &options->repeat);
	case 's':
		return argument_seconds("seconds", optarg, &options->seconds);
	case OPTION_OVERLAPS:
		return argument_number("overlaps", optarg, 0, UINT64_MAX, &options->overlaps);
	case 'S':
		return argument_number("seed", optarg, 0, UINT64_MAX, &options->seed);
	case OPTION_PAGE:
		if (!argument_number("page-size", optarg, 4096, LAYOUT_ALIGN, &options->page))
			return false;
		return !(options->page & (options->page - 1)) ||
		       argument_bad("page-size", optarg, "not a power of two");
	case 't':
		options->time = true;
		options->backend = BACKEND_HOST;
		return true;
	case 'j':
		options->json = optarg;
		return true;
	case 'l':
		options->lenient = true;
		return true;
	case OPTION_BRIEF:
		options->brief = true;
		return true;
	case 'q':
		options->quiet = true;
		return true;
	case 'R':
		options->record = true;
		return true;
	case OPTION_SAVE:
		options->save = optarg;
		return true;
	case OPTION_INJECT:
		fine = argument_word("inject-mismatch", optarg, injections, 5, &word);
		options->inject = (enum injection)word;
		return fine;
	default:
		return false; /* getopt has said what is wrong */
	}
}

static bool check(const struct options *options)
{
	const char *wrong = NULL;

	if (!options->operands_count)
		wrong = options->record ? "--record needs a program" : "no trace is named";
	else if (options->save && !options->record)
		wrong = "--save is for --record";
	else if (options->time && options->backend != BACKEND_HOST)
		wrong = "--time is for --backend=host";
	else if (options->time && options->inject != INJECT_NOTHING)
		wrong = "--time checks no answers: --inject-mismatch is not for it";
	else if (options->inject == INJECT_KERNEL && options->backend != BACKEND_HOST &&
		 options->backend != BACKEND_AARCH64)
		wrong = "--inject-mismatch=kernel is for --backend=host and aarch64";
	else if (options->backend == BACKEND_AARCH64 && options->page != 4096 &&
		 options->page != 16384 && options->page != 65536)
		wrong = "--backend=aarch64 has pages of 4096, 16384 or 65536 bytes";
	else if (options->backend == BACKEND_HOST &&
		 options->page < (uint64_t)sysconf(_SC_PAGESIZE))
		wrong = "this machine's pages are larger than --page-size: --backend=host cannot";
	if (wrong)
		fprintf(stderr, "replay: %s; see --help\n", wrong);
	return !wrong;
}

enum options_result options_parse(struct options *options, int argc, char **argv)
{
	int key;

	*options = (struct options){.readers = 2, .repeat = 1, .seed = 1, .page = 4096};
	/* "+": what follows the program's name is the program's. */
	while ((key = getopt_long(argc, argv, "+b:r:n:s:S:tj:lqRh", long_options, NULL)) != -1) {
		if (key == 'h') {
			fputs(help, stdout);
			return OPTIONS_STOP;
		}
		if (!take_option(options, key))
			return OPTIONS_BAD;
	}
	options->operands = argv + optind;
	options->operands_count = argc - optind;
	return check(options) ? OPTIONS_RUN : OPTIONS_BAD;
}
