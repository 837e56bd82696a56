#include "plugin.hpp"

#include <dlfcn.h>

#include <stdexcept>

namespace worker {

Plugin::Plugin(const std::string &path) : path_(path) {
    const auto refuse = [&](const std::string &why) {
        return std::runtime_error(path + ": " + why);
    };
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
        throw std::runtime_error("can't load the plugin: " + std::string(dlerror()));
    const auto entry =
        reinterpret_cast<const aiomq_plugin *(*)()>(dlsym(library, AIOMQ_PLUGIN_ENTRY));
    if (entry == nullptr)
        throw refuse("no plugin: it does not export " AIOMQ_PLUGIN_ENTRY
                     " (in C++ AIOMQ_PLUGIN() defines it)");
    table_ = entry();
    if (table_ == nullptr) throw refuse(AIOMQ_PLUGIN_ENTRY " has returned NULL");
    if (table_->version != AIOMQ_PLUGIN_VERSION)
        throw refuse("made for version " + std::to_string(table_->version) +
                     " of the plugin interface, and this is " +
                     std::to_string(AIOMQ_PLUGIN_VERSION) +
                     ": build it against the headers of libaiomq " + aiomq_version());
    if (table_->struct_bytes != sizeof(aiomq_plugin))
        throw refuse("aiomq_plugin has " + std::to_string(table_->struct_bytes) +
                     " bytes there and " + std::to_string(sizeof(aiomq_plugin)) +
                     " here: build it against the headers of libaiomq " + aiomq_version());
    if (table_->handlers == nullptr || table_->handler_count == 0)
        throw refuse("it has no handlers");
    for (std::size_t i = 0; i < table_->handler_count; ++i)
        if (table_->handlers[i].name == nullptr || table_->handlers[i].function == nullptr)
            throw refuse("handler " + std::to_string(i) + " has no name or no function");
}

}  // namespace worker
