// Error and Result: how a task or a call of the library failed.
#pragma once

#include <aiomq/aiomq.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace aiomq {

/// What a task failed with, or, when outcome() is AIOMQ_PENDING, a call of the library.
///
/// type() is the name of the exception or error as its language has it: "builtins.ValueError" of a Python
/// task, "std::out_of_range" or what typeid says of a C++ one, "aiomq.BadArguments", "aiomq.UnknownFunction",
/// "aiomq.WorkerDied" and so on of the library.
class Error : public std::runtime_error {
  public:
    Error(int outcome, std::string type, std::string message, std::string traceback = {})
        : std::runtime_error(type.empty() ? message : type + ": " + message),
          outcome_(outcome),
          type_(std::move(type)),
          message_(std::move(message)),
          traceback_(std::move(traceback)) {}

    /// Of a negative errno that a call of the C ABI has returned. @doing: which call; @text: why, in words.
    static Error of_call(int code, const std::string &doing, const std::string &text = {}) {
        Error error(AIOMQ_PENDING, {}, doing + ": " + (text.empty() ? aiomq_strerror(code) : text));
        error.code_ = -code;
        return error;
    }
    /// Of an item whose status is not AIOMQ_OK.
    static Error of_item(const aiomq_item &item, const std::string &function) {
        std::vector<char> buffer(item.kind == AIOMQ_KIND_ERROR ? item.bytes + 64 : 0);
        aiomq_error decoded{};
        if (item.kind != AIOMQ_KIND_ERROR ||
            aiomq_error_decode(&item, buffer.data(), buffer.size(), &decoded) != 0)
            return {item.status, std::string("aiomq.") + aiomq_outcome_name(item.status),
                    "task " + function};
        Error error(item.status, decoded.type, decoded.message, decoded.traceback);
        error.exit_status_ = decoded.exit_status;
        error.signal_ = decoded.signal;
        error.pid_ = decoded.pid;
        return error;
    }

    /// enum aiomq_outcome; AIOMQ_PENDING: no task failed, but a call of the library.
    int outcome() const { return outcome_; }
    /// Positive errno of the call that failed, or 0.
    int code() const { return code_; }
    const std::string &type() const { return type_; }
    /// One line, without the type.
    const std::string &message() const { return message_; }
    /// As the task's language prints it; may be empty.
    const std::string &traceback() const { return traceback_; }
    /// Of the worker that died, or -1, 0, 0.
    int exit_status() const { return exit_status_; }
    int signal() const { return signal_; }
    int pid() const { return pid_; }

  private:
    int outcome_;
    int code_ = 0;
    std::string type_;
    std::string message_;
    std::string traceback_;
    int exit_status_ = -1;
    int signal_ = 0;
    int pid_ = 0;
};

/// The running task was asked to stop. Thrown where a coroutine waits; a task that ends with it counts as
/// CANCELLED, or TIMED_OUT when that was the reason.
class Cancelled : public std::exception {
  public:
    const char *what() const noexcept override { return "the task was cancelled"; }
};

/// A value, or why there is none.
template <class T>
class Result {
  public:
    using Held = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

    Result() requires std::is_void_v<T>
    = default;
    Result(Held value) : content_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

    bool has_value() const { return content_.index() == 0; }
    explicit operator bool() const { return has_value(); }
    /// Throws the Error if there is no value.
    T value() && {
        if (!has_value()) throw error();
        if constexpr (!std::is_void_v<T>) return std::get<0>(std::move(content_));
    }
    std::add_lvalue_reference_t<const Held> value() const & {
        if (!has_value()) throw error();
        return std::get<0>(content_);
    }
    const Error &error() const { return std::get<1>(content_); }
    const Held &operator*() const { return std::get<0>(content_); }
    const Held *operator->() const { return &std::get<0>(content_); }

  private:
    std::variant<Held, Error> content_;
};

namespace detail {

inline void check(std::int64_t outcome, const char *doing) {
    if (outcome < 0) throw Error::of_call(static_cast<int>(outcome), doing);
}

}  // namespace detail
}  // namespace aiomq
