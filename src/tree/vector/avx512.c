/* SPDX-License-Identifier: MIT */
#include "tree/vector/vector.h"

#ifdef ASP_VECTOR_X86
#include "tree/vector/avx512.h"

#include "tree/vector/body.h"
#endif
