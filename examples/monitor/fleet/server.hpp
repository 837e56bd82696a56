// Server: the fleet on HTTP, one thread. Its own CPU time is on /fleet/stats, to be taken apart
// from the monitor's.
//
//   GET /host/<i>/metrics?sweep=<k>   the page, or an error, or a closed connection, as planned
//   GET /fleet/truth                  the anomalies, as JSON
//   GET /fleet/stats                  CPU seconds and requests, as JSON
#pragma once

#include <event2/event.h>
#include <event2/http.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "faults.hpp"
#include "page.hpp"

namespace fleet {

struct EventBaseFree {
    void operator()(event_base *base) const { event_base_free(base); }
};
struct HttpFree {
    void operator()(evhttp *http) const { evhttp_free(http); }
};

class Server {
  public:
    // Listens on 127.0.0.1, on a port that the kernel chooses. `page` and `faults` must outlive it.
    // Throws std::runtime_error when it cannot listen.
    Server(const FleetSize &size, const Page &page, const Faults &faults);

    [[nodiscard]] std::uint16_t port() const { return port_; }
    void run();

  private:
    struct Pending;

    void handle(evhttp_request *request);
    void send_page(evhttp_request *request, std::size_t host, std::int64_t sweep);
    void send_stats(evhttp_request *request) const;
    void answer_later(evhttp_request *request, std::size_t host, std::int64_t sweep);
    void answer_now(Pending &pending);

    FleetSize size_;
    const Page &page_;
    const Faults &faults_;
    std::unique_ptr<event_base, EventBaseFree> base_;
    std::unique_ptr<evhttp, HttpFree> http_;
    std::uint16_t port_ = 0;
    std::uint64_t pages_ = 0;
    std::uint64_t errors_ = 0;
    std::uint64_t silences_ = 0;
    std::uint64_t delays_ = 0;
    double render_seconds_ = 0;
};

}  // namespace fleet
