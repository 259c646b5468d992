#include <algorithm>
#include <cmath>

#include "resize.hpp"

namespace upscore::box {

AxisWeights axis_weights(int64_t from, int64_t to, int64_t begin, int64_t end, int64_t low, int64_t high) {
    const double scale = static_cast<double>(from) / static_cast<double>(to), support = std::max(scale, 1.0);
    AxisWeights result;
    result.max_count = static_cast<int>(std::ceil(support)) * 2 + 1;
    result.weights.assign(static_cast<size_t>(end - begin) * result.max_count, 0.0f);
    std::vector<double> unnormalised(result.max_count);
    for (int64_t out = begin; out < end; ++out) {
        const double centre = scale * (static_cast<double>(out) + 0.5);
        const auto weight = [&](int64_t pixel) { return std::max(0.0, 1.0 - std::abs(static_cast<double>(pixel) - centre + 0.5) / support); };
        int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
        int64_t last = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), from);
        while (first + 1 < last && weight(first) == 0) ++first;
        while (first + 1 < last && weight(last - 1) == 0) --last;
        const int count = static_cast<int>(std::min<int64_t>(last - first, result.max_count));
        double sum = 0;
        for (int k = 0; k < count; ++k) sum += unnormalised[k] = weight(first + k);
        // Inputs of weight zero are not read: 0 · NaN is NaN.
        const int64_t used = std::clamp<int64_t>(first, low, high), used_end = std::clamp<int64_t>(first + count, low, high);
        result.first.push_back(static_cast<int32_t>(used - low));
        result.count.push_back(static_cast<int32_t>(used_end - used));
        float* weights = result.weights.data() + static_cast<size_t>(out - begin) * result.max_count;
        for (int64_t k = 0; k < used_end - used; ++k) weights[k] = static_cast<float>(unnormalised[used - first + k] / (sum != 0 ? sum : 1.0));
    }
    return result;
}

}  // namespace upscore::box
