#include "train/sampler.h"

#include <algorithm>

namespace internvl {

// A last run that does not divide is dealt out in turns.
static void deal_in_turns(std::span<const int> run, size_t groups, std::vector<int>& order) {
    for (size_t g = 0; g < groups; ++g)
        for (size_t i = g; i < run.size(); i += groups) order.push_back(run[i]);
}

static void deal_by_length(std::span<const int> run, std::span<const int64_t> lengths,
                           size_t groups, std::vector<int>& order) {
    std::vector<std::vector<int>> chunks(groups);
    std::vector<int64_t> sums(groups);
    const size_t each = run.size() / groups;
    for (const int i : run) {
        size_t lightest = groups;
        for (size_t g = 0; g < groups; ++g)
            if (chunks[g].size() < each && (lightest == groups || sums[g] < sums[lightest]))
                lightest = g;
        chunks[lightest].push_back(i);
        sums[lightest] += lengths[size_t(i)];
    }
    for (const auto& chunk : chunks) order.insert(order.end(), chunk.begin(), chunk.end());
}

std::vector<int> length_grouped_order(std::span<const int64_t> lengths,
                                      std::span<const int> permutation, size_t batch,
                                      size_t groups) {
    std::vector<int> order;
    const size_t size = batch * groups;
    for (size_t begin = 0; begin < permutation.size(); begin += size) {
        const auto part = permutation.subspan(begin, std::min(size, permutation.size() - begin));
        std::vector<int> run(part.begin(), part.end());
        std::stable_sort(run.begin(), run.end(),
                         [&](int a, int b) { return lengths[size_t(a)] > lengths[size_t(b)]; });
        if (run.size() % groups != 0)
            deal_in_turns(run, groups, order);
        else
            deal_by_length(run, lengths, groups, order);
    }
    return order;
}

int64_t LengthEstimate::of(std::span<const Utterance> conversation) {
    std::string text;
    for (const Utterance& u : conversation) text += (text.empty() ? "" : "\n") + u.value;
    const size_t characters = size_t(std::count_if(
        text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
    if (const auto found = known_.find(characters); found != known_.end()) return found->second;
    const int64_t tokens = int64_t(tokenizer_.encode(text).size());
    known_[characters] = tokens + picture_tokens_;
    return tokens;
}

}  // namespace internvl
