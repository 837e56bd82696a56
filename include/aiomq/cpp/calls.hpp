// Calls: the verbs: submit, apply, map, map_unordered, map_reduce; of a Pool, and of its options().
#pragma once

#include <aiomq/cpp/map.hpp>
#include <aiomq/cpp/reduce.hpp>

namespace aiomq {

class Calls {
  public:
    Calls(std::shared_ptr<detail::Core> core, CallOptions options, std::size_t workers)
        : core_(std::move(core)), options_(std::move(options)), workers_(workers) {}

    /// Starts one call. Blocks only while the pool is full; on the thread of the pool's loop never.
    template <detail::Named Fn, class... A>
    Future<typename Fn::Result> submit(Fn fn, const A &...arguments) const {
        static_assert(sizeof...(A) == Fn::arity,
                      "the function has another number of parameters than there are arguments");
        return detail::submit_call<typename Fn::Result>(
            core(), options_, std::string(Fn::name()), [&](Writer &writer) {
                detail::write_arguments(writer, fn, std::index_sequence_for<A...>(), arguments...);
            });
    }
    /// One that only its worker knows, such as a Python function, "module:name".
    template <class R, class... A>
    Future<R> submit(const std::string &function, const A &...arguments) const {
        return detail::submit_call<R>(core(), options_, function, [&](Writer &writer) {
            (detail::write(writer, arguments), ...);
        });
    }
    /// One call and its result.
    template <detail::Named Fn, class... A>
    typename Fn::Result apply(Fn fn, const A &...arguments) const {
        return submit(fn, arguments...).get();
    }
    template <class R, class... A>
    R apply(const std::string &function, const A &...arguments) const {
        return submit<R>(function, arguments...).get();
    }

    /// Results in the order of @range, as an input range; see Map.
    template <detail::Named Fn, detail::RangeLike Range>
    auto map(Fn fn, Range &&range, MapOptions options = {}) const {
        return make_map<typename Fn::Result, false, false>(fn, std::forward<Range>(range), options);
    }
    template <class R, detail::RangeLike Range>
    auto map(const std::string &function, Range &&range, MapOptions options = {}) const {
        return make_map<R, false, false>(function, std::forward<Range>(range), options);
    }
    /// As map(), but gives Result: an item that failed does not end it.
    template <detail::Named Fn, detail::RangeLike Range>
    auto try_map(Fn fn, Range &&range, MapOptions options = {}) const {
        return make_map<typename Fn::Result, false, true>(fn, std::forward<Range>(range), options);
    }
    template <class R, detail::RangeLike Range>
    auto try_map(const std::string &function, Range &&range, MapOptions options = {}) const {
        return make_map<R, false, true>(function, std::forward<Range>(range), options);
    }
    /// Pairs of index and result, as they finish.
    template <detail::Named Fn, detail::RangeLike Range>
    auto map_unordered(Fn fn, Range &&range, MapOptions options = {}) const {
        return make_map<typename Fn::Result, true, false>(fn, std::forward<Range>(range), options);
    }
    template <class R, detail::RangeLike Range>
    auto map_unordered(const std::string &function, Range &&range, MapOptions options = {}) const {
        return make_map<R, true, false>(function, std::forward<Range>(range), options);
    }
    template <detail::Named Fn, detail::RangeLike Range>
    auto try_map_unordered(Fn fn, Range &&range, MapOptions options = {}) const {
        return make_map<typename Fn::Result, true, true>(fn, std::forward<Range>(range), options);
    }

    /// Folds the results of @fn with @reduce: in the workers, chunk by chunk; only partial results travel.
    /// Their order is kept, so @reduce need not be commutative. Throws std::invalid_argument if @range is
    /// empty and there is no @initial.
    template <detail::Named Fn, detail::Named Reduce, detail::RangeLike Range>
    auto map_reduce(Fn fn, Reduce reduce, Range &&range, MapOptions options = {}) const {
        using T = typename Reduce::Result;
        return detail::Reduction<T, Fn, Reduce>(core(), fn, reduce, options, options_, workers_)
            .run(detail::Source<Range>(std::forward<Range>(range)), std::optional<T>());
    }
    template <detail::Named Fn, detail::Named Reduce, detail::RangeLike Range, class T>
    auto map_reduce(Fn fn, Reduce reduce, Range &&range, T &&initial, MapOptions options) const {
        using Folded = typename Reduce::Result;
        return detail::Reduction<Folded, Fn, Reduce>(core(), fn, reduce, options, options_,
                                                     workers_)
            .run(detail::Source<Range>(std::forward<Range>(range)),
                 std::optional<Folded>(std::forward<T>(initial)));
    }
    /// The same with functions that only the workers know.
    template <class T, detail::RangeLike Range>
    T map_reduce(const std::string &function, const std::string &reduce, Range &&range,
                 std::optional<T> initial = {}, MapOptions options = {}) const {
        return detail::Reduction<T, std::string, std::string>(core(), function, reduce, options,
                                                              options_, workers_)
            .run(detail::Source<Range>(std::forward<Range>(range)), std::move(initial));
    }

  protected:
    const std::shared_ptr<detail::Core> &core() const {
        if (core_ == nullptr) throw Error(AIOMQ_PENDING, {}, "a Pool that was moved from");
        return core_;
    }

    std::shared_ptr<detail::Core> core_;
    CallOptions options_;
    std::size_t workers_ = 1;

  private:
    template <class R, bool Unordered, bool Try, class Fn, class Range>
    auto make_map(Fn fn, Range &&range, MapOptions options) const {
        return Map<R, Fn, Range, Unordered, Try>(core(), std::move(fn),
                                                 detail::Source<Range>(std::forward<Range>(range)),
                                                 options, options_, workers_);
    }
};

}  // namespace aiomq
