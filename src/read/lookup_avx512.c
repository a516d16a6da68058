/* SPDX-License-Identifier: MIT */
/* Lookups by AVX-512. */
#include "read/lookup.h"

#ifdef ASP_VECTOR_X86
#include "tree/vector/avx512.h"

#include "read/lookup_body.h"
#endif
