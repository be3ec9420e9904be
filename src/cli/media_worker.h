#pragma once

namespace internvl::cli {

// `internvl media-worker SOCKET BYTES`: how the service starts its own program again to decode what
// strangers sent. Not a verb for people, so neither in the help nor in the manual.
bool is_media_worker(int argc, char** argv);
int run_media_worker(int argc, char** argv);

}  // namespace internvl::cli
