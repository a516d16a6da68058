/* SPDX-License-Identifier: MIT */
/*
 * The end of a forked child: at once, but in a build for gcov not without its counts.
 */
#ifndef TESTS_CHILD_H
#define TESTS_CHILD_H

#include <unistd.h>

#ifdef ASPACE_COVERAGE
void __gcov_dump(void);
#endif

__attribute__((noreturn)) static inline void end_child(int status)
{
#ifdef ASPACE_COVERAGE
	__gcov_dump();
#endif
	_exit(status);
}

#endif
