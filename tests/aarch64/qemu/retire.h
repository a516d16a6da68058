/* SPDX-License-Identifier: MIT */
/*
 * Tables that lockless walkers may be in, by way of the library's bare-metal grace periods; and
 * what that platform asks of the program.
 */
#ifndef ASPACE_QEMU_RETIRE_H
#define ASPACE_QEMU_RETIRE_H

#include "board.h"

/* board_ops with table_retire, read_enter and read_leave. */
extern const struct aspace_aarch64_ops retire_ops;
/* How many tables have been retired, and how many of them are free again. */
extern size_t tables_retired, tables_reclaimed;

/* Before the first use. */
void retire_init(void);
/* Free the tables whose grace period has ended. In the place of a writer. */
void retire_poll(void);

#endif
