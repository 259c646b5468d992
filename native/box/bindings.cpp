// Boxes for Python: crop and resize boxes of an image, paste score maps into a canvas.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../arguments.hpp"
#include "resize.hpp"

namespace upscore::box {

namespace {

// Corners of a box, or of its part inside the image; bottom and right are exclusive.
struct Box {
    int64_t top, left, bottom, right;
};

Box parse_box(const nb::tuple& corners) {
    constexpr const char* INTEGERS = "expected a box of integers: left, top, right, bottom";
    expect(corners.size() == 4, INTEGERS);
    const auto corner = [&](size_t index) { return cast_to<int64_t>(corners[index], INTEGERS); };
    const Box box{corner(1), corner(0), corner(3), corner(2)};
    constexpr int64_t FAR = int64_t{1} << 30;
    expect(-FAR < box.top && box.top < box.bottom && box.bottom < FAR && -FAR < box.left && box.left < box.right && box.right < FAR,
           "expected a box that is not empty");
    expect(box.bottom - box.top <= MAX_SIDE && box.right - box.left <= MAX_SIDE, "expected a box of at most 1048576 pixels a side");
    return box;
}

std::vector<Box> parse_boxes(const nb::list& boxes, size_t count) {
    expect(boxes.size() == count, "expected a box for each map");
    std::vector<Box> parsed;
    for (const nb::handle box : boxes) parsed.push_back(parse_box(cast_to<nb::tuple>(box, "expected boxes that are tuples of four")));
    return parsed;
}

// The part of a box inside an image.
Box intersect(const Box& box, int64_t height, int64_t width, const char* what) {
    const Box inside{std::max<int64_t>(box.top, 0), std::max<int64_t>(box.left, 0), std::min(box.bottom, height), std::min(box.right, width)};
    expect(inside.top < inside.bottom && inside.left < inside.right, what);
    return inside;
}

// The data of a C-contiguous array of this many axes, none of them empty.
template <int AXES, class Array>
auto data_of(const Array& array, const char* what) {
    expect(array.ndim() == AXES, what);
    std::vector<int64_t> shape;
    for (size_t axis = 0; axis < AXES; ++axis) {
        expect(array.shape(axis) >= 1 && array.shape(axis) < INT32_MAX / 2, what);
        shape.push_back(static_cast<int64_t>(array.shape(axis)));
    }
    return contiguous(array, shape, what);
}

void check_sides(int64_t rows, int64_t columns) {
    expect(rows <= MAX_SIDE && columns <= MAX_SIDE, "expected maps of at most 1048576 pixels a side");
}

// Collects resize jobs and runs them in batches, in order, so that memory for weights stays bounded whatever their number and size.
template <class Run>
class JobQueue {
  public:
    explicit JobQueue(const Run& run) : run_(run) {}

    void add(ResizeJob job) {
        weights_ += job.vertical.weights.size() + job.horizontal.weights.size();
        jobs_.push_back(std::move(job));
        if (weights_ > MAX_WEIGHTS || jobs_.size() >= MAX_JOBS) flush();
    }
    void flush() {
        if (!jobs_.empty()) run_(jobs_);
        jobs_.clear(), weights_ = 0;
        check_signals();
    }

  private:
    static constexpr size_t MAX_WEIGHTS = size_t{1} << 23, MAX_JOBS = 256;
    const Run& run_;
    std::vector<ResizeJob> jobs_;
    size_t weights_ = 0;
};

auto select_resize(const std::string& instructions) {
#ifdef UPSCORE_AVX2
    if (use_avx2(instructions)) return &avx2::resize;
#else
    use_avx2(instructions);
#endif
    return &portable::resize;
}

// Crop boxes out of an image (H, W, C) and resize each to out[i] (h, w, C); pixels outside the image are zero.
void crop(const Floats& image, const nb::list& corners, const FloatsOut& out, int threads, const std::string& instructions) {
    const float* from = data_of<3>(image, "expected a contiguous image (H, W, C)");
    float* to = data_of<4>(out, "expected a contiguous output array (N, h, w, C)");
    const int64_t height = image.shape(0), width = image.shape(1), channels = image.shape(2), rows = out.shape(1), columns = out.shape(2);
    expect(static_cast<int64_t>(out.shape(3)) == channels, "expected an output array of as many channels as the image has");
    check_sides(rows, columns);
    check_disjoint(out, image);
    const std::vector<Box> boxes = parse_boxes(corners, out.shape(0));
    for (const Box& box : boxes) intersect(box, height, width, "expected boxes that intersect the image");
    const auto resize = select_resize(instructions);
    check_threads(threads);
    nb::gil_scoped_release release;
    ThreadPool workers(threads);
    const auto run = [&](std::vector<ResizeJob>& jobs) {
        const int64_t top = jobs.front().top;
        for (ResizeJob& job : jobs) job.top -= top;
        resize(jobs, static_cast<int64_t>(jobs.size()) * rows, Reduce::write, false, workers);
    };
    JobQueue queue(run);
    int64_t first_row = 0;
    for (const Box& box : boxes) {
        const auto [top, left, bottom, right] = intersect(box, height, width, "expected boxes that intersect the image");
        queue.add({{from + (top * width + left) * channels, width * channels, right - left, channels},
                   axis_weights(box.bottom - box.top, rows, 0, rows, top - box.top, bottom - box.top),
                   axis_weights(box.right - box.left, columns, 0, columns, left - box.left, right - box.left),
                   {to + first_row * columns * channels, columns * channels, rows, columns},
                   first_row});
        first_row += rows;
    }
    queue.flush();
}

// Resize each score map to its box and combine it with the canvas, in order; what lies outside the canvas is cropped.
void paste(const Floats& scores, const nb::list& corners, const FloatsOut& canvas, const std::string& reduce, bool clip, int threads,
           const std::string& instructions) {
    const float* from = data_of<4>(scores, "expected contiguous scores (N, h, w, K)");
    float* to = data_of<3>(canvas, "expected a contiguous canvas (H, W, K)");
    const int64_t height = canvas.shape(0), width = canvas.shape(1), channels = canvas.shape(2), rows = scores.shape(1), columns = scores.shape(2);
    expect(static_cast<int64_t>(scores.shape(3)) == channels, "expected scores of as many channels as the canvas has");
    check_sides(rows, columns);
    check_disjoint(canvas, scores);
    expect(reduce == "max" || reduce == "sum", "expected reduce 'max' or 'sum'");
    const std::vector<Box> boxes = parse_boxes(corners, scores.shape(0));
    for (const Box& box : boxes) intersect(box, height, width, "expected boxes that intersect the canvas");
    const auto resize = select_resize(instructions);
    check_threads(threads);
    nb::gil_scoped_release release;
    ThreadPool workers(threads);
    const auto run = [&](const std::vector<ResizeJob>& jobs) {
        resize(jobs, height, reduce == "max" ? Reduce::max : Reduce::sum, clip, workers);
    };
    JobQueue queue(run);
    int64_t map = 0;
    for (const Box& box : boxes) {
        const auto [top, left, bottom, right] = intersect(box, height, width, "expected boxes that intersect the canvas");
        queue.add({{from + map++ * rows * columns * channels, columns * channels, columns, channels},
                   axis_weights(rows, box.bottom - box.top, top - box.top, bottom - box.top, 0, rows),
                   axis_weights(columns, box.right - box.left, left - box.left, right - box.left, 0, columns),
                   {to + (top * width + left) * channels, width * channels, bottom - top, right - left},
                   top});
    }
    queue.flush();
}

}  // namespace

void define_functions(nb::module_& module) {
    module.def("crop", &crop, "image"_a.noconvert(), "boxes"_a, "out"_a.noconvert(), "threads"_a, "instructions"_a = "best");
    module.def("paste", &paste, "scores"_a.noconvert(), "boxes"_a, "canvas"_a.noconvert(), "reduce"_a, "clip"_a, "threads"_a,
               "instructions"_a = "best");
}

}  // namespace upscore::box
