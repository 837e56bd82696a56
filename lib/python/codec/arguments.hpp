// Arguments: the payload of a task, decoded call by call as its items start.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "decoder.hpp"
#include "lending.hpp"
#include "python.hpp"
#include "value_reader.hpp"

namespace aiomq::py {

/// The arguments of one call, ready for a vectorcall. Few and positional ones need no tuple.
class CallArguments {
  public:
    CallArguments() {}  // NOLINT(modernize-use-equals-default): inside_ is left as it is
    ~CallArguments() { clear(); }
    CallArguments(const CallArguments &) = delete;
    CallArguments &operator=(const CallArguments &) = delete;

    /// Calls @function; new reference or NULL with an exception set.
    PyObject *call(PyObject *function);
    void clear() {
        while (count_ != 0) {
            Py_DECREF(inside_[count_--]);
        }
        if (tuple_) {
            tuple_ = Ref();
            kwargs_ = Ref();
        }
    }
    /// As (tuple, dict); new reference or NULL.
    PyObject *as_pair() const;

  private:
    friend class Arguments;
    static constexpr std::uint32_t kInside = 6;

    PyObject *inside_[1 + kInside];  // count_ of them; the first is room for `self`
    std::uint32_t count_ = 0;
    Ref tuple_;   // instead of inside_, when there are more or there are keywords
    Ref kwargs_;  // may be null
};

class Arguments {
  public:
    /// As in aiomq_job. Messages of up to 64 KiB are copied, larger ones must outlive this object. False
    /// with ValueError set: not a payload that Python can be called with. @lend, @number: see Lending.
    bool open(unsigned kind, std::int64_t integer, const void *payload, std::uint64_t bytes,
              PyObject *lend, std::uint64_t number);

    /// How many calls there are; 1 if every call has the same arguments.
    std::uint32_t count() const { return count_; }
    /// The arguments of call @index. False with an exception set.
    bool get(std::uint32_t index, CallArguments &ret) {
        if (flat_ && index < count_) {
            ret.clear();
            return get_flat(index, ret);
        }
        return get_any(index, ret);
    }

  private:
    enum class Shape { kSame, kValue, kCall, kColumns, kCalls };

    bool open_chunk();
    bool get_flat(std::uint32_t index, CallArguments &ret) {
        for (const Column &column : columns_) {
            PyObject *argument = column.element(reader_, index, 0);
            if (argument == nullptr) {
                return false;
            }
            ret.inside_[++ret.count_] = argument;
        }
        return true;
    }
    bool get_any(std::uint32_t index, CallArguments &ret);
    bool decode(std::uint32_t index, CallArguments &ret);
    bool get_value(CallArguments &ret);
    bool get_columns(std::uint32_t index, CallArguments &ret);
    bool get_call(const StructView &call, CallArguments &ret);

    Shape shape_ = Shape::kSame;
    bool flat_ = false;  // few columns of scalars and texts: no pointers to follow, nothing to lend
    std::uint32_t count_ = 1;
    Ref same_;  // kSame: the one argument of every call, or null: none
    std::unique_ptr<std::uint64_t[]> copy_;
    Lending lending_;
    Reader reader_;
    StructView root_;
    std::vector<Column> columns_;
    ListView calls_;
};

}  // namespace aiomq::py
