/* SPDX-License-Identifier: MIT */
/*
 * ThreadSanitizer on a program that uses the library: no report for correct use, and no
 * annotation needed; a report for wrong use.
 *
 *     race_detector          correct
 *     race_detector late     wrong: an object is looked at after the section has ended
 *     race_detector filled   wrong: an object is filled in after its area has been mapped
 *
 * Build it with -fsanitize=thread, and link the library that is built so: see
 * docs/thread_sanitizer.md.
 */
#include <aspace/aspace.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 2000, LOOKS = 100 };

/* Plain words. What orders the writer's with the readers' is the library alone. */
struct block {
	int number;
	int again;
};

static struct aspace *space;
static atomic_bool stop;
static atomic_int looks, torn, released;

/* Relaxed throughout: this tells how far the others are, and orders nothing. */
static int count(atomic_int *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add(atomic_int *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *what)
{
	(void)backend;
	(void)what;
	return ASPACE_OK;
}

/* No reader that found the block is still in its section. */
static void release(struct aspace_backend *backend, void *user)
{
	struct block *block = user;

	(void)backend;
	block->number = block->again = -1;
	free(block);
	add(&released);
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.replace = change,
	.release = release,
};

static struct aspace_backend backend = {.ops = &ops, .flags_mask = 1};

static struct aspace_range place(void)
{
	return aspace_range_of(0x1000, 0x2000);
}

static struct block *map_block(int number, bool fill)
{
	struct block *block = calloc(1, sizeof(*block));

	if (!block)
		abort();
	if (fill)
		*block = (struct block){number, number};
	if (aspace_map(space, place(), 0, &backend, block, ASPACE_REPLACE) != ASPACE_OK)
		abort();
	return block;
}

static void look_at(const struct block *block)
{
	if (block->number != block->again)
		add(&torn);
	add(&looks);
}

/* Correct: the user pointer is followed inside the section. */
static void look(void)
{
	struct aspace_area area;
	struct aspace_view view;

	aspace_read_begin(space, &view);
	if (aspace_view_find(&view, place().start, &area) == ASPACE_OK)
		look_at(area.user);
	aspace_read_end(&view);
}

static void *reader(void *unused)
{
	(void)unused;
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		look();
	return NULL;
}

/* Wrong: aspace_find() has opened and ended a section of its own. */
static void *late_reader(void *unused)
{
	struct aspace_area area;

	(void)unused;
	if (aspace_find(space, place().start, &area) == ASPACE_OK)
		look_at(area.user);
	/* The end of a thread would order it with all later grace periods. */
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		sched_yield();
	return NULL;
}

static void *single_look(void *unused)
{
	(void)unused;
	look();
	return NULL;
}

static pthread_t start(void *(*entry)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, entry, NULL))
		abort();
	return thread;
}

static void until_looked(int wanted)
{
	while (count(&looks) < wanted)
		sched_yield();
}

static void use_correctly(void)
{
	pthread_t readers[2] = {start(reader), start(reader)};

	for (int i = 0; i < BLOCKS || count(&looks) < LOOKS; i++)
		map_block(i, true);
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	pthread_join(readers[0], NULL);
	pthread_join(readers[1], NULL);
}

/* The block is freed while, for all that anybody knows, it is being looked at. */
static void use_late(void)
{
	pthread_t thread;

	map_block(1, true);
	thread = start(late_reader);
	until_looked(1);
	aspace_unmap(space, place(), 0);
	aspace_quiesce(space, 0);
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	pthread_join(thread, NULL);
}

/* The block is there to be found before it is filled in. */
static void use_unfilled(void)
{
	struct block *block = map_block(1, false);
	pthread_t thread = start(single_look);

	until_looked(1);
	block->number = block->again = 1;
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "correctly";

	if (aspace_create(NULL, &space) != ASPACE_OK)
		return 1;
	if (!strcmp(how, "late"))
		use_late();
	else if (!strcmp(how, "filled"))
		use_unfilled();
	else
		use_correctly();
	if (aspace_destroy(space, 0) != ASPACE_OK)
		return 1;
	printf("torn blocks: %d, released: %s\n", count(&torn),
	       count(&released) >= 1 ? "all" : "none");
	return 0;
}
