/* SPDX-License-Identifier: MIT */
/* Lookups by Advanced SIMD. */
#include "read/lookup.h"

#ifdef ASP_VECTOR_NEON
#include "tree/vector/neon.h"

#include "read/lookup_body.h"
#endif
