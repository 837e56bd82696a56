#include "arena.hpp"

#include <algorithm>

namespace aiomq {
namespace {

constexpr std::uint64_t kGrowthStep = 1ULL << 20;

constexpr std::uint64_t rounded(std::uint64_t bytes, std::uint64_t step) {
    return (bytes + step - 1) / step * step;
}

}  // namespace

int Arena::start(std::uint64_t start_bytes, std::uint64_t committed_before,
                 const std::vector<BlockRange> &in_use) {
    end_ = start_ + std::min(committed_before, maximum_);
    std::uint64_t free_from = start_;
    std::vector<BlockRange> blocks = in_use;
    std::sort(blocks.begin(), blocks.end(),
              [](const BlockRange &a, const BlockRange &b) { return a.offset < b.offset; });
    for (const BlockRange &block : blocks) {
        const std::uint64_t bytes = rounded(block.bytes, kBlockAlign);
        if (block.offset < free_from || block.offset > end_ || block.offset % kBlockAlign != 0 ||
            bytes == 0 || bytes < block.bytes || bytes > end_ - block.offset)
            return -EBADMSG;
        put_extent(free_from, block.offset - free_from);
        blocks_.emplace(block.offset, bytes);
        used_ += bytes;
        free_from = block.offset + bytes;
    }
    put_extent(free_from, end_ - free_from);
    start_bytes = std::min(start_bytes, maximum_);
    return committed_bytes() < start_bytes ? grow(start_bytes - committed_bytes()) : 0;
}

Result<std::uint64_t> Arena::allocate(std::uint64_t bytes) {
    using Failure = Result<std::uint64_t>;
    if (bytes > maximum_) return Failure::failure(-EMSGSIZE);
    bytes = rounded(std::max<std::uint64_t>(bytes, 1), kBlockAlign);
    if (bytes > maximum_) return Failure::failure(-EMSGSIZE);
    std::uint64_t offset = 0;
    if (bytes <= kSmallBytes && !small_[bytes / kBlockAlign].empty()) {
        offset = small_[bytes / kBlockAlign].back();
        small_[bytes / kBlockAlign].pop_back();
        cached_ -= bytes;
    } else {
        offset = take_extent(bytes);
        if (offset == 0 && cached_ > 0) {
            flush_small();
            offset = take_extent(bytes);
        }
        if (offset == 0) {
            const int error = grow(bytes);
            if (error != 0) return Failure::failure(error);
            offset = take_extent(bytes);
            if (offset == 0) return Failure::failure(-ENOMEM);
        }
    }
    blocks_.emplace(offset, bytes);
    used_ += bytes;
    return offset;
}

bool Arena::release(std::uint64_t offset) {
    const auto block = blocks_.find(offset);
    if (block == blocks_.end()) return false;
    const std::uint64_t bytes = block->second;
    blocks_.erase(block);
    used_ -= bytes;
    if (bytes <= kSmallBytes) {
        small_[bytes / kBlockAlign].push_back(offset);
        cached_ += bytes;
    } else {
        put_extent(offset, bytes);
    }
    return true;
}

std::uint64_t Arena::block_bytes(std::uint64_t offset) const {
    const auto block = blocks_.find(offset);
    return block == blocks_.end() ? 0 : block->second;
}

/// First fit from the lowest address; 0 when nothing fits (no block is at offset 0: the header is).
std::uint64_t Arena::take_extent(std::uint64_t bytes) {
    for (auto extent = free_.begin(); extent != free_.end(); ++extent) {
        if (extent->second < bytes) continue;
        const std::uint64_t offset = extent->first;
        const std::uint64_t rest = extent->second - bytes;
        const auto next = free_.erase(extent);
        if (rest > 0) free_.emplace_hint(next, offset + bytes, rest);
        return offset;
    }
    return 0;
}

void Arena::put_extent(std::uint64_t offset, std::uint64_t bytes) {
    if (bytes == 0) return;
    auto next = free_.lower_bound(offset);
    if (next != free_.begin()) {
        const auto previous = std::prev(next);
        if (previous->first + previous->second == offset) {
            offset = previous->first;
            bytes += previous->second;
            free_.erase(previous);
        }
    }
    if (next != free_.end() && offset + bytes == next->first) {
        bytes += next->second;
        next = free_.erase(next);
    }
    free_.emplace_hint(next, offset, bytes);
}

void Arena::flush_small() {
    for (std::size_t index = 0; index < small_.size(); ++index) {
        for (const std::uint64_t offset : small_[index]) put_extent(offset, index * kBlockAlign);
        small_[index].clear();
    }
    cached_ = 0;
}

/// Commits more pages, so that an extent of @bytes at the end becomes possible.
int Arena::grow(std::uint64_t bytes) {
    const std::uint64_t committed = committed_bytes();
    // A free extent at the very end counts towards the request.
    std::uint64_t tail = 0;
    if (!free_.empty()) {
        const auto last = std::prev(free_.end());
        if (last->first + last->second == end_) tail = last->second;
    }
    const std::uint64_t missing = bytes > tail ? bytes - tail : bytes;
    if (missing > maximum_ - committed) return -ENOMEM;
    // Grow by an eighth of what is there, so that n bytes cost O(log n) system calls.
    std::uint64_t step = rounded(std::max({missing, kGrowthStep, committed / 8}), kGrowthStep);
    step = std::min(step, maximum_ - committed);
    if (const std::uint64_t available = sys::cgroup_available_bytes(); available < step) {
        step = rounded(missing, sys::page_size());
        if (available < step || step > maximum_ - committed) return -ENOMEM;
    }
    const int error = sys::commit(fd_, end_, step);
    if (error != 0) return error;
    put_extent(end_, step);
    end_ += step;
    return 0;
}

}  // namespace aiomq
