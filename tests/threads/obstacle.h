/* SPDX-License-Identifier: MIT */
/*
 * Somebody who is in the way of a thread of the test, until the test lets him go: for the tests of
 * waits, one wait at a time.
 */
#ifndef TESTS_THREADS_OBSTACLE_H
#define TESTS_THREADS_OBSTACLE_H

#include "crew.h"

static _Atomic bool blocked, let_go;

static void block(void)
{
	atomic_store(&blocked, true);
	until(atomic_load(&let_go));
}

/* Threads: of this space the writer lock, or a section. */
static void *hold_lock(void *space)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	block();
	aspace_txn_abort(txn);
	return NULL;
}

static void *hold_section(void *space)
{
	struct aspace_view view;

	aspace_read_begin(space, &view);
	block();
	aspace_read_end(&view);
	return NULL;
}

#endif
