// aiomq-worker: a worker process whose tasks are in plugins. See aiomq-worker(1).
#include <aiomq/aiomq.h>
#include <getopt.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <vector>

#include "plugin.hpp"

namespace {

using worker::Plugin;

constexpr const char *kUsage =
    "usage: aiomq-worker --plugin LIBRARY [--plugin LIBRARY ...] [--concurrency N]\n"
    "\n"
    "The argv of a pool's workers, or of a group's: runs the tasks of shared libraries.\n"
    "  -p, --plugin LIBRARY  a library with tasks; a name without a slash is searched for as\n"
    "                        dlopen(3) does\n"
    "  -c, --concurrency N   items that run at once, if their group does not say it\n"
    "  -h, --help            this text\n"
    "  -V, --version         the version of libaiomq\n";

struct Options {
    std::vector<std::string> plugins;
    std::uint32_t concurrency = 0;
};

[[noreturn]] void refuse(const std::string &why) {
    std::fprintf(stderr, "aiomq-worker: %s\n\n%s", why.c_str(), kUsage);
    std::exit(2);
}

Options parse(int argc, char **argv) {
    static const option kLong[] = {{"plugin", required_argument, nullptr, 'p'},
                                   {"concurrency", required_argument, nullptr, 'c'},
                                   {"help", no_argument, nullptr, 'h'},
                                   {"version", no_argument, nullptr, 'V'},
                                   {nullptr, 0, nullptr, 0}};
    Options options;
    opterr = 0;
    for (int found = 0; (found = getopt_long(argc, argv, ":p:c:hV", kLong, nullptr)) != -1;) {
        if (found == 'p') {
            options.plugins.emplace_back(optarg);
        } else if (found == 'c') {
            const char *end = optarg + std::strlen(optarg);
            const auto [stop, error] = std::from_chars(optarg, end, options.concurrency);
            if (error != std::errc() || stop != end || options.concurrency == 0)
                refuse(std::string("--concurrency is a number of 1 or more, not ") + optarg);
        } else if (found == 'h') {
            std::fputs(kUsage, stdout);
            std::exit(0);
        } else if (found == 'V') {
            std::printf("aiomq-worker %s\n", aiomq_version());
            std::exit(0);
        } else {
            refuse((found == ':' ? "no argument for " : "unknown option ") +
                   std::string(argv[optind - 1]));
        }
    }
    if (optind < argc) refuse(std::string("unexpected argument ") + argv[optind]);
    if (options.plugins.empty()) refuse("no --plugin");
    return options;
}

/// All plugins as one table.
class Host {
  public:
    Host(aiomq_worker *handle, const Options &options) : handle_(handle) {
        for (const std::string &path : options.plugins) add(plugins_.emplace_back(path));
        concurrency_ = options.concurrency != 0 ? options.concurrency : std::max(concurrency_, 1U);
        char text[1024] = "";
        for (const Plugin &plugin : plugins_)
            if (plugin.table().start != nullptr &&
                plugin.table().start(plugin.table().user, handle_, text, sizeof text) != 0)
                throw std::runtime_error(plugin.path() + ": " + text);
    }

    int run() {
        aiomq_run_options options;
        aiomq_run_options_init(&options, sizeof options);
        options.handlers = handlers_.data();
        options.handler_count = handlers_.size();
        options.concurrency = concurrency_;
        options.cancel = [](void *self, std::uint32_t job, std::uint32_t item) {
            for (const Plugin &plugin : static_cast<Host *>(self)->plugins_)
                if (plugin.table().cancel != nullptr)
                    plugin.table().cancel(plugin.table().user, job, item);
        };
        options.answer = [](void *self, const aiomq_completion *completion) {
            auto &host = *static_cast<Host *>(self);
            for (const Plugin &plugin : host.plugins_)
                if (plugin.table().answer != nullptr &&
                    plugin.table().answer(plugin.table().user, completion) == 1)
                    return;
            aiomq_worker_release(host.handle_, completion->loan);  // nobody waits for it any more
        };
        options.resolve = [](void *self, const char *name, std::size_t bytes, aiomq_handler *ret) {
            for (const Plugin &plugin : static_cast<Host *>(self)->plugins_)
                if (plugin.table().resolve != nullptr &&
                    plugin.table().resolve(plugin.table().user, name, bytes, ret) == 0)
                    return 0;
            return -1;
        };
        options.cancel_user = options.answer_user = options.resolve_user = this;
        const int error = aiomq_worker_run(handle_, &options);
        for (const Plugin &plugin : plugins_)
            if (plugin.table().stop != nullptr) plugin.table().stop(plugin.table().user);
        return error == 0 ? 0 : 1;
    }

  private:
    void add(const Plugin &plugin) {
        const aiomq_plugin &table = plugin.table();
        concurrency_ = std::max(concurrency_, table.concurrency);
        for (std::size_t i = 0; i < table.handler_count; ++i) {
            const aiomq_handler &handler = table.handlers[i];
            for (std::size_t other = 0; other < handlers_.size(); ++other)
                if (std::strcmp(handlers_[other].name, handler.name) == 0)
                    throw std::runtime_error("two tasks are called " + std::string(handler.name) +
                                             ": one of " + homes_[other]->path() + " and one of " +
                                             plugin.path());
            handlers_.push_back(handler);
            if (handler.user == nullptr) handlers_.back().user = table.user;
            homes_.push_back(&plugin);
        }
    }

    aiomq_worker *handle_;
    std::deque<Plugin> plugins_;
    std::vector<aiomq_handler> handlers_;
    std::vector<const Plugin *> homes_;
    std::uint32_t concurrency_ = 0;
};

}  // namespace

int main(int argc, char **argv) {
    const Options options = parse(argc, argv);
    char text[1024] = "";
    aiomq_worker *handle = nullptr;
    if (aiomq_worker_open(&handle, text, sizeof text) != 0)
        refuse(std::string("it is started by a pool, as the argv of its workers: ") + text);
    try {
        Host host(handle, options);
        return host.run();
    } catch (const std::exception &error) {
        aiomq_worker_abort(handle, (std::string("aiomq-worker: ") + error.what()).c_str());
        return 1;
    }
}
