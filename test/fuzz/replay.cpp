// Feeds files to a fuzz target: how the corpus is run without libFuzzer, by every compiler. Arguments are
// files and folders of them.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "input.hpp"

namespace {

std::vector<std::filesystem::path> files_in(const std::filesystem::path &place) {
    if (!std::filesystem::is_directory(place)) return {place};
    std::vector<std::filesystem::path> files;
    for (const auto &entry : std::filesystem::directory_iterator(place))
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace

int main(int argc, char **argv) {
    std::size_t count = 0;
    for (int i = 1; i < argc; ++i)
        for (const auto &path : files_in(argv[i])) {
            std::ifstream file(path, std::ios::binary);
            const std::string bytes{std::istreambuf_iterator<char>(file), {}};
            if (!file) {
                std::fprintf(stderr, "can't read %s\n", path.c_str());
                return 1;
            }
            // Before it runs: what crashes is the last one named.
            std::printf("%s\n", path.filename().c_str());
            std::fflush(stdout);
            LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t *>(bytes.data()),
                                   bytes.size());
            ++count;
        }
    std::printf("%zu inputs\n", count);
    return count == 0 ? 1 : 0;  // an empty corpus tests nothing
}
