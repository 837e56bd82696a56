// Arena: allocator for one owner's payload memory inside the segment.
//
// When to use: request payloads (owner: the dispatcher, under its mutex), results (owner: one worker).
// When not: from two threads at once; freeing another owner's block (post a release instead).
//
// All bookkeeping lives in the owner's private memory and blocks carry no headers, so that after a
// kill in the middle of an allocation the shared range itself is sound: a successor starts from the
// list of blocks that are still in use. (Boost.Interprocess's rbtree_best_fit keeps its tree in the
// managed range, and after a SIGKILL in alloc/free some of the next users crash or loop.)
//
// Memory: lowest address first, because warm pages copy several times faster than first touches;
// small sizes are kept in per-size stacks. Pages are committed in growing steps up to the maximum.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "format.hpp"
#include "sys.hpp"

namespace aiomq {

class Arena {
  public:
    Arena() = default;
    /// [offset, offset + maximum) of @fd. The first @start_bytes are committed at once by start().
    Arena(int fd, std::uint64_t offset, std::uint64_t maximum_bytes)
        : fd_(fd), start_(offset), maximum_(maximum_bytes), end_(offset) {}

    /// Commits @start_bytes and marks what a predecessor's readers still hold as used. 0 or -errno.
    int start(std::uint64_t start_bytes, std::uint64_t committed_before,
              const std::vector<BlockRange> &in_use);

    /// Offset in the segment of @bytes bytes aligned to kBlockAlign; -ENOMEM when there is no room
    /// now, -EMSGSIZE when there can never be.
    Result<std::uint64_t> allocate(std::uint64_t bytes);
    /// Gives a block back. False, and nothing happens, when @offset is not a block in use.
    bool release(std::uint64_t offset);
    /// Size of the block at @offset, 0 if there is none.
    std::uint64_t block_bytes(std::uint64_t offset) const;

    std::uint64_t used_bytes() const { return used_; }
    std::uint64_t committed_bytes() const { return end_ - start_; }
    std::uint64_t maximum_bytes() const { return maximum_; }

  private:
    static constexpr std::uint64_t kSmallBytes = 4096;
    static constexpr std::size_t kClasses = kSmallBytes / kBlockAlign + 1;

    std::uint64_t take_extent(std::uint64_t bytes);
    void put_extent(std::uint64_t offset, std::uint64_t bytes);
    void flush_small();
    int grow(std::uint64_t bytes);

    int fd_ = -1;
    std::uint64_t start_ = 0;
    std::uint64_t maximum_ = 0;
    std::uint64_t end_ = 0;  ///< committed so far
    std::uint64_t used_ = 0;
    std::uint64_t cached_ = 0;                     ///< bytes in small_
    std::map<std::uint64_t, std::uint64_t> free_;  ///< extents by offset, coalesced
    std::unordered_map<std::uint64_t, std::uint64_t> blocks_;
    std::array<std::vector<std::uint64_t>, kClasses> small_;  ///< free blocks by size / kBlockAlign
};

}  // namespace aiomq
