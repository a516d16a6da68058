/* SPDX-License-Identifier: MIT */
/*
 * Latencies, to three per cent: a power of two is 32 buckets. One writer each;
 * the others' are added in the end.
 */
#ifndef STRESS_HISTOGRAM_H
#define STRESS_HISTOGRAM_H

#include <stdint.h>

enum {
	HISTOGRAM_SUB = 32, /* buckets in a power of two */
	HISTOGRAM_BUCKETS = (64 - 5 + 1) * HISTOGRAM_SUB,
};

struct histogram {
	uint64_t count, greatest;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *histogram, const struct histogram *from);
/* The value that `share` (0 to 1) of all values do not exceed; 0 of none. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);

/* Nanoseconds of a clock that never goes back. */
uint64_t clock_now(void);

#endif
