// The permutohedral lattice of N points: which vertices each lies between, with what weights, and who neighbours whom.
//
// Adams, Baek, Davis (2010), "Fast High-Dimensional Filtering Using the Permutohedral Lattice".
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

#include "../memory.hpp"
#include "../parallel.hpp"
#include "kernels.hpp"

namespace upscore::crf {

// Thrown where features lie too far apart for codes of 126 bits.
struct TooFarApart : std::range_error {
    using std::range_error::range_error;
};

class Lattice {
  public:
    // features (d, N), float32, each divided by its sigma. What is no number is refused. `between` is called now and then, and may
    // throw.
    Lattice(const std::vector<const float*>& features, int64_t points, Team& team, const Kernels& kernels, const std::function<void()>& between);

    int64_t points() const { return points_; }
    int corners() const { return corners_; }
    int64_t vertices() const { return vertices_; }
    float scale() const;  // brings splat, blur and slice back to a kernel of about exp(-|Δ|²/2)

    const int32_t* vertex() const { return vertex_.get(); }
    const float* weight() const { return weight_.get(); }
    // (V, 2) neighbours along an axis; V where there is none.
    const int32_t* neighbours(int axis) const { return neighbour_.data() + int64_t{axis} * vertices_ * 2; }

    // out = kernel · values, one column (N,) each; they may be the same.
    void filter(const float* values, float* out, Team& team, const std::function<void()>& between) const;

    // Into how many parts the points are worth cutting: each has sums of its own at the vertices, which cost memory, and more
    // parts than points have vertices to share would not pay.
    int parts_of(const Team& team) const;

  private:
    template <class Code>
    void build(const std::vector<const float*>& features, const std::vector<int>& bits, const std::vector<int64_t>& low, Team& team, const Kernels& kernels,
               const std::function<void()>& between);

    int64_t points_, vertices_ = 0;
    int corners_;
    std::vector<double> spread_;
    Room<int32_t> vertex_;            // (N, d + 1)
    Room<float> weight_;              // (N, d + 1)
    std::vector<int32_t> neighbour_;  // (d + 1, V, 2)
};

}  // namespace upscore::crf
