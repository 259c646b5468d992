#include "lattice.hpp"

#include <algorithm>
#include <cmath>

#include "table.hpp"

namespace upscore::crf {

namespace {

// A vertex is coded as one integer: its remainder in the lowest bits, above it its first d coordinates as multiples of d + 1; the
// last coordinate follows from the others. A step along an axis is an addition.
constexpr int REMAINDER_BITS = 5;
constexpr int MAX_CODE_BITS = 126;

// Points or vertices between two checks for an interrupt.
constexpr int64_t INTERRUPT_INTERVAL = 1 << 20;

// Call work(first, last) for intervals of a part. After each interval of the caller's own part, check for an interrupt.
template <class Work>
void in_intervals(int part, int64_t first, int64_t last, const InterruptCallback& check_interrupt, const Work& work) {
    for (; first < last; first += INTERRUPT_INTERVAL) {
        work(first, std::min(first + INTERRUPT_INTERVAL, last));
        if (part == 0) check_interrupt();
    }
}

}  // namespace

Lattice::Lattice(const std::vector<const float*>& features, int64_t points, ThreadPool& workers, const Kernels& kernels,
                 const InterruptCallback& check_interrupt)
    : points_(points), corners_(static_cast<int>(features.size()) + 1) {
    const int d = corners_ - 1;
    if (d < 1 || d > MAX_DIMENSIONS) throw std::invalid_argument("expected 1 to 16 features");
    if (points < 1) throw std::invalid_argument("expected at least one point");
    for (int i = 0; i < d; ++i) axis_scale_.push_back(std::sqrt(2.0 / 3.0) * (d + 1) / std::sqrt((i + 1.0) * (i + 2.0)));
    // Bounds of the features give bounds of the lattice coordinates.
    std::vector<double> minimum(d), maximum(d);
    workers.run(d, std::min(workers.size(), d), [&](int, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
            float low = features[i][0], high = low;
            int unordered = 0;
            for (int64_t p = 0; p < points; ++p) {
                low = std::min(low, features[i][p]);
                high = std::max(high, features[i][p]);
                unordered |= features[i][p] != features[i][p];
            }
            if (unordered) throw std::invalid_argument("found a feature that is not a number, expected finite features");
            minimum[i] = low * axis_scale_[i], maximum[i] = high * axis_scale_[i];
        }
    });
    std::vector<int> bits(d);
    std::vector<int64_t> low(d);
    int total = REMAINDER_BITS;
    for (int j = 0; j <= d; ++j) {
        double lower = j > 0 ? -j * maximum[j - 1] : 0, upper = j > 0 ? -j * minimum[j - 1] : 0;
        for (int i = j; i < d; ++i) lower += minimum[i], upper += maximum[i];
        lower = std::floor(lower / (d + 1)) - 4, upper = std::ceil(upper / (d + 1)) + 4;
        // The last coordinate needs no bits in the code, as it follows from the others, but is stored in 32 bits as they are.
        if (!(lower > -1e9 && upper < 1e9)) throw TooFarApart("features lie too far apart");
        if (j == d) break;
        low[j] = static_cast<int64_t>(lower);
        bits[j] = 1;
        while (static_cast<double>(int64_t{1} << bits[j]) < upper - lower + 1) ++bits[j];
        total += bits[j];
    }
    if (total > MAX_CODE_BITS) throw TooFarApart("features lie too far apart");
    if (total <= 64)
        build<uint64_t>(features, bits, low, workers, kernels, check_interrupt);
    else
        build<unsigned __int128>(features, bits, low, workers, kernels, check_interrupt);
}

template <class Code>
void Lattice::build(const std::vector<const float*>& features, const std::vector<int>& bits, const std::vector<int64_t>& low, ThreadPool& workers,
                    const Kernels& kernels, const InterruptCallback& check_interrupt) {
    const int n = corners_, d = n - 1;
    require_memory(static_cast<double>(points_) * n * (sizeof(int32_t) + sizeof(float)));
    vertex_ = allocate<int32_t>(points_ * n);
    weight_ = allocate<float>(points_ * n);
    Code unit[MAX_DIMENSIONS + 1];
    for (int j = 0, shift = REMAINDER_BITS; j < d; shift += bits[j++]) unit[j] = Code{1} << shift;
    unit[d] = 0;

    // Each part numbers the vertices of its points in a table of its own.
    const int parts = static_cast<int>(std::clamp<int64_t>(points_ / 4096, 1, workers.size()));
    std::vector<Table<Code>> tables;
    for (int part = 0; part < parts; ++part) tables.emplace_back(points_ / 8 / parts);
    workers.run(points_, parts, [&](int part, int64_t first, int64_t last) {
        Table<Code>& table = tables[part];
        Simplices simplices;
        Code last_code[MAX_DIMENSIONS + 1];
        int32_t last_vertex[MAX_DIMENSIONS + 1];
        for (int r = 0; r < n; ++r) last_code[r] = ~Code{0}, last_vertex[r] = -1;
        for (int64_t begin = first; begin < last; begin += BLOCK) {
            if (part == 0 && (begin - first) % INTERRUPT_INTERVAL == 0) check_interrupt();
            const int count = static_cast<int>(std::min<int64_t>(BLOCK, last - begin));
            kernels.locate(features.data(), begin, count, d, axis_scale_.data(), simplices);
            for (int p = 0; p < count; ++p) {
                Code code = 0;
                int coordinate_of_rank[MAX_DIMENSIONS + 1];
                for (int j = 0; j < n; ++j) coordinate_of_rank[simplices.rank[j][p]] = j;
                for (int j = 0; j < d; ++j) code += static_cast<Code>(static_cast<uint64_t>(simplices.multiple[j][p] - low[j])) * unit[j];
                int32_t* vertex = vertex_.get() + (begin + p) * n;
                float* weight = weight_.get() + (begin + p) * n;
                for (int r = 0; r < n; ++r) {
                    if (code != last_code[r]) {
                        // Adjacent pixels often share vertices.
                        last_code[r] = code;
                        last_vertex[r] = table.insert(code);
                    }
                    vertex[r] = last_vertex[r];
                    weight[r] = simplices.weight[r][p];
                    // The corner of remainder r + 1: every coordinate plus 1, but the coordinate of rank d - r minus d.
                    code += 1;
                    code -= unit[coordinate_of_rank[d - r]];
                }
            }
        }
    });

    // Merge the tables into one numbering, in the order of the parts.
    Table<Code>& merged = tables[0];
    for (int part = 1; part < parts; ++part) {
        std::vector<int32_t> number(tables[part].size());
        for (size_t v = 0; v < number.size(); ++v) number[v] = merged.insert(tables[part].codes()[v]);
        check_interrupt();
        const int64_t first = points_ * part / parts * n, last = points_ * (part + 1) / parts * n;
        for (int64_t k = first; k < last; ++k) vertex_[k] = number[vertex_[k]];
        tables[part] = Table<Code>(0);
    }
    vertices_ = merged.size();
    require_memory(static_cast<double>(vertices_) * n * 2 * sizeof(int32_t));
    neighbour_.assign(vertices_ * n * 2, static_cast<int32_t>(vertices_));
    workers.run(n, std::min(workers.size(), n), [&](int part, int64_t first, int64_t last) {
        for (int64_t axis = first; axis < last; ++axis) {
            int32_t* to = neighbour_.data() + axis * vertices_ * 2;
            for (int64_t v = 0; v < vertices_; ++v) {
                if (part == 0 && v % INTERRUPT_INTERVAL == 0) check_interrupt();
                // Every coordinate plus 1, but the axis' own minus d; remainder d + 1 is remainder 0 one corner further.
                Code next = merged.codes()[v] + 1 - unit[axis];
                if (static_cast<int>(merged.codes()[v] & ((1 << REMAINDER_BITS) - 1)) == d) {
                    next -= static_cast<Code>(n);
                    for (int j = 0; j < d; ++j) next += unit[j];
                }
                const int32_t found = merged.find(next);
                if (found >= 0) {
                    to[v * 2] = found;
                    to[int64_t{found} * 2 + 1] = static_cast<int32_t>(v);
                }
            }
        }
    });
}

float Lattice::scale() const { return static_cast<float>(1.0 / (1.0 + std::pow(2.0, -(corners_ - 1)))); }

void Lattice::filter(const float* values, float* out, ThreadPool& workers, const InterruptCallback& check_interrupt) const {
    const int n = corners_, parts = parts_for(workers);
    require_memory((parts + 1.0) * static_cast<double>(vertices_ + 1) * sizeof(float));
    std::vector<std::vector<float>> sums(parts);
    workers.run(points_, parts, [&](int part, int64_t first, int64_t last) {
        std::vector<float>& vertex_values = sums[part];
        vertex_values.assign(vertices_ + 1, 0.0f);
        in_intervals(part, first, last, check_interrupt, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i)
                for (int c = 0; c < n; ++c) vertex_values[vertex_[i * n + c]] += weight_[i * n + c] * values[i];
        });
    });
    std::vector<float>& vertex_values = sums[0];
    for (int part = 1; part < parts; ++part)
        for (int64_t v = 0; v < vertices_; ++v) vertex_values[v] += sums[part][v];
    std::vector<float> next(vertices_ + 1, 0.0f);
    for (int axis = 0; axis < n; ++axis) {
        const int32_t* neighbour = neighbours(axis);
        for (int64_t v = 0; v < vertices_; ++v) next[v] = vertex_values[v] + 0.5f * (vertex_values[neighbour[v * 2]] + vertex_values[neighbour[v * 2 + 1]]);
        std::swap(vertex_values, next);
        check_interrupt();
    }
    workers.run(points_, parts, [&](int part, int64_t first, int64_t last) {
        in_intervals(part, first, last, check_interrupt, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                float sum = 0;
                for (int c = 0; c < n; ++c) sum += weight_[i * n + c] * vertex_values[vertex_[i * n + c]];
                out[i] = sum * scale();
            }
        });
    });
}

int Lattice::parts_for(const ThreadPool& workers) const {
    const int64_t limit = std::max<int64_t>(2, points_ / vertices_);
    return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({workers.size(), limit, (points_ + 1023) / 1024})));
}

}  // namespace upscore::crf
