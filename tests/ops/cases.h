#pragma once
// The one list of cases: every kernel, dtype and shape that matters. ops_test compares each with a
// naive computation in double precision, for every instruction set; ops_bench times the same list.

#include <functional>
#include <string>
#include <vector>

#include "ops/kernels.h"

namespace internvl {

// A case with its inputs made.
struct Prepared {
    std::function<void(const Kernels&, ThreadPool&)> run;
    std::function<double()> error;  // worst |got - exact| / (1 + |exact|)
    double flop = 0, bytes = 0;     // of one run, for rates
};

struct OpCase {
    std::string name;
    DType dtype;  // of activations
    double tolerance;
    std::function<Prepared()> prepare;
    bool large = false;  // a size of the real model: timed, and compared on a sample of rows
};

std::vector<OpCase> op_cases();

// A property of the type alone: how far a result may lie from the exact one when sums run over
// `inner` terms of size 1.
double tolerance_of(DType activations, int64_t inner);

// Random numbers around 0 with deviation 1, the same for the same seed.
Tensor random_tensor(DType dtype, std::initializer_list<int64_t> shape, uint64_t seed,
                     float scale = 1);
double element(const View& v, int64_t index);  // of a contiguous view

// Rows as int8 or int4 codes give them back, by the rules of kernels.h written down once more: each
// run of `group` values (0: the whole row) has its own scale, int4 a zero too.
Tensor as_int8(const View& rows, int64_t group);
Tensor as_int4(const View& rows, int64_t group);
// What a product does before it multiplies: rows to codes, where the weights want them.
struct RowCodes {
    Tensor codes, scale, sum;
    RowCodes(const GemmArgs&);
    void make(const Kernels&, ThreadPool&, GemmArgs&);  // and puts them into the call
    View x;
    int64_t group;
};

}  // namespace internvl
