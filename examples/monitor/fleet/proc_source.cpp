#include "proc_source.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <fstream>
#include <initializer_list>

namespace fleet {
namespace {

constexpr std::uint8_t kClockTickDecimals = 2;  // USER_HZ is 100 on every Linux architecture
constexpr std::int64_t kKibibyte = 1024;

bool starts_with(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), text) != names.end();
}

void add_stat(SampleSet &set) {
    constexpr std::array<std::string_view, 10> kModes = {"user",   "nice",      "system",  "idle",
                                                         "iowait", "irq",       "softirq", "steal",
                                                         "guest",  "guest_nice"};
    for (const std::string &line : read_lines("/proc/stat")) {
        const auto words = split(line);
        if (words.size() < 2) continue;
        if (starts_with(words[0], "cpu") && words[0].size() > 3) {
            for (std::size_t i = 0; i < kModes.size() && i + 1 < words.size(); ++i) {
                set.add("node_cpu_seconds", "Seconds the CPUs spent in each mode.", Kind::kCounter,
                        {{"cpu", words[0].substr(3)}, {"mode", kModes[i]}},
                        to_mantissa(words[i + 1]), kClockTickDecimals);
            }
        } else if (is_one_of(words[0], {"intr", "ctxt", "processes"})) {
            set.add("node_" + std::string(words[0]), "From /proc/stat.", Kind::kCounter, {},
                    to_mantissa(words[1]));
        } else if (starts_with(words[0], "procs_")) {
            set.add("node_" + std::string(words[0]), "From /proc/stat.", Kind::kGauge, {},
                    to_mantissa(words[1]));
        }
    }
}

void add_meminfo(SampleSet &set) {
    for (const std::string &line : read_lines("/proc/meminfo")) {
        const auto words = split(line, " \t:");
        if (words.size() < 2) continue;
        const std::string name = "node_memory_" + metric_name(words[0]);
        const std::int64_t amount = to_mantissa(words[1]);
        if (words.size() > 2 && words[2] == "kB") {
            set.add(name + "_bytes", "From /proc/meminfo.", Kind::kGauge, {}, amount * kKibibyte);
        } else {
            set.add(name, "From /proc/meminfo.", Kind::kGauge, {}, amount);
        }
    }
}

void add_vmstat(SampleSet &set) {
    for (const std::string &line : read_lines("/proc/vmstat")) {
        const auto words = split(line);
        if (words.size() != 2) continue;
        const Kind kind = starts_with(words[0], "nr_") ? Kind::kGauge : Kind::kCounter;
        set.add("node_vmstat_" + metric_name(words[0]), "From /proc/vmstat.", kind, {},
                to_mantissa(words[1]));
    }
}

void add_net_dev(SampleSet &set) {
    constexpr std::array<std::string_view, 16> kFields = {
        "receive_bytes",  "receive_packets",  "receive_errs",       "receive_drop",
        "receive_fifo",   "receive_frame",    "receive_compressed", "receive_multicast",
        "transmit_bytes", "transmit_packets", "transmit_errs",      "transmit_drop",
        "transmit_fifo",  "transmit_colls",   "transmit_carrier",   "transmit_compressed"};
    for (const std::string &line : read_lines("/proc/net/dev")) {
        const auto words = split(line, " \t:");
        if (words.size() <= kFields.size() || line.find('|') != std::string::npos) continue;
        for (std::size_t i = 0; i < kFields.size(); ++i) {
            set.add("node_network_" + std::string(kFields[i]), "From /proc/net/dev.",
                    Kind::kCounter, {{"device", words[0]}}, to_mantissa(words[i + 1]));
        }
    }
}

void add_diskstats(SampleSet &set) {
    constexpr std::array<std::string_view, 17> kFields = {
        "reads_completed",   "reads_merged",       "sectors_read",
        "read_milliseconds", "writes_completed",   "writes_merged",
        "sectors_written",   "write_milliseconds", "io_now",
        "io_milliseconds",   "io_weighted",        "discards_completed",
        "discards_merged",   "sectors_discarded",  "discard_milliseconds",
        "flushes_completed", "flush_milliseconds"};
    constexpr std::size_t kFirstField = 3;  // major, minor and name come first
    for (const std::string &line : read_lines("/proc/diskstats")) {
        const auto words = split(line);
        for (std::size_t i = 0; i < kFields.size() && i + kFirstField < words.size(); ++i) {
            const bool gauge = kFields[i] == "io_now";
            set.add("node_disk_" + std::string(kFields[i]), "From /proc/diskstats.",
                    gauge ? Kind::kGauge : Kind::kCounter, {{"device", words[kFirstField - 1]}},
                    to_mantissa(words[i + kFirstField]));
        }
    }
}

// interrupts and softirqs are both a table with one column for each CPU.
void add_cpu_table(SampleSet &set, const std::string &path, std::string_view family) {
    const auto lines = read_lines(path);
    if (lines.empty()) return;
    const auto cpus = split(lines[0]);
    for (std::size_t row = 1; row < lines.size(); ++row) {
        const auto words = split(lines[row], " \t:");
        for (std::size_t i = 0; i < cpus.size() && i + 1 < words.size(); ++i) {
            set.add(family, "From " + path + ".", Kind::kCounter,
                    {{"cpu", cpus[i].substr(3)}, {"type", words[0]}}, to_mantissa(words[i + 1]));
        }
    }
}

// netstat and snmp: a line of names, then a line of values, each led by the protocol.
void add_protocols(SampleSet &set, const std::string &path) {
    const auto lines = read_lines(path);
    for (std::size_t row = 0; row + 1 < lines.size(); row += 2) {
        const auto names = split(lines[row], " \t:");
        const auto values = split(lines[row + 1], " \t:");
        for (std::size_t i = 1; i < std::min(names.size(), values.size()); ++i) {
            const bool gauge = is_one_of(names[i], {"Forwarding", "DefaultTTL", "RtoAlgorithm",
                                                    "RtoMin", "RtoMax", "MaxConn", "CurrEstab"});
            set.add("node_netstat_" + std::string(names[0]) + "_" + std::string(names[i]),
                    "From " + path + ".", gauge ? Kind::kGauge : Kind::kCounter, {},
                    to_mantissa(values[i]));
        }
    }
}

void add_pressure(SampleSet &set) {
    constexpr std::int64_t kLargestShare = 4000;  // 0.4: hosts vary up to 1.5 x and stay below 1
    for (const std::string resource : {"cpu", "io", "memory"}) {
        for (const std::string &line : read_lines("/proc/pressure/" + resource)) {
            const auto words = split(line, " =");
            if (words.empty()) continue;
            const std::string name = "node_pressure_" + resource + "_" + std::string(words[0]);
            for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
                if (words[i] == "total") {
                    set.add(name + "_seconds", "Stalled time, /proc/pressure.", Kind::kCounter, {},
                            to_mantissa(words[i + 1]), 6);
                } else {
                    // A percentage with two decimals is a share with four.
                    const std::int64_t share = to_mantissa(words[i + 1], 2);
                    set.add(name + "_ratio", "Share of time stalled, /proc/pressure.", Kind::kGauge,
                            {{"window", words[i]}}, std::min(share, kLargestShare), 4);
                }
            }
        }
    }
}

void add_zoneinfo(SampleSet &set) {
    std::string node;
    std::string zone;
    std::string cpu;
    for (const std::string &line : read_lines("/proc/zoneinfo")) {
        const auto words = split(line, " \t:,");
        if (words.size() == 4 && words[0] == "Node") {
            node = words[1];
            zone = words[3];
            cpu.clear();
        } else if (words.size() == 2 && words[0] == "cpu") {
            cpu = words[1];
        } else if (words.size() >= 2 && words.size() <= 3) {
            const std::string_view field = words[words.size() - 2];
            const std::string name = "node_zoneinfo_" + metric_name(field);
            const std::int64_t amount = to_mantissa(words.back());
            if (cpu.empty()) {
                const Kind kind = starts_with(field, "numa_") || starts_with(field, "workingset_")
                                      ? Kind::kCounter
                                      : Kind::kGauge;
                set.add(name, "From /proc/zoneinfo.", kind, {{"node", node}, {"zone", zone}},
                        amount);
            } else {
                set.add(name, "From /proc/zoneinfo.", Kind::kGauge,
                        {{"node", node}, {"zone", zone}, {"cpu", cpu}}, amount);
            }
        }
    }
}

void add_slabinfo(SampleSet &set) {
    struct Field {
        std::size_t word;
        std::string_view name;
    };
    constexpr std::array<Field, 6> kFields = {{{1, "active_objects"},
                                               {2, "objects"},
                                               {3, "object_size_bytes"},
                                               {4, "objects_per_slab"},
                                               {13, "active_slabs"},
                                               {14, "slabs"}}};
    for (const std::string &line : read_lines("/proc/slabinfo")) {
        const auto words = split(line);
        if (words.size() < 15 || words[0] == "#") continue;
        for (const Field &field : kFields) {
            set.add("node_slab_" + std::string(field.name), "From /proc/slabinfo.", Kind::kGauge,
                    {{"slab", words[0]}}, to_mantissa(words[field.word]));
        }
    }
}

}  // namespace

std::vector<std::string> read_lines(const std::string &path) {
    std::vector<std::string> lines;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) lines.push_back(std::move(line));
    return lines;
}

std::vector<std::string_view> split(std::string_view line, std::string_view separators) {
    std::vector<std::string_view> words;
    std::size_t at = 0;
    while ((at = line.find_first_not_of(separators, at)) != std::string_view::npos) {
        const std::size_t end = std::min(line.find_first_of(separators, at), line.size());
        words.push_back(line.substr(at, end - at));
        at = end;
    }
    return words;
}

std::int64_t to_mantissa(std::string_view text, std::uint8_t decimals) {
    std::string digits(text);
    const std::size_t point = digits.find('.');
    std::size_t present = 0;
    if (point != std::string::npos) {
        present = digits.size() - point - 1;
        digits.erase(point, 1);
    }
    if (present > decimals) return -1;
    digits.append(decimals - present, '0');
    std::int64_t mantissa = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), mantissa);
    return error == std::errc{} && end == digits.data() + digits.size() ? mantissa : -1;
}

SampleSet read_proc(std::size_t limit) {
    SampleSet set(limit);
    add_stat(set);
    add_meminfo(set);
    add_vmstat(set);
    add_net_dev(set);
    add_diskstats(set);
    add_cpu_table(set, "/proc/interrupts", "node_interrupts");
    add_cpu_table(set, "/proc/softirqs", "node_softirqs");
    add_protocols(set, "/proc/net/snmp");
    add_protocols(set, "/proc/net/netstat");
    add_pressure(set);
    add_zoneinfo(set);
    add_slabinfo(set);
    add_processes(set);
    add_memory_maps(set);
    return set;
}

}  // namespace fleet
