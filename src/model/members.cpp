#include "model/members.h"

#include <algorithm>

namespace internvl {

using Json = nlohmann::ordered_json;
using Files = MemberTokenizer::Files;

namespace {

// What two language models of one class may differ in.
struct Size {
    int64_t hidden, layers, heads, kv_heads, intermediate, vocab, positions;
};

Json language(const char* architecture, const char* type, const char* base, const Size& size,
              double epsilon, double theta) {
    return {{"_name_or_path", base},
            {"architectures", {architecture}},
            {"model_type", type},
            {"hidden_act", "silu"},
            {"hidden_size", size.hidden},
            {"initializer_range", 0.02},
            {"intermediate_size", size.intermediate},
            {"max_position_embeddings", size.positions},
            {"num_attention_heads", size.heads},
            {"num_hidden_layers", size.layers},
            {"num_key_value_heads", size.kv_heads},
            {"rms_norm_eps", epsilon},
            {"rope_theta", theta},
            {"tie_word_embeddings", false},
            {"torch_dtype", "bfloat16"},
            {"transformers_version", "4.37.2"},
            {"use_bfloat16", true},
            {"use_cache", true},
            {"vocab_size", size.vocab}};
}

void set_tokens(Json& config, int bos, int eos, Json pad) {
    config["bos_token_id"] = bos;
    config["eos_token_id"] = eos;
    config["pad_token_id"] = std::move(pad);
}

Json qwen2(const char* base, const Size& size) {
    Json c = language("Qwen2ForCausalLM", "qwen2", base, size, 1e-6, 1e6);
    c.update({{"attention_dropout", 0.0},
              {"max_window_layers", size.layers},
              {"sliding_window", 32768},
              {"use_sliding_window", false}});
    c["tie_word_embeddings"] = true;  // says the released file; its head is a tensor of its own
    set_tokens(c, 151643, 151645, nullptr);
    return c;
}

Json internlm2(const char* base, const Size& size, double rope_factor) {
    Json c = language("InternLM2ForCausalLM", "internlm2", base, size, 1e-5, 1e6);
    c.update({{"attn_implementation", "flash_attention_2"},
              {"auto_map",
               {{"AutoConfig", "configuration_internlm2.InternLM2Config"},
                {"AutoModel", "modeling_internlm2.InternLM2ForCausalLM"},
                {"AutoModelForCausalLM", "modeling_internlm2.InternLM2ForCausalLM"}}},
              {"bias", false},
              {"rope_scaling", {{"type", "dynamic"}, {"factor", rope_factor}}}});
    set_tokens(c, 1, 2, 2);
    return c;
}

Json phi3(const char* base, const Size& size) {
    // Of each pair of a head: how much slower it turns, up to 4096 tokens and above.
    const Json shorter = {1.05, 1.05, 1.05, 1.1,  1.1,  1.15, 1.2, 1.25, 1.3,  1.35, 1.5,  2,
                          2,    2,    2,    2,    2,    2,    2,   2,    2,    2,    2,    2,
                          2,    2,    2,    2,    2,    2,    2,   2,    2.05, 2.05, 2.05, 2.1,
                          2.1,  2.1,  2.15, 2.15, 2.35, 2.55, 2.6, 2.6,  2.75, 2.85, 2.85, 2.95};
    const Json longer = {
        1.03,      1.05,      1.05,      1.0799999,  1.2299999, 1.2299999, 1.3,       1.4499999,
        1.5999999, 1.6499999, 1.8999999, 2.86,       3.6899998, 5.4199996, 5.49,      5.49,
        9.09,      11.58,     15.66,     15.7699995, 15.79,     18.36,     21.99,     23.08,
        30.009998, 32.350002, 32.590004, 35.560005,  39.950005, 53.840004, 56.200005, 57.950005,
        59.290005, 59.770004, 59.920006, 61.190006,  61.960007, 62.500008, 63.370007, 63.480007,
        63.480007, 63.660007, 63.850006, 64.08001,   64.76001,  64.80001,  64.81001,  64.81001};
    Json c = language("Phi3ForCausalLM", "phi3", base, size, 1e-5, 1e4);
    c.update(
        {{"attention_dropout", 0.0},
         {"attn_implementation", "flash_attention_2"},
         {"auto_map",
          {{"AutoConfig", "configuration_phi3.Phi3Config"},
           {"AutoModelForCausalLM", "modeling_phi3.Phi3ForCausalLM"}}},
         {"embd_pdrop", 0.0},
         {"original_max_position_embeddings", 4096},
         {"resid_pdrop", 0.0},
         {"rope_scaling", {{"long_factor", longer}, {"short_factor", shorter}, {"type", "su"}}},
         {"sliding_window", 262144}});
    set_tokens(c, 1, 32000, 32000);
    return c;
}

Json llama(const char* base, const Size& size, double theta, int bos, int eos, Json pad) {
    Json c = language("LlamaForCausalLM", "llama", base, size, 1e-5, theta);
    c.update({{"attention_bias", false}, {"pretraining_tp", 1}, {"rope_scaling", nullptr}});
    set_tokens(c, bos, eos, std::move(pad));
    return c;
}

// InternViT-300M-448px, or InternViT-6B-448px-V1-5.
Json tower(bool large) {
    return {{"architectures", {"InternVisionModel"}},
            {"attention_dropout", 0.0},
            {"drop_path_rate", 0.0},
            {"dropout", 0.0},
            {"hidden_act", "gelu"},
            {"hidden_size", large ? 3200 : 1024},
            {"image_size", 448},
            {"initializer_factor", large ? 0.1 : 1.0},
            {"initializer_range", large ? 1e-10 : 0.02},
            {"intermediate_size", large ? 12800 : 4096},
            {"layer_norm_eps", 1e-6},
            {"model_type", "intern_vit_6b"},
            {"norm_type", large ? "rms_norm" : "layer_norm"},
            {"num_attention_heads", large ? 25 : 16},
            {"num_channels", 3},
            {"num_hidden_layers", large ? 45 : 24},
            {"patch_size", 14},
            {"qk_normalization", large},
            {"qkv_bias", !large},
            {"torch_dtype", "bfloat16"},
            {"transformers_version", "4.37.2"},
            {"use_bfloat16", true},
            {"use_flash_attn", true}};
}

Json frame(const char* chat_template, bool large_tower, Json language_model) {
    return {{"_commit_hash", nullptr},
            {"architectures", {"InternVLChatModel"}},
            {"auto_map",
             {{"AutoConfig", "configuration_internvl_chat.InternVLChatConfig"},
              {"AutoModel", "modeling_internvl_chat.InternVLChatModel"},
              {"AutoModelForCausalLM", "modeling_internvl_chat.InternVLChatModel"}}},
            {"downsample_ratio", 0.5},
            {"dynamic_image_size", true},
            {"force_image_size", 448},
            {"llm_config", std::move(language_model)},
            {"max_dynamic_patch", 12},
            {"min_dynamic_patch", 1},
            {"model_type", "internvl_chat"},
            {"ps_version", "v2"},
            {"select_layer", -1},
            {"template", chat_template},
            {"torch_dtype", "bfloat16"},
            {"use_backbone_lora", 0},
            {"use_llm_lora", 0},
            {"use_thumbnail", true},
            {"vision_config", tower(large_tower)}};
}

constexpr const char* picture_tokens[] = {"<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>",
                                          "<ref>", "</ref>", "<box>",         "</box>"};

// Behind the vocabulary, those that it does not have already (spec_corrections A.1).
void append_picture_tokens(MemberTokenizer& t) {
    int next = t.pieces;
    for (const MemberToken& token : t.tokens) next = std::max(next, token.id + 1);
    for (const char* text : picture_tokens)
        if (std::ranges::find(t.tokens, text, &MemberToken::text) == t.tokens.end())
            t.tokens.push_back({next++, text});
}

// The template's own tokens, then those of pictures.
Json additional(std::vector<std::string> own) {
    own.insert(own.end(), std::begin(picture_tokens), std::end(picture_tokens));
    return own;
}

MemberTokenizer qwen2_tokenizer() {
    MemberTokenizer t{
        .files = Files::qwen2,
        .pieces = 151643,
        .first_byte = 0,
        .tokens = {{151643, "<|endoftext|>"}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}},
        .config = {{"add_eos_token", false},
                   {"add_prefix_space", false},
                   {"additional_special_tokens", additional({"<|im_start|>", "<|im_end|>"})},
                   {"bos_token", nullptr},
                   {"clean_up_tokenization_spaces", false},
                   {"eos_token", "<|im_end|>"},
                   {"errors", "replace"},
                   {"model_max_length", 8192},
                   {"pad_token", "<|endoftext|>"},
                   {"split_special_tokens", false},
                   {"tokenizer_class", "Qwen2Tokenizer"},
                   {"unk_token", nullptr}}};
    append_picture_tokens(t);
    return t;
}

MemberTokenizer internlm2_tokenizer() {
    MemberTokenizer t{
        .files = Files::sentencepiece,
        .pieces = 92544,
        .first_byte = 3,
        .blank = 262,
        .tokens = {{0, "<unk>"},
                   {1, "<s>"},
                   {2, "</s>"},
                   {92538, "<|plugin|>"},
                   {92539, "<|interpreter|>"},
                   {92540, "<|action_end|>"},
                   {92541, "<|action_start|>"},
                   {92542, "<|im_end|>"},
                   {92543, "<|im_start|>"}},
        .config = {{"additional_special_tokens",
                    additional({"<|im_start|>", "<|im_end|>", "<|action_start|>", "<|action_end|>",
                                "<|interpreter|>", "<|plugin|>"})},
                   {"auto_map",
                    {{"AutoTokenizer", {"tokenization_internlm2.InternLM2Tokenizer", nullptr}}}},
                   {"bos_token", "<s>"},
                   {"clean_up_tokenization_spaces", false},
                   {"eos_token", "</s>"},
                   {"model_max_length", 4096},
                   {"pad_token", "</s>"},
                   {"tokenizer_class", "InternLM2Tokenizer"},
                   {"unk_token", "<unk>"}}};
    append_picture_tokens(t);
    return t;
}

// What Phi-3's and Yi's files say alike.
Json llama_tokenizer(bool bos_first, bool legacy, const char* padding_side) {
    return {{"add_bos_token", bos_first},
            {"add_eos_token", false},
            {"clean_up_tokenization_spaces", false},
            {"legacy", legacy},
            {"model_max_length", 4096},
            {"padding_side", padding_side},
            {"sp_model_kwargs", Json::object()},
            {"spaces_between_special_tokens", false},
            {"tokenizer_class", "LlamaTokenizer"},
            {"unk_token", "<unk>"}};
}

MemberTokenizer phi3_tokenizer() {
    MemberTokenizer t{.files = Files::sentencepiece,
                      .pieces = 32000,
                      .first_byte = 3,
                      .blank = 29871,
                      .config = llama_tokenizer(true, false, "left")};
    t.tokens = {{0, "<unk>"}, {1, "<s>"}, {2, "</s>", false, true}, {32000, "<|endoftext|>"}};
    int id = 32001;
    for (const char* text : {"<|assistant|>", "<|placeholder1|>", "<|placeholder2|>",
                             "<|placeholder3|>", "<|placeholder4|>", "<|system|>", "<|end|>",
                             "<|placeholder5|>", "<|placeholder6|>", "<|user|>"})
        t.tokens.push_back({id++, text, true, true});
    append_picture_tokens(t);
    t.dummy_prefix = true;
    t.config["additional_special_tokens"] = additional({});
    t.config["bos_token"] = "<s>";
    t.config["eos_token"] = t.config["pad_token"] = "<|endoftext|>";
    return t;
}

MemberTokenizer yi_tokenizer() {
    MemberTokenizer t{.files = Files::sentencepiece,
                      .pieces = 64000,
                      .first_byte = 305,
                      .blank = 59568,
                      .config = llama_tokenizer(false, true, "right")};
    t.tokens = {{0, "<unk>"},        {1, "<|startoftext|>"}, {2, "<|endoftext|>"},
                {6, "<|im_start|>"}, {7, "<|im_end|>"},      {8, "<|im_sep|>"},
                {68, "<img>"},       {70, "</img>"}};
    append_picture_tokens(t);
    t.config["additional_special_tokens"] =
        additional({"<|im_start|>", "<|im_end|>", "<|im_sep|>"});
    t.config["bos_token"] = "<|startoftext|>";
    t.config["eos_token"] = "<|endoftext|>";
    t.config["pad_token"] = "<unk>";
    return t;
}

MemberTokenizer llama3_tokenizer() {
    MemberTokenizer t{.files = Files::json,
                      .pieces = 128000,
                      .first_byte = 0,
                      .tokens = {{128000, "<|begin_of_text|>"},
                                 {128001, "<|end_of_text|>"},
                                 {128002, "<|im_start|>"},
                                 {128003, "<|im_end|>"}},
                      .config = {{"additional_special_tokens", additional({})},
                                 {"bos_token", "<|begin_of_text|>"},
                                 {"clean_up_tokenization_spaces", true},
                                 {"eos_token", "<|im_end|>"},
                                 {"model_input_names", {"input_ids", "attention_mask"}},
                                 {"model_max_length", 131072},
                                 {"pad_token", "<|end_of_text|>"},
                                 {"tokenizer_class", "PreTrainedTokenizerFast"}}};
    for (int id = 128004; id < 128256; ++id)
        t.tokens.push_back({id, "<|reserved_special_token_" + std::to_string(id - 128004) + "|>"});
    append_picture_tokens(t);
    return t;
}

}  // namespace

const std::vector<Member>& members() {
    static const std::vector<Member> all = {
        {"internvl2-1b",
         frame("Hermes-2", false,
               qwen2("Qwen/Qwen2-0.5B-Instruct", {896, 24, 14, 2, 4864, 151655, 32768})),
         qwen2_tokenizer()},
        {"internvl2-2b",
         frame(
             "internlm2-chat", false,
             internlm2("internlm/internlm2-chat-1_8b", {2048, 24, 16, 8, 8192, 92553, 32768}, 2.0)),
         internlm2_tokenizer()},
        {"internvl2-4b",
         frame("phi3-chat", false,
               phi3("microsoft/Phi-3-mini-128k-instruct", {3072, 32, 32, 32, 8192, 32020, 131072})),
         phi3_tokenizer()},
        {"internvl2-8b",
         frame("internlm2-chat", false,
               internlm2("internlm/internlm2_5-7b-chat", {4096, 32, 32, 8, 14336, 92553, 32768},
                         2.0)),
         internlm2_tokenizer()},
        {"internvl2-26b",
         frame(
             "internlm2-chat", true,
             internlm2("internlm/internlm2-chat-20b", {6144, 48, 48, 8, 16384, 92553, 32768}, 3.0)),
         internlm2_tokenizer()},
        {"internvl2-40b",
         frame("Hermes-2", true,
               llama("NousResearch/Nous-Hermes-2-Yi-34B", {7168, 60, 56, 8, 20480, 64007, 4096},
                     5e6, 1, 7, 0)),
         yi_tokenizer()},
        {"internvl2-llama3-76b",
         frame("internlm2-chat", true,
               llama("NousResearch/Hermes-2-Theta-Llama-3-70B",
                     {8192, 80, 64, 8, 28672, 128265, 8192}, 5e5, 128000, 128003, nullptr)),
         llama3_tokenizer()},
    };
    return all;
}

const Member* find_member(std::string_view name) {
    std::string plain;
    for (const char c : name) plain += char(std::tolower(static_cast<unsigned char>(c)));
    if (plain.starts_with("opengvlab/")) plain.erase(0, 10);
    if (plain == "internvl2-76b") plain = "internvl2-llama3-76b";
    const auto found = std::ranges::find(members(), plain, &Member::name);
    return found == members().end() ? nullptr : &*found;
}

std::string member_names() {
    std::string names;
    for (const Member& m : members()) names += (names.empty() ? "" : ", ") + m.name;
    return names;
}

}  // namespace internvl
