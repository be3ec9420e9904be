#include "serve/packets.h"

#include <sys/socket.h>

#include <cassert>
#include <cerrno>
#include <cstring>

#include "serve/decode_job.h"

namespace internvl {
namespace {

constexpr int most_files = 2;
struct Control {
    alignas(cmsghdr) char bytes[CMSG_SPACE(most_files * sizeof(int))];
};

// Takes over every file that came along; false when there are more than there is room for.
bool take_files(msghdr& message, Packet& packet) {
    bool fits = true;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
            int file;
            std::memcpy(&file, CMSG_DATA(part) + i * sizeof(int), sizeof file);
            if (packet.file_count < most_files) {
                packet.files[packet.file_count++].reset(file);
            } else {
                ::close(file);
                fits = false;
            }
        }
    }
    return fits;
}

}  // namespace

bool send_packet(int socket, std::span<const uint8_t> bytes, std::span<const int> files) {
    assert(files.size() <= most_files);
    iovec data{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    Control control{};
    if (!files.empty()) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(files.size_bytes());
        cmsghdr* part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(files.size_bytes());
        std::memcpy(CMSG_DATA(part), files.data(), files.size_bytes());
    }
    ssize_t sent;
    do sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == ssize_t(bytes.size());
}

bool receive_packet(int socket, Packet& packet) {
    packet.bytes.resize(longest_message);
    iovec data{packet.bytes.data(), packet.bytes.size()};
    Control control{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    ssize_t got;
    do got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got <= 0) return false;
    packet.bytes.resize(size_t(got));
    return take_files(message, packet) && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
}

}  // namespace internvl
