/* SPDX-License-Identifier: MIT */
/*
 * A backend of one's own, to be copied: a linear page table of 16 pages, and user objects with a
 * reference count. docs/backends.md ("Writing a backend") says what to keep.
 */
#include <aspace/aspace.h>

#include <stdatomic.h>
#include <stdio.h>

enum { READ = 1, WRITE = 2, PAGES = 16 };

#define PAGE UINT64_C(0x1000)

/* The library's part comes first, so that a pointer to it is one to the whole. */
struct table {
	struct aspace_backend backend;
	unsigned char entry[PAGES]; /* flags of a page; 0: not mapped */
	uint64_t rom;               /* pages from this on cannot be made writable */
	unsigned flushes;
};

static struct table *table_of(struct aspace_backend *backend)
{
	return (struct table *)backend;
}

static void fill(struct table *table, struct aspace_range range, uint64_t flags)
{
	for (uint64_t page = range.start.value / PAGE; page < range.end.value / PAGE; page++)
		table->entry[page] = (unsigned char)flags;
}

/* All or nothing: look first, then change. */
static enum aspace_status table_set(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	struct table *table = table_of(backend);

	if ((change->new_flags & WRITE) && change->range.end.value > table->rom * PAGE)
		return ASPACE_ACCESS_DENIED;
	fill(table, change->range, change->new_flags);
	return ASPACE_OK;
}

static enum aspace_status table_unmap(struct aspace_backend *backend,
				      const struct aspace_change *change)
{
	fill(table_of(backend), change->range, 0);
	return ASPACE_OK;
}

/* The end of a batch: here a real page table would invalidate TLB entries. */
static void table_flush(struct aspace_backend *backend)
{
	table_of(backend)->flushes++;
}

/* ---- User objects ----------------------------------------------------------- */

struct file {
	const char *name;
	atomic_int references; /* release runs on another thread */
};

static enum aspace_status file_clone(struct aspace_backend *backend, void *user, void **copy)
{
	struct file *file = user;

	(void)backend;
	atomic_fetch_add(&file->references, 1);
	*copy = file;
	return ASPACE_OK;
}

static void file_release(struct aspace_backend *backend, void *user)
{
	struct file *file = user;

	(void)backend;
	atomic_fetch_sub(&file->references, 1);
}

static const struct aspace_backend_ops table_ops = {
	.size = sizeof(table_ops),
	.map = table_set,
	.unmap = table_unmap,
	.protect = table_set,
	.replace = table_set,
	.flush = table_flush,
	.clone = file_clone,
	.release = file_release,
};

static void print(const struct table *table, const char *what, enum aspace_status status)
{
	printf("%-22s %-20s |", what, aspace_status_string(status));
	for (int i = 0; i < PAGES; i++)
		putchar(".rxw"[table->entry[i] & 3]);
	printf("| %u flushes\n", table->flushes);
}

int main(void)
{
	struct table table = {
		.backend =
			{
				.ops = &table_ops,
				.flags_mask = READ | WRITE,
				.granule = PAGE,
				.remap_restores = true, /* an entry is all that there is */
			},
		.rom = 10,
	};
	struct aspace_options options = {
		.size = sizeof(options),
		.limits = {{0}, {PAGES * PAGE}},
		.granule = PAGE,
	};
	struct file file = {.name = "image", .references = 1};
	struct aspace_backend *backend = &table.backend;
	struct aspace *space;

	if (aspace_create(&options, &space) != ASPACE_OK)
		return 1;

	/* The area takes the reference over. */
	print(&table, "map 0-12, r",
	      aspace_map(space, aspace_range_of(0, 12 * PAGE), READ, backend, &file, 0));
	print(&table, "protect 4-8, rw",
	      aspace_protect(space, aspace_range_of(4 * PAGE, 8 * PAGE), READ | WRITE, 0));
	/* Three areas by now. The last is refused, so the library takes the first back. */
	print(&table, "protect 0-12, rw",
	      aspace_protect(space, aspace_range_of(0, 12 * PAGE), READ | WRITE, 0));
	print(&table, "unmap 5-6", aspace_unmap(space, aspace_range_of(5 * PAGE, 6 * PAGE), 0));
	print(&table, "map 3-5, misaligned",
	      aspace_map(space, aspace_range_of(3 * PAGE, 5 * PAGE + 1), READ, backend, NULL,
			 ASPACE_REPLACE));
	printf("%zu areas, %d references to %s\n", aspace_count(space),
	       atomic_load(&file.references), file.name);

	print(&table, "clear", aspace_clear(space, 0));
	/* Readers may still hold the areas: the references go after a grace period. */
	if (aspace_quiesce(space, 0) != ASPACE_OK)
		return 1;
	printf("%zu areas, %d references to %s\n", aspace_count(space),
	       atomic_load(&file.references), file.name);
	return aspace_destroy(space, 0) != ASPACE_OK;
}
