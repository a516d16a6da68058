/* SPDX-License-Identifier: MIT */
/*
 * A window whose areas get their frames by page faults, from a pool that is too small for all of
 * them: for the image "service".
 */
#ifndef ASPACE_QEMU_LAZY_H
#define ASPACE_QEMU_LAZY_H

#include "board.h"

#include <aspace/aspace.h>

/* Adds frame_alloc and frame_free to the operations. */
void lazy_ops(struct aspace_aarch64_ops *ops);
/* The window at this address. */
void lazy_init(struct aspace *space, struct aspace_aarch64 *tables, uint64_t window);
/* Is it an area of the window? */
bool lazy_is(const struct aspace_area *area);

/* Is a fault on its way? */
bool lazy_populates(void);

/* CPU 0: a random map, unmap or protect. */
void lazy_operate(void);
/* CPU 0: unmap all; no frame may be left. */
void lazy_clear(void);
/* CPU 0, after lazy_forget(): note that the tables map this leaf; no frame may come twice. */
void lazy_forget(void);
void lazy_note(const struct aspace_aarch64_mapping *leaf);
/* Pages that were noted: they must be those that are in use. */
void lazy_compare(void);

/* Other CPUs: a store, and loads of what was stored before. True if they went through. */
bool lazy_look(void);

#endif
