#include "engine/tower.h"

#include <algorithm>
#include <limits>

#include "base/clock.h"

namespace internvl {

// Tiles that pass through the vision tower together: enough rows to keep the products busy, few
// enough for memory.
static constexpr size_t tiles_at_once = 2;

DigestKey scoped(const std::string& scope, const DigestKey& tile) {
    if (scope.empty()) return tile;
    return Digest().update(tile.data(), tile.size()).update(scope.data(), scope.size()).key();
}

Tensor pixels(Context& ctx, std::span<const TilePlace> places) {
    const int64_t side = places[0].tiles->side;
    Tensor all = ctx.arena.get(ctx.activations, {int64_t(places.size()), 3, side, side});
    for (size_t i = 0; i < places.size(); ++i) {
        const View to = all.slice(0, int64_t(i), 1);
        if (ctx.activations == DType::f32)
            normalise(*places[i].tiles, places[i].tile, 1, to.as<float>(), &ctx.pool);
        else
            normalise(*places[i].tiles, places[i].tile, 1, to.as<uint16_t>(), &ctx.pool);
    }
    return all;
}

Tower::Tower(Context& ctx, const Vision& vision, bool together)
    : ctx_(ctx), vision_(vision), together_(together) {}

bool Tower::want(uint64_t owner, size_t place, const TilePlace& tile, const DigestKey& key) {
    const auto same = std::ranges::find(jobs_, key, &Job::key);
    if (same != jobs_.end()) {
        same->wanted.emplace_back(owner, place);
        return false;
    }
    jobs_.push_back({tile, key, {{owner, place}}});
    return true;
}

void Tower::drop(uint64_t owner) {
    const auto left = [&](Job& job) {
        std::erase_if(job.wanted, [&](const auto& w) { return w.first == owner; });
        return !job.wanted.empty();
    };
    bool batch = false;
    for (Job& job : jobs_) batch |= left(job) && job.in_batch;
    if (!batch) drop_batch();
    std::erase_if(jobs_, [](const Job& job) { return job.wanted.empty() && !job.in_batch; });
}

void Tower::drop_batch() {
    for (Job* job : batch_) job->in_batch = false;
    batch_.clear();
    run_.reset();
    batch_ms_ = 0;
}

std::vector<uint64_t> Tower::owners_of_batch() const {
    std::vector<uint64_t> owners;
    for (const Job* job : batch_)
        for (const auto& [owner, place] : job->wanted) owners.push_back(owner);
    return owners;
}

void Tower::begin(std::span<const uint64_t> turn) {
    const auto rank = [&](const Job& job) {
        auto best = turn.end();
        for (const auto& w : job.wanted) best = std::min(best, std::ranges::find(turn, w.first));
        return best;
    };
    std::vector<Job*> order;
    for (Job& job : jobs_) order.push_back(&job);
    std::ranges::stable_sort(order, {}, [&](const Job* job) { return rank(*job); });
    if (!together_ && order.size() > tiles_at_once)
        order.erase(order.begin() + tiles_at_once, order.end());
    std::vector<TilePlace> places;
    for (Job* job : order) {
        job->in_batch = true;
        places.push_back(job->place);
    }
    batch_ = std::move(order);
    run_ = vision_.begin(ctx_, pixels(ctx_, places));
}

// As many tiles at once as there is time for.
void Tower::advance_layer(double ms, Work& work) {
    const double fit = piece_ms_ > 0 ? ms / piece_ms_ : 1;
    const int64_t tiles =
        together_ ? run_->tiles : int64_t(std::clamp(fit, 1.0, double(run_->tiles)));
    const int64_t count = std::min(tiles, run_->tiles - run_->done);
    const Stopwatch watch;
    vision_.advance(ctx_, *run_, count);
    const double took = watch.ms() / double(count);
    piece_ms_ = piece_ms_ > 0 ? 0.7 * piece_ms_ + 0.3 * took : took;
    work.pieces += int(count);
}

void Tower::finish(Work& work) {
    const Stopwatch watch;
    const Tensor rows = vision_.finish(ctx_, *run_);
    const int64_t each = rows.dim[0] / run_->tiles;
    for (size_t i = 0; i < batch_.size(); ++i) {
        Tensor own = make_tensor(rows.dtype, {each, rows.dim[1]});
        copy(ctx_, rows.slice(0, int64_t(i) * each, each), own);
        work.seen.push_back({batch_[i]->key, std::move(own), std::move(batch_[i]->wanted)});
    }
    std::erase_if(jobs_, [](const Job& job) { return job.in_batch; });
    batch_.clear();
    run_.reset();
    work.projector_ms = watch.ms();
    projector_ms_ = work.projector_ms / double(work.seen.size());
    work.batch_ms = batch_ms_ + work.projector_ms;
    batch_ms_ = 0;
}

Tower::Work Tower::advance(double ms, std::span<const uint64_t> turn) {
    Work work;
    const Stopwatch watch;
    if (!run_) begin(turn);
    while (!vision_.passed(*run_)) {
        advance_layer(ms - watch.ms(), work);
        const double next = vision_.passed(*run_) ? projector_ms_ * double(run_->tiles) : piece_ms_;
        if (watch.ms() + next > ms) break;
    }
    work.layers_ms = watch.ms();
    batch_ms_ += work.layers_ms;
    // The projector is a piece of its own where the time is over.
    if (vision_.passed(*run_) &&
        (work.pieces == 0 || watch.ms() + projector_ms_ * double(run_->tiles) <= ms))
        finish(work);
    // The language model wants other sizes; what the tower needed would only lie beside them.
    if (!busy()) ctx_.arena.trim();
    return work;
}

}  // namespace internvl
