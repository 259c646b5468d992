// Mean-field inference over lattices. Slice, softmax and splat are fused into one pass over the pixels, so that the marginals stay in
// the cache:
//
//     step 0      softmax, splat                    unary ──► splat buffers
//     blur        every lattice, along every axis   splat buffers ──► blurred buffers
//     step 1 …    slice, softmax, splat             unary, blurred buffers ──► splat buffers
//     last step   slice, softmax, write             unary, blurred buffers ──► out
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"
#include "lattice.hpp"

namespace upscore::crf {

// One pairwise kernel.
struct Pairwise {
    const Lattice* lattice;
    const float* before;  // (N,) normalisation factors applied before the filter, or null
    const float* after;   // (N,) and after it, or null
    const float* cost;    // compatibility: (K,), or (K, K) if `matrix`
    bool matrix;
};

struct Problem {
    int64_t points;
    int labels;
    Strided<const float> unary;
    Kind kind;
    std::vector<Pairwise> pairwise;
    bool self_message;
    Strided<const float> initial;  // marginals to start from; if unset, the softmax of the unary. May be `out`.
    Strided<float> out;
};

// Run `steps` mean-field steps and write the marginals to `out`. `check_interrupt` is called regularly and may throw.
void mean_field(const Problem& problem, int steps, ThreadPool& workers, const Kernels& kernels, const InterruptCallback& check_interrupt);

}  // namespace upscore::crf
