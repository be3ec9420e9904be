// The same weights in other folders: converted names, adapters that were not merged.
#include <filesystem>

#include "model/lora.h"
#include "reference.h"

namespace internvl {

namespace fs = std::filesystem;

static void copy_files(const std::string& from, const std::string& to,
                       const std::function<bool(const std::string&)>& wanted) {
    for (const auto& file : fs::directory_iterator(from))
        if (wanted(file.path().filename())) fs::copy(file.path(), to);
}

static void replace(std::string& text, const std::string& what, const std::string& by) {
    if (const size_t at = text.find(what); at != text.npos) text.replace(at, what.size(), by);
}

// One tensor under its converted name; `wrapped`: as newer folders have it (spec 11.4).
static std::string converted_name(std::string name, bool wrapped) {
    const std::pair<const char*, const char*> rules[] = {
        {"vision_model.encoder.layers.", "vision_tower.encoder.layer."},
        {"vision_model.", "vision_tower."},
        {"class_embedding", "cls_token"},
        {"patch_embedding.", "patch_embeddings.projection."},
        {"position_embedding", "position_embeddings"},
        {"attn.proj.", "attention.projection_layer."},
        {".norm1.", ".layernorm_before."},
        {".norm2.", ".layernorm_after."},
        {".ls1", ".lambda_1"},
        {".ls2", ".lambda_2"},
        {"mlp1.0.", "multi_modal_projector.layer_norm."},
        {"mlp1.1.", "multi_modal_projector.linear_1."},
        {"mlp1.3.", "multi_modal_projector.linear_2."},
    };
    for (const auto& [from, to] : rules) replace(name, from, to);
    if (!wrapped) return name;
    if (name == "language_model.lm_head.weight") return "lm_head.weight";
    replace(name, "language_model.model.", "language_model.");
    return "model." + name;
}

// tiny-1b as the converter of the "-hf" folders writes it: q, k and v apart, another config.json.
static void convert(const std::string& to, bool wrapped) {
    const std::string from = golden("checkpoints/tiny-1b");
    const Checkpoint checkpoint(ModelFolder::open(from));
    std::vector<TensorPlan> plan;
    std::vector<std::span<const std::byte>> bytes;
    for (const TensorEntry& e : checkpoint.entries()) {
        const size_t at = e.name.find("attn.qkv.");
        if (at == e.name.npos) {
            plan.push_back({converted_name(e.name, wrapped), e.dtype, e.shape});
            bytes.push_back(e.bytes);
            continue;
        }
        std::vector<int64_t> shape = e.shape;
        shape[0] /= 3;
        const size_t third = e.bytes.size() / 3;
        for (int part = 0; part < 3; ++part) {
            std::string name = e.name;
            name.replace(at, 9, std::string("attention.") + "qkv"[part] + "_proj.");
            plan.push_back({converted_name(name, wrapped), e.dtype, shape});
            bytes.push_back(e.bytes.subspan(size_t(part) * third, third));
        }
    }
    SafetensorsWriter writer(to + "/model.safetensors", plan);
    for (const auto& b : bytes) writer.write(b.data(), b.size());
    writer.finish();
    const auto old = read_json(from + "/config.json");
    nlohmann::json vision = old["vision_config"], text = old["llm_config"];
    vision["attention_bias"] = vision["qkv_bias"];
    vision["use_qk_norm"] = vision["qk_normalization"];
    vision["image_size"] = {448, 448};
    vision["patch_size"] = {14, 14};
    text.erase("architectures");
    std::ofstream(to + "/config.json") << nlohmann::json{{"model_type", "internvl"},
                                                         {"vision_config", vision},
                                                         {"text_config", text},
                                                         {"vision_feature_layer", -1},
                                                         {"dtype", "bfloat16"}};
    copy_files(from, to, [](const std::string& name) {
        return name != "config.json" && !name.ends_with(".safetensors");
    });
}

TEST(Folders, ConvertedNamesGiveTheSameAnswers) {
    Reference& of = reference("tiny-1b");
    for (const bool wrapped : {false, true}) {
        const TemporaryFolder folder;
        convert(folder.path(), wrapped);
        Engine e(ModelFolder::open(folder.path()), LoadOptions{2, "fp32"});
        EXPECT_EQ(e.chat_template().name, "internvl2_5");
        for (const char* name : {"text_unicode", "image_one_round"}) {
            const auto& d = of.dialogue(name);
            Generation g;
            g.prompt = expand_ids(d["calls"][0][0]["input_ids"]);
            const std::vector<Picture> pictures = pictures_of(d);
            if (!pictures.empty()) g.pictures = e.encode(*pictures[0].tiles);
            g.options.max_new_tokens = d["max_new_tokens"];
            EXPECT_EQ(e.generate(g).ids, d["calls"][0][0]["generated"].get<std::vector<int>>())
                << name << (wrapped ? " wrapped" : "");
        }
    }
}

static View view_of(const TensorEntry& e) {
    return {const_cast<std::byte*>(e.bytes.data()), e.dtype, e.shape};
}

// The weights of an unmerged folder, merged as the reference does it (unit/model/lora_test compares
// each with the reference's hash), under their released names.
static void write_merged(const std::string& unmerged, const std::string& to) {
    Checkpoint checkpoint(ModelFolder::open(unmerged));
    unwrap_adapters(checkpoint);
    std::vector<TensorPlan> plan;
    std::vector<Tensor> merged;
    for (const TensorEntry& e : checkpoint.entries()) {
        if (e.name.ends_with(".lora_A") || e.name.ends_with(".lora_B")) continue;
        plan.push_back({e.name, e.dtype, e.shape});
        const AdapterEntries a = find_adapter(checkpoint, e.name);
        merged.push_back(a.down ? merge_adapter(view_of(e), view_of(*a.down), view_of(*a.up))
                                : Tensor{view_of(e), nullptr});
    }
    SafetensorsWriter writer(to + "/model.safetensors", plan);
    for (const Tensor& t : merged) writer.write(t.data, size_t(t.bytes()));
    writer.finish();
}

TEST(Folders, AdaptersAreMergedAtLoad) {
    for (const std::string name : {"tiny-1b", "tiny-2b"}) {
        const TemporaryFolder unmerged, merged;
        const std::string saved = golden("lora/" + name + "/repository_style");
        copy_files(saved, unmerged.path(), [](const std::string&) { return true; });
        write_merged(saved, merged.path());
        for (const TemporaryFolder* f : {&unmerged, &merged})
            copy_files(golden("checkpoints/" + name), f->path(), [&](const std::string& file) {
                return !file.starts_with("model") && !fs::exists(*f / file);
            });
        Engine loaded(ModelFolder::open(unmerged.path()), LoadOptions{2, "fp32"});
        Engine plain(ModelFolder::open(merged.path()), LoadOptions{2, "fp32"});
        for (const auto& d : reference(name).json()["dialogues"]) {
            if (d["name"] != "text_unicode" && d["name"] != "image_one_round") continue;
            const std::vector<int> ids = expand_ids(d["calls"][0][0]["input_ids"]);
            const std::vector<Picture> pictures = pictures_of(d);
            const Tiles* tiles = pictures.empty() ? nullptr : pictures[0].tiles.get();
            EXPECT_EQ(trace(loaded, ids, tiles)["text/logits"].data,
                      trace(plain, ids, tiles)["text/logits"].data)
                << name;
        }
    }
}

// golden/lora: the last logits. The reference merged a bf16 model and widened it afterwards, its
// rotary tables included, so its logits differ from an fp32 pass over the same weights by what
// rounding those tables does (with rounded tables ours agree within 1e-4); without the adapters
// they would differ by 8 and more.
TEST(Folders, MergedLogitsAreNearTheReferences) {
    for (const std::string name : {"tiny-1b", "tiny-2b"}) {
        const TemporaryFolder folder;
        copy_files(golden("lora/" + name + "/repository_style"), folder.path(),
                   [](const std::string&) { return true; });
        copy_files(golden("checkpoints/" + name), folder.path(), [&](const std::string& file) {
            return !file.starts_with("model") && !fs::exists(folder / file);
        });
        Engine e(ModelFolder::open(folder.path()), LoadOptions{2, "fp32"});
        const Expected expected("lora/" + name + "/logits.safetensors");
        for (const std::string prompt : {"text", "image"}) {
            const std::vector<int> ids = expected.ids(prompt + ".input_ids");
            const Tiles tiles = tiles_of("rgb_5tiles.png", 1);
            const Values logits =
                trace(e, ids, prompt == "image" ? &tiles : nullptr)["text/logits"];
            expect_near(logits.rows({int(ids.size()) - 1}),
                        expected.get(prompt + ".logits_merged_fp32"), 0.25, name + " " + prompt);
        }
    }
}

}  // namespace internvl
