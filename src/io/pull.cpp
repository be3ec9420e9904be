#include "io/pull.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "io/download.h"
#include "io/file_lock.h"
#include "io/hub.h"

namespace internvl {

namespace fs = std::filesystem;

namespace {

// The folders of one repository in the cache.
struct Cache {
    fs::path repository, locks;

    Cache(const fs::path& cache, const std::string& name)
        : repository(cache / repository_folder(name)),
          locks(cache / ".locks" / repository_folder(name)) {
        fs::create_directories(repository / "blobs");
        fs::create_directories(locks);
    }
    fs::path blob(const RepositoryFile& f) const { return repository / "blobs" / f.blob; }
    fs::path partial(const RepositoryFile& f) const { return blob(f).string() + ".incomplete"; }
    fs::path snapshot(const std::string& commit) const { return repository / "snapshots" / commit; }
    // A blob gets its name when it is whole, so the size is check enough.
    bool has(const RepositoryFile& f) const { return size_of(blob(f)) == f.bytes; }

    static int64_t size_of(const fs::path& file) {
        std::error_code error;
        if (!fs::is_regular_file(file, error)) return -1;
        const auto size = fs::file_size(file, error);
        return error ? -1 : int64_t(size);
    }
};

// A name in the cache that another process may read at any time.
template <class Make>
void replace(const fs::path& path, Make make) {
    fs::create_directories(path.parent_path());
    const fs::path temporary = path.parent_path() / fmt::format(".{}.tmp", ::getpid());
    fs::remove(temporary);
    make(temporary);
    fs::rename(temporary, path);
}

void link_snapshot(const Cache& cache, const Repository& repository,
                   const std::vector<RepositoryFile>& files) {
    for (const RepositoryFile& file : files) {
        const fs::path link = cache.snapshot(repository.commit) / file.name;
        const fs::path target = cache.blob(file).lexically_relative(link.parent_path());
        std::error_code error;
        if (fs::read_symlink(link, error) != target)
            replace(link, [&](const fs::path& path) { fs::create_symlink(target, path); });
    }
}

void write_reference(const Cache& cache, const std::string& revision, const std::string& commit) {
    if (revision == commit) return;
    replace(cache.repository / "refs" / revision, [&](const fs::path& path) {
        if (!(std::ofstream(path) << commit << std::flush))
            throw Error("cannot write file", "", "", path.string());
    });
}

void check_space(const Cache& cache, const std::vector<RepositoryFile>& missing) {
    int64_t needed = 0;
    for (const RepositoryFile& file : missing)
        needed +=
            file.bytes - std::clamp<int64_t>(cache.size_of(cache.partial(file)), 0, file.bytes);
    struct statvfs info;
    if (::statvfs(cache.repository.c_str(), &info) != 0) return;
    const int64_t free = int64_t(info.f_bavail) * int64_t(info.f_frsize);
    if (free < needed)
        throw Error("not enough free disk space for the download", fmt::format("{} bytes", needed),
                    std::to_string(free), cache.repository.string());
}

// What the hub's refusal means to who asked. It may list the files of a gated repository and refuse
// their contents only.
[[noreturn]] void explain(const HttpError& e, const PullOptions& o) {
    const std::string where = o.endpoint + "/" + o.repository;
    const std::string found = fmt::format("HTTP status {}", e.status);
    if (e.code == "GatedRepo" || e.status == 403)
        throw Error(
            "the repository is gated or closed to you",
            "its terms accepted at " + where + ", and HF_TOKEN set to a token of that account",
            found, where);
    if (e.status == 401 && !o.token.empty())
        throw Error("no such repository, or the token does not open it",
                    "ORG/NAME as on the hub, and a valid token in HF_TOKEN", found, where);
    if (e.status == 401)
        throw Error("no such repository, or one that needs a token",
                    "ORG/NAME as on the hub, or HF_TOKEN set", found, where);
    throw e;
}

// Downloads on threads of its own, while the thread that made it keeps watch.
class Crew {
  public:
    Crew(const PullOptions& options, const PullWatch& watch, const Cache& cache,
         const std::string& commit, const std::vector<RepositoryFile>& files)
        : options_(options), watch_(watch), cache_(cache), files_(files), progress_(files.size()) {
        base_ = fmt::format("{}/{}/resolve/{}/", options.endpoint, options.repository, commit);
        for (size_t i = 0; i < files.size(); ++i) {
            progress_[i].name = files[i].name;
            progress_[i].bytes = files[i].bytes;
            const int64_t have = cache.size_of(cache.partial(files[i]));
            progress_[i].have = std::clamp<int64_t>(have, 0, files[i].bytes);
        }
    }
    const std::vector<FileProgress>& progress() const { return progress_; }

    void run() {
        const size_t threads = std::min(size_t(options_.jobs), files_.size());
        {
            std::vector<std::jthread> team;
            running_ = threads;
            try {
                while (team.size() < threads) team.emplace_back([this] { work(); });
                watch_until_done();
            } catch (...) {
                stop_ = true;  // the team ends before it is left
                throw;
            }
        }
        if (error_) std::rethrow_exception(error_);
    }

  private:
    void watch_until_done() {
        for (bool done = false; !done;) {
            std::vector<std::string> notices;
            {
                std::unique_lock lock(mutex_);
                changed_.wait_for(lock, std::chrono::milliseconds(100),
                                  [&] { return running_ == 0; });
                notices.swap(notices_);
                done = running_ == 0;
            }
            for (const std::string& text : notices) watch_.notice(text);
            watch_.progress(progress_);
            if (watch_.stop()) stop_ = true;
        }
    }

    void work() {
        try {
            Downloader downloader({options_.token, options_.timeout, options_.retries,
                                   [this] { return stop_.load(); },
                                   [this](const std::string& text) { notice(text); }});
            for (size_t i = next_++; i < files_.size(); i = next_++) fetch(downloader, i);
        } catch (...) {
            const std::lock_guard lock(mutex_);
            if (!error_) error_ = std::current_exception();
            stop_ = true;  // after it: the others fail only because of this one
        }
        const std::lock_guard lock(mutex_);
        --running_;
        changed_.notify_all();
    }

    void fetch(Downloader& downloader, size_t i) {
        const RepositoryFile& file = files_[i];
        bool said = false;
        const FileLock lock((cache_.locks / (file.blob + ".lock")).string(), [&] {
            if (stop_) throw Error("stopped");
            if (!std::exchange(said, true))
                notice("waiting for another process that downloads " + file.name);
        });
        progress_[i].state = FileProgress::State::busy;
        if (!cache_.has(file)) {
            const std::string partial = cache_.partial(file).string();
            downloader.file({base_ + url_escape(file.name, "/"), file.bytes, file.blob}, partial,
                            [&](int64_t bytes) { progress_[i].have = bytes; });
            fs::rename(partial, cache_.blob(file));
        }
        progress_[i].have = file.bytes;
        progress_[i].state = FileProgress::State::done;
    }

    void notice(const std::string& text) {
        const std::lock_guard lock(mutex_);
        notices_.push_back(text);
    }

    const PullOptions& options_;
    const PullWatch& watch_;
    const Cache& cache_;
    const std::vector<RepositoryFile>& files_;
    std::string base_;
    std::vector<FileProgress> progress_;
    std::atomic<size_t> next_ = 0;
    std::atomic<bool> stop_ = false;
    std::mutex mutex_;  // of what follows
    std::condition_variable changed_;
    size_t running_ = 0;
    std::vector<std::string> notices_;
    std::exception_ptr error_;
};

Repository list_repository(const PullOptions& o, const PullWatch& watch) {
    constexpr size_t longest = 16 << 20;
    const std::string url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", o.endpoint,
                                        o.repository, url_escape(o.revision));
    try {
        Downloader downloader({o.token, o.timeout, o.retries, watch.stop, watch.notice});
        return parse_repository(downloader.text(url, longest), url);
    } catch (const HttpError& e) {
        if (e.status != 404) throw;
        throw Error(e.code == "RevisionNotFound" ? "the repository has no such revision"
                                                 : "no such repository or revision",
                    "ORG/NAME and --revision as on the hub",
                    fmt::format("HTTP status 404 for revision {}", o.revision),
                    o.endpoint + "/" + o.repository);
    }
}

// One of each blob, the largest first: so the threads end together.
std::vector<RepositoryFile> missing_files(const Cache& cache,
                                          const std::vector<RepositoryFile>& wanted) {
    std::vector<RepositoryFile> missing;
    std::unordered_set<std::string> blobs;
    for (const RepositoryFile& file : wanted)
        if (!cache.has(file) && blobs.insert(file.blob).second) missing.push_back(file);
    std::ranges::stable_sort(missing, std::greater(), &RepositoryFile::bytes);
    return missing;
}

void check_options(const PullOptions& options) {
    if (!is_repository(options.repository))
        throw UsageError("this is not a repository id", "ORG/NAME, such as OpenGVLab/InternVL2-1B",
                         printable(options.repository));
    if (!is_inner_path(options.revision))
        throw UsageError("this is not a revision", "a branch, tag or commit",
                         printable(options.revision));
}

}  // namespace

Pulled pull(const PullOptions& options, const PullWatch& watch) try {
    check_options(options);
    const Repository repository = list_repository(options, watch);
    Pulled pulled;
    pulled.commit = repository.commit;
    pulled.selection = select_files(repository.files, options.include, options.exclude);
    const std::vector<RepositoryFile>& wanted = pulled.selection.wanted;
    if (wanted.empty())
        throw Error("no file of the repository is wanted",
                    "--include and --exclude that leave some",
                    fmt::format("{} files, all left out", repository.files.size()),
                    options.endpoint + "/" + options.repository);
    const Cache cache(fs::absolute(options.cache), options.repository);
    const std::vector<RepositoryFile> missing = missing_files(cache, wanted);
    pulled.snapshot = cache.snapshot(repository.commit).string();
    for (const RepositoryFile& file : wanted) pulled.bytes += file.bytes;
    for (const RepositoryFile& file : missing) pulled.fetched += file.bytes;
    check_space(cache, missing);
    Crew crew(options, watch, cache, repository.commit, missing);
    watch.planned(pulled, crew.progress());
    crew.run();
    link_snapshot(cache, repository, wanted);
    write_reference(cache, options.revision, repository.commit);
    return pulled;
} catch (const HttpError& e) {
    explain(e, options);
} catch (const fs::filesystem_error& e) {
    throw Error("cannot write to the cache", "", e.code().message(), e.path1().string());
}

}  // namespace internvl
