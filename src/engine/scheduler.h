#pragma once
#include "base/error.h"

namespace internvl {

// Too many wait.
struct QueueFull : Error {
    QueueFull(int limit, double seconds);
    double wait_s;  // estimated until a request that comes now would have its turn
};

}  // namespace internvl
