#pragma once
#include <unistd.h>

namespace internvl {

// An open file, closed with the object.
struct Descriptor {
    int fd;

    explicit Descriptor(int opened = -1) : fd(opened) {}
    ~Descriptor() { reset(); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    void reset(int opened = -1) {
        if (fd >= 0) ::close(fd);
        fd = opened;
    }
};

}  // namespace internvl
