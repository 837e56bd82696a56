#include "server.hpp"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fleet {
namespace {

constexpr int kBacklog = 1024;  // a monitor opens a connection to every host at once
constexpr int kOk = 200;
constexpr std::size_t kLargestWrite = 1 << 20;  // a page in one go, where the default is 16 KiB

double seconds(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Target {
    std::size_t host;
    std::int64_t sweep;
};

template <typename Number>
bool take_number(std::string_view &text, Number &number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{}) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
}

bool take(std::string_view &text, std::string_view prefix) {
    if (text.substr(0, prefix.size()) != prefix) return false;
    text.remove_prefix(prefix.size());
    return true;
}

// /host/<i>/metrics?sweep=<k>; without a query it is the first sweep.
std::optional<Target> parse_target(std::string_view uri) {
    Target target{0, 0};
    if (!take(uri, "/host/") || !take_number(uri, target.host) || !take(uri, "/metrics")) {
        return std::nullopt;
    }
    if (take(uri, "?sweep=") && (!take_number(uri, target.sweep) || target.sweep < 0)) {
        return std::nullopt;
    }
    return uri.empty() ? std::optional(target) : std::nullopt;
}

void send_text(evhttp_request *request, const char *type, const std::string &text) {
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", type);
    evbuffer *const body = evhttp_request_get_output_buffer(request);
    evbuffer_add(body, text.data(), text.size());
    evhttp_send_reply(request, kOk, "OK", nullptr);
}

}  // namespace

// An answer that waits for its time, or a connection that waits to be closed (evhttp does not allow
// that inside its own callback). If the client leaves first, evhttp frees the request and this
// ends.
struct Server::Pending {
    Server *server;
    evhttp_request *request;
    event *timer;
    std::size_t host;
    std::int64_t sweep;

    ~Pending() { event_free(timer); }
};

Server::Server(const FleetSize &size, const Page &page, const Faults &faults)
    : size_(size), page_(page), faults_(faults), base_(event_base_new()) {
    if (!base_) throw std::runtime_error("cannot create an event base");
    http_.reset(evhttp_new(base_.get()));
    if (!http_) throw std::runtime_error("cannot create an HTTP server");

    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    evconnlistener *const listener = evconnlistener_new_bind(
        base_.get(), nullptr, nullptr, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, kBacklog,
        reinterpret_cast<const sockaddr *>(&address), sizeof address);
    if (listener == nullptr) throw std::runtime_error("cannot listen on 127.0.0.1");
    const int on = 1;  // inherited by the accepted sockets
    setsockopt(evconnlistener_get_fd(listener), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    socklen_t length = sizeof address;
    getsockname(evconnlistener_get_fd(listener), reinterpret_cast<sockaddr *>(&address), &length);
    port_ = ntohs(address.sin_port);
    if (evhttp_bind_listener(http_.get(), listener) == nullptr) {
        evconnlistener_free(listener);
        throw std::runtime_error("cannot serve on 127.0.0.1");
    }
    evhttp_set_bevcb(
        http_.get(),
        [](event_base *base, void *) {
            bufferevent *const buffer = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
            if (buffer != nullptr) bufferevent_set_max_single_write(buffer, kLargestWrite);
            return buffer;
        },
        nullptr);
    evhttp_set_gencb(
        http_.get(),
        [](evhttp_request *request, void *self) { static_cast<Server *>(self)->handle(request); },
        this);
}

void Server::run() { event_base_dispatch(base_.get()); }

void Server::handle(evhttp_request *request) {
    const std::string_view uri = evhttp_request_get_uri(request);
    if (uri == "/fleet/truth") return send_text(request, "application/json", faults_.truth_json());
    if (uri == "/fleet/stats") return send_stats(request);
    const std::optional<Target> target = parse_target(uri);
    if (!target || target->host >= size_.hosts) {
        return evhttp_send_error(request, HTTP_NOTFOUND, "no such host");
    }
    const auto [host, sweep] = *target;
    if (faults_.answer(host, sweep) == Answer::kSilence || faults_.delay_ms(host, sweep) > 0) {
        return answer_later(request, host, sweep);
    }
    send_page(request, host, sweep);
}

void Server::answer_later(evhttp_request *request, std::size_t host, std::int64_t sweep) {
    auto *const pending = new Pending{this, request, nullptr, host, sweep};
    pending->timer = evtimer_new(
        base_.get(),
        [](evutil_socket_t, short, void *self) {
            const std::unique_ptr<Pending> owned(static_cast<Pending *>(self));
            owned->server->answer_now(*owned);
        },
        pending);
    evhttp_connection_set_closecb(
        evhttp_request_get_connection(request),
        [](evhttp_connection *, void *self) { delete static_cast<Pending *>(self); }, pending);
    const bool silent = faults_.answer(host, sweep) == Answer::kSilence;
    const timeval delay{0, silent ? 0 : 1000 * faults_.delay_ms(host, sweep)};
    evtimer_add(pending->timer, &delay);
}

void Server::answer_now(Pending &pending) {
    evhttp_connection *const connection = evhttp_request_get_connection(pending.request);
    evhttp_connection_set_closecb(connection, nullptr, nullptr);
    if (faults_.answer(pending.host, pending.sweep) == Answer::kSilence) {
        ++silences_;
        evhttp_connection_free(connection);
    } else {
        ++delays_;
        send_page(pending.request, pending.host, pending.sweep);
    }
}

void Server::send_page(evhttp_request *request, std::size_t host, std::int64_t sweep) {
    if (faults_.answer(host, sweep) == Answer::kError) {
        ++errors_;
        return evhttp_send_error(request, HTTP_INTERNAL, "planned failure");
    }
    evbuffer *const body = evhttp_request_get_output_buffer(request);
    evbuffer_iovec space{};
    if (evbuffer_reserve_space(body, static_cast<ev_ssize_t>(page_.size()), &space, 1) != 1) {
        return evhttp_send_error(request, HTTP_INTERNAL, "out of memory");
    }
    const double begin = seconds(CLOCK_MONOTONIC);
    char *const out = static_cast<char *>(space.iov_base);
    page_.render(out, Evolution(size_.seed, host), sweep, faults_.renamed(host, sweep));
    faults_.apply(out, host, sweep);
    render_seconds_ += seconds(CLOCK_MONOTONIC) - begin;
    space.iov_len = page_.size();
    evbuffer_commit_space(body, &space, 1);
    ++pages_;
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "text/plain; version=0.0.4; charset=utf-8");
    evhttp_send_reply(request, kOk, "OK", nullptr);
}

void Server::send_stats(evhttp_request *request) const {
    std::array<char, 512> json{};
    std::snprintf(json.data(), json.size(),
                  "{\"cpu_seconds\": %.6f, \"render_seconds\": %.6f, \"pages\": %" PRIu64
                  ", \"page_bytes\": %zu, \"errors\": %" PRIu64 ", \"silences\": %" PRIu64
                  ", \"delays\": %" PRIu64 "}\n",
                  seconds(CLOCK_PROCESS_CPUTIME_ID), render_seconds_, pages_, page_.size(), errors_,
                  silences_, delays_);
    send_text(request, "application/json", json.data());
}

}  // namespace fleet
