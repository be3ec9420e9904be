#include <cmath>
#include <filesystem>
#include <memory>
#include <set>

#include "api/data.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "cli/stages.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace internvl::cli {

namespace {

struct VerifyFlags {
    ModelOptions model;
    MediaFlags media;
    CompatFlag compat;
    std::string expected;
};

// Tensors of another implementation's run, by stage.
class Expectation {
  public:
    explicit Expectation(const std::string& path)
        : file_(MappedFile::open(path)), parsed_(parse_safetensors(file_.bytes(), path)) {}

    const TensorEntry* find(const std::string& stage) const {
        for (const TensorEntry& e : parsed_.entries)
            if (e.name == stage) return &e;
        return nullptr;
    }
    const std::vector<TensorEntry>& entries() const { return parsed_.entries; }
    const std::map<std::string, std::string>& metadata() const { return parsed_.metadata; }

  private:
    MappedFile file_;
    Safetensors parsed_;
};

struct Difference {
    double max_abs = 0, relative_rms = 0, worst_cosine = 1, largest = 0;
};

Difference compare(const Stage& got, const Stage& expected) {
    Difference d;
    const size_t width = size_t(got.shape.back());
    double error = 0, norm = 0;
    for (size_t row = 0; row < got.values.size(); row += width) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t i = row; i < row + width; ++i) {
            const double a = got.values[i], b = expected.values[i];
            d.max_abs = std::isnan(a - b) ? INFINITY : std::max(d.max_abs, std::abs(a - b));
            d.largest = std::max(d.largest, std::abs(b));
            ab += a * b, aa += a * a, bb += b * b;
            error += (a - b) * (a - b);
        }
        norm += bb;
        if (aa > 0 && bb > 0) d.worst_cosine = std::min(d.worst_cosine, ab / std::sqrt(aa * bb));
    }
    d.relative_rms = norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
    return d;
}

// What may differ (docs/numerics.md): fp32 by rounding, in proportion to the largest value; bf16 by
// rms and direction.
bool within(const Difference& d, const std::string& stage, bool exact, std::string* limit) {
    const bool logits = stage == "text/logits";
    if (exact) {
        const double most = (logits ? 1e-3 : 1e-4) * std::max(1.0, d.largest / 10);
        *limit = fmt::format("abs {:.1e}", most);
        return d.max_abs <= most;
    }
    const bool text = stage.starts_with("text/");
    const double rms = text ? 0.04 : 0.02, cosine = text ? 0.998 : 0.9995;
    *limit = fmt::format("rms {}, cosine {}", rms, cosine);
    return d.relative_rms <= rms && d.worst_cosine >= cosine;
}

// Walks the stages in the order of the forward pass; remembers the first that differs.
class Walk {
  public:
    Walk(const Expectation& expected, bool exact) : expected_(expected), exact_(exact) {}

    void stage(const std::string& name, const View& view) {
        const TensorEntry* entry = expected_.find(name);
        if (!entry) return;
        seen_.insert(name);
        const View wanted(const_cast<std::byte*>(entry->bytes.data()), entry->dtype, entry->shape);
        const Stage got(name, view);
        if (got.shape != entry->shape) {
            print_line(fmt::format("{:<24} shape {}, expected {}   DIFFERS", name,
                                   view.shape_text(), wanted.shape_text()));
            return differ(name);
        }
        const Difference d = compare(got, Stage(name, wanted));
        std::string limit;
        const bool good = within(d, name, exact_, &limit);
        print_line(fmt::format("{:<24} max abs {:.2e}  rms {:.2e}  cosine {:.7f}  ({})  {}", name,
                               d.max_abs, d.relative_rms, d.worst_cosine, limit,
                               good ? "ok" : "DIFFERS"));
        if (!good) differ(name);
    }
    void finish() {
        for (const TensorEntry& e : expected_.entries())
            if (!seen_.contains(e.name)) {
                print_line(fmt::format("{:<24} expected, not computed   DIFFERS", e.name));
                differ(e.name);
            }
        if (seen_.empty())
            throw Error("no stage to compare", "tensors named as `internvl trace` names them");
    }
    void differ(const std::string& what) {
        if (first_.empty()) first_ = what;
    }
    const std::string& first() const { return first_; }

  private:
    const Expectation& expected_;
    bool exact_;
    std::set<std::string> seen_;
    std::string first_;
};

// One file of stages; ids from its metadata, pictures from the command line.
std::string verify_file(const VerifyFlags& flags, Model& model) {
    const Expectation expected(flags.expected);
    const auto ids = expected.metadata().find("ids");
    if (ids == expected.metadata().end())
        throw Error("the file does not say which ids it was made from", "metadata `ids`", "none",
                    flags.expected);
    const std::vector<Media> media = flags.media.open();
    Walk walk(expected, model.dtype() != "bf16");
    const std::vector<int> list = parse_json(ids->second, flags.expected).get<std::vector<int>>();
    const TensorEntry* logits = expected.find("text/logits");
    run_stages(model, media, list, logits && logits->shape[0] == 1,
               [&](const std::string& name, const View& v) { walk.stage(name, v); });
    walk.finish();
    return walk.first();
}

// One case of a folder that scripts/reference_trace.py wrote: prompt, ids, stages, greedy answer.
std::string verify_case(const std::string& folder, const nlohmann::json& c, Model& model) {
    print_line(fmt::format("case {}", c.at("name").get<std::string>()));
    std::vector<Media> media;
    for (const auto& image : c.value("images", nlohmann::json::array())) {
        ImageOptions options;
        options.max_num = image.value("max_num", 12);
        media.push_back(Photo::open(folder + "/" + image.at("file").get<std::string>(), options));
    }
    ChatOptions chat_options;
    chat_options.compat_reference = true;
    GenerateOptions generate;
    const auto greedy = c.at("greedy_ids").get<std::vector<int>>();
    generate.max_new_tokens = std::max(1, int(greedy.size()));
    const Result result =
        Chat(model, chat_options).ask(c.at("prompt").get<std::string>(), media, generate);
    const auto prompt_ids = c.at("prompt_ids").get<std::vector<int>>();
    std::string first;
    const auto check = [&](const char* what, bool equal) {
        print_line(fmt::format("{:<24} {}", what, equal ? "ok" : "DIFFERS"));
        if (!equal && first.empty()) first = what;
    };
    check("prompt string", result.prompt == c.at("prompt_string").get<std::string>());
    check("prompt ids", result.prompt_ids == prompt_ids);
    const bool exact = model.dtype() != "bf16";
    if (c.contains("tensors")) {
        const Expectation expected(folder + "/" + c["tensors"].get<std::string>());
        Walk walk(expected, exact);
        const TensorEntry* logits = expected.find("text/logits");
        run_stages(model, media, prompt_ids, logits && logits->shape[0] == 1,
                   [&](const std::string& name, const View& v) { walk.stage(name, v); });
        walk.finish();
        if (first.empty()) first = walk.first();
    }
    if (exact) check("greedy ids", result.ids == greedy);
    return first;
}

int verify(VerifyFlags& flags) {
    flags.model.check();
    const bool folder = std::filesystem::is_directory(flags.expected);
    nlohmann::json cases;
    if (folder) {
        const std::string path = flags.expected + "/expectation.json";
        const nlohmann::json file = parse_json(read_input(path), path);
        if (!file.is_object() || !file.contains("cases") || !file["cases"].is_array())
            throw Error("malformed expectation", "an object with cases", "", path);
        cases = file["cases"];
        if (flags.model.load.dtype == "auto")
            flags.model.load.dtype = file.value("dtype", "") == "bfloat16" ? "bf16" : "fp32";
    } else if (flags.model.load.dtype == "auto") {
        flags.model.load.dtype = "fp32";
    }
    Model model(flags.model.model, flags.model.for_compat(flags.compat.reference()));
    std::string first;
    try {
        if (!folder) first = verify_file(flags, model);
        for (const auto& c : cases)
            if (const std::string differs = verify_case(flags.expected, c, model);
                !differs.empty() && first.empty())
                first = c.at("name").get<std::string>() + ", " + differs;
    } catch (const nlohmann::json::exception& e) {
        throw Error(std::string("malformed expectation: ") + e.what(), "", "", flags.expected);
    }
    print_line(first.empty() ? "all stages agree" : "first difference: " + first);
    return first.empty() ? 0 : 1;
}

}  // namespace

Run declare_verify(CLI::App& app) {
    auto flags = std::make_shared<VerifyFlags>();
    flags->model.declare(app, true);
    app.add_option("expected", flags->expected,
                   "A file as `trace` writes it, or a folder of scripts/reference_trace.py")
        ->type_name("EXPECTED")
        ->required();
    flags->media.declare(app);
    flags->compat.declare(app);
    return [flags] { return verify(*flags); };
}

}  // namespace internvl::cli
