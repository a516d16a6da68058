/* SPDX-License-Identifier: MIT */
/* The program in README.md, word for word (tests/readme compares them). */
#include <aspace/aspace.h>
#include <aspace/backend/null.h>
#include <stdio.h>

int main(void)
{
	struct aspace *space;
	struct aspace_area area;
	char name[] = "heap";

	if (aspace_create(NULL, &space) != ASPACE_OK)
		return 1;
	aspace_map(space, aspace_range_of(0x1000, 0x9000), 3, aspace_null_backend(), name, 0);
	aspace_protect(space, aspace_range_of(0x3000, 0x5000), 1, 0);
	aspace_unmap(space, aspace_range_of(0x8000, 0x9000), 0);
	if (aspace_find(space, aspace_va(0x4321), &area) == ASPACE_OK)
		printf("0x4321: [%#x, %#x) flags %d %s\n", (unsigned)area.start.value,
		       (unsigned)area.end.value, (int)area.flags, (char *)area.user);
	printf("0x8000: %s\n", aspace_status_string(aspace_find(space, aspace_va(0x8000), NULL)));
	printf("%zu areas\n", aspace_count(space));
	return aspace_destroy(space, 0) != ASPACE_OK;
}
