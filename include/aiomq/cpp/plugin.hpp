// plugin: C++ functions as a shared library for aiomq-worker(1).
//
//     AIOMQ_PLUGIN(aiomq::function<"add", add>, fetch_task)
//
// in one source of the library. Several plugins may be in one worker.
#pragma once

#include <aiomq/cpp/worker.hpp>

namespace aiomq::detail {

/// The plugin of one table; made when the library is first asked for it.
template <Named... Fn>
const aiomq_plugin *plugin(const WorkerOptions &options) {
    static_assert(names_differ<Fn...>(), "two functions have the same name");
    static Runtime runtime({OperationsOf<Fn>::make()...}, options);
    static const aiomq_plugin made = [] {
        aiomq_plugin made{};
        made.struct_bytes = sizeof made;
        made.version = AIOMQ_PLUGIN_VERSION;
        made.handlers = runtime.handlers().data();
        made.handler_count = runtime.handlers().size();
        made.concurrency = runtime.options().concurrency;
        made.user = &runtime;
        made.start = [](void *user, aiomq_worker *worker, char *error_text, std::size_t bytes) {
            try {
                static_cast<Runtime *>(user)->open(worker);
                return 0;
            } catch (...) {
                std::string type;
                std::string message;
                std::string traceback;
                describe_exception("start", type, message, traceback);
                std::snprintf(error_text, bytes, "%s: %s", type.c_str(), message.c_str());
                return -1;
            }
        };
        made.stop = [](void *user) { static_cast<Runtime *>(user)->close(); };
        made.cancel = &Runtime::on_cancel;
        made.answer = &Runtime::on_answer;
        made.resolve = &Runtime::on_resolve;
        return made;
    }();
    return &made;
}

template <class... Fn>
const aiomq_plugin *plugin_of(Fn...) {
    return plugin<Fn...>(WorkerOptions());
}
template <class... Fn>
const aiomq_plugin *plugin_of(WorkerOptions options, Fn...) {
    return plugin<Fn...>(options);
}

}  // namespace aiomq::detail

/// Defines what a plugin exports. The arguments are those of run_if_worker().
#define AIOMQ_PLUGIN(...)                                                                        \
    extern "C" __attribute__((visibility("default"))) const aiomq_plugin *aiomq_plugin_entry() { \
        return ::aiomq::detail::plugin_of(__VA_ARGS__);                                          \
    }
