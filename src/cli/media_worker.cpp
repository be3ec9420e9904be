#include "serve/media_worker.h"

#include <charconv>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "cli/media_worker.h"

namespace internvl::cli {

static int64_t number(const char* word) {
    int64_t value = 0;
    const std::string_view text(word);
    const auto [end, error] = std::from_chars(text.begin(), text.end(), value);
    if (error != std::errc() || end != text.end() || value < 0)
        throw UsageError("this is no number", "0 or more", word);
    return value;
}

bool is_media_worker(int argc, char** argv) {
    return argc > 1 && std::strcmp(argv[1], "media-worker") == 0;
}

int run_media_worker(int argc, char** argv) {
    if (argc != 4)
        throw UsageError("the service starts its own media workers", "internvl serve",
                         "internvl media-worker");
    return internvl::run_media_worker(int(number(argv[2])), number(argv[3]));
}

}  // namespace internvl::cli
