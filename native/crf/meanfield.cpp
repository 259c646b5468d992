#include "meanfield.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace upscore::crf {

namespace {

constexpr float NO_LABEL = -std::numeric_limits<float>::infinity();

// A row of floats for every vertex, and a last row of zeros that stands for missing neighbours.
class VertexBuffer {
  public:
    VertexBuffer(int64_t vertices, int width) : rows_(vertices + 1), width_(width), at_(allocate<float>(rows_ * width)) {}
    float* data() { return at_.get(); }
    void clear() { std::fill_n(at_.get(), rows_ * width_, 0.0f); }
    void clear_last() { std::fill_n(at_.get() + (rows_ - 1) * width_, width_, 0.0f); }

  private:
    int64_t rows_;
    int width_;
    Buffer<float> at_;
};

// Working memory of one pairwise kernel: a splat buffer for each part of the pixels, and the blurred buffer.
struct PairwiseBuffers {
    const Lattice* lattice;
    std::vector<float> cost, matrix;
    std::vector<VertexBuffer> splatted;
    VertexBuffer blurred;
};

int width_of(int labels, const Kernels& kernels) {
    const int lanes = labels <= 4 ? 4 : kernels.lanes;
    return (labels + lanes - 1) / lanes * lanes;
}

// Add up the splat buffers of all parts and blur along every axis; the result is in `blurred`.
void blur(PairwiseBuffers& term, int width, ThreadPool& workers, const Kernels& kernels) {
    const int64_t vertices = term.lattice->vertices();
    if (term.splatted.size() > 1)
        workers.run(vertices, workers.size(), [&](int, int64_t first, int64_t last) {
            for (size_t part = 1; part < term.splatted.size(); ++part)
                kernels.add(term.splatted[0].data() + first * width, term.splatted[part].data() + first * width, (last - first) * width);
        });
    term.blurred.clear_last();
    for (int axis = 0; axis < term.lattice->corners(); ++axis) {
        workers.run(vertices, workers.size(), [&](int, int64_t first, int64_t last) {
            kernels.blur(term.splatted[0].data(), term.blurred.data(), term.lattice->neighbours(axis), first, last, width);
        });
        std::swap(term.splatted[0], term.blurred);
    }
    std::swap(term.splatted[0], term.blurred);
}

}  // namespace

void mean_field(const Problem& problem, int steps, ThreadPool& workers, const Kernels& kernels, const InterruptCallback& check_interrupt) {
    const int labels = problem.labels, width = width_of(labels, kernels);
    int parts = workers.size();
    for (const Pairwise& input : problem.pairwise) parts = std::min(parts, input.lattice->parts_for(workers));
    std::vector<float> padding(width, 0.0f);
    std::fill(padding.begin() + labels, padding.end(), NO_LABEL);
    std::vector<PairwiseBuffers> terms;
    double floats = 0;
    for (const Pairwise& input : problem.pairwise) floats += (parts + 1.0) * static_cast<double>(input.lattice->vertices() + 1) * width;
    if (steps > 0) require_memory(floats * sizeof(float));
    if (steps > 0)
        for (const Pairwise& input : problem.pairwise) {
            const int64_t vertices = input.lattice->vertices();
            terms.push_back({input.lattice, {}, {}, {}, VertexBuffer(vertices, width)});
            PairwiseBuffers& term = terms.back();
            for (int part = 0; part < parts; ++part) term.splatted.emplace_back(vertices, width);
            std::vector<float>& costs = input.matrix ? term.matrix : term.cost;
            const int rows = input.matrix ? labels : 1;
            costs.assign(size_t(rows) * width, 0.0f);
            for (int row = 0; row < rows; ++row) std::copy_n(input.cost + size_t(row) * labels, labels, costs.data() + size_t(row) * width);
        }
    for (int step = 0; step <= steps; ++step) {
        const bool first_pass = step == 0, last_pass = step == steps;
        if (!first_pass)
            for (PairwiseBuffers& term : terms) blur(term, width, workers, kernels);
        workers.run(problem.points, parts, [&](int part, int64_t first, int64_t last) {
            std::vector<PairwiseSlot> slots;
            for (size_t m = 0; m < terms.size(); ++m) {
                PairwiseBuffers& term = terms[m];
                const Pairwise& input = problem.pairwise[m];
                if (!last_pass) term.splatted[part].clear();
                slots.push_back({term.lattice->corners(), term.lattice->vertex(), term.lattice->weight(), input.before, input.after,
                                 term.lattice->scale(), input.matrix ? nullptr : term.cost.data(),
                                 input.matrix ? term.matrix.data() : nullptr, term.blurred.data(), term.splatted[part].data()});
            }
            Pass pass{};
            pass.labels = labels, pass.width = width;
            pass.unary = problem.unary, pass.kind = problem.kind, pass.padding = padding.data();
            if (first_pass) pass.initial = problem.initial;
            // A pixel's message to itself depends on its previous marginals, which are stored in `out`.
            if (!problem.self_message && !first_pass) pass.previous = {problem.out.at, problem.out.pixel, problem.out.label};
            if (last_pass || !problem.self_message) pass.out = problem.out;
            pass.slice = !first_pass, pass.splat = !last_pass;
            pass.slots = static_cast<int>(slots.size()), pass.slot = slots.data();
            std::vector<float> scratch(size_t(SCRATCH_ROWS) * width);
            // In intervals, so that an interrupt is noticed soon.
            for (int64_t begin = first; begin < last; begin += 1 << 20) {
                const Fault fault = kernels.pass(pass, begin, std::min<int64_t>(last, begin + (1 << 20)), scratch.data());
                if (fault == Fault::not_finite) throw std::invalid_argument("found a unary value or marginal that is not finite, expected finite numbers");
                if (fault == Fault::overflow) throw std::overflow_error("messages are beyond single precision: lower the costs");
                if (part == 0) check_interrupt();
            }
        });
    }
}

}  // namespace upscore::crf
