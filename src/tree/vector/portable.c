/* SPDX-License-Identifier: MIT */
#include "tree/vector/vector.h"

#include "tree/vector/portable.h"

#include "tree/vector/body.h"
