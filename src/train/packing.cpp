#include "train/packing.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace internvl {

int64_t Pack::tokens() const {
    int64_t count = 0;
    for (const PackPart& p : parts) count += int64_t(p.sample.ids.size());
    return count;
}

int64_t Pack::tiles() const {
    int64_t count = 0;
    for (const PackPart& p : parts) count += int64_t(p.tiles.size());
    return count;
}

namespace {

// Where a picture begins in a pack or in a part, and how many tiles it has.
struct Picture {
    int64_t begin, tiles;
};

std::vector<Picture> pictures_of(const Sample& s, const PackLimits& limits) {
    std::vector<Picture> list;
    int64_t contexts = 0;
    for (size_t i = 0; i < s.ids.size(); ++i) {
        if (s.ids[i] == limits.picture_begin) list.push_back({int64_t(i), 0}), contexts = 0;
        if (s.ids[i] == limits.context) ++contexts;
        if (s.ids[i] == limits.picture_end && !list.empty())
            list.back().tiles = contexts / limits.tokens_per_tile;
    }
    return list;
}

std::vector<int64_t> picture_begins(const Pack& pack, const PackLimits& limits) {
    std::vector<int64_t> list;
    int64_t first = 0;
    for (const PackPart& p : pack.parts) {
        for (const Picture& picture : pictures_of(p.sample, limits))
            list.push_back(first + picture.begin);
        first += int64_t(p.sample.ids.size());
    }
    return list;
}

int id_at(const Pack& pack, int64_t token) {
    for (const PackPart& p : pack.parts) {
        if (token < int64_t(p.sample.ids.size())) return p.sample.ids[size_t(token)];
        token -= int64_t(p.sample.ids.size());
    }
    return -1;
}

// Tokens [begin, end) of a part, and the tiles of the pictures that begin there.
PackPart cut_part(const PackPart& part, int64_t begin, int64_t end, const PackLimits& limits) {
    PackPart piece;
    const auto slice = [&](const std::vector<int>& all) {
        return std::vector<int>(all.begin() + begin, all.begin() + end);
    };
    piece.sample = {slice(part.sample.ids), slice(part.sample.labels),
                    part.sample.first_position + int(begin)};
    piece.pictures = part.pictures;
    if (!part.pictures) {
        if (begin == 0) piece.tiles = part.tiles;
        return piece;
    }
    int64_t tile = 0;
    for (const Picture& p : pictures_of(part.sample, limits)) {
        const auto from = part.tiles.begin() + tile;
        if (p.begin >= begin && p.begin < end)
            piece.tiles.insert(piece.tiles.end(), from, from + p.tiles);
        tile += p.tiles;
    }
    return piece;
}

Pack cut(const Pack& pack, int64_t begin, int64_t end, const PackLimits& limits) {
    Pack piece;
    int64_t first = 0;
    for (const PackPart& p : pack.parts) {
        const int64_t count = int64_t(p.sample.ids.size());
        const int64_t from = std::clamp<int64_t>(begin - first, 0, count);
        const int64_t to = std::clamp<int64_t>(end - first, 0, count);
        if (from < to) piece.parts.push_back(cut_part(p, from, to, limits));
        first += count;
    }
    return piece;
}

// Whether more than one token in 256 is to be learnt.
bool worth_learning(const Pack& pack) {
    int64_t learnt = 0;
    for (const PackPart& p : pack.parts)
        learnt += std::count_if(p.sample.labels.begin(), p.sample.labels.end(),
                                [](int label) { return label != ignored_label; });
    return learnt * 256 > pack.tokens();
}

}  // namespace

// The first pack with room for tiles and tokens; where it may overflow, the last with room for
// tiles.
Pack Packer::take_open(const PackPart& part) {
    auto found = open_.end();
    for (auto p = open_.begin(); p != open_.end(); ++p) {
        if (p->tiles() + int64_t(part.tiles.size()) > limits_.tiles) continue;
        const bool fits = p->tokens() + int64_t(part.sample.ids.size()) <= limits_.tokens;
        if (fits || (limits_.overflow && open_.size() >= limits_.open / 2)) found = p;
        if (fits) break;
    }
    if (found == open_.end()) return {};
    Pack pack = std::move(*found);
    open_.erase(found);
    return pack;
}

// Cuts at the limit, or where the picture there begins; text between the cut and the next picture
// is lost, and so is what has no picture or hardly a label.
std::vector<Pack> Packer::pieces(Pack pack) const {
    const int64_t most = limits_.tokens;
    if (pack.tokens() <= most) return {std::move(pack)};
    std::vector<Pack> list;
    while (pack.tokens() > most) {
        const std::vector<int64_t> begins = picture_begins(pack, limits_);
        const auto next = std::upper_bound(begins.begin(), begins.end(), most);
        const int id = id_at(pack, most);
        const bool within =
            id == limits_.picture_begin || id == limits_.context || id == limits_.picture_end;
        const int64_t left = within && next != begins.begin() ? *(next - 1) : most;
        if (left == 0)
            throw Error("a picture has more tokens than a pack", fmt::format("{}", most));
        Pack piece = cut(pack, 0, left, limits_);
        if (piece.tiles() > 0 && worth_learning(piece)) list.push_back(std::move(piece));
        if (!within && next == begins.end()) break;
        pack = cut(pack, within ? left : *next, pack.tokens(), limits_);
        if (pack.tiles() == 0) break;
        if (pack.tokens() <= most && worth_learning(pack)) list.push_back(pack);
    }
    return list;
}

void Packer::place(Pack pack, std::vector<Pack>& ready) {
    if (pack.tiles() > limits_.tiles) {
        log_warning("left out: a sample of {} tiles, at most {}", pack.tiles(), limits_.tiles);
    } else if (pack.tokens() >= limits_.tokens) {
        ready.push_back(std::move(pack));
    } else {
        const auto after = std::find_if(open_.begin(), open_.end(),
                                        [&](const Pack& p) { return p.tiles() < pack.tiles(); });
        open_.insert(after, std::move(pack));
    }
}

std::vector<Pack> Packer::add(PackPart part) {
    Pack pack = take_open(part);
    pack.parts.push_back(std::move(part));
    std::vector<Pack> ready;
    for (Pack& piece : pieces(std::move(pack))) place(std::move(piece), ready);
    while (!open_.empty() && (open_[0].tiles() == limits_.tiles || open_.size() > limits_.open)) {
        ready.push_back(std::move(open_[0]));
        open_.erase(open_.begin());
    }
    return ready;
}

std::vector<Pack> Packer::finish() {
    return std::exchange(open_, {});
}

}  // namespace internvl
