#include "serve/media_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/base64.h"
#include "io/fetch.h"

namespace internvl {
namespace {

[[noreturn]] void refuse(const MediaPart& part, MediaFailure failure,
                         const std::string& detail = {}) {
    throw MediaRefused(media_error(part, failure, detail));
}

bool has_scheme(std::string_view text, std::string_view scheme) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; };
    return text.size() > scheme.size() &&
           std::ranges::equal(text.substr(0, scheme.size()), scheme, {}, lower);
}

bool is_video(const MediaPart& part) {
    return part.kind == MediaPart::Kind::video;
}

int64_t most_bytes(const MediaPart& part, const MediaLimits& limits) {
    return is_video(part) ? limits.video_bytes : limits.picture_bytes;
}

[[noreturn]] void refuse_size(const MediaPart& part, const MediaLimits& limits) {
    refuse(part, MediaFailure::too_large,
           fmt::format("the encoded % is too large; at most {} bytes", most_bytes(part, limits)));
}

// data:<type>;base64,<data>. What the type says is not looked at.
std::vector<std::byte> read_data(const MediaPart& part, const MediaLimits& limits) {
    const std::string_view url = part.url;
    constexpr size_t longest_head = 256;
    const size_t comma = url.substr(0, longest_head).find(',');
    constexpr std::string_view wanted = ";base64";
    if (comma == url.npos || comma < wanted.size() ||
        !has_scheme(std::string(url.substr(comma - wanted.size(), wanted.size())) + ",", wanted))
        refuse(part, MediaFailure::bad_url);
    const std::string_view text = url.substr(comma + 1);
    // White space does not count, but who sends mostly white space has something else in mind.
    const int64_t most = most_bytes(part, limits);
    if (int64_t(text.size()) > most * 2) refuse_size(part, limits);
    auto bytes = decode_base64(text);
    if (!bytes || bytes->empty()) refuse(part, MediaFailure::bad_base64);
    if (int64_t(bytes->size()) > most) refuse_size(part, limits);
    return std::move(*bytes);
}

int hex_value(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// file:///PATH with %XX; "" for anything else.
std::string path_of(std::string_view url) {
    url.remove_prefix(5);
    if (!url.starts_with("///")) return {};
    url.remove_prefix(2);
    std::string path;
    for (size_t i = 0; i < url.size(); ++i) {
        if (url[i] != '%') {
            path += url[i];
            continue;
        }
        const int high = i + 2 < url.size() ? hex_value(url[i + 1]) : -1;
        const int low = high >= 0 ? hex_value(url[i + 2]) : -1;
        if (low < 0) return {};
        path += char(high * 16 + low);
        i += 2;
    }
    return path;
}

MediaError fetch_error(const MediaPart& part, const FetchError& error, const MediaLimits& limits) {
    switch (error.why) {
        case FetchError::Why::malformed:
            return media_error(part, MediaFailure::bad_url);
        case FetchError::Why::not_allowed:
            return media_error(part, MediaFailure::not_allowed);
        case FetchError::Why::cancelled:
            return media_error(part, MediaFailure::cancelled);
        case FetchError::Why::no_room:
            return media_error(part, MediaFailure::no_room);
        case FetchError::Why::too_large:
            return media_error(part, MediaFailure::too_large,
                               fmt::format("the encoded % is too large; at most {} bytes",
                                           most_bytes(part, limits)));
        case FetchError::Why::failed:
            break;
    }
    if (error.status == 0) return media_error(part, MediaFailure::not_fetched);
    return media_error(
        part, MediaFailure::not_fetched,
        fmt::format("the server of the % answered with HTTP status {}", error.status));
}

}  // namespace

bool is_remote(const MediaPart& part) {
    return has_scheme(part.url, "http:") || has_scheme(part.url, "https:");
}

std::shared_ptr<const std::vector<std::byte>> MediaSources::read(const MediaPart& part) const {
    const auto shared = [](std::vector<std::byte> bytes) {
        return std::make_shared<const std::vector<std::byte>>(std::move(bytes));
    };
    if (has_scheme(part.url, "data:")) return shared(read_data(part, *limits));
    if (has_scheme(part.url, "file:") && files) {
        if (!may_read_files) refuse(part, MediaFailure::not_permitted);
        auto bytes = files->read(path_of(part.url), most_bytes(part, *limits));
        if (!bytes) refuse(part, MediaFailure::not_allowed);
        return shared(std::move(*bytes));
    }
    if (!is_remote(part)) refuse(part, MediaFailure::bad_url);
    return read_remote(part);
}

std::shared_ptr<const std::vector<std::byte>> MediaSources::read_remote(
    const MediaPart& part) const {
    const auto patience = is_video(part) ? limits->video_fetch : limits->picture_fetch;
    int64_t taken = 0;
    const FetchLimits within{most_bytes(part, *limits),
                             std::min(deadline, std::chrono::steady_clock::now() + patience),
                             [&](size_t more) {
                                 const bool there = fetched->take(int64_t(more));
                                 taken += there ? int64_t(more) : 0;
                                 return there;
                             }};
    try {
        auto bytes = fetch(part.url, limits->fetch, within, cancel);
        return {new std::vector<std::byte>(std::move(bytes)),
                [budget = fetched, taken](const std::vector<std::byte>* held) {
                    delete held;
                    budget->give_back(taken);
                }};
    } catch (const FetchError& error) {
        fetched->give_back(taken);
        throw MediaRefused(fetch_error(part, error, *limits));
    } catch (...) {
        fetched->give_back(taken);
        throw;
    }
}

}  // namespace internvl
