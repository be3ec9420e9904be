#include "io/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/json.h"

namespace internvl {

using nlohmann::json;

static constexpr uint64_t longest_header = 100'000'000;
static constexpr size_t most_dimensions = 8;

// Elements of a shape, or an Error when a dimension is negative or the product overflows.
static int64_t elements(const std::vector<int64_t>& shape, const std::string& where) {
    int64_t n = 1;
    for (const int64_t d : shape)
        if (d < 0 || __builtin_mul_overflow(n, d, &n))
            throw Error("impossible shape", "dimensions of a tensor that fits in memory", "",
                        where);
    return n;
}

static uint64_t unsigned_field(const json& value, const char* what, const std::string& where) {
    if (!value.is_number_unsigned())
        throw Error(std::string(what) + " is not a whole number", "", value.dump(), where);
    return value.get<uint64_t>();
}

static TensorEntry parse_entry(const std::string& name, const json& value,
                               std::span<const std::byte> data, const std::string& file) {
    const std::string where = file + ": " + name;
    if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
        !value.contains("data_offsets"))
        throw Error("malformed tensor entry", "dtype, shape and data_offsets",
                    value.dump().substr(0, 80), where);
    TensorEntry entry;
    entry.name = name;
    const json& dtype = value["dtype"];
    if (!dtype.is_string() || !parse_dtype(dtype.get<std::string>(), &entry.dtype))
        throw Error("unknown tensor type", "", dtype.dump(), where);
    const json& shape = value["shape"];
    if (!shape.is_array() || shape.size() > most_dimensions)
        throw Error("malformed shape", "an array of at most 8 dimensions",
                    shape.dump().substr(0, 80), where);
    for (const json& d : shape) {
        const uint64_t dimension = unsigned_field(d, "dimension", where);
        if (dimension > uint64_t(INT64_MAX))
            throw Error("impossible shape", "", shape.dump().substr(0, 80), where);
        entry.shape.push_back(int64_t(dimension));
    }
    const json& offsets = value["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2)
        throw Error("malformed data_offsets", "two numbers", offsets.dump().substr(0, 80), where);
    const uint64_t begin = unsigned_field(offsets[0], "offset", where),
                   end = unsigned_field(offsets[1], "offset", where);
    if (begin > end || end > data.size())
        throw Error("tensor lies outside the file",
                    fmt::format("a range within {} bytes of data", data.size()),
                    fmt::format("[{}, {}]", begin, end), where);
    int64_t bytes = 0;
    if (__builtin_mul_overflow(elements(entry.shape, where), size_of(entry.dtype), &bytes) ||
        uint64_t(bytes) != end - begin)
        throw Error("tensor has the wrong length",
                    fmt::format("{} bytes for its shape and type", bytes),
                    fmt::format("{}", end - begin), where);
    entry.bytes = data.subspan(begin, end - begin);
    return entry;
}

Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& where) {
    uint64_t length = 0;
    if (file.size() < 8)
        throw Error("not a safetensors file", "8 bytes at least", fmt::format("{}", file.size()),
                    where);
    std::memcpy(&length, file.data(), 8);  // little endian, as every machine that we build for
    if (length > longest_header || length > file.size() - 8)
        throw Error("truncated file or not a safetensors file",
                    fmt::format("a header within {} bytes", file.size()),
                    fmt::format("a header of {} bytes", length), where);
    const json header = parse_json({reinterpret_cast<const char*>(file.data()) + 8, length}, where);
    if (!header.is_object())
        throw Error("malformed safetensors header", "a JSON object", "", where);
    Safetensors result;
    const std::span<const std::byte> data = file.subspan(8 + length);
    for (const auto& [name, value] : header.items()) {
        if (name != "__metadata__") {
            result.entries.push_back(parse_entry(name, value, data, where));
            continue;
        }
        if (!value.is_object())
            throw Error("malformed __metadata__", "an object of strings", "", where);
        for (const auto& [key, text] : value.items()) {
            if (!text.is_string()) throw Error("malformed __metadata__", "strings", key, where);
            result.metadata[key] = text.get<std::string>();
        }
    }
    std::ranges::stable_sort(result.entries, {},
                             [](const TensorEntry& e) { return e.bytes.data(); });
    const std::byte* at = data.data();
    for (const TensorEntry& e : result.entries) {
        if (e.bytes.empty()) continue;
        if (e.bytes.data() < at) throw Error("tensors overlap", "", e.name, where);
        result.hole_bytes += e.bytes.data() - at;
        at = e.bytes.data() + e.bytes.size();
    }
    result.hole_bytes += data.data() + data.size() - at;
    return result;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<TensorPlan> plan,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), temporary_(path + ".part") {
    nlohmann::ordered_json header;
    if (!metadata.empty()) header["__metadata__"] = metadata;
    for (const TensorPlan& t : plan) {
        const size_t bytes = size_t(elements(t.shape, t.name) * size_of(t.dtype));
        header[t.name] = {{"dtype", dtype_name(t.dtype)},
                          {"shape", t.shape},
                          {"data_offsets", {left_, left_ + bytes}}};
        left_ += bytes;
    }
    std::string text = header.is_null() ? "{}" : header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');  // tensors begin aligned
    const uint64_t length = text.size();
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) throw Error("cannot write file", "", std::strerror(errno), path_);
    left_ += 8 + text.size();
    write(&length, 8);
    write(text.data(), text.size());
}

SafetensorsWriter::~SafetensorsWriter() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(temporary_.c_str());
}

void SafetensorsWriter::fail(const char* what) {
    const std::string reason = std::strerror(errno);
    ::close(std::exchange(fd_, -1));
    ::unlink(temporary_.c_str());
    throw Error(what, "", reason, path_);
}

void SafetensorsWriter::write(const void* data, size_t bytes) {
    if (bytes > left_) throw Error("more data than the header promises", "", "", path_);
    left_ -= bytes;
    for (const char* at = static_cast<const char*>(data); bytes > 0;) {
        const ssize_t done = ::write(fd_, at, std::min(bytes, size_t(1) << 30));
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) fail("cannot write file");
        at += done;
        bytes -= size_t(done);
    }
}

void SafetensorsWriter::finish() {
    if (left_ != 0)
        throw Error("less data than the header promises", "",
                    fmt::format("{} bytes missing", left_), path_);
    if (::fsync(fd_) != 0 && errno != EINVAL) fail("cannot write file");
    if (::close(std::exchange(fd_, -1)) != 0 ||
        std::rename(temporary_.c_str(), path_.c_str()) != 0) {
        const std::string reason = std::strerror(errno);
        ::unlink(temporary_.c_str());
        throw Error("cannot write file", "", reason, path_);
    }
}

}  // namespace internvl
