#include "functions.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "json.hpp"
#include "process.hpp"
#include "text.hpp"

namespace aiomq_stat {
namespace {

constexpr std::string_view kLink = "/memfd:aiomq-board (deleted)";
constexpr std::uint64_t kMagic = 0x014452424D4F4941;  // "AIOMBRD", 1
constexpr std::size_t kRows = 256;
constexpr std::size_t kNameBytes = 128;
constexpr std::size_t kMostTables = AIOMQ_WORKERS_MAX + 1;

struct Header {
    std::uint64_t magic;
    std::uint64_t tables;
    std::uint64_t rows;
    std::uint64_t buckets;
    std::uint64_t pid;
    std::uint64_t inode;
};

struct Row {
    std::uint64_t calls;
    std::uint64_t errors_or_bytes_in;  // of a worker, or of the dispatcher
    std::uint64_t bytes_out;
    std::uint64_t first_ns;
    std::uint64_t second_ns;
    std::uint64_t others[3];
    std::array<std::uint64_t, kTimeBuckets> first;
    std::array<std::uint64_t, kTimeBuckets> second;
};
static_assert(sizeof(Row) == 8 * (8 + 2 * kTimeBuckets));

struct DirectoryCloser {
    void operator()(DIR *directory) const noexcept { ::closedir(directory); }
};

template <typename Value>
void read_at(int fd, std::vector<Value> &values, std::uint64_t offset) {
    const std::size_t bytes = values.size() * sizeof(Value);
    if (::pread(fd, values.data(), bytes, static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(bytes)) {
        throw std::runtime_error("the pool's board is shorter than it says");
    }
}

/// The header of the board behind @path, if it is the pool's.
std::optional<Header> header_of(int fd, const FoundPool &pool) {
    Header header{};
    if (::pread(fd, &header, sizeof header, 0) != sizeof header || header.inode != pool.inode) {
        return std::nullopt;
    }
    if (header.magic != kMagic || header.rows != kRows || header.buckets != kTimeBuckets ||
        header.tables == 0 || header.tables > kMostTables) {
        throw std::runtime_error("the pool's board is of another version of libaiomq");
    }
    return header;
}

void add(Times &times, std::uint64_t total_ns,
         const std::array<std::uint64_t, kTimeBuckets> &more) {
    times.total_ns += total_ns;
    std::ranges::transform(times.counts, more, times.counts.begin(), std::plus<>());
}

void add_worker(FunctionCounts &function, const Row &row) {
    function.calls += row.calls;
    function.errors += row.errors_or_bytes_in;
    add(function.wait, row.first_ns, row.first);
    add(function.run, row.second_ns, row.second);
}

void add_dispatcher(FunctionCounts &function, const Row &row) {
    function.tasks = row.calls;
    function.bytes_in = row.errors_or_bytes_in;
    function.bytes_out = row.bytes_out;
    add(function.encode, row.first_ns, row.first);
    add(function.decode, row.second_ns, row.second);
}

void add(Times &times, const Times &more) { add(times, more.total_ns, more.counts); }

/// What is called in several ways has several rows of the same name; they become its first one.
void fold(std::vector<FunctionCounts> &functions) {
    std::map<std::string, FunctionCounts *> first;
    for (FunctionCounts &function : functions) {
        const auto [known, is_new] = first.emplace(function.name, &function);
        if (is_new) continue;
        FunctionCounts &sum = *known->second;
        sum.tasks += std::exchange(function.tasks, 0);
        sum.calls += std::exchange(function.calls, 0);
        sum.errors += function.errors;
        sum.bytes_in += function.bytes_in;
        sum.bytes_out += function.bytes_out;
        add(sum.encode, function.encode);
        add(sum.wait, function.wait);
        add(sum.run, function.run);
        add(sum.decode, function.decode);
    }
}

std::vector<FunctionCounts> read_board(int fd, const Header &header) {
    std::vector<FunctionCounts> functions(kRows);
    std::vector<char> names(kRows * kNameBytes);
    const auto names_at = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    read_at(fd, names, names_at);
    for (std::size_t i = 0; i < kRows; ++i) {
        const char *name = names.data() + i * kNameBytes;
        functions[i].name.assign(name, ::strnlen(name, kNameBytes));
    }
    std::vector<Row> table(kRows);
    for (std::uint64_t number = 0; number < header.tables; ++number) {
        read_at(fd, table, names_at + names.size() + number * kRows * sizeof(Row));
        for (std::size_t i = 0; i < kRows; ++i) {
            number == 0 ? add_dispatcher(functions[i], table[i])
                        : add_worker(functions[i], table[i]);
        }
    }
    fold(functions);
    std::erase_if(functions, [](const FunctionCounts &function) {
        return function.tasks == 0 && function.calls == 0;
    });
    return functions;
}

std::string typical(const Times &times) {
    return times.count() == 0 ? "-"
                              : human_duration(times.quantile_ns(0.5)) + ", " +
                                    human_duration(times.quantile_ns(0.99));
}

void write_times(JsonWriter &json, const char *name, const Times &times) {
    json.key(name);
    json.begin_object();
    json.member("count", times.count());
    json.member("total_ns", times.total_ns);
    json.key("histogram");
    json.begin_array();
    for (const std::uint64_t count : times.counts) json.value(count);
    json.end_array();
    json.end_object();
}

}  // namespace

std::uint64_t Times::count() const {
    return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

std::uint64_t Times::quantile_ns(double share) const {
    double left = share * static_cast<double>(count());
    for (std::size_t bits = 0; bits < counts.size(); ++bits) {
        left -= static_cast<double>(counts[bits]);
        if (counts[bits] != 0 && left <= 0) return (std::uint64_t{1} << bits) - 1;
    }
    return 0;
}

std::vector<FunctionCounts> read_functions(const FoundPool &pool) {
    const std::string folder = process_path(pool.pid, "fd");
    const std::unique_ptr<DIR, DirectoryCloser> directory(::opendir(folder.c_str()));
    if (!directory) throw std::runtime_error(folder + ": " + std::strerror(errno));
    while (const dirent *entry = ::readdir(directory.get())) {
        std::array<char, 64> link{};
        const ssize_t length =
            ::readlinkat(::dirfd(directory.get()), entry->d_name, link.data(), link.size());
        if (length < 0 ||
            std::string_view(link.data(), static_cast<std::size_t>(length)) != kLink) {
            continue;
        }
        const std::string path = folder + "/" + entry->d_name;
        const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        if (!fd.valid()) throw std::runtime_error(path + ": " + std::strerror(errno));
        if (const auto header = header_of(fd.get(), pool)) return read_board(fd.get(), *header);
    }
    throw std::runtime_error(printable(pool_name(pool)) +
                             ": no counts of functions; only Python's dispatchers have them");
}

std::string functions_text(const std::vector<FunctionCounts> &functions) {
    Table table({"<FUNCTION", "CALLS", "ERRORS", "RUN TOTAL", "RUN 50%, 99%", "TASKS",
                 "WAIT 50%, 99%", "BYTES IN", "ENCODE TOTAL", "BYTES OUT", "DECODE TOTAL"});
    for (const FunctionCounts &function : functions) {
        table.add({function.name.empty() ? "(others)" : printable(function.name),
                   human_count(function.calls), human_count(function.errors),
                   human_duration(function.run.total_ns), typical(function.run),
                   human_count(function.tasks), typical(function.wait),
                   human_bytes(function.bytes_in), human_duration(function.encode.total_ns),
                   human_bytes(function.bytes_out), human_duration(function.decode.total_ns)});
    }
    return table.str("");
}

std::string functions_json(const std::vector<FunctionCounts> &functions) {
    JsonWriter json(true);
    json.begin_array();
    for (const FunctionCounts &function : functions) {
        json.begin_object();
        json.member("name", function.name);
        json.member("tasks", function.tasks);
        json.member("calls", function.calls);
        json.member("errors", function.errors);
        json.member("bytes_in", function.bytes_in);
        json.member("bytes_out", function.bytes_out);
        write_times(json, "encode", function.encode);
        write_times(json, "wait", function.wait);
        write_times(json, "run", function.run);
        write_times(json, "decode", function.decode);
        json.end_object();
    }
    json.end_array();
    return json.str();
}

}  // namespace aiomq_stat
