// The segment: who may attach, who may write where, and what a damaged or foreign one is told.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "seeded.hpp"
#include "segment.hpp"

using namespace aiomq;  // NOLINT(google-build-using-namespace)

namespace {

std::unique_ptr<Segment> created(std::uint32_t workers = 2) {
    Layout layout{};
    EXPECT_TRUE(plan_layout({64, workers, 1, 1 << 20, sys::page_size()}, layout));
    auto segment = Segment::create("test", layout);
    EXPECT_TRUE(segment);
    (*segment)->publish();
    return std::move(*segment);
}

/// Attaches a duplicate of @fd as worker @worker; the reason comes back in @ret_text.
std::unique_ptr<Segment> attached(int fd, std::uint32_t worker, int &ret_error,
                                  std::string &ret_text) {
    auto segment = Segment::attach(UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 3)), worker, ret_text);
    ret_error = segment.error();
    return segment ? std::move(*segment) : nullptr;
}

std::unique_ptr<Segment> attached(Segment &owner, std::uint32_t worker) {
    int error = 0;
    std::string text;
    auto segment = attached(owner.fd(), worker, error, text);
    EXPECT_NE(segment, nullptr) << error << text;
    return segment;
}

/// A sealed memfd that begins with @segment's header after @change.
template <typename Change>
UniqueFd patched(Segment &segment, Change change) {
    alignas(Header) unsigned char bytes[sizeof(Header)];
    EXPECT_EQ(pread(segment.fd(), bytes, sizeof bytes, 0), static_cast<ssize_t>(sizeof bytes));
    change(*reinterpret_cast<Header *>(bytes));  // NOLINT
    auto fd = sys::sealed_memfd("aiomq:patched", segment.size());
    EXPECT_TRUE(fd);
    EXPECT_EQ(pwrite(fd->get(), bytes, sizeof bytes, 0), static_cast<ssize_t>(sizeof bytes));
    return std::move(*fd);
}

/// What attaching to a patched copy is told; "" when it succeeds.
template <typename Change>
std::string refusal(Change change, std::uint32_t worker = 0) {
    auto owner = created();
    const UniqueFd fd = patched(*owner, change);
    int error = 0;
    std::string text;
    auto segment = attached(fd.get(), worker, error, text);
    if (segment != nullptr) return {};
    EXPECT_EQ(error, -EPROTO);
    EXPECT_NE(text, "") << "every refusal has a reason";
    return text;
}

bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

/// Runs @body in a fork and says by which signal it ended; 0 when it ran to its end.
template <typename Body>
int signal_of(Body body) {
    const pid_t child = fork();
    if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would make it an exit
        std::signal(SIGBUS, SIG_DFL);
        body();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/// Whether this process may write at @address, from /proc/self/maps.
bool writable(const void *address) {
    FILE *maps = std::fopen("/proc/self/maps", "re");
    const auto wanted = reinterpret_cast<std::uintptr_t>(address);
    unsigned long start = 0;
    unsigned long end = 0;
    char access[5] = "";
    bool answer = false;
    while (std::fscanf(maps, "%lx-%lx %4s%*[^\n]", &start, &end, access) == 3)
        if (wanted >= start && wanted < end) answer = access[1] == 'w';
    std::fclose(maps);
    return answer;
}

}  // namespace

TEST(Segment, IsSharedByThoseWhoAttach) {
    auto owner = created();
    auto worker = attached(*owner, 1);
    ASSERT_NE(worker, nullptr);
    owner->request(63).task_id = 4711;
    EXPECT_EQ(worker->request(63).task_id, 4711U);
    worker->slot(63).word.store_release(42);
    EXPECT_EQ(owner->slot(63).word.load_acquire(), 42U);
    worker->area(1).completed.store_relaxed(7);
    EXPECT_EQ(owner->area(1).completed.load_relaxed(), 7U);
    const std::uint64_t arena = worker->result_arena_offset(1);
    ASSERT_EQ(sys::commit(owner->fd(), arena, 4096), 0);
    std::strcpy(worker->at<char>(arena), "a result");  // NOLINT
    EXPECT_STREQ(owner->at<char>(arena), "a result");
    EXPECT_EQ(owner->offset_of(owner->at<char>(arena)), arena);
    EXPECT_STREQ(worker->header().statistics.label, "test");
    EXPECT_EQ(worker->header().statistics.pid, getpid());
}

TEST(Segment, HasPagesForEverythingButTheArenas) {
    auto owner = created();
    const Layout &layout = owner->layout();
    struct stat file {};
    ASSERT_EQ(fstat(owner->fd(), &file), 0);
    // Less would be memory that can run out at any store.
    EXPECT_EQ(static_cast<std::uint64_t>(file.st_blocks) * 512,
              layout.functions_offset + (layout.workers_end - layout.common_offset));
}

TEST(Segment, LetsAWorkerWriteItsOwnPagesOnly) {
    auto owner = created();
    auto worker = attached(*owner, 1);
    ASSERT_NE(worker, nullptr);
    const Layout &layout = worker->layout();
    // The dispatcher's: header, tails, ring cells, requests, payloads.
    EXPECT_FALSE(writable(&worker->header()));
    EXPECT_FALSE(writable(&worker->queue(0)));
    EXPECT_FALSE(writable(worker->ring_cells(0)));
    EXPECT_FALSE(writable(&worker->request(0)));
    EXPECT_FALSE(writable(&worker->request(63)));
    EXPECT_FALSE(writable(&worker->record(1)));
    EXPECT_FALSE(writable(&worker->function(0)));
    EXPECT_FALSE(writable(&worker->event(0)));
    EXPECT_FALSE(writable(worker->at<char>(layout.request_arena_offset)));
    EXPECT_FALSE(writable(worker->at<char>(layout.request_arena_offset + layout.arena_bytes - 1)));
    // Another worker's.
    EXPECT_FALSE(writable(&worker->area(0)));
    EXPECT_FALSE(writable(worker->at<char>(layout.result_arenas_offset)));
    EXPECT_FALSE(writable(worker->at<char>(layout.result_arenas_offset + layout.arena_bytes - 1)));
    // Everybody's, and its own.
    EXPECT_TRUE(writable(&worker->slot(0)));
    EXPECT_TRUE(writable(&worker->slot(63)));
    EXPECT_TRUE(writable(&worker->queue_head(0)));
    EXPECT_TRUE(writable(&worker->flags()));
    EXPECT_TRUE(writable(&worker->area(1)));
    EXPECT_TRUE(writable(worker->outbox(1) + layout.outbox_cells - 1));
    EXPECT_TRUE(writable(worker->at<char>(worker->result_arena_offset(1))));
    EXPECT_TRUE(writable(worker->at<char>(layout.segment_bytes - 1)));
}

TEST(Segment, KillsAWorkerThatWritesToARequest) {
    auto owner = created();
    auto worker = attached(*owner, 1);
    ASSERT_NE(worker, nullptr);
    EXPECT_EQ(signal_of([&] {
                  (void)*static_cast<volatile std::uint64_t *>(&worker->request(5).task_id);
              }),
              0)
        << "reading is allowed";
    EXPECT_EQ(
        signal_of([&] { *static_cast<volatile std::uint64_t *>(&worker->request(5).task_id) = 1; }),
        SIGSEGV);
}

TEST(Segment, IsNotThereForAForkOfItsOwner) {
    auto owner = created();
    auto worker = attached(*owner, 1);
    ASSERT_NE(worker, nullptr);
    const auto touch = [](std::uint64_t *address) {
        return signal_of([address] { (void)*static_cast<volatile std::uint64_t *>(address); });
    };
    EXPECT_EQ(touch(&owner->request(0).task_id), SIGSEGV);
    EXPECT_EQ(touch(reinterpret_cast<std::uint64_t *>(&owner->slot(0))), SIGSEGV);
    EXPECT_EQ(touch(reinterpret_cast<std::uint64_t *>(&worker->slot(0))), SIGSEGV);
    EXPECT_EQ(touch(reinterpret_cast<std::uint64_t *>(&worker->area(1))), SIGSEGV);
}

TEST(Attach, AcceptsAnUnchangedCopy) {
    EXPECT_EQ(refusal([](Header &) {}), "") << "else the tests below test nothing";
}

TEST(Attach, RefusesAnotherVersionAndNamesBoth) {
    const std::string text = refusal([](Header &header) { header.version = 77; });
    EXPECT_TRUE(contains(text, "format version 77")) << text;
    EXPECT_TRUE(contains(text, "this library has " + std::to_string(kFormatVersion))) << text;
}

TEST(Attach, RefusesAnotherSignatureAndNamesBoth) {
    const std::string text = refusal([](Header &header) { header.signature ^= 1; });
    EXPECT_TRUE(contains(text, std::to_string(kFormatSignature ^ 1))) << text;
    EXPECT_TRUE(contains(text, std::to_string(kFormatSignature))) << text;
    EXPECT_TRUE(contains(text, "same build")) << text;
}

TEST(Attach, RefusesWhatHasNotBeenPublished) {
    EXPECT_NE(refusal([](Header &header) { header.magic = 0; }), "");
}

TEST(Attach, RefusesALayoutWithAnyFieldChanged) {
    aiomq_test::Random random;
    for (std::size_t offset = 0; offset < sizeof(Layout); offset += 4) {
        std::uint32_t wild[] = {1, 0x80000000,
                                static_cast<std::uint32_t>(random.below(1ULL << 32)) | 2};
        for (const std::uint32_t bits : wild) {
            const std::string text = refusal([&](Header &header) {
                auto *bytes = reinterpret_cast<unsigned char *>(&header.statistics.layout);
                std::uint32_t field = 0;
                std::memcpy(&field, bytes + offset, 4);
                field ^= bits;
                std::memcpy(bytes + offset, &field, 4);
            });
            EXPECT_TRUE(contains(text, "damaged")) << "byte " << offset << ": " << text;
        }
    }
}

TEST(Attach, RefusesALayoutOfAnotherSize) {
    const std::string text = refusal([](Header &header) {
        ASSERT_TRUE(plan_layout({64, 3, 1, 1 << 20, sys::page_size()}, header.statistics.layout));
    });
    EXPECT_TRUE(contains(text, "damaged")) << "sound in itself, but the file is smaller: " << text;
}

TEST(Attach, RefusesArenasOfNoBytes) {
    Layout layout{};
    ASSERT_TRUE(plan_layout({64, 2, 1, 0, sys::page_size()}, layout));
    EXPECT_FALSE(layout_is_sound(layout));
}

TEST(Attach, RefusesAWorkerThatThePoolHasNot) {
    EXPECT_NE(refusal([](Header &) {}, 2), "");
    EXPECT_NE(refusal([](Header &) {}, UINT32_MAX), "");
}

TEST(Attach, RefusesMemoryThatCouldShrink) {
    auto owner = created();
    const UniqueFd open_fd(memfd_create("aiomq:unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(ftruncate(open_fd.get(), static_cast<off_t>(owner->size())), 0);
    ASSERT_GT(pwrite(open_fd.get(), &owner->header(), sizeof(Header), 0), 0);
    int error = 0;
    std::string text;
    EXPECT_EQ(attached(open_fd.get(), 0, error, text), nullptr);
    EXPECT_EQ(error, -EPROTO);
    EXPECT_TRUE(contains(text, "not a pool's memory")) << text;
}

TEST(Attach, RefusesOtherFiles) {
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    const UniqueFd program(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    auto small = sys::sealed_memfd("aiomq:small", 100);
    for (const int fd : {null.get(), program.get(), small->get()}) {
        int error = 0;
        std::string text;
        EXPECT_EQ(attached(fd, 0, error, text), nullptr);
        EXPECT_EQ(error, -EPROTO);
        EXPECT_TRUE(contains(text, "not a pool's memory")) << text;
    }
}

TEST(Layout, IsSoundOnlyWithinItsMaxima) {
    Layout layout{};
    ASSERT_TRUE(plan_layout({64, 2, 1, 1 << 20, 4096}, layout));
    EXPECT_TRUE(layout_is_sound(layout));
    for (const LayoutRequest &request :
         {LayoutRequest{0, 2, 1, 4096, 4096}, LayoutRequest{64, 0, 1, 4096, 4096},
          LayoutRequest{64, 2, 0, 4096, 4096}, LayoutRequest{64, 2, kMaxQueues + 1, 4096, 4096},
          LayoutRequest{kMaxSlots + 1, 2, 1, 4096, 4096},
          LayoutRequest{64, kMaxWorkers + 1, 1, 4096, 4096}, LayoutRequest{64, 2, 1, 4096, 2048},
          LayoutRequest{64, 2, 1, 4096, 1ULL << 22}}) {
        ASSERT_TRUE(plan_layout(request, layout));
        EXPECT_FALSE(layout_is_sound(layout));
    }
    EXPECT_FALSE(layout_is_sound(Layout{}));
}

TEST(Bounds, HoldForRangesAtTheEdgesOfAnArena) {
    auto owner = created();
    const Layout &layout = owner->layout();
    const std::uint64_t start = owner->result_arena_offset(1);
    const std::uint64_t size = layout.arena_bytes;
    EXPECT_TRUE(owner->in_result_arena(1, start, size));
    EXPECT_TRUE(owner->in_result_arena(1, start + size, 0));
    EXPECT_FALSE(owner->in_result_arena(1, start - 1, 1));
    EXPECT_FALSE(owner->in_result_arena(1, start, size + 1));
    EXPECT_FALSE(owner->in_result_arena(1, start + 1, size));
    EXPECT_FALSE(owner->in_result_arena(1, start + size, 1));
    EXPECT_FALSE(owner->in_result_arena(1, UINT64_MAX, 1));
    EXPECT_FALSE(owner->in_result_arena(1, start + 64, UINT64_MAX));
    EXPECT_FALSE(owner->in_result_arena(1, start + 64, UINT64_MAX - 63)) << "the sum overflows";
    EXPECT_FALSE(owner->in_result_arena(0, start, 1)) << "another worker's";
    EXPECT_TRUE(owner->in_request_arena(layout.request_arena_offset, size));
    EXPECT_FALSE(owner->in_request_arena(start, 1));
}

TEST(Label, IsMadeSafeForFilesAndTerminals) {
    EXPECT_EQ(sanitised_label("monitor"), "monitor");
    EXPECT_EQ(sanitised_label("a.b_c+d:e=f,g-h9Z"), "a.b_c+d:e=f,g-h9Z");
    EXPECT_EQ(sanitised_label("../etc/passwd"), ".._etc_passwd");
    EXPECT_EQ(sanitised_label("two words\n\x1b[31m"), "two_words___31m");
    EXPECT_EQ(sanitised_label(std::string("nul\0here", 8)), "nul_here");
    EXPECT_EQ(sanitised_label("a@b"), "a_b") << "label@pid names a pool";
    EXPECT_EQ(sanitised_label("é"), "__");
    EXPECT_EQ(sanitised_label(""), "pool");
    EXPECT_EQ(sanitised_label(std::string(1000, 'x')), std::string(kLabelBytes - 1, 'x'));
}
