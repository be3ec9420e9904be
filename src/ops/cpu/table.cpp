#include "ops/cpu/target.h"

namespace internvl {

Kernels cpu_kernels_for(Isa isa) {
    Kernels table{};
    table.isa = isa;
    table.native_bf16 = isa == Isa::avx512_bf16;
    fill_gemm(table, isa);
    fill_cache_store(table, isa);
    fill_attention(table, isa);
    fill_norm(table, isa);
    fill_pointwise(table, isa);
    fill_pack(table, isa);
    fill_quantize(table, isa);
    fill_finish_rows(table, isa);
    fill_attention_backward(table, isa);
    fill_loss(table, isa);
    fill_optimizer(table, isa);
    fill_transpose(table);
    return table;
}

const Kernels& cpu_kernels() {
    static const Kernels table = cpu_kernels_for(selected_isa());
    return table;
}

}  // namespace internvl
