/* SPDX-License-Identifier: MIT */
/*
 * A backend that takes its time, as one does that reads from a disk. What holds no lock of the library
 * meanwhile takes threads no longer together than one alone.
 */
#include "bench/beside/measure.h"

#include <aspace/backend/null.h>
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#define BASE     UINT64_C(0x100000000)
#define DISTANCE (UINT64_C(1) << 30) /* between areas */

static void take_a_millisecond(void)
{
	struct timespec left = {.tv_nsec = 1000 * 1000};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend, (void)change;
	return ASPACE_OK;
}

static enum aspace_status slow_fault(struct aspace_backend *backend, const struct aspace_area *area,
				     struct aspace_vaddr address, unsigned access)
{
	(void)backend, (void)area, (void)address, (void)access;
	take_a_millisecond();
	return ASPACE_OK;
}

static uint64_t page_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend, (void)area;
	return PAGE;
}

static enum aspace_status slow_advise(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_range range,
				      enum aspace_advice advice, struct aspace_vaddr *reached)
{
	(void)backend, (void)area, (void)range, (void)advice, (void)reached;
	take_a_millisecond();
	return ASPACE_OK;
}

static const struct aspace_backend_ops slow_ops = {
	.size = sizeof(slow_ops),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.fault = slow_fault,
	.fault_span = page_span,
	.advise = slow_advise,
};

struct sleepers {
	struct aspace *space;
	unsigned how, threads, calls;
	_Atomic unsigned left; /* threads that are not through */
};

static struct aspace_range page(unsigned area, unsigned n)
{
	uint64_t start = BASE + area * DISTANCE + n * PAGE;

	return aspace_range_of(start, start + PAGE);
}

static void call(void *ctx, unsigned thread)
{
	struct sleepers *s = ctx;

	if (thread == s->threads) { /* the writer */
		for (unsigned n = 0; atomic_load(&s->left); n++) {
			must(aspace_map(s->space, page(thread, n % 64), 0, aspace_null_backend(),
					NULL, 0),
			     "map");
			must(aspace_unmap(s->space, page(thread, n % 64), 0), "unmap");
		}
		return;
	}
	for (unsigned n = 0; n < s->calls; n++) {
		struct aspace_range one = page(thread, n);

		if (s->how == SLEEP_ADVISE)
			must(aspace_advise(s->space, one, ASPACE_ADVICE_POPULATE_WRITE, 0),
			     "advise");
		else
			must(aspace_fault(s->space, one.start, ASPACE_ACCESS_WRITE, 0), "fault");
	}
	atomic_fetch_sub(&s->left, 1);
}

double sleep_time(unsigned how, unsigned threads, const struct sizes *sizes)
{
	struct aspace_backend slow = {.ops = &slow_ops, .granule = PAGE};
	struct aspace_options options = {.size = sizeof(options), .granule = PAGE};
	struct sleepers s = {.how = how, .threads = threads, .calls = sizes->calls};
	double time;

	must(aspace_create(&options, &s.space), "a space");
	for (unsigned i = 0; i < threads; i++)
		must(aspace_map(s.space,
				aspace_range_of(page(i, 0).start.value,
						page(i, sizes->calls).start.value),
				0, &slow, NULL, 0),
		     "map");
	atomic_store(&s.left, threads);
	time = run_crew(threads + (how == SLEEP_FAULT_BESIDE_WRITER), false, call, &s);
	must(aspace_clear(s.space, 0), "clear");
	must(aspace_destroy(s.space, 0), "destroy");
	return time;
}
