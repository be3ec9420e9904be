#pragma once
// A loader as the service has it, and calls that wait for it.
#include <future>

#include "api/data.h"
#include "media/clip.h"
#include "media/decode.h"
#include "serve/decode_request.h"
#include "serve/media_loader.h"
#include "support.h"

namespace internvl {

inline MediaLimits usual_limits() {
    MediaLimits limits;
    limits.workers = 2;
    limits.worker_program = INTERNVL_BINARY_DIR "/internvl";
#ifdef INTERNVL_SANITIZED
    limits.picture_cpu *= 10;
    limits.video_cpu *= 10;
#endif
    return limits;
}

inline std::string base64(const std::string& bytes) {
    constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; ++k)
            bits = bits << 8 | (i + k < bytes.size() ? uint8_t(bytes[i + k]) : 0);
        for (size_t k = 0; k < 4; ++k)
            text += i + k <= bytes.size() ? alphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
    return text;
}

inline MediaPart picture(const std::string& url) {
    return {.kind = MediaPart::Kind::picture, .url = url, .param = "picture"};
}
inline MediaPart picture_of(const std::string& file) {
    return picture("data:image/png;base64," + base64(file));
}
inline MediaPart video(const std::string& url) {
    return {.kind = MediaPart::Kind::video, .url = url, .param = "video"};
}
inline MediaPart video_of(const std::string& file) {
    return video("data:video/mp4;base64," + base64(file));
}

// Waits for what a loader calls back.
template <class T>
class Hearing {
  public:
    std::function<void(MediaResult<T>)> done() {
        return [heard = heard_](MediaResult<T> result) { heard->set_value(std::move(result)); };
    }
    MediaResult<T> wait() { return heard_->get_future().get(); }

  private:
    std::shared_ptr<std::promise<MediaResult<T>>> heard_ =
        std::make_shared<std::promise<MediaResult<T>>>();
};

using Fetched = MediaResult<std::vector<FetchedMedia>>;
using Loaded = MediaResult<std::vector<LoadedMedia>>;

inline Fetched fetch_all(MediaLoader& loader, std::vector<MediaPart> parts,
                         bool may_read_files = false, CancelToken cancel = {}) {
    Hearing<std::vector<FetchedMedia>> hearing;
    loader.fetch(std::move(parts), may_read_files, cancel, hearing.done());
    return hearing.wait();
}

inline Loaded load_all(MediaLoader& loader, std::vector<MediaPart> parts,
                       bool may_read_files = false) {
    Fetched fetched = fetch_all(loader, std::move(parts), may_read_files);
    if (auto* error = std::get_if<MediaError>(&fetched)) return *error;
    Hearing<std::vector<LoadedMedia>> hearing;
    loader.decode(std::get<0>(std::move(fetched)), {}, hearing.done());
    return hearing.wait();
}

// "" when it loads; else the code, after checks of what every message must be.
inline std::string code_of(const Loaded& result) {
    const auto* error = std::get_if<MediaError>(&result);
    if (!error) return "";
    EXPECT_FALSE(error->message.empty());
    for (const char* secret : {"/", "\\", "127.0.0.1", "libpng", "FFmpeg", "curl", "Invalid data"})
        EXPECT_EQ(error->message.find(secret), std::string::npos) << error->message;
    EXPECT_FALSE(error->param.empty());
    return error->code;
}
inline std::string code_of(MediaLoader& loader, const MediaPart& part) {
    return code_of(load_all(loader, {part}));
}

// kB of a line in /proc/PID/status, such as VmHWM, the most that was ever resident.
inline long process_kib(const std::string& pid, const std::string& line) {
    std::ifstream file("/proc/" + pid + "/status");
    for (std::string text; std::getline(file, text);)
        if (text.starts_with(line + ":")) return std::stol(text.substr(line.size() + 1));
    return 0;
}
// Forgets the high-water mark of this process.
inline void reset_high_water() {
    std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace internvl
