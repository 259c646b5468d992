#include "meanfield.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace upscore::crf {

namespace {

constexpr float NO_LABEL = -std::numeric_limits<float>::infinity();

// Rows of floats for all vertices and one of zeros, for neighbours that are not there.
class Grid {
  public:
    Grid(int64_t vertices, int width) : rows_(vertices + 1), width_(width), at_(room<float>(rows_ * width)) {}
    float* data() { return at_.get(); }
    void clear() { std::fill_n(at_.get(), rows_ * width_, 0.0f); }
    void clear_last() { std::fill_n(at_.get() + (rows_ - 1) * width_, width_, 0.0f); }

  private:
    int64_t rows_;
    int width_;
    Room<float> at_;
};

// One kernel at work: what was said, by each part of the pixels for itself, and what is heard.
struct Speech {
    const Lattice* lattice;
    std::vector<float> cost, matrix;
    std::vector<Grid> spoken;
    Grid heard;
};

int width_of(int labels, const Kernels& kernels) {
    const int lanes = labels <= 4 ? 4 : kernels.lanes;
    return (labels + lanes - 1) / lanes * lanes;
}

void blur(Speech& speech, int width, Team& team, const Kernels& kernels) {
    const int64_t vertices = speech.lattice->vertices();
    if (speech.spoken.size() > 1)
        team.run(vertices, team.size(), [&](int, int64_t first, int64_t last) {
            for (size_t part = 1; part < speech.spoken.size(); ++part)
                kernels.add(speech.spoken[0].data() + first * width, speech.spoken[part].data() + first * width, (last - first) * width);
        });
    speech.heard.clear_last();
    for (int axis = 0; axis < speech.lattice->corners(); ++axis) {
        team.run(vertices, team.size(), [&](int, int64_t first, int64_t last) {
            kernels.blur(speech.spoken[0].data(), speech.heard.data(), speech.lattice->neighbours(axis), first, last, width);
        });
        std::swap(speech.spoken[0], speech.heard);
    }
    std::swap(speech.spoken[0], speech.heard);
}

}  // namespace

void mean_field(const Problem& problem, int steps, Team& team, const Kernels& kernels, const std::function<void()>& between) {
    const int labels = problem.labels, width = width_of(labels, kernels);
    int parts = team.size();
    for (const Message& message : problem.messages) parts = std::min(parts, message.lattice->parts_of(team));
    std::vector<float> pad(width, 0.0f);
    std::fill(pad.begin() + labels, pad.end(), NO_LABEL);
    std::vector<Speech> speeches;
    double grids = 0;
    for (const Message& message : problem.messages) grids += (parts + 1.0) * static_cast<double>(message.lattice->vertices() + 1) * width;
    if (steps > 0) require_memory(grids * sizeof(float));
    if (steps > 0)
        for (const Message& message : problem.messages) {
            const int64_t vertices = message.lattice->vertices();
            speeches.push_back({message.lattice, {}, {}, {}, Grid(vertices, width)});
            Speech& speech = speeches.back();
            for (int part = 0; part < parts; ++part) speech.spoken.emplace_back(vertices, width);
            std::vector<float>& costs = message.matrix ? speech.matrix : speech.cost;
            const int rows = message.matrix ? labels : 1;
            costs.assign(size_t(rows) * width, 0.0f);
            for (int row = 0; row < rows; ++row) std::copy_n(message.cost + size_t(row) * labels, labels, costs.data() + size_t(row) * width);
        }
    for (int step = 0; step <= steps; ++step) {
        const bool begins = step == 0, ends = step == steps;
        if (!begins)
            for (Speech& speech : speeches) blur(speech, width, team, kernels);
        team.run(problem.points, parts, [&](int part, int64_t first, int64_t last) {
            std::vector<Voice> voices;
            for (size_t m = 0; m < speeches.size(); ++m) {
                Speech& speech = speeches[m];
                const Message& message = problem.messages[m];
                if (!ends) speech.spoken[part].clear();
                voices.push_back({speech.lattice->corners(), speech.lattice->vertex(), speech.lattice->weight(), message.before, message.after,
                                  speech.lattice->scale(), message.matrix ? nullptr : speech.cost.data(),
                                  message.matrix ? speech.matrix.data() : nullptr, speech.heard.data(), speech.spoken[part].data()});
            }
            Pass pass{};
            pass.labels = labels, pass.width = width;
            pass.scores = problem.scores, pass.kind = problem.kind, pass.pad = pad.data();
            if (begins) pass.given = problem.belief;
            // A pixel's message to itself is made of what it believed, which is kept in `out`.
            if (!problem.self_message && !begins) pass.previous = {problem.out.at, problem.out.pixel, problem.out.label};
            if (ends || !problem.self_message) pass.out = problem.out;
            pass.hears = !begins, pass.speaks = !ends;
            pass.voices = static_cast<int>(voices.size()), pass.voice = voices.data();
            std::vector<float> scratch(size_t(SCRATCH_ROWS) * width);
            // Small enough that a caller who wants to stop is heard.
            for (int64_t begin = first; begin < last; begin += 1 << 20) {
                const Fault fault = kernels.pass(pass, begin, std::min<int64_t>(last, begin + (1 << 20)), scratch.data());
                if (fault == Fault::not_finite) throw std::invalid_argument("found a score or belief that is not finite, expected finite numbers");
                if (fault == Fault::overflow) throw std::overflow_error("messages are beyond single precision: lower the costs");
                if (part == 0) between();
            }
        });
    }
}

}  // namespace upscore::crf
