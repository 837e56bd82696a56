#include "mixed_pool.hpp"

#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "../support/clock.hpp"

namespace chaos {
namespace {

constexpr std::uint32_t kSingleWorkers = 2;
constexpr std::uint32_t kPythonWorkers = 2;
constexpr std::uint64_t kNamesEnd = 65536 + 32768;  // what is before them, with any page size
constexpr std::uint64_t kTableBytes = 180224;       // aiomq._board: one for each worker, and ours
constexpr std::uint64_t kStackBytes = 65536;        // aiomq._stuck

std::uint32_t swift_workers() { return std::max(4U, std::thread::hardware_concurrency() + 1); }

[[noreturn]] void give_up(const std::string &why) {
    fprintf(stderr, "chaos: %s\n", why.c_str());
    exit(2);
}

/// What test/chaos/python_group.py says.
struct PythonGroup {
    int stuck_signal = 0;
    std::vector<std::string> command{};
    std::string setup{};
};

PythonGroup ask_python(const PoolPlan &plan, std::uint32_t workers) {
    const std::string command = "'" + plan.python + "' '" + plan.folder + "/python_group.py' " +
                                std::to_string(workers) + " 16 native urgent python";
    FILE *answer = popen(command.c_str(), "re");
    std::string text;
    char bytes[4096];
    for (std::size_t count = 0; (count = fread(bytes, 1, sizeof bytes, answer)) > 0;)
        text.append(bytes, count);
    if (pclose(answer) != 0) give_up(command + " failed");
    PythonGroup group;
    const auto word = [&] {
        const auto end = text.find('\0');
        const std::string result = text.substr(0, end);
        text.erase(0, end == std::string::npos ? end : end + 1);
        return result;
    };
    group.stuck_signal = atoi(word().c_str());
    for (std::string next = word(); !next.empty(); next = word()) group.command.push_back(next);
    group.setup = text;
    return group;
}

int memory_file(const char *name, std::uint64_t bytes, const std::string &content = {}) {
    const int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) give_up("no memfd");
    if (pwrite(fd, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size()))
        give_up("a memfd can't be written");
    return fd;
}

std::vector<const char *> pointers(const std::vector<std::string> &texts) {
    std::vector<const char *> result;
    for (const std::string &text : texts) result.push_back(text.c_str());
    result.push_back(nullptr);
    return result;
}

}  // namespace

MixedPool::MixedPool(PoolPlan plan)
    : plan_(std::move(plan)),
      swift_(swift_workers()),
      native_(swift_ + kSingleWorkers),
      python_(plan_.python.empty() ? 0 : kPythonWorkers),
      ledger_(native_ + python_, plan_.seed) {
    PythonGroup group;
    if (python_ != 0) group = ask_python(plan_, workers());
    const std::vector<int> descriptors{
        memory_file("aiomq-depot", group.setup.size(), group.setup),
        memory_file("aiomq-board", kNamesEnd + (1 + workers()) * kTableBytes),
        memory_file("aiomq-stacks", workers() * kStackBytes), ledger_.fd()};
    create(group.command, group.stuck_signal, descriptors);
    for (int i = 0; i < 3; ++i) close(descriptors[static_cast<std::size_t>(i)]);
    name_functions();
}

MixedPool::~MixedPool() {
    aiomq_view_close(&view_);
    aiomq_pool_destroy(&pool_);
}

void MixedPool::create(const std::vector<std::string> &python_command, int stuck_signal,
                       const std::vector<int> &descriptors) {
    char text[4096] = "";
    std::vector<std::string> environment{plan_.mark};
    for (char **entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    const auto environment_list = pointers(environment);
    const auto command_list = pointers(python_command);
    const char *const own[] = {"/proc/self/exe", nullptr};
    const char *const queues[] = {"native", "urgent", "python"};
    const std::uint32_t swift_queues[] = {kUrgentQueue, kNativeQueue};
    const std::uint32_t single_queues[] = {kNativeQueue, kUrgentQueue};
    const std::uint32_t python_queues[] = {kPythonQueue};
    aiomq_group groups[3]{};
    for (aiomq_group &group : groups) group.struct_bytes = sizeof group;
    groups[0].workers = swift_;
    groups[0].name = "swift";
    groups[0].queues = swift_queues;
    groups[0].queue_count = 2;
    groups[1].workers = kSingleWorkers;
    groups[1].name = "single";
    groups[1].queues = single_queues;
    groups[1].queue_count = 2;
    groups[1].concurrency = 1;
    groups[1].max_tasks = 20000;
    groups[2].workers = python_;
    groups[2].name = "python";
    groups[2].argv = command_list.data();
    groups[2].queues = python_queues;
    groups[2].queue_count = 1;
    groups[2].stuck_signal = stuck_signal;
    aiomq_pool_options options;
    aiomq_pool_options_init(&options, sizeof options);
    options.flags = plan_.flags;
    options.label = plan_.label.c_str();
    options.capacity = kCapacity;
    options.argv = own;
    options.environment = environment_list.data();
    options.extra_fds = descriptors.data();
    options.extra_fd_count = static_cast<std::uint32_t>(descriptors.size());
    options.start_limit = UINT32_MAX;
    options.arena_start_bytes = 64 << 10;
    options.arena_max_bytes = kArenaBytes;
    options.queues = queues;
    options.queue_count = python_ != 0 ? 3 : 2;
    options.groups = groups;
    options.group_count = python_ != 0 ? 3 : 2;
    options.poison_limit = kPoisonLimit;
    options.grace_ns = 50'000'000;
    options.log = [](void *self, const aiomq_event *event) {
        const auto &log = static_cast<MixedPool *>(self)->plan_.log;
        if (log) log(*event);
    };
    options.log_user = this;
    options.error_text = text;
    options.error_text_bytes = sizeof text;
    if (const int error = aiomq_pool_create(&options, &pool_); error != 0)
        give_up(std::string("no pool: ") + aiomq_strerror(error) + ": " + text);
    if (aiomq_pool_view(pool_, &view_) != 0) give_up("no view of the pool");
}

void MixedPool::name_functions() {
    struct {
        const char *name;
        std::uint32_t *number;
    } const names[] = {
        {"order", &functions_.order},
        {"blank", &functions_.blank},
        {"beat", &functions_.beat},
        {"chaos_worker:order", &functions_.python_order},
        {"chaos_worker:plain_order", &functions_.python_plain},
        {"chaos_worker:cell", &functions_.cell},
        {"chaos_worker:late_cell", &functions_.late_cell},
        {"chaos_worker:beat", &functions_.python_beat},
    };
    for (const auto &entry : names)
        if (aiomq_pool_function(pool_, entry.name, entry.number) != 0) give_up("no function");
}

aiomq_pool_stats MixedPool::stats() const {
    aiomq_pool_stats stats{};
    stats.struct_bytes = sizeof stats;
    if (aiomq_view_pool(view_, &stats) != 0) give_up("no statistics");
    return stats;
}

aiomq_worker_stats MixedPool::worker(std::uint32_t index) const {
    aiomq_worker_stats stats{};
    stats.struct_bytes = sizeof stats;
    if (aiomq_view_worker(view_, index, &stats) != 0) give_up("no statistics of a worker");
    return stats;
}

bool MixedPool::all_are_ready() const {
    for (std::uint32_t i = 0; i < workers(); ++i)
        if (worker(i).state != AIOMQ_WORKER_RUNNING) return false;
    return true;
}

bool MixedPool::wait_until(const std::function<bool()> &done, double seconds) {
    const std::uint64_t end = aiomq_test::now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
    while (!done()) {
        if (aiomq_test::now_ns() >= end) return false;
        pollfd entry{aiomq_pool_fd(pool_), POLLIN, 0};
        poll(&entry, 1, 2);  // what others hold has no event: looked for
        aiomq_pool_dispatch(pool_);
    }
    return true;
}

}  // namespace chaos
