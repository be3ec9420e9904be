#include "model/parameters.h"

#include "model/families.h"

namespace internvl {

namespace {

class List {
  public:
    std::vector<Parameter> all;
    Part part = Part::vision;
    int64_t layer = -1;

    void add(Parameter::Kind kind, const std::string& name, Block* block, Tensor* tensor) {
        all.push_back({kind, name, part, layer, block, tensor, nullptr});
    }
    void vector(const std::string& name, Tensor& tensor) {
        if (tensor) add(Parameter::vector, name, nullptr, &tensor);
    }
    void norm(const NormNames& names, Norm& norm) {
        vector(names.weight, norm.weight);
        vector(names.bias, norm.bias);
    }
    void linear(const LinearNames& names, Linear& layer_of_blocks) {
        for (size_t i = 0; i < layer_of_blocks.blocks.size(); ++i) {
            Block& b = layer_of_blocks.blocks[i];
            add(Parameter::product, b.name, &b, nullptr);
            vector(names.biases[i], b.bias);
            if (!b.adapter) continue;
            Adapter& a = *b.adapter;
            add(Parameter::adapter, b.name + ".lora_A", &a.down.blocks[0], &a.down_values);
            add(Parameter::adapter, b.name + ".lora_B", &a.up.blocks[0], &a.up_values);
        }
    }
};

}  // namespace

// What layers of tower and decoder have in common; `widening` is the product before `down`.
template <class Names, class Layer>
static void add_layer(List& list, size_t n, const Names& of, Layer& layer,
                      const LinearNames& widening_names, Linear& widening) {
    list.layer = int64_t(n);
    list.norm(of.attention_norm, layer.attention_norm);
    list.norm(of.mlp_norm, layer.mlp_norm);
    list.vector(of.q_norm, layer.q_norm.weight);
    list.vector(of.k_norm, layer.k_norm.weight);
    list.linear(of.qkv, layer.qkv);
    list.linear(of.out, layer.out);
    list.linear(widening_names, widening);
    list.linear(of.down, layer.down);
}

static void add_vision(List& list, const ModelConfig& c, Vision& v) {
    const VisionNames names = vision_names(c);
    for (const bool positions : {false, true})
        list.all.push_back({positions ? Parameter::positions : Parameter::class_row,
                            positions ? names.positions : names.class_row, Part::vision, -1,
                            nullptr, nullptr, &v});
    list.linear(names.patch, v.patch_embedding);
    for (size_t n = 0; n < v.layers.size(); ++n) {
        const VisionLayerNames of = vision_layer_names(c, int64_t(n));
        VisionLayer& layer = v.layers[n];
        add_layer(list, n, of, layer, of.up, layer.up);
        list.vector(of.attention_scale, layer.attention_scale);
        list.vector(of.mlp_scale, layer.mlp_scale);
    }
    list.layer = -1;
    list.part = Part::projector;
    list.norm(names.projector_norm, v.projector_norm);
    list.linear(names.projector_in, v.projector_in);
    list.linear(names.projector_out, v.projector_out);
}

static void add_decoder(List& list, const ModelConfig& c, Decoder& d) {
    const DecoderNames names = decoder_names(c);
    list.part = Part::language;
    list.add(Parameter::table, names.embedding, nullptr, &d.embedding);
    for (size_t n = 0; n < d.layers.size(); ++n) {
        const DecoderLayerNames of = decoder_layer_names(c, int64_t(n));
        DecoderLayer& layer = d.layers[n];
        add_layer(list, n, of, layer, of.gate_up, layer.gate_up);
    }
    list.layer = -1;
    list.norm(names.final_norm, d.final_norm);
    list.linear({{names.head}, {""}}, d.head);
}

std::vector<Parameter> parameters_of(InternVL& model) {
    List list;
    add_vision(list, model.config, model.vision);
    add_decoder(list, model.config, model.decoder);
    return std::move(list.all);
}

}  // namespace internvl
