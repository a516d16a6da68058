/* SPDX-License-Identifier: MIT */
/*
 * Faults that follow each other so that one is always at work do not keep what is deferred from its turn for
 * ever: a reference to the same object, whose area has gone.
 *
 * The stream is in step with the test: a fault ends when the next is at work, and between two steps all that is
 * due is run. So how long anything takes is counted in faults.
 */
#include "crew.h"

#include "space/space.h"

#define PAGE UINT64_C(0x1000)

static struct aspace *space;
static char user; /* every area's object */
static _Atomic uint64_t released;
/* The fault with that number is at work, and may end. */
static _Atomic uint64_t at_work, may_end;

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of(number * PAGE, (number + 1) * PAGE);
}

static enum aspace_status accept(struct aspace_backend *of, const struct aspace_change *change)
{
	(void)of;
	(void)change;
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *of, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	uint64_t number = atomic_fetch_add(&at_work, 1) + 1;

	(void)of;
	(void)area;
	(void)address;
	(void)access;
	until(atomic_load(&may_end) >= number);
	return ASPACE_OK;
}

static uint64_t one_page(struct aspace_backend *of, const struct aspace_area *area)
{
	(void)of;
	(void)area;
	return PAGE;
}

static void release(struct aspace_backend *of, void *object)
{
	(void)of;
	check(object == &user);
	relaxed_add(&released, 1);
}

static const struct aspace_backend_ops owning_ops = {.size = sizeof(owning_ops),
						     .map = accept,
						     .unmap = accept,
						     .protect = accept,
						     .fault = populate,
						     .fault_span = one_page,
						     .release = release};
static struct aspace_backend owning = {.ops = &owning_ops, .flags_mask = 7};
static void *fault(void *arg)
{
	enum aspace_status status = aspace_fault(space, aspace_va((uint64_t)(uintptr_t)arg * PAGE),
						 ASPACE_ACCESS_READ, 0);

	check(status == ASPACE_OK || status == ASPACE_NOT_MAPPED);
	return NULL;
}

/* The next fault comes, in that page, and then the one before goes. True: the next is at work; else it waits. */
static pthread_t threads[2];
static uint64_t begun;

static void begin_fault(uint64_t number)
{
	threads[begun % 2] = spawn(fault, (void *)(uintptr_t)number);
	begun++;
}

static void end_fault(uint64_t number)
{
	atomic_store(&may_end, number);
	join(threads[(number - 1) % 2]);
}

static void begin_stream(unsigned mode)
{
	space = make_space(&(struct aspace_options){.mode = mode});
	atomic_store(&at_work, 0);
	atomic_store(&may_end, 0);
	begun = 0;
	relaxed_store(&released, 0);
}

/* ---- An object ------------------------------------------------------------------ */

static void test_object(void)
{
	uint64_t steps = 0;

	begin_stream(0);
	for (uint64_t i = 1; i < 6; i += 2)
		check_ok(aspace_map(space, page(i), 1, &owning, &user, 0));
	begin_fault(1);
	until(atomic_load(&at_work) == 1);
	check_ok(aspace_unmap(space, page(5), 0));
	while (!relaxed_load(&released)) {
		begin_fault(begun % 2 ? 3 : 1);
		until(atomic_load(&at_work) == begun);
		end_fault(begun - 1);
		/* As often as it takes for what is due to have been looked at. */
		for (int i = 0; i < 100 && !relaxed_load(&released); i++)
			aspace_quiesce(space, ASPACE_NOWAIT);
		if (++steps > 100)
			fail("the object is kept by %llu faults that came later",
			     (unsigned long long)steps);
	}
	end_fault(begun);
	check_ok(aspace_quiesce(space, 0));
	check(relaxed_load(&released) == 1);
	check_ok(aspace_clear(space, 0));
	check_ok(aspace_quiesce(space, 0));
	check(relaxed_load(&released) == 3);
	end_space(space);
	printf("%-40s %9llu faults\n", "an object was kept for", (unsigned long long)steps);
}

int main(void)
{
	for (long i = 0; i < scaled(40); i++)
		test_object();
	return 0;
}
