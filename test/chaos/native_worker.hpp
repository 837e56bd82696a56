// What a native worker of the mixed load does; see order.hpp for the deeds.
#pragma once

namespace chaos {

/// Descriptors that the dispatcher gives to every worker: those of Python's own start first.
constexpr int kPythonDescriptors = 3;

/// Serves until the pool ends, if this process was started by a pool; returns otherwise.
void run_as_worker();

}  // namespace chaos
