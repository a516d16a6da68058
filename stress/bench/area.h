/* SPDX-License-Identifier: MIT */
/* What every peer keeps, and answers whole: as much as this library does. */
#ifndef BENCH_AREA_H
#define BENCH_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct area {
	uint64_t start, end, flags;
	void *backend, *user;
};

#endif
