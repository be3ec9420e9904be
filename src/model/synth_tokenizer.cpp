#include "model/synth_tokenizer.h"

#include <fmt/format.h>

#include <bit>

namespace internvl {

// Not the ordered one: it looks for a key among all others before it adds one.
using Json = nlohmann::json;
using Files = MemberTokenizer::Files;

namespace {

// Byte b in GPT-2's alphabet, as JSON text.
std::string byte_piece(int b) {
    static const std::vector<int> alphabet = [] {
        std::vector<int> of(256);
        int next = 256;
        for (int i = 0; i < 256; ++i) {
            const bool itself = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
            of[size_t(i)] = itself ? i : next++;
        }
        return of;
    }();
    const int c = alphabet[size_t(b)];
    if (c < 128) return std::string(1, char(c));
    return {char(0xc0 | c >> 6), char(0x80 | (c & 0x3f))};
}

// 256 bytes, then pieces that no merge makes.
Json byte_vocabulary(int pieces) {
    Json vocab = Json::object();
    for (int id = 0; id < pieces; ++id)
        vocab[id < 256 ? byte_piece(id) : fmt::format("unused_{}", id)] = id;
    return vocab;
}

Json flags_of(const MemberToken& token) {
    return {{"content", token.text},  {"lstrip", false},      {"normalized", false},
            {"rstrip", token.rstrip}, {"single_word", false}, {"special", token.special}};
}

// Fields of a protocol buffer, one behind the other.
class Message {
  public:
    Message& number(int field, uint64_t value) {
        varint(uint64_t(field) << 3);
        varint(value);
        return *this;
    }
    Message& text(int field, const std::string& value) {
        varint(uint64_t(field) << 3 | 2);
        varint(value.size());
        bytes_ += value;
        return *this;
    }
    Message& real(int field, float value) {
        varint(uint64_t(field) << 3 | 5);
        const uint32_t bits = std::bit_cast<uint32_t>(value);
        for (int shift = 0; shift < 32; shift += 8) bytes_ += char(bits >> shift & 255);
        return *this;
    }
    const std::string& bytes() const { return bytes_; }

  private:
    void varint(uint64_t value) {
        for (; value >= 128; value >>= 7) bytes_ += char(value | 128);
        bytes_ += char(value);
    }

    std::string bytes_;
};

// A SentencePiece model (BPE with byte fallback, nothing normalised): the tokens that lie in the
// vocabulary, 256 bytes, pieces that no merge makes.
std::string piece_model(const MemberTokenizer& t) {
    enum Type { normal = 1, unknown = 2, control = 3, user_defined = 4, byte = 6 };
    std::map<int, std::string> named;
    for (const MemberToken& token : t.tokens) named[token.id] = token.text;
    Message model;
    for (int id = 0; id < t.pieces; ++id) {
        const int b = id - t.first_byte;
        const auto token = named.find(id);
        const bool is_byte = b >= 0 && b < 256;
        const std::string text = token != named.end() ? token->second
                                 : is_byte            ? fmt::format("<0x{:02X}>", b)
                                 : id == t.blank      ? "\u2581"
                                                      : fmt::format("unused_{}", id);
        const Type type = is_byte                ? byte
                          : token == named.end() ? normal
                          : id == 0              ? unknown
                          : id < 3               ? control
                                                 : user_defined;
        const float score = type == normal ? -float(id) : 0.0f;
        model.text(1, Message().text(1, text).real(2, score).number(3, type).bytes());
    }
    constexpr int bpe = 2;
    Message trainer;
    trainer.text(2, "bytes").number(3, bpe).number(4, uint64_t(t.pieces)).number(35, true);
    trainer.number(40, 0).number(41, 1).number(42, 2).number(43, uint64_t(-1));
    trainer.text(46, named[1]).text(47, named[2]);
    Message normalizer;
    normalizer.text(1, "identity").text(2, "").number(3, t.dummy_prefix).number(4, false);
    return model.text(2, trainer.bytes()).text(3, normalizer.bytes()).bytes();
}

// tokenizer.json as the Llama-3 tokenizer has it (spec 7.7).
Json fast_tokenizer(const MemberTokenizer& t) {
    const std::string bos = t.config["bos_token"];
    Json added = Json::array();
    int bos_id = 0;
    for (const MemberToken& token : t.tokens) {
        Json entry = {{"id", token.id}};
        entry.update(flags_of(token));
        added.push_back(entry);
        if (token.text == bos) bos_id = token.id;
    }
    const Json bytes = {{"type", "ByteLevel"},
                        {"add_prefix_space", false},
                        {"trim_offsets", true},
                        {"use_regex", false}};
    const Json first = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const char* pattern =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    const Json split = {{"type", "Split"},
                        {"pattern", {{"Regex", pattern}}},
                        {"behavior", "Isolated"},
                        {"invert", false}};
    return {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added},
        {"normalizer", nullptr},
        {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes})}}},
        {"post_processor",
         {{"type", "TemplateProcessing"},
          {"single", Json::array({first, text})},
          {"pair", Json::array({first, text, text})},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {bos_id}}, {"tokens", {bos}}}}}}}},
        {"decoder", bytes},
        {"model",
         {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", true},
          {"vocab", byte_vocabulary(t.pieces)},
          {"merges", Json::array()}}}};
}

}  // namespace

std::map<std::string, std::string> tokenizer_files(const MemberTokenizer& t) {
    nlohmann::ordered_json config = t.config, special = {};
    Json decoder = Json::object(), behind = Json::object();
    for (const MemberToken& token : t.tokens) {
        decoder[std::to_string(token.id)] = flags_of(token);
        if (token.id >= t.pieces) behind[token.text] = token.id;
    }
    config["added_tokens_decoder"] = decoder;
    for (const char* name :
         {"additional_special_tokens", "bos_token", "eos_token", "pad_token", "unk_token"})
        if (config.contains(name) && !config[name].is_null()) special[name] = config[name];
    std::map<std::string, std::string> files = {
        {"tokenizer_config.json", config.dump(2) + "\n"},
        {"special_tokens_map.json", special.dump(2) + "\n"}};
    if (t.files != Files::json) files["added_tokens.json"] = behind.dump(2) + "\n";
    if (t.files == Files::json) files["tokenizer.json"] = fast_tokenizer(t).dump() + "\n";
    if (t.files == Files::sentencepiece) files["tokenizer.model"] = piece_model(t);
    if (t.files == Files::qwen2) {
        files["vocab.json"] = byte_vocabulary(t.pieces).dump();
        files["merges.txt"] = "#version: 0.2\n";
    }
    return files;
}

}  // namespace internvl
