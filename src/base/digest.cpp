#include "base/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <new>

namespace internvl {

struct Sha256::State {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
    if (!state_->context || !EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr))
        throw std::bad_alloc();
}

Sha256::~Sha256() = default;

Sha256& Sha256::update(const void* data, size_t bytes) {
    EVP_DigestUpdate(state_->context, data, bytes);
    return *this;
}

std::string Sha256::hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    EVP_DigestFinal_ex(state_->context, digest, &length);
    std::string text;
    for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
}

std::string sha256_hex(const void* data, size_t bytes) {
    return Sha256().update(data, bytes).hex();
}

}  // namespace internvl
