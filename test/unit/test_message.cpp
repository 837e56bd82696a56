// Error envelopes: round trip, cutting, and damage that is noticed instead of followed.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "message.hpp"
#include "seeded.hpp"

using aiomq::ErrorText;

namespace {

std::vector<std::uint64_t> built(const ErrorText &error) {
    const ErrorText text = aiomq::bounded(error);
    const std::size_t bytes = aiomq::error_bytes(text);
    std::vector<std::uint64_t> words(bytes / 8, UINT64_MAX);  // dirty memory
    const std::size_t used = aiomq::build_error(text, words.data(), bytes);
    EXPECT_LE(used, bytes);
    words.resize(used / 8);
    return words;
}

/// Reads and checks that what comes out lies inside the buffer.
int read(const std::vector<std::uint64_t> &words, std::vector<char> &buffer, ErrorText &ret_error) {
    const int error =
        aiomq::read_error(words.data(), words.size() * 8, buffer.data(), buffer.size(), ret_error);
    if (error != 0) return error;
    for (const std::string_view text :
         {ret_error.type, ret_error.message, ret_error.traceback, ret_error.pickled}) {
        if (text.empty()) continue;
        EXPECT_GE(text.data(), buffer.data());
        EXPECT_LE(text.data() + text.size(), buffer.data() + buffer.size());
    }
    return 0;
}

bool is_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const std::size_t length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
        if (byte >= 0x80 && byte < 0xc0) return false;
        if (i + length > text.size()) return false;
        for (std::size_t k = 1; k < length; ++k)
            if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
        i += length;
    }
    return true;
}

std::string repeated(std::string_view text, std::size_t times) {
    std::string result;
    for (std::size_t i = 0; i < times; ++i) result += text;
    return result;
}

ErrorText sample() {
    ErrorText error;
    error.type = "builtins.ValueError";
    error.message = "no such row";
    error.traceback = "Traceback (most recent call last):\n  …\n";
    error.pickled = std::string_view("\x80\x05\0with a NUL", 13);
    error.exit_status = 3;
    error.signal = 9;
    error.pid = 4711;
    return error;
}

}  // namespace

TEST(Error, ComesBackAsItWasBuilt) {
    const auto words = built(sample());
    std::vector<char> buffer(words.size() * 8 + 64);
    ErrorText back;
    ASSERT_EQ(read(words, buffer, back), 0);
    EXPECT_EQ(back.type, sample().type);
    EXPECT_EQ(back.message, sample().message);
    EXPECT_EQ(back.traceback, sample().traceback);
    EXPECT_EQ(back.pickled, sample().pickled);
    EXPECT_EQ(back.exit_status, 3);
    EXPECT_EQ(back.signal, 9);
    EXPECT_EQ(back.pid, 4711);
    // C callers get these as strings.
    EXPECT_EQ(back.type.data()[back.type.size()], '\0');
    EXPECT_EQ(back.message.data()[back.message.size()], '\0');
    EXPECT_EQ(back.traceback.data()[back.traceback.size()], '\0');
}

TEST(Error, MayBeEmpty) {
    const auto words = built({});
    std::vector<char> buffer(words.size() * 8 + 64);
    ErrorText back;
    ASSERT_EQ(read(words, buffer, back), 0);
    EXPECT_EQ(back.type, "");
    EXPECT_EQ(back.message, "");
    EXPECT_EQ(back.traceback, "");
    ASSERT_NE(back.traceback.data(), nullptr);
    EXPECT_EQ(back.traceback.data()[0], '\0');
    EXPECT_TRUE(back.pickled.empty());
    EXPECT_EQ(back.exit_status, -1);
}

TEST(Error, FitsWhatErrorBytesSaysForEveryLength) {
    for (std::size_t length = 0; length < 40; ++length) {
        const std::string text(length, 'x');
        ErrorText error;
        error.type = error.message = error.traceback = error.pickled = text;
        const auto words = built(error);
        std::vector<char> buffer(words.size() * 8 + 64);
        ErrorText back;
        ASSERT_EQ(read(words, buffer, back), 0);
        EXPECT_EQ(back.message, text);
        EXPECT_EQ(back.pickled, text);
    }
}

TEST(Error, IsCutToWhatAnEnvelopeHolds) {
    const std::string text(3 * aiomq::kErrorTextBytes, 'm');
    const std::string trace = text + "the last line";
    const std::string pickle(aiomq::kErrorPickleBytes + 1, 'p');
    ErrorText error;
    error.type = error.message = text;
    error.traceback = trace;
    error.pickled = pickle;
    const ErrorText cut = aiomq::bounded(error);
    EXPECT_EQ(cut.type.size(), aiomq::kErrorTextBytes);
    EXPECT_EQ(cut.message.size(), aiomq::kErrorTextBytes);
    EXPECT_EQ(cut.traceback.size(), aiomq::kErrorTextBytes);
    EXPECT_TRUE(cut.traceback.ends_with("the last line")) << "the end of a traceback says most";
    EXPECT_TRUE(cut.pickled.empty()) << "half a pickle is none";
    const auto words = built(error);
    std::vector<char> buffer(words.size() * 8 + 64);
    ErrorText back;
    ASSERT_EQ(read(words, buffer, back), 0);
    EXPECT_EQ(back.message, cut.message);
}

namespace {

/// Calls @check with a text too long by a character of two, three or four bytes at each shift.
template <typename Check>
void for_each_long_text(Check check) {
    for (const std::string_view character : {"é", "…", "🦀"})
        for (std::size_t shift = 0; shift < 4; ++shift) {
            SCOPED_TRACE(testing::Message() << character << " shifted by " << shift);
            check(std::string(shift, 'x') + repeated(character, aiomq::kErrorTextBytes) + "end");
        }
}

}  // namespace

TEST(Error, EndsBeforeACharacterThatDoesNotFit) {
    for_each_long_text([](const std::string &text) {
        ErrorText error;
        error.type = error.message = text;
        const ErrorText cut = aiomq::bounded(error);
        EXPECT_TRUE(is_utf8(cut.type));
        EXPECT_TRUE(is_utf8(cut.message));
        EXPECT_GT(cut.message.size(), aiomq::kErrorTextBytes - 4);
    });
}

TEST(Error, KeepsTheEndOfATracebackFromAWholeCharacterOn) {
    for_each_long_text([](const std::string &text) {
        ErrorText error;
        error.traceback = text;
        const ErrorText cut = aiomq::bounded(error);
        EXPECT_TRUE(is_utf8(cut.traceback));
        EXPECT_TRUE(cut.traceback.ends_with("end"));
        EXPECT_GT(cut.traceback.size(), aiomq::kErrorTextBytes - 4);
    });
}

TEST(Error, IsCutInBoundedTimeWhenItIsNoText) {
    const std::string text(2 * aiomq::kErrorTextBytes, '\x80');
    ErrorText error;
    error.message = error.traceback = text;
    const auto words = built(error);
    std::vector<char> buffer(words.size() * 8 + 64);
    ErrorText back;
    EXPECT_EQ(read(words, buffer, back), 0);
}

TEST(Error, NeedsABufferOfItsLengthAtAnyAlignment) {
    const auto words = built(sample());
    const std::size_t bytes = words.size() * 8;
    std::vector<std::uint64_t> memory(words.size() + 9);
    auto *aligned = reinterpret_cast<char *>(memory.data());
    ErrorText back;
    EXPECT_EQ(aiomq::read_error(words.data(), bytes, aligned, bytes, back), 0);
    EXPECT_EQ(aiomq::read_error(words.data(), bytes, aligned, bytes - 1, back), -ENOBUFS);
    EXPECT_EQ(aiomq::read_error(words.data(), bytes, aligned, 0, back), -ENOBUFS);
    for (std::size_t shift = 1; shift < 8; ++shift) {
        EXPECT_EQ(aiomq::read_error(words.data(), bytes, aligned + shift, bytes + 64, back), 0);
        EXPECT_EQ(back.message, sample().message);
        EXPECT_EQ(aiomq::read_error(words.data(), bytes, aligned + shift, bytes, back), -ENOBUFS);
        EXPECT_EQ(aiomq::read_error(words.data(), bytes, aligned + shift, shift - 1, back),
                  -ENOBUFS);
    }
}

TEST(Error, OfALengthThatNoMessageHasIsDamaged) {
    auto words = built(sample());
    const std::size_t bytes = words.size() * 8;
    words.push_back(0);  // so that what is too long is memory all the same
    std::vector<char> buffer(bytes + 64);
    ErrorText back;
    for (const std::size_t wrong : {std::size_t{0}, std::size_t{1}, bytes - 1, bytes + 1})
        EXPECT_EQ(aiomq::read_error(words.data(), wrong, buffer.data(), buffer.size(), back),
                  -EBADMSG)
            << wrong;
}

TEST(Error, ThatEndsEarlyIsDamaged) {
    auto words = built(sample());
    std::vector<char> buffer(words.size() * 8 + 64);
    while (words.size() > 1) {
        words.pop_back();
        ErrorText back;
        back.type = "untouched";
        ASSERT_EQ(read(words, buffer, back), -EBADMSG) << words.size() << " words are left";
        EXPECT_EQ(back.type, "untouched");
    }
}

TEST(Error, ThatIsDamagedAnywhereCanNotLeadAstray) {
    aiomq_test::Random random;
    const auto sound = built(sample());
    std::vector<char> buffer(sound.size() * 8 + 64);
    std::uint64_t noticed = 0;
    const std::uint64_t count = aiomq_test::rounds(20000, 2000000);
    for (std::uint64_t round = 0; round < count; ++round) {
        auto words = sound;
        auto *bytes = reinterpret_cast<unsigned char *>(words.data());
        const std::uint64_t flips = 1 + random.below(8);
        for (std::uint64_t i = 0; i < flips; ++i)
            bytes[random.below(words.size() * 8)] ^=
                static_cast<unsigned char>(1U << random.below(8));
        if (random.one_in(10))
            for (auto &word : words) word = random.below(UINT64_MAX);
        ErrorText back;
        const int error = read(words, buffer, back);
        ASSERT_TRUE(error == 0 || error == -EBADMSG) << error;
        noticed += error != 0;
    }
    EXPECT_GT(noticed, count / 20);
    EXPECT_LT(noticed, count) << "a flip inside a text is a text";
}

TEST(Error, ThatPointsAtItselfEndsTheRead) {
    // A list of structs far larger than the message: the traversal limit is the message's own size.
    std::vector<std::uint64_t> words(8);
    words[0] = 0xfffffffc;  // root: a struct pointer to itself
    std::vector<char> buffer(words.size() * 8 + 64);
    ErrorText back;
    const int error = read(words, buffer, back);
    EXPECT_TRUE(error == 0 || error == -EBADMSG);
    for (auto &word : words) word = 0x0001000000000000;
    EXPECT_TRUE(read(words, buffer, back) <= 0);
}
