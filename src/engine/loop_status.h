#pragma once
#include <chrono>
#include <cstdint>

namespace internvl {

// What work costs here, as measured last; 0 before anything was.
struct StepCosts {
    double decode_ms = 0;      // a step in which answers move on
    double token_ms = 0;       // a token of a prompt
    double piece_ms = 0;       // a layer of the vision tower for one tile
    double tile_ms = 0;        // a tile, from pixels to rows
    double answer_tokens = 0;  // of an answer

    // A pass through the decoder took so long.
    void learn_pass(int decode_rows, int64_t prefill_tokens, double ms);
    void learn_tiles(int tiles, double ms);
    void learn_answer(int64_t tokens);
};

// One step of a StepLoop, for those who count.
struct StepReport {
    double ms = 0;
    int decode_rows = 0;         // answers that moved on
    int64_t prefill_tokens = 0;  // of prompts
    int tiles = 0;               // of the batch that the vision tower finished
    double pass_ms = 0;          // of the decoder
    double vision_ms = 0;        // spent on the tower's layers
    double projector_ms = 0;     // and on the projector
};

// A StepLoop at one time. Counters run from its beginning.
struct LoopStatus {
    int running = 0, waiting = 0, preempted = 0;  // sequences; preempted ones wait, too
    int free_seats = 0;                           // for more that would run at once
    double wait_s = 0;  // estimated for one that comes now, until it has its turn
    int64_t blocks_total = 0, blocks_used = 0, blocks_cached = 0;  // of keys and values
    int64_t vision_cache_bytes = 0;
    StepCosts costs;
    std::chrono::steady_clock::time_point last_step = {};  // its end

    int64_t steps = 0, preemptions = 0, generated_tokens = 0;
    int64_t prefill_text_tokens = 0, prefill_image_tokens = 0;  // computed
    int64_t prefix_queried_tokens = 0, prefix_hit_tokens = 0;
    int64_t vision_hits = 0, vision_misses = 0, vision_evictions = 0;  // tiles
};

}  // namespace internvl
