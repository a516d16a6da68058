/* SPDX-License-Identifier: MIT */
/*
 * The kernel's view of a host backend's window, which tells free addresses from inaccessible
 * areas: areas are mapped with MAP_NORESERVE, free addresses are not, and /proc/self/smaps
 * shows it ("nr" among the VmFlags).
 */
#ifndef TESTS_UNIT_HOST_MAPS_H
#define TESTS_UNIT_HOST_MAPS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../stress/common/sanitizers.h"

/* For who looks thousands of times: the kernel goes through a sanitizer's shadow for smaps. Then free
 * addresses and inaccessible areas look the same. */
#if SANITIZED
#define HOST_MAPS_OFTEN "/proc/self/maps"
#else
#define HOST_MAPS_OFTEN "/proc/self/smaps"
#endif

struct host_mapping {
	uint64_t start, end;
	char what[4]; /* "rwx", or "fre" where it is free */
};

/* All of a file of /proc as a string; false if it is longer than that. */
static inline bool host_maps_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got = -1;

	if (fd < 0)
		return false;
	while (used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	close(fd);
	return !got;
}

/* The next mapping in the text of /proc/self/maps or smaps that meets [start, end), cut to it;
 * false at the end. In maps nothing is told to be free. */
static inline bool host_maps_next(const char **at, uint64_t start, uint64_t end,
				  struct host_mapping *mapping)
{
	while (**at) {
		const char *text = *at, *line_end = strchr(text, '\n');
		uint64_t lo, hi;
		bool free_addresses = false;
		char *rest;

		*at = line_end + 1;
		lo = strtoull(text, &rest, 16);
		if (*rest != '-')
			continue; /* a detail of smaps */
		hi = strtoull(rest + 1, &rest, 16);
		if (hi <= start || lo >= end)
			continue;
		mapping->start = lo < start ? start : lo;
		mapping->end = hi > end ? end : hi;
		memcpy(mapping->what, rest + 1, 3);
		mapping->what[3] = '\0';
		/* Details begin with capital letters; what is mapped with a digit or a to f. */
		while (**at >= 'A' && **at <= 'Z') {
			line_end = strchr(*at, '\n');
			if (!strncmp(*at, "VmFlags:", 8)) {
				const char *nr = strstr(*at, " nr");

				free_addresses = !nr || nr > line_end;
			}
			*at = line_end + 1;
		}
		if (free_addresses && !memcmp(mapping->what, "---", 3))
			memcpy(mapping->what, "fre", 3);
		return true;
	}
	return false;
}

/* Can it be told? Not where the kernel ignores MAP_NORESERVE, nor under most emulators. */
static inline bool host_maps_tell_free(void)
{
	char text[16] = "";

	return !getenv("ASPACE_EMULATED") &&
	       host_maps_read("/proc/sys/vm/overcommit_memory", text, sizeof(text)) &&
	       text[0] != '2';
}

#endif
