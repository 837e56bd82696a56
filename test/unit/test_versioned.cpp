// A value that is overwritten while others copy it.
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "seeded.hpp"
#include "versioned.hpp"

using aiomq::Atomic;
using aiomq::Versioned;

namespace {

/// As long as an event.
struct Entry {
    std::uint64_t words[31];
};

Entry filled_with(std::uint64_t value) {
    Entry entry;
    for (std::uint64_t &word : entry.words) word = value;
    return entry;
}

}  // namespace

TEST(Versioned, IsReadAsItWasWrittenUnderItsOwnSequenceOnly) {
    const auto record = std::make_unique<Versioned<Entry>>();
    Entry entry = filled_with(1);
    EXPECT_FALSE(record->read(7, entry)) << "nothing is there yet";
    EXPECT_EQ(entry.words[0], 1U) << "untouched on failure";
    record->write(7, filled_with(70));
    EXPECT_FALSE(record->read(6, entry));
    ASSERT_TRUE(record->read(7, entry));
    EXPECT_EQ(entry.words[0], 70U);
    EXPECT_EQ(entry.words[30], 70U);
    record->write(8, filled_with(80));
    EXPECT_FALSE(record->read(7, entry)) << "overwritten";
}

// Each copy is of what was written last, so that many cross the next write.
TEST(Versioned, IsNeverReadHalfOverwritten) {
    const auto record = std::make_unique<Versioned<Entry>>();
    const std::uint64_t last = aiomq_test::rounds(1000000, 20000000);
    Atomic<std::uint64_t> written;
    std::thread writer([&] {
        for (std::uint64_t sequence = 1; sequence <= last; ++sequence) {
            record->write(sequence, filled_with(sequence));
            written.store_relaxed(sequence);
        }
    });
    std::uint64_t read = 0;
    std::uint64_t torn = 0;
    for (std::uint64_t sequence = 0; sequence < last;) {
        sequence = written.load_relaxed();
        Entry entry;
        if (sequence == 0 || !record->read(sequence, entry)) continue;
        ++read;
        for (const std::uint64_t word : entry.words) torn += word != sequence ? 1 : 0;
    }
    writer.join();
    EXPECT_GT(read, 0U);
    EXPECT_EQ(torn, 0U) << "words of " << read << " copies";
}
