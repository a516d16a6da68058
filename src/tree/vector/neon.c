/* SPDX-License-Identifier: MIT */
#include "tree/vector/vector.h"

#ifdef ASP_VECTOR_NEON
#include "tree/vector/neon.h"

#include "tree/vector/body.h"
#endif
