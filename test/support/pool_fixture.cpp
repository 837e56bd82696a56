#include "pool_fixture.hpp"

#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <deque>
#include <filesystem>

#include "clock.hpp"
#include "process.hpp"
#include "sandbox.hpp"

extern char **environ;

namespace aiomq_test {
namespace {

int nothing(const aiomq_call *, aiomq_item *) { return 0; }

int item_number(const aiomq_call *call, aiomq_item *ret) {
    ret->kind = AIOMQ_KIND_INT;
    ret->value.integer = call->item;
    return 0;
}

int pid(const aiomq_call *, aiomq_item *ret) {
    ret->kind = AIOMQ_KIND_INT;
    ret->value.integer = getpid();
    return 0;
}

/// Gives the payload back, and its item number behind it when there are many.
int echo(const aiomq_call *call, aiomq_item *ret) {
    static std::string storage;
    storage = payload_of(call);
    // Of many, also when the others went elsewhere.
    if (call->item > 0 || call->job->end_item - call->job->first_item > 1)
        storage += std::to_string(call->item);
    ret->kind = AIOMQ_KIND_BYTES;
    ret->bytes = storage.size();
    ret->value.data = storage.data();
    return 0;
}

/// A result of as many bytes as the payload says, built in place.
int make_bytes(const aiomq_call *call, aiomq_item *ret) {
    const std::uint64_t bytes = std::strtoull(payload_of(call).c_str(), nullptr, 10);
    void *memory = nullptr;
    const int error = aiomq_worker_alloc(call->worker, call->job->job, bytes, &memory);
    if (error != 0) return error;
    std::memset(memory, 'x', bytes);
    ret->kind = AIOMQ_KIND_BYTES;
    ret->bytes = bytes;
    ret->value.data = memory;
    return 0;
}

int refuse(const aiomq_call *, aiomq_item *) { return -EDOM; }

/// Dies at the item that the payload names; other items give their number.
int die_at(const aiomq_call *call, aiomq_item *ret) {
    if (std::strtoul(payload_of(call).c_str(), nullptr, 10) == call->item) kill(getpid(), SIGKILL);
    return item_number(call, ret);
}

int exit_with(const aiomq_call *call, aiomq_item *) {
    _exit(static_cast<int>(std::strtol(payload_of(call).c_str(), nullptr, 10)));
}

/// Waits until the file that the payload names exists.
int wait_for_file(const aiomq_call *call, aiomq_item *ret) {
    const std::string path = payload_of(call);
    struct stat file {};
    while (stat(path.c_str(), &file) != 0) {
        const timespec moment{0, 1000000};
        nanosleep(&moment, nullptr);
    }
    return item_number(call, ret);
}

/// Completes later, from a libevent timer of 1 ms.
int later(const aiomq_call *call, aiomq_item *) {
    struct Context {
        aiomq_worker *worker;
        std::uint32_t job;
        std::uint32_t item;
    };
    auto *context = new Context{call->worker, call->job->job, call->item};
    const timeval delay{0, 1000};
    event_base_once(
        aiomq_worker_event_base(call->worker), -1, EV_TIMEOUT,
        [](evutil_socket_t, short, void *argument) {
            auto *due = static_cast<Context *>(argument);
            aiomq_item item{};
            item.index = due->item;
            item.status = AIOMQ_OK;
            item.kind = AIOMQ_KIND_INT;
            item.value.integer = due->item;
            if (aiomq_worker_complete(due->worker, due->job, &item) < 0) abort();
            delete due;
        },
        context, &delay);
    return 1;
}

/// Completes once the file that the payload names exists; the loop runs on meanwhile.
int suspend(const aiomq_call *call, aiomq_item *) {
    struct Waiting {
        aiomq_worker *worker;
        std::uint32_t job;
        std::string path;

        void look() {
            const timeval moment{0, 1000};
            event_base_once(
                aiomq_worker_event_base(worker), -1, EV_TIMEOUT,
                [](evutil_socket_t, short, void *argument) {
                    auto *self = static_cast<Waiting *>(argument);
                    if (access(self->path.c_str(), F_OK) != 0) return self->look();
                    aiomq_item item{};
                    item.status = AIOMQ_OK;
                    if (aiomq_worker_complete(self->worker, self->job, &item) < 0) abort();
                    delete self;
                },
                this, &moment);
        }
    };
    (new Waiting{call->worker, call->job->job, payload_of(call)})->look();
    return 1;
}

int own_variable(const aiomq_call *call, aiomq_item *ret) {
    const char *value = getenv(payload_of(call).c_str());
    return return_text(value == nullptr ? "(unset)" : value, ret);
}

/// Writes to memory that only the dispatcher may write.
int scribble_request(const aiomq_call *call, aiomq_item *) {
    const_cast<char *>(static_cast<const char *>(call->job->payload))[0] = '!';
    return 0;
}

int file_descriptor_count(const aiomq_call *, aiomq_item *ret) {
    int open_fds = 0;
    for (int fd = 0; fd < 1024; ++fd)
        if (fcntl(fd, F_GETFD) >= 0) ++open_fds;
    ret->kind = AIOMQ_KIND_INT;
    ret->value.integer = open_fds;
    return 0;
}

constexpr aiomq_handler kBodies[] = {
    {"nothing", nothing, nullptr},
    {"item_number", item_number, nullptr},
    {"pid", pid, nullptr},
    {"echo", echo, nullptr},
    {"make_bytes", make_bytes, nullptr},
    {"refuse", refuse, nullptr},
    {"die_at", die_at, nullptr},
    {"exit_with", exit_with, nullptr},
    {"wait_for_file", wait_for_file, nullptr},
    {"later", later, nullptr},
    {"suspend", suspend, nullptr},
    {"own_variable", own_variable, nullptr},
    {"scribble_request", scribble_request, nullptr},
    {"file_descriptor_count", file_descriptor_count, nullptr},
};

/// The bodies above and those of the test's own file.
std::vector<aiomq_handler> &bodies() {
    static std::vector<aiomq_handler> all(std::begin(kBodies), std::end(kBodies));
    return all;
}

/// What OnCancel has set.
void (*&cancel_hook())(void *, std::uint32_t, std::uint32_t) {
    static void (*hook)(void *, std::uint32_t, std::uint32_t) = nullptr;
    return hook;
}

void (*&answer_function())(void *, const aiomq_completion *) {
    static void (*function)(void *, const aiomq_completion *) = nullptr;
    return function;
}

/// Puts a copy of the pool's header with another format version where the memory is expected.
void pretend_other_version() {
    constexpr int kMemory = 3;
    char bytes[4096];
    struct stat file {};
    fstat(kMemory, &file);
    const int copy = memfd_create("aiomq:other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (pread(kMemory, bytes, sizeof bytes, 0) != sizeof bytes ||
        ftruncate(copy, file.st_size) != 0)
        _exit(8);
    const std::uint32_t version = 999;
    std::memcpy(bytes + 8, &version, sizeof version);
    if (pwrite(copy, bytes, sizeof bytes, 0) != sizeof bytes) _exit(8);
    fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    dup2(copy, kMemory);
}

/// A program that was started as a worker and creates a pool first.
[[noreturn]] void create_first() {
    char error_text[512] = "";
    aiomq_pool_options options;
    aiomq_pool_options_init(&options, sizeof options);
    options.argv = own_command();
    options.error_text = error_text;
    options.error_text_bytes = sizeof error_text;
    aiomq_pool *pool = nullptr;
    const int error = aiomq_pool_create(&options, &pool);
    fprintf(stderr, "%d %s\n", error, error_text);
    _exit(4);
}

void misbehave_before_open(const std::string &mode) {
    if (mode == "exit_at_once") {
        fprintf(stderr, "no configuration\ncannot go on\n");
        _exit(3);
    }
    if (mode == "exit_silently") _exit(3);
    if (mode == "exit_with_much_text") {
        for (int line = 0; line < 20000; ++line) fprintf(stderr, "line %d\n", line);
        _exit(3);
    }
    if (mode == "die_at_once") kill(getpid(), SIGKILL);
    if (mode == "create_first") create_first();
    if (mode == "other_version") pretend_other_version();
}

aiomq_worker *held_worker = nullptr;

/// As a program whose start takes long, and which can be asked to leave all the while.
void hold(aiomq_worker *worker, const char *path) {
    held_worker = worker;
    signal(SIGTERM, [](int) { aiomq_worker_retire(held_worker); });
    while (access(path, F_OK) == 0) usleep(1000);
}

}  // namespace

void run_as_worker() {
    if (getenv("AIOMQ_WORKER") == nullptr) return;
    const char *variable = getenv("AIOMQ_TEST_MODE");
    const std::string mode = variable == nullptr ? "" : variable;
    if (getenv("AIOMQ_TEST_COUNT") != nullptr && write(AIOMQ_EXTRA_FD_BASE, ".", 1) != 1) _exit(8);
    const char *refuse = getenv("AIOMQ_TEST_REFUSE");
    if (refuse != nullptr && access(refuse, F_OK) == 0) _exit(3);
    if (mode == "ignore_sigterm") signal(SIGTERM, SIG_IGN);
    misbehave_before_open(mode);
    aiomq_worker *worker = nullptr;
    char text[512];
    if (aiomq_worker_open(&worker, text, sizeof text) != 0) {
        fprintf(stderr, "%s\n", text);
        _exit(5);
    }
    if (mode == "abort") {
        aiomq_worker_abort(worker, "the initializer raised: no such table");
        _exit(6);
    }
    if (const char *path = getenv("AIOMQ_TEST_HOLD")) hold(worker, path);
    aiomq_run_options options;
    aiomq_run_options_init(&options, sizeof options);
    options.handlers = bodies().data();
    options.handler_count = bodies().size();
    options.cancel = cancel_hook();
    options.answer = answer_function();
    if (const char *concurrency = getenv("AIOMQ_TEST_CONCURRENCY"))
        options.concurrency = static_cast<std::uint32_t>(atoi(concurrency));
    const int error = aiomq_worker_run(worker, &options);
    aiomq_worker_close(&worker);
    exit(error == 0 ? 0 : 7);
}

MoreBodies::MoreBodies(std::initializer_list<aiomq_handler> more) {
    bodies().insert(bodies().end(), more);
}

OnCancel::OnCancel(void (*cancel)(void *, std::uint32_t, std::uint32_t)) { cancel_hook() = cancel; }

Answers::Answers(void (*function)(void *, const aiomq_completion *)) {
    answer_function() = function;
}

std::string payload_of(const aiomq_call *call) {
    return {static_cast<const char *>(call->job->payload), call->job->payload_bytes};
}

int return_text(const std::string &text, aiomq_item *ret) {
    static std::string storage;
    storage = text;
    ret->kind = AIOMQ_KIND_TEXT;
    ret->bytes = storage.size();
    ret->value.data = storage.data();
    return 0;
}

int return_integer(std::int64_t value, aiomq_item *ret) {
    ret->kind = AIOMQ_KIND_INT;
    ret->value.integer = value;
    return 0;
}

std::string in_child(const std::function<std::string()> &body) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
    fflush(stdout);
    const bool failed_before = testing::Test::HasFailure();
    const pid_t child = fork();
    if (child == 0) {
        // Out of the way of bodies that close or count the low descriptors.
        const int answer = fcntl(ends[1], F_DUPFD_CLOEXEC, 100);
        close(ends[0]);
        close(ends[1]);
        const std::string text = body();
        const bool told =
            write(answer, text.data(), text.size()) == static_cast<ssize_t>(text.size());
        _exit(told && testing::Test::HasFailure() == failed_before ? 0 : 1);
    }
    close(ends[1]);
    std::string text;
    char bytes[4096];
    for (ssize_t count = 0; (count = read(ends[0], bytes, sizeof bytes)) > 0;)
        text.append(bytes, static_cast<std::size_t>(count));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return status == 0 ? text : "ended by " + std::to_string(status) + ": " + text;
}

namespace {

/// Strings and the array of pointers to them that C wants.
class StringList {
  public:
    explicit StringList(std::vector<std::string> strings) : strings_(std::move(strings)) {
        for (const auto &text : strings_) pointers_.push_back(text.c_str());
        pointers_.push_back(nullptr);
    }
    const char *const *data() const { return pointers_.data(); }

  private:
    std::vector<std::string> strings_;
    std::vector<const char *> pointers_;
};

std::vector<std::string> joined(std::vector<std::string> first,
                                const std::vector<std::string> &second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

/// The command for @program.
std::vector<std::string> command_of(const std::string &program) {
    if (program != kOwnProgram) return {program};
    std::vector<std::string> words;
    for (const char *const *word = own_command(); *word != nullptr; ++word)
        words.emplace_back(*word);
    return words;
}

}  // namespace

bool emulated() { return getenv("AIOMQ_TEST_EMULATOR") != nullptr; }

const char *const *own_command() {
    static const std::string path = std::filesystem::read_symlink(kOwnProgram).string();
    static const char *const native[] = {kOwnProgram, nullptr};
    static const char *const in_emulator[] = {getenv("AIOMQ_TEST_EMULATOR"), path.c_str(), nullptr};
    return emulated() ? in_emulator : native;
}

std::vector<std::string> own_environment(const std::vector<std::string> &more) {
    std::vector<std::string> result(more);
    for (char **entry = environ; *entry != nullptr; ++entry) result.emplace_back(*entry);
    return result;
}

TestPool::TestPool(const PoolOptions &options) {
    aiomq_pool_options raw;
    aiomq_pool_options_init(&raw, sizeof raw);
    char text[4096] = "";
    const StringList argv(joined(command_of(options.program), options.arguments));
    const StringList environment(own_environment(options.environment));
    const StringList queues(options.queues);
    std::deque<StringList> lists;  // of the groups; they do not move
    std::vector<aiomq_group> groups;
    for (const GroupOptions &group : options.groups) {
        aiomq_group one{};
        one.struct_bytes = sizeof one;
        one.workers = group.workers;
        one.name = group.name.empty() ? nullptr : group.name.c_str();
        one.queues = group.queues.data();
        one.queue_count = static_cast<std::uint32_t>(group.queues.size());
        one.concurrency = group.concurrency;
        one.max_tasks = group.max_tasks;
        one.max_memory_bytes = group.max_memory_bytes;
        lists.emplace_back(joined(command_of(options.program), group.arguments));
        one.argv = group.arguments.empty() ? nullptr : lists.back().data();
        lists.emplace_back(own_environment(joined(group.environment, options.environment)));
        one.environment = group.environment.empty() ? nullptr : lists.back().data();
        groups.push_back(one);
    }
    if (!groups.empty()) {
        raw.groups = groups.data();
        raw.group_count = static_cast<std::uint32_t>(groups.size());
    }
    if (!options.queues.empty()) {
        raw.queues = queues.data();
        raw.queue_count = static_cast<std::uint32_t>(options.queues.size());
    }
    raw.label = options.label.c_str();
    raw.workers = options.workers;
    raw.capacity = options.capacity;
    raw.argv = argv.data();
    raw.environment = environment.data();
    raw.arena_start_bytes = options.arena_start;
    raw.arena_max_bytes = options.arena_max;
    raw.spin_ns = options.spin_ns;
    raw.flags = options.flags;
    raw.start_limit = options.start_limit;
    raw.blocked_after_ns = options.blocked_after_ns;
    raw.log = options.log;
    raw.log_user = options.log_user;
    raw.extra_fds = options.extra_fds.empty() ? nullptr : options.extra_fds.data();
    raw.extra_fd_count = static_cast<std::uint32_t>(options.extra_fds.size());
    raw.error_text = text;
    raw.error_text_bytes = sizeof text;
    if (options.adjust) options.adjust(raw);
    created_ = aiomq_pool_create(&raw, &pool_);
    error_text_ = text;
}

TestPool::~TestPool() { destroy(); }

void TestPool::destroy() { aiomq_pool_destroy(&pool_); }

std::uint64_t TestPool::submit(const std::string &function, const std::string &payload,
                               std::uint32_t items, std::uint32_t flags) {
    aiomq_task task{};
    task.flags = flags;
    task.items = items;
    return submit_task(task, function, payload);
}

std::uint64_t TestPool::submit_task(aiomq_task task, const std::string &function,
                                    const std::string &payload) {
    task.kind = AIOMQ_KIND_BYTES;
    task.payload = payload.empty() ? nullptr : payload.data();
    task.payload_bytes = payload.size();
    return submit_task(function, task);
}

std::uint64_t TestPool::submit_task(const std::string &function, aiomq_task task) {
    task.struct_bytes = sizeof task;
    if (task.items == 0) task.items = 1;
    EXPECT_EQ(aiomq_pool_function(pool_, function.c_str(), &task.function), 0);
    std::uint64_t id = 0;
    int error = aiomq_pool_submit(pool_, &task, &id);
    while (error == -EAGAIN || error == -ENOMEM) {
        if (!collect_some()) break;
        error = aiomq_pool_submit(pool_, &task, &id);
    }
    char why[512] = "";
    if (error != 0) aiomq_pool_state(pool_, why, sizeof why);
    EXPECT_EQ(error, 0) << aiomq_strerror(error) << ": " << why;
    items_due_ += task.items;
    return id;
}

bool TestPool::collect_some(std::uint64_t timeout_ns) {
    aiomq_completion completions[16];
    std::int64_t count = aiomq_pool_collect(pool_, completions, 16);
    const std::uint64_t end = now_ns() + timeout_ns;
    while (count == 0) {
        const std::uint64_t now = now_ns();
        if (now >= end) return false;
        const int flags = aiomq_pool_wait(pool_, end - now);
        if (flags == 0) return false;
        count = aiomq_pool_collect(pool_, completions, 16);
        if (count == 0 && flags != AIOMQ_DISPATCH_COMPLETIONS) return true;
    }
    for (std::int64_t i = 0; i < count; ++i) {
        const aiomq_completion &completion = completions[i];
        for (std::uint32_t k = 0; k < completion.item_count; ++k) {
            const aiomq_item &item = completion.items[k];
            Outcome &outcome = outcomes_[{completion.task_id, item.index}];
            ++outcome.times;
            outcome.status = item.status;
            outcome.kind = item.kind;
            outcome.worker = completion.worker;
            outcome.attempt = completion.attempt;
            if (item.kind >= AIOMQ_KIND_BYTES)
                outcome.bytes.assign(static_cast<const char *>(item.value.data), item.bytes);
            else
                outcome.integer = item.value.integer;
            if (item.kind == AIOMQ_KIND_ERROR) {
                std::vector<char> buffer(item.bytes + 64);
                aiomq_error error;
                EXPECT_EQ(aiomq_error_decode(&item, buffer.data(), buffer.size(), &error), 0);
                outcome.error_type = error.type;
                outcome.error_message = error.message;
                outcome.signal = error.signal;
            }
        }
        aiomq_pool_release(pool_, completion.loan);
    }
    return true;
}

void TestPool::collect_all() {
    while (outcomes_.size() < items_due_)
        if (!collect_some()) {
            ADD_FAILURE() << "hung: " << outcomes_.size() << " of " << items_due_ << " outcomes";
            return;
        }
}

aiomq_event TestPool::last_event(std::uint32_t kind) {
    aiomq_event event{};
    aiomq_event found{};
    aiomq_view *view = nullptr;
    EXPECT_EQ(aiomq_pool_view(pool_, &view), 0);
    for (std::uint64_t sequence = pool_stats().events; sequence > 0; --sequence) {
        if (aiomq_view_event(view, sequence, &event) != 0) break;
        if (event.kind != kind) continue;
        found = event;
        break;
    }
    aiomq_view_close(&view);
    return found;
}

aiomq_worker_stats TestPool::worker_stats(std::uint32_t worker) {
    aiomq_view *view = nullptr;
    EXPECT_EQ(aiomq_pool_view(pool_, &view), 0);
    aiomq_worker_stats stats{};
    stats.struct_bytes = sizeof stats;
    EXPECT_EQ(aiomq_view_worker(view, worker, &stats), 0);
    aiomq_view_close(&view);
    return stats;
}

aiomq_queue_stats TestPool::queue_stats(std::uint32_t queue) {
    aiomq_view *view = nullptr;
    EXPECT_EQ(aiomq_pool_view(pool_, &view), 0);
    aiomq_queue_stats stats{};
    stats.struct_bytes = sizeof stats;
    EXPECT_EQ(aiomq_view_queue(view, queue, &stats), 0);
    aiomq_view_close(&view);
    return stats;
}

std::vector<std::string> TestPool::events(int kind) {
    aiomq_view *view = nullptr;
    EXPECT_EQ(aiomq_pool_view(pool_, &view), 0);
    std::vector<std::string> texts;
    const std::uint64_t last = pool_stats().events;
    for (std::uint64_t sequence = last > 60 ? last - 60 : 1; sequence <= last; ++sequence) {
        aiomq_event event{};
        if (aiomq_view_event(view, sequence, &event) == 0 &&
            event.kind == static_cast<std::uint32_t>(kind))
            texts.emplace_back(event.text);
    }
    aiomq_view_close(&view);
    return texts;
}

std::uint32_t TestPool::last_event_of(std::uint32_t worker) {
    aiomq_view *view = nullptr;
    EXPECT_EQ(aiomq_pool_view(pool_, &view), 0);
    std::uint32_t kind = 0;
    aiomq_event event{};
    for (std::uint64_t sequence = pool_stats().events; sequence > 0; --sequence) {
        const int error = aiomq_view_event(view, sequence, &event);
        if (error != 0 || event.worker == worker) {
            if (error == 0) kind = event.kind;
            break;
        }
    }
    aiomq_view_close(&view);
    return kind;
}

aiomq_pool_stats TestPool::pool_stats() {
    aiomq_view *view = nullptr;
    EXPECT_EQ(aiomq_pool_view(pool_, &view), 0);
    aiomq_pool_stats stats{};
    stats.struct_bytes = sizeof stats;
    EXPECT_EQ(aiomq_view_pool(view, &stats), 0);
    aiomq_view_close(&view);
    return stats;
}

/// For the message of a test that fails.
std::string TestPool::figures() {
    const aiomq_pool_stats stats = pool_stats();
    std::string text = "; audits " + std::to_string(stats.audits) + ", wake-ups " +
                       std::to_string(stats.wakeups_sent) + " sent, " +
                       std::to_string(stats.wakeups_elided) + " elided";
    for (std::uint32_t worker = 0; worker < stats.workers; ++worker) {
        const aiomq_worker_stats one = worker_stats(worker);
        text += "; worker " + std::to_string(worker) + ": pid " + std::to_string(one.pid) + " (" +
                state_of(one.pid) + "), state " + std::to_string(one.state) + ", sleeping " +
                std::to_string(one.sleeping) + ", started " + std::to_string(one.started) +
                ", completed " + std::to_string(one.completed) + ", running " +
                std::to_string(one.running) + ", woken " + std::to_string(one.wakeups);
    }
    return text;
}

void TestPool::wait_until(const std::function<bool()> &done) {
    const std::uint64_t end = now_ns() + 20'000'000'000;
    while (!done()) {
        ASSERT_LT(now_ns(), end) << "what the test waits for did not happen" << figures();
        pollfd entry{aiomq_pool_fd(pool_), POLLIN, 0};
        poll(&entry, 1, 2);
        aiomq_pool_dispatch(pool_);
    }
}

void TestPool::signal_worker(std::uint32_t worker, int signal) {
    wait_until([&] {
        const pid_t pid = worker_stats(worker).pid;
        return pid > 0 && kill(pid, signal) == 0;  // 0 would be every process of the group
    });
}

bool TestPool::nothing_in_use() {
    // A task's end may come after its last outcome: taking it gives its memory back.
    collect_some(0);
    return pool_stats().result_used_bytes == 0;
}

}  // namespace aiomq_test

int main(int argc, char **argv) {
    aiomq_test::run_as_worker();
    testing::InitGoogleTest(&argc, argv);
    if (argc > 1 && std::string_view(argv[1]) == "--without-pidfds" &&
        !aiomq_test::forbid_pidfds(ENOSYS)) {
        perror("seccomp");
        constexpr int kSkipped = 77;  // an emulator has no seccomp filters
        return aiomq_test::emulated() ? kSkipped : 1;
    }
    return RUN_ALL_TESTS();
}
