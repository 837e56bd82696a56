// value_view: values of a message one at a time, as aiomq_value says where they lie.
//
// Nothing is decoded before it is asked for, and each step checks what it follows: see value_reader.hpp.
#pragma once

#include <aiomq/aiomq.h>

#include <cstddef>
#include <cstdint>

namespace aiomq {

/// Each: 0, or -EBADMSG; those with an index also -EINVAL and -ENOENT.
int open_item(const aiomq_item &item, aiomq_value &ret);
int open_arguments(const aiomq_job &job, std::uint32_t item, aiomq_value &ret_positional,
                   aiomq_value &ret_keywords);
int open_argument_column(const aiomq_job &job, std::uint32_t index, aiomq_value &ret);
int open_element(const aiomq_value &container, std::uint32_t index, aiomq_value &ret);
int open_key(const aiomq_value &dict, std::uint32_t index, aiomq_value &ret);
int find_key(const aiomq_value &dict, const char *key, aiomq_value &ret);

/// Whether a text is UTF-8 as RFC 3629 has it: shortest forms only, no surrogates, nothing above U+10FFFF.
bool is_utf8(const char *text, std::size_t bytes);

}  // namespace aiomq
