// Where points lie in the lattice: Adams, Baek, Davis (2010), §3.1; Conway, Sloane, "Sphere Packings", chapter 20.
//
// In double precision and without fused multiplication: points on the border of two simplices, as whole pixels
// often are, then fall to the same side as in NumPy, whatever the processor.
#include "kernels.hpp"
#include "vectors.hpp"

namespace upscore::crf::UPSCORE_INSTRUCTIONS {

namespace {

// D is d, or 0 where it is known at run time only.
template <int D>
void locate_block(const float* const* features, int64_t first, int count, int dynamic, const double* spread, Places& places) {
    const int d = D ? D : dynamic;
    const int n = d + 1;
    constexpr double ROUND = 6755399441055744.0;  // 1.5 · 2^52: adding and taking it away rounds to the nearest
    double raised[(D ? D : MOST_DIMENSIONS) + 1][BLOCK];
    float apart[(D ? D : MOST_DIMENSIONS) + 1][BLOCK];
    double total[BLOCK];
    uint32_t excess[BLOCK];  // wraps on its way; the whole sum is small
    for (int p = 0; p < BLOCK; ++p) total[p] = 0, excess[p] = 0;
    for (int j = d; j > 0; --j) {
        float feature[BLOCK];
        if (count == BLOCK)
            for (int p = 0; p < BLOCK; ++p) feature[p] = features[j - 1][first + p];
        else
            for (int p = 0; p < BLOCK; ++p) feature[p] = p < count ? features[j - 1][first + p] : 0.0f;
        for (int p = 0; p < BLOCK; ++p) {
            const double scaled = feature[p] * spread[j - 1];
            raised[j][p] = total[p] - j * scaled;
            total[p] += scaled;
        }
    }
    const double down = 1.0 / n;
    for (int p = 0; p < BLOCK; ++p) raised[0][p] = total[p];
    for (int j = 0; j < n; ++j)
        for (int p = 0; p < BLOCK; ++p) {
            const double here = raised[j][p] * down;
            const double nearest = (here + ROUND) - ROUND;
            apart[j][p] = static_cast<float>(here - nearest);
            places.multiple[j][p] = static_cast<int32_t>(nearest);
            excess[p] += static_cast<uint32_t>(static_cast<int32_t>(nearest));
        }
    using F = Vector<LANES>::F;
    using I = Vector<LANES>::I;
    for (int p = 0; p < BLOCK; p += LANES) {
        F part[(D ? D : MOST_DIMENSIONS) + 1];
        I rank[(D ? D : MOST_DIMENSIONS) + 1];
        for (int j = 0; j < n; ++j) {
            part[j] = load<LANES>(apart[j] + p);
            rank[j] = load<LANES>(reinterpret_cast<const int32_t*>(excess) + p);
        }
        for (int a = 0; a < n; ++a)
            for (int b = a + 1; b < n; ++b) {
                const I behind = part[a] < part[b];  // -1 where it is
                rank[a] -= behind;
                rank[b] += behind + 1;
            }
        // The corner may lie off the plane of zero sum: step back along the coordinates that moved most.
        for (int j = 0; j < n; ++j) {
            const I step = (rank[j] > d) - (rank[j] < 0);
            rank[j] += step * n;
            part[j] -= __builtin_convertvector(step, F);
            store<LANES>(places.multiple[j] + p, load<LANES>(places.multiple[j] + p) + step);
            store<LANES>(places.rank[j] + p, rank[j]);
        }
        // Barycentric: weight r is the coordinate of rank d - r less that of rank d + 1 - r; and 1 around the corner.
        F before = F{};
        for (int r = 0; r < n; ++r) {
            F ranked = F{};
            for (int j = 0; j < n; ++j) ranked += (F)((rank[j] == d - r) & (I)part[j]);
            store<LANES>(places.weight[r] + p, ranked - before);
            before = ranked;
        }
        store<LANES>(places.weight[0] + p, load<LANES>(places.weight[0] + p) + (1.0f - before));
    }
}

}  // namespace

void locate(const float* const* features, int64_t first, int count, int d, const double* spread, Places& places) {
    switch (d) {
        case 2: return locate_block<2>(features, first, count, d, spread, places);
        case 3: return locate_block<3>(features, first, count, d, spread, places);
        case 5: return locate_block<5>(features, first, count, d, spread, places);
        default: return locate_block<0>(features, first, count, d, spread, places);
    }
}

}  // namespace upscore::crf::UPSCORE_INSTRUCTIONS
