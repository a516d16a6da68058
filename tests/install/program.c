/* SPDX-License-Identifier: MIT */
/* What a user's first program does; built against the installed library only. */
#include <aspace/aspace.h>
#include <aspace/backend/null.h>
#include <stdio.h>

int main(void)
{
	struct aspace_backend *backend = aspace_null_backend();
	struct aspace_area area;
	struct aspace *space;

	if (aspace_create(NULL, &space) != ASPACE_OK)
		return 1;
	if (aspace_map(space, aspace_range_of(0x1000, 0x3000), 0, backend, NULL, 0) != ASPACE_OK)
		return 2;
	if (aspace_find(space, aspace_va(0x2fff), &area) != ASPACE_OK)
		return 3;
	printf("%#llx-%#llx\n", (unsigned long long)area.start.value,
	       (unsigned long long)area.end.value);
	if (aspace_find(space, aspace_va(0x3000), &area) != ASPACE_NOT_MAPPED)
		return 4;
	return aspace_destroy(space, 0) == ASPACE_OK ? 0 : 5;
}
