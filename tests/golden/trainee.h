#pragma once
// A golden batch and a checkpoint loaded for training (golden/train/README.md).
#include <cstring>
#include <functional>

#include "reference.h"
#include "train/forward.h"
#include "train/lora.h"
#include "train/optimizer.h"

namespace internvl {

inline const std::string train_folder = "train/";

// An I64 tensor, row by row.
inline std::vector<std::vector<int>> id_rows(const Safetensors& file, const std::string& name) {
    std::vector<std::vector<int>> rows;
    for (const TensorEntry& e : file.entries)
        for (int64_t r = 0; e.name == name && r < e.shape[0]; ++r) {
            rows.emplace_back();
            const int64_t width = e.shape.size() > 1 ? e.shape[1] : 1;
            for (int64_t i = 0; i < width; ++i) {
                int64_t id;
                std::memcpy(&id, e.bytes.data() + 8 * (r * width + i), 8);
                rows.back().push_back(int(id));
            }
        }
    return rows;
}

// A batch as the original's data set and collator made it, without its padding; a picture whose
// flag is 0 stands for none.
struct GoldenBatch {
    nlohmann::json json;
    MappedFile file;
    Safetensors tensors;
    std::vector<Sample> samples;
    Tensor pixels;

    explicit GoldenBatch(const std::string& name)
        : json(read_json(golden(train_folder + "batch/" + name + ".json"))),
          file(MappedFile::open(golden(train_folder + "batch/" + name + ".safetensors"))),
          tensors(parse_safetensors(file.bytes(), name)) {
        const auto ids = id_rows(tensors, "input_ids"), labels = id_rows(tensors, "labels"),
                   mask = id_rows(tensors, "attention_mask");
        for (size_t s = 0; s < ids.size(); ++s) {
            const size_t count = size_t(std::count(mask[s].begin(), mask[s].end(), 1));
            samples.push_back({{ids[s].begin(), ids[s].begin() + long(count)},
                               {labels[s].begin(), labels[s].begin() + long(count)}});
        }
        std::vector<float> all;
        const auto flags = id_rows(tensors, "image_flags");
        for (size_t t = 0; t < flags.size(); ++t)
            if (flags[t][0] == 1) add_tile(json["tiles"][t], all);
        const int64_t side = 448;
        pixels = make_tensor(DType::f32, {int64_t(all.size()) / (3 * side * side), 3, side, side});
        std::memcpy(pixels.data, all.data(), all.size() * sizeof(float));
    }
    Values get(const std::string& name) const {
        for (const TensorEntry& e : tensors.entries)
            if (e.name == name) {
                View v(const_cast<std::byte*>(e.bytes.data()), e.dtype, e.shape);
                return values_of(v);
            }
        return {};
    }
    SampleBatch batch() const { return {samples, pixels}; }

  private:
    static void add_tile(const nlohmann::json& t, std::vector<float>& all) {
        const Tiles tiles = tiles_of(t["media"], t["max_num"]);
        ASSERT_EQ(tiles.count, t["of"].get<int>());
        const size_t size = 3 * 448 * 448;
        all.resize(all.size() + size);
        normalise(tiles, t["tile"], 1, all.data() + all.size() - size);
    }
};

// A checkpoint loaded for training.
struct Trainee {
    ThreadPool pool;
    Arena arena;
    Context ctx{cpu_kernels(), pool, arena, DType::f32};
    Checkpoint checkpoint;
    InternVL model;
    std::optional<Trainables> trained;
    int context_token;

    using Rename = std::function<std::string(std::string)>;
    Trainee(const std::string& name, const GoldenBatch& golden_batch, DType dtype = DType::f32,
            const Rename& rename = {}, int threads = 2)
        : pool(threads),
          checkpoint(ModelFolder::open(golden("checkpoints/" + name))),
          context_token(golden_batch.json["img_context_token_id"]) {
        ctx.activations = dtype;
        if (rename) checkpoint.rename(rename);
        const ModelConfig config =
            parse_config(read_text(golden("checkpoints/" + name + "/config.json")), name);
        model = load_model(ctx, checkpoint, config, {dtype, dtype});
    }
    void train(const Frozen& frozen) { trained.emplace(ctx, model, checkpoint, frozen); }
    // The mean loss; gradients are added up.
    double backward(const GoldenBatch& b, std::vector<float> weights = {}) {
        const Targets targets(b.samples);
        if (weights.empty()) weights = target_weights(b.samples);
        Tape tape(arena);
        ctx.tape = &tape;
        trained->known_to(tape);
        ForwardPass pass(model, context_token, *trained);
        const Tensor losses = pass.run(ctx, b.batch(), targets, weights);
        double loss = 0;
        for (int64_t i = 0; i < losses.size(); ++i)
            loss += double(weights[size_t(i)]) * double(losses.as<float>()[i]);
        tape.backward(ctx);
        ctx.tape = nullptr;
        return loss;
    }
    // The adapters that a golden batch starts from, in place of random ones.
    void take_adapters(const GoldenBatch& b) {
        add_adapters(ctx, model, {.language = 4, .vision = 4});
        train(all_frozen);
        for (Trainable& t : trained->all()) {
            const Values v = b.get("lora." + peft_name(t.name));
            ASSERT_EQ(int64_t(v.data.size()), t.value.size()) << t.name;
            std::memcpy(t.value.data, v.data.data(), v.data.size() * sizeof(float));
        }
        trained->write_back(ctx);
    }
    // X.weight.lora_A -> vision_model.base_model.model.X.lora_A
    static std::string peft_name(std::string name) {
        name.erase(name.find(".weight.lora_"), 7);
        return name.insert(name.find('.'), ".base_model.model");
    }
};

}  // namespace internvl
