#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "io/descriptor.h"

namespace internvl {

// One message over a SOCK_SEQPACKET socket, with open files.
struct Packet {
    std::vector<uint8_t> bytes;
    Descriptor files[2];
    int file_count = 0;
};

// False when the other side is gone.
bool send_packet(int socket, std::span<const uint8_t> bytes, std::span<const int> files = {});

// The next message, waited for; false when the other side is gone or sends what is none (too long,
// too many files).
bool receive_packet(int socket, Packet& packet);

}  // namespace internvl
