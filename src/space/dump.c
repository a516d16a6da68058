/* SPDX-License-Identifier: MIT */
/* The newest version as text. */
#include "space/space.h"

enum aspace_status aspace_dump(struct aspace *space, enum aspace_dump_format format,
			       aspace_write_fn *write, void *ctx)
{
	struct aspace_view view;
	bool complete;

	if (!write || (format != ASPACE_DUMP_MAPS && format != ASPACE_DUMP_DOT))
		return ASPACE_INVALID_PARAM;
	aspace_read_begin(space, &view);
	complete = format == ASPACE_DUMP_MAPS ? asp_tree_dump_maps(view.root, write, ctx)
					      : asp_tree_dump_dot(view.root, write, ctx);
	aspace_read_end(&view);
	return complete ? ASPACE_OK : ASPACE_BAD_STATE;
}
