/* SPDX-License-Identifier: MIT */
/*
 * Threads that come and go, and spaces that come and go, beside others that go on.
 */
#include "flip.h"
#include "objects.h"

static uint64_t seed;

/* ---- Threads ---------------------------------------------------------------- */

static struct flip flip;

/* A thread's first lookups, and its last. */
static void *short_reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};
	uint32_t seen[FLIP_SLOTS] = {0};
	struct aspace_view view;

	if ((uintptr_t)arg & 1)
		aspace_thread_prepare(flip.space);
	for (int i = 0; i < 20; i++)
		flip_read(&flip, &dice, seen);
	aspace_read_begin(flip.space, &view);
	aspace_read_end(&view);
	return NULL;
}

static void *churn_writer(void *unused)
{
	struct dice dice = {seed};

	(void)unused;
	while (!relaxed_load(&flip.traffic.stop))
		flip_update(&flip, (unsigned)roll_below(&dice, FLIP_SLOTS));
	return NULL;
}

static void test_threads(void)
{
	pthread_t writer;

	flip = (struct flip){.space = make_space(NULL), .writers = 1, .seed = seed};
	writer = spawn(churn_writer, NULL);
	for (long i = 0; i < scaled(1600); i++) {
		pthread_t threads[4];

		for (uintptr_t j = 0; j < 4; j++)
			threads[j] = spawn(short_reader, (void *)((uintptr_t)i * 4 + j));
		for (int j = 0; j < 4; j++)
			join(threads[j]);
	}
	relaxed_store(&flip.traffic.stop, true);
	join(writer);
	report("short-lived readers", &flip.traffic);
	end_space(flip.space);
}

/* ---- Spaces ----------------------------------------------------------------- */

static struct traffic traffic;

/* Makes a space, uses it, and ends it with releases and nodes pending. */
static void *short_space(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};
	uint64_t name = (uintptr_t)arg << 32;

	for (long i = 0; i < scaled(400); i++) {
		struct aspace *space = make_space(&(struct aspace_options){
			.mode = roll_below(&dice, 2) ? ASPACE_GRACE_UNMAP : 0,
		});

		update_begins(&traffic);
		for (uint64_t j = 0; j < roll_below(&dice, 40); j++) {
			struct aspace_area area;
			struct aspace_view view;

			name++;
			check_ok(aspace_map(space, aspace_range_of(j * 16, j * 16 + 8), name,
					    object_backend(), object_make(name), 0));
			aspace_read_begin(space, &view);
			check_ok(aspace_view_find(&view, aspace_va(j * 16 + 3), &area));
			object_look(&area);
			aspace_read_end(&view);
			if (roll_below(&dice, 2))
				check_ok(aspace_unmap(space, aspace_range_of(j * 16, j * 16 + 4),
						      0));
		}
		update_ends(&traffic);
		check_ok(aspace_destroy(space, 0));
	}
	return NULL;
}

/* Where the last space of a flavour goes, its helper does; the next one makes another. */
static void test_spaces(void)
{
	pthread_t threads[3];

	for (uintptr_t i = 0; i < 3; i++)
		threads[i] = spawn(short_space, (void *)(i + 1));
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	check(relaxed_load(&objects_alive) == 0);
	printf("%-40s %9llu spaces\n", "spaces that come and go",
	       (unsigned long long)relaxed_load(&traffic.ended));
}

/* The same while another space of the flavour is in use. */
static void test_spaces_beside_readers(void)
{
	pthread_t reader, writer, threads[2];

	flip = (struct flip){.space = make_space(NULL), .writers = 1, .seed = seed};
	reader = spawn(flip_reader, &flip);
	writer = spawn(churn_writer, NULL);
	for (uintptr_t i = 0; i < 2; i++)
		threads[i] = spawn(short_space, (void *)(i + 1));
	for (int i = 0; i < 2; i++)
		join(threads[i]);
	until(relaxed_load(&flip.traffic.overlaps));
	relaxed_store(&flip.traffic.stop, true);
	join(writer);
	join(reader);
	report("lookups beside create and destroy", &flip.traffic);
	end_space(flip.space);
	check(relaxed_load(&objects_alive) == 0);
}

int main(int argc, char **argv)
{
	seed = seed_from(argc, argv);
	test_threads();
	test_spaces();
	test_spaces_beside_readers();
	return 0;
}
