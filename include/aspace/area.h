/* SPDX-License-Identifier: MIT */
/**
 * @file
 * An area: what a lookup answers.
 */
#ifndef ASPACE_AREA_H
#define ASPACE_AREA_H

#include <aspace/addr.h>

#ifdef __cplusplus
extern "C" {
#endif

struct aspace_backend;

/**
 * A piece of an address space: [start, end), start < end.
 *
 * Lookups copy areas out, so a copy stays valid for ever. Its @ref user pointer
 * may be followed only by a caller that was in a read section, or held a
 * snapshot, across the lookup and is still in it.
 */
struct aspace_area {
	/** The first address inside. */
	struct aspace_vaddr start;
	/** The first address beyond. */
	struct aspace_vaddr end;
	/** What the backend understands; see ::ASPACE_FLAGS_RESERVED. */
	uint64_t flags;
	/** Who gives the area its meaning. */
	struct aspace_backend *backend;
	/** The caller's object; the area owns one reference to it. May be NULL. */
	void *user;
};

/** Flag bits that the library keeps for itself; no backend may declare them. */
#define ASPACE_FLAGS_RESERVED UINT64_C(0xff00000000000000)

#ifdef __cplusplus
}
#endif

#endif
