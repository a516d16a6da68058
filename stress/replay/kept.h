/* SPDX-License-Identifier: MIT */
/*
 * Page operations for a space whose memory has been touched before, as that of one which has
 * lived for a while: blocks that are given back are kept, and are the next ones of their size.
 * For one thread that makes and unmakes spaces; the library's helper may come in between.
 */
#ifndef REPLAY_KEPT_H
#define REPLAY_KEPT_H

#include <aspace/aspace.h>

const struct aspace_page_ops *kept_pages(void);

/* Gives the blocks to the system; no space uses them any more. */
void kept_release(void);

#endif
