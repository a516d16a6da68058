/* SPDX-License-Identifier: MIT */
/*
 * A kernel without membarrier: liburcu is told so before the first space is made, as its
 * constructor would have found. Sections are then calls of liburcu, with fences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "../child.h"
#include "read/lookup.h"
#include "space/space.h"

static void check_space(struct aspace *space)
{
	struct aspace_range range = aspace_range_of(0x1000, 0x2000);
	struct aspace_view view;
	struct aspace_area area;

	for (uint64_t flags = 1; flags < 5; flags++) {
		assert_int_equal(aspace_map(space, range, flags, aspace_null_backend(), NULL,
					    ASPACE_REPLACE),
				 ASPACE_OK);
		for (unsigned again = 0; again < 3; again++) {
			assert_int_equal(aspace_find(space, range.start, &area), ASPACE_OK);
			assert_int_equal(area.flags, flags);
			assert_int_equal(aspace_find(space, range.end, &area), ASPACE_NOT_MAPPED);
			assert_int_equal(aspace_find_many(space, &range.start, 1, &area), 1);
		}
		assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
		assert_int_equal(aspace_unmap(space, range, 0), ASPACE_OK);
		/* Sections are sections: grace periods wait for them. */
		aspace_read_begin(space, &view);
		assert_true(asp_grace_in_section(space->grace));
		assert_int_equal(aspace_quiesce(space, ASPACE_NOWAIT), ASPACE_BUSY);
		aspace_read_end(&view);
		assert_false(asp_grace_in_section(space->grace));
	}
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
}

/* ThreadSanitizer and qemu-user do not let a child start threads. */
static bool child_may_start_threads(void)
{
#ifdef ASP_TSAN
	return false;
#else
	return !getenv("ASPACE_EMULATED");
#endif
}

/* The flavour is still the one whose threads a child can do without. */
static void check_child(struct aspace *space)
{
	int status;
	pid_t child;

	aspace_before_fork();
	child = fork();
	if (!child) {
		aspace_after_fork_child();
		end_if_hung();
		check_space(space);
		end_child(0);
	}
	aspace_after_fork_parent();
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_without(void **state)
{
	struct aspace *space;

	(void)state;
	assert_int_equal(aspace_create(NULL, &space), ASPACE_OK);
	assert_false(asp_read_is_inlined(space->grace));
	assert_ptr_equal(space->find, space->lookup_set->find_by_calls);
	check_space(space);

	if (child_may_start_threads())
		check_child(space);
	else
		print_message("left out: a child, which may not start threads here\n");
	check_space(space);
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without),
	};

#ifdef ASP_MEMBARRIER_ASKED
	ASP_MEMBARRIER = 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
#else
	(void)tests;
	print_message("skipped: this liburcu does not start without membarrier\n");
	return 77;
#endif
}
