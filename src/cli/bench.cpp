#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "api/data.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "engine/session.h"
#include "engine/step_loop.h"
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
    int tiles = 13, prompt = 3392, context = 512, tokens = 32, sequences = 8, repeat = 5;
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

// What the machine can do, in GFLOP/s for the products' type and for bytes, and in GB/s.
struct Peaks {
    double gflops, byte_gflops, read;
};

double most_resident_mb() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return double(usage.ru_maxrss) / 1024;
}

double middle(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

class Bench {
  public:
    Bench(const BenchFlags& flags, Model& model)
        : flags_(flags),
          model_(model),
          engine_(model.data().engine),
          type_(engine_.types().activations),
          quantised_(engine_.types().quant != QuantPolicy()),
          loaded_mb_(most_resident_mb()),
          read_peak_(engine_.pool()) {}

    void run() {
        const Peaks peaks = measure_peaks();
        if (!flags_.json)
            print_line(fmt::format(
                "{}\n{}{} on {} threads; peak {:.0f} GFLOP/s{}, reads {:.1f} GB/s",
                cpu_description(), model_.dtype(),
                quantised_ ? " with " + engine_.types().quant.text() : "", engine_.pool().threads(),
                peaks.gflops, quantised_ ? fmt::format(", {:.0f} in bytes", peaks.byte_gflops) : "",
                peaks.read));
        load();
        for (const std::string& file : flags_.images) preprocess(file);
        vision();
        prefill();
        decode(1);
        if (flags_.sequences > 1) decode(flags_.sequences);
        for (const std::string& file : flags_.images) first_token(file);
    }

  private:
    void show(const Json& line, const std::string& text) {
        print_line(flags_.json ? line.dump() : text);
    }

    Peaks measure_peaks() {
        const double gflops = peak_gflops(type_, engine_.pool());
        return {gflops, quantised_ ? peak_gflops(DType::i8, engine_.pool()) : gflops,
                read_peak_.gb_per_s()};
    }

    struct Shared {
        Spread ms;
        Peaks peaks;
        double share;
    };

    // Times `run`, and measures the peaks before and after each time: a shared machine's speed
    // wanders, so that a share is of the peaks of the same moment. `least_ms`: what the work takes
    // at the peaks. Medians of each.
    Shared measure_share(const std::function<double()>& run,
                         const std::function<double(const Peaks&)>& least_ms) {
        std::vector<double> share, gflops, bytes, read;
        Peaks before = measure_peaks();
        const Spread ms = measure(flags_.repeat, [&] {
            const double took = run();
            const Peaks after = measure_peaks();
            share.push_back((least_ms(before) + least_ms(after)) / 2 / took);
            gflops.push_back((before.gflops + after.gflops) / 2);
            bytes.push_back((before.byte_gflops + after.byte_gflops) / 2);
            read.push_back((before.read + after.read) / 2);
            before = after;
            return took;
        });
        return {ms, {middle(gflops), middle(bytes), middle(read)}, middle(share)};
    }

    void load() {
        show({{"name", "load"},
              {"ms", model_.load_ms()},
              {"packed_before", engine_.packed_before()},
              {"rss_mb", loaded_mb_}},
             fmt::format("load        {:9.1f} ms{}, {:.0f} MB resident at most", model_.load_ms(),
                         engine_.packed_before() ? ", packed before" : "", loaded_mb_));
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
        compute_tiles(tiles);
    }

    // Makes tiles, or a prompt, such as were never seen before: nothing of them is known.
    void mark(Tiles& tiles) {
        ++runs_;
        for (int t = 0; t < tiles.count; ++t) {
            const int mark[] = {runs_, t};
            std::memcpy(&tiles.rgb[size_t(t) * tiles.rgb.size() / size_t(tiles.count)], mark,
                        sizeof mark);
        }
    }

    void compute_tiles(Tiles& tiles) {
        compute("vision",
                {{"rows", tiles.count * engine_.model().vision.rows_per_tile()},
                 {"tiles", tiles.count}},
                fmt::format("{} tiles", tiles.count),
                vision_gflop(engine_.model().config, tiles.count), engine_.types().quant.vision,
                [&] {
                    mark(tiles);
                    const Stopwatch watch;
                    engine_.encode(tiles);
                    return watch.ms();
                });
    }

    void prefill() {
        compute("prefill", {{"tokens", flags_.prompt}}, fmt::format("{} tokens", flags_.prompt),
                prefill_gflop(engine_.model().config.text, flags_.prompt),
                engine_.types().quant.language,
                [&] { return engine_.generate(generation(flags_.prompt, 1)).prefill_ms; });
    }

    Generation generation(int prompt, int tokens) {
        Generation g;
        g.prompt.resize(size_t(prompt));
        ++runs_;
        for (size_t i = 0; i < g.prompt.size(); ++i)
            g.prompt[i] = int((i * 31 + size_t(runs_) * 17) % 500);
        g.options.max_new_tokens = tokens;
        g.options.ignore_eos = true;
        return g;
    }

    // `kept_as`: what the weights of these products are.
    void compute(const char* name, Json line, const std::string& what, const Gflop& work,
                 Quant kept_as, const std::function<double()>& run) {
        const auto [ms, peaks, share] = measure_share(run, [&](const Peaks& p) {
            // Products and attention, each at its own peak.
            return 1e3 * (work.products / (kept_as == Quant::none ? p.gflops : p.byte_gflops) +
                          work.attention / p.gflops);
        });
        const double rate = work.all() / ms.median * 1e3;
        Json head = {{"name", name}};
        head.update(line);
        head.update({{"ms", ms.median},
                     {"min", ms.min},
                     {"max", ms.max},
                     {"gflop", work.all()},
                     {"gflops", rate},
                     {"peak_gflops", peaks.gflops},
                     {"of_peak", share}});
        show(head, fmt::format("{:<11} {:9.1f} ms for {}: {:.1f} GFLOP/s, {:.1f} % of the peak",
                               name, ms.median, what, rate, 100 * share));
    }

    // A pass that gives each of so many sequences a token, behind `context` others.
    double step_ms(int sequences) {
        const int passes = flags_.tokens + sequences * (flags_.context / 256 + 2);
        StepLoop loop(engine_, {.max_sequences = sequences,
                                .cache_tokens = int64_t(sequences) *
                                                (flags_.context + passes + 2 * cache_block)});
        int begun = 0;
        for (int i = 0; i < sequences; ++i) {
            Generation g = generation(flags_.context, passes);
            g.on_token = [&begun, first = true](int) mutable {
                begun += std::exchange(first, false);
                return true;
            };
            loop.add(std::move(g));
        }
        while (begun < sequences) loop.step();
        const Stopwatch watch;
        for (int i = 0; i < flags_.tokens; ++i) loop.step();
        return watch.ms() / flags_.tokens;
    }

    void decode(int sequences) {
        const ModelConfig& c = engine_.model().config;
        const double gb = decode_gb(flags_.context + flags_.tokens / 2, sequences,
                                    language_bytes(c, engine_.types()),
                                    cache_bytes(c.text, engine_.types().cache()));
        const auto [ms, peaks, share] = measure_share(
            [&] { return step_ms(sequences); }, [&](const Peaks& p) { return gb / p.read * 1e3; });
        const double per_s = sequences * 1e3 / ms.median, rate = gb / ms.median * 1e3;
        show({{"name", "decode"},
              {"context", flags_.context},
              {"batch", sequences},
              {"ms", ms.median},
              {"min", ms.min},
              {"max", ms.max},
              {"tokens_per_s", per_s},
              {"gb_per_s", rate},
              {"read_gb_per_s", peaks.read},
              {"of_bandwidth", share}},
             fmt::format("decode      {:9.2f} ms for {} at context {}: {:.1f} tokens/s, {:.1f} "
                         "GB/s, {:.1f} % of the reads",
                         ms.median,
                         sequences == 1 ? "a token" : fmt::format("{} tokens together", sequences),
                         flags_.context, per_s, rate, 100 * share));
    }

    // From the picture's file to the first token of an answer, and again for a second question.
    void first_token(const std::string& path) {
        std::vector<double> second;
        int tokens = 0;
        const Spread first = measure(flags_.repeat, [&] {
            Session session(engine_, engine_.system_message(), false);
            GenerateOptions one;
            one.max_new_tokens = 1;
            const Stopwatch watch;
            const MappedFile file = MappedFile::open(path);
            auto tiles = std::make_shared<Tiles>(cut_tiles(
                decode_image(
                    {reinterpret_cast<const uint8_t*>(file.bytes().data()), file.bytes().size()},
                    {}, path),
                tile_options(flags_.picture.resolved()), &engine_.pool()));
            mark(*tiles);
            const Reply reply = session.ask("Please describe the image.", {{tiles}}, one);
            const double ms = watch.ms();
            tokens = int(reply.prompt.ids.size());
            const Stopwatch again;
            session.ask("What colours do you see?", {}, one);
            second.push_back(again.ms());
            return ms;
        });
        const double median = middle(second);
        show({{"name", "first_token"},
              {"file", path},
              {"tokens", tokens},
              {"ms", first.median},
              {"min", first.min},
              {"max", first.max},
              {"second_question_ms", median}},
             fmt::format(
                 "first token {:9.1f} ms for {} tokens; {:.1f} ms for a second question ({})",
                 first.median, tokens, median, path));
    }

    const BenchFlags& flags_;
    Model& model_;
    Engine& engine_;
    DType type_;
    int runs_ = 0;
    bool quantised_;
    double loaded_mb_;
    ReadPeak read_peak_;
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
    count("--sequences", flags->sequences, "Answers made together; 1 measures one alone");
    count("--repeat", flags->repeat, "Runs of each; the median counts");
    app.add_flag("--json", flags->json, "One JSON object per line");
    flags->picture.declare(app);
    flags->model.declare_caches(app);
    return [flags] { return bench(*flags); };
}

}  // namespace internvl::cli
