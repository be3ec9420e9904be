#pragma once
#include <cstdint>

namespace internvl {

// Gives up, for good, whatever this process does not need to compute on memory that it has: it can
// no longer open or create files and sockets, start programs or threads, or see other processes;
// it can take `address_space` bytes in all (not checked in builds with an address sanitizer, which
// reserve terabytes). What it may not do fails with EPERM. Throws Error when the system cannot do
// this.
void enter_sandbox(int64_t address_space);

}  // namespace internvl
