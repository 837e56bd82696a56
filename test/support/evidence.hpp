// Figures of a run at full length, as evidence/NAME.json of the build folder.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>

namespace aiomq_test {

/// The commit that is checked out where AIOMQ_INCLUDE_DIR lies, and whether files differ from it; "" where
/// there is none.
inline std::string commit() {
    const char *include = std::getenv("AIOMQ_INCLUDE_DIR");
    FILE *git = popen(("git -C '" + std::string(include == nullptr ? "." : include) +
                       "' describe --always --dirty --exclude='*' 2>/dev/null")
                          .c_str(),
                      "re");
    char text[64] = "";
    if (git == nullptr) return "";
    if (std::fscanf(git, "%63s", text) != 1) text[0] = '\0';
    pclose(git);
    return text;
}

/// @figures: the inside of a JSON object. Nothing is escaped. Nothing is left where no test runner has
/// named a build folder.
inline void leave_evidence(const std::string &name, const std::string &what,
                           const std::string &figures, const std::string &command,
                           const std::string &seed) {
    const char *build = std::getenv("AIOMQ_BUILD_DIR");
    if (build == nullptr || *build == '\0') return;
    const std::filesystem::path folder = std::filesystem::path(build) / "evidence";
    std::filesystem::create_directories(folder);
    char when[32] = "";
    const std::time_t now = std::time(nullptr);
    std::tm broken_down{};
    std::strftime(when, sizeof when, "%Y-%m-%d %H:%M", gmtime_r(&now, &broken_down));
    std::ofstream(folder / (name + ".json"))
        << "{\"name\": \"" << name << "\", \"what\": \"" << what << "\", \"figures\": {" << figures
        << "}, \"command\": \"" << command << "\", \"seed\": \"" << seed << "\", \"when\": \""
        << when << "\", \"commit\": \"" << commit() << "\"}\n";
}

}  // namespace aiomq_test
