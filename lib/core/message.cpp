#include "message.hpp"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include <cstring>

#include "message.capnp.h"

namespace aiomq {
namespace {

constexpr std::size_t kWord = sizeof(capnp::word);
/// Root pointer, then Error's data section (3 × Int32 in 2 words) and 4 pointers.
constexpr std::size_t kErrorStructWords = 1 + 2 + 4;

std::size_t text_words(std::size_t characters) { return (characters + 1 + kWord - 1) / kWord; }

/// True inside a UTF-8 sequence, not at its start.
bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

capnp::Text::Reader as_text(std::string_view text, std::string &storage) {
    storage.assign(text);
    return {storage.c_str(), storage.size()};
}

}  // namespace

std::string_view cut(std::string_view text, std::size_t limit) {
    if (text.size() <= limit) return text;
    while (limit > 0 && is_continuation(text[limit])) --limit;
    return text.substr(0, limit);
}

ErrorText bounded(const ErrorText &error) {
    ErrorText result = error;
    result.type = cut(error.type, kErrorTextBytes);
    result.message = cut(error.message, kErrorTextBytes);
    // The end of a traceback says most.
    if (error.traceback.size() > kErrorTextBytes) {
        std::size_t from = error.traceback.size() - kErrorTextBytes;
        while (from < error.traceback.size() && is_continuation(error.traceback[from])) ++from;
        result.traceback = error.traceback.substr(from);
    }
    if (error.pickled.size() > kErrorPickleBytes) result.pickled = {};
    return result;
}

std::size_t error_bytes(const ErrorText &error) {
    return kWord *
           (kErrorStructWords + text_words(error.type.size()) + text_words(error.message.size()) +
            text_words(error.traceback.size()) + text_words(error.pickled.size()));
}

std::size_t build_error(const ErrorText &error, void *memory, std::size_t bytes) {
    std::memset(memory, 0, bytes);
    capnp::FlatMessageBuilder builder(
        kj::arrayPtr(static_cast<capnp::word *>(memory), bytes / kWord));
    auto root = builder.initRoot<schema::Error>();
    std::string storage;
    root.setType(as_text(error.type, storage));
    root.setMessage(as_text(error.message, storage));
    if (!error.traceback.empty()) root.setTraceback(as_text(error.traceback, storage));
    if (!error.pickled.empty())
        root.setPickled(kj::arrayPtr(reinterpret_cast<const kj::byte *>(error.pickled.data()),
                                     error.pickled.size()));
    root.setExitStatus(error.exit_status);
    root.setSignal(error.signal);
    root.setPid(error.pid);
    return builder.getSegmentsForOutput()[0].size() * kWord;
}

int read_error(const void *data, std::size_t bytes, void *buffer, std::size_t buffer_bytes,
               ErrorText &ret_error) {
    // Aligned copy at the first word boundary of the buffer.
    const auto address = reinterpret_cast<std::uintptr_t>(buffer);
    const std::size_t skip = (kWord - address % kWord) % kWord;
    if (buffer_bytes < skip || buffer_bytes - skip < bytes) return -ENOBUFS;
    if (bytes == 0 || bytes % kWord != 0) return -EBADMSG;
    auto *words = reinterpret_cast<capnp::word *>(static_cast<char *>(buffer) + skip);  // NOLINT
    std::memcpy(words, data, bytes);
    const kj::ArrayPtr<const capnp::word> segments[1] = {kj::arrayPtr(words, bytes / kWord)};
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 4 * (bytes / kWord) + 64;
    options.nestingLimit = 4;
    int error = 0;
    const auto failure = kj::runCatchingExceptions([&] {
        capnp::SegmentArrayMessageReader reader(kj::arrayPtr(segments, 1), options);
        const auto root = reader.getRoot<schema::Error>();
        const auto view = [](capnp::Text::Reader text) {
            return std::string_view(text.begin(), text.size());
        };
        ErrorText result;
        result.type = view(root.getType());
        result.message = view(root.getMessage());
        result.traceback = view(root.getTraceback());
        const auto pickled = root.getPickled();
        result.pickled = {reinterpret_cast<const char *>(pickled.begin()), pickled.size()};
        result.exit_status = root.getExitStatus();
        result.signal = root.getSignal();
        result.pid = root.getPid();
        ret_error = result;
    });
    KJ_IF_MAYBE (reason, failure) {
        (void)reason;
        error = -EBADMSG;
    }
    return error;
}

}  // namespace aiomq
