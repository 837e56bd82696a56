// select.hpp - which pool the user means.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "discovery.hpp"
#include "options.hpp"

namespace aiomq_stat {

/// Why no pool could be chosen, with the exit status that says so.
class SelectError : public std::runtime_error {
  public:
    SelectError(ExitStatus status, const std::string &message)
        : std::runtime_error(message), status_(status) {}
    [[nodiscard]] ExitStatus status() const noexcept { return status_; }

  private:
    ExitStatus status_;
};

/// Take the one pool that `name` fits out of what was found: a label, a pid, label@pid, or
/// label@pid:inode for several pools of one process; without a name the only pool there is.
/// Throws SelectError when that is not exactly one pool, or one that can't be read.
FoundPool select_pool(Discovery discovery, const std::optional<std::string> &name);

/// A remark about processes that could not be looked into; "" when there were none.
std::string closed_processes_remark(const Discovery &discovery);

}  // namespace aiomq_stat
