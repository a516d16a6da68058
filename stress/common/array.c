/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* program_invocation_short_name */
#include "array.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void die_of_memory(void)
{
	fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
	exit(2);
}

void *array_reserve(void *array, size_t *capacity, size_t count, size_t size)
{
	size_t room = *capacity;

	if (count <= room)
		return array;
	if (count > SIZE_MAX / 2 / size)
		die_of_memory();
	if (!room)
		room = 8;
	while (room < count)
		room *= 2;
	array = realloc(array, room * size);
	if (!array)
		die_of_memory();
	*capacity = room;
	return array;
}

void *array_zeroed(size_t count, size_t size)
{
	void *array = calloc(count ? count : 1, size);

	if (!array)
		die_of_memory();
	return array;
}
