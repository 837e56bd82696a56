// View: a read-only look at a pool's memory from any process, at any time, even when everything hangs.
//
// It relies on the statistics block alone, whose version is separate from the format's, so that a tool
// of another build still shows a pool. Counters are read without a lock: each is right, together they
// are a moment's blur. Nothing read here is followed without a bounds check.
#pragma once

#include <aiomq/aiomq.h>

#include <boost/interprocess/mapped_region.hpp>
#include <memory>

#include "format.hpp"
#include "sys.hpp"

namespace aiomq {

class View {
  public:
    static int open(int fd, std::unique_ptr<View> &ret_view);

    int pool(aiomq_pool_stats &ret_stats) const;
    int queue(std::uint32_t queue, aiomq_queue_stats &ret_stats) const;
    int worker(std::uint32_t worker, aiomq_worker_stats &ret_stats) const;
    int event(std::uint64_t sequence, aiomq_event &ret_event) const;

  private:
    View() = default;
    bool sound() const;
    template <typename T>
    const T *at(std::uint64_t offset) const {
        return reinterpret_cast<const T *>(base_ + offset);  // NOLINT: raw memory
    }
    const WorkerRecord &record(std::uint32_t worker) const;
    const WorkerArea &area(std::uint32_t worker) const;

    boost::interprocess::mapped_region region_;
    const unsigned char *base_ = nullptr;
    std::uint64_t bytes_ = 0;
    const Statistics *statistics_ = nullptr;
    Layout layout_{};  ///< a private copy, validated once
    std::uint32_t slot_stride_ = 0;
    std::uint32_t request_stride_ = 0;
    std::uint32_t record_stride_ = 0;
    std::uint64_t submitted_offset_ = 0;
};

}  // namespace aiomq
