// Operations: what a worker does with a function, without its types.
#pragma once

#include <cxxabi.h>

#include <aiomq/cpp/function.hpp>
#include <cstdlib>
#include <memory>
#include <typeinfo>

namespace aiomq::detail {

class Runtime;
class Running;
class Results;

/// A result on its way, of a type that the operations know.
using Box = std::shared_ptr<void>;

struct Operations {
    std::string_view name;  ///< terminated
    Runtime *runtime = nullptr;

    /// A plain function: one call. Null: it is a Task.
    void (*call)(const aiomq_job &, std::uint32_t item, Results &, aiomq_item &) = nullptr;
    /// A Task: makes it and runs it until it waits or ends.
    void (*start)(const Operations &, const aiomq_job &, Running &) = nullptr;

    /// For folding: what one call gives, into a box for it.
    const std::type_info *result = nullptr;
    Box (*make)() = nullptr;
    void (*evaluate)(const Value &argument,
                     void *box) = nullptr;  ///< null: a Task, or not of one argument
    Task<> (*evaluate_task)(Value argument, void *box) = nullptr;
    void (*combine)(void *left, void *right) = nullptr;  ///< left = f(left, right); null likewise
    Task<> (*combine_task)(void *left, void *right) = nullptr;
    void (*write)(Writer &, const void *box) = nullptr;

    /// Of a fold: what it is made of.
    const Operations *function = nullptr;
    const Operations *reduce = nullptr;
};

/// The columns of the chunk that was read last: most items come one after the other.
template <std::size_t Arity>
class Columns {
  public:
    /// False: it is no chunk whose calls all have so many arguments.
    bool open(const aiomq_job &job) {
        if (job.kind != AIOMQ_KIND_CHUNK) return false;
        if (task_id_ == job.task_id && payload_ == job.payload && attempt_ == job.attempt)
            return usable_;
        task_id_ = job.task_id;
        payload_ = job.payload;
        attempt_ = job.attempt;
        usable_ = false;
        aiomq_value column;
        for (std::size_t i = 0; i < Arity; ++i) {
            if (aiomq_value_column(&job, static_cast<std::uint32_t>(i), &column) != 0) return false;
            columns_[i] = Value(column);
        }
        // One more would be an argument too many.
        usable_ = aiomq_value_column(&job, Arity, &column) == -ENOENT;
        return usable_;
    }
    template <class T>
    T read(std::size_t index, std::uint32_t item) const {
        const Value &column = columns_[index];
        if constexpr (Number64<T>) {
            const auto numbers = column.packed<T>(packed_type<T>);
            if (item < numbers.size()) return numbers[item];
        }
        return Codec<T>::read(column[item]);
    }

  private:
    std::uint64_t task_id_ = 0;
    const void *payload_ = nullptr;
    std::uint16_t attempt_ = 0;
    bool usable_ = false;
    std::array<Value, Arity> columns_;
};

/// The arguments of one call, or Error("aiomq.BadArguments") that says what was expected.
template <class Fn>
typename Fn::Arguments read_arguments(const aiomq_job &job, std::uint32_t item) {
    const auto fail = [](const std::string &text) -> Error {
        return {AIOMQ_ERROR, "aiomq.BadArguments", std::string(Fn::name()) + text};
    };
    static thread_local Columns<Fn::arity> columns;
    const auto mismatch_in = [&](std::size_t index, const TypeMismatch &mismatch) {
        return fail(": argument " + std::to_string(index + 1) + ": " + mismatch.what());
    };
    if (Fn::arity != 0 && columns.open(job)) {
        const auto read_one = [&]<class T>(std::type_identity<T>, std::size_t index) -> T {
            try {
                return columns.template read<T>(index, item);
            } catch (const TypeMismatch &mismatch) {
                throw mismatch_in(index, mismatch);
            }
        };
        return [&]<std::size_t... I>(std::index_sequence<I...>)->typename Fn::Arguments {
            (void)read_one;
            return {read_one(std::type_identity<std::tuple_element_t<I, typename Fn::Arguments>>(),
                             I)...};
        }
        (std::make_index_sequence<Fn::arity>());
    }
    aiomq_value positional{};
    aiomq_value keywords{};
    if (Fn::arity != 0 || job.kind != AIOMQ_KIND_NONE)
        if (aiomq_value_arguments(&job, item, &positional, &keywords) != 0)
            throw fail(": the arguments are damaged, or not what a call sends");
    if (keywords.count != 0) throw fail(" takes no keyword arguments");
    if (positional.count != Fn::arity)
        throw fail(" takes " + std::to_string(Fn::arity) + " argument" +
                   (Fn::arity == 1 ? "" : "s") + ", " + std::to_string(positional.count) +
                   (positional.count == 1 ? " was" : " were") + " given");
    const Value all(positional);
    const auto read_one = [&]<class T>(std::type_identity<T>, std::size_t index) -> T {
        try {
            return Codec<T>::read(all[static_cast<std::uint32_t>(index)]);
        } catch (const TypeMismatch &mismatch) {
            throw mismatch_in(index, mismatch);
        }
    };
    return [&]<std::size_t... I>(std::index_sequence<I...>)->typename Fn::Arguments {
        (void)read_one;
        return {
            read_one(std::type_identity<std::tuple_element_t<I, typename Fn::Arguments>>(), I)...};
    }
    (std::make_index_sequence<Fn::arity>());
}

/// One argument of a function of one.
template <class Fn>
std::tuple_element_t<0, typename Fn::Arguments> read_only_argument(const Value &value) {
    try {
        return Codec<std::tuple_element_t<0, typename Fn::Arguments>>::read(value);
    } catch (const TypeMismatch &mismatch) {
        throw Error(AIOMQ_ERROR, "aiomq.BadArguments",
                    std::string(Fn::name()) + ": argument 1: " + mismatch.what());
    }
}

/// Where a worker's results go.
class Results {
  public:
    aiomq_worker *worker = nullptr;

    /// Makes @result the value of @item, which stays good until the next one. Scalars travel in the item
    /// itself, what is long is written once, to the worker's arena.
    template <class T>
    void put(std::uint32_t job, const T &result, aiomq_item &item) {
        if constexpr (std::is_same_v<T, bool>) {
            item.kind = AIOMQ_KIND_BOOL;
            item.value.integer = result ? 1 : 0;
        } else if constexpr (std::is_integral_v<T> && (std::is_signed_v<T> || sizeof(T) < 8)) {
            item.kind = AIOMQ_KIND_INT;
            item.value.integer = static_cast<std::int64_t>(result);
        } else if constexpr (std::is_floating_point_v<T>) {
            item.kind = AIOMQ_KIND_FLOAT;
            item.value.real = static_cast<double>(result);
        } else {
            writer_.reset();
            Codec<T>::write(writer_, result);
            store(job, item);
        }
    }
    Writer &writer() { return writer_; }

  private:
    void store(std::uint32_t job, aiomq_item &item) {
        const std::int64_t bytes = aiomq_value_measure(writer_.handle(), AIOMQ_KIND_VALUE);
        check(bytes, "a result");
        if (static_cast<std::size_t>(bytes) <= sizeof short_) {
            check(aiomq_value_item(writer_.handle(), &item), "a result");
            if (item.kind < AIOMQ_KIND_BYTES || item.bytes == 0) return;
            std::memcpy(short_, item.value.data, item.bytes);
            item.value.data = short_;
            return;
        }
        void *memory = nullptr;
        if (aiomq_worker_alloc(worker, job, static_cast<std::uint64_t>(bytes), &memory) != 0) {
            // There is none now, or never: completing it deals with that.
            kept_.resize(static_cast<std::size_t>(bytes) / 8);
            memory = kept_.data();
        }
        check(aiomq_value_store(writer_.handle(), memory), "a result");
        item.kind = AIOMQ_KIND_VALUE;
        item.bytes = static_cast<std::uint64_t>(bytes);
        item.value.data = memory;
    }

    Writer writer_;
    alignas(8) unsigned char short_[1024];
    std::vector<std::uint64_t> kept_;
};

/// Type, message and traceback of the exception that is being handled.
inline void describe_exception(std::string_view task, std::string &ret_type,
                               std::string &ret_message, std::string &ret_traceback) {
    const std::string name(task);
    try {
        throw;
    } catch (const Error &error) {
        ret_type = error.type().empty() ? "aiomq.Error" : error.type();
        ret_message = error.message();
        ret_traceback = error.traceback();
        if (ret_message.find(name) == std::string::npos) ret_message = name + ": " + ret_message;
    } catch (const std::exception &error) {
        int status = -1;
        char *demangled = abi::__cxa_demangle(typeid(error).name(), nullptr, nullptr, &status);
        ret_type = status == 0 ? demangled : typeid(error).name();
        std::free(demangled);
        ret_message = name + ": " + error.what();
    } catch (...) {
        ret_type = "unknown exception";
        ret_message = name + ": threw something that is no std::exception";
    }
}

template <class Fn>
struct OperationsOf {
    using R = typename Fn::Result;
    using Stored = std::conditional_t<std::is_void_v<R>, std::monostate, R>;
    using Optional = std::optional<Stored>;

    static Operations make() {
        Operations all;
        all.name = Fn::name();
        if constexpr (Fn::is_task)
            all.start = &start<Running>;
        else
            all.call = &call;
        if constexpr (!std::is_void_v<R>) {
            all.result = &typeid(R);
            all.make = []() -> Box { return std::make_shared<Optional>(); };
            all.write = [](Writer &writer, const void *box) {
                Codec<R>::write(writer, **static_cast<const Optional *>(box));
            };
            if constexpr (Fn::arity == 1 && Fn::is_task) all.evaluate_task = &evaluate_task;
            if constexpr (Fn::arity == 1 && !Fn::is_task)
                all.evaluate = [](const Value &argument, void *box) {
                    static_cast<Optional *>(box)->emplace(Fn()(read_only_argument<Fn>(argument)));
                };
            if constexpr (std::is_same_v<typename Fn::Arguments, std::tuple<R, R>>) {
                if constexpr (Fn::is_task)
                    all.combine_task = &combine_task;
                else
                    all.combine = [](void *left, void *right) {
                        auto &result = **static_cast<Optional *>(left);
                        result =
                            Fn()(std::move(result), std::move(**static_cast<Optional *>(right)));
                    };
            }
        }
        return all;
    }

  private:
    static void call(const aiomq_job &job, std::uint32_t item, Results &results,
                     aiomq_item &ret_item) {
        typename Fn::Arguments arguments = read_arguments<Fn>(job, item);
        if constexpr (std::is_void_v<R>)
            std::apply(Fn(), std::move(arguments));
        else
            results.put<R>(job.job, std::apply(Fn(), std::move(arguments)), ret_item);
    }
    template <class Item>
    static void start(const Operations &, const aiomq_job &job, Item &running) {
        Task<R> task = std::apply(Fn(), read_arguments<Fn>(job, running.info.item));
        running.adopt(std::move(task));
    }
    static Task<> evaluate_task(Value argument, void *box) {
        static_cast<Optional *>(box)->emplace(co_await Fn()(read_only_argument<Fn>(argument)));
    }
    static Task<> combine_task(void *left, void *right) {
        auto &result = *static_cast<Optional *>(left);
        Stored folded =
            co_await Fn()(std::move(*result), std::move(**static_cast<Optional *>(right)));
        result = std::move(folded);
    }
};

}  // namespace aiomq::detail
