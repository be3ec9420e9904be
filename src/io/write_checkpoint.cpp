#include "io/write_checkpoint.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"

namespace internvl {

using Json = nlohmann::ordered_json;

int64_t bytes_of(const TensorPlan& t) {
    int64_t n = size_of(t.dtype);
    for (const int64_t d : t.shape) n *= d;
    return n;
}

void check_room(const std::string& folder, int64_t bytes) {
    std::error_code error;
    const std::filesystem::space_info room = std::filesystem::space(folder, error);
    if (!error && room.available < uintmax_t(bytes))
        throw Error("the disk has no room for the weights",
                    fmt::format("{:.2f} GB free", double(bytes) / 1e9),
                    fmt::format("{:.2f} GB", double(room.available) / 1e9), folder);
}

void write_text(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary);
    out << text;
    out.close();
    if (!out) throw Error("cannot write file", "", "", path);
}

namespace {

// The groups of one file of weights.
struct Shard {
    std::vector<size_t> groups;
    int64_t bytes = 0;
};

// In order, each file as full as `most` bytes allow: how the released folders were saved.
std::vector<Shard> cut_shards(const std::vector<std::vector<TensorPlan>>& groups, int64_t most) {
    std::vector<Shard> shards(1);
    for (size_t i = 0; i < groups.size(); ++i) {
        int64_t bytes = 0;
        for (const TensorPlan& t : groups[i]) bytes += bytes_of(t);
        if (shards.back().bytes + bytes > most && shards.back().bytes > 0) shards.emplace_back();
        shards.back().groups.push_back(i);
        shards.back().bytes += bytes;
    }
    return shards;
}

}  // namespace

void write_checkpoint(const std::string& folder, const std::vector<std::vector<TensorPlan>>& groups,
                      int64_t shard_bytes,
                      const std::function<void(size_t group, SafetensorsWriter&)>& write) {
    const std::vector<Shard> shards = cut_shards(groups, shard_bytes);
    Json places = Json::object();
    int64_t total = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
        const std::string name =
            shards.size() == 1
                ? "model.safetensors"
                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        std::vector<TensorPlan> plan;
        for (const size_t g : shards[i].groups)
            for (const TensorPlan& t : groups[g]) {
                plan.push_back(t);
                places[t.name] = name;
            }
        SafetensorsWriter writer(folder + "/" + name, plan, {{"format", "pt"}});
        for (const size_t g : shards[i].groups) write(g, writer);
        writer.finish();
        total += shards[i].bytes;
    }
    if (shards.size() > 1)
        write_text(
            folder + "/model.safetensors.index.json",
            Json{{"metadata", {{"total_size", total}}}, {"weight_map", places}}.dump(2) + "\n");
}

}  // namespace internvl
