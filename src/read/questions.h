/* SPDX-License-Identifier: MIT */
/* Questions about a range of one version; see questions.c. */
#ifndef ASPACE_READ_QUESTIONS_H
#define ASPACE_READ_QUESTIONS_H

#include "tree/tree.h"

#include <aspace/aspace.h>

/* aspace_check_range(), aspace_bytes_in(). */
enum aspace_status asp_check_range(const struct asp_node *root, struct aspace_range range,
				   const struct aspace_match *match, struct aspace_vaddr *reached);
uint64_t asp_bytes_in(const struct asp_node *root, struct aspace_range range,
		      const struct aspace_match *match);

#endif
