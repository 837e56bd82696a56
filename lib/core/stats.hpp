// View: a read-only look at a pool's memory from any process, at any time, even when everything hangs.
//
// It relies on the statistics block alone, whose version is separate from the format's, so that a tool
// of another build still shows a pool. Counters are read without a lock: each is right, together they
// are a moment's blur. Nothing read here is followed without a bounds check.
#pragma once

#include <aiomq/aiomq.h>

#include <boost/interprocess/mapped_region.hpp>
#include <memory>
#include <string_view>

#include "format.hpp"
#include "slots.hpp"
#include "sys.hpp"

namespace aiomq {

class View {
  public:
    static int open(int fd, std::unique_ptr<View> &ret_view);

    int pool(aiomq_pool_stats &ret_stats) const;
    int queue(std::uint32_t queue, aiomq_queue_stats &ret_stats) const;
    int worker(std::uint32_t worker, aiomq_worker_stats &ret_stats) const;
    /// -ENODATA: nobody has claimed it.
    int task(std::uint32_t slot, aiomq_task_stats &ret_stats) const;
    int event(std::uint64_t sequence, aiomq_event &ret_event) const;

  private:
    View() = default;
    bool sound() const;
    template <typename T>
    const T *at(std::uint64_t offset) const {
        return reinterpret_cast<const T *>(base_ + offset);  // NOLINT: raw memory
    }
    /// A field of slot, request, record or area number @index, at @field in it.
    template <typename T>
    const T &in_slot(std::uint32_t index, std::uint32_t field) const {
        return *at<T>(layout_.slots_offset + std::uint64_t{fields_.slot_stride} * index + field);
    }
    template <typename T>
    const T &in_request(std::uint32_t index, std::uint32_t field) const {
        return *at<T>(layout_.requests_offset + std::uint64_t{fields_.request_stride} * index +
                      field);
    }
    template <typename T>
    const T &in_record(std::uint32_t index, std::uint32_t field) const {
        return *at<T>(layout_.records_offset + std::uint64_t{fields_.record_stride} * index +
                      field);
    }
    template <typename T>
    const T &in_area(std::uint32_t index, std::uint32_t field) const {
        return *at<T>(layout_.workers_offset + std::uint64_t{layout_.worker_area_bytes} * index +
                      field);
    }
    SlotWord word(std::uint32_t slot) const;
    void read_current(std::uint32_t worker, aiomq_worker_stats &stats) const;
    std::string_view function_name(std::uint32_t function) const;

    boost::interprocess::mapped_region region_;
    const unsigned char *base_ = nullptr;
    std::uint64_t bytes_ = 0;
    const Statistics *statistics_ = nullptr;
    Layout layout_{};  ///< a private copy, validated once, as the next
    FieldOffsets fields_{};
};

}  // namespace aiomq
