/* SPDX-License-Identifier: MIT */
/*
 * Arrays that grow. Running out of memory ends the program: a stress program
 * has nothing better to do then, and every caller is spared an error path.
 */
#ifndef STRESS_ARRAY_H
#define STRESS_ARRAY_H

#include <stddef.h>

/* Room for at least `count` items of `size` bytes in `array`, which has room for
 * *capacity of them. Answers the array, perhaps at another place. */
void *array_reserve(void *array, size_t *capacity, size_t count, size_t size);

/* `size` zeroed bytes for each of `count` items; never NULL, not even for none. */
void *array_zeroed(size_t count, size_t size);

/* Append `value` to the array `base`, with base##_count items and room for
 * base##_capacity of them. */
#define ARRAY_PUSH(base, value)                                                                    \
	do {                                                                                       \
		(base) = array_reserve((base), &base##_capacity, base##_count + 1,                 \
				       sizeof(*(base)));                                           \
		(base)[base##_count++] = (value);                                                  \
	} while (0)

#endif
