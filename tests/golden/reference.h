#pragma once
// The tiny checkpoints and what the original implementation computes on them (golden/README.md).
#include <bit>
#include <cmath>
#include <map>

#include "engine/session.h"
#include "io/hub.h"
#include "media/clip.h"
#include "media/decode.h"
#include "support.h"

namespace internvl {

// A tensor as fp32 numbers with its shape.
struct Values {
    std::vector<int64_t> shape;
    std::vector<float> data;
    // Chosen rows of the last but one dimension.
    Values rows(const std::vector<int>& chosen) const {
        const int64_t width = shape.back(), count = shape[shape.size() - 2];
        const int64_t parts = int64_t(data.size()) / width / count;
        Values v;
        v.shape = shape;
        v.shape[shape.size() - 2] = int64_t(chosen.size());
        for (int64_t p = 0; p < parts; ++p)
            for (const int r : chosen)
                v.data.insert(v.data.end(), data.begin() + (p * count + r) * width,
                              data.begin() + (p * count + r + 1) * width);
        return v;
    }
};

inline Values values_of(const View& v) {
    Values out;
    out.shape.assign(v.dim, v.dim + v.rank);
    for (int64_t i = 0; i < v.size(); ++i) {
        int64_t at = 0, rest = i;
        for (int d = v.rank; d-- > 0; rest /= v.dim[d]) at += rest % v.dim[d] * v.stride[d];
        out.data.push_back(v.dtype == DType::f32 ? v.as<float>()[at]
                                                 : to_float(v.as<bf16_t>()[at]));
    }
    return out;
}

class Expected {
  public:
    explicit Expected(const std::string& file)
        : file_(MappedFile::open(golden(file))), parsed_(parse_safetensors(file_.bytes(), file)) {}
    bool has(const std::string& name) const {
        return std::ranges::any_of(parsed_.entries,
                                   [&](const TensorEntry& e) { return e.name == name; });
    }
    std::vector<int> ids(const std::string& name) const {  // of an I64 tensor
        std::vector<int> list;
        for (const TensorEntry& e : parsed_.entries)
            for (int64_t i = 0; e.name == name && i < e.shape[0]; ++i) {
                int64_t id;
                std::memcpy(&id, e.bytes.data() + 8 * i, 8);
                list.push_back(int(id));
            }
        return list;
    }
    Values get(const std::string& name) const {
        for (const TensorEntry& e : parsed_.entries)
            if (e.name == name) {
                View v(const_cast<std::byte*>(e.bytes.data()), e.dtype, e.shape);
                return values_of(v);
            }
        ADD_FAILURE() << "no tensor " << name;
        return {};
    }

  private:
    MappedFile file_;
    Safetensors parsed_;
};

inline void expect_near(const Values& got, const Values& expected, double tolerance,
                        const std::string& what) {
    ASSERT_EQ(got.data.size(), expected.data.size()) << what;
    double worst = 0;
    for (size_t i = 0; i < got.data.size(); ++i)
        worst = std::max(worst, std::abs(double(got.data[i]) - double(expected.data[i])));
    EXPECT_LE(worst, tolerance) << what;
}

// bf16: relative rms of all, and the worst cosine of a row.
inline void expect_close(const Values& got, const Values& expected, double rms, double cosine,
                         const std::string& what) {
    ASSERT_EQ(got.data.size(), expected.data.size()) << what;
    const size_t width = size_t(expected.shape.back());
    double error = 0, norm = 0, worst = 1;
    for (size_t row = 0; row < got.data.size(); row += width) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t i = row; i < row + width; ++i) {
            const double a = got.data[i], b = expected.data[i];
            ab += a * b, aa += a * a, bb += b * b;
            error += (a - b) * (a - b);
        }
        norm += bb;
        worst = std::min(worst, ab / std::sqrt(aa * bb));
    }
    EXPECT_LE(std::sqrt(error / norm), rms) << what;
    EXPECT_GE(worst, cosine) << what;
}

using Stages = std::map<std::string, Values>;

// Everything is computed anew: what caches give is compared with that (caches_test.cpp).
inline LoadOptions without_caches(const std::string& dtype, int threads) {
    return {.threads = threads, .dtype = dtype, .vision_cache_mb = 0, .prefix_cache_mb = 0};
}

// One family: its checkpoint, loaded as asked for, and its expectations.
class Reference {
  public:
    explicit Reference(const std::string& name) : name_(name) {}

    Engine& engine(const std::string& dtype = "fp32", int threads = 2,
                   const std::string& quant = "none") {
        auto& e = engines_[{dtype, threads, quant}];
        if (!e) {
            LoadOptions options = without_caches(dtype, threads);
            options.quant = quant;
            e = std::make_unique<Engine>(ModelFolder::open(golden("checkpoints/" + name_)),
                                         options);
        }
        return *e;
    }
    const nlohmann::json& json() {
        if (json_.is_null()) json_ = read_json(golden("expected/" + name_ + ".json"));
        return json_;
    }
    Expected tensors() const { return Expected("expected/" + name_ + ".safetensors"); }
    Expected bf16_tensors() const { return Expected("expected/" + name_ + ".bf16.safetensors"); }
    const nlohmann::json& dialogue(const std::string& name) {
        for (const auto& d : json()["dialogues"])
            if (d["name"] == name) return d;
        throw std::runtime_error("no dialogue " + name);
    }
    const std::string& name() const { return name_; }

  private:
    std::string name_;
    std::map<std::tuple<std::string, int, std::string>, std::unique_ptr<Engine>> engines_;
    nlohmann::json json_;
};

// The families of the model card, each loaded once for all tests of the program.
inline Reference& reference(const std::string& name) {
    static std::map<std::string, std::unique_ptr<Reference>> all;
    auto& r = all[name];
    if (!r) r = std::make_unique<Reference>(name);
    return *r;
}

class Golden : public testing::TestWithParam<const char*> {
  protected:
    Reference& of = reference(GetParam());
};

// Sanitizers make each several times as slow: three have all the features between them.
inline const auto every_family =
#ifdef INTERNVL_SANITIZED
    testing::Values("tiny-1b", "tiny-4b", "tiny-26b");
#else
    testing::Values("tiny-1b", "tiny-2b", "tiny-4b", "tiny-26b", "tiny-40b", "tiny-76b");
#endif
inline std::string family_name(const testing::TestParamInfo<const char*>& info) {
    return std::string(info.param).substr(5);
}

inline Tiles tiles_of(const std::string& file, int max_num) {
    TileOptions options;
    options.max_num = max_num;
    return cut_tiles(load_image(golden("media/" + file)), options);
}

// Pictures of a dialogue, then the frames of its clip.
inline std::vector<Picture> pictures_of(const nlohmann::json& d) {
    std::vector<Picture> pictures;
    for (const auto& image : d["images"])
        pictures.push_back({std::make_shared<Tiles>(tiles_of(image[0], image[1]))});
    if (d["video"].empty()) return pictures;
    const MappedFile file =
        MappedFile::open(golden("media/" + d["video"][0].get<std::string>() + "fps.mp4"));
    const VideoFile video(
        {reinterpret_cast<const uint8_t*>(file.bytes().data()), file.bytes().size()}, {}, "clip");
    TileOptions options;
    options.max_num = 1;
    const Clip clip = cut_clip(video, {.num_segments = d["video"][1]}, options);
    for (const Tiles& frame : clip.frames)
        pictures.push_back({std::make_shared<Tiles>(frame), int(pictures.size()) + 1});
    return pictures;
}

inline std::string system_of(Engine& e, const nlohmann::json& d) {
    return d["system_message"].is_null() ? e.system_message()
                                         : d["system_message"].get<std::string>();
}

// A dialogue through chat().
inline std::vector<Reply> play(Engine& e, const nlohmann::json& d,
                               const Session::OnText& on_text = {}) {
    Session session(e, system_of(e, d), true);
    std::vector<Reply> replies;
    GenerateOptions options;
    options.max_new_tokens = d["max_new_tokens"];
    const bool combine = !d.contains("num_patches_list");
    for (const auto& question : d["questions"])
        replies.push_back(session.ask(question,
                                      replies.empty() ? pictures_of(d) : std::vector<Picture>(),
                                      options, combine, on_text));
    return replies;
}

inline Stages trace(Engine& e, const std::vector<int>& ids, const Tiles* tiles) {
    Stages stages;
    e.trace(ids, tiles, false,
            [&](const std::string& name, const View& v) { stages[name] = values_of(v); });
    return stages;
}

}  // namespace internvl
