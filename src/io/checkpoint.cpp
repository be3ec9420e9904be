#include "io/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/json.h"

namespace internvl {

static constexpr const char* single = "model.safetensors";
static constexpr const char* index_file = "model.safetensors.index.json";

void Checkpoint::add_file(const ModelFolder& folder, const std::string& name) {
    files_.push_back(folder.map(name));
    names_.push_back(name);
    Safetensors parsed = parse_safetensors(files_.back().bytes(), where_ + "/" + name);
    hole_bytes_ += parsed.hole_bytes;
    for (TensorEntry& e : parsed.entries) {
        if (!by_name_.emplace(e.name, entries_.size()).second)
            problems_.push_back(e.name + " occurs twice");
        total_bytes_ += int64_t(e.bytes.size());
        file_of_.push_back(files_.size() - 1);
        entries_.push_back(std::move(e));
    }
}

// Tensor name -> shard, as the index tells it.
static std::map<std::string, std::string> read_index(const ModelFolder& folder) {
    const std::string where = folder.where() + "/" + index_file;
    const nlohmann::json index = parse_json(*folder.read(index_file), where);
    const auto map = index.find("weight_map");
    if (map == index.end() || !map->is_object())
        throw Error("malformed index", "an object weight_map", "", where);
    std::map<std::string, std::string> result;
    for (const auto& [tensor, shard] : map->items()) {
        if (!shard.is_string()) throw Error("malformed index", "a file name", tensor, where);
        const std::string file = shard.get<std::string>();
        if (file.find('/') != file.npos || file.find("..") != file.npos)
            throw Error("malformed index", "a file of the same folder", file, where);
        result[tensor] = file;
    }
    return result;
}

Checkpoint::Checkpoint(const ModelFolder& folder) : where_(folder.where()) {
    if (folder.has(index_file)) {
        const auto map = read_index(folder);
        std::set<std::string> shards;
        for (const auto& [tensor, shard] : map) shards.insert(shard);
        for (const std::string& shard : shards) {
            if (folder.has(shard))
                add_file(folder, shard);
            else
                problems_.push_back(shard + " is missing");
        }
        for (const auto& [tensor, shard] : map) {
            const auto found = by_name_.find(tensor);
            if (found != by_name_.end() && names_[file_of_[found->second]] != shard)
                problems_.push_back(fmt::format("{} lies in {}, the index says {}", tensor,
                                                names_[file_of_[found->second]], shard));
            else if (found == by_name_.end() && folder.has(shard))
                problems_.push_back(fmt::format("{} is not in {}", tensor, shard));
        }
    } else if (folder.has(single)) {
        add_file(folder, single);
    } else {
        const bool pickled = std::ranges::any_of(
            folder.list(), [](const std::string& f) { return f.ends_with(".bin"); });
        throw Error("no weights in the folder",
                    "model.safetensors, or shards with model.safetensors.index.json",
                    pickled ? "pickled .bin files, which are not read: convert them to safetensors"
                            : "none",
                    where_);
    }
    if (problems_.empty()) return;
    const size_t shown = std::min<size_t>(problems_.size(), 20);
    throw Error(
        fmt::format(
            "the weights do not fit together: {}{}",
            fmt::join(problems_.begin(), problems_.begin() + long(shown), "; "),
            shown < problems_.size() ? fmt::format("; and {} more", problems_.size() - shown) : ""),
        "", "", where_);
}

const TensorEntry* Checkpoint::find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &entries_[found->second];
}

std::string Checkpoint::stamp() const {
    std::string text;
    for (size_t i = 0; i < files_.size(); ++i)
        text +=
            fmt::format("{} {} {}\n", names_[i], files_[i].bytes().size(), files_[i].modified());
    return text;
}

void Checkpoint::rename(const std::function<std::string(std::string)>& to) {
    by_name_.clear();
    for (size_t i = 0; i < entries_.size(); ++i) {
        const std::string before = entries_[i].name;
        entries_[i].name = to(before);
        if (!by_name_.emplace(entries_[i].name, i).second)
            throw Error("two tensors mean the same", entries_[i].name, before, where_);
    }
}

void Checkpoint::drop(const TensorEntry& entry) const {
    const auto found = by_name_.find(entry.name);
    if (found != by_name_.end()) files_[file_of_[found->second]].drop(entry.bytes);
}

}  // namespace internvl
