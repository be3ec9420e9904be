#include <sys/resource.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "api/data.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "io/mapped_file.h"
#include "media/decode.h"
#include "model/cost.h"
#include "model/memory.h"
#include "ops/cpu/peak.h"

namespace internvl::cli {

namespace {

using Json = nlohmann::ordered_json;

struct BenchFlags {
    ModelOptions model;
    PictureFlags picture;
    std::vector<std::string> images;
    int tiles = 4, prompt = 3328, context = 3328, tokens = 32, repeat = 5;
    bool json = false;
};

struct Spread {
    double median, min, max;
};

Spread measure(int repeat, const std::function<double()>& run) {
    std::vector<double> ms;
    for (int i = 0; i < repeat; ++i) ms.push_back(run());
    std::sort(ms.begin(), ms.end());
    return {ms[ms.size() / 2], ms.front(), ms.back()};
}

class Bench {
  public:
    Bench(const BenchFlags& flags, Model& model)
        : flags_(flags),
          model_(model),
          engine_(model.data().engine),
          type_(engine_.types().activations),
          quantised_(engine_.types().quant != Quant::none),
          peak_(peak_gflops(type_, engine_.pool())),
          product_peak_(quantised_ ? peak_gflops(DType::i8, engine_.pool()) : peak_),
          read_(peak_read_gb_per_s(engine_.pool())) {}

    void run() {
        if (!flags_.json)
            print_line(fmt::format(
                "{}\n{}{} on {} threads; peak {:.0f} GFLOP/s{}, reads {:.1f} GB/s",
                cpu_description(), model_.dtype(),
                quantised_ ? " with " + flags_.model.load.quant : "", engine_.pool().threads(),
                peak_, quantised_ ? fmt::format(", {:.0f} in bytes", product_peak_) : "", read_));
        load();
        for (const std::string& file : flags_.images) preprocess(file);
        vision();
        prefill();
        decode();
    }

  private:
    void show(const Json& line, const std::string& text) {
        print_line(flags_.json ? line.dump() : text);
    }

    void load() {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        const double rss = double(usage.ru_maxrss) / 1024;
        show({{"name", "load"}, {"ms", model_.load_ms()}, {"rss_mb", rss}},
             fmt::format("load        {:9.1f} ms, {:.0f} MB resident at most", model_.load_ms(),
                         rss));
    }

    void preprocess(const std::string& path) {
        const MappedFile file = MappedFile::open(path);
        const std::span bytes(reinterpret_cast<const uint8_t*>(file.bytes().data()),
                              file.bytes().size());
        const TileOptions options = tile_options(flags_.picture.resolved());
        Image image;
        Tiles tiles;
        std::vector<uint16_t> pixels;
        const int repeat = std::max(flags_.repeat, 7);
        const Spread decode = measure(repeat, [&] {
            const Stopwatch watch;
            image = decode_image(bytes, {}, path);
            return watch.ms();
        });
        const Spread resize = measure(repeat, [&] {
            const Stopwatch watch;
            tiles = cut_tiles(image, options, &engine_.pool());
            return watch.ms();
        });
        pixels.resize(tiles.rgb.size());
        const Spread normal = measure(repeat, [&] {
            const Stopwatch watch;
            normalise(tiles, 0, tiles.count, pixels.data(), &engine_.pool());
            return watch.ms();
        });
        show(
            {{"name", "preprocess"},
             {"file", path},
             {"tiles", tiles.count},
             {"ms",
              {{"decode", decode.median}, {"resize", resize.median}, {"normalise", normal.median}}},
             {"min", {{"decode", decode.min}, {"resize", resize.min}, {"normalise", normal.min}}},
             {"max", {{"decode", decode.max}, {"resize", resize.max}, {"normalise", normal.max}}}},
            fmt::format("preprocess  {:9.1f} ms: decode {:.1f}, resize {:.1f}, normalise {:.1f} "
                        "({}, {} tiles)",
                        decode.median + resize.median + normal.median, decode.median, resize.median,
                        normal.median, path, tiles.count));
    }

    void vision() {
        Tiles tiles;
        tiles.count = flags_.tiles;
        tiles.side = int(engine_.model().config.vision.image_size);
        tiles.rgb.resize(size_t(3) * size_t(tiles.count) * size_t(tiles.side) * size_t(tiles.side));
        for (size_t i = 0; i < tiles.rgb.size(); ++i) tiles.rgb[i] = uint8_t(i * 7919 >> 8);
        compute("vision",
                {{"rows", tiles.count * engine_.model().vision.rows_per_tile()},
                 {"tiles", tiles.count}},
                fmt::format("{} tiles", tiles.count),
                vision_gflop(engine_.model().config, tiles.count), [&] {
                    const Stopwatch watch;
                    engine_.encode(tiles);
                    return watch.ms();
                });
    }

    void prefill() {
        compute("prefill", {{"tokens", flags_.prompt}}, fmt::format("{} tokens", flags_.prompt),
                prefill_gflop(engine_.model().config.text, flags_.prompt),
                [&] { return engine_.generate(generation(flags_.prompt, 1)).prefill_ms; });
    }

    Generation generation(int prompt, int tokens) const {
        Generation g;
        g.prompt.resize(size_t(prompt));
        for (size_t i = 0; i < g.prompt.size(); ++i) g.prompt[i] = int(i * 31 % 500);
        g.options.max_new_tokens = tokens;
        g.options.ignore_eos = true;
        return g;
    }

    void compute(const char* name, Json line, const std::string& what, const Gflop& work,
                 const std::function<double()>& run) {
        const Spread ms = measure(flags_.repeat, run);
        const double rate = work.all() / ms.median * 1e3;
        // Products and attention, each at its own peak.
        const double least_ms = 1e3 * (work.products / product_peak_ + work.attention / peak_);
        const double share = least_ms / ms.median;
        Json head = {{"name", name}};
        head.update(line);
        head.update({{"ms", ms.median},
                     {"min", ms.min},
                     {"max", ms.max},
                     {"gflop", work.all()},
                     {"gflops", rate},
                     {"peak_gflops", peak_},
                     {"of_peak", share}});
        show(head, fmt::format("{:<11} {:9.1f} ms for {}: {:.1f} GFLOP/s, {:.1f} % of the peak",
                               name, ms.median, what, rate, 100 * share));
    }

    void decode() {
        const Spread ms = measure(flags_.repeat, [&] {
            const Answer a = engine_.generate(generation(flags_.context, flags_.tokens + 1));
            return a.decode_ms / flags_.tokens;
        });
        const TextConfig& t = engine_.model().config.text;
        const int64_t weights = language_bytes(engine_.model().config, engine_.types());
        const double gb =
            decode_gb(t, flags_.context + flags_.tokens / 2, 1, weights, size_of(type_));
        const double rate = gb / ms.median * 1e3;
        show({{"name", "decode"},
              {"context", flags_.context},
              {"batch", 1},
              {"ms", ms.median},
              {"min", ms.min},
              {"max", ms.max},
              {"tokens_per_s", 1e3 / ms.median},
              {"gb_per_s", rate},
              {"read_gb_per_s", read_},
              {"of_bandwidth", rate / read_}},
             fmt::format("decode      {:9.2f} ms a token at context {}: {:.1f} tokens/s, {:.1f} "
                         "GB/s, {:.1f} % of the reads",
                         ms.median, flags_.context, 1e3 / ms.median, rate, 100 * rate / read_));
    }

    const BenchFlags& flags_;
    Model& model_;
    Engine& engine_;
    DType type_;
    bool quantised_;
    double peak_, product_peak_, read_;
};

int bench(const BenchFlags& flags) {
    flags.model.check();
    Model model(flags.model.model, flags.model.load);
    const int limit = int(model.data().engine.model().config.text.max_positions);
    if (flags.prompt >= limit || flags.context + flags.tokens >= limit)
        throw UsageError("the context does not fit the model",
                         fmt::format("fewer than {} tokens", limit),
                         fmt::format("{}", std::max(flags.prompt, flags.context + flags.tokens)));
    Bench(flags, model).run();
    return 0;
}

}  // namespace

Run declare_bench(CLI::App& app) {
    auto flags = std::make_shared<BenchFlags>();
    flags->model.declare(app, true);
    declare_files(app, "-i,--image", flags->images,
                  "Measure the preparation of this picture (repeatable)");
    const auto count = [&](const char* name, int& value, const char* text) {
        app.add_option(name, value, text)->check(CLI::PositiveNumber)->capture_default_str();
    };
    count("--tiles", flags->tiles, "Tiles for the vision tower");
    count("--prompt-tokens", flags->prompt, "Tokens to prefill");
    count("--context", flags->context, "Tokens before those that are generated");
    count("--tokens", flags->tokens, "Tokens to generate");
    count("--repeat", flags->repeat, "Runs of each; the median counts");
    app.add_flag("--json", flags->json, "One JSON object per line");
    flags->picture.declare(app);
    return [flags] { return bench(*flags); };
}

}  // namespace internvl::cli
