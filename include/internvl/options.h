#pragma once
// Plain settings, shared by the library's face, the command line and the engine. Defaults are those
// of the command line.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace internvl {

// How an answer is made (spec 6.4). Greedy unless do_sample; the sampling fields then have the
// reference's defaults.
struct GenerateOptions {
    int max_new_tokens = 1024;
    int min_new_tokens = 0;
    int min_length = 0;  // as the reference counts: the start token is one
    bool do_sample = false;
    float temperature = 1.0f;     // > 0
    int top_k = 50;               // 0 = off
    float top_p = 1.0f;           // in (0, 1]
    float min_p = 0.0f;           // in [0, 1], 0 = off
    float typical_p = 1.0f;       // in (0, 1], 1 = off
    float epsilon_cutoff = 0.0f;  // in [0, 1), 0 = off
    float eta_cutoff = 0.0f;      // in [0, 1), 0 = off
    bool renormalize_logits = false;
    float repetition_penalty = 1.0f;  // > 0; sees the answer, never the prompt
    bool penalise_start = true;       // ... and the start token, as the reference does
    float presence_penalty = 0.0f;    // -2 to 2: once for each token of the answer
    float frequency_penalty = 0.0f;   // -2 to 2: each time that it stands there
    std::vector<std::pair<int, float>> logit_bias;  // added to the scores of ids
    int no_repeat_ngram_size = 0;                   // 0 = off
    std::vector<int> suppress_tokens;               // never chosen
    std::vector<int> begin_suppress_tokens;         // not as the first token
    int num_beams = 1;                              // above 1: beam search, without sampling
    float length_penalty = 1.0f;                    // beams: score / length^penalty
    bool early_stopping = false;      // beams: end as soon as num_beams answers are complete
    uint64_t seed = 0;                // the same seed gives the same answer on the same machine
    int choice = 0;                   // which of several answers with the same seed
    std::vector<std::string> stop;    // the answer ends before the first of these
    bool include_stop = false;        // ... or behind it
    std::vector<int> stop_token_ids;  // the answer ends with one of these, too
    bool skip_special_tokens = true;  // false: the tags of grounding stay in the text
    bool ignore_eos = false;          // go on past the end token
    bool ban_eos = false;             // never choose it
};

// How a picture becomes tiles (spec 1.2, 1.3).
struct ImageOptions {
    int min_num = 1;
    int max_num = 12;
    bool thumbnail = true;
    bool tiling = true;        // off: one tile, the whole picture
    bool exif_rotate = false;  // the reference never does
    bool pillow_12 =
        false;  // resize tall pictures as Pillow up to 12 did, not as 13 (docs/image_parity.md)
};

// Which frames of a clip are looked at, and how each becomes tiles (spec 2.1).
struct VideoOptions {
    int num_segments = 8;                                 // frames
    std::optional<std::pair<double, double>> bound = {};  // seconds: start and end
    ImageOptions image = {.max_num = 1};
};

struct LoadOptions {
    int threads = 0;             // 0 = the cores this process may use
    std::string dtype = "auto";  // auto, bf16, fp16, fp32
    std::string quant = "none";  // none, int8, int4: made while the model is loaded
    // With int8: LLM.int8 as the original's load_in_8bit computes it, for all products but "head"
    // or (its code of 2024) "mlp1.3". Empty: our own int8 (docs/numerics.md).
    std::string llm_int8_skip = {};
    float llm_int8_threshold = 6;
    // For one part instead: none or int8; the language model also int4. Empty: as `quant` says.
    std::string quant_vision = {}, quant_projector = {}, quant_language = {}, quant_head = {};
    std::string kv_cache = "auto";  // keys and values: auto = as computed, int8 = half the memory
    // What is kept so that nothing is computed twice; it does not change a bit of any answer.
    // Rows of the pictures looked at last: up to so many MiB, 0 = none. A tile takes 0.4 (1B) to 4
    // (76B).
    int vision_cache_mb = 256;
    std::string vision_cache_folder = {};  // these rows on the disk, too, for other runs; "" = not
    // Keys and values of the last conversations: up to so many MiB, 0 = none. Absent: as much as a
    // conversation of 8192 tokens needs, which is what the family was trained with, but at least
    // 256; at most half of the free memory.
    std::optional<int> prefix_cache_mb = {};
    // Packed weights on the disk, for other runs, which then start in 0.2 s; as large as the model.
    // "" = not. Like the others, it does not change a bit of any answer.
    std::string weight_cache_folder = {};
    // Hears while weights are packed how far that is, 0 to 1, on the thread that loads.
    std::function<void(double)> on_load = {};
};

}  // namespace internvl
