// Max pooling and unpooling for Python: pool, scatter, gather.
#include <string>

#include "../arguments.hpp"
#include "pooling.hpp"

namespace upscore::pool {

namespace {

using Numbers = nb::ndarray<nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::device::cpu>;

constexpr nb::dlpack::dtype BFLOAT16{static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
constexpr uint32_t LOWEST_FLOAT32 = 0xff800000;  // -infinity
constexpr uint16_t LOWEST_BFLOAT16 = 0xff80;

const Kernels& select_kernels(const std::string& instructions) {
#ifdef UPSCORE_AVX2
    if (use_avx2(instructions)) return avx2::kernels;
#else
    use_avx2(instructions);
#endif
    return portable::kernels;
}

template <Task task>
void run_task(const Numbers& pixels, const Numbers& values, const Bytes& switches, int threads, const std::string& instructions) {
    expect(pixels.ndim() == 4, "expected pixels (P, H, W, K)");
    const auto size = [&](size_t axis) { return static_cast<int64_t>(pixels.shape(axis)); };
    const Shape shape{size(0), size(1), size(2), size(3)};
    const bool is_float32 = pixels.dtype() == nb::dtype<float>();
    expect((is_float32 || pixels.dtype() == BFLOAT16) && values.dtype() == pixels.dtype(), "expected pixels and values of float32 or bfloat16");
    void* pixel = contiguous(pixels, {shape.planes, shape.height, shape.width, shape.channels}, "expected contiguous pixels (P, H, W, K)");
    void* value = contiguous(values, {shape.planes, shape.rows(), shape.columns(), shape.channels},
                             "expected contiguous values (P, H/2, W/2, K), rounded up");
    uint8_t* codes = contiguous(switches, {shape.planes, shape.rows(), shape.bytes(), shape.channels},
                                "expected contiguous switches (P, H/2, W/8, K), rounded up");
    if (task == Task::scatter)
        check_disjoint(pixels, values), check_disjoint(pixels, switches);
    else
        check_disjoint(values, pixels), check_disjoint(values, switches), check_disjoint(switches, pixels);
    check_threads(threads);
    const Kernels& kernels = select_kernels(instructions);
    nb::gil_scoped_release release;
    if (is_float32)
        run(task, shape, static_cast<uint32_t*>(pixel), static_cast<uint32_t*>(value), codes, LOWEST_FLOAT32, threads, kernels);
    else
        run(task, shape, static_cast<uint16_t*>(pixel), static_cast<uint16_t*>(value), codes, LOWEST_BFLOAT16, threads, kernels);
}

}  // namespace

void define_functions(nb::module_& module) {
    const auto define = [&](const char* name, auto task) {
        module.def(name, task, "pixels"_a.noconvert(), "values"_a.noconvert(), "switches"_a.noconvert(), "threads"_a, "instructions"_a = "best");
    };
    define("pool", &run_task<Task::pool>);
    define("scatter", &run_task<Task::scatter>);
    define("gather", &run_task<Task::gather>);
}

}  // namespace upscore::pool
