#include "base/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <cassert>
#include <new>

namespace internvl {

struct Digest::State {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
    const EVP_MD* method = kind == Kind::sha1 ? EVP_sha1() : EVP_sha256();
    if (!state_->context || !EVP_DigestInit_ex(state_->context, method, nullptr))
        throw std::bad_alloc();
}

Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;
Digest::~Digest() = default;

Digest& Digest::update(const void* data, size_t bytes) {
    EVP_DigestUpdate(state_->context, data, bytes);
    return *this;
}

std::string Digest::hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    EVP_DigestFinal_ex(state_->context, digest, &length);
    return internvl::hex({digest, length});
}

DigestKey Digest::key() {
    assert(EVP_MD_CTX_size(state_->context) == 32);
    DigestKey key;
    EVP_DigestFinal_ex(state_->context, key.data(), nullptr);
    return key;
}

std::string hex(std::span<const uint8_t> bytes) {
    std::string text;
    for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
    return text;
}

std::string sha256_hex(const void* data, size_t bytes) {
    return Sha256().update(data, bytes).hex();
}

}  // namespace internvl
