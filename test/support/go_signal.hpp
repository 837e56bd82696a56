// A file that tasks called "wait_for_file" wait for.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

namespace aiomq_test {

/// A name in /tmp that does not exist yet; removed at the end.
class GoSignal {
  public:
    GoSignal() {
        close(mkstemp(path_));
        unlink(path_);
    }
    ~GoSignal() { unlink(path_); }
    GoSignal(const GoSignal &) = delete;
    GoSignal &operator=(const GoSignal &) = delete;
    void give() { close(open(path_, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); }
    void take() { unlink(path_); }
    const char *path() const { return path_; }

  private:
    char path_[32] = "/tmp/aiomq-test-XXXXXX";
};

}  // namespace aiomq_test
