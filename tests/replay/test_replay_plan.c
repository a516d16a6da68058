/* SPDX-License-Identifier: MIT */
/*
 * From calls to steps: what each call does to the model, which thread is in which
 * image, and what is assumed of what the trace does not show.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan.h"

#define MMAP(pid, address, length)                                                                 \
#pid " mmap(NULL, " #length ", PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = " #address   \
	     "\n"
#define FIXED(pid, address, length)                                                                \
#pid " mmap(" #address ", " #length                                                        \
	     ", PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = " #address "\n"

static void make(struct plan *plan, const char *text)
{
	struct trace_error error;
	struct trace trace;

	if (!trace_parse(&trace, text, strlen(text), &(struct trace_rules){.page = 4096}, &error))
		fail_msg("line %zu: %s", error.line, error.reason);
	plan_make(plan, &trace, 4096);
	trace_free(&trace);
}

/* The areas of an image at its end, as "start-end:protection ...". */
static const char *end_of(const struct plan *plan, uint32_t image)
{
	static char text[1000];
	struct areas areas = {.at = NULL};
	size_t length = 0;

	for (size_t i = 0; i < plan->steps_count; i++) {
		const struct step *step = &plan->steps[i];

		if (step->image != image || step->kind == STEP_END)
			continue;
		if (step->kind == STEP_BEGIN)
			areas_copy(&areas, &plan->images[image].initial);
		else
			step_apply(step, &areas);
	}
	text[0] = 0;
	for (size_t i = 0; i < areas.at_count; i++) {
		const struct area *area = &areas.at[i];

		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%llx-%llx:%u",
					   length ? " " : "", (unsigned long long)area->start,
					   (unsigned long long)area->end, area->protection);
	}
	areas_free(&areas);
	return text;
}

/* One image, which ends like this; and none of the trace was strange. */
static void ends(const char *text, const char *areas)
{
	struct plan plan;

	make(&plan, text);
	assert_int_equal(plan.images_count, 1);
	assert_string_equal(end_of(&plan, 0), areas);
	assert_int_equal(plan.assumed_maps, 0);
	assert_int_equal(plan.assumed_unmaps, 0);
	plan_free(&plan);
}

static size_t count_steps(const struct plan *plan, enum step_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < plan->steps_count; i++)
		count += plan->steps[i].kind == kind;
	return count;
}

static void calls_change_the_model(void **state)
{
	(void)state;
	ends(MMAP(1, 0x10000, 8192), "10000-12000:1");
	ends(MMAP(1, 0x10000, 8192) MMAP(1, 0x12000, 4096), "10000-13000:1"); /* merged */
	ends(MMAP(1, 0x10000, 12288) FIXED(1, 0x11000, 4096),
	     "10000-11000:1 11000-12000:0 12000-13000:1");
	ends(MMAP(1, 0x10000, 12288) "1 munmap(0x11000, 1) = 0\n", "10000-11000:1 12000-13000:1");
	/* Several areas and the holes between them. */
	ends(MMAP(1, 0x10000, 8192) MMAP(1, 0x14000, 8192) "1 munmap(0x11000, 0x4000) = 0\n",
	     "10000-11000:1 15000-16000:1");
	ends(MMAP(1, 0x10000, 8192) "1 mprotect(0x11000, 4096, PROT_WRITE) = 0\n",
	     "10000-11000:1 11000-12000:2");
	ends(MMAP(1, 0x10000, 8192) "1 mprotect(0x11000, 0, PROT_WRITE) = 0\n", "10000-12000:1");
	ends(MMAP(1, 0x10000, 8192) "1 madvise(0x11000, 4096, MADV_DONTNEED) = 0\n",
	     "10000-12000:1");
}

static void brk_grows_and_shrinks(void **state)
{
	static const char heap[] = "1 brk(NULL) = 0x10800\n" /* not aligned: 0x11000 */
				   "1 brk(0x13000) = 0x13000\n";
	char text[300];

	(void)state;
	ends(heap, "11000-13000:3");
	snprintf(text, sizeof(text), "%s1 brk(0x12800) = 0x12800\n1 brk(0x12900) = 0x12900\n",
		 heap);
	ends(text, "11000-13000:3"); /* the same pages */
	snprintf(text, sizeof(text), "%s1 brk(0x11800) = 0x11800\n", heap);
	ends(text, "11000-12000:3");
	snprintf(text, sizeof(text), "%s1 brk(0x99000000000) = 0x13000\n", heap);
	ends(text, "11000-13000:3"); /* refused */
	/* The first call tells the base, also without NULL. */
	ends("1 brk(0x20000) = 0x20000\n1 brk(0x21000) = 0x21000\n", "20000-21000:3");
}

static void mremap_moves_and_resizes(void **state)
{
	struct plan plan;

	(void)state;
#define AREA MMAP(1, 0x10000, 8192)
	ends(AREA "1 mremap(0x10000, 8192, 8192, MREMAP_MAYMOVE) = 0x20000\n", "20000-22000:1");
	ends(AREA "1 mremap(0x10000, 8192, 16384, MREMAP_MAYMOVE) = 0x20000\n", "20000-24000:1");
	ends(AREA "1 mremap(0x10000, 8192, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x20000) = 0x20000\n",
	     "20000-21000:1");
	ends(AREA "1 mremap(0x10000, 8192, 16384, 0) = 0x10000\n", "10000-14000:1");
	ends(AREA "1 mremap(0x10000, 8192, 100, 0) = 0x10000\n", "10000-11000:1");
	ends(AREA "1 mremap(0x10000, 8192, 8192, 0) = 0x10000\n", "10000-12000:1");
	/* A part; a target that is mapped; the old range stays; a copy. */
	ends(AREA "1 mremap(0x11000, 4096, 4096, MREMAP_MAYMOVE) = 0x20000\n",
	     "10000-11000:1 20000-21000:1");
	ends(AREA FIXED(1, 0x20000, 12288) "1 mremap(0x11000, 4096, 4096, "
					   "MREMAP_MAYMOVE|MREMAP_FIXED, 0x21000) = 0x21000\n",
	     "10000-11000:1 20000-21000:0 21000-22000:1 22000-23000:0");
	ends(AREA "1 mremap(0x10000, 8192, 8192, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = 0x20000\n",
	     "10000-12000:1 20000-22000:1");
	ends(AREA "1 mremap(0x10000, 0, 4096, MREMAP_MAYMOVE) = 0x20000\n",
	     "10000-12000:1 20000-21000:1");

	/* A whole area is resized; a part of one cannot be. */
	make(&plan, AREA "1 mremap(0x10000, 8192, 16384, 0) = 0x10000\n");
	assert_int_equal(count_steps(&plan, STEP_RESIZE), 1);
	plan_free(&plan);
	make(&plan, AREA "1 mremap(0x11000, 4096, 16384, 0) = 0x11000\n");
	assert_int_equal(count_steps(&plan, STEP_RESIZE), 0);
	assert_int_equal(count_steps(&plan, STEP_MAP), 2);
	assert_string_equal(end_of(&plan, 0), "10000-15000:1");
	plan_free(&plan);
	/* Nor can one that a later discovery makes part of a larger one. */
	make(&plan, "1 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE, 3, 0) = 0x10000\n"
		    "1 mremap(0x10000, 8192, 16384, 0) = 0x10000\n"
		    "1 madvise(0xf000, 4096, MADV_DONTNEED) = 0\n");
	assert_int_equal(count_steps(&plan, STEP_RESIZE), 0);
	assert_string_equal(end_of(&plan, 0), "f000-14000:3");
	plan_free(&plan);
#undef AREA
}

static void existing_memory_is_inferred(void **state)
{
	struct plan plan;

	(void)state;
	/* What exists is there before the first call, readable and writable. */
	make(&plan, MMAP(1, 0x10000, 4096) "1 mprotect(0x50000, 8192, PROT_READ) = 0\n"
					   "1 munmap(0x60000, 8192) = 0\n"
					   "1 madvise(0x70000, 4096, MADV_FREE) = 0\n");
	assert_int_equal(plan.existing, 3);
	assert_int_equal(plan.images[0].initial.at_count, 3);
	assert_int_equal(plan.images[0].initial.at[0].start, 0x50000);
	assert_int_equal(plan.images[0].initial.at[0].protection, TRACE_READ | TRACE_WRITE);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1 50000-52000:1 70000-71000:3");
	plan_free(&plan);

	/* munmap over a hole beside an area says nothing of the hole. */
	make(&plan, MMAP(1, 0x10000, 4096) "1 munmap(0x10000, 8192) = 0\n");
	assert_int_equal(plan.existing, 0);
	plan_free(&plan);

	/* Used again after its unmap: a call is missing. */
	make(&plan, MMAP(1, 0x10000, 4096) "1 munmap(0x10000, 4096) = 0\n"
					   "1 mprotect(0x10000, 4096, PROT_READ) = 0\n");
	assert_int_equal(plan.existing, 0);
	assert_int_equal(plan.assumed_maps, 1);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1");
	plan_free(&plan);

	/* Also if nobody was seen to map it before that unmap, of more than it. */
	make(&plan, MMAP(1, 0x10000, 4096) "1 munmap(0x10000, 8192) = 0\n"
					   "1 mprotect(0x11000, 4096, PROT_READ) = 0\n");
	assert_int_equal(plan.existing, 0);
	assert_int_equal(plan.assumed_maps, 1);
	assert_string_equal(end_of(&plan, 0), "11000-12000:1");
	plan_free(&plan);

	/* Given by the kernel while the model has it: a call is missing. */
	make(&plan, FIXED(1, 0x10000, 8192) MMAP(1, 0x11000, 4096));
	assert_int_equal(plan.assumed_unmaps, 1);
	assert_string_equal(end_of(&plan, 0), "10000-11000:0 11000-12000:1");
	plan_free(&plan);
}

static void cut_calls_take_effect_in_time(void **state)
{
	struct plan plan;

	(void)state;
	/* What thread 2 was given is what thread 1's mremap had left. */
	make(&plan,
	     MMAP(1, 0x10000,
		  4096) "1 clone(flags=CLONE_VM|CLONE_THREAD) = 2\n"
			"1 mremap(0x10000, 4096, 4096, MREMAP_MAYMOVE <unfinished ...>\n" MMAP(
				2, 0x10000, 4096) "1 <... mremap resumed>) = 0x20000\n");
	assert_int_equal(plan.assumed_unmaps, 0);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1 20000-21000:1");
	plan_free(&plan);
}

static void processes_have_their_own_images(void **state)
{
	struct plan plan;

	(void)state;
	/* A fork's child begins with a copy; the two then go their own ways. */
	make(&plan, MMAP(1, 0x10000, 4096) "1 fork() = 2\n" MMAP(2, 0x20000, 4096)
			    MMAP(1, 0x30000, 4096) "2 +++ exited with 0 +++\n");
	assert_int_equal(plan.images_count, 2);
	assert_int_equal(plan.origins[IMAGE_FIRST], 1);
	assert_int_equal(plan.origins[IMAGE_FORK], 1);
	assert_int_equal(plan.most_images, 2);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1 30000-31000:1");
	assert_string_equal(end_of(&plan, 1), "10000-11000:1 20000-21000:1");
	plan_free(&plan);

	/* What another thread maps meanwhile it is taken to have, and to have lost where it is given the same place. */
	make(&plan, MMAP(1, 0x10000,
			 4096) "1 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 2\n"
			       "1 fork( <unfinished ...>\n" MMAP(
				       2, 0x20000,
				       4096) "1 <... fork resumed>) = 3\n" MMAP(3, 0x20000, 8192));
	assert_int_equal(plan.assumed_unmaps, 1);
	assert_int_equal(plan.assumed_maps, 0);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1 20000-21000:1");
	assert_string_equal(end_of(&plan, 1), "10000-11000:1 20000-22000:1");
	plan_free(&plan);

	/* A thread, and vfork's child until its execve, share it. */
	make(&plan,
	     MMAP(1, 0x10000, 4096) "1 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 2\n" MMAP(
		     2, 0x20000, 4096) "1 vfork() = 3\n" MMAP(3, 0x30000,
							      4096) "3 execve(\"x\", [], 0x0) = "
								    "0\n" MMAP(3, 0x40000, 4096));
	assert_int_equal(plan.images_count, 2);
	assert_int_equal(plan.origins[IMAGE_EXEC], 1);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1 20000-21000:1 30000-31000:1");
	assert_string_equal(end_of(&plan, 1), "40000-41000:1");
	plan_free(&plan);

	/* An execve ends the old image; one that failed does not. */
	make(&plan,
	     MMAP(1, 0x10000, 4096) "1 execve(\"x\", [], 0x0) = -1 ENOENT (No)\n" MMAP(
		     1, 0x20000, 4096) "1 execve(\"x\", [], 0x0) = 0\n"
				       "1 execve(\"x\", [], 0x0) = 0\n" MMAP(1, 0x30000, 4096));
	assert_int_equal(plan.images_count, 2); /* the empty one is left out */
	assert_int_equal(plan.most_images, 1);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1 20000-21000:1");
	assert_string_equal(end_of(&plan, 1), "30000-31000:1");
	plan_free(&plan);

	/* execve by another thread takes the first one's pid. */
	make(&plan, MMAP(1, 0x10000, 4096) "1 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 2\n"
					   "2 execve(\"x\", [], 0x0 <unfinished ...>\n"
					   "1 +++ superseded by execve in pid 2 +++\n"
					   "1 <... execve resumed>) = 0\n" MMAP(1, 0x30000, 4096));
	assert_int_equal(plan.images_count, 2);
	assert_int_equal(plan.most_images, 1);
	assert_string_equal(end_of(&plan, 1), "30000-31000:1");
	plan_free(&plan);
}

static void filtered_traces_are_understood(void **state)
{
	struct plan plan;

	(void)state;
	/* No clone and no execve line: brk(NULL) tells programs apart. */
	make(&plan, "1 brk(NULL) = 0x10000\n" MMAP(
			    1, 0x70000, 4096) "1 brk(NULL) = 0x10000\n" /* an enquiry */
					      "1 brk(NULL) = 0x20000\n" /* another program */
	     MMAP(1, 0x70000, 4096) "2 brk(NULL) = 0x30000\n" /* another process */ MMAP(2, 0x70000,
											 4096));
	assert_int_equal(plan.images_count, 3);
	assert_int_equal(plan.origins[IMAGE_GUESSED], 2);
	assert_int_equal(plan.assumed_unmaps, 0);
	assert_int_equal(plan.guessed_threads, 0);
	plan_free(&plan);

	/* A new pid is in the image that has what it uses. */
	make(&plan,
	     "1 brk(NULL) = 0x10000\n" MMAP(1, 0x70000, 4096) "2 brk(NULL) = 0x20000\n" MMAP(
		     2, 0x80000, 4096) "3 munmap(0x70000, 4096) = 0\n"
				       "4 mprotect(0x80000, 4096, PROT_NONE) = 0\n" MMAP(
					       5, 0x80000, 4096)); /* 2 has that; 1 has room */
	assert_int_equal(plan.images_count, 2);
	assert_int_equal(plan.guessed_threads, 3);
	assert_int_equal(plan.assumed_unmaps, 0);
	assert_string_equal(end_of(&plan, 0), "80000-81000:1");
	assert_string_equal(end_of(&plan, 1), "80000-81000:0");
	plan_free(&plan);

	/* Without pids, there is one thread; with one more named, the first gets its own. */
	make(&plan, "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000\n"
		    "clone(flags=SIGCHLD) = 9\n"
		    "[pid 8] munmap(0x10000, 4096) = 0\n"
		    "[pid 9] mprotect(0x10000, 4096, PROT_NONE) = 0\n"
		    "[pid 9] +++ exited with 0 +++\n"
		    "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x20000\n");
	assert_int_equal(plan.images_count, 2);
	assert_int_equal(plan.guessed_threads, 0);
	assert_string_equal(end_of(&plan, 0), "20000-21000:1");
	assert_string_equal(end_of(&plan, 1), "10000-11000:0");
	plan_free(&plan);
}

static void real_traces_are_whole(void **state)
{
	static const struct {
		const char *file;
		size_t images, guessed;
	} cases[] = {
		{"clang.strace", 1, 0},
		{"java.strace", 1, 0},
		{"python.strace", 79, 0},
		{"python-jemalloc.strace", 39, 8},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trace_error error;
		struct trace trace;
		struct plan plan;
		char path[500];

		snprintf(path, sizeof(path), "%s/%s", TRACES, cases[i].file);
		if (!trace_load(&trace, path, &(struct trace_rules){.page = 4096}, &error))
			fail_msg("%s:%zu: %s", path, error.line, error.reason);
		plan_make(&plan, &trace, 4096);
		/* Who is where has been found out: nothing contradicts it. */
		assert_int_equal(plan.assumed_maps, 0);
		assert_int_equal(plan.assumed_unmaps, 0);
		assert_int_equal(plan.images_count, cases[i].images);
		assert_int_equal(plan.guessed_threads, cases[i].guessed);
		plan_free(&plan);
		trace_free(&trace);
	}
}

/* Two children of one parent, of which no line says that they are: the second has at the same address
 * what the first has there, and is taken for a thread of another program. Its break tells. */
static void a_break_tells_a_wrong_guess(void **state)
{
	struct plan plan;

	(void)state;
	make(&plan,
	     "1 brk(NULL) = 0x10000000000\n1 brk(0x10000021000) = 0x10000021000\n"
	     "2 brk(NULL) = 0x20000000000\n2 brk(0x20000021000) = 0x20000021000\n" MMAP(
		     3, 0x10000,
		     4096) "3 brk(0x20000042000) = 0x20000042000\n" MMAP(4, 0x10000,
									 4096) "4 "
									       "brk(0x20000042000) "
									       "= 0x20000042000\n");
	for (size_t i = 0; i < plan.steps_count; i++)
		assert_true(plan.steps[i].end - plan.steps[i].start <= 0x21000);
	plan_free(&plan);
}

static void segments_are_attached_and_detached(void **state)
{
	struct plan plan;

	(void)state;
#define SEGMENT "1 shmget(IPC_PRIVATE, 8192, IPC_CREAT|0600) = 5\n"
	/* Detached as a whole, and then free. */
	ends(SEGMENT "1 shmat(5, NULL, 0) = 0x10000\n", "10000-12000:3");
	ends(SEGMENT "1 shmat(5, NULL, SHM_RDONLY) = 0x10000\n1 shmdt(0x10000) = 0\n" MMAP(
		     1, 0x11000, 4096),
	     "11000-12000:1");
	/* Only what is left of it. */
	ends(SEGMENT "1 shmat(5, NULL, 0) = 0x10000\n1 munmap(0x10000, 4096) = 0\n" MMAP(
		     1, 0x10000, 4096) "1 shmdt(0x10000) = 0\n",
	     "10000-11000:1");
	ends(SEGMENT "1 shmat(5, NULL, 0) = 0x10000\n1 mprotect(0x10000, 4096, PROT_READ) = 0\n"
		     "1 shmdt(0x10000) = 0\n" MMAP(1, 0x20000, 4096),
	     "20000-21000:1");
	/* One that takes the place of another mapping, and is attached there again. */
	ends(MMAP(1, 0x10000, 8192) SEGMENT "1 shmat(5, 0x10000, SHM_REMAP) = 0x10000\n"
					    "1 shmdt(0x10000) = 0\n"
					    "1 shmat(5, 0x10000, 0) = 0x10000\n"
					    "1 shmdt(0x10000) = 0\n" MMAP(1, 0x10000, 4096),
	     "10000-11000:1");

	/* A forked child has it too, and detaches its own. */
	make(&plan, SEGMENT "1 shmat(5, NULL, 0) = 0x10000\n1 fork() = 2\n"
			    "2 shmdt(0x10000) = 0\n" MMAP(2, 0x10000, 4096));
	assert_int_equal(plan.assumed_unmaps, 0);
	assert_string_equal(end_of(&plan, 0), "10000-12000:3");
	assert_string_equal(end_of(&plan, 1), "10000-11000:1");
	plan_free(&plan);

	/* Of a length that is not shown: as long as it turns out to be. */
	make(&plan, "1 shmat(5, NULL, 0) = 0x10000\n"
		    "1 mprotect(0x10000, 8192, PROT_READ) = 0\n"
		    "1 shmdt(0x10000) = 0\n" MMAP(1, 0x10000, 8192));
	assert_int_equal(plan.unsized, 1);
	assert_int_equal(plan.existing + plan.assumed_maps + plan.assumed_unmaps, 0);
	assert_string_equal(end_of(&plan, 0), "10000-12000:1");
	plan_free(&plan);

	/* Attached before the trace begins. */
	make(&plan, MMAP(1, 0x20000, 4096) "1 shmdt(0x10000) = 0\n" MMAP(1, 0x10000, 4096));
	assert_int_equal(plan.unsized, 1);
	assert_int_equal(plan.existing, 1);
	assert_int_equal(plan.assumed_unmaps, 0);
	plan_free(&plan);
#undef SEGMENT
}

/* What strace answered in the kernel's place, nothing has happened of. */
static void injected_calls_have_no_effect(void **state)
{
	(void)state;
	ends(MMAP(1, 0x10000, 4096) "1 munmap(0x10000, 4096) = 0 (INJECTED)\n"
				    "1 mprotect(0x10000, 4096, PROT_NONE) = 0\n",
	     "10000-11000:0");
	ends(MMAP(1, 0x10000, 4096) "1 brk(NULL) = 0x20000 (INJECTED)\n"
				    "1 execve(\"x\", [], 0x0) = 0 (INJECTED)\n"
				    "1 fork() = 2 (INJECTED)\n" MMAP(1, 0x20000, 4096),
	     "10000-11000:1 20000-21000:1");
}

/* Flags as numbers; or not shown, so that what the child does must tell. */
static void clones_are_told_apart(void **state)
{
	struct plan plan;

	(void)state;
	ends(MMAP(1, 0x10000, 4096) "1 clone3({flags=0x3d0f00}, 88) = 2\n" MMAP(
		     2, 0x20000, 4096) "1 munmap(0x20000, 4096) = 0\n",
	     "10000-11000:1");
	ends(MMAP(1, 0x10000, 4096) "1 clone3(0x7ffc, 88) = 2\n" MMAP(
		     2, 0x20000, 4096) "1 munmap(0x20000, 4096) = 0\n",
	     "10000-11000:1");
	make(&plan,
	     MMAP(1, 0x10000, 4096) "1 clone(0x1200011, 0, 0, 0, 0) = 2\n" MMAP(2, 0x20000, 4096));
	assert_int_equal(plan.origins[IMAGE_FORK], 1);
	plan_free(&plan);
}

/* On a terminal a pid stands in front only while there are several. */
static void the_one_without_a_pid_is_known(void **state)
{
	struct plan plan;

	(void)state;
#define LONE "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000\n"
#define ALSO "munmap(0x10000, 4096) = 0\n" /* by a process that has it */
	/* Whoever does nothing but end is not it. */
	make(&plan, LONE "[pid 9] +++ exited with 0 +++\n" ALSO);
	assert_int_equal(plan.images_count, 1);
	assert_int_equal(plan.existing, 0);
	assert_string_equal(end_of(&plan, 0), "");
	plan_free(&plan);
	/* Nor is one that strace says is new. */
	make(&plan, LONE "strace: Process 9 attached\n"
			 "[pid 9] brk(NULL) = 0x99000\n"
			 "[pid 8] " ALSO);
	assert_string_equal(end_of(&plan, 0), "");
	plan_free(&plan);
	/* If one is left, it is that one: here the child, whose copy is its own. */
	make(&plan, LONE "fork() = 9\n[pid 8] brk(NULL) = 0x50000\n"
			 "[pid 8] +++ exited with 0 +++\n" ALSO);
	assert_int_equal(plan.images_count, 2);
	assert_string_equal(end_of(&plan, 0), "10000-11000:1");
	assert_string_equal(end_of(&plan, 1), "");
	plan_free(&plan);
	/* An old strace says of an end only that it has let go. */
	make(&plan, LONE "fork() = 9\n[pid 9] brk(NULL) = 0x50000\nProcess 9 detached\n" ALSO);
	assert_string_equal(end_of(&plan, 0), "");
	assert_string_equal(end_of(&plan, 1), "10000-11000:1");
	plan_free(&plan);
	/* execve by a thread that is not the first, which had no number yet, or has none now. */
	make(&plan, LONE "clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 9\n"
			 "[pid 9] execve(\"x\", [], 0x0 <pid changed to 8 ...>\n"
			 "+++ superseded by execve in pid 9 +++\n"
			 "<... execve resumed>) = 0\n" LONE);
	assert_int_equal(plan.most_images, 1);
	assert_int_equal(plan.origins[IMAGE_EXEC], 1);
	assert_string_equal(end_of(&plan, 1), "10000-11000:1");
	plan_free(&plan);
	make(&plan, LONE "clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 9\n"
			 "[pid 8] brk(NULL) = 0x50000\n"
			 "[pid 9] execve(\"x\", [], 0x0 <unfinished ...>\n"
			 "+++ superseded by execve in pid 9 +++\n"
			 "<... execve resumed>) = 0\n" LONE);
	assert_int_equal(plan.most_images, 1);
	assert_int_equal(plan.origins[IMAGE_EXEC], 1);
	assert_string_equal(end_of(&plan, 1), "10000-11000:1");
	plan_free(&plan);
#undef LONE
#undef ALSO
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_break_tells_a_wrong_guess),
		cmocka_unit_test(segments_are_attached_and_detached),
		cmocka_unit_test(injected_calls_have_no_effect),
		cmocka_unit_test(clones_are_told_apart),
		cmocka_unit_test(the_one_without_a_pid_is_known),
		cmocka_unit_test(calls_change_the_model),
		cmocka_unit_test(brk_grows_and_shrinks),
		cmocka_unit_test(mremap_moves_and_resizes),
		cmocka_unit_test(existing_memory_is_inferred),
		cmocka_unit_test(cut_calls_take_effect_in_time),
		cmocka_unit_test(processes_have_their_own_images),
		cmocka_unit_test(filtered_traces_are_understood),
		cmocka_unit_test(real_traces_are_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
