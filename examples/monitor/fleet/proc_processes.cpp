// The part of ProcSource that reads processes: /proc/<pid>/stat and, as the last reserve on
// machines with few processes, /proc/<pid>/smaps.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "proc_source.hpp"

namespace fleet {
namespace {

constexpr std::int64_t kKibibyte = 1024;

// This process first: it can always be read. The rest in the order of their ids.
std::vector<std::string> process_ids() {
    std::vector<long> ids;
    std::error_code ignored;
    for (const auto &entry : std::filesystem::directory_iterator("/proc", ignored)) {
        const std::int64_t id = to_mantissa(entry.path().filename().string());
        if (id > 0 && id != getpid()) ids.push_back(static_cast<long>(id));
    }
    std::sort(ids.begin(), ids.end());
    ids.insert(ids.begin(), getpid());
    std::vector<std::string> names;
    names.reserve(ids.size());
    for (const long id : ids) names.push_back(std::to_string(id));
    return names;
}

struct Field {
    std::size_t word;  // counted from the state letter, which follows the name in parentheses
    std::string_view name;
    Kind kind;
    std::uint8_t decimals;
    bool pages;
};

constexpr std::array<Field, 7> kStatFields = {{{7, "minor_faults", Kind::kCounter, 0, false},
                                               {9, "major_faults", Kind::kCounter, 0, false},
                                               {11, "user_seconds", Kind::kCounter, 2, false},
                                               {12, "system_seconds", Kind::kCounter, 2, false},
                                               {17, "threads", Kind::kGauge, 0, false},
                                               {20, "virtual_bytes", Kind::kGauge, 0, false},
                                               {21, "resident_bytes", Kind::kGauge, 0, true}}};

}  // namespace

void add_processes(SampleSet &set) {
    const std::int64_t page = sysconf(_SC_PAGESIZE);
    for (const std::string &id : process_ids()) {
        if (set.full()) return;
        const auto lines = read_lines("/proc/" + id + "/stat");
        if (lines.empty()) continue;  // it has ended since the folder was read
        const std::string_view line = lines.front();
        const std::size_t open = line.find('(');
        const std::size_t close = line.rfind(')');
        if (open == std::string_view::npos || close == std::string_view::npos) continue;
        const std::string_view name = line.substr(open + 1, close - open - 1);
        const auto words = split(line.substr(close + 1));
        for (const Field &field : kStatFields) {
            if (field.word >= words.size()) break;
            const std::int64_t amount = to_mantissa(words[field.word]);
            set.add("process_" + std::string(field.name), "From /proc/<pid>/stat.", field.kind,
                    {{"pid", id}, {"name", name}}, field.pages ? amount * page : amount,
                    field.decimals);
        }
    }
}

void add_memory_maps(SampleSet &set) {
    for (const std::string &id : process_ids()) {
        if (set.full()) return;
        std::string range;
        for (const std::string &line : read_lines("/proc/" + id + "/smaps")) {
            const auto words = split(line, " \t:");
            if (words.size() == 3 && words[2] == "kB") {
                set.add("process_map_" + metric_name(words[0]) + "_bytes",
                        "From /proc/<pid>/smaps.", Kind::kGauge, {{"pid", id}, {"range", range}},
                        to_mantissa(words[1]) * kKibibyte);
            } else if (!words.empty() && words[0].find('-') != std::string_view::npos) {
                range = words[0];
            }
        }
    }
}

}  // namespace fleet
