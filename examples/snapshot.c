/* SPDX-License-Identifier: MIT */
/*
 * A snapshot: one version, for as long as you like.
 *
 * It costs nothing to take, stops nobody, and holds only those nodes that later
 * versions have replaced.
 */
#include <aspace/aspace.h>
#include <aspace/backend/null.h>

#include <stdio.h>

static void print(const char *name, const struct aspace_view *view)
{
	struct aspace_iter iter;
	struct aspace_area area;

	printf("%s, version %llu:\n", name, (unsigned long long)view->version);
	aspace_iter_begin(view, aspace_va(0), &iter);
	while (aspace_iter_next(&iter, &area))
		printf("  %llx-%llx flags %llx\n", (unsigned long long)area.start.value,
		       (unsigned long long)area.end.value, (unsigned long long)area.flags);
}

int main(void)
{
	struct aspace_backend *backend = aspace_null_backend();
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	struct aspace *space;

	if (aspace_create(NULL, &space) != ASPACE_OK ||
	    aspace_map(space, aspace_range_of(0x1000, 0x5000), 3, backend, NULL, 0) != ASPACE_OK ||
	    aspace_map(space, aspace_range_of(0x8000, 0x9000), 1, backend, NULL, 0) != ASPACE_OK ||
	    aspace_snapshot_take(space, &snapshot) != ASPACE_OK)
		return 1;

	/* Writers go on. */
	if (aspace_protect(space, aspace_range_of(0x2000, 0x3000), 1, 0) != ASPACE_OK ||
	    aspace_unmap(space, aspace_range_of(0x4000, 0x9000), 0) != ASPACE_OK)
		return 1;

	aspace_read_begin(space, &view);
	print("now", &view);
	aspace_read_end(&view);

	aspace_snapshot_view(&snapshot, &view);
	print("then", &view);

	printf("destroy with a snapshot open: %s\n",
	       aspace_status_string(aspace_destroy(space, 0)));
	aspace_snapshot_release(&snapshot);
	printf("destroy after its release: %s\n", aspace_status_string(aspace_destroy(space, 0)));
	return 0;
}
