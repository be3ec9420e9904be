#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "io/fetch.h"

namespace internvl {

// What the media of strangers may ask for (api.md 4.1), how they are fetched and who decodes them.
struct MediaLimits {
    int64_t picture_bytes = 20 << 20, video_bytes = 96 << 20;            // encoded
    int64_t picture_pixels = 100'000'000, request_pixels = 200'000'000;  // of pictures
    int max_side = 32'768;                                               // pixels
    int video_width = 4096, video_height = 2304;                         // or the other way round
    double video_seconds = 3600, video_rate = 240;
    int64_t video_frames = 300'000;  // in the file
    int64_t seek_frames = 20'000;    // decoded on the way to those that are wanted
    int max_frames = 128;            // looked at, of a video

    std::chrono::milliseconds picture_fetch{10'000}, video_fetch{30'000};  // the whole of one
    std::chrono::milliseconds request_fetch{30'000};                       // all of a request
    int request_fetches = 4;                                               // at a time
    int64_t fetched_bytes = int64_t(1) << 30;  // encoded, of all requests, from elsewhere
    FetchRules fetch;
    std::string media_root;  // file: addresses lie beneath it; "" = there are none

    std::chrono::milliseconds picture_cpu{5'000}, video_cpu{30'000};  // to decode one
    int64_t decoded_bytes = int64_t(1) << 30;                         // of all requests
    std::chrono::milliseconds decoded_wait{30'000};                   // for room among these
    bool sandbox = true;                      // false: decode in this process, for debugging
    int workers = 0;                          // 0 = as many as cores, at most 4
    int64_t worker_bytes = int64_t(3) << 29;  // of a worker's address space
    std::string worker_program = "/proc/self/exe";
};

}  // namespace internvl
