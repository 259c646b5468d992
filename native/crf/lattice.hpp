// The permutohedral lattice of N points: the simplex of each point, its barycentric weights, and the neighbours of every vertex.
//
// Adams, Baek, Davis (2010), "Fast High-Dimensional Filtering Using the Permutohedral Lattice".
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

#include "../memory.hpp"
#include "../thread_pool.hpp"
#include "kernels.hpp"

namespace upscore::crf {

// Called regularly during long computations, on the caller's thread; throws to stop them.
using InterruptCallback = std::function<void()>;

// Thrown if the features spread too far for vertex codes of 126 bits.
struct TooFarApart : std::range_error {
    using std::range_error::range_error;
};

class Lattice {
  public:
    // features: d arrays (N,), each divided by its sigma. Throws std::invalid_argument for NaN.
    Lattice(const std::vector<const float*>& features, int64_t points, ThreadPool& workers, const Kernels& kernels,
            const InterruptCallback& check_interrupt);

    int64_t points() const { return points_; }
    int corners() const { return corners_; }
    int64_t vertices() const { return vertices_; }
    float scale() const;  // normalises splat, blur and slice to a kernel of about exp(-|Δ|²/2)

    const int32_t* vertex() const { return vertex_.get(); }
    const float* weight() const { return weight_.get(); }
    // (V, 2) neighbours along an axis; V if a neighbour is missing.
    const int32_t* neighbours(int axis) const { return neighbour_.data() + int64_t{axis} * vertices_ * 2; }

    // out = kernel · values, both (N,); they may be the same array.
    void filter(const float* values, float* out, ThreadPool& workers, const InterruptCallback& check_interrupt) const;

    // Into how many parts to divide the points for splatting. Each part needs a splat buffer of its own, so that more parts than there
    // are points for each vertex would cost more than they save.
    int parts_for(const ThreadPool& workers) const;

  private:
    template <class Code>
    void build(const std::vector<const float*>& features, const std::vector<int>& bits, const std::vector<int64_t>& low, ThreadPool& workers,
               const Kernels& kernels, const InterruptCallback& check_interrupt);

    int64_t points_, vertices_ = 0;
    int corners_;
    std::vector<double> axis_scale_;
    Buffer<int32_t> vertex_;          // (N, d + 1)
    Buffer<float> weight_;            // (N, d + 1)
    std::vector<int32_t> neighbour_;  // (d + 1, V, 2)
};

}  // namespace upscore::crf
