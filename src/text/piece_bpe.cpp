#include "text/piece_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "text/piece_model.h"
#include "text/utf8.h"
#include "text/word_memory.h"

namespace internvl {

// 0x0A for <0x0A>.
static std::optional<uint8_t> byte_value(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
    constexpr std::string_view digits = "0123456789ABCDEF";
    const size_t high = digits.find(piece[3]), low = digits.find(piece[4]);
    if (high == digits.npos || low == digits.npos) return std::nullopt;
    return uint8_t(16 * high + low);
}

PieceBpe PieceBpe::load(std::string_view model_file, const std::string& where) {
    using Type = PieceModel::Type;
    const PieceModel model = read_piece_model(model_file, where);
    PieceBpe bpe;
    bpe.dummy_prefix_ = model.dummy_prefix;
    bpe.unknown_surface_ = replace_invalid(model.unknown_surface);
    bpe.pieces_.reserve(model.pieces.size(), model_file.size());
    std::fill_n(bpe.byte_id_, 256, -1);
    bpe.character_.resize(65536);
    for (int c = 0; c < 65536; ++c) bpe.character_[size_t(c)] = -2 - c;
    bpe.joints_.resize(size_t(1) << 15);
    std::vector<float> scores;
    for (const PieceModel::Piece& piece : model.pieces) {
        constexpr size_t longest = 256;  // bytes; what follows is quadratic in it
        const std::string text = replace_all(piece.text, blank_mark, " ");
        const std::string place = fmt::format("{}: piece {}", where, bpe.size());
        if (!is_valid_utf8(text) || piece.text.find(' ') != text.npos || text.size() > longest)
            throw Error("a piece that cannot be used",
                        fmt::format("at most {} bytes of UTF-8 without a blank", longest),
                        replace_invalid(text.substr(0, 80)), place);
        if (bpe.find(text) >= 0) throw Error("a piece stands twice", "", text, place);
        const int id = bpe.pieces_.add(text);
        constexpr Kind kinds[] = {Kind::normal,       Kind::normal, Kind::unknown, Kind::control,
                                  Kind::user_defined, Kind::normal, Kind::byte};
        bpe.kinds_.push_back(kinds[size_t(piece.type)]);
        scores.push_back(piece.score);
        if (piece.type == Type::user_defined) bpe.user_defined_.add(text, id);
        if (piece.type == Type::normal) bpe.note_neighbours(text);
        if (piece.type != Type::byte) continue;
        const std::optional<uint8_t> byte = byte_value(text);
        if (!byte) throw Error("malformed byte piece", "<0x00> to <0xFF>", text, place);
        bpe.byte_id_[*byte] = id;
    }
    for (int b = 0; b < 256; ++b)
        if (bpe.byte_id_[b] < 0)
            throw Error("the vocabulary lacks a byte", "all 256", fmt::format("no {:#x}", b),
                        where);
    bpe.find_merges(scores);
    return bpe;
}

// The bit of a pair of characters; two pairs may share one, which costs nothing but time.
static uint64_t joint_of(uint32_t left, uint32_t right) {
    return ((uint64_t(left) << 32 | right) * 0x9e3779b97f4a7c15u) >> 43;
}

bool PieceBpe::may_join(uint32_t left, uint32_t right) const {
    const uint64_t joint = joint_of(left, right);
    return joints_[joint >> 6] >> (joint & 63) & 1;
}

void PieceBpe::note_neighbours(std::string_view piece) {
    CodePoint left = decode_at(piece, 0);
    for (size_t at = size_t(left.bytes); at < piece.size();) {
        const CodePoint right = decode_at(piece, at);
        const uint64_t joint = joint_of(left.value, right.value);
        joints_[joint >> 6] |= uint64_t(1) << (joint & 63);
        left = right;
        at += size_t(right.bytes);
    }
}

int PieceBpe::symbol_of(std::string_view character, uint32_t code_point) const {
    if (code_point < 65536) return character_[code_point];
    const int id = find(character);
    return id >= 0 && kinds_[size_t(id)] == Kind::normal ? id : -2 - int(code_point);
}

// A piece arises wherever its text lies in two symbols: the table names all the ways there are to
// cut a piece in two.
void PieceBpe::find_merges(const std::vector<float>& scores) {
    std::vector<float> order = scores;
    std::ranges::sort(order, std::greater<>());
    order.erase(std::unique(order.begin(), order.end()), order.end());
    const auto is_normal = [&](int id) { return id >= 0 && kinds_[size_t(id)] == Kind::normal; };
    for (int id = 0; id < size(); ++id) {
        const CodePoint c = decode_at(piece(id), 0);
        if (is_normal(id) && size_t(c.bytes) == piece(id).size() && c.value < 65536)
            character_[c.value] = id;
    }
    const auto symbol = [&](std::string_view text) -> std::optional<int> {
        const CodePoint c = decode_at(text, 0);
        if (size_t(c.bytes) == text.size()) return symbol_of(text, c.value);
        const int id = find(text);
        return is_normal(id) ? std::optional(id) : std::nullopt;
    };
    for (int id = 0; id < size(); ++id) {
        if (!is_normal(id)) continue;
        const std::string_view text = piece(id);
        const auto rank =
            std::ranges::lower_bound(order, scores[size_t(id)], std::greater<>()) - order.begin();
        for (size_t at = 0; (at += size_t(decode_at(text, at).bytes)) < text.size();)
            if (const auto left = symbol(text.substr(0, at)))
                if (const auto right = symbol(text.substr(at)))
                    merges_.add(*left, *right, uint32_t(rank), id);
    }
}

// Where no piece has both neighbours, nothing is ever joined: text can be cut there.
size_t PieceBpe::word_end(std::string_view text, size_t at) const {
    CodePoint left = decode_at(text, at);
    size_t end = at + size_t(left.bytes);
    while (end < text.size()) {
        const CodePoint right = decode_at(text, end);
        if (!may_join(left.value, right.value)) break;
        if (user_defined_.may_begin(text[end]) && user_defined_.longest(text.substr(end)).length)
            break;
        left = right;
        end += size_t(right.bytes);
    }
    return end;
}

void PieceBpe::append_symbol(int symbol, std::vector<int>& ids) const {
    if (symbol >= 0) return ids.push_back(symbol);
    std::string utf8;
    append_utf8(uint32_t(-2 - symbol), utf8);
    for (const char c : utf8) ids.push_back(byte_id_[uint8_t(c)]);
}

void PieceBpe::merge_word(std::string_view word, std::vector<int>& ids) const {
    constexpr size_t few = 64;
    int on_stack[few];
    std::vector<int> more(word.size() > few ? word.size() : 0);
    int* const symbols = more.empty() ? on_stack : more.data();
    size_t count = 0;
    for (size_t at = 0; at < word.size();) {
        const CodePoint c = decode_at(word, at);
        symbols[count++] = symbol_of(word.substr(at, size_t(c.bytes)), c.value);
        at += size_t(c.bytes);
    }
    count = merges_.apply({symbols, count});
    for (size_t i = 0; i < count; ++i) append_symbol(symbols[i], ids);
}

void PieceBpe::encode(std::string_view text, std::vector<int>& ids) const {
    std::string changed;
    if (text.find(blank_mark) != text.npos) text = changed = replace_all(text, blank_mark, " ");
    if (dummy_prefix_ && !text.empty()) text = changed = std::string(" ").append(text);
    WordMemory memory(text.size());
    for (size_t at = 0; at < text.size();) {
        if (user_defined_.may_begin(text[at])) {
            const PrefixTree::Match match = user_defined_.longest(text.substr(at));
            at += match.length;
            if (match.length) {
                ids.push_back(match.value);
                continue;
            }
        }
        const size_t end = word_end(text, at);
        memory.append(
            text.substr(at, end - at), ids,
            [this](std::string_view word, std::vector<int>& out) { merge_word(word, out); });
        at = end;
    }
}

std::vector<int> PieceBpe::bytes(std::string_view text) const {
    std::vector<int> ids;
    for (const char byte : text) ids.push_back(byte_id_[uint8_t(byte)]);
    return ids;
}

std::vector<int> PieceBpe::spell(std::string_view text) const {
    std::vector<int> ids;
    for (size_t at = 0; at < text.size();) {
        const CodePoint c = decode_at(text, at);
        append_symbol(symbol_of(text.substr(at, size_t(c.bytes)), c.value), ids);
        at += size_t(c.bytes);
    }
    return ids;
}

bool PieceBpe::is_byte(int id) const {
    return id >= 0 && id < size() && kinds_[size_t(id)] == Kind::byte;
}

std::string_view PieceBpe::byte(int id) const {
    static const std::string all = [] {
        std::string bytes(256, '\0');
        for (size_t b = 0; b < 256; ++b) bytes[b] = char(b);
        return bytes;
    }();
    return std::string_view(all).substr(*byte_value(piece(id)), 1);
}

std::string_view PieceBpe::surface(int id) const {
    if (id < 0 || id >= size() || kinds_[size_t(id)] == Kind::control) return {};
    return kinds_[size_t(id)] == Kind::unknown ? std::string_view(unknown_surface_) : piece(id);
}

std::string PieceBpe::surface_without_blank(int id) const {
    const std::string_view text = piece(id);
    if (!text.starts_with(' ')) return std::string(surface(id));
    const std::string_view rest = text.substr(1);
    const int known = find(rest);
    return known >= 0 ? std::string(surface(known)) : replace_all(rest, " ", blank_mark);
}

}  // namespace internvl
