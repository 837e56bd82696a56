// Error envelopes: a damaged one is refused or read within its bounds, a sound one comes back as it was.
#include <aiomq/aiomq.h>

#include <memory>

#include "input.hpp"
#include "message.hpp"

using aiomq_fuzz::Input;
using aiomq_fuzz::require;

namespace {

void require_inside(std::string_view part, const char *buffer, std::size_t bytes, bool text) {
    if (part.empty()) return;  // may be a constant
    require(part.data() >= buffer && part.size() <= bytes &&
                part.data() + part.size() <= buffer + bytes,
            "what was read lies in the buffer");
    aiomq_fuzz::touch(part.data(), part.size());
    if (text) require(part.data()[part.size()] == '\0', "a text ends with a NUL");
}

/// A worker's bytes, in memory of exactly their size.
void read_damaged(Input &input) {
    const std::size_t skew = input.below(8);  // of the caller's buffer
    const std::size_t missing = input.below(16);
    const std::string bytes = input.rest();
    const std::unique_ptr<char[]> message(new char[bytes.size()]);
    std::memcpy(message.get(), bytes.data(), bytes.size());
    const std::size_t room = bytes.size() + 24 > missing ? bytes.size() + 24 - missing : 0;
    const std::unique_ptr<char[]> buffer(new char[room + skew]);
    aiomq::ErrorText error;
    const int status =
        aiomq::read_error(message.get(), bytes.size(), buffer.get() + skew, room, error);
    require(status == 0 || status == -ENOBUFS || status == -EBADMSG, "a known status");
    if (status != 0) return;
    for (const std::string_view text : {error.type, error.message, error.traceback})
        require_inside(text, buffer.get(), room + skew, true);
    require_inside(error.pickled, buffer.get(), room + skew, false);

    aiomq_item item{};
    item.kind = AIOMQ_KIND_ERROR;
    item.bytes = bytes.size();
    item.value.data = message.get();
    aiomq_error decoded{};
    require(aiomq_error_decode(&item, buffer.get() + skew, room, &decoded) == 0,
            "the ABI reads what the core reads");
}

void write_and_read(Input &input) {
    std::string parts[4];
    for (std::string &part : parts) part = input.bytes(input.below(300));
    if (input.below(8) == 0) parts[0].resize(aiomq::kErrorTextBytes + input.below(9), 'x');
    if (input.below(8) == 0) parts[2].resize(aiomq::kErrorTextBytes + input.below(9), '\xa9');
    aiomq::ErrorText error;
    error.type = parts[0];
    error.message = parts[1];
    error.traceback = parts[2];
    error.pickled = parts[3];
    error.exit_status = input.take<std::int32_t>();
    error.signal = input.take<std::int32_t>();
    error.pid = input.take<std::int32_t>();
    const aiomq::ErrorText text = aiomq::bounded(error);
    const std::size_t bytes = aiomq::error_bytes(text);
    const std::unique_ptr<std::uint64_t[]> words(new std::uint64_t[bytes / 8]);
    const std::size_t used = aiomq::build_error(text, words.get(), bytes);
    require(used <= bytes, "an envelope fits what was asked for it");
    const std::unique_ptr<char[]> buffer(new char[used + 8]);
    aiomq::ErrorText read;
    require(aiomq::read_error(words.get(), used, buffer.get(), used + 8, read) == 0, "it is read");
    require(read.type == text.type && read.message == text.message &&
                read.traceback == text.traceback && read.pickled == text.pickled &&
                read.exit_status == text.exit_status && read.signal == text.signal &&
                read.pid == text.pid,
            "what was written is what is read");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    if (input.below(4) == 0)
        write_and_read(input);
    else
        read_damaged(input);
    return 0;
}
