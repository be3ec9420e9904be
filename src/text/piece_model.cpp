#include "text/piece_model.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/error.h"

namespace internvl {

namespace {

// The fields of one protocol buffer message, in order.
class Message {
  public:
    Message(std::string_view message, const std::string& where)
        : message_(message), where_(where) {}

    int field = 0;           // of the value just read
    uint64_t number = 0;     // a varint or fixed value
    std::string_view bytes;  // a string or message

    bool next() {
        if (at_ == message_.size()) return false;
        const uint64_t tag = varint();
        field = int(tag >> 3 & 0x1fffffff);
        bytes = {};
        number = 0;
        switch (tag & 7) {
            case 0:
                number = varint();
                break;
            case 1:
                number = fixed<uint64_t>();
                break;
            case 2:
                bytes = take(varint());
                break;
            case 5:
                number = fixed<uint32_t>();
                break;
            default:
                malformed();
        }
        return true;
    }
    float as_float() const { return std::bit_cast<float>(uint32_t(number)); }

  private:
    [[noreturn]] void malformed() const {
        throw Error(
            "not a SentencePiece model", "a protocol buffer",
            fmt::format("something else at byte {} of a message of {}", at_, message_.size()),
            where_);
    }
    std::string_view take(uint64_t length) {
        if (length > message_.size() - at_) malformed();
        const std::string_view part = message_.substr(at_, length);
        at_ += length;
        return part;
    }
    uint64_t varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            const uint8_t byte = uint8_t(take(1)[0]);
            value |= uint64_t(byte & 0x7f) << shift;
            if (byte < 0x80) return value;
        }
        malformed();
    }
    template <class T>
    T fixed() {
        T value;
        std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
        return value;
    }

    std::string_view message_;
    const std::string& where_;
    size_t at_ = 0;
};

PieceModel::Piece read_piece(std::string_view bytes, const std::string& where) {
    PieceModel::Piece piece;
    for (Message m(bytes, where); m.next();) {
        if (m.field == 1) piece.text = m.bytes;
        if (m.field == 2) piece.score = m.as_float();
        if (m.field != 3) continue;
        if (m.number < 1 || m.number > 6)
            throw Error("a piece of unknown type", "1 to 6", fmt::format("{}", m.number), where);
        piece.type = PieceModel::Type(m.number);
    }
    return piece;
}

[[noreturn]] void unsupported(const char* expected, const std::string& found,
                              const std::string& where) {
    throw Error("the SentencePiece model is of a kind that is not supported", expected, found,
                where);
}

void read_trainer(std::string_view bytes, PieceModel& model, const std::string& where) {
    constexpr const char* kinds[] = {"none", "unigram", "BPE", "word", "character"};
    uint64_t kind = 1, byte_fallback = 0, suffix = 0;
    for (Message m(bytes, where); m.next();) {
        if (m.field == 3) kind = m.number;
        if (m.field == 24) suffix = m.number;
        if (m.field == 35) byte_fallback = m.number;
        if (m.field == 44) model.unknown_surface = m.bytes;
    }
    if (kind != 2) unsupported("BPE", kind < 5 ? kinds[kind] : fmt::format("{}", kind), where);
    if (!byte_fallback) unsupported("byte fallback", "none", where);
    if (suffix) unsupported("blanks before words", "blanks behind words", where);
}

void read_normalizer(std::string_view bytes, PieceModel& model, const std::string& where) {
    uint64_t dummy_prefix = 1, fewer_blanks = 1, escape = 1;
    std::string name;
    for (Message m(bytes, where); m.next();) {
        if (m.field == 1) name = m.bytes;
        if (m.field == 2 && !m.bytes.empty())
            unsupported("normaliser `identity`", name.empty() ? "a table" : name, where);
        if (m.field == 3) dummy_prefix = m.number;
        if (m.field == 4) fewer_blanks = m.number;
        if (m.field == 5) escape = m.number;
    }
    if (fewer_blanks) unsupported("all blanks kept", "remove_extra_whitespaces", where);
    if (!escape) unsupported("blanks written as U+2581", "blanks as they are", where);
    model.dummy_prefix = dummy_prefix;
}

}  // namespace

PieceModel read_piece_model(std::string_view file, const std::string& where) {
    PieceModel model;
    std::string_view trainer, normalizer;
    for (Message m(file, where); m.next();) {
        if (m.field == 1) {
            model.pieces.push_back(read_piece(m.bytes, where));
            const PieceModel::Piece& piece = model.pieces.back();
            if (piece.text.empty() || !std::isfinite(piece.score) ||
                piece.type == PieceModel::Type::unused)
                throw Error("a piece that cannot be used", "text, a finite score and a use",
                            fmt::format("piece {}", model.pieces.size() - 1), where);
        }
        if (m.field == 2) trainer = m.bytes;
        if (m.field == 3) normalizer = m.bytes;
    }
    read_trainer(trainer, model, where);
    read_normalizer(normalizer, model, where);
    return model;
}

}  // namespace internvl
