// ProcSource: a snapshot of this machine's live /proc counters under node_exporter-like names.
// Taken once, when the fleet starts; how the values go on from there is evolution.hpp's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "samples.hpp"

namespace fleet {

// Up to `limit` samples: machine-wide files first, then slabs, processes and, where those are few
// (a container), the memory maps of processes. Fewer only if /proc has no more to give.
SampleSet read_proc(std::size_t limit);

// /proc/<pid>/stat of every process, then smaps; the part of read_proc that scales with processes.
void add_processes(SampleSet &set);
void add_memory_maps(SampleSet &set);

std::vector<std::string> read_lines(const std::string &path);
std::vector<std::string_view> split(std::string_view line, std::string_view separators = " \t");

// Reads a non-negative decimal number with at most `decimals` digits after the point (missing ones
// are zeros). Returns -1 for anything else, which SampleSet::add drops.
std::int64_t to_mantissa(std::string_view text, std::uint8_t decimals = 0);

}  // namespace fleet
