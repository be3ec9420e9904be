#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/repository.h"

namespace internvl {

struct PullOptions {
    std::string repository, revision = "main";
    std::string endpoint, token, cache;  // hub_endpoint(), hub_token(), hub_cache()
    std::vector<std::string> include, exclude;
    int jobs = 4;      // files at once
    int timeout = 30;  // seconds of silence
    int retries = 5;
};

// A file on its way; written by the threads that download while others look.
struct FileProgress {
    std::string name;
    int64_t bytes = 0;
    std::atomic<int64_t> have = 0;
    enum class State { waiting, busy, done };
    std::atomic<State> state = State::waiting;
};

struct Pulled {
    std::string snapshot, commit;
    Selection selection;
    int64_t bytes = 0, fetched = 0;  // of all wanted files; of those that had to come
};

// Who wants to know how it goes. All is called on the thread that called pull().
struct PullWatch {
    // Before the first byte: what is wanted, and which files are not here yet.
    std::function<void(const Pulled&, const std::vector<FileProgress>&)> planned;
    std::function<void(const std::vector<FileProgress>&)> progress;  // ten times a second
    std::function<void(const std::string&)> notice;
    std::function<bool()> stop;
};

// Downloads a model into the Hugging Face cache, in huggingface_hub's layout. The snapshot and the
// name of the revision appear when all files are whole; until then, and after an Error, what has
// come stays as blobs and blobs/*.incomplete, from where the next pull goes on.
Pulled pull(const PullOptions&, const PullWatch&);

}  // namespace internvl
