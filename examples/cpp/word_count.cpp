// word_count - how often each word occurs in files, by map and reduce on all CPUs.
//
//     word_count FILE...
//
// Each worker counts the words of some files and folds the counts; only the folded counts travel. Prints
// what `cat FILE... | tr -s '[:space:]' '\n' | sort | uniq -c` counts, as lines "COUNT WORD" in the order of
// the words' bytes. A file whose worker dies is counted again by another.
#include <aiomq/aiomq.hpp>
#include <cctype>
#include <fstream>
#include <iostream>
#include <iterator>

namespace {

// Files need not be UTF-8, so words are bytes.
using Counts = std::map<aiomq::Bytes, std::int64_t>;

Counts count_words(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("can't read " + path);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto is_space = [](char letter) {
        return std::isspace(static_cast<unsigned char>(letter)) != 0;
    };
    Counts counts;
    for (auto from = text.begin(); from != text.end();) {
        from = std::find_if_not(from, text.end(), is_space);
        const auto upto = std::find_if(from, text.end(), is_space);
        if (from == upto) break;
        const auto bytes = std::as_bytes(std::span(from, upto));
        ++counts[aiomq::Bytes(bytes.begin(), bytes.end())];
        from = upto;
    }
    return counts;
}

Counts merge(Counts left, Counts right) {
    if (left.size() < right.size()) left.swap(right);
    for (const auto &[word, count] : right) left[word] += count;
    return left;
}

constexpr auto kCountWords = aiomq::function<"count_words", count_words>;
constexpr auto kMerge = aiomq::function<"merge", merge>;

}  // namespace

int main(int argc, char **argv) {
    aiomq::run_if_worker(kCountWords, kMerge);
    const std::vector<std::string> paths(argv + 1, argv + argc);
    if (paths.empty()) {
        std::cerr << "usage: word_count FILE...\n";
        return 2;
    }
    try {
        const aiomq::Pool pool({.label = "word_count"});
        const Counts counts = pool.options({.retries = 3}).map_reduce(kCountWords, kMerge, paths);
        for (const auto &[word, count] : counts) {
            std::cout << count << ' ';
            std::cout.write(reinterpret_cast<const char *>(word.data()),
                            static_cast<std::streamsize>(word.size()));
            std::cout << '\n';
        }
    } catch (const aiomq::Error &error) {
        std::cerr << "word_count: " << error.what() << '\n';
        return 1;
    }
}
