// The memory of a pool of this very process, to look at and to damage.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "../../lib/core/slots.hpp"

namespace aiomq_test {

/// The first link of this process's descriptors to start with @name; "" when there is none.
inline std::string descriptor_called(const std::string &name) {
    const std::string folder = "/proc/self/fd";
    std::string found;
    DIR *entries = opendir(folder.c_str());
    while (const dirent *entry = readdir(entries)) {
        char link[256] = "";
        const std::string path = folder + "/" + entry->d_name;
        if (readlink(path.c_str(), link, sizeof link - 1) > 0 &&
            std::string(link).starts_with(name))
            found = path;
    }
    closedir(entries);
    return found;
}

/// The memory of this process's only pool, all of it writable.
class Memory {
  public:
    Memory() {
        const int fd = open(descriptor_called("/memfd:aiomq:").c_str(), O_RDWR | O_CLOEXEC);
        aiomq::Header header;
        EXPECT_EQ(pread(fd, static_cast<void *>(&header), sizeof header, 0),
                  static_cast<ssize_t>(sizeof header));
        std::memcpy(&layout_, &header.statistics.layout, sizeof layout_);
        bytes_ = static_cast<char *>(
            mmap(nullptr, layout_.segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        EXPECT_NE(bytes_, MAP_FAILED);
        close(fd);
    }
    ~Memory() { munmap(bytes_, layout_.segment_bytes); }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    aiomq::SleepFlags &flags() { return at<aiomq::SleepFlags>(layout_.flags_offset); }
    const aiomq::Layout &layout() const { return layout_; }
    aiomq::Atomic<std::uint64_t> &head(std::uint32_t queue) {
        return at<aiomq::QueueHead>(layout_.heads_offset + queue * sizeof(aiomq::QueueHead)).head;
    }
    /// How many hints a queue has, stale ones too.
    std::uint64_t hints(std::uint32_t queue) {
        const std::uint64_t record = layout_.queues_offset + queue * sizeof(aiomq::QueueRecord);
        return at<aiomq::QueueRecord>(record).tail.load_seq() - head(queue).load_seq();
    }
    aiomq::WorkerArea &area(std::uint32_t worker) {
        return at<aiomq::WorkerArea>(layout_.workers_offset +
                                     std::uint64_t{worker} * layout_.worker_area_bytes);
    }
    aiomq::WorkerRecord &record(std::uint32_t worker) {
        return at<aiomq::WorkerRecord>(layout_.records_offset +
                                       worker * sizeof(aiomq::WorkerRecord));
    }
    /// The slot that the task's id names.
    aiomq::Slot &slot_of(std::uint64_t task_id) {
        return at<aiomq::Slot>(layout_.slots_offset +
                               (task_id & (aiomq::kMaxSlots - 1)) * sizeof(aiomq::Slot));
    }
    /// Where an item of a chunk that has started has its outcome.
    aiomq::ItemOutcome &outcome_of(std::uint64_t task_id, std::uint32_t item) {
        return at<aiomq::ItemOutcome>(slot_of(task_id).block_offset.load_acquire() +
                                      sizeof(aiomq::OutcomeBlock) +
                                      item * sizeof(aiomq::ItemOutcome));
    }
    aiomq::SlotWord word_of(std::uint64_t task_id) {
        return aiomq::SlotWord(slot_of(task_id).word.load_acquire());
    }
    bool sleeps(std::uint32_t worker) { return (flags().asleep[0].load_seq() >> worker & 1) != 0; }
    template <typename T>
    T &at(std::uint64_t offset) {
        return *reinterpret_cast<T *>(bytes_ + offset);  // NOLINT
    }

  private:
    aiomq::Layout layout_{};
    char *bytes_ = nullptr;
};

}  // namespace aiomq_test
