#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace internvl {

// A SentencePiece model file (tokenizer.model, a protocol buffer), as far as byte-pair encoding
// needs it.
struct PieceModel {
    enum class Type { normal = 1, unknown, control, user_defined, unused, byte };
    struct Piece {
        std::string text;  // with U+2581 for a blank, as written
        float score = 0;
        Type type = Type::normal;
    };
    std::vector<Piece> pieces;  // by id
    bool dummy_prefix = true;   // a blank goes before every text
    std::string unknown_surface = " \xe2\x81\x87 ";
};

// Throws Error for a file that is malformed, or that wants what no member of the family wants:
// another algorithm than byte-pair encoding, a normaliser other than `identity`, no byte pieces.
PieceModel read_piece_model(std::string_view file, const std::string& where);

}  // namespace internvl
