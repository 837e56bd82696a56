// pool_fixture - a real pool whose numbers a test controls through standard input.
//
//   usage: pool_fixture LABEL WORKERS [LABEL WORKERS]…
//
// Creates one pool for each pair, with itself as the worker program, and writes "ready". Then each
// line of input is a command for the first pool, answered by one line when its effect is complete:
//   run N       N tasks succeed and are collected              → "ran N"
//   fail N      N tasks fail and are collected                 → "failed N"
//   chunk N     one task of N items succeeds and is collected  → "ran N"
//   block N     N tasks begin, as far as there are workers, and wait for `release`
//               → "blocked" when as many run as can
//   release N   N of the blocked tasks end and are collected   → "released N"
//   finish N    N tasks finish and are not collected           → "finished N"
//   collect N   collects so many                               → "collected N"
//   die N       N tasks, one after the other, kill their worker; answered when a new one is ready
//               → "died N"
//   nest        the pool is full of tasks that wait at the gate; the one that runs submits another and
//               all but that one end and are collected → "nested" when that one runs, at the gate
//   break       a worker dies, and no worker can start any more → "broken" when the pool is
//   scribble N  a worker stops this process, so that it does not see it, and writes numbers that follow
//               from N over all that it may write, for ever → when continued "scribbling"
//   broken      → "broken" when the pool is
//   close       → "closed" when every worker has left
//   quit        ends the process
// With BLOCKED_AFTER_MS in the environment a worker counts as blocked after so many milliseconds.
// Anything unexpected ends it with status 1 and a message.
#include <aiomq/aiomq.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    kMaxPools = 4,
    kBatch = 64,
    kCapacity = 256,
    kGateFd = AIOMQ_EXTRA_FD_BASE,
    kBegunFd,
    kRefuseFd
};

static const uint64_t kPatienceNs = 30000000000U;

static _Noreturn void give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("pool_fixture: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static unsigned number(const char *text) {
    char *end = NULL;
    const unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || value > UINT32_MAX) give_up("'%s' is not a number", text);
    return (unsigned)value;
}

// ---- worker -----------------------------------------------------------------------------------

static int succeed(const aiomq_call *call, aiomq_item *ret_item) {
    (void)call;
    (void)ret_item;
    return 0;
}

static int fail(const aiomq_call *call, aiomq_item *ret_item) {
    (void)call;
    (void)ret_item;
    return -EIO;
}

static int die(const aiomq_call *call, aiomq_item *ret_item) {
    (void)call;
    (void)ret_item;
    raise(SIGKILL);
    return 0;
}

// Says that it has begun, then waits for one byte from the gate.
static int block(const aiomq_call *call, aiomq_item *ret_item) {
    char byte = '.';
    (void)call;
    (void)ret_item;
    if (write(kBegunFd, &byte, 1) != 1) return -errno;
    while (read(kGateFd, &byte, 1) != 1)
        if (errno != EINTR) return -errno;
    return 0;
}

// Once it is let through, submits a task of its own and leaves it to itself.
static int nest(const aiomq_call *call, aiomq_item *ret_item) {
    aiomq_task task;
    const int result = block(call, ret_item);
    if (result < 0) return result;
    memset(&task, 0, sizeof task);
    task.struct_bytes = sizeof task;
    task.items = 1;
    return aiomq_worker_submit(call->worker, call->job->job, call->item, &task, "block");
}

// splitmix64
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

// Small numbers look right more often than large ones, and so get further.
static uint64_t any_value(uint64_t *state) {
    const uint64_t random = next_random(state);
    switch (random % 4) {
        case 0:
            return random % 256 == 0 ? UINT64_MAX : 0;
        case 1:
            return (random >> 8) % 512;
        case 2:
            return (random >> 8) % 512 << 32 | random >> 56;
        default:
            return random;
    }
}

struct part {
    uint64_t *words;
    size_t count;
};

// What this process may write of the pool's memory, as the kernel says.
static size_t find_writable(struct part *ret_parts, size_t most) {
    enum { kMostBytes = 1 << 20 };  // of each part: an arena is mostly air
    char line[512];
    size_t parts = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) give_up("worker: no /proc/self/maps");
    while (parts < most && fgets(line, sizeof line, maps) != NULL) {
        uintptr_t start = 0;
        uintptr_t end = 0;
        if (strstr(line, " rw-s ") == NULL || strstr(line, "/memfd:aiomq:") == NULL ||
            sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) != 2)
            continue;
        const size_t bytes = end - start < kMostBytes ? end - start : kMostBytes;
        ret_parts[parts++] = (struct part){(uint64_t *)start, bytes / sizeof(uint64_t)};
    }
    fclose(maps);
    return parts;
}

static int scribble(const aiomq_call *call, aiomq_item *ret_item) {
    struct part parts[16];
    const size_t count = find_writable(parts, sizeof parts / sizeof *parts);
    uint64_t state = (uint64_t)call->job->integer;
    (void)ret_item;
    if (count == 0) give_up("worker: nothing to scribble on");
    if (write(kBegunFd, ".", 1) != 1 || kill(getppid(), SIGSTOP) != 0) return -errno;
    for (;;) {
        const struct part *part = &parts[next_random(&state) % count];
        part->words[next_random(&state) % part->count] = any_value(&state);
    }
}

static int work(void) {
    static const aiomq_handler kHandlers[] = {
        {"succeed", succeed, NULL}, {"fail", fail, NULL}, {"die", die, NULL},
        {"block", block, NULL},     {"nest", nest, NULL}, {"scribble", scribble, NULL}};
    struct pollfd refused = {kRefuseFd, POLLIN, 0};
    if (poll(&refused, 1, 0) == 1) give_up("worker: no more of us");
    aiomq_run_options options;
    aiomq_worker *worker = NULL;
    char text[256] = "";
    int result = aiomq_worker_open(&worker, text, sizeof text);
    if (result < 0) give_up("worker: %s (%s)", aiomq_strerror(result), text);
    aiomq_run_options_init(&options, sizeof options);
    options.handlers = kHandlers;
    options.handler_count = sizeof kHandlers / sizeof kHandlers[0];
    result = aiomq_worker_run(worker, &options);
    aiomq_worker_close(&worker);
    return result < 0;
}

// ---- dispatcher -------------------------------------------------------------------------------

struct fixture {
    aiomq_pool *pool;
    aiomq_view *view;
    uint32_t workers;
    int gate;    // bytes written here let blocked tasks end
    int begun;   // bytes read here say that blocked tasks have begun
    int refuse;  // a byte written here keeps workers from starting
};

static void check(int64_t result, const char *what) {
    if (result < 0) give_up("%s: %s", what, aiomq_strerror((int)result));
}

static void submit_integer(struct fixture *fixture, const char *name, uint32_t items,
                           unsigned count, int64_t integer) {
    aiomq_task task;
    memset(&task, 0, sizeof task);
    task.struct_bytes = sizeof task;
    task.items = items;
    task.kind = AIOMQ_KIND_INT;
    task.integer = integer;
    check(aiomq_pool_function(fixture->pool, name, &task.function), name);
    while (count-- > 0) check(aiomq_pool_submit(fixture->pool, &task, NULL), "submit");
}

static void submit(struct fixture *fixture, const char *name, uint32_t items, unsigned count) {
    submit_integer(fixture, name, items, count, 0);
}

static void collect(struct fixture *fixture, unsigned items, int status) {
    aiomq_completion completions[kBatch];
    while (items > 0) {
        const int64_t count = aiomq_pool_collect(fixture->pool, completions, kBatch);
        check(count, "collect");
        for (int64_t i = 0; i < count; i++) {
            const aiomq_completion *done = &completions[i];
            for (uint32_t j = 0; j < done->item_count; j++, items--) {
                if (items == 0) give_up("more items than submitted");
                if (done->items[j].status != status)
                    give_up("outcome %s", aiomq_outcome_name(done->items[j].status));
            }
            check(aiomq_pool_release(fixture->pool, done->loan), "release");
        }
        if (count > 0) continue;
        const int found = aiomq_pool_wait(fixture->pool, kPatienceNs);
        if (found == 0) give_up("no completions for half a minute");
        if (found != -EINTR) check(found, "wait");
    }
}

static void pass_bytes(int fd, unsigned count, int writing) {
    char byte = '.';
    while (count-- > 0) {
        struct pollfd ready = {fd, writing ? POLLOUT : POLLIN, 0};
        if (poll(&ready, 1, (int)(kPatienceNs / 1000000U)) != 1) give_up("a pipe is stuck");
        if ((writing ? write(fd, &byte, 1) : read(fd, &byte, 1)) != 1) give_up("a pipe is broken");
    }
}

// There is no event for these outside of the pool, hence looking again after a while.
static void wait_until(struct fixture *fixture, int (*reached)(struct fixture *, uint64_t),
                       uint64_t argument) {
    for (int i = 0; i < 30000; i++) {
        if (reached(fixture, argument)) return;
        poll(NULL, 0, 1);
    }
    give_up("waited too long");
}

static aiomq_worker_stats worker_stats(struct fixture *fixture, uint32_t worker) {
    aiomq_worker_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_bytes = sizeof stats;
    check(aiomq_view_worker(fixture->view, worker, &stats), "view");
    return stats;
}

static uint64_t completed(struct fixture *fixture) {
    uint64_t items = 0;
    for (uint32_t i = 0; i < fixture->workers; i++) items += worker_stats(fixture, i).completed;
    return items;
}

static uint64_t restarts(struct fixture *fixture) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < fixture->workers; i++) sum += worker_stats(fixture, i).restarts;
    return sum;
}

static int have_completed(struct fixture *fixture, uint64_t items) {
    return completed(fixture) >= items;
}

static int have_restarted(struct fixture *fixture, uint64_t count) {
    for (uint32_t i = 0; i < fixture->workers; i++)
        if (worker_stats(fixture, i).state != AIOMQ_WORKER_RUNNING) return 0;
    return restarts(fixture) >= count;
}

static void kill_workers(struct fixture *fixture, unsigned count) {
    for (; count > 0; count--) {
        const uint64_t before = restarts(fixture);
        submit(fixture, "die", 1, 1);
        collect(fixture, 1, AIOMQ_WORKER_DIED);
        wait_until(fixture, have_restarted, before + 1);
    }
}

static int is_broken(struct fixture *fixture, uint64_t argument) {
    (void)argument;
    check(aiomq_pool_dispatch(fixture->pool), "dispatch");
    return aiomq_pool_state(fixture->pool, NULL, 0) == AIOMQ_POOL_BROKEN;
}

static void nest_beyond(struct fixture *fixture) {
    submit(fixture, "nest", 1, 1);
    pass_bytes(fixture->begun, 1, 0);
    submit(fixture, "block", 1, kCapacity - 1);
    pass_bytes(fixture->gate, kCapacity, 1);
    pass_bytes(fixture->begun, kCapacity, 0);
    collect(fixture, kCapacity, AIOMQ_OK);
}

static void break_pool(struct fixture *fixture) {
    pass_bytes(fixture->refuse, 1, 1);
    submit(fixture, "die", 1, 1);
    wait_until(fixture, is_broken, 0);
}

static void finish(struct fixture *fixture, unsigned count) {
    const uint64_t before = completed(fixture);
    submit(fixture, "succeed", 1, count);
    wait_until(fixture, have_completed, before + count);
}

static void answer(const char *word) {
    puts(word);
    fflush(stdout);
}

static void answer_count(const char *word, unsigned count) {
    printf("%s %u\n", word, count);
    fflush(stdout);
}

static int obey(struct fixture *fixture, const char *verb, unsigned count) {
    if (strcmp(verb, "run") == 0) {
        submit(fixture, "succeed", 1, count);
        collect(fixture, count, AIOMQ_OK);
        answer_count("ran", count);
    } else if (strcmp(verb, "chunk") == 0) {
        submit(fixture, "succeed", count, 1);
        collect(fixture, count, AIOMQ_OK);
        answer_count("ran", count);
    } else if (strcmp(verb, "fail") == 0) {
        submit(fixture, "fail", 1, count);
        collect(fixture, count, AIOMQ_ERROR);
        answer_count("failed", count);
    } else if (strcmp(verb, "block") == 0) {
        submit(fixture, "block", 1, count);
        pass_bytes(fixture->begun, count < fixture->workers ? count : fixture->workers, 0);
        answer("blocked");
    } else if (strcmp(verb, "release") == 0) {
        pass_bytes(fixture->gate, count, 1);
        collect(fixture, count, AIOMQ_OK);
        answer_count("released", count);
    } else if (strcmp(verb, "finish") == 0) {
        finish(fixture, count);
        answer_count("finished", count);
    } else if (strcmp(verb, "collect") == 0) {
        collect(fixture, count, AIOMQ_OK);
        answer_count("collected", count);
    } else if (strcmp(verb, "die") == 0) {
        kill_workers(fixture, count);
        answer_count("died", count);
    } else if (strcmp(verb, "nest") == 0) {
        nest_beyond(fixture);
        answer("nested");
    } else if (strcmp(verb, "break") == 0) {
        break_pool(fixture);
        answer("broken");
    } else if (strcmp(verb, "scribble") == 0) {
        submit_integer(fixture, "scribble", 1, 1, count);
        pass_bytes(fixture->begun, 1, 0);
        answer("scribbling");
    } else if (strcmp(verb, "broken") == 0) {
        wait_until(fixture, is_broken, 0);
        answer("broken");
    } else if (strcmp(verb, "close") == 0) {
        check(aiomq_pool_close(fixture->pool, 0), "close");
        check(aiomq_pool_join(fixture->pool, kPatienceNs), "join");
        answer("closed");
    } else if (strcmp(verb, "quit") == 0) {
        return 0;
    } else {
        give_up("unknown command '%s'", verb);
    }
    return 1;
}

static void create(struct fixture *fixture, const char *label, const char *workers) {
    char program[4096];
    char text[1024] = "";
    int gate[2];
    int begun[2];
    int refuse[2];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0 || pipe2(gate, O_CLOEXEC) != 0 || pipe2(begun, O_CLOEXEC) != 0 ||
        pipe2(refuse, O_CLOEXEC) != 0)
        give_up("%s", strerror(errno));
    program[length] = '\0';
    const char *const argv[] = {program, NULL};
    const int extra_fds[] = {gate[0], begun[1], refuse[0]};
    aiomq_pool_options options;
    aiomq_pool_options_init(&options, sizeof options);
    options.label = label;
    options.workers = fixture->workers = number(workers);
    options.capacity = kCapacity;
    options.argv = argv;
    options.extra_fds = extra_fds;
    options.extra_fd_count = 3;
    const char *const blocked = getenv("BLOCKED_AFTER_MS");
    if (blocked != NULL) options.blocked_after_ns = number(blocked) * UINT64_C(1000000);
    options.error_text = text;
    options.error_text_bytes = sizeof text;
    const int result = aiomq_pool_create(&options, &fixture->pool);
    if (result < 0) give_up("create: %s (%s)", aiomq_strerror(result), text);
    check(aiomq_pool_view(fixture->pool, &fixture->view), "view");
    fixture->gate = gate[1];
    fixture->begun = begun[0];
    fixture->refuse = refuse[1];
}

int main(int argc, char **argv) {
    struct fixture fixtures[kMaxPools];
    char line[128];
    if (getenv("AIOMQ_WORKER") != NULL) return work();
    if (argc < 3 || argc % 2 == 0 || argc > 1 + 2 * kMaxPools)
        give_up("usage: pool_fixture LABEL WORKERS [LABEL WORKERS]...");
    const int pools = (argc - 1) / 2;
    for (int i = 0; i < pools; i++) create(&fixtures[i], argv[1 + 2 * i], argv[2 + 2 * i]);
    answer("ready");
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *verb = strtok(line, " \n");
        const char *count = strtok(NULL, " \n");
        if (verb == NULL) continue;
        if (!obey(&fixtures[0], verb, count == NULL ? 0 : number(count))) break;
    }
    for (int i = 0; i < pools; i++) {
        aiomq_view_close(&fixtures[i].view);
        aiomq_pool_destroy(&fixtures[i].pool);
    }
    return 0;
}
