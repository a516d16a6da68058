/* SPDX-License-Identifier: MIT */
/* The program in README.md, word for word (tests/readme compares them). */
#define _POSIX_C_SOURCE 200809L /* pthread_barrier_t */
#include <aspace/aspace.h>
#include <aspace/backend/host.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct aspace *space;
static pthread_barrier_t found, unmapped;

static void must(enum aspace_status status)
{
	if (status != ASPACE_OK) {
		fprintf(stderr, "%s\n", aspace_status_string(status));
		exit(1);
	}
}

static void *reader(void *text)
{
	struct aspace_vaddr at = aspace_va((uintptr_t)text);
	struct aspace_view view;
	struct aspace_area area;

	aspace_read_begin(space, &view);
	must(aspace_view_find(&view, at, &area));
	pthread_barrier_wait(&found);
	pthread_barrier_wait(&unmapped); /* the writer did not wait for this reader */
	printf("reader: a new lookup says %s, but my view still holds \"%s\"\n",
	       aspace_status_string(aspace_find(space, at, NULL)), (char *)text);
	aspace_read_end(&view);
	return NULL;
}

int main(void)
{
	struct aspace_host_options window = {.size = sizeof(window), .window = 1 << 20};
	struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_GRACE_UNMAP};
	struct aspace_gap gap = {.size = 1 << 16};
	struct aspace_vaddr at;
	struct aspace_host *host;
	pthread_t thread;

	must(aspace_host_create(&window, &host)); /* reserve addresses */
	options.limits = aspace_host_window(host);
	must(aspace_create(&options, &space));
	must(aspace_map_anywhere(space, &gap, ASPACE_HOST_READ | ASPACE_HOST_WRITE,
				 aspace_host_backend(host), NULL, 0, &at));
	strcpy((char *)(uintptr_t)at.value, "real memory"); /* and it is */

	pthread_barrier_init(&found, NULL, 2);
	pthread_barrier_init(&unmapped, NULL, 2);
	if (pthread_create(&thread, NULL, reader, (void *)(uintptr_t)at.value))
		return 1;
	pthread_barrier_wait(&found);
	must(aspace_unmap(space, aspace_range_of(at.value, at.value + gap.size), 0));
	printf("writer: unmapped, %zu areas\n", aspace_count(space));
	pthread_barrier_wait(&unmapped);
	pthread_join(thread, NULL);

	must(aspace_quiesce(space, 0)); /* the reader is gone, and now so is the memory */
	printf("writer: %s\n", aspace_status_string(aspace_destroy(space, 0)));
	aspace_host_destroy(host);
	return 0;
}
