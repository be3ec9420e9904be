#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/json.h"
#include "text/byte_bpe.h"
#include "text/utf8.h"

namespace internvl {

// GPT-2's alphabet writes each byte as one printable character: printable Latin-1 stands for
// itself, the others follow from U+0100 on. The byte of each character, or -1.
static const std::array<int, 512> byte_of = [] {
    std::array<int, 512> of;
    of.fill(-1);
    size_t next = 256;
    for (int b = 0; b < 256; ++b) {
        const bool itself =
            (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        of[itself ? size_t(b) : next++] = b;
    }
    return of;
}();

// The alphabet's characters have one or two bytes in UTF-8.
bool append_alphabet_bytes(std::string_view text, std::string& bytes) {
    for (size_t i = 0; i < text.size();) {
        size_t c = uint8_t(text[i++]);
        if (c >= 0x80) {
            if (c < 0xc2 || c > 0xc7 || i == text.size()) return false;
            c = (c & 31) << 6 | (uint8_t(text[i++]) & 63);
        }
        if (byte_of[c] < 0) return false;
        bytes += char(byte_of[c]);
    }
    return true;
}

namespace {

// Events of a JSON text that are all refused; what derives from it accepts some. Large lists are
// read so, without building them: 150,000 entries are a good part of a start.
class StrictReader : public nlohmann::json_sax<nlohmann::json> {
  public:
    StrictReader(std::string expected, std::string where)
        : expected_(std::move(expected)), where_(std::move(where)) {}
    void read(std::string_view text) { nlohmann::json::sax_parse(text, this); }

    bool null() override { return refuse("null"); }
    bool boolean(bool) override { return refuse("a boolean"); }
    bool number_integer(int64_t) override { return refuse("a negative number"); }
    bool number_unsigned(uint64_t) override { return refuse("a number"); }
    bool number_float(double, const std::string&) override { return refuse("a fraction"); }
    bool string(std::string&) override { return refuse("a string"); }
    bool binary(nlohmann::json::binary_t&) override { return refuse("binary data"); }
    bool start_object(size_t) override { return refuse("an object"); }
    bool key(std::string&) override { return true; }
    bool end_object() override { return true; }
    bool start_array(size_t) override { return refuse("an array"); }
    bool end_array() override { return true; }
    bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) override {
        throw Error(std::string("not valid JSON: ") + e.what(), "", "", where_);
    }

  protected:
    bool refuse(const std::string& found) const {
        throw Error("malformed tokenizer file", expected_, found, where_);
    }

  private:
    std::string expected_, where_;
};

// The one flat object of a vocabulary: pieces by id.
class VocabReader : public StrictReader {
  public:
    explicit VocabReader(const std::string& where)
        : StrictReader("one object of ids, each once", where) {}

    std::vector<std::string> pieces;
    std::vector<bool> seen;
    size_t count = 0;

    bool key(std::string& name) override {
        name_.swap(name);
        return true;
    }
    bool number_unsigned(uint64_t id) override {
        constexpr uint64_t most = 1 << 24;
        if (id >= most || !open_) return refuse("a number: " + name_);
        if (id >= pieces.size()) pieces.resize(id + 1), seen.resize(id + 1);
        if (seen[id]) return refuse("an id twice: " + name_);
        seen[id] = true;
        pieces[id].swap(name_);
        ++count;
        return true;
    }
    bool start_object(size_t) override {
        if (open_) refuse("an object: " + name_);
        return open_ = true;
    }

  private:
    std::string name_;
    bool open_ = false;
};

// The list of merges in a tokenizer.json: "a b", or ["a", "b"] in newer files.
template <class Take>
class MergesReader : public StrictReader {
  public:
    MergesReader(const std::string& where, Take take)
        : StrictReader("a list of pairs of pieces", where), take_(std::move(take)) {}

    bool start_array(size_t) override {
        if (depth_ == 2) return refuse("a list in a pair");
        ++depth_;
        return true;
    }
    bool end_array() override {
        if (depth_ == 2) {
            if (parts_ != 2) return refuse(fmt::format("a list of {}", parts_));
            take_(part_[0], part_[1], count_++);
            parts_ = 0;
        }
        --depth_;
        return true;
    }
    bool string(std::string& text) override {
        if (depth_ == 2) {
            if (parts_ == 2) return refuse("a longer list");
            part_[parts_++].swap(text);
            return true;
        }
        const size_t space = text.find(' ');
        if (depth_ == 0 || space == text.npos || text.find(' ', space + 1) != text.npos)
            return refuse(text.substr(0, 80));
        const std::string_view view = text;
        take_(view.substr(0, space), view.substr(space + 1), count_++);
        return true;
    }

  private:
    Take take_;
    std::string part_[2];
    int parts_ = 0, depth_ = 0;
    size_t count_ = 0;
};

}  // namespace

// Builds a ByteBpe step by step: the vocabulary, the merges, the end.
class ByteBpeLoader {
  public:
    explicit ByteBpeLoader(std::string where) : where_(std::move(where)) {}

    // The pieces must have the ids 0 ... n-1, each once.
    void read_vocabulary(std::string_view json, const std::string& name) {
        VocabReader reader(name);
        reader.read(json);
        if (reader.count == 0 || reader.count != reader.pieces.size())
            throw Error("malformed vocabulary",
                        fmt::format("ids 0 to {}, each once", reader.pieces.size()),
                        fmt::format("{} entries", reader.count), name);
        std::fill_n(bpe_.byte_id_, 256, -1);
        bpe_.pieces_.reserve(reader.count, json.size());
        std::string bytes;
        for (const std::string& piece : reader.pieces) {
            bytes.clear();
            const bool plain = append_alphabet_bytes(piece, bytes);
            const int id = bpe_.pieces_.add(plain ? bytes : piece, plain);
            if (plain && bytes.size() == 1) bpe_.byte_id_[uint8_t(bytes[0])] = id;
        }
        for (int b = 0; b < 256; ++b)
            if (bpe_.byte_id_[b] < 0)
                throw Error("the vocabulary lacks a byte", "all 256", fmt::format("no {:#x}", b),
                            where_);
    }

    // `place` and `number` say where it stands.
    void add_merge(std::string_view left, std::string_view right, const char* place,
                   size_t number) {
        const auto unknown = [&](const std::string& piece) {
            throw Error("a merge names an unknown piece", "pieces of the vocabulary",
                        replace_invalid(piece.substr(0, 80)),
                        fmt::format("{}{} {}", where_, place, number));
        };
        const int a = find(left), b = find(right);
        if (a < 0 || b < 0) unknown(std::string(a < 0 ? left : right));
        merged_.assign(bpe_.piece(a));
        merged_ += bpe_.piece(b);
        const int merged = bpe_.find(merged_);
        if (merged < 0) unknown(std::string(left) + std::string(right));
        bpe_.merges_.add(a, b, rank_++, merged);
    }

    ByteBpe finish(ByteBpe::Rules rules) {
        bpe_.rules_ = rules;
        bpe_.find_whole_characters();
        return std::move(bpe_);
    }

  private:
    int find(std::string_view piece) {
        bytes_.clear();
        return append_alphabet_bytes(piece, bytes_) && !bytes_.empty() ? bpe_.find(bytes_) : -1;
    }

    std::string where_, bytes_, merged_;
    ByteBpe bpe_;
    uint32_t rank_ = 0;
};

ByteBpe ByteBpe::load(std::string_view vocab_json, std::string_view merges,
                      const std::string& where) {
    ByteBpeLoader loader(where);
    loader.read_vocabulary(vocab_json, where + "/vocab.json");
    for (size_t at = 0, line = 1; at < merges.size(); ++line) {
        const size_t end = std::min(merges.find('\n', at), merges.size());
        std::string_view text = merges.substr(at, end - at);
        at = end + 1;
        if (text.ends_with('\r')) text.remove_suffix(1);
        if (text.empty() || text.front() == '#') continue;
        const size_t space = text.find(' ');
        if (space == text.npos || text.find(' ', space + 1) != text.npos)
            throw Error("malformed merge", "two pieces", replace_invalid(text.substr(0, 80)),
                        fmt::format("{}/merges.txt line {}", where, line));
        loader.add_merge(text.substr(0, space), text.substr(space + 1), "/merges.txt line", line);
    }
    return loader.finish({});
}

ByteBpe ByteBpe::load_json(std::string_view vocab, std::string_view merges, Rules rules,
                           const std::string& where) {
    ByteBpeLoader loader(where);
    loader.read_vocabulary(vocab, where + ": vocab");
    MergesReader reader(where + ": merges",
                        [&](std::string_view left, std::string_view right, size_t number) {
                            loader.add_merge(left, right, ": merge", number);
                        });
    reader.read(merges);
    return loader.finish(rules);
}

}  // namespace internvl
