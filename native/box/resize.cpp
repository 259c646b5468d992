// Rows are blended first, whole and with their channels side by side; then pixels of the blended row, straight into the room they are for.
#include <algorithm>
#include <vector>

#include "maps.hpp"

namespace upscore::box::UPSCORE_INSTRUCTIONS {

namespace {

#ifdef __AVX2__
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

template <int W>
struct Vector {
    typedef float F __attribute__((vector_size(W * 4)));
    typedef float Loose __attribute__((vector_size(W * 4), aligned(4), may_alias));
};
template <>
struct Vector<1> {
    typedef float F;
    typedef float Loose;
};
template <int W>
using F = typename Vector<W>::F;

template <int W>
inline F<W> load(const float* at) {
    return *reinterpret_cast<const typename Vector<W>::Loose*>(at);
}
template <int W>
inline void store(float* at, F<W> x) {
    *reinterpret_cast<typename Vector<W>::Loose*>(at) = x;
}

// The greater, or what is no number, as torch.maximum.
template <int W>
inline F<W> greater(F<W> one, F<W> other) {
    return (one >= other) | (one != one) ? one : other;
}

template <int W, Join JOIN>
inline void put(float* at, F<W> x, bool clip) {
    if (clip) x = greater<W>(x, F<W>{});
    if (JOIN == Join::greatest) x = greater<W>(load<W>(at), x);
    if (JOIN == Join::sum) x = load<W>(at) + x;
    store<W>(at, x);
}

template <int W>
inline F<W> weighed(const float* row, const float* weights, int count, int64_t step) {
    F<W> sum{};
    for (int k = 0; k < count; ++k) sum += weights[k] * load<W>(row + k * step);
    return sum;
}

template <int W>
inline int64_t blend(const float* from, int64_t row, const float* weights, int count, float* to, int64_t begin, int64_t size) {
    for (; begin + W <= size; begin += W) store<W>(to + begin, weighed<W>(from + begin, weights, count, row));
    return begin;
}

// Channels that do not fill the lanes: joined twice where that changes nothing, otherwise one by one.
template <Join JOIN>
inline void pixel_of(const float* pixel, const float* weights, int count, int64_t channels, float* to, bool clip) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) put<LANES, JOIN>(to + c, weighed<LANES>(pixel + c, weights, count, channels), clip);
    if (c == channels) return;
    if (JOIN != Join::sum && channels > LANES) {
        c = channels - LANES;
        put<LANES, JOIN>(to + c, weighed<LANES>(pixel + c, weights, count, channels), clip);
        return;
    }
    for (; c < channels; ++c) put<1, JOIN>(to + c, weighed<1>(pixel + c, weights, count, channels), clip);
}

template <Join JOIN>
void span(const float* row, const Taps& across, const Map& map, float* to, int64_t columns, bool clip) {
    const int64_t channels = map.channels;
    const auto weights = [&](int64_t x) { return across.weights.data() + x * across.most; };
    int64_t x = 0;
    if (JOIN == Join::write && channels == 3)  // four lanes at a time: the fourth is the next pixel's, which is written after it
        for (; x + 1 < columns; ++x)
            put<4, JOIN>(to + x * channels, weighed<4>(row + across.first[x] * channels, weights(x), across.count[x], channels), clip);
    for (; x < columns; ++x)
        pixel_of<JOIN>(row + across.first[x] * channels, weights(x), across.count[x], channels, to + x * channels, clip);
}

void write(const Piece& piece, int64_t y, Join join, bool clip, std::vector<float>& blended) {
    const int64_t size = piece.map.columns * piece.map.channels;
    const float* from = piece.map.data + piece.down.first[y] * piece.map.row;
    const float* weights = piece.down.weights.data() + y * piece.down.most;
    const int64_t done = blend<LANES>(from, piece.map.row, weights, piece.down.count[y], blended.data(), 0, size);
    blend<1>(from, piece.map.row, weights, piece.down.count[y], blended.data(), done, size);
    float* to = piece.room.data + y * piece.room.row;
    if (join == Join::write) span<Join::write>(blended.data(), piece.across, piece.map, to, piece.room.columns, clip);
    if (join == Join::greatest) span<Join::greatest>(blended.data(), piece.across, piece.map, to, piece.room.columns, clip);
    if (join == Join::sum) span<Join::sum>(blended.data(), piece.across, piece.map, to, piece.room.columns, clip);
}

}  // namespace

void resize(const std::vector<Piece>& pieces, int64_t rows, Join join, bool clip, Team& team) {
    int64_t widest = 0;
    for (const Piece& piece : pieces) widest = std::max(widest, piece.map.columns * piece.map.channels);
    // Boxes lie close together: the rows are dealt out in more parts than there are threads.
    constexpr int PARTS = 16;
    team.run(rows, team.size() == 1 ? 1 : PARTS * team.size(), [&](int, int64_t first, int64_t last) {
        std::vector<float> blended(widest + LANES);  // read a little beyond its end
        for (int64_t row = first; row < last; ++row)
            for (const Piece& piece : pieces)
                if (row >= piece.above && row < piece.above + piece.room.rows) write(piece, row - piece.above, join, clip, blended);
    });
}

}  // namespace upscore::box::UPSCORE_INSTRUCTIONS
