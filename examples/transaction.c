/* SPDX-License-Identifier: MIT */
/*
 * A transaction: several operations, one publication.
 *
 * Two areas change their flags in every transaction. A reader looks at both in one
 * view all the time, and never sees a state between.
 */
#include <aspace/aspace.h>
#include <aspace/backend/null.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { RED = 1, BLUE = 2, TRANSACTIONS = 1000 };

static const struct aspace_range left = {{0x1000}, {0x2000}};
static const struct aspace_range right = {{0x8000}, {0x9000}};

static struct aspace *space;
static atomic_ulong views, torn;
static atomic_bool done;

static void *read_all_the_time(void *arg)
{
	struct aspace_view view;
	struct aspace_area a, b;

	(void)arg;
	while (!atomic_load(&done)) {
		aspace_read_begin(space, &view);
		if (aspace_view_find(&view, left.start, &a) != ASPACE_OK ||
		    aspace_view_find(&view, right.start, &b) != ASPACE_OK ||
		    a.flags + b.flags != RED + BLUE)
			atomic_fetch_add(&torn, 1);
		aspace_read_end(&view);
		atomic_fetch_add(&views, 1);
	}
	return NULL;
}

/* Either both areas change, or neither. */
static enum aspace_status paint(uint64_t left_flags, uint64_t right_flags)
{
	struct aspace_backend *backend = aspace_null_backend();
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(space, 0, &txn);

	if (status != ASPACE_OK)
		return status;
	status = aspace_txn_map(txn, left, left_flags, backend, NULL, ASPACE_REPLACE);
	if (status == ASPACE_OK)
		status = aspace_txn_map(txn, right, right_flags, backend, NULL, ASPACE_REPLACE);
	if (status == ASPACE_OK)
		return aspace_txn_commit(txn);
	aspace_txn_abort(txn);
	return status;
}

int main(void)
{
	struct aspace_view view;
	pthread_t reader;

	if (aspace_create(NULL, &space) != ASPACE_OK || paint(RED, BLUE) != ASPACE_OK ||
	    pthread_create(&reader, NULL, read_all_the_time, NULL))
		return 1;
	while (!atomic_load(&views))
		; /* the reader is at work */
	for (int i = 0; i < TRANSACTIONS; i++) {
		if (paint(i % 2 ? RED : BLUE, i % 2 ? BLUE : RED) != ASPACE_OK)
			return 1;
	}
	atomic_store(&done, true);
	pthread_join(reader, NULL);

	/* A reserved flag bit: the second operation is refused, and neither happens. */
	printf("refused: %s\n", aspace_status_string(paint(RED, ASPACE_FLAGS_RESERVED)));

	/* Version 1 is the empty space; each transaction made one more. */
	aspace_read_begin(space, &view);
	printf("%d transactions, version %llu\n", TRANSACTIONS + 1,
	       (unsigned long long)view.version);
	aspace_read_end(&view);
	printf("views that showed a state between: %lu\n", atomic_load(&torn));
	return aspace_destroy(space, 0) != ASPACE_OK;
}
