/* SPDX-License-Identifier: MIT */
/*
 * A plugin with libaspace.a in it. It gives back all that it has made.
 */
#include <aspace/aspace.h>
#include <aspace/backend/null.h>

__attribute__((visibility("default"))) int plugin_use(void);

int plugin_use(void)
{
	struct aspace *space;
	int wrong = 0;

	if (aspace_create(NULL, &space))
		return 1;
	for (uint64_t at = 0; at < 1600; at += 16)
		wrong += aspace_map(space, aspace_range_of(at, at + 8), 1, aspace_null_backend(),
				    NULL, 0) != ASPACE_OK;
	/* From here on the thread is known to liburcu. */
	wrong += aspace_find(space, aspace_va(16), NULL) != ASPACE_OK;
	wrong += aspace_destroy(space, 0) != ASPACE_OK;
	return wrong;
}
