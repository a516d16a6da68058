/* SPDX-License-Identifier: MIT */
/*
 * The null backend, and the smallest example of one.
 *
 * A backend is a table of operations and what it says about itself: its flags,
 * its granule, whether mapping again restores what unmapping took. State would
 * follow the struct aspace_backend in a structure of its own, as in mock/private.h.
 *
 * Invariants:
 *  1. No call fails and no call touches memory.
 */
#include <aspace/backend/null.h>

#include <stddef.h>

static enum aspace_status accept_change(struct aspace_backend *backend,
					const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static enum aspace_status accept_fault(struct aspace_backend *backend,
				       const struct aspace_area *area, struct aspace_vaddr address,
				       unsigned access)
{
	(void)backend;
	(void)area;
	(void)address;
	(void)access;
	return ASPACE_OK;
}

static enum aspace_status accept_advice(struct aspace_backend *backend,
					const struct aspace_area *area, struct aspace_range range,
					enum aspace_advice advice, struct aspace_vaddr *reached)
{
	(void)backend;
	(void)area;
	(void)range;
	(void)advice;
	(void)reached;
	return ASPACE_OK;
}

static const struct aspace_backend_ops null_ops = {
	.size = sizeof(null_ops),
	.map = accept_change,
	.unmap = accept_change,
	.protect = accept_change,
	/* No prepare: there is nothing to reserve. */
	.replace = accept_change,
	.move = accept_change,
	.fault = accept_fault,
	.advise = accept_advice,
};

struct aspace_backend *aspace_null_backend(void)
{
	/* Never written: not const only because the library's pointers are not. */
	static struct aspace_backend backend = {
		.ops = &null_ops,
		.flags_mask = ~ASPACE_FLAGS_RESERVED,
		.granule = 1,
		.remap_restores = true,
	};

	return &backend;
}
