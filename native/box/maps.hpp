// Maps of scores and pictures whose pixels hold their channels side by side, and the resizing between a box and a square.
#pragma once

#include <cstdint>
#include <vector>

#include "../parallel.hpp"

namespace upscore::box {

// Of what is resized, and of what it is resized to: weights of an axis are at most some times as many, and count in 32 bits.
constexpr int64_t MOST_SIDE = int64_t{1} << 20;

// What of a resized axis is wanted, and from where: output pixel i is the sum of weights[i * most + k] · input[first[i] + k], k < count[i].
struct Taps {
    std::vector<int32_t> first, count;
    std::vector<float> weights;
    int most = 0;
};

// Triangle filter with its support scaled where pixels get fewer (antialiasing), as torch has it: of `from` pixels to `to`, those outputs in
// [begin, end), and of their inputs those in [inside, outside), which are counted from `inside`; the others are zero.
Taps taps(int64_t from, int64_t to, int64_t begin, int64_t end, int64_t inside, int64_t outside);

enum class Join { write, greatest, sum };

struct Map {
    const float* data;  // rows × columns × channels
    int64_t row;        // floats from one row to the next
    int64_t columns, channels;
};

struct Room {
    float* data;
    int64_t row;
    int64_t rows, columns;
};

// A map resized to a room, which begins `above` rows below the top of what all rooms lie in.
struct Piece {
    Map map;
    Taps down, across;
    Room room;
    int64_t above;
};

// Write the pieces to what has `rows` rows: row by row, all that lie there in their order, so that each row is fetched once.
namespace portable {
void resize(const std::vector<Piece>& pieces, int64_t rows, Join join, bool clip, Team& team);
}
#ifdef UPSCORE_AVX2
namespace avx2 {
void resize(const std::vector<Piece>& pieces, int64_t rows, Join join, bool clip, Team& team);
}
#endif

}  // namespace upscore::box
