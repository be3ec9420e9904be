#include "text/byte_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <queue>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "text/char_class.h"
#include "text/utf8.h"

namespace internvl {

static constexpr uint32_t no_merge = UINT32_MAX;

// GPT-2's alphabet writes each byte as one printable character: printable Latin-1 stands for
// itself, the others follow from U+0100 on.
static std::vector<uint32_t> byte_alphabet() {
    std::vector<uint32_t> of(256);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) {
        const bool itself =
            (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        of[b] = itself ? b : next++;
    }
    return of;
}

// Bytes of a piece; false when it holds a character outside the alphabet (an added token in the
// vocabulary).
static bool piece_bytes(std::string_view piece, const std::vector<int>& byte_of, std::string& out) {
    for (size_t i = 0; i < piece.size();) {
        const CodePoint c = decode_at(piece, i);
        if (!c.valid || c.value >= byte_of.size() || byte_of[c.value] < 0) return false;
        out += char(byte_of[c.value]);
        i += size_t(c.bytes);
    }
    return true;
}

static uint64_t spread(uint64_t pair) {
    pair *= 0x9e3779b97f4a7c15u;
    return pair ^ (pair >> 29);
}

// Reads the one flat object of vocab.json without building it: 150,000 entries are a good part of a
// start.
class VocabReader : public nlohmann::json_sax<nlohmann::json> {
  public:
    explicit VocabReader(const std::string& where) : where_(where) {}

    std::vector<std::string> pieces;  // by id
    std::vector<bool> seen;
    size_t count = 0;

    bool key(std::string& name) override {
        name_.swap(name);
        return true;
    }
    bool number_unsigned(uint64_t id) override {
        constexpr uint64_t most = 1 << 24;
        if (id >= most || !open_) return refuse("a number");
        if (id >= pieces.size()) pieces.resize(id + 1), seen.resize(id + 1);
        if (seen[id]) return refuse("an id twice");
        seen[id] = true;
        pieces[id].swap(name_);
        ++count;
        return true;
    }
    bool start_object(size_t) override {
        if (open_) refuse("an object");
        return open_ = true;
    }
    bool end_object() override { return true; }
    bool null() override { return refuse("null"); }
    bool boolean(bool) override { return refuse("a boolean"); }
    bool number_integer(int64_t) override { return refuse("a negative number"); }
    bool number_float(double, const std::string&) override { return refuse("a fraction"); }
    bool string(std::string&) override { return refuse("a string"); }
    bool binary(nlohmann::json::binary_t&) override { return refuse("binary data"); }
    bool start_array(size_t) override { return refuse("an array"); }
    bool end_array() override { return true; }
    bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) override {
        throw Error(std::string("not valid JSON: ") + e.what(), "", "", where_);
    }

  private:
    bool refuse(const char* what) const {
        throw Error("malformed vocabulary", "one object of ids, each once", what,
                    where_ + ": " + name_);
    }
    std::string where_, name_;
    bool open_ = false;
};

// The pieces in order of their ids: 0 ... n-1, each once.
static std::vector<std::string> ordered_pieces(std::string_view vocab_json,
                                               const std::string& where) {
    VocabReader reader(where);
    nlohmann::json::sax_parse(vocab_json, &reader);
    if (reader.count == 0 || reader.count != reader.pieces.size())
        throw Error("malformed vocabulary",
                    fmt::format("ids 0 to {}, each once", reader.pieces.size()),
                    fmt::format("{} entries", reader.count), where);
    return std::move(reader.pieces);
}

ByteBpe ByteBpe::load(std::string_view vocab_json, std::string_view merges,
                      const std::string& where) {
    const std::vector<std::string> pieces = ordered_pieces(vocab_json, where + "/vocab.json");
    const std::vector<uint32_t> alphabet = byte_alphabet();
    std::vector<int> byte_of(512, -1);
    for (int b = 0; b < 256; ++b) byte_of[alphabet[size_t(b)]] = b;
    ByteBpe bpe;
    std::fill_n(bpe.byte_id_, 256, -1);
    std::unordered_map<std::string_view, int> ids(pieces.size());
    bpe.offsets_.push_back(0);
    for (size_t id = 0; id < pieces.size(); ++id) {
        ids.emplace(pieces[id], int(id));
        const size_t begin = bpe.bytes_.size();
        if (!piece_bytes(pieces[id], byte_of, bpe.bytes_))
            bpe.bytes_.replace(begin, bpe.bytes_.npos, pieces[id]);
        else if (bpe.bytes_.size() == begin + 1)
            bpe.byte_id_[uint8_t(bpe.bytes_[begin])] = int(id);
        bpe.offsets_.push_back(uint32_t(bpe.bytes_.size()));
    }
    for (int b = 0; b < 256; ++b)
        if (bpe.byte_id_[b] < 0)
            throw Error("the vocabulary lacks a byte", "all 256", fmt::format("no {:#x}", b),
                        where);
    const size_t lines = size_t(std::ranges::count(merges, '\n')) + 1;
    bpe.merges_.resize(std::bit_ceil(lines + lines / 4));
    bpe.mask_ = bpe.merges_.size() - 1;
    uint32_t rank = 0;
    for (size_t at = 0, line = 1; at < merges.size(); ++line) {
        const size_t end = std::min(merges.find('\n', at), merges.size());
        std::string_view text = merges.substr(at, end - at);
        at = end + 1;
        if (text.ends_with('\r')) text.remove_suffix(1);
        if (text.empty() || text.front() == '#') continue;
        const size_t space = text.find(' ');
        const auto id_of = [&](std::string_view piece) {
            const auto found = ids.find(piece);
            if (found == ids.end())
                throw Error("a merge names an unknown piece", "pieces of vocab.json",
                            std::string(piece), fmt::format("{}/merges.txt line {}", where, line));
            return found->second;
        };
        if (space == text.npos || text.find(' ', space + 1) != text.npos)
            throw Error("malformed merge", "two pieces", replace_invalid(text.substr(0, 80)),
                        fmt::format("{}/merges.txt line {}", where, line));
        const int left = id_of(text.substr(0, space)), right = id_of(text.substr(space + 1));
        const int merged =
            id_of(std::string(text.substr(0, space)) + std::string(text.substr(space + 1)));
        const uint64_t pair = uint64_t(left) << 32 | uint32_t(right);
        uint64_t slot = spread(pair) & bpe.mask_;
        while (bpe.merges_[slot].pair != UINT64_MAX && bpe.merges_[slot].pair != pair)
            slot = (slot + 1) & bpe.mask_;
        if (bpe.merges_[slot].pair == UINT64_MAX) bpe.merges_[slot] = {pair, rank, merged};
        ++rank;
    }
    bpe.find_whole_characters();
    return bpe;
}

std::string_view ByteBpe::piece(int id) const {
    if (id < 0 || id >= size()) return {};
    return std::string_view(bytes_).substr(offsets_[size_t(id)],
                                           offsets_[size_t(id) + 1] - offsets_[size_t(id)]);
}

const ByteBpe::Slot* ByteBpe::find_merge(int left, int right) const {
    const uint64_t pair = uint64_t(left) << 32 | uint32_t(right);
    for (uint64_t slot = spread(pair) & mask_;; slot = (slot + 1) & mask_) {
        if (merges_[slot].pair == pair) return &merges_[slot];
        if (merges_[slot].pair == UINT64_MAX) return nullptr;
    }
}

// Most characters of two or three bytes are one piece, and beside other such characters their bytes
// are merged before any merge that takes one of their ends to the other side: every rank of those
// is higher. They can be taken whole.
void ByteBpe::find_whole_characters() {
    // The lowest rank at which a piece meets, on its right, what begins a character, or on its left
    // what ends one.
    std::vector<uint32_t> as_left(size_t(size()), no_merge), as_right(size_t(size()), no_merge);
    for (const Slot& slot : merges_) {
        if (slot.pair == UINT64_MAX) continue;
        const size_t left = slot.pair >> 32, right = uint32_t(slot.pair);
        if (uint8_t(piece(int(right)).front()) >= 0xc0)
            as_left[left] = std::min(as_left[left], slot.rank);
        if ((uint8_t(piece(int(left)).back()) & 0xc0) == 0x80)
            as_right[right] = std::min(as_right[right], slot.rank);
    }
    character_.assign(65536, -1);
    for (uint32_t c = 0x80; c < 65536; ++c) {
        std::string bytes;
        append_utf8(c, bytes);
        const int a = byte_id_[uint8_t(bytes[0])], b = byte_id_[uint8_t(bytes[1])];
        const Slot* first = find_merge(a, b);
        if (!first || as_right[size_t(a)] <= first->rank) continue;
        if (bytes.size() == 2) {
            if (as_left[size_t(b)] > first->rank) character_[c] = first->merged;
            continue;
        }
        const int last = byte_id_[uint8_t(bytes[2])];
        const Slot* second = find_merge(first->merged, last);
        const Slot* rival = find_merge(b, last);
        if (!second || (rival && rival->rank <= first->rank)) continue;
        if (as_left[size_t(last)] > second->rank && as_right[size_t(first->merged)] > second->rank)
            character_[c] = second->merged;
    }
}

// Words are short: the pair to merge is found by looking at all of them.
void ByteBpe::merge_word(std::string_view word, std::vector<int>& ids) const {
    constexpr size_t longest = 160;
    if (word.size() > longest) return merge_long_word(word, ids);
    int symbol[longest], merged[longest];
    uint32_t rank[longest];  // of a symbol with its right neighbour; no_merge where there is none
    const auto look_up = [&](size_t i) {
        const Slot* slot = find_merge(symbol[i], symbol[i + 1]);
        rank[i] = slot ? slot->rank : no_merge;
        merged[i] = slot ? slot->merged : 0;
    };
    size_t count = 0;
    for (size_t at = 0; at < word.size();) {
        const uint8_t byte = uint8_t(word[at]);
        const CodePoint c = byte < 0x80 ? CodePoint{byte, 1, true} : decode_at(word, at);
        const size_t end = at + size_t(c.bytes);
        const bool among_its_like = (at == 0 || uint8_t(word[at - 1]) >= 0x80) &&
                                    (end == word.size() || uint8_t(word[end]) >= 0x80);
        const int whole =
            c.bytes > 1 && c.valid && c.value < 65536 && among_its_like ? character_[c.value] : -1;
        symbol[count++] = whole >= 0 ? whole : byte_id_[byte];
        at = whole >= 0 ? end : at + 1;
    }
    for (size_t i = 0; i + 1 < count; ++i) look_up(i);
    while (count > 1) {
        uint32_t least = no_merge;
        for (size_t i = 0; i + 1 < count; ++i) least = std::min(least, rank[i]);
        if (least == no_merge) break;
        const size_t best = size_t(std::find(rank, rank + count, least) - rank);
        symbol[best] = merged[best];
        const size_t moved = count - best - 2;
        std::memmove(symbol + best + 1, symbol + best + 2, moved * sizeof(int));
        std::memmove(merged + best + 1, merged + best + 2, moved * sizeof(int));
        std::memmove(rank + best + 1, rank + best + 2, moved * sizeof(uint32_t));
        --count;
        if (best > 0) look_up(best - 1);
        if (best + 1 < count) look_up(best);
    }
    ids.insert(ids.end(), symbol, symbol + count);
}

// A linked list of symbols and a queue of pairs, so that a megabyte without a space is not
// quadratic.
void ByteBpe::merge_long_word(std::string_view word, std::vector<int>& ids) const {
    struct Symbol {
        int id;
        int32_t previous, next;  // -1: none
    };
    struct Candidate {
        uint32_t rank;
        int32_t left;
        int left_id, right_id, merged;
        bool operator<(const Candidate& o) const {
            return rank != o.rank ? rank > o.rank : left > o.left;
        }
    };
    std::vector<Symbol> symbols(word.size());
    std::priority_queue<Candidate> queue;
    const auto offer = [&](int32_t left) {
        if (left < 0 || symbols[size_t(left)].next < 0) return;
        const int a = symbols[size_t(left)].id, b = symbols[size_t(symbols[size_t(left)].next)].id;
        if (const Slot* slot = find_merge(a, b)) queue.push({slot->rank, left, a, b, slot->merged});
    };
    for (size_t i = 0; i < word.size(); ++i)
        symbols[i] = {byte_id_[uint8_t(word[i])], int32_t(i) - 1,
                      i + 1 < word.size() ? int32_t(i) + 1 : -1};
    for (size_t i = 0; i < word.size(); ++i) offer(int32_t(i));
    while (!queue.empty()) {
        const Candidate c = queue.top();
        queue.pop();
        Symbol& left = symbols[size_t(c.left)];
        if (left.id != c.left_id || left.next < 0 || symbols[size_t(left.next)].id != c.right_id)
            continue;
        Symbol& right = symbols[size_t(left.next)];
        left.id = c.merged;
        right.id = -1;  // gone
        left.next = right.next;
        if (left.next >= 0) symbols[size_t(left.next)].previous = c.left;
        offer(left.previous);
        offer(c.left);
    }
    for (int32_t i = 0; i >= 0; i = symbols[size_t(i)].next) ids.push_back(symbols[size_t(i)].id);
}

// Ids of words seen before in this text. Words repeat; merging them again would be most of the
// work.
class WordMemory {
  public:
    static constexpr size_t longest_word = 24, most_ids = 8;
    struct Entry {
        uint64_t hash = 0;
        uint8_t bytes = 0, ids = 0;
        char word[longest_word];
        int id[most_ids];
    };
    WordMemory() : entries_(size_t(1) << 13) {}
    Entry& at(uint64_t hash) { return entries_[hash >> 51]; }

  private:
    std::vector<Entry> entries_;
};

static uint64_t hash_word(std::string_view word) {
    uint64_t h = word.size();
    for (; word.size() >= 8; word.remove_prefix(8)) {
        uint64_t part;
        std::memcpy(&part, word.data(), 8);
        h = (h ^ part) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    uint64_t rest = 0;
    std::memcpy(&rest, word.data(), word.size());
    h = (h ^ rest) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
}

void ByteBpe::encode(std::string_view text, std::vector<int>& ids) const {
    constexpr size_t short_text = 2048;  // not worth a memory
    std::optional<WordMemory> memory;
    if (text.size() > short_text) memory.emplace();
    for (size_t at = 0; at < text.size();) {
        const size_t end = word_end(text, at);
        const std::string_view word = text.substr(at, end - at);
        at = end;
        if (!memory || word.size() > WordMemory::longest_word) {
            merge_word(word, ids);
            continue;
        }
        const uint64_t hash = hash_word(word);
        WordMemory::Entry& entry = memory->at(hash);
        if (entry.hash == hash && entry.bytes == word.size() &&
            std::memcmp(entry.word, word.data(), word.size()) == 0) {
            ids.insert(ids.end(), entry.id, entry.id + entry.ids);
            continue;
        }
        const size_t before = ids.size();
        merge_word(word, ids);
        const size_t made = ids.size() - before;
        if (made > WordMemory::most_ids) continue;
        entry.hash = hash;
        entry.bytes = uint8_t(word.size());
        entry.ids = uint8_t(made);
        std::memcpy(entry.word, word.data(), word.size());
        std::copy(ids.begin() + long(before), ids.end(), entry.id);
    }
}

}  // namespace internvl
