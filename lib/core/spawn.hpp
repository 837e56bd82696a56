#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "sys.hpp"

namespace aiomq::sys {

/// What a new process inherits: @source appears there as @target.
struct InheritedFd {
    int source;
    int target;
};

/// Starts a program (looked for as execvp(3) does) with default signal dispositions, an empty signal
/// mask and only the named descriptors. Sources must lie above every target; descriptors below
/// @close_from that are not named are closed too. The process is killed when the calling thread ends,
/// from before the program runs: prctl(2), PR_SET_PDEATHSIG. Failure: the -errno of clone(2), dup3(2) or
/// execve(2).
Result<pid_t> spawn(const std::vector<std::string> &argv,
                    const std::vector<std::string> &environment,
                    const std::vector<InheritedFd> &inherited, int close_from);

}  // namespace aiomq::sys
