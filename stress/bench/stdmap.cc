// SPDX-License-Identifier: MIT
// std::map behind a std::shared_mutex.
#include <map>

#define PEER_NAME "stdmap"
#define MAP       std::map
#include "bench/ordered_map.h"
