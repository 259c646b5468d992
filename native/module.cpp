// upscore._native, the compiled module. Each folder defines its own functions in bindings.cpp; arguments.hpp checks what they are given.
#include <nanobind/nanobind.h>

#include "memory.hpp"

namespace upscore {

namespace box {
void define_functions(nanobind::module_& module);
}
namespace crf {
void define_functions(nanobind::module_& module);
}
namespace pool {
void define_functions(nanobind::module_& module);
}

}  // namespace upscore

NB_MODULE(_native, module) {
    upscore::crf::define_functions(module);
    upscore::pool::define_functions(module);
    upscore::box::define_functions(module);
    module.def("available_memory", &upscore::available_memory);
}
