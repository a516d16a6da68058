/* SPDX-License-Identifier: MIT */
/*
 * Names of status codes.
 */
#include <aspace/status.h>

const char *aspace_status_string(enum aspace_status status)
{
	switch (status) {
#define NAME(code)                                                                                 \
	case code:                                                                                 \
		return #code
		NAME(ASPACE_OK);
		NAME(ASPACE_INVALID_PARAM);
		NAME(ASPACE_ALREADY_EXISTS);
		NAME(ASPACE_BAD_STATE);
		NAME(ASPACE_NO_MEMORY);
		NAME(ASPACE_NO_SPACE);
		NAME(ASPACE_NOT_MAPPED);
		NAME(ASPACE_BUSY);
		NAME(ASPACE_DEADLOCK);
		NAME(ASPACE_NOT_SUPPORTED);
		NAME(ASPACE_ACCESS_DENIED);
#undef NAME
	}
	return "ASPACE_STATUS_UNKNOWN";
}
