#include "lattice.hpp"

#include <algorithm>
#include <cmath>

#include "table.hpp"

namespace upscore::crf {

namespace {

// A vertex in one number: its remainder in the lowest bits, above it the multiples of d + 1 of its first d coordinates, which
// decide the last. A step along an axis is an addition.
constexpr int REMAINDER_BITS = 5;
constexpr int MOST_BITS = 126;

// Points that are gone through before a caller who wants to stop is heard.
constexpr int64_t STRETCH = 1 << 20;

// Call work(first, last) for stretches of a part, and `between` after each of the caller's own.
template <class Work>
void in_stretches(int part, int64_t first, int64_t last, const std::function<void()>& between, const Work& work) {
    for (; first < last; first += STRETCH) {
        work(first, std::min(first + STRETCH, last));
        if (part == 0) between();
    }
}

}  // namespace

Lattice::Lattice(const std::vector<const float*>& features, int64_t points, Team& team, const Kernels& kernels, const std::function<void()>& between)
    : points_(points), corners_(static_cast<int>(features.size()) + 1) {
    const int d = corners_ - 1;
    if (d < 1 || d > MOST_DIMENSIONS) throw std::invalid_argument("expected 1 to 16 features");
    if (points < 1) throw std::invalid_argument("expected at least one point");
    for (int i = 0; i < d; ++i) spread_.push_back(std::sqrt(2.0 / 3.0) * (d + 1) / std::sqrt((i + 1.0) * (i + 2.0)));
    // The bounds of the features bound the coordinates.
    std::vector<double> least(d), most(d);
    team.run(d, std::min(team.size(), d), [&](int, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
            float low = features[i][0], high = low;
            int unordered = 0;
            for (int64_t p = 0; p < points; ++p) {
                low = std::min(low, features[i][p]);
                high = std::max(high, features[i][p]);
                unordered |= features[i][p] != features[i][p];
            }
            if (unordered) throw std::invalid_argument("found a feature that is not a number, expected finite features");
            least[i] = low * spread_[i], most[i] = high * spread_[i];
        }
    });
    std::vector<int> bits(d);
    std::vector<int64_t> low(d);
    int total = REMAINDER_BITS;
    for (int j = 0; j <= d; ++j) {
        double lower = j > 0 ? -j * most[j - 1] : 0, upper = j > 0 ? -j * least[j - 1] : 0;
        for (int i = j; i < d; ++i) lower += least[i], upper += most[i];
        lower = std::floor(lower / (d + 1)) - 4, upper = std::ceil(upper / (d + 1)) + 4;
        // The last coordinate needs no bits, as the others decide it; but it is counted in 32 bits like them.
        if (!(lower > -1e9 && upper < 1e9)) throw TooFarApart("features lie too far apart");
        if (j == d) break;
        low[j] = static_cast<int64_t>(lower);
        bits[j] = 1;
        while (static_cast<double>(int64_t{1} << bits[j]) < upper - lower + 1) ++bits[j];
        total += bits[j];
    }
    if (total > MOST_BITS) throw TooFarApart("features lie too far apart");
    if (total <= 64)
        build<uint64_t>(features, bits, low, team, kernels, between);
    else
        build<unsigned __int128>(features, bits, low, team, kernels, between);
}

template <class Code>
void Lattice::build(const std::vector<const float*>& features, const std::vector<int>& bits, const std::vector<int64_t>& low, Team& team, const Kernels& kernels,
                    const std::function<void()>& between) {
    const int n = corners_, d = n - 1;
    require_memory(static_cast<double>(points_) * n * (sizeof(int32_t) + sizeof(float)));
    vertex_ = room<int32_t>(points_ * n);
    weight_ = room<float>(points_ * n);
    Code unit[MOST_DIMENSIONS + 1];
    for (int j = 0, shift = REMAINDER_BITS; j < d; shift += bits[j++]) unit[j] = Code{1} << shift;
    unit[d] = 0;

    // Each part numbers the vertices that its points lie between, in a table of its own.
    const int parts = static_cast<int>(std::clamp<int64_t>(points_ / 4096, 1, team.size()));
    std::vector<Table<Code>> tables;
    for (int part = 0; part < parts; ++part) tables.emplace_back(points_ / 8 / parts);
    team.run(points_, parts, [&](int part, int64_t first, int64_t last) {
        Table<Code>& table = tables[part];
        Places places;
        Code before[MOST_DIMENSIONS + 1];
        int32_t known[MOST_DIMENSIONS + 1];
        for (int r = 0; r < n; ++r) before[r] = ~Code{0}, known[r] = -1;
        for (int64_t begin = first; begin < last; begin += BLOCK) {
            if (part == 0 && (begin - first) % STRETCH == 0) between();
            const int count = static_cast<int>(std::min<int64_t>(BLOCK, last - begin));
            kernels.locate(features.data(), begin, count, d, spread_.data(), places);
            for (int p = 0; p < count; ++p) {
                Code code = 0;
                int holder[MOST_DIMENSIONS + 1];
                for (int j = 0; j < n; ++j) holder[places.rank[j][p]] = j;
                for (int j = 0; j < d; ++j) code += static_cast<Code>(static_cast<uint64_t>(places.multiple[j][p] - low[j])) * unit[j];
                int32_t* vertex = vertex_.get() + (begin + p) * n;
                float* weight = weight_.get() + (begin + p) * n;
                for (int r = 0; r < n; ++r) {
                    if (code != before[r]) {
                        // Neighbouring pixels often share vertices.
                        before[r] = code;
                        known[r] = table.insert(code);
                    }
                    vertex[r] = known[r];
                    weight[r] = places.weight[r][p];
                    // To remainder r + 1: every coordinate one more, but that of rank d - r, which drops by d.
                    code += 1;
                    code -= unit[holder[d - r]];
                }
            }
        }
    });

    // One numbering for all, in the order of the parts.
    Table<Code>& all = tables[0];
    for (int part = 1; part < parts; ++part) {
        std::vector<int32_t> number(tables[part].size());
        for (size_t v = 0; v < number.size(); ++v) number[v] = all.insert(tables[part].codes()[v]);
        between();
        const int64_t first = points_ * part / parts * n, last = points_ * (part + 1) / parts * n;
        for (int64_t k = first; k < last; ++k) vertex_[k] = number[vertex_[k]];
        tables[part] = Table<Code>(0);
    }
    vertices_ = all.size();
    require_memory(static_cast<double>(vertices_) * n * 2 * sizeof(int32_t));
    neighbour_.assign(vertices_ * n * 2, static_cast<int32_t>(vertices_));
    team.run(n, std::min(team.size(), n), [&](int part, int64_t first, int64_t last) {
        for (int64_t axis = first; axis < last; ++axis) {
            int32_t* to = neighbour_.data() + axis * vertices_ * 2;
            for (int64_t v = 0; v < vertices_; ++v) {
                if (part == 0 && v % STRETCH == 0) between();
                // Every coordinate one more, but the axis', which drops by d; remainder d becomes 0 of the next corner.
                Code next = all.codes()[v] + 1 - unit[axis];
                if (static_cast<int>(all.codes()[v] & ((1 << REMAINDER_BITS) - 1)) == d) {
                    next -= static_cast<Code>(n);
                    for (int j = 0; j < d; ++j) next += unit[j];
                }
                const int32_t found = all.find(next);
                if (found >= 0) {
                    to[v * 2] = found;
                    to[int64_t{found} * 2 + 1] = static_cast<int32_t>(v);
                }
            }
        }
    });
}

float Lattice::scale() const { return static_cast<float>(1.0 / (1.0 + std::pow(2.0, -(corners_ - 1)))); }

void Lattice::filter(const float* values, float* out, Team& team, const std::function<void()>& between) const {
    const int n = corners_, parts = parts_of(team);
    require_memory((parts + 1.0) * static_cast<double>(vertices_ + 1) * sizeof(float));
    std::vector<std::vector<float>> sums(parts);
    team.run(points_, parts, [&](int part, int64_t first, int64_t last) {
        std::vector<float>& at = sums[part];
        at.assign(vertices_ + 1, 0.0f);
        in_stretches(part, first, last, between, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i)
                for (int c = 0; c < n; ++c) at[vertex_[i * n + c]] += weight_[i * n + c] * values[i];
        });
    });
    std::vector<float>& at = sums[0];
    for (int part = 1; part < parts; ++part)
        for (int64_t v = 0; v < vertices_; ++v) at[v] += sums[part][v];
    std::vector<float> next(vertices_ + 1, 0.0f);
    for (int axis = 0; axis < n; ++axis) {
        const int32_t* neighbour = neighbours(axis);
        for (int64_t v = 0; v < vertices_; ++v) next[v] = at[v] + 0.5f * (at[neighbour[v * 2]] + at[neighbour[v * 2 + 1]]);
        std::swap(at, next);
        between();
    }
    team.run(points_, parts, [&](int part, int64_t first, int64_t last) {
        in_stretches(part, first, last, between, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                float sum = 0;
                for (int c = 0; c < n; ++c) sum += weight_[i * n + c] * at[vertex_[i * n + c]];
                out[i] = sum * scale();
            }
        });
    });
}

int Lattice::parts_of(const Team& team) const {
    const int64_t most = std::max<int64_t>(2, points_ / vertices_);
    return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({team.size(), most, (points_ + 1023) / 1024})));
}

}  // namespace upscore::crf
