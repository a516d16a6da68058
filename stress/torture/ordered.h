/* SPDX-License-Identifier: MIT */
/*
 * May what the torture keeps for itself order its threads? Not under ThreadSanitizer, which is to see what
 * the library alone orders.
 */
#ifndef TORTURE_ORDERED_H
#define TORTURE_ORDERED_H

#include "sanitizers.h"

#define ORDERED (!SANITIZED_THREAD)

#endif
