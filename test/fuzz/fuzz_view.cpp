// The statistics reader and what aiomq-stat prints: any byte of a pool's memory may be wrong. Whatever is
// shown, showing it ends, reads nothing outside, and sends the terminal or a JSON reader no surprises.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../tools/stat/report.hpp"
#include "patch.hpp"
#include "rig.hpp"

using aiomq_fuzz::Input;
using aiomq_fuzz::Part;
using aiomq_fuzz::require;

namespace {

/// A pool in the middle of its work, and a copy of its memory to go back to.
class Sample {
  public:
    Sample() : rig_(16) {
        aiomq_task task{};
        task.struct_bytes = sizeof task;
        for (const char *name : {"module:function", "other"})
            require(rig_.pool().function(name, task.function) == 0, "a function has a number");
        for (std::uint32_t slot = 0; slot < 6; ++slot) {
            task.items = slot + 1;
            task.queue = slot % aiomq_fuzz::kRigQueues;
            require(rig_.pool().submit(&task, 1, nullptr) == 1, "it is submitted");
        }
        for (std::uint32_t slot = 0; slot < rig_.pool().slot_count(); ++slot)
            rig_.claim(slot, slot % aiomq_fuzz::kRigWorkers);
        rig_.bury(1, 9);
        rig_.spawn(1);
        for (std::uint32_t kind = 0; kind < 12; ++kind) {
            const aiomq::Pool::Lock lock(rig_.pool());
            rig_.pool().locked_event(static_cast<aiomq::EventKind>(kind), kind % 3, 1, 0, "why");
        }
        const aiomq::Layout &layout = rig_.segment().layout();
        used_ = layout.request_arena_offset + layout.page_bytes;
        copy_.assign(memory(), memory() + used_);
        parts_ = {{0, sizeof(aiomq::Header)},
                  {offsetof(aiomq::Header, statistics), sizeof(aiomq::Statistics)},
                  {layout.slots_offset, layout.slots * sizeof(aiomq::Slot)},
                  {layout.records_offset, sizeof(aiomq::WorkerRecord)},
                  {layout.workers_offset, layout.worker_area_bytes * layout.workers},
                  {layout.events_offset, sizeof(aiomq::EventRecord) * aiomq::kEventCount},
                  {layout.functions_offset, 64},
                  {0, used_}};
        likely_ = {layout.slots_offset, layout.request_arena_offset, layout.segment_bytes};
    }

    int fd() { return rig_.segment().fd(); }
    unsigned char *memory() { return rig_.memory(); }
    void damage(Input &input) {
        while (!input.empty()) aiomq_fuzz::patch(input, memory(), parts_, likely_);
    }
    void repair() { std::memcpy(memory(), copy_.data(), used_); }

  private:
    aiomq_fuzz::Rig rig_;
    std::uint64_t used_ = 0;
    std::vector<unsigned char> copy_;
    std::vector<Part> parts_;
    std::vector<std::uint64_t> likely_;
};

/// The end of the JSON value at @at; null when there is none.
const char *json_end(const char *at, int depth);

const char *json_string_end(const char *at) {
    if (*at++ != '"') return nullptr;
    for (; *at != '"'; ++at) {
        if (static_cast<unsigned char>(*at) < 0x20) return nullptr;  // the end, too
        if (*at == '\\' && std::strchr("\"\\/bfnrtu", *++at) == nullptr) return nullptr;
    }
    return at + 1;
}

const char *blank_end(const char *at) { return at + std::strspn(at, " \n"); }

const char *json_members_end(const char *at, int depth) {
    const bool object = *at == '{';
    const char close = object ? '}' : ']';
    at = blank_end(at + 1);
    if (*at == close) return at + 1;
    for (;; at = blank_end(at + 1)) {
        if (object) {
            at = json_string_end(at);
            if (at == nullptr || *(at = blank_end(at)) != ':') return nullptr;
            at = blank_end(at + 1);
        }
        at = json_end(at, depth + 1);
        if (at == nullptr) return nullptr;
        at = blank_end(at);
        if (*at == close) return at + 1;
        if (*at != ',') return nullptr;
    }
}

const char *json_end(const char *at, int depth) {
    if (depth > 16) return nullptr;
    if (*at == '{' || *at == '[') return json_members_end(at, depth);
    if (*at == '"') return json_string_end(at);
    for (const char *word : {"true", "false", "null"})
        if (std::strncmp(at, word, std::strlen(word)) == 0) return at + std::strlen(word);
    char *end = nullptr;
    if (std::strchr("-0123456789", *at) == nullptr) return nullptr;  // no inf, no nan
    std::strtod(at, &end);
    return end == at ? nullptr : end;
}

void require_json(const std::string &text) {
    const char *end = json_end(text.c_str(), 0);
    require(end != nullptr && *end == '\0' && text.size() == std::strlen(text.c_str()),
            "the report is one JSON value");
}

void require_lines(const std::string &text) {
    for (const char character : text)
        require(character == '\n' || static_cast<unsigned char>(character) >= 0x20,
                "text has no control characters");
}

void show(aiomq_view *view) {
    namespace stat = aiomq_stat;
    stat::FoundPool found;
    found.label = "fuzz";
    found.pid = getpid();
    stat::PoolReport report;
    report.found = &found;
    const stat::Snapshot before = stat::take_snapshot(view);
    report.snapshot = stat::take_task_snapshot(view);
    report.rates = stat::rates_between(before, *report.snapshot);
    found.label = report.snapshot->pool.label;
    found.access = stat::Access::kReadable;
    const stat::Snapshot &snapshot = *report.snapshot;
    std::vector<stat::PoolReport> reports{report};
    for (const bool wide : {false, true}) {
        require_lines(stat::list_text(reports, wide));
        require_lines(stat::show_text(report, wide));
        require_json(stat::list_json(reports, wide));
        require_json(stat::show_json(report, wide));
    }
    require_lines(stat::tasks_text(snapshot));
    require_lines(stat::events_text(snapshot.events));
    require_json(stat::tasks_json(snapshot));
    require_json(stat::events_json(snapshot.events));
    if (!snapshot.events.empty()) {
        require_lines(stat::event_line(snapshot.events[0]));
        require_json(stat::event_json(snapshot.events[0]));
    }
}

/// A file that never was a pool's.
void open_anything(Input &input) {
    const std::string bytes = input.rest();
    auto fd = aiomq::sys::sealed_memfd("aiomq:fuzz", std::max<std::size_t>(bytes.size(), 1));
    if (!fd) return;
    require(pwrite(fd->get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
            "it is written");
    aiomq_view *view = nullptr;
    if (aiomq_view_open(fd->get(), &view) == 0) show(view);
    aiomq_view_close(&view);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    if (input.below(16) == 0) {
        open_anything(input);
        return 0;
    }
    static Sample sample;
    aiomq_view *view = nullptr;
    // A viewer that was there before the damage, or one that comes after it.
    const bool early = input.below(2) == 0;
    if (early) require(aiomq_view_open(sample.fd(), &view) == 0, "a sound pool is opened");
    sample.damage(input);
    if (early || aiomq_view_open(sample.fd(), &view) == 0) show(view);
    aiomq_view_close(&view);
    sample.repair();
    return 0;
}
