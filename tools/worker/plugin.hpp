// Plugin: a shared library with tasks, loaded and checked.
#pragma once

#include <aiomq/aiomq.h>

#include <string>

namespace worker {

class Plugin {
  public:
    /// Loads the library at @path, which dlopen(3) searches for as usual. Throws std::runtime_error that
    /// says why it can't be used. It is never unloaded: its code may be on the stack of threads.
    explicit Plugin(const std::string &path);

    const std::string &path() const { return path_; }
    const aiomq_plugin &table() const { return *table_; }

  private:
    std::string path_;
    const aiomq_plugin *table_ = nullptr;
};

}  // namespace worker
