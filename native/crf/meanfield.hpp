// Mean field over lattices. A pixel hears, decides and speaks in one pass, so that beliefs never leave the cache:
//
//     step 0      decide, speak                     scores ──► grids
//     blur        every grid, along every axis
//     step 1 …    hear, decide, speak               scores, grids ──► grids
//     last step   hear, decide, write               scores, grids ──► out
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels.hpp"
#include "lattice.hpp"

namespace upscore::crf {

struct Message {
    const Lattice* lattice;
    const float* before;  // (N,) or null
    const float* after;   // (N,) or null
    const float* cost;    // (K,), or (K, K) where it is a matrix
    bool matrix;
};

struct Problem {
    int64_t points;
    int labels;
    Strided<const float> scores;
    Kind kind;
    std::vector<Message> messages;
    bool self_message;
    Strided<const float> belief;  // where to go on from; unset: from the scores. May be `out`.
    Strided<float> out;
};

// Take `steps` steps and write what is believed. `between` is called now and then, and may throw.
void mean_field(const Problem& problem, int steps, Team& team, const Kernels& kernels, const std::function<void()>& between);

}  // namespace upscore::crf
