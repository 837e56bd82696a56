// A pool whose workers are the test program itself: main() calls run_as_worker() first.
//
// Task bodies are small and named; a test picks one by name. Everything waits for events: fixtures block
// on the pool's fd, never on time.
#pragma once

#include <aiomq/aiomq.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace aiomq_test {

/// Serves the named task bodies if this process was started by a pool; returns otherwise.
void run_as_worker();

/// Adds a test file's own task bodies: `const MoreBodies kMore{{"name", function, nullptr}};`.
struct MoreBodies {
    MoreBodies(std::initializer_list<aiomq_handler> more);
};
/// Calls @cancel for each job whose running items are to stop: `const OnCancel kCancel(function);`.
struct OnCancel {
    explicit OnCancel(void (*cancel)(void *user, std::uint32_t job, std::uint32_t item));
};
/// Has finished nested tasks given to @function in the workers: `const Answers kAnswers{function};`.
struct Answers {
    explicit Answers(void (*function)(void *user, const aiomq_completion *completion));
};
std::string payload_of(const aiomq_call *call);
int return_text(const std::string &text, aiomq_item *ret);
int return_integer(std::int64_t value, aiomq_item *ret);

/// The test program itself, as the default program of pools.
inline constexpr char kOwnProgram[] = "/proc/self/exe";
/// What starts the test program itself, NULL at the end. Under an emulator of another machine, which
/// AIOMQ_TEST_EMULATOR names, its name comes first: the kernel alone can't start such a program.
const char *const *own_command();
bool emulated();

/// One finished item.
struct Outcome {
    int status = 0;
    int kind = 0;
    std::int64_t integer = 0;
    std::string bytes;
    std::uint32_t worker = 0;
    std::uint32_t attempt = 0;
    int times = 0;  ///< how often it was delivered; 1 in a sound pool
    std::string error_type;
    std::string error_message;
    int signal = 0;
};

/// See aiomq_group; the pool's program and environment with these added.
struct GroupOptions {
    std::uint32_t workers = 1;
    std::vector<std::uint32_t> queues{};
    std::uint32_t concurrency = 0;
    std::uint64_t max_tasks = 0;
    std::uint64_t max_memory_bytes = 0;
    std::string name{};
    std::vector<std::string> arguments{};
    std::vector<std::string> environment{};
};

struct PoolOptions {
    std::uint32_t workers = 1;
    std::uint32_t capacity = 64;
    std::uint64_t arena_max = 64 << 20;
    std::uint64_t arena_start = 64 << 10;
    std::uint64_t spin_ns = AIOMQ_SPIN_AUTO;
    std::uint32_t flags = 0;
    std::uint32_t start_limit = 3;
    std::vector<std::string> arguments{};  ///< after the program's own name
    std::vector<std::string> environment{};
    std::uint64_t blocked_after_ns = 1'000'000'000;
    aiomq_log_function log = nullptr;
    void *log_user = nullptr;
    std::vector<int> extra_fds{};
    std::string label = "test";
    std::string program = kOwnProgram;
    std::function<void(aiomq_pool_options &)> adjust{};  ///< whatever is not above
    std::vector<std::string> queues{};
    std::vector<GroupOptions> groups{};  ///< then `workers` does not count
};

/// A pool and what came back from it.
class TestPool {
  public:
    explicit TestPool(const PoolOptions &options = {});
    ~TestPool();
    TestPool(const TestPool &) = delete;
    TestPool &operator=(const TestPool &) = delete;

    aiomq_pool *get() { return pool_; }
    int created() const { return created_; }
    const std::string &error_text() const { return error_text_; }

    /// Submits; waits for room as long as it takes. Returns the task's id.
    std::uint64_t submit(const std::string &function, const std::string &payload = {},
                         std::uint32_t items = 1, std::uint32_t flags = 0);
    /// The same for a task with options of its own; the function's number is filled in here.
    std::uint64_t submit_task(const std::string &function, aiomq_task task);
    /// The same for a task with more fields set; function and payload are filled in.
    std::uint64_t submit_task(aiomq_task task, const std::string &function,
                              const std::string &payload = {});
    /// Takes what is there, blocking for the first completion. False after @timeout_ns.
    bool collect_some(std::uint64_t timeout_ns = 20'000'000'000);
    /// Collects until every item of every submitted task has an outcome.
    void collect_all();
    /// Outcome of item @item of task @id.
    Outcome &outcome(std::uint64_t id, std::uint32_t item = 0) { return outcomes_[{id, item}]; }
    std::map<std::pair<std::uint64_t, std::uint32_t>, Outcome> &outcomes() { return outcomes_; }
    std::uint64_t items_due() const { return items_due_; }
    void destroy();

    /// The newest of the last events of this kind; kind AIOMQ_EVENT_NONE: there is none.
    aiomq_event last_event(std::uint32_t kind);
    aiomq_worker_stats worker_stats(std::uint32_t worker);
    aiomq_queue_stats queue_stats(std::uint32_t queue);
    /// The texts of the events of this kind among the last 64.
    std::vector<std::string> events(int kind);
    /// The kind of the newest event about a worker; 0 when there is none among the last.
    std::uint32_t last_event_of(std::uint32_t worker);
    aiomq_pool_stats pool_stats();
    std::string figures();
    /// Blocks on the fd until @done says so. Fails the test after 20 s.
    void wait_until(const std::function<bool()> &done);
    /// To the process in a worker's place; waits for one while the place is empty.
    void signal_worker(std::uint32_t worker, int signal);
    /// True when no slot, request byte or result byte is in use any more.
    bool nothing_in_use();

  private:
    aiomq_pool *pool_ = nullptr;
    int created_ = 0;
    std::string error_text_;
    std::map<std::pair<std::uint64_t, std::uint32_t>, Outcome> outcomes_;
    std::uint64_t items_due_ = 0;
};

/// Runs @body in a fork, where limits and descriptors may be changed, and gives back what it returned;
/// "ended by …" when it did not get so far.
std::string in_child(const std::function<std::string()> &body);

/// This process's environment behind @more. Variables that the workers here look at:
///   AIOMQ_TEST_MODE         how a worker misbehaves before it is ready, see run_as_worker()
///   AIOMQ_TEST_REFUSE       a path: while it exists a worker that starts ends with status 3
///   AIOMQ_TEST_HOLD         a path: while it exists a worker does not say that it is ready; SIGTERM retires it
///   AIOMQ_TEST_COUNT        set: each start writes a byte to fd AIOMQ_EXTRA_FD_BASE
///   AIOMQ_TEST_CONCURRENCY  items at once
std::vector<std::string> own_environment(const std::vector<std::string> &more = {});

}  // namespace aiomq_test
