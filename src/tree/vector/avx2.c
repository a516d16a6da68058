/* SPDX-License-Identifier: MIT */
#include "tree/vector/vector.h"

#ifdef ASP_VECTOR_X86
#include "tree/vector/avx2.h"

#include "tree/vector/body.h"
#endif
