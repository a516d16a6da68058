/* SPDX-License-Identifier: MIT */
/*
 * Recording with strace.
 */
#ifndef REPLAY_RECORD_H
#define REPLAY_RECORD_H

#include <stdbool.h>

/*
 * Run `program` (a NULL-terminated argument list) under strace. The trace goes to
 * `save`, or, if that is NULL, to a temporary file. Answers its path, to be given
 * to record_done(); NULL if there is no trace, and it was said why.
 */
char *record_run(char **program, const char *save);
/* Interrupt the program that is being recorded, if one is. Async-signal-safe. */
void record_interrupt(void);
/* Free the path, and remove the file or leave it there. */
void record_done(char *path, bool remove);

#endif
