#include <algorithm>
#include <cmath>

#include "maps.hpp"

namespace upscore::box {

Taps taps(int64_t from, int64_t to, int64_t begin, int64_t end, int64_t inside, int64_t outside) {
    const double scale = static_cast<double>(from) / static_cast<double>(to), support = std::max(scale, 1.0);
    Taps result;
    result.most = static_cast<int>(std::ceil(support)) * 2 + 1;
    result.weights.assign(static_cast<size_t>(end - begin) * result.most, 0.0f);
    std::vector<double> all(result.most);
    for (int64_t out = begin; out < end; ++out) {
        const double centre = scale * (static_cast<double>(out) + 0.5);
        const auto weight = [&](int64_t pixel) { return std::max(0.0, 1.0 - std::abs(static_cast<double>(pixel) - centre + 0.5) / support); };
        int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
        int64_t last = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), from);
        while (first + 1 < last && weight(first) == 0) ++first;
        while (first + 1 < last && weight(last - 1) == 0) --last;
        const int count = static_cast<int>(std::min<int64_t>(last - first, result.most));
        double sum = 0;
        for (int k = 0; k < count; ++k) sum += all[k] = weight(first + k);
        // What weighs nothing is not read: zero times what is no number is no number.
        const int64_t kept = std::clamp<int64_t>(first, inside, outside), over = std::clamp<int64_t>(first + count, inside, outside);
        result.first.push_back(static_cast<int32_t>(kept - inside));
        result.count.push_back(static_cast<int32_t>(over - kept));
        float* weights = result.weights.data() + static_cast<size_t>(out - begin) * result.most;
        for (int64_t k = 0; k < over - kept; ++k) weights[k] = static_cast<float>(all[kept - first + k] / (sum != 0 ? sum : 1.0));
    }
    return result;
}

}  // namespace upscore::box
