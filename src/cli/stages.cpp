#include "cli/stages.h"

#include "api/data.h"

namespace internvl::cli {

static float value_at(const View& v, int64_t element) {
    switch (v.dtype) {
        case DType::bf16:
            return to_float(v.as<bf16_t>()[element]);
        case DType::f16:
            return to_float(v.as<f16_t>()[element]);
        default:
            return v.as<float>()[element];
    }
}

Stage::Stage(std::string stage, const View& v)
    : name(std::move(stage)), shape(v.dim, v.dim + v.rank) {
    values.reserve(size_t(v.size()));
    const int64_t width = v.dim[v.rank - 1];
    for (int64_t row = 0; row < v.size() / width; ++row) {
        int64_t at = 0, rest = row;
        for (int d = v.rank - 1; d-- > 0; rest /= v.dim[d]) at += rest % v.dim[d] * v.stride[d];
        for (int64_t i = 0; i < width; ++i)
            values.push_back(value_at(v, at + i * v.stride[v.rank - 1]));
    }
}

// All tiles of all pictures, in order.
static Tiles joined(const std::vector<Photo>& photos) {
    Tiles all;
    for (const Photo& photo : photos) {
        const Tiles& tiles = photo.data().tiles;
        all.grid = tiles.grid;
        all.side = tiles.side;
        all.count += tiles.count;
        all.rgb.insert(all.rgb.end(), tiles.rgb.begin(), tiles.rgb.end());
    }
    return all;
}

void run_stages(Model& model, const std::vector<Photo>& photos, std::span<const int> ids,
                bool last_logits,
                const std::function<void(const std::string&, const View&)>& watch) {
    const Tiles tiles = joined(photos);
    model.data().engine.trace(ids, tiles.count > 0 ? &tiles : nullptr, last_logits, watch);
}

Prompt run_stages(Model& model, const StageInput& input,
                  const std::function<void(const std::string&, const View&)>& watch) {
    Engine& engine = model.data().engine;
    std::vector<Photo> photos;
    std::vector<int> tiles;
    for (const std::string& file : input.images) {
        photos.push_back(Photo::open(file, input.options));
        tiles.push_back(photos.back().tiles());
    }
    const std::string system = input.system.empty() ? engine.system_message() : input.system;
    Prompt prompt;
    if (input.raw) {
        prompt.text = expand_images(input.prompt, tiles, tokens_per_tile);
        prompt.ids = engine.tokenizer().encode(prompt.text);
    } else if (input.reference) {
        const bool marked = input.prompt.find("<image>") != input.prompt.npos || tiles.empty();
        const Turn turn{marked ? input.prompt : "<image>\n" + input.prompt, std::nullopt};
        prompt = build_reference_prompt(engine.tokenizer(), engine.chat_template(), system,
                                        {&turn, 1}, tiles);
    } else {
        const Exchange turn{input.prompt, tiles, false, std::nullopt};
        prompt = build_prompt(engine.tokenizer(), engine.chat_template(), system, {&turn, 1});
    }
    run_stages(model, photos, prompt.ids, input.last_logits, watch);
    return prompt;
}

}  // namespace internvl::cli
