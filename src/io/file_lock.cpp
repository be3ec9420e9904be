#include "io/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/log.h"

namespace internvl {

FileLock::FileLock(const std::string& path, const std::function<void()>& waiting) {
    for (;;) {
        file_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
        if (file_.fd < 0) throw Error("cannot create lock file", "", std::strerror(errno), path);
        if (::flock(file_.fd, LOCK_EX | LOCK_NB) == 0) {
            // Others may remove the file when they let go of it: then ours is nobody's lock.
            struct stat info;
            if (::fstat(file_.fd, &info) == 0 && info.st_nlink > 0) return;
        } else if (errno == EWOULDBLOCK) {
            waiting();
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        } else if (errno != EINTR) {
            // Some file systems of clusters have no locks; that is no reason to refuse work.
            log_warning("cannot lock {}: {}; let no other process pull the same files", path,
                        std::strerror(errno));
            return;
        }
    }
}

}  // namespace internvl
