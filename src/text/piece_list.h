#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace internvl {

// The pieces of a vocabulary by id, and their ids by text.
class PieceList {
  public:
    void reserve(size_t pieces, size_t bytes);
    // The next id. A piece that is not to be found, or whose text an earlier one has, is kept by
    // its id only.
    int add(std::string_view text, bool findable = true);

    int size() const { return int(ends_.size()); }
    std::string_view operator[](int id) const;  // empty for an id without a piece
    int find(std::string_view text) const;      // -1: none

  private:
    struct Slot {
        uint32_t hash = 0;
        int id = -1;
    };
    size_t slot_of(uint32_t hash, std::string_view text) const;
    void grow(size_t slots);

    std::string bytes_;           // of all pieces
    std::vector<uint32_t> ends_;  // [pieces] in bytes_
    std::vector<Slot> slots_;     // open addressing, a power of two
    size_t found_ = 0;            // slots in use
};

}  // namespace internvl
