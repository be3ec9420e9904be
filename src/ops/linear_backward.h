#pragma once
// What linear.cpp records on a tape.

#include "ops/linear.h"

namespace internvl {

// The product with its epilogue, nothing recorded; adapters are left out.
void product_into(Context&, const View& x, const Linear&, const View& out, const Epilogue&);

// Gradients of product_into, added: of x, weights, biases, scale and residual, as far as the tape
// knows them. Before an activation or a trained scale the sums are computed again.
void linear_backward(Context&, const View& x, const Linear&, const View& out, const Epilogue&);

// Gradients of out = residual + scale * activation(z): of z [rows, columns], scale and residual.
void finish_backward(Context&, const View& z, const View& out, const Epilogue&);

}  // namespace internvl
