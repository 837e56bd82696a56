// function: a C++ function with the name by which tasks call it.
#pragma once

#include <aiomq/cpp/task.hpp>
#include <aiomq/cpp/value.hpp>
#include <algorithm>

namespace aiomq {

namespace detail {

/// A text as a template argument.
template <std::size_t N>
struct FixedString {
    constexpr FixedString(const char (&from)[N]) {
        std::copy_n(from, N, text);
    }  // NOLINT: implicit
    constexpr std::string_view view() const { return {text, N - 1}; }
    char text[N];
};

/// What a function takes and gives.
template <class Callable>
struct Signature : Signature<decltype(&Callable::operator())> {};
template <class R, class... A>
struct Signature<R (*)(A...)> {
    using Returned = R;
    using Arguments = std::tuple<std::remove_cvref_t<A>...>;
    static constexpr bool has_references = (std::is_reference_v<A> || ...);
};
template <class R, class... A>
struct Signature<R (*)(A...) noexcept> : Signature<R (*)(A...)> {};
template <class R, class Class, class... A>
struct Signature<R (Class::*)(A...) const> : Signature<R (*)(A...)> {};
template <class R, class Class, class... A>
struct Signature<R (Class::*)(A...) const noexcept> : Signature<R (*)(A...)> {};

template <class T>
struct Awaited {
    using Type = T;
    static constexpr bool is_task = false;
};
template <class T>
struct Awaited<Task<T>> {
    using Type = T;
    static constexpr bool is_task = true;
};

}  // namespace detail

/// A named function: `constexpr auto fetch_task = aiomq::function<"fetch", fetch>;`. @Callable: a function,
/// a lambda without captures, or a coroutine that returns a Task. Its parameters and result have a Codec.
///
/// Both ends use it: a worker's table takes it, and Pool::submit() calls it with checked types.
template <detail::FixedString Name, auto Callable>
struct Function {
    using Signature = detail::Signature<std::remove_cv_t<decltype(Callable)>>;
    using Returned = typename Signature::Returned;
    using Arguments = typename Signature::Arguments;
    /// What a call gives: of a Task<T>, T.
    using Result = std::remove_cvref_t<typename detail::Awaited<Returned>::Type>;
    static constexpr bool is_task = detail::Awaited<Returned>::is_task;
    static constexpr std::size_t arity = std::tuple_size_v<Arguments>;
    static_assert(
        !is_task || !Signature::has_references,
        "a coroutine outlives the call that starts it, so its parameters must not be references");

    static constexpr std::string_view name() { return Name.view(); }
    template <class... A>
    Returned operator()(A &&...arguments) const {
        return Callable(std::forward<A>(arguments)...);
    }
};
template <detail::FixedString Name, auto Callable>
inline constexpr Function<Name, Callable> function{};

namespace detail {

template <class T>
inline constexpr bool is_function = false;
template <FixedString Name, auto Callable>
inline constexpr bool is_function<Function<Name, Callable>> = true;
template <class T>
concept Named = is_function<std::remove_cvref_t<T>>;

/// Writes the arguments of one call, each as its parameter's type.
template <Named Fn, class... A, std::size_t... I>
void write_arguments(Writer &writer, Fn, std::index_sequence<I...>, const A &...arguments) {
    [[maybe_unused]] const auto write_one = [&]<class Parameter, class Argument>(
                                                std::type_identity<Parameter>,
                                                const Argument &argument) {
        if constexpr (std::is_same_v<Parameter, Value>) {
            write(writer, argument);
        } else if constexpr (std::is_same_v<Parameter, Argument>) {
            Codec<Parameter>::write(writer, argument);
        } else if constexpr (Text<Parameter>) {
            // A view borrows what a converted string would not outlive.
            Codec<std::string_view>::write(writer, std::string_view(argument));
        } else if constexpr (std::is_arithmetic_v<Parameter> || is_view<Parameter>) {
            Codec<Parameter>::write(writer, static_cast<Parameter>(argument));
        } else {
            write(writer, argument);
        }
    };
    (write_one(std::type_identity<std::tuple_element_t<I, typename Fn::Arguments>>(), arguments),
     ...);
}

}  // namespace detail
}  // namespace aiomq
