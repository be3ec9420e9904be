#include "text/prefix_tree.h"

namespace internvl {

int PrefixTree::step(int node, uint8_t byte) const {
    for (const auto& [b, target] : nodes_[size_t(node)].next)
        if (b == byte) return target;
    return -1;
}

void PrefixTree::add(std::string_view key, int value) {
    int node = 0;
    for (const char c : key) {
        int target = step(node, uint8_t(c));
        if (target < 0) {
            target = int(nodes_.size());
            nodes_[size_t(node)].next.emplace_back(uint8_t(c), target);
            nodes_.emplace_back();
        }
        node = target;
    }
    nodes_[size_t(node)].value = value;
    begins_[uint8_t(key[0])] = true;
}

PrefixTree::Match PrefixTree::longest(std::string_view text) const {
    Match best;
    if (text.empty() || !may_begin(text[0])) return best;
    int node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        node = step(node, uint8_t(text[i]));
        if (node < 0) break;
        if (nodes_[size_t(node)].value >= 0) best = {i + 1, nodes_[size_t(node)].value};
    }
    return best;
}

}  // namespace internvl
