// How long a step of fine-tuning takes, by its parts, on random tokens and grey tiles.
//
//   build/bench/train_bench FOLDER [tokens = 1024] [tiles = 1] [dtype = bf16] [rank = 0: full]
// The tower is frozen and half of the tokens are to be learnt; with a rank, adapters of the
// language model are trained.
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "io/folder.h"
#include "train/forward.h"
#include "train/lora.h"
#include "train/optimizer.h"

namespace internvl {

namespace {

struct Settings {
    std::string folder;
    int64_t tokens = 1024, tiles = 1;
    DType dtype = DType::bf16;
    int64_t rank = 0;
};

// A picture of `tiles` tiles, its places, and text behind it.
Sample make_sample(const Settings& s, int64_t rows_per_tile) {
    Sample sample;
    const int64_t places = s.tiles * rows_per_tile;
    for (int64_t i = 0; i < s.tokens; ++i) {
        sample.ids.push_back(i < places ? 1 : 2 + int(i * 7919 % 5000));
        sample.labels.push_back(2 * i < s.tokens || i < places ? ignored_label : sample.ids.back());
    }
    return sample;
}

void run(const Settings& s) {
    ThreadPool pool(usable_cores());
    Arena arena;
    Context ctx{cpu_kernels(), pool, arena, s.dtype};
    const ModelFolder folder = ModelFolder::open(s.folder);
    Checkpoint checkpoint(folder);
    const ModelConfig config = parse_config(folder.read("config.json").value(), s.folder);
    InternVL model = load_model(ctx, checkpoint, config, {s.dtype, s.dtype});
    if (s.rank > 0) add_adapters(ctx, model, {.language = s.rank});
    Trainables trained(ctx, model, checkpoint, s.rank > 0 ? all_frozen : Frozen{.vision = true});
    AdamW optimizer(trained.all(), {});
    const Sample sample = make_sample(s, model.vision.rows_per_tile());
    const int64_t side = config.vision.image_size;
    const Tensor pixels = make_tensor(DType::f32, {s.tiles, 3, side, side});
    std::memset(pixels.data, 0, size_t(pixels.bytes()));
    const Targets targets({&sample, 1});
    const std::vector<float> weights = target_weights({&sample, 1});
    fmt::print("{} numbers are trained; {} tokens, {} of them learnt, {} tiles\n", trained.count(),
               s.tokens, targets.rows.size(), s.tiles);
    for (int step = 0; step < 3; ++step) {
        Stopwatch clock;
        double at = 0;
        const auto lap = [&] {
            const double now = clock.ms(), took = now - at;
            at = now;
            return took;
        };
        Tape tape(arena);
        ctx.tape = &tape;
        trained.known_to(tape);
        ForwardPass pass(model, 1, trained);
        const View seen = s.tiles > 0 ? View(pixels) : View();
        const Tensor losses = pass.run(ctx, {{&sample, 1}, seen}, targets, weights);
        double loss = 0;
        for (int64_t i = 0; i < losses.size(); ++i)
            loss += double(losses.as<float>()[i]) / double(losses.size());
        const double forward = lap();
        tape.backward(ctx);
        ctx.tape = nullptr;
        const double backward = lap();
        optimizer.step(ctx, trained.all(), 1e-5);
        trained.clear_gradients();
        const double change = lap();
        trained.write_back(ctx);
        fmt::print(
            "loss {:.4f}: forward {:.0f} ms, backward {:.0f} ms, step {:.0f} ms, packing {:.0f} "
            "ms; "
            "{:.1f} tokens/s, activations {} MB\n",
            loss, forward, backward, change, lap(), 1e3 * double(s.tokens) / clock.ms(),
            arena.held_bytes() >> 20);
    }
}

}  // namespace

}  // namespace internvl

int main(int argc, char** argv) {
    using namespace internvl;
    if (argc < 2) {
        fmt::print("train_bench FOLDER [tokens] [tiles] [dtype] [rank]\n");
        return 2;
    }
    Settings s{argv[1]};
    if (argc > 2) s.tokens = std::atoll(argv[2]);
    if (argc > 3) s.tiles = std::atoll(argv[3]);
    if (argc > 4) s.dtype = std::string(argv[4]) == "fp32" ? DType::f32 : DType::bf16;
    if (argc > 5) s.rank = std::atoll(argv[5]);
    run(s);
    return 0;
}
