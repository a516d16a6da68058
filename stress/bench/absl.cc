// SPDX-License-Identifier: MIT
// absl::btree_map behind a std::shared_mutex.
#include <absl/container/btree_map.h>

#define PEER_NAME "absl"
#define MAP       absl::btree_map
#include "bench/ordered_map.h"
