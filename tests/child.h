/* SPDX-License-Identifier: MIT */
/*
 * Forked children. Their end: at once, but in a build for gcov not without its counts. And a
 * net for those that hang: they would outlive the test.
 */
#ifndef TESTS_CHILD_H
#define TESTS_CHILD_H

#include <unistd.h>

#ifdef ASPACE_COVERAGE
void __gcov_dump(void);
#endif

/* Not a measure of anything: on a busy machine a child may take long. It only must end before
 * CTest gives the test up (cmake/AspaceTest.cmake). */
static inline void end_if_hung(void)
{
	alarm(600);
}

__attribute__((noreturn)) static inline void end_child(int status)
{
#ifdef ASPACE_COVERAGE
	__gcov_dump();
#endif
	_exit(status);
}

#endif
