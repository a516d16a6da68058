/* SPDX-License-Identifier: MIT */
/* Lookups by AVX2. */
#include "read/lookup.h"

#ifdef ASP_VECTOR_X86
#include "tree/vector/avx2.h"

#include "read/lookup_body.h"
#endif
