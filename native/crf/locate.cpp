// Locate the enclosing simplex of each point: Adams, Baek, Davis (2010), §3.1; Conway, Sloane, "Sphere Packings", chapter 20.
//
// In double precision and without fused multiply-add: points on the border of two simplices, which integer pixel positions often are,
// then fall into the same simplex as in NumPy, on every CPU.
#include "kernels.hpp"
#include "vectors.hpp"

namespace upscore::crf::UPSCORE_INSTRUCTIONS {

namespace {

// D is the number of features, or 0 if it is known only at run time.
template <int D>
void locate_block(const float* const* features, int64_t first, int count, int dynamic, const double* axis_scale, Simplices& simplices) {
    const int d = D ? D : dynamic;
    const int n = d + 1;
    constexpr double ROUND = 6755399441055744.0;  // 1.5 · 2^52: adding and subtracting it rounds to the nearest integer
    double elevated[(D ? D : MAX_DIMENSIONS) + 1][BLOCK];
    float residuals[(D ? D : MAX_DIMENSIONS) + 1][BLOCK];
    double total[BLOCK];
    uint32_t excess[BLOCK];  // intermediate sums may wrap around; the total is small
    for (int p = 0; p < BLOCK; ++p) total[p] = 0, excess[p] = 0;
    for (int j = d; j > 0; --j) {
        float feature[BLOCK];
        if (count == BLOCK)
            for (int p = 0; p < BLOCK; ++p) feature[p] = features[j - 1][first + p];
        else
            for (int p = 0; p < BLOCK; ++p) feature[p] = p < count ? features[j - 1][first + p] : 0.0f;
        for (int p = 0; p < BLOCK; ++p) {
            const double scaled = feature[p] * axis_scale[j - 1];
            elevated[j][p] = total[p] - j * scaled;
            total[p] += scaled;
        }
    }
    const double inverse = 1.0 / n;
    for (int p = 0; p < BLOCK; ++p) elevated[0][p] = total[p];
    for (int j = 0; j < n; ++j)
        for (int p = 0; p < BLOCK; ++p) {
            const double coordinate = elevated[j][p] * inverse;
            const double nearest = (coordinate + ROUND) - ROUND;
            residuals[j][p] = static_cast<float>(coordinate - nearest);
            simplices.multiple[j][p] = static_cast<int32_t>(nearest);
            excess[p] += static_cast<uint32_t>(static_cast<int32_t>(nearest));
        }
    using F = Vector<LANES>::F;
    using I = Vector<LANES>::I;
    for (int p = 0; p < BLOCK; p += LANES) {
        F residual[(D ? D : MAX_DIMENSIONS) + 1];
        I rank[(D ? D : MAX_DIMENSIONS) + 1];
        for (int j = 0; j < n; ++j) {
            residual[j] = load<LANES>(residuals[j] + p);
            rank[j] = load<LANES>(reinterpret_cast<const int32_t*>(excess) + p);
        }
        for (int a = 0; a < n; ++a)
            for (int b = a + 1; b < n; ++b) {
                const I behind = residual[a] < residual[b];  // -1 in lanes where it is
                rank[a] -= behind;
                rank[b] += behind + 1;
            }
        // The rounded point may lie off the plane of zero sum: step back along the coordinates that were rounded most.
        for (int j = 0; j < n; ++j) {
            const I correction = (rank[j] > d) - (rank[j] < 0);
            rank[j] += correction * n;
            residual[j] -= __builtin_convertvector(correction, F);
            store<LANES>(simplices.multiple[j] + p, load<LANES>(simplices.multiple[j] + p) + correction);
            store<LANES>(simplices.rank[j] + p, rank[j]);
        }
        // Barycentric weight r is the residual of rank d - r minus that of rank d + 1 - r; weight 0 wraps around and gets 1 more.
        F previous = F{};
        for (int r = 0; r < n; ++r) {
            F ranked = F{};
            for (int j = 0; j < n; ++j) ranked += (F)((rank[j] == d - r) & (I)residual[j]);
            store<LANES>(simplices.weight[r] + p, ranked - previous);
            previous = ranked;
        }
        store<LANES>(simplices.weight[0] + p, load<LANES>(simplices.weight[0] + p) + (1.0f - previous));
    }
}

}  // namespace

void locate(const float* const* features, int64_t first, int count, int d, const double* axis_scale, Simplices& simplices) {
    switch (d) {
        case 2: return locate_block<2>(features, first, count, d, axis_scale, simplices);
        case 3: return locate_block<3>(features, first, count, d, axis_scale, simplices);
        case 5: return locate_block<5>(features, first, count, d, axis_scale, simplices);
        default: return locate_block<0>(features, first, count, d, axis_scale, simplices);
    }
}

}  // namespace upscore::crf::UPSCORE_INSTRUCTIONS
