/*
 * line_count - counts the lines of standard input on all CPUs: a producer and a consumer in C11.
 *
 * One thread reads blocks straight into the pool's memory and submits them; the main thread takes the
 * counts. The program is its own worker. What it prints is what `wc -l` prints.
 */
#include <aiomq/aiomq.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20 };

struct work {
    aiomq_pool *pool;
    uint32_t function;
    pthread_mutex_t mutex;
    pthread_cond_t room; /* the consumer has taken something */
    uint64_t submitted;
    uint64_t taken;
    bool read_all;
    int error; /* negative errno of whoever failed */
};

/* In a worker: how many lines end in a block. */
static int count_lines(const aiomq_call *call, aiomq_item *ret_item) {
    const char *block = call->job->payload;
    const char *end = block + call->job->payload_bytes;
    int64_t lines = 0;

    while (block < end && (block = memchr(block, '\n', (size_t)(end - block))) != NULL) {
        ++lines;
        ++block;
    }
    ret_item->kind = AIOMQ_KIND_INT;
    ret_item->value.integer = lines;
    return 0;
}

static int run_as_worker(void) {
    const aiomq_handler handler = {"count_lines", count_lines, NULL};
    aiomq_worker *worker = NULL;
    aiomq_run_options options;
    char text[256];

    if (aiomq_worker_open(&worker, text, sizeof text) != 0) {
        fprintf(stderr, "line_count: %s\n", text);
        return 1;
    }
    aiomq_run_options_init(&options, sizeof options);
    options.handlers = &handler;
    options.handler_count = 1;
    return aiomq_worker_run(worker, &options) == 0 ? 0 : 1;
}

/* Waits until the consumer has taken more than @taken; false: it has failed. */
static bool wait_for_room(struct work *work, uint64_t taken) {
    pthread_mutex_lock(&work->mutex);
    while (work->taken == taken && work->taken != work->submitted && work->error == 0)
        pthread_cond_wait(&work->room, &work->mutex);
    const bool goes_on = work->error == 0;
    pthread_mutex_unlock(&work->mutex);
    return goes_on;
}

static uint64_t taken_now(struct work *work) {
    pthread_mutex_lock(&work->mutex);
    const uint64_t taken = work->taken;
    pthread_mutex_unlock(&work->mutex);
    return taken;
}

/* Reads up to a block; fewer bytes only at the end of the input. */
static ssize_t read_block(char *block) {
    size_t bytes = 0;

    while (bytes < BLOCK_BYTES) {
        const ssize_t more = read(STDIN_FILENO, block + bytes, BLOCK_BYTES - bytes);
        if (more == 0) break;
        if (more < 0 && errno == EINTR) continue;
        if (more < 0) return -errno;
        bytes += (size_t)more;
    }
    return (ssize_t)bytes;
}

/* One block from the input to the pool. 1: there may be more; 0: the end; or a negative errno. */
static int produce_one(struct work *work) {
    aiomq_task task = {.struct_bytes = sizeof task,
                       .flags = AIOMQ_TASK_ADOPT,
                       .function = work->function,
                       .kind = AIOMQ_KIND_BYTES,
                       .items = 1,
                       .retries = 2};
    uint64_t taken = taken_now(work);
    void *block = NULL;
    int error;

    while ((error = aiomq_pool_alloc(work->pool, BLOCK_BYTES, &block)) == -ENOMEM) {
        if (!wait_for_room(work, taken)) return -ECANCELED;
        taken = taken_now(work);
    }
    if (error != 0) return error;
    const ssize_t bytes = read_block(block);
    if (bytes <= 0) {
        aiomq_pool_free(work->pool, block);
        return (int)bytes;
    }
    task.payload = block;
    task.payload_bytes = (uint64_t)bytes;
    pthread_mutex_lock(&work->mutex);
    ++work->submitted; /* before it can be taken */
    pthread_mutex_unlock(&work->mutex);
    while ((error = aiomq_pool_submit(work->pool, &task, NULL)) == -EAGAIN) {
        if (!wait_for_room(work, taken)) return -ECANCELED;
        taken = taken_now(work);
    }
    return error != 0 ? error : 1;
}

static void *produce(void *user) {
    struct work *work = user;
    int outcome;

    while ((outcome = produce_one(work)) == 1)
        ;
    pthread_mutex_lock(&work->mutex);
    work->read_all = true;
    if (outcome < 0 && work->error == 0) work->error = outcome;
    pthread_mutex_unlock(&work->mutex);
    return NULL;
}

/* Whether the consumer has to wait for more. */
static bool goes_on(struct work *work, int *ret_error) {
    pthread_mutex_lock(&work->mutex);
    const bool more = work->error == 0 && !(work->read_all && work->taken == work->submitted);
    *ret_error = work->error;
    pthread_mutex_unlock(&work->mutex);
    return more;
}

/* Takes counts until all have come. The sum, or a negative errno. */
static int64_t consume(struct work *work) {
    const uint64_t look_again_ns = 10000000; /* for the end of the input, which no task tells */
    aiomq_completion done[16];
    int64_t lines = 0;
    int error = 0;

    while (goes_on(work, &error)) {
        const int64_t count = aiomq_pool_collect(work->pool, done, 16);
        if (count == 0) {
            aiomq_pool_wait(work->pool, look_again_ns);
            continue;
        }
        if (count < 0) return count;
        for (int64_t i = 0; i < count; ++i) {
            if (done[i].item.status == AIOMQ_OK)
                lines += done[i].item.value.integer;
            else
                error = -EIO;
            aiomq_pool_release(work->pool, done[i].loan);
        }
        pthread_mutex_lock(&work->mutex);
        work->taken += (uint64_t)count;
        if (error != 0) work->error = error;
        pthread_cond_broadcast(&work->room);
        pthread_mutex_unlock(&work->mutex);
    }
    return error != 0 ? error : lines;
}

int main(int argc, char **argv) {
    const char *worker_argv[] = {"/proc/self/exe", NULL};
    struct work work = {.mutex = PTHREAD_MUTEX_INITIALIZER, .room = PTHREAD_COND_INITIALIZER};
    aiomq_pool_options options;
    pthread_t producer;
    char text[1024];

    (void)argv;
    if (getenv("AIOMQ_WORKER") != NULL) return run_as_worker();
    if (argc > 1) {
        fputs("usage: line_count <INPUT\n", stderr);
        return 2;
    }
    aiomq_pool_options_init(&options, sizeof options);
    options.argv = worker_argv;
    options.label = "line_count";
    options.arena_max_bytes = 32 << 20; /* so much of the input is in memory at once */
    options.error_text = text;
    options.error_text_bytes = sizeof text;
    if (aiomq_pool_create(&options, &work.pool) != 0) {
        fprintf(stderr, "line_count: %s\n", text);
        return 1;
    }
    aiomq_pool_function(work.pool, "count_lines", &work.function);
    if (pthread_create(&producer, NULL, produce, &work) != 0) {
        fputs("line_count: no thread\n", stderr);
        aiomq_pool_destroy(&work.pool);
        return 1;
    }
    const int64_t lines = consume(&work);
    pthread_mutex_lock(&work.mutex);
    if (lines < 0 && work.error == 0) work.error = (int)lines;
    pthread_cond_broadcast(&work.room);
    pthread_mutex_unlock(&work.mutex);
    pthread_join(producer, NULL);
    aiomq_pool_destroy(&work.pool);
    if (lines < 0) {
        fprintf(stderr, "line_count: %s\n", aiomq_strerror((int)lines));
        return 1;
    }
    printf("%" PRId64 "\n", lines);
    return 0;
}
