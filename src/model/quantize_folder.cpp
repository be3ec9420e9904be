#include "model/quantize_folder.h"

#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "io/write_checkpoint.h"
#include "model/families.h"
#include "model/filed_codes.h"
#include "model/lora.h"
#include "model/weights.h"

namespace internvl {

namespace fs = std::filesystem;

StagedFolder::StagedFolder(const std::string& place) : place_(place) {
    while (place_.size() > 1 && place_.ends_with('/')) place_.pop_back();
    std::error_code error;
    if (fs::exists(place_, error) &&
        !(fs::is_directory(place_, error) && fs::is_empty(place_, error)))
        throw Error("something is there already", "a new or an empty folder", "", place_);
    path_ = place_ + ".XXXXXX";
    if (place_.empty() || !mkdtemp(path_.data()))
        throw Error("cannot make folder", "", std::strerror(errno), place);
    chmod(path_.c_str(), 0755);
}

StagedFolder::~StagedFolder() {
    std::error_code error;
    if (!path_.empty()) fs::remove_all(path_, error);
}

void StagedFolder::commit() {
    std::error_code error;
    fs::rename(path_, place_, error);  // takes the place of an empty folder
    if (error) throw Error("cannot rename folder", "", error.message(), place_);
    path_.clear();
}

namespace {

// A tensor on its way: `from` in the checkpoint, as it is or as codes.
struct Step {
    TensorSpec spec;
    std::string from;
    WeightFormat kept;
};

class Quantiser {
  public:
    Quantiser(Context& ctx, const ModelFolder& from, const QuantPolicy& policy)
        : ctx_(ctx), folder_(from), policy_(policy), checkpoint_(from) {
        text_ = folder_.read("config.json").value_or("");
        config_ = parse_config(text_, folder_.where() + "/config.json");
        if (config_.quant.method != FiledQuant::Method::none)
            throw Error("the folder is quantised already", "", config_.quant.parts.text(),
                        folder_.where());
        unwrap_adapters(checkpoint_);
        config_.layout = layout_of(checkpoint_, config_.layout);
        check_tensors(checkpoint_, config_);
        plan();
    }

    QuantisedWeights write(const std::string& to,
                           const std::function<void(const WeightError&)>& on) {
        QuantisedWeights result;
        result.bytes_before = checkpoint_.total_bytes();
        for (const auto& group : groups_)
            for (const TensorPlan& t : group) result.bytes_after += bytes_of(t);
        check_room(to, result.bytes_after + (64 << 20));
        copy_files(to);
        write_checkpoint(to, groups_, 5'000'000'000, [&](size_t n, SafetensorsWriter& writer) {
            const Step& step = steps_[n];
            if (step.kept.kind == WeightFormat::plain) return write_plain(step, writer);
            result.products.push_back(write_codes(step, writer));
            if (on) on(result.products.back());
        });
        return result;
    }

  private:
    void plan() {
        const std::string embedding = decoder_names(config_).embedding;
        for (const TensorSpec& spec : expected_tensors(config_)) {
            std::vector<TensorPlan> group = code_tensors(spec, policy_);
            const TensorEntry* entry = checkpoint_.find(spec.name);
            if (!entry && group.empty()) continue;  // no head, and none is made
            Step step{spec, entry ? spec.name : embedding, DType::f32};
            if (group.empty())
                group = {{spec.name, entry->dtype, spec.shape}};
            else
                step.kept = weight_format(policy_, *spec.role, spec.shape[1], DType::f32);
            groups_.push_back(std::move(group));
            steps_.push_back(std::move(step));
        }
    }

    void copy_files(const std::string& to) const {
        for (const std::string& file : folder_.list()) {
            const bool weights = file.ends_with(".safetensors") || file.ends_with(".bin") ||
                                 file.ends_with(".index.json");
            if (weights || file == "config.json") continue;
            const MappedFile mapped = folder_.map(file);
            write_text(to + "/" + file, {reinterpret_cast<const char*>(mapped.bytes().data()),
                                         mapped.bytes().size()});
        }
        auto json = nlohmann::ordered_json::parse(text_);
        json["quantization_config"] = {{"quant_method", "internvl"},
                                       {"version", 1},
                                       {"vision", quant_name(policy_.vision)},
                                       {"projector", quant_name(policy_.projector)},
                                       {"language", quant_name(policy_.language)},
                                       {"head", quant_name(policy_.head)}};
        write_text(to + "/config.json", json.dump(2) + "\n");
    }

    void write_plain(const Step& step, SafetensorsWriter& writer) {
        const TensorEntry& e = *checkpoint_.find(step.from);
        if (const Tensor merged = step.spec.role ? loader_.weight(step.from) : Tensor())
            writer.write(merged.data, size_t(merged.bytes()));
        else
            writer.write(e.bytes.data(), e.bytes.size());
        checkpoint_.drop(e);
    }

    WeightError write_codes(const Step& step, SafetensorsWriter& writer) {
        const Tensor weight = loader_.weight(step.from);
        const int64_t out = weight.dim[0], in = weight.dim[1];
        auto packed = map_memory(size_t(packed_bytes(step.kept, out, in)));
        ctx_.kernels.pack(weight, step.kept, packed.get(), ctx_.pool);
        CodeBuffers codes = unpack_codes(packed.get(), step.kept, out, in);
        packed.reset();
        const double error = relative_error(weight, codes, step.kept);
        for (const auto& bytes : filed_bytes(std::move(codes), step.kept, out, in))
            writer.write(bytes.data(), bytes.size());
        checkpoint_.drop(*checkpoint_.find(step.from));
        return {step.spec.name, *step.spec.role, step.kept, error};
    }

    // Root mean square of what is lost, over that of the weights.
    double relative_error(const View& weight, const CodeBuffers& c, const WeightFormat& f) {
        const int64_t out = weight.dim[0], in = weight.dim[1];
        const bool int4 = f.kind == WeightFormat::int4;
        const int64_t group = int4 ? f.group : in, groups = in / group;
        std::vector<double> lost(size_t(out), 0.0), all(size_t(out), 0.0);
        ctx_.pool.parallel_for(out, 16, [&](int64_t begin, int64_t end, int) {
            const Tensor row = make_tensor(DType::f32, {1, in});
            for (int64_t n = begin; n < end; ++n) {
                ctx_.kernels.copy(weight.slice(0, n, 1), row, ctx_.pool);
                for (int64_t k = 0; k < in; ++k) {
                    const size_t at = size_t(n * groups + k / group), i = size_t(n * in + k);
                    const int code = int4 ? c.codes[i] - c.zero[at] : int8_t(c.codes[i]);
                    const double w = row.as<float>()[k], d = w - double(code) * double(c.scale[at]);
                    lost[size_t(n)] += d * d;
                    all[size_t(n)] += w * w;
                }
            }
        });
        const double sum = std::accumulate(all.begin(), all.end(), 0.0);
        return sum > 0 ? std::sqrt(std::accumulate(lost.begin(), lost.end(), 0.0) / sum) : 0;
    }

    Context& ctx_;
    const ModelFolder& folder_;
    QuantPolicy policy_;
    Checkpoint checkpoint_;
    WeightLoader loader_{ctx_, checkpoint_, ComputeTypes{}};
    std::string text_;
    ModelConfig config_;
    std::vector<Step> steps_;
    std::vector<std::vector<TensorPlan>> groups_;
};

}  // namespace

QuantisedWeights quantise_folder(Context& ctx, const ModelFolder& from, const QuantPolicy& policy,
                                 const std::string& to,
                                 const std::function<void(const WeightError&)>& on_product) {
    if (policy == QuantPolicy())
        throw UsageError("nothing is to be quantised", "int8 or int4", "none", "--quant");
    return Quantiser(ctx, from, policy).write(to, on_product);
}

}  // namespace internvl
