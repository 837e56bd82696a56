// Attaching: a worker is given a memfd whose header is anything. It is refused with a reason, or the
// layout that comes out is one whose every part can be used.
#include <unistd.h>

#include <new>

#include "patch.hpp"
#include "segment.hpp"

using aiomq_fuzz::Input;
using aiomq_fuzz::require;

namespace {

constexpr std::uint64_t kLargest = 1ULL << 36;

/// The header of a pool with these numbers, before it is damaged.
void fill_header(unsigned char *memory, const aiomq::Layout &layout) {
    auto &header = *new (memory) aiomq::Header{};
    header.magic = aiomq::kMagic;
    header.version = aiomq::kFormatVersion;
    header.signature = aiomq::kFormatSignature;
    header.statistics_offset = offsetof(aiomq::Header, statistics);
    header.statistics.layout = layout;
}

aiomq::Layout some_layout(Input &input) {
    const auto number = [&](std::uint32_t most) {
        return 1 + static_cast<std::uint32_t>(input.below(most));
    };
    aiomq::LayoutRequest request{};
    request.capacity = input.below(8) == 0 ? number(aiomq::kMaxSlots) : number(64);
    request.workers = input.below(8) == 0 ? number(aiomq::kMaxWorkers) : number(4);
    request.queues = number(aiomq::kMaxQueues);
    request.arena_bytes = aiomq_fuzz::some_number(input, {1 << 16});
    request.page_bytes = input.below(8) == 0 ? 1ULL << input.below(24) : aiomq::sys::page_size();
    aiomq::Layout layout{};
    if (!aiomq::plan_layout(request, layout)) layout.segment_bytes = sizeof(aiomq::Header);
    return layout;
}

/// Uses the ends of all that a worker reads or writes.
void use(aiomq::Segment &segment, std::uint32_t worker) {
    const aiomq::Layout &layout = segment.layout();
    require(aiomq::layout_is_sound(layout), "what is attached is sound");
    const auto last = [](std::uint32_t count) { return count - 1; };
    aiomq_fuzz::touch(&segment.header(), sizeof(aiomq::Header));
    for (const std::uint32_t queue : {0U, last(layout.queues)}) {
        aiomq_fuzz::touch(&segment.queue(queue), sizeof(aiomq::QueueRecord));
        aiomq_fuzz::touch(segment.ring_cells(queue) + last(layout.ring_cells), 8);
        segment.queue_head(queue).head.store_relaxed(1);
    }
    for (const std::uint32_t slot : {0U, last(layout.slots)}) {
        aiomq_fuzz::touch(&segment.request(slot), sizeof(aiomq::Request));
        segment.slot(slot).word.store_relaxed(1);
    }
    for (const std::uint32_t other : {0U, last(layout.workers)})
        aiomq_fuzz::touch(&segment.record(other), sizeof(aiomq::WorkerRecord));
    aiomq_fuzz::touch(&segment.function(aiomq::kMaxFunctions - 1), sizeof(aiomq::FunctionRecord));
    aiomq_fuzz::touch(&segment.event(aiomq::kEventCount - 1), sizeof(aiomq::EventRecord));
    segment.flags().corrupt.store_relaxed(1);
    segment.area(worker).abort_text[aiomq::kAbortTextBytes - 1] = '\0';
    segment.outbox(worker)[last(layout.outbox_cells)] = 1;
    const std::uint64_t arena = segment.result_arena_offset(worker);
    require(segment.in_result_arena(worker, arena, layout.arena_bytes), "an arena is inside");
    *segment.at<char>(arena) = 1;
    *segment.at<char>(arena + layout.arena_bytes - 1) = 1;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    const aiomq::Layout layout = some_layout(input);
    const auto worker = static_cast<std::uint32_t>(input.below(4) == 0 ? input.take<std::uint32_t>()
                                                                       : input.below(4));
    alignas(aiomq::Header) unsigned char bytes[sizeof(aiomq::Header)];
    fill_header(bytes, layout);
    constexpr std::uint64_t kLayout =
        offsetof(aiomq::Header, statistics) + offsetof(aiomq::Statistics, layout);
    const std::vector<aiomq_fuzz::Part> parts{
        {0, 32}, {kLayout, sizeof(aiomq::Layout)}, {0, sizeof bytes}};
    std::uint64_t file_bytes = layout.segment_bytes;
    if (input.below(4) == 0) file_bytes = aiomq_fuzz::some_number(input, {file_bytes});
    file_bytes = std::clamp<std::uint64_t>(file_bytes, 1, kLargest);
    while (!input.empty())
        aiomq_fuzz::patch(input, bytes, parts, {layout.segment_bytes, layout.slots_offset});
    auto fd = aiomq::sys::sealed_memfd("aiomq:fuzz", file_bytes);
    if (!fd) return -1;
    const std::size_t head = std::min<std::uint64_t>(sizeof bytes, file_bytes);
    require(pwrite(fd->get(), bytes, head, 0) == static_cast<ssize_t>(head), "it is written");
    std::string text;
    auto segment = aiomq::Segment::attach(std::move(*fd), worker, text);
    if (segment)
        use(**segment, worker);
    else if (segment.error() == -EPROTO)
        require(!text.empty(), "a refusal has a reason");
    return 0;
}
