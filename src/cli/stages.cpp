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
static Tiles joined(const std::vector<Picture>& pictures) {
    Tiles all;
    for (const Picture& p : pictures) {
        all.grid = p.tiles->grid;
        all.side = p.tiles->side;
        all.count += p.tiles->count;
        all.rgb.insert(all.rgb.end(), p.tiles->rgb.begin(), p.tiles->rgb.end());
    }
    return all;
}

void run_stages(Model& model, const std::vector<Media>& media, std::span<const int> ids,
                bool last_logits,
                const std::function<void(const std::string&, const View&)>& watch) {
    const Tiles tiles = joined(pictures_of(media));
    model.data().engine.trace(ids, tiles.count > 0 ? &tiles : nullptr, last_logits, watch);
}

Prompt run_stages(Model& model, const StageInput& input,
                  const std::function<void(const std::string&, const View&)>& watch) {
    Engine& engine = model.data().engine;
    std::vector<int> tiles;
    Exchange turn{input.prompt, {}, false, std::nullopt};
    for (const Picture& p : pictures_of(input.media)) {
        tiles.push_back(p.tiles->count);
        turn.pictures.push_back({p.tiles->count, p.frame});
    }
    const std::string system = input.system.empty() ? engine.system_message() : input.system;
    Prompt prompt;
    if (input.raw) {
        prompt.text = expand_images(input.prompt, tiles, tokens_per_tile);
        prompt.ids = engine.tokenizer().encode(prompt.text);
    } else if (input.reference) {
        const bool marked = input.prompt.find("<image>") != input.prompt.npos || tiles.empty();
        const Turn asked{marked ? input.prompt : "<image>\n" + input.prompt, std::nullopt};
        prompt = build_reference_prompt(engine.tokenizer(), engine.chat_template(), system,
                                        {&asked, 1}, tiles);
    } else {
        prompt = build_prompt(engine.tokenizer(), engine.chat_template(), system, {&turn, 1});
    }
    run_stages(model, input.media, prompt.ids, input.last_logits, watch);
    return prompt;
}

}  // namespace internvl::cli
