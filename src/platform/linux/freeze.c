/* SPDX-License-Identifier: MIT */
/*
 * Pages that cannot be written: only in the build for tests that freezes published nodes.
 *
 * Neighbouring pages of one protection are one mapping, of which a process has 65530; so nodes
 * stay frozen until they are used again, and a program's worst is two mappings a node that is in
 * the making, or that was given back without having been published.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "platform/platform.h"

#ifdef ASPACE_FROZEN
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void protect(void *block, size_t size, int protection)
{
	int saved = errno;

	if (mprotect(block, size, protection)) {
		fprintf(stderr, "aspace_frozen: mprotect of %zu bytes at %p: %s\n", size, block,
			strerror(errno));
		abort();
	}
	errno = saved;
}

void asp_freeze(void *block, size_t size)
{
	protect(block, size, PROT_READ);
}

void asp_thaw(void *block, size_t size)
{
	protect(block, size, PROT_READ | PROT_WRITE);
}
#endif
