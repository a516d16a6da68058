/* SPDX-License-Identifier: MIT */
/**
 * @file
 * A backend that accepts everything and does nothing.
 *
 * Two uses: to measure what the library itself costs, and to keep areas that
 * mean nothing to real memory (an index of ranges). Its source is the smallest
 * complete example of a backend.
 */
#ifndef ASPACE_BACKEND_NULL_H
#define ASPACE_BACKEND_NULL_H

#include <aspace/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The null backend: all flags, byte granularity, every operation but `prepare`,
 * `can_merge`, `clone` and `release`. All advice is welcome, and does nothing. User pointers are copied, never followed.
 *
 * One for the whole process; it has no state, so any number of spaces may share it.
 * Errors: none. Context: anywhere. Ownership: static, nothing to free. O(1).
 */
ASPACE_API struct aspace_backend *aspace_null_backend(void);

#ifdef __cplusplus
}
#endif

#endif
