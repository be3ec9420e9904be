#pragma once
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace internvl {

// A set of strings with a number each; finds the longest one that a text begins with.
class PrefixTree {
  public:
    struct Match {
        size_t length = 0;  // 0: none
        int value = -1;
    };
    void add(std::string_view key, int value);  // not empty
    bool may_begin(char byte) const { return begins_[uint8_t(byte)]; }
    Match longest(std::string_view text) const;

  private:
    struct Node {
        int value = -1;
        std::vector<std::pair<uint8_t, int>> next;  // byte, node
    };
    int step(int node, uint8_t byte) const;  // -1: none

    std::vector<Node> nodes_{Node{}};
    bool begins_[256] = {};
};

}  // namespace internvl
