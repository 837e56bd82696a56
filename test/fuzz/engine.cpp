// libFuzzer as a library, for a target that is a Python program: it calls LLVMFuzzerRunDriver() through
// ctypes, see fuzz_codec.py. All of it comes from the compiler's archive; this file only gives meson
// something to compile.
extern "C" int LLVMFuzzerRunDriver(int *argc, char ***argv,
                                   int (*target)(const unsigned char *data, unsigned long size));

namespace {
[[maybe_unused]] const auto kDriver = &LLVMFuzzerRunDriver;
}
