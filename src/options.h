/* SPDX-License-Identifier: MIT */
/*
 * Structures of the interface that carry their size in their first member, so that they
 * can grow. Callers built against an older, shorter one mean zero for what they do not know;
 * those built against a newer one must mean zero for what we do not know.
 */
#ifndef ASPACE_OPTIONS_H
#define ASPACE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* None will ever be larger: a size above it is a mistake. */
#define ASP_STRUCT_BYTES_MAX 4096

/* The options that the caller gave, as the structure `to` of `known` bytes, all zero. False
 * for a size below `least`, or above, with something that we do not know. */
static inline bool asp_copy_options(void *to, size_t known, const void *given, size_t least)
{
	const unsigned char *bytes = given;
	size_t size = *(const size_t *)given;

	if (size < least || size > ASP_STRUCT_BYTES_MAX)
		return false;
	for (size_t i = known; i < size; i++) {
		if (bytes[i])
			return false;
	}
	__builtin_memcpy(to, given, size < known ? size : known);
	return true;
}

#endif
