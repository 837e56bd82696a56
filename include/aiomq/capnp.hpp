// capnp.hpp - messages of a schema of one's own as arguments and results, read where they lie.
//
// Needs Cap'n Proto; pkg-config libaiomq-capnp. A message travels as bytes: one segment, as
// capnp::messageToFlatArray() writes it.
//
//     aiomq::Built<Point> mirror(const aiomq::Read<Point> &point) {   // Point: of point.capnp
//         aiomq::Built<Point> result;
//         result.root().setX(point.root().getY());
//         return result;
//     }
#pragma once

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <aiomq/aiomq.hpp>

namespace aiomq {

/// A message that is being built, with its root.
template <class Schema>
class Built {
  public:
    Built() : builder_(std::make_unique<::capnp::MallocMessageBuilder>()) {
        builder_->initRoot<Schema>();
    }
    typename Schema::Builder root() { return builder_->getRoot<Schema>(); }
    /// Its bytes, as long as this lives and is not changed.
    std::span<const std::byte> bytes() const {
        flat_ = ::capnp::messageToFlatArray(*builder_);
        return std::as_bytes(std::span(flat_.begin(), flat_.size()));
    }

  private:
    std::unique_ptr<::capnp::MallocMessageBuilder> builder_;
    mutable kj::Array<::capnp::word> flat_;
};

/// A message that is read in place: an argument until its task has ended; a result as long as this, which
/// then holds it.
template <class Schema>
class Read {
  public:
    /// @bytes: stay as long as this. Throws TypeMismatch for what is no message.
    explicit Read(std::span<const std::byte> bytes) { open(bytes); }
    explicit Read(View view) : view_(std::move(view)) { open(view_.bytes()); }

    /// What kj throws for a damaged message is a kj::Exception.
    typename Schema::Reader root() const { return reader_->template getRoot<Schema>(); }
    /// Where it lies.
    const void *data() const { return data_; }

  private:
    void open(std::span<const std::byte> bytes) {
        if (bytes.size() < sizeof(::capnp::word) || bytes.size() % sizeof(::capnp::word) != 0)
            throw TypeMismatch("a Cap'n Proto message", std::to_string(bytes.size()) + " bytes");
        if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(::capnp::word) != 0) {
            // In a column of many short ones; those are copied.
            copy_ = kj::heapArray<::capnp::word>(bytes.size() / sizeof(::capnp::word));
            std::memcpy(copy_.begin(), bytes.data(), bytes.size());
            bytes = std::as_bytes(std::span(copy_.begin(), copy_.size()));
        }
        data_ = bytes.data();
        const auto *words = reinterpret_cast<const ::capnp::word *>(bytes.data());
        reader_ = std::make_unique<::capnp::FlatArrayMessageReader>(
            kj::arrayPtr(words, bytes.size() / sizeof(::capnp::word)), limits(bytes.size()));
    }
    /// Everything may be read twice; the default stops after 64 MiB.
    static ::capnp::ReaderOptions limits(std::size_t bytes) {
        ::capnp::ReaderOptions options;
        options.traversalLimitInWords = std::max<std::uint64_t>(options.traversalLimitInWords,
                                                                bytes / sizeof(::capnp::word) * 2);
        return options;
    }

    View view_;
    kj::Array<::capnp::word> copy_;
    std::unique_ptr<::capnp::FlatArrayMessageReader> reader_;
    const void *data_ = nullptr;
};

template <class Schema>
struct Codec<Built<Schema>> {
    static std::string name() { return "a Cap'n Proto message"; }
    static void write(Writer &writer, const Built<Schema> &value) { writer.bytes(value.bytes()); }
};

template <class Schema>
struct Codec<Read<Schema>> {
    static std::string name() { return "a Cap'n Proto message"; }
    static Read<Schema> read(const Value &value) {
        if (!value.is(AIOMQ_TYPE_BYTES)) throw TypeMismatch(name(), value.describe());
        return Read<Schema>(value.bytes());
    }
};

}  // namespace aiomq
